"""What a notebook about tuning calls: a store and a proof in, sections of sentences, figures and tables out.

`load` reads and tunes; `advice`, `message`, `delays`, `asking`, `proved` and `doubts` lay out what came of it, in that
order. Where there is too little to tune on, `advice` says so and the others show nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from nestobs import figures
from nestobs.errors import UsageError
from nestobs.figures import percent
from nestobs.realised import CELLS
from nestobs.replaying import METRICS
from nestobs.reports import tables
from nestobs.reports.demo import lab_facts
from nestobs.reports.parts import Section, Text
from nestobs.session import tune
from nestobs.tuning import TooLittleDataError

if TYPE_CHECKING:
    from nestobs.policy import Policy
    from nestobs.recommendation import Recommendation

DRAWS: Final = 300
"""Resamples of a report: its reader waits for it."""

GUESSED_S: Final = (10.0, 15.0)
"""How long the web client's guide guesses that one should wait before sharing a nest."""


@dataclass(frozen=True, slots=True)
class Proved:
    """What a proof.json says: cells as realised.cells gives them; when: its window; words: a sentence about it."""

    cells: pd.DataFrame
    when: str
    words: str


@dataclass(frozen=True, slots=True)
class Tuned:
    """What the page is about. found: None where there is too little data, and why_not says what is missing. only: the
    scenarios or hosts whose nests count, none for all."""

    found: Recommendation | None
    why_not: str = ""
    only: tuple[str, ...] = ()
    proof: Proved | None = None


def load(
    store: str,
    *,
    tune_on: str | Sequence[str] = "",
    window: str = "",
    lab: str = "",
    proof: str = "",
    draws: int = DRAWS,
) -> Tuned:
    """Tune on the nests of a store, and read a proof.json beside it ("" for none).

    tune_on: scenarios of the lab that `lab` (its lab.json) describes, or hosts of APIs (`HOST:PORT`), as a list or as
    one text with blanks between; "": all nests. window: START/END, ISO 8601, UTC: only nests made in it; "": all. The
    same store and words give the same page. Raises StoreError when there is no store, UsageError for words and files
    that cannot be used.
    """
    only = _words(tune_on)
    came = read_proof(proof) if proof else None
    try:
        found = tune(store, window=_window(window), host=hosts_of(only, lab), draws=draws)
    except TooLittleDataError as error:
        return Tuned(None, str(error), only, came)
    return Tuned(found, "", only, came)


def _words(tune_on: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(tune_on.split() if isinstance(tune_on, str) else map(str, tune_on))


def hosts_of(tune_on: str | Sequence[str], lab: str = "") -> tuple[str, ...]:
    """The API hosts that these words name: a scenario's, as its lab.json says, or a host itself; none for none."""
    known = lab_facts(lab)["hosts"]
    return tuple(dict.fromkeys(host for word in _words(tune_on) for host in known.get(word, [word])))


def _window(text: str) -> tuple[pd.Timestamp, pd.Timestamp] | None:
    if not text:
        return None
    try:
        begin, end = (pd.Timestamp(part) for part in text.split("/"))
        instants = [at.tz_localize("UTC") if at.tzinfo is None else at.tz_convert("UTC") for at in (begin, end)]
    except ValueError as error:
        raise UsageError(f"window {text!r} is none: write START/END in ISO 8601, as 2026-01-01/2026-01-02") from error
    return instants[0], instants[1]


def read_proof(path: str) -> Proved:
    """What `nestobs prove` wrote. Raises UsageError for a file that is none."""
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        rows = [
            (str(policy["name"]), metric, *_cell(policy["predicted"][metric], policy["realised"][metric]))
            for policy in told["policies"]
            for metric in METRICS
            if metric in policy["realised"]
        ]
        cells = pd.DataFrame(rows, columns=list(CELLS)).astype(CELLS)
        window = pd.Series(pd.to_datetime(list(told.get("window") or ()), utc=True))
        return Proved(cells, "" if window.empty else figures.window(window), _proof_words(told, cells))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise UsageError(f"{path} is no proof ({error}): give the proof.json of nestobs prove, or nothing") from error


def _cell(predicted: dict[str, Any], realised: dict[str, Any]) -> tuple[Any, ...]:
    """value, lower, upper, realised, error_s, n, inside; null stands for what was not finite."""
    parts = (
        (predicted["value"], math.nan),
        (predicted["lower"], -math.inf),
        (predicted["upper"], math.inf),
        (realised["value"], math.nan),
        (realised["error_s"], math.nan),
    )
    return *(other if one is None else float(one) for one, other in parts), int(realised["n"]), realised["inside"]


def _proof_words(told: dict[str, Any], cells: pd.DataFrame) -> str:
    judged = cells["inside"].dropna().astype(bool)
    names = " and ".join(dict.fromkeys(cells["policy"]))
    kind = str(told.get("livekit", {}).get("kind", ""))
    return (
        f"{_many(int(told['nests']), 'fresh nest')} of {told['scenario']} (seed {told['seed']}), each joined for real"
        f" under {names}, strangers to each other, without media: {int(judged.sum())} of {len(judged)} numbers came"
        f" inside the interval that was predicted for so many joins."
        + (" LiveKit was a stand-in." if kind == "stand-in" else "")
    )


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


# sections


def advice(tuned: Tuned) -> Text:
    """What to do and why, on what it rests; or what is missing."""
    where = f"Only nests of {', '.join(tuned.only)} count. " if tuned.only else ""
    found = tuned.found
    if found is None:
        return Text([f"{where}Nothing is tuned: {tuned.why_not}."])
    return Text([found.why, _described(found.policy), f"{where}{_basis(found)}", _simplicity(found)])


def _described(policy: Policy) -> str:
    threshold, give_up = policy.message_threshold_s, policy.give_up_age_s
    return (
        f"{policy.name}: a 404 of a nest younger than {threshold:g} s is called “starting up”, of an older one “no"
        f" longer available”; {_asking(policy)}, until the nest is {give_up:g} s old."
    )


def _asking(policy: Policy) -> str:
    schedule = policy.schedule
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
    prices, allowed = found.prices, found.allowance
    return (
        f"Tuned on {_many(found.law.n, 'interval')} of {_many(found.nests, 'nest')},"
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


def message(tuned: Tuned) -> Section:
    """What to say of a 404."""
    found = tuned.found
    if found is None:
        return Section()
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
            Text([words], heading="What to say of a 404", level=3),
            figures.posterior(found),
            tables.thresholds(found),
            Text([clocks]),
            tables.errors(found),
        )
    )


def delays(tuned: Tuned) -> Section:
    """When nests can be joined, and when to share them."""
    found = tuned.found
    if found is None:
        return Section()
    words = (
        "A join succeeds from the age at which the API gives a token, to a guest if to nobody else, and LiveKit lets"
        " the joiner in. The band holds the estimate's error, the dotted bounds assume nothing but the intervals;"
        " decisions use the smoothed law."
    )
    parts: list[Any] = [Text([words], heading="When a nest can be joined", level=3), figures.delay_law(found)]
    parts += [Text([_shared(found)]), tables.sharing(found)]
    if found.strata:
        parts += [Text(["Delays differ between these nests; would a policy of their own pay?"]), tables.strata(found)]
    return Section(tuple(parts))


def _shared(found: Recommendation) -> str:
    shares = found.law.cdf(GUESSED_S)
    low, high = found.resampled.cdf(GUESSED_S)
    said = [f"{percent(s)} ({tables.percents(lo, hi)})" for s, lo, hi in zip(shares, low, high, strict=True)]
    return (
        f"How long to wait before sharing a nest? The guide guesses {GUESSED_S[0]:g} to {GUESSED_S[1]:g} s: by then"
        f" {' and '.join(said)} of the nests could be joined."
    )


def asking(tuned: Tuned) -> Section:
    """When to ask again, and what that costs."""
    found = tuned.found
    if found is None:
        return Section()
    words = (
        "Each policy was run over the recorded nests, with the join's own code in virtual time. A lost join could have"
        " been had. The simple policy is in round numbers; the tuned one is the optimum for the stated prices."
    )
    apart = "Each policy less today's rule, on the same nests and joiners: an interval without 0 is a difference."
    herd = "Many joiners of one nest, who arrive within seconds of each other: what a server sees of them."
    return Section(
        (
            Text([words], heading="When to ask again", level=3),
            figures.polls(found),
            figures.frontier(found),
            tables.policies(found),
            Text([apart]),
            tables.differences(found),
            Text([herd]),
            tables.peaks(found),
        )
    )


def proved(tuned: Tuned) -> Section:
    """Predicted beside realised, where there is a proof."""
    if tuned.found is None or tuned.proof is None:
        return Section()
    drawn = figures.proof(tuned.proof.cells, when=tuned.proof.when)
    words = Text([tuned.proof.words], heading="Did it come true?", level=3)
    return Section((words, drawn, tables.proof(tuned.proof.cells)))


def doubts(tuned: Tuned) -> Section:
    """What is assumed, missing, or cannot be told."""
    if tuned.found is None:
        return Section()
    return Section((Text(tuned.found.notes, heading="What cannot be told", level=3),))
