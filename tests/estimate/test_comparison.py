"""Two spans of time compared, from their rows."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from nestobs.estimate import comparison as changes
from nestobs.estimate.account import Account
from nestobs.estimate.comparison import JOINABLE, Span
from nestobs.estimate.difference import Ends
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure
from nestobs.observation.window import Window
from nestobs.store.reader import Store
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins
from worlds.full_nests import NOON, all_rows, store_of

HOUR = 3_600 * SECOND_NS

# from rows


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Rows, timelines and joins of 48 nests, two an hour."""
    directory = store_of(tmp_path_factory.mktemp("changes") / "store", all_rows(48, spacing_s=1_800.0))
    rows = Store.open(directory).frame()
    lines = timelines(rows)
    return rows, lines, joins(rows, lines)


def halves(frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> list[Span]:
    windows = [Window(NOON, NOON + 12 * HOUR), Window(NOON + 12 * HOUR, NOON + 24 * HOUR)]
    return changes.spans(*frames, windows, [12 * 3_600.0] * 2)


@pytest.mark.slow
def test_every_nest_join_and_row_belongs_to_its_window(
    frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> None:
    one, other = halves(frames)
    assert one.nests == other.nests == 24
    assert len(one.joins) + len(other.joins) == len(frames[2])
    assert set(one.joins["nest"]) == set(one.timelines["nest"])
    sent = [np.concatenate([*span.account.requests.values()]) for span in (one, other)]
    assert sent[0].max() < other.window.start <= sent[1].min()
    shuffled = frames[0].sample(frac=1.0, random_state=1), *frames[1:]
    assert [span.account.rows for span in halves(shuffled)] == [one.account.rows, other.account.rows]


@pytest.mark.slow
def test_a_nest_without_an_origin_belongs_to_where_it_was_first_seen(
    frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> None:
    rows = frames[0][~frames[0]["operation"].isin(["create", "publish"])]
    lines = timelines(rows)
    assert lines["origin_at"].isna().all()
    assert [span.nests for span in halves((rows, lines, joins(rows, lines)))] == [24, 24]


def test_the_same_world_shows_no_change(frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    one, other = halves(frames)
    found = changes.compare(other, one)
    assert not any(change.remains for change in found)
    kinds = {change.group for change in found}
    assert kinds == {"count", "share", "median", "ninth"}
    medians = [change.name for change in found if change.group == "median"]
    assert {JOINABLE, "api:info", "client", "livekit:media"} <= set(medians)
    assert [change.name for change in found if change.group == "share"] == list(changes.SHARES)
    table = changes.frame(found)
    assert (table["low"] <= table["high"]).all()
    assert (table["before_low"] <= table["before_high"]).all()


def test_another_world_shows_in_what_changed_and_nowhere_else(
    frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame],
) -> None:
    rows, _, _ = frames
    later = rows["sent_at"] >= NOON + 12 * HOUR
    info = later & (rows["operation"] == "info") & (rows["failure"].fillna("") != Failure.INTENT)
    broken = rows.assign(
        status=rows["status"].mask(info, 503),
        outcome=rows["outcome"].mask(info, "unknown"),
        failure=rows["failure"].mask(info, str(Failure.SERVER_ERROR)),
    )
    lines = timelines(broken)
    one, other = halves((broken, lines, joins(broken, lines)))
    found = changes.compare(other, one)
    assert [change.name for change in found if change.remains] == ["status_5xx"]
    (server,) = [change for change in found if change.name == "status_5xx"]
    assert server.before.high < server.low + server.after.high
    assert server.p < 1e-6
    assert "api:info" not in {change.name for change in found}  # nothing is proven of it any more


def test_nothing_is_compared_with_nothing(frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    _, other = halves(frames)
    empty = Span(other.window, 0.0, Account.of(frames[0].iloc[:0]), frames[1].iloc[:0], frames[2].iloc[:0])
    assert changes.compare(other, empty) == []
    assert changes.compare(empty, empty) == []
    assert changes.frame([]).empty
    days = changes.daily([empty, other])
    assert list(days.columns) == list(changes.DAYS)
    assert days["nests"].tolist() == [0, 24]
    assert math.isnan(days["median_high_s"][0])
    assert 0 < days["median_low_s"][1] < days["median_high_s"][1]
    assert changes.budget_used(empty, 900.0).empty


def test_the_busiest_window_slides(frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    one, _ = halves(frames)
    used = changes.budget_used(one, 900.0)
    assert used["host"].unique().tolist() == ["nests.example"]
    for row in used.itertuples():
        rows = frames[0][frames[0]["sent_at"] < one.window.end]
        asked = rows[(rows["source"] == "api") & (rows["vantage"] == row.vantage)]
        sent = asked.loc[asked["failure"].fillna("") != "intent", "sent_at"].to_numpy(np.int64)
        most = max(int(((sent >= start) & (sent < start + 900 * SECOND_NS)).sum()) for start in sent)
        assert (row.requests, row.peak) == (len(sent), most)
        assert row.per_hour == pytest.approx(len(sent) / 12)


def test_only_the_most_watched_relays_are_compared() -> None:
    def rows(n: int) -> changes.Delays:
        return changes.Delays(np.zeros(n), np.ones(n), np.arange(n))

    many = {f"relay:wss://{number}/": rows(number + 1) for number in range(10)} | {"client": rows(1)}
    assert changes.compared_layers(many, many) == [
        *(f"relay:wss://{number}/" for number in range(4, 10)),
        "client",
    ]
    assert changes.compared_layers(many, {"client": rows(1)}) == ["client"]


def test_ends_stand_in_order() -> None:
    assert Ends(*changes.quantile_of(changes.Delays(np.zeros(1), np.ones(1), np.zeros(1, np.int64)), 0.5)) == (
        -math.inf, 0.0, 1.0, math.inf,
    )  # fmt: skip
