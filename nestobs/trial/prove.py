"""Proof: a policy and today's rule against the same fresh nests in a lab, with real joins, side by side.

Replay says what a policy would have done on nests that were recorded. Here it does it. At each nest one joiner for
each policy arrives at the same instant, a stranger to the others, and joins for real: API, LiveKit's signalling, a
stay in the room. Media is left out: the RTC library costs .13 s of processor a connection, and no policy decides on
it. The policies run as they are written, each nest is watched until the last of them has ended.

What came of it, by replay's own definitions, stands beside the interval in which so many fresh joins should fall. So a
join is lost here, as in replay, though its nest came after all had left: a report on the same store, where nobody is
taken to be more patient than the joiners were, may count fewer.
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
from nestobs.collector.pace import Pace
from nestobs.collector.polling import HORIZON_S
from nestobs.collector.station import Target
from nestobs.config import Config
from nestobs.diagnosis.diagnose import with_standing
from nestobs.errors import UsageError
from nestobs.join.budget import Budget
from nestobs.join.policy import MANUAL_RETRY, Policy
from nestobs.observation.columns import dicts_of
from nestobs.observation.detail import finite
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import Clock
from nestobs.store.files import write
from nestobs.store.reader import Store
from nestobs.timeline.delays import round_trip_s
from nestobs.timeline.intervals import timelines
from nestobs.trial.held_up import MUCH, held_up
from nestobs.trial.lab_process import empty, listed, running_lab
from nestobs.tuning.policy_file import PolicyFile
from nestobs.tuning.prediction import cells, outcomes, span
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

LONGEST_S: Final = 1800.0
"""The longest watch of a nest; a file may come from a stranger, and ask for days."""

MADE: Final = frozenset({"lab", "store", "proof.json"})
"""What a proof leaves in its folder."""


@dataclass(frozen=True)
class Proof:
    """What was predicted and what came. nests: those made. livekit: kind and version. policies: today's rule first.
    verdicts: of all joins, by kind. round_trip_s: of the joins' API requests; a lab much slower than what was tuned on
    delays joins by as much. left: sentences about what was not deleted. problem: why it is not as it should be, in a
    sentence. wall_s: how long it took. held_up: share of the polls in which the observer was; above MUCH no cell is
    judged. cells: as realised.cells. window: when the first join began and the last one ended, ISO 8601, UTC; empty:
    none did."""

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
            "leaks": {"left": len(self.left), "which": list(self.left)},
            "held_up": self.held_up,
            "wall_s": self.wall_s,
        }

    def _rows(self, policy: Policy) -> list[dict[str, Any]]:
        return dicts_of(self.cells[self.cells["policy"] == policy.name])

    def lines(self) -> list[str]:
        """For a terminal: the cells as a table, and how many are inside."""
        head = f"{'policy':<18}{'metric':<20}{'predicted':>10}{'95 % of so many':>19}{'realised':>10}{'n':>6}"
        judged = self.cells["inside"].dropna()
        said = f"{int(judged.sum())} of {len(judged)} cells inside" if len(judged) else "the file predicts nothing"
        if self.held_up > MUCH:
            said = f"not judged: the observer was held up in {self.held_up:.0%} of its polls"
        kind = "a stand-in for LiveKit" if self.livekit["kind"] == "stand-in" else f"LiveKit {self.livekit['version']}"
        joined = f"{self.nests} fresh nests of {self.scenario}, real joins without media, {kind}"
        left = [f"left behind: {sentence}" for sentence in self.left]
        return [head, *(_line(row) for row in dicts_of(self.cells)), f"{said}; {joined}", *left]


def _line(row: Mapping[str, Any]) -> str:
    told = not pd.isna(row["inside"])
    interval = f"{row['lower']:.3f} to {row['upper']:.3f}" if told else ""
    value = "" if math.isnan(row["value"]) else f"{row['value']:.3f}"
    mark = "  outside" if told and not row["inside"] else ""
    words = f"{row['policy']:<18.17}{row['metric']:<20}{value:>10}{interval:>19}"
    return f"{words}{row['realised']:>10.3f}{row['n']:>6}{mark}"


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
    nests: int,
    out: Path,
    *,
    seed: int = 2,
    today: Policy = MANUAL_RETRY,
    arrivals: Sequence[float] | None = None,
    horizon_s: float = HORIZON_S,
    progress: Progress = silent,
    pace: Pace | None = None,
) -> Proof:
    """Run the file's policy and today's rule on `nests` fresh nests of a lab's scenario, one join each; the proof.

    What was observed is kept in `out/store`, the proof in `out/proof.json`; `out` is made anew. seed: of delays,
    arrivals and jitter; not that of the nests it was tuned on. arrivals: ages at which people come, each as likely;
    None: those that the file was tuned for, or ARRIVALS where it does not say. horizon_s: how long each nest is
    watched, as long as those it was tuned on, and longer where a policy takes longer. pace: shared with what else runs
    in this event loop. Interrupted, what was made is deleted.

    Raises UsageError for words it cannot use, LabFailedError with what the lab says of an unknown scenario.
    """
    policies, predicted = beside(today, file)
    ages = (file.provenance.arrivals_s or ARRIVALS) if arrivals is None else arrivals
    campaign = _planned(nests, policies, ages, horizon_s)
    clock = Clock()
    started_at = clock.now()
    empty(out, MADE, "an earlier proof")
    store = Store.open(out / "store")
    async with running_lab(out / "lab", [scenario], seed=seed, vantages=1) as info:
        name = next(iter(info["scenarios"]))
        progress("lab", {"said": _words(info, name, policies)})
        config = Config(out / "lab" / "nestobs.toml")
        report = await _campaign(config, name, campaign, store, seed, pace or Pace(), progress)
    progress("proof", {"said": "the lab has ended; setting predicted beside realised"})
    observations = await asyncio.to_thread(store.frame)
    lines = await asyncio.to_thread(lambda: with_standing(timelines(observations), observations))
    joins = outcomes(observations, lines, patience_s=PATIENCE_S)
    compared = cells(joins, predicted, [one.name for one in policies], round_trip_s=file.provenance.round_trip_s)
    if (held := held_up(observations)) > MUCH:
        compared = compared.assign(inside=None).astype({"inside": "boolean"})
    proof = Proof(
        scenario=name,
        seed=seed,
        nests=report.made,
        livekit=info["livekit"],
        policies=policies,
        verdicts=dict(report.verdicts),
        round_trip_s=round_trip_s(observations),
        left=tuple(report.left),
        problem=report.problem(),
        wall_s=round((clock.now() - started_at) / SECOND_NS, 1),
        cells=compared,
        held_up=held,
        window=span(observations),
    )
    write(out / "proof.json", json.dumps(proof.as_dict(), indent=2) + "\n")
    return proof


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
