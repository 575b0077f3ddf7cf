"""Nests of a standing fault: the room is there and no join ever gets in. They are neither late nor "never".

    standing    /info was active, LiveKit listed the room, and from then on every join was answered 404 to the end
    lag         of a nest that let somebody in: from when /info was active (and LiveKit listed the room) to a token

One fault holds for a nest, whoever asks, so all its vantages are taken together: one that got in refutes it. Where
LiveKit was not asked, it takes longer to tell, since then a late room looks the same.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from nestobs.join.policy import FAULT_AFTER_S
from nestobs.observation.columns import lines_of
from nestobs.timeline.delays import created, joinable

LISTED_S: Final = 30.0
UNLISTED_S: Final = FAULT_AFTER_S
"""How long the 404s must have gone on, where LiveKit listed the room and where it was not asked."""

_ROUTES: Final = ("api:join", "api:guest")


def standing(timelines: pd.DataFrame) -> pd.DataFrame:
    """The nests of a standing fault in `timelines` (as nestobs.timelines gives them), one row each.

    Columns: unit (trace_id, or the nest's address), nest, since_s (from when it is known to stand), until_s (the last
    404 that proves it, while /info was still active and the room still listed), listed (whether LiveKit was asked).
    """
    table = _proven(created(timelines))
    info, room, seats = (table[table["layer"].isin(names)] for names in (("api:info",), ("livekit:room",), _ROUTES))
    routes = seats.groupby("unit").agg(nest=("nest", "first"), came=("upper_s", "min"), last=("lower_s", "max"))
    found = _ends(info).join(_ends(room).add_suffix("_room")).join(routes)
    listed = found["first_room"].notna()
    since = np.fmax(found["first"], found["first_room"])
    until = np.fmin(np.fmin(found["last"], found["seen"]), found["seen_room"])
    stands = np.isinf(found["came"]) & np.isfinite(since) & (until - since >= np.where(listed, LISTED_S, UNLISTED_S))
    made = {"unit": found.index, "nest": found["nest"], "since_s": since, "until_s": until, "listed": listed}
    return pd.DataFrame({name: np.asarray(values)[stands] for name, values in made.items()})


def lags(timelines: pd.DataFrame, *, signed_in: bool = True, listed: bool = False) -> pd.DataFrame:
    """lower_s, upper_s of the lag, one row a nest that let somebody in and a vantage that saw all of it.

    listed: from when /info was active and LiveKit listed the room; else from /info alone. At once, or before that, is
    0. No such nest: an empty frame.
    """
    seats = joinable(timelines, signed_in=signed_in)
    keys = ["unit", "vantage"]
    seats = seats.loc[np.isfinite(seats["upper_s"]), [*keys, "lower_s", "upper_s"]]
    table = _proven(created(timelines))
    for layer in ("api:info", "livekit:room")[: 1 + listed]:
        mine = table.loc[(table["layer"] == layer) & np.isfinite(table["upper_s"]), [*keys, "lower_s", "upper_s"]]
        seats = seats.merge(mine.drop_duplicates(keys), on=keys, suffixes=("", f"_{layer}"))
    early = seats.filter(like="lower_s_").max(axis=1).clip(lower=0.0)
    late = seats.filter(like="upper_s_").max(axis=1)
    return pd.DataFrame(
        {"lower_s": (seats["lower_s"] - late).clip(lower=0.0), "upper_s": (seats["upper_s"] - early).clip(lower=0.0)}
    )


def _proven(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that prove something and have an origin, each with its unit."""
    table = table[table["origin_at"].notna() & table["upper_s"].notna() & (table["polls"] > 0)]
    unit, units = lines_of(table)
    return table.assign(unit=pd.array(units[unit], dtype="str"))


def _ends(table: pd.DataFrame) -> pd.DataFrame:
    """By unit: first (by when it was visible; inf: never) and seen (until when it still was; NaN: never)."""
    return table.groupby("unit").agg(first=("upper_s", "min"), seen=("seen_until_s", "max"))
