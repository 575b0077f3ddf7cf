"""What figures draw with: markers, bars along lanes, stacks of counts, bands, and panels under each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from nestobs.figures.canvas import CLEAR, INK, lane_axis, panel_label, plain_axis, share_axis, titled

# markers


def hatched(color: str, shape: str) -> dict[str, Any]:
    """The marker of a bar drawn by its hatch alone: an interval."""
    pattern = {"shape": shape, "fgcolor": color, "bgcolor": CLEAR, "size": 5, "solidity": 0.45}
    return {"color": color, "pattern": pattern, "line": {"color": color, "width": 1}}


def filled(color: str, shape: str = "") -> dict[str, Any]:
    """The marker of a bar drawn full, with a hatch over it to tell it without its colour."""
    pattern = {"shape": shape, "fgcolor": "rgba(255,255,255,.85)", "size": 6, "solidity": 0.3, "fillmode": "overlay"}
    return {"color": color, "pattern": pattern, "line": {"color": color, "width": 1}}


def outlined(symbol: Any, color: str, size: Any, width: float = 1) -> dict[str, Any]:
    """The marker of points: a symbol with an edge of ink."""
    return {"symbol": symbol, "size": size, "color": color, "line": {"color": INK, "width": width}}


def struck(symbol: Any, color: str, size: Any, width: float) -> dict[str, Any]:
    """The marker of points that are strokes of one colour."""
    return {"symbol": symbol, "size": size, "color": color, "line": {"color": color, "width": width}}


# traces


def bars(
    lanes: Iterable[float | None],
    lengths: Iterable[float | None],
    texts: Iterable[str],
    marker: Mapping[str, Any],
    **more: Any,
) -> go.Bar:
    """Horizontal bars, one a lane; `base`: where each begins, at 0 without."""
    shown = {"hovertext": [*texts], "hoverinfo": "text"}
    return go.Bar(orientation="h", y=[*lanes], x=[*lengths], marker=dict(marker), **shown | more)


def stack(
    values: Sequence[float],
    lanes: Sequence[str],
    name: str,
    marker: Mapping[str, Any],
    words: Callable[[float], str] = str,
) -> go.Bar:
    """One part of the bars of all lanes, put beside the parts before it; words: for a value."""
    texts = [f"{lane}<br>{name}: {words(value)}" for lane, value in zip(lanes, values, strict=True)]
    return bars(range(len(values)), values, texts, marker, name=name, width=0.7)


def stacked(figure: go.Figure, lanes: Sequence[str], title: str, **more: Any) -> None:
    """The axes of such bars."""
    figure.update_layout(
        xaxis=plain_axis() | titled(title) | {"rangemode": "tozero"} | more,
        yaxis=lane_axis(lanes, ticks="outside", ticklen=5, tickcolor=CLEAR),
    )


def points(
    x: Iterable[Any], y: Iterable[Any], texts: Iterable[str], marker: Mapping[str, Any], **more: Any
) -> go.Scatter:
    """Points alone, each with its text."""
    return go.Scatter(x=[*x], y=[*y], mode="markers", marker=dict(marker), hovertext=[*texts], hoverinfo="text", **more)


def area(
    x: Sequence[float],
    y: Sequence[float],
    color: str,
    hatch: str,
    *,
    size: float = 8,
    solidity: float,
    tint: str = CLEAR,
    width: float = 0.5,
    **more: Any,
) -> go.Scatter:
    """A closed outline, told by its hatch as well: a band between two edges."""
    pattern = {"shape": hatch, "fgcolor": color, "bgcolor": tint, "size": size, "solidity": solidity}
    line = {"color": color, "width": width, "dash": more.pop("dash", None)}
    return go.Scatter(x=x, y=y, mode="lines", line=line, fill="toself", fillpattern=pattern, **more)


def legend_key(name: str, color: str, symbol: str) -> go.Scatter:
    """A legend entry alone."""
    return go.Scatter(x=[None], y=[None], mode="markers", marker=outlined(symbol, color, 10), name=name)


def keys_of(traces: Iterable[Any]) -> list[str]:
    """The names that the legend will have."""
    return [trace.name for trace in traces if trace.showlegend is not False]


# panels


def axis(letter: str, number: int) -> tuple[str, str]:
    """An axis of the so manieth panel from 0, as traces and as layouts name it: x and xaxis, x2 and xaxis2, ..."""
    suffix = str(number + 1) if number else ""
    return f"{letter}{suffix}", f"{letter}axis{suffix}"


def axes(number: int) -> dict[str, str]:
    """Both axes of such a panel, as its traces name them."""
    return {"xaxis": axis("x", number)[0], "yaxis": axis("y", number)[0]}


def panel(
    figure: go.Figure,
    number: int,
    title: str,
    across: dict[str, Any],
    labels: Sequence[str],
    *,
    top: float,
    domain: Sequence[float],
) -> None:
    """The axes of lanes with an x axis of their own; top: where the title stands, as a share of the plot."""
    (x, x_name), (y, y_name) = axis("x", number), axis("y", number)
    lanes = lane_axis(labels, above=0.5, domain=domain, anchor=x)
    figure.update_layout({x_name: plain_axis() | across | {"anchor": y}, y_name: lanes})
    panel_label(figure, f"<b>{title}</b>", y=top)


def facet(figure: go.Figure, number: int, count: int, title: str, *, bottom: float) -> str:
    """One of so many panels of shares on one x axis; gives the name of its y axis. bottom: its end, in panels."""
    name, layout = axis("y", number)
    top = 1 - number / count
    domain = [top - bottom / count, top - 0.22 / count]
    figure.update_layout({layout: share_axis(-0.04, 1.06, parts=2) | {"domain": domain, "anchor": "x"}})
    panel_label(figure, title, y=top)
    return name
