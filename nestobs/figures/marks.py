"""What figures draw with: markers, bars along lanes, stacks of counts, lines, bands, and panels under each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from nestobs.figures import canvas
from nestobs.figures.canvas import BLUE, CLEAR, GREEN, INK, PURPLE, VERMILLION
from nestobs.figures.text import layer_label

VANTAGES: Final = ((BLUE, "/", "solid"), (VERMILLION, "\\", "dash"), (GREEN, "x", "dot"), (PURPLE, "-", "dashdot"))
"""Of vantages side by side: colour, hatch and dash."""

HAIR: Final = 0.006
"""Least drawn length of a bar, as a share of the axis: one of no length, or of a few milliseconds, is still seen."""

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


def columns(
    x: Iterable[Any], heights: Iterable[Any], texts: Iterable[str], marker: Mapping[str, Any], **more: Any
) -> go.Bar:
    """Upright bars, each with its text; `base`: where each begins, at 0 without."""
    return go.Bar(x=[*x], y=[*heights], marker=dict(marker), hovertext=[*texts], hoverinfo="text", **more)


def bars(
    lanes: Iterable[Any], lengths: Iterable[Any], texts: Iterable[str], marker: Mapping[str, Any], **more: Any
) -> go.Bar:
    """Such bars along lanes."""
    return columns(lengths, lanes, texts, marker, orientation="h", **more)


def spans(
    lanes: Iterable[Any],
    ends: Iterable[tuple[float, float]],
    texts: Iterable[str],
    marker: Mapping[str, Any],
    *,
    least: float = 0.0,
    **more: Any,
) -> go.Bar:
    """Bars along lanes from end to end, drawn no shorter than `least`."""
    known = list(ends)
    lengths = [max(end - start, least) for start, end in known]
    return bars(lanes, lengths, texts, marker, base=[start for start, _ in known], **more)


def points(
    x: Iterable[Any], y: Iterable[Any], texts: Iterable[str] | None, marker: Mapping[str, Any], **more: Any
) -> go.Scatter:
    """Points alone, each with its text; without texts it is no use to point at them."""
    return go.Scatter(x=[*x], y=[*y], mode="markers", marker=dict(marker), **_said(texts), **more)


def _said(texts: Iterable[Any] | None) -> dict[str, Any]:
    return {"hoverinfo": "skip"} if texts is None else {"hoverinfo": "text", "hovertext": [*texts]}


def line(
    x: Iterable[Any],
    y: Iterable[Any],
    color: str,
    width: float,
    dash: str | None = None,
    *,
    texts: Iterable[Any] | None = None,
    **more: Any,
) -> go.Scatter:
    """A line; with a marker its points are marked. Without texts it is no use to point at it; without a name it is not
    in the legend."""
    shown = {} if "name" in more else {"showlegend": False}
    mode = "lines+markers" if "marker" in more else "lines"
    return go.Scatter(
        x=[*x], y=[*y], mode=mode, line={"color": color, "width": width, "dash": dash}, **_said(texts), **shown | more
    )


def strokes(
    lanes: Iterable[float],
    ends: Iterable[tuple[float, float]],
    color: str,
    width: float,
    dash: str | None = None,
    *,
    texts: Iterable[str] | None = None,
    **more: Any,
) -> go.Scatter:
    """Lines along lanes from end to end, as one trace."""
    x = [one for start, end in ends for one in (start, end, None)]
    y = [one for lane in lanes for one in (lane, lane, None)]
    said = None if texts is None else [one for text in texts for one in (text, text, None)]
    return line(x, y, color, width, dash, texts=said, **more)


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
    return line(x, y, color, width, more.pop("dash", None), fill="toself", fillpattern=pattern, **more)


def legend_key(name: str, color: str, symbol: str) -> go.Scatter:
    """A legend entry alone."""
    return go.Scatter(x=[None], y=[None], mode="markers", marker=outlined(symbol, color, 10), name=name)


# figures of many parts


def stacked(
    question: str,
    note: str,
    lanes: Sequence[str],
    parts: Iterable[tuple[str, Sequence[float], Mapping[str, Any]]],
    title: str,
    *,
    lane_px: int = 34,
    words: Callable[[float], str] = str,
    **across: Any,
) -> go.Figure:
    """A bar a lane, made up of parts beside each other: name, a value a lane, marker. lanes: names, of which long ones
    are shortened on their labels. words: for a value; title and across: of the x axis."""
    traces = []
    for name, values, marker in parts:
        texts = [f"{lane}<br>{name}: {words(value)}" for lane, value in zip(lanes, values, strict=True)]
        traces.append(bars(range(len(lanes)), values, texts, marker, name=name, width=0.7))
    labels = canvas.labels_of(lanes)
    figure = canvas.drawn(
        question,
        note,
        traces,
        plot_px=lane_px * len(lanes) + 10,
        labels=labels,
        xaxis=canvas.titled(title) | {"rangemode": "tozero"} | across,
        yaxis=canvas.lane_axis(labels, ticks="outside", ticklen=5, tickcolor=CLEAR),
    )
    return canvas.named(figure, lanes)


def axes(number: int) -> dict[str, str]:
    """The axes of the so manieth panel from 1, as its traces name them."""
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


Panel = tuple[str, Sequence[str], dict[str, Any], Sequence[Any]]
"""Of lanes: title, labels, x axis, traces."""


def lane_panels(
    question: str,
    note: str,
    panels: Sequence[Panel],
    keys: Sequence[Any],
    *,
    head_px: int,
    row_px: int,
    foot_px: int,
) -> go.Figure:
    """Panels of lanes under each other, each with an x axis of its own. keys: traces that make the legend."""
    sizes = [head_px + row_px * len(labels) + foot_px for _, labels, *_ in panels]
    whole, above = sum(sizes), 0
    labels = [label for _, labels, *_ in panels for label in labels]
    figure = canvas.drawn(
        question, note, keys, plot_px=whole, labels=labels, barmode="overlay", legend={"y": -16 / whole}
    )
    for number, (size, (title, lanes, across, traces)) in enumerate(zip(sizes, panels, strict=True), 1):
        domain = [1 - (above + size - foot_px) / whole, 1 - (above + head_px) / whole]
        down = canvas.lane_axis(lanes, above=0.5, domain=domain, anchor=f"x{number}")
        figure.update_layout({f"xaxis{number}": across | {"anchor": f"y{number}"}, f"yaxis{number}": down})
        figure.add_traces([trace.update(axes(number)) for trace in traces])
        canvas.panel_label(figure, f"<b>{title}</b>", y=1 - above / whole)
        above += size
    return figure


def facets(
    question: str,
    note: str,
    panels: Sequence[tuple[str, Sequence[Any]]],
    ends: tuple[float, float],
    *,
    panel_px: int,
    bottom: float,
) -> go.Figure:
    """Panels of shares on one age axis that shows [ends]: title and traces, those of one legend group with one key in
    the legend. bottom: where each ends, in panels."""
    keyed: set[str] = set()
    for number, (_, traces) in enumerate(panels, 1):
        for trace in traces:
            trace.update(yaxis=f"y{number}")
            if trace.showlegend is not False:
                trace.update(showlegend=trace.legendgroup not in keyed)
                keyed.add(trace.legendgroup)
    count = len(panels)
    figure = canvas.drawn(question, note, [one for _, traces in panels for one in traces], plot_px=panel_px * count)
    for number, (title, _) in enumerate(panels):
        top = 1 - number / count
        domain = [top - bottom / count, top - 0.22 / count]
        shares = canvas.share_axis(-0.04, 1.06, parts=2, domain=domain, anchor="x")
        figure.update_layout({f"yaxis{number + 1}": shares})
        canvas.panel_label(figure, title, y=top)
    figure.update_layout(xaxis=canvas.delay_axis(*ends, anchor=f"y{count}"))
    canvas.today_line(figure)
    return figure


def facet_title(layer: str, counts: Iterable[int], unseen: Iterable[int]) -> str:
    """Of a layer's panel: its name, and of each vantage n and how many were not seen by the end."""
    n, censored = (" + ".join(str(int(one)) for one in each) for each in (counts, unseen))
    return f"<b>{layer_label(layer)}</b>  n = {n}, not seen {censored}"
