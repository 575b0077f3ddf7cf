"""Every notebook's report in a real browser: drawn whole, quiet, alone, readable; and no stranger's name runs in it.

What judges a page is itself put to the test first, on pages with known faults.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import papermill
import plotly.graph_objects as go
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import nestobs
from nestobs.figures.canvas import blank
from nestobs.reports.answer import Answer, Tile
from nestobs.reports.display import Table
from nestobs.reports.publishing.execute import run
from nestobs.reports.publishing.html import PLOTLY, page
from worlds import full_nests, hostile
from worlds.browser import Browser, BrowserError, Page, need_chromium
from worlds.drawn import foreign, parted, said, wrong_figures, wrong_words

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(nestobs.__file__).parents[1] / "notebooks").glob("*.ipynb"))

VIEWS: tuple[dict[str, Any], ...] = (
    {"width": 1280},
    {"width": 360},
    {"width": 720, "media": "print"},  # A4 less its margins
)
"""The first two in light and in dark."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need_chromium()
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of three days."""
    return full_nests.store_of(tmp_path_factory.mktemp("usual"), full_nests.rows_of_days(16, 3))


@pytest.fixture(scope="module")
def infested(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store in which strangers named things."""
    return full_nests.store_of(tmp_path_factory.mktemp("hostile"), hostile.hostile_rows())


GIVEN: Mapping[str, Mapping[str, object]] = {}
"""By notebook and parameter: what its report is given beside a store, where its own defaults would show nothing."""


def report(notebook: Path, out: Path, **given: object) -> Path:
    """Its report, with those of the given parameters that it knows."""
    known = papermill.inspect_notebook(str(notebook))
    chosen = {**GIVEN.get(notebook.stem, {}), **given}
    return run(notebook, out, {name: value for name, value in chosen.items() if name in known})


def opened_wide(shown: Page) -> None:
    """All that is one click away, shown."""
    shown.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
    shown.settle()


# the judge


def test_chromium_is_gone_when_the_test_is_over_however_it_ends() -> None:
    need_chromium()

    def fails(ours: Browser) -> None:
        with ours:
            ours.open("data:text/html,<p>hello</p>")
            group.append(ours.pid)
            raise ZeroDivisionError

    group: list[int] = []
    with pytest.raises(ZeroDivisionError):
        fails(Browser())
    assert living(group[0]) == []


def test_chromium_does_not_outlive_a_test_run_that_was_killed() -> None:
    need_chromium()
    with tempfile.TemporaryDirectory(
        prefix="n-", ignore_cleanup_errors=True
    ) as profile:  # a short path: it has sockets
        _killed(profile)


def _killed(profile: str) -> None:
    code = "import sys; from worlds.browser import Browser; ours = Browser().__enter__()"
    code += "; print(ours.pid, flush=True); sys.stdin.read()"
    where = {"PYTHONPATH": str(Path(__file__).parents[1]), "TMPDIR": profile}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | where
    ) as run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.kill()
    deadline = time.monotonic() + 30
    while living(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def living(group: int) -> list[int]:
    """The processes of a group. Zombies do not live: whoever was to bury them may be gone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = path.read_text().rpartition(")")[2].split()[:3]
            found += [int(path.parent.name)] if int(its_group) == group and state != "Z" else []
    return found


def test_a_script_that_does_not_end_is_a_failure_in_time(browser: Browser) -> None:
    shown = browser.open("data:text/html,<p>hello</p>")
    with pytest.raises(BrowserError, match=r"within 0\.2 s"):
        shown.until("document.title === 'never'", wait_s=0.2)
    with pytest.raises(BrowserError, match="nothing is not defined"):
        shown.evaluate("nothing.at.all")
    shown.close()


def test_errors_dialogs_and_requests_are_heard(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        "<script>console.error('boo'); alert('psst'); setTimeout(() => { throw new Error('oops') })</script>"
        "<img src='https://away.invalid/a.png'><p>hello</p>"
    )
    shown = browser.open(path)
    for word in ("boo", "psst", "oops", "ERR_NAME_NOT_RESOLVED"):
        assert any(word in error for error in shown.errors), word
    assert shown.outside() == ["https://away.invalid/a.png"]
    shown.close()


def test_a_page_looks_as_its_reader_asks(browser: Browser) -> None:
    asked = "[innerWidth, matchMedia('(prefers-color-scheme: dark)').matches, matchMedia('print').matches]"
    for view in (*VIEWS, {"width": 360, "dark": True}):
        shown = browser.open("data:text/html,<p>hello</p>", **view)
        expected = [view["width"], view.get("dark", False), view.get("media") == "print"]
        assert shown.evaluate(asked) == expected
        shown.close()


BARS = go.Bar(x=[1, 2, 3], y=[3, 1, 2])


def bare(trace: Any = BARS, **layout: Any) -> dict[str, Any]:
    usual = {"template": "none", "font": {"size": 12, "color": "#6E7781"}, "height": 300}
    return dict(go.Figure(trace, layout=usual | layout).to_plotly_json())


def drawn(browser: Browser, path: Path, *figures: dict[str, Any], mend: Callable[[str], str] = str) -> Page:
    """A page of these figures, at 360 px; `mend` breaks its text."""
    outputs = [new_output("display_data", {PLOTLY: figure}) for figure in figures]
    made = new_notebook(cells=[new_code_cell("", outputs=outputs)])
    path.write_text(mend(page(made, title="figures")))
    return browser.open(path, width=360)


RIGHT = {
    "bars": bare(),
    "bars beside others": bare([BARS, BARS], barmode="group"),
    "a bar of no length": bare(go.Bar(y=[3, 0, None, 2])),
    "a line": bare(go.Scatter(y=[1, 2, 1], mode="lines")),
    "a line with a gap": bare(go.Scatter(y=[1, 2, None, 1, 2], mode="lines+markers")),
    "a band": bare(go.Scatter(x=[1, 2, 2, 1], y=[1, 1, 2, 2], mode="lines", fill="toself")),
    "markers and words": bare(go.Scatter(x=[1, 2], y=[1, 2], mode="markers+text", text=["a", "b"])),
    "a key alone beside bars": bare([BARS, go.Scatter(x=[None], y=[None], mode="markers", name="a key")]),
    "a grid of colours": bare(go.Heatmap(z=[[1, 2], [3, None]])),
    "a box": bare(go.Box(y=[1, 2, 3, 4])),
    "a shape and a note": bare(shapes=[{"x0": 1, "x1": 2, "y0": 1, "y1": 2}], annotations=[{"text": "here"}]),
}


def test_figures_that_are_drawn_pass(browser: Browser, tmp_path: Path) -> None:
    shown = drawn(browser, tmp_path / "page.html", *RIGHT.values())
    assert wrong_figures(shown, count=len(RIGHT)) == []
    assert shown.errors == []
    shown.close()


NOTHING = {
    "no trace": bare([]),
    "traces without a point": bare([go.Scatter(x=[None], y=[None]), go.Bar(y=[])]),
    "nothing but not-a-number": bare(go.Scatter(y=[float("nan")] * 3)),
    "a trace beside its axes": bare(xaxis={"range": [10, 20]}),
    "a bar of no width": bare(go.Bar(y=[1, 2], width=0)),
    "a line without a colour": bare(go.Scatter(y=[1, 2], mode="lines", line={"color": "rgba(0,0,0,0)"})),
    "markers that cannot be seen": bare(go.Scatter(y=[1, 2], mode="markers", opacity=0)),
    "a date where a number is due": bare(go.Scatter(x=["soon"], y=["later"], mode="markers"), xaxis={"type": "date"}),
}


def test_each_figure_that_shows_nothing_fails(browser: Browser, tmp_path: Path) -> None:
    shown = drawn(browser, tmp_path / "page.html", bare(), *NOTHING.values())
    wrong = " ".join(wrong_figures(shown))
    assert [what for number, what in enumerate(NOTHING, 2) if f"figure-{number} " not in wrong] == []
    assert "figure-1 " not in wrong
    shown.close()


BROKEN: Mapping[str, tuple[Callable[[str], str], str]] = {
    "JSON that is none": (lambda text: text.replace('"type":"bar"', '"type":', 1), "1 of 2 figures"),
    "no plotly.js": (lambda text: text.replace("plotly.js v", "*/ throw new Error('broken'); /*", 1), "0 of 2 figures"),
    "bars that are hidden": (
        lambda text: text.replace("</head>", "<style>.barlayer{display:none}</style></head>"),
        "0 of 3",
    ),
    "one bar taken out": (
        lambda text: text.replace(
            "</body>", "<script>onload = () => document.querySelector('.point').remove()</script></body>"
        ),
        "2 of 3",
    ),
    "a figure that is too wide": (
        lambda text: text.replace("</head>", "<style>.nestobs-figure{width:900px}</style></head>"),
        "in a page of 360",
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_figure_that_breaks_fails(browser: Browser, tmp_path: Path, how: str) -> None:
    mend, said = BROKEN[how]
    shown = drawn(browser, tmp_path / "page.html", bare(), bare(), mend=mend)
    shown.settle()
    assert any(said in wrong for wrong in wrong_figures(shown)), wrong_figures(shown)
    shown.close()


ILLEGIBLE = {
    "is 9 px": bare(font={"size": 9, "color": "#000"}),
    "is pale": bare(font={"size": 12, "color": "#ccc"}),
    "is cut off": bare(title={"text": "a title that is far too long for a narrow screen, and not broken", "x": 0}),
    "lies over": bare(annotations=[{"text": "one label", "showarrow": False, "x": 2, "y": y} for y in (2.0, 2.05)]),
}


def test_each_figure_that_cannot_be_read_fails(browser: Browser, tmp_path: Path) -> None:
    shown = drawn(browser, tmp_path / "page.html", bare(), *ILLEGIBLE.values())
    wrong = wrong_figures(shown)
    for number, what in enumerate(ILLEGIBLE, 2):
        assert any(one.startswith(f"figure-{number} ") and what in one for one in wrong), (what, wrong)
    assert not any(one.startswith("figure-1 ") for one in wrong)
    shown.close()


WORDS = {
    "<p style='font-size:11px'>small</p>": '"small" is 11 px',
    "<p style='color:#aaa'>pale</p>": '"pale" has a contrast of 2.3',
    "<div style='opacity:.5'><p style='color:#555'>faded</p></div>": '"faded" has a contrast of 2.3',
    "<div style='background:#333'><p>on dark</p></div>": '"on dark" has a contrast of 1.7',
    "<p style='width:500px'>wide</p>": "the page is 5",
    "<div style='overflow:hidden;width:40px'><nobr>much too long</nobr></div>": '"much too long" is cut off',
    "<p style='width:25px'>50 %</p>": '"50 %" is parted at a line\'s end',
    "<p style='width:25px'>2.3 ms.</p>": '"2.3 ms." is parted at a line\'s end',
    "<p style='width:25px'>-4.9 [-7.9,\u00a0-1.9]</p>": '"-4.9 [-7.9, -1.9]" is parted at a line\'s end',
    "<p style='width:25px'>n =\u00a09</p>": '"n = 9" is parted at a line\'s end',
}


@pytest.mark.parametrize("text", WORDS)
def test_words_that_cannot_be_read_fail(browser: Browser, tmp_path: Path, text: str) -> None:
    path = tmp_path / "page.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><p>fine</p><p style='width:25px'>50\u00a0% 3 of 9</p>{text}")
    shown = browser.open(path, width=360)
    found = wrong_words(shown)
    assert len(found) == 1
    assert found[0].startswith(WORDS[text])
    shown.close()


FOREIGN = {
    "<img src=data:,x>": "IMG",
    "<p onclick=x>": "P onclick",
    "<a href='https://away.invalid'>x</a>": 'A "https://away.invalid"',
    "<a href='javascript:x'>x</a>": 'A "javascript:x"',
    "<script>window.hacked=1</script>": 'SCRIPT "window.hacked=1"',
    "<svg><a xlink:href='//away.invalid'><text>x</text></a></svg>": 'A "//away.invalid"',
    "<meta http-equiv=refresh content=9>": "META",
}


def test_what_is_foreign_is_found(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    for text, found in FOREIGN.items():
        path.write_text(f"<!doctype html><link rel=icon href=data:,><script>Plotly</script><a href='#a'>a</a>{text}")
        shown = browser.open(path)
        assert foreign(shown)[0] == found
        shown.close()


def test_all_that_a_reader_gets_is_read(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(
        "<title>one</title><p title=two>three <b aria-label=four>five</b><details>six</details>"
        "<svg><text>seven</text></svg><script>'no'</script><style>/* no */</style>"
    )
    shown = browser.open(path)
    assert set(said(shown).split()) == {"one", "two", "three", "four", "five", "six", "seven"}
    shown.close()


# the reports


def folded(path: Path) -> Path:
    """A page with a figure in its answer, and one in each of two sections."""
    one, two, three = (new_output("display_data", {PLOTLY: bare()}) for _ in range(3))
    words = [new_output("display_data", {"text/html": "<p id='deep'>deep</p>"})]
    made = new_notebook(
        cells=[
            new_code_cell("", outputs=[one]),
            new_markdown_cell("## First"),
            new_code_cell("", outputs=[two]),
            new_markdown_cell("## Second\n\n" + "Words.\n\n" * 40),
            new_code_cell("", outputs=[three, *words]),
        ]
    )
    path.write_text(page(made, title="figures"))
    return path


WIDTHS = "[...document.querySelectorAll('.main-svg:first-child')].map(svg => svg.getBoundingClientRect().width)"
OPEN = "[...document.querySelectorAll('details.section[open]')].map(one => one.id)"


def test_a_folded_figure_is_drawn_as_wide_as_the_page_when_it_is_unfolded(browser: Browser, tmp_path: Path) -> None:
    shown = browser.open(folded(tmp_path / "page.html"), width=1280)
    assert len(shown.evaluate(WIDTHS)) == 1
    shown.look(width=800)
    opened_wide(shown)
    assert wrong_figures(shown, count=3, read=False) == []
    widths = shown.evaluate(WIDTHS)
    assert len(widths) == 3
    assert len(set(widths)) == 1
    assert 600 < widths[0] <= 800
    assert shown.errors == []
    shown.close()


@pytest.mark.parametrize("anchor", ["second", "deep"])
def test_a_link_unfolds_the_section_that_it_leads_to(browser: Browser, tmp_path: Path, anchor: str) -> None:
    made = folded(tmp_path / "page.html")
    shown = browser.open(f"{made.resolve().as_uri()}#{anchor}")
    assert shown.evaluate(OPEN) == ["second"]
    assert wrong_figures(shown, count=2, read=False) == []
    shown.close()
    shown = browser.open(made)
    assert shown.evaluate(OPEN) == []
    shown.evaluate(f"location.hash = '{anchor}'")
    shown.until(f"{OPEN}.length === 1")
    at = f"document.getElementById('{anchor}').getBoundingClientRect().top"
    assert -5 <= shown.evaluate(at) < 900
    shown.close()


def test_the_contents_stay_in_view_and_unfold_all(browser: Browser, tmp_path: Path) -> None:
    made = folded(tmp_path / "page.html")
    for width in (1280, 380):
        shown = browser.open(made, width=width)
        shown.evaluate("document.querySelector('nav.contents button').click()")
        assert shown.evaluate(OPEN) == ["first", "second"]
        shown.evaluate("scrollTo(0, document.body.scrollHeight)")
        shown.settle()
        top, bottom = shown.evaluate(
            "(({top, bottom}) => [top, bottom])(document.querySelector('nav.contents a').getBoundingClientRect())"
        )
        assert 0 <= top < bottom <= 900
        shown.close()


PAPER_PX, SCALE = 800, 0.85
"""How wide figures are drawn for paper, and at which scale they stand there: 680 px."""

FOOT_PT = 43.0
"""The margin at the foot of a sheet, 15 mm."""


def test_no_heading_stands_at_the_foot_of_a_sheet_without_what_it_announces(browser: Browser, tmp_path: Path) -> None:
    high = 270
    cells = []
    for number in range(14):
        figure = new_output("display_data", {PLOTLY: bare(height=high)})
        words = new_output("display_data", {"text/html": "<p>a line</p>" * (number % 5)})
        cells += [new_markdown_cell(f"## Part {number}\n\nWhat it is."), new_code_cell("", outputs=[figure, words])]
    path = tmp_path / "page.html"
    path.write_text(page(new_notebook(cells=cells), title="headings"))
    shown = browser.open(path, media="")
    places = shown.printed().headings
    assert len(places) == 14
    assert len({sheet for sheet, _ in places.values()}) > 3
    figure_pt = high * SCALE * 0.75
    assert {title: y for title, (_, y) in places.items() if y < FOOT_PT + figure_pt} == {}
    shown.close()


@pytest.mark.parametrize("columns", [2, 9], ids=["a table", "a table that is a list"])
def test_a_long_table_begins_on_the_sheet_where_there_is_room(browser: Browser, tmp_path: Path, columns: int) -> None:
    """Letter has 949 px within its margins: a third is text, and the rest of that sheet takes rows of the table."""
    word = "averylongwordindeed" if columns > 2 else "word"
    rows = pd.DataFrame({f"column {number}": [word] * (60 if columns == 2 else 12) for number in range(columns)})
    text, table = (
        new_output("display_data", {"text/html": made})
        for made in ("<p>a line</p>" * 8, Table(rows, style="nestobs-numbers")._repr_html_())
    )
    cells = [new_code_cell("", outputs=[text]), new_code_cell("", outputs=[table])]
    path = tmp_path / "page.html"
    path.write_text(page(new_notebook(cells=[*cells, new_markdown_cell("## After\n\nWords.")]), title="tables"))
    shown = browser.open(path, media="")
    shown.evaluate(
        "addEventListener('beforeprint', () => {"
        " window.lists = document.querySelectorAll('.nestobs-table.listed').length })"
    )
    made = shown.printed()
    assert shown.evaluate("window.lists") == (1 if columns > 2 else 0)
    assert made.count == 3
    assert made.headings["After"][0] == 2
    shown.close()


def test_a_high_figure_is_made_smaller_so_that_it_stands_on_one_sheet(browser: Browser, tmp_path: Path) -> None:
    figures = [new_output("display_data", {PLOTLY: bare(height=height)}) for height in (300, 1_000, 3_000)]
    path = tmp_path / "page.html"
    path.write_text(page(new_notebook(cells=[new_code_cell("", outputs=figures)]), title="figures"))
    shown = browser.open(path, media="")
    scales = (
        """[...document.querySelectorAll("[role=img]")].map((one) => one.style.getPropertyValue("--paper-scale"))"""
    )
    shown.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = [{scales}, {WIDTHS}] }})")
    shown.printed()
    assert shown.evaluate("window.printed") == [["0.85", "0.69", "0.85"], [800, 986, 800]]
    shown.close()


def test_paper_shows_what_is_folded_and_the_screen_folds_it_again(browser: Browser, tmp_path: Path) -> None:
    shown = browser.open(folded(tmp_path / "page.html"))
    shown.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = [{WIDTHS}, {OPEN}] }})")
    shown.call("Page.printToPDF")
    assert shown.evaluate("window.printed") == [[PAPER_PX] * 3, ["first", "second"]]
    shown.settle()
    assert shown.evaluate(OPEN) == []
    shown.close()


def test_code_is_behind_one_switch(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(new_notebook(cells=[new_code_cell("one"), new_code_cell("two")]), title="code"))
    shown = browser.open(path)
    seen = "[...document.querySelectorAll('.code')].map(one => one.checkVisibility())"
    assert shown.evaluate(seen) == [False, False]
    shown.evaluate("document.querySelector('details.switch summary').click()")
    assert shown.evaluate(seen) == [True, True]
    shown.close()


CUT = """[...document.querySelectorAll('.nestobs-table')].filter((place) => place.checkVisibility()
  && place.scrollWidth > place.clientWidth + 1).map((place) => place.textContent.slice(0, 60))"""
"""The tables of which not all can be seen at once."""


def test_a_table_too_wide_for_its_place_is_a_list_and_is_a_table_again_where_there_is_room(
    browser: Browser, tmp_path: Path
) -> None:
    wide = Table(pd.DataFrame({f"column {number}": ["some words", ""] for number in range(6)}))
    one, two = (new_output("display_data", {"text/html": wide._repr_html_()}) for _ in range(2))
    cells = [new_code_cell("", outputs=[one]), new_markdown_cell("## Folded"), new_code_cell("", outputs=[two])]
    path = tmp_path / "page.html"
    path.write_text(page(new_notebook(cells=cells), title="tables"))
    shown = browser.open(path, width=380)
    listed = "document.querySelectorAll('.nestobs-table.listed').length"
    for width, count in ((380, 1), (1280, 0), (380, 1)):
        shown.look(width=width)
        shown.until(f"{listed} === {count}")
        assert shown.evaluate(CUT) == []
    opened_wide(shown)
    assert shown.evaluate(listed) == 2
    label = "getComputedStyle(document.querySelector('.listed td:nth-child(2)'), '::before').content"
    assert shown.evaluate(label) == '"column 1"'
    assert shown.evaluate(CUT) == []
    assert (shown.errors, wrong_words(shown)) == ([], [])
    shown.close()


@pytest.mark.parametrize(("width", "rows"), [(1280, [4, 3]), (720, [4, 3]), (380, [2, 2, 2, 1])])
def test_rows_of_tiles_are_even_and_fill_the_page(
    browser: Browser, tmp_path: Path, width: int, rows: list[int]
) -> None:
    head = Answer("A title", "A sentence.", [Tile("name", "42 %", "95 %: 40 % to 44 %; n = 9 joins")] * 7)
    path = tmp_path / "page.html"
    outputs = [new_output("display_data", {"text/html": head.html()})]
    path.write_text(page(new_notebook(cells=[new_code_cell("", outputs=outputs)]), title="tiles"))
    shown = browser.open(path, width=width)
    places = """[...document.querySelectorAll(".nestobs-tile")].map((one) => one.getBoundingClientRect())
      .map(({top, left, right}) => [top, left, right])"""
    tiles = shown.evaluate(places)
    tops = sorted({top for top, *_ in tiles})
    assert [sum(top == one for one, *_ in tiles) for top in tops] == rows
    ends = {
        (min(left for at, left, _ in tiles if at == top), max(right for at, _, right in tiles if at == top))
        for top in tops
    }
    (left, right), *others = sorted(ends)
    assert all(abs(left - one) < 9 and abs(right - other) < 9 for one, other in others)
    assert wrong_words(shown) == []
    shown.close()


def test_a_word_is_explained_where_it_is_focused(browser: Browser, tmp_path: Path) -> None:
    words = [new_output("display_data", {"text/html": "<p>No join was lost.</p>"})]
    path = tmp_path / "page.html"
    path.write_text(page(new_notebook(cells=[new_code_cell("", outputs=words)]), title="words"))
    shown = browser.open(path, width=380)
    told = "getComputedStyle(document.querySelector('dfn'), '::after').content"
    assert shown.evaluate(told) == "none"
    shown.evaluate("document.querySelector('dfn').focus()")
    assert "without a seat" in shown.evaluate(told)
    opened_wide(shown)
    assert shown.evaluate("document.querySelector('dl.words dt').checkVisibility()") is True
    assert wrong_words(shown) == []
    shown.close()


TALLEST_PX = 5_000
"""Of a report on a wide screen, before anything is unfolded."""


def test_a_figure_is_as_high_as_its_legend_needs_and_no_strangers_is_touched(browser: Browser, tmp_path: Path) -> None:
    keys = [f"a key of some length, {number}" for number in range(6)]
    ours = blank("Who?", "n = 6", plot_px=200, keys=keys)
    ours.add_traces([go.Bar(x=[1], y=[number], name=key) for number, key in enumerate(keys, 1)])
    theirs = bare([go.Bar(y=[1], name=key) for key in keys], height=500, margin={"t": 20, "b": 200})
    path, heights = tmp_path / "page.html", {}
    drawn(browser, path, dict(ours.to_plotly_json()), theirs).close()
    for width in (360, 1280):
        shown = browser.open(path, width=width)
        shown.settle()
        measured = """[...document.querySelectorAll('.js-plotly-plot')].map((plot) => [plot.offsetHeight,
          plot.getBoundingClientRect().bottom - plot.querySelector('.legend .bg').getBoundingClientRect().bottom])"""
        (heights[width], spare), (strangers, _) = shown.evaluate(measured)
        assert 5 <= spare <= 16, width
        assert strangers == 500
        assert wrong_figures(shown, count=2) == []
        shown.close()
    assert heights[1280] <= heights[360] - 60


def test_figures_are_drawn_for_paper_when_a_page_is_printed(browser: Browser, tmp_path: Path) -> None:
    shown = drawn(browser, tmp_path / "page.html", bare())
    shown.look(width=1280)
    widths = "[...document.querySelectorAll('.main-svg')].map(svg => svg.getBoundingClientRect().width)"
    shown.until(f"Math.min(...{widths}) > 900")
    usual = shown.evaluate(widths)
    shown.evaluate(f"addEventListener('beforeprint', () => {{ window.printed = {widths} }})")
    shown.call("Page.printToPDF")
    assert shown.evaluate("window.printed") == [PAPER_PX] * len(usual)
    shown.settle()
    assert shown.evaluate(widths) == usual
    assert wrong_figures(shown, read=False) == []
    shown.close()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_report_is_drawn_whole_quiet_alone_and_readable(
    notebook: Path, browser: Browser, usual: str, tmp_path: Path
) -> None:
    made = report(notebook, tmp_path / "report.html", store=usual)
    for view in VIEWS:
        shown = browser.open(made, **view)
        if view["width"] == 1280:
            assert shown.evaluate("document.documentElement.scrollHeight") < TALLEST_PX
        assert (wrong_figures(shown, count=0), view) == ([], view)
        for dark in (False, True)[: 1 if view.get("media") else 2]:  # paper is white
            shown.look(**view, dark=dark)
            shown.settle()
            assert (wrong_words(shown), view, dark) == ([], view, dark)
            opened_wide(shown)
            assert (wrong_words(shown), view, dark) == ([], view, dark)
            assert (wrong_figures(shown), view, dark) == ([], view, dark)
            assert (shown.evaluate(CUT), view, dark) == ([], view, dark)
        for width in (340, 420, 560, 640, 800, 960, 1100) if view["width"] == 1280 else ():
            shown.look(width=width)
            shown.settle()
            assert (parted(shown), width) == ([], width)
        assert shown.errors == []
        assert shown.outside() == []
        shown.close()


def test_the_live_page_tells_what_fails_on_two_screens_of_a_phone(browser: Browser, tmp_path: Path) -> None:
    (notebook,) = (path for path in NOTEBOOKS if path.stem == "live")
    shown = browser.open(report(notebook, tmp_path / "report.html", store="example"), width=380)
    ends = """[...document.querySelectorAll(".nestobs-now, .nestobs-ready")]
      .map((one) => one.getBoundingClientRect().bottom)"""
    failing, ready = shown.evaluate(ends)
    assert failing < ready < 2 * 900
    assert shown.evaluate("document.documentElement.scrollHeight") < 2_200
    assert (wrong_words(shown), shown.evaluate(CUT)) == ([], [])
    assert shown.evaluate("document.querySelector('.nestobs-now td').getBoundingClientRect().height") < 30
    shown.look(width=1280)
    shown.settle()
    assert shown.evaluate("document.querySelectorAll('.nestobs-now.listed').length") == 0
    assert shown.evaluate(ends)[1] < 1_000
    shown.close()


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_strangers_name_runs_in_a_report(notebook: Path, browser: Browser, infested: str, tmp_path: Path) -> None:
    title = "".join(hostile.TEXTS[:6])
    made = report(notebook, tmp_path / "report.html", store=infested, title=title)
    shown = browser.open(made, width=360)
    opened_wide(shown)
    assert shown.evaluate("window.hacked") is None
    assert foreign(shown) == []
    text = said(shown)
    assert hostile.EVALUATED not in text
    assert [sign for sign in hostile.UNPRINTED if sign in text] == []
    assert "<script>window" in text
    assert "{{7*7}}" in text
    assert shown.errors == []
    assert shown.outside() == []
    assert shown.evaluate("document.scrollingElement.scrollWidth") <= 361
    assert wrong_figures(shown, read=False) == []
    assert made.stat().st_size < 6_500_000
    shown.close()
