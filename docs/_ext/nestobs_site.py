"""What the site needs of Sphinx: formulas without JavaScript, figures by one copy of plotly.js, generated parts."""

from __future__ import annotations

import re
from enum import Enum
from pathlib import Path
from typing import Any

import generated
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import nestobs
from nestobs.reports.publishing.html import part, plotly_js, shared_name

LINKS = {
    "README.md#where-things-are": "/project/house.md",
    "README.md": "/index.md",
    "CHANGELOG.md": "/project/changelog.md",
    "CONTRIBUTING.md": "/project/contributing.md",
}
"""Where a link of a file at the top of the repository leads, once that file is part of a page."""


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (_inline_math, None), (_block_math, None))
    app.connect("source-read", _fill)
    app.connect("include-read", _link_within)
    app.connect("missing-reference", _public_name)
    app.connect("autodoc-process-signature", _short)
    app.connect("autodoc-process-docstring", _literal)
    app.connect("html-page-context", _load_plotly)
    app.connect("build-finished", _put_plotly)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _inline_math(writer: Any, node: Any) -> None:
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def _block_math(writer: Any, node: Any) -> None:
    writer.body.append(f'<div class="formula">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def _fill(app: Any, docname: str, source: list[str]) -> None:
    """`<!-- generated: NAME -->` on a line of a page is replaced by what generated.NAME() says, Markdown; below an sh
    block under `<!-- run -->` (or `<!-- run: TAG -->`) stands what its commands print."""
    source[0] = re.sub(r"^<!-- generated: (\w+) -->$", lambda m: getattr(generated, m[1])(), source[0], flags=re.M)
    source[0] = re.sub(r"^<!-- run(?:: (\w+))? -->\n(```sh\n(.*?)^```)$", _run, source[0], flags=re.M | re.S)


def _run(found: re.Match[str]) -> str:
    lines = "\n".join(f"!{line}" for line in found[3].splitlines())
    tags = ", ".join(filter(None, ["remove-input", found[1]]))
    return f"{found[2]}\n\n```{{code-cell}} ipython3\n:tags: [{tags}]\n{lines}\n```"


def _link_within(app: Any, path: Path, docname: str, content: list[str]) -> None:
    for there, here in LINKS.items():
        content[0] = content[0].replace(f"]({there})", f"]({here})")
    content[0] = content[0].replace("](docs/", "](/")


def _public_name(app: Any, env: Any, node: Any, text: Any) -> Any:
    """A type of a signature stands under the name by which users import it: nestobs.join.policy.Policy is
    nestobs.Policy."""
    name = str(node.get("reftarget", "")).rpartition(".")[2]
    if node.get("refdomain") != "py" or name not in dir(nestobs):
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", f"nestobs.{name}", node, text)


def _short(app: Any, what: str, name: str, thing: Any, *rest: Any) -> Any:
    """A row is made by keyword, of columns that have a page of their own; words of a vocabulary are told by name."""
    if name == "nestobs.Observation":
        return "(**columns)", None
    return ("", None) if isinstance(thing, type) and issubclass(thing, Enum) else None


def _literal(app: Any, *told: Any) -> None:
    """What a docstring indents is code, a formula or a tree: shown as it stands."""
    lines: list[str] = told[-1]
    found, block = [], False
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        if indented and not block and number and not lines[number - 1].strip():
            found += ["::", ""]
        block = indented or (block and not line.strip())
        found.append(line)
    lines[:] = found


def _load_plotly(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if "nestobs-figure" in context.get("body", ""):
        app.add_js_file(shared_name())
        app.add_js_file("figures.js")


def _put_plotly(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        static = Path(app.outdir, "_static")
        static.mkdir(exist_ok=True)
        (static / shared_name()).write_text(plotly_js(), "utf-8")
        (static / "figures.js").write_text(part("page.js"), "utf-8")
