"""Files as people have them, as text; and what an import makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nestobs.collector.imports.files import import_files, related
from nestobs.collector.imports.formats import FORMATS, read_text
from nestobs.collector.imports.rows import Part, observations
from nestobs.collector.imports.said import Names
from nestobs.nostr import Event, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation
from nestobs.store.reader import Store

AT = 1_795_761_600
"""An instant, s: 2026-11-27 06:40:00 UTC."""
ROOM = "8bc9ebbb-8727-4683-ae5d-7a12f808c8c7"
KEYS = Keys.from_secret("22" * 32)
HOST = KEYS.public
NEST = f"30312:{HOST}:{ROOM}"
OWN = {404: 26, 200: 410}


def at(seconds: float) -> int:
    """So many seconds after AT, ns."""
    return AT * SECOND_NS + round(seconds * SECOND_NS)


def iso(seconds: float) -> str:
    """So many seconds after AT, as winston writes it."""
    return datetime.fromtimestamp(AT + seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clf(seconds: float) -> str:
    """The same as access logs write it."""
    return datetime.fromtimestamp(int(AT + seconds), UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")


def winston(seconds: float, message: str, level: str = "info", **meta: Any) -> str:
    """A line of the API's logger."""
    return json.dumps({"level": level, "message": message, "service": "nests-api", **meta, "timestamp": iso(seconds)})


def access(seconds: float, asked: str, status: int, size: int | str | None = None, more: str = "") -> str:
    """A line in the combined format."""
    sent = OWN.get(status, 0) if size is None else size
    return f'203.0.113.7 - - [{clf(seconds)}] "{asked} HTTP/1.1" {status} {sent} "-" "Mozilla/5.0 (X11)"{more}'


def morgan(seconds: float, asked: str, status: int, size: int | None = None) -> str:
    """A request in the API's log."""
    return winston(seconds, access(seconds, asked, status, size))


def zap(seconds: float, msg: str, **fields: Any) -> str:
    """A line of LiveKit's log about ROOM."""
    head = {"level": "info", "ts": float(AT + seconds), "logger": "livekit", "caller": "rtc/room.go:1", "msg": msg}
    return json.dumps(head | {"room": ROOM, "roomID": "RM_az2Ai4xm96to"} | fields)


def event(created_at: float = 0, status: str = "open") -> Event:
    """A nest's event."""
    tags = [
        ("d", ROOM),
        ("room", "A nest"),
        ("status", status),
        ("service", "https://n.example"),
        ("p", HOST, "", "host"),
    ]
    return KEYS.sign(30312, created_at=int(AT + created_at), tags=tags)


def read(lines: str | Iterable[str], word: str = "", **names: Any) -> list[Observation]:
    """The observations that lines come to."""
    texts = lines.split("\n") if isinstance(lines, str) else list(lines)
    parts = [
        Part("a.log", "00" * 32, name, FORMATS[name].vantage, found)
        for name, found in read_text(texts, Names(**names), word).items()
    ]
    return list(observations(parts, related(parts), {part.vantage: part.vantage for part in parts}))


def brief(rows: Iterable[Observation]) -> list[tuple[str, str, str]]:
    """Of each row who was asked what, and what it proves."""
    return [(str(row.source), str(row.operation), str(row.outcome)) for row in rows]


def store_of(folder: Path, **files: str | bytes) -> Store:
    """A store into which files of these contents were imported together; `__` in a name is a dot."""
    paths = []
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        paths.append(path)
    store = Store.open(folder / "store")
    import_files(store, paths)
    return store
