"""What a page opens with: tiles whose values are the data's, each judged, and nothing said that is not known."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nestobs.estimate.account import Account
from nestobs.estimate.comparison import Span
from nestobs.estimate.dependence import lost_share
from nestobs.estimate.npmle import Number
from nestobs.figures import percent
from nestobs.observation.columns import observations_of
from nestobs.reports import daily, demo, joins, tuning
from nestobs.reports.answer import Answer, Tile, in_a_row, tiles
from nestobs.reports.display import RESULT, Judged, Result, Text
from worlds import full_nests
from worlds.full_nests import DAY
from worlds.recommended import usual

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    rows = full_nests.let_down(full_nests.rows_of_days(12, 2))
    return full_nests.store_of(tmp_path_factory.mktemp("answer"), list(rows))


@pytest.fixture(scope="module")
def found(store: str) -> joins.Found:
    return joins.load(store, window=DAY)


def by_name(shown: tuple[Tile, ...]) -> dict[str, Tile]:
    return {one.name: one for one in shown}


def test_the_tiles_say_what_the_data_say(found: joins.Found) -> None:
    shown, table = by_name(tiles(found.observed.span)), found.observed.joins
    assert list(shown) == ["joined", "lost", "median wait", "requests", "observer held up", "coverage"]
    assert shown["joined"].value == percent(float(table["joined"].mean()))
    assert f"n = {len(table)} joins" in shown["joined"].detail
    assert shown["lost"].value == percent(lost_share(table).value)
    ordered = table.loc[table["joined"], "elapsed_s"].sort_values().tolist()
    assert float(shown["median wait"].value.split()[0]) == pytest.approx(ordered[(len(ordered) - 1) // 2], abs=0.05)
    api = found.observed.rows[found.observed.rows["source"] == "api"]
    assert 0 < int(shown["requests"].value) <= len(api)
    assert shown["observer held up"].value == "0 %"
    assert all(one.before == "" for one in shown.values())


def test_a_limit_is_kept_broken_or_open_by_the_whole_interval(found: joins.Found) -> None:
    lower, upper = lost_share(found.observed.joins).score()
    assert 0 < lower < upper < 1
    signs = {
        limit: by_name(tiles(found.observed.span, most_lost=limit))["lost"].sign
        for limit in (lower / 2, (lower + upper) / 2, (1 + upper) / 2, 1.0)
    }
    assert list(signs.values()) == ["breached", "open", "good", "none"]


def test_a_store_of_more_days_sets_them_beside(store: str) -> None:
    found = daily.load(store, window=DAY, before=1)
    assert found.now is not None
    shown = by_name(tuple(daily.answer(found).tiles))
    assert all(one.before.startswith("before: ") for one in shown.values())
    assert "no difference shown" in shown["joined"].before
    same = by_name(tiles(found.now, found.now))
    assert "no difference shown" in same["joined"].before + same["lost"].before


def test_the_joins_page_sets_the_windows_before_beside_and_none_where_there_are_none(store: str) -> None:
    beside = joins.answer(joins.load(store, window=DAY, before=1)).tiles
    assert all(one.before.startswith("before: ") for one in beside)
    same = daily.answer(daily.load(store, window=DAY, before=1)).tiles
    assert [one.before for one in beside] == [one.before for one in same]
    for found in (joins.load(store, window=DAY), joins.load(store, before=1)):
        assert [one.before for one in joins.answer(found).tiles] == [""] * 6


def test_the_nests_that_went_worst_have_the_command_of_their_page(store: str) -> None:
    found = joins.load(store, window=DAY)
    shown = joins.causes(found).parts[-1]._repr_html_()
    worst = found.failed.worst()
    assert 0 < len(worst) <= 3
    assert [name for name in worst if f"nestobs report incident --store {store} {name}" not in shown] == []
    assert shown in daily.causes(daily.load(store, window=DAY, before=1)).parts[-1]._repr_html_()


def test_what_is_not_known_is_said_to_be_not_known(found: joins.Found) -> None:
    span = found.observed.span
    shown = by_name(
        tiles(Span(span.window, 0.0, Account.of(observations_of([])), span.timelines.head(0), span.joins.head(0)))
    )
    assert [one.value for one in shown.values()] == ["not known", "not known", "not known", "none", "not known", "0 %"]


def test_an_answer_is_clean_and_carries_the_result_once() -> None:
    hostile = "<script>window.pwned=1</script>"
    result = Result("breached", [hostile, "And more."])
    bundle: dict[str, Any] = Answer(hostile, hostile, [Tile(hostile, hostile, hostile)], result)._repr_mimebundle_()
    assert "<script" not in bundle["text/html"]
    assert bundle["text/html"].count("window.pwned") == 5  # title, sentence, tile of three lines; not the reason twice
    assert "And more." in bundle["text/html"]
    assert json.loads(json.dumps(bundle[RESULT]))["verdict"] == "breached"


@pytest.mark.parametrize(
    ("verdict", "ruled", "said"), [("good", False, False), ("good", True, True), ("breached", False, True)]
)
def test_a_page_without_rules_calls_nothing_good(verdict: Judged, ruled: bool, said: bool) -> None:
    shown = Answer("t", "A is 50 % of B.", (), Result(verdict, ["why"]), ruled=ruled).html()
    assert ("<strong" in shown) == said
    assert "A is 50 % of B." in shown


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("see `nestobs diagnose` for it", "see <code>nestobs diagnose</code> for it"),
        ("`a` and `b`", "<code>a</code> and <code>b</code>"),
        ("`<b>`", "<code>&lt;b&gt;</code>"),
        ("a lone ` stays", "a lone ` stays"),
    ],
    ids=["command", "two", "markup", "lone"],
)
def test_what_stands_between_backticks_is_code(words: str, shown: str) -> None:
    assert Text([words])._repr_html_() == f"<p>{shown}</p>"


def test_no_page_of_a_day_shows_backticks(store: str) -> None:
    found = daily.load(store, window=DAY, before=1)
    assert not re.search("`", daily.seen(found)._repr_html_() + daily.advice(found)._repr_html_())


def test_the_tuning_page_sets_released_today_and_the_advised_side_by_side() -> None:
    found = usual()
    shown = tuning.answer(tuning.Tuned(found, observations=9))
    assert shown.sentence == found.why
    assert not found.kept
    tiles = {one.name: one for one in shown.tiles}
    names = ["released", found.today.name, found.policy.name]
    titles = ["lost, the client as released", f"lost, today's rule ({names[1]})", f"lost, advised ({names[2]})"]
    assert list(tiles) == [*titles, "best message threshold", "give-up age", "observer held up"]
    for name, title in zip(names, titles, strict=True):
        lost = found.replayed(name).numbers["lost_share"].value
        assert tiles[title].value == percent(lost)
    apart = found.paired[names[2]]["cost_s"]
    assert f"{apart.value:+.2f} ({apart.lower:+.2f} to {apart.upper:+.2f})" in tiles[titles[2]].before
    assert (apart.upper < 0, tiles[titles[2]].sign) == (True, "good")


def test_where_todays_rule_is_kept_the_tuned_one_is_shown_and_not_called_better() -> None:
    found = replace(usual(), kept=True)
    near = {name: each | {"cost_s": Number(-1.0, -3.0, 1.0)} for name, each in found.paired.items()}
    shown = tuning.answer(tuning.Tuned(replace(found, paired=near), observations=9)).tiles[2]
    assert (shown.name, shown.sign, shown.judged) == ("lost, tuned (tuned)", "open", "no difference is shown")


def test_a_tuning_page_without_a_recommendation_says_what_is_missing() -> None:
    assert "no observation" in tuning.answer(tuning.Tuned()).sentence
    missing = tuning.answer(tuning.Tuned(why_not="3 nests were observed", observations=9))
    assert missing.sentence == "Nothing is tuned: 3 nests were observed."
    assert missing.tiles == ()


def test_the_demo_says_first_whether_the_change_helped_and_how_much_of_the_truth_is_covered(
    store: str, tmp_path: Path
) -> None:
    helped = {
        "policies": [],
        "scenario": "x",
        "seed": 1,
        "nests": 3,
        "verdict": {"said": "The change helped: so much."},
    }
    (tmp_path / "proof.json").write_text(json.dumps(helped))
    found = demo.load(store, proof=str(tmp_path / "proof.json"))
    shown = demo.answer(found)
    assert shown.sentence == "The change helped: so much."
    assert [one.name for one in shown.tiles] == [
        "joined",
        "lost",
        "median wait",
        "requests",
        "observer held up",
        "coverage",
    ]
    judged = pd.DataFrame(
        {"contains": [True, True, False], "cause": "", "width_s": 1.0, "layer": "api:join", "spacing_s": 1.0}
    )
    for rows, value, sign in ((judged.head(2), "100 %", "good"), (judged, "67 %", "breached")):
        last = demo.answer(replace(found, coverage=rows)).tiles[-1]
        assert (last.name, last.value, last.sign) == ("intervals with the truth", value, sign)
    assert "nests watched from" in demo.answer(replace(found, proof=None)).sentence


@pytest.mark.parametrize("most", [4, 6])
def test_no_tile_stands_alone_in_its_row_where_a_row_has_room_for_four(most: int) -> None:
    for count in range(2, 13):
        row = in_a_row(count, most)
        assert row <= most
        assert count % row != 1, count
        assert -(-count // row) == -(-count // most), "no more rows than are needed"
