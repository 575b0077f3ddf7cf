"""Words of a page explained: where each first stands, by hover, focus or touch, and all of them at the end of the page.

Their one home is glossary.toml. HTML is taken piece by piece, in the order in which it stands on the page. A word is
explained in running text; headings, links, code and tables are left as they are, and their words come at the end alone.

Everywhere but in code, which is copied to command lines, no line ends between a number and its unit.
"""

from __future__ import annotations

import html
import re
import tomllib
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Final

from nestobs.figures import unbroken

_TAG: Final = re.compile(r"(<[^<>]*>)")
_NAME: Final = re.compile(r"<(/?)([a-z][a-z0-9]*)", re.IGNORECASE)
_UNREAD: Final = frozenset({"script", "style", "svg", "aside", "title"})
"""What holds no words of the page."""

_LEFT: Final = frozenset({*_UNREAD, "h1", "h2", "h3", "h4", "a", "nav", "summary", "button", "code", "pre", "table"})
_COPIED: Final = frozenset({"code", "pre"})
ANCHOR: Final = "words-of-this-page"


@cache
def meanings() -> dict[str, tuple[str, ...]]:
    """By word: what it means, then its other forms."""
    read = tomllib.loads(files("nestobs.reports.publishing").joinpath("glossary.toml").read_text("utf-8"))
    return {word: tuple(rest) for word, rest in read["words"].items()}


@cache
def _forms() -> tuple[re.Pattern[str], dict[str, str]]:
    """What finds each form of a word, the longest first, and the word of each form."""
    word_of = {form.lower(): word for word, rest in meanings().items() for form in (word, *rest[1:])}
    longest = sorted(word_of, key=len, reverse=True)
    either = "|".join(re.escape(form).replace("\\ ", r"\s+").replace("'", "(?:'|’|&#x27;|&#39;)") for form in longest)
    return re.compile(rf"(?<![\w&#-])(?:{either})(?![\w-])", re.IGNORECASE), word_of


def kept_together(text: str) -> str:
    """HTML in which each number keeps its unit, and no word is explained."""
    return Explained(known=meanings()).html(text)


class Explained:
    """The HTML of one page, in order, and the words met so far. known: words that need no explanation any more; shown:
    these, and those that were explained."""

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._inside: list[str] = []
        self._met: set[str] = set()
        self.shown: set[str] = set(known)

    def html(self, text: str) -> str:
        """The next piece of it, with the words that are new explained, and no number parted from its unit."""
        return "".join(self._tag(part) if part.startswith("<") else self._words(part) for part in _TAG.split(text))

    def _tag(self, text: str) -> str:
        found = _NAME.match(text)
        name = found[2].lower() if found else ""
        raw = self._inside[-1:] in (["script"], ["style"])
        if found and name in _LEFT and not (raw and not found[1]):
            if not found[1]:
                self._inside.append(name)
            elif name in self._inside and (not raw or name == self._inside[-1]):
                del self._inside[len(self._inside) - 1 - self._inside[::-1].index(name) :]
        return text

    def _words(self, text: str) -> str:
        if not text.strip() or not _UNREAD.isdisjoint(self._inside):
            return text
        text = unbroken(text) if _COPIED.isdisjoint(self._inside) else text
        pattern, word_of = _forms()

        def told(found: re.Match[str]) -> str:
            form = re.sub(r"\s+", " ", html.unescape(found[0])).replace("’", "'").lower()
            word = word_of[form]
            self._met.add(word)
            if self._inside or word in self.shown:
                return found[0]
            self.shown.add(word)
            meaning = html.escape(unbroken(meanings()[word][0]))
            return f'<dfn tabindex="0" title="{meaning}">{found[0]}</dfn>'

        return pattern.sub(told, text)

    @property
    def list(self) -> str:
        """The words that were met, as a section for the end of the page; "" for none."""
        shown = "".join(
            f"<dt>{html.escape(word)}</dt><dd>{html.escape(unbroken(rest[0]))}</dd>"
            for word, rest in sorted(meanings().items(), key=lambda one: one[0].lower())
            if word in self._met
        )
        if not shown:
            return ""
        title = "<summary><h2>The words of this page</h2></summary>"
        return f'<details class="section" id="{ANCHOR}">{title}<dl class="words">{shown}</dl></details>'
