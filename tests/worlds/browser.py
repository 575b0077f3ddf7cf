"""Headless Chromium, driven over its DevTools protocol, for tests of pages.

    with Browser() as browser:
        page = browser.open(path, width=360, dark=True)
        assert page.evaluate("document.title") == "A report"
        assert page.errors == []

The protocol goes through a pipe, not a port: nobody else can connect, and Chromium ends by itself when the other end of
the pipe is gone, so it does not outlive a test run that was killed. Leaving the `with` kills its whole process group.
It resolves no name but the loopback's own, keeps everything in a temporary folder, and all waiting has a deadline.
One thread: events are taken in while a call or a wait goes on.
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HEIGHT = 900
TALLEST_SHOT = 16_000
WAIT_S = 30.0
"""For one answer or one condition: a slow machine needs seconds where a quick one needs milliseconds."""

END_S = 3.0
"""For ending when asked; then it is killed."""

_FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it is root's in containers, and the pages are ours
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--hide-scrollbars",
    "--mute-audio",
    "--no-default-browser-check",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)


class BrowserError(Exception):
    """Chromium did not do as told: it is gone, answers with an error, or took too long."""


def find_chromium() -> str | None:
    """The browser on PATH, if there is one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def need_chromium() -> None:
    """Skip the test where there is no Chromium; fail it where NESTOBS_REQUIRE_BROWSER is 1."""
    if find_chromium() is None:
        if os.environ.get("NESTOBS_REQUIRE_BROWSER") == "1":
            pytest.fail("NESTOBS_REQUIRE_BROWSER is 1 and there is no Chromium: run `make browser`")
        pytest.skip("there is no Chromium here: `make browser` installs it")


class Browser:
    """A Chromium of its own; `with` starts and ends it."""

    def __init__(self) -> None:
        self._sessions: dict[str, Page] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._last = 0
        self._unread = bytearray()

    def __enter__(self) -> Self:
        binary = find_chromium()
        if binary is None:
            raise BrowserError("there is no Chromium on PATH: run `make browser`")
        self._folder = tempfile.TemporaryDirectory(prefix="nestobs-browser-", ignore_cleanup_errors=True)
        try:
            self._start(binary)
            self.call("Browser.getVersion")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    @property
    def pid(self) -> int:
        """Of the process, and of its group."""
        return self._process.pid

    def open(self, where: Path | str, *, width: int = 1280, dark: bool = False, media: str = "screen") -> Page:
        """A new page that has loaded this file or URL; it shares nothing with others. Close it, or leave it to the end.

        Raises BrowserError when it is not loaded in time.
        """
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self._sessions[session] = Page(self, session, context)
        for domain in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{domain}.enable")
        page.look(width=width, dark=dark, media=media)
        page.go(where)
        return page

    def call(self, method: str, session: str = "", *, wait_s: float = WAIT_S, **params: Any) -> dict[str, Any]:
        """One command and its result. Raises BrowserError."""
        number = self.send(method, session, **params)
        self.wait(lambda: number in self._answers, f"{method} was not answered", wait_s)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message')}")
        return dict(answer["result"])

    def send(self, method: str, session: str = "", **params: Any) -> int:
        """One command, its result not awaited; its number."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params} | ({"sessionId": session} if session else {})
        data = json.dumps(message).encode() + b"\0"
        try:
            while data:
                data = data[os.write(self._to, data) :]
        except BrokenPipeError as error:
            raise BrowserError(f"Chromium is gone: {self._log()}") from error
        return self._last

    def wait(self, done: Any, what: str, wait_s: float = WAIT_S) -> None:
        """Take in what Chromium says until `done()`. Raises BrowserError, saying `what`, when that takes too long."""
        deadline = time.monotonic() + wait_s
        while not done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise BrowserError(f"{what} within {wait_s:g} s")
            if select.select([self._from], [], [], left)[0]:
                self._take_in()

    def forget(self, session: str) -> None:
        """Events of that session are dropped from now on."""
        self._sessions.pop(session, None)

    def _take_in(self) -> None:
        data = os.read(self._from, 1 << 20)
        if not data:
            raise BrowserError(f"Chromium is gone: {self._log()}")
        self._unread += data
        if b"\0" not in data:
            return
        *messages, rest = bytes(self._unread).split(b"\0")
        self._unread = bytearray(rest)
        for raw in messages:
            message = json.loads(raw)
            if "id" in message:
                self._answers[message["id"]] = message
            elif (page := self._sessions.get(message.get("sessionId", ""))) is not None:
                page.hear(message["method"], message["params"])

    def _start(self, binary: str) -> None:
        folder = self._folder.name
        (theirs, self._to), (self._from, mine) = os.pipe(), os.pipe()
        try:
            with Path(folder, "log").open("wb") as log:
                # It reads from 3 and writes to 4, which may be anybody's here: the shell puts them there.
                shell = ["/bin/sh", "-c", f'exec "$0" "$@" 3</dev/fd/{theirs} 4>/dev/fd/{mine}', binary]
                self._process = subprocess.Popen(
                    [*shell, *_FLAGS, f"--user-data-dir={folder}/profile", "about:blank"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(theirs, mine),
                    start_new_session=True,
                    env=os.environ | {"HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder},
                )
        finally:
            os.close(theirs)
            os.close(mine)

    def _end(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None:
            with suppress(BrowserError, subprocess.TimeoutExpired):  # asked first, it buries its children itself
                self.send("Browser.close")
                process.wait(END_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(self._to)
            os.close(self._from)
            del self._process
        self._folder.cleanup()

    def _log(self) -> str:
        return Path(self._folder.name, "log").read_text("utf-8", "replace")[-800:]


@dataclass(frozen=True)
class Sheets:
    """A print: how many sheets there are, and where its headings stand: title -> (sheet from 0, pt over its edge)."""

    count: int
    headings: dict[str, tuple[int, float]]


_HEADING = re.compile(rb"/Title \(((?:\\\\.|[^\\\\)])*)\)\n/Dest \[(\d+) 0 R /XYZ [\d.]+ ([\d.]+) 0\]")
"""In a PDF as Skia writes it: what is no stream is plain text."""


def _sheets(pdf: bytes) -> Sheets:
    kids = re.search(rb"/Type /Pages\n/Count \d+\n/Kids \[([^\]]*)\]", pdf)
    assert kids is not None
    order = re.findall(rb"(\d+) 0 R", kids[1])
    found = _HEADING.findall(pdf)
    return Sheets(len(order), {title.decode("latin-1"): (order.index(sheet), float(y)) for title, sheet, y in found})


@dataclass(eq=False)
class Page:
    """One page. `errors`: uncaught exceptions, console.error, what Chromium itself complains of, and dialogs.

    requests: every URL asked for, the page's own among them. said: all of the console.
    """

    browser: Browser
    session: str
    context: str
    errors: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _loaded: bool = False

    def call(self, method: str, *, wait_s: float = WAIT_S, **params: Any) -> dict[str, Any]:
        """A command to this page."""
        return self.browser.call(method, self.session, wait_s=wait_s, **params)

    def look(
        self, *, width: int = 1280, height: int = HEIGHT, dark: bool = False, media: str = "screen", motion: bool = True
    ) -> None:
        """The window's size, the scheme its user prefers, and the medium: screen or print."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        features += [{"name": "prefers-reduced-motion", "value": "no-preference" if motion else "reduce"}]
        self.call("Emulation.setEmulatedMedia", media=media, features=features)

    def go(self, where: Path | str, *, wait_s: float = WAIT_S) -> None:
        """Load this file or URL, to its load event and the frame after it."""
        url = where.resolve().as_uri() if isinstance(where, Path) else where
        self._loaded = False
        answer = self.call("Page.navigate", url=url)
        if "errorText" in answer:
            raise BrowserError(f"{url}: {answer['errorText']}")
        self.browser.wait(lambda: self._loaded, f"{url} was not loaded", wait_s)
        self.settle()

    def settle(self) -> None:
        """Wait for two frames, and for whatever was said meanwhile."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def evaluate(self, script: str, *, wait_s: float = WAIT_S) -> Any:
        """The value of an expression, or of the promise that it is. Raises BrowserError for what the script throws."""
        answer = self.call("Runtime.evaluate", wait_s=wait_s, expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(_thrown(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def until(self, condition: str, *, wait_s: float = WAIT_S) -> Any:
        """The first truthy value of an expression, looked at every 20 ms. Raises BrowserError when there is none."""
        look = f"const found = await ({condition}); found ? done(found) : setTimeout(look, 20)"
        script = f"new Promise((done, failed) => {{ const look = async () => {{ try {{ {look} }} catch (error) {{"
        return self.evaluate(f"{script} failed(error) }} }}; look(); }})", wait_s=wait_s)

    def before(self, script: str) -> None:
        """Run this in every page loaded from now on, before any script of its own."""
        self.call("Page.addScriptToEvaluateOnNewDocument", source=script)

    def screenshot(self, path: Path) -> Path:
        """The whole page as a PNG, its first 16,000 px at most."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], TALLEST_SHOT), "scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    def printed(self) -> Sheets:
        """What comes of printing it. Open it with `media=""`: another medium is printed as if it were paper."""
        made = self.call("Page.printToPDF", generateDocumentOutline=True, preferCSSPageSize=True)["data"]
        return _sheets(base64.b64decode(made))

    def outside(self) -> list[str]:
        """The requests that were for anything but a file here or data in the page."""
        return [url for url in self.requests if not url.startswith(("file:", "data:", "about:"))]

    def close(self) -> None:
        """Be done with it."""
        self.browser.forget(self.session)
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)

    def hear(self, method: str, params: dict[str, Any]) -> None:
        """Take in one event."""
        match method:
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"][:2_000])
            case "Network.webSocketCreated" | "Network.webTransportCreated":
                self.requests.append(params["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(_thrown(params["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                words = " ".join(str(one.get("value", one.get("description", ""))) for one in params["args"])
                self.said.append(f"{params['type']}: {words}")
                if params["type"] in ("error", "assert"):
                    self.errors.append(words)
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                self.errors.append(f"{params['entry']['text']} {params['entry'].get('url', '')}".strip())
            case "Page.javascriptDialogOpening":
                self.errors.append(f"dialog: {params['message']}")
                self.browser.send("Page.handleJavaScriptDialog", self.session, accept=False)
            case "Inspector.targetCrashed":
                raise BrowserError("the page crashed")


def _thrown(details: dict[str, Any]) -> str:
    thrown = details.get("exception", {})
    return str(thrown.get("description") or thrown.get("value") or details.get("text"))
