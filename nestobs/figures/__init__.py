"""Frames in, plotly Figures out. What is drawn was computed elsewhere; here it is only laid out.

House rules, kept by every figure: a title that asks the question it answers; under it n, how many are censored, and the
window in UTC; units on the axes; the Okabe-Ito palette, with a hatch or a symbol beside each colour; an interval is
drawn as a bar or a band, never as a point; text of 12 px or more; nothing that needs more than 360 px of width; no
background, and greys that read on white and on black. An empty frame gives a figure that says so.

Delays span three decades and may be negative (skewed clocks), so their axis is compressed: a delay t stands at
asinh(t / 0.3 s), close to linear below a third of a second and to a logarithm above. Ticks and hover texts are seconds.

Every figure carries its alt text and its data as a table (`described`): a report shows both, and a test asks for both.

Whatever others wrote (names, rooms, URLs) passes through `plain` first: plotly reads some HTML in labels.

text          foreign text, made safe; numbers in words
canvas        what all share: template, axes, an empty figure, alt text and table
marks         what all draw with: bars, stacks, bands, panels
timelines     one nest on its lanes, many nests as bands
messages      what people were told, and how their joins ended
decisions     what tuning made of the delays, on the age axis
policies      policies side by side: what they would cost, and what was predicted of them beside what came
propagation   delay laws side by side, which layer is last, whether all places agree, when one is in and another is not
funnel        joins on their way: when they came, what answered them, where the time went
proportions   shares of things counted, a lane each, with their intervals; how many intervals contain the truth
time_axis     the axis of wall time, and the strip under it that shows when the collector was at work
sliders       what a decision would be if costs were other, by sliders
comparison    what differs between two spans of time, and successive days
requests      one nest: what each of its joins asked, and what came
board         the newest nests at one instant: how far each layer is
"""

from nestobs.figures.text import amount, host, layer_name, layer_order, plain, span, unbroken
from nestobs.observation.text import percent

__all__ = ["amount", "host", "layer_name", "layer_order", "percent", "plain", "span", "unbroken"]
