"""What is said of spans of time is said of parts of a store as of the whole, to the printed figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nestobs.estimate import comparison as changes
from nestobs.estimate.account import Account
from nestobs.estimate.comparison import spans
from nestobs.exports.spans import Told, told
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.observation.window import DAY_S, Window
from nestobs.reports import daily
from nestobs.store.partitions import PARTITION_ROWS
from nestobs.store.reader import Store
from nestobs.timeline import joins as real
from nestobs.timeline import uptime
from nestobs.timeline.delays import median_s, round_trip_s
from nestobs.timeline.failures import failures
from nestobs.timeline.intervals import clock_words, timelines
from worlds.full_nests import NOON, rows_of_days, store_of
from worlds.mixed import mixed_rows, mixed_store
from worlds.shown import said

pytestmark = pytest.mark.slow

DAY_NS = DAY_S * SECOND_NS
MIDNIGHT = NOON - NOON % DAY_NS
SMALL = 700
"""Rows of a partition: a few nests."""

KINDS = ("mixed", "held up", "bursts", "days", "example")


@pytest.fixture(scope="module", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Rows that come late, from several places, of nests that live past midnight, of an observer that was held up, and
    of a schedule."""
    folder = tmp_path_factory.mktemp("spans") / "store"
    if request.param == "example":
        return Store.open("example", create=False)
    if request.param == "days":
        return Store.open(store_of(folder, rows_of_days(12, 3)))
    if request.param == "mixed":
        return mixed_store(folder, 5, nests=24)
    rows = mixed_rows(6, nests=24)
    if request.param == "held up":
        rows = [replace(row, loop_lag_s=2.0) if at % 5 == 0 else row for at, row in enumerate(rows)]
    for number in range(24 if request.param == "bursts" else 0):
        due = MIDNIGHT + number * DAY_NS // 8
        beat: dict[str, Any] = {"nest": "", "room": "", "trace_id": "", "planned_at": due, "sent_at": due}
        clock = {"source": Source.CLOCK, "target": "clock:", "outcome": Outcome.ACCEPTED, "failure": None}
        unpaid = {
            "operation": Operation.STEP,
            "outcome": Outcome.PROBE_ERROR,
            "failure": Failure.BUDGET,
            "reason": "spent",
        }
        made = {"operation": Operation.HEALTH, "detail": f'{{"period_s": {DAY_S // 8}}}'}
        more = clock | (unpaid if number % 6 == 0 else made)
        ends = due + 60 * SECOND_NS
        rows.append(replace(rows[0], **beat, **more, observation_id=f"burst-{number}", received_at=ends))
    return Store.open(store_of(folder, rows))


def windows_of(store: Store) -> list[Window]:
    """The last day but one of a store, as `daily` has it, those before it, and both together."""
    first, _ = store.ends()
    assert first is not None
    start = first - first % DAY_NS + DAY_NS
    now = Window(start, start + DAY_NS)
    return [now.earlier(2), now.earlier(1), now]


def test_what_parts_tell_of_windows_is_what_the_whole_tells(store: Store) -> None:
    windows = windows_of(store)
    sent = Window(windows[0].start, windows[-1].end + 900 * SECOND_NS)
    rows = store.frame(start=sent.start, end=sent.end, categories=True)
    found = told(store, windows, sent, most=SMALL)
    worked = [
        uptime.covered(uptime.together(uptime.spans(rows)), w.start, w.end).get("", 0.0) * w.seconds for w in windows
    ]
    lines = timelines(rows)
    whole = spans(rows, lines, real.joins(rows, lines), windows, worked)
    for one, other in zip(found.spans(windows), whole, strict=True):
        assert (one.nests, one.worked_s) == (other.nests, other.worked_s)
        pd.testing.assert_frame_equal(one.joins, other.joins.reset_index(drop=True).set_index(one.joins.index))
        same(one.account, other.account)
        assert len(one.timelines) == len(other.timelines)
        assert clock_words(one.account.clocks, one.timelines) == clock_words(other.account.clocks, other.timelines)
    assert median_s(found.trips) == round_trip_s(rows)
    assert found.counted.failures() == failures(rows)
    pd.testing.assert_frame_equal(found.bursts, uptime.bursts(rows))
    pd.testing.assert_frame_equal(uptime.spans_of(found.stretches), uptime.spans(rows))


def same(one: Account, other: Account) -> None:
    assert (one.rows, one.watched, one.turns) == (other.rows, other.watched, other.turns)
    pd.testing.assert_frame_equal(one.bursts, other.bursts)
    assert one.requests.keys() == other.requests.keys()
    assert all(sorted(at) == sorted(other.requests[key]) for key, at in one.requests.items())
    for name, share in one.shares.items():
        assert share.hits.tolist() == other.shares[name].hits.tolist()
        assert share.rows.tolist() == other.shares[name].rows.tolist()
    for table in ("hours", "units"):
        ours, theirs = (getattr(each, table).sort_index() for each in (one, other))
        pd.testing.assert_frame_equal(ours, theirs, check_names=False, check_index_type=False)


def test_the_page_of_parts_is_that_of_the_whole(store: Store) -> None:
    """To the letter, and to the last digit of what is drawn."""
    *_, now = windows_of(store)
    pages = [
        page(daily.of(store, now, 2, daily.Daily("", daily.Rules()), most=most)) for most in (SMALL, PARTITION_ROWS)
    ]
    assert pages[0] == pages[1]
    assert len(pages[0]) > 200


def page(found: daily.Daily) -> str:
    sections = (daily.answer, daily.days, daily.seen, daily.causes, daily.changed, daily.budget, daily.advice)
    figures = [part.to_json() for part in daily.changed(found).parts if hasattr(part, "to_json")]
    return "\n".join([*(said(section(found)) for section in sections), *figures, str(daily.result(found))])


def test_parts_of_an_empty_window_tell_nothing(tmp_path: Path) -> None:
    store = mixed_store(tmp_path / "store", 1, nests=4)
    window = Window(0, DAY_NS)
    for most in (1, PARTITION_ROWS):
        found = told(store, [window], window, most=most)
        assert isinstance(found, Told)
        (span,) = found.spans([window])
        assert (span.nests, span.account.rows, span.worked_s, len(span.joins)) == (0, 0, 0.0, 0)
        assert changes.budget_used(span, 900.0).empty


def test_ends_of_a_store_are_those_of_its_rows(store: Store) -> None:
    sent = store.frame(columns=["sent_at"])["sent_at"]
    assert store.ends() == (sent.min(), sent.max())
    assert Store.open(store.location, create=False).ends() == store.ends()
