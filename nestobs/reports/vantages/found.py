"""A store read for what its vantages saw of the same nests: all that is shown is computed here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from nestobs.errors import UsageError
from nestobs.estimate import agreement, vantages
from nestobs.estimate.proportion import LEVEL, Share
from nestobs.estimate.vantages import SEAT, Behind, Pair
from nestobs.figures import layer_order
from nestobs.observation.columns import equals
from nestobs.observation.schema import Source
from nestobs.reports.dataset import Observed, read
from nestobs.reports.workbench.given import given
from nestobs.reports.workbench.jupyterlab import step
from nestobs.timeline.delays import STANDING, created, kept_shut
from nestobs.timeline.intervals.sightings import clock_table, sightings
from nestobs.timeline.nests import nests_of
from nestobs.timeline.uptime import attended

TITLE: Final = "Which computer sees a nest first, and by how much?"
LATE_S: Final = 1.0
AGES: Final = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the page is about. Layers in the order in which a nest passes through them, SEAT first; pairs, behind: of
    each layer that two vantages watched of one nest. late_s: so much later is late. curve: how many nests one could
    join and another not, by age, of `parted` nests, of `coarse` of which the age is good to a second; clocks, attended:
    by vantage, as clock_table and uptime.attended give them; nests: of each vantage, how many it proved anything of.
    """

    title: str
    observed: Observed
    late_s: float
    pairs: dict[str, list[Pair]]
    behind: dict[str, list[Behind]]
    left_out: int
    told_no: Share
    curve: pd.DataFrame
    parted: int
    coarse: int
    clocks: pd.DataFrame
    attended: pd.DataFrame
    nests: dict[str, int]

    @property
    def when(self) -> str:
        """The window in words."""
        return self.observed.when

    @property
    def vantages(self) -> list[str]:
        """By name, all that wrote a row."""
        return [str(name) for name in self.attended["vantage"]]

    @property
    def main(self) -> str:
        """The layer that the page opens with: when a nest could be joined, else the one of most nests that two
        vantages watched; "" for none."""
        counts = {layer: max((one.n for one in pairs), default=0) for layer, pairs in self.pairs.items()}
        return SEAT if counts.get(SEAT) else max(counts, key=lambda layer: counts[layer], default="")

    @property
    def relays(self) -> list[Behind]:
        """Each relay beside each vantage that watched it with others."""
        return [one for layer, found in self.behind.items() if layer.startswith("relay:") for one in found]


@given
def load(
    store: str, window: str = "", title: str = "", late_s: float = LATE_S, same_relays: str | Sequence[str] = ""
) -> Found:
    """Read a store and compute all that is shown. window: START/END, a day, a window's name, "" for all there is.
    late_s: what a vantage sees later than the first of the others by so many seconds is late. same_relays: URLs of one
    relay, a blank between them, of each relay that vantages reach by different ones.

    Raises StoreError when there is no store, UsageError for a window that is none, seconds below 0, or one URL alone.
    """
    if not 0.0 < late_s < float("inf"):
        raise UsageError("late_s: a number of seconds above 0")
    names = _names(same_relays)
    observed = read(store, window)
    step("setting the vantages side by side")
    made = created(_of_these(observed, sightings(_renamed(observed.around, names))))
    seats = vantages.seats(made)
    parts = {SEAT: seats} | {layer: made[made["layer"] == layer] for layer in layer_order(made["layer"])}
    sights = {layer: vantages.sights(rows, layer) for layer, rows in parts.items()}
    relays = sum(len(one.vantages) for layer, one in sights.items() if layer.startswith("relay:"))
    beside = {
        layer: vantages.behind(one, 1.0 - (1.0 - LEVEL) / (max(1, relays) if layer.startswith("relay:") else 1))
        for layer, one in sights.items()
    }
    stretches = vantages.stretches(seats)
    units = set(stretches["unit"])
    coarse = made[made["trace_id"].isin(units) & ~made["origin_kind"].isin(("create", "publish"))]
    oldest = max(float(stretches["end_s"].max()), 1.0) if len(stretches) else 1.0
    ages = 0.3 * np.sinh(np.linspace(0.0, np.arcsinh(oldest / 0.3), AGES))
    curve = agreement.by_age(stretches, ages)
    return Found(
        title=title or TITLE,
        observed=observed,
        late_s=late_s,
        pairs={layer: found for layer, one in sights.items() if (found := vantages.pairs(one))},
        behind={layer: found for layer, found in beside.items() if found},
        left_out=max((one.left_out for one in sights.values()), default=0),
        told_no=vantages.told_no(sights[SEAT]),
        curve=curve[curve["n"] >= len(units) / 2],
        parted=len(units),
        coarse=int(coarse["trace_id"].nunique()),
        clocks=clock_table(observed.around),
        attended=attended(observed.rows),
        nests={str(name): int(count) for name, count in made.groupby("vantage")["trace_id"].nunique().items()},
    )


def _names(same: str | Sequence[str]) -> dict[str, str]:
    """URL -> the one that stands for its relay."""
    found: dict[str, str] = {}
    for text in [same] if isinstance(same, str) and same else same:
        urls = str(text).split()
        if len(urls) < 2:
            raise UsageError(f"same_relays: {text!r} names one relay; write two URLs or more of it, a blank between")
        found |= dict.fromkeys(urls, urls[0])
    return found


def _renamed(rows: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    if not names:
        return rows
    relay = equals(rows["source"], Source.RELAY) | equals(rows["source"], Source.CLIENT)
    target = rows["target"].astype("str")
    return rows.assign(target=target.where(~relay, target.replace(names)))


def _of_these(observed: Observed, found: pd.DataFrame) -> pd.DataFrame:
    """Those of the nests made in the window, with what a standing fault kept shut marked."""
    lines = observed.timelines
    about = nests_of(lines)
    name = pd.Series(np.append(about.names, "")[about.unit], index=lines.index, dtype="object")
    found = found[found["trace_id"].isin(set(name) - {""})].reset_index(drop=True)
    shut = kept_shut(lines)
    causes = dict(zip(name[shut], lines[STANDING][shut], strict=True)) if shut.any() else {}
    standing = [causes.get(name, "") for name in found["trace_id"]]
    return found.assign(**{STANDING: pd.array(standing, dtype="str")})
