"""What every real join of a nest asked, in order: when, how long, what came; and how each join ended.

A join is what joins.py makes of it, found by its run and attempt group. Beside those that ended are those that a crash
cut off, of which nobody knows what came of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pandas as pd

from nestobs.observation.columns import dicts_of
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Source

GRANTED, ABSENT, REFUSED, NOTHING, OURS = "there", "404", "refused", "no proof", "our own error"
ANSWERS: Final = (GRANTED, ABSENT, REFUSED, NOTHING, OURS)
"""What a request of a join came to."""

_ANSWERS: Final = {
    Outcome.VISIBLE: GRANTED,
    Outcome.ACCEPTED: GRANTED,
    Outcome.ABSENT: ABSENT,
    Outcome.REFUSED: REFUSED,
    Outcome.PROBE_ERROR: OURS,
}
CUT_OFF: Final = "cut off"
"""The verdict of a join that came to none."""

REQUESTS: Final = (
    "join", "vantage", "role", "step", "way", "round", "waited_s", "sent_at", "from_s", "to_s", "answer", "status",
    "failure", "reason",
)  # fmt: skip  # a list of words
ATTEMPTS: Final = (
    "join", "vantage", "role", "policy", "arrived_at", "age_s", "verdict", "joined", "lost", "elapsed_s", "asked",
    "fell_back", "waited_s", "message", "retry", "guide_message", "guide_true", "released_message", "released_true",
)  # fmt: skip  # a list of words


def requests(observations: pd.DataFrame) -> pd.DataFrame:
    """One row per request that a real join made, by join and then by the time of sending; the columns of REQUESTS.

    join: its number from 1, by arrival, as in `attempts`. step: info, join, guest, signal, media, stay; way: info,
    join, guest or LiveKit. round: from 1; a new one begins where a step comes again that the round already had.
    waited_s: since the answer before, or the arrival. from_s, to_s: seconds since arrival, NaN where no answer came.
    answer: one of ANSWERS.
    """
    rows: list[dict[str, Any]] = []
    for number, (arrival, asked) in enumerate(_joins(observations), 1):
        rows += _asked(number, arrival, asked)
    return pd.DataFrame(rows, columns=list(REQUESTS))


def _joins(observations: pd.DataFrame) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each join's verdict (its intent, where it was cut off) and the steps it made, in order of arrival."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in dicts_of(observations[observations["attempt_group"] != ""]):
        found.setdefault((row["run_id"], row["attempt_group"]), []).append(row)
    joins = []
    for rows in found.values():
        verdicts = [row for row in rows if row["source"] == Source.JOIN and row["operation"] == Operation.VERDICT]
        ended = [row for row in verdicts if row["failure"] != Failure.INTENT] or verdicts
        steps = sorted((row for row in rows if row["operation"] != Operation.VERDICT), key=lambda row: row["sent_at"])
        if ended:
            joins.append((ended[0], steps))
    yield from sorted(joins, key=lambda join: (join[0]["sent_at"], str(join[0]["observation_id"])))


def _asked(number: int, arrival: dict[str, Any], asked: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    arrived, ready, seen, turn = int(arrival["sent_at"]), int(arrival["sent_at"]), set[str](), 1
    for row in asked:
        step, sent = str(row["operation"]), int(row["sent_at"])
        if step in seen and step in ("info", "join", "guest"):
            seen, turn = set(), turn + 1
        seen.add(step)
        received = None if pd.isna(row["received_at"]) else int(row["received_at"])
        yield {
            "join": number,
            "vantage": row["vantage"],
            "role": row["role"],
            "step": step,
            "way": step if row["source"] == Source.API else "LiveKit",
            "round": turn,
            "waited_s": max(0.0, (sent - ready) / SECOND_NS),
            "sent_at": sent,
            "from_s": (sent - arrived) / SECOND_NS,
            "to_s": math.nan if received is None else (received - arrived) / SECOND_NS,
            "answer": _ANSWERS.get(Outcome(str(row["outcome"])), NOTHING),
            "status": None if pd.isna(row["status"]) else int(row["status"]),
            "failure": "" if pd.isna(row["failure"]) else str(row["failure"]),
            "reason": str(row["reason"]),
        }
        ready = max(ready, sent if received is None else received)


def attempts(observations: pd.DataFrame, joins: pd.DataFrame) -> pd.DataFrame:
    """One row per join, the cut off among them, by arrival; the columns of ATTEMPTS.

    `joins` as joins.py makes them of the same observations. age_s: of the nest at arrival. lost: NA where that cannot
    be known. asked: requests made. fell_back: asked as a guest after a 404 to the signed in. waited_s: in all, between
    its requests. message and retry: what our client shows at the end, and whether with a Retry button; of a join that
    was cut off: nothing.
    """
    asked = requests(observations)
    known = {(row["run_id"], row["attempt_group"]): row for row in dicts_of(joins)}
    rows = []
    for number, (arrival, _) in enumerate(_joins(observations), 1):
        mine = asked[asked["join"] == number]
        row = known.get((arrival["run_id"], arrival["attempt_group"]), {})
        rows.append(_attempt(number, arrival, mine, row))
    return pd.DataFrame(rows, columns=list(ATTEMPTS))


def _attempt(number: int, arrival: dict[str, Any], mine: pd.DataFrame, row: dict[str, Any]) -> dict[str, Any]:
    facts = facts_of(arrival["detail"])
    ways = mine.loc[mine["way"] != "LiveKit", ["step", "answer"]].to_numpy().tolist()
    pairs = itertools.pairwise(ways)
    return {
        "join": number,
        "vantage": arrival["vantage"],
        "role": arrival["role"],
        "policy": row.get("policy", ""),
        "arrived_at": int(arrival["sent_at"]),
        "age_s": row.get("arrival_age_s", math.nan),
        "verdict": row.get("verdict", CUT_OFF),
        "joined": bool(row.get("joined", False)),
        "lost": row.get("lost", pd.NA),
        "elapsed_s": row.get("elapsed_s", math.nan),
        "asked": len(mine),
        "fell_back": any(one == ["join", ABSENT] and other[0] == "guest" for one, other in pairs),
        "waited_s": float(mine["waited_s"].sum()),
        "message": str(facts.get("message", "")) if row else "",
        "retry": bool(facts.get("retry_offered", False)) if row else False,
        "guide_message": row.get("guide_message", ""),
        "guide_true": row.get("guide_true"),
        "released_message": row.get("released_message", ""),
        "released_true": row.get("released_true"),
    }
