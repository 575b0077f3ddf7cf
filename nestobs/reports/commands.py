"""What to ask next of a nest, as commands to copy: whatever others wrote is one word of plain ASCII in them."""

from __future__ import annotations

import html
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from nestobs.errors import AddressError
from nestobs.figures import plain
from nestobs.nostr import Address, write_naddr
from nestobs.observation.schema import Operation, Source
from nestobs.reports.evidence import Incident
from nestobs.timeline.nests import address_of

_LONGEST_WORD: Final = 600
"""A word of a command longer than this is not shown: nobody pastes it."""


@dataclass(frozen=True, slots=True, repr=False)
class Commands:
    """What to ask next: each reason above the command that asks it, as text to copy. A command is shown as it is."""

    asked: Sequence[tuple[str, str]]
    heading: str = ""

    def __repr__(self) -> str:
        return f"<{len(self.asked)} commands>"

    def _repr_html_(self) -> str:
        parts = [f"<h3>{plain(self.heading, 120)}</h3>"] if self.heading else []
        for why, command in self.asked:
            parts.append(f"<p>{plain(why, 600)}</p>")
            if command:
                parts.append(f"<pre><code>{html.escape(command)}</code></pre>")
        return "".join(parts)


def commands_for(asks: Sequence[str], found: Incident) -> list[str]:
    """The command that asks each of `Gap.ask`; "" where there is none, or where the nest has no name to be typed."""
    address, targets = _typed(found), {} if found.missing else _targets(found.rows)
    return [_asking(ask, address, found, targets) for ask in asks]


def exporting(found: Incident) -> Commands:
    """How to have all rows as a file, and the intervals of this nest in a terminal."""
    address = _typed(found)
    lines = [_command(("export", "--parquet", "observations.parquet"), found)]
    lines += [_command(("timeline",), found, last=_last(address))] if address else []
    why = "All rows, and those of other nests, as a file; and the intervals of this nest in a terminal:"
    return Commands([(why, "\n".join(lines))])


_WORDS: Final = {
    "join": ("join",),
    "elsewhere": ("join",),
    "guest": ("join", "--guest"),
    "ready": ("ready",),
    "doctor": ("doctor",),
    "canary": ("canary", "--count", "1"),
    "watch": ("watch", "--for", "1h"),
    "webhooks": ("watch", "--for", "1h", "--webhook-port", "7890"),
}
_OF_THE_NEST: Final = ("join", "guest", "ready", "elsewhere")


def _asking(ask: str, address: str, found: Incident, targets: Mapping[str, Sequence[str]]) -> str:
    if ask not in _WORDS or (ask in _OF_THE_NEST and not address):
        return ""
    last = _last(address) if ask in _OF_THE_NEST else []
    if ask == "elsewhere":
        return f"{_command(_WORDS[ask], None, targets, last=last)}  # on another machine, into its own store"
    return _command(_WORDS[ask], found, targets, last=last)


def _last(address: str) -> list[str]:
    """The address as the last words of a command: a room may be called as an option is."""
    return ["--", address] if address.startswith("-") else [address]


def _command(
    words: Sequence[str],
    found: Incident | None,
    targets: Mapping[str, Sequence[str]] | None = None,
    *,
    last: Sequence[str] = (),
) -> str:
    """A command line in which whatever others wrote is one word of plain ASCII. found: None to name no store."""
    parts = ["nestobs", *words]
    for name, urls in (targets or {}).items():
        for url in urls:
            parts += [f"--{name}", url]
    parts += ["--store", found.store] if found is not None else []
    return shlex.join([*parts, *last])


def _targets(rows: pd.DataFrame) -> dict[str, list[str]]:
    """The API asked most, every relay, the LiveKit asked most; only what can be typed."""
    found: dict[str, list[str]] = {}
    for name, source in (("api", Source.API), ("relay", Source.RELAY), ("livekit", Source.LIVEKIT)):
        mine = rows[(rows["source"] == source) & (rows["operation"] != Operation.CONNECT)]
        urls = [str(url) for url in mine["target"].value_counts().index if _typable(str(url))]
        found[name] = urls if name == "relay" else urls[:1]
    return found


def _typable(text: str) -> bool:
    """Whether it is one word of printable ASCII, short enough to paste."""
    return 0 < len(text) <= _LONGEST_WORD and text.isascii() and text.isprintable() and " " not in text


def _typed(found: Incident) -> str:
    """How a person names this nest to a command: the naddr, which is plain letters whatever the room is called."""
    if found.missing:
        return "NEST"
    address = address_of(found.address)
    if isinstance(address, Address):
        try:
            typed = write_naddr(address)
        except AddressError:
            typed = found.address
    else:
        typed = found.room
    return typed if _typable(typed) else ""
