"""Where the observer was held up, starved or clock-stepped, each page says so above everything, and judges nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Source
from nestobs.reports import daily, demo, incident, joins, propagation, tuning, vantages
from nestobs.reports.answer import Answer
from nestobs.reports.display import Text
from worlds.stored_nests import NOON, drawn, nest_rows, store_of

pytestmark = pytest.mark.slow

NESTS = 40


def held(rows: Iterator[Observation], every: int) -> Iterator[Observation]:
    """Of so many rows one ran while the loop stood still."""
    yield from (replace(row, loop_lag_s=2.0) if number % every == 0 else row for number, row in enumerate(rows))


def late(rows: Iterator[Observation], every: int) -> Iterator[Observation]:
    """All were planned, and of so many one was sent too late."""
    behind = {0: 3 * SECOND_NS}
    yield from (replace(row, planned_at=row.sent_at - behind.get(k % every, 0)) for k, row in enumerate(rows))


def noted(kind: Failure, *, size_s: float, times: int) -> Iterator[Observation]:
    """What a vantage notes of its own machine, between the nests."""
    for number in range(times):
        at = NOON + round((number * 60 + 55) * SECOND_NS)
        yield Observation(
            observation_id=f"{kind}-{number}", run_id="run", vantage="here", source=Source.CLOCK, target="",
            operation=Operation.STEP, outcome=Outcome.PROBE_ERROR, sent_at=at, received_at=at, failure=kind,
            reason=str(kind), detail=detail(size_s=size_s),
        )  # fmt: skip


def nests() -> Iterator[Observation]:
    return nest_rows(*drawn(NESTS))


RUNS: dict[str, tuple[Callable[[], list[Iterator[Observation]]], str, bool]] = {
    "sound": (lambda: [nests()], "", False),
    "held up now and then": (lambda: [held(nests(), 30)], "held up in 3.", False),
    "held up much": (lambda: [held(nests(), 4)], "held up in 25 %", True),
    "starved": (lambda: [late(nests(), 5)], "20 % came 0.5 s late or later", False),
    "stepped": (
        lambda: [nests(), noted(Failure.CLOCK_STEP, size_s=-40.0, times=3)],
        "stepped 3 times (by up to 40.0 s)",
        False,
    ),
    "slept": (
        lambda: [nests(), noted(Failure.SUSPENDED, size_s=5.0, times=1)],
        "it slept once (by up to 5.0 s)",
        False,
    ),
}

PAGES: dict[str, Callable[[str], tuple[Text | Answer, Any]]] = {
    "propagation": lambda store: (propagation.heading(found := propagation.load(store)), propagation.result(found)),
    "vantages": lambda store: (vantages.answer(found := vantages.load(store)), vantages.result(found)),
    "joins": lambda store: (joins.heading(found := joins.load(store)), joins.result(found)),
    "daily": lambda store: (daily.heading(found := daily.load(store)), daily.result(found)),
    "demo": lambda store: (demo.answer(demo.load(store)), None),
    "tuning": lambda store: (tuning.answer(found := tuning.load(store)), tuning.result(found)),
}
_numbers = count()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder: Path = tmp_path_factory.mktemp("observers")
    return {name: str(store_of(folder / str(next(_numbers)), *made()).directory) for name, (made, _, _) in RUNS.items()}


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("run", RUNS)
def test_a_page_says_how_its_observer_was_above_everything(page: str, run: str, stores: dict[str, str]) -> None:
    _, said, much = RUNS[run]
    heading, result = PAGES[page](stores[run])
    if page == "tuning" and much:  # by the share of requests, or of all attempts
        said = "observing machine itself"
    assert (heading.warning == "") == (not said or (page == "tuning" and much)), (
        "where nothing is tuned, its result says"
    )
    assert said in (heading.warning or (result.reasons[0] if said else ""))
    if much and result is not None:
        assert result.verdict == "too little data"
        assert "observing machine" in result.reasons[0]


def test_the_page_of_one_nest_says_it_too(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store", held(nests(), 1))
    assert incident.heading(incident.load(str(store.directory), "nest-0")).warning.startswith("The observing machine")


@pytest.mark.parametrize("run", RUNS)
def test_nothing_is_recommended_beyond_the_stated_share(run: str, stores: dict[str, str]) -> None:
    much = RUNS[run][2]
    assert (daily.load(stores[run]).tuned is None) == much
    assert (tuning.load(stores[run]).found is None) == much
