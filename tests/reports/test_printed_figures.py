"""On paper a figure that is higher than a sheet is cut between its panels or lanes, each part with the axis and the
legend; on the screen it is one again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from nestobs.figures import canvas, marks
from nestobs.reports.publishing.html import PLOTLY, page
from worlds.browser import Browser, Page, need_chromium

pytestmark = pytest.mark.slow

SHEET_PX = 812
"""So much of a figure stands on one sheet, at the usual scale."""

LANES = [f"relay {number}" for number in range(60)]


def panels() -> go.Figure:
    """16 panels of shares on one axis of ages."""
    made = [
        (f"<b>panel {number}</b>", [go.Scatter(x=[0, 1], y=[0, 1], name="a key", legendgroup="a key", yaxis="y")])
        for number in range(16)
    ]
    return marks.facets("Which panels?", "All.", made, (0.0, 40.0), panel_px=104, bottom=0.8)


def lanes() -> go.Figure:
    """60 lanes on one axis."""
    return marks.stacked("Which lanes?", "All.", LANES, [("part", [0.5] * 60, {"color": canvas.BLUE})], "share")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need_chromium()
    with Browser() as started:
        yield started


def shown(browser: Browser, path: Path, figure: go.Figure) -> Page:
    drawn = json.loads(canvas.described(figure, "Told.", pd.DataFrame()).to_json())
    cell = new_code_cell("", outputs=[new_output("display_data", {PLOTLY: drawn})])
    path.write_text(page(new_notebook(cells=[cell]), title="figures"))
    return browser.open(path, media="")


PARTS = """JSON.stringify([...document.querySelectorAll("figure.cut [role=img]")].map((place) => {
  const shown = [...place.children].map((one) => one.matches(".sheet") ? one.firstElementChild : one);
  return shown.map((one) => {
    const plot = one.querySelector(".plotly-graph-div"), from = -parseFloat(plot.style.marginTop || "0");
    const top = plot.getBoundingClientRect().top, ends = (it) => [it.top - top, it.bottom - top];
    const words = [...plot.querySelectorAll(".annotation, .yaxislayer-above text")].map((it) =>
      [it.textContent, ...ends(it.getBoundingClientRect())]);
    return {from, to: from + parseFloat(one.style.height), words, axis: !!plot.querySelector(".xtick")};
  });
}))"""


@pytest.mark.parametrize(("figure", "words"), [(panels, "panel"), (lanes, "relay")])
def test_a_figure_higher_than_a_sheet_is_cut_between_its_parts(
    figure: Any, words: str, browser: Browser, tmp_path: Path
) -> None:
    opened = shown(browser, tmp_path / "page.html", figure())
    before = opened.evaluate("document.querySelector('.plotly-graph-div').offsetHeight")
    assert before > 2 * SHEET_PX
    opened.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {PARTS} }})")
    sheets = opened.printed()
    ((first, *rest),) = json.loads(opened.evaluate("window.printed"))
    feet, parts = rest[::2], [first, *rest[1::2]]
    assert len(parts) == 3
    assert [part["from"] for part in parts] == [0, *(part["to"] for part in parts[:-1])], "nothing is left out"
    for part in parts:
        assert part["to"] - part["from"] + (feet[0]["to"] - feet[0]["from"]) <= SHEET_PX + 104
        crossed = [word for word, top, bottom in part["words"] if top < part["to"] < bottom and word != "30 s"]
        assert crossed == []
    assert {(foot["from"], foot["to"], foot["axis"]) for foot in feet} == {(feet[0]["from"], parts[-1]["to"], True)}
    whole = [
        [word for word, top, bottom in part["words"] if part["from"] <= top and bottom <= part["to"]] for part in parts
    ]
    found = [word for each in whole for word in each if word.startswith(words)]
    assert (len(found), len(set(found))) == (16 if figure is panels else 60,) * 2, "each is told once"
    assert sheets.count == 3, "each part stands on a sheet of its own"
    assert opened.evaluate("document.querySelectorAll('.part, .sheet, .cut').length") == 0
    opened.settle()
    assert opened.evaluate("document.querySelector('.plotly-graph-div').offsetHeight") == before
    assert opened.evaluate("document.querySelector('.plotly-graph-div').parentElement.offsetHeight") == before
    assert opened.errors == []
    opened.close()


def test_what_has_no_place_to_be_cut_stays_whole(browser: Browser, tmp_path: Path) -> None:
    figure = canvas.drawn("A scatter?", "All.", [go.Scatter(x=[0, 1], y=[0, 1], name="a key")], plot_px=3_000)
    opened = shown(browser, tmp_path / "page.html", figure)
    opened.evaluate("addEventListener('beforeprint', () => { window.cut = document.querySelectorAll('.cut').length })")
    opened.printed()
    assert (opened.evaluate("window.cut"), opened.errors) == (0, [])
    opened.close()
