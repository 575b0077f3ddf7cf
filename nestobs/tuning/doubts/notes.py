"""Sentences on what a tuning assumes, cannot tell, or would need. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nestobs.estimate.npmle import DelayLaw, Number
from nestobs.estimate.strata import Grouping
from nestobs.join.policy import Policy
from nestobs.observation.text import percent
from nestobs.timeline.delays import BlockKind
from nestobs.tuning.decisions import Decisions, Terms
from nestobs.tuning.recommendation import UNIDENTIFIED, Stratum, apart_words
from nestobs.tuning.replay import Replay
from nestobs.tuning.threshold import TODAY_S, more_for_width


def notes(
    *,
    law: DelayLaw,
    plan: Decisions,
    message: Number,
    strata: tuple[Stratum, ...],
    apart: Sequence[Grouping],
    block_kind: BlockKind,
    base: Replay,
    terms: Terms,
    watched_s: float,
) -> list[str]:
    """What of a tuning is assumed, not identifiable or missing. base: today's rule; watched_s: the age to which nests
    were watched."""
    missing = law.rows.lower[np.isposinf(law.rows.upper)]
    said = [f"Never means: not within the {missing.max():.0f} s that nests were watched."] if len(missing) else []
    straddle = float(law.ambiguous([TODAY_S])[0])
    if straddle > 0.02:
        said.append(f"{percent(straddle)} of the rows straddle {TODAY_S:g} s: polls more often around it would help.")
    if plan.table.stop_age > watched_s:
        said.append(f"The give-up age lies beyond the {watched_s:.0f} s watched: what comes then is not known.")
    if law.never == 0:
        said.insert(0, UNIDENTIFIED)
    said += failed(terms, base.policy, plan.policy)
    said += _more(law, message)
    if block_kind != "day and host":
        said.append(f"Too few days and hosts to resample by: the blocks are {block_kind}s; intervals may be narrow.")
    if plan.price > terms.prices.request_cost:
        said.append(f"The budget binds: at {terms.allowance.per_join:g} requests a join, one costs {plan.price:.2g} s.")
    if plan.requests > terms.allowance.per_join:
        said.append("The budget does not even pay the first attempts: fewer joins can be expected in a window.")
    asks = base.numbers["requests_per_join"].value
    if asks > terms.allowance.per_join:
        said.append(f"{base.policy.name} itself makes {asks:.1f} requests a join, more than the budget allows.")
    said += [apart_words(one, strata) for one in apart]
    if any(one.differs for one in strata):
        names = ", ".join(f"{one.kind} {one.name}" for one in strata if one.differs)
        said.append(f"A policy of their own would differ for: {names}.")
    return said


def failed(terms: Terms, today: Policy, tuned: Policy) -> list[str]:
    """What failed, and what policies make of it."""
    if terms.failures is None:
        return ["How often requests fail is not known: what is predicted holds for a network that always answers."]
    token, signal = terms.failures.token, terms.failures.signal
    own = []
    if held := terms.failures.held_up:
        asked = terms.failures.requests
        own.append(f"{held} of {asked} requests ran while the observing machine was held up, and are not counted.")
    told = [
        f"one {what} in {1.0 / tally.share:.1f} failed ({tally.failed} of {tally.asked})"
        for what, tally in (("request for a token", token), ("connection to LiveKit", signal))
        if tally.failed
    ]
    if not told:
        return own
    tries = "; ".join(
        f"{one.name} retries errors {one.error_retries} times and tries a connection {one.connect_attempts} times"
        for one in (today, tuned)
    )
    return [*own, f"Of what joins asked, {' and '.join(told)}: {tries}. Failures are taken to be independent."]


def _more(law: DelayLaw, message: Number) -> list[str]:
    """How many more nests the threshold wants."""
    n = law.n
    if not math.isfinite(message.upper):
        return [
            f"The message threshold has no upper end: {law.censored} of {n} rows never came, too few to say"
            " from which age a nest that is not there yet will not come."
        ]
    width = message.upper - message.lower
    if width <= 10.0:
        return []
    return [
        f"The message threshold is known to {width:.0f} s; "
        f"about {more_for_width(n, width, 10.0)} more nests would make that 10 s."
    ]
