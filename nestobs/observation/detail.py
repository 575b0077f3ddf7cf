"""A row's `detail`: facts as bounded JSON, written here and read here.

Whatever is written can be read, and whatever stands in a store, however foreign, reads as some facts or none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from nestobs.nostr import json_object
from nestobs.observation.schema import DETAIL_BYTES
from nestobs.observation.text import encodable


def detail(**facts: object) -> str:
    """Facts as bounded JSON for the `detail` column: texts are shortened until it fits in `DETAIL_BYTES`.

    None values are left out. Lone surrogates and control characters survive as JSON escapes.
    """
    kept = {name: _plain(value) for name, value in facts.items() if value is not None}
    limit = DETAIL_BYTES // 4
    text = json.dumps(kept, default=str)
    while len(text) > DETAIL_BYTES:
        kept = {name: _shorten(value, limit) for name, value in kept.items()} | {"cut": True}
        text = json.dumps(kept, default=str)
        if limit < 8:
            return json.dumps({"cut": True})
        limit //= 2
    return text


def _plain(value: object) -> object:
    """The value with NaN and infinities as text, since JSON has neither."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _shorten(value: object, limit: int) -> object:
    if isinstance(value, str) and len(value) > limit:
        return value[:limit] + "…"
    if isinstance(value, Mapping):
        return {str(key)[:limit]: _shorten(inner, limit) for key, inner in list(value.items())[:limit]}
    if isinstance(value, list | tuple):
        return [_shorten(inner, limit) for inner in value[:limit]]
    return value


def facts_of(text: object) -> dict[str, Any]:
    """The facts of a stored detail; {} where it is no JSON object.

    Texts are without lone surrogates: JSON carries one, no frame, file or terminal does. A number may be infinite or
    NaN, which is what Python's reader makes of 1e400 and NaN.
    """
    found = json_object(str(text)) or {}
    return {name: encodable(value) if isinstance(value, str) else value for name, value in found.items()}


def finite(value: float | None) -> float | None:
    """The value, None where it is none, infinite or NaN: JSON has neither."""
    return float(value) if value is not None and math.isfinite(value) else None
