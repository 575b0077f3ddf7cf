"""The command line as a process or a call, a lab beside it, and what it said."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from nestobs import nostr
from nestobs.cli.main import main
from nestobs.lab import Lab, Scenario
from nestobs.nostr import ROOM_KIND, Address, Event, Keys, http_auth
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import room_tags
from nestobs.sources.clock import Clock

GOLDEN = Path(__file__).parents[1] / "cli" / "golden"


WRITE_GOLDEN = os.environ.get("NESTOBS_WRITE_GOLDEN") == "1"


NOBODY = ("--api", "http://127.0.0.1:9/api/v1/nests", "--relay", "ws://127.0.0.1:9")
"""A target where nobody listens."""


STARTING = "[api]\nrecord = { kind = 'never' }\n"


class LabBeside:
    """A lab in a thread of its own, so that `main()` can have this one as for a user. `call`: a coroutine there."""

    def __init__(self, scenarios: list[str | Scenario], directory: Path, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lab")
        self._lab = Lab(scenarios, directory, **{"relays": 2, **options})
        self.config = str(directory / "nestobs.toml")

    def __enter__(self) -> LabBeside:
        self._thread.start()
        try:
            self.call(self._lab.__aenter__())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.call(self._lab.__aexit__(None, None, None))
        finally:
            self._end()

    def _end(self) -> None:
        self.call(self._loop.shutdown_asyncgens())
        self.call(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine in the lab's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def target(self, name: str) -> tuple[str, ...]:
        """Flags that name one of the lab's targets."""
        return "--config", self.config, "--target", name

    def way(self, scenario: str, vantage: int = 0) -> dict[str, Any]:
        """URLs of a scenario from a vantage."""
        return dict(self._lab.info["scenarios"][scenario]["vantages"][vantage])

    def rooms(self) -> list[str]:
        """Rooms that LiveKit has now."""
        return list(self.call(self._lab.rooms()))

    def nests(self) -> list[str]:
        """Rooms with a record in the API now."""
        return self._lab.nests()

    def made(self) -> set[str]:
        """Every room that was ever made, by the ground truth."""
        return {row["room"] for row in self._lab.truth()}

    @property
    def livekit_pid(self) -> int | None:
        """The livekit-server's process; None for the stand-in."""
        return self._lab.livekit_pid


@dataclass
class Host:
    """Somebody who opens nests at a scenario of a lab, by plain HTTP and a plain websocket."""

    lab: LabBeside
    scenario: str = "calm"
    keys: Keys = field(default_factory=Keys.generate)

    def open(self, *, wait: bool = True, **words: Any) -> Address:
        """Make a room, publish its event, `wait` until a guest could join (not in `starting`); its address."""
        api = self.lab.way(self.scenario)["api"]
        body = json.dumps({"relays": self.lab.way(self.scenario)["relays"]}).encode()
        header = http_auth(self.keys, url=api, method="PUT", created_at=now_s(), body=body)
        with httpx.Client() as client:
            headers = {"authorization": header, "content-type": "application/json"}
            room = client.put(api, content=body, headers=headers).raise_for_status().json()["roomId"]
            address = self.announce(room, **words)
            for _ in range(500 if wait and self.scenario != "starting" else 0):
                if client.get(f"{api}/{room}/guest").status_code == 200:
                    break
        return address

    def announce(
        self,
        room: str,
        *,
        age_s: int = 0,
        name: str = "a nest",
        status: str = "open",
        service: str | None = None,
        streaming: str | None = None,
    ) -> Address:
        """Publish the event of a nest to every relay; its address."""
        way = self.lab.way(self.scenario)
        tags = room_tags(
            room=room,
            name=name,
            host=self.keys.public,
            service=way["api"] if service is None else service,
            streaming=way["livekit"] if streaming is None else streaming,
            relays=tuple(way["relays"]),
        )
        tags = [("status", status) if tag[0] == "status" else tag for tag in tags]
        event = self.keys.sign(ROOM_KIND, created_at=now_s() - age_s, tags=tags)
        for relay in way["relays"]:
            assert publish(relay, event), "the relay refused the event"
        return Address(ROOM_KIND, self.keys.public, room)


def publish(relay: str, event: Event) -> bool:
    """Whether the relay took it, and holds it now."""
    with connect(relay, max_size=2**22) as socket_:
        socket_.send(nostr.publish(event))
        taken = json.loads(socket_.recv(5))
        for _ in range(200):
            socket_.send(nostr.req("q", {"ids": [event.id]}))
            if json.loads(socket_.recv(5))[0] == "EVENT":
                break
        return taken[:3] == ["OK", event.id, True]


def now_s() -> int:
    return Clock().now() // SECOND_NS


@dataclass(frozen=True)
class Said:
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        return json.loads(self.out)


def process(*words: str, **options: Any) -> Said:
    """A command as a process of its own."""
    ended = subprocess.run(
        [sys.executable, "-m", "nestobs", *words], capture_output=True, text=True, timeout=60, check=False, **options
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


def here(capsys: pytest.CaptureFixture[str], *words: str) -> Said:
    """A command in this process."""
    capsys.readouterr()
    try:
        code = main(words)
    except SystemExit as ended:
        code = int(str(ended.code))
    return Said(code, *capsys.readouterr())


def is_one_sentence(said: Said, code: int, *words: str) -> None:
    """An operator's mistake: one line on stderr with the remedy, its exit code, nothing on stdout."""
    assert said.code == code, said
    assert re.fullmatch(r"nestobs: [^\n]+\n", said.err), said.err
    assert "Traceback" not in said.err
    assert said.out == ""
    missing = [word for word in words if word not in said.err]
    assert not missing, f"{missing} not in {said.err!r}"


def raw_controls(text: str) -> list[str]:
    """Characters that can act on a terminal."""
    return [c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Co", "Cs") and c != "\n"]


def clear_environment(patch: pytest.MonkeyPatch, home: Path) -> None:
    """No nestobs variable of the developer's own; keys below `home`; a wide, plain terminal."""
    for name in list(os.environ):
        if name.startswith("NESTOBS_") and name not in ("NESTOBS_LIVEKIT_SERVER", "NESTOBS_REQUIRE_LIVEKIT"):
            patch.delenv(name)
    patch.setenv("NESTOBS_STATE_DIR", str(home / "state"))
    patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    patch.setenv("COLUMNS", "200")
    patch.setenv("NO_COLOR", "1")
    patch.chdir(home)
