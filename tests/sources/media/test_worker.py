"""The media worker with the real livekit-server: visits through it, and every way to lose it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nestobs.lab import ProxyMode
from nestobs.nostr import Keys
from nestobs.observation.schema import Failure, FailureLayer, Outcome
from nestobs.sources import livekit as livekit_module
from nestobs.sources.clock import LAG_S, Clock
from nestobs.sources.livekit import LiveKit
from nestobs.sources.media import MediaWorker, WorkerLostError, worker
from nestobs.sources.vantage import NO_TRACE, Trace
from worlds.media_workers import alive, workers

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJtZSJ9.c2lnbmF0dXJlLW9mLW1pbmU"


@pytest.fixture(autouse=True)
def none_left():
    """No test leaves a worker behind."""
    yield
    assert workers() == []


@pytest.fixture
def on_stage(open_lab, scenario, open_station_on, livekit_server):
    """`async with on_stage() as stage`: a room of the real server, tokens for it, and who is inside."""

    class Stage:
        def __init__(self, lab, station, room):
            self.lab, self.livekit, self.room, self.trace = lab, station.livekit, room, Trace("trace", "nest", room)
            self.proxy = next(iter(lab.livekit_proxy.values()))
            self._api = station.api

        async def token(self):
            return (await self._api.join(self.trace, Keys.generate())).token

        async def enter(self, **options):
            return await self.livekit.media(self.trace, await self.token(), **options)

        async def empty(self):
            """Wait until nobody is in the room; not so long as LiveKit holds a place for who was lost."""
            async with asyncio.timeout(10):
                while await self.livekit.inside(self.room):
                    pass

        async def works(self):
            """A visit as it should be."""
            row, session = await self.enter()
            assert (row.outcome, row.failure, row.reason) == (Outcome.VISIBLE, None, "")
            assert await session.stays(0.05)
            await session.close()
            await self.empty()
            return row

    @asynccontextmanager
    async def opened():
        async with open_lab(scenario(), livekit=livekit_server, relays=1) as lab, open_station_on(lab) as station:
            made = await station.api.create(NO_TRACE, Keys.generate(), ("wss://relay.example",))
            yield Stage(lab, station, made.body["roomId"])

    return opened


@pytest.fixture
def worker_that(monkeypatch):
    """`worker_that(code)`: what is started as a worker from now on runs this instead."""

    def instead(code):
        monkeypatch.setattr(worker, "COMMAND", (sys.executable, "-I", "-c", code))

    return instead


def is_ours(row):
    return (row.outcome, row.failure, row.failure_layer) == (Outcome.PROBE_ERROR, Failure.INTERNAL, FailureLayer.PROBER)


# Visits


async def test_visits_share_a_process_and_tell_where_they_were(on_stage):
    async with on_stage() as stage:
        await stage.livekit.expect_media()
        [pid] = workers()
        (first, one), (second, two) = await asyncio.gather(stage.enter(), stage.enter())
        assert workers() == [pid]
        assert len(await stage.livekit.inside(stage.room)) == 2
        await asyncio.gather(one.close(), two.close())
        await stage.empty()
    facts = [json.loads(row.detail) for row in (first, second)]
    assert [row.outcome for row in (first, second)] == [Outcome.VISIBLE] * 2
    assert len({each["room_sid"] for each in facts}) == 1
    assert len({each["participant_sid"] for each in facts}) == 2
    assert [each["over"] for each in facts] == ["udp host-host"] * 2
    assert workers() == []


async def test_all_of_a_process_share_one_and_the_last_one_ends_it(on_stage, vantage):
    async with on_stage() as stage, LiveKit(vantage, stage.livekit.url) as second:
        async with LiveKit(vantage, stage.livekit.url) as first:
            (_, one), (_, two) = [await each.media(stage.trace, await stage.token()) for each in (first, second)]
            [pid] = workers()
            await one.close()
        assert await two.stays(0.1)
        await two.close()
        assert workers() == [pid]
    assert workers() == []


async def test_who_ends_in_the_middle_of_its_start_leaves_none(on_stage):
    async with on_stage() as stage:
        for patience_s in (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3):
            async with LiveKit(stage.livekit._vantage, stage.livekit.url) as livekit:
                expecting = asyncio.create_task(livekit.expect_media())
                await asyncio.sleep(patience_s)
                expecting.cancel()
                await asyncio.gather(expecting, return_exceptions=True)
            assert workers() == []


async def test_the_instants_are_the_workers_own_on_our_clock(on_stage, vantage):
    async with on_stage() as stage:
        before = stage.livekit._vantage.clock.now()
        row, session = await stage.enter()
        after = stage.livekit._vantage.clock.now()
        await session.close()
    assert before < row.sent_at < row.received_at < after


def test_an_instant_of_another_process_is_read_by_our_clock():
    clock = Clock()
    code = "from nestobs.sources.clock import count; print(count())"
    before = clock.now()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert before < clock.at(int(said.stdout)) < clock.now()


async def test_a_token_is_on_no_command_line_and_in_no_environment(on_stage):
    async with on_stage() as stage:
        token = await stage.token()
        row, session = await stage.livekit.media(stage.trace, token)
        [pid] = workers()
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        limits = Path(f"/proc/{pid}/limits").read_text()
        await session.close()
    assert row.outcome is Outcome.VISIBLE
    assert token.encode() not in shown
    assert next(line.split()[4:6] for line in limits.splitlines() if "core" in line) == ["0", "0"]


async def test_signals_of_a_terminal_do_not_reach_it(on_stage):
    async with on_stage() as stage:
        _, session = await stage.enter()
        [pid] = workers()
        for each in (signal.SIGINT, signal.SIGHUP):
            os.kill(pid, each)
        assert os.getpgid(pid) == pid != os.getpgid(0)
        assert await session.stays(0.5)
        await session.close()
        assert workers() == [pid]


async def test_without_the_library_there_are_no_media_and_no_worker(monkeypatch, on_stage):
    monkeypatch.setattr(livekit_module, "has_library", lambda: False)
    async with on_stage() as stage:
        row, session = await stage.livekit.signal(stage.trace, await stage.token())
        assert row.outcome is Outcome.VISIBLE
        await session.close()
        await stage.livekit.expect_media()
        assert not stage.livekit.carries_media
        assert workers() == []


# Losses


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGSEGV], ids=lambda s: s.name)
async def test_a_worker_that_is_lost_in_mid_visit_is_our_own_fault_and_the_next_visit_works(on_stage, by):
    async with on_stage() as stage:
        _, session = await stage.enter()
        [pid] = workers()
        os.kill(pid, by)
        assert not await session.stays(20)
        assert session.lost.reason == f"the media worker was ended by {by.name}"
        assert is_ours(session.lost)
        await session.close()
        await stage.empty()
        await stage.works()
        assert workers() != [pid]


async def test_the_librarys_own_panic_takes_nothing_else_along(on_stage, monkeypatch):
    block = """
import asyncio, time
from nestobs.sources.media import worker_main

class Blocked(worker_main.Worker):
    def hear(self, line):
        super().hear(line)
        asyncio.get_running_loop().call_later(0.005, time.sleep, 100)

worker_main.Worker = Blocked
worker_main.main()
"""
    async with on_stage() as stage:
        with monkeypatch.context() as patch:
            patch.setattr(worker, "COMMAND", (sys.executable, "-P", "-c", block))
            row, session = await stage.enter(timeout_s=90.0)
        assert (is_ours(row), session) == (True, None)
        assert row.reason.startswith("the media worker was ended by SIGTERM: FFI Panic:")
        await stage.empty()


async def test_a_worker_that_is_lost_while_it_enters_is_our_own_fault(on_stage, until):
    async with on_stage() as stage:
        await stage.livekit.expect_media()
        stage.proxy.mode = ProxyMode.STALL
        entering = asyncio.create_task(stage.livekit.media(stage.trace, await stage.token()))
        await asyncio.sleep(0.3)
        os.kill(workers()[0], signal.SIGKILL)
        row, session = await entering
        assert (is_ours(row), session) == (True, None)
        assert row.reason == "the media worker was ended by SIGKILL"
        assert row.sent_at < row.received_at
        stage.proxy.mode = ProxyMode.PASS
        await stage.works()


async def test_a_worker_that_stands_still_while_it_enters_is_killed(on_stage):
    async with on_stage() as stage:
        await stage.livekit.expect_media()
        [pid] = workers()
        os.kill(pid, signal.SIGSTOP)
        row, session = await stage.enter(timeout_s=0.5)
        assert (is_ours(row), session) == (True, None)
        assert "stood still" in row.reason
        assert not alive(pid)
        await stage.empty()
        await stage.works()


async def test_a_worker_that_stands_still_in_mid_visit_did_not_stay(on_stage):
    async with on_stage() as stage:
        _, session = await stage.enter()
        [pid] = workers()
        os.kill(pid, signal.SIGSTOP)
        assert not await session.stays(0.1)
        assert is_ours(session.lost)
        assert "stood still" in session.lost.reason
        await session.close()
        await stage.empty()
        assert not alive(pid)
        await stage.works()


async def test_a_visit_is_left_though_the_worker_stands_still(on_stage):
    async with on_stage() as stage:
        _, session = await stage.enter()
        [pid] = workers()
        os.kill(pid, signal.SIGSTOP)
        await session.close()
        await stage.empty()
        assert not alive(pid)


async def test_the_row_carries_how_long_the_worker_stood_still(on_stage):
    async with on_stage() as stage:
        await stage.livekit.expect_media()
        stage.proxy.mode = ProxyMode.STALL
        [pid] = workers()
        entering = asyncio.create_task(stage.enter())
        await asyncio.sleep(0.5)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(2 * LAG_S)
        stage.proxy.mode = ProxyMode.PASS
        os.kill(pid, signal.SIGCONT)
        row, session = await entering  # the library's second try
        await session.close()
    assert row.outcome is Outcome.VISIBLE
    assert row.loop_lag_s > LAG_S
    assert json.loads(row.detail)["worker_lag_s"] == row.loop_lag_s


async def test_what_times_out_in_a_worker_that_stood_still_is_our_own_fault(on_stage):
    async with on_stage() as stage:
        await stage.livekit.expect_media()
        stage.proxy.mode = ProxyMode.STALL
        [pid] = workers()
        entering = asyncio.create_task(stage.enter(timeout_s=1.0))
        await asyncio.sleep(0.5)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(1.5)
        os.kill(pid, signal.SIGCONT)
        row, _ = await entering
        stage.proxy.mode = ProxyMode.PASS
    assert (row.outcome, row.failure, row.failure_layer) == (
        Outcome.PROBE_ERROR,
        Failure.LOOP_BLOCKED,
        FailureLayer.PROBER,
    )
    assert "stood still" in row.reason
    assert "no media within 1 s" in row.reason


async def test_a_visit_that_is_called_off_leaves_nobody_inside(on_stage):
    async with on_stage() as stage:
        await stage.livekit.expect_media()
        for patience_s in (0.0, 0.01, 0.03, 0.06, 0.1):
            entering = asyncio.create_task(stage.enter())
            await asyncio.sleep(patience_s)
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)
        await asyncio.sleep(0.5)
        await stage.empty()
        await stage.works()


# Workers that are none

STRANGE = {
    "ends at once": ("", "ended by itself with exit code 0"),
    "ends with a complaint": ("raise SystemExit('ImportError: libx.so.1')", "exit code 1: ImportError: libx.so.1"),
    "complains at length": (
        "import sys; sys.stderr.write('x' * 10**6 + '\\n' * 10**6 + 'the end of it'); sys.exit(70)",
        "exit code 70: the end of it",
    ),
    "complains with the token": (
        f"import sys; print('ready'); sys.exit('panic at wss://h/rtc?access_token={TOKEN}&sdk=rust and {TOKEN}')",
        "panic at wss://h/rtc?[token] and [token]",
    ),
    "complains in no encoding": (
        "import os; os.write(2, bytes(range(128, 256)) + b'\\x1b[31m\\x00'); os._exit(2)",
        "ended by itself with exit code 2",
    ),
    "aborts": ("import os; os.abort()", "was ended by SIGABRT"),
    "has a line without an end": ("import os\nwhile True: os.write(1, b'x' * 4096)", "not understood and was killed"),
    "says no more": ("import os, time; os.close(1); time.sleep(60)", "said no more and was killed"),
    "never says that it is ready": ("import time; time.sleep(60)", "stood still"),
    "says other things": (
        "print('[]', 7, 'null', '{\"said\": 7}', '{', '[' * 9000, sep='\\n', flush=True); import time; time.sleep(60)",
        "stood still",
    ),
}


@pytest.mark.parametrize("kind", STRANGE)
async def test_what_does_not_become_a_worker_is_said_and_no_secret_with_it(
    kind, worker_that, vantage, rows, monkeypatch
):
    monkeypatch.setattr(worker, "START_S", 0.5)
    monkeypatch.setattr(worker, "AGAIN_S", 0.1)
    monkeypatch.setattr(worker, "END_S", 0.5)
    code, words = STRANGE[kind]
    worker_that(code)
    async with LiveKit(vantage, "ws://127.0.0.1:9") as livekit:
        row, session = await livekit.media(Trace(room="room"), TOKEN, timeout_s=0.5)
    assert (is_ours(row), session) == (True, None)
    assert words in row.reason
    assert row.reason.isprintable()
    assert len(row.reason) < 500
    assert TOKEN not in rows.text()


async def test_a_process_that_cannot_be_had_is_said(monkeypatch, vantage):
    monkeypatch.setattr(worker, "COMMAND", ("/nowhere/python",))
    async with LiveKit(vantage, "ws://127.0.0.1:9") as livekit:
        row, session = await livekit.media(Trace(room="room"), TOKEN)
    assert (is_ours(row), session) == (True, None)
    assert row.reason == "the media worker cannot be started: No such file or directory"


ANSWERS = {
    "what is not understood": '{"visit": 1, "said": "hello"}',
    "nothing in it": '{"visit": 1}',
    "facts of other types": '{"visit": 1, "said": "entered", "began": "x", "ended": [], "lag_s": null, "room": 7}',
    "instants of another time": '{"visit": 1, "said": "failed", "words": "no", "began": -1e9, "ended": 1e300}',
    "instants far ahead": '{"visit": 1, "said": "failed", "words": "no", "began": 1, "ended": 99999999999999999999}',
    "instants that go back": '{"visit": 1, "said": "failed", "words": "no", "began": 99999999999999999999, "ended": 1}',
    "its own fault": '{"visit": 1, "said": "fault", "words": "AssertionError"}',
    "words with the token": f'{{"visit": 1, "said": "fault", "words": "at {TOKEN}"}}',
}


@pytest.mark.parametrize("kind", ANSWERS)
async def test_whatever_a_worker_answers_is_a_row(kind, worker_that, vantage, rows):
    out = '{"visit": 1, "said": "out"}'
    worker_that(
        f"print('{{\"said\": \"ready\"}}', flush=True); input(); print('''{ANSWERS[kind]}''', flush=True);"
        f"import sys; [print('''{out}''', flush=True) for line in sys.stdin]"
    )
    before = vantage.clock.now()
    async with LiveKit(vantage, "ws://127.0.0.1:9") as livekit:
        row, session = await livekit.media(Trace(room="room"), TOKEN)
    assert session is None
    assert row.outcome in (Outcome.PROBE_ERROR, Outcome.UNKNOWN)
    assert before <= row.sent_at <= row.received_at <= vantage.clock.now()
    assert TOKEN not in rows.text()


async def test_after_losses_in_a_row_it_is_started_ever_later(worker_that):
    worker_that("raise SystemExit(3)")
    media = MediaWorker.held()
    said = []
    try:
        async with asyncio.timeout(20):
            while len(said) < 2:
                try:
                    await media.ready()
                except WorkerLostError as lost:
                    said += [str(lost)] if "in a row" in str(lost) and str(lost) not in said else []
                await asyncio.sleep(0.05)
    finally:
        await media.release()
    assert said[0] == "the media worker ended by itself with exit code 3 (2 times in a row: it is started again in 1 s)"
    assert "(3 times in a row: it is started again in 2 s)" in said[1]
    with pytest.raises(WorkerLostError, match="closed"):
        await media.ready()


# Its master


@pytest.fixture
async def visitor(on_stage, until):
    """`async with visitor() as (stage, process, worker)`: another process with a visit under way."""

    @asynccontextmanager
    async def opened():
        async with on_stage() as stage:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "worlds.visitor",
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT / "tests",
                start_new_session=True,
            )
            process.stdin.write(f"{stage.livekit.url} {stage.room} {await stage.token()}\n".encode())
            try:
                async with asyncio.timeout(60):
                    said = json.loads(await process.stdout.readline())
                assert said == {"outcome": "visible", "imported": False}
                [pid] = workers(process.pid)
                assert len(await stage.livekit.inside(stage.room)) == 1
                yield stage, process, pid
                await until(lambda: not alive(pid))
                await stage.empty()
            finally:
                if process.returncode is None:
                    process.kill()
                await process.wait()

    return opened


async def test_who_visits_has_not_imported_the_library_and_leaves_nothing(visitor):
    async with visitor() as (_, process, _):
        process.stdin.close()
        assert await process.wait() == 0


async def test_a_master_that_is_killed_takes_its_worker_along(visitor):
    async with visitor() as (_, process, _):
        process.kill()


async def test_a_worker_that_was_stopped_ends_with_its_master(visitor):
    async with visitor() as (_, process, pid):
        os.kill(pid, signal.SIGSTOP)
        process.kill()


async def test_ctrl_c_is_the_masters_own_affair(visitor):
    async with visitor() as (_, process, _):
        os.killpg(process.pid, signal.SIGINT)
        assert await process.wait() != 0
