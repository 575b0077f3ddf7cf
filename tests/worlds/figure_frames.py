"""Frames to draw figures of, and what a figure shows as words."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from nestobs.join.decision import GONE, LOADING, RELEASED_FAILED, STARTING
from nestobs.timeline.calibration import SCHEMA as COVERAGE
from nestobs.timeline.intervals import SCHEMA as TIMELINES
from nestobs.timeline.joins import SCHEMA as JOINS

ORIGIN = pd.Timestamp("2026-03-04 12:00:00", tz="UTC")


HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "{{7*7}} ${7*7} $x$ %{x}",
    "\u202eevil\u2066 \u200fmarks",
    "a\x00b\x1b[31m\x07\n\tc",
    "\ud800 lone",
    "x" * 1_000_000,
    "nest 🎧",
]


DTYPES = {
    "instant": "datetime64[ns, UTC]",
    "real": "float64",
    "bool": "bool",
    "int": "int64",
    "text": "str",
    "flag": "boolean",
}


def frame(schema: Any, *rows: dict[str, Any]) -> pd.DataFrame:
    defaults = {"instant": pd.NaT, "real": math.nan, "bool": False, "int": 0, "text": "", "flag": None}
    columns = {}
    for column in schema:
        values = [row.get(column.name, defaults[column.type]) for row in rows]
        columns[column.name] = pd.Series(values, dtype=DTYPES[column.type])  # type: ignore[call-overload]  # a table of literals
    return pd.DataFrame(columns)


def line(layer: str, lower: float, upper: float, vantage: str = "Computer A", **more: Any) -> dict[str, Any]:
    values = {
        "nest": "30312:ab:room",
        "trace_id": "trace",
        "room": "room",
        "vantage": vantage,
        "layer": layer,
        "origin_at": ORIGIN,
        "origin_kind": "create",
        "lower_s": lower,
        "upper_s": upper,
        "right_censored": math.isinf(upper),
        "left_censored": lower == 0.0,
        "polls": 5,
        "upper_at": ORIGIN + pd.Timedelta(seconds=upper) if math.isfinite(upper) else pd.NaT,
    }
    return values | more


def join(verdict: str, message: str = "", truth: bool | None = True, **more: Any) -> dict[str, Any]:
    said = {
        f"{who}_{what}": value
        for who in ("guide", "released")
        for what, value in (("verdict", verdict), ("message", message), ("true", truth))
    }
    values = {"trace_id": "trace", "vantage": "Computer A", "role": "guest", "policy": "fixed(1)", "verdict": verdict}
    return (
        values | {"arrived_at": ORIGIN + pd.Timedelta(seconds=5), "arrival_age_s": 5.0, "elapsed_s": 2.0} | said | more
    )


LINES = frame(
    TIMELINES,
    line("relay:wss://one.example/", 0.0, 0.2),
    line("relay:wss://one.example/", 0.1, 0.4, "Computer B"),
    line("api:info", 3.0, 3.0),
    line("api:join", 4.0, math.inf),
    line("api:guest", 2.0, 2.5, gone_lower_s=8.0, gone_upper_s=9.0),
    line("livekit:room", -1.5, -1.0),
    line("livekit:media", 0.0, math.inf, polls=0),
    line("client", math.nan, math.nan, origin_kind="", origin_at=pd.NaT),
)


MADE = frame(
    JOINS,
    join("guest"),
    join("gone", GONE, False, vantage="Computer B"),
    join("starting_up", STARTING),
    join("starting_up", RELEASED_FAILED, None, arrival_age_s=math.nan),
    join("not_loaded", LOADING, False),
    join("api_down", "The nests server does not answer.", None),
)


JUDGED = frame(
    COVERAGE,
    {"layer": "api:info", "contains": True, "width_s": 0.5, "upper_s": 1.0},
    {"layer": "api:info", "contains": False, "width_s": 0.7, "upper_s": 1.0},
    {"layer": "client", "contains": None, "width_s": math.inf, "upper_s": math.inf},
)


def words(figure: go.Figure) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", figure.layout.title.text)).split())


def named(value: Any, *names: str) -> Iterator[dict[str, Any]]:
    """Every object under one of these names that has a size."""
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if name in names and "size" in inner:
            yield inner
        elif isinstance(inner, list | dict):
            yield from named(inner, *names)


def strings(value: Any) -> Iterator[str]:
    """Every text anywhere in JSON data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


FRAMED = [*(text for text in HOSTILE if "lone" not in text), "wss://[::1"]  # a frame holds no lone surrogate
