"""Foreign text made safe to show; layers, ages, numbers, shares and intervals in words."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from nestobs.timeline.layers import order_of

_UNPRINTED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


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


def layer_label(layer: str) -> str:
    """A layer's short name: a relay by its host, or by the name it was given."""
    if not layer.startswith("relay:"):
        return plain(layer, 22)
    return plain(host(layer.removeprefix("relay:")), 22)


def host(url: str) -> str:
    """Host and port of a URL; the whole text where there is none."""
    try:
        return urlsplit(url).netloc or url
    except ValueError:  # others wrote it
        return url


def layer_order(layers: Iterable[str]) -> list[str]:
    """Each layer once, in the order in which a nest passes through them."""
    return sorted(set(layers), key=lambda layer: (order_of(layer), layer))


def seconds(value: float) -> str:
    """An age in words, to the hundredth below 10 s; "never" for inf, "any time" for -inf."""
    if math.isinf(value):
        return "never" if value > 0 else "any time"
    return f"{value:.2f} s" if abs(value) < 9.995 else f"{value:.1f} s"


def amount(value: float) -> str:
    """A number to two or three digits: 0.18, 1.8, 18; an open end in words."""
    if math.isinf(value):
        return "no upper end" if value > 0 else "no lower end"
    return f"{value:.2f}" if abs(value) < 0.995 else f"{value:.1f}" if abs(value) < 9.95 else f"{value:.0f}"


def span(low: float, high: float, *, unit: str = "") -> str:
    """The ends of an interval in words, an open one named: "19 to 41 s", "19 s to no upper end"."""
    end = f" {unit}" if unit else ""
    return f"{amount(low)}{end if math.isinf(high) else ''} to {amount(high)}{'' if math.isinf(high) else end}"
