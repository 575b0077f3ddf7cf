"""What tuning gives: a policy, how sure it is, of what it was made, and how to write it down."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from html import escape
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.estimate.change_point import Change
from nestobs.estimate.npmle import DelayLaw, Number, Resampled
from nestobs.estimate.strata import Grouping
from nestobs.join.policy import Policy
from nestobs.observation.detail import finite
from nestobs.observation.text import percent, shortened
from nestobs.timeline.delays import BlockKind, nests_in
from nestobs.timeline.uptime import Observer
from nestobs.tuning.costs import Prices
from nestobs.tuning.decisions import Terms
from nestobs.tuning.doubts.persons import Moved
from nestobs.tuning.doubts.unseen import Unseen
from nestobs.tuning.fault import Faults
from nestobs.tuning.herd import Crowd
from nestobs.tuning.policy_file import (
    DEPLOYMENT_CHARACTERS,
    DEPLOYMENTS,
    INTERVALS,
    NOTE_CHARACTERS,
    PolicyFile,
    Provenance,
)
from nestobs.tuning.replay import Replay, replay_lines

STRATUM_ROWS: Final = 20
STRATUM_REGRET: Final = 0.05
_GAINS: Final = {
    "joined_share": ("joined, %", 100.0, 1),
    "lost_share": ("lost, %", 100.0, 1),
    "mean_delay_s": ("delay, s", 1.0, 2),
    "requests_per_join": ("requests", 1.0, 2),
}
"""METRICS -> what they are called, the unit's size, and digits after the point."""

UNIDENTIFIED: Final = "No nest stayed away, so the share that never comes is not known: half a nest was taken for it."

OTHERWISE: Final = 2.0
"""Intervals so many times as wide, or as narrow, after a change: the observing changed, too, and that is said."""


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """Nests that share a relay set, hour or host, when delays differ by it.

    kind: what they share; name: its value; n: rows; p: of equal delays over all of that kind (Holm-corrected).
    threshold_s, give_up_age_s: tuned on them alone. regret: what the common policy costs them over their own, as a
    share of the latter; differs: whether that is more than STRATUM_REGRET.
    """

    kind: str
    name: str
    n: int
    p: float
    threshold_s: float
    give_up_age_s: float
    regret: float

    @property
    def differs(self) -> bool:
        """Whether a policy of its own would pay."""
        return self.regret > STRATUM_REGRET


@dataclass(frozen=True, kw_only=True)
class Since:
    """The part since the last change of the delays. window: of nests made surely after it, START/END as --window takes
    it, UTC; nests: how many that are; least: how many tuning needs."""

    window: str
    nests: int
    least: int

    @classmethod
    def of(cls, delays: pd.DataFrame, changes: Sequence[Change], least: int) -> Since:
        """That of `delays.joinable` with these changes, at least one."""
        start, end = changes[-1].last.ceil("s"), delays["origin_at"].max().floor("s") + pd.Timedelta(1, "s")
        part = delays[(delays["origin_at"] >= start) & (delays["origin_at"] < end)]
        return cls(window=f"{start:%Y-%m-%dT%H:%M:%SZ}/{end:%Y-%m-%dT%H:%M:%SZ}", nests=nests_in(part), least=least)

    @property
    def words(self) -> str:
        """What to do about it."""
        if self.nests < self.least:
            short = self.least - self.nests
            return (
                f"Of the part since then there are {self.nests} nests, too few to tune on by themselves ({self.least}"
                f" are needed): observe at least {short} more, and what is said here may hold of neither law."
            )
        return (
            f"What is said here mixes these laws. Tune on the {self.nests} nests since then: `nestobs tune --window"
            f" {self.window}`."
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Recommendation:
    """What to do, how sure that is, and of what it was made.

    policy: the recommended one: the tuned, the simple, or today's rule itself when nothing better is proven (kept).
    today, tuned, simple: the candidates. message_threshold_s: of rho = cost_ratio, with its interval; thresholds: of
    each of COST_RATIOS; give_up_age_s: of the tuned policy, with
    interval. stop_age_s: when asking without pause stops being worth it. sharing_age_s: from which `share` of joiners
    succeed at once at every vantage, by share. replays: what each policy would have done, today's first; the tuned and
    the simple one judged on nests they were not tuned on. front: requests, delay and lost share per joiner along prices
    of a request, of a network that always answers. strata: where delays differ. terms: on which it was tuned and
    replayed. faults: the standing faults that were seen, None for none. notes: sentences on what is assumed, not
    identifiable, or missing, with the number of nests that would settle it. left_out: cause of a standing fault ->
    nests that are in no law for it. changes: of the law within the window, by time; since: the part since the last of
    them, None where there is none. persons: how the comparison to today's rule moves with the person who presses Retry,
    of the recommended policy, or the tuned one where today's is kept; none where nobody presses.
    """

    policy: Policy
    kept: bool
    why: str
    today: Policy
    tuned: Policy
    simple: Policy
    simple_price: float
    message_threshold_s: Number
    thresholds: Mapping[float, Number]
    give_up_age_s: Number
    stop_age_s: float
    sharing_age_s: Mapping[float, Number]
    replays: tuple[Replay, ...]
    jitter_price: float
    peaks: tuple[Crowd, ...]
    front: pd.DataFrame
    strata: tuple[Stratum, ...] = ()
    persons: tuple[Moved, ...] = ()
    paired: Mapping[str, Mapping[str, Number]] = field(default_factory=dict)
    deployments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    since: Since | None = None
    law: DelayLaw
    smooth: DelayLaw
    resampled: Resampled
    terms: Terms
    nests: int
    block_kind: BlockKind
    window: tuple[str, str]
    faults: Faults | None = None

    @property
    def _failures(self) -> dict[str, dict[str, int]] | None:
        return None if self.terms.failures is None else self.terms.failures.as_dict()

    @cached_property
    def planned(self) -> DelayLaw:
        """The law that polls are planned by: the smoothed one with half a nest more that nobody saw."""
        return Unseen.of(self.law.rows, self.nests).added(self.smooth)

    @property
    def observer(self) -> Observer:
        """The state of who observed the nests; as if nothing had been where that is not known."""
        return Observer() if self.terms.failures is None else self.terms.failures.observer

    @property
    def changed(self) -> tuple[str, ...]:
        """That the law changed in mid-window, when, and what to do; nothing where it did not."""
        return (*map(change_words, self.changes), self.since.words) if self.since else ()

    def __repr__(self) -> str:
        """Of how many nests, and what to do."""
        return f"<Recommendation of {self.nests} nests: {self.why}>"

    def _repr_html_(self) -> str:
        shown = ("".join(c for c in line if c.isprintable()) for line in self.lines())
        return f"<pre>{escape(chr(10).join(shown))}</pre>"

    def lines(self) -> Iterator[str]:
        """How the observer was, where that matters; what to do, in words; what that changes; how sure it is; what each
        policy would have done; what is open."""
        yield from filter(None, [self.observer.words])
        yield self.why
        yield from self.changed
        yield ""
        yield f"{self.policy.name}: {self.policy.words} (ages of the nest, in seconds)"
        threshold = f"{self.policy.message_threshold_s:g} s"
        yield f'message: "still starting up" below {threshold}, "no longer available" from then on'
        yield ""
        yield from self._gains()
        yield ""
        law, today_s = self.law, self.today.message_threshold_s
        yield f"how sure: {self.nests} nests, {law.n} rows ({law.censored} never seen), {' to '.join(self.window)}"
        if law.never == 0:
            yield f"{UNIDENTIFIED} So the thresholds rest on that half nest:"
        yield f"message threshold: {seconds_words(self.message_threshold_s)}, today {today_s:g} s"
        for ratio, number in self.thresholds.items():
            yield f'  if a false "starting" costs {ratio:g} of a false "gone": {seconds_words(number)}'
        yield f"give-up age: {seconds_words(self.give_up_age_s)}"
        for share, number in self.sharing_age_s.items():
            yield f"{percent(share)} of joiners succeed at once from: {seconds_words(number)}"
        yield ""
        yield from replay_lines(self.replays)
        yield ""
        yield from self.notes

    def _gains(self) -> Iterator[str]:
        """What a join gains by the recommended policy; where today's is kept, what the tuned one is not proven to."""
        one, today = self.replayed(self.tuned.name if self.kept else self.policy.name), self.today.name
        would = f"what {one.policy.name} would change a join, which is not proven to be better" if self.kept else ""
        yield f"{would or 'what it changes a join'}, beside {today} on the same nests (95 %):"
        beside = [found for found in self.replays if found.policy.name in ("released", today)]
        beside = [*sorted(beside, key=lambda found: found.policy.name == today), one]
        names = "".join(f"{found.policy.name[:14]:>15}" for found in beside)
        yield f"  {'':12}{names}   {one.policy.name} less {today}"
        for name, (title, unit, places) in _GAINS.items():
            apart = one.against[name]
            value, low, high = (f"{unit * end:+.{places}f}" for end in (apart.value, apart.lower, apart.upper))
            all_of = "".join(f"{unit * found.numbers[name].value:15.{places}f}" for found in beside)
            yield f"  {title:12}{all_of}   {value} ({low} to {high})"
        yield from self._moved(one.policy.name)

    def _moved(self, name: str) -> Iterator[str]:
        """How the comparison moves with the person."""
        if not self.persons or self.today.person is None:
            return
        leaving = list(dict.fromkeys(one.leaves for one in self.persons))
        yield ""
        yield f"{self.today.name}: {self.today.person.words}."
        yield f"If that person were another, {name} would cost a join so much more or less, in s of waiting (95 %):"
        yield f"  {'half press within':18}" + "".join(f"{_leaving(leaves):>26}" for leaves in leaving)
        for reaction_s in dict.fromkeys(one.reaction_s for one in self.persons):
            cells = [one.apart for one in self.persons if one.reaction_s == reaction_s]
            told = (f"{one.value:+.1f} ({one.lower:+.1f} to {one.upper:+.1f})" for one in cells)
            yield f"  {f'{reaction_s:g} s':18}" + "".join(f"{words:>26}" for words in told)
        yield "Who need not press is taken to stay until the page gives up; where nobody leaves, that is alike for all."

    def replayed(self, name: str) -> Replay:
        """The replay of a policy by its name. Raises KeyError."""
        return {one.policy.name: one for one in self.replays}[name]

    def candidates(self) -> dict[str, Policy]:
        """`recommended`, `tuned` and `simple`."""
        return {"recommended": self.policy, "tuned": self.tuned, "simple": self.simple}

    def file(self, policy: Policy, *, store_digest: str = "", made_at: str = "", nestobs: str = "") -> PolicyFile:
        """A policy with what is predicted for it and for today's rule, for policy.json.

        made_at: ISO 8601, UTC. The predictions stand under the names `policy.name` and `today.name`.
        """
        shown = {one.policy.name: one for one in self.replays}
        wanted = [name for name in dict.fromkeys((policy.name, self.today.name)) if name in shown]
        return PolicyFile(
            policy=policy,
            provenance=Provenance(
                window_start=self.window[0],
                window_end=self.window[1],
                n=self.law.n,
                n_censored=self.law.censored,
                store_digest=store_digest,
                nestobs=nestobs,
                made_at=made_at,
                arrivals_s=tuple(self.terms.arrivals.tolist()),
                round_trip_s=self.terms.round_trip_s,
                failures=self._failures or {},
                left_out=dict(self.left_out),
                prices={spec.name: finite(getattr(self.terms.prices, spec.name)) for spec in fields(Prices)},
                deployments=tuple(shortened(one, DEPLOYMENT_CHARACTERS) for one in self.deployments[:DEPLOYMENTS]),
            ),
            intervals={name: _ends(getattr(self, name)) for name in INTERVALS},
            predicted={name: predicted(shown[name]) for name in wanted},
            differences={self.today.name: self._apart(policy.name)} if policy.name in self.paired else {},
            notes=tuple(shortened(note, NOTE_CHARACTERS) for note in (self.why, *self.changed, *self.notes)),
        )

    def _apart(self, name: str) -> dict[str, dict[str, float | int | None]]:
        """What is predicted of pairs, as cells."""
        return {metric: _cell(number, self.nests) for metric, number in self.paired[name].items()}

    def as_dict(self) -> dict[str, Any]:
        """JSON data for people and programs; infinite and unknown numbers are None."""
        return {
            "why": self.why,
            "kept": self.kept,
            "policy": self.policy.as_dict(),
            "message_threshold_s": plain(self.message_threshold_s),
            "message_threshold_by_cost_ratio": {str(key): plain(value) for key, value in self.thresholds.items()},
            "give_up_age_s": plain(self.give_up_age_s),
            "stop_age_s": finite(self.stop_age_s),
            "sharing_age_s": {str(share): plain(age) for share, age in self.sharing_age_s.items()},
            "simple_price": finite(self.simple_price),
            "jitter_price": finite(self.jitter_price),
            "policies": {one.policy.name: predicted(one) for one in self.replays},
            "paired": {name: self._apart(name) for name in self.paired},
            "deployments": list(self.deployments),
            "peaks": {one.policy: one.peak_per_s for one in self.peaks},
            "front": [{name: _plain(value) for name, value in row.items()} for row in self.front.to_dict("records")],
            "strata": [
                asdict(one) | {"threshold_s": finite(one.threshold_s), "differs": one.differs} for one in self.strata
            ],
            "persons": [
                {"reaction_s": one.reaction_s, "leaves": one.leaves, "joined": one.joined, "lost": one.lost}
                | {"cost_apart_s": plain(one.apart)}
                for one in self.persons
            ],
            "notes": [*self.changed, *self.notes],
            "changes": [_change(one) for one in self.changes],
            "since": None if self.since is None else asdict(self.since),
            "nests": self.nests,
            "rows": self.law.n,
            "censored": self.law.censored,
            "window": list(self.window),
            "failures": self._failures,
            "observer": self.observer.as_dict(),
            **({} if self.faults is None else {"faults": self.faults.as_dict()}),
            "left_out": dict(self.left_out),
        }


def _leaving(share: float) -> str:
    return f"{percent(share)} leave each time" if share else "nobody leaves"


def seconds_words(number: Number) -> str:
    """An age with its interval, in as many digits as that supports; "never" and "no end" for what is infinite."""
    width = number.upper - number.lower
    places = 0 if not 0 < width < 1e9 else min(2, max(0, -math.floor(math.log10(width / 5.0))))
    places = 1 if width == 0 else places

    def end(value: float) -> str:
        return f"{value:.{places}f}" if value < 1e9 else "no end"

    value = f"{number.value:.{places}f} s" if number.value < 1e9 else "never"
    return f"{value} (95 %: {end(number.lower)} to {end(number.upper)})"


def change_words(one: Change) -> str:
    """A change of the delay law in a sentence or two."""
    first, last = (f"{end:%Y-%m-%d %H:%M}" for end in (one.first, one.last))
    last = last.removeprefix(f"{one.first:%Y-%m-%d} ")
    found = f"The delays changed between {first} and {last} UTC (95 %; p = {one.p:.2g})"
    sides = f"median {_median(one.before)} of {one.n_before} nests before, {_median(one.after)} of {one.n_after} after"
    if 1.0 / OTHERWISE < one.wider < OTHERWISE:
        return f"{found}: {sides}."
    return f"{found}: {sides}. It was watched otherwise after it, too: intervals are {one.wider:.2g} times as wide."


def _median(number: Number) -> str:
    value, low, high = (f"{end:.1f}" if end < 1e9 else "never" for end in (number.value, number.lower, number.upper))
    return f"{value} s ({low} to {high})" if number.value < 1e9 else f"not within the watch (from {low} s)"


def _change(one: Change) -> dict[str, Any]:
    """JSON data of a change."""
    made: dict[str, Any] = {}
    for spec in fields(one):
        value = getattr(one, spec.name)
        if isinstance(value, pd.Timestamp):
            value = f"{value:%Y-%m-%dT%H:%M:%SZ}"
        made[spec.name] = plain(value) if isinstance(value, Number) else _plain(value)
    return made


def predicted(one: Replay) -> dict[str, dict[str, float | int | None]]:
    """METRICS -> value, lower, upper, sd, n of a replay."""
    return {name: _cell(number, one.n) for name, number in one.numbers.items()}


def _cell(number: Number, n: int) -> dict[str, float | int | None]:
    return {**plain(number), "sd": finite(number.sd), "n": n}


def plain(number: Number) -> dict[str, float | None]:
    """value, lower, upper; None for what is not finite."""
    return {name: finite(getattr(number, name)) for name in ("value", "lower", "upper")}


def _ends(number: Number) -> tuple[float, float | None]:
    return max(0.0, number.lower), finite(number.upper)


def _plain(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


def apart_words(one: Grouping, strata: Sequence[Stratum]) -> str:
    """That delays differ, by what, and between which."""
    names, many = np.unique(one.label, return_counts=True)
    alone = {each.name: each for each in strata if each.kind == one.kind}
    told = [f"{name or 'none'} {alone[name].threshold_s:.0f} s" for name in names if name in alone]
    told = [words.replace("inf s", "none") for words in told]
    said = f"Delays differ by {one.kind} (p = {one.p:.1g}), and are pooled here"
    own = f"; by themselves the message thresholds were: {', '.join(told)}" if told else ""
    few = int((many < STRATUM_ROWS).sum())
    short = (
        f"; {few} of {len(names)} groups have fewer than {STRATUM_ROWS} rows, too few to tune on alone" if few else ""
    )
    return f"{said}{own}{short}."
