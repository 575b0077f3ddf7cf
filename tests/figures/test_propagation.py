"""Figures of the propagation and joins reports: described, narrow, honest about what was not looked at."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go
import pytest

from nestobs.estimate import groups as grouped
from nestobs.estimate.proportion import share
from nestobs.figures import funnel as joining
from nestobs.figures import propagation, timelines
from nestobs.figures import time_axis as wall
from nestobs.figures.timelines import MOST_CORNERS
from nestobs.timeline.intervals import SCHEMA
from worlds.drawn_figures import AT_WORK, BINS, SECOND, START, WHEN, collector, of_places
from worlds.figure_frames import LINES, MADE, frame, line, words

pytestmark = pytest.mark.slow

# the strip


def bars(figure: go.Figure, name: str) -> list[tuple[int, float, float]]:
    trace = next(trace for trace in figure.data if trace.name == name)
    return [(y, base, base + x) for y, base, x in zip(trace.y, trace.base, trace.x, strict=True)]


def test_the_strip_shows_where_each_vantage_was_at_work_and_off() -> None:
    figure = joining.over_time(BINS, AT_WORK, when=WHEN)
    assert bars(figure, wall.AT_WORK) == [(0, 0, 1800), (1, 0, 3600)]
    assert bars(figure, wall.OFF) == [(0, 1800, 3600)]
    off = next(trace for trace in figure.data if trace.name == wall.OFF)
    assert off.marker.pattern.shape == "x"
    assert {trace.yaxis for trace in figure.data if trace.name in (wall.AT_WORK, wall.OFF)} == {"y2"}
    assert figure.layout.yaxis2.domain[1] < figure.layout.yaxis.domain[0]


def test_a_collector_never_at_work_is_off_all_the_time() -> None:
    figure = propagation.collector_strip(collector(), when=WHEN)
    assert bars(figure, wall.OFF) == [(0, 0, 3600)]
    assert "not known to have been at work" in figure.layout.meta["alt"]


def test_a_step_and_a_sleep_are_marked_where_they_were_noticed() -> None:
    work = collector(("A", 0, 3600), marks=[("clock_step", 600), ("suspended", 1200)])
    figure = joining.over_time(BINS, work, when=WHEN)
    marks = {trace.name: (list(trace.x), trace.marker.symbol) for trace in figure.data if trace.type == "scatter"}
    assert marks == {"clock stepped": ([600.0], "diamond"), "machine slept": ([1200.0], "square-cross")}
    assert "clock stepped once" in propagation.collector_strip(work, when=WHEN).layout.meta["alt"]


def test_many_vantages_are_one_lane() -> None:
    work = collector(*((name, 60 * place, 60 * place + 90) for place, name in enumerate("ABCDE")))
    assert bars(propagation.collector_strip(work, when=WHEN), wall.AT_WORK) == [(0, 0, 330)]


@pytest.mark.parametrize("length_s", [1, 59, 600, 3_600, 86_400, 7 * 86_400, 400 * 86_400])
def test_a_wall_time_axis_has_few_ticks_and_a_date(length_s: int) -> None:
    axis = wall.axis(START, START + length_s * SECOND)
    assert 1 <= len(axis["tickvals"]) <= 6
    assert "03-04" in axis["ticktext"][0] or length_s > 86_400
    assert axis["range"] == [0, length_s]


# what they show


def test_a_law_is_a_line_in_a_band_and_vantages_differ_in_more_than_colour() -> None:
    figure = of_places()["laws"]
    bands = [trace for trace in figure.data if trace.fill == "toself"]
    curves = [trace for trace in figure.data if trace.fill is None]
    assert len(bands) == len(curves) == 6
    assert {trace.line.dash for trace in curves} == {"solid", "dash"}
    assert {trace.fillpattern.shape for trace in bands} == {"/", "\\"}
    assert not [trace for trace in figure.data if "markers" in trace.mode]
    for band, curve in zip(bands, curves, strict=True):
        half = len(band.y) // 2
        assert all(
            lo <= y + 1e-3 and y <= hi + 1e-3
            for lo, y, hi in zip(band.y[:half], curve.y, band.y[half:][::-1], strict=True)
        )


def test_of_many_relays_those_of_most_nests_are_drawn_and_the_rest_is_said() -> None:
    rows = [
        line(f"relay:wss://r{relay:02}.example/", 1.0, 2.0, trace_id=str(unit))
        for relay in range(20)
        for unit in range(relay + 1)
    ]
    groups = grouped.by_relay(frame(SCHEMA, *rows))
    figure = propagation.laws(grouped.curves(groups, grouped.ages(groups)), question="When?", when=WHEN)
    labels = " ".join(note.text for note in figure.layout.annotations)
    assert "r19.example" in labels
    assert "r00.example" not in labels
    assert "8 more panels not drawn" in words(figure)


def test_doubt_is_hatched_between_what_is_sure_and_what_is_possible() -> None:
    figure = of_places()["share_lanes"]
    assert bars_of(figure, "surely") == [(0.0, 0.2)]
    assert bars_of(figure, "possibly") == [(0.2, 0.5)]
    ends = next(trace for trace in figure.data if trace.name == "95 %")
    assert list(ends.x)[:2] == [*share(2, 10, 5).by_chance_and_doubt()]


def bars_of(figure: go.Figure, name: str) -> list[tuple[float, float]]:
    trace = next(trace for trace in figure.data if trace.name == name)
    return [(base, round(base + x, 9)) for base, x in zip(trace.base, trace.x, strict=True)]


def test_an_open_interval_of_an_hour_reaches_the_top() -> None:
    rows = [line("api:guest", 5.0, math.inf if unit % 2 else 6.0, trace_id=str(unit)) for unit in range(12)]
    hours = grouped.summary(grouped.by_hour(frame(SCHEMA, *rows)))
    assert math.isinf(hours["q90_high_s"][0])
    figure = propagation.by_hour(hours, when=WHEN)
    bar = next(trace for trace in figure.data if trace.name.startswith("90 %"))
    assert bar.base[0] + bar.y[0] == pytest.approx(figure.layout.yaxis.range[1])


def test_the_swimlane_table_has_each_segment_and_join() -> None:
    meta = timelines.swimlanes(LINES, MADE, title="").layout.meta
    assert meta["columns"] == ["layer", "vantage", "state", "from, s", "to, s"]
    assert ["api:join", "Computer A", "not seen by the end", "4", "9"] in meta["rows"]
    assert ["one.example", "Computer B", "switched in here", "0.1", "0.4"] in meta["rows"]
    assert ["join, guest", "Computer A", "guest", "5", "7"] in meta["rows"]


# many nests


def test_two_hundred_thousand_nests_give_a_band_of_few_corners_that_is_hardly_wider() -> None:
    rng = np.random.default_rng(1)
    one = frame(SCHEMA, line("api:info", 1.0, 2.0))
    lower = np.concatenate([rng.exponential(5, 199_990), [500.0] * 10])
    upper = lower + rng.exponential(1, len(lower))
    upper[::50] = np.inf
    many = one.loc[np.zeros(len(lower), dtype=int)].reset_index(drop=True)
    many = many.assign(lower_s=lower, upper_s=upper, right_censored=np.isinf(upper))
    figure = timelines.first_visible(many)
    band = next(trace for trace in figure.data if trace.fill == "toself")
    assert len(band.x) <= 2 * (MOST_CORNERS + 4)
    assert len(figure.to_json()) < 1_000_000
    x, y = 0.3 * np.sinh(np.array(band.x, dtype=float)), np.array(band.y, dtype=float)
    turn = int(np.argmax(x[: len(x)] >= x.max()))
    low_x, low_y, high_x, high_y = x[: turn + 1], y[: turn + 1], x[turn + 1 :][::-1], y[turn + 1 :][::-1]
    axis = figure.layout.xaxis.range[1] - figure.layout.xaxis.range[0]
    for age in rng.exponential(6, 400):
        sure, possible = float((upper <= age).mean()), float((lower < age).mean())
        drawn_low = low_y[np.searchsorted(low_x, age + 1e-9, "right") - 1]
        drawn_high = high_y[np.searchsorted(high_x, age + 1e-9, "right") - 1]
        assert drawn_low <= sure + 1e-9, "the band is never narrower than what is known"
        assert drawn_high >= possible - 1e-9
        near = 0.3 * np.sinh(np.arcsinh(age / 0.3) + axis / 900)
        before = 0.3 * np.sinh(np.arcsinh(age / 0.3) - axis / 900)
        assert drawn_low >= float((upper <= before).mean()) - 1e-9, "and by at most a thousandth of the axis wider"
        assert drawn_high <= float((lower < near).mean()) + 1e-9


def test_few_nests_are_drawn_step_by_step() -> None:
    rows = frame(SCHEMA, *[line("api:info", float(i), float(i) + 0.5, trace_id=str(i)) for i in range(50)])
    band = next(trace for trace in timelines.first_visible(rows).data if trace.fill == "toself")
    assert len(band.x) == 2 * (2 * 50 + 2)
