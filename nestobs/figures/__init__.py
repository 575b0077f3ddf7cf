"""Frames in, plotly Figures out. What is drawn was computed elsewhere; here it is only laid out.

House rules, kept by every figure: a title that asks the question it answers; under it n, how many are censored, and the
window in UTC; units on the axes; the Okabe-Ito palette, with a hatch or a symbol beside each colour; an interval is
drawn as a bar or a band, never as a point; text of 12 px or more; nothing that needs more than 360 px of width; no
background, and greys that read on white and on black. An empty frame gives a figure that says so.

Delays span three decades and may be negative (skewed clocks), so their axis is compressed: a delay t stands at
asinh(t / 0.3 s), close to linear below a third of a second and to a logarithm above. Ticks and hover texts are seconds.

Every figure carries its alt text and its data as a table (`described`): a report shows both, and a test asks for both.

Whatever others wrote (names, rooms, URLs) passes through `plain` first: plotly reads some HTML in labels.

words.py      foreign text, made safe
canvas.py     what all share: palette, text, the age axis, an empty figure
observed.py   timelines and joins as they were observed
tuned.py      what tuning made of the delays, on the age axis
compared.py   policies side by side: what they would cost, and what was predicted of them beside what came
propagation.py  delay laws side by side, which layer is last, whether all places agree
joining.py    joins on their way: when they came, what answered them, where the time went
shares.py     shares of things counted, a lane each, with their intervals
wall.py       the axis of wall time, and the strip under it that shows when the collector was at work
moved.py      what a decision would be if costs were other, by sliders
changed.py    what differs between two spans of time, and successive days
incident.py   one nest: what each of its joins asked, and what came
live.py       the newest nests at one instant: how far each layer is
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nestobs.figures.words import plain

if TYPE_CHECKING:
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
    from nestobs.figures.changed import changes as changes
    from nestobs.figures.changed import days as days
    from nestobs.figures.compared import frontier as frontier
    from nestobs.figures.compared import proof as proof
    from nestobs.figures.incident import requests as requests
    from nestobs.figures.live import states as states
    from nestobs.figures.moved import polls_moved as polls_moved
    from nestobs.figures.moved import threshold_moved as threshold_moved
    from nestobs.figures.observed import coverage as coverage
    from nestobs.figures.observed import first_visible as first_visible
    from nestobs.figures.observed import messages as messages
    from nestobs.figures.observed import swimlanes as swimlanes
    from nestobs.figures.observed import verdicts as verdicts
    from nestobs.figures.tuned import delay_law as delay_law
    from nestobs.figures.tuned import polls as polls
    from nestobs.figures.tuned import posterior as posterior

_HOMES = {
    "amount": "canvas",
    "cell": "canvas",
    "described": "canvas",
    "host": "canvas",
    "layer_label": "canvas",
    "layer_order": "canvas",
    "nothing": "canvas",
    "percent": "canvas",
    "span": "canvas",
    "window": "canvas",
    "changes": "changed",
    "coverage": "observed",
    "days": "changed",
    "delay_law": "tuned",
    "first_visible": "observed",
    "frontier": "compared",
    "messages": "observed",
    "polls": "tuned",
    "polls_moved": "moved",
    "posterior": "tuned",
    "proof": "compared",
    "requests": "incident",
    "states": "live",
    "swimlanes": "observed",
    "threshold_moved": "moved",
    "verdicts": "observed",
}
"""Imported when first used: a report of one nest does not wait for what tuning needs, nor its maker for pandas."""

__all__ = ["plain", *_HOMES]  # noqa: PLE0604 - the names of _HOMES are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nestobs.figures' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"nestobs.figures.{_HOMES[name]}"), name)
