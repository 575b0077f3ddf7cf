"""Notebooks in a real JupyterLab, in a real browser: a nest is seen to start, and then to be ready; captions."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import nbformat
import pytest

from nestobs.observation.schema import Operation, Outcome, Source
from nestobs.reports.workbench.working_copy import working_copy
from nestobs.store.reader import Store
from worlds.asked import row
from worlds.browser import Browser, Page, need_chromium

pytestmark = pytest.mark.slow

START_S = 50.0
"""For JupyterLab to answer: it imports a lot, and the machine may be busy."""

LOOK_S = 60.0
READY = """
    (session => session?.isReady && session.session?.kernel?.connectionStatus === "connected"
        && session.session.kernel.status === "idle")
    (window.jupyterapp?.shell.currentWidget?.context?.sessionContext)
"""
"""The notebook in front has its kernel: cells run before that make JupyterLab ask which kernel to take."""

TOKEN = secrets.token_hex(16)


@contextmanager
def jupyterlab(folder: Path, home: Path, *words: str) -> Iterator[str]:
    """JupyterLab on a free port of the loopback, with nothing of the user's; its base URL. It certainly ends. words:
    the command that starts it, in that folder.

    The kernels it starts are of its process group, or end with it; what is left of the group is killed.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "IPYTHONDIR",
        "HOME",
    )
    environment = os.environ | {name: str(home / name.lower()) for name in names} | {"JUPYTER_TOKEN": TOKEN}
    for name in names:
        (home / name.lower()).mkdir()
    settings = {
        "ServerApp": {"ip": "127.0.0.1", "port": port, "port_retries": 0},
        "LabApp": {
            "expose_app_in_browser": True,
            "news_url": "",
            "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        },
    }
    (home / "jupyter_config_dir" / "jupyter_config.json").write_text(json.dumps(settings))
    with (home / "log").open("wb") as log:
        running = subprocess.Popen(
            [sys.executable, "-m", *words], stdout=log, stderr=log, env=environment, cwd=folder, start_new_session=True
        )
    try:
        base = f"http://127.0.0.1:{port}"
        _answers(base, running, home / "log")
        yield base
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGTERM)  # it ends its kernels
        with suppress(subprocess.TimeoutExpired):
            running.wait(8)
        _kill_all(running.pid)
        running.wait()


def _kill_all(session: int) -> None:
    """Whoever is left of a session, kernels in groups of their own too."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(ProcessLookupError, PermissionError, OSError):
            if os.getsid(int(entry.name)) == session:
                os.kill(int(entry.name), signal.SIGKILL)
    with suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def _answers(base: str, running: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and running.poll() is None:
        if _status(f"{base}/api/status?token={TOKEN}") == 200:
            return
        select.select([], [], [], 0.2)
    raise AssertionError(f"JupyterLab did not answer: {log.read_text()[-2_000:]}")


def _status(url: str) -> int:
    """Of the answer; 0 where there is none."""
    try:
        with urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except (URLError, ConnectionError, TimeoutError):
        return 0


def told(page: Page) -> str:
    """What the live table says; "" while there is none."""
    return str(page.evaluate("document.querySelector('.nestobs-live')?.innerText ?? ''"))


def until_told(page: Page, wanted: str) -> str:
    script = f"document.querySelector('.nestobs-live')?.innerText.includes({wanted!r})"
    page.until(script, wait_s=LOOK_S)
    return told(page)


def test_a_nest_is_seen_to_start_and_then_to_be_ready(tmp_path):
    need_chromium()
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    store = Store.open(folder / "store")
    working_copy("live", folder, {"store": str(folder / "store"), "watch_s": 600.0})
    assert "watch_s = 600.0" in (folder / "live.ipynb").read_text()
    command = ("jupyter", "lab", "--no-browser", "--allow-root", f"--ServerApp.root_dir={folder}")
    with jupyterlab(folder, home, *command) as base, Browser() as browser, store.writer() as writer:
        page = browser.open(f"{base}/lab/tree/live.ipynb?token={TOKEN}&reset")
        page.until("document.querySelectorAll('.jp-CodeCell').length >= 4", wait_s=LOOK_S)
        page.until(READY, wait_s=LOOK_S)
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        until_told(page, "Following")
        guest = (Source.API, Operation.GUEST)
        now_s = (time.time_ns() - row(*guest, Outcome.ABSENT, 0.0).sent_at) / 1e9
        writer.append([row(*guest, Outcome.ABSENT, now_s)])
        said = until_told(page, "◌ Starting")
        assert "guest starting" in said
        page.screenshot(tmp_path / "starting.png")
        writer.append([row(*guest, Outcome.VISIBLE, now_s + 0.5)])
        assert "◌" not in until_told(page, "● Ready")
        page.screenshot(tmp_path / "ready.png")
        page.evaluate("void window.jupyterapp.commands.execute('notebook:interrupt-kernel')")
        until_told(page, "Not following")
    assert nbformat.read(folder / "live.ipynb", as_version=4).cells


WIDTHS = """
    [...document.querySelectorAll(".jp-OutputArea-child")].flatMap((part, at, all) => {
        const caption = part.querySelector("figcaption"), plot = all[at + 1]?.querySelector(".js-plotly-plot");
        return caption && plot ? [[caption.getBoundingClientRect().width, plot.getBoundingClientRect().width]] : [];
    })
"""


SPARE = """
    [...document.querySelectorAll(".js-plotly-plot")].filter((plot) => plot.querySelector(".legend .bg")).map((plot) =>
        plot.getBoundingClientRect().bottom - plot.querySelector(".legend .bg").getBoundingClientRect().bottom)
"""
"""Pixels below the legend of each figure."""


def test_in_an_empty_folder_the_example_opens_and_captions_are_as_wide_as_figures(tmp_path):
    need_chromium()
    folder, home = tmp_path / "work", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    with jupyterlab(folder, home, "nestobs", "notebook", "incident", "--no-browser") as base, Browser() as browser:
        page = browser.open(f"{base}/lab/tree/incident.ipynb?token={TOKEN}&reset")
        page.until("document.querySelectorAll('.jp-CodeCell').length >= 4", wait_s=LOOK_S)
        page.until(READY, wait_s=LOOK_S)
        page.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
        page.until(f"{WIDTHS}.length >= 1", wait_s=LOOK_S)
        page.screenshot(tmp_path / "captions.png")
        for caption, plot in page.evaluate(WIDTHS):
            assert caption >= 0.95 * plot > 300
        assert [spare for spare in page.evaluate(SPARE) if not -2 <= spare < 60] == []
        assert not page.evaluate(
            "document.querySelectorAll('[data-mime-type=\"application/vnd.jupyter.error\"]').length"
        )


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
