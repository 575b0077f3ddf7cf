"""Which formats there are, and which one a file is in.

A HAR, a console and a transcript are told by what they hold as a whole. Logs are told line by line: `docker compose
logs` writes those of the API, the proxy and LiveKit into one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from nestobs.collector.imports import access_log, api_log, console, har, livekit_log, transcript
from nestobs.collector.imports.lines import Line
from nestobs.collector.imports.said import Names, Reading
from nestobs.nostr import json_object


class Format(NamedTuple):
    """vantage: from where it was seen, where nobody says. words: what it is, for people. read: the parser of lines."""

    vantage: str
    words: str
    read: Callable[[Iterable[Line], Names], Reading]


def _of_no_lines(_: Iterable[Line], __: Names) -> Reading:
    raise AssertionError("a HAR is read whole")


FORMATS: Final = {
    "api": Format("api-log", "the Nests API's log", api_log.read),
    "livekit": Format("livekit-log", "LiveKit's log", livekit_log.read),
    "nginx": Format("nginx-log", "a proxy's access log", access_log.read),
    "relay": Format("relay-log", "a relay's transcript", transcript.read),
    "console": Format("browser", "a browser's console", console.read),
    "har": Format("browser", "a HAR", _of_no_lines),
}
"""By the word of `--format`."""

_HAR: Final = re.compile(r'\ufeff?\s{0,1000}\{\s{0,1000}"log"\s{0,1000}:\s{0,1000}\{')
_LOOKED_AT: Final = 2_000
_OF_A_PROXY: Final = re.compile(r"http\.log\.access|traefik|nginx", re.IGNORECASE)


def is_har(text: str) -> bool:
    """Whether a text begins as a HAR does."""
    return _HAR.match(text[:5_000]) is not None


def format_of(lines: Sequence[Line]) -> str:
    """The format that a text is in as a whole, "" where lines are to be told one by one."""
    some = lines[:_LOOKED_AT]
    frames = sum(bool(transcript.frame_in(line.text)[1]) for line in some)
    spoken = sum(console.speaks(line.text) for line in some)
    logged = sum(bool(of_line(line)) for line in some)
    if spoken and spoken >= frames:
        return "console"
    return "relay" if frames and frames >= logged else ""


def of_line(line: Line) -> str:
    """Which log a line is of; "" where it is of none."""
    if livekit_log.entry_in(line) is not None:
        return "livekit"
    if _of_proxy(line):
        return "nginx"
    return "api" if api_log.entry_in(line) is not None else ""


def _of_proxy(line: Line) -> bool:
    if access_log.request_in(line) is None:
        return False
    held = json_object(line.text) if line.text.startswith("{") else None
    if held is None:
        return True
    logged = isinstance(held.get("level"), str | int) and bool(held.get("msg") or held.get("message"))
    return not logged or _OF_A_PROXY.search(str(held.get("logger", ""))[:200]) is not None


def read_text(texts: Sequence[str], names: Names, word: str = "") -> dict[str, Reading]:
    """What a text says, by the formats of its lines; {} where it is in none. word: the format, where it was told.

    texts: its lines. Lines of no format count as those that the first was not understood in.
    """
    from nestobs.collector.imports.lines import lines_of

    whole = "\n".join(texts[:200])
    if word == "har" or (not word and is_har(whole)):
        text = "\n".join(texts)
        return {"har": har.read(text, names)} if har.entries_of(text) is not None else {}
    lines = list(lines_of(texts))
    if word := word or format_of(lines):
        return {word: FORMATS[word].read(lines, names)}
    parts: dict[str, list[Line]] = {}
    for line in lines:
        parts.setdefault(of_line(line), []).append(line)
    strange = parts.pop("", [])
    found = {word: FORMATS[word].read(part, names) for word, part in parts.items()}
    for reading in list(found.values())[:1]:
        reading.lines += len(strange)
        for line in strange:
            reading.not_understood(line.number)
    return found
