"""The instrument's own calibration: does each measured interval contain the truth that a lab wrote down?

Truth is known as a bracket, too: the switch happened after `not_yet_at` and no later than `now_at`. An interval
(lower, upper] contains it when the two meet, that is

    lower < now_at   and   not_yet_at < upper

which a right-censored interval does with any later truth. A layer that never showed the nest is contained by a
right-censored interval only. Where a timeline also bounds the going, (gone_lower, gone_upper] must meet the bracket of
the last `gone` in the same way. Nothing is dropped quietly: an interval with no truth row to judge it by, or without a
single proof in it (it would contain anything), has contains = NA and says why.

Truth rows are mappings: scenario, room, address, layer (`relay:<name>` by the lab's own names), change (shown, gone or
never), not_yet_at, now_at (ns UTC on the reference clock), planned_delay_s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import pandas as pd

from nestobs.observation.columns import dicts_of, framed, instant_in
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Column

SCHEMA: Final[tuple[Column, ...]] = (
    Column("scenario", "text", "", "the lab's scenario; empty without a truth row", False),
    Column("room", "text", "", "LiveKit room", False),
    Column("vantage", "text", "", "place and clock from which it was observed", False),
    Column("layer", "text", "", "the layer by the truth's names: relay:<name>, api:info, …", False),
    Column("contains", "flag", "", "whether the interval contains the truth; NA when it cannot be judged", True),
    Column("truth_not_yet_s", "real", "s", "the truth is above this, since the timeline's origin; NaN for never", True),
    Column("truth_now_s", "real", "s", "the truth is at most this; inf for never", True),
    Column("truth_width_s", "real", "s", "width of the truth's own bracket; NaN for never", True),
    Column("lower_s", "real", "s", "of the interval, as in timelines", True),
    Column("upper_s", "real", "s", "of the interval, as in timelines", True),
    Column("width_s", "real", "s", "of the interval, as in timelines", True),
    Column("spacing_s", "real", "s", "of the bracketing polls, as in timelines", True),
    Column("miss_by_s", "real", "s", "between interval and truth; 0 when contained, inf when there is no truth", True),
    Column("cause", "text", "", "why it is missed or not judged, with the interval's marks; else empty", False),
)
"""The columns of `coverage`, in order; their types are those of observation.columns.DTYPES."""

_INF: Final = math.inf
Truth: TypeAlias = Mapping[str, Any]


def coverage(timelines: pd.DataFrame, truth_rows: Iterable[Truth], relay_names: Mapping[str, str]) -> pd.DataFrame:
    """One row per timeline that has a room, with the columns of SCHEMA, in the timelines' order.

    relay_names: URL -> the truth's name, in each vantage's own order of relays. The first of them that the vantage was
    seen to ask about a room is its selected relay, whose truth is the `client` layer's. Relays without a name have no
    truth. Causes: `no truth`, `nothing proven`, `too early` (the interval ends before the truth), `too late`, `seen but
    never shown`, and the same of the going: `gone too early`, `gone too late`, `gone but still shown`.
    """
    truth = _by_place(truth_rows)
    records = [row for row in dicts_of(timelines) if row["room"]]
    selected = _selected(records, relay_names)
    rows = []
    for row in records:
        name = _truth_layer(row["layer"], relay_names, selected.get((row["room"], row["vantage"]), ""))
        rows.append(_judged(row, _shown_as(row["layer"], name), truth.get((row["room"], name))))
    return framed(SCHEMA, {column.name: [row[column.name] for row in rows] for column in SCHEMA})


def summary(judged: pd.DataFrame) -> dict[str, Any]:
    """What a coverage frame comes to, as JSON data: exactly n, contain_truth, median_width_s, by_layer.

    n counts the intervals that could be judged. Widths are in seconds, of intervals with both ends; None when there is
    none. by_layer has n, contain_truth, median_width_s and max_width_over_spacing (polled at both ends) per layer.
    """
    known = judged[judged["contains"].notna()]
    layers = {}
    for layer, part in known.groupby("layer"):
        polled = part[np.isfinite(part["spacing_s"]) & (part["spacing_s"] > 0)]
        ratio = polled["width_s"] / polled["spacing_s"]
        layers[str(layer)] = _counted(part) | {"max_width_over_spacing": _or_none(ratio.max())}
    return _counted(known) | {"by_layer": layers}


def missed(judged: pd.DataFrame) -> pd.DataFrame:
    """The rows of a coverage frame whose interval does not contain the truth."""
    return judged[judged["contains"].eq(False).fillna(value=False).to_numpy(dtype=bool)]


def truth_width(judged: pd.DataFrame) -> dict[str, float | None]:
    """How well the truth itself is known: median and max of its brackets over the judged intervals, in seconds."""
    width = judged.loc[judged["contains"].notna(), "truth_width_s"].dropna()
    return {"median": _or_none(width.median()), "max": _or_none(width.max())}


def _counted(part: pd.DataFrame) -> dict[str, Any]:
    width = part.loc[np.isfinite(part["width_s"]), "width_s"]
    return {
        "n": len(part),
        "contain_truth": int(part["contains"].sum()),
        "median_width_s": _or_none(width.median()),
    }


def _or_none(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


@dataclass(frozen=True, slots=True)
class _Place:
    """What is known of one room and layer. shown: the first bracket, None for never. gone: the last, if it went."""

    scenario: str
    shown: tuple[int, int] | None
    gone: tuple[int, int] | None


def _by_place(truth_rows: Iterable[Truth]) -> dict[tuple[str, str], _Place]:
    found: dict[tuple[str, str], _Place] = {}
    for row in sorted(truth_rows, key=lambda one: one["now_at"] or 0):
        key = (row["room"], row["layer"])
        before = found.get(key)
        bracket = None if row["change"] == "never" else (int(row["not_yet_at"]), int(row["now_at"]))
        shown = before.shown if before else None
        gone = before.gone if before else None
        if row["change"] == "shown":
            shown = shown or bracket
        elif row["change"] == "gone":
            gone = bracket
        found[key] = _Place(str(row["scenario"]), shown, gone)
    return found


def _selected(records: Iterable[Mapping[str, Any]], relay_names: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """By room and vantage the first of its relays."""
    order = {url: number for number, url in enumerate(relay_names)}
    found: dict[tuple[str, str], str] = {}
    for row in records:
        url = row["layer"].removeprefix("relay:")
        key = (row["room"], row["vantage"])
        if url in order and order[url] < order.get(found.get(key, ""), len(order)):
            found[key] = url
    return found


def _truth_layer(layer: str, relay_names: Mapping[str, str], selected: str) -> str:
    """The layer whose truth counts, by the truth's names."""
    if layer.startswith("relay:"):
        url = layer.removeprefix("relay:")
        return f"relay:{relay_names.get(url, url)}"
    if layer == "client":
        return f"relay:{relay_names.get(selected, '')}"
    return layer


def _shown_as(layer: str, truth_layer: str) -> str:
    return layer if layer == "client" else truth_layer


def _judged(row: Mapping[str, Any], layer: str, place: _Place | None) -> dict[str, Any]:
    shown = None if place is None else place.shown
    origin = instant_in(row["origin_at"])
    cause, miss = _cause(row, place, origin)
    judged = place is not None and row["polls"] > 0
    return {
        "scenario": "" if place is None else place.scenario,
        "room": row["room"],
        "vantage": row["vantage"],
        "layer": layer,
        "contains": not cause if judged else None,
        "truth_not_yet_s": _since(origin, shown[0]) if shown else math.nan,
        "truth_now_s": _since(origin, shown[1]) if shown else _INF if place else math.nan,
        "truth_width_s": (shown[1] - shown[0]) / SECOND_NS if shown else math.nan,
        **{name: row[name] for name in ("lower_s", "upper_s", "width_s", "spacing_s")},
        "miss_by_s": miss if judged else math.nan,
        "cause": f"{cause} ({row['marked']})" if cause and row["marked"] else cause,
    }


def _cause(row: Mapping[str, Any], place: _Place | None, origin: int | None) -> tuple[str, float]:
    """Why the interval does not contain the truth ("" when it does), and by how much, seconds."""
    if place is None:
        return "no truth", math.nan
    if row["polls"] == 0:
        return "nothing proven", math.nan
    lower, upper = _ends(row, origin)
    if place.shown is None:
        return ("", 0.0) if row["right_censored"] else ("seen but never shown", _INF)
    word, miss = _against(lower, upper, place.shown)
    if word or pd.isna(row["gone_upper_s"]) or origin is None:
        return word, miss
    return _going(row, place.gone, origin)


def _going(row: Mapping[str, Any], gone: tuple[int, int] | None, origin: int) -> tuple[str, float]:
    if gone is None:
        return "gone but still shown", _INF
    word, miss = _against(_instant(origin, row["gone_lower_s"]), _instant(origin, row["gone_upper_s"]), gone)
    return (f"gone {word}" if word else ""), miss


def _against(lower: float, upper: float, bracket: tuple[int, int]) -> tuple[str, float]:
    """(lower, upper] against (not_yet, now], ns; a bracket of no width is its one instant."""
    not_yet, now = bracket
    if upper < min(not_yet + 1, now):
        return "too early", (not_yet - upper) / SECOND_NS
    if lower >= now:
        return "too late", (lower - now) / SECOND_NS
    return "", 0.0


def _ends(row: Mapping[str, Any], origin: int | None) -> tuple[float, float]:
    """The interval's ends in ns; by its bare instants where there is no origin."""
    if origin is not None:
        return _instant(origin, row["lower_s"]), _instant(origin, row["upper_s"])
    lower, upper = (instant_in(row[name]) for name in ("lower_at", "upper_at"))
    return -_INF if lower is None else lower, _INF if upper is None else upper


def _instant(origin: int, seconds: float) -> float:
    """ns as an int, exact to the nanosecond; an infinite end stays infinite."""
    return seconds if not math.isfinite(seconds) else origin + round(seconds * SECOND_NS)


def _since(origin: int | None, instant: int) -> float:
    return math.nan if origin is None else (instant - origin) / SECOND_NS
