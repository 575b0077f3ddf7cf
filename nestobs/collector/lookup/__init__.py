"""From what a person typed to a nest, to whether a guest could join it now, and to why not.

relays    what every relay of a station has of it: the newest event, its age, what its author withdrew; and what the
          web client would have read of it
ready     one request to the API, and what its answer makes of the nest
inquiry   the causes that fit what was heard, and the questions that decide between them
"""

from nestobs.collector.lookup.ready import CANNOT_TELL, GONE, NOT_YET, READY, Readiness, readiness, ready_once
from nestobs.collector.lookup.relays import Found, Silent, find, load, on_time, why_silent

__all__ = [
    "CANNOT_TELL",
    "GONE",
    "NOT_YET",
    "READY",
    "Found",
    "Readiness",
    "Silent",
    "find",
    "load",
    "on_time",
    "readiness",
    "ready_once",
    "why_silent",
]
