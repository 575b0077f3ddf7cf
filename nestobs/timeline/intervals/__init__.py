"""From polls to intervals: per nest, layer and vantage, when it became visible, and how sure that is.

bounds    the intervals themselves, their columns, and what they count from and are marked with
origins   when a nest was made, and whether what looks new is an edit of an older room
proofs    which absents bound the first showing: of what came and went, and of us held up, they do not
down      when LiveKit could not be reached, and an API's 404 says nothing
compared  with what clocks were compared, whatever nest was watched then
elsewhere what is taken from rows of other nests: both
clocks    how far the clock of each run was ahead of the reference
stamps    what the clocks of host and LiveKit show of themselves in what they stamp
polls     observations as arrays, and the timeline that each belongs to
sightings what each vantage saw of a nest, on one clock, with the errors of clocks beside it
"""

from nestobs.timeline.intervals.bounds import MARKS, NEEDED, ORDER, SCHEMA, STABLE_POLLS, timelines
from nestobs.timeline.intervals.clocks import COMPARED, clock_words, shifts, surest
from nestobs.timeline.intervals.elsewhere import Elsewhere, elsewhere
from nestobs.timeline.intervals.origins import EDIT, GRAIN_S

__all__ = [
    "COMPARED",
    "EDIT",
    "GRAIN_S",
    "MARKS",
    "NEEDED",
    "ORDER",
    "SCHEMA",
    "STABLE_POLLS",
    "Elsewhere",
    "clock_words",
    "elsewhere",
    "shifts",
    "surest",
    "timelines",
]
