"""From what was said to observations: ids by content, one trace a room, marks of where it came from, and no secret.

An imported row has in its detail `imported`: the file's name, the beginning of its digest, the format and the line.
`begun_within_s` stands there where the line does not tell when the request began: `sent_at` is so long before.

The id of a row is a digest of its line, of how many equal lines stood before it in the file, and of its vantage: the
same line gives the same row from whatever file, however often it is imported.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from nestobs.collector.imports.clocks import Apart
from nestobs.collector.imports.said import Reading, Said
from nestobs.observation.detail import detail
from nestobs.observation.schema import Observation
from nestobs.observation.text import encodable
from nestobs.sources.clock import uuid7

_LAST: Final = 2**63 - 1
_SECRET: Final = re.compile(
    r"(?i)\b(bearer|nostr|basic|authorization|access_token|api[_-]?secret|secret|password|nsec)\b"
    r"([\"']?\s{0,4}[:= ]\s{0,4})"
    r"[\"']?[^\s\"',;&]{4,4000}"
)


@dataclass(frozen=True, slots=True)
class Part:
    """What one file says in one format. digest: of its bytes, in hex."""

    file: str
    digest: str
    word: str
    vantage: str
    reading: Reading


def observations(
    parts: Iterable[Part], offsets: Mapping[str, Apart], run_ids: Mapping[str, str]
) -> Iterator[Observation]:
    """The rows of all parts, in order. offsets: how far the clock of a vantage is ahead of the reference.

    run_ids: of each vantage one, since a run is one clock.
    """
    parts = list(parts)
    nests = {encodable(room): encodable(nest) for part in parts for room, nest in part.reading.nests.items()}
    for part in parts:
        apart = offsets.get(part.vantage)
        seen, before = Counter[str](), Counter[tuple[str, int]]()
        lines: dict[tuple[str, int], int] = {}
        for said in part.reading.said:
            place = said.mark, said.line
            if place not in lines:
                lines[place] = seen[said.mark]
                seen[said.mark] += 1
            key = f"{part.word}\n{part.vantage}\n{said.mark}\n{lines[place]}\n{before[place]}"
            before[place] += 1
            if 0 < said.begun_at <= said.ended_at < _LAST:
                room = encodable(said.room)
                known = {"nest": nests.get(room, ""), "run_id": run_ids[part.vantage]}
                yield _row(part, replace(said, room=room), key, apart, **known)


def _row(part: Part, said: Said, key: str, apart: Apart | None, *, nest: str, run_id: str) -> Observation:
    imported = {"file": part.file, "digest": part.digest[:16], "format": part.word, "line": said.line}
    imported |= {"begun_within_s": said.begun_within_s} if said.begun_within_s is not None else {}
    imported |= {"untimed": True} if said.untimed else {}
    judgement = said.judgement._replace(reason=_SECRET.sub(r"\1\2[secret]", said.judgement.reason))
    trace = "" if not said.room else _uuid(0, f"room\n{said.room}")
    return Observation(
        observation_id=_uuid(said.begun_at if said.untimed else said.ended_at, key),
        run_id=run_id,
        trace_id=trace,
        vantage=part.vantage,
        role=said.role,
        nest=nest,
        room=said.room,
        source=said.source,
        target=encodable(said.target),
        operation=said.operation,
        attempt_group=_uuid(0, said.group) if said.group else "",
        attempt_no=said.attempt_no,
        sent_at=said.begun_at,
        received_at=said.ended_at,
        status=said.status,
        remote_at=said.remote_at,
        remote_grain_s=said.remote_grain_s,
        clock_offset_s=None if apart is None else apart.offset_s,
        clock_error_s=None if apart is None else apart.error_s,
        software=encodable(said.software),
        detail=detail(**said.facts, imported=imported),
        **judgement._asdict(),
    )


def _uuid(at: int, text: str) -> str:
    """A UUIDv7 of an instant, the rest of it a digest of the text."""
    return uuid7(at, hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:10])
