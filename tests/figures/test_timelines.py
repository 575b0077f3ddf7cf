"""Figures: intervals are bars and bands, every figure says n, censoring and window, and foreign text stays text."""

from __future__ import annotations

import html
import math
import re

import numpy as np
import pytest

from nestobs import figures
from nestobs.figures import messages, proportions, timelines
from nestobs.timeline.intervals import SCHEMA as TIMELINES
from nestobs.timeline.joins import KINDS
from nestobs.timeline.joins import SCHEMA as JOINS
from worlds.figure_frames import HOSTILE, JUDGED, LINES, MADE, frame, join, line, words

pytestmark = pytest.mark.slow


def test_a_lane_is_proven_absent_then_switched_then_visible() -> None:
    figure = timelines.swimlanes(LINES, MADE, title="calm", watched_s=60.0)
    names = {trace.name for trace in figure.data if trace.type == "bar"}
    assert names == {
        "A: switched in here", "A: visible", "B: switched in here", "B: visible",
        "proven absent", "not seen by the end", "went in here",
    }  # fmt: skip  # a list of words


def test_two_vantages_lie_side_by_side_under_their_layer() -> None:
    labels = list(timelines.swimlanes(LINES, MADE, title="").layout.yaxis.ticktext)
    assert labels[:2] == ["one.example A", "one.example B"]
    assert labels[2:5] == ["client A", "api:info A", "api:join A"]


def test_an_interval_of_no_length_is_still_seen() -> None:
    figure = timelines.swimlanes(LINES, MADE, title="")
    switched = next(trace for trace in figure.data if trace.name == "A: switched in here")
    assert min(switched.x) > 0
    assert switched.marker.pattern.shape == "/"


def test_a_negative_delay_is_drawn_and_not_clipped() -> None:
    figure = timelines.swimlanes(LINES, MADE, title="")
    assert figure.layout.xaxis.range[0] < math.asinh(-1.5 / 0.3)
    assert "-1" in figure.layout.xaxis.ticktext


def test_joins_end_in_the_symbol_of_their_verdict_and_need_an_age() -> None:
    figure = timelines.swimlanes(LINES, MADE, title="")
    attempts = [trace for trace in figure.data if getattr(trace, "mode", "") == "lines+markers"]
    assert len(attempts) == len(MADE) - 1
    assert {trace.marker.symbol[1] for trace in attempts} == {"square", "x", "triangle-up", "hexagon", "star"}


def test_every_verdict_has_a_look_of_its_own() -> None:
    made = frame(JOINS, *[join(kind) for kind in KINDS])
    looks = {(trace.marker.color, trace.marker.pattern.shape) for trace in messages.verdicts(made).data}
    assert len(looks) == len(KINDS)
    lanes = timelines.swimlanes(LINES, made, title="").data
    symbols = {lane.marker.symbol[1] for lane in lanes if getattr(lane, "mode", "") == "lines+markers"}
    assert len(symbols) == len(KINDS)


def test_the_message_threshold_is_marked() -> None:
    for figure in (timelines.swimlanes(LINES, MADE, title=""), timelines.first_visible(LINES)):
        assert figure.layout.shapes[0].x0 == math.asinh(30 / 0.3)


def test_the_band_lies_between_the_two_shares_at_every_age() -> None:
    lines = frame(TIMELINES, line("api:info", 1.0, 2.0), line("api:info", 1.5, 4.0), line("api:info", 3.0, math.inf))
    band = next(trace for trace in timelines.first_visible(lines).data if trace.fill == "toself")
    corners = [(0.3 * math.sinh(x), y) for x, y in zip(band.x, band.y, strict=True)]
    shares = {round(x, 6): [] for x, _ in corners}  # type: ignore[var-annotated]  # floats
    for x, y in corners:
        shares[round(x, 6)].append(round(y, 6))
    third = round(1 / 3, 6)
    assert set(shares[2.0]) == {0.0, third}  # certain from the upper end on
    assert {third} <= set(shares[1.0])  # possible from the lower end on
    assert {round(2 / 3, 6), 1.0} <= set(shares[3.0])
    assert set(shares[4.0]) == {third, round(2 / 3, 6), 1.0}  # the censored one leaves the band open
    assert band.mode == "lines"


def test_the_band_says_n_and_the_censored_of_each_layer_and_leaves_out_what_proved_nothing() -> None:
    figure = timelines.first_visible(LINES)
    labels = [re.sub(r"<[^>]*>", "", note.text) for note in figure.layout.annotations]
    assert "one.example  n = 1 + 1, not seen 0 + 0" in labels
    assert "api:join  n = 1 + 0, not seen 1 + 0" in labels
    assert not [label for label in labels if label.startswith("livekit:media")]
    assert "2 more without any proof" in words(figure)


def test_statements_are_split_by_whether_they_were_true() -> None:
    names = {trace.name: trace for trace in messages.message_lanes(MADE).data}
    assert set(names) == {
        "in the room", "“starting up”: true", "“no longer”: false", "“Failed”: unclear", "“Loading”: false",
        "other answer",
    }  # fmt: skip  # a list of words
    assert names["“no longer”: false"].marker.pattern.shape == "x"
    assert sum(sum(trace.x) for trace in names.values()) == 2 * len(MADE)


def test_scenarios_are_rows_where_they_are_given() -> None:
    made = MADE.assign(scenario=["calm", "never"] * 3)
    assert list(messages.verdicts(made).layout.yaxis.ticktext) == ["calm", "never"]
    assert len(messages.message_lanes(made).layout.yaxis.ticktext) == 4


def test_coverage_counts_hits_misses_and_what_cannot_be_judged() -> None:
    figure = proportions.coverage(JUDGED)
    assert {trace.name: sum(trace.x) for trace in figure.data} == {
        "contains it": 1, "misses it": 1, "cannot be judged": 1,
    }  # fmt: skip  # a list of words
    assert [note.text for note in figure.layout.annotations] == ["no width", "0.60 s"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_foreign_text_is_one_short_printable_line_without_markup(text: str) -> None:
    shown = figures.plain(text)
    assert "<" not in shown
    assert ">" not in shown
    assert html.unescape(shown).isprintable()
    assert len(html.unescape(shown)) <= 48


def test_plain_keeps_what_is_harmless() -> None:
    assert figures.plain("Späti & Freunde 🎧") == "Späti &amp; Freunde 🎧"
    assert figures.plain("\"$x$\" & 'y'") == "&#34;&#36;x&#36;&#34; &amp; &#x27;y&#x27;"
    assert figures.plain("a\n\n b") == "a b"
    assert figures.plain("x" * 60, 10) == "x" * 9 + "…"


def test_layers_come_in_the_order_in_which_a_nest_passes_them() -> None:
    layers = ["livekit:media", "api:join", "client", "relay:b", "api:info", "relay:a", "api:guest", "livekit:room"]
    assert figures.layer_order(layers) == [
        "relay:a", "relay:b", "client", "api:info", "api:join", "api:guest", "livekit:room", "livekit:media",
    ]  # fmt: skip  # a list of words


def test_many_rows_stay_quick_and_small() -> None:
    rows = [line("api:info", float(i), float(i) + 1, trace_id=str(i)) for i in np.linspace(0, 60, 5000)]
    assert len(timelines.first_visible(frame(TIMELINES, *rows)).to_json()) < 2_000_000
