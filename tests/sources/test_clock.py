"""The clock under steps and sleep, and the event loop watched while it is blocked for real."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.sources import clock as clock_module
from nestobs.sources.clock import BEAT_S, KEPT, NOISE_S, Clock, LoopWatch, uuid7
from nestobs.sources.vantage import Vantage

S = 1_000_000_000
NOON = 1_700_000_000 * S


class Watches:
    """A wall clock and a monotonic one, moved by hand."""

    def __init__(self):
        self.wall, self.monotonic = NOON, 5 * S

    def pass_s(self, seconds):
        self.wall += round(seconds * S)
        self.monotonic += round(seconds * S)

    def clock(self):
        return Clock(lambda: self.wall, lambda: self.monotonic)


@pytest.fixture
def watches():
    return Watches()


@pytest.mark.parametrize("step_s", [3600, -3600, 0.3, -0.3])
def test_a_stepped_wall_clock_changes_no_delay(watches, step_s):
    clock = watches.clock()
    before = clock.now()
    watches.pass_s(2)
    watches.wall += round(step_s * S)
    watches.pass_s(3)
    assert clock.now() - before == 5 * S
    assert clock.wall_departure_s() == step_s


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(-1e6, 1e6)), max_size=20),
)
def test_time_never_goes_back_whatever_the_wall_clock_does(moves):
    watches = Watches()
    clock = watches.clock()
    seen = [clock.now()]
    for seconds, step_s in moves:
        watches.pass_s(seconds)
        watches.wall += round(step_s * S)
        seen.append(clock.now())
    assert seen == sorted(seen)


async def test_waiting_is_until_an_instant_and_over_at_once_when_it_is_past():
    clock = Clock()
    due = clock.now() + S // 50
    await clock.until(due)
    assert clock.now() >= due
    async with asyncio.timeout(5):
        await clock.until(clock.now() - 3600 * S)
        await clock.until(0)


class TestWatch:
    """Beats looked at by hand, at the instants they are due."""

    @pytest.fixture
    def found(self):
        return []

    @pytest.fixture
    def watch(self, watches, found):
        return LoopWatch(watches.clock(), found.append)

    def beat(self, watch, watches, late_s=0.0):
        watches.pass_s(BEAT_S + late_s)
        watch._look(watch._clock.now(), round(late_s * S))

    async def test_a_beat_that_is_due_and_has_not_come_counts(self):
        clock = Clock()
        since = clock.now()
        async with LoopWatch(clock, lambda _: None).running() as watch:
            await asyncio.sleep(0.01)
            assert watch.lag_s(since) < 0.3
            time.sleep(0.25 + 0.3)  # noqa: ASYNC251 - the loop is to be blocked
            assert watch.lag_s(since) >= 0.25
        assert watch.lag_s(clock.now()) == 0.0

    @pytest.mark.parametrize("after_beats", [0.0, 0.2, 0.4, 0.6, 0.8])
    async def test_what_stands_still_for_longer_than_two_beats_is_seen_whenever_it_began(self, after_beats):
        clock = Clock()
        async with LoopWatch(clock, lambda _: None).running() as watch:
            await asyncio.sleep((2 + after_beats) * BEAT_S)
            since = clock.now()
            time.sleep(0.045)  # noqa: ASYNC251 - the loop is to be blocked
            assert watch.held(since, 0.05) is not None
            await asyncio.sleep(BEAT_S)
            assert watch.lag_s(since) > 0

    def test_a_short_attempt_bears_a_quarter_of_its_time_and_a_long_one_half_a_second(self, watch, watches):
        for timeout_s, late_s, held in [
            (0.1, 0.024, False),
            (0.1, 0.03, True),
            (0.4, 0.09, False),
            (0.4, 0.11, True),
            (2.0, 0.19, False),
            (2.0, 0.21, True),
            (60.0, 0.49, False),
            (60.0, 0.51, True),
        ]:
            since = watch._clock.now()
            self.beat(watch, watches, late_s=late_s)
            assert (watch.held(since, timeout_s) is not None) == held, timeout_s

    @pytest.mark.parametrize("step_s", [3600.0, -3600.0, 0.5])
    def test_a_step_is_reported_once_with_its_size(self, watch, watches, found, step_s):
        self.beat(watch, watches)
        watches.wall += round(step_s * S)
        for _ in range(3):
            self.beat(watch, watches)
        [one] = found
        assert (one.kind, one.size_s) == ("clock_step", pytest.approx(step_s))

    def test_a_step_back_again_is_another(self, watch, watches, found):
        for step_s in (10, -10):
            watches.wall += step_s * S
            self.beat(watch, watches)
        assert [one.size_s for one in found] == pytest.approx([10, -10])

    def test_a_slow_drift_is_reported_when_it_amounts_to_a_step(self, watch, watches, found):
        for _ in range(25):
            watches.wall += S // 100
            self.beat(watch, watches)
        assert [(one.kind, round(one.size_s, 2)) for one in found] == [("clock_step", 0.21)]

    def test_nothing_is_reported_of_an_even_beat(self, watch, watches, found):
        for _ in range(50):
            self.beat(watch, watches, late_s=NOISE_S / 2)
        assert found == []
        assert watch.lag_s(0) == 0.0

    def test_a_late_beat_is_a_blocked_loop(self, watch, watches, found):
        self.beat(watch, watches, late_s=2.0)
        assert [(one.kind, one.size_s) for one in found] == [("loop_blocked", 2.0)]

    def test_the_lag_of_an_attempt_is_the_worst_since_it_was_sent(self, watch, watches):
        self.beat(watch, watches, late_s=0.4)
        between = watch._clock.now() + 1
        self.beat(watch, watches, late_s=0.1)
        assert watch.lag_s(0) == 0.4
        assert watch.lag_s(between) == pytest.approx(0.1)
        assert watch.lag_s(watch._clock.now() + 1) == 0.0

    def test_lags_never_pile_up(self, watch, watches):
        self.beat(watch, watches, late_s=0.4)
        for _ in range(5 * KEPT):
            self.beat(watch, watches, late_s=0.03)
        assert len(watch._beats.came) == len(watch._beats.late) <= 2 * KEPT
        assert watch.lag_s(0) == pytest.approx(0.03)

    def test_a_machine_that_slept_is_marked_and_no_step(self, watch, watches, found, monkeypatch):
        # a machine cannot be put to sleep here: the boot-time clock is moved instead, and with it the wall clock
        slept = clock_module._suspended_s()
        monkeypatch.setattr(clock_module, "_suspended_s", lambda: slept + 600)
        before = watch._clock.now()
        assert watch.held(before, 10.0).kind == "suspended", "known before a beat has seen it"
        self.beat(watch, watches, late_s=600)  # the clock counts sleep, and so does the wall
        self.beat(watch, watches)
        assert [(one.kind, one.size_s) for one in found] == [("suspended", pytest.approx(600))]
        assert watch.held(before, 10.0).kind == "suspended"
        assert "600.0 s" in watch.held(before, 10.0).words
        assert watch.held(watch._clock.now(), 10.0) is None


@pytest.mark.slow
async def test_failure_7_a_blocked_loop_is_a_row_and_marks_the_rows_of_its_time(vantage, rows, until):
    async with vantage.watch.running():
        await asyncio.sleep(0.05)
        sent_at = vantage.clock.now()
        time.sleep(0.9)  # noqa: ASYNC251 - the fault itself: the loop is blocked
        await until(lambda: rows)
        during = vantage.record(
            trace_of_nothing(),
            sent_at=sent_at,
            source=Source.API,
            target="t",
            operation=Operation.INFO,
            outcome=Outcome.VISIBLE,
        )
    blocked = rows[0]
    assert (blocked.source, blocked.failure, blocked.outcome) == (
        Source.CLOCK,
        Failure.LOOP_BLOCKED,
        Outcome.PROBE_ERROR,
    )
    assert blocked.sent_at < blocked.received_at
    assert blocked.sent_at <= sent_at + S // 2
    assert during.loop_lag_s > 0.5


def trace_of_nothing():
    from nestobs.sources.vantage import NO_TRACE

    return NO_TRACE


async def test_failure_1_a_step_in_mid_run_is_a_row_and_changes_no_delay(rows, until):
    offset = 0
    clock = Clock(wall=lambda: time.time_ns() + offset)
    vantage = Vantage("A", "run", rows.append, clock=clock)
    async with vantage.watch.running():
        before = clock.now()
        offset = 3600 * S
        await until(lambda: rows)
        after = clock.now()
    assert (rows[0].failure, rows[0].operation) == (Failure.CLOCK_STEP, Operation.STEP)
    assert "+3600.0" in rows[0].reason
    assert rows[0].layer == ""
    assert before <= rows[0].sent_at == rows[0].received_at <= after < before + 100 * S


async def test_the_watch_ends_with_its_block(vantage):
    async with vantage.watch.running():
        await asyncio.sleep(3 * BEAT_S)
    since = vantage.clock.now()
    time.sleep(0.1)  # noqa: ASYNC251 - the fault itself: the loop is blocked
    await asyncio.sleep(3 * BEAT_S)
    assert (vantage.watch.lag_s(since), vantage.watch.held(since, 0.1)) == (0.0, None)


class TestUuid7:
    @given(st.integers(0, 2**48 * 1_000_000 - 1))
    def test_has_version_variant_and_the_instants_milliseconds(self, at):
        made = uuid7(at)
        assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", made)
        assert int(made.replace("-", "")[:12], 16) == at // 1_000_000

    @given(st.lists(st.integers(0, 2**48 - 1), unique=True, max_size=20))
    def test_sorts_by_instant(self, milliseconds):
        made = [uuid7(at * 1_000_000) for at in sorted(milliseconds)]
        assert made == sorted(made)

    def test_is_another_each_time(self):
        assert len({uuid7(NOON) for _ in range(10_000)}) == 10_000
