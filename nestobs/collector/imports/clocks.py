"""How far the clocks of the sources are apart, by what two of them saw.

Something happened within [b, e] of one clock, and a part of it is seen by another: a call to LiveKit within the API's
answer, that within the proxy's, that within the browser's. The part had begun by b' and did not end before e', by the
other clock. Let d be the first clock less the other. The part began no sooner and ended no later, so

    b - b' <= d <= e - e'

Every sighting of the kind bounds d so; all of them together, the more the closer. Where they contradict each other, a
clock was not steady, or a line tells what it does not mean: then d is within what any of them allows, and that is said.
A HAR's `Date` headers bound d to the API's clock likewise (of a whole second each).

The reference is the clock of the Nests API, that of the proxy where there is no log of the API. A source that only
another relates to it is reached through that, and the errors add up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from nestobs.collector.imports.said import Sighting
from nestobs.observation.duration import SECOND_NS

API: Final = "the clock of the API"
"""What all are compared with, as a place."""

TOLD: Final = "webhook"
"""A webhook, as a key's kind: its id makes it one of its kind, so that no other can be taken for it."""

MADE: Final = "made"
"""The making of a room, as a key's kind: one API waits for LiveKit's answer, another does not. Such sightings are weak:
they count where there are no others, `_ENOUGH` of them, and where they all agree."""

_ENOUGH: Final = 3


class Apart(NamedTuple):
    """A clock less another: within [least, most], ns. events: how many bound it. steady: whether they agree."""

    least: int
    most: int
    events: int = 0
    steady: bool = True

    @property
    def offset_s(self) -> float:
        """The middle."""
        return (self.least + self.most) / 2 / SECOND_NS

    @property
    def error_s(self) -> float:
        """Half the width."""
        return (self.most - self.least) / 2 / SECOND_NS

    def turned(self) -> Apart:
        """The other clock less this one."""
        return Apart(-self.most, -self.least, self.events, self.steady)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one place saw. ahead: how far its clock is ahead of the API's, by Date headers: each within these ns.
    is_api, is_proxy: whose log it is."""

    sightings: Sequence[Sighting]
    ahead: Sequence[tuple[int, int]] = ()
    is_api: bool = False
    is_proxy: bool = False


def offsets(places: Mapping[str, Seen]) -> dict[str, Apart]:
    """Of each place its clock less the reference, where it is known. Places without any are left out."""
    apart = dict(_edges(places))
    known = {API: Apart(0, 0)}
    for _ in places:
        for (one, other), found in apart.items():
            for near, far, step in ((one, other, found.turned()), (other, one, found)):
                if near in known:
                    way = known[near]
                    sum_of = Apart(
                        way.least + step.least, way.most + step.most, step.events, way.steady and step.steady
                    )
                    if far not in known or sum_of.most - sum_of.least < known[far].most - known[far].least:
                        known[far] = sum_of
    return {place: found for place, found in known.items() if place != API}


def _edges(places: Mapping[str, Seen]) -> Iterator[tuple[tuple[str, str], Apart]]:
    """(far, near): the clock of far less that of near, of places that are related without a third."""
    api = [place for place, seen in places.items() if seen.is_api]
    for place in api or [place for place, seen in places.items() if seen.is_proxy]:
        yield (place, API), Apart(0, 0)
    for place, seen in places.items():
        if seen.ahead:
            yield (place, API), agreed(seen.ahead)
    names = sorted(places)
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            bounds = list(_bounds(places[one].sightings, places[other].sightings))
            if (found := _trusted(bounds)) is not None:
                yield (one, other), found


def _trusted(bounds: Sequence[tuple[str, int, int]]) -> Apart | None:
    """What the bounds come to: by the surest kind that there is; None for none, or too few of the weakest."""
    for sure in (lambda kind: kind == TOLD, lambda kind: kind not in (TOLD, MADE)):
        if chosen := [(low, high) for kind, low, high in bounds if sure(kind)]:
            return agreed(chosen)
    found = agreed([(low, high) for _, low, high in bounds]) if len(bounds) >= _ENOUGH else None
    return found if found is not None and found.steady else None


def agreed(bounds: Sequence[tuple[int, int]]) -> Apart:
    """What all bounds allow; what any of them allows where they contradict each other. Of one at least."""
    least, most = max(low for low, _ in bounds), min(high for _, high in bounds)
    if least <= most:
        return Apart(least, most, len(bounds))
    ends = [end for bound in bounds for end in bound]
    return Apart(min(ends), max(ends), len(bounds), steady=False)


def _bounds(one: Iterable[Sighting], other: Iterable[Sighting]) -> Iterator[tuple[str, int, int]]:
    """Of what both saw equally often, each time: its kind, and the bounds of the first's clock less the other's."""
    first, second = _by_key(one), _by_key(other)
    for key, mine in first.items():
        theirs = second.get(key, [])
        if len(theirs) != len(mine):
            continue
        for a, b in zip(mine, theirs, strict=True):
            if a.depth < b.depth:
                yield key[0], a.begun - b.late_begun, a.ended - b.early_ended
            elif b.depth < a.depth:
                yield key[0], a.early_ended - b.ended, a.late_begun - b.begun


def _by_key(sightings: Iterable[Sighting]) -> dict[tuple[str, ...], list[Sighting]]:
    found: dict[tuple[str, ...], list[Sighting]] = {}
    for one in sightings:
        found.setdefault(one.key, []).append(one)
    for all_of in found.values():
        all_of.sort(key=lambda one: one.ended)
    return found
