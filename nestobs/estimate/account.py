"""What the observations of a window tell beside intervals and joins: counts that add up, of nests and not of rows.

Spans are compared by it (comparison.py), whole days of any size: of a part of the rows it is made by itself, and of
several parts put together. Rows of one hour, or of one nest, are a block (dependence.py); how many hours there are is
known of all the parts only, so both are counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
import pandas as pd

from nestobs.estimate.dependence import HOUR_NS, LEAST_BLOCKS, Blocked
from nestobs.observation.arrays import Flags, Ints
from nestobs.observation.columns import codes_of, equals, equals_any, paired, units_of
from nestobs.observation.schema import Failure, Operation, Source
from nestobs.timeline import uptime
from nestobs.timeline.intervals import surest
from nestobs.timeline.uptime import Observer, Watched

NEEDED: Final = tuple(
    dict.fromkeys(
        [*uptime.NEEDED, "trace_id", "nest", "target", "status", "loop_lag_s", "clock_offset_s", "clock_error_s"]
    )
)
"""The columns of observations that are read."""

REQUEST_SHARES: Final = ("status_429", "status_5xx", "timeouts")
"""Shares of requests: answers 429 and 5xx, of API requests; timeouts, of all requests."""

_ASKED: Final = (Source.RELAY, Source.API, Source.LIVEKIT, Source.CLIENT)
_COUNTS: Final = ("asked", "api", *REQUEST_SHARES)
_PLAN: Final = ["vantage", "source", "operation", "planned_at", "failure", "detail"]
_HOST: Final = re.compile(r"[a-z+]+://([^/?#]*)")


@dataclass(frozen=True)
class Account:
    """rows: how many observations. watched: the state of who observed. clocks: what `clock_words` needs of them.
    planned: what bursts and turns are made of. requests: by vantage and host when each API request was sent, ns.
    hours, units: by hour and by nest (units_of, "" for none) how many requests there were, and of them of the
    API, and of each of REQUEST_SHARES."""

    rows: int
    watched: Watched
    clocks: pd.DataFrame
    planned: pd.DataFrame
    requests: Mapping[tuple[str, str], Ints]
    hours: pd.DataFrame
    units: pd.DataFrame

    @classmethod
    def of(cls, rows: pd.DataFrame, mine: Flags | None = None) -> Account:
        """Of rows as Store.frame gives them, columns NEEDED. mine: which of them count; None: all. The others tell what
        befell the observer."""
        own = rows if mine is None or mine.all() else rows[mine]
        source, operation, failure = own["source"], own["operation"], own["failure"]
        asked = equals_any(source, _ASKED) & ~equals(failure, Failure.INTENT)
        api = asked & equals(source, Source.API)
        status = own["status"].fillna(0).to_numpy(np.int64)
        hits = {
            "asked": asked,
            "api": api,
            "status_429": api & (status == 429),
            "status_5xx": api & (status >= 500) & (status < 600),
            "timeouts": asked & equals(failure, Failure.TIMEOUT),
        }
        sent = own["sent_at"].to_numpy(np.int64)
        hour, hours = pd.factorize(sent // HOUR_NS)
        unit, units = units_of(own)
        planned = equals(source, Source.CLOCK) & own["planned_at"].notna().to_numpy(bool)
        planned &= equals(operation, Operation.HEALTH) | equals(failure, Failure.BUDGET)
        return cls(
            rows=len(own),
            watched=uptime.watched(rows, mine),
            clocks=_plain(surest(own)),
            planned=_plain(own[_PLAN].iloc[np.flatnonzero(planned)]),
            requests=_requests(own[["vantage", "target"]].iloc[np.flatnonzero(api)], sent[api]),
            hours=_counts(hour, np.asarray(hours), hits),
            units=_counts(np.where(unit < 0, len(units), unit), np.append(units, ""), hits),
        )

    @classmethod
    def joined(cls, parts: Iterable[Account]) -> Account:
        """All of them together; at least one."""
        every = list(parts)
        if len(every) == 1:
            return every[0]
        sent: dict[tuple[str, str], list[Ints]] = {}
        for part in every:
            for key, at in part.requests.items():
                sent.setdefault(key, []).append(at)
        return cls(
            rows=sum(part.rows for part in every),
            watched=sum((part.watched for part in every), Watched()),
            clocks=surest(_together([part.clocks for part in every])),
            planned=_together([part.planned for part in every]),
            requests={key: np.concatenate(lots) for key, lots in sent.items()},
            hours=_added([part.hours for part in every]),
            units=_added([part.units for part in every]),
        )

    @property
    def observer(self) -> Observer:
        """The state of who observed."""
        return self.watched.observer()

    @cached_property
    def bursts(self) -> pd.DataFrame:
        """As uptime.bursts."""
        return uptime.bursts(self.planned)

    @property
    def turns(self) -> tuple[int, int]:
        """As uptime.turns."""
        return uptime.turns(self.planned)

    @cached_property
    def shares(self) -> dict[str, Blocked]:
        """Of each of REQUEST_SHARES the hits, and the requests that they are a share of, by block."""
        table = (self.hours if len(self.hours) >= LEAST_BLOCKS else self.units).sort_index()
        counts = {name: table[name].to_numpy(np.int64) for name in _COUNTS}
        whole = {name: counts["asked" if name == "timeouts" else "api"] for name in REQUEST_SHARES}
        return {name: Blocked(counts[name][of > 0], of[of > 0]) for name, of in whole.items()}


def _requests(rows: pd.DataFrame, sent: Ints) -> dict[tuple[str, str], Ints]:
    """By vantage and host when each of these API requests was sent."""
    vantage, names = codes_of(rows["vantage"])
    target, texts = codes_of(rows["target"])
    hosts = [part[1] if (part := _HOST.match(text)) and part[1] else text for text in texts]
    host, hosts_ = pd.factorize(np.array([*hosts, ""], dtype=object))
    place = paired(vantage, host[target])
    order = np.argsort(place, kind="stable")
    begins = np.flatnonzero(np.diff(place[order], prepend=-1))
    found = {}
    for lot in np.split(order, begins[1:]) if len(order) else ():
        key = str(np.append(names, "")[vantage[lot[0]]]), str(hosts_[host[target[lot[0]]]])
        found[key] = sent[lot]
    return found


def _counts(place: Ints, names: Sequence[object] | np.ndarray, hits: Mapping[str, Flags]) -> pd.DataFrame:
    """How many hits each place has, of places that were asked for something."""
    sums = {name: np.bincount(place[hit], minlength=len(names)) for name, hit in hits.items()}
    return pd.DataFrame(sums, index=pd.Index(names))[sums["asked"] > 0]


def _added(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    every = pd.concat([table for table in tables if len(table)] or tables[:1])
    return every if every.index.is_unique else every.groupby(level=0, sort=False).sum()


def _together(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def _plain(frame: pd.DataFrame) -> pd.DataFrame:
    """With text as such: categories of several parts are not alike."""
    text = {name: "str" for name in frame if isinstance(frame[name].dtype, pd.CategoricalDtype)}
    return frame.astype(text).reset_index(drop=True)
