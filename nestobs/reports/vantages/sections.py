"""What the page shows below its answer: figures and tables, a section a cell."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final

from nestobs.estimate.difference import Ends
from nestobs.estimate.proportion import Share
from nestobs.estimate.vantages import MOST_LATE, SEAT, Behind, Pair
from nestobs.estimate.vantages import parted as window_of
from nestobs.figures import amount, layer_name, percent, plain, propagation, span
from nestobs.figures.proportions import share_lanes
from nestobs.observation.columns import records
from nestobs.reports import coverage
from nestobs.reports.display import Section, Table, Text, drawn, many, numbers
from nestobs.reports.vantages.found import Found
from nestobs.reports.vantages.opening import absences, name

MOST_ROWS: Final = 24
MOST_LANES: Final = 16
_NONE: Final = "No nest was watched by two vantages, so there is nothing to set side by side."


def what(layer: str) -> str:
    """A layer in a table."""
    return "a seat" if layer == SEAT else layer_name(layer)


# figures


def who_first(found: Found) -> Section:
    """Who saw it first, on the page's main layer."""
    joins = found.main == SEAT
    question = "Who could join first?" if joins else f"Who saw it first on {layer_name(found.main)}?"
    beside = found.behind.get(found.main, [])
    if not beside:
        return Section()
    lanes = {plain(one.vantage, 80): one.first for one in beside}
    note = (
        f"n = {_most(beside)} nests that two vantages watched and one saw. Full: proven first, both clocks' errors"
        f" included; hatched: it cannot be told.{_left_out(found)} {found.when}"
    )
    return Section((drawn(share_lanes(question, note, lanes, of="nests", sure="surely first")),))


def _left_out(found: Found) -> str:
    return f" {many(found.left_out, 'vantage')} that watched less not compared." if found.left_out else ""


def _most(beside: list[Behind]) -> str:
    """How many nests, from the least to the most of a vantage."""
    counts = sorted({one.n for one in beside})
    return f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"


def parted(found: Found) -> Section:
    """At which ages one could join and another could not."""
    if not found.parted:
        return Section()
    figure = propagation.parted_by_age(found.curve, nests=found.parted, unsure=found.coarse, when=found.when)
    return Section((drawn(figure),))


def relays_late(found: Found) -> Section:
    """Which relay serves whom late."""
    question = "Which relay serves whom late?"
    if not found.relays:
        return Section((Text([_no_relay(found)]),)) if len(found.vantages) > 1 else Section()
    ranked = sorted(found.relays, key=lambda one: (-one.late(found.late_s).value, one.layer, one.vantage))
    shown = ranked[:MOST_LANES]
    lanes = {f"{layer_name(one.layer)}<br>{plain(one.vantage, 80)}": one.late(found.late_s) for one in shown}
    more = len(ranked) - len(shown)
    rest = f" {more} more, less late, are in the table." if more else ""
    note = (
        f"n = {_most(found.relays)} nests. Late: {found.late_s:g} s or more after the first of the others saw it on"
        f" that relay, or never.{rest} {found.when}"
    )
    return Section((drawn(share_lanes(question, note, lanes, of="nests", sure="surely late")),))


def _no_relay(found: Found) -> str:
    if len(found.vantages) < 2:
        return _NONE
    watched = any(layer.startswith("relay:") for layer in found.observed.timelines["layer"])
    if not watched:
        return "No relay was asked."
    return (
        "No relay was asked by two vantages under one URL. Where they reach it by different ones, give these as"
        " `same_relays`, a blank between them."
    )


# tables


def seen(found: Found) -> Text:
    """What was measured, in sentences."""
    each = "; ".join(f"{name(vantage)} {many(count, 'nest')}" for vantage, count in list(found.nests.items())[:12])
    said = [f"{many(found.observed.nests, 'nest')}, {many(len(found.observed.rows), 'observation')}. {found.when}"]
    said += [f"Proven of, by vantage: {each}."] if each else []
    return replace(found.observed.heading("", said), heading="", warning="")


def by_layer(found: Found) -> Section:
    """Each layer and vantage beside the first of the others."""
    rows = [
        {
            "layer": what(one.layer),
            "vantage": name(one.vantage),
            "n": f"{one.n:,}",
            "surely first": _share(one.first, surely=True),
            "possibly": percent(one.first.value + one.first.doubt),
            "half behind by (95 %)": f"{_value(one.quantile())} ({_ends(one.quantile())})",
            "never seen": f"{int(one.unseen.sum()):,}",
        }
        for found_of in found.behind.values()
        for one in found_of
    ]
    return _tabled(rows, [_NONE])


def by_pair(found: Found) -> Section:
    """The pairs of each layer, those first that are furthest apart; and how long one was in and the other was not."""
    every = [one for pairs in found.pairs.values() for one in pairs if one.n]
    every.sort(key=lambda one: (one.way == "not shown", one.layer != found.main, -one.n))
    rows = [
        {
            "layer": what(one.layer),
            "A": name(one.first),
            "B": name(one.second),
            "n": f"{one.n:,}",
            "A first": f"{one.first_first.least:,}",
            "B first": f"{one.second_first.least:,}",
            "not told": f"{one.untold:,}" + (f", {one.by_clocks:,} for the clocks" if one.by_clocks else ""),
            "half of B less A (95 %)": f"{_value(one.quantile())} ({_ends(one.quantile())})",
            "B is": one.way,
        }
        for one in every
    ]
    seats = [one for one in every if one.layer == SEAT]
    windows = [row for one in seats for row in (_window(one), _window(one.turned())) if row is not None]
    words = (
        "How long one could join while the other was told “not found”, of the nests of which that is sure: between the"
        " two values lies the window of the middle one of them."
    )
    neither = sum(one.neither for one in every if one.layer == SEAT)
    unseen = (
        [Text([f"{many(neither, 'seat')} that neither of a pair ever had are in none of its shares."])]
        if neither
        else []
    )
    beside = [Text([words]), *_tabled(windows, []).parts] if windows else []
    return Section((*_tabled(rows, [_NONE]).parts, *unseen, *beside))


def _window(one: Pair) -> dict[str, str] | None:
    found = window_of(one)
    if not found.count:
        return None
    return {
        "could join": name(one.first),
        "was told “not found”": name(one.second),
        "surely, of n nests": f"{found.count:,} of {one.n:,}",
        "half of these for": span(found.least_s, found.most_s, unit="s"),
        "the longest": f"at least {amount(found.longest_s)} s",
    }


def by_relay(found: Found) -> Section:
    """Each relay and vantage: how many nests late, by how much half of them, how many missing."""
    ranked = sorted(found.relays, key=lambda one: (-one.late(found.late_s).value, one.layer, one.vantage))
    rows = [
        {
            "relay": layer_name(one.layer),
            "vantage": name(one.vantage),
            "n": f"{one.n:,}",
            "surely late": _share(one.late(found.late_s), surely=True),
            "possibly": percent(one.late(found.late_s).value + one.late(found.late_s).doubt),
            "missing": f"{one.missing(found.late_s):,}",
            "half behind by (95 %)": f"{_value(one.quantile())} ({_ends(one.quantile())})",
            "serves it": one.served(found.late_s),
        }
        for one in ranked
    ]
    words = (
        f"Late is {found.late_s:g} s or more behind, and behind is after the first of the others; missing, of the late:"
        " never seen. A relay"
        f" serves a vantage late where surely more than {percent(MOST_LATE)} of nests are late, in time where surely"
        " not; the intervals hold for all relays and vantages together."
    )
    return Section((Text([words]), *_tabled(rows, []).parts)) if rows else Section((Text([_no_relay(found)]),))


def clocks(found: Found) -> Section:
    """What each vantage's clock was off by, and how surely."""
    rows = []
    for one in records(found.clocks):
        told = "never compared"
        if one.compared:
            told = f"{_signed(one.low_s)} to {_signed(one.high_s)} s"
        rows.append(
            {
                "vantage": name(str(one.vantage)),
                "ahead of the API's clock by": told,
                "give or take": f"{amount(one.error_s)} s" if one.compared else "",
                "runs": f"{one.runs:,}",
                "compared": f"{one.compared:,}",
                "on one clock with": plain(one.together, 120),
            }
        )
    several = [one for one in found.pairs.get(found.main, []) if one.one_clock < one.n]
    blamed = sum(one.by_clocks for one in found.pairs.get(found.main, []))
    said = "Vantages of one process share a clock: between them no clock's error counts."
    if several:
        most = max(one.error_s for one in several)
        bound = "by anything, as one was never compared" if math.isinf(most) else f"by {amount(most)} s at most"
        said += f" Others are put on the API's clock, and may then be apart {bound}. Of {many(blamed, 'nest')} that"
        said += " alone is why it cannot be told who was first."
    return _tabled(rows, [said]) if rows else Section((Text([said]),))


def attended(found: Found) -> Section:
    """Who was there: from when to when, held up how often, of how many nests."""
    rows = [
        {
            "vantage": name(str(one.vantage)),
            "first row, UTC": f"{one.first_at:%Y-%m-%d %H:%M:%S}",
            "last row, UTC": f"{one.last_at:%Y-%m-%d %H:%M:%S}",
            "held up": percent(float(one.held_up)),
            "nests proven of": f"{found.nests.get(str(one.vantage), 0):,}",
        }
        for one in records(found.attended)
    ]
    return _tabled(rows, absences(found))


def collected(found: Found) -> Section:
    """When the collector was at work."""
    seen = found.observed
    return Section() if seen.rows.empty else coverage.shown(seen.collector, when=seen.when)


def _tabled(rows: list[dict[str, str]], said: list[str]) -> Section:
    """A table of at most MOST_ROWS rows under sentences; sentences alone where it has none."""
    more = len(rows) - MOST_ROWS
    rest = [Text([f"{more} more rows are not shown."])] if more > 0 else []
    table: list[Table | Text] = [numbers(rows[:MOST_ROWS]), *rest] if rows else []
    words = [Text(said)] if said and (said != [_NONE] or not rows) else []
    return Section((*words, *table))


def _share(one: Share, *, surely: bool) -> str:
    low, high = one.by_chance() if surely else one.by_chance_and_doubt()
    return f"{percent(one.value)} ({percent(low)} to {percent(high)})"


def _value(half: Ends) -> str:
    if math.isinf(half.least) and math.isinf(half.most):
        return "not known"
    return span(half.least, half.most, unit="s")


def _ends(half: Ends) -> str:
    return span(half.low, half.high, unit="s")


def _signed(value: float) -> str:
    return f"{value:+.2f}"
