"""From timelines to the delays that decisions are about, one row a nest and vantage, still as intervals.

A join succeeds when the API gives a token and LiveKit then lets the joiner in:

    joinable = max( min(api:join, api:guest), livekit:signal )        a guest has api:guest alone

Layers of one nest depend on each other, so the ends of the same nest's intervals are combined, never their laws:
min and max of intervals are the intervals of the min and the max of their ends. LiveKit holds a join up only where it
was proven absent: where signalling was tried late and worked, nothing says that it ever did not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Final, Literal
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from nestobs.observation.arrays import Flags, Floats
from nestobs.observation.columns import codes_of, equals, equals_any, instants_of, lines_of, paired
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Operation, Outcome, Source
from nestobs.timeline.intervals.origins import EDIT

STANDING: Final = "standing"
"""A column that timelines may have beside those of SCHEMA: the id of the cause that kept the nest shut for good, ""
where there is none (diagnosis/diagnose.py knows)."""

LAB: Final = "nestobs-lab/"
"""How a lab's API calls itself, and then its scenario."""

BlockKind = Literal["day and host", "hour and host", "nest"]
LEAST_BLOCKS: Final = 20
"""Blocks are made finer until there are so many, or until each nest is one."""

_INF: Final = float("inf")
_ASKS: Final = (Operation.INFO, Operation.JOIN, Operation.GUEST)
_ENDS: Final = ["lower_s", "upper_s", "seen_until_s", "gone_lower_s", "gone_upper_s"]
_READ: Final = ["trace_id", "nest", "vantage", "layer", "target", "origin_at", "polls", "left_censored", *_ENDS]
_ROUTE_ENDS: Final = ("join_lower_s", "join_upper_s", "guest_lower_s", "guest_upper_s")


def joinable(timelines: pd.DataFrame, *, signed_in: bool = True) -> pd.DataFrame:
    """When joins began to succeed: one row per nest under observation and vantage, sorted by time.

    `timelines` as nestobs.timelines gives them. Columns: unit (trace_id, or the nest's address), nest, vantage,
    lower_s, upper_s (the delay is in (lower_s, upper_s]), seen_until_s (still joinable then), gone_lower_s,
    gone_upper_s (when it went for good; NaN: it did not), origin_at (datetime64[ns, UTC]), host (of the API asked),
    relays (those watched, sorted, one space between), hour (0-23, UTC). Rows without an origin or without any proof
    have no place here, nor have edits of older rooms and nests of a standing fault: see `omissions.omitted` for how
    many that are.

    join_lower_s, join_upper_s, guest_lower_s, guest_upper_s: the same of each route by itself; NaN where it was not
    asked. signed_in: whether the joiner asks for an authenticated join first and falls back to the guest join.
    """
    table = _with_origin(created(timelines))
    found = _seats(table, signed_in=signed_in)
    for route in ("join", "guest"):
        found = found.join(_layer(table, f"api:{route}")[["lower_s", "upper_s"]].add_prefix(f"{route}_"))
    found = found.join(_relays(table)).fillna({"relays": ""})
    found["host"] = found["target"].map({url: _host(url) for url in found["target"].unique()}).astype("str")
    found["hour"] = found["origin_at"].dt.hour.astype("int64")
    wanted = ["unit", "nest", "vantage", *_ENDS, "origin_at", "host", "relays", "hour", *_ROUTE_ENDS]
    return found[wanted].sort_values(["origin_at", "unit", "vantage"], ignore_index=True)


def created(timelines: pd.DataFrame) -> pd.DataFrame:
    """The rows of nests that were made and that time opens, not of edits of older rooms nor of standing faults: what
    delays of new nests are made of."""
    return timelines[~(edited(timelines) | kept_shut(timelines))]


def kept_shut(timelines: pd.DataFrame) -> Flags:
    """Which rows are of a standing fault; none of a frame without the column STANDING."""
    if STANDING not in timelines:
        return np.zeros(len(timelines), dtype=bool)
    return np.asarray(timelines[STANDING] != "", dtype=bool)


def edited(timelines: pd.DataFrame) -> Flags:
    """Which rows are of edits of older rooms; none of a frame that does not tell origins' kinds."""
    if "origin_kind" not in timelines:
        return np.zeros(len(timelines), dtype=bool)
    return equals(timelines["origin_kind"], EDIT)


def seat_intervals(timelines: pd.DataFrame) -> pd.DataFrame:
    """lower_s, upper_s and gone_lower_s of `joinable`, by signed_in, unit and vantage, unsorted."""
    table = _with_origin(timelines)
    found = pd.concat([_seats(table, signed_in=signed_in).assign(signed_in=signed_in) for signed_in in (True, False)])
    return found.set_index(["signed_in", "unit", "vantage"])[["lower_s", "upper_s", "gone_lower_s"]]


def _with_origin(timelines: pd.DataFrame) -> pd.DataFrame:
    """The rows that have an origin, each with its unit, and numbered by unit and vantage."""
    table = timelines.loc[timelines["origin_at"].notna() & timelines["upper_s"].notna(), _READ]
    unit, units = lines_of(table)
    return table.assign(unit=pd.array(units[unit], dtype="str")).set_index(paired(unit, codes_of(table["vantage"])[0]))


def _seats(table: pd.DataFrame, *, signed_in: bool) -> pd.DataFrame:
    """The rows of the token's layer, their ends those of when it could be used: the earlier of those asked."""
    layers = [_layer(table, f"api:{route}") for route in (("join", "guest") if signed_in else ("guest",))]
    found = pd.concat(layers)
    found = found[~found.index.duplicated()]
    lower, upper, seen_until, *gone = np.transpose([layer[_ENDS].reindex(found.index) for layer in layers], (2, 0, 1))
    signal = _layer(table, "livekit:signal")
    signal = signal[np.isfinite(signal["lower_s"]) & ~signal["left_censored"]].reindex(found.index)
    gone_lower, gone_upper = (np.where(np.isnan(upper), -_INF, end).max(axis=0) for end in gone)  # NaN: one is there
    return found.assign(
        lower_s=np.fmax(np.fmin.reduce(lower), signal["lower_s"]),
        upper_s=np.fmax(np.fmin.reduce(upper), signal["upper_s"]),
        seen_until_s=np.fmax.reduce(seen_until),
        gone_lower_s=gone_lower,
        gone_upper_s=gone_upper,
    )


def nests_in(delays: pd.DataFrame) -> int:
    """How many nests the rows of `joinable` are of: one that was watched under several traces is one."""
    return int(delays["nest"].where(delays["nest"] != "", delays["unit"]).nunique())


def _layer(table: pd.DataFrame, layer: str) -> pd.DataFrame:
    """The rows of one layer that prove something."""
    return table[(table["layer"] == layer) & (table["polls"] > 0)]


def _relays(table: pd.DataFrame) -> pd.Series:
    """Those watched, sorted, one space between; by the table's numbers."""
    layers = table.loc[table["layer"].str.startswith("relay:"), "layer"].str.removeprefix("relay:")
    code, names = pd.factorize(layers, sort=True)
    index, of = np.unique(layers.index, return_inverse=True)
    of, code = np.divmod(np.unique(of * len(names) + code), max(len(names), 1))
    codes, ends = code.tolist(), np.searchsorted(of, np.arange(len(index) + 1)).tolist()
    together = [tuple(codes[begin:end]) for begin, end in pairwise(ends)]
    words = {some: " ".join(names[[*some]]) for some in set(together)}  # few, of however many nests
    return pd.Series([words[some] for some in together], index=index, dtype="str", name="relays")


def among(
    timelines: pd.DataFrame,
    *,
    window: tuple[pd.Timestamp, pd.Timestamp] | None = None,
    host: str | Collection[str] = (),
) -> pd.DataFrame:
    """The rows of nests made in [start, end) and asked for at one of these API hosts (`HOST:PORT`); none named: all.

    An edit of an older room belongs to when it was made, not to when its room was.
    """
    hosts = {host} if isinstance(host, str) and host else set(host)
    keeps = pd.Series(True, index=timelines.index)
    if window is not None:
        made = made_at(timelines)
        keeps &= (made >= window[0]) & (made < window[1])
    if hosts:
        unit, _ = lines_of(timelines)
        named = {url: _host(url) in hosts for url in timelines["target"].unique()}
        asked = timelines["layer"].str.startswith("api:") & timelines["target"].map(named).astype(bool)
        keeps &= np.isin(unit, unit[asked])
    return timelines[keeps]


def made_at(timelines: pd.DataFrame) -> pd.Series:
    """Per row the instant by which its nest belongs to a window: its origin, of an edit the edit's; NaT for none."""
    edits = edited(timelines)
    return timelines["origin_at"].where(~edits, timelines["event_at"]) if edits.any() else timelines["origin_at"]


def _host(url: str) -> str:
    try:
        return urlsplit(url).netloc
    except ValueError:
        return ""


def round_trip_s(observations: pd.DataFrame, host: str | Collection[str] = ()) -> float:
    """The median time from sending an info, join or guest request to its whole answer, seconds; 0 when none came.

    Only answers that prove something count: a timeout is no round trip. host: only of these API hosts; none named: all.
    """
    return median_s(round_trips(observations, host))


def round_trips(observations: pd.DataFrame, host: str | Collection[str] = (), mine: Flags | None = None) -> Floats:
    """What `round_trip_s` is the median of, ns. mine: which rows count; None: all."""
    outcome = observations["outcome"]
    proven = equals_any(outcome, (Outcome.VISIBLE, Outcome.ABSENT))
    proven &= observations["received_at"].notna().to_numpy(bool)
    chosen = np.flatnonzero(asked_at(observations, host) & proven & (True if mine is None else mine))
    those = observations[["sent_at", "received_at"]].iloc[chosen]
    return np.asarray((those["received_at"] - those["sent_at"]).astype("float64"), dtype=np.float64)


def median_s(trips: Floats) -> float:
    """The median of these, seconds; 0 of none."""
    return float(np.median(trips / SECOND_NS)) if len(trips) else 0.0


def asked_at(observations: pd.DataFrame, host: str | Collection[str] = ()) -> Flags:
    """Which rows are info, join or guest requests, to these API hosts (`HOST:PORT`); none named: to any."""
    operation = observations["operation"]
    asked = equals(observations["source"], Source.API) & equals_any(operation, _ASKS)
    if hosts := {host} if isinstance(host, str) and host else set(host):
        code, urls = codes_of(observations["target"])
        asked &= np.array([*(_host(url) in hosts for url in urls), False])[code]
    return np.asarray(asked, dtype=bool)


def deployments(observations: pd.DataFrame, host: str | Collection[str] = ()) -> tuple[str, ...]:
    """Whose nests joins asked for: the API hosts, sorted; of a lab, which says so, `lab:` and the scenario. host: only
    of these API hosts; none named: all."""
    return named_deployments(asked_of(observations, host))


def asked_of(
    observations: pd.DataFrame, host: str | Collection[str] = (), mine: Flags | None = None
) -> dict[tuple[str, str], int]:
    """What `deployments` is made of: (target, software) of what joins asked, and when each was first asked, ns. mine:
    which rows count; None: all."""
    chosen = asked_at(observations, host) & (True if mine is None else mine)
    asked = observations.loc[chosen, ["target", "software"]].astype("str")
    asked = asked.assign(sent=instants_of(observations["sent_at"])[0][chosen])
    first = asked.sort_values("sent", kind="stable").drop_duplicates(["target", "software"])
    return {(str(url), str(name)): int(at) for url, name, at in first.itertuples(index=False)}


def named_deployments(asked: Mapping[tuple[str, str], int]) -> tuple[str, ...]:
    """What `deployments` says of these. Of a lab that said several names, the last."""
    said = sorted(asked, key=lambda pair: (asked[pair], pair))
    labs = {_host(url): f"lab:{name.removeprefix(LAB)}" for url, name in said if name.startswith(LAB)}
    names = {labs.get(host, host) for host in (_host(url) for url, _ in said)} - {""}
    return tuple(sorted("".join(c for c in name if c.isprintable()) for name in names))


def blocks(delays: pd.DataFrame) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], BlockKind]:
    """A block for each row of `joinable`, and what makes one: nests of one day and host share their fate.

    Where that makes fewer than LEAST_BLOCKS, hours stand for days, and then nests for hours. All vantages of a nest are
    in one block.
    """
    first = delays.groupby("unit")[["origin_at", "host"]].transform("min")
    day, hour = first["origin_at"].dt.strftime("%Y-%m-%d"), first["origin_at"].dt.strftime("%Y-%m-%d %H")
    kinds: list[tuple[BlockKind, pd.Series]] = [
        ("day and host", day + " " + first["host"]),
        ("hour and host", hour + " " + first["host"]),
    ]
    for kind, label in kinds:
        if label.nunique() >= LEAST_BLOCKS:
            return pd.factorize(label)[0].astype(np.int64), kind
    return pd.factorize(delays["unit"])[0].astype(np.int64), "nest"
