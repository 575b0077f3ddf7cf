"""The live notebook: one table that renews itself, ends by itself, and in a report stands still."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nestobs.observation.schema import Operation, Outcome, Role, Source
from nestobs.reports import live
from nestobs.reports.display import RESULT
from nestobs.reports.publishing.execute import notebook, run
from nestobs.store.example import SHIPPED
from nestobs.store.reader import Store
from worlds.asked import join, made, polls, row, store_of
from worlds.hostile import hostile_rows

pytestmark = pytest.mark.slow


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was displayed, each renewal too."""
    kept: list[str] = []

    class Handle:
        def update(self, panel: Any) -> None:
            kept.append(panel._repr_html_())

    def display(panel: Any, **_: Any) -> Handle:
        kept.append(panel._repr_html_())
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    return kept


def tile(shown: str, name: str) -> str:
    """The value of a tile of a panel."""
    (found,) = re.findall(rf'<p class="name">{name}</p><p class="value">([^<]*)</p>', shown)
    return str(found)


async def test_at_zero_seconds_it_is_shown_once_and_stands_still(tmp_path, shown):
    found = live.load(store_of(tmp_path, [made(), *polls(Source.API, Operation.GUEST, 9, (1, 2))]))
    await live.watch(found, 0.0)
    assert len(shown) == 1
    assert tile(shown[0], "starting") == "1"
    assert "Not following" in shown[0]
    assert live.result(found).verdict == "too little data"


async def test_why_a_nest_is_not_ready_is_shown_and_of_one_that_is_nothing(tmp_path, shown):
    tries = [(step, Outcome.ABSENT, at) for at in (0.0, 4.0, 8.0) for step in (Operation.JOIN, Operation.GUEST)]
    shut = [*polls(Source.API, Operation.INFO, 0, (1, 8)), *polls(Source.LIVEKIT, Operation.ROOMS, 0, (1, 8))]
    found = live.load(store_of(tmp_path / "shut", [made(), *shut, *join(2, tries, "gone", "")]))
    await live.watch(found, 0.0)
    assert "api_join_fault (" in shown[0]
    ready = [made(), *join(2, [(Operation.GUEST, Outcome.VISIBLE, 0.0)], "guest", "", role=Role.GUEST)]
    found = live.load(store_of(tmp_path / "ready", ready))
    await live.watch(found, 0.0)
    assert "joined (" not in shown[1]
    assert "api_join_fault" not in shown[1]


ROW = r"<tr>\s*<td>([^<]*)</td>\s*<td>(\d+) s</td>\s*<td>. (\w+)</td>"


async def test_those_that_failed_stand_first_and_of_their_like_the_newest(shown):
    found = live.load(str(SHIPPED))
    await live.watch(found, 0.0)
    (every,) = live.nests(found).parts
    rows = re.findall(ROW, every._repr_html_())
    assert [state for *_, state in rows] == ["Failed"] * 8 + ["Ready"] * 31
    for state in ("Failed", "Ready"):
        ages = [int(age) for _, age, this in rows if this == state]
        assert ages == sorted(ages)
    assert live.result(found).reasons == ["31 of 39 nests are ready, 8 failed."]
    assert re.findall(ROW, shown[0]) == rows[:8]
    line = shown[0].partition("Ready, newest first")[2]
    assert re.findall(r"<span>(\S+) \((\d+) s\)</span>", line) == [(name, age) for name, age, _ in rows[8:32]]
    assert "and 7 more." in line


async def test_what_a_cause_means_is_said_once_in_the_view_and_of_each_nest_under_it(shown):
    found = live.load(str(SHIPPED))
    await live.watch(found, 0.0)
    (every,) = live.nests(found).parts
    means = "The API fails every join of a room that is there"
    assert (shown[0].count("api_join_fault (9"), shown[0].count(means)) == (3, 1)
    assert every._repr_html_().count(means) == 3


def of_nests(folder: Path, failed: int, ready: int) -> str:
    """A store of so many nests, all of them late in the one way or there."""
    rows = []
    for number in range(failed + ready):
        one = {"room": f"room-{number}", "nest": f"30312:{'ab' * 32}:room-{number}", "trace_id": f"trace-{number}"}
        shown_s = 99.0 if number < failed else 3.0
        rows += [made(number / 100, trace_id=one["trace_id"])]
        rows += polls(Source.API, Operation.GUEST, shown_s, (1 + number / 100, 40 + number / 100), **one)
    return store_of(folder, rows)


@pytest.mark.parametrize(
    ("failed", "ready", "told", "named", "said"),
    [
        (0, 0, 0, 0, "This store holds no observation"),
        (1, 0, 1, 0, "0 of 1 nests are ready, 1 failed"),
        (0, 1, 0, 1, "1 of 1 nests are ready, none has failed"),
        (20, 480, 8, 24, "480 of 500 nests are ready, 20 failed"),
    ],
)
async def test_however_many_nests_there_are_the_view_is_short_and_all_stand_under_it(
    tmp_path, shown, failed, ready, told, named, said
):
    found = live.load(of_nests(tmp_path, failed, ready), most=500)
    await live.watch(found, 0.0)
    assert said in shown[0]
    assert len(re.findall(ROW, shown[0])) == told
    assert shown[0].count("<span>room-") == named
    assert ("12 nests more not ready" in shown[0]) == ("and 456 more." in shown[0]) == (failed == 20)
    every = "".join(part._repr_html_() for part in live.nests(found).parts)
    assert len(re.findall(ROW, every)) == failed + ready


async def test_it_follows_what_is_written_and_ends_by_itself(tmp_path, shown):
    store = Store.open(store_of(tmp_path, [made(), row(Source.API, Operation.GUEST, Outcome.ABSENT, 1)]))
    found = live.load(str(tmp_path))
    watching = asyncio.create_task(live.watch(found, 3.0))
    await asyncio.sleep(0.1)
    with store.writer() as writer:
        writer.append([row(Source.API, Operation.GUEST, Outcome.VISIBLE, 2)])
    await asyncio.wait_for(watching, 20)
    assert "Following" in shown[0]
    assert tile(shown[-1], "ready") == "1"
    assert "Not following" in shown[-1]
    assert live.result(found).verdict == "good"


async def test_an_interrupt_ends_it(tmp_path, shown):
    watching = asyncio.create_task(live.watch(live.load(str(tmp_path / "none")), 600.0))
    await asyncio.sleep(0.1)
    watching.cancel()
    await asyncio.wait_for(watching, 5)
    assert "There is no store at" in shown[0]
    assert "Waiting for one" in shown[0]


async def test_a_store_that_comes_later_is_followed(tmp_path, shown):
    found = live.load(str(tmp_path / "later"))
    watching = asyncio.create_task(live.watch(found, 3.0))
    await asyncio.sleep(0.1)
    store_of(tmp_path / "later", [made(), row(Source.API, Operation.GUEST, Outcome.VISIBLE, 2)])
    await asyncio.wait_for(watching, 20)
    assert tile(shown[-1], "ready") == "1"


async def test_an_empty_store_says_so(tmp_path, shown):
    Store.open(tmp_path)
    found = live.load(str(tmp_path))
    await live.watch(found)
    assert "This store holds no observation." in shown[0]
    assert "nothing to draw" in live.states(found).layout.meta["alt"]
    assert live.result(found).verdict == "too little data"


async def test_hostile_names_are_text(tmp_path, shown):
    found = live.load(store_of(tmp_path, list(hostile_rows(2))), last="9d")
    await live.watch(found)
    assert "<script>window" not in shown[0]
    assert not [mark for mark in "\u202e\x1b\x07\x00" if mark in shown[0]]
    assert live.states(found).layout.meta["rows"]
    assert live.result(found).verdict == "breached"


def test_the_notebook_goes_on_for_as_long_as_it_is_told(tmp_path: Path):
    store = store_of(tmp_path / "store", [made(), *polls(Source.API, Operation.GUEST, 9, (1, 2, 10))])
    page = run(notebook("live"), tmp_path / "report.html", {"store": store, "watch_s": 2.5})
    outputs = [
        o for cell in nbformat.read(page.with_suffix(".ipynb"), as_version=4).cells for o in cell.get("outputs", [])
    ]
    assert [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"] == []
    assert [o["data"][RESULT]["verdict"] for o in outputs if RESULT in o.get("data", {})] == ["good"]
    assert "Not following" in page.read_text()
