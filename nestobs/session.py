"""What a notebook or script calls: the commands of the command line as functions.

    import nestobs

    store = nestobs.open("nestobs-data")
    report = await nestobs.canary("production", count=3, store=store)
    frame = nestobs.timelines(store)

Targets are named as in nestobs.toml, or given as `nestobs.Target` values. Frames are pandas, instants tz-aware UTC.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from nestobs.collector.canary import Campaign, Report
from nestobs.collector.canary import run as _host
from nestobs.collector.station import Target
from nestobs.config import Config
from nestobs.diagnosis.diagnose import Diagnosis
from nestobs.diagnosis.diagnose import diagnose as _diagnose
from nestobs.diagnosis.priors import measured
from nestobs.errors import UsageError
from nestobs.exports import parts
from nestobs.join.policy import Policy, exponential, named_policy
from nestobs.observation.schema import INSTANTS
from nestobs.store.partitions import opened
from nestobs.store.reader import Store
from nestobs.timeline import intervals as timeline
from nestobs.timeline.delays import among, median_s, named_deployments
from nestobs.timeline.delays import joinable as delays_that_count
from nestobs.timeline.joins import ORDER as JOIN_ORDER
from nestobs.timeline.nests import named, nests_of
from nestobs.tuning.costs import Prices
from nestobs.tuning.decisions import Allowance
from nestobs.tuning.recommendation import Recommendation
from nestobs.tuning.replay import DRAWS, PRICES
from nestobs.tuning.threshold import COST_RATIO

if TYPE_CHECKING:
    import pandas as pd

    from nestobs.tuning.herd import Herd, Joinable


def open(store: Path | str = "nestobs-data") -> Store:
    """The store in this folder, made when it is not there. Raises StoreError with the remedy."""
    return Store.open(store)


def observations(
    store: Store | Path | str,
    *,
    window: tuple[pd.Timestamp, pd.Timestamp] | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Observations, one row an attempt: the columns of `nestobs.observation.COLUMNS`, instants tz-aware UTC.

    window: only what was sent in [start, end), UTC where no offset is given. columns: these alone, in the order of
    COLUMNS; reading fewer is quicker. An empty store gives an empty frame with all columns. Raises StoreError when
    there is no store, UsageError for a column or a window that is none.
    """
    import pandas as pd

    start, end = (None, None) if window is None else (instant.value for instant in _instants(window))
    frame = _opened(store).frame(start=start, end=end, columns=columns)
    return frame.assign(
        **{name: pd.to_datetime(frame[name], unit="ns", utc=True) for name in INSTANTS if name in frame}
    )


def timelines(
    store: Store | Path | str,
    *,
    window: tuple[pd.Timestamp, pd.Timestamp] | None = None,
    columns: Sequence[str] | None = None,
    engine: Executor | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """For each nest, layer and vantage the interval in which it became visible: columns of `nestobs.timeline.SCHEMA`.

    `lower_s`, `upper_s`: seconds since `origin_at`, half-open (lower, upper]; upper is inf when it was not seen.
    window: only nests made in [start, end), UTC where no offset is given. columns: these alone, in the order asked.
    engine: an executor, or "processes", "processes:4", "dask://HOST:PORT", on which parts of a large store are worked
    on; None: here, part by part. progress: told each part. The result is the same on each.

    Raises StoreError when there is no store, UsageError for a column, a window or an engine that is none.
    """
    unknown = sorted(set(columns or ()) - {column.name for column in timeline.SCHEMA})
    if unknown:
        raise UsageError(f"timelines have no column {unknown[0]!r}: see nestobs.timeline.SCHEMA")
    found = parts.together(
        [*timelines_in_parts(store, window=window, engine=engine, progress=progress)], timeline.ORDER
    )
    return found if columns is None else found[list(columns)]


def timelines_in_parts(
    store: Store | Path | str,
    *,
    window: tuple[pd.Timestamp, pd.Timestamp] | None = None,
    engine: Executor | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[pd.DataFrame]:
    """The rows of `timelines`, so many nests at a time as fit in memory, all of a nest together: for what is counted or
    added up, of a store of any size. A small store is one part. Arguments and errors: as of `timelines`."""
    ends = None if window is None else _instants(window)
    return parts.mapped(_opened(store), parts.Timelines(ends), engine, progress)


def joins(
    store: Store | Path | str,
    *,
    engine: Executor | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """One row a real join, and whether what today's clients would have said was true: columns of
    `nestobs.timeline.joins.SCHEMA`. Arguments and errors: as of `timelines`."""
    return parts.together([*parts.mapped(_opened(store), parts.Joins(), engine, progress)], JOIN_ORDER)


def diagnose(store: Store | Path | str, nest: str = "", *, vantage: str = "") -> list[Diagnosis]:
    """Why nests could not be joined: for each nest and vantage its causes, the most deciding first.

    nest: one nest by any of its names, or how one begins; "": all. vantage: from there alone, with what others saw as
    witness; "": from each. What no evidence decides is weighed by how late joins were in this store, where enough were.
    Nothing observed: an empty list. Raises AddressError for a name that is not understood.
    """
    rows = _opened(store).frame(categories=True)
    elsewhere = timeline.elsewhere(rows)
    priors = measured(timeline.timelines(rows, elsewhere=elsewhere))
    about = nests_of(rows)
    if nest:
        wanted = named(nest, rows[["nest", "room"]])
        same = about.texts("room") == wanted if isinstance(wanted, str) else about.texts("nest") == str(wanted)
        rows = rows[same | (about.unit < 0)]
    found = _diagnose(rows, priors=priors, elsewhere=elsewhere)
    return [each for each in found if vantage in ("", each.vantage)]


def tune(
    observed: Store | Path | str | pd.DataFrame,
    *,
    window: tuple[pd.Timestamp, pd.Timestamp] | None = None,
    host: str | Collection[str] = (),
    arrivals: ArrayLike | None = None,
    signed_in: bool = True,
    prices: Prices = PRICES,
    allowance: Allowance | None = None,
    cost_ratio: float = COST_RATIO,
    rng: np.random.Generator | None = None,
    draws: int = DRAWS,
    engine: Executor | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Recommendation:
    """A defended message threshold, give-up age and polling policy from what was observed.

    observed: a store, its folder, or a frame of `timelines`, which does not tell how many requests fail, nor of which
    nests a standing fault was the matter (those of a store are left out, counted and named). window: only
    nests made in [start, end). host: only those of these API hosts (`HOST:PORT` as in the URL). arrivals: ages at which
    people ask, seconds; None: evenly from 0 to 30 s (the store's own joins come when the collector wants, and say
    nothing of people). engine: as of `timelines`; resamples are fitted there, too. The rest is as for
    `tuning.tuner.recommend`. Raises TooLittleDataError that says how much more is needed.
    """
    from nestobs.tuning.tuner import recommend

    window = None if window is None else _instants(window)
    with opened(engine) as executor:
        if isinstance(observed, Store | Path | str):
            seen = seen_in(observed, window=window, host=host, sent=window, engine=executor, progress=progress)
            table, told = seen.timelines, _told(seen)
        else:
            table = among(observed, window=window, host=host)
            told = {"round_trip_s": 0.0, "failures": None, "deployments": ()}
        return recommend(
            table,
            arrivals=arrivals,
            signed_in=signed_in,
            prices=prices,
            allowance=allowance,
            cost_ratio=cost_ratio,
            rng=rng,
            draws=draws,
            executor=executor,
            progress=progress,
            **told,
        )


def seen_in(
    store: Store | Path | str,
    *,
    window: tuple[pd.Timestamp, pd.Timestamp] | None = None,
    host: str | Collection[str] = (),
    sent: tuple[pd.Timestamp, pd.Timestamp] | None = None,
    engine: Executor | str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> parts.Seen:
    """What `tune` takes of a store: of nests made in the window and asked for at these hosts, and of requests sent in
    `sent`, None for all. Arguments and errors: as of `timelines`."""
    task = parts.ToTune(window, host if isinstance(host, str) else tuple(host), sent)
    return parts.Seen.joined(parts.mapped(_opened(store), task, engine, progress))


def _told(seen: parts.Seen) -> dict[str, Any]:
    """What a recommendation takes beside timelines."""
    return {
        "round_trip_s": median_s(seen.trips),
        "failures": seen.counted.failures(),
        "deployments": named_deployments(seen.asked),
    }


def herd(
    policy: Policy | str,
    joiners: int,
    *,
    arrivals: str | Sequence[float] = "uniform(30s)",
    joinable: str | Path | Store = "5s",
    behind: str = "1",
    requests: int = 100,
    window_s: float = 900.0,
    retry_after: bool = True,
    signed_in: bool = True,
    round_trip_s: float = 0.02,
    seed: int = 0,
    most: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Herd:
    """What an API that counts by address sees of `joiners` people under a policy, and what becomes of them.

    policy: a Policy, or a name such as "fixed(2)". arrivals: a law such as "decay(60s)", or ages in seconds, of which
    each is as likely. joinable: an age or a law, in words; or a store or its folder, whose delays are the law. behind:
    people per address, "20" or a mix such as "1:60%,20:40%". For these words see `nestobs.tuning.herd.laws`. requests,
    window_s, retry_after: what the API allows an address, and whether its 429 says when to ask again. The rest is as
    for `nestobs.tuning.herd.herd`. Raises UsageError for what is no law or out of bounds.
    """
    from nestobs.tuning import herd as _herd

    come = _herd.arrivals_of(arrivals) if isinstance(arrivals, str) else _herd.arrivals_among(list(arrivals))
    words = isinstance(joinable, str)
    return _herd.herd(
        named_policy(policy) if isinstance(policy, str) else policy,
        joiners,
        come,
        _herd.joinable_of(str(joinable)) if words else _delays_of(_opened(joinable), signed_in=signed_in),
        behind=_herd.behind_of(behind),
        limit=_herd.Limit(requests, window_s, retry_after),
        signed_in=signed_in,
        round_trip_s=round_trip_s,
        seed=seed,
        most=_herd.PLAYED if most is None else most,
        executor=executor,
        progress=progress,
    )


def _delays_of(store: Store, *, signed_in: bool) -> Joinable:
    """When the nests of a store could be joined, smoothed. Raises TooLittleDataError for none."""
    from nestobs.estimate.npmle import npmle
    from nestobs.tuning.herd import Joinable
    from nestobs.tuning.tuner import TooLittleDataError

    delays = delays_that_count(seen_in(store).timelines, signed_in=signed_in)
    if not len(delays):
        raise TooLittleDataError("the store has no nest of which it is known when it could be joined: watch some first")
    law = npmle(delays["lower_s"], delays["upper_s"]).smooth()
    return Joinable(f"as the {law.n} rows of the store", law.quantile, chance=True)


async def canary(
    target: Target | str | None = None,
    *,
    also: tuple[Target | str, ...] = (),
    count: int = 1,
    store: Store | Path | str = "nestobs-data",
    policy: Policy | None = None,
    horizon_s: float = 90.0,
    stagger_s: float = 1.0,
    seed: int | None = None,
    config: Path | None = None,
) -> Report:
    """Make `count` nests, watch and join them, clean up; the report. `also`: further targets, each a vantage more.

    Raises what `nestobs canary` would say in one sentence: a NestobsError.
    """
    settings = Config(config)
    targets = [each if isinstance(each, Target) else settings.target(each) for each in (target, *also)]
    name = targets[0].name
    return await _host(
        targets,
        Campaign(count=count, policies=(policy or exponential(),), horizon_s=horizon_s, stagger_s=stagger_s),
        store=store if isinstance(store, Store) else Store.open(store),
        keyring=settings.keyring(name),
        budget=settings.budget(),
        rng=random.Random(seed),
    )


def _instants(window: tuple[pd.Timestamp, pd.Timestamp]) -> tuple[pd.Timestamp, pd.Timestamp]:
    """Both ends of a window in UTC, however they are written. Raises UsageError."""
    import pandas as pd

    try:
        start, end = (pd.Timestamp(each) for each in window)
        ends = tuple(each.tz_localize("UTC") if each.tz is None else each.tz_convert("UTC") for each in (start, end))
    except (TypeError, ValueError) as error:
        raise UsageError(f"a window is (START, END), two instants, as pandas.Timestamp takes them: {error}") from None
    if pd.isna(start) or pd.isna(end) or ends[1] < ends[0]:
        raise UsageError("a window is (START, END), two instants, the second not before the first")
    return ends[0], ends[1]


def _opened(store: Store | Path | str) -> Store:
    return store if isinstance(store, Store) else Store.open(store, create=False)
