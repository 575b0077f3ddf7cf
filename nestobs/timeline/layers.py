"""What each layer answered to each vantage about one nest, from the first question to the last.

That a layer was not seen means as long as it was asked.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.observation.columns import dicts_of, equals, instant_in
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Outcome
from nestobs.timeline.intervals.polls import layers_of

EXPECTED: Final = (
    "relay", "client", "api:info", "api:join", "api:guest", "livekit:room", "livekit:signal", "livekit:media",
)  # fmt: skip  # a list of words
"""Every kind of layer there is, in the order in which a nest passes through them."""

SHOWN, NOT_SEEN, WENT, UNPROVEN = "shown", "not seen", "went", "nothing proven"

LAYERS: Final[tuple[str, ...]] = (
    "layer", "vantage", "state", "origin_at", "lower_s", "upper_s", "gone_lower_s", "gone_upper_s", "polls", "unknown",
    "flaps", "marked", "origin_kind", "room_at", "event_at", "after_end",
    "livekit_down", "held_up", "first_at", "last_at", "last_s", "answers", "refused",
)  # fmt: skip  # a list of words


def layers(observations: pd.DataFrame, timelines: pd.DataFrame) -> pd.DataFrame:
    """One row per layer and vantage that was asked, in the order of the layers; the columns of LAYERS.

    `timelines` of the same observations, of one nest. state: shown, not seen (proven absent, as long as it was asked),
    went (shown, then proven absent for good), nothing proven. first_at, last_at: when it was first and last asked, ns
    UTC; last_s: the same last as an age, NaN without an origin. answers: "404 x 12, 200 x 3". refused: how many were.
    """
    code, names = layers_of(observations)
    asked = observations.assign(layer=np.append(names, "")[code])
    asked = asked[(code >= 0) & ~equals(asked["failure"], Failure.INTENT)]
    groups = {(str(key[0]), str(key[1])): rows for key, rows in asked.groupby(["layer", "vantage"])}
    lines = [(row, groups.get((row["layer"], row["vantage"]))) for row in dicts_of(timelines)]
    found = [_layer(row, mine) for row, mine in lines if mine is not None]
    found.sort(key=lambda row: (order_of(row["layer"]), row["layer"], row["vantage"]))
    return pd.DataFrame(found, columns=list(LAYERS))


def _layer(row: dict[str, Any], asked: pd.DataFrame) -> dict[str, Any]:
    first, last = int(asked["sent_at"].min()), int(asked["sent_at"].max())
    origin = instant_in(row["origin_at"])
    words = asked["status"].astype("string").fillna(asked["failure"].astype("string")).fillna(asked["outcome"])
    counts = words.value_counts()
    kept = {name: row[name] for name in LAYERS if name in row}
    return kept | {
        "state": _state(row),
        "origin_at": origin,
        "first_at": first,
        "last_at": last,
        "last_s": math.nan if origin is None else (last - origin) / SECOND_NS,
        "answers": ", ".join(f"{word} x {count}" for word, count in counts.items()),
        "refused": int((asked["outcome"] == Outcome.REFUSED).sum()),
    }


def _state(row: dict[str, Any]) -> str:
    if not row["polls"]:
        return UNPROVEN
    if row["right_censored"]:
        return NOT_SEEN
    return SHOWN if pd.isna(row["gone_upper_s"]) and pd.isna(row["gone_lower_s"]) else WENT


def order_of(layer: str) -> int:
    """Of its kind in EXPECTED, from 0; one beyond the last for no kind there is."""
    return next((number for number, kind in enumerate(EXPECTED) if layer.startswith(kind)), len(EXPECTED))
