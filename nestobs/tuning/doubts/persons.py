"""How a comparison moves if the person who presses Retry under today's rule is another. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from nestobs.estimate.npmle import Number
from nestobs.join.policy import Policy
from nestobs.tuning.replay import Arena, drawn_sums
from nestobs.tuning.simulation import PERSONS, Scores, score

REACTIONS_S: Final = (2.0, 5.0, 10.0)
LEAVING: Final = (0.0, 0.2, 0.4)
"""What today's rule is varied by: the person's reaction, and the share that leaves after a failure. Of those told "no
longer available" two and a half times as many leave."""

MOVED_ROWS: Final = 5_000
"""Of more rows every so-many-th tells how a comparison moves."""


@dataclass(frozen=True, kw_only=True)
class Moved:
    """What becomes of a comparison if the person is another. joined, lost: shares of joins under today's rule, then.
    apart: the cost a joiner of the policy less that of today's rule, seconds."""

    reaction_s: float
    leaves: float
    joined: float
    lost: float
    apart: Number


def moved(arena: Arena, policy: Policy, scores: Scores, today: Policy) -> tuple[Moved, ...]:
    """A policy's scores against today's rule with other persons; none where it has no person."""
    if today.person is None:
        return ()
    nests, found = arena.nests, []
    every = max(1, nests.n // MOVED_ROWS)
    own, counts = scores.cost(arena.prices)[:, ::every], arena.counts[:, ::every]
    few = (nests.gone[::every], nests.own[:, ::every], nests.apart[::every])
    for reaction_s, leaves in product(REACTIONS_S, LEAVING):
        person = replace(today.person, reaction_s=reaction_s, leaves=leaves, leaves_gone=min(1.0, 2.5 * leaves))
        rule = replace(today, person=person)
        other = score(arena.courses(rule, PERSONS), nests.times[:, ::every], *few)
        apart = own - other.cost(arena.prices)
        late = arena.late(policy).cost(arena.prices) - arena.late(rule, PERSONS).cost(arena.prices)
        more = arena.unseen * counts.sum(axis=1)
        drawn = (drawn_sums(apart, counts) + more * late) / (counts.sum(axis=1) + more)
        joined, lost = float(other.joined.mean()), float(other.lost.mean())
        number = arena.number(float(apart.mean()), drawn)
        found.append(Moved(reaction_s=reaction_s, leaves=leaves, joined=joined, lost=lost, apart=number))
    return tuple(found)
