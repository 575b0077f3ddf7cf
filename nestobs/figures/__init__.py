"""Frames in, plotly Figures out. What is drawn was computed elsewhere; here it is only laid out.

House rules, kept by every figure: a title that asks the question it answers; under it n, how many are censored, and the
window in UTC; units on the axes; the Okabe-Ito palette, with a hatch or a symbol beside each colour; an interval is
drawn as a bar or a band, never as a point; text of 12 px or more; nothing that needs more than 360 px of width; no
background, and greys that read on white and on black. An empty frame gives a figure that says so.

Delays span three decades and may be negative (skewed clocks), so their axis is compressed: a delay t stands at
asinh(t / 0.3 s), close to linear below a third of a second and to a logarithm above. Ticks and hover texts are seconds.

Every figure carries its alt text and its data as a table (`described`): a report shows both, and a test asks for both.

Whatever others wrote (names, rooms, URLs) passes through `plain` first: plotly reads some HTML in labels.

text          foreign text, made safe
canvas        what all share: palette, text, axes, an empty figure
marks         what all draw with: bars, stacks, bands, panels
timelines     one nest on its lanes, many nests as bands
messages      what people were told, and how their joins ended
decisions     what tuning made of the delays, on the age axis
policies      policies side by side: what they would cost, and what was predicted of them beside what came
propagation   delay laws side by side, which layer is last, whether all places agree
funnel        joins on their way: when they came, what answered them, where the time went
proportions   shares of things counted, a lane each, with their intervals; how many intervals contain the truth
time_axis     the axis of wall time, and the strip under it that shows when the collector was at work
sliders       what a decision would be if costs were other, by sliders
comparison    what differs between two spans of time, and successive days
requests      one nest: what each of its joins asked, and what came
board         the newest nests at one instant: how far each layer is
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nestobs.figures.text import plain

if TYPE_CHECKING:
    from nestobs.figures.board import states as states
    from nestobs.figures.canvas import amount as amount
    from nestobs.figures.canvas import cell as cell
    from nestobs.figures.canvas import described as described
    from nestobs.figures.canvas import host as host
    from nestobs.figures.canvas import layer_label as layer_label
    from nestobs.figures.canvas import layer_order as layer_order
    from nestobs.figures.canvas import nothing as nothing
    from nestobs.figures.canvas import percent as percent
    from nestobs.figures.canvas import span as span
    from nestobs.figures.canvas import window as window
    from nestobs.figures.comparison import changes as changes
    from nestobs.figures.comparison import days as days
    from nestobs.figures.decisions import delay_law as delay_law
    from nestobs.figures.decisions import polls as polls
    from nestobs.figures.decisions import posterior as posterior
    from nestobs.figures.messages import message_lanes as message_lanes
    from nestobs.figures.messages import verdicts as verdicts
    from nestobs.figures.policies import frontier as frontier
    from nestobs.figures.policies import proof as proof
    from nestobs.figures.proportions import coverage as coverage
    from nestobs.figures.requests import request_lanes as request_lanes
    from nestobs.figures.sliders import polls_moved as polls_moved
    from nestobs.figures.sliders import threshold_moved as threshold_moved
    from nestobs.figures.timelines import first_visible as first_visible
    from nestobs.figures.timelines import swimlanes as swimlanes

_HOMES = {
    name: home
    for home, names in {
        "board": "states",
        "canvas": "amount cell described host layer_label layer_order nothing percent span window",
        "comparison": "changes days",
        "decisions": "delay_law polls posterior",
        "messages": "message_lanes verdicts",
        "policies": "frontier proof",
        "proportions": "coverage",
        "requests": "request_lanes",
        "sliders": "polls_moved threshold_moved",
        "timelines": "first_visible swimlanes",
    }.items()
    for name in names.split()
}
"""Imported when first used: a report of one nest does not wait for what tuning needs, nor its maker for pandas."""

__all__ = ["plain", *_HOMES]  # noqa: PLE0604 - the names of _HOMES are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nestobs.figures' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"nestobs.figures.{_HOMES[name]}"), name)
