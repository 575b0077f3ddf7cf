"""How a page opens: its question, one sentence, and tiles with the numbers that matter, judged by shape and colour.

A tile holds what the data carry and says so where they carry nothing. Its value has its 95 % interval, or is counted;
beside it stands the same of the spans before, where the store has them, and whether the difference is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from nestobs.estimate.comparison import Span, budget_used, join_shares
from nestobs.estimate.dependence import design_effect, join_blocks, share_of
from nestobs.estimate.difference import Estimate, Quantile, difference, ends
from nestobs.estimate.proportion import Share
from nestobs.figures import percent, plain
from nestobs.figures.text import seconds
from nestobs.observation.duration import about
from nestobs.reports.display import RESULT, Judged, Result, prose, sign
from nestobs.timeline.uptime import MOST_HELD_UP, Observer

Sign = Literal["good", "breached", "open", "none"]
_COLOURS: Final[Mapping[Judged, Sign]] = {"good": "good", "breached": "breached", "too little data": "open"}
_SIGNS: Final = {"good": "✓", "breached": "✗", "open": "?", "none": "○"}

_MOST: Final = {"wide": 6, "middle": 4, "narrow": 2}
"""Tiles for which a row has room, by the width of the page."""

STYLE: Final = """<style>
.nestobs-answer { font-size: 20px; line-height: 1.4; max-width: 50rem; margin: .4rem 0 1rem; }
.nestobs-tiles { display: flex; flex-wrap: wrap; gap: .6rem; margin: 0 0 1.2rem; container-type: inline-size; }
.nestobs-tile { --row: var(--narrow, 2); flex: 1 1 calc((100% - (var(--row) - 1) * .6rem) / var(--row) - 1px);
  box-sizing: border-box; min-width: 0; }
@container (min-width: 600px) { .nestobs-tile { --row: var(--middle, 4); } }
@container (min-width: 900px) { .nestobs-tile { --row: var(--wide, 6); } }
.nestobs-tile { border: 1px solid #8a929a55; border-top: 6px solid #8a929a; border-radius: 4px; padding: .5rem .7rem; }
.nestobs-tile.good { border-top-color: #009E73; }
.nestobs-tile.breached { border-top-color: #D55E00; border-top-style: double; }
.nestobs-tile.open { border-top-style: dashed; }
.nestobs-tile p { font-size: 12px; line-height: 1.4; margin: 0; }
.nestobs-tile .name { font-size: 14px; }
.nestobs-tile .value { font-size: 28px; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; }
</style>"""


@dataclass(frozen=True, slots=True)
class Tile:
    """A number in words. detail: its interval and on what it rests, in lines; before: the same of the spans before, ""
    where there are none; sign and judged: what a limit says of it, "none" without one."""

    name: str
    value: str
    detail: str
    before: str = ""
    sign: Sign = "none"
    judged: str = ""

    def html(self) -> str:
        """As HTML, all text escaped."""
        lines = [("name", self.name), ("value", self.value), *(("detail", line) for line in self.detail.split("\n"))]
        lines.append(("before", self.before))
        lines.append(("sign", f"{_SIGNS[self.sign]} {self.judged}" if self.judged else ""))
        shown = "".join(f'<p class="{kind}">{plain(text, 160)}</p>' for kind, text in lines if text)
        return f'<div class="nestobs-tile {self.sign}">{shown}</div>'


def in_a_row(tiles: int, most: int) -> int:
    """How many of so many tiles stand in a row that has room for `most`, so that rows are as even as can be."""
    return -(-tiles // max(-(-tiles // most), 1))


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """A page's head: title, sentence, tiles, and the result for whoever scheduled it, if there is one, with its reasons
    where it is not good. warning: what its reader has to know before. ruled: there are rules that a good result kept;
    without any "good" would be read as a word of the deployment, and the sentence stands alone."""

    title: str
    sentence: str
    tiles: Sequence[Tile] = ()
    result: Result | None = None
    warning: str = ""
    ruled: bool = False

    def __repr__(self) -> str:
        return f"<answer: {self.sentence}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        told = {} if self.result is None else {RESULT: asdict(self.result)}
        return told | {"text/html": self.html(), "text/plain": repr(self)}

    def html(self) -> str:
        """As HTML, all text escaped."""
        found = self.result
        verdict = ""
        if found is not None and (self.ruled or found.verdict != "good"):
            verdict = f'<strong class="{_COLOURS[found.verdict]}">{sign(found.verdict)}.</strong> '
        reasons = () if found is None or found.verdict == "good" else found.reasons
        others = (one for one in reasons if one != self.sentence)
        parts = [STYLE, f"<h1>{plain(self.title, 120)}</h1>"]
        parts += [f'<p class="nestobs-warning">{prose(self.warning)}</p>'] if self.warning else []
        parts.append(f'<p class="nestobs-answer">{verdict}{prose(self.sentence)}</p>')
        shown = "".join(tile.html() for tile in self.tiles)
        rows = ";".join(f"--{name}:{in_a_row(len(self.tiles), most)}" for name, most in _MOST.items())
        parts += [f'<div class="nestobs-tiles" style="{rows}">{shown}</div>'] if shown else []
        parts += [f"<p>{prose(text)}</p>" for text in others]
        return "".join(parts)


def tiles(
    now: Span,
    before: Span | None = None,
    *,
    most_lost: float = 1.0,
    least_coverage: float = 0.0,
    allowed: int = 0,
    allowed_window_s: float = 900.0,
) -> tuple[Tile, ...]:
    """Joined, lost, median wait, requests, observer, coverage of a span. before: what it is set beside. most_lost: a
    limit of the share lost, 1 for none; least_coverage: of the time (Span.coverage), 0 for none; allowed: requests
    that one address may make in allowed_window_s, 0 where that is not known."""
    mine, theirs = estimates(now.joins), {} if before is None else estimates(before.joins)
    joined, lost, wait = (mine[name] for name in ("joined", "lost", "wait"))
    lost_sign, lost_words = _limit(lost, most_lost)
    return (
        Tile("joined", _value(joined), _detail(joined, "joins"), _before(joined, theirs.get("joined"))),
        replace(
            Tile("lost", _value(lost), _detail(lost, "joins"), _before(lost, theirs.get("lost"))),
            sign=lost_sign,
            judged=lost_words,
        ),
        Tile("median wait", _value(wait), _detail(wait, "who got in"), _before(wait, theirs.get("wait"))),
        _requests(now, before, allowed, allowed_window_s),
        observer_tile(now.account.observer, None if before is None else before.account.observer),
        _coverage(now, before, least_coverage),
    )


def watch_tiles(now: Span, before: Span | None = None) -> tuple[Tile, ...]:
    """Observer and coverage of a span. before: what it is set beside."""
    past = None if before is None else before.account.observer
    return (observer_tile(now.account.observer, past), _coverage(now, before, 0.0))


def estimates(joins: pd.DataFrame) -> dict[str, Estimate]:
    """joined, lost: shares, as on every page (comparison.join_shares). wait: half of those who got in were in the room
    so many seconds after they arrived; without anybody, a share of none."""
    found: dict[str, Estimate] = {
        name: share_of(hit, block) for name, (hit, block) in join_shares(joins).items() if name in ("joined", "lost")
    }
    inside = joins["joined"].to_numpy(dtype=bool) & joins["elapsed_s"].notna().to_numpy(dtype=bool)
    took = joins["elapsed_s"].to_numpy(dtype=float)[inside]
    if not len(took):
        return found | {"wait": Share(0, 0, 0)}
    deff = design_effect(took <= np.median(took), join_blocks(joins)[inside])
    ordered = np.sort(took)
    return found | {"wait": Quantile(0.5, ordered, ordered, 1.0 if np.isnan(deff) else deff)}


def _words(one: Estimate, value: float) -> str:
    return percent(value) if isinstance(one, Share) else seconds(value)


def _value(one: Estimate) -> str:
    return _words(one, ends(one).least) if one.n else "not known"


def _detail(one: Estimate, what: str) -> str:
    if not one.n:
        return "nobody of whom it is known"
    found = ends(one)
    return f"95 %: {_words(one, found.low)} to {_words(one, found.high)}; n = {one.n:,} {what}"


def _before(one: Estimate, other: Estimate | None) -> str:
    """The same before, and which way it went if the interval of the difference leaves out none."""
    if other is None:
        return ""
    if not one.n or not other.n:
        return f"before: {_value(other)}"
    low, high = difference(one, other)
    way = "▲ more" if low > 0.0 else "▼ less" if high < 0.0 else "＝ no difference shown"
    return f"before: {_value(other)}; {way}"


def _limit(one: Estimate, most: float) -> tuple[Sign, str]:
    """By a greatest share: surely more is breached, surely not is good, else it is open."""
    if not most < 1.0:
        return "none", ""
    if not one.n:
        return "open", f"limit {percent(most)}: too little data"
    low, _, _, high = ends(one)
    if low > most:
        return "breached", f"above the limit of {percent(most)}"
    return ("good", f"within {percent(most)}") if high <= most else ("open", f"{percent(most)} cannot be told apart")


def _requests(now: Span, before: Span | None, allowed: int, window_s: float) -> Tile:
    peak, past = (None if one is None else _peak(one, window_s) for one in (now, before))
    if peak is None:
        return Tile("requests", "none", "no API request was made")
    words = f"in the busiest {window_s:g} s of one address; counted"
    then = "" if before is None else f"before: {'none' if past is None else f'{past:,}'}"
    shown = Tile("requests", f"{peak:,}", words, then)
    if not allowed:
        return shown
    if peak <= allowed:
        return replace(shown, sign="good", judged=f"within the {allowed:,} allowed")
    return replace(shown, sign="breached", judged=f"above the {allowed:,} allowed")


def _peak(one: Span, window_s: float) -> int | None:
    used = budget_used(one, window_s)
    return None if used.empty else int(used["peak"].max())


def observer_tile(found: Observer, past: Observer | None = None) -> Tile:
    """In what share of its attempts the observing machine itself was held up: `uptime.observer`, as everywhere."""
    if not found.attempts:
        return Tile("observer held up", "not known", "nothing was asked", sign="open", judged="too little data")
    then = "" if past is None or not past.attempts else f"before: {percent(past.share)}"
    limit = percent(MOST_HELD_UP)
    said = f"above {limit}: advise nothing on it" if found.much else f"within {limit}"
    words = f"{found.held_up + found.skipped:,} of {found.attempts:,} attempts; counted"
    shown = Tile("observer held up", percent(found.share), words, then)
    return replace(shown, sign="breached" if found.much else "good", judged=said)


def _coverage(now: Span, before: Span | None, least: float) -> Tile:
    part, past = (0.0 if one is None else one.coverage for one in (now, before))
    planned = "" if now.covered_s is None or now.covered_s <= now.worked_s else " or had done what was planned"
    words = f"of {about(now.window.seconds)} the collector was at work{planned}; counted"
    then = "" if before is None else f"before: {percent(past)}"
    shown = Tile("coverage", percent(part), words, then)
    if not least > 0.0:
        return shown
    well = part >= least
    said = f"{'at least' if well else 'less than'} {percent(least)}"
    return replace(shown, sign="good" if well else "breached", judged=said)
