"""Figures of tuning: every one draws whatever tuning may give, as intervals, in words that say what they rest on."""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from nestobs import figures
from nestobs.figures import decisions, policies
from nestobs.tuning.replay import METRICS
from worlds.drawn_figures import cells, of_tuning
from worlds.figure_frames import strings, words
from worlds.recommended import odd, usual

pytestmark = pytest.mark.slow

WHEN = "2026-03-04 13:00:00 to 13:02:00 UTC"
NAMES = ("usual", "none stayed away", "mostly censored", "exact", "watched briefly", "open-ended",
         "all thresholds unknown", "strata", "kept", "nobody joins under one", "many policies",
         "another cost ratio")  # fmt: skip  # a list of words


@cache
def shown() -> dict[str, go.Figure]:
    return of_tuning(usual())


def traces(figure: go.Figure, name: str) -> list[Any]:
    return [trace for trace in figure.data if trace.name == name]


@pytest.mark.parametrize("case", NAMES)
def test_whatever_tuning_gives_is_drawn_without_a_number_that_is_none(case: str) -> None:
    assert set(NAMES) == set(odd())
    for figure in of_tuning(odd()[case]).values():
        data = json.loads(figure.to_json())
        assert figure.data
        assert not [text for text in strings(data) if re.search(r"\b(nan|NaN|inf)\b", text)]
        assert "NaN" not in figure.to_json()
        assert "Infinity" not in figure.to_json()
        assert len(figure.to_json()) < 150_000
        for axis in (value for key, value in data["layout"].items() if re.fullmatch(r"[xy]axis\d*", key)):
            assert all(math.isfinite(end) for end in axis.get("range", []))


def test_colour_is_never_alone() -> None:
    for figure in shown().values():
        looks = [
            (
                trace.type,
                trace.fillpattern.shape if trace.type == "scatter" and trace.fill else None,
                trace.line.dash if trace.type == "scatter" and trace.mode == "lines" else None,
                trace.marker.symbol if trace.type == "scatter" and trace.mode == "markers" else None,
                trace.marker.pattern.shape if trace.type == "bar" else None,
            )
            for trace in figure.data
            if trace.showlegend is not False
        ]
        assert len(set(looks)) == len(looks)


# the delay law


def test_the_estimate_lies_in_its_band_and_both_are_shares() -> None:
    band, estimate = (traces(shown()["delay_law"], name)[0] for name in ("95 % band", "estimate"))
    half = len(band.x) // 2
    low, high = np.array(band.y[:half]), np.array(band.y[half:])[::-1]
    line = np.interp(band.x[:half], estimate.x, estimate.y)
    assert (low <= line + 1e-3).all()
    assert (line <= high + 1e-3).all()
    assert low.min() >= 0
    assert high.max() <= 1


def test_the_gap_to_all_is_what_never_came() -> None:
    rec = usual()
    gap = traces(decisions.delay_law(rec), "never, by the end")[0]
    assert min(gap.y) == pytest.approx(1 - rec.law.never, abs=1e-3)
    assert max(gap.y) == 1
    assert "never came, by 90 s" in words(decisions.delay_law(rec))
    none = decisions.delay_law(odd()["none stayed away"])
    assert not traces(none, "never, by the end")
    assert "none of 80 stayed away" in words(none)


def test_an_interval_without_upper_end_is_an_arrow_and_said_in_words() -> None:
    figure = decisions.delay_law(odd()["open-ended"])
    bar = next(figure.select_traces({"mode": "lines+markers"}))
    assert bar.marker.symbol[1] == "triangle-right"
    assert bar.x[1] > figure.layout.xaxis.range[1] * 0.9
    assert "19 s to no upper end" in words(figure)
    closed = decisions.polls(usual())
    ends = [trace.marker.symbol for trace in closed.select_traces({"mode": "lines+markers"})]
    assert ends == [("line-ns-open", "line-ns-open")]


def test_the_message_of_today_is_marked_wherever_ages_run() -> None:
    for name in ("delay_law", "posterior", "polls"):
        assert shown()[name].layout.shapes[0].x0 == math.asinh(30 / 0.3)


# what a 404 means


def test_levels_of_indifference_carry_the_threshold_with_its_interval() -> None:
    rec = usual()
    bars = list(decisions.posterior(rec).select_traces({"mode": "lines+markers"}))
    assert [bar.y[0] for bar in bars] == pytest.approx([ratio / (1 + ratio) for ratio in rec.thresholds])
    for bar, number in zip(bars, rec.thresholds.values(), strict=True):
        assert bar.x[0] == pytest.approx(math.asinh(number.lower / 0.3))


def test_the_curve_crosses_each_level_at_its_threshold() -> None:
    rec = usual()
    curve = traces(decisions.posterior(rec), "still starting")[0]
    for ratio, number in rec.thresholds.items():
        at_threshold = np.interp(math.asinh(number.value / 0.3), curve.x, curve.y)
        assert at_threshold == pytest.approx(ratio / (1 + ratio), abs=0.01)


def test_what_is_told_turns_at_the_policys_threshold() -> None:
    rec = odd()["kept"]
    bars = traces(decisions.posterior(rec), "told “starting up”")
    assert [bar.x[0] for bar in bars] == pytest.approx([math.asinh(rec.today.message_threshold_s / 0.3)] * 2)


def test_without_anybody_who_stayed_away_there_is_no_band_and_it_says_so() -> None:
    figure = decisions.posterior(odd()["none stayed away"])
    assert not traces(figure, "95 % band")
    assert "half a nest" in words(figure)


# when to ask


def test_polls_are_those_that_the_join_core_makes() -> None:
    ticks = traces(shown()["polls"], "asks")
    assert [round(0.3 * math.sinh(x), 1) for x in ticks[0].x] == list(range(0, 50, 5))  # a person who stays for 45 s
    assert "stays to the end" in words(shown()["polls"])
    assert len(ticks) == 3
    assert all(tick.marker.symbol == "line-ns-open" for tick in ticks)


def test_today_is_marked_most_and_named() -> None:
    figure = shown()["frontier"]
    crosses = [trace for trace in figure.data if trace.error_x.array is not None]
    star = [cross for cross in crosses if cross.marker.symbol == "star"]
    assert len(star) == 1
    assert star[0].name.startswith("today:")
    assert star[0].error_x.thickness == max(cross.error_x.thickness for cross in crosses)
    said = [re.sub(r"<[^>]*>", "", note.text) for note in figure.layout.annotations]
    assert {"today", "tuned", "simple"} <= set(said)
    assert "today is manual_retry" in words(figure)


def test_a_cross_spans_both_intervals() -> None:
    rec = usual()
    cross = next(trace for trace in policies.frontier(rec).data if (trace.name or "").startswith("tuned:"))
    requests, delay = (rec.replayed("tuned").numbers[name] for name in ("requests_per_join", "mean_delay_s"))
    assert cross.x[0] - cross.error_x.arrayminus[0] == pytest.approx(requests.lower)
    assert cross.x[0] + cross.error_x.array[0] == pytest.approx(requests.upper)
    assert cross.y[0] + cross.error_y.array[0] == pytest.approx(math.asinh(delay.upper / 0.3))


def test_the_front_shows_the_chosen_price_and_what_is_lost() -> None:
    rec = usual()
    figure = policies.frontier(rec)
    ring = traces(figure, "optimal at the chosen price")[0]
    chosen = rec.front[rec.front["chosen"]].iloc[0]
    assert ring.x[0] == pytest.approx(chosen["requests_per_join"], abs=1e-3)
    sizes = traces(figure, "optimal, by price; larger: more lost")[0].marker.size
    assert sizes[int(np.argmax(rec.front["lost_share"]))] == max(sizes)
    assert any("lost" in note.text for note in figure.layout.annotations)


def test_a_policy_nobody_joins_under_is_named_and_not_drawn() -> None:
    rec = odd()["nobody joins under one"]
    figure = policies.frontier(rec)
    assert f"nobody joins: {rec.replays[1].policy.name}" in words(figure)
    assert len([t for t in figure.data if t.error_x.array is not None]) < len(rec.replays)


# predicted beside realised


def test_a_panel_a_metric_a_row_a_policy_and_outside_looks_another() -> None:
    figure = shown()["proof"]
    labels = [re.sub(r"<[^>]*>", "", note.text) for note in figure.layout.annotations]
    assert len(labels) == len(METRICS)
    assert list(figure.layout.yaxis4.ticktext) == ["manual_retry", "tuned"]
    came = [trace for trace in figure.data if trace.type == "scatter" and trace.showlegend is False]
    assert [trace.marker.symbol for trace in came] == ["circle", "circle", "x", "x"] + ["circle"] * 4
    assert [trace.error_x.array[0] for trace in came if trace.error_x.visible] == [0.15, 0.15]
    assert "6 of 8 numbers came inside" in words(figure)


def test_what_was_not_predicted_or_not_joined_is_said_and_nothing_breaks() -> None:
    inf, nan = math.inf, math.nan
    table = cells(
        ("a", "joined_share", nan, -inf, inf, 0.0, 0.0, 3, None),
        ("a", "mean_delay_s", nan, -inf, inf, nan, nan, 0, None),
        ("a", "requests_per_join", 2.0, -inf, inf, 1.0, 0.0, 3, None),
    )
    figure = policies.proof(table)
    assert "0 of 0 numbers came inside their 95 % predictive interval, 3 not judged. no window" in words(figure)
    assert "NaN" not in figure.to_json()
    assert any("no prediction" in text for text in strings(json.loads(figure.to_json())))
    assert traces(figure, "came, not judged")


def test_no_proof_is_said_plainly() -> None:
    figure = policies.proof(cells())
    assert "nothing to draw" in words(figure)
    assert not figure.data


# numbers in words


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "0 %"), (1e-9, "0 %"), (4e-4, "0.04 %"), (0.042, "4.2 %"), (0.42, "42 %"), (0.994, "99.4 %"),
     (1 - 1e-9, "100 %"), (1.0, "100 %")],
)  # fmt: skip  # a list of words
def test_shares_are_finer_towards_their_ends(share: float, said: str) -> None:
    assert figures.percent(share) == said


def test_an_open_end_is_said() -> None:
    assert figures.span(19.0, 41.2, unit="s") == "19 to 41 s"
    assert figures.span(0.123, 1.84) == "0.12 to 1.8"
    assert figures.span(19.0, math.inf, unit="s") == "19 s to no upper end"
    assert figures.span(-math.inf, 2.0, unit="s") == "no lower end to 2.0 s"


@pytest.mark.parametrize("case", NAMES)
def test_every_figure_says_what_it_shows_in_words_and_as_a_table(case: str) -> None:
    for name, figure in of_tuning(odd()[case]).items():
        meta = figure.layout.meta
        assert len(meta["alt"]) > 40, name
        assert not re.search(r"\b(nan|inf|None)\b", json.dumps([meta[key] for key in ("alt", "columns", "rows")])), name
        assert meta["rows"], name
        assert all(len(row) == len(meta["columns"]) for row in meta["rows"]), name
        assert len(meta["rows"]) <= 200


def test_a_table_holds_what_is_drawn() -> None:
    rec = usual()
    law = shown()["delay_law"].layout.meta
    assert law["columns"][:2] == ["age, s", "estimate, %"]
    age, share = (float(cell) for cell in law["rows"][20][:2])
    assert share == pytest.approx(100 * float(rec.law.cdf(age)), abs=0.5)
    front = shown()["frontier"].layout.meta["rows"]
    assert front[0][0] == f"replayed: {rec.today.name}"
    assert len(front) == len(rec.replays) + len(rec.front)
    polls = shown()["polls"].layout.meta["rows"]
    assert {row[0] for row in polls} == {"today", "tuned", "simple"}
    came = shown()["proof"].layout.meta
    assert came["rows"][1][-1] == "no"
    assert float(came["rows"][1][5]) == 20.0
    assert "Outside: manual_retry lost" in came["alt"]
