"""What notebooks/vantages.ipynb calls: which vantage saw a nest first, by how much, and how surely.

found      what is read and computed
opening    what the page opens with, and how it came out
sections   what is shown below, one section a cell
"""

from nestobs.reports.vantages.found import Found, load
from nestobs.reports.vantages.opening import answer, result
from nestobs.reports.vantages.sections import (
    attended,
    by_layer,
    by_pair,
    by_relay,
    clocks,
    collected,
    parted,
    relays_late,
    seen,
    who_first,
)

__all__ = [
    "Found",
    "answer",
    "attended",
    "by_layer",
    "by_pair",
    "by_relay",
    "clocks",
    "collected",
    "load",
    "parted",
    "relays_late",
    "result",
    "seen",
    "who_first",
]
