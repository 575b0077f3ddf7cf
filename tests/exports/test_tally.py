"""Counts of a store: each row once, as the timelines and causes of the whole have it, bounded whatever comes."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from nestobs.diagnosis.diagnose import diagnose
from nestobs.exports import tally as module
from nestobs.exports.tally import DELAY_EDGES_S, HORIZON_S, MOST_NAMES, OTHER, OWN_FAULT, Tally, cleaned
from nestobs.observation.columns import observations_of
from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.store.example import SHIPPED
from nestobs.store.reader import Store
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins
from worlds.nest_rows import at, created, event, frame, guest, info, row
from worlds.story import Story

pytestmark = pytest.mark.slow

END = 2**62


def told(*rows, upto: int = END, relays=()) -> Tally:
    tally = Tally(relays)
    tally.fold(frame(*rows), upto)
    return tally


@pytest.fixture(scope="module")
def example() -> pd.DataFrame:
    return Store.open(SHIPPED, create=False).frame()


@pytest.fixture(scope="module")
def whole(example) -> Tally:
    tally = Tally()
    tally.fold(example, END)
    return tally


def test_thirty_seconds_is_an_edge_and_the_horizon_the_last():
    assert 30 in DELAY_EDGES_S
    assert DELAY_EDGES_S[-1] == HORIZON_S


@pytest.mark.parametrize("layer", ["api:join", "api:guest", "livekit:room", "client"])
def test_delays_are_the_upper_ends_of_the_timelines(example, whole, layer):
    lines = timelines(example)
    upper = lines.loc[lines["layer"] == layer, "upper_s"].to_numpy()
    seen = upper[np.isfinite(upper)]
    histogram = whole.delays[layer]
    expected = [int((seen <= edge).sum()) for edge in DELAY_EDGES_S] + [len(seen)]
    assert [count for _, count in histogram.cumulative()] == expected
    assert histogram.total == pytest.approx(seen.sum())
    assert whole.results[layer, "shown"] == len(seen)
    assert whole.results[layer, "not_seen"] == len(upper) - len(seen)


def test_joins_and_causes_are_those_of_the_store(example, whole):
    table = joins(example, timelines(example))
    verdicts = table["verdict"].where(~table["own_fault"], OWN_FAULT)
    assert whole.joins == Counter(zip(verdicts, table["role"], strict=True))
    assert whole.joins[OWN_FAULT, "joiner"] + whole.joins[OWN_FAULT, "guest"] == int(table["own_fault"].sum())
    assert whole.causes == Counter((each.first.cause.value, each.first.standing_fault) for each in diagnose(example))
    assert whole.causes["api_join_fault", True] > 0


@pytest.mark.parametrize("parts", [2, 7, 40])
def test_however_the_rows_come_the_counts_are_the_same(example, whole, parts):
    tally, at_s = Tally(), example["sent_at"]
    cuts = np.quantile(at_s, np.linspace(0, 1, parts + 1)[1:-1]).astype(np.int64)
    for start, end in pairwise([0, *cuts.tolist(), END]):
        tally.fold(example[(at_s >= start) & (at_s < end)], end)
    for name in ("attempts", "joins", "causes", "results", "rows", "early"):
        assert getattr(tally, name) == getattr(whole, name), name
    assert {layer: one.counts for layer, one in tally.delays.items()} == {
        layer: one.counts for layer, one in whole.delays.items()
    }


def test_a_nest_is_counted_once_its_horizon_is_over_and_not_before():
    rows = [created(), guest("absent", 1, failure=Failure.NOT_FOUND), guest("visible", 2)]
    tally = told(*rows, upto=at(HORIZON_S))
    assert not tally.results
    tally.settle(at(HORIZON_S + 31))
    assert tally.results["api:guest", "shown"] == 1
    assert tally.delays["api:guest"].total == pytest.approx(2.1)
    tally.fold(frame(guest("absent", 400, failure=Failure.NOT_FOUND), guest("visible", 401)), END)
    assert tally.results["api:guest", "shown"] == 1
    assert tally.results["api:guest", "not_seen"] == 0


def test_who_comes_after_the_horizon_was_not_seen():
    absents = [guest("absent", second, failure=Failure.NOT_FOUND) for second in (1, 100, 290)]
    tally = told(created(), *absents, guest("visible", HORIZON_S + 5))
    assert tally.results["api:guest", "not_seen"] == 1
    assert tally.delays["api:guest"].cumulative()[-1] == ("+Inf", 0.0)


OTHERS = {
    "seen at once": ([event(0, created=-3_600), guest("visible", 1)], "seen_at_once"),
    "proven absent first": (
        [event(0, created=-1), guest("absent", 1, failure=Failure.NOT_FOUND), guest("visible", 3)],
        "shown",
    ),
    "only failures": ([event(0), guest("unknown", 1, failure=Failure.TIMEOUT)], "nothing_proven"),
    "never": ([event(0), guest("absent", 1, failure=Failure.NOT_FOUND)], "not_seen"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_nest_of_others_tells_a_delay_only_where_something_bounds_it(case):
    rows, result = OTHERS[case]
    assert {name: told(*rows).results["api:guest", name] for name in module.RESULTS} == {
        name: int(name == result) for name in module.RESULTS
    }


def test_an_edit_of_an_older_room_counts_nowhere():
    assert not told(event(0, created=0), info(1, createdAt="2026-01-01T00:00:00Z"), guest("visible", 2)).delays


def asked(number: int, target: str, **more: object):
    names = {"observation_id": f"{number:09}", "trace_id": f"t{number}", "nest": f"30312:{'ab' * 32}:{number}"}
    more = {**names, "room": str(number), "target": target, **more}
    return row(Source.RELAY, Operation.QUERY, "visible", number / 100, **more)


def test_ten_thousand_strangers_relays_are_few_labels_beside_the_operators_own():
    own = "wss://relay.mine.example"
    rows = [asked(number, f"wss://relay{number}.example/") for number in range(10_000)]
    tally = Tally([own])
    tally.fold(observations_of(rows), END)
    tally.fold(observations_of([asked(20_000, f"{own}/"), asked(20_001, own)]), END)
    layers = {layer for _, _, layer, *_ in tally.attempts}
    assert len(layers) == MOST_NAMES + 2
    assert {f"relay:{own}", f"relay:{OTHER}"} < layers
    assert tally.attempts["relay", "query", f"relay:{own}", "visible", ""] == 2
    assert tally.attempts["relay", "query", f"relay:{OTHER}", "visible", ""] == 10_000 - MOST_NAMES
    assert set(tally.delays) <= layers


def test_as_many_vantages_share_a_label():
    rows = [row(Source.API, Operation.INFO, "visible", number, vantage=f"v{number}") for number in range(100)]
    assert len(told(*rows).lags) == MOST_NAMES + 1


def test_a_flood_of_nests_does_not_make_it_grow(monkeypatch):
    monkeypatch.setattr(module, "MOST_PENDING", 500)
    monkeypatch.setattr(module, "MOST_COUNTED", 700)
    tally = Tally()
    for start in range(0, 3_000, 250):
        tally.fold(observations_of(asked(number, "wss://relay.example") for number in range(start, start + 250)), 0)
        assert len(tally._pending) <= 500
        assert len(tally._counted) <= 700
    assert tally.early == 2_500
    tally.settle(END)
    assert sum(tally.results.values()) == 3_000


def test_words_of_no_vocabulary_are_one():
    rows = frame(*(row(Source.API, Operation.INFO, "unknown", number, failure=Failure.TIMEOUT) for number in range(9)))
    rows["failure"] = [f"word {number}" for number in range(9)]
    rows["operation"] = "dance"
    tally = Tally()
    tally.fold(rows, END)
    assert tally.attempts == {("api", OTHER, "", "unknown", OTHER): 9}


@pytest.mark.parametrize("failure", ["budget_spent", "skipped", "internal"])
def test_a_join_that_a_fault_of_our_own_ended_has_no_verdict_of_the_deployments(failure):
    story = Story("room")
    story.join(1, "rate_limited", "up")
    outcome = "unknown" if failure == "skipped" else "probe_error"
    tally = Tally()
    tally.fold(observations_of(story.rows).assign(failure=failure, outcome=outcome), END)
    assert tally.joins == {(OWN_FAULT, "observer"): 1}


def test_a_verdict_of_no_version_is_another():
    story = Story("room")
    story.join(1, "levitated", "up")
    tally = Tally()
    tally.fold(observations_of(story.rows), END)
    assert tally.joins == {(OTHER, "observer"): 1}


def test_what_was_only_intended_is_no_attempt():
    intent = row(Source.API, Operation.CREATE, "unknown", 0, failure=Failure.INTENT, received=None)
    assert told(intent, created()).attempts == {("api", "create", "", "accepted", ""): 1}


def test_the_observer_is_counted_by_vantage():
    beat = {"source": Source.CLOCK, "operation": Operation.HEALTH, "outcome": Outcome.ACCEPTED}
    story = Story("room")
    for lag_s in (0.02, 0.7):
        story.row(**beat, sent=1.0, trace_id="", nest="", room="", loop_lag_s=lag_s, target="clock:")
    story.row(Source.API, Operation.INFO, Outcome.ABSENT, 2.0, loop_lag_s=0.9)
    tally = Tally()
    tally.fold(observations_of(story.rows), END)
    assert tally.lags["Computer A"].cumulative()[-1][1] == 2
    assert tally.lags["Computer A"].total == pytest.approx(0.72)
    assert tally.observers["Computer A", "held_up"] == 1
    assert tally.observers["Computer A", "attempts"] == 2


URLS = {
    "wss://relay.example/": "wss://relay.example",
    "wss://Relay.Example:7777/nostr": "wss://relay.example:7777/nostr",
    "wss://user:secret@relay.example/?token=secret#secret": "wss://relay.example",
    "ws://[::1]:80/": "ws://[::1]:80",
    "wss://relay.example:99999999/": "no URL",
    "wss://[half": "no URL",
    "nonsense": "no URL",
    "": "no URL",
}


@pytest.mark.parametrize("url", URLS)
def test_a_relays_label_is_its_address_and_nothing_secret(url):
    assert cleaned(url) == URLS[url]


def test_a_relays_label_is_short():
    assert len(cleaned("wss://relay.example/" + "x" * 5_000)) <= 200


def test_rows_in_any_order_of_parts_never_lessen_a_count(example):
    rng, tally, before = random.Random(1), Tally(), Counter()
    parts = np.array_split(np.arange(len(example)), 12)
    rng.shuffle(parts)
    for part in parts:
        tally.fold(example.iloc[part], END)
        now = Counter({**tally.attempts, **tally.results, **tally.joins, **tally.causes})
        assert not before - now
        before = now
    assert sum(tally.attempts.values()) + int((example["failure"] == Failure.INTENT).sum()) == len(example)


def test_no_rows_count_nothing():
    tally = Tally()
    tally.fold(frame(), END)
    assert (tally.rows, tally.newest_at, tally.attempts) == (0, None, {})


def test_an_instant_beyond_all_time_is_counted_too():
    far = row(Source.API, Operation.GUEST, "visible", 1, sent_at=2**63 - 1, received_at=2**63 - 1)
    tally = told(far, created(), upto=at(1e6))
    assert tally.rows == 2
