"""An incident in a lab that nobody observed: a host makes a nest, people try to join, and logs are written.

What is left of it are files: the API's log, livekit-server's, and the transcript of one relay; and the lab's truth.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from nestobs import nostr
from nestobs.lab import Lab
from nestobs.sources.clock import Clock
from nestobs.sources.visit import by_signal


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of an incident. relays: the lab's name of the transcript's relay, by its URL."""

    files: tuple[Path, ...]
    truth: tuple[dict[str, Any], ...]
    relays: dict[str, str]
    room: str
    host: str


class Transcript:
    """Frames as they come and go, each with its instant and an arrow."""

    def __init__(self, path: Path, relay: str) -> None:
        self.path, self.lines = path, [f"# {relay}"]

    def note(self, arrow: str, frame: str) -> None:
        now = datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds")
        self.lines.append(f"{now.replace('+00:00', 'Z')} {arrow} {frame}")

    async def hear(self, ws: ClientConnection) -> None:
        async for frame in ws:
            self.note("<-", str(frame))

    def write(self) -> None:
        self.path.write_text("\n".join(self.lines) + "\n", "utf-8")


async def happened(
    scenario: str, folder: Path, *, form: str = "json", seconds: float = 20.0, scale: float = 1.0, enough: int = 1
) -> Left:
    """Let it happen. seconds: the longest that people try; enough: they stop after so many tokens by either way."""
    async with Lab([scenario], folder / "lab", livekit="server", logs=form, delay_scale=scale) as lab:
        way = lab.info["scenarios"][scenario]["vantages"][0]
        relay = way["relays"][0]
        transcript = Transcript(folder / "relay.txt", relay)
        keys = nostr.Keys.generate()
        async with httpx.AsyncClient(timeout=10) as http, connect(relay) as ws:
            room = await _made(http, way["api"], keys, relay)
            await _asked(ws, transcript, keys, room)
            heard = asyncio.create_task(transcript.hear(ws))
            await _tried(http, way, room, seconds, enough)
            heard.cancel()
        transcript.write()
        files = [Path(path) for name, path in lab.info["files"].items() if name.startswith(("api-", "livekit_log"))]
        names = {url: f"relay-{number}" for number, url in enumerate(way["relays"], 1)}
    return Left((*files, transcript.path), tuple(lab.truth()), names, room, keys.public)


async def _made(http: httpx.AsyncClient, api: str, keys: nostr.Keys, relay: str) -> str:
    body = json.dumps({"relays": [relay]}).encode()
    answer = await http.put(api, content=body, headers=_signed(keys, api, "PUT", body))
    return str(answer.json()["roomId"])


def _signed(keys: nostr.Keys, url: str, method: str, body: bytes | None = None) -> dict[str, str]:
    header = nostr.http_auth(keys, url=url, method=method, created_at=int(time.time()), body=body)
    return {"Authorization": header, "Content-Type": "application/json"}


async def _asked(ws: ClientConnection, transcript: Transcript, keys: nostr.Keys, room: str) -> None:
    """Somebody who waits for the event, and the host who publishes it."""
    tags = [("d", room), ("room", "A nest"), ("status", "open"), ("service", "https://n.example"), ("p", keys.public)]
    event = keys.sign(nostr.ROOM_KIND, created_at=int(time.time()), tags=tags)
    asking = nostr.req("r", {"kinds": [nostr.ROOM_KIND], "authors": [keys.public], "#d": [room]})
    for frame in (asking, nostr.publish(event)):
        transcript.note("->", frame)
        await ws.send(frame)


async def _tried(http: httpx.AsyncClient, way: dict[str, Any], room: str, seconds: float, enough: int) -> None:
    """A person signed in and a guest, round after round."""
    base, keys, clock = f"{way['api']}/{room}", nostr.Keys.generate(), Clock()
    ends, tokens = time.monotonic() + seconds, [0, 0]
    while time.monotonic() < ends and min(tokens) < enough:
        await http.get(f"{base}/info")
        answers = [await http.get(base, headers=_signed(keys, base, "GET")), await http.get(f"{base}/guest")]
        for way_in, answer in enumerate(answers):
            if answer.status_code == 200:
                tokens[way_in] += 1
                token = str(answer.json()["token"])
                entry = await by_signal(way["livekit"], token, tls=None, clock=clock, timeout_s=5.0)
                if entry.session is not None:
                    await entry.session.close()
        await asyncio.sleep(0.4)
