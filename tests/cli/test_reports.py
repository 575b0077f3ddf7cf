"""`nestobs report`: what it says and how it ends; stopped, killed and out of room; and its examples, which are true."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import nestobs
from benchmarks.kill_report import kill
from nestobs.nostr import Address, write_naddr
from nestobs.timeline.nests import address_of
from worlds import scheduled_reports as reports
from worlds.command_line import clear_environment, here, is_one_sentence

pytestmark = pytest.mark.slow

FAILS = "if fail: raise ValueError('no luck')"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ./nestobs-data, ./daily.ipynb, and ./t for temporary files."""
    clear_environment(monkeypatch, tmp_path)
    reports.store(tmp_path / "nestobs-data")
    reports.write(tmp_path / "daily.ipynb", FAILS)
    (tmp_path / "t").mkdir()
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """`run("run", NAME, …)`: nestobs report in this process."""
    return partial(here, capsys, "report")


DAILY = ("run", "daily.ipynb", "--window", reports.DAY)
OUT = Path("runs/reports")


# run


def test_a_report_is_made_once_and_says_so(run: Any, home: Path) -> None:
    said = run(*DAILY)
    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        f"daily {reports.DAY}: good: window 2026-01-01T00:00:00Z/2026-01-02T00:00:00Z",
        f"  runs/reports/daily/{reports.DAY}/report.html",
    ]
    assert reports.whole(home / OUT / "daily" / reports.DAY)["verdict"] == "good"
    again = run(*DAILY)
    assert again.code == 0
    assert "made before; --force makes it again" in again.out
    shown = run(*DAILY, "--json")
    assert json.loads(shown.out) == reports.whole(home / OUT / "daily" / reports.DAY)
    assert shown.err == ""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--parameter", "fail=true"), 1),
        (("--parameter", "verdict=breached", "--fail-on", "breached"), 3),
        (("--parameter", "verdict=breached"), 0),
        (("--parameter", "verdict=too little data", "--fail-on", "breached"), 4),
        (("--parameter", "verdict=too little data"), 4),
    ],
)
def test_the_exit_code_is_the_verdicts(run: Any, home: Path, words: tuple[str, ...], code: int) -> None:
    said = run(*DAILY, *words, "--json")
    assert said.code == code
    assert json.loads(said.out) == reports.whole(home / OUT / "daily" / reports.DAY)
    assert "Traceback" not in said.err
    if code != 1:
        assert run(*DAILY, *words).code == code, "the same question again has another answer"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("run", "dayly", "--yesterday"), 2, "there is no notebook 'dayly'"),
        (("run", "none.ipynb", "--yesterday"), 2, "there is no notebook none.ipynb"),
        (("run", "demo", "--yesterday"), 2, "no parameter 'window'"),
        (("run", "daily.ipynb", "--window", "2026-01-02/2026-01-01"), 2, "ends before it begins"),
        (("run", "daily.ipynb", "--window", "../../etc"), 2, "is no window"),
        (("run", "daily.ipynb", "--last", "1.5s"), 2, "whole seconds"),
        (("run", "daily.ipynb", "--last", "500ms"), 2, "whole seconds"),
        ((*DAILY, "--parameter", "m=3"), 2, "it knows store, window, verdict, n, share, fail, title, many"),
        ((*DAILY, "--parameter", "n=many"), 2, "is no whole number"),
        ((*DAILY, "--parameter", "store=x"), 2, "passed by nestobs"),
        ((*DAILY, "--on-result", "sh -c 'x"), 2, "--on-result"),
        ((*DAILY, "--store", "none"), 5, "none"),
        ((*DAILY, "--out", "daily.ipynb"), 5, "give --out a folder"),
        (("catch-up", "daily.ipynb", "--since", "then"), 2, "--since"),
        (("catch-up", "daily.ipynb", "./daily.ipynb", "--since", "7d"), 2, "the same name"),
        (("catch-up", "daily.ipynb", "--since", "7d", "--every", "90.5"), 2, "whole seconds"),
        (("catch-up", "daily.ipynb", "--since", "7 daze"), 2, "is no duration"),
        (("prune", "--keep", "30"), 2, "the last 30 s"),
        (("prune", "--keep", "30d", "--keep-failed", "30"), 2, "the last 30 s"),
        (("prune", "--keep", "30d"), 2, "there are no reports"),
    ],
)
def test_a_mistake_is_one_sentence_and_makes_nothing(
    run: Any, home: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    is_one_sentence(run(*words), code, said)
    assert not (home / OUT / "daily").exists()


@pytest.mark.parametrize(
    "words",
    [(), ("run", "x"), ("run", "x", "--yesterday", "--last", "6h"), ("run", "x", "--yesterday", "--timeout", "never"),
     ("run", "x", "--yesterday", "--fail-on", "good"), ("run", "x", "--last", "soon"), ("prune", "--keep", "-1"),
     ("catch-up", "x"), ("catch-up", "x", "--jobs", "0"), ("catch-up", "x", "--since", "7d", "--every", "0d")],
)  # fmt: skip
def test_words_that_do_not_parse_are_usage_errors(run: Any, words: tuple[str, ...]) -> None:
    assert run(*words).code == 2


def test_yesterday_and_the_last_window_are_aligned_and_over(run: Any, home: Path) -> None:
    reports.write(home / "plain.ipynb", result="")
    now = datetime.now(UTC)
    made = json.loads(run("run", "plain.ipynb", "--yesterday", "--json").out)
    assert made["window"]["name"] == f"{now - timedelta(days=1):%Y-%m-%d}"
    last = json.loads(run("run", "plain.ipynb", "--last", "6h", "--json").out)
    start, end = (datetime.fromisoformat(last["window"][name]) for name in ("start", "end"))
    assert end - start == timedelta(hours=6)
    assert (end.hour % 6, end.minute, end.second) == (0, 0, 0)
    assert timedelta() <= now - end < timedelta(hours=6, minutes=5)


def test_what_takes_its_time_is_told_on_stderr(run: Any, home: Path) -> None:
    reports.write(home / "slow.ipynb", "import time\ntime.sleep(2.5)", "1")
    said = run("run", "slow.ipynb", "--window", reports.DAY)
    assert re.search(rf"^nestobs: slow {reports.DAY}: cell \d of 5, \d+ s$", said.err, re.M)
    assert "cell" not in said.out


# catch-up, index, prune


def test_catching_up_makes_a_week_index_and_feed_show_it_and_pruning_takes_it(run: Any, home: Path) -> None:
    reports.write(home / "week.ipynb", FAILS, result="")
    words = ("catch-up", "week.ipynb", "--since", "3w", "--every", "1w")
    first = run(*words, "--most", "2", "--parameter", "fail=true", "--json")
    assert first.code == 1
    failed = json.loads(first.out)
    assert [each["verdict"] for each in failed] == ["failed"] * 2
    assert "3 are missing or failed; making the oldest 2" in first.err
    said = run(*words, "--jobs", "2")
    assert said.code == 0
    assert len(said.out.splitlines()) == 6
    assert run(*words).out == "nothing is missing\n"
    folders = reports.folders(home / OUT)
    assert [reports.whole(folder)["verdict"] for folder in folders] == ["good"] * 3
    assert {each["window"]["name"] for each in failed} == {folder.name for folder in folders[:2]}
    page = (home / OUT / "index.html").read_text()
    assert all(f"week/{folder.name}/report.html" in page for folder in folders)
    assert len(ElementTree.parse(home / OUT / "feed.xml").findall("{*}entry")) == 3
    (home / OUT / "index.html").unlink()
    assert json.loads(run("index", "--json").out)["reports"] == 3
    assert (home / OUT / "index.html").read_text() == page
    dry = run("prune", "--keep", "1d", "--json")
    assert [each["window"] for each in json.loads(dry.out)["reports"]] == [folder.name for folder in folders[:2]]
    assert reports.folders(home / OUT) == folders
    assert "2 would go" in run("prune", "--keep", "1d").out
    assert "2 went" in run("prune", "--keep", "1d", "--yes").out
    assert reports.folders(home / OUT) == folders[2:]
    assert "would go, 0 bytes" in run("prune", "--keep", "1d").out
    assert folders[0].name not in (home / OUT / "index.html").read_text()
    assert reports.left(home / OUT) == []


def test_since_an_instant_means_the_windows_that_begin_after_it(run: Any, home: Path) -> None:
    reports.write(home / "plain.ipynb", result="")
    said = run("catch-up", "plain.ipynb", "--since", "2026-01-01T00:00:01", "--every", "6h", "--most", "1", "--json")
    assert [each["window"]["start"] for each in json.loads(said.out)] == ["2026-01-01T06:00:00Z"]
    said = run("catch-up", "plain.ipynb", "--since", "2026-01-01", "--every", "1d", "--most", "1", "--json")
    assert [each["window"]["name"] for each in json.loads(said.out)] == ["2026-01-01"]
    assert run("catch-up", "plain.ipynb", "--since", "2199-01-01").out == "nothing is missing\n"


# two at once, stopped, killed, out of room

SLOW = "import time\nopen('begun', 'a').write('x')\ntime.sleep(3 if not fail else 1000)"


def begun(home: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a cell runs."""
    ends = time.monotonic() + 60
    while not (home / "begun").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < ends, "it does not come so far"
        time.sleep(0.02)


def test_of_two_runs_one_works_and_the_other_ends_with_75(run: Any, home: Path) -> None:
    reports.write(home / "daily.ipynb", SLOW)
    first = reports.begin(*DAILY, cwd=home)
    begun(home, first)
    said = run(*DAILY)
    assert said.code == 75
    assert "another process is making it" in said.out
    assert run(*DAILY, "--json").out == "null\n"
    code, out, err = reports.ended(first)
    assert code == 0, err
    assert "good" in out
    assert (home / "begun").read_text() == "x"
    assert reports.left(home / OUT) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_ends_soon_with_its_kernel_and_the_next_one_mends_it(home: Path, number: int) -> None:
    reports.write(home / "daily.ipynb", SLOW)
    words = ("catch-up", "daily.ipynb", "--since", "9d", "--jobs", "2")
    process = reports.begin(*words, "--parameter", "fail=true", cwd=home, tmp=home / "t")
    begun(home, process)
    began = time.monotonic()
    process.send_signal(number)
    code, _, err = reports.ended(process)
    print(f"ended {time.monotonic() - began:.1f} s after")
    assert code == 130, err
    assert time.monotonic() - began < 15
    assert "interrupted: what was not finished is not published" in err
    assert "Traceback" not in err
    assert reports.kernels(f"TMPDIR={home / 't'}") == []
    assert reports.folders(home / OUT) == []
    assert reports.left(home / OUT) == list((home / "t").iterdir()) == []
    code, _, err = reports.report(*words, "--most", "1", cwd=home)
    assert code == 0, err
    assert len(reports.folders(home / OUT)) == 1


def test_a_run_that_is_killed_leaves_what_is_whole_and_the_next_one_mends_it(home: Path) -> None:
    """Three instants; benchmarks/kill_report.py takes twenty."""
    (home / "nestobs-data").rename(home / "store")
    notebook = reports.write(home / "daily.ipynb", "import subprocess\nsubprocess.Popen(['sleep', '1000'])")
    dice = random.Random(7)
    for _ in range(3):
        after_s = dice.uniform(1.0, 9.0)
        assert kill(home, notebook, after_s) == [], f"killed after {after_s:.2f} s"


def test_a_run_that_is_killed_takes_its_kernel_and_what_its_cells_started_with_it(home: Path) -> None:
    reports.write(home / "daily.ipynb", f"import subprocess\nsubprocess.Popen(['sleep', '1000'])\n{SLOW}")
    process = reports.begin(*DAILY, "--parameter", "fail=true", cwd=home, tmp=home / "t")
    begun(home, process)
    assert len(reports.kernels(f"TMPDIR={home / 't'}")) >= 4, "not the run, its kernel, the guard and the cell's child"
    process.kill()
    process.wait()
    ends = time.monotonic() + 5
    while (alive := reports.kernels(f"TMPDIR={home / 't'}")) and time.monotonic() < ends:
        time.sleep(0.02)
    assert alive == []
    process.communicate()
    assert reports.folders(home / OUT) == []


FULL = "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({0}, {0}))"


@pytest.mark.parametrize("size", [40_000, 3_000_000])
def test_a_disk_that_is_full_leaves_what_was_published(run: Any, home: Path, size: int) -> None:
    """3 MB have room for all but plotly.js; 40 kB, for the store's own files and the executed notebook."""
    reports.write(home / "daily.ipynb", "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[1], x=[3]))")
    assert run(*DAILY).code == 0
    before = {path: path.read_bytes() for path in (home / OUT / "daily").rglob("*") if path.is_file()}
    code, _, err = reports.report(*DAILY, "--force", cwd=home, tmp=home / "t", before=FULL.format(size))
    assert code == 5, err
    assert re.fullmatch(
        r"(nestobs: daily .*\n)*nestobs: no room to write in [^\n]*the reports there are whole[^\n]*\n", err
    )
    assert {path: path.read_bytes() for path in (home / OUT / "daily").rglob("*") if path.is_file()} == before
    assert reports.kernels(f"TMPDIR={home / 't'}") == []
    assert run(*DAILY, "--force").code == 0
    assert reports.left(home / OUT) == list((home / "t").iterdir()) == []


# incident


def link_to(nest: str) -> str:
    address = address_of(nest)
    assert isinstance(address, Address)
    return f"https://nests.example/room/{write_naddr(address)}?from=a#b"


def test_a_pasted_link_becomes_the_page_of_its_nest(home: Path, run: Any) -> None:
    faulty = next(each for each in nestobs.diagnose("example") if each.first.cause == "api_join_fault")
    said = run("incident", link_to(faulty.nest), "--store", "example", "--json")
    assert (said.code, said.err) == (0, "")
    assert said.data["verdict"] == "breached"
    page = home / said.data["page"]
    assert page.parent == home / "runs" / "incidents"
    assert faulty.room in page.read_text()
    assert run("incident", link_to(faulty.nest), "--store", "example").code == 0  # made again, in its place
    assert sorted(path.suffix for path in page.parent.iterdir()) == [".html", ".ipynb"]


def test_of_a_nest_that_is_not_there_the_page_says_what_is(home: Path, run: Any) -> None:
    said = run("incident", "<script>/../..", "--store", "example")
    assert said.code == 4
    assert "too little data" in said.out
    assert [path.name for path in (home / "runs" / "incidents").glob("*.html")] == ["script.html"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["room", "--store", "none"], 5, "`example` comes with nestobs"),
        (["room", "--out", "page.pdf"], 2, "name the page, as page.html"),
        (["room", "--out", "daily.html"], 2, "daily.ipynb is there, and not of an earlier page"),
    ],
    ids=["store", "page", "notebook"],
)
def test_a_mistake_about_an_incident_is_one_sentence(words: list[str], code: int, said: str, run: Any) -> None:
    before = Path("daily.ipynb").read_bytes()
    is_one_sentence(run("incident", *words), code, said)
    assert Path("daily.ipynb").read_bytes() == before
    assert not Path("runs").exists()
