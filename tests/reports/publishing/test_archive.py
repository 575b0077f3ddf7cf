"""Published whole or not at all: readers beside a publisher, a publisher that dies, locks, what is left and swept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from nestobs.errors import StoreError, UsageError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import DAY_S, Window
from nestobs.reports.publishing import retention as prune
from nestobs.reports.publishing.archive import Archive, Entry, private_name, report_name
from nestobs.reports.publishing.execute import socket_folder
from worlds import scheduled_reports as reports
from worlds.archives import DAY, publish

pytestmark = pytest.mark.slow


def verdicts(archive: Archive) -> dict[str, str]:
    return {
        path.name: json.loads((path / "manifest.json").read_text())["verdict"] for path in reports.folders(archive.root)
    }


def test_a_report_is_published_under_its_name_and_window(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path / "out")
    place = publish(archive)
    assert place == tmp_path / "out" / "daily" / "2026-01-01"
    assert sorted(path.name for path in place.iterdir()) == reports.FILES
    entry = archive.entry("daily", DAY)
    assert entry is not None
    assert (entry.verdict, entry.made, entry.final, entry.failed) == ("good", True, True, None)
    assert reports.left(archive.root) == []


def test_windows_shorter_than_a_day_have_a_place_of_their_own(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    windows = list(DAY.parts(6 * 3_600))
    for window in windows:
        publish(archive, window)
    assert [entry.window for entry in archive.entries()] == windows
    assert len(reports.folders(tmp_path)) == 4


def test_links_are_relative_so_the_folder_can_be_moved(tmp_path: Path) -> None:
    publish(Archive.open(tmp_path / "out"))
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert [entry.name for entry in Archive(moved).entries()] == ["daily"]


def test_a_failed_report_stands_alone_only_until_a_good_one_is_made_and_never_replaces_it(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    publish(archive, error="no luck", late_s=1)
    assert verdicts(archive) == {"2026-01-01": "failed"}
    publish(archive, error="no luck again", late_s=2)
    assert verdicts(archive) == {"2026-01-01": "failed"}
    publish(archive, late_s=3)
    assert verdicts(archive) == {"2026-01-01": "good"}
    publish(archive, error="later", late_s=4)
    assert verdicts(archive) == {"2026-01-01": "good", "2026-01-01.failed": "failed"}
    entry = archive.entry("daily", DAY)
    assert entry is not None
    assert entry.final
    assert entry.failed is not None
    publish(archive, late_s=5)
    assert verdicts(archive) == {"2026-01-01": "good"}
    Archive.open(tmp_path)
    assert reports.left(tmp_path) == []


@pytest.mark.parametrize("verdict", ["breached", "too little data"])
def test_a_failed_run_does_not_replace_a_report_whatever_it_says(tmp_path: Path, verdict: str) -> None:
    archive = Archive.open(tmp_path)
    publish(archive, verdict=verdict, late_s=1)
    publish(archive, error="no luck", late_s=2)
    assert verdicts(archive) == {"2026-01-01": verdict, "2026-01-01.failed": "failed"}


def test_a_report_made_before_its_window_was_over_is_not_final(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    publish(archive, late_s=-3_600)
    entry = archive.entry("daily", DAY)
    assert entry is not None
    assert entry.made
    assert not entry.final


def test_a_draft_that_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    publish(archive)
    with archive.draft("daily", DAY) as draft:
        (draft / "report.html").write_text("half")
    assert verdicts(archive) == {"2026-01-01": "good"}
    assert reports.left(tmp_path) == []


def test_a_reader_beside_a_publisher_always_finds_a_whole_report(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    page = publish(archive) / "report.html"
    seen, wrong, done = set(), [], threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                words = page.read_text().split()
            except OSError as error:
                wrong.append(repr(error))
                return
            if len(words) != 50_000 or len(set(words)) != 1:
                wrong.append(f"{len(words)} words, {len(set(words))} different")
            seen.add(words[0])

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(40):
            publish(archive, late_s=100 + number)
    finally:
        done.set()
        for reader in readers:
            reader.join(30)
    assert wrong == []
    assert len(seen) > 2, "the readers saw nothing of it"


# dying


def die_at(out: Path, line: int, error: str) -> bool:
    """Publish in a process that is killed before it executes that line of the archive; whether it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads: the child needs none of them
        child = os.fork()
    if child == 0:
        lines = 0

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal lines
            if event == "line" and frame.f_code.co_filename.endswith("archive.py"):
                lines += 1
                if lines == line:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        try:
            sys.settrace(trace)
            publish(Archive.open(out), late_s=99, error=error)
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


@pytest.mark.parametrize(("before", "error"), [("good", ""), ("failed", ""), ("good", "no luck"), ("", "")])
def test_a_publisher_killed_at_any_line_leaves_the_old_report_or_the_new_one_whole(
    tmp_path: Path, before: str, error: str
) -> None:
    """Every third line; benchmarks/kill_report.py kills whole runs, at any instant."""
    line, killed = 1 + len(before + error) % 3, 0
    while True:
        out = tmp_path / str(line)
        if before:
            publish(Archive.open(out), error="" if before == "good" else "no luck", late_s=1)
        died = die_at(out, line, error)
        killed += died
        for folder in reports.folders(out) if out.is_dir() else []:
            assert sorted(path.name for path in folder.iterdir()) == reports.FILES
            late = {path.read_text().split()[0] for path in folder.glob("report.*")}
            assert late in ({"1"}, {"99"}), f"line {line}: {late}"
        if before:
            assert (out / "daily" / "2026-01-01" / "report.html").is_file(), f"line {line}: the report is gone"
        archive = Archive.open(out)
        assert reports.left(out) == [], f"line {line}"
        publish(archive, late_s=200)
        assert (out / "daily" / "2026-01-01" / "report.html").read_text().startswith("200 ")
        if not died:
            break
        line += 3
    assert killed > 20


def test_sweeping_takes_what_a_dead_run_left_with_its_private_folder_and_no_more(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    publish(archive)
    with archive.draft("daily", DAY) as draft:
        (draft / "report.html").write_text("half")
        private = socket_folder() / private_name(draft)
        private.mkdir()
        (tmp_path / ".index.html.77.tmp").write_text("half")
        (tmp_path / ".locks" / "daily@2025-12-31").touch()
        (tmp_path / ".versions" / "what is this").mkdir()
        (tmp_path / "notes").mkdir()
        with archive.holding("daily", DAY) as mine:
            assert mine
            Archive.open(tmp_path)
            assert draft.is_dir(), "what is being made was swept"
        Archive.open(tmp_path)
        assert not draft.exists()
        assert not private.exists()
    assert reports.left(tmp_path) == ["what is this"]
    assert verdicts(archive) == {"2026-01-01": "good"}
    assert (tmp_path / "notes").is_dir()


# locks

HOLDER = """
import sys
from pathlib import Path
from nestobs.reports.publishing.archive import Archive
from nestobs.observation.window import Window
with Archive.open(Path(sys.argv[1])).holding("daily", Window.parse("2026-01-01")) as mine:
    print(mine, flush=True)
    sys.stdin.read()
"""


def test_only_one_holds_a_report_and_a_dead_holder_holds_nothing(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        archive = Archive(tmp_path)
        with archive.holding("daily", DAY) as mine:
            assert not mine
        with archive.holding("daily", DAY.earlier(1)) as other:
            assert other
        holder.kill()
        holder.wait(10)
        with archive.holding("daily", DAY) as mine:
            assert mine
    assert list((tmp_path / ".locks").iterdir()) == []


def test_a_lock_is_never_held_twice_though_its_file_is_removed_each_time(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    inside, most, guard = 0, 0, threading.Lock()

    def contend() -> None:
        nonlocal inside, most
        for _ in range(150):
            with archive.indexing():
                with guard:
                    inside += 1
                    most = max(most, inside)
                with guard:
                    inside -= 1

    threads = [threading.Thread(target=contend) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == 1


# what others put there


def test_what_is_none_of_ours_is_passed_over_and_a_damaged_manifest_is_no_report(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    place = publish(archive)
    for other in ("daily/notes", "daily/2026-01-01.html", "not a name/2026-01-01", "daily/2026-01-01--2026", "empty"):
        (tmp_path / other).mkdir(parents=True)
    for window in ("Z", "9999-12-31", "0001-01-01", "2026-13-01", "2026-01-01T000000Z--2026-01-01T000000Z"):
        (tmp_path / ".versions" / f"daily@{window}@0123456789ab").mkdir()
        (tmp_path / "daily" / window).mkdir()
    Archive.open(tmp_path)
    (tmp_path / "daily" / "2026-01-09").write_text("a file")
    assert len(archive.entries()) == 1
    for damage in ("", "[1]", "{", '{"schema": 99}', "[" * 100_000):
        (place / "manifest.json").write_text(damage)
        assert archive.entries() == [Entry("daily", DAY, {})]
        assert archive.entries()[0].verdict == "unreadable"
        assert not archive.entries()[0].final


def test_a_real_folder_in_the_place_of_a_link_is_read_and_not_replaced(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    folder = tmp_path / "daily" / "2026-01-01"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(
        json.dumps({"schema": 1, "verdict": "good", "made_at": "2026-01-02T00:01:00Z"})
    )
    assert archive.entries()[0].final
    with pytest.raises(OSError, match="directory"):
        publish(archive)
    assert (folder / "manifest.json").is_file()
    Archive.open(tmp_path)
    assert reports.left(tmp_path) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_an_archive_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="give --out"):
        Archive.open(tmp_path / "out")


def test_an_archive_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(StoreError, match="give --out a folder"):
        Archive.open(tmp_path / "out")


@pytest.mark.parametrize("name", ["", ".", "..", "a b", "a.b", "<script>", "x" * 65, "a@b", "-x", "a\nb", "\u202ea"])
def test_a_name_that_could_not_be_a_folders_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a report's"):
        report_name(Path(f"{name}.ipynb"))


# pruning


def test_pruning_keeps_the_newest_made_and_the_newest_good_whatever_their_age(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    days = list(Window.parse("2026-01-01/2026-01-11").parts(DAY_S))
    told = ["good", "failed", "good", "good", "breached", "good", "breached", "failed", "breached", "failed"]
    for day, verdict in zip(days, told, strict=True):
        publish(archive, day, error="no luck" if verdict == "failed" else "", verdict=verdict)
    publish(archive, days[2], error="no luck", late_s=500)
    publish(archive, days[0], name="other")
    now = days[-1].end + 1_000 * DAY_S * SECOND_NS
    going = prune.going(archive, now=now, keep_s=DAY_S, keep_failed_s=DAY_S)
    kept = {entry.window.name for entry in archive.entries() if entry.name == "daily"} - {
        each.entry.window.name for each in going
    }
    assert kept == {"2026-01-06", "2026-01-09"}
    assert {each.entry.name for each in going} == {"daily"}
    before = sum(path.stat().st_size for path in (tmp_path / ".versions").rglob("*") if path.is_file())
    assert len(prune.remove(archive, going)) == len(going)
    after = sum(path.stat().st_size for path in (tmp_path / ".versions").rglob("*") if path.is_file())
    assert before - after == sum(each.bytes for each in going)
    assert [entry.window.name for entry in archive.entries()] == ["2026-01-06", "2026-01-09", "2026-01-01"]
    assert reports.left(tmp_path) == []


def test_pruning_looks_at_the_age_and_takes_a_failed_run_from_beside_a_good_report(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    days = list(Window.parse("2026-01-01/2026-01-05").parts(DAY_S))
    for day in days:
        publish(archive, day)
    publish(archive, days[1], error="no luck", late_s=500)
    now = days[-1].end
    going = prune.going(archive, now=now, keep_s=int(2.5 * DAY_S), keep_failed_s=DAY_S)
    assert [(each.entry.window, each.what) for each in going] == [(days[0], "report"), (days[1], "failed run")]
    prune.remove(archive, going)
    assert verdicts(archive) == dict.fromkeys(reports.days(2, 3), "good")


def test_pruning_leaves_what_was_made_anew_meanwhile(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    days = list(Window.parse("2026-01-01/2026-01-03").parts(DAY_S))
    for day in days:
        publish(archive, day)
    going = prune.going(archive, now=days[-1].end + 9 * DAY_S * SECOND_NS, keep_s=1, keep_failed_s=1)
    assert [each.entry.window for each in going] == [days[0]]
    publish(archive, days[0], late_s=500)
    assert prune.remove(archive, going) == []
    assert len(archive.entries()) == 2
