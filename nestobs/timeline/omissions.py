"""What the delays of new nests are not made of, in sentences: how many nests are left out, and why.

Whoever shows a law or a policy made of `delays.joinable` says beside it what `omitted` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import pandas as pd

from nestobs.observation.text import percent
from nestobs.timeline.delays import STANDING, edited, kept_shut, made_at
from nestobs.timeline.failures import Failures
from nestobs.timeline.intervals.origins import EDIT
from nestobs.timeline.nests import count_nests
from nestobs.timeline.uptime import MOST_HELD_UP

_ABSENTS: Final = (
    ("after_end", "after its end"),
    ("livekit_down", "with LiveKit down"),
    ("held_up", "while we were held up"),
)
_SEATS: Final = ("api:join", "api:guest")
_WHY: Final = (
    ("after_end", "had ended before it was proven when {they} could be joined"),
    ("livekit_down", "{were} asked for only while LiveKit could not be reached, when an API's 404 proves nothing"),
    ("held_up", "{were} asked for only while the observing machine itself was held up"),
)


def omitted(timelines: pd.DataFrame) -> list[str]:
    """A sentence for each reason for which nests of these timelines are in no law of joins; and of how many of the
    others only the event tells the age. None where there is nothing to say."""
    edits = edited(timelines)
    rest = timelines[~edits & ~kept_shut(timelines) & timelines["layer"].isin(_SEATS)]
    proven = rest[rest["polls"] > 0]
    unproven = rest[~rest["nest"].isin(set(proven["nest"]) - {""}) & ~rest["trace_id"].isin(set(proven["trace_id"]))]
    said = [*standing_words(timelines), _edited(count_nests(timelines[edits]))]
    said += [_left_out(count_nests(unproven[unproven[column] > 0]), why) for column, why in _WHY if column in unproven]
    if {"origin_kind", "room_at"} <= set(proven):
        alone = proven[(proven["origin_kind"] == "created_at") & proven["room_at"].isna()]
        said.append(_told_by_the_event(count_nests(alone), count_nests(proven)))
    return [*filter(None, said)]


def standing(timelines: pd.DataFrame) -> dict[str, int]:
    """Cause of a standing fault -> nests that it kept shut, the most first; a nest of several counts for each."""
    shut = timelines[kept_shut(timelines)]
    found = {str(cause): count_nests(rows) for cause, rows in shut.groupby(STANDING)} if len(shut) else {}
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def standing_words(timelines: pd.DataFrame) -> list[str]:
    """A sentence for each such cause: of how many nests, and when they were made."""
    total = count_nests(timelines)
    return [
        _standing(timelines[timelines[STANDING] == cause], many, total) for cause, many in standing(timelines).items()
    ]


def _standing(rows: pd.DataFrame, many: int, total: int) -> str:
    made = made_at(rows).dropna()
    cause, when = rows[STANDING].iloc[0], ""
    if len(made):
        first, last = (f"{made.agg(end):%Y-%m-%d %H:%M} UTC" for end in ("min", "max"))
        when = f", made at {first}" if first == last else f", made from {first} to {last}"
    are = "is" if many == 1 else "are"
    return (
        f"{many} of {total} nests {are} left out: {cause}{when}. That is a standing fault, which no waiting heals:"
        " `nestobs diagnose` has the evidence."
    )


def _edited(count: int) -> str:
    if not count:
        return ""
    what = "nest was an edit of an older room and is" if count == 1 else "nests were edits of older rooms and are"
    return f"{count} {what} left out."


def _left_out(count: int, why: str) -> str:
    if not count:
        return ""
    words = ("nest", "it", "was", "is") if count == 1 else ("nests", "they", "were", "are")
    nests, they, were, are = words
    return f"{count} {nests} {why.format(they=they, were=were)}, and {are} left out."


def _told_by_the_event(count: int, among: int) -> str:
    if not count:
        return ""
    return (
        f"Of {count} of {among} nests only the event tells the age, neither /info nor LiveKit: an edit of an older room"
        " could not be told from a new nest."
    )


def remarks(row: Mapping[Any, Any]) -> list[str]:
    """What is to be said of one timeline, in few words each: that it is of an edit, and which absents bound nothing."""
    said = ["an edit of an older room"] if row["origin_kind"] == EDIT else []
    return said + [f"absent {words}: {row[column]}" for column, words in _ABSENTS if row[column]]


def held_up_words(failures: Failures) -> list[str]:
    """That so much was held up by the observing machine itself that no recommendation can be made of it; else none."""
    share = failures.held_up_share
    if share > MOST_HELD_UP:
        return [
            f"{percent(share)} of the requests in this window were held up by the observing machine itself"
            f" ({failures.held_up} of {failures.requests}; above {percent(MOST_HELD_UP)} is too much): no"
            " recommendation can be made of it."
        ]
    return [failures.observer.words] if failures.observer.much else []
