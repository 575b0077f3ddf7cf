"""A policy file as an ES module for web clients, and the vectors by which any client can show that it agrees.

The module (policy.js.in, with the policy and the page's words filled in) is join/decision.py's `next_action` once more,
in the language of the page. Both do the same IEEE 754 operations in the same order, so their numbers agree to the last
bit; the vectors, made by the Python one, hold that for whoever runs them.

What a policy file holds may come from a stranger. In the module it is JSON in ASCII, with `<` escaped: it ends neither
a string, a line of comment, nor a script element.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from importlib.resources import files
from itertools import product
from random import Random
from typing import Any, Final

from nestobs.join.decision import (
    LEAST_S,
    MESSAGES,
    NO_ROOM,
    PACES,
    RELEASED_FAILED,
    SIGN_IN_HINT,
    SURE_S,
    THERE,
    TRYING,
    WAITING,
    Asked,
    Situation,
    answer_to,
    next_action,
    round_cost,
)
from nestobs.join.policy import SEATS, Policy
from nestobs.tuning.policy_file import PolicyFile

ABOUT: Final = (
    "Each state, with the numbers that `random` gives one after the other, has one expected action. States and actions "
    "are those of the ES module that `nestobs policy export --format js` writes; durations and ages are in seconds. "
    "Numbers agree exactly where arithmetic is IEEE 754 double; elsewhere to 1e-12 of their size."
)

State = Mapping[str, Any]
"""A state as the module's nextAction takes it, any of its properties left out."""


def module(file: PolicyFile) -> str:
    """The ES module: `policy` and `nextAction(state, random = Math.random)`. ASCII, no dependencies, no eval."""
    parts = {
        "PROVENANCE": "\n".join(f"// {line}" for line in _provenance(file)),
        "POLICY": _literal(file.policy.as_dict()),
        "MESSAGES": _literal(MESSAGES),
        "WAITING": _literal(WAITING),
        "RELEASED_FAILED": _literal(RELEASED_FAILED),
        "SIGN_IN_HINT": _literal(SIGN_IN_HINT),
        "NO_ROOM": _literal(NO_ROOM),
        "THERE": _literal(THERE),
        "TRYING": _literal(TRYING),
        "PACES": _literal({str(own).lower(): asdict(pace) for own, pace in PACES.items()}),
        "LEAST_S": _literal(LEAST_S),
        "SURE_S": _literal(SURE_S),
    }
    template = (files("nestobs.exports") / "policy.js.in").read_text("utf-8")
    return re.sub("@([A-Z_]+)@", lambda found: parts[found[1]], template)  # one pass: what is filled in is left alone


def vectors(file: PolicyFile) -> str:
    """Conformance vectors as JSON, one a line: every edge of the policy, then 500 random cases; always the same."""
    rng = Random(1)
    states = [*_edges(file.policy), *(random_state(file.policy, rng) for _ in range(500))]
    lines = []
    for state in states:
        numbers = [rng.choice((0.0, 0.5, math.nextafter(1.0, 0.0), rng.random())) for _ in range(2)]
        vector = {"state": state, "random": numbers, "expected": expected(file.policy, state, numbers)}
        lines.append(json.dumps(vector, allow_nan=False))
    head = {"nestobs_policy_vectors": 1, "about": ABOUT, "policy": file.policy.as_dict()}
    return json.dumps(head, allow_nan=False)[:-1] + ', "vectors": [\n' + ",\n".join(lines) + "\n]}\n"


def expected(policy: Policy, state: State, numbers: Iterable[float]) -> dict[str, Any]:
    """What nextAction answers to `state`, by Python's own decision; `numbers` are those that `random` gives."""
    action = next_action(policy, _situation(policy, state), _Numbers(numbers))
    return {
        "action": action.do,
        "waitSeconds": action.wait_s,
        "kind": action.kind,
        "message": action.message,
        "retryOffered": action.retry_offered,
    }


def random_state(policy: Policy, rng: Random) -> dict[str, Any]:
    """A state that a client could be in, near the edges of the policy more often than not, with properties left out."""
    spread = rng.choice((1.0, 10.0, 1e3, 1e9))
    ages = [*_around(policy.message_threshold_s), *_around(policy.give_up_age_s), spread * (rng.random() - 0.3)]
    fits = policy.max_requests - round_cost(policy, True)
    state = {
        "signedIn": rng.random() < 0.5,
        "ageSeconds": rng.choice([None, *ages]),
        "elapsedSeconds": rng.choice((0.0, policy.horizon_s, rng.random() * policy.horizon_s, spread * rng.random())),
        "asked": rng.choice((None, "info", "join", "guest", "guest", "connect")),
        "status": rng.choice((None, 0, 200, 204, 302, 400, 401, 403, 404, 404, 404, 404, 429, 429, 500, 503)),
        "polls": rng.choice((0, 1, 2, 3, 5, 17, 60, 9_999)),
        "requests": rng.choice((0, 1, fits, fits + 1, rng.randrange(policy.max_requests + 1))),
        "errorRetries": rng.choice((0, 0, 1, max(0, policy.error_retries - 1), policy.error_retries)),
        "retryAfterSeconds": rng.choice((None, None, -1.0, 2.5, policy.horizon_s, spread * rng.random())),
        "infoActive": rng.random() < 0.5,
        "infoActiveSeconds": rng.choice((None, 0.0, *_dwells(policy), spread * rng.random())),
        "roomThere": rng.choice((None, None, False, True, True)),
        "roomThereSeconds": rng.choice((0.0, *_dwells(policy), spread * rng.random())),
        "roomMadeSeconds": rng.choice((None, -1.0, *_dwells(policy), spread * rng.random())),
        "host": rng.random() < 0.2,
        "timedOut": rng.random() < 0.5,
    }
    if _chooses_seats(policy):
        state["ageSeconds"] = rng.choice((state["ageSeconds"], *_around(policy.fallback_age_s)))
        state["polls"] = rng.choice((state["polls"], policy.fallback_tries - 1, policy.fallback_tries))
        state["upgrades"] = rng.choice((None, None, 0, max(0, policy.upgrades - 1), policy.upgrades))
    return {name: value for name, value in state.items() if rng.random() < 0.9}


def _edges(policy: Policy) -> Iterator[dict[str, Any]]:
    """The states on either side of each of the policy's bounds."""
    thresholds = (policy.message_threshold_s, policy.give_up_age_s, *(age for age, _ in policy.schedule.table[:20]))
    ages = (None, -1.0, 0.0, 1e6, *(edge for age in thresholds for edge in _around(age)))
    ends = [(asked, status) for asked in ("info", "join", "guest", "connect") for status in _STATUSES]
    for signed_in in (False, True):
        base: dict[str, Any] = {"signedIn": signed_in, "ageSeconds": 1.0, "asked": "guest", "status": 404, "polls": 1}
        for asked, status in [(None, None), *ends]:
            for age, info_active in product((None, 1.0, 1e6), (False, True)):
                edge = base | {"ageSeconds": age, "asked": asked, "status": status, "infoActive": info_active}
                yield from (edge, edge | {"host": True, "timedOut": True}, edge | {"timedOut": True})
        yield from (base | {"ageSeconds": age} for age in ages)
        yield from (base | {"polls": polls} for polls in (2, 3, 4, 10, 100))
        fits, last_retry = policy.max_requests - round_cost(policy, signed_in), max(0, policy.error_retries - 1)
        for status, requests, errors in product((404, 503), (fits, fits + 1), (0, 1, last_retry, policy.error_retries)):
            yield base | {"status": status, "requests": requests, "errorRetries": errors}
        for age, elapsed in product((None, 1.0), (*_around(policy.give_up_age_s), *_around(policy.horizon_s))):
            yield base | {"ageSeconds": age, "elapsedSeconds": elapsed}
        for asked, after in product(
            ("info", "guest"), (-1.0, 0.0, 0.5, 1.5, 2.5, *_around(policy.horizon_s), 1e6, 1e9)
        ):
            yield base | {"asked": asked, "status": 429, "retryAfterSeconds": after}
        yield from _fault_edges(policy, base)
        yield from _seat_edges(policy, base) if _chooses_seats(policy) else ()
    yield from (
        {},
        {"ageSeconds": 1.0},
        {"ageSeconds": 1.0, "polls": 1, "status": 404},
        {"polls": 9_999, "status": 404},
    )


def _fault_edges(policy: Policy, base: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The states on either side of what is called a fault, and of the first round that asks /info."""
    ends = ({"infoActive": False}, {"infoActive": True})
    ages = (None, 0.5, 1.5, 50.0, 119.0)
    for end, age, active, there in product(ends, ages, sorted(set(_dwells(policy))), (None, False, True)):
        born = {"ageSeconds": None if age is None else age + active}
        at = base | end | born | {"infoActiveSeconds": active, "roomThere": there, "polls": 3}
        yield at | {"roomThereSeconds": active}
        yield at | {"roomThereSeconds": active, "ageSeconds": None, "roomMadeSeconds": born["ageSeconds"]}
        if there:
            yield at | {"roomThereSeconds": math.nextafter(SURE_S, 0.0)}
    for polls in (policy.info_from - 1, policy.info_from):
        yield base | {"asked": None, "status": None, "polls": max(0, polls - 1)}


def _chooses_seats(policy: Policy) -> bool:
    """Whether it does otherwise than today about a guest's seat. The vectors of one that does not are as ever."""
    return any(getattr(policy, name) != now for name, now in SEATS.items())


def _seat_edges(policy: Policy, base: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The states on either side of the fall-back, and of the last try for a seat of one's own."""
    tries = (policy.fallback_tries - 1, policy.fallback_tries)
    for age, polls in product((None, -1.0, 0.0, *_around(policy.fallback_age_s)), tries):
        yield base | {"asked": "join", "ageSeconds": age, "polls": polls}
        yield base | {"asked": "join", "ageSeconds": age, "polls": polls, "requests": policy.max_requests}
    for made, asked, status in product(
        (0, max(0, policy.upgrades - 1), policy.upgrades), ("info", "join", "guest", "connect"), _STATUSES
    ):
        yield base | {"upgrades": made, "asked": asked, "status": status}
        yield base | {"upgrades": made, "asked": None, "status": None}


def _dwells(policy: Policy) -> tuple[float, ...]:
    after_s, listed_s = policy.fault_after_s, policy.fault_listed_s
    bounds = [SURE_S, LEAST_S, *(pace.most_s for pace in PACES.values())]
    bounds += [] if after_s is None else [pace.longer * after_s for pace in PACES.values()]
    bounds += [] if listed_s is None else [listed_s]
    return tuple(edge for bound in bounds for edge in _around(bound))


_STATUSES: Final = (0, 200, 302, 400, 401, 403, 404, 429, 500)


def _around(value: float) -> tuple[float, ...]:
    """The value and its neighbours, of which none is negative."""
    return max(0.0, math.nextafter(value, -math.inf)), float(value), math.nextafter(value, math.inf)


def _situation(policy: Policy, state: State) -> Situation:
    """The state with its properties completed as the module's `complete` does."""
    given = {name: value for name, value in state.items() if value is not None}
    signed_in, status, polls = given.get("signedIn", False), given.get("status"), given.get("polls", 0)
    asked: Asked = given.get("asked", "") if "asked" in state or status is None else "guest"
    return Situation(
        signed_in=signed_in,
        age_s=given.get("ageSeconds"),
        elapsed_s=given.get("elapsedSeconds", 0.0),
        asked=asked,
        answer=answer_to(asked, status),
        polls=polls,
        requests=given.get("requests", polls * round_cost(policy, signed_in)),
        errors=given.get("errorRetries", 0),
        retry_after_s=given.get("retryAfterSeconds"),
        info_active=given.get("infoActive", False),
        active_s=given.get("infoActiveSeconds"),
        room_there=given.get("roomThere"),
        there_s=given.get("roomThereSeconds", 0.0),
        made_s=given.get("roomMadeSeconds"),
        host=given.get("host", False),
        timed_out=given.get("timedOut", False),
        upgrades=given.get("upgrades"),
    )


class _Numbers:
    """The given numbers, one after the other."""

    def __init__(self, numbers: Iterable[float]) -> None:
        self._numbers = iter(numbers)

    def random(self) -> float:
        return next(self._numbers)


def _provenance(file: PolicyFile) -> Iterator[str]:
    """Lines of the header. Texts are JSON, so that none of them ends its line."""
    made = file.provenance
    yield f"policy   {_literal(file.policy.name)}"
    yield f"window   {_literal(made.window_start)} to {_literal(made.window_end)}"
    yield f"nests    {made.n}, of which {made.n_censored} were never seen"
    yield f"store    {_literal(made.store_digest)}"
    yield f"nestobs  {_literal(made.nestobs)}, {_literal(made.made_at)}"
    for name, ends in file.intervals.items():
        yield f"interval {name} {_literal(ends)}"
    for note in file.notes:
        yield f"note     {_literal(note)}"


def _literal(value: object) -> str:
    """A value as an expression of JavaScript: JSON in ASCII that holds no `<`."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")
