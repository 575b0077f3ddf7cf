"""What every figure keeps: it asks, says what it rests on, is described, fits a narrow screen, and holds no markup."""

from __future__ import annotations

import html
import json
import re

import pandas as pd
import plotly.graph_objects as go
import pytest

from nestobs.estimate import groups as grouped
from nestobs.estimate.proportion import share
from nestobs.figures import marks, propagation, proportions, timelines, unbroken
from nestobs.figures.canvas import wrapped
from nestobs.figures.policies import proof
from nestobs.figures.text import layer_name
from nestobs.reports.publishing.html import caption
from worlds.drawn_figures import MANY, named_so, no_nests, no_places, of_nests, of_places, of_tuning, proved
from worlds.figure_frames import FRAMED, HOSTILE, LINES, MADE, named, strings, words
from worlds.recommended import hostile, usual

pytestmark = pytest.mark.slow

SEEN = of_nests() | of_places()
ALL = SEEN | of_tuning(usual())
NONE = no_nests() | no_places()


@pytest.mark.parametrize("name", ALL)
def test_it_asks_its_question_and_says_n_and_the_window(name: str) -> None:
    said = words(ALL[name])
    assert "?" in said
    assert "n = " in said
    assert name == "coverage" or re.search(r"2026-03-04 1.* UTC", said)


@pytest.mark.parametrize("name", ["delay_law", "posterior", "polls", "frontier"])
def test_it_says_how_many_were_not_seen(name: str) -> None:
    assert f"{usual().law.censored} not seen by the end (right-censored)" in words(ALL[name])


@pytest.mark.parametrize("name", SEEN)
def test_it_is_described(name: str) -> None:
    meta = SEEN[name].layout.meta
    assert meta["alt"].startswith(words(SEEN[name]).partition("?")[0])
    assert re.search(r"\d", meta["alt"])
    assert len(meta["alt"]) < 1_000
    assert meta["rows"]
    assert all(len(row) == len(meta["columns"]) for row in meta["rows"])


@pytest.mark.parametrize("name", of_places())
def test_its_table_names_units(name: str) -> None:
    columns = SEEN[name].layout.meta["columns"]
    assert any(re.search(r", (s|UTC|%|mean s)$|\bn\b|count|requests|joined", name) for name in columns)


@pytest.mark.parametrize("name", NONE)
def test_nothing_to_draw_is_said_plainly(name: str) -> None:
    figure = NONE[name]
    assert "nothing to draw" in words(figure)
    assert "nothing to draw" in figure.layout.meta["alt"]
    assert not figure.data


@pytest.mark.parametrize("name", ALL)
def test_it_fits_a_narrow_screen_and_reads_on_any_background(name: str) -> None:
    figure = ALL[name]
    assert figure.layout.width is None
    assert figure.layout.autosize
    house = figure.layout.template.layout
    assert house.paper_bgcolor == house.plot_bgcolor == "rgba(0,0,0,0)"
    assert figure.layout.paper_bgcolor is figure.layout.plot_bgcolor is None
    lines = [html.unescape(re.sub(r"<[^>]*>", "", line)) for line in figure.layout.title.text.split("<br>")]
    assert max(map(len, lines)) <= 48
    assert figure.layout.margin.l + figure.layout.margin.r <= (150 if name not in SEEN else 240)
    keys = [trace.name for trace in figure.data if trace.showlegend is not False]
    assert max(54 + 6.4 * len(html.unescape(key)) for key in keys) <= 360
    fonts = [value["size"] for value in named(json.loads(figure.to_json())["layout"], "font", "tickfont")]
    assert min(fonts) >= 12
    assert all(axis.type != "date" for axis in (figure.layout.xaxis, figure.layout.yaxis))


@pytest.mark.parametrize("name", ["first_visible", "messages", "verdicts", "coverage"])
def test_an_interval_is_no_point(name: str) -> None:
    assert not [trace for trace in ALL[name].data if "markers" in (getattr(trace, "mode", None) or "")]


# numbers and their units


@pytest.mark.parametrize(
    "text",
    [
        "4.1_s", "2.3_ms", "50_%", "95_%:", "12_/_s", "1_day", "1,024_MB", "n_=_9", "ρ_=_.25", "1.5_s_±_0.2", "≤_30_s",
        "-4.9_[-7.9,_-1.9]", "50_%_[48_%,_52_%]",
    ],
)  # fmt: skip  # a list of words
def test_no_line_ends_between_a_number_and_its_unit_name_or_interval(text: str) -> None:
    told = text.replace("_", "\u00a0")
    assert unbroken(f"It is {text.replace('_', ' ')} here") == f"It is {told} here"
    assert unbroken(text.replace("_", "\n  ")) == told
    assert unbroken(told) == told
    assert [line for line in wrapped(f"a {text.replace('_', ' ')} b", 1) if line == told] == [told]


@pytest.mark.parametrize("text", ["39 nests", "1 second", "3, 4 and 5", "in = 4", "2 of 9", "12 sides", "s 5", "x / y"])
def test_elsewhere_lines_end_as_before(text: str) -> None:
    assert unbroken(text) == text


# named by strangers


def holds_no_markup(figure: go.Figure) -> None:
    for one in strings(json.loads(figure.to_json())):
        assert not re.search(r"<(?!/?(b|br|span)\b)", one)
        assert (
            html.unescape(one).replace("<br>", "").replace("\u00a0", " ").isprintable()
        )  # that keeps a number its unit


@pytest.mark.parametrize("text", FRAMED, ids=range(len(FRAMED)))
def test_no_figure_holds_hostile_text_as_markup(text: str) -> None:
    for figure in (*named_so(text), proof(proved(text, f"{text} tuned"), when=text)):
        assert len(figure.to_json()) < 200_000
        holds_no_markup(figure)


@pytest.mark.parametrize("text", [*(text for text in HOSTILE if text.isprintable() and len(text) < 90), "a\u0301%{x}"])
def test_no_figure_of_a_tuning_does(text: str) -> None:
    for figure in of_tuning(hostile(text)).values():
        holds_no_markup(figure)


def test_the_hostile_texts_are_hostile() -> None:
    assert len(HOSTILE) > len(FRAMED) - 2


# long names

LONG = tuple(f"relay:wss://relay.nostr.nests-community.{region}.example.org/" for region in ("east", "west"))
HOSTS = tuple(f"relay.nostr.nests-community.{region}.example.org" for region in ("east", "west"))


def named_long() -> dict[str, go.Figure]:
    """Figures of nests on two relays whose names are longer than a label, and begin and end alike."""
    lines = pd.concat([LINES.assign(layer=layer) for layer in LONG])
    made = grouped.by_layer(MANY)[:1]
    lanes = {f"{layer_name(layer)}<br>A": share(1, 2) for layer in LONG}
    curves = pd.concat([grouped.curves(made, grouped.ages(made)).assign(name=layer) for layer in LONG])
    return {
        "swimlanes": timelines.swimlanes(lines, MADE, title="calm"),
        "first_visible": timelines.first_visible(lines),
        "laws": propagation.laws(curves, question="When?", when=""),
        "share_lanes": proportions.share_lanes("Who?", "n = 2", lanes, of="nests"),
        "stacked": marks.stacked("What?", "n = 2", list(lanes), [("granted", [1, 2], {})], "requests"),
    }


@pytest.mark.parametrize("name", ["swimlanes", "first_visible", "laws", "share_lanes", "stacked"])
def test_a_long_name_is_shortened_in_its_middle_and_told_whole_by_hover_and_beside_the_figure(name: str) -> None:
    figure = named_long()[name]
    meta = figure.layout.meta
    labels = [label for label, _ in meta["whole"]]
    assert [whole for _, whole in meta["whole"]] == list(HOSTS)
    assert all(len(label) == 22 and label[:10] == "relay.nost" and label.endswith("example.org") for label in labels)
    hovers = [text for trace in figure.data for text in trace.hovertext or ()]
    assert all(any(host in text for text in hovers) for host in HOSTS)
    said = caption(figure.to_plotly_json()["layout"] | {"meta": {}}, meta)
    assert all(f"{label} = {host}" in said for label, host in meta["whole"])
    drawn = json.dumps(figure.to_plotly_json()["layout"].get("yaxis", {}), default=str) + json.dumps(
        [one.text for one in figure.layout.annotations]
    )
    assert not any(host in drawn for host in HOSTS)
