"""Many joiners at once, in virtual time: what an API sees of them under a policy, and what becomes of them.

crowd     tens of joiners behind one address, each a join_flow of its own, under a budget that the client keeps
parts     a herd of millions, behind many addresses, against an API that counts: what it comes to, and how sure that is
rounds    what many joiners do, as arrays: the join core of a whole crowd
server    whom an API lets through that counts requests by address
laws      when joiners come, when a nest can be joined, how many share an address, what the API allows
"""

from nestobs.tuning.herd.crowd import Crowd, crowd
from nestobs.tuning.herd.laws import (
    Arrivals,
    Behind,
    Joinable,
    Limit,
    arrivals_among,
    arrivals_of,
    behind_of,
    joinable_at,
    joinable_of,
    lognormal,
)
from nestobs.tuning.herd.parts import PLAYED, Figure, Herd, Told, herd

__all__ = [
    "PLAYED",
    "Arrivals",
    "Behind",
    "Crowd",
    "Figure",
    "Herd",
    "Joinable",
    "Limit",
    "Told",
    "arrivals_among",
    "arrivals_of",
    "behind_of",
    "crowd",
    "herd",
    "joinable_at",
    "joinable_of",
    "lognormal",
]
