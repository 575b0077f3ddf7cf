"""Which rows are of one nest, how many nests there are, and which of them a person means.

A nest is its address, however often and from wherever it was observed. Rows that do not name it are of it by their
trace, else by their room. A room that was asked for or made under a trace is a nest too, though nobody announced it;
a trace that names neither address nor room is an attempt to make a nest, and a room that only LiveKit speaks of is
somebody else's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from nestobs.errors import AddressError
from nestobs.nostr import Address
from nestobs.observation.arrays import Ints, Texts, count_of, greatest_at
from nestobs.observation.columns import codes_of, paired, ranked, units_of
from nestobs.observation.nest import read_address

_MOST_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Nests:
    """What rows are about. Per row: unit, a nest as a code from 0, -1 for none; nest, room: those that it or what ties
    it to its nest names, -1 for none.

    names: of each unit its address, else its room; nests, rooms: the texts of the codes.
    """

    unit: Ints
    nest: Ints
    room: Ints
    names: Texts
    nests: Texts
    rooms: Texts

    @property
    def units(self) -> int:
        """How many nests."""
        return len(self.names)

    def texts(self, name: Literal["nest", "room"]) -> Texts:
        """Per row what `nest` or `room` is called, "" for none."""
        codes, texts = (self.nest, self.nests) if name == "nest" else (self.room, self.rooms)
        return np.asarray(np.append(texts, "")[codes], dtype=object)


def nests_of(frame: pd.DataFrame) -> Nests:
    """The nests of observations, timelines or joins: whatever has trace_id, nest and room."""
    trace, traces = codes_of(frame["trace_id"])
    nest, nests = codes_of(frame["nest"])
    room, rooms = codes_of(frame["room"])
    nest = np.where(nest >= 0, nest, _first(nest, trace, len(traces))[trace])
    room = np.where(room >= 0, room, _first(room, trace, len(traces))[trace])
    nest = np.where(nest >= 0, nest, _first(nest, room, len(rooms))[room])
    ours = np.zeros(len(rooms) + 1, dtype=bool)
    ours[room[trace >= 0]] = True
    ours[-1] = False
    found = np.where(nest >= 0, nest, np.where(ours[room], room + len(nests), -1))
    unit = ranked(found)
    names = np.empty(count_of(unit), dtype=object)
    names[unit[unit >= 0]] = np.concatenate([nests, rooms])[found[unit >= 0]]
    return Nests(unit=unit, nest=nest, room=room, names=names, nests=nests, rooms=rooms)


def subjects_of(frame: pd.DataFrame, about: Nests | None = None) -> tuple[Ints, Texts]:
    """What each row is about, as a code: what `units_of` groups by, and of a row that names neither trace nor address
    the same of its nest, by its room; a room that is nobody's is one by itself. -1: the row names nothing.

    Also the texts of the first codes, those of `units_of`. about: `nests_of(frame)`, where it is at hand.
    """
    unit, units = units_of(frame)
    room, _ = codes_of(frame["room"])
    loose = np.flatnonzero((unit < 0) & (room >= 0))
    if not len(loose):
        return unit, units
    nest = (nests_of(frame) if about is None else about).unit
    known = (unit >= 0) & (nest >= 0)
    last = greatest_at(unit[known], nest[known], count_of(nest) + 1)[nest[loose]]  # the last place is of no nest
    unit[loose] = np.where(last >= 0, last, len(units) + room[loose])
    return unit, units


def runs_of(subject: Ints, run_id: Ints) -> Ints:
    """A number for each subject (as `subjects_of` tells) and run, and for each row that names nothing."""
    nothing = subject < 0
    each = np.where(nothing, count_of(subject) + np.cumsum(nothing), subject)
    return paired(each, run_id)


def count_nests(frame: pd.DataFrame) -> int:
    """How many nests these rows are of. 0 for none."""
    return nests_of(frame).units


def _first(codes: Ints, of: Ints, size: int) -> Ints:
    """Per place the first code there is, -1 for none; one more for no place, which has none."""
    known = np.flatnonzero((codes >= 0) & (of >= 0))[::-1]
    first = np.full(size + 1, -1, dtype=np.int64)
    first[of[known]] = codes[known]  # the last write stands
    return first


# names


def address_of(text: str) -> Address | str:
    """The address that a row names. A row may hold what is none: then it is the text as it stands."""
    kind, _, rest = text.partition(":")
    pubkey, _, identifier = rest.partition(":")
    return Address(int(kind), pubkey, identifier) if re.fullmatch("[0-9]{1,5}", kind) and identifier else text


def named(words: str, frame: pd.DataFrame) -> Address | str:
    """The nest of these rows (`nest`, `room`) that a person means: its address, else the name of its room.

    Beyond what `read_address` reads: a room's whole name, however strange, and the beginning of an address, of its d
    tag or of a room, with or without the … that shown names end with, if no other nest begins so. What is well written
    and not there comes back as it is. Raises AddressError, also where several begin so: it names some of them.
    """
    text, failed, wanted = words.strip(), None, None
    rooms, addresses = (set(map(str, frame[name].unique())) - {""} for name in ("room", "nest"))
    try:
        wanted = read_address(text)
    except AddressError as error:
        failed = error
    if str(wanted) in rooms | addresses:
        return wanted or text
    if text in rooms:
        return text
    start = text.removesuffix("…")
    found = _beginning(start, frame) if start else {}
    if len(found) > 1:
        some = ", ".join(_printable(name) for name in [*found.values()][:_MOST_NAMED])
        more = ", …" if len(found) > _MOST_NAMED else ""
        raise AddressError(f"{len(found)} nests begin with {start[:40]!r}: {some}{more}; write more of the name")
    if found:
        return address_of(next(iter(found)))
    if failed is not None:
        raise failed
    return wanted or text


def _beginning(start: str, frame: pd.DataFrame) -> dict[str, str]:
    """Of each nest whose address, d tag or room begins so: its address, else its room -> what tells it from others."""
    pairs = frame[["nest", "room"]].drop_duplicates().astype("str")
    announced = set(pairs.loc[pairs["nest"] != "", "room"])
    found: dict[str, str] = {}
    for nest, room in zip(pairs["nest"], pairs["room"], strict=True):
        tag = nest.split(":", 2)[-1]
        if any(name and name.startswith(start) for name in (nest, tag, room)) and (nest or room not in announced):
            found[nest or room] = room or tag
    often = Counter(found.values())
    return {name: told if often[told] == 1 else name for name, told in found.items()}


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in name[:80]) + ("…" if len(name) > 80 else "")


def told_apart(name: str, among: Collection[str], least: int = 9) -> str:
    """A name as short as it can be told from the others, and not shorter than `least`; what is cut ends with …, and
    `named` reads it back. Whole where that saves nothing."""
    size = max([least, *(_alike(name, other) + 1 for other in among if other != name)])
    return name if size + 1 >= len(name) else f"{name[:size]}…"


def _alike(first: str, second: str) -> int:
    """How many characters they begin with alike."""
    return next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )
