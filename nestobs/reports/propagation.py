"""What notebooks/propagation.ipynb calls: when nests become visible where, which layer is last, whether places agree.

`load` reads and computes; everything after it lays out what came of it, one section a cell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.estimate import agreement
from nestobs.estimate import groups as grouped
from nestobs.estimate.comparison import Span
from nestobs.estimate.groups import Group
from nestobs.estimate.proportion import share
from nestobs.figures import amount, layer_name, layer_order, percent, plain, propagation, span
from nestobs.figures.proportions import share_lanes
from nestobs.observation.detail import finite
from nestobs.reports import coverage
from nestobs.reports.answer import Answer, Tile, watch_tiles
from nestobs.reports.dataset import Observed, earlier, read
from nestobs.reports.display import Result, Section, Table, Text, drawn, many, numbers
from nestobs.reports.workbench.given import given
from nestobs.timeline.uptime import observer

LEAST_NESTS: Final = 10
"""With fewer nests the report says "too little data": a 95 % interval of a share then spans a third or more."""

AGES: Final = 240
MOST_ROWS: Final = 24
MOST_PLACES: Final = 2
"""Of so many vantages there are tiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the page is about. groups: delay laws by what they have in common; watched, stretches: as estimate.agreement
    gives them; before: the time before, None where there is none."""

    title: str
    observed: Observed
    groups: dict[str, list[Group]]
    watched: pd.DataFrame
    stretches: pd.DataFrame
    before: Span | None = None

    @property
    def when(self) -> str:
        """The window in words."""
        return self.observed.when


@given
def load(store: str, window: str = "", title: str = "", before: int = 0) -> Found:
    """Read a store and compute all that is shown. window: START/END, a day, a window's name, "" for all there is.
    before: so many windows of that length before it are set beside.

    Raises StoreError when there is no store, UsageError for a window that is none.
    """
    observed = read(store, window)
    lines = observed.timelines
    groups = {
        "layer": grouped.by_layer(lines),
        "relay": grouped.by_relay(lines),
        "vantage": grouped.by_vantage(lines),
        "hour": grouped.by_hour(lines),
    }
    rows = agreement.watched(lines)
    return Found(
        title=title or "When can somebody join an audio room, and from where?",
        observed=observed,
        groups=groups,
        watched=rows,
        stretches=agreement.stretches(rows),
        before=earlier(store, observed, before),
    )


def answer(found: Found, most_median_s: float = 0.0, least_nests: int = LEAST_NESTS) -> Answer:
    """What the page opens with; most_median_s, least_nests as in `result`."""
    came, seen = result(found, most_median_s, least_nests), found.observed
    if not seen.nests:
        told = "This store holds no observation" if seen.rows.empty else "No nest was observed"
        return Answer(found.title, f"{told}, so there is nothing to report.", result=came)
    medians = _rows(found.groups["vantage"])[: propagation.MOST_VANTAGES]
    half = "; ".join(f"{_quantile(row, 'q50')} from {plain(row['name'], 32)}" for row in medians)
    said = f"Half of the nests could be joined after {half}." if half else "No nest is known to have been joinable."
    past = (
        {} if found.before is None else {row["name"]: row for row in _rows(grouped.by_vantage(found.before.timelines))}
    )
    shown = [
        replace(tile, before=_before(row, past[row["name"]], name) if row["name"] in past else "")
        for row in medians[:MOST_PLACES]
        for name, tile in (
            ("q50", _tile(row, "half", "q50", most_median_s)),
            ("q90", _tile(row, "90 %", "q90", 0.0)),
        )
    ]
    return Answer(found.title, said, (*shown, *watch_tiles(seen.span, found.before)), came, observer(seen.rows).words)


def _before(row: dict[str, Any], past: dict[str, Any], name: str) -> str:
    """The same before, and which way it went where the two intervals do not even meet."""
    (low, high), (least, most) = ((one[f"{name}_low_s"], one[f"{name}_high_s"]) for one in (row, past))
    way = "▲ more" if low > most else "▼ less" if high < least else "＝ no difference shown"
    return f"before: {_quantile(past, name)}; {way}"


def _tile(row: dict[str, Any], part: str, name: str, most_s: float) -> Tile:
    """When this part of the nests could be joined from one vantage. most_s: a limit, 0 for none."""
    value, low, high = (row[f"{name}{end}_s"] for end in ("", "_low", "_high"))
    shown = Tile(
        f"{part} joinable, {row['name']}",
        f"{amount(value)} s" if math.isfinite(value) else "not within the watch",
        f"95 %: {span(low, high, unit='s')}; n = {row['n']:,} nests",
    )
    if not most_s > 0.0:
        return shown
    if low > most_s:
        return replace(shown, sign="breached", judged=f"above the limit of {most_s:g} s")
    well = high <= most_s
    words = f"within {most_s:g} s" if well else f"{most_s:g} s cannot be told apart"
    return replace(shown, sign="good" if well else "open", judged=words)


def seen(found: Found) -> Text:
    """What was measured: `heading` under a title of the page's own."""
    return replace(heading(found), heading="", warning="")


def heading(found: Found) -> Text:
    """What was measured, in sentences."""
    seen, lines = found.observed, found.observed.timelines
    if not seen.nests:
        said = f"{many(len(seen.rows), 'observation')}, but of no nest. {found.when}"
        return seen.heading(found.title, [said])
    proven = lines[lines["polls"] > 0]
    places, layers = lines["vantage"].nunique(), lines["layer"].nunique()
    said = (
        f"{many(seen.nests, 'nest')} watched on {many(layers, 'layer')} from {many(places, 'vantage point')}:"
        f" {many(len(seen.rows), 'observation')}, {many(len(proven), 'interval')}, of which"
        f" {int(proven['right_censored'].sum())} not seen by the end of watching. {found.when}"
    )
    parts = [said]
    medians = [
        f"{_quantile(row, 'q50')} from {plain(row['name'], 32)} (n = {row['n']})"
        for row in _rows(found.groups["vantage"])[: propagation.MOST_VANTAGES]
    ]
    if medians:
        parts.append(f"Half of the nests could be joined after {'; '.join(medians)}.")
    low, high = agreement.total(found.stretches)
    if not math.isnan(low):
        share = f"{percent(low)} to {percent(high)}"
        parts.append(f"All watched places said the same in {share} of the time that nests were watched.")
    return seen.heading(found.title, parts)


def _rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    return [dict(zip(map(str, row), row.values(), strict=True)) for row in grouped.summary(groups).to_dict("records")]


def _quantile(row: dict[str, Any], name: str) -> str:
    value = row[f"{name}_s"]
    if not math.isfinite(value):
        low = row[f"{name}_low_s"]
        return f"not within the watch (from {amount(low)} s)" if math.isfinite(low) else "not within the watch"
    return f"{amount(value)} s ({span(row[f'{name}_low_s'], row[f'{name}_high_s'], unit='s')})"


# sections


def collected(found: Found) -> Section:
    """When the collector was at work."""
    seen = found.observed
    return Section() if seen.rows.empty else coverage.shown(seen.collector, when=seen.when)


def by_layer(found: Found) -> Section:
    """Delay laws of the API's, LiveKit's and the client's layers."""
    return _laws(found, "layer", "When does each layer show a nest?")


def by_relay(found: Found) -> Section:
    """Delay laws of each relay."""
    return _laws(found, "relay", "When does each relay show a nest?")


def by_vantage(found: Found) -> Section:
    """Delay laws of when nests could be joined, from each vantage."""
    return _laws(found, "vantage", "When can a nest be joined, seen from each place?")


def _laws(found: Found, kind: str, question: str) -> Section:
    groups = found.groups[kind]
    curves = grouped.curves(groups, grouped.ages(groups))
    figure = propagation.laws(curves, question=question, when=found.when)
    order = layer_order(group.name for group in groups)
    return Section((drawn(figure), *_table(sorted(groups, key=lambda group: order.index(group.name)))))


def by_hour(found: Found) -> Section:
    """Whether the hour matters."""
    return Section((drawn(propagation.by_hour(grouped.summary(found.groups["hour"]), when=found.when)),))


def _table(groups: Sequence[Group]) -> list[Table | Text]:
    """The quantiles of each group, none of none; of many the ones of most intervals."""
    if not groups:
        return []
    most = sorted(group.law.n for group in groups)[-MOST_ROWS:][0]
    shown = [group for group in groups if group.law.n >= most][:MOST_ROWS]
    more = len(groups) - len(shown)
    rest = [Text([f"{more} more, of fewer intervals, are in the figure's data."])] if more else []
    rows = [
        {
            groups[0].kind: layer_name(str(row["name"])) if row["kind"] != "vantage" else row["name"],
            **({"vantage": row["vantage"]} if row["vantage"] else {}),
            "half visible after (95 %)": _quantile(row, "q50"),
            "90 % visible after (95 %)": _quantile(row, "q90"),
            "n": f"{row['n']:,}",
            "not by the end": f"{row['censored']:,}",
        }
        for row in _rows(shown)
    ]
    return [numbers(rows), *rest]


def last(found: Found) -> Section:
    """Which layer was the last to show a nest."""
    return Section((drawn(propagation.last_layers(agreement.last(found.watched), when=found.when)),))


def agree(found: Found) -> Section:
    """Whether all places say the same, by age and over wall time."""
    made = found.stretches
    nests = int(made["unit"].nunique())
    oldest = float(made["end_s"].max()) if len(made) else 1.0
    ages = 0.3 * np.sinh(np.linspace(0.0, np.arcsinh(max(oldest, 1.0) / 0.3), AGES))
    curve = agreement.by_age(made, ages)
    figures = [propagation.agreement_by_age(curve, nests=nests, when=found.when)]
    if len(made):
        collector = found.observed.collector
        bins = agreement.by_time(made, coverage.steps(collector))
        figures.append(propagation.agreement_by_time(bins, collector, when=found.when))
    return Section(tuple(map(drawn, figures)))


def flaps(found: Found) -> Section:
    """How often a layer that had shown a nest was then absent, and showed it again."""
    lines = found.observed.timelines
    seen = lines[lines["upper_s"].notna() & ~lines["right_censored"]]
    question = "Does a layer that showed a nest keep showing it?"
    flapped = {layer_name(str(layer)): rows["flaps"] > 0 for layer, rows in seen.groupby("layer")}
    lanes = {label: share(int(rows.sum()), len(rows)) for label, rows in flapped.items()}
    total = int(seen["flaps"].sum())
    note = (
        f"n = {len(seen)} intervals of layers that showed a nest; {total} times one was proven absent between two"
        f" visibles, in {int((seen['flaps'] > 0).sum())} of them. {found.when}"
    )
    return Section((drawn(share_lanes(question, note, lanes, of="intervals", sure="flapped")),))


def result(found: Found, most_median_s: float = 0.0, least_nests: int = LEAST_NESTS) -> Result:
    """How it came out. most_median_s: breached where the whole interval of a vantage's median age at which nests could
    be joined lies above it; 0: no such limit. least_nests: with fewer, too little data."""
    seen = found.observed
    medians = _rows(found.groups["vantage"])
    low, high = agreement.total(found.stretches)
    facts = {
        "median_joinable_s": finite(max((row["q50_s"] for row in medians), default=math.nan)),
        "agreement_least": finite(low),
        "agreement_most": finite(high),
        "not_seen": float(seen.timelines["right_censored"].sum()),
    }
    measured = many(seen.nests, "nest")
    lacks = [f"{measured}; from {least_nests} on this says something."] if seen.nests < least_nests else []
    broken = [
        f"From {plain(row['name'], 32)} half of the nests could be joined after {_quantile(row, 'q50')}: more than the"
        f" {most_median_s:g} s that were asked for."
        for row in medians
        if row["q50_low_s"] > most_median_s > 0
    ]
    limit = f" No vantage's median is proven above {most_median_s:g} s." if most_median_s > 0 else ""
    return seen.result(lacks, broken, [f"{measured} were measured.{limit}"], facts)
