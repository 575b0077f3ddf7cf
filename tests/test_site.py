"""The built site (`make site`): it asks the network for nothing, fits a phone, draws its figures, and has every page.

Building it takes the better part of a minute: these tests look at what was built, and are skipped where it was not, or
before the pages were last changed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from worlds.browser import Browser, need_chromium
from worlds.written_pages import DOCS, ROOT, SITE

pytestmark = pytest.mark.slow

HTML = ROOT / "runs" / "site" / "html"


def missing() -> str:
    """Why the built site says nothing of the pages as they are; "" where it does."""
    index = HTML / "index.html"
    if not index.is_file():
        return "the site is not built"
    sources = [path for path in DOCS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    newest = max(path.stat().st_mtime for path in sources)
    return "the site was built before its pages were changed" if index.stat().st_mtime < newest else ""


@pytest.fixture(autouse=True)
def _built() -> None:
    if why := missing():
        if os.environ.get("NESTOBS_REQUIRE_SITE") == "1":
            pytest.fail(f"NESTOBS_REQUIRE_SITE is 1 and {why}: run `make site`")
        pytest.skip(f"{why}: run `make site`")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need_chromium()
    with Browser() as started:
        yield started


def built(page: str) -> Path:
    return HTML / page.removeprefix("docs/").replace(".md", ".html")


PAGES = [str(page) for page in SITE]
LOADED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed|object|track|input)\b[^>]*?\b(?:src|data|poster)\s*=\s*[\"']([^\"']*)"
    r"|<link\b[^>]*?\bhref\s*=\s*[\"']([^\"']*)"
)
IMPORTED = re.compile(r"url\(\s*[\"']?([^\"')]*)|@import\s+[\"']([^\"']*)")


def is_elsewhere(url: str) -> bool:
    return re.match(r"(?!data:)(?:[a-z][a-z0-9+.-]*:|//)", url.strip(), re.I) is not None


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ('<script src="https://cdn.example/x.js"></script>', LOADED),
        ("<script async src='//cdn.example/x.js'></script>", LOADED),
        ('<link rel="stylesheet" href="https://fonts.example/css">', LOADED),
        ('<img alt="a" src="http://example.org/badge.svg">', LOADED),
        ("@font-face { src: url('https://fonts.example/a.woff2') }", IMPORTED),
        ('@import "//fonts.example/a.css";', IMPORTED),
    ],
    ids=["script", "script without a scheme", "style", "picture", "font", "import"],
)
def test_what_is_loaded_from_elsewhere_is_found(text, pattern):
    assert [url for found in pattern.findall(text) for url in found if is_elsewhere(url)]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_loads_nothing_from_elsewhere(page):
    text = built(page).read_text("utf-8")
    assert [url for found in LOADED.findall(text) for url in found if is_elsewhere(url)] == []
    assert "<!-- generated" not in text
    assert "/require.js" not in text


def test_no_style_imports_anything_from_elsewhere():
    styles = sorted(HTML.rglob("*.css"))
    assert styles
    texts = {path.name: path.read_text("utf-8") for path in styles}
    found = {
        name: [url for both in IMPORTED.findall(text) for url in both if is_elsewhere(url)]
        for name, text in texts.items()
    }
    assert not any(found.values()), found


@pytest.mark.parametrize("page", PAGES)
def test_a_page_works_without_a_network_at_any_width(page, browser):
    for width, dark in ((1280, False), (380, True)):
        shown = browser.open(built(page), width=width, dark=dark)
        assert shown.outside() == []
        assert shown.errors == []
        assert shown.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, (
            f"{page} is wider than {width} px"
        )
        assert (
            shown.evaluate(
                "[...document.querySelectorAll('.plotly-graph-div')].filter(one => !one.querySelector('svg')).length"
            )
            == 0
        )
        shown.close()


def test_search_finds_a_cause_without_a_network(browser):
    shown = browser.open(f"{(HTML / 'search.html').as_uri()}?q=api_join_fault")
    shown.until("document.querySelectorAll('#search-results li').length")
    assert shown.outside() == []
