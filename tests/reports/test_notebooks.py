"""Every notebook: one parameters cell, no outputs, no logic; runs on small, hostile and empty stores and says so."""

from __future__ import annotations

import ast
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

import nestobs
from nestobs.errors import UsageError
from nestobs.join.decision import GONE, STARTING
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Role, Source
from nestobs.reports import ReportError, demo
from nestobs.reports.publishing.execute import run
from nestobs.store.reader import Store
from worlds.story import NOON, RELAY, Story

pytestmark = pytest.mark.slow

NOTEBOOKS = sorted((Path(nestobs.__file__).parents[1] / "notebooks").glob("*.ipynb"))
HOSTILE = "<script>window.pwned=1</script>{{7*7}}$x$\u202e\x07"
SECRET = "nsec1" + "q" * 58


def cells(path: Path, kind: str = "code") -> list[Any]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def story(room: str = "room", trace: str = "trace") -> list[Observation]:
    made = Story(room, trace)
    for vantage, later in (("Computer A", 0.0), ("Computer B", 1.0)):
        made.polls(Source.RELAY, Operation.QUERY, 0.5, vantage=vantage)
        made.polls(Source.API, Operation.INFO, 2.0, vantage=vantage)
        made.polls(Source.API, Operation.GUEST, 8.0, vantage=vantage)
        made.polls(Source.API, Operation.JOIN, 99.0, vantage=vantage)
        made.join(3.0 + later, "gone", GONE, vantage=vantage, role=Role.GUEST)
    made.join(20.0, "guest_instead", "Joined as Guest")
    made.join(1.0, "starting_up", STARTING)
    cut = {"received_at": None, "failure": Failure.INTENT, "reason": "about to join", "attempt_group": "cut"}
    made.row(Source.JOIN, Operation.VERDICT, Outcome.UNKNOWN, 50.0, **cut)
    return made.rows


def store(directory: Path, rows: list[Observation]) -> str:
    opened = Store.open(directory)
    with opened.writer() as writer:
        writer.append(rows)
        writer.flush()
    return str(directory)


def truth(directory: Path, room: str) -> dict[str, str]:
    directory.mkdir()
    shown = {"relay:relay-1": 0.4, "api:info": 1.5, "api:guest": 7.0}
    rows = [
        {
            "scenario": HOSTILE,
            "room": room,
            "address": "",
            "layer": layer,
            "change": "shown",
            "planned_delay_s": at,
            "not_yet_at": NOON + round(at * SECOND_NS),
            "now_at": NOON + round(at * SECOND_NS) + 1_000_000,
        }
        for layer, at in shown.items()
    ]
    never = {"change": "never", "layer": "api:join", "not_yet_at": None, "now_at": None, "planned_delay_s": None}
    rows.append(rows[0] | never)
    (directory / "truth.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lab = {"livekit": {"kind": "stand-in", "version": "1"}, "scenarios": {"x": {"truth_names": {RELAY: "relay-1"}}}}
    (directory / "lab.json").write_text(json.dumps(lab))
    return {"truth": str(directory / "truth.jsonl"), "lab": str(directory / "lab.json")}


def text(page: Path) -> str:
    """What a reader sees, figures' titles and labels included."""
    shown = re.sub(r'<details class="data">.*?</details>', " ", page.read_text(), flags=re.DOTALL)
    bare = re.sub(r"<(script|style|aside)\b.*?</\1>", " ", re.sub(r"</?dfn[^>]*>", "", shown), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).split())


def figures(page: Path) -> Iterator[Any]:
    for cell in nbformat.read(page.with_suffix(".ipynb"), as_version=4).cells:
        for output in cell.get("outputs", []):
            if found := output.get("data", {}).get("application/vnd.plotly.v1+json"):
                yield found


def errors(page: Path) -> list[str]:
    """Whatever went to standard error, or failed, in a notebook that was finished."""
    made = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    return [str(o) for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]


def blank(page: Path) -> list[str]:
    """The cells that put something out in which there is nothing to be seen."""
    made = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    shown = [(cell.source, output.get("data", {})) for cell in made.cells for output in cell.get("outputs", [])]
    bare = re.compile(r"<style>.*?</style>|<[^>]*>", re.DOTALL)
    return [source for source, data in shown if "text/html" in data and not bare.sub("", data["text/html"]).strip()]


def titles(page: Path) -> list[str]:
    found = [figure["layout"]["title"]["text"] for figure in figures(page)]
    return [" ".join(re.sub(r"<[^>]*>", " ", title).split()) for title in found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_one_parameters_cell_of_plain_values(path: Path) -> None:
    tagged = [cell for cell in cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for statement in ast.parse(tagged[0].source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_no_outputs_and_no_logic(path: Path) -> None:
    logic = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.IfExp, ast.Try, ast.With)
    for cell in cells(path):
        assert cell.outputs == []
        assert cell.execution_count is None
        tree = ast.parse(cell.source)
        assert not [
            node for node in ast.walk(tree) if isinstance(node, (*logic, ast.ListComp, ast.DictComp, ast.BinOp))
        ]
        for node in ast.walk(tree):
            assert not isinstance(node, ast.Import), "a notebook imports from nestobs only"
            assert not isinstance(node, ast.ImportFrom) or str(node.module).startswith("nestobs")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_small_store(path: Path, tmp_path: Path) -> None:
    page = run(path, tmp_path / "report.html", {"store": store(tmp_path / "store", story())})
    assert (errors(page), blank(page)) == ([], [])
    assert len(titles(page)) >= 1
    assert all(any(trace.get("x") or trace.get("y") for trace in figure["data"]) for figure in figures(page))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_of_an_empty_store_says_so(path: Path, tmp_path: Path) -> None:
    page = run(path, tmp_path / "report.html", {"store": store(tmp_path / "store", [])})
    assert (errors(page), blank(page)) == ([], [])
    assert "holds no observation" in text(page)
    assert all("nothing to draw" in title for title in titles(page))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_hostile_names_stay_text_and_no_secret_shows(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NESTOBS_NSEC", SECRET)
    rows = story(HOSTILE, HOSTILE) + story("x" * 1_000_000, "long")
    found = truth(tmp_path / "lab", HOSTILE) if path.stem == "demo" else {}  # the others know of no lab
    page = run(path, tmp_path / "report.html", {"store": store(tmp_path / "store", rows), "title": HOSTILE} | found)
    assert (errors(page), blank(page)) == ([], [])
    shown = page.read_text()
    for cell in nbformat.read(page.with_suffix(".ipynb"), as_version=4).cells:  # parameters are the operator's own
        assert "<script>window.pwned" not in str(cell.get("outputs", ""))
    assert not re.search(r"<script>window\.pwned", re.sub(r"<aside.*?</aside>", "", shown, flags=re.DOTALL))
    assert "{{7*7}}" in text(page)
    assert "\u202e" not in text(page)
    assert "\x07" not in shown
    assert SECRET not in shown + page.with_suffix(".ipynb").read_text()
    assert page.stat().st_size < 6_500_000


def test_the_demo_says_what_was_measured_and_what_was_said(tmp_path: Path) -> None:
    path = next(path for path in NOTEBOOKS if path.stem == "demo")
    given = truth(tmp_path / "lab", "room") | {"store": store(tmp_path / "store", story()), "livekit_note": "Mind it."}
    page = run(path, tmp_path / "report.html", given)
    said = text(page)
    assert "1 nest watched from 2 vantage points for 60 s; 4 joins came to a verdict, 1 of them in the room." in said
    assert "LiveKit was a stand-in here" in said
    assert "Mind it." in said
    assert "2026-03-04 12:00:00 to 12:01:00 UTC" in said
    assert "and 1 cut off by a crash" in said
    assert "would have told 2 of 4 joiners something untrue" in said
    assert "8 of 8 intervals contain the lab's truth" in said
    asked = " ".join(titles(page))
    for question in (
        "Where did the time go?",
        "When does each layer",
        "What would the web client",
        "How did the joins end?",
        "Do the measured intervals contain the truth?",
    ):
        assert question in asked


def test_without_a_truth_the_demo_says_that_there_is_none(tmp_path: Path) -> None:
    path = next(path for path in NOTEBOOKS if path.stem == "demo")
    page = run(path, tmp_path / "report.html", {"store": store(tmp_path / "store", story())})
    assert "There is no truth to compare with" in text(page)
    assert "nests.example" in text(page)  # the API's host stands for the scenario


def test_a_store_that_is_none_fails_the_report_with_the_remedy(tmp_path: Path) -> None:
    path = next(path for path in NOTEBOOKS if path.stem == "demo")
    with pytest.raises(ReportError, match="StoreError"):
        run(path, tmp_path / "report.html", {"store": str(tmp_path / "none")})
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("what", ["truth", "lab"])
@pytest.mark.parametrize("content", ["not json", "[1]", '{"scenarios": 3}'])
def test_a_truth_or_lab_that_is_none_is_a_usage_error(tmp_path: Path, what: str, content: str) -> None:
    (tmp_path / "file").write_text(content)
    with pytest.raises(UsageError, match=r"give its (truth\.jsonl|lab\.json)"):
        demo.load(store(tmp_path / "store", []), **{what: str(tmp_path / "file")})


def test_one_nest_of_each_scenario_is_chosen_the_one_that_came_furthest_apart(tmp_path: Path) -> None:
    wide = Story("wide", "wide")
    wide.polls(Source.API, Operation.INFO, 1.0)
    wide.polls(Source.API, Operation.GUEST, 45.0)
    narrow = Story("narrow", "narrow")
    narrow.polls(Source.API, Operation.INFO, 1.0)
    narrow.polls(Source.API, Operation.GUEST, 2.0)
    found = demo.load(store(tmp_path / "store", wide.rows + narrow.rows))
    assert demo.chosen(found) == ["wide"]
