"""Metrics for Prometheus: what a store tells of its deployment and of who observed it, as a scrape.

    metrics = Metrics(folder, relays=own, budgets=folder_of_budgets)
    metrics.scrape() -> bytes     the text that Prometheus reads: for whatever serves /metrics, as CONTENT_TYPE

Counters are counted from the store: each row of it once, from the first, whoever wrote it. So they are the same in
every process and after each restart, and never go down while the store stays. Until a large store has been read for the
first time a scrape has no counters, and `nestobs_caught_up` is 0: a counter that grows because old rows are being read
would look like news. A scrape reads what has come since the last one, for READ_S at most, and keeps no row of it but
those of the last minutes' nests. docs/metrics.md is the table of all metrics.
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from nestobs.collector.shared_budget import budgets_in
from nestobs.diagnosis.causes import Cause
from nestobs.diagnosis.rules import RULES
from nestobs.errors import StoreError, UsageError
from nestobs.exports.tally import ATTEMPT, HORIZON_S, OWN_FAULT, RESULTS, Histogram, Tally
from nestobs.join.budget import host_and_port
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Role
from nestobs.sources.clock import Clock
from nestobs.store.follow import Whole
from nestobs.timeline.intervals.polls import HELD_UP_S
from nestobs.timeline.joins import KINDS

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

READ_S: Final = 5.0
"""A scrape reads for so long at most: Prometheus waits for 10 s, unless it is told otherwise."""

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Of what `scrape` gives."""

_STORE: Final = "Counted from the rows of the store, each once."
_OBSERVER: Final = {
    "attempts": "Requests to relays, API and LiveKit: those of the plan, where there is one.",
    "held_up": f"Attempts during which the observing machine itself stood still for {HELD_UP_S:g} s, or slept.",
    "skipped": "Attempts that were planned and not made, for being too late.",
    "late": f"Attempts that were sent {HELD_UP_S:g} s after their time or later, which widens intervals.",
    "clock_steps": "How often the clock of the observing machine was stepped.",
    "sleeps": "How often the observing machine slept.",
}

_Samples = Iterable[tuple[tuple[str, ...], float]]


class Metrics(Collector):
    """The metrics of one store, in a registry of their own. Several threads may scrape them.

    relays: those of the operator, which have labels of their own beside the first ones of others. budgets: the folder
    of the request budgets that the processes of this machine share; told are those of `apis`, URLs of the operator, and
    of the APIs that the store's own rows asked.
    """

    def __init__(
        self, store: Path | str, *, relays: Iterable[str] = (), apis: Iterable[str] = (), budgets: Path | None = None
    ) -> None:
        self.registry = CollectorRegistry()
        self._whole, self._tally, self._budgets = Whole(store), Tally(relays), budgets
        self._apis = frozenset(map(host_and_port, apis))
        self._clock, self._lock, self._failed = Clock(), threading.Lock(), False
        self.registry.register(self)

    def scrape(self) -> bytes:
        """All of it in Prometheus' text format. A store that is not there or cannot be read is `nestobs_store_up 0`."""
        return generate_latest(self.registry)

    def write(self, path: Path) -> None:
        """The same as a file, for the textfile collector of node_exporter; whole, in place of the one before.

        Raises StoreError where it cannot be written.
        """
        try:
            write_to_textfile(str(path), self.registry)
        except OSError as error:
            why = error.strerror or error
            raise StoreError(f"{path} cannot be written ({why}): name a file in a folder that you may write") from None

    def listen(self, host: str, port: int) -> WSGIServer:
        """Serve scrapes there from a thread of its own; 0 is any free port. Close it by `shutdown`.

        Raises UsageError where nothing can listen.
        """
        try:
            server, _ = start_http_server(port, host, registry=self.registry)
        except OSError as error:
            why = error.strerror or error
            raise UsageError(f"nothing can listen at {host}:{port} ({why}): give --listen another address") from None
        return server

    def advance(self, most_s: float = READ_S) -> bool:
        """Read what is new, for so long at most; whether nothing is left to read. Without a store there is nothing.

        Raises StoreError for a store that cannot be read, and for a folder that will never be one.
        """
        with self._lock:
            return self._read(most_s)

    def collect(self) -> Iterator[Metric]:
        """Read what is new, and give all of it."""
        with self._lock:
            try:
                self._read(READ_S)
                rows = float("nan") if self._whole.store is None else float(self._whole.store.count())
                self._failed = False
            except StoreError:
                self._failed, rows = True, float("nan")
            up = self._whole.store is not None and not self._failed
            found = [*self._state(rows, up=up), *self._of_budgets()]
            if up and self._whole.level:
                found += [*self._counts(), *self._of_nests(), *self._observers()]
        return iter(found)

    def _read(self, most_s: float) -> bool:
        until = self._clock.now() + round(most_s * SECOND_NS)
        for part, upto in self._whole.read(until, self._clock.now):
            self._tally.fold(part, upto)
        if self._whole.level:
            self._tally.settle(self._clock.now())
        return self._whole.level or self._whole.store is None

    # families

    def _state(self, rows: float, *, up: bool) -> Iterator[Metric]:
        build = ((version("nestobs"), platform.python_version()), 1.0)
        yield _gauge("build_info", "Versions; always 1.", ("version", "python"), [build])
        yield _gauge("store_up", "Whether the store is there and can be read.", (), [((), float(up))])
        level = up and self._whole.level
        text = "Whether all rows of the store are counted. While they are not, no counter is told."
        yield _gauge("caught_up", text, (), [((), float(level))])
        if up:
            yield _gauge("store_rows", "Rows in the store, sealed or not.", (), [((), rows)])
        at = self._tally.newest_at
        text = "When the newest row was sent. A collector at work writes a row a minute, even when nothing happens."
        yield _gauge("last_row_timestamp_seconds", text, (), [] if at is None else [((), at / SECOND_NS)])

    def _of_budgets(self) -> Iterator[Metric]:
        now = self._clock.now()
        found = {} if self._budgets is None else budgets_in(self._budgets, self._apis | self._tally.apis, now)
        shut = {api: at / SECOND_NS if (at := one.opens_at(now)) > now else 0.0 for api, one in found.items()}
        told: dict[str, tuple[str, Mapping[str, float]]] = {
            "remaining_requests": (
                "Requests to the API that may be sent now, by all processes of this machine together.",
                {api: one.left(now) for api, one in found.items()},
            ),
            "limit_requests": (
                "Requests to the API that nestobs allows itself in a window: four fifths of what the server allows.",
                {api: one.allowed for api, one in found.items()},
            ),
            "window_seconds": ("The window of that limit.", {api: one.window_s for api, one in found.items()}),
            "shut_until_timestamp_seconds": ("When the next request may be sent; 0: at once.", shut),
        }
        for name, (text, values) in told.items():
            yield _gauge(f"budget_{name}", text, ("api",), [((api,), float(value)) for api, value in values.items()])

    def _counts(self) -> Iterator[Metric]:
        tally = self._tally
        yield _counter("rows", f"Rows that are counted. {_STORE}", (), [((), tally.rows)])
        text = "Attempts by what came of them; failure is empty where there was none, layer where it speaks of none."
        yield _counter("observations", f"{text} {_STORE}", ATTEMPT, tally.attempts.items())
        every = [
            (verdict, role.value)
            for verdict in (*KINDS, OWN_FAULT, *_other(tally.joins))
            for role in (Role.JOINER, Role.GUEST)
        ]
        text = "Joins by how they ended: as authenticated, guest or guest_instead, or why not; own_fault: by our doing."
        yield _counter("joins", f"{text} {_STORE}", ("verdict", "role"), [(key, tally.joins[key]) for key in every])
        waits = {str(joined).lower(): held for joined, held in tally.waits.items()}
        text = "How long joins took from arrival to verdict, by whether they got into the room."
        yield _histogram("join_duration_seconds", f"{text} {_STORE}", "joined", waits)

    def _of_nests(self) -> Iterator[Metric]:
        tally = self._tally
        text = (
            "Delay of each nest and vantage, from the nest's origin to when the layer showed it. It lies in an "
            "interval, of which the upper end is counted: no share below an edge is overrated. Those never seen are "
            "not in it: see nestobs_layer_results_total."
        )
        yield _histogram("layer_delay_seconds", text, "layer", tally.delays)
        text = (
            f"What came of each nest and vantage within {HORIZON_S:g} s of the nest's first row: shown (its delay is "
            "counted), not_seen (proven absent), seen_at_once (older than our first look), nothing_proven."
        )
        every = [(layer, result) for layer in tally.delays for result in RESULTS]
        yield _counter("layer_results", text, ("layer", "result"), [(key, tally.results[key]) for key in every])
        text = (
            "The deciding cause of each nest that was joined, by nest and vantage; standing faults do not heal by time."
        )
        yield _counter("causes", text, ("cause", "standing_fault"), _causes(tally))
        text = "Nests that were counted before their time, as too many rows were waiting."
        yield _counter("nests_counted_early", text, (), [((), tally.early)])

    def _observers(self) -> Iterator[Metric]:
        tally = self._tally
        for name, text in _OBSERVER.items():
            samples = [((vantage,), tally.observers[vantage, name]) for vantage in tally.lags]
            yield _counter(f"observer_{name}", f"{text} {_STORE}", ("vantage",), samples)
        text = "The greatest lag of the observer's event loop between two heartbeats, which come once a minute."
        yield _histogram("observer_loop_lag_seconds", text, "vantage", tally.lags)


def _causes(tally: Tally) -> _Samples:
    """Every cause there can be, so that the first of its kind is an increase."""
    for cause in Cause:
        standing = RULES[cause].standing and RULES[cause].fault if cause in RULES else False
        for fault in (False, True) if standing else (False,):
            yield (cause.value, str(fault).lower()), tally.causes[cause.value, fault]


def _other(joins: Iterable[tuple[str, str]]) -> set[str]:
    """Verdicts that no version of ours gives."""
    return {verdict for verdict, _ in joins} - {*KINDS, OWN_FAULT}


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: _Samples) -> Metric:
    family = GaugeMetricFamily(f"nestobs_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], samples: _Samples) -> Metric:
    family = CounterMetricFamily(f"nestobs_{name}", text, labels=labels)
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _histogram(name: str, text: str, label: str, held: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(f"nestobs_{name}", text, labels=[label])
    for value, histogram in held.items():
        family.add_metric([value], histogram.cumulative(), histogram.total)
    return family
