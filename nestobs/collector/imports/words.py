"""What an import did, in sentences and as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nestobs.collector.imports.clocks import Apart
from nestobs.collector.imports.files import Imported
from nestobs.collector.imports.formats import FORMATS
from nestobs.collector.imports.rows import Part


def words_of(found: Imported) -> list[str]:
    """Per part of a file what was read of it, then of each vantage how its clock stands, then what is new."""
    return [
        *(_part(part) for part in found.parts),
        *_doubts(found),
        *(_clock(place, found) for place in dict.fromkeys(part.vantage for part in found.parts)),
        f"{found.new} new observations of {_nests(found)} nests"
        + (f"; {found.known} were there already" if found.known else ""),
    ]


def _part(part: Part) -> str:
    reading = part.reading
    said = f"{part.file}: {FORMATS[part.word].words}, {reading.lines} lines, {len(reading.said)} observations"
    said += f", {reading.idle} about no nest" if reading.idle else ""
    if reading.misread:
        first = ", ".join(map(str, reading.unread))
        said += f"; {reading.misread} not understood ({'line' if reading.misread == 1 else 'first lines'} {first})"
    return f"{said}; seen from {part.vantage}"


def _doubts(found: Imported) -> Iterator[str]:
    said = [one for part in found.parts for one in part.reading.said]
    ends = [one.begun_within_s for one in said if one.begun_within_s is not None]
    if ends:
        yield f"{len(ends)} lines tell only their end: each is taken to have begun at most {max(ends):g} s before"
    if untimed := sum(one.untimed for one in said):
        yield f"{untimed} lines tell no time: each was between its event's created_at and the file's last change"
    if zoneless := sum(part.reading.zoneless for part in found.parts):
        yield f"{zoneless} lines name no time zone: they are read as UTC"


def _clock(place: str, found: Imported) -> str:
    apart = found.offsets.get(place)
    if apart is None:
        return f"{place}: nothing in these files relates its clock to another's, so its times are taken as they are"
    if not apart.events:
        return f"{place}: its clock is the one that others are compared with"
    how = "ahead of" if apart.offset_s >= 0 else "behind"
    said = f"{place}: its clock is {abs(apart.offset_s):.3f} s {how} the API's, give or take {apart.error_s:.3f} s"
    said += f", by {apart.events} events that both saw"
    return said if apart.steady else f"{said}; they do not agree, so this is the widest that any of them allows"


def _nests(found: Imported) -> int:
    return len({row.room for row in found.rows if row.room})


def as_data(found: Imported) -> dict[str, Any]:
    """The same as JSON data."""
    return {
        "run_id": next(iter(found.run_ids.values()), ""),
        "run_ids": dict(found.run_ids),
        "new": found.new,
        "known": found.known,
        "nests": _nests(found),
        "files": [_as_data(part) for part in found.parts],
        "clocks": {place: _apart(apart) for place, apart in found.offsets.items()},
    }


def _as_data(part: Part) -> dict[str, Any]:
    reading = part.reading
    return {
        "file": part.file,
        "format": part.word,
        "vantage": part.vantage,
        "lines": reading.lines,
        "observations": len(reading.said),
        "about_no_nest": reading.idle,
        "not_understood": {"lines": reading.misread, "first": list(reading.unread)},
        "begun_unknown": sum(one.begun_within_s is not None for one in reading.said),
        "untimed": sum(one.untimed for one in reading.said),
        "no_time_zone": reading.zoneless,
    }


def _apart(apart: Apart) -> dict[str, Any]:
    return {"offset_s": apart.offset_s, "error_s": apart.error_s, "events": apart.events, "agree": apart.steady}
