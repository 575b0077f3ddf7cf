"""Nests of the fleet's own host key: a vantage finds them on its relays, polls and joins them as their host does.

Nobody tells a vantage what to watch: what the host key signs is the fleet's. So a vantage that comes late, goes, or is
cut off costs only its own rows. The event also says under which trace its host observes the nest (observation/nest.py);
a vantage takes that for its own rows, and so all that a fleet sees of a nest is of one trace, whichever store it is in.

What a stranger's room is spared, these are not: they are made to be joined, their host holds a seat, and the target
that the operator names is where they are, under whatever name.

A vantage's clock may be off, and the host's, too. Where an event comes at an age that is no age of something new, the
polls count from its coming.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from nestobs.collector.fleet.settings import Fleet
from nestobs.collector.lookup import load
from nestobs.collector.polling import CLIENT_LOADS, DEEDS, LEAST_POLLS, RELAY_POLLS, Ask, Plan, arrival_age_s, fit
from nestobs.collector.station import Station
from nestobs.join.policy import Policy, Uniform
from nestobs.nostr import Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest
from nestobs.sources.vantage import Trace

NEW_S: Final = 10.0
"""An event that comes within this after its created_at is new by that, too."""

BACKLOG_S: Final = 300
"""Events this old when a vantage begins are still followed: the host's clock may be behind, and ours ahead."""


def plan(fleet: Fleet, left: int) -> Plan:
    """What one nest gets of so many requests that are left: half of them, since there are few at a time. Raises
    BudgetError where that is too little."""
    wanted = max(fleet.polls, LEAST_POLLS)
    return fit(left // 2 + DEEDS, 1, joins=len(fleet.joiners), horizon_s=fleet.horizon_s, wanted=wanted)


def origin(station: Station, nest: Nest) -> int:
    """What a nest's polls count from, ns UTC on our clock."""
    now = station.clock.now()
    made_at = station.vantage.ours(nest.created_at)
    return made_at if 0 <= now - made_at <= NEW_S * SECOND_NS else now


def asks(
    fleet: Fleet, station: Station, trace: Trace, nest: Nest, found: Plan, *, rng: Uniform
) -> list[tuple[tuple[float, ...], Ask]]:
    """Each question with the ages at which it is asked. found: the plan; without polls the API is not asked."""
    polls, watcher, api = found.polls, Keys.generate(), station.api
    asked: list[tuple[int, Ask]] = [
        (min(RELAY_POLLS, fleet.polls), partial(relay.query, trace, address=nest.address)) for relay in station.relays
    ]
    asked.append((CLIENT_LOADS, partial(load, station, trace, nest.address)))
    if polls:
        asked += [(polls, ask) for ask in (partial(api.info, trace), partial(api.guest, trace))]
        asked.append((polls, partial(api.join, trace, watcher)))
        if station.livekit is not None and station.livekit.lists_rooms:
            asked.append((fleet.polls, partial(station.livekit.rooms, trace)))
    return [(found.ages_s(rng, count), ask) for count, ask in asked]


def arrivals(fleet: Fleet, rng: Uniform) -> list[tuple[float, Keys | None]]:
    """At which age each joiner comes, log-uniform to the middle of the watch, and the keys of who is signed in."""
    return [
        (arrival_age_s(fleet.horizon_s, rng), Keys.generate() if signed_in else None) for signed_in in fleet.joiners
    ]


def fitted(policy: Policy, found: Plan, age_s: float) -> Policy:
    """A policy as somebody who comes at this age runs it."""
    left_s = max(0.0, found.horizon_s - age_s)
    return replace(policy, max_requests=found.join_requests, horizon_s=min(policy.horizon_s, left_s))
