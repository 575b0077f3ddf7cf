"""A report of a window, made once: real kernels over a real store, in time, alone or many at once, without secrets."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nestobs.errors import StoreError, UsageError
from nestobs.observation.window import DAY_S, Window
from nestobs.reports.publishing import schedule as scheduled
from nestobs.reports.publishing.archive import Archive
from nestobs.reports.publishing.html import shared_name
from nestobs.reports.publishing.schedule import Made, Order, Stop
from worlds import scheduled_reports as reports
from worlds.secrets_shown import SECRETS

pytestmark = pytest.mark.slow

DAY = Window.parse(reports.DAY)
FIGURE = "import plotly.graph_objects as go\ngo.Figure(go.Bar(y=[1, 2], x=[3, n]))"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with ./store in it; kernels' temporary files in ./t."""
    reports.store(tmp_path / "store")
    (tmp_path / "t").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Making:
    """Orders of one archive, and what was told of them."""

    def __init__(self, out: Path) -> None:
        self.archive, self.stop = Archive.open(out), Stop()
        self.told: list[str] = []
        self.cells: list[tuple[int, int]] = []

    def __call__(self, order: Order, window: Window = DAY) -> Made:
        return scheduled.make(
            self.archive,
            order,
            window,
            stop=self.stop,
            tell=self.told.append,
            progress=lambda *at: self.cells.append(at),
        )

    def all(self, order: Order, windows: list[Window], jobs: int) -> list[Made]:
        wanted = scheduled.due(self.archive, [order], windows)
        none = lambda *_: None  # noqa: E731 - told nothing
        return list(
            scheduled.catch_up(
                self.archive, wanted, jobs=jobs, stop=self.stop, tell=self.told.append, progress=lambda *_: none
            )
        )


@pytest.fixture
def make(folder: Path) -> Making:
    return Making(folder / "out")


def test_a_report_is_made_once_and_again_only_by_force(make: Making, folder: Path) -> None:
    notebook = reports.write(folder / "daily.ipynb", FIGURE)
    order = Order(notebook=notebook, store=Path("store"), parameters={"n": 7, "share": 0.25})
    made = make(order)
    assert (made.state, made.verdict, made.place) == ("made", "good", folder / "out" / "daily" / reports.DAY)
    about = reports.whole(folder / "out" / "daily" / reports.DAY)
    assert about == made.manifest
    assert about["parameters"] == {"n": 7, "share": 0.25, "window": DAY.text, "store": "store"}
    assert (about["rows"], about["coverage"], about["reasons"]) == ({"observations": 7}, 0.25, [f"window {DAY.text}"])
    assert make.cells == [(number, 4) for number in range(1, 5)]
    again = make(order)
    assert (again.state, again.manifest) == ("already", about)
    assert len(make.cells) == 4
    forced = make(Order(notebook=notebook, store=Path("store"), parameters={"n": 8}, force=True))
    assert (forced.state, forced.manifest["rows"]) == ("made", {"observations": 8})
    assert reports.whole(folder / "out" / "daily" / reports.DAY)["facts"] == {"n": 8}
    assert reports.left(folder / "out") == []
    assert (folder / "out" / "index.html").is_file()
    assert (folder / "out" / "feed.xml").is_file()


def test_a_page_leads_to_what_else_there_is_of_its_window_and_nowhere_that_is_not(make: Making, folder: Path) -> None:
    for name in ("incident", "daily", "incident"):
        notebook = reports.write(folder / f"{name}.ipynb")
        make(Order(notebook=notebook, store=Path("store"), force=True))
    ends = {"daily": "daily@2026-01-01", "incident": "incident@2026-01-01"}
    for name, other in (("daily", "incident"), ("incident", "daily")):
        place = folder / "out" / name / reports.DAY
        links = re.findall(r'<a href="([^#"]+)#([^"]+)">([^<]*)</a>', (place / "report.html").read_text())
        said = [(at, words) for _, at, words in links]
        assert said == [(ends[other], f"{other}, same window"), (ends[name], "all reports")]
        for url, at, _ in links:
            assert f'<span id="{at}"></span>' in Path(os.path.normpath(place / url)).read_text()


def test_a_failed_run_says_what_went_wrong_and_stands_beside_a_good_one(make: Making, folder: Path) -> None:
    cell = "if fail: raise ValueError('<script>window.pwned=1</script>' + chr(7) + 'x' * 1_000_000 + store)"
    order = Order(notebook=reports.write(folder / "daily.ipynb", "print('it ran')", cell), store=Path("store"))
    made = make(order)
    assert made.verdict == "good"
    failing = Order(notebook=order.notebook, store=order.store, parameters={"fail": True, "n": 99}, force=True)
    failed = make(failing)
    assert (failed.verdict, failed.place) == ("failed", folder / "out" / "daily" / f"{reports.DAY}.failed")
    assert reports.whole(folder / "out" / "daily" / reports.DAY) == made.manifest
    about = reports.whole(folder / "out" / "daily" / f"{reports.DAY}.failed")
    assert about["error"].startswith("daily.ipynb failed in cell 4: ValueError: <script>")
    assert len(json.dumps(about)) < 20_000
    page = (failed.place / "report.html").read_text()  # type: ignore[operator]  # it is there
    assert "it ran" in page
    assert "Traceback" in page
    assert "ValueError" in page
    assert "<script>window.pwned" not in page
    assert "\x07" not in page
    assert len(page) < 3_000_000
    executed: Any = nbformat.read(failed.place / "report.ipynb", as_version=4)  # type: ignore[operator]  # as above
    assert "it ran" in str(executed.cells)
    assert "papermill-error-cell-tag" not in str(executed)
    assert "x" * 1_000 not in (folder / "out" / "index.html").read_text() + (folder / "out" / "feed.xml").read_text()
    assert make(order).state == "already"


def test_a_malformed_result_is_a_failed_report(make: Making, folder: Path) -> None:
    shown = "from IPython.display import display\nfrom nestobs.reports.display import RESULT\n"
    shown += "display({RESULT: {'verdict': 'fine'}, 'text/plain': 'fine'}, raw=True)"
    made = make(Order(notebook=reports.write(folder / "odd.ipynb", shown, result=""), store=Path("store")))
    assert made.verdict == "failed"
    assert "none that can be read" in reports.whole(folder / "out" / "odd" / reports.DAY)["error"]


def test_a_notebook_without_a_result_is_good_when_it_ran(make: Making, folder: Path) -> None:
    made = make(Order(notebook=reports.write(folder / "plain.ipynb", "n", result=""), store=Path("store")))
    assert (made.verdict, made.manifest["reasons"], made.manifest["coverage"]) == ("good", [], None)


HANGS = "import subprocess, time\nsubprocess.Popen(['sleep', '1000'])\nif fail: time.sleep(1000)"


@pytest.mark.parametrize("limit", [{"cell_timeout_s": 2}, {"timeout_s": 9.0}], ids=["cell", "all"])
def test_what_takes_too_long_is_ended_with_all_it_started(
    make: Making, folder: Path, monkeypatch: pytest.MonkeyPatch, limit: dict[str, Any]
) -> None:
    monkeypatch.setenv("TMPDIR", str(folder / "t"))
    order = Order(notebook=reports.write(folder / "daily.ipynb", HANGS), store=Path("store"), **limit)
    failing = Order(notebook=order.notebook, store=order.store, parameters={"fail": True}, **limit)
    began = time.monotonic()
    made = make(failing)
    assert time.monotonic() - began < 60
    assert made.verdict == "failed"
    assert "took longer than" in made.manifest["error"]
    assert dead(f"TMPDIR={folder / 't'}")
    assert list((folder / "t").iterdir()) == []


def test_what_a_cell_started_ends_with_a_good_report_too(
    make: Making, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(folder / "t"))
    forks = "import os, signal, subprocess\nsubprocess.Popen(['sleep', '1000'])\nif os.fork() == 0: signal.pause()"
    assert make(Order(notebook=reports.write(folder / "daily.ipynb", forks), store=Path("store"))).verdict == "good"
    assert dead(f"TMPDIR={folder / 't'}")


def dead(mark: str, within_s: float = 5.0) -> bool:
    """Whether all processes of that mark end in that time."""
    ends = time.monotonic() + within_s
    while reports.kernels(mark) and time.monotonic() < ends:
        time.sleep(0.02)
    return reports.kernels(mark) == []


def test_a_kernel_that_dies_is_a_failed_report(make: Making, folder: Path) -> None:
    kills = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    made = make(Order(notebook=reports.write(folder / "daily.ipynb", kills), store=Path("store")))
    assert made.manifest["error"] == "daily.ipynb was not finished: its kernel died in cell 3"


def test_ten_windows_are_made_two_at_a_time_without_mixing(make: Making, folder: Path) -> None:
    notebook = reports.write(folder / "daily.ipynb", "print('about', window)")
    windows = list(Window.parse("2026-01-01/2026-01-11").parts(DAY_S))
    made = make.all(Order(notebook=notebook, store=Path("store"), shared_js=True), windows, 2)
    assert [each.verdict for each in made] == ["good"] * 10
    for window in windows:
        about = reports.whole(folder / "out" / "daily" / window.name)
        assert about["reasons"] == [f"window {window.text}"]
        executed: Any = nbformat.read(folder / "out" / "daily" / window.name / "report.ipynb", as_version=4)
        printed = [output.text for cell in executed.cells for output in cell.get("outputs", []) if "text" in output]
        assert printed == [f"about {window.text}\n"]
    assert reports.left(folder / "out") == []
    page = (folder / "out" / "index.html").read_text()
    assert [day for day in reports.days(1, 10) if f"daily/{day}/report.html" not in page] == []
    assert make.all(Order(notebook=notebook, store=Path("store")), windows, 2) == []


def test_catching_up_makes_what_is_missing_or_failed_oldest_first(make: Making, folder: Path) -> None:
    notebook = reports.write(folder / "daily.ipynb", "if fail: raise ValueError('no luck')")
    order = Order(notebook=notebook, store=Path("store"))
    windows = list(Window.parse("2026-01-01/2026-01-05").parts(DAY_S))
    make(order, windows[1])
    make(Order(notebook=notebook, store=Path("store"), parameters={"fail": True}), windows[2])
    assert [window for _, window in scheduled.due(make.archive, [order], windows[::-1])] == [windows[0], *windows[2:]]
    made = make.all(order, windows, 1)
    assert [(each.window, each.verdict) for each in made] == [(w, "good") for w in (windows[0], *windows[2:])]


def test_two_runs_at_once_one_works_and_the_other_says_so(make: Making, folder: Path) -> None:
    """The one that works goes on until the other has its answer."""
    go = folder / "go"
    waits = f"import pathlib, time\nwhile not pathlib.Path({str(go)!r}).exists():\n    time.sleep(0.02)"
    order = Order(notebook=reports.write(folder / "daily.ipynb", waits), store=Path("store"))
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(make, order) for _ in range(2)]
        first = next(as_completed(both, timeout=60)).result()
        go.touch()
        assert first.state == "busy"
        assert sorted(each.result(60).state for each in both) == ["busy", "made"]


def test_stopping_publishes_nothing_and_leaves_nothing(
    make: Making, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(folder / "t"))
    notebook = reports.write(folder / "daily.ipynb", HANGS)
    order = Order(notebook=notebook, store=Path("store"), parameters={"fail": True})
    threading.Timer(6, make.stop).start()
    made = make.all(order, list(Window.parse("2026-01-01/2026-01-05").parts(DAY_S)), 2)
    assert {each.state for each in made} == {"interrupted"}
    assert len(made) == 2
    assert dead(f"TMPDIR={folder / 't'}")
    assert reports.folders(folder / "out") == []
    assert reports.left(folder / "out") == []


def test_one_copy_of_plotly_is_shared_by_relative_path(make: Making, folder: Path) -> None:
    notebook = reports.write(folder / "daily.ipynb", FIGURE)
    made = make(Order(notebook=notebook, store=Path("store"), shared_js=True))
    assert made.place is not None
    page = (made.place / "report.html").read_text()
    assert len(page) < 1_000_000
    source = page.partition('<script src="')[2].partition('"')[0]
    assert source == f"../../{shared_name()}"
    shared = folder / "out" / "daily" / reports.DAY / source  # as a browser reads it: no link is followed
    assert Path(os.path.normpath(shared)).read_text().count("plotly.js v") == 1
    assert (made.place.resolve() / source).resolve() == (folder / "out" / shared_name()).resolve()


def test_the_result_is_handed_to_a_command_whose_failure_changes_nothing(make: Making, folder: Path) -> None:
    notebook = reports.write(folder / "daily.ipynb")
    code = "import sys; open('got', 'a').write(sys.stdin.read()); print('noise'); sys.exit(int(sys.argv[1]))"

    def order(*words: str, **more: Any) -> Order:
        return Order(notebook=notebook, store=Path("store"), force=True, on_result=words, **more)

    made = make(order(sys.executable, "-c", code, "0"))
    assert json.loads((folder / "got").read_text()) == made.manifest
    assert make.told == []
    assert make(order(sys.executable, "-c", code, "3", "s3cret")).verdict == "good"
    assert make(order("no-such-program", "s3cret")).verdict == "good"
    assert make(order("sleep", "1000", on_result_timeout_s=0.2)).verdict == "good"
    assert [told.partition(": ")[2] for told in make.told] == [
        f"{shlex.quote(sys.executable)} ended with 3; the report stands",
        "no-such-program cannot be started (No such file or directory); the report stands",
        "sleep was ended after 0.2 s; the report stands",
    ]


def test_no_secret_reaches_anything_that_is_written(
    make: Making, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "a-livekit-secret-of-32-characters"
    monkeypatch.setenv("NESTOBS_NSEC", SECRETS["nsec"])
    monkeypatch.setenv("NESTOBS_LIVEKIT_API_KEY", "APIkey123")
    monkeypatch.setenv("NESTOBS_LIVEKIT_API_SECRET", secret)
    monkeypatch.setenv("AUTHORIZATION", SECRETS["bearer"])
    (folder / "keys").write_text(f"APIkey123: {secret}")
    (folder / "nestobs.toml").write_text(
        '[targets.t]\napi = "https://h/api/v1/nests"\nrelays = ["wss://r"]\nlivekit_keys_file = "keys"\n'
    )
    tokens = [SECRETS["jwt"], SECRETS["nostr"], SECRETS["nsec"]]
    backwards = f"' '.join({[token[::-1] for token in tokens]!r})[::-1]"
    cells = (
        "import os, sys\nprint(dict(os.environ), file=sys.stderr)\nos.system('env')",
        "from nestobs.config import Config\nprint(Config().file, Config().environment)",
        f"from IPython.display import HTML\nprint(title)\nHTML('<b>' + {backwards})",
        f"if fail: raise ValueError({backwards})",
    )
    order = Order(
        notebook=reports.write(folder / "daily.ipynb", *cells), store=Path("store"), parameters={"title": tokens[0]}
    )
    assert make(order).verdict == "good"
    failing = Order(
        notebook=order.notebook, store=order.store, parameters={"fail": True, "title": tokens[2]}, force=True
    )
    assert make(failing).verdict == "failed"
    written = [path.read_bytes() for path in (folder / "out").rglob("*") if path.is_file()]
    written += ["".join(capfd.readouterr()).encode(), "".join(make.told).encode()]
    assert len(written) > 7
    for each in [
        secret,
        "APIkey123",
        SECRETS["nsec"],
        SECRETS["jwt"],
        *(SECRETS[n].split()[-1] for n in ("nostr", "bearer")),
    ]:
        assert [text for text in written if each.encode() in text] == [], each
    assert b"[secret]" in b"".join(written)


def test_no_place_of_this_machine_is_published(make: Making, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    cell = "from nestobs.store.reader import Store\nStore.open(store + '-of-none', create=False)"
    notebook = reports.write(folder / "daily.ipynb", "print(store, __import__('os').getcwd())", cell)
    assert make(Order(notebook=notebook, store=folder / "store")).verdict == "failed"
    for name in reports.FILES:
        said = (folder / "out" / "daily" / reports.DAY / name).read_text()
        assert str(folder) not in said, name
        assert sys.prefix not in said, name


def test_without_a_store_or_a_parameter_nothing_is_made(make: Making, folder: Path) -> None:
    notebook = reports.write(folder / "daily.ipynb")
    with pytest.raises(StoreError):
        make(Order(notebook=notebook, store=Path("none")))
    with pytest.raises(UsageError, match="it knows store, window"):
        make(Order(notebook=notebook, store=Path("store"), parameters={"m": 1}))
    with pytest.raises(UsageError, match="passed by nestobs"):
        make(Order(notebook=notebook, store=Path("store"), parameters={"window": ""}))
    with pytest.raises(UsageError, match="no parameter 'window'"):
        make(Order(notebook=reports.write(folder / "b.ipynb", parameters="n = 1"), store=Path("store")))
    assert reports.folders(folder / "out") == []
    assert reports.left(folder / "out") == []


def test_an_index_that_cannot_be_written_is_told_and_the_report_stands(make: Making, folder: Path) -> None:
    (folder / "out" / "index.html").mkdir()
    with pytest.raises(StoreError, match="give --out"):
        make(Order(notebook=reports.write(folder / "daily.ipynb"), store=Path("store")))
    assert reports.whole(folder / "out" / "daily" / reports.DAY)["verdict"] == "good"
