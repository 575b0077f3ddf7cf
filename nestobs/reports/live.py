"""What notebooks/live.ipynb calls: the newest nests of a store, starting, ready or failed, while another writes it.

`load` reads the last minutes; `watch` shows them, and goes on for so long as it is told to: a deadline, no endless
loop, and the kernel is free between two looks, so that an interrupt ends it at once. Run for 0 seconds, as a report
does, the page shows the store as it was when its newest row was sent. What is shown is one table that is replaced in
place; what is kept in memory is the board (nestobs.timeline.board), bounded, and never the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pandas as pd

from nestobs.figures import board, plain
from nestobs.observation.duration import SECOND_NS, read_duration
from nestobs.observation.text import encodable
from nestobs.reports.answer import Answer, Sign, Tile, observer_tile
from nestobs.reports.causes import Looked, in_short
from nestobs.reports.display import LEFT, Judged, Result
from nestobs.reports.workbench.given import given
from nestobs.reports.workbench.jupyterlab import rest
from nestobs.sources.clock import Clock
from nestobs.store.follow import Followed
from nestobs.timeline.board import MOST_NESTS, Board, Lane, Row, State, View, by_kind, span
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
"""In the order of the table; among their like the newest come first."""


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
    """How the nests stand at an instant: an answer above a table, which screen readers are told of."""

    answer: Answer
    view: View
    said: str
    causes: Looked

    def __repr__(self) -> str:
        return f"<live view of {len(self.view.rows)} nests>"

    def _repr_html_(self) -> str:
        head = f"{self.answer.html()}<p>{plain(self.said, 300)}</p>"
        names = {row.room or row.nest for row in self.view.rows}
        worst = sorted(self.view.rows, key=lambda row: [*_SIGNS].index(row.state))
        rows = "".join(_row(row, in_short(self.causes.of(row)), names) for row in worst)
        heads = "".join(
            f"<th>{name}</th>" for name in ("nest", "age", "state", "not ready", "ready", "last message", "cause")
        )
        table = f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>" if rows else ""
        shown = f'{LEFT}{head}<div class="nestobs-table nestobs-rows">{table}</div>'
        return f'<div class="nestobs-live" role="status" aria-live="polite">{shown}</div>'


def _row(row: Row, cause: str, names: set[str]) -> str:
    """names: of all rows, among which this one's is told apart."""
    lanes, name = by_kind(row), row.room or row.nest
    waiting = [_waiting(kind, lane) for kind, lane in lanes.items() if lane.state is not State.READY]
    ready = [plain(kind, 24) for kind, lane in lanes.items() if lane.state is State.READY]
    ready = ready if waiting else [f"all {len(ready)}"]
    message = f"{plain(row.message, 120)} (at {span(row.message_age_s)})" if row.message else ""
    cells = [
        plain(told_apart(name, names, 11) if name else "no name yet"),
        span(row.age_s),
        f"{_SIGNS[row.state]} {row.state.capitalize()}",
        "<br>".join(waiting),
        ", ".join(ready),
        message,
        plain(cause, 200),
    ]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _waiting(kind: str, lane: Lane) -> str:
    why = f" ({plain(lane.why, 40)})" if lane.why else ""
    return f"{_SIGNS[lane.state]} {plain(kind, 24)} {lane.state.capitalize()}{why}"


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
