"""What to ask next of a nest, as commands to copy: whatever others wrote is one word of plain ASCII in them."""

from __future__ import annotations

import html
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import pandas as pd

from nestobs.errors import AddressError
from nestobs.nostr import Address, write_naddr
from nestobs.observation.schema import Operation, Source
from nestobs.reports.display import prose
from nestobs.reports.evidence import Incident
from nestobs.sources.address import kind_of
from nestobs.store.example import SHIPPED, folder
from nestobs.timeline.nests import address_of

_LONGEST_WORD: Final = 600
"""A word of a command longer than this is not shown: nobody pastes it."""


@dataclass(frozen=True, slots=True, repr=False)
class Commands:
    """What to ask next: each reason above the command that asks it, as text to copy. A command is shown as it is."""

    asked: Sequence[tuple[str, str]]

    def __repr__(self) -> str:
        return f"<{len(self.asked)} commands>"

    def _repr_html_(self) -> str:
        parts = []
        for why, command in self.asked:
            parts.append(f"<p>{prose(why)}</p>")
            if command:
                parts.append(f"<pre><code>{html.escape(command)}</code></pre>")
        return "".join(parts)


def commands_for(asks: Sequence[str], found: Incident) -> list[str]:
    """The command that asks each of `Gap.ask`; "" where there is none, or where the nest has no name to be typed. Of a
    deployment that is gone, the command in its general form."""
    if ended(found.store):
        return [_asking(ask, ["NEST"], ["--target", "TARGET"], "nestobs-data") for ask in asks]
    nest, targets = _typed(found), [] if found.missing else _targets(found.rows)
    return [_asking(ask, nest, targets, found.store) for ask in asks]


def ended(store: str) -> bool:
    """Whether that store's deployment is known to be gone: the example's was a lab."""
    return folder(store) == SHIPPED


def reachable(found: Incident) -> str:
    """Whether the commands can be run at all, in a sentence; "" where nothing is known against it."""
    if ended(found.store):
        return (
            "These nests were a lab's, which has ended: nobody can ask them anything any more. Of nests of your own"
            " deployment, or of a lab that runs (`nestobs lab`), so is asked what nobody asked here:"
        )
    if not found.missing and _here(found.rows):
        return (
            "Its addresses are of the very machine from which it was observed, a lab's as a rule: where that has ended"
            " these commands reach nobody."
        )
    return ""


def _here(rows: pd.DataFrame) -> bool:
    """Whether all that was asked is on the loopback of whoever asked."""
    urls = {str(url) for url in rows.loc[rows["source"].isin(["api", "relay"]), "target"].unique()}
    return bool(urls) and all(name == "localhost" or kind_of(name) == "loopback" for name in map(_name, urls))


def _name(url: str) -> str:
    """The host of a URL, "" where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # others wrote it
        return ""


def pages_of(names: Sequence[str], store: str) -> tuple[Commands, ...]:
    """How to make the page of each of these nests, by a name that it goes by; nothing where none can be typed."""
    lines = [_command("report", "incident", "--store", store, *_word(name)) for name in names if _word(name)]
    return (Commands([("A page of one of them, seen from every side:", "\n".join(lines))]),) if lines else ()


def exporting(found: Incident) -> Commands:
    """How to have all rows as a file, the intervals of this nest in a terminal, and the page of its day."""
    nest = _typed(found)
    lines = [_command("export", "--parquet", "observations.parquet", "--store", found.store)]
    lines += [_command("timeline", "--store", found.store, *nest)] if nest else []
    if len(found.rows):
        day = f"{pd.Timestamp(int(found.rows['sent_at'].min()), tz='UTC'):%Y-%m-%d}"
        lines += [_command("report", "run", "daily_report", "--window", day, "--store", found.store)]
    why = "All rows, and those of other nests, as a file; its intervals in a terminal; the page of its day:"
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


def _asking(ask: str, nest: Sequence[str], targets: Sequence[str], store: str) -> str:
    if ask not in _WORDS or (ask in _OF_THE_NEST and not nest):
        return ""
    last = nest if ask in _OF_THE_NEST else ()
    if ask == "elsewhere":
        return f"{_command(*_WORDS[ask], *targets, *last)}  # on another machine, into its own store"
    return _command(*_WORDS[ask], *targets, "--store", store, *last)


def _command(*words: str) -> str:
    """A command line in which whatever others wrote is one word of plain ASCII."""
    return shlex.join(["nestobs", *words])


def _targets(rows: pd.DataFrame) -> list[str]:
    """Options for the API asked most, every relay, the LiveKit asked most; only what can be typed."""
    words: list[str] = []
    for source, most in ((Source.API, 1), (Source.RELAY, None), (Source.LIVEKIT, 1)):
        mine = rows[(rows["source"] == source) & (rows["operation"] != Operation.CONNECT)]
        urls = [str(url) for url in mine["target"].value_counts().index if _typable(str(url))]
        words += [word for url in urls[:most] for word in (f"--{source}", url)]
    return words


def _typable(text: str) -> bool:
    """Whether it is one word of printable ASCII, short enough to paste."""
    return 0 < len(text) <= _LONGEST_WORD and text.isascii() and text.isprintable() and " " not in text


def _typed(found: Incident) -> list[str]:
    """The last words of a command about this nest, none where it cannot be typed: its naddr, which is plain letters
    whatever the room is called. A room may be called as an option is."""
    address, typed = address_of(found.address), found.room
    if isinstance(address, Address):
        try:
            typed = write_naddr(address)
        except AddressError:
            typed = found.address
    if found.missing:
        typed = "NEST"
    return _word(typed)


def _word(typed: str) -> list[str]:
    """A name as the last words of a command; none where it cannot be typed."""
    if not _typable(typed):
        return []
    return ["--", typed] if typed.startswith("-") else [typed]
