"""Foreign text, made safe to show."""

from __future__ import annotations

import html
import unicodedata
from typing import Final


def plain(text: object, limit: int = 48) -> str:
    """Foreign text as one short line that neither plotly nor a browser reads as markup.

    Control, format and bidirectional characters, lone surrogates and private ones are dropped (a joiner inside an emoji
    falls with them), white space is one blank, what is longer than `limit` is cut, and HTML is escaped: quotation marks
    by number, since plotly knows few names, and dollars too, since plotly takes what two of them enclose for a formula.
    """
    seen = "".join(" " if c.isspace() else c for c in str(text)[: 8 * limit])
    line = " ".join("".join(c for c in seen if unicodedata.category(c) not in _UNPRINTED).split())
    cut = len(line) > limit or len(str(text)) > 8 * limit
    escaped = html.escape(line[: limit - 1] + "…" if cut else line)
    return escaped.replace("&quot;", "&#34;").replace("$", "&#36;")


_UNPRINTED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
