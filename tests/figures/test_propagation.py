"""Figures of the propagation and joins reports: described, narrow, honest about what was not looked at."""

from __future__ import annotations

import html
import json
import math
import re
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from nestobs import figures
from nestobs.estimate import agreement
from nestobs.estimate import groups as grouped
from nestobs.estimate.proportion import share
from nestobs.figures import funnel as joining
from nestobs.figures import propagation
from nestobs.figures import time_axis as wall
from nestobs.figures.proportions import share_lanes
from nestobs.figures.timelines import MOST_CORNERS
from nestobs.timeline import funnel as worth
from nestobs.timeline.intervals import SCHEMA
from worlds.figure_frames import FRAMED, HOSTILE, JUDGED, LINES, MADE, ORIGIN, empty, frame, line, named, strings, words
from worlds.figure_frames import drawn as observed

pytestmark = pytest.mark.slow

START, SECOND = ORIGIN.value, 1_000_000_000
END = START + 3_600 * SECOND
WHEN = "2026-03-04 12:00:00 to 13:00:00 UTC."


def utc(*after_s: float) -> Any:
    return pd.to_datetime([START + round(at * SECOND) for at in after_s], utc=True)


def collector(*spans: tuple[str, float, float], marks: list[tuple[str, float]] | None = None) -> wall.Collector:
    names, begins, ends = zip(*spans, strict=True) if spans else ((), (), ())
    found = pd.DataFrame({"vantage": pd.Series(names, dtype="str"), "start_at": utc(*begins), "end_at": utc(*ends)})
    kinds, at = zip(*marks, strict=True) if marks else ((), ())
    shown = pd.DataFrame(
        {
            "vantage": pd.Series(["A"] * len(kinds), dtype="str"),
            "at": utc(*at),
            "kind": pd.Series(kinds, dtype="str"),
            "size_s": [3600.0] * len(kinds),
        }
    )
    return wall.Collector(found, shown, START, END)


AT_WORK = collector(("A", 0, 1800), ("B", 0, 3600))
RNG = np.random.default_rng(4)


def lines(n: int = 30) -> pd.DataFrame:
    rows = []
    for unit in range(n):
        for place in ("Computer A", "Computer B"):
            for layer in ("relay:wss://one.example/", "relay:wss://two.example/", "api:info", "api:join", "api:guest"):
                lower = float(RNG.exponential(3))
                upper = math.inf if unit % 9 == 8 and layer == "api:join" else lower + float(RNG.exponential(1))
                at = ORIGIN + pd.Timedelta(minutes=unit)
                rows.append(
                    line(
                        layer,
                        lower,
                        upper,
                        place,
                        trace_id=str(unit),
                        seen_until_s=60.0,
                        origin_at=at,
                        flaps=int(unit == 3),
                        target="https://nests.example/api/v1/nests",
                    )
                )
    return frame(SCHEMA, *rows)


MANY = lines()
WATCHED = agreement.watched(MANY)
STRETCHES = agreement.stretches(WATCHED)
BINS = pd.DataFrame(
    {
        "start_at": utc(0, 1800),
        "end_at": utc(1800, 3600),
        "joined": [3, 0],
        "lost": [1, 0],
        "not_had": [0, 2],
        "unclear": [0, 1],
    }
)
ANSWERS = pd.DataFrame(
    [("A", "guest", "https://nests.example/api", kind, 1 + place) for place, kind in enumerate(worth.ANSWERS)],
    columns=["vantage", "operation", "target", "answer", "n"],
)
PARTS = pd.DataFrame(
    {
        "vantage": ["A", "B"],
        "waiting_s": [3.0, 1.0],
        "requests_s": [0.3, 0.1],
        "signal_s": [0.1, 0.1],
        "media_s": [0.0, 0.2],
        "n": [5, 6],
    }
)


def drawn() -> dict[str, go.Figure]:
    layers, hours = grouped.by_layer(MANY), grouped.by_hour(MANY)
    return {
        "laws": propagation.laws(grouped.curves(layers, grouped.ages(layers)), question="When?", when=WHEN),
        "by_hour": propagation.by_hour(grouped.summary(hours), when=WHEN),
        "last_layers": propagation.last_layers(agreement.last(WATCHED), when=WHEN),
        "agreement_by_age": propagation.agreement_by_age(
            agreement.by_age(STRETCHES, np.linspace(0, 70, 90)), nests=30, when=WHEN
        ),
        "agreement_by_time": propagation.agreement_by_time(
            agreement.by_time(STRETCHES, [START, START + 900 * SECOND, END]), AT_WORK, when=WHEN
        ),
        "collector_strip": propagation.collector_strip(AT_WORK, when=WHEN),
        "over_time": joining.over_time(BINS, AT_WORK, when=WHEN),
        "answers": joining.answers(ANSWERS, when=WHEN),
        "time_spent": joining.time_spent(PARTS, when=WHEN),
        "share_lanes": share_lanes("Who?", f"n = 10 joins. {WHEN}", {"a": share(2, 10, 5)}, of="joins"),
    }


def nothing_to_draw() -> dict[str, go.Figure]:
    none = agreement.stretches(agreement.watched(MANY.iloc[:0]))
    return {
        "laws": propagation.laws(grouped.curves([], [0.0]), question="When?", when=WHEN),
        "by_hour": propagation.by_hour(grouped.summary([]), when=WHEN),
        "last_layers": propagation.last_layers([], when=WHEN),
        "agreement_by_age": propagation.agreement_by_age(agreement.by_age(none, [0.0, 1.0]), nests=0, when=WHEN),
        "agreement_by_time": propagation.agreement_by_time(agreement.by_time(none, [START, END]), AT_WORK, when=WHEN),
        "over_time": joining.over_time(BINS.iloc[:0], AT_WORK, when=WHEN),
        "answers": joining.answers(ANSWERS.iloc[:0], when=WHEN),
        "time_spent": joining.time_spent(PARTS.iloc[:0], when=WHEN),
        "share_lanes": share_lanes("Who?", "", {"a": share(0, 0)}, of="joins"),
    }


@pytest.mark.parametrize("name", drawn())
def test_every_figure_asks_says_n_and_the_window_and_is_described(name: str) -> None:
    figure = drawn()[name]
    said = words(figure)
    assert "?" in said
    assert "n = " in said
    assert "UTC" in said
    meta = figure.layout.meta
    assert meta["alt"].startswith(said.partition("?")[0])
    assert re.search(r"\d", meta["alt"])
    assert len(meta["alt"]) < 1_000
    assert meta["rows"]
    assert all(len(row) == len(meta["columns"]) for row in meta["rows"])
    assert any(re.search(r", (s|UTC|%|mean s)$|\bn\b|count|requests|joined", name) for name in meta["columns"])


@pytest.mark.parametrize("name", observed())
def test_the_observed_figures_are_described_too(name: str) -> None:
    meta = observed()[name].layout.meta
    assert meta["alt"].startswith(words(observed()[name]).partition("?")[0])
    assert re.search(r"\d", meta["alt"])
    assert meta["rows"]
    assert all(len(row) == len(meta["columns"]) for row in meta["rows"])


@pytest.mark.parametrize("name", nothing_to_draw())
def test_nothing_to_draw_is_said_plainly(name: str) -> None:
    figure = nothing_to_draw()[name]
    assert "nothing to draw" in words(figure)
    assert not figure.data
    assert figure.layout.meta["alt"]


@pytest.mark.parametrize("name", empty())
def test_so_do_the_observed_ones(name: str) -> None:
    assert "nothing to draw" in empty()[name].layout.meta["alt"]


@pytest.mark.parametrize("name", drawn())
def test_it_fits_a_narrow_screen(name: str) -> None:
    figure = drawn()[name]
    assert figure.layout.width is None
    assert figure.layout.autosize
    assert all(len(re.sub(r"<[^>]*>", "", text)) <= 48 for text in figure.layout.title.text.split("<br>"))
    assert figure.layout.margin.l + figure.layout.margin.r <= 240
    fonts = [value["size"] for value in named(json.loads(figure.to_json())["layout"], "font", "tickfont")]
    assert min(fonts) >= 12
    assert all(axis.type != "date" for axis in (figure.layout.xaxis, figure.layout.yaxis))


@pytest.mark.parametrize("text", FRAMED, ids=range(len(FRAMED)))
def test_no_figure_holds_hostile_text_as_markup(text: str) -> None:
    hostile = MANY.assign(vantage=text, layer=[f"relay:wss://{text[:500]}/{i % 3}" for i in range(len(MANY))])
    groups, rows = grouped.by_relay(hostile), agreement.watched(hostile)
    work = collector((text, 0, 900), ("B", 0, 60))
    shown = [
        propagation.laws(grouped.curves(groups, grouped.ages(groups)), question="When?", when=WHEN),
        propagation.last_layers(agreement.last(rows), when=WHEN),
        propagation.collector_strip(work, when=WHEN),
        joining.over_time(BINS, work, when=WHEN),
        joining.answers(ANSWERS.assign(vantage=text, target=text), when=WHEN),
        joining.time_spent(PARTS.assign(vantage=text), when=WHEN),
        *observed_of(text),
    ]
    for figure in shown:
        for one in strings(json.loads(figure.to_json())):
            assert not re.search(r"<(?!/?(b|br|span)\b)", one)
            assert html.unescape(one).replace("<br>", "").isprintable()


def observed_of(text: str) -> list[go.Figure]:
    rows = LINES.assign(vantage=text, room=text)
    made = MADE.assign(vantage=text, policy=text, scenario=text, verdict="gone", role=text)
    return [
        figures.swimlanes(rows, made, title=""),
        figures.message_lanes(made),
        figures.verdicts(made),
        figures.coverage(JUDGED.assign(layer=text)),
        figures.first_visible(rows),
    ]


def test_the_hostile_texts_are_hostile() -> None:
    assert len(HOSTILE) > len(FRAMED) - 2


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
    figure = drawn()["laws"]
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
    figure = drawn()["share_lanes"]
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
    meta = figures.swimlanes(LINES, MADE, title="").layout.meta
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
    figure = figures.first_visible(many)
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
    band = next(trace for trace in figures.first_visible(rows).data if trace.fill == "toself")
    assert len(band.x) == 2 * (2 * 50 + 2)
