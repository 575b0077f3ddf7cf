"""The rows of one relay: how the end of something asked of it becomes an observation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nestobs.nostr import ROOM_KIND, Event
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import starts_of
from nestobs.observation.schema import Observation, Source
from nestobs.sources.relay.questions import End
from nestobs.sources.vantage import Trace, Vantage

_LAST_SECOND: Final = 2**63 // SECOND_NS  # a stamp beyond it is no ns in 64 bits, and no honest one


@dataclass(frozen=True, slots=True)
class RelayRows:
    """Writes the rows of the relay at `url` through its vantage."""

    vantage: Vantage
    url: str

    def write(self, trace: Trace, end: End, fields: Mapping[str, Any], **more: Any) -> Observation:
        """Write the row of something that ended."""
        stamp = {}
        if end.event is not None and end.event.created_at < _LAST_SECOND:
            stamp = {"remote_at": end.event.created_at * SECOND_NS, "remote_grain_s": 1.0}
        return self.vantage.record(
            trace,
            target=self.url,
            received_at=end.at,
            status=end.status,
            **{"source": Source.RELAY, **end.judgement._asdict(), **stamp, **fields, **more},
        )


def facts_of_event(event: Event | None) -> dict[str, object]:
    """What a row's detail holds of an event. starts: seconds since the epoch, where it says when it begins."""
    if event is None:
        return {}
    facts = {"created_at": event.created_at, "event_id": event.id, "status": event.tag("status")}
    starts = starts_of(event) if event.kind == ROOM_KIND else 0
    return facts | ({"starts": starts} if starts else {})
