"""The nests of many observations, the worst first, from a few columns and before anything else is made of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.observation.arrays import NONE, Flags, Ints, Texts, count_of, least_at
from nestobs.observation.columns import equals, instants_of, paired
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.timeline.intervals.polls import layers_of
from nestobs.timeline.joins import groups_of, once
from nestobs.timeline.layers import order_of
from nestobs.timeline.nests import Nests, nests_of

RANKING: Final = (
    "nest", "room", "first_at", "observations", "joins", "failed", "cut_off", "unseen", "last_layer", "last_s",
)  # fmt: skip  # a list of words

RANKED_BY: Final = (
    "nest", "room", "trace_id", "source", "operation", "target", "outcome", "failure", "sent_at", "received_at",
    "run_id", "attempt_group",
)  # fmt: skip  # a list of words
"""The columns of observations that `ranking` needs."""


def ranking(observations: pd.DataFrame) -> pd.DataFrame:
    """One row per nest, the worst first; the columns of RANKING.

    Worst: most joins that ended and did not get in, then most layers that proved absent and never showed it, then the
    one whose last layer came latest. Which rows are of one nest is `nests_of`'s to say; rows of none are left out.
    first_at: its first row, ns UTC. unseen: layers that only ever proved absent. last_layer, last_s: which layer came
    last, and how long after the first row, NaN where none came.
    """
    about = nests_of(observations)
    known = about.unit >= 0
    named = observations[known]
    if named.empty:
        return pd.DataFrame(columns=list(RANKING))
    about = replace(about, unit=about.unit[known], nest=about.nest[known], room=about.room[known])
    layer, layers = layers_of(named)
    sent, _ = instants_of(named["sent_at"])
    intent = equals(named["failure"], Failure.INTENT)
    visible, absent = (equals(named["outcome"], one) & ~intent for one in (Outcome.VISIBLE, Outcome.ABSENT))
    proven = (visible | absent) & (layer >= 0)
    found = pd.DataFrame({"first_at": least_at(sent, about.unit, about.units)})
    found["observations"] = np.bincount(about.unit, minlength=about.units)
    for name, codes, texts in (("nest", about.nest, about.nests), ("room", about.room, about.rooms)):
        best = np.full(about.units, -1, dtype=np.int64)
        np.maximum.at(best, about.unit, codes)
        found[name] = np.append(texts, "")[best]
    joins = equals(named["source"], Source.JOIN) & equals(named["operation"], Operation.VERDICT)
    found = found.assign(**_ended(named, about, joins, intent, visible))
    found = found.assign(**_came(named, about, np.where(proven, layer, -1), layers, visible))
    found["last_s"] = (found.pop("last_at") - found["first_at"]) / SECOND_NS
    order = found.assign(name=about.names).sort_values(
        ["failed", "unseen", "last_s", "first_at", "name"],
        ascending=[False, False, False, True, True],
        na_position="last",
    )
    return order.reset_index(drop=True)[list(RANKING)]


def _ended(named: pd.DataFrame, about: Nests, joins: Flags, intent: Flags, visible: Flags) -> dict[str, Ints]:
    """Of each unit how many joins ended, how many of these did not get in, and how many never ended; each counts once,
    by its first verdict."""
    group = groups_of(named)
    over = np.zeros(count_of(group) + 1, dtype=bool)
    over[group[joins & ~intent]] = True
    ended = once(named, np.flatnonzero(joins & ~intent))
    cut = once(named, np.flatnonzero(joins & intent & ~over[group]))
    failed = ended[~visible[ended]]
    return {
        name: np.bincount(about.unit[which], minlength=about.units)
        for name, which in (("joins", ended), ("failed", failed), ("cut_off", cut))
    }


def _came(named: pd.DataFrame, about: Nests, layer: Ints, layers: Texts, visible: Flags) -> dict[str, Any]:
    """Of each unit how many layers only proved absent, which was shown last, and when (ns, NaN for none). layer: of the
    rows that prove something, else -1."""
    received, answered = instants_of(named["received_at"])
    told = layer >= 0
    place = paired(about.unit[told], layer[told])
    size = count_of(place)
    unit, of = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    unit[place], of[place] = about.unit[told], layer[told]
    shown = (visible & answered)[told]
    at = least_at(received[told][shown], place[shown], size)
    came = np.flatnonzero(at != NONE)
    order = np.array([*map(order_of, layers)], dtype=np.int64)
    came = came[np.lexsort((order[of[came]], at[came]))]  # of those at one instant the last that a nest passes through
    last = np.full(about.units, -1, dtype=np.int64)
    last[unit[came]] = came  # the last write stands
    some = last >= 0
    return {
        "unseen": np.bincount(unit[at == NONE], minlength=about.units),
        "last_layer": np.where(some, np.append(layers, "")[of[last] if size else last], ""),
        "last_at": np.where(some, at[last] if size else np.nan, np.nan),
    }
