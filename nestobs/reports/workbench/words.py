"""Words explained in a notebook that is worked in: where each first stands in what its cells show, and all of them
under its answer, one click away.

A cell that is run again explains its words again; one that comes later leaves them as they are. What stands in the
notebook's own text is JupyterLab's to show.
"""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Final

from nestobs.figures import unbroken
from nestobs.reports.publishing.glossary import Explained, kept_together, meanings

if TYPE_CHECKING:
    from nestobs.reports.answer import Answer
    from nestobs.reports.display import Folded, Table, Text
    from nestobs.reports.live import Panel

_STYLE: Final = """<style>
.nestobs-explained dfn { font-style: normal; text-decoration: underline dotted 1px; text-underline-offset: 3px;
  cursor: help; }
.nestobs-explained dfn:focus::after { content: " (" attr(title) ")"; opacity: .75; }
.nestobs-glossary { font-size: 13px; }
.nestobs-glossary dt { font-weight: 600; }
</style>"""


class Words:
    """By word the cell that explained it first. `cell`: the one that runs, by JupyterLab's name of it."""

    def __init__(self) -> None:
        self.cell = ""
        self._first: dict[str, str] = {}

    def explained(self, text: str) -> str:
        """HTML that the cell shows, with the words explained that no other cell has explained before."""
        others = {word for word, cell in self._first.items() if cell != self.cell}
        one = Explained(known=others)
        told = one.html(text)
        self._first |= dict.fromkeys(one.shown - others, self.cell)
        return f'{_STYLE}<div class="nestobs-explained">{told}</div>' if told != text else text

    def of_text(self, shown: Text) -> str:
        """What a paragraph's cell shows as HTML."""
        return self.explained(shown._repr_html_())

    def of_answer(self, shown: Answer) -> dict[str, Any]:
        """What an answer's cell shows, all words one click away under it."""
        told = shown._repr_mimebundle_()
        return told | {"text/html": self.explained(told["text/html"]) + every()}


def of_table(shown: Table | Folded | Panel) -> str:
    """What a table's cell shows as HTML: nothing is explained in it, and numbers keep their units."""
    return kept_together(shown._repr_html_())


def every() -> str:
    """All words that pages use, folded, as HTML."""
    shown = "".join(
        f"<dt>{html.escape(word)}</dt><dd>{html.escape(unbroken(rest[0]))}</dd>"
        for word, rest in sorted(meanings().items(), key=lambda one: one[0].lower())
    )
    summary = f"<summary>The words of this page: {len(meanings())}</summary>"
    return f'{_STYLE}<details class="nestobs-glossary">{summary}<dl>{shown}</dl></details>'
