"""Frames in, plotly Figures out. What is drawn was computed elsewhere; here it is only laid out.

House rules, kept by every figure: a title that asks the question it answers; under it n, how many are censored, and the
window in UTC; units on the axes; the Okabe-Ito palette, with a hatch or a symbol beside each colour; an interval is
drawn as a bar or a band, never as a point; text of 12 px or more; nothing that needs more than 360 px of width; no
background, and greys that read on white and on black. An empty frame gives a figure that says so.

Delays span three decades and may be negative (skewed clocks), so their axis is compressed: a delay t stands at
asinh(t / 0.3 s), close to linear below a third of a second and to a logarithm above. Ticks and hover texts are seconds.

Every figure carries its alt text and its data as a table (`described`): a report shows both, and a test asks for both.

Whatever others wrote (names, rooms, URLs) passes through `plain` first: plotly reads some HTML in labels.

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

from nestobs.figures.canvas import (
    amount,
    cell,
    described,
    host,
    layer_label,
    layer_order,
    nothing,
    percent,
    plain,
    span,
    window,
)  # fmt: skip
from nestobs.figures.changed import changes, days
from nestobs.figures.compared import frontier, proof
from nestobs.figures.incident import requests
from nestobs.figures.live import states
from nestobs.figures.moved import polls_moved, threshold_moved
from nestobs.figures.observed import coverage, first_visible, messages, swimlanes, verdicts
from nestobs.figures.tuned import delay_law, polls, posterior

__all__ = [
    "amount", "cell", "changes", "coverage", "days", "delay_law", "described", "first_visible", "frontier", "host",
    "layer_label", "layer_order", "messages", "nothing", "percent", "plain", "polls", "polls_moved", "posterior",
    "proof", "requests", "span", "states", "swimlanes", "threshold_moved", "verdicts", "window",
]  # fmt: skip
