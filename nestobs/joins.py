"""From observations to joins: one row per real join, and whether what the two baselines would have said was true.

At arrival every real join also tells what a person with the web client would have been told: as its guide describes it
(`guide`) and as it was released (`released`). What was said is judged by what the same vantage saw after it, in its own
clock, so no offset between clocks enters. A person draws one of two conclusions:

    wait    "still starting up"                                   true if a later request got a token
    leave   "no longer available", "Failed to join nest: …" (no   true if no later request got one, and the nest was
            Retry, at any age), "Loading nest..." (for ever)      proven absent at least `settled_s` after the arrival

A token is a `visible` answer of `api:join` or `api:guest` (for a guest `api:guest` alone) to a request sent at or after
the arrival, whoever sent it. So "then or later": a message to leave is false too when the nest was joinable at that
very moment. Neither proof (the watch ended too soon, every later attempt failed, or the only later token belongs to a
request already under way) leaves the truth unknown, NA. A message that the joiner is in the room is true. Any other
message (unauthorised, rate limited, no answer, …) says something about a request, not about the nest: NA.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from nestobs.join import GONE, JOINED, LOADING, RELEASED_FAILED, STARTING, Kind
from nestobs.observation import Column, Failure, Operation, Outcome, Role, Source

SETTLED_S: Final = 20.0
"""A nest that still answers 404 so long after a message, and is never seen again, is taken not to come."""

SCHEMA: Final[tuple[Column, ...]] = (
    Column("nest", "text", "30312:pubkey:d", "address of the nest; empty while unknown", False),
    Column("room", "text", "", "LiveKit room; empty while unknown", False),
    Column("trace_id", "text", "UUIDv7", "one nest under observation; may be empty", False),
    Column("vantage", "text", "", "place and clock from which it was joined", False),
    Column("role", "text", "", "joiner (signed in) or guest", False),
    Column("policy", "text", "", "the policy the join followed", False),
    Column("arrived_at", "instant", "UTC", "when the joiner arrived, on the vantage's clock", False),
    Column("arrival_age_s", "real", "s", "arrival since the origin of the nest's timelines; NaN without one", True),
    Column("verdict", "text", "", "how it ended: a nestobs.join.Kind; empty when the row tells none", False),
    Column("joined", "bool", "", "whether the joiner got into the room", False),
    Column("elapsed_s", "real", "s", "from arrival to verdict", True),
    Column("requests", "int", "count", "API requests made", False),
    Column("guide_verdict", "text", "", "what `guide` would have concluded at arrival", False),
    Column("guide_message", "text", "", "what its page would have shown; empty when joined", False),
    Column("released_verdict", "text", "", "what `released` would have concluded at arrival", False),
    Column("released_message", "text", "", "what its page would have shown; empty when joined", False),
    Column("became_joinable", "flag", "", "a token was seen by the end of watching; NA when nothing was proven", True),
    Column("guide_true", "flag", "", "whether what `guide` would have said was true; NA when it cannot be told", True),
    Column("released_true", "flag", "", "the same of `released`", True),
)
"""The columns of `joins`, in order. Types as in timeline.SCHEMA; flag is pandas' nullable boolean."""

_DTYPES: Final = {
    "text": "str",
    "int": "int64",
    "real": "float64",
    "bool": "bool",
    "flag": "boolean",
    "instant": "datetime64[ns, UTC]",
}
_SECOND: Final = 1_000_000_000
_FOR_GUESTS: Final = (str(Operation.GUEST),)
_FOR_JOINERS: Final = (str(Operation.JOIN), str(Operation.GUEST))
_LEAVE: Final = (GONE, RELEASED_FAILED, LOADING)


def joins(observations: pd.DataFrame, timelines: pd.DataFrame, *, settled_s: float = SETTLED_S) -> pd.DataFrame:
    """One row per join that came to a verdict, with the columns and dtypes of SCHEMA, by arrival, then trace_id.

    `observations` as Store.frame gives them; `timelines` made of the same. Joins that a crash cut off have no row: see
    `open_intents`. `arrival_age_s` counts on the reference clock, by the offset with the least error that the vantage's
    run knew of this nest, as the timelines do; on the vantage's own clock where it knew none. No join: an empty frame.
    """
    verdicts = observations[_verdicts(observations)]
    if verdicts.empty:
        return _frame([])
    evidence = _evidence(observations)
    named = timelines.drop_duplicates(["trace_id", "nest", "origin_at"])
    origins = {_unit(row): row["origin_at"] for row in _records(named, ("trace_id", "nest", "origin_at"))}
    became, offsets = _became(timelines), _offsets(observations)
    rows = []
    for row in _records(verdicts, _NEEDED):
        seen = evidence.get((_unit(row), str(row["vantage"])), {})
        made = _row(row, seen, became, round(settled_s * _SECOND))
        made["arrival_age_s"] = _age_s(row["sent_at"], offsets.get(_clock(row), 0.0), origins.get(_unit(row)))
        rows.append(made)
    return _frame(rows).sort_values(["arrived_at", "trace_id"], ignore_index=True, kind="stable")


def open_intents(observations: pd.DataFrame) -> int:
    """How many joins were begun and never came to a verdict: a crash cut them off."""
    asked = observations[_of(observations, Source.JOIN, Operation.VERDICT)]
    keys = asked["run_id"] + "\n" + asked["attempt_group"]
    intent = _is(asked["failure"], Failure.INTENT)
    return len(set(keys[intent]) - set(keys[~intent]))


@dataclass(frozen=True, slots=True)
class _Evidence:
    """Of one vantage, nest and operation: when tokens and proven absences were asked for and received, ns."""

    token_sent: int
    token_received: int
    absent_sent: int


_NEEDED: Final = (
    "nest",
    "room",
    "trace_id",
    "vantage",
    "role",
    "sent_at",
    "received_at",
    "run_id",
    "detail",
)


def _row(
    row: Mapping[str, Any],
    seen: Mapping[str, _Evidence],
    became: Mapping[tuple[str, str, str], bool],
    settled: int,
) -> dict[str, Any]:
    facts = _facts(row["detail"])
    arrived = int(row["sent_at"])
    ways = _FOR_GUESTS if row["role"] == Role.GUEST else _FOR_JOINERS
    proofs = [seen[way] for way in ways if way in seen]
    found = [became[key] for way in ways if (key := (_unit(row), str(row["vantage"]), f"api:{way}")) in became]
    verdict = _text(facts.get("verdict"))
    made: dict[str, Any] = {name: row[name] for name in ("nest", "room", "trace_id", "vantage", "role")}
    made |= {
        "policy": _text(facts.get("policy")),
        "arrived_at": arrived,
        "verdict": verdict,
        "joined": verdict in JOINED,
        "elapsed_s": _number(facts.get("elapsed_s"), (int(row["received_at"]) - arrived) / _SECOND),
        "requests": int(_number(facts.get("requests"), 0.0)),
        "became_joinable": any(found) if found else None,
    }
    said = facts.get("said")
    for baseline in ("guide", "released"):
        words = said.get(baseline) if isinstance(said, dict) else None
        words = words if isinstance(words, dict) else {}
        made[f"{baseline}_verdict"] = _text(words.get("verdict"))
        made[f"{baseline}_message"] = _text(words.get("message"))
        made[f"{baseline}_true"] = _true(
            made[f"{baseline}_verdict"], made[f"{baseline}_message"], arrived, proofs, settled
        )
    return made


def _true(verdict: str, message: str, said_at: int, proofs: Iterable[_Evidence], settled: int) -> bool | None:
    """Whether a message was true, None when it cannot be told. The rule is the module's."""
    if verdict in JOINED:
        return True
    wait = message.startswith(STARTING)
    if not wait and not message.startswith(_LEAVE):
        return None
    proofs = list(proofs)
    if any(one.token_sent >= said_at for one in proofs):
        return wait
    under_way = any(one.token_received >= said_at for one in proofs)
    watched = any(one.absent_sent >= said_at + settled for one in proofs)
    return not wait if watched and not under_way else None


def _evidence(observations: pd.DataFrame) -> dict[tuple[str, str], dict[str, _Evidence]]:
    """By (unit, vantage) and operation. The latest of each kind decides, so only that is kept."""
    api = _of(observations, Source.API, Operation.JOIN) | _of(observations, Source.API, Operation.GUEST)
    asked = observations.loc[
        api & observations["received_at"].notna() & ~_is(observations["failure"], Failure.INTENT),
        ["trace_id", "nest", "vantage", "operation", "outcome", "sent_at", "received_at"],
    ]
    token, absent = _is(asked["outcome"], Outcome.VISIBLE), _is(asked["outcome"], Outcome.ABSENT)
    stamps = pd.DataFrame(
        {
            "token_sent": asked["sent_at"].where(token, -1),
            "token_received": asked["received_at"].where(token, -1),
            "absent_sent": asked["sent_at"].where(absent, -1),
        }
    ).astype("int64")
    unit = np.where(asked["trace_id"] != "", asked["trace_id"], asked["nest"])
    latest = stamps.groupby([unit, asked["vantage"], asked["operation"]], sort=False).max()
    found: dict[tuple[str, str], dict[str, _Evidence]] = {}
    for (name, vantage, way), *instants in latest.itertuples():
        found.setdefault((str(name), str(vantage)), {})[str(way)] = _Evidence(*instants)
    return found


def _became(timelines: pd.DataFrame) -> dict[tuple[str, str, str], bool]:
    """By (unit, vantage, layer), of layers that give a token and about which anything was proven."""
    proven = timelines[timelines["polls"] > 0]
    named = proven[proven["layer"].isin([f"api:{way}" for way in _FOR_JOINERS])]
    columns = ("trace_id", "nest", "vantage", "layer", "right_censored")
    return {(_unit(row), row["vantage"], row["layer"]): not row["right_censored"] for row in _records(named, columns)}


def _verdicts(observations: pd.DataFrame) -> pd.Series:
    """The rows that end a join."""
    return (
        _of(observations, Source.JOIN, Operation.VERDICT)
        & ~_is(observations["failure"], Failure.INTENT)
        & observations["received_at"].notna()
    )


def _of(observations: pd.DataFrame, source: Source, operation: Operation) -> pd.Series:
    return _is(observations["source"], source) & _is(observations["operation"], operation)


def _is(values: pd.Series, word: str) -> pd.Series:
    return values.isin([str(word)])


def _unit(row: Mapping[str, Any]) -> str:
    """What timelines group by: the trace, else the nest."""
    return str(row["trace_id"] or row["nest"])


def _records(frame: pd.DataFrame, columns: tuple[str, ...]) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], frame[list(columns)].to_dict("records"))


def _clock(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """Whose clock, for which unit: what an offset belongs to."""
    return _unit(row), str(row["vantage"]), str(row["run_id"])


def _offsets(observations: pd.DataFrame) -> dict[tuple[str, str, str], float]:
    """By clock the offset in seconds with the least error; a stated error is better than none."""
    columns = ("trace_id", "nest", "vantage", "run_id", "clock_offset_s")
    known = observations.loc[observations["clock_offset_s"].notna(), [*columns, "clock_error_s"]]
    least = known.sort_values("clock_error_s", na_position="last")
    best = least.drop_duplicates(["trace_id", "nest", "vantage", "run_id"])
    return {_clock(row): float(row["clock_offset_s"]) for row in reversed(_records(best, columns))}


def _age_s(arrived: int, offset_s: float, origin: Any) -> float:
    if origin is None or pd.isna(origin):
        return float("nan")
    return (int(arrived) - pd.Timestamp(origin).value) / _SECOND - offset_s


def _facts(detail: object) -> dict[str, Any]:
    try:
        facts = json.loads(str(detail))
    except (ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _text(value: object) -> str:
    """The text, without a lone surrogate: JSON carries one, no frame does."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def _number(value: object, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) else otherwise


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows under the columns and dtypes of SCHEMA."""
    made = {}
    for column in SCHEMA:
        values = [row[column.name] for row in rows]
        if column.type == "instant":
            made[column.name] = pd.Series(np.array(values, dtype="M8[ns]")).dt.tz_localize("UTC")
        else:
            made[column.name] = pd.Series(values, dtype=cast(Any, _DTYPES[column.type]))
    return pd.DataFrame(made)


KINDS: Final = tuple(kind.value for kind in Kind)
"""Every verdict a join can have, in the order in which figures list them."""
