"""Texts of others, what UTF-8 can carry and as long as a sentence or a column bears; and shares in words."""

from __future__ import annotations


def encodable(text: str) -> str:
    """The text without lone surrogates: JSON carries one, no frame, file or terminal does."""
    return text.encode("utf-8", "replace").decode()


def shortened(text: str, most: int) -> str:
    """The text; where it has more characters than `most`, so many, of which the last is an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def percent(share: float) -> str:
    """A share in percent, finer towards its ends: 0 %, 0.04 %, 4.2 %, 42 %, 99.6 %, 100 %."""
    edge = min(share, 1.0 - share)
    digits = 0 if edge < 5e-5 else 2 if edge < 9.95e-4 else 1 if share < 0.0995 or share > 0.9905 else 0
    return f"{100 * share:.{digits}f} %"
