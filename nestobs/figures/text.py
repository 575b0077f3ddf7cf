"""Foreign text made safe to show; layers, ages, numbers, shares and intervals in words."""

from __future__ import annotations

import html
import math
import re
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from nestobs.timeline.layers import order_of

LABEL: Final = 22
"""Characters of a label, for which a figure has room on the narrowest screen."""

_UNITS: Final = "%|ns|µs|ms|s|min|h|d|days?|weeks?|years?|points?|px|[kMG]?B"
_WITHIN: Final = re.compile(
    rf"(?<=\d)\s+(?:/\s+)?(?=(?:{_UNITS})(?!\w))"  # 4.1 s, 50 %, 12 / s
    r"|(?<![\w.])\w\s+=\s+(?=[-+−]?[\d.])"  # n = 9
    r"|(?<=[\d%s])\s+±\s+(?=\d)|(?<=[±≤≥])\s+(?=[\d.])"
    r"|(?<=[\d%s])\s+(?=\[[-+−]?[\d.])|(?<=[\d%s]),\s+(?=[-+−]?[\d.]+(?:\s*(?:%|s))?\])"  # -4.9 [-7.9, -1.9]
)
"""Where a line must not end: between a number and its unit, a short name, or its interval in brackets."""

_UNPRINTED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def plain(text: object, limit: int = 48) -> str:
    """Foreign text as one short line that neither plotly nor a browser reads as markup.

    Control, format and bidirectional characters, lone surrogates and private ones are dropped (a joiner inside an emoji
    falls with them), white space is one blank, what is longer than `limit` is cut, and HTML is escaped: quotation marks
    by number, since plotly knows few names, and dollars too, since plotly takes what two of them enclose for a formula.
    """
    line = _line(str(text)[: 8 * limit])
    cut = len(line) > limit or len(str(text)) > 8 * limit
    return _escaped(line[: limit - 1] + "…" if cut else line)


def short(text: object, limit: int = LABEL) -> str:
    """Such text for a label of a figure: what is longer loses its middle, since names of one family begin alike."""
    whole = str(text)
    line = _line(whole if len(whole) <= 16 * limit else f"{whole[: 8 * limit]}…{whole[-8 * limit :]}")
    head = limit // 2
    return _escaped(line if len(line) <= limit else f"{line[: head - 1]}…{line[head - limit :]}")


def _line(text: str) -> str:
    seen = "".join(" " if c.isspace() else c for c in text)
    return " ".join("".join(c for c in seen if unicodedata.category(c) not in _UNPRINTED).split())


def _escaped(line: str) -> str:
    return html.escape(line).replace("&quot;", "&#34;").replace("$", "&#36;")


def unbroken(text: str) -> str:
    """The text, in which no line ends between a number and its unit, its name or its interval in brackets: blanks there
    are no-break spaces. Not for what is copied to a command line."""
    return _WITHIN.sub(lambda found: re.sub(r"\s", "\u00a0", re.sub(r"\s+", " ", found[0])), text)


def layer_name(layer: str) -> str:
    """A layer in a table or a sentence: a relay by its host, or by the name it was given."""
    return plain(_of_layer(layer), 120)


def layer_label(layer: str) -> str:
    """The same on a figure, shortened in its middle: `canvas.named` puts the whole name beside it."""
    return short(_of_layer(layer))


def _of_layer(layer: str) -> str:
    return host(layer.removeprefix("relay:")) if layer.startswith("relay:") else layer


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
