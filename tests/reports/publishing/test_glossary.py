"""Words of a page: explained where they first stand in running text, and at its end, from one list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import nestobs
from nestobs.reports.publishing.glossary import Explained, kept_together, meanings
from nestobs.reports.publishing.html import page

pytestmark = pytest.mark.slow

ROOT = Path(nestobs.__file__).parents[1]


def explained(*pieces: str) -> tuple[str, list[str]]:
    """The pieces as one text, and the words at the end."""
    one = Explained()
    return "".join(map(one.html, pieces)), re.findall(r"<dt>(.*?)</dt>", one.list)


def marked(text: str) -> list[str]:
    return re.findall(r'<dfn tabindex="0" title="[^"]+">(.*?)</dfn>', text)


def test_a_word_is_explained_once_where_it_first_stands() -> None:
    text, words = explained("<p>No Nest is lost.", " A nest is, or nests are.</p><p>Lost.</p>")
    assert marked(text) == ["Nest", "lost"]
    assert re.sub(r"</?dfn[^>]*>", "", text) == "<p>No Nest is lost. A nest is, or nests are.</p><p>Lost.</p>"
    assert words == ["lost", "nest"]


@pytest.mark.parametrize(
    "text",
    [
        "<h2>{}</h2>", "<a href='#x'>{}</a>", "<code>{}</code>", "<table><tr><td>{}</td></tr></table>",
        "<details><summary>{}</summary></details>", "<pre><b>{}</b></pre>",
    ],
    ids=["heading", "link", "code", "table", "summary", "pre"],
)  # fmt: skip  # a list of words
def test_elsewhere_a_word_is_left_as_it_is_and_comes_at_the_end(text: str) -> None:
    assert explained(text.format("lost")) == (text.format("lost"), ["lost"])
    shown, _ = explained(text.format("lost"), "<p>lost</p>")
    assert shown == text.format("lost") + explained("<p>lost</p>")[0]


@pytest.mark.parametrize(
    "text",
    [
        "<script>const lost = '<p>'</script>", "<style>.lost > p {}</style>", "<p class='lost'>x</p>",
        "<p>lostness, un-lost, lost-ness</p>", "<p>a &#95\u00a0%; b</p>", "<aside>lost</aside>", "",
    ],
    ids=["script", "style", "attribute", "part of a word", "entity", "aside", "nothing"],
)  # fmt: skip  # a list of words
def test_what_is_no_word_of_the_page_is_none(text: str) -> None:
    assert explained(text) == (text, [])


def test_the_longer_word_counts_and_spelling_is_free() -> None:
    assert marked(explained("<p>The\ndelay law</p>")[0]) == ["delay law"]
    for quote in ("'", "’", "&#x27;", "&#39;"):
        assert marked(explained(f"<p>Today{quote}s rule</p>")[0]) == [f"Today{quote}s rule"]


@pytest.mark.parametrize(
    "text", ["<p>{}</p>", "<h2>{}</h2>", "<table><td>{}</td></table>", "<dfn>{}</dfn>", "<summary>{}</summary>"]
)
def test_no_line_ends_between_a_number_and_its_unit(text: str) -> None:
    told = text.format("wait 30\u00a0s")
    assert explained(text.format("wait 30 s"))[0] == kept_together(text.format("wait 30\ns")) == told


@pytest.mark.parametrize("text", ["<code>{}</code>", "<pre>{}</pre>", "<script>{}</script>", "<p title='{}'>x</p>"])
def test_what_is_copied_or_run_is_left_as_it_is(text: str) -> None:
    assert (
        explained(text.format("sleep 30 s"))[0] == kept_together(text.format("sleep 30 s")) == text.format("sleep 30 s")
    )


@pytest.mark.parametrize("text", ["<" * 60_000, "<p" * 30_000, "&" * 60_000, "<script>" * 9_000, "a <p>" * 9_000])
def test_whatever_the_html_is_it_is_kept(text: str) -> None:
    assert explained(text)[0] == text


def test_every_word_is_explained_in_a_sentence_that_needs_no_escape_and_each_form_is_of_one_word() -> None:
    forms = [form.lower() for word, rest in meanings().items() for form in (word, *rest[1:])]
    assert len(forms) == len(set(forms))
    assert [word for word, rest in meanings().items() if not re.fullmatch(r"[^<>\"&]+\.", rest[0])] == []


def test_every_word_stands_on_some_page_of_ours() -> None:
    sources = [*(ROOT / "nestobs").rglob("*.py"), *(ROOT / "notebooks").glob("*.ipynb")]
    text = " ".join(re.sub(r"\s+", " ", path.read_text()).lower() for path in sources)
    assert [word for word in meanings() if word.lower() not in text] == []


@pytest.mark.slow
def test_a_page_explains_what_its_cells_show_and_lists_it_last() -> None:
    cells = [
        new_code_cell("lost", outputs=[new_output("display_data", {"text/html": "<p>No join was lost.</p>"})]),
        new_markdown_cell("## Coverage\n\nThe coverage is whole."),
    ]
    made = page(new_notebook(cells=cells), title="title")
    assert marked(made) == ["lost", "coverage"]
    assert 'href="#words-of-this-page"' in made.partition("</nav>")[0]
    assert made.index('id="coverage"') < made.index('id="words-of-this-page"')
    assert "part-" not in made.partition("<main")[2]
    nothing = page(new_notebook(cells=[new_markdown_cell("Nought.")]), title="title")
    assert "words-of-this-page" not in nothing
