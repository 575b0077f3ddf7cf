"""What faults that begin with a nest make of its plan of delays. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nestobs.lab.delays import Delay
from nestobs.lab.faults.draw import Fault

if TYPE_CHECKING:
    from nestobs.lab.plan import Plan

CACHED_AFTER_S: Final = 1.5
"""A record that shows so late has been asked for before, and a cache holds the 404."""


def shaped(plan: Plan, faults: Collection[Fault]) -> Plan:
    """The plan of a nest with these faults."""
    for fault in faults:
        plan = _shaped(plan, fault)
    return plan


def _shaped(plan: Plan, fault: Fault) -> Plan:  # noqa: PLR0911 - one return per cause
    late_s = fault.for_s
    match fault.cause:
        case "relay_delay":
            return replace(plan, relays=_relays(plan, fault.kind, late_s))
        case "relay_dropped":
            return replace(plan, relays=_relays(plan, fault.kind, None))
        case "api_behind_livekit":
            return _late(plan, late_s)
        case "late_record_made_a_listener":
            return _late(plan, late_s, ("info", "join"))
        case "livekit_behind_api":
            return replace(plan, livekit_s=plus(plan.livekit_s, late_s))
        case "replicas_disagree":
            routes = {name: (*delays, plus(delays[0], late_s)) for name, delays in plan.routes.items()}
            return replace(plan, routes=routes)
        case "negative_cache":
            return _late(plan, CACHED_AFTER_S if late_s is None else min(CACHED_AFTER_S, late_s / 2))
        case "not_begun":
            return replace(plan, livekit_s=None)
        case "age_rule_misled" if fault.kind == "old_clock":
            return _late(plan, late_s)
    return plan


def hit(kind: str, index: int, relays: int) -> bool:
    """Whether a fault of this kind (all, first, last) is at the relay with this index, of so many."""
    return kind == "all" or index == {"first": 0, "last": relays - 1}[kind]


def _relays(plan: Plan, kind: str, late_s: Delay) -> tuple[Delay, ...]:
    count = len(plan.relays)
    return tuple(plus(each, late_s) if hit(kind, index, count) else each for index, each in enumerate(plan.relays))


def _late(plan: Plan, late_s: Delay, routes: Collection[str] = ("info", "join", "guest")) -> Plan:
    late = {name: tuple(plus(each, late_s) for each in plan.routes[name]) for name in routes}
    return replace(plan, routes=plan.routes | late)


def plus(first: Delay, second: Delay) -> Delay:
    """The sum of two delays: never, where one is."""
    return None if first is None or second is None else first + second
