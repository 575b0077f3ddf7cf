"""A report's notebook in sections: folded, linked, and nothing of those that show nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from nestobs.reports.publishing.html import page

pytestmark = pytest.mark.slow

SHOWN = [new_output("stream", name="stdout", text="said")]
FAILED = [new_output("error", ename="ValueError", evalue="no", traceback=["no"])]


def html_of(*cells: Any) -> str:
    return page(new_notebook(cells=list(cells)), title="title")


def sections(text: str) -> list[tuple[str, str, str]]:
    """Of each its anchor, whether it is open, and its heading."""
    return re.findall(r'<details class="section" id="([^"]*)"( open)?><summary><h2>(.*?)</h2></summary>', text)


def links(text: str) -> list[tuple[str, str]]:
    return re.findall(r'<a href="#([^"]*)">(.*?)</a>', text.partition("</nav>")[0])


def test_each_heading_opens_a_section_that_the_contents_link() -> None:
    made = html_of(
        new_code_cell("answer", outputs=SHOWN),
        new_markdown_cell("## How far they got\n\nWords.\n\n### Part"),
        new_code_cell("distance", outputs=SHOWN),
        new_markdown_cell("## Why not?"),
        new_code_cell("why()", outputs=SHOWN),
    )
    assert sections(made) == [("how-far-they-got", "", "How far they got"), ("why-not", "", "Why not?")]
    assert links(made) == [("how-far-they-got", "How far they got"), ("why-not", "Why not?")]
    assert made.index(">answer<") < made.index('<details class="section"') < made.index(">distance<")
    assert made.count("<details") == made.count("</details>")
    assert "Words." in made


def test_a_section_whose_code_showed_nothing_is_left_out_and_one_of_words_alone_is_not() -> None:
    empty = [new_markdown_cell("## A silent one"), new_code_cell("nothing")]
    made = html_of(*empty, new_markdown_cell("## Words"), new_markdown_cell("so"))
    assert links(made) == [("words", "Words")]
    assert "A silent one" not in made


def test_a_section_in_which_a_cell_failed_stands_open() -> None:
    made = html_of(new_markdown_cell("## Broken"), new_code_cell("1 / 0", outputs=FAILED))
    assert sections(made) == [("broken", " open", "Broken")]


@pytest.mark.parametrize(
    ("headings", "anchors"),
    [
        (["The same", "The same"], ["the-same", "the-same-2"]),
        (["?!", "どこで"], ["section", "section-2"]),
        (["Figure 1"], ["1-2"]),
        (["`nestobs tune` *says*"], ["nestobs-tune-says"]),
        (["<img src=x onerror=y>"], ["lt-img-src-x-onerror-y-gt"]),
    ],
    ids=["twice", "no letters", "a figure's name", "marked up", "markup"],
)
def test_an_anchor_is_made_of_the_headings_words_and_taken_once(headings: list[str], anchors: list[str]) -> None:
    cells = [cell for one in headings for cell in (new_markdown_cell(f"## {one}"), new_code_cell("", outputs=SHOWN))]
    made = html_of(*cells)
    assert [anchor for anchor, *_ in sections(made)] == anchors
    assert "<img" not in made.partition("<main")[2]


def test_marks_that_a_notebook_brings_are_not_believed() -> None:
    cell = new_code_cell("", outputs=SHOWN, metadata={"before": "<b>theirs", "after": "<b>theirs"})
    assert "<b>theirs" not in html_of(cell)


def test_a_page_without_sections_has_the_switch_for_its_code_and_one_of_words_nothing() -> None:
    assert "show code" in html_of(new_code_cell("code", outputs=SHOWN))
    assert "<nav" not in html_of(new_markdown_cell("words"))
