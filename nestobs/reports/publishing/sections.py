"""A report's notebook in sections: each begins with a markdown cell `## title`, is folded, and has a link to it.

What comes before the first is the answer, and is never folded. A section whose code showed nothing is left out; one in
which a cell failed stands open. All of it is marked at the cells, for the template of html.py.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from nestobs.figures import plain

_HEADING: Final = re.compile(r"\s*##\s+([^\n]+)\n?")


def fold(notebook: Any) -> list[tuple[str, str]]:
    """Mark the cells of an nbformat node, and leave out what shows nothing: the links, (anchor, title as HTML) in
    order. What a cell's metadata then hold under "before" and "after" is HTML to stand around it."""
    for cell in notebook.cells:
        cell.metadata.update(before="", after="")
    head, *parts = _parts(notebook.cells)
    kept, links = list(head), []
    anchors: set[str] = set()
    for cells in parts:
        code = [cell for cell in cells if cell.cell_type == "code"]
        if code and not any(cell.get("outputs") for cell in code):
            continue
        first, found = cells[0], _HEADING.match(cells[0].source)
        title = _words(found[1]) if found else ""
        anchor = _anchor(title, anchors)
        failed = any(output.output_type == "error" for cell in code for output in cell.get("outputs", []))
        first.source = first.source[found.end() if found else 0 :]
        first.metadata["before"] = (
            f'<details class="section" id="{anchor}"{" open" if failed else ""}><summary><h2>{title}</h2></summary>'
        )
        cells[-1].metadata["after"] = "</details>"
        kept += cells
        links.append((anchor, title))
    notebook.cells = kept
    return links


def _parts(cells: list[Any]) -> Iterator[list[Any]]:
    """The cells before the first section, and those of each."""
    part: list[Any] = []
    for cell in cells:
        if cell.cell_type == "markdown" and _HEADING.match(cell.source):
            yield part
            part = []
        part.append(cell)
    yield part


def _words(text: str) -> str:
    return plain(re.sub(r"[`*]", "", text), 120)


def _anchor(title: str, taken: set[str]) -> str:
    """A name for a link, of the title's words; another one where it is taken."""
    name = "-".join(re.findall(r"[a-z0-9]+", title.lower().replace("&#", "")))[:60].strip("-") or "section"
    count = 1
    while name in taken or name.startswith("figure-"):
        count += 1
        name = f"{name.removeprefix('figure-')}-{count}"
    taken.add(name)
    return name


def contents(links: list[tuple[str, str]], *, code: bool, beside: Sequence[tuple[str, str]] = ()) -> str:
    """The table of contents as HTML: a link each, the switches, and links to pages beside this one, (URL, words); ""
    where there is none of them."""
    parts = [f'<a href="#{anchor}">{title}</a>' for anchor, title in links]
    parts += ['<button type="button">unfold all</button>'] if links else []
    parts += ['<details class="switch"><summary>show code</summary></details>'] if code else []
    parts += [f'<a href="{html.escape(url)}">{plain(words, 80)}</a>' for url, words in beside]
    return f'<nav class="contents" aria-label="Contents">{"".join(parts)}</nav>' if parts else ""
