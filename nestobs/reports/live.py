"""What notebooks/live.ipynb calls: the newest nests of a store, starting, ready or failed, while another writes it.

`load` reads the last minutes; `watch` shows them, and goes on for so long as it is told to: a deadline, no endless
loop, and the kernel is free between two looks, so that an interrupt ends it at once. Run for 0 seconds, as a report
does, the page shows the store as it was when its newest row was sent. What is shown is one table that is replaced in
place; what is kept in memory is the board (nestobs.timeline.board), bounded, and never the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pandas as pd

from nestobs.figures import board, plain
from nestobs.observation.duration import SECOND_NS, read_duration
from nestobs.observation.text import encodable, shortened
from nestobs.reports.answer import Answer, Sign, Tile, observer_tile
from nestobs.reports.causes import Looked, in_short
from nestobs.reports.display import Judged, Result, Section, Table, many
from nestobs.reports.workbench.given import given
from nestobs.reports.workbench.jupyterlab import rest
from nestobs.sources.clock import Clock
from nestobs.store.follow import Followed
from nestobs.timeline.board import MOST_NESTS, Board, Row, State, View, by_kind, span
from nestobs.timeline.nests import told_apart
from nestobs.timeline.uptime import NEEDED, Observer, observer

if TYPE_CHECKING:
    import plotly.graph_objects as go


PERIOD_S: Final = 1.0
"""Between two looks, from deadline to deadline."""

_READ_S: Final = 0.2
_LOOK_S: Final = 30.0
_OBSERVED: Final = (*NEEDED, "loop_lag_s")
OBSERVED_S: Final = 900.0
"""Of so long before the newest row it is told how the observer was."""

TITLE: Final = "Which rooms can be joined now, and which cannot?"
_MEANING: Final = {
    State.STARTING: "may still come",
    State.READY: "seen everywhere that was asked",
    State.FAILED: "late, gone, refused, or not joined",
    State.UNKNOWN: "nothing proven",
}
_TILES: Final[Mapping[State, Sign]] = {
    State.STARTING: "open",
    State.READY: "good",
    State.FAILED: "breached",
    State.UNKNOWN: "open",
}
_SIGNS: Final = {State.FAILED: "✗", State.STARTING: "◌", State.UNKNOWN: "?", State.READY: "●"}
"""In the order of the tables; among their like the newest come first."""

MOST_TOLD: Final = 8
"""Nests not ready that the view tells before all others: two screens of a phone."""

MOST_NAMED: Final = 24
"""Of those that are ready."""

_READY_STYLE: Final = "<style>.nestobs-ready { font-size: 14px; } .nestobs-ready span { white-space: nowrap; }</style>"


@dataclass(slots=True)
class Live:
    """A store followed into a board."""

    followed: Followed
    title: str
    board: Board
    clock: Clock = field(default_factory=Clock)
    causes: Looked = field(init=False)

    def __post_init__(self) -> None:
        self.causes = Looked(self.followed)

    @property
    def now(self) -> int:
        """For a page that does not go on: when the newest row was sent. ns UTC; the present where there is none."""
        newest = self.board.view(0).newest_at
        return self.clock.now() if newest is None else newest

    def catch_up(self, most_s: float) -> None:
        """Fold in what is new, for so many seconds at most. Opens the store when there is one by now."""
        for part, _ in self.followed.read(self.clock.now() + round(most_s * SECOND_NS), self.clock.now):
            self.board.fold(part)


@dataclass(frozen=True, slots=True, repr=False)
class Panel:
    """How the nests stand at an instant, for screen readers too: an answer, a table of those not ready, and the
    names of the others. `nests` has all of each."""

    answer: Answer
    view: View
    said: str
    causes: Looked

    def __repr__(self) -> str:
        return f"<live view of {len(self.view.rows)} nests>"

    def _repr_html_(self) -> str:
        worst, names = _worst(self.view), _names(self.view)
        waiting = [row for row in worst if row.state is not State.READY]
        table = Table(pd.DataFrame(_waiting(waiting[:MOST_TOLD], self.causes, names)), style="nestobs-rows nestobs-now")
        parts = [f"{self.answer.html()}<p>{plain(self.said, 300)}</p>"]
        parts += [table._repr_html_()] if waiting else []
        left = len(waiting) - MOST_TOLD
        parts += [f"<p>{many(left, 'nest')} more not ready: under “Each nest”.</p>"] if left > 0 else []
        parts.append(_ready(worst[len(waiting) :], names))
        return f'<div class="nestobs-live" role="status" aria-live="polite">{"".join(parts)}</div>'


def _worst(view: View) -> list[Row]:
    """The nests that failed first, and the ready ones last."""
    return sorted(view.rows, key=lambda row: [*_SIGNS].index(row.state))


def _names(view: View) -> set[str]:
    """Of all nests of a view, among which one's name is told apart."""
    return {row.room or row.nest for row in view.rows}


def _name(row: Row, names: set[str]) -> str:
    name = row.room or row.nest
    return told_apart(name, names, 11) if name else "no name yet"


def _waiting(rows: Sequence[Row], causes: Looked, names: set[str]) -> Iterator[dict[str, str]]:
    """A short row for each of those that are not ready; what a cause means is said where it first stands."""
    said: set[str] = set()
    for row in rows:
        cause = in_short(causes.of(row))
        kind, colon, means = cause.partition(": ")
        known = kind.partition(" ")[0]
        yield {
            "nest": _name(row, names),
            "age": span(row.age_s),
            "state": f"{_SIGNS[row.state]} {row.state.capitalize()}",
            "not ready": _lacks(row),
            "cause": kind if known in said else kind + colon + means,
        }
        said.add(known)


def _lacks(row: Row) -> str:
    """The layers that are not ready, and why."""
    lanes = ((kind, lane) for kind, lane in by_kind(row).items() if lane.state is not State.READY)
    return ", ".join(f"{shortened(kind, 24)} {shortened(lane.why or lane.state, 40)}" for kind, lane in lanes)


def _ready(rows: Sequence[Row], names: set[str]) -> str:
    """The nests that are ready in a line, the newest MOST_NAMED of them; "" for none."""
    if not rows:
        return ""
    each = ", ".join(f"<span>{plain(_name(row, names))} ({span(row.age_s)})</span>" for row in rows[:MOST_NAMED])
    more = f", and {len(rows) - MOST_NAMED:,} more" if len(rows) > MOST_NAMED else ""
    head = f"{_SIGNS[State.READY]} Ready, newest first (age)"
    return f'{_READY_STYLE}<p class="nestobs-ready"><strong>{head}:</strong> {each}{more}.</p>'


@given
def load(store: str, *, last: str = "15m", most: int = MOST_NESTS, title: str = "") -> Live:
    """The nests of the last minutes before the newest row of a store; at most so many, the newest. A store that is not
    there yet is waited for. Raises StoreError for a folder that is none, UsageError for a duration that is none.
    """
    found = Live(Followed(store, read_duration(last)), title, Board(most=most))
    found.catch_up(3_600.0)
    return found


async def watch(found: Live, watch_s: float = 0.0) -> None:
    """Show the nests, and again every second for `watch_s` seconds, in place. Interrupting the kernel ends it as well.

    At 0 they are shown once. Between two looks the kernel is free: reading takes a fifth of the time at most.
    """
    from IPython.display import display

    rest()
    end = found.clock.now() + round(watch_s * SECOND_NS)
    shown = display(_panel(found, going=watch_s > 0), display_id=True)  # type: ignore[no-untyped-call]  # it has no types
    with suppress(asyncio.CancelledError):
        due = found.clock.now()
        while (due := max(due + round(PERIOD_S * SECOND_NS), found.clock.now())) < end:
            await found.clock.until(due)
            found.catch_up(_READ_S)
            shown.update(_panel(found, going=True))
    if watch_s > 0:
        shown.update(_panel(found, going=False))


def _panel(found: Live, *, going: bool) -> Panel:
    now = found.clock.now() if going else found.now
    view = found.board.view(now)
    found.causes.look(
        view.rows, found.clock.now() + round((_READ_S if going else _LOOK_S) * SECOND_NS), found.clock.now
    )
    said = _said(found, view, now, going=going)
    return Panel(_answer(found, view), view, said, found.causes)


def _answer(found: Live, view: View) -> Answer:
    many, ours = len(view.rows), _observer(found, view)
    came = _judged(found, view, ours)
    counted = [
        Tile(str(state), f"{view.counts[state]:,}", f"of {many:,} nests", sign=_TILES[state], judged=words)
        for state, words in _MEANING.items()
        if state is not State.UNKNOWN or view.counts[state]
    ]
    shown = (*counted, observer_tile(ours)) if many else ()
    warning = "" if ours.much else ours.words
    return Answer(found.title or TITLE, came.reasons[0], shown, came, warning, ruled=True)


def _observer(found: Live, view: View) -> Observer:
    """The state of who observed in the last OBSERVED_S before the newest row."""
    if found.followed.store is None or view.newest_at is None:
        return Observer()
    start = view.newest_at - round(OBSERVED_S * SECOND_NS)
    return observer(found.followed.store.frame(start=start, columns=_OBSERVED, categories=True))


def _said(found: Live, view: View, now: int, *, going: bool) -> str:
    if found.followed.store is None:
        return f"There is no store at {found.followed.directory} yet." + (" Waiting for one." if going else "")
    if view.newest_at is None:
        return "Following. No observation is in this store yet." if going else "This store holds no observation."
    at = f"{pd.Timestamp(view.newest_at, tz='UTC'):%Y-%m-%d %H:%M:%S} UTC"
    gone = f" {view.let_go} older nests are not shown." if view.let_go else ""
    clock = f" {view.clock[0].upper()}{view.clock[1:]}." if view.clock else ""
    since = f", {span((now - view.newest_at) / SECOND_NS)} ago" if going else "; the ages are those at that instant"
    return (
        f"{'Following' if going else 'Not following'}. Newest row {at}{since}. {view.folded:,} rows read.{gone}{clock}"
    )


def nests(found: Live) -> Section:
    """All of each nest, those that failed first, as they stood when this was run; nothing where there is none."""
    view = found.board.view(found.now)
    found.causes.look(view.rows, found.clock.now() + round(_LOOK_S * SECOND_NS), found.clock.now)
    names = _names(view)
    rows = [
        {
            "nest": _name(row, names),
            "age": span(row.age_s),
            "state": f"{_SIGNS[row.state]} {row.state.capitalize()}",
            "not ready": _lacks(row),
            "ready": _came(row),
            "last message": f"{shortened(row.message, 120)} (at {span(row.message_age_s)})" if row.message else "",
            "cause": in_short(found.causes.of(row)),
        }
        for row in _worst(view)
    ]
    return Section((Table(pd.DataFrame(rows), style="nestobs-rows"),) if rows else ())


def _came(row: Row) -> str:
    lanes = by_kind(row)
    ready = [shortened(kind, 24) for kind, lane in lanes.items() if lane.state is State.READY]
    return ", ".join(ready) if len(ready) < len(lanes) else f"all {len(ready)}"


def states(found: Live) -> go.Figure:
    """The nests by layer, as they stood when this was run."""
    view = found.board.view(found.now)
    when = "" if view.newest_at is None else f"{pd.Timestamp(view.newest_at, tz='UTC'):%Y-%m-%d %H:%M:%S} UTC"
    rows = [
        {
            "place": place,
            "nest": row.room or row.nest or "no name yet",
            "age_s": row.age_s,
            "kind": kind,
            "state": str(lane.state),
            "why": lane.why,
            "ready": lane.ready,
            "seen": lane.seen,
        }
        for place, row in enumerate(view.rows)
        for kind, lane in by_kind(row).items()
    ]
    return board.states(pd.DataFrame(rows).map(_whole), when)


def _whole(value: object) -> object:
    """A value less what UTF-8 cannot carry."""
    return encodable(value) if isinstance(value, str) else value


def result(found: Live) -> Result:
    """good: every nest is ready; breached: one failed; too little data: none, or none that is proven, or the observer
    was held up too often."""
    view = found.board.view(found.now)
    return _judged(found, view, _observer(found, view))


def _judged(found: Live, view: View, ours: Observer) -> Result:
    many, counts = len(view.rows), view.counts
    failed, ready, waiting = counts[State.FAILED], counts[State.READY], counts[State.STARTING]
    verdict: Judged = "good"
    still = f", {waiting} still starting" if waiting else ""
    why = f"{ready} of {many} nests are ready, none has failed{still}."
    if ours.much:
        verdict, why = "too little data", ours.words
    elif failed:
        verdict, why = "breached", f"{ready} of {many} nests are ready, {failed} failed{still}."
    elif not ready or counts[State.UNKNOWN]:
        verdict = "too little data"
        why = "Not every nest is proven ready." if many else _said(found, view, found.now, going=False)
    facts = {str(state): float(number) for state, number in counts.items()}
    return Result(verdict, [why], None, {"observations": view.folded, "nests": many}, facts)
