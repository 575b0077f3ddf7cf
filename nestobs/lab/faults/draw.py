"""The faults of a scenario as its file has them, and those of one nest as they are drawn, seeded.

faults_a_nest = 1                      # exactly so many, `share` is a weight; not there: each by its own share
[[faults]]
cause = "bad_token"
kind = "null"                          # not there: one of the cause's kinds, each as likely
share = 0.2
from = { kind = "constant", s = 2.0 }  # seconds after the creation, a distribution; not there: at once
for = { kind = "weibull", ... }        # how long; not there, or never: for ever
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field, model_validator

from nestobs.lab.delays import AT_ONCE, Distribution, NotNegative, Table, draw
from nestobs.lab.faults.causes import CAUSES, Theory


class FaultEntry(Table):
    """One `[[faults]]` of a scenario."""

    cause: str
    kind: str | None = None
    share: Annotated[NotNegative, Field(le=1)] = 1.0
    begins: Annotated[Distribution | None, Field(alias="from")] = None
    lasts: Annotated[Distribution | None, Field(alias="for")] = None

    @model_validator(mode="after")
    def _known(self) -> FaultEntry:
        theory = CAUSES.get(self.cause)
        if theory is None:
            raise ValueError(f"there is no cause {self.cause[:40]!r}: choose among {', '.join(CAUSES)}")
        if self.kind is not None and self.kind not in theory.kinds:
            raise ValueError(f"{self.cause} comes in the kinds {', '.join(theory.kinds)}, not {self.kind[:40]!r}")
        if theory.begins and self.begins is not None:
            raise ValueError(f"{self.cause} begins with the nest: leave out `from`")
        return self

    @property
    def theory(self) -> Theory:
        """What is known of the cause."""
        return CAUSES[self.cause]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one nest: `from_s` seconds after its creation, for `for_s` seconds; None: for ever."""

    cause: str
    kind: str
    from_s: float
    for_s: float | None

    @property
    def theory(self) -> Theory:
        """What is known of the cause."""
        return CAUSES[self.cause]

    def as_dict(self) -> dict[str, Any]:
        """What a truth row holds beside its instants."""
        return {"kind": self.kind, "by": self.theory.by, "for_s": self.for_s}


def draw_faults(
    entries: Sequence[FaultEntry], rng: np.random.Generator, *, exactly: int | None = None, scale: float = 1.0
) -> tuple[Fault, ...]:
    """The faults of one nest, in the order of their beginning. `scale` multiplies all seconds.

    exactly: so many, drawn by weight without replacement and no two on the same side, or fewer where there are not so
    many sides; None: each by its own share. Every entry takes the same randomness whether or not it is drawn.
    """
    picks = rng.random(len(entries)) if entries else np.zeros(0)
    drawn = [_drawn(entry, rng, scale) for entry in entries]
    if exactly is None:
        chosen = [number for number, entry in enumerate(entries) if picks[number] < entry.share]
    else:
        chosen = _by_weight(entries, picks, exactly)
    return tuple(sorted((drawn[number] for number in chosen), key=lambda fault: fault.from_s))


def _by_weight(entries: Sequence[FaultEntry], picks: np.ndarray[Any, Any], exactly: int) -> list[int]:
    """A weighted draw without replacement: the least `Exp(1) / weight` come first (Efraimidis and Spirakis, 2006)."""
    keyed = sorted(
        (-np.log1p(-picks[number]) / entry.share, number) for number, entry in enumerate(entries) if entry.share
    )
    chosen: list[int] = []
    for _, number in keyed:
        sides = {entries[each].theory.side for each in chosen}
        if len(chosen) < exactly and entries[number].theory.side not in sides:
            chosen.append(number)
    return chosen


def _drawn(entry: FaultEntry, rng: np.random.Generator, scale: float) -> Fault:
    kinds = (entry.kind,) if entry.kind is not None else entry.theory.kinds
    kind = kinds[int(rng.random() * len(kinds))]
    from_s = draw(entry.begins or AT_ONCE, rng, scale)
    for_s = None if entry.lasts is None else draw(entry.lasts, rng, scale)
    return Fault(entry.cause, kind, float("inf") if from_s is None else from_s, for_s)
