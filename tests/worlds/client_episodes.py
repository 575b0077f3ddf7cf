"""Whole joins in a made-up world, for clients in another language: what join_flow does in it, step by step."""

from __future__ import annotations

import random
from dataclasses import replace

from nestobs.join.flow import Guest, Info, Join, Load, Media, Reply, Signal, Stay, Wait, join_flow
from nestobs.join.policy import GUIDE, Policy, Schedule, fixed, standard_policies
from nestobs.nostr import Address
from nestobs.observation.nest import Nest
from nestobs.observation.schema import Failure, Operation, Outcome
from nestobs.sources.api import judge

S = 1_000_000_000
ARRIVED = 1_700_000_000 * S
TUNED = Policy(
    name="tuned",
    schedule=Schedule("table", table=((0.0, 0.3), (7.25, 1.1), (20.1, 3.7), (45.0, 11.0))),
    jitter=0.2,
    message_threshold_s=24.618,
    give_up_age_s=61.3,
    horizon_s=90.1,
    max_requests=35,
    error_retries=4,
    error_gap_s=0.7,
    connect_attempts=3,
    info_from=2,
    fault_after_s=33.3,
    fault_listed_s=7.7,
)
PATIENT = replace(GUIDE, name="patient", error_retries=5_000, error_gap_s=0.0, max_requests=10_000, horizon_s=1e6)
CHOOSY = replace(TUNED, name="choosy", fallback_age_s=12.3, fallback_tries=3, upgrades=7)
ASKS_ON = replace(fixed(1.5), name="asks on", upgrades=3)
STANDARD = {**standard_policies(), "tuned": TUNED, "patient": PATIENT, "choosy": CHOOSY, "asks on": ASKS_ON}


def random_policy(rng):
    kind = rng.choice(["none", "fixed", "exponential", "full_jitter", "table"])
    ages = sorted({round(rng.random() * 60, rng.randrange(16)) for _ in range(rng.randrange(1, 12))})
    return Policy(
        name="random",
        ask_info=rng.random() < 0.5,
        fallback=rng.choice([(), (404,)]),
        schedule=Schedule(
            kind,
            interval_s=rng.random() * rng.choice([0.1, 1, 10]) + 1e-6,
            factor=rng.choice([0, 0.5, 1, 1 + rng.random(), 3, 1e6 * rng.random()]),
            cap_s=rng.random() * 40,
            table=tuple((age, rng.random() * 10 + 1e-3) for age in ages) if kind == "table" else (),
        ),
        jitter=rng.choice([0.0, 0.2, rng.random()]),
        message_threshold_s=rng.random() * 60,
        give_up_age_s=rng.random() * 60,
        horizon_s=rng.choice([0, 60, rng.random() * 1e6, 1e6]),
        max_requests=rng.randrange(3, 100),
        error_retries=rng.randrange(12),
        error_gap_s=rng.random() * 3,
        connect_attempts=rng.randrange(1, 4),
        load_cutoff_s=rng.choice([None, None, 1.5]),
        wording=rng.choice(["guide", "released"]),
        info_from=rng.choice([1, 1, 2, 3]),
        fault_after_s=rng.choice([None, rng.random() * 60, rng.random() * 5, 0.0]),
        fault_listed_s=rng.choice([None, rng.random() * 30]),
        fallback_age_s=rng.choice([0.0, 0.0, rng.random() * 40]),
        fallback_tries=rng.choice([1, 1, 2, 5]),
        upgrades=rng.choice([0, 0, 1, 4, 30]),
    )


RANDOM = {f"random {seed}": random_policy(random.Random(seed)) for seed in range(40)}
ALL = STANDARD | RANDOM


MOODS = [
    [404],
    [404, 200],
    [404, 404, 404, 200],
    [404, 404, 503, 429, 0],
    [404, 200, 401, 403, 400, 500, 0, 429],
]


def random_episode(rng):
    """A nest and a world that answers in turn: mostly 404 for a while, then anything; or one that is faulty."""
    mood = rng.choice(MOODS)
    return {
        "signedIn": rng.random() < 0.5,
        "host": rng.random() < 0.2,
        "ageNs": rng.choice([None, 0, -5 * S, rng.randrange(90 * S), rng.randrange(90) * S]),
        "statuses": [rng.choice(mood) for _ in range(300)],
        "retryAfter": rng.choice([None, 0, 1, 2.5, 30, 1e9]),
        "given": [rng.random() for _ in range(300)],
        "faulty": rng.random() < 0.3,
        "witness": rng.choice([[None], [True], [False, None, True, True, True, True, True], [False]]),
    }


def followed(policy, episode, *, took=S // 10, timeouts=False):
    """join_flow driven by the world of an episode, with nobody at the buttons, which are not the module's to press: its
    log as the client writes it, and the verdict.

    took: of a request, ns. timeouts: what is not answered takes as long as the policy waits for it.
    """
    age, drawn, statuses = episode["ageNs"], Drawn(episode["given"]), iter(episode["statuses"])
    nest = None if age is None else born(ARRIVED - age)
    facts = {"arrived_at": ARRIVED, "rng": drawn, "nest": nest, "host": episode["host"]}
    flow = join_flow("room", episode["signedIn"], replace(policy, person=None), **facts)
    log, now, connected, made = [], ARRIVED, None, 0
    try:
        step = next(flow)
        while True:
            reply = Reply(now, Outcome.VISIBLE, nest=nest)
            if isinstance(step, Wait):
                log.append(["wait", step.until - now])
                reply = Reply(step.until, Outcome.VISIBLE)
            elif isinstance(step, Signal):
                connected = next(statuses) if connected is None else connected
                log.append(["signal", connected])
                silent = timeouts and signalled(connected)[2] is Failure.TIMEOUT
                reply = Reply(now + silent * round(policy.connect_timeout_s * S), *signalled(connected))
            elif isinstance(step, Info | Join | Guest):
                faulty = 200 if isinstance(step, Info) else 404
                status, connected = faulty if episode["faulty"] else next(statuses), None
                log.append([type(step).__name__.lower(), status])
                now += round(policy.request_timeout_s * S) if timeouts and status == 0 else took
                made += 1
                witness = episode["witness"][made % len(episode["witness"])]
                reply = replace(answered(step, now, status, episode["retryAfter"]), room_there=witness)
            else:
                assert isinstance(step, Load | Media | Stay)
            now = reply.at
            step = flow.send(reply)
    except StopIteration as ended:
        return log, ended.value


class Drawn:
    def __init__(self, numbers):
        self._numbers = iter(numbers)

    def random(self):
        return next(self._numbers)


def born(at):
    return Nest(
        address=Address(30312, "ab" * 32, "room"),
        event_id="cd" * 32,
        created_at=at,
        first_created_at=at,
        name="A nest",
        status="open",
        service="https://api.example",
        streaming="wss+livekit://livekit.example",
        host="ab" * 32,
        relays=(),
    )


YES = {"host": "ab" * 32, "speakers": [], "token": "t"}
"""What an API that grants a request says, be it to /info or to a join."""

NO = {"error": "Nest not found"}


def answered(step, now, status, retry_after_s):
    """The reply that the API source makes of such an answer."""
    if status == 0:
        return Reply(now, Outcome.UNKNOWN, None, Failure.TIMEOUT)
    operation = Operation(type(step).__name__.lower())
    outcome, failure, _, _ = judge(operation, status, {}, YES if status == 200 else NO)
    after = retry_after_s if status == 429 else None
    return Reply(now, outcome, status or None, failure, token="t", retry_after_s=after)


def signalled(status):
    """Outcome, status and failure as the LiveKit source has them."""
    known = {
        200: (Outcome.VISIBLE, 200, None),
        404: (Outcome.ABSENT, 404, Failure.NOT_FOUND),
        401: (Outcome.REFUSED, 401, Failure.UNAUTHORISED),
        403: (Outcome.REFUSED, 403, Failure.FORBIDDEN),
    }
    return known.get(status, (Outcome.UNKNOWN, status or None, Failure.TIMEOUT))
