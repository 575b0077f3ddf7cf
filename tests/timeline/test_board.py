"""Starting, ready, failed: the states of the newest nests, and the terminal that shows them while another writes."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from nestobs.cli.main import main
from nestobs.join.decision import GONE
from nestobs.observation.detail import detail
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Source
from nestobs.store.reader import Store
from nestobs.timeline.board import MOST_CELLS, Board, Lane, Row, State, by_kind, span
from worlds.asked import NOON, SECOND_NS, join, made, polls, row, store_of
from worlds.hostile import hostile_rows

pytestmark = pytest.mark.slow

YES, NO, MAYBE, REFUSED = Outcome.VISIBLE, Outcome.ABSENT, Outcome.UNKNOWN, Outcome.REFUSED
G = Operation.GUEST


def at(seconds: float) -> int:
    return NOON + round(seconds * SECOND_NS)


def told(rows: list[Observation], now: float | None = None, **options: Any) -> Row:
    """The one nest of a board of these rows."""
    board = Board(**options)
    board.fold(rows)
    (only,) = board.view(at(now) if now is not None else max(each.sent_at for each in rows)).rows
    return only


def guest(rows: list[Observation], now: float | None = None) -> tuple[State, str]:
    lane = by_kind(told([made(), *rows], now))["guest"]
    return lane.state, lane.why


def asked(outcome: Outcome, sent_s: float, **more: Any) -> Observation:
    return row(Source.API, G, outcome, sent_s, **more)


LIMITED = {"status": 429, "failure": Failure.RATE_LIMITED, "reason": "Too many requests"}
TIMEOUT = {"failure": Failure.TIMEOUT, "reason": "no answer", "received_at": None}


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        ([asked(NO, 1)], (State.STARTING, "")),
        ([asked(NO, 1), asked(NO, 29.9)], (State.STARTING, "")),
        ([asked(NO, 1), asked(NO, 30)], (State.FAILED, "late")),
        ([asked(NO, 1), asked(NO, 30), asked(YES, 40)], (State.READY, "")),
        ([asked(YES, 1)], (State.READY, "")),
        ([asked(YES, 1), asked(NO, 2)], (State.FAILED, "gone")),
        ([asked(YES, 1), asked(NO, 2), asked(YES, 3)], (State.READY, "")),
        ([asked(NO, 1), asked(REFUSED, 2, **LIMITED)], (State.FAILED, "refused 429")),
        ([asked(REFUSED, 1, **LIMITED), asked(NO, 2)], (State.STARTING, "")),
        ([asked(MAYBE, 1, **TIMEOUT)], (State.UNKNOWN, "nothing proven")),
        ([asked(NO, 1), asked(MAYBE, 2, **TIMEOUT)], (State.STARTING, "")),
        ([asked(YES, 1), asked(MAYBE, 2, **TIMEOUT)], (State.READY, "")),
        # sent before the visible answer came: it may speak of an instant before that
        ([asked(YES, 1, received_at=at(3)), asked(NO, 2)], (State.READY, "")),
    ],
)
def test_the_last_proof_decides(rows, state):
    assert guest(rows) == state
    assert guest(rows[::-1]) == state, "in any order"
    assert guest(rows * 2) == state, "twice as once"


def test_silence_of_a_relay_ends_nothing():
    rows = [row(Source.RELAY, Operation.SUBSCRIBE, outcome, s) for s, outcome in ((1, NO), (2, YES), (9, NO))]
    assert by_kind(told([made(), *rows]))["relays"].state is State.READY


def test_whoever_stopped_asking_does_not_know():
    assert guest([asked(NO, 10)], now=69) == (State.STARTING, "")
    assert guest([asked(NO, 10)], now=71) == (State.UNKNOWN, "nothing since")
    assert guest([asked(YES, 10)], now=9_000) == (State.READY, "")


def test_vantage_points_are_counted_and_the_worst_one_tells():
    rows = [made(), asked(YES, 2), asked(NO, 3, vantage="Computer B")]
    assert by_kind(told(rows))["guest"] == Lane("guest", State.STARTING, "", 1, 2)


def test_a_nest_is_as_its_worst_layer():
    ready = row(Source.API, Operation.INFO, YES, 2)
    assert told([made(), ready]).state is State.READY
    assert told([made(), ready, asked(NO, 3)]).state is State.STARTING
    assert told([made(), ready, asked(NO, 31)]).state is State.FAILED
    assert told([made(), row(Source.RELAY, Operation.PUBLISH, Outcome.ACCEPTED, 1)]).state is State.UNKNOWN


def test_an_attempt_to_make_a_nest_is_none_until_something_names_it():
    board = Board()
    board.fold([made()])
    assert board.view(at(1)).rows == ()


def test_a_join_starts_and_ends_and_leaves_its_message():
    rows = [made(), *join(3, [(Operation.JOIN, NO, 0.0), (G, NO, 0.1)], "gone", GONE)]
    begun, ended = told(rows[:-1]), told(rows)
    assert by_kind(begun)["joiners"].state is State.STARTING
    assert (by_kind(ended)["joiners"].state, by_kind(ended)["joiners"].why) == (State.FAILED, "gone")
    assert (ended.message, round(ended.message_age_s, 1)) == (GONE, 3.2)
    into = [made(), *join(3, [(G, YES, 0.0)], "guest", "")]
    assert told(into).message == "in the room"


def test_ages_count_from_the_best_origin_there_is():
    stamp = detail(created_at=NOON // SECOND_NS - 20)
    event = row(Source.RELAY, Operation.QUERY, YES, 5, detail=stamp)
    assert told([event], now=10).age_s == pytest.approx(30)
    assert told([event, row(Source.RELAY, Operation.PUBLISH, Outcome.ACCEPTED, 1)], now=10).age_s == pytest.approx(9)
    assert told([event, made(2)], now=10).age_s == pytest.approx(8)
    assert told([asked(NO, 4)], now=10).age_s == pytest.approx(6)
    ahead = row(Source.RELAY, Operation.QUERY, YES, 5, detail=detail(created_at=NOON // SECOND_NS + 10_000))
    assert told([ahead], now=10).age_s == pytest.approx(5), "a date in the future is no date"
    skewed = [made(), asked(NO, 130, clock_offset_s=120.0)]
    assert by_kind(told(skewed))["guest"].state is State.STARTING


@pytest.mark.parametrize("off_s", [120.0, -120.0])
def test_ages_are_by_the_apis_clock_where_that_of_who_wrote_and_looks_is_surely_apart(off_s):
    """A nest of others, dated 20 s before by a clock that is right; the last row came before any comparison."""
    known = {"clock_offset_s": off_s, "clock_error_s": 0.5}
    event = row(
        Source.RELAY, Operation.QUERY, YES, 5 + off_s, detail=detail(created_at=NOON // SECOND_NS - 20), **known
    )
    board = Board()
    board.fold([event, row(Source.RELAY, Operation.QUERY, YES, 6 + off_s)])
    view = board.view(at(10 + off_s))
    assert view.rows[0].age_s == pytest.approx(30)
    assert view.clock.startswith("ages are by the API's clock: this one is 120.0 s ")
    unsure = Board()
    unsure.fold([row(Source.RELAY, Operation.QUERY, YES, 5, clock_offset_s=1.0, clock_error_s=0.5)])
    assert unsure.view(at(10)).clock == ""


def test_a_creation_is_joined_to_its_nest_by_the_trace_and_a_webhook_by_the_room():
    rows = [made(), asked(NO, 1), row(Source.API, Operation.INFO, YES, 2, trace_id="", nest="")]
    rows.append(row(Source.API, Operation.JOIN, NO, 3, trace_id="another", room=""))
    assert [lane.layer for lane in told(rows).lanes] == ["api:info", "api:join", "api:guest"]


def test_two_hosts_who_announce_one_room_are_two_nests():
    board = Board()
    board.fold([asked(YES, 1, trace_id="a"), asked(NO, 2, trace_id="b", nest=f"30312:{'cd' * 32}:room")])
    assert len(board.view(at(3)).rows) == 2


def test_changes_tell_what_was_and_what_is():
    board = Board()
    changes = board.fold([made(), asked(NO, 1), asked(NO, 2), asked(YES, 3), asked(YES, 4), asked(NO, 5)])
    assert [(each.was, each.state, each.why) for each in changes] == [
        (None, State.STARTING, ""),
        (State.STARTING, State.READY, ""),
        (State.READY, State.FAILED, "gone"),
    ]
    assert [round(each.age_s) for each in changes] == [1, 3, 5]
    assert json.loads(json.dumps(changes[1].as_dict()))["was"] == "starting"


def test_of_many_nests_the_newest_are_kept_and_memory_does_not_grow():
    def several(start: int, count: int) -> Iterator[Observation]:
        for number in range(start, start + count):
            mine = {"nest": f"30312:{'ab' * 32}:{number}", "room": str(number), "trace_id": f"t{number}"}
            yield row(Source.API, Operation.INFO, NO, number, **mine)
            yield row(Source.API, Operation.INFO, YES, number + 0.5, **mine)

    board = Board(most=20)
    tracemalloc.start()
    try:
        board.fold(several(0, 2_000))
        before = tracemalloc.get_traced_memory()[0]
        board.fold(several(2_000, 4_000))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    view = board.view(at(20_000))
    assert [each.room for each in view.rows] == [str(number) for number in range(5_999, 5_979, -1)]
    assert (view.let_go, view.folded) == (5_980, 12_000)
    assert grown < 100_000
    board.fold(several(3, 1))
    assert "3" not in {each.room for each in board.view(at(20_000)).rows}, "what was let go does not come back"


def test_one_nest_cannot_fill_the_memory():
    rows = [asked(NO, 1, vantage=f"v{number}" * 1_000, trace_id=f"t{number}") for number in range(2_000)]
    board = Board()
    board.fold(rows)
    (only,) = board.view(at(2)).rows
    assert sum(lane.seen for lane in only.lanes) == MOST_CELLS
    assert len(str(only)) < 20_000


def test_lengths_of_time_are_short():
    assert [span(s) for s in (-3.0, 0.04, 9.96, 59, 119, 121, 8_000, 400_000)] == [
        "-3.0 s", "0.0 s", "10.0 s", "59 s", "119 s", "2 min", "2 h", "5 d",
    ]  # fmt: skip


# the command


def test_once(tmp_path, capsys, monkeypatch):
    rows = [made(), asked(NO, 1), *polls(Source.API, Operation.INFO, 0.5, (1.0, 2.0))]
    store = store_of(tmp_path, [*rows, *join(3, [(G, NO, 0.0)], "gone", GONE)])
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["live", "--store", store, "--once"]) == 0
    said = capsys.readouterr().out
    assert "failed 1" in said
    assert "✗ joiners gone" in said
    assert max(len(each) for each in said.splitlines()) <= 80
    assert main(["live", "--store", store, "--once", "--json"]) == 0
    (found,) = (json.loads(each) for each in capsys.readouterr().out.splitlines())
    assert (found["room"], found["state"], found["message"]) == ("room", "failed", GONE)


@pytest.mark.parametrize("columns", ["80", "50", "30", "12"])
def test_any_width_and_any_name(tmp_path, capsys, monkeypatch, columns):
    store = store_of(tmp_path, list(hostile_rows(2)))
    monkeypatch.setenv("COLUMNS", columns)
    assert main(["live", "--store", store, "--once", "--last", "9d"]) == 0
    assert main(["live", "--store", store, "--for", "1s"]) == 0
    said = capsys.readouterr()
    assert not [mark for mark in "\u202e\x07\x00" if mark in said.out + said.err]
    assert "\x1b[2J" not in said.out
    assert "following" in said.err


def test_mistakes(tmp_path, capsys):
    assert main(["live", "--store", str(tmp_path / "none"), "--once"]) == 5
    (tmp_path / "file").write_text("x")
    assert main(["live", "--store", str(tmp_path / "file"), "--for", "1s"]) == 5
    assert main(["live", "--store", str(tmp_path / "none"), "--for", "1s"]) == 0
    assert "waiting for one" in capsys.readouterr().err


WRITER = """
import sys
from worlds.asked import row
from nestobs.observation.schema import Operation, Outcome, Source
from nestobs.store.reader import Store
store = Store.open(sys.argv[1])
with store.writer() as writer:
    for number in range(int(sys.argv[2])):
        mine = {"nest": f"30312:{'ab' * 32}:{number}", "room": f"room-{number}", "trace_id": f"t{number}"}
        for seen in range(10):
            outcome = Outcome.VISIBLE if seen == 9 else Outcome.ABSENT
            mine["observation_id"] = f"{number:08}-{seen}"
            writer.append([row(Source.API, Operation.INFO, outcome, number + seen / 10, **mine)])
        if number % 50 == 0:
            writer.flush()
            if len(sys.argv) > 3 and number == int(sys.argv[2]) // 2:
                store.seal(before=2**62)
print("written")
"""


@contextmanager
def process(*words: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """One that certainly ends."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    running = subprocess.Popen([sys.executable, *words], env=environment, **options)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
        for pipe in (running.stdout, running.stderr):
            if pipe is not None:
                pipe.close()


@pytest.mark.parametrize("sealed", [(), ("seal",)], ids=["written", "sealed meanwhile"])
def test_a_writer_is_not_held_up_and_every_nest_is_seen(tmp_path, sealed):
    """`live` starts before there is a store, follows it to its end, and ends by Ctrl-C, quietly."""
    store, count = str(tmp_path / "store"), 600
    words = ("-m", "nestobs", "live", "--store", store, "--json", "--most", "30")
    with (tmp_path / "out").open("wb") as out, process(*words, stdout=out, stderr=subprocess.PIPE) as watching:
        assert watching.stderr is not None
        assert b"waiting for one" in watching.stderr.readline()
        with process(
            "-c", WRITER, store, str(count), *sealed, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as writing:
            said = writing.communicate(timeout=80)
        assert said == (b"written\n", b"")
        lines = _lines(tmp_path / "out", watching, f"room-{count - 1}")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(20) == 0
        assert watching.stderr.read().startswith(b"following")
    ready = {each["room"] for each in lines if each["state"] == "ready"}
    first = count // 2 + 1 if sealed else 0  # what was sealed before it could be read is not told
    assert {f"room-{number}" for number in range(first, count)} <= ready


def _lines(path: Path, watching: subprocess.Popen[bytes], last: str) -> list[dict[str, Any]]:
    """What was said up to the last nest's being ready; 30 s at most."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and watching.poll() is None:
        lines = [json.loads(each) for each in path.read_text().splitlines() if each.endswith("}")]
        if any(each["room"] == last and each["state"] == "ready" for each in lines):
            return lines
        select.select([], [], [], 0.1)
    raise AssertionError(f"{last} was never ready: {path.read_text()[-500:]}")


def test_on_a_terminal_the_view_is_redrawn_in_place_until_interrupted(tmp_path):
    store = store_of(tmp_path / "store", [made(), asked(NO, 1)])
    ours, theirs = pty.openpty()
    try:
        words = ("-m", "nestobs", "live", "--store", store)
        with process(*words, stdin=theirs, stdout=theirs, stderr=theirs) as watching:
            os.close(theirs)
            theirs = -1
            shown = _read(ours, "unknown 1")  # it was asked long ago
            with Store.open(store).writer() as writer:
                writer.append([asked(YES, 2)])
            shown += _read(ours, "ready 1")
            assert "\x1b[" in shown
            watching.send_signal(signal.SIGINT)
            rest = _read(ours, "")
            assert watching.wait(20) == 0
            assert "Traceback" not in shown + rest
    finally:
        for handle in (ours, theirs):
            if handle >= 0:
                os.close(handle)


def _read(handle: int, wanted: str) -> str:
    """What a terminal was sent until it holds `wanted`; "": until its end. 30 s at most."""
    seen, deadline = "", time.monotonic() + 30
    while time.monotonic() < deadline and not (wanted and wanted in seen):
        if select.select([handle], [], [], 0.2)[0]:
            data = b""
            with suppress(OSError):  # the other end is closed
                data = os.read(handle, 65_536)
            if not data:
                break
            seen += data.decode("utf-8", "replace")
    assert wanted in seen, seen[-800:]
    return seen
