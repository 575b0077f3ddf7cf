"""An executed notebook as one HTML page for reading: no request leaves it, code is one click away.

nbconvert's lab template loads MathJax, require.js and Mermaid from other hosts, and plotly's own HTML renderer adds
MathJax again. Here none of them is: figures are kept in the notebook as plotly's JSON and drawn by one copy of
plotly.js in the page's head.
"""

from __future__ import annotations

import copy
import html
import re
import secrets
import threading
from functools import cache
from typing import Any, Final

from nestobs.figures import plain
from nestobs.reports.display import RESULT
from nestobs.reports.publishing.renderer import PLOTLY

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
{%- if resources.nestobs.fitting %}<script>{{ resources.nestobs.fitting }}</script>{% endif -%}
{%- endblock -%}
{%- block input_group -%}
<details class="code"><summary>show code</summary>{{ super() }}</details>
{%- endblock -%}
"""

_STYLE: Final = """
body.jp-Notebook { background: #fff; color: #1f2328; margin: 0; padding: 0; overflow: visible; }
main { max-width: 62rem; margin: 0 auto; padding: 1rem .75rem 4rem; font: 16px/1.55 system-ui, sans-serif; }
main .jp-Cell { padding: 0; margin: 0; }
main .jp-RenderedHTMLCommon { font: inherit; color: inherit; padding: 0; overflow: visible; }
main .jp-RenderedMarkdown > :first-child { margin-top: 2.2rem; }
main h1 { font-size: 1.7rem; line-height: 1.2; margin: .6rem 0; }
main h2 { font-size: 1.25rem; line-height: 1.3; border-top: 1px solid #8a929a55; padding-top: 1.4rem; }
main h3 { font-size: 1.1rem; line-height: 1.3; margin: 1.8rem 0 .4rem; }
main :is(p, li) { max-width: 46rem; }
main :is(h1, h2, h3, p, li) { overflow-wrap: anywhere; }
main .jp-OutputArea-child .jp-OutputArea-output { display: block; padding: 0; margin: 0; overflow: visible;
  background: none; }
main :is(.jp-OutputArea-child, .jp-Cell-outputWrapper, .jp-Cell-inputWrapper) { display: block; }
main .jp-InputArea { background: none; padding: 0; }
main .jp-mod-noOutputs { display: inline-block; margin-right: 1rem; }
main .jp-mod-noOutputs:has(details[open]) { display: block; }
details:is(.code, .data) { font-size: 12px; color: #59636e; margin: .2rem 0; }
details:is(.code, .data) > summary { cursor: pointer; }
details.code :is(.jp-InputArea, .jp-InputArea-editor, .highlight) { display: block; background: #f5f5f5; border: 0; }
details.code .jp-InputArea { padding: .4rem; box-sizing: border-box; }
details.code pre { white-space: pre-wrap; overflow-wrap: anywhere; }
.nestobs-figure { margin: .6rem 0 1.2rem; min-width: 0; }
.nestobs-figure figcaption { font-size: 12px; line-height: 1.45; color: #6e7781; max-width: 46rem; margin-top: 1rem;
  overflow-wrap: anywhere; }
.nestobs-figure figcaption strong { display: block; font-size: 15px; }
.nestobs-table { overflow-x: auto; margin: .6rem 0 1.2rem; }
main .jp-RenderedHTMLCommon > .nestobs-table { margin-bottom: 1.2rem; }
main .jp-RenderedHTMLCommon .nestobs-table table { border-collapse: collapse; font-size: 14px; margin: 0; width: auto;
  table-layout: auto; color: inherit; }
main .jp-RenderedHTMLCommon .nestobs-table :is(th, td) { text-align: left; vertical-align: top; border: 0;
  border-bottom: 1px solid #8a929a55; padding: .3rem 1.1rem .3rem 0; max-width: min(32rem, 60vw); min-width: 3rem;
  white-space: normal; background: none; color: inherit; font-variant-numeric: tabular-nums; }
main .jp-RenderedHTMLCommon .nestobs-table td:first-child { white-space: nowrap; }
main .jp-RenderedHTMLCommon .nestobs-table :is(th, td):first-child { min-width: 0; }
main .jp-RenderedHTMLCommon .nestobs-nests td:nth-child(3) { white-space: nowrap; }
main .jp-RenderedHTMLCommon .nestobs-table td { overflow-wrap: break-word; }
main .jp-RenderedHTMLCommon .nestobs-words td:nth-child(2) { min-width: 11rem; }
main .jp-RenderedHTMLCommon .nestobs-numbers td { white-space: nowrap; }
main .jp-RenderedHTMLCommon .nestobs-table tr { background: none; }
.nestobs-verdict { border-left: 6px solid #8a929a; padding: .1rem .8rem; background: #8a929a14; }
.nestobs-verdict.good { border-color: #009E73; }
.nestobs-verdict.breached { border-color: #D55E00; }
.nestobs-warning { border-left: 4px solid #D55E00; padding: .2rem .8rem; background: #d55e0014; }
@media screen and (prefers-color-scheme: dark) {
  body.jp-Notebook { background: #0d1117; color: #d5dbe1; }
  details:is(.code, .data) { color: #9198a1; }
  main .jp-RenderedHTMLCommon :is(h1, h2, h3, p, li, td, th, strong) { color: inherit; }
  main .jp-RenderedHTMLCommon code { color: inherit; background: #8a929a33; }
}
@media print {
  details:is(.code, .data:not([open])) { display: none; }
  .nestobs-figure, tr { break-inside: avoid; }
  main :is(h1, h2, h3) { break-after: avoid; }
}
"""


_FITTING: Final = """
{ // A figure has room for its legend on the narrowest screen. Where the legend takes fewer lines, it gets less of it.
  const parts = ".legend .bg, .xaxislayer-above, .g-xtitle, .infolayer .annotation";
  const fit = (plot) => {
    const { height, margin, sliders } = plot.layout;
    if (sliders || !height || !margin || !plot.closest("figure").querySelector("figcaption")) return;
    const bottoms = [...plot.querySelectorAll(parts)].map((part) => part.getBoundingClientRect().bottom);
    const spare = Math.floor(height - 10 - Math.max(...bottoms) + plot.getBoundingClientRect().top);
    if (!Number.isFinite(spare) || Math.abs(spare) < 4 || margin.b - spare < 10) return;
    plot.parentElement.style.height = `${height - spare}px`;
    Plotly.relayout(plot, { height: height - spare, "margin.b": margin.b - spare });
  };
  addEventListener("DOMContentLoaded", () => document.querySelectorAll(".js-plotly-plot").forEach((plot) => {
    plot.on("plotly_afterplot", () => fit(plot));
    fit(plot);
  }));
  // Paper is narrower than a screen, and no figure is told: all are drawn anew, as wide as A4 and Letter have room for.
  const draw = (size) => document.querySelectorAll(".js-plotly-plot").forEach((plot) => Plotly.relayout(plot, size));
  addEventListener("beforeprint", () => draw({ autosize: false, width: 680 }));
  addEventListener("afterprint", () => draw({ autosize: true, width: null }));
}
"""


_TOP_PX: Final = 28
"""Above a figure's plot, for what stands on its upper edge."""


def page(notebook: Any, *, title: str, shared_js: str = "") -> str:
    """The executed notebook (an nbformat node) as HTML. plotly.js is in it once, if there is a figure at all.

    shared_js: in place of that, the relative URL of a copy that many pages share (`plotly_js` under `shared_name`).
    """
    parts = _Parts()
    shown, figures = _drawn(notebook, parts)
    shown.metadata.pop("widgets", None)  # their state draws nothing here
    shown.metadata["title"] = html.unescape(plain(title, 120))  # the template escapes it
    extra = {"style": _STYLE, "plotly": parts.script(plotly_js()) if figures and not shared_js else ""}
    extra["shared"] = shared_js if figures else ""
    extra["fitting"] = _FITTING if figures else ""
    return parts.put_into(_frame(shown, extra))


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

    def put_into(self, text: str) -> str:
        """The text with all pieces in their places."""
        place = rf"{self._name}-(\d+)"
        return re.sub(
            rf'<i id="{place}"></i>|/\*{place}\*/', lambda found: self._parts[int(found[1] or found[2])], text
        )


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
                output["data"] = {"text/html": parts.html(_figure_html(figure, f"figure-{count}"))}
            elif text := data.get("text/html"):
                data["text/html"] = parts.html("".join(text))  # a text, or its lines
            output.get("data", {}).pop(RESULT, None)
    return shown, count


def _figure_html(figure: dict[str, Any], name: str) -> str:
    """A div and the script that draws into it, as wide as the page, what it shows in words, and its data as a table.

    plotly escapes the JSON for a script element.
    """
    from plotly.io import to_html

    layout = dict(figure.get("layout", {}))
    meta = layout.pop("meta", None)
    meta = meta if isinstance(meta, dict) else {}  # of a stranger's figure it may be anything
    said = caption(layout, meta)
    body = to_html(
        {"data": figure.get("data", []), "layout": layout},
        config={"responsive": True, "displayModeBar": False, "displaylogo": False, "typesetMath": False},
        include_plotlyjs=False,
        include_mathjax=False,
        full_html=False,
        div_id=name,
        default_width="100%",
        validate=False,
    )
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
    return f"<figcaption><strong>{question}</strong> {note}</figcaption>"


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
