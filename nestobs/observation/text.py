"""Texts of others: what UTF-8 can carry, and as long as a sentence or a column bears."""

from __future__ import annotations


def encodable(text: str) -> str:
    """The text without lone surrogates: JSON carries one, no frame, file or terminal does."""
    return text.encode("utf-8", "replace").decode()


def shortened(text: str, most: int) -> str:
    """The text; where it has more characters than `most`, so many, of which the last is an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"
