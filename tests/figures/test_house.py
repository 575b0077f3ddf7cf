"""What every figure keeps: it asks, says what it rests on, is described, fits a narrow screen, and holds no markup."""

from __future__ import annotations

import html
import json
import re

import plotly.graph_objects as go
import pytest

from nestobs.figures.policies import proof
from worlds.drawn_figures import named_so, no_nests, no_places, of_nests, of_places, of_tuning, proved
from worlds.figure_frames import FRAMED, HOSTILE, named, strings, words
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


# named by strangers


def holds_no_markup(figure: go.Figure) -> None:
    for one in strings(json.loads(figure.to_json())):
        assert not re.search(r"<(?!/?(b|br|span)\b)", one)
        assert html.unescape(one).replace("<br>", "").isprintable()


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
