"""Proof: a policy and today's rule against the same fresh nests in a lab, with real joins, side by side.

Replay says what a policy would have done on nests that were recorded. Here it does it. At each nest one joiner for
each policy arrives at the same instant, a stranger to the others, and joins for real: API, LiveKit's signalling, a
stay in the room. Media is left out: the RTC library costs .13 s of processor a connection, and no policy decides on
it. The policies run as they are written, each nest is watched until the last of them has ended.

The two are compared by pairs, two joins of one nest at one instant: how they differ, in what a join costs in all and in
each part of that, beside what replay predicted of such pairs. Did the change help? One sentence answers, or says that
there were too few nests to tell. A prediction that cannot fail proves nothing: where nobody says how many nests, there
are so many that it would fail, if the change did nothing, with a chance of pairs.POWER, as far as time allows.

What came of each policy by itself, by replay's own definitions, stands beside the interval in which so many fresh joins
should fall. So a join is lost here, as in replay, though its nest came after all had left: a report on the same store,
where nobody is taken to be more patient than the joiners were, may count fewer.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd

from nestobs.collector.canary import Campaign, Progress, Report, run, silent
from nestobs.collector.loop.pace import Pace
from nestobs.collector.polling import HORIZON_S
from nestobs.collector.station import Target
from nestobs.config import Config
from nestobs.diagnosis.diagnose import with_standing
from nestobs.errors import UsageError
from nestobs.estimate.pairs import needed
from nestobs.join.budget import Budget
from nestobs.join.policy import MANUAL_RETRY, Policy
from nestobs.observation.columns import dicts_of
from nestobs.observation.detail import finite
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.text import percent
from nestobs.sources.clock import Clock
from nestobs.store.files import write
from nestobs.store.reader import Store
from nestobs.timeline.delays import round_trip_s
from nestobs.timeline.intervals import timelines
from nestobs.timeline.uptime import MOST_HELD_UP, Observer, observer
from nestobs.trial.lab_process import empty, listed, running_lab
from nestobs.tuning.costs import Prices
from nestobs.tuning.policy_file import PolicyFile
from nestobs.tuning.prediction import HELPED, PAIRED, POWER_WORDS, cells, helped, number_of, outcomes, paired, span
from nestobs.tuning.replay import COST, PRICES
from nestobs.tuning.simulation import PATIENCE_S

ARRIVALS: Final = tuple((number + 0.5) * 30.0 / 32 for number in range(32))
"""Ages evenly from 0 to 30 s, in which today's client retries: what replay takes when nobody said otherwise."""

STAGGER_S: Final = 0.4819
"""Between the starts of two nests. With less, two cores could not keep to the plan; and no part of a second, since
created_at is whole seconds and nests must not all begin at the same fraction of one."""

POLLS: Final = 20
RELAY_POLLS: Final = 2
SLACK_S: Final = 3.0
"""What requests and signalling of a join may take beside its waits and its stay."""

WITHIN_S: Final = 300.0
"""How long a proof may take where nobody says how many nests."""

LEAST: Final = 30
"""So many nests at least then, of WITHIN_S permitting."""

AROUND_S: Final = 25.0
"""What starting the lab, cleaning and counting take beside the joins."""

NAMED: Final = 4
"""So many deployments are named."""

LONGEST_S: Final = 1800.0
"""The longest watch of a nest; a file may come from a stranger, and ask for days."""

VERDICTS: Final = (*HELPED, "not_judged", "not_compared")
_HELD_UP: Final = "the observer was held up in {} of its polls"

MADE: Final = frozenset({"lab", "store", "proof.json"})
"""What a proof leaves in its folder."""


@dataclass(frozen=True)
class Proof:
    """What was predicted and what came. nests: those made. livekit: kind and version. policies: today's rule first.
    verdicts: of all joins, by kind. round_trip_s: of the joins' API requests; a lab much slower than what was tuned on
    delays joins by as much. left: sentences about what was not deleted. problem: why it is not as it should be, in a
    sentence. wall_s: how long it took. held_up: share of the polls in which the observer was; above MOST_HELD_UP
    nothing is judged. cells: as prediction.cells. window: when the first join began and the last one ended, ISO 8601,
    UTC; empty: none did. paired: as prediction.paired, empty where there was one policy only. verdict: did the change
    help? One of VERDICTS, and a sentence. power: why so many nests, a sentence. elsewhere: that the policy was tuned on
    other nests than these, a sentence; empty where it was not. observer: the state of who observed."""

    scenario: str
    seed: int
    nests: int
    livekit: Mapping[str, str]
    policies: tuple[Policy, ...]
    verdicts: Mapping[str, int]
    round_trip_s: float
    left: tuple[str, ...]
    wall_s: float
    cells: pd.DataFrame = field(repr=False)
    held_up: float = 0.0
    problem: str = ""
    window: tuple[str, ...] = ()
    paired: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(PAIRED)).astype(PAIRED), repr=False)
    verdict: tuple[str, str] = ("", "")
    power: str = ""
    elsewhere: str = ""
    observer: Observer = field(default_factory=Observer)

    @property
    def share_inside(self) -> float | None:
        """Of the cells that were predicted, those inside; None where none was."""
        judged = self.cells["inside"].dropna()
        return float(judged.mean()) if len(judged) else None

    def as_dict(self) -> dict[str, Any]:
        """JSON data. A policy's own METRICS are the realised ones; None for what is not finite."""
        return {
            "scenario": self.scenario,
            "seed": self.seed,
            "nests": self.nests,
            "livekit": dict(self.livekit),
            "media": False,
            "window": list(self.window),
            "round_trip_s": self.round_trip_s,
            "verdicts": dict(self.verdicts),
            "policies": [_told(policy.name, self._rows(policy)) for policy in self.policies],
            "share_inside": self.share_inside,
            "verdict": {"kind": self.verdict[0], "said": self.verdict[1]},
            "paired": [{name: _plain(value) for name, value in row.items()} for row in dicts_of(self.paired)],
            "power": self.power,
            "elsewhere": self.elsewhere,
            "leaks": {"left": len(self.left), "which": list(self.left)},
            "held_up": self.held_up,
            "observer": self.observer.as_dict(),
            "wall_s": self.wall_s,
        }

    def _rows(self, policy: Policy) -> list[dict[str, Any]]:
        return dicts_of(self.cells[self.cells["policy"] == policy.name])

    def lines(self) -> list[str]:
        """For a terminal: how the observer was, where that matters; whether the change helped; the pairs and the cells
        as tables; how many cells are inside."""
        head = f"{'policy':<18}{'metric':<20}{'predicted':>10}{'95 % of so many':>19}{'realised':>10}{'n':>6}"
        judged = self.cells["inside"].dropna()
        said = f"{int(judged.sum())} of {len(judged)} cells inside" if len(judged) else "the file predicts nothing"
        if self.held_up > MOST_HELD_UP:
            said = f"not judged: {_HELD_UP.format(percent(self.held_up))}"
        kind = "a stand-in for LiveKit" if self.livekit["kind"] == "stand-in" else f"LiveKit {self.livekit['version']}"
        joined = f"{self.nests} fresh nests of {self.scenario}, real joins without media, {kind}"
        left = [f"left behind: {sentence}" for sentence in self.left]
        first = [*filter(None, (self.observer.words, self.verdict[1], self.elsewhere)), *self._pairs()]
        rest = [head, *(_line(row) for row in dicts_of(self.cells)), f"{said}; {joined}", *filter(None, [self.power])]
        return [*first, *rest, *left]

    def _pairs(self) -> list[str]:
        if self.paired.empty:
            return []
        title = f"{self.policies[-1].name} less {self.policies[0].name}"
        head = f"{title:<38.37}{'predicted':>10}{'95 % of so many':>19}{'realised':>10}{'95 %':>19}{'n':>6}"
        return [head, *(_pair_line(row) for row in dicts_of(self.paired)), ""]


def _line(row: Mapping[str, Any]) -> str:
    told = not pd.isna(row["inside"])
    interval = f"{row['lower']:.3f} to {row['upper']:.3f}" if told else ""
    value = "" if math.isnan(row["value"]) else f"{row['value']:.3f}"
    mark = "  outside" if told and not row["inside"] else ""
    words = f"{row['policy']:<18.17}{row['metric']:<20}{value:>10}{interval:>19}"
    return f"{words}{row['realised']:>10.3f}{row['n']:>6}{mark}"


def _pair_line(row: Mapping[str, Any]) -> str:
    predicted = "" if math.isnan(row["value"]) else f"{row['value']:+.3f}"
    expected, came = (
        f"{row[low]:+.3f} to {row[high]:+.3f}" if math.isfinite(row[high]) else ""
        for low, high in (("lower", "upper"), ("realised_lower", "realised_upper"))
    )
    mark = "  outside" if not pd.isna(row["inside"]) and not row["inside"] else ""
    realised = "" if math.isnan(row["realised"]) else f"{row['realised']:+.3f}"
    return f"{row['metric']:<38}{predicted:>10}{expected:>19}{realised:>10}{came:>19}{row['n']:>6}{mark}"


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else finite(value) if isinstance(value, float) else value


def _told(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": name,
        **{row["metric"]: finite(row["realised"]) for row in rows},
        "predicted": {row["metric"]: {end: finite(row[end]) for end in ("value", "lower", "upper")} for row in rows},
        "realised": {
            row["metric"]: {
                "value": finite(row["realised"]),
                "error_s": finite(row["error_s"]),
                "n": row["n"],
                "inside": None if pd.isna(row["inside"]) else bool(row["inside"]),
            }
            for row in rows
        },
    }


async def prove(
    file: PolicyFile,
    scenario: str,
    nests: int | None,
    out: Path,
    *,
    within_s: float = WITHIN_S,
    seed: int = 2,
    today: Policy = MANUAL_RETRY,
    arrivals: Sequence[float] | None = None,
    horizon_s: float = HORIZON_S,
    progress: Progress = silent,
    pace: Pace | None = None,
) -> Proof:
    """Run the file's policy and today's rule on `nests` fresh nests of a lab's scenario, one join each; the proof.

    What was observed is kept in `out/store`, the proof in `out/proof.json`; `out` is made anew. nests: None: so many
    that what the file predicts of the difference could fail, as many as `within_s` seconds allow at most. seed: of
    delays, arrivals and jitter; not that of the nests it was tuned on. arrivals: ages at which people come, each as
    likely; None: those that the file was tuned for, or ARRIVALS where it does not say. horizon_s: how long each nest is
    watched, as long as those it was tuned on, and longer where a policy takes longer. pace: shared with what else runs
    in this event loop. Interrupted, what was made is deleted.

    Raises UsageError for words it cannot use, LabFailedError with what the lab says of an unknown scenario.
    """
    policies, predicted = beside(today, file)
    ages = (file.provenance.arrivals_s or ARRIVALS) if arrivals is None else arrivals
    campaign = _planned(1 if nests is None else nests, policies, ages, horizon_s)
    many, why = (nests, "") if nests is not None else enough(file, today, within_s - AROUND_S - campaign.horizon_s)
    campaign = replace(campaign, count=many)
    clock = Clock()
    started_at = clock.now()
    empty(out, MADE, "an earlier proof")
    store = Store.open(out / "store")
    async with running_lab(out / "lab", [scenario], seed=seed, vantages=1) as info:
        name = next(iter(info["scenarios"]))
        progress("lab", {"said": _words(info, name, policies)})
        if why:
            progress("proof", {"said": why})
        config = Config(out / "lab" / "nestobs.toml")
        report = await _campaign(config, name, campaign, store, seed, pace or Pace(), progress)
    progress("proof", {"said": "the lab has ended; setting predicted beside realised"})
    observations = await asyncio.to_thread(store.frame)
    found = await asyncio.to_thread(_judged, file, today, policies, predicted, observations)
    proof = Proof(
        scenario=name,
        seed=seed,
        nests=report.made,
        livekit=info["livekit"],
        policies=policies,
        verdicts=dict(report.verdicts),
        left=tuple(report.left),
        problem=report.problem(),
        wall_s=round((clock.now() - started_at) / SECOND_NS, 1),
        power=why,
        elsewhere=elsewhere(file, name),
        **found,
    )
    write(out / "proof.json", json.dumps(proof.as_dict(), indent=2) + "\n")
    return proof


def _judged(
    file: PolicyFile,
    today: Policy,
    policies: Sequence[Policy],
    predicted: Mapping[str, Any],
    observations: pd.DataFrame,
) -> dict[str, Any]:
    """The fields of a proof that what was observed gives."""
    lines = with_standing(timelines(observations), observations)
    joins = outcomes(observations, lines, patience_s=PATIENCE_S)
    compared = cells(joins, predicted, [one.name for one in policies], round_trip_s=file.provenance.round_trip_s)
    pairs, verdict = compare(file, today, policies, joins)
    ours = observer(observations)
    if ours.much:
        compared, pairs = (each.assign(inside=None).astype({"inside": "boolean"}) for each in (compared, pairs))
        verdict = "not_judged", f"Whether the change helped is not judged: {_HELD_UP.format(percent(ours.share))}."
    return {
        "round_trip_s": round_trip_s(observations),
        "cells": compared,
        "held_up": ours.share,
        "observer": ours,
        "window": span(observations),
        "paired": pairs,
        "verdict": verdict,
    }


def compare(
    file: PolicyFile, today: Policy, policies: Sequence[Policy], joins: pd.DataFrame
) -> tuple[pd.DataFrame, tuple[str, str]]:
    """The pairs of these joins (`prediction.outcomes`), and whether the change helped. today: as it was given."""
    if len(policies) < 2:
        empty = pd.DataFrame(columns=list(PAIRED)).astype(PAIRED)
        return empty, ("not_compared", f"{policies[0].name} joins as today's rule does: nothing is to be compared.")
    names = (policies[0].name, policies[1].name)
    prices, known = _prices(file)
    told = dict(file.differences.get(today.name, {}))
    if not known:
        told.pop(COST, None)
    trip_s = file.provenance.round_trip_s
    found = paired(joins, told, names, prices, round_trip_s=trip_s)
    kind, said = helped(found, names, prices)
    worth = f"a lost join is worth {prices.lost_value:g} s, a request {prices.request_cost:g} s"
    return found, (kind, f"{said} Cost is in seconds of waiting: {worth}.")


def _prices(file: PolicyFile) -> tuple[Prices, bool]:
    """Those that the policy was tuned at, and that they are known and finite; else what tuning takes by itself."""
    told = {name: value for name, value in file.provenance.prices.items() if value is not None}
    return (Prices(**told), True) if len(told) == len(file.provenance.prices) > 0 else (PRICES, False)


def enough(file: PolicyFile, today: Policy, time_s: float) -> tuple[int, str]:
    """How many nests make the prediction able to fail, if they may start within `time_s` seconds; and why so many."""
    most = max(1, int(time_s / STAGGER_S))
    number, of = number_of(file.differences.get(today.name, {}).get(COST, {}))
    prices, known = _prices(file)
    wanted = needed(number, of, prices.lost_value) if known else None
    if wanted is not None and max(wanted, LEAST) <= most:
        least = "" if wanted >= LEAST else f"; {LEAST} is the least"
        many = f"n = {max(wanted, LEAST)}: with {wanted} the predicted difference of {number.value:+.2f} s a join"
        return max(wanted, LEAST), f"{many} would fail with {POWER_WORDS} had the change done nothing{least}."
    if wanted is not None:
        why = f"{wanted} would be needed for the predicted difference of {number.value:+.2f} s a join to fail with"
        return most, f"n = {most}, as many as the time allows; {why} {POWER_WORDS} had the change done nothing."
    why = "the file predicts no difference"
    if math.isfinite(number.value):
        why = f"{number.value:+.2f} s a join is predicted too unsurely to fail with {POWER_WORDS} at any n"
    return most, f"n = {most}, as many as the time allows: {why}."


def elsewhere(file: PolicyFile, scenario: str) -> str:
    """A sentence where the policy was tuned on other nests than those of this scenario, or nothing says on which."""
    tuned = file.provenance.deployments
    here = f"the lab's {scenario}"
    if not tuned:
        return f"The file does not say whose nests it was tuned on: they may be others than {here}."
    if tuned == (f"lab:{scenario}",):
        return ""
    names = ", ".join(f"the lab's {name[4:]}" if name.startswith("lab:") else name for name in tuned[:NAMED])
    more = f" and {len(tuned) - NAMED} more" if len(tuned) > NAMED else ""
    return (
        f"It was tuned on nests of {names}{more}, and proven on others, {here}: what was predicted is of those, and"
        " whether the change helps there is not shown here."
    )


def _planned(nests: int, policies: Sequence[Policy], arrivals: Sequence[float], horizon_s: float) -> Campaign:
    if nests < 1:
        raise UsageError("a proof needs nests to join: ask for at least 1 (200 tell something)")
    if not arrivals or not all(0 <= age < math.inf for age in arrivals):
        raise UsageError("arrivals are ages in seconds, at least one, none negative or infinite")
    ends = {policy.name: ends_s(policy, max(arrivals)) for policy in policies}
    longest = max(ends, key=lambda name: ends[name])
    if ends[longest] > LONGEST_S:
        raise UsageError(
            f"{longest} may join until a nest is {ends[longest]:.0f} s old: a proof watches {LONGEST_S:.0f} s"
        )
    return Campaign(
        count=nests,
        policies=tuple(policies),
        arrivals=tuple(arrivals),
        as_written=True,
        horizon_s=max(horizon_s, ends[longest]),
        stagger_s=STAGGER_S,
        joins=1,
        media=0,
        wanted_polls=POLLS,
        relay_polls=RELAY_POLLS,
        room_polls=0,
    )


async def _campaign(  # noqa: PLR0917 - called once, above
    config: Config, name: str, campaign: Campaign, store: Store, seed: int, pace: Pace, progress: Progress
) -> Report:
    """What came of it; what LiveKit lists is left, too."""
    target = config.target(name)
    report = await run(
        [bare(target)],
        campaign,
        store=store,
        keyring=config.keyring(),
        budget=Budget(),
        rng=random.Random(f"{seed}/{name}"),
        progress=progress,
        pace=pace,
    )
    report.left[:0] = await listed(target, report.rooms)
    return report


def bare(target: Target) -> Target:
    """What a join needs of a target: the selected relay alone. The others would only cost."""
    return replace(target, relays=target.relays[:1])


def _words(info: Mapping[str, Any], name: str, policies: Sequence[Policy]) -> str:
    livekit = info["livekit"]
    named = " and ".join(policy.name for policy in policies)
    return f"the lab runs {name}, LiveKit {livekit['kind']} {livekit['version']}; {named} join each nest at one instant"


def beside(today: Policy, file: PolicyFile) -> tuple[tuple[Policy, ...], dict[str, Any]]:
    """The policies that run, today's first, under distinct names, and what is predicted under these names.

    A policy that differs from today's rule in what it tells alone joins as that does, unless a person reads it: one of
    them is enough.
    """
    predicted = dict(file.predicted)
    alike = today.person is None and replace(file.policy, message_threshold_s=today.message_threshold_s) == today
    if alike or file.policy == today:
        return (file.policy,), predicted
    if file.policy.name == today.name:
        today = replace(today, name=f"{today.name[:80]} (today)")
        predicted.pop(today.name, None)
    return (today, file.policy), predicted


def ends_s(policy: Policy, arrival_s: float) -> float:
    """The age by which a join of somebody who arrives at `arrival_s` has ended, if no request fails."""
    schedule = policy.schedule
    gaps = {"none": 0.0, "fixed": schedule.interval_s, "table": max((gap for _, gap in schedule.table), default=0.0)}
    longest = gaps.get(schedule.kind, schedule.cap_s) * (1.0 + policy.jitter)
    last = max(arrival_s, policy.give_up_age_s) + longest if longest else arrival_s
    last = last if policy.person is None else math.inf
    return min(last, arrival_s + policy.horizon_s) + policy.stay_s + SLACK_S
