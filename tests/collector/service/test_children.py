"""Reports as child processes: which windows they are asked for, and what their exit codes are taken for."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nestobs.collector.service.children import Children
from nestobs.collector.service.hours import Hours
from nestobs.collector.service.memory import Notebook
from nestobs.collector.service.settings import Keep, Reports
from nestobs.collector.service.state import State
from nestobs.join.budget import Budget
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import Clock, LoopWatch

pytestmark = pytest.mark.slow

MIDNIGHT = 1_772_582_400 * SECOND_NS
"""2026-03-04T00:00:00Z."""

DAY = 86_400
MADE = {"report": "daily_report", "window": {"name": "2026-03-03"}, "verdict": "good", "reasons": ["fine"]}


class Asked:
    """Children whose nestobs writes down its words, prints what it is told to, and ends with a code."""

    def __init__(self, folder: Path, now_s: int, *, code: int = 0, out: str = "[]", first_s: int | None = None) -> None:
        program = (
            "import json, os, sys; open(sys.argv[1], 'a').write(json.dumps([sys.argv[4:], dict(os.environ)]) + '\\n')"
        )
        program += "; print(sys.argv[2]); print('nestobs: no luck', file=sys.stderr); sys.exit(int(sys.argv[3]))"
        self.file = folder / "words.jsonl"
        clock = Clock(wall=lambda: MIDNIGHT + now_s * SECOND_NS, monotonic=lambda: 5)
        self.told: list[str] = []
        self.notebook = Notebook(folder)
        if first_s is not None:
            self.notebook.note(first_at=MIDNIGHT + first_s * SECOND_NS)
        loop, limiter = LoopWatch(clock, lambda _: None), Budget().of("http://api")
        self.state = State(
            clock=clock, folder=folder, target="t", limiter=limiter, loop=loop, began_at=clock.now(), watching=True
        )
        self.children = Children(
            store=folder,
            environment={"PATH": os.environ["PATH"]},
            hours=Hours(clock),
            notebook=self.notebook,
            state=self.state,
            progress=lambda _, facts: self.told.append(facts["said"]),
            words=(sys.executable, "-c", program, str(self.file), out, str(code)),
        )

    def waits(self) -> bool:
        """Whether it has done what was due."""
        return self.state.next_reports_at is not None and self.state.next_reports_at > self.state.clock.now()

    async def once(self, wanted: Reports) -> list[str]:
        """Its words when reports are due now; the clock stands still, so they are due once."""
        task = asyncio.create_task(self.children.report(wanted))
        async with asyncio.timeout(20):
            while not self.waits():  # noqa: ASYNC110 - whatever it does, it says when it is next due
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        words, _ = json.loads(self.file.read_text().splitlines()[0])
        return list(words)


@pytest.fixture
def wanted(tmp_path: Path) -> Callable[..., Reports]:
    def reports(**more: Any) -> Reports:
        plain = {"names": ("daily_report",), "at_s": (1_200,), "length_s": DAY, "since_s": DAY, "out": tmp_path / "out"}
        return Reports(**plain | more)

    return reports


@pytest.mark.parametrize(
    ("now_s", "more", "first_s", "since", "every"),
    [
        pytest.param(1_200, {}, -30 * DAY, "2026-03-03T00:00:00", "86400s", id="yesterday"),
        pytest.param(DAY - 60, {}, -30 * DAY, "2026-03-03T00:00:00", "86400s", id="late in the evening, too"),
        pytest.param(1_200, {"since_s": 7 * DAY}, -30 * DAY, "2026-02-25T00:00:00", "86400s", id="a week"),
        pytest.param(
            1_200, {"since_s": 7 * DAY}, -DAY - 60, "2026-03-02T00:00:00", "86400s", id="since it first began"
        ),
        pytest.param(1_200, {}, 600, "2026-03-04T00:00:00", "86400s", id="nothing before it began"),
        pytest.param(22_800, {"length_s": 21_600}, -DAY, "2026-03-03T06:00:00", "21600s", id="six hours"),
    ],
)
async def test_the_windows_it_asks_for(
    tmp_path: Path, wanted: Any, now_s: int, more: Any, first_s: int, since: str, every: str
) -> None:
    words = await Asked(tmp_path, now_s, first_s=first_s).once(wanted(**more))
    assert words[:3] == ["report", "catch-up", "daily_report"]
    assert words[words.index("--since") + 1] == since
    assert words[words.index("--every") + 1] == every


@pytest.mark.parametrize(
    ("code", "done"),
    [(0, True), (3, True), (4, True), (1, True), (5, False), (75, False), (2, False), (99, False)],
    ids=["made", "breached", "too little data", "failed", "no room", "busy", "the words are wrong", "who knows"],
)
async def test_what_is_not_now_is_tried_again_and_told(tmp_path: Path, wanted: Any, code: int, done: bool) -> None:
    asked = Asked(tmp_path, 1_300, code=code, out=json.dumps([MADE]))
    await asked.once(wanted())
    assert (asked.notebook.memory.reports_at == MIDNIGHT + 1_200 * SECOND_NS) == done
    assert bool(asked.state.as_dict()["reasons"]) != done
    assert asked.state.next_reports_at == MIDNIGHT + (DAY + 1_200 if done else 1_800) * SECOND_NS
    assert asked.state.reports["daily_report"].verdict == "good"
    assert any("daily_report 2026-03-03: good: fine" in words for words in asked.told)


@pytest.mark.parametrize("out", ["", "null", "{", "[1]", '[{"report": 1}]', "[" * 5_000], ids=range(6))
async def test_what_a_child_prints_may_be_anything(tmp_path: Path, wanted: Any, out: str) -> None:
    asked = Asked(tmp_path, 1_300, out=out)
    await asked.once(wanted())
    assert asked.state.reports == {}


async def test_reports_know_no_secret(tmp_path: Path, wanted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NESTOBS_NSEC", "nsec1secret")
    asked = Asked(tmp_path, 1_300)
    await asked.once(wanted())
    assert "nsec1secret" not in asked.file.read_text()


async def test_only_what_is_named_is_pruned(tmp_path: Path, wanted: Any) -> None:
    asked = Asked(tmp_path, 1_300)
    await asked.children.prune(wanted(), Keep(store_s=DAY))
    await asked.children.prune(wanted(), Keep(reports_s=90 * DAY))  # there are none yet
    assert not asked.file.exists()
    (tmp_path / "out").mkdir()
    await asked.children.prune(wanted(), Keep(reports_s=90 * DAY, failed_s=14 * DAY))
    words, _ = json.loads(asked.file.read_text())
    assert words == ["report", "prune", "--keep", "7776000s", "--keep-failed", "1209600s", "--yes", "--out",
                     str(tmp_path / "out")]  # fmt: skip


async def test_a_report_that_is_being_made_ends_with_the_service(tmp_path: Path, wanted: Any) -> None:
    asked = Asked(tmp_path, 1_300)
    begun = tmp_path / "pid"
    program = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)"
    asked.children.words = (sys.executable, "-c", program, str(begun))
    task = asyncio.create_task(asked.children.report(wanted()))
    async with asyncio.timeout(20):
        while not (begun.exists() and begun.read_text()):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(begun.read_text()), 0)
    assert asked.notebook.memory.reports_at is None, "the next start makes it"


@pytest.mark.parametrize(
    ("code", "out", "all_there", "told"),
    [
        (0, '{"shipped": ["a", "b"], "damaged": []}', True, "2 sealed files were shipped to s3://b/x"),
        (0, '{"shipped": [], "damaged": []}', True, None),
        (
            1,
            '{"shipped": ["a"], "damaged": ["file f is damaged"]}',
            False,
            "not shipped: file f is damaged; it is tried",
        ),
        (1, "no JSON", False, "not shipped: not all; it is tried again"),
        (5, "", False, "sealed files were not shipped: no luck; it is tried again"),
    ],
)
async def test_what_came_of_shipping_is_told(tmp_path: Path, code: int, out: str, all_there: bool, told: str) -> None:
    asked = Asked(tmp_path, 0, code=code, out=out)
    assert await asked.children.ship("s3://b/x") is all_there
    words, _ = json.loads(asked.file.read_text())
    assert words == ["ship", "--to", "s3://b/x", "--json", "--store", str(tmp_path)]
    assert bool(asked.state.shipping_lacking) is not all_there
    assert (asked.state.shipping_lacking in asked.state.as_dict()["reasons"]) is not all_there
    assert [told in each for each in asked.told] == ([True] if told else [])
