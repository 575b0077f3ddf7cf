"""What the page opens with: one sentence, tiles, a verdict; and what has to be known before any of it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Final

from nestobs.estimate.difference import Ends
from nestobs.estimate.vantages import SEAT, Pair, worst
from nestobs.figures import amount, layer_name, percent, plain, span
from nestobs.observation.columns import records
from nestobs.observation.detail import finite
from nestobs.reports.answer import Answer, Tile, watch_tiles
from nestobs.reports.display import Result, many
from nestobs.reports.vantages.found import Found
from nestobs.timeline.uptime import GAP_S, observer

LEAST_NESTS: Final = 10
"""With fewer nests that two vantages watched the report says "too little data"."""

SECOND: Final = (
    "A second vantage makes the page: on another computer `nestobs watch --host KEY --vantage NAME` beside"
    " `nestobs canary` here, or here `nestobs canary --vantages FILE`, or `--also NAME` in one process. The rows of all"
    " go into one store."
)
_MOST_WARNED: Final = 3


def answer(found: Found, most_apart_s: float = 0.0, least_nests: int = LEAST_NESTS) -> Answer:
    """What the page opens with; most_apart_s, least_nests as in `result`."""
    came = result(found, most_apart_s, least_nests)
    if found.observed.rows.empty:
        return Answer(found.title, "This store holds no observation, so there is nothing to report.", result=came)
    shown = watch_tiles(found.observed.span)
    pair = most_apart(found)
    if pair is None:
        return Answer(found.title, nothing_to_compare(found), shown, came, _warning(found))
    tiles = (*_firsts(pair), _half(pair, most_apart_s), _parted(found), _relays(found), _clocks(found))
    return Answer(found.title, sentence(found, pair), (*filter(None, tiles), *shown), came, _warning(found))


def result(found: Found, most_apart_s: float = 0.0, least_nests: int = LEAST_NESTS) -> Result:
    """How it came out. most_apart_s: breached where half of the nests surely come to one vantage later than to another
    by more; 0: no such limit. least_nests: where no two vantages watched so many, too little data."""
    pair = most_apart(found)
    half = None if pair is None else pair.quantile()
    facts = {
        "vantages": float(len(found.vantages)),
        "half_apart_least_s": None if half is None else finite(half.low),
        "half_apart_most_s": None if half is None else finite(half.high),
        "first_surely": None if pair is None else finite(pair.first_first.value),
        "second_surely": None if pair is None else finite(pair.second_first.value),
        "served_late": float(sum(one.served(found.late_s) == "late" for one in found.relays)),
    }
    most = max((one.n for one in found.pairs.get(found.main, [])), default=0)
    lacks = []
    if pair is None:
        lacks = [nothing_to_compare(found)] if len(found.observed.rows) else []
        lacks += [SECOND]
    elif most < least_nests:
        lacks = [f"Two vantages watched {many(most, 'nest')} together; from {least_nests} on this says something."]
    broken = [
        f"{name(one.second)} comes typically (median) later than {name(one.first)} by {_difference(half_of)}: more than"
        f" the {most_apart_s:g} s that were asked for."
        for one, half_of in ((one, one.quantile()) for one in _later(found))
        if half_of.low > most_apart_s > 0.0
    ]
    limit = f" None is proven to be more than {most_apart_s:g} s behind another." if most_apart_s > 0 else ""
    return found.observed.result(lacks, broken, [f"{many(most, 'nest')} were compared.{limit}"], facts)


def most_apart(found: Found) -> Pair | None:
    """Of the page's main layer the two vantages that are surely furthest apart; None where there are no two."""
    return worst(found.pairs.get(found.main, []))


def _later(found: Found) -> list[Pair]:
    """The pairs of the main layer, each turned so that the later one is its second where that is shown."""
    told = [one for one in found.pairs.get(found.main, []) if one.n]
    return [one.turned() if one.way == "earlier" else one for one in told]


def nothing_to_compare(found: Found) -> str:
    """Why there is nothing to set side by side."""
    names = found.vantages
    if len(names) == 1:
        return f"All of this was observed from one vantage, {name(names[0])}: there is none to set beside it."
    if not found.nests:
        return "No nest was observed, so there is nothing to set side by side."
    return f"{len(names)} vantages observed, but none of them a nest that another watched, too."


def name(vantage: str) -> str:
    """A vantage's name in a sentence."""
    return plain(vantage, 32)


def sentence(found: Found, pair: Pair) -> str:
    """Which of two is later, by how much and how surely; of many, of the two that are furthest apart."""
    first, second, half = name(pair.first), name(pair.second), pair.quantile()
    joins = pair.layer == SEAT
    could = "could join" if joins else f"saw nests on {layer_name(pair.layer)}"
    count = len(found.pairs[found.main])
    among = "" if count == 1 else f"; 95 % for all {count} pairs together"
    if pair.way == "not shown":
        whom = f"{first} and {second}" if count == 1 else f"any two of {len(_names(found))} vantages"
        what = "when they could join" if joins else f"when they saw nests on {layer_name(pair.layer)}"
        by = f"typically (median of {many(pair.n, 'nest')}) {second} came {_beside(half, first)}{among}"
        said = f"No difference is shown between {whom} in {what}: {by}."
    else:
        most = "" if count == 1 else f"Furthest apart of {len(_names(found))} vantages: "
        said = (
            f"{most}{second} {could} later than {first}, typically (median of {many(pair.n, 'nest')}) by"
            f" {_difference(half)}{among}."
        )
    return f"{said} {_firsts_said(pair)}"


def _names(found: Found) -> set[str]:
    return {one for pair in found.pairs[found.main] for one in (pair.first, pair.second)}


def _firsts_said(pair: Pair) -> str:
    first, second = pair.first_first.least, pair.second_first.least
    who = f"{name(pair.first)} with {first}, {name(pair.second)} with {second}"
    if not first and not second:
        return f"Which of the two was first can be told of none of {many(pair.n, 'nest')}{_clocks_said(pair)}."
    untold = f"; with {pair.untold} it cannot be told{_clocks_said(pair)}" if pair.untold else ""
    return f"Surely first was, of {many(pair.n, 'nest')}, {who}{untold}."


def _clocks_said(pair: Pair) -> str:
    return f" (with {pair.by_clocks} for their clocks alone)" if pair.by_clocks else ""


def _beside(half: Ends, first: str) -> str:
    """When one came beside the other, in words: what the rows leave open, then its interval."""
    ends = f"95 %: {_side(half.low)} to {_side(half.high)}"
    if math.isinf(half.least) and math.isinf(half.most):
        return f"at any time beside {first} ({ends})"
    return f"between {_side(half.least)} and {_side(half.most)} {first} ({ends})"


def _side(value: float) -> str:
    way = "before" if value < 0 else "after"
    return f"any time {way}" if math.isinf(value) else f"{amount(abs(value))} s {way}"


def _difference(half: Ends) -> str:
    """A median in words: what the rows leave open, then its interval."""
    if math.isinf(half.least) and math.isinf(half.most):
        value = "any time"
    elif math.isinf(half.most):
        value = f"{amount(half.least)} s or more"
    elif math.isinf(half.least):
        value = f"at most {amount(half.most)} s"
    else:
        value = span(half.least, half.most, unit="s")
    return f"{value} (95 %: {span(half.low, half.high, unit='s')})"


# tiles


def _firsts(pair: Pair) -> tuple[Tile, Tile]:
    """In which share of the nests each was surely the first."""
    where = "" if pair.layer == SEAT else f", {layer_name(pair.layer)}"
    made, both = [], (pair.first, pair.second)
    for vantage, other, share in zip(both, both[::-1], (pair.first_first, pair.second_first), strict=True):
        low, high = share.by_chance()
        possibly = f"possibly {percent(share.value + share.doubt)}; " if share.doubt else ""
        words = f"surely, 95 %: {percent(low)} to {percent(high)}\n{possibly}n = {many(share.n, 'nest')}"
        made.append(Tile(f"{name(vantage)} before {name(other)}{where}", percent(share.value), words))
    return made[0], made[1]


def _half(pair: Pair, most_s: float) -> Tile:
    """Half of the differences. most_s: a limit, 0 for none."""
    half = pair.quantile()
    least, most = (f"{amount(one)}" if math.isfinite(one) else "" for one in (half.least, half.most))
    value = f"{least} to {most} s" if least and most else f"{least} s or more" if least else f"at most {most} s"
    value = "not known" if not least and not most else value
    words = (
        f"{name(pair.second)} after {name(pair.first)}; below 0: before it\n95 %: {span(half.low, half.high, unit='s')}"
    )
    shown = Tile("typically apart (median)", value, f"{words}; n = {many(pair.n, 'nest')}")
    if not most_s > 0.0:
        judged = "no difference shown" if pair.way == "not shown" else "a difference is shown"
        return replace(shown, sign="open" if pair.way == "not shown" else "none", judged=judged)
    if max(half.low, -half.high) > most_s:
        return replace(shown, sign="breached", judged=f"above the limit of {most_s:g} s")
    well = max(half.high, -half.low) <= most_s
    said = f"within {most_s:g} s" if well else f"{most_s:g} s cannot be told apart"
    return replace(shown, sign="good" if well else "open", judged=said)


def _parted(found: Found) -> Tile | None:
    """Of how many nests one vantage was told "no" when another could join already."""
    share = found.told_no
    if not share.n:
        return None
    low, high = share.by_chance()
    words = f"of nests, surely; 95 %: {percent(low)} to {percent(high)}\nn = {many(share.n, 'nest')}"
    return Tile("one in, another told “not found”", percent(share.value), words)


def _relays(found: Found) -> Tile | None:
    """How many relays serve a vantage late."""
    if not found.relays:
        return None
    counts = Counter(one.served(found.late_s) for one in found.relays)
    late = counts["late"]
    rest = f"{counts['in time']} in time, of {counts['cannot be told']} it cannot be told"
    words = f"of {many(len(found.relays), 'relay')} and vantages, by {found.late_s:g} s or never\n{rest}"
    shown = Tile("relays that serve one late", f"{late}", words)
    if late:
        return shown
    doubt = counts["cannot be told"] > 0
    return replace(shown, sign="open" if doubt else "good", judged="not shown of any" if doubt else "none does")


def _clocks(found: Found) -> Tile:
    """How far the clocks that were compared may be apart."""
    pairs = [one for one in found.pairs[found.main] if one.n]
    several = [one for one in pairs if one.one_clock < one.n]
    if not several:
        return Tile("clocks apart by", "0 s", "all ran in one process, on one clock", sign="good", judged="no error")
    most = max(one.error_s for one in several)
    blamed, n = sum(one.by_clocks for one in pairs), sum(one.n for one in pairs)
    value = "not known" if math.isinf(most) else f"±{amount(most)} s"
    words = "one was never compared with the API's" if math.isinf(most) else "at most, beyond what is set right"
    judged = f"{blamed:,} of {n:,} not told for that" if blamed else "decides nothing"
    return Tile("clocks apart by", value, words, sign="open" if blamed else "good", judged=judged)


# before all


def absences(found: Found) -> list[str]:
    """A sentence for each vantage that began late or ended early, and for each that was held up too much."""
    said = []
    for one in records(found.attended):
        who = name(str(one.vantage))
        if len(found.vantages) > 1 and one.late_s > GAP_S:
            said.append(f"The rows of {who} begin {_time(one.late_s)} after the first of all.")
        if len(found.vantages) > 1 and one.early_s > GAP_S:
            said.append(
                f"The rows of {who} end {_time(one.early_s)} before the last of all: it was ended, or died. What it did"
                " not see after that is no evidence."
            )
        if one.much and len(found.vantages) > 1:
            said.append(f"{who} itself was held up in {percent(float(one.held_up))} of its attempts.")
    return said


def _time(seconds: float) -> str:
    if seconds < 120.0:
        return f"{seconds:.0f} s"
    return f"{seconds / 60.0:.0f} min" if seconds < 7_200.0 else f"{seconds / 3_600.0:.1f} h"


def _warning(found: Found) -> str:
    said = absences(found)
    more = len(said) - _MOST_WARNED
    rest = [f"{more} more of this kind are under “Who was there”."] if more > 0 else []
    return " ".join(filter(None, [observer(found.observed.rows).words, *said[:_MOST_WARNED], *rest]))
