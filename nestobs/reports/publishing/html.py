"""An executed notebook as one HTML page for reading: no request leaves it, sections are folded, code is one click away.

nbconvert's lab template loads MathJax, require.js and Mermaid from other hosts, and plotly's own HTML renderer adds
MathJax again. Here none of them is: figures are kept in the notebook as plotly's JSON and drawn by one copy of
plotly.js in the page's head.
"""

from __future__ import annotations

import copy
import html
import json
import re
import secrets
import threading
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Final

from nestobs.figures import plain
from nestobs.reports.display import RESULT
from nestobs.reports.publishing.glossary import ANCHOR, Explained
from nestobs.reports.publishing.renderer import PLOTLY
from nestobs.reports.publishing.sections import contents, fold

_TEMPLATE: Final = """
{%- extends 'lab/index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
{%- block html_head_css -%}
<link rel="icon" href="data:,">
<style>{{ resources.nestobs.style }}</style>
{%- if resources.nestobs.shared %}<script src="{{ resources.nestobs.shared }}"></script>{% endif -%}
{%- if resources.nestobs.plotly %}<script>{{ resources.nestobs.plotly }}</script>{% endif -%}
<script>{{ resources.nestobs.script }}</script>
{%- endblock -%}
{%- block body_loop -%}{{ resources.nestobs.contents }}{{ super() }}{{ resources.nestobs.words }}{%- endblock -%}
{%- block any_cell scoped -%}{{ cell.metadata.before }}{{ super() }}{{ cell.metadata.after }}{%- endblock -%}
{%- block input_group -%}<aside class="code">{{ super() }}</aside>{%- endblock -%}
"""

_CONFIG: Final = {"responsive": True, "displayModeBar": False, "displaylogo": False, "typesetMath": False}
_TOP_PX: Final = 28
"""Above a figure's plot, for what stands on its upper edge."""


def page(notebook: Any, *, title: str, shared_js: str = "", beside: Sequence[tuple[str, str]] = ()) -> str:
    """The executed notebook (an nbformat node) as HTML. plotly.js is in it once, if there is a figure at all.

    shared_js: in place of that, the relative URL of a copy that many pages share (`plotly_js` under `shared_name`).
    beside: links to others, (relative URL, words), at the end of the contents.
    """
    parts = _Parts()
    shown, figures = _drawn(notebook, parts)
    shown.metadata.pop("widgets", None)  # their state draws nothing here
    shown.metadata["title"] = html.unescape(plain(title, 120))  # the template escapes it
    links = fold(shown)
    for cell in shown.cells:
        cell.metadata.update({place: parts.html(cell.metadata[place]) for place in ("before", "after")})
    code = any(cell.cell_type == "code" for cell in shown.cells)
    extra = {"style": part("page.css"), "script": parts.script(part("page.js"))}
    extra["plotly"] = parts.script(plotly_js()) if figures and not shared_js else ""
    extra["shared"] = shared_js if figures else ""
    extra |= {place: parts.later(place) for place in ("contents", "words")}
    explained = Explained()
    made = parts.put_into(_frame(shown, extra), explained)
    links += [(ANCHOR, "The words of this page")] if explained.list else []
    made = made.replace(parts.later("contents"), contents(links, code=code, beside=beside), 1)
    return made.replace(parts.later("words"), explained.list, 1)


@cache
def part(name: str) -> str:
    """A file that lies beside this one."""
    return files("nestobs.reports.publishing").joinpath(name).read_text("utf-8")


def get_ready() -> None:
    """Import and compile what `page` needs: half a second, to be spent while something else is waited for."""
    import plotly.io  # noqa: F401 - it stays imported
    from nbformat import v4

    cells = [v4.new_code_cell("'&'"), v4.new_markdown_cell("&")]  # type: ignore[no-untyped-call]  # typed in part
    _frame(v4.new_notebook(cells=cells), {})  # type: ignore[no-untyped-call]  # typed in part


class _Parts:
    """Pieces of HTML kept out of nbconvert's hands, which parses all it makes once more, and put in at the end."""

    def __init__(self) -> None:
        self._name = f"part-{secrets.token_hex(16)}"
        self._parts: list[str] = []

    def html(self, text: str) -> str:
        """What stands for that HTML meanwhile."""
        self._parts.append(text)
        return f'<i id="{self._name}-{len(self._parts) - 1}"></i>'

    def script(self, text: str) -> str:
        """What stands for that JavaScript meanwhile."""
        self._parts.append(text)
        return f"/*{self._name}-{len(self._parts) - 1}*/"

    def later(self, place: str) -> str:
        """What stands for HTML that is known only once all the others are in their places."""
        return f'<i id="{self._name}-{place}"></i>'

    def put_into(self, text: str, explained: Explained) -> str:
        """The text with all pieces in their places, and the words of its HTML explained where they first stand."""
        made, end = [], 0
        for found in re.finditer(rf'<i id="{self._name}-(\d+)"></i>|/\*{self._name}-(\d+)\*/', text):
            made.append(explained.html(text[end : found.start()]))
            made.append(explained.html(self._parts[int(found[1])]) if found[1] else self._parts[int(found[2])])
            end = found.end()
        return "".join([*made, explained.html(text[end:])])


_EXPORTING: Final = threading.Lock()


def _frame(notebook: Any, extra: dict[str, str]) -> str:
    """The notebook by nbconvert in our template, one at a time: its exporter is made once, since that takes long."""
    with _EXPORTING:
        text, _ = _exporter().from_notebook_node(notebook, resources={"nestobs": extra})
    return str(text)


@cache
def _exporter() -> Any:
    from jinja2 import DictLoader
    from nbconvert import HTMLExporter

    exporter = HTMLExporter(  # type: ignore[no-untyped-call]  # nbconvert is typed in part
        extra_loaders=[DictLoader({"nestobs.html.j2": _TEMPLATE})], template_file="nestobs.html.j2"
    )
    exporter.exclude_input_prompt = exporter.exclude_output_prompt = True
    return exporter


def plotly_js() -> str:
    """The whole of plotly.js."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def shared_name() -> str:
    """The file name of a copy of plotly.js that many pages share: one a version."""
    from plotly.offline import get_plotlyjs_version

    return f"plotly-{get_plotlyjs_version()}.min.js"


def _drawn(notebook: Any, parts: _Parts) -> tuple[Any, int]:
    """A copy in which each plotly figure is the HTML that draws it, and how many there are. All HTML is in `parts`."""
    shown = copy.deepcopy(notebook)
    count = 0
    for cell in shown.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if figure := data.get(PLOTLY):
                count += 1
                output["data"] = {"text/html": parts.html(figure_html(figure, f"figure-{count}"))}
            elif text := data.get("text/html"):
                data["text/html"] = parts.html("".join(text))  # a text, or its lines
            output.get("data", {}).pop(RESULT, None)
    return shown, count


def figure_html(figure: dict[str, Any], name: str) -> str:
    """A div and what page.js draws into it once it is seen, what it shows in words, and its data as a table."""
    from plotly.io import to_json

    layout = dict(figure.get("layout", {}))
    meta = layout.pop("meta", None)
    meta = meta if isinstance(meta, dict) else {}  # of a stranger's figure it may be anything
    said = caption(layout, meta)
    data = str(to_json({"data": figure.get("data", []), "layout": layout}, validate=False)).removesuffix("}")
    for sign in "<>&\u2028\u2029":  # in strings alone, and no script's end is among them then
        data = data.replace(sign, f"\\u{ord(sign):04x}")
    script = f'(window.plotlyFigures ||= {{}})["{name}"] = {data},"config":{json.dumps(_CONFIG)}}};'
    height = f"{float(layout['height']):g}px" if isinstance(layout.get("height"), int | float) else "100%"
    body = f'<div><div id="{name}" class="plotly-graph-div" style="height:{height}; width:100%;"></div>'
    body += f"<script>{script}</script></div>"
    alt = html.escape(html.unescape(plain(meta.get("alt", ""), 1_000)))
    drawn = f'<div role="img" aria-label="{alt}">{body}</div>'
    return f'<figure class="nestobs-figure">{said}{drawn}{_data_html(meta)}</figure>'


def caption(layout: dict[str, Any], meta: dict[str, Any]) -> str:
    """A figure's question and note as HTML, taken out of its layout, where they are wrapped for the narrowest screen.

    "" where it has none."""
    margin = layout.get("margin", {})
    if not {"question", "note"} <= meta.keys() or not {"t", "b"} <= margin.keys() or "height" not in layout:
        return ""
    layout.pop("title", None)
    layout["height"] -= margin["t"] - _TOP_PX
    layout["margin"] = {**margin, "t": _TOP_PX}
    question, note = (plain(html.unescape(str(meta[name])), 2_000) for name in ("question", "note"))
    return f"<figcaption><strong>{question}</strong> {note}{_whole(meta.get('whole'))}</figcaption>"


def _whole(names: Any) -> str:
    """Names that the labels shorten, as they are; a stranger's figure may have anything there."""
    pairs = [pair for pair in names if isinstance(pair, list) and len(pair) == 2] if isinstance(names, list) else []
    told = [" = ".join(plain(html.unescape(str(one)), 120) for one in pair) for pair in pairs]
    return f" <span>Shortened: {', '.join(told)}.</span>" if told else ""


def _data_html(meta: dict[str, Any]) -> str:
    """The table of a figure's data, one click away."""
    columns, rows, more = meta.get("columns", []), meta.get("rows", []), int(meta.get("more", 0))
    if not rows:
        return ""
    head = "".join(f"<th>{plain(name, 80)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{plain(cell, 80)}</td>" for cell in row) + "</tr>" for row in rows)
    left = f"<p>{more:,} rows more are not shown.</p>" if more else ""
    count = f"{len(rows) + more:,} row{'' if len(rows) + more == 1 else 's'}"
    return (
        f'<details class="data"><summary>the data: {count}</summary><div class="nestobs-table nestobs-numbers">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{left}</details>"
    )
