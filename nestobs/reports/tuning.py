"""What a notebook about tuning calls: a store and a proof in, sections of sentences, figures and tables out.

`load` reads and tunes; `advice`, `message`, `delays`, `asking`, `proved` and `doubts` lay out what came of it, in that
order. Where there is too little to tune on, `advice` says so and the others show nothing. notebooks/tuning.ipynb also
calls `answer`, `compared`, `seen_so_far`, `cost_slider`, `budget_slider`, `flips` and, last, `written`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

import nestobs
from nestobs.errors import StoreError, UsageError
from nestobs.exports.parts import surest_clocks
from nestobs.figures import amount, decisions, percent, policies, sliders
from nestobs.figures.timelines import first_visible
from nestobs.observation.detail import finite
from nestobs.observation.window import Window
from nestobs.reports import tables
from nestobs.reports.answer import Answer, Tile, observer_tile
from nestobs.reports.display import Result, Section, Table, Text, many, numbers
from nestobs.reports.lab_files.description import lab_facts
from nestobs.reports.lab_files.proof import Proved, read_proof
from nestobs.reports.workbench.given import given
from nestobs.reports.workbench.jupyterlab import step
from nestobs.session import tune
from nestobs.sources.clock import Clock
from nestobs.store.files import text_in, write
from nestobs.store.reader import Store
from nestobs.timeline.intervals import clock_words
from nestobs.tuning.decisions import Allowance
from nestobs.tuning.policy_file import dumps
from nestobs.tuning.recommendation import seconds_words
from nestobs.tuning.replay import COST, METRICS
from nestobs.tuning.threshold import COST_RATIO
from nestobs.tuning.tuner import TooLittleDataError
from nestobs.tuning.whatif import BUDGETS, COST_RATIOS, LOST_VALUES, WhatIf

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nestobs.estimate.npmle import Number
    from nestobs.join.policy import Policy
    from nestobs.tuning.recommendation import Recommendation
    from nestobs.tuning.replay import Replay

DRAWS: Final = 300
"""Resamples of a report: its reader waits for it."""

GUESSED_S: Final = (10.0, 15.0)
"""How long the web client's guide guesses that one should wait before sharing a nest."""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the page is about. found: None where there is too little data, and why_not says what is missing; lines: the
    timelines there are, then. only: the scenarios or hosts whose nests count, none for all. clocks: how far those of
    the store were off, in sentences."""

    found: Recommendation | None = None
    why_not: str = ""
    only: tuple[str, ...] = ()
    proof: Proved | None = None
    title: str = ""
    store: str = ""
    observations: int = 0
    lines: pd.DataFrame | None = None
    clocks: tuple[str, ...] = ()


@given
def load(
    store: str,
    *,
    tune_on: str | Sequence[str] = "",
    window: str = "",
    lab: str = "",
    proof: str = "",
    draws: int = DRAWS,
    arrivals: str = "",
    cost_ratio: float = COST_RATIO,
    requests: int = 100,
    title: str = "",
) -> Tuned:
    """Tune on the nests of a store, and read a proof.json beside it ("" for none).

    tune_on: scenarios of the lab that `lab` (its lab.json) describes, or hosts of APIs (`HOST:PORT`), as a list or as
    one text with blanks between; "": all nests. window: START/END, ISO 8601, UTC, or a day: only nests made in it; "":
    all. arrivals: a file of ages at which people ask, seconds; "": evenly from 0 to 30 s. cost_ratio: of a false
    "starting up" over a false "no longer available". requests: that one address may make in 900 s. The same store and
    words give the same page. Raises StoreError when there is no store, UsageError for words and files that cannot be
    used.
    """
    came = read_proof(proof) if proof else None
    opened = Store.open(store, create=False)
    title = title or "What should a client do until somebody can join?"
    tuned = Tuned(
        only=_words(tune_on),
        proof=came,
        title=title,
        store=store,
        observations=opened.count(),
        clocks=tuple(clock_words(surest_clocks(opened))),
    )
    try:
        found = tune(
            opened,
            window=Window.parse(window).instants if window else None,
            host=hosts_of(tune_on, lab),
            arrivals=ages_in(arrivals) if arrivals else None,
            allowance=Allowance(requests=requests),
            cost_ratio=cost_ratio,
            draws=draws,
            progress=step,
        )
    except TooLittleDataError as error:
        return replace(tuned, why_not=str(error), lines=nestobs.timelines(opened))
    return replace(tuned, found=found)


def ages_in(path: str) -> list[float]:
    """The numbers in a text file, white space between them. Raises UsageError."""
    try:
        ages = [float(word) for word in text_in(path).split()]
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} holds no ages ({error}): write one age in seconds a line") from None
    if not ages or not all(0 <= age < 1e6 for age in ages):
        raise UsageError(f"{path}: ages are seconds from 0, at least one, none infinite")
    return ages


def _words(tune_on: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(tune_on.split() if isinstance(tune_on, str) else map(str, tune_on))


def hosts_of(tune_on: str | Sequence[str], lab: str = "") -> tuple[str, ...]:
    """The API hosts that these words name: a scenario's, as its lab.json says, or a host itself; none for none."""
    known = lab_facts(lab)["hosts"]
    return tuple(dict.fromkeys(host for word in _words(tune_on) for host in known.get(word, [word])))


# sections


def _where_tuned(section: Callable[[Recommendation], Section]) -> Callable[[Tuned], Section]:
    """A section about the recommendation: nothing where there is none."""

    @wraps(section)
    def shown(tuned: Tuned) -> Section:
        return Section() if tuned.found is None else section(tuned.found)

    return shown


def advice(tuned: Tuned) -> Text:
    """What to do and why, on what it rests; or what is missing."""
    where = f"Only nests of {', '.join(tuned.only)} count. " if tuned.only else ""
    found = tuned.found
    if found is None:
        return Text([f"{where}Nothing is tuned: {tuned.why_not}.", *tuned.clocks])
    rests = [f"{where}{_basis(found)}", *tuned.clocks]
    return Text([found.why, *found.changed, _described(found.policy), *rests, _simplicity(found)])


def _described(policy: Policy) -> str:
    threshold, give_up = policy.message_threshold_s, policy.give_up_age_s
    return (
        f"{policy.name}: a 404 of a nest younger than {threshold:g} s is called “starting up”, of an older one “no"
        f" longer available”; {_asking(policy)}, until the nest is {give_up:g} s old."
    )


def _asking(policy: Policy) -> str:
    schedule = policy.schedule
    if policy.person is not None:
        return policy.person.words
    if schedule.kind == "none":
        return "nothing is asked again"
    if schedule.kind == "fixed":
        return f"it is asked again every {schedule.interval_s:g} s"
    if schedule.kind != "table":
        return f"it is asked again after gaps that grow from {schedule.interval_s:g} s"
    jitter = f", each gap varied by ±{percent(policy.jitter)}" if policy.jitter else ""
    if len(schedule.table) > 4:
        return f"it is asked again by a table of {len(schedule.table)} gaps, drawn below{jitter}"
    gaps = ", ".join(f"{gap:g} s from age {age:g} s" for age, gap in schedule.table)
    return f"it is asked again after {gaps}{jitter}"


def _basis(found: Recommendation) -> str:
    prices, allowed = found.terms.prices, found.terms.allowance
    return (
        f"Tuned on {many(found.law.n, 'interval')} of {many(found.nests, 'nest')},"
        f" {found.law.censored} not seen by the end. In seconds of waiting a lost join costs {prices.lost_value:g}, a"
        f" request {prices.request_cost:g}, a second waited in vain {prices.never_cost:g}; a join may make"
        f" {allowed.per_join:g} requests ({allowed.requests} in {allowed.window_s:g} s for {allowed.joins:g} joins,"
        f" {percent(allowed.reserve)} kept back)."
    )


def _simplicity(found: Recommendation) -> str:
    simple, jitter = (percent(max(0.0, price)) for price in (found.simple_price, found.jitter_price))
    return (
        f"Under the smoothed law the simple policy costs {simple} more than the tuned one, and varying the gaps"
        f" {jitter}. Both were judged on nests they were not tuned on."
    )


@_where_tuned
def message(found: Recommendation) -> Section:
    """What to say of a 404."""
    words = (
        "A false “starting up” keeps somebody waiting for nothing, a false “no longer available” sends somebody away"
        " who could have come in. ρ is what the first costs over the second: a judgement, so three of them. Below each"
        " threshold “starting up” is the cheaper thing to say."
    )
    clocks = (
        "How often a joiner who is answered 404 is told something untrue, if clocks differ: the joiner's and that of"
        " the host, who dates the nest. The last row reads “now” from the answer's own Date instead."
    )
    return Section(
        (
            Text([words]),
            decisions.posterior(found),
            tables.thresholds(found),
            Text([clocks]),
            tables.errors(found),
        )
    )


@_where_tuned
def delays(found: Recommendation) -> Section:
    """When nests can be joined, and when to share them."""
    words = (
        "A join succeeds from the age at which the API gives a token, to a guest if to nobody else, and LiveKit lets"
        " the joiner in. The band holds the estimate's error, the dotted bounds assume nothing but the intervals;"
        " decisions use the smoothed law."
    )
    shares, (low, high) = found.law.cdf(GUESSED_S), found.resampled.cdf(GUESSED_S)
    said = [f"{percent(s)} ({tables.percents(lo, hi)})" for s, lo, hi in zip(shares, low, high, strict=True)]
    share = (
        f"How long to wait before sharing a nest? The guide guesses {GUESSED_S[0]:g} to {GUESSED_S[1]:g} s: by then"
        f" {' and '.join(said)} of the nests could be joined."
    )
    parts: list[Any] = [Text([words]), decisions.delay_law(found)]
    parts += [Text([share]), tables.sharing(found)]
    if found.strata:
        parts += [Text(["Delays differ between these nests; would a policy of their own pay?"]), tables.strata(found)]
    return Section(tuple(parts))


@_where_tuned
def compared(found: Recommendation) -> Section:
    """All policies: how long each waits, how many joins it loses, how often it asks."""
    return Section((policies.frontier(found),))


@_where_tuned
def asking(found: Recommendation) -> Section:
    """When to ask again, and what that costs."""
    words = (
        "Each policy was run over the recorded nests, with the join's own code in virtual time. A join is lost that"
        " ends without a seat although whoever waits long enough could have one; the share is of all joiners. The"
        " simple policy is in round numbers; the tuned one is the optimum for the stated prices."
    )
    apart = "Each policy less today's rule, on the same nests and joiners: an interval without 0 is a difference."
    person = found.today.person
    moved: tuple[Any, ...] = ()
    if person is not None:
        words_of = (
            f"Today's rule is the client and {person.words}: judgements, so here they are varied. Who need not press is"
            " taken to stay until the page gives up; where nobody leaves, that is alike for all."
        )
        moved = (Text([words_of]), tables.persons(found))
    herd = "Many joiners of one nest, who arrive within seconds of each other: what a server sees of them."
    return Section(
        (
            Text([words]),
            decisions.polls(found),
            tables.policies(found),
            Text([apart]),
            tables.differences(found),
            *moved,
            Text([herd]),
            tables.peaks(found),
        )
    )


def proved(tuned: Tuned) -> Section:
    """Predicted beside realised, where there is a proof."""
    if tuned.found is None or tuned.proof is None:
        return Section()
    drawn = policies.proof(tuned.proof.cells, when=tuned.proof.when)
    answer = Text(tuned.proof.answer)
    words = Text([tuned.proof.words])
    answered = (answer, *(() if tuned.proof.pairs.empty else (tables.pairs(tuned.proof.pairs),)))
    return Section((*(answered if tuned.proof.answer else ()), words, drawn, tables.proof(tuned.proof.cells)))


@_where_tuned
def doubts(found: Recommendation) -> Section:
    """What is assumed, missing, or cannot be told."""
    return Section((Text([tables.without_schemes(note) for note in found.notes]),))


# the notebook's own


def answer(tuned: Tuned) -> Answer:
    """What the page opens with: the recommendation and its policies side by side; or what is missing."""
    came, found = result(tuned), tuned.found
    if not tuned.observations:
        words = "This store holds no observation, so there is nothing to tune on. Run a canary or a watch first."
        return Answer(tuned.title, words, result=came)
    if found is None:
        return Answer(tuned.title, came.reasons[0], result=came)
    best = found.tuned.name if found.kept else found.policy.name
    names = dict.fromkeys(("released", found.today.name, best))
    beside = [_beside(found, one) for name in names for one in found.replays if one.policy.name == name]
    ages = {"best message threshold": found.message_threshold_s, "give-up age": found.give_up_age_s}
    threshold, give_up = (_aged(name, age, found.nests) for name, age in ages.items())
    threshold = replace(threshold, before=f"today: {found.today.message_threshold_s:g} s")
    shown = (*beside, threshold, give_up, observer_tile(found.observer))
    return Answer(tuned.title, found.why, shown, came, found.observer.words)


def _aged(name: str, age: Number, nests: int) -> Tile:
    value, _, ends = seconds_words(age).partition(" (")
    return Tile(name, value, f"{ends.removesuffix(')')}; n = {nests:,} nests")


def _beside(found: Recommendation, one: Replay) -> Tile:
    """What a policy would have done, and what the one that is advised, or best, would change."""
    name = one.policy.name
    joined, lost, delay, requests = (tables.of_metric(metric, one.numbers[metric]) for metric in METRICS)
    value, _, ends = lost.partition(" (")
    lines = [f"95 %: {ends.removesuffix(')')}", f"joined {joined}", f"mean delay, s: {delay}", f"requests: {requests}"]
    shown = Tile(f"lost, {_who(found, name)}", value, "\n".join(lines))
    apart = found.paired.get(name, {}).get(COST)
    if apart is None:
        return shown
    proven = apart.upper < 0
    less = f"costs {tables.signed(COST, apart)} s of waiting a join beside {found.today.name}"
    words = "costs less" if proven else "no difference is shown"
    return replace(shown, before=less, sign="good" if proven else "open", judged=words)


def _who(found: Recommendation, name: str) -> str:
    if name == found.today.name:
        return f"today's rule ({name})"
    if name == "released":
        return "the client as released"
    return f"{'tuned' if found.kept else 'advised'} ({name})"


def result(tuned: Tuned) -> Result:
    """How it came out, for whoever scheduled it."""
    rows = {"observations": tuned.observations}
    found = tuned.found
    if found is None:
        return Result("too little data", [f"Nothing is tuned: {tuned.why_not}."], None, rows | {"nests": 0}, {})
    threshold = found.message_threshold_s
    facts: dict[str, float | str | None] = {
        "policy": found.policy.name,
        "kept": str(found.kept).lower(),
        "message_threshold_s": finite(threshold.value),
        "message_threshold_low_s": finite(threshold.lower),
        "message_threshold_high_s": finite(threshold.upper),
        "give_up_age_s": finite(found.policy.give_up_age_s),
    }
    return Result("good", [found.why], None, rows | {"nests": found.nests}, facts)


def seen_so_far(tuned: Tuned) -> go.Figure | Section:
    """Where there is too little to tune on: when the layers showed what nests there are. Else nothing."""
    if tuned.found is not None or tuned.lines is None:
        return Section()
    return first_visible(tuned.lines)


@_where_tuned
def cost_slider(found: Recommendation) -> Section:
    """The message threshold, by the cost ratio: each step is computed now, so that moving it needs no kernel."""
    whatif, ratios = WhatIf(found), sorted({*COST_RATIOS, found.terms.cost_ratio})
    answers = [whatif.at(cost_ratio=ratio) for ratio in ratios]
    return Section((sliders.threshold_moved(found, answers, chosen=ratios.index(found.terms.cost_ratio)),))


@_where_tuned
def budget_slider(found: Recommendation) -> Section:
    """The poll table and what it costs, by the budget of requests; as above."""
    whatif, budgets = WhatIf(found), sorted({*BUDGETS, found.terms.allowance.requests})
    answers = [whatif.at(allowed=many) for many in budgets]
    return Section((sliders.polls_moved(found, answers, chosen=budgets.index(found.terms.allowance.requests)),))


@_where_tuned
def flips(found: Recommendation) -> Section:
    """What would change the answer: costs, budget, strata, and more nests."""
    whatif = WhatIf(found)
    said = [_ratios(whatif), _values(whatif), _budgets(whatif), *_strata(found)]
    more = [note for note in found.notes if "more nests" in note]
    said.append(" ".join(more) or "More nests would narrow the intervals, but none that is asked for here is too wide.")
    words = "If a lost join were worth more or less waiting, the tuned policy would be another:"
    return Section((Text(said), Text([words]), _lost_values(whatif)))


def _ratios(whatif: WhatIf) -> str:
    kept, now = whatif.keeps_today(), whatif.found.today.message_threshold_s
    low, high = COST_RATIOS[0], COST_RATIOS[-1]
    if not kept:
        return f"At no cost ratio from {low:g} to {high:g} is today's message threshold of {now:g} s the best."
    if len(kept) == len(COST_RATIOS):
        return f"At every cost ratio from {low:g} to {high:g} {now:g} s cannot be told from the best message threshold."
    return (
        f"For cost ratios from {kept[0]:.2g} to {kept[-1]:.2g} {now:g} s cannot be told from the best message"
        f" threshold; beyond, down to {low:g} and up to {high:g}, the message would turn at another age."
    )


def _budgets(whatif: WhatIf) -> str:
    enough, allowance = whatif.enough(), whatif.found.terms.allowance
    said = f"From {enough:,} requests in {allowance.window_s:g} s on, more would change nothing"
    if allowance.requests >= enough:
        return f"{said}: the budget of {allowance.requests:,} does not bind."
    return f"{said}; the budget of {allowance.requests:,} binds, and polls are further apart than they would be."


def _values(whatif: WhatIf) -> str:
    """The value of a lost join at which the advised policy, or the tuned one where today's is kept, stops paying."""
    found = whatif.found
    name = found.tuned.name if found.kept else found.policy.name
    value = whatif.break_even(name)
    if math.isnan(value):
        return f"{name} and today's rule lose about as much: the value of a lost join does not decide between them."
    return (
        f"As replayed, {name} and today's rule cost the same if a lost join is worth {amount(value)} s of"
        f" waiting; {found.terms.prices.lost_value:g} s were taken."
    )


def _strata(found: Recommendation) -> list[str]:
    apart = [one for one in found.strata if one.differs]
    if not apart:
        return [
            "No group of nests (relays, day, hour, host or vantage) was found for which a policy of its own would pay."
        ]
    names = ", ".join(
        f"{one.kind} {tables.without_schemes(one.name) or 'none'} ({percent(one.regret)})" for one in apart
    )
    return [f"A policy of their own would pay for: {names}; in brackets by how much the common one costs them more."]


def _lost_values(whatif: WhatIf) -> Table:
    """What is tuned at each value of a lost join."""
    values = sorted({*LOST_VALUES, whatif.found.terms.prices.lost_value})
    rows = []
    for value in values:
        one = whatif.at(lost_value=value)
        used = " (used)" if value == whatif.found.terms.prices.lost_value else ""
        rows.append(
            {
                "a lost join is worth, s": f"{value:g}{used}",
                "gives up at, s": amount(one.give_up_age_s),
                "requests per join": amount(one.requests),
                "mean delay, s": "nobody joins" if math.isnan(one.delay_s) else amount(one.delay_s),
                "lost": percent(one.lost),
            }
        )
    return numbers(rows)


def written(tuned: Tuned, out: str) -> Text:
    """Write the recommended policy where `out` says, whole or not at all; "": nowhere. Raises StoreError when it cannot
    be written."""
    if not out:
        return Text(["No policy file was asked for: give `out` to write one."])
    if tuned.found is None:
        return Text([f"Nothing is written to {out}: nothing is tuned."])
    file = tuned.found.file(
        tuned.found.policy,
        store_digest=Store.open(tuned.store, create=False).digest(),
        made_at=f"{pd.Timestamp(Clock().now(), unit='ns'):%Y-%m-%dT%H:%M:%SZ}",
        nestobs=nestobs.__version__,
    )
    try:
        write(Path(out), dumps(file))
    except OSError as error:
        raise StoreError(f"{out} cannot be written ({error.strerror}): give `out` another place") from None
    return Text([f"The policy {tuned.found.policy.name} was written to {out}."])
