"""Whether a page is drawn, can be read, and holds nothing foreign: drawn.js asks the browser, here are its answers."""

from __future__ import annotations

import json
from pathlib import Path

from worlds.browser import Page

_SCRIPT = Path(__file__).with_suffix(".js").read_text("utf-8")


def wrong_figures(page: Page, *, count: int = 1, read: bool = True) -> list[str]:
    """What is wrong with the figures, of which there must be at least `count`, a sentence each.

    A figure is right when every visible trace that has points has its marks in the document, painted and inside its
    axes; when shapes and annotations are there; when it fits into the window; and, with `read`, when its text is whole,
    large and dark enough, and does not overlap.
    """
    return list(page.evaluate(f"{_SCRIPT}.figures({count}, {json.dumps(read)})"))


def wrong_words(page: Page) -> list[str]:
    """Text below 12 px or below a contrast of 4, a number parted from its unit, and a page wider than its window."""
    return list(page.evaluate(f"{_SCRIPT}.words()"))


def parted(page: Page) -> list[str]:
    """Numbers that a line's end parts from their units, as the page stands now."""
    return list(page.evaluate(f"{_SCRIPT}.parted()"))


def foreign(page: Page) -> list[str]:
    """What could load, lead elsewhere or run in a page of ours and is not known: must be none."""
    return list(page.evaluate(f"{_SCRIPT}.foreign()"))


def said(page: Page) -> str:
    """Everything a reader gets, figures' texts, labels and closed details among it."""
    return str(page.evaluate(f"{_SCRIPT}.said()"))
