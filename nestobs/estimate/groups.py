"""Delay laws of nests that have something in common: the layer, the relay, the vantage, the hour they were made in.

Each law is the NPMLE of its rows, each interval of a quantile the one that assumes no law (`quantile_bounds`): nothing
is resampled, so thousands of nests take a second. It takes rows for independent, and those of one law are rows of
different nests: by vantage they are apart, by hour each nest counts once, at its slowest vantage.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nestobs.estimate.npmle import DelayLaw, npmle
from nestobs.timeline.delays import created, joinable

Kind = Literal["layer", "relay", "vantage", "hour"]
QUANTILES: Final = (0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Group:
    """name: the layer, the vantage, or the hour as "07"; vantage: empty where it is the name or several are one."""

    kind: Kind
    name: str
    vantage: str
    law: DelayLaw


def by_layer(timelines: pd.DataFrame) -> list[Group]:
    """A law for each layer but relays, and vantage: rows with a proof and an origin."""
    return _by_layer(timelines, "layer")


def by_relay(timelines: pd.DataFrame) -> list[Group]:
    """A law for each relay and vantage."""
    return _by_layer(timelines, "relay")


def by_vantage(timelines: pd.DataFrame) -> list[Group]:
    """A law of when a nest could be joined (`delays.joinable`) for each vantage."""
    rows = joinable(timelines)
    return [_group("vantage", str(name), "", part) for name, part in rows.groupby("vantage")]


def by_hour(timelines: pd.DataFrame) -> list[Group]:
    """A law of when a nest could be joined from everywhere, for each UTC hour of day in which nests were made."""
    rows = joinable(timelines)
    ends = rows.groupby("unit").agg({"lower_s": "max", "upper_s": "max", "hour": "first"})
    return [_group("hour", f"{hour:02}", "", part) for hour, part in ends.groupby("hour")]


def summary(groups: Iterable[Group]) -> pd.DataFrame:
    """A row a group. Columns: kind, name, vantage, n, censored (never seen by the end), and for each quantile (50, 90)
    q50_s, q50_low_s, q50_high_s: its estimate and 95 % interval in seconds; inf where it lies beyond the watch."""
    rows = []
    for group in groups:
        law = group.law
        ends = [end for p in QUANTILES for end in (float(law.quantile(p)), *law.quantile_bounds(p))]
        rows.append((group.kind, group.name, group.vantage, law.n, law.censored, *ends))
    names = [f"q{100 * p:.0f}_{end}" for p in QUANTILES for end in ("s", "low_s", "high_s")]
    return pd.DataFrame(rows, columns=["kind", "name", "vantage", "n", "censored", *names])


def curves(groups: Sequence[Group], ages_s: ArrayLike) -> pd.DataFrame:
    """The laws at these ages (seconds, shape (k,)), a row a group and age up to the last end of its rows.

    Columns: name, vantage, n, censored, age_s, share (NPMLE), low, high (bounds that assume nothing, 95 %).
    """
    ages = np.asarray(ages_s, dtype=np.float64)
    parts = []
    for group in groups:
        ends = np.concatenate([group.law.rows.lower, group.law.rows.upper])
        at = ages[ages <= max(ends[np.isfinite(ends)].max(initial=0.0), ages[0])]
        low, high = group.law.bounds(at)
        shown = {"name": group.name, "vantage": group.vantage, "n": group.law.n, "censored": group.law.censored}
        parts.append(pd.DataFrame(shown | {"age_s": at, "share": group.law.cdf(at), "low": low, "high": high}))
    columns = ["name", "vantage", "n", "censored", "age_s", "share", "low", "high"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def ages(groups: Iterable[Group], count: int = 160) -> NDArray[np.float64]:
    """Ages from the first end of any row to the last, evenly on the compressed scale asinh(t / 0.3 s)."""
    ends = np.concatenate([[0.0, 1.0], *(np.concatenate([g.law.rows.lower, g.law.rows.upper]) for g in groups)])
    ends = ends[np.isfinite(ends)]
    return np.asarray(0.3 * np.sinh(np.linspace(np.arcsinh(ends.min() / 0.3), np.arcsinh(ends.max() / 0.3), count)))


def _by_layer(timelines: pd.DataFrame, kind: Literal["layer", "relay"]) -> list[Group]:
    timelines = created(timelines)
    relay = timelines["layer"].str.startswith("relay:")
    told = (timelines["polls"] > 0) & timelines["lower_s"].notna() & timelines["origin_at"].notna()
    rows = timelines[told & (relay if kind == "relay" else ~relay)]
    return [_group(kind, str(at[0]), str(at[1]), part) for at, part in rows.groupby(["layer", "vantage"])]


def _group(kind: Kind, name: str, vantage: str, rows: pd.DataFrame) -> Group:
    return Group(kind, name, vantage, npmle(rows["lower_s"], rows["upper_s"]))
