"""Capacity on paper: what a nest costs, what many vantages and a million nests a day cost, and what breaks first.

    python -m benchmarks.capacity --planned     # what follows from the code alone, as in docs/capacity.md: at once
    python -m benchmarks.capacity               # and what is measured here, and the costs by that: some ten minutes

Requests, questions and rows of a nest are computed from the plans, shares and limits of the code itself, and how many
nests a budget pays by running its limiter over a day. Bytes, processor time and memory are measured: by vantages that
watch nests of a lab in processes of their own, whose requests and rows are held against what was computed (exit code 1
where they differ by more than chance), and on synthetic stores of rows like theirs (capacity_measured.py).
"""

import argparse
import heapq
import json
import platform
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nestobs.collector.canary import SIGNAL_POLLS
from nestobs.collector.fleet import nests as own
from nestobs.collector.fleet.settings import JOINERS, Fleet
from nestobs.collector.polling import (
    API_LAYERS,
    CLIENT_LOADS,
    DEEDS,
    EXPONENT,
    HORIZON_S,
    LEAST_JOIN_REQUESTS,
    RELAY_POLLS,
    Plan,
    fit,
)
from nestobs.collector.watch import (
    FOLLOW_S,
    LEAST_POLLS,
    MOST_FROM_ONE,
    MOST_POLLS,
    REMEMBERED,
    polls_paid,
)
from nestobs.collector.watch import RELAY_POLLS as WATCH_POLLS
from nestobs.join.budget import DEFAULT_REQUESTS, DEFAULT_WINDOW_S, Limiter
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.relay.flood import _kinds

RELAYS = 5
"""The client's selected one and its four presets."""

DAY_S, MONTH = 86_400, 30
HOUR_S = 3_600.0
SPACINGS_S = (3_600.0, 600.0, 60.0, 10.0)
SCALES = ((1, 1_000), (1, 1_000_000), (100, 1_000_000), (10_000, 1_000_000))
LEAST_REQUESTS, MOST_REQUESTS = 2 * LEAST_POLLS, 2 * MOST_POLLS
PUSH_ROWS = 2
"""A pushed event is a row, and one of when it was not there yet, where its relay was silent before."""

LOOKS = 1
RELAY_ROWS = LOOKS + WATCH_POLLS + PUSH_ROWS


def expected(polls: int, begun_s: float, horizon_s: float = FOLLOW_S) -> float:
    """How many of so many polls are still to come when asking begins at this age, on average over their phase."""
    return polls - polls * (min(begun_s, horizon_s) / horizon_s) ** (1 / EXPONENT)


@dataclass(frozen=True)
class Steady:
    """What a budget pays when a nest comes every so many seconds, an hour of a day on average."""

    spacing_s: float
    asked: float
    requests: float


def steady(spacing_s: float) -> Steady:
    """Run the limiter of a watch over a day, with its own plans."""
    limiter, rng = Limiter(), random.Random(1)
    due: list[int] = []
    asked = requests = 0
    for number in range(round(DAY_S / spacing_s)):
        now = SECOND_NS + round(number * spacing_s * SECOND_NS)
        while due and due[0] <= now:
            requests += limiter.take(heapq.heappop(due))
        if polls := polls_paid(limiter.left(now, bursts=False)):
            asked += 1
            for _ in range(2):
                for age_s in Plan(polls, FOLLOW_S, 3).ages_s(rng):
                    heapq.heappush(due, now + round(age_s * SECOND_NS))
    while due:
        requests += limiter.take(heapq.heappop(due))
    hours = DAY_S / HOUR_S
    return Steady(spacing_s, asked / hours, requests / hours)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """As Markdown."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def of_a_nest() -> str:
    """Requests, questions and rows of one nest, by who observes it, at the limit of the Nests API."""
    both = Fleet(host="", joiners=JOINERS["both"])
    fleet, host = own.plan(both, DEFAULT_REQUESTS), fit(DEFAULT_REQUESTS, 1)
    joins = len(both.joiners)
    fleet_requests = joins * fleet.join_requests + API_LAYERS * fleet.polls
    host_requests = DEEDS + joins * host.join_requests + API_LAYERS * host.polls
    fleet_relay = min(RELAY_POLLS, both.polls)
    rich = fit(1_000_000, 1)
    rich_requests = DEEDS + joins * rich.join_requests + API_LAYERS * rich.polls
    alone = polls_paid(DEFAULT_REQUESTS)
    rows = [
        (
            f"`watch`, a nest of others, {FOLLOW_S:g} s",
            f"{2 * alone} where it is alone, {LEAST_REQUESTS} to {MOST_REQUESTS}",
            WATCH_POLLS + LOOKS,
            0,
            f"{RELAYS * RELAY_ROWS + LEAST_REQUESTS} to {RELAYS * RELAY_ROWS + MOST_REQUESTS}",
        ),
        (
            f"`watch --host --join both`, {HORIZON_S:g} s",
            fleet_requests,
            fleet_relay,
            joins,
            f"{RELAYS * (fleet_relay + PUSH_ROWS) + CLIENT_LOADS + fleet_requests} and those of its joins",
        ),
        (
            f"`canary`, {HORIZON_S:g} s",
            f"{host_requests} ({rich_requests} where the API allows them)",
            RELAY_POLLS,
            f"{joins}, and its host's seat ({SIGNAL_POLLS} tries)",
            f"{RELAYS * (RELAY_POLLS + PUSH_ROWS) + CLIENT_LOADS + host_requests} and those of its joins and deeds",
        ),
    ]
    return table(
        ("one nest, one vantage", "requests at the API", "questions to each relay", "LiveKit joins", "rows at most"),
        rows,
    )


def of_an_hour() -> str:
    """How many nests an hour the standing limit pays."""
    rows = []
    for spacing_s in SPACINGS_S:
        found = steady(spacing_s)
        nests = HOUR_S / spacing_s
        share = found.requests / found.asked if found.asked else 0.0
        rows.append((f"{nests:g}", f"{found.asked:.0f}", f"{share:.1f}", f"{found.requests:.0f}"))
    head = ("nests an hour", "of which the API is asked about", "requests for each of these", "requests an hour")
    return table(head, rows)


@dataclass(frozen=True)
class Bound:
    """Something that ends. day: nests a day that one vantage bears of it; what: in words."""

    what: str
    day: float


def bounds() -> list[Bound]:
    """What the code allows one vantage, the tightest first."""
    requests_a_day = DEFAULT_REQUESTS * DAY_S / DEFAULT_WINDOW_S
    pushed = _kinds()["pushed events"].rate
    found = [
        Bound(
            f"the API's limit ({DEFAULT_REQUESTS} requests in {DEFAULT_WINDOW_S:g} s and address), "
            f"{MOST_REQUESTS} requests for each nest",
            requests_a_day / MOST_REQUESTS,
        ),
        Bound(f"the same, {LEAST_REQUESTS} requests for each: more are seen, and not asked about",
              requests_a_day / LEAST_REQUESTS),
        Bound(
            f"nests followed at a time that one relay was the first to bring ({MOST_FROM_ONE}), {RELAYS} relays:"
            " more are seen, and not followed",
            RELAYS * MOST_FROM_ONE * DAY_S / FOLLOW_S,
        ),
        Bound(f"events that one relay may push for good ({pushed:g} a second): it is cut off", pushed * DAY_S),
        Bound(f"nests that a watch knows ({REMEMBERED:,}), while it follows them", REMEMBERED * DAY_S / FOLLOW_S),
    ]  # fmt: skip  # one bound a paragraph
    return sorted(found, key=lambda each: each.day)


def of_bounds() -> str:
    """The bounds as a table."""
    return table(("what ends first for one vantage", "nests a day"), [(b.what, f"{b.day:,.0f}") for b in bounds()])


def planned() -> str:
    """All that follows from the code alone."""
    return "\n\n".join((of_a_nest(), of_an_hour(), of_bounds()))


@dataclass(frozen=True)
class Rates:
    """What was measured. Bytes of a row, sealed and in the journal; memory of reading a row whole (bytes), and rows
    scanned a second; processor seconds of a row of a relay and of a request at the API."""

    sealed_bytes: float
    journal_bytes: float
    read_bytes: float
    read_rows_per_s: float
    relay_row_s: float
    request_s: float


def costs(rates: Rates) -> str:
    """What so many vantages cost when so many nests a day come."""
    most = RELAYS * MOST_FROM_ONE * DAY_S / FOLLOW_S
    budget = DEFAULT_REQUESTS * DAY_S / DEFAULT_WINDOW_S
    rows = []
    for vantages, nests in SCALES:
        followed = min(nests, most)
        requests = min(budget, followed * MOST_REQUESTS)
        of_relays = RELAYS * (followed * (LOOKS + WATCH_POLLS) + nests * PUSH_ROWS)
        each = of_relays + requests
        size = vantages * each * rates.sealed_bytes
        cores = (of_relays * rates.relay_row_s + requests * rates.request_s) / DAY_S
        rows.append(
            (
                f"{vantages:,} and {nests:,}",
                f"{followed:,.0f}",
                _short(vantages * each),
                _bytes(size),
                _bytes(MONTH * size),
                _short(vantages * requests),
                f"{vantages * followed * (LOOKS + WATCH_POLLS) / DAY_S:,.1f}",
                _short(vantages * min(followed, requests / (LEAST_REQUESTS + LEAST_JOIN_REQUESTS - 1))),
                f"{cores:.2f}",
            )
        )
    head = (
        "vantages, and nests a day", "followed a day", "rows a day", "bytes a day", "bytes in 30 days",
        "requests a day", "questions a second to each relay", "LiveKit joins a day at most (`--join guest`)",
        "cores a vantage",
    )  # fmt: skip  # a row of the table
    return table(head, rows)


def measured_bounds(rates: Rates) -> str:
    """What the machine bears, by what was measured on it."""
    nest_s = RELAYS * RELAY_ROWS * rates.relay_row_s
    rows = [
        ("one core's loop: nests a day that it follows at five relays", f"{DAY_S / nest_s:,.0f}"),
        ("the same, of API requests a second", f"{1 / rates.request_s:,.0f}"),
        ("memory of reading a day of 10 M rows whole (`Store.frame`)", f"{10e6 * rates.read_bytes / 2**30:.1f} GiB"),
        ("a month of 300 M rows, scanned (`Store.scan`)", f"{300e6 / rates.read_rows_per_s / 60:.0f} min"),
        ("the same, on the disk or in a bucket", f"{300e6 * rates.sealed_bytes / 2**30:.0f} GiB"),
        ("a row in the journal, before it is sealed", f"{rates.journal_bytes:.0f} B"),
        ("a row as it is sealed and shipped", f"{rates.sealed_bytes:.0f} B"),
    ]
    return table(("measured", "here"), rows)


def _short(number: float) -> str:
    """Two digits and a unit."""
    for unit in ("", "k", "M", "G", "T"):
        if abs(number) < 999.5:
            return f"{number:.3g} {unit}".rstrip()
        number /= 1_000
    return f"{number:.3g} P"


def _bytes(number: float) -> str:
    short = _short(number)
    return f"{short}B" if short[-1].isalpha() else f"{short} B"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--planned", action="store_true", help="only what follows from the code")
    parser.add_argument("--nests", type=int, default=150, help="nests that the lab's vantages watch")
    parser.add_argument("--vantages", type=int, default=4)
    parser.add_argument("--rows", type=int, default=10_000_000, help="of the synthetic store")
    given = parser.parse_args()
    print(planned(), flush=True)
    if given.planned:
        return 0
    from benchmarks import capacity_measured as measured

    began = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}"
    print(f"\nmeasured {began}, {measured.machine()}\n", flush=True)
    found, agree = measured.measure(given.nests, given.vantages, given.rows)
    print(json.dumps(found, indent=2))
    rates = Rates(**found["rates"])
    print(f"\n{measured_bounds(rates)}\n\n{costs(rates)}")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
