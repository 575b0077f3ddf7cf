"""How well causes were named: shares, confusions, and whether a confidence means what it says. Printed, and as JSON."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SURE = 0.9
TARGETS = {False: 0.98, True: 0.90}
"""Of single and of double faults, the share that is to be named right."""

ALARMS = frozenset({"api_join_fault", "api_fault"})
"""What nothing heals, and what a race must not be called."""

_JOINS = {"duplicate_identity", "media_blocked", "bad_token", "wrong_room_token"}
_ROOMS = {"room_expired", "ended_by_departure", "restart_window", "livekit_behind_api"}
_RACES = {"api_behind_livekit", "late_record_made_a_listener", "replicas_disagree", "negative_cache"}
_SIGNED = {"auth_clock_skew", "auth_rejected", "forbidden"}
_DOOR = {"wrong_door", "api_down", "rate_limited"}
_DEEDS = {"deleted", "restart_without_effect"}
_EVENTS = {"closed_by_host", "withdrawn"}
_UNREAD = {"not_begun", "age_rule_misled"}
HIDES: dict[str, set[str]] = {
    # the API and LiveKit are asked for a room that there is not
    "room_id_mismatch": {*_JOINS, *_ROOMS, *_RACES, *_SIGNED, *_DOOR, "api_join_fault"},
    "not_begun": {*_JOINS, *_ROOMS, "api_join_fault", "late_record_made_a_listener"},
    # nobody gets as far as a seat, or not signed in; and what a host asks for is refused as well
    "api_join_fault": _JOINS,
    "bad_token": {"duplicate_identity", "media_blocked"},
    "wrong_room_token": {"duplicate_identity", "media_blocked"},
    "forbidden": {"duplicate_identity"},
    "auth_rejected": {"duplicate_identity", *_DEEDS},
    "auth_clock_skew": {"duplicate_identity", *_DEEDS},
    "wrong_door": {*_JOINS, *_DEEDS},
    "api_down": {*_JOINS, *_DEEDS},
    "rate_limited": {*_JOINS, *_DEEDS},
    "livekit_down": {*_JOINS, "restart_without_effect"},
    "livekit_unreachable": {"restart_without_effect"},
    "deleted": _JOINS,
    # a copy of a 404 is all that anybody gets
    "negative_cache": _JOINS,
    # no relay takes the edit
    "relay_rejected": _EVENTS,
    # ... or nobody reads what the event says of beginning and age
    "relay_unreachable": {*_EVENTS, *_UNREAD},
    "relay_wants_auth": {*_EVENTS, *_UNREAD},
}
"""Cause -> those that nobody meets while it lasts, so that nothing could tell of them: they need not be listed."""

OTHERWISE = ("joined", "undetermined")
"""What may be named where nothing was wrong."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One nest. known: the causes that were in force. kinds: in which form, by cause. named: causes with confidence,
    the first first. said: the line for people."""

    room: str
    known: tuple[str, ...]
    kinds: Mapping[str, str]
    named: tuple[tuple[str, float], ...]
    said: str

    @property
    def first(self) -> str:
        return self.named[0][0] if self.named else "nothing"

    @property
    def confidence(self) -> float:
        return self.named[0][1] if self.named else 0.0

    @property
    def first_right(self) -> bool:
        return self.first in self.known if self.known else self.first in OTHERWISE

    @property
    def right(self) -> bool:
        """The first is a cause of the nest, and all of them are listed that another does not hide."""
        return self.first_right and not self.unlisted - self.hidden

    @property
    def hidden(self) -> set[str]:
        """Causes that another hides."""
        return {cause for cause in self.known for other in self.known if cause in HIDES.get(other, ())}

    @property
    def unlisted(self) -> set[str]:
        """Causes of the nest that are not named at all."""
        return set(self.known) - {cause for cause, _ in self.named}

    @property
    def confidently_wrong(self) -> bool:
        return self.confidence >= SURE and not self.first_right

    @property
    def alarm(self) -> bool:
        """Whether a standing fault of the API is held likelier than not, though there is none."""
        named = {cause for cause, confidence in self.named if confidence > 0.5}
        return bool(named & ALARMS) and not set(self.known) & ALARMS

    @property
    def label(self) -> str:
        return " + ".join(self.known) or "joined"


def score(found: Sequence[Outcome], *, doubles: bool, left_out: int) -> tuple[dict[str, Any], bool]:
    """The table as JSON data, printed as text, and whether the targets are met. left_out: nests that were not made, or
    that we held up ourselves."""
    right, first = sum(one.right for one in found), sum(one.first_right for one in found)
    wrong, alarms = [one for one in found if one.confidently_wrong], [one for one in found if one.alarm]
    table: dict[str, Any] = {
        "nests": len(found),
        "left_out": left_out,
        "first_named_right": first,
        "right": right,
        "all_listed": sum(one.first_right and not one.unlisted for one in found),
        "hidden": sum(bool(one.hidden) for one in found),
        "confidently_wrong": len(wrong),
        "false_alarms": len(alarms),
        "by_cause": by_cause(found),
        "confusion": confusion(found),
        "reliability": reliability(found),
        "wrong": [
            {
                "truth": one.label,
                "kinds": dict(one.kinds),
                "named": [list(pair) for pair in one.named],
                "said": one.said,
                "room": one.room,
            }
            for one in found
            if not one.right
        ],
    }
    count = max(1, len(found))
    print(
        f"first named right: {first}/{len(found)} = {first / count:.1%}; and all listed: {right}/{len(found)}"
        f" = {right / count:.1%} (target {TARGETS[doubles]:.0%}); left out: {left_out}"
    )
    print(f"of {table['hidden']} nests one cause hides the other; with those: {table['all_listed']}/{len(found)}")
    print(f"confidently wrong: {len(wrong)}; false alarms of {', '.join(sorted(ALARMS))}: {len(alarms)}")
    for label, row in table["by_cause"].items():
        print(f"  {label:<48} {row['right']:>4}/{row['n']}" + (f"   {row['instead']}" if row["instead"] else ""))
    print("confidence: nests, share right")
    for row in table["reliability"]:
        print(f"  {row['from']:.1f} to {row['to']:.1f}: {row['n']:>5} {row['right']:.3f} (mean {row['mean']:.3f})")
    for one in alarms[:20]:
        print(f"  false alarm: {one.label}: {one.named}: {one.said[:200]}")
    for one in wrong[:20]:
        print(f"  confidently wrong: {one.label} was called {one.first} ({one.confidence:.2f}): {one.said[:200]}")
    judged = (right if doubles else first) / count >= TARGETS[doubles]
    table["alarmed_within"] = bool(found) and len(alarms) <= math.floor(len(found) / 1000)
    passed = judged and not wrong and table["alarmed_within"]
    return table, passed


def by_cause(found: Sequence[Outcome]) -> dict[str, Any]:
    """For each truth how many, how many right, and what was named instead."""
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for one in found:
        groups[one.label].append(one)
    return {
        label: {
            "n": len(group),
            "first": sum(one.first_right for one in group),
            "right": sum(one.right for one in group),
            "instead": dict(Counter(_instead(one) for one in group if not one.right).most_common(4)),
        }
        for label, group in sorted(groups.items())
    }


def _instead(one: Outcome) -> str:
    if not one.first_right:
        return f"{one.first} ({one.confidence:.2f})"
    return "without " + ", ".join(sorted(one.unlisted - one.hidden))


def confusion(found: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Truth -> first named -> how many."""
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for one in found:
        table[one.label][one.first] += 1
    return {label: dict(row.most_common()) for label, row in sorted(table.items())}


def reliability(found: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Of the first named, by tenths of its confidence: how many, and the share that was right."""
    rows = []
    for tenth in range(10):
        low, high = tenth / 10, (tenth + 1) / 10
        group = [one for one in found if low <= one.confidence < high or (tenth == 9 and one.confidence == 1.0)]
        if group:
            share = sum(one.first_right for one in group) / len(group)
            mean = sum(one.confidence for one in group) / len(group)
            rows.append({"from": low, "to": high, "n": len(group), "right": share, "mean": mean})
    return rows
