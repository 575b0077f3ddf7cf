"""What became of each join on its way, and what fallback and retry were worth to it.

A join is one verdict and the requests that carry its `attempt_group`. A **round** is what it asks between two waits;
its number is the greatest `attempt_no` so far. A join that got in was

    saved by fallback   its own authenticated request was answered 404, and a guest token let it in
    saved by retry      everything its first round asked came to nothing, and a later round let it in

Both may be true of one. Had it not been for them it would not have got in; whether it would have done so in another
way, nobody knows. What becomes of a join is its fate: joined; lost (joins.py); not_had, where it is known not to be
lost; unclear, where that cannot be known.
"""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nestobs.observation.arrays import BELOW, Flags, Floats, greatest_at
from nestobs.observation.columns import equals, instants_of, reals_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Column, Failure, Operation, Outcome, Source

SCHEMA: Final[tuple[Column, ...]] = (
    Column("rounds", "int", "count", "rounds begun; 0: nothing was asked", False),
    Column("token", "bool", "", "it was given a token", False),
    Column("signalled", "bool", "", "LiveKit's signalling let it in", False),
    Column("media_tried", "bool", "", "it went on to media", False),
    Column("media", "bool", "", "media was connected", False),
    Column("by_fallback", "bool", "", "in the room, saved by fallback", False),
    Column("by_retry", "bool", "", "in the room, saved by retry", False),
    Column("first_round", "text", "", "what its first round came to: granted, 404, error, LiveKit, nothing", False),
    Column("waiting_s", "real", "s", "in the room: from arrival to it, less the next three; else NaN", True),
    Column("requests_s", "real", "s", "in the room: in API requests", True),
    Column("signal_s", "real", "s", "in the room: in LiveKit's signalling", True),
    Column("media_s", "real", "s", "in the room: in connecting media", True),
    Column("total_s", "real", "s", "in the room: from arrival until it was", True),
)
"""What `journeys` adds to the columns of joins.SCHEMA."""

PARTS: Final = ("waiting_s", "requests_s", "signal_s", "media_s")
STEPS: Final = (Operation.INFO, Operation.JOIN, Operation.GUEST, Operation.SIGNAL, Operation.MEDIA)
ANSWERS: Final = (
    "granted", "404", "401", "403", "429", "5xx", "timeout", "reset", "not reached", "bad token", "own budget", "other",
)  # fmt: skip  # a list of words
"""What can come of a request, in the order in which figures list them."""

_TOKENS: Final = (Operation.JOIN, Operation.GUEST)
_WORDS: Final = {
    Failure.NOT_FOUND: "404",
    Failure.UNAUTHORISED: "401",
    Failure.FORBIDDEN: "403",
    Failure.RATE_LIMITED: "429",
    Failure.SERVER_ERROR: "5xx",
    Failure.TIMEOUT: "timeout",
    Failure.RESET: "reset",
    Failure.CLOSED: "reset",
    Failure.DROPPED: "reset",
    Failure.DNS: "not reached",
    Failure.REFUSED: "not reached",
    Failure.TLS: "not reached",
    Failure.UNREACHABLE: "not reached",
    Failure.ICE: "not reached",
    Failure.BAD_TOKEN: "bad token",
    Failure.BUDGET: "own budget",
}


def journeys(observations: pd.DataFrame, made: pd.DataFrame) -> pd.DataFrame:
    """`made`, the joins as timeline.joins.joins gives them of these observations, with the columns of SCHEMA beside."""
    steps = _steps(observations, made)
    facts = {name: _any(steps, flags, len(made)) for name, flags in _reached(steps).items()}
    rounds = np.zeros(len(made), dtype=np.int64)
    api = equals(steps["source"], Source.API)
    np.maximum.at(rounds, steps["join"].to_numpy(np.int64)[api], steps["attempt_no"].to_numpy(np.int64)[api])
    joined = made["joined"].to_numpy(dtype=bool)
    own_404 = _any(steps, _of(steps, Operation.JOIN) & _is(steps, "404"), len(made))
    first = _first_round(steps, len(made))
    table = made.assign(
        rounds=rounds,
        **facts,
        by_fallback=joined & own_404 & (made["verdict"] == "guest_instead").to_numpy(dtype=bool),
        by_retry=joined & (rounds > 1) & (first != "granted"),
        first_round=pd.Series(first, index=made.index, dtype="str"),
    )
    return table.assign(**_times(steps, table))


def answers(observations: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """What came of each request of the joins of `table`: columns vantage, operation, target, answer (of ANSWERS), n."""
    steps = _steps(observations, table)
    order = {"operation": pd.CategoricalDtype([*map(str, STEPS)]), "answer": pd.CategoricalDtype([*ANSWERS])}
    kinds = ["vantage", "operation", "target", "answer"]
    counted = steps.astype(order).groupby(kinds, observed=True).size().reset_index(name="n")
    return counted.astype({"operation": "str", "answer": "str"})


def by_time(table: pd.DataFrame, edges: ArrayLike) -> pd.DataFrame:
    """Joins by arrival between successive edges (ns UTC, ascending, shape (k + 1,)).

    Columns: start_at, end_at (datetime64[ns, UTC]), joined, lost, not_had, unclear (cannot be told, or our own fault).
    """
    at = np.asarray(edges, dtype=np.int64)
    bins = np.searchsorted(at, table["arrived_at"].astype("int64").to_numpy(np.int64), "right") - 1
    kinds = fates(table)
    inside = (bins >= 0) & (bins < len(at) - 1)
    counts = {
        kind: np.bincount(bins[inside & (kinds == kind)], minlength=len(at) - 1)
        for kind in ("joined", "lost", "not_had", "unclear")
    }
    ends = {"start_at": pd.to_datetime(at[:-1], utc=True), "end_at": pd.to_datetime(at[1:], utc=True)}
    return pd.DataFrame(ends | counts)


def fates(table: pd.DataFrame) -> NDArray[np.object_]:
    """Of each join: joined, lost, not_had, or unclear."""
    joined, lost = table["joined"].to_numpy(bool), table["lost"]
    kinds = [joined, lost.fillna(value=False).to_numpy(bool), lost.notna().to_numpy(bool)]
    return cast(NDArray[np.object_], np.select(kinds, ["joined", "lost", "not_had"], "unclear").astype(object))


def _steps(observations: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The requests of these joins, each with its place in `table` (join), what came of it (answer), seconds it took."""
    source, operation = observations["source"], observations["operation"]
    asked = source.isin([Source.API, Source.LIVEKIT]) & operation.isin(STEPS)
    asked &= ~equals(observations["failure"], Failure.INTENT) & (observations["attempt_group"] != "")
    names = ["run_id", "attempt_group", "source", "operation", "target", "attempt_no", "sent_at", "received_at"]
    rows = observations.loc[asked, [*names, "outcome", "failure", "timeout_s"]]
    places = table[["run_id", "attempt_group", "vantage"]].assign(join=np.arange(len(table), dtype=np.int64))
    rows = rows.merge(places, on=["run_id", "attempt_group"], how="inner")
    sent = rows["sent_at"].to_numpy(np.int64)
    waited = np.nan_to_num(reals_of(rows["timeout_s"]))
    ended, answered = instants_of(rows["received_at"])
    took = np.where(answered, (ended - sent) / SECOND_NS, waited)
    return rows.assign(answer=_answers(rows), took_s=np.maximum(took, 0.0))


def _answers(rows: pd.DataFrame) -> Any:
    granted = rows["outcome"].isin([str(Outcome.VISIBLE), str(Outcome.ACCEPTED)])
    words = rows["failure"].map({str(failure): word for failure, word in _WORDS.items()}).astype(object)
    words = words.where(words.notna(), "other")
    bare = equals(rows["outcome"], Outcome.ABSENT) & rows["failure"].isna()
    return words.mask(bare, "404").mask(granted, "granted")


def _of(steps: pd.DataFrame, *operations: Operation) -> Flags:
    return np.asarray(steps["operation"].isin([str(name) for name in operations]), dtype=bool)


def _is(steps: pd.DataFrame, answer: str) -> Flags:
    return np.asarray(steps["answer"] == answer, dtype=bool)


def _any(steps: pd.DataFrame, flags: Flags, size: int) -> Flags:
    """By join, whether any of its steps is flagged."""
    return np.asarray(np.bincount(steps["join"].to_numpy(np.int64)[flags], minlength=size) > 0, dtype=bool)


def _reached(steps: pd.DataFrame) -> dict[str, Flags]:
    granted, media = _is(steps, "granted"), _of(steps, Operation.MEDIA)
    return {
        "token": granted & _of(steps, *_TOKENS),
        "signalled": granted & _of(steps, Operation.SIGNAL),
        "media_tried": media,
        "media": granted & media,
    }


def _first_round(steps: pd.DataFrame, size: int) -> NDArray[np.object_]:
    """What the first round came to: "LiveKit" where it had a token and was let in only in a later one."""
    first = steps["attempt_no"].to_numpy(np.int64) == 1
    token = _any(steps, first & _is(steps, "granted") & _of(steps, *_TOKENS), size)
    entered = _any(steps, first & _is(steps, "granted") & _of(steps, Operation.SIGNAL, Operation.MEDIA), size)
    absent = _any(steps, first & _is(steps, "404") & _of(steps, *_TOKENS), size)
    asked = _any(steps, np.ones(len(steps), dtype=bool), size)
    found = np.select([token & entered, token, absent, asked], ["granted", "LiveKit", "404", "error"], "nothing")
    return cast(NDArray[np.object_], found.astype(object))


def _times(steps: pd.DataFrame, table: pd.DataFrame) -> dict[str, Floats]:
    """How the time from arrival to the room was spent; NaN for who is not in it, or where no step says when."""
    size, join = len(table), steps["join"].to_numpy(np.int64)
    took = steps["took_s"].to_numpy(dtype=np.float64)
    parts = {
        "requests_s": equals(steps["source"], Source.API),
        "signal_s": _of(steps, Operation.SIGNAL),
        "media_s": _of(steps, Operation.MEDIA),
    }
    spent = {name: np.bincount(join[flags], took[flags], size) for name, flags in parts.items()}
    inside = _is(steps, "granted") & _of(steps, Operation.SIGNAL, Operation.MEDIA)
    received, answered = instants_of(steps["received_at"])
    inside &= answered
    entered = greatest_at(received[inside], join[inside], size)
    told = table["joined"].to_numpy(dtype=bool) & (entered != BELOW)
    total = (entered - table["arrived_at"].astype("int64").to_numpy(np.int64)) / SECOND_NS
    times = {"waiting_s": np.maximum(total - sum(spent.values()), 0.0)} | spent | {"total_s": total}
    return {name: np.where(told, values, np.nan) for name, values in times.items()}
