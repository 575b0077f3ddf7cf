"""Ctrl-C, SIGTERM, a closed terminal, a full disk: a run ends soon, deletes what it made and says so; rows are safe."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nestobs.observation.schema import Failure, Operation
from nestobs.store.reader import Store
from worlds.command_line import LabBeside, Said, is_one_sentence, process

pytestmark = pytest.mark.slow

LIMIT_S = 5.0
"""What is promised is 4 s on an idle machine; each test prints what it took."""

LONG = ("--horizon", "60s", "--every", "100ms")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[LabBeside]:
    with LabBeside(["calm"], tmp_path_factory.mktemp("lab"), delay_scale=0.3) as running:
        yield running


@pytest.fixture(autouse=True)
def swept(lab):
    """What a failing test leaves is not the next one's trouble."""
    yield

    async def sweep() -> None:
        for api in lab._lab.api.values():
            api.nests.clear()
        for room in await lab._lab.rooms():
            await lab._lab.world.rooms.delete(room)

    lab.call(sweep())


def entered(home: Path, nests: int, folder: str = "nestobs-data"):
    """Whether so many nests are made and published, by the ledger."""

    def check() -> bool:
        if not (home / folder / "journal.sqlite").exists():
            return False
        return sum(entry.kind == "event" for entry in Store.open(home / folder).ledger()) == nests

    return check


class Running:
    """A command as a process, to be stopped by a signal."""

    def __init__(self, *words: str) -> None:
        self.took_s = 0.0
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nestobs", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def until(self, check) -> None:
        """Wait until it has come so far, 30 s at most."""
        ends = time.monotonic() + 30
        while not check():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < ends, "it does not come so far"
            time.sleep(0.02)

    def stop(self, *numbers: int) -> Said:
        began = time.monotonic()
        for number in numbers:
            self.process.send_signal(number)
            time.sleep(0.05 if len(numbers) > 1 else 0)
        try:
            out, err = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise
        self.took_s = time.monotonic() - began
        print(f"ended {self.took_s:.2f} s after {signal.Signals(numbers[0]).name}")
        return Said(self.process.returncode, out, err)


@pytest.mark.parametrize(
    ("number", "flags", "code"),
    [(signal.SIGINT, (), 130), (signal.SIGTERM, ("--json",), 130), (signal.SIGHUP, (), 129)],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else None,
)
def test_a_canary_that_is_interrupted_cleans_up_and_says_so(number, flags, code, lab, home):
    running = Running("canary", "--count", "6", *LONG, *flags, *lab.target("calm"))
    running.until(entered(home, 6))
    assert len(lab.nests()) == len(lab.rooms()) == 6
    said = running.stop(number)
    assert said.code == code, said
    assert running.took_s < LIMIT_S
    assert lab.rooms() == []
    assert lab.nests() == []
    store = Store.open(home / "nestobs-data")
    assert store.ledger() == []
    assert store.count() > 100
    assert list((home / "state").rglob("*.nsec")) == []
    assert "Traceback" not in said.err
    assert "deleted 6" in said.out + said.err, f"it does not say what was cleaned: {said}"


def test_a_canary_that_is_interrupted_before_its_put_is_answered_leaves_nothing(lab, home):
    """The room is there and its name is on its way: the answer must still be heard, or the room looked for."""
    fault = lab._lab.api["calm"].fault
    fault.answer_delay_s = 1.0
    try:
        running = Running("canary", "--count", "2", *LONG, *lab.target("calm"))
        running.until(lambda: len(lab.nests()) == 2)
        said = running.stop(signal.SIGINT)
    finally:
        fault.answer_delay_s = 0.0
    assert said.code == 130
    assert running.took_s < LIMIT_S
    assert (lab.nests(), lab.rooms()) == ([], [])
    assert Store.open(home / "nestobs-data").ledger() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_doctor_that_is_interrupted_leaves_nothing(number, lab, home):
    running = Running("doctor", "--make", *lab.target("calm"))
    running.until(entered(home, 1))
    said = running.stop(number)
    assert said.code == (129 if number == signal.SIGHUP else 130), said
    assert "Traceback" not in said.err
    assert (lab.nests(), lab.rooms()) == ([], [])
    assert Store.open(home / "nestobs-data").ledger() == []
    assert list((home / "state").rglob("*.nsec")) == []


def test_what_a_doctor_that_is_killed_leaves_is_cleaned_by_the_next(lab, home):
    running = Running("doctor", "--make", *lab.target("calm"))
    running.until(entered(home, 1))
    running.stop(signal.SIGKILL)
    assert Store.open(home / "nestobs-data").ledger()
    said = process("doctor", "--make", *lab.target("calm"))
    assert "which earlier runs had left" in said.out
    assert (lab.nests(), lab.rooms()) == ([], [])
    assert Store.open(home / "nestobs-data").ledger() == []
    assert list((home / "state").rglob("*.nsec")) == []


@pytest.mark.parametrize("numbers", [(2, 2, 2), (1, 1, 1), (1, 15), (15, 2)], ids=str)
def test_a_second_signal_leaves_nothing(numbers, lab, home):
    running = Running("canary", "--count", "4", *LONG, *lab.target("calm"))
    running.until(entered(home, 4))
    said = running.stop(*numbers)
    first = 129 if numbers[0] == signal.SIGHUP else 130
    assert said.code in (first, *(-number for number in numbers))  # -2: one came when all was done
    assert "Traceback" not in said.err
    assert Store.open(home / "nestobs-data").ledger() == []
    assert (lab.nests(), lab.rooms()) == ([], [])


CONTROLLED = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A command in a terminal of its own, which can be closed."""

    def __init__(self, *words: str) -> None:
        self.master, slave = os.openpty()
        command = [sys.executable, "-c", CONTROLLED, *words]
        self.process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)

    def until(self, check) -> None:
        ends = time.monotonic() + 30
        while not check():
            assert self.process.poll() is None, os.read(self.master, 10_000)
            assert time.monotonic() < ends, "it does not come so far"
            time.sleep(0.02)

    def close(self) -> int:
        """Close the terminal; the exit code."""
        os.close(self.master)
        try:
            return self.process.wait(timeout=30)
        finally:
            self.process.kill()


COMMAND = (sys.executable, "-m", "nestobs")


@pytest.mark.parametrize("command", ["canary", "doctor", "watch", "lab"])
def test_a_command_whose_terminal_is_closed_cleans_up(command, lab, home):
    words = {"canary": ("--count", "3", *LONG, *lab.target("calm")), "watch": lab.target("calm"), "lab": ("--dir", "x")}
    words["doctor"] = ("--make", *lab.target("calm"))
    come = {
        "canary": entered(home, 3),
        "doctor": entered(home, 1),
        "watch": (home / "nestobs-data" / "journal.sqlite-wal").exists,
    }
    terminal = Terminal(*COMMAND, command, *words[command])
    terminal.until(come.get(command, (home / "x" / "lab.json").exists))
    assert terminal.close() == 129
    assert (lab.nests(), lab.rooms()) == ([], [])
    if command != "lab":
        assert Store.open(home / "nestobs-data").ledger() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 129)])
@pytest.mark.parametrize("words", [("tune",), ("diagnose",), ("report", "incident", "5dc7d2a5")], ids=" ".join)
def test_what_only_computes_ends_with_a_code_that_is_told_and_no_traceback(words, number, code, home):
    running = Running("-v", *words, "--store", "example")
    assert running.process.stderr is not None
    assert "configuration: " in running.process.stderr.readline()  # from here on it is at work
    said = running.stop(number)
    assert said.code == code, said
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("how", "code"),
    [(("nohup",), 0), (("sh", "-c", 'trap "" HUP; exec "$@"', "sh"), 129)],
    ids=["nohup", "ignored, and told to a dead terminal"],
)
def test_where_a_hangup_is_ignored_the_run_comes_to_its_end(how, code, lab, home):
    short = ("--count", "2", "--horizon", "3s", "--every", "100ms")
    terminal = Terminal(*how, *COMMAND, "canary", *short, *lab.target("calm"))
    terminal.until(entered(home, 2))
    assert terminal.close() == code
    store = Store.open(home / "nestobs-data")
    assert [entry.how for entry in store.ledger(open_only=False) if entry.kind == "room"] == ["deleted"] * 2
    assert (lab.nests(), lab.rooms(), store.ledger()) == ([], [], [])
    assert max(row.sent_at for row in store.observations()) - min(row.sent_at for row in store.observations()) > 3e9


def test_a_canary_is_interrupted_in_time_while_the_api_hangs(lab, home):
    """Its DELETE is never answered: it gives up in time, and the next start deletes."""
    from nestobs.lab import ProxyMode

    async def mode(chosen: ProxyMode) -> None:
        lab._lab.api_proxy["calm"].mode = chosen

    running = Running("canary", "--count", "2", *LONG, *lab.target("calm"))
    running.until(entered(home, 2))
    lab.call(mode(ProxyMode.STALL))
    try:
        said = running.stop(signal.SIGINT)
    finally:
        lab.call(mode(ProxyMode.PASS))
    assert said.code == 130
    assert running.took_s < LIMIT_S
    held = Store.open(home / "nestobs-data").ledger()
    assert process("canary", "--count", "0", *lab.target("calm")).code == 0
    assert Store.open(home / "nestobs-data").ledger() == []
    assert [entry for entry in held if entry.kind == "room"], "nobody answered, yet the ledger was closed"
    assert "left" in said.err, f"it does not say what is left: {said.err!r}"


def test_a_watch_that_is_interrupted_keeps_its_rows(lab, home):
    running = Running("watch", *lab.target("calm"))

    def connected() -> bool:
        journal = home / "nestobs-data" / "journal.sqlite"
        return journal.exists() and Store.open(home / "nestobs-data").count() >= 3

    running.until(connected)
    said = running.stop(signal.SIGINT)
    assert said.code == 130
    assert running.took_s < LIMIT_S
    assert "Traceback" not in said.err
    assert Store.open(home / "nestobs-data").count() >= 3
    assert "observations" in said.out + said.err, "it was stopped as its help says, and does not say what it saw"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_lab_that_is_interrupted_ends_well_and_takes_livekit_with_it(number, home):
    running = Running("lab", "--scenario", "calm", "--dir", "lab")
    running.until((home / "lab" / "lab.json").exists)
    children = Path(f"/proc/{running.process.pid}/task/{running.process.pid}/children")
    below = [int(pid) for pid in children.read_text().split()] if children.exists() else []
    if "livekit-server" in (home / "lab" / "lab.json").read_text():
        assert below
    said = running.stop(number)
    assert said.code == 0, said
    assert running.took_s < LIMIT_S
    assert said.err == ""
    assert "the lab has ended" in said.out
    assert [pid for pid in below if Path(f"/proc/{pid}").exists()] == []


def test_a_lab_that_is_interrupted_while_it_starts_ends_well(home):
    running = Running("lab", "--dir", "lab")
    running.until((home / "lab" / "truth.jsonl").exists)
    said = running.stop(signal.SIGINT)
    assert said.code == 0
    assert "Traceback" not in said.err


# a full disk

FULL = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))
from nestobs.cli.main import main
sys.exit(main())
"""


def limited(size: int, *words: str) -> Said:
    """A command whose files cannot grow beyond `size` bytes: to SQLite the same as a full disk."""
    ended = subprocess.run(
        [sys.executable, "-c", FULL.format(size), *words], capture_output=True, text=True, timeout=60, check=False
    )
    return Said(ended.returncode, ended.stdout, ended.stderr)


def test_a_disk_that_fills_stops_a_canary_which_deletes_what_it_made(lab, home):
    before = lab.made()
    began = time.monotonic()
    said = limited(500_000, "canary", "--count", "5", *LONG, *lab.target("calm"), "--json")
    print(f"ended after {time.monotonic() - began:.1f} s")
    is_one_sentence(said, 5, "no room", "safe", "free space")
    assert lab.nests() == []
    assert lab.rooms() == []
    rows = list(Store.open(home / "nestobs-data").observations())
    made = lab.made() - before
    assert made
    intents = [row for row in rows if row.operation is Operation.CREATE and row.failure is Failure.INTENT]
    assert len(intents) >= len(made), "a room was made whose intent is not stored"
    assert process("canary", "--count", "0", *lab.target("calm")).code == 0
    assert Store.open(home / "nestobs-data").ledger() == []
    assert [row.observation_id for row in rows] == [
        row.observation_id for row in Store.open(home / "nestobs-data").observations()
    ][: len(rows)]


def test_a_disk_that_is_full_from_the_start_makes_nothing(lab, home):
    before = lab.made()
    said = limited(8_192, "canary", "--count", "1", *LONG, *lab.target("calm"), "--json")
    is_one_sentence(said, 5)
    assert lab.made() == before
