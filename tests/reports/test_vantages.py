"""The page of vantages: who saw it first, by how much, how surely; what it says of one alone, the late and the dead."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from nestobs.collector.canary import Campaign
from nestobs.collector.canary import run as run_canary
from nestobs.collector.keyring import Keyring
from nestobs.errors import StoreError, UsageError
from nestobs.estimate.vantages import SEAT
from nestobs.join.budget import Budget
from nestobs.join.policy import fixed
from nestobs.observation.schema import Observation, Operation, Source
from nestobs.reports import vantages
from nestobs.reports.publishing.execute import notebook, run
from nestobs.reports.publishing.manifest import result as result_of
from nestobs.reports.vantages.opening import absences
from nestobs.store.reader import Store
from worlds.beside import A, B, Watcher, delays, elsewhere, rows
from worlds.shown import figures, page, said, store, text, whole

pytestmark = pytest.mark.slow

SECTIONS: tuple[Callable[[vantages.Found], Any], ...] = (
    vantages.answer, vantages.who_first, vantages.parted, vantages.relays_late, vantages.seen, vantages.clocks,
    vantages.attended, vantages.by_layer, vantages.by_pair, vantages.by_relay, vantages.collected,
)  # fmt: skip  # a list

RELAYS = ("wss://one.example/", "wss://two.example/")


def everything(
    watchers: Sequence[Watcher], *, nests: int = 40, later_s: float = 0.0, relay_s: float = 0.0, **more: Any
) -> list[Observation]:
    """Joins and two relays; to the last vantage joins come later_s later, and the second relay's events relay_s."""
    truth = delays(nests, len(watchers))
    away = np.zeros(len(watchers))
    away[-1] = 1.0
    parts = [rows(truth + later_s * away, watchers, **more)]
    for place, relay in enumerate(RELAYS):
        there = np.full_like(truth, 0.5) + place * relay_s * away
        asked = {"source": Source.RELAY, "operation": Operation.QUERY, "target": relay}
        parts.append(rows(there, watchers, **more | asked | {"ours": False, "seed": 7 + place}))
    return [*chain(*parts)]


def load(directory: Path, found: Sequence[Observation], **more: Any) -> vantages.Found:
    return vantages.load(store(directory / "store", found), **more)


def tiles(found: vantages.Found, **more: Any) -> dict[str, Any]:
    return {tile.name: tile for tile in vantages.answer(found, **more).tiles}


def test_two_of_one_process_are_set_beside_each_other_on_every_layer(tmp_path: Path) -> None:
    found = load(tmp_path, everything([A, B], later_s=3.0, relay_s=4.0))
    opened = vantages.answer(found)
    assert opened.sentence.startswith("Computer B could join later than Computer A, typically (median of 40 nests) by ")
    assert "Surely first was, of 40 nests, Computer A with 40, Computer B with 0." in opened.sentence
    shown = tiles(found)
    assert shown["Computer A before Computer B"].value == "100 %"
    assert shown["one in, another told “not found”"].value == "100 %"
    assert shown["clocks apart by"].value == "0 s"
    assert shown["clocks apart by"].sign == "good"
    assert shown["relays that serve one late"].value == "1"
    assert list(shown)[-2:] == ["observer held up", "coverage"]
    told = page(found, SECTIONS)
    assert "Which relay serves whom late?" in told
    assert "40 of 40" in said(vantages.by_pair(found))
    whole(found, SECTIONS, count=4)
    assert vantages.result(found).verdict == "good"


def test_which_relay_serves_whom_late_is_named_and_what_it_never_showed_is_missing(tmp_path: Path) -> None:
    dropped = [
        row
        for row in everything([A, B], nests=60, relay_s=6.0)
        if not (row.target == RELAYS[1] and row.vantage == B.name and row.outcome == "visible" and "-3" in row.room)
    ]
    found = load(tmp_path, dropped, late_s=3.0)
    served = {(one.layer, one.vantage): one.served(found.late_s) for one in found.relays}
    assert served == {
        (f"relay:{RELAYS[0]}", "Computer A"): "in time",
        (f"relay:{RELAYS[0]}", "Computer B"): "in time",
        (f"relay:{RELAYS[1]}", "Computer A"): "in time",
        (f"relay:{RELAYS[1]}", "Computer B"): "late",
    }
    table = vantages.by_relay(found).parts[1].frame  # type: ignore[union-attr]  # it is a table
    first = table.iloc[0]
    assert (first["relay"], first["vantage"], first["missing"]) == ("two.example", "Computer B", "11")
    assert first["surely late"].startswith("100 % (")


def test_no_difference_is_said_to_be_none_shown_and_not_to_be_none(tmp_path: Path) -> None:
    found = load(tmp_path, everything([A, B]))
    assert vantages.answer(found).sentence.startswith("No difference is shown between Computer A and Computer B")
    half = tiles(found)["typically apart (median)"]
    assert (half.sign, half.judged) == ("open", "no difference shown")
    assert "not shown" in said(vantages.by_pair(found))


def test_a_limit_is_breached_where_the_whole_interval_lies_beyond_it(tmp_path: Path) -> None:
    found = load(tmp_path, everything([A, B], later_s=3.0))
    for limit, verdict, sign in ((1.0, "breached", "breached"), (3.0, "good", "open"), (9.0, "good", "good")):
        assert vantages.result(found, most_apart_s=limit).verdict == verdict
        assert tiles(found, most_apart_s=limit)["typically apart (median)"].sign == sign
    assert "more than the 1 s that were asked for" in text(vantages.result(found, most_apart_s=1.0))
    assert vantages.result(found, least_nests=41).verdict == "too little data"


def test_clocks_that_are_off_are_told_with_what_they_leave_open(tmp_path: Path) -> None:
    a, b = elsewhere("Computer A", 0.0, 0.02), elsewhere("Computer B", 40.0, 2.0)
    found = load(tmp_path, everything([a, b], later_s=1.5))
    shown = tiles(found)["clocks apart by"]
    assert shown.value == "±2.1 s"
    assert shown.sign == "open"
    assert "not told for that" in shown.judged
    assert "for their clocks alone" in vantages.answer(found).sentence
    told = said(vantages.clocks(found))
    assert "+38.00 to +42.00 s" in told
    assert "apart by 2.1 s at most" in told
    assert vantages.answer(found).sentence.startswith("No difference is shown")
    assert "40.0 s ahead of the API's" in text(vantages.seen(found))


def test_a_clock_that_was_never_compared_is_said_to_tell_nothing(tmp_path: Path) -> None:
    found = load(tmp_path, everything([elsewhere("Computer A"), Watcher("Computer B", "other")], later_s=9.0))
    assert tiles(found)["clocks apart by"].value == "not known"
    half = tiles(found)["typically apart (median)"].value  # nobody saw a nest before it was made: that bounds one side
    assert half.startswith("-")
    assert half.endswith(" s or more")
    told = said(vantages.clocks(found))
    assert "never compared" in told
    assert "apart by anything" in told


def test_of_a_dozen_the_two_furthest_apart_are_named_and_all_pairs_hold_together(tmp_path: Path) -> None:
    fleet = [elsewhere(f"box {number:02}", number - 6.0, 0.05) for number in range(12)]
    found = load(tmp_path, everything(fleet, nests=24, later_s=6.0, relay_s=4.0, horizon_s=24.0, spacing_s=90.0))
    opened = vantages.answer(found)
    assert opened.sentence.startswith("Furthest apart of 12 vantages: box 11 could join later than box 0")
    assert "95 % for all 66 pairs together" in opened.sentence
    assert {one.way for one in found.pairs[SEAT] if one.second == "box 11"} == {"later"}
    assert {one.way for one in found.pairs[SEAT] if one.second != "box 11"} == {"not shown"}
    whole(found, SECTIONS, count=4)
    assert {one.vantage for one in found.relays if one.served(1.0) == "late"} == {"box 11"}
    assert "more rows are not shown" in said(vantages.by_pair(found))


def test_one_vantage_alone_says_what_is_needed(tmp_path: Path) -> None:
    found = load(tmp_path, everything([A]))
    opened = vantages.answer(found)
    assert opened.sentence == "All of this was observed from one vantage, Computer A: there is none to set beside it."
    came = vantages.result(found)
    assert came.verdict == "too little data"
    assert "`nestobs watch --host KEY" in " ".join(came.reasons)
    assert "--also NAME" in " ".join(came.reasons)
    page(found, SECTIONS)


def test_two_that_watched_no_nest_together_say_so(tmp_path: Path) -> None:
    apart = [replace(row, nest=f"{row.nest}-b", room=f"{row.room}-b") for row in everything([replace(B, run="other")])]
    moved = [*everything([A]), *apart]
    found = load(tmp_path, moved)
    assert "none of them a nest that another watched" in vantages.answer(found).sentence
    assert vantages.result(found).verdict == "too little data"


def test_an_empty_store_says_so(tmp_path: Path) -> None:
    found = load(tmp_path, [])
    told = page(found, SECTIONS)
    assert "holds no observation" in told
    assert not [figure for section in SECTIONS for figure in figures(section(found))]
    assert vantages.result(found).verdict == "too little data"


def test_who_began_late_or_ended_early_is_told_above_everything_and_its_absence_is_no_evidence(tmp_path: Path) -> None:
    dead = replace(elsewhere("Computer B"), until_s=20 * 60.0 + 2.0)
    found = load(tmp_path, everything([elsewhere("Computer A"), dead]))
    assert absences(found) == [
        "The rows of Computer B end 20 min before the last of all: it was ended, or died. What it did not see after"
        " that is no evidence."
    ]
    assert absences(found)[0] in vantages.answer(found).warning
    (one,) = found.pairs[SEAT]
    assert one.n in (20, 21)
    assert one.first_first.least <= 1  # not the nest in the midst of which it died
    late = [row for row in everything([elsewhere("Computer A"), elsewhere("Computer B")])
            if row.vantage == "Computer A" or row.sent_at > A_LATER]  # fmt: skip  # a filter
    assert absences(load(tmp_path / "late", late)) == ["The rows of Computer B begin 15 min after the first of all."]


A_LATER = 1_772_625_600 * 10**9 + 15 * 60 * 10**9


def test_only_nests_of_the_window_count(tmp_path: Path) -> None:
    found = load(tmp_path, everything([A, B]), window="2026-03-04T12:00/2026-03-04T12:10")
    assert found.observed.nests == 10
    assert max(one.n for one in found.pairs[SEAT]) == 10


def test_one_relay_under_two_urls_is_one_where_that_is_said(tmp_path: Path) -> None:
    near, far = "ws://10.0.0.1:1/", "ws://10.0.0.2:2/"
    made = [
        replace(row, target=far if row.vantage == "Computer B" else near) if row.target == RELAYS[1] else row
        for row in everything([A, B], relay_s=4.0)
        if row.target != RELAYS[0]
    ]
    apart = load(tmp_path, made)
    assert apart.relays == []
    assert "under one URL" in text(vantages.relays_late(apart))
    where = apart.observed
    assert len(where.rows)
    for same in (f"{near} {far}", [f"{near}  {far}"]):
        found = vantages.load(str(tmp_path / "store"), same_relays=same)
        assert {(one.layer, one.vantage) for one in found.relays if one.served(1.0) == "late"} == {
            (f"relay:{near}", "Computer B")
        }


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"late_s": 0.0}, "above 0"),
        ({"late_s": float("nan")}, "above 0"),
        ({"same_relays": "wss://one/"}, "two URLs"),
        ({"window": "yesterday"}, "is no window"),
    ],
)
def test_what_is_given_wrongly_is_the_operators_mistake(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        load(tmp_path, [], **given)


def test_no_store_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        vantages.load(str(tmp_path / "none"))


def test_the_notebook_says_it_on_its_page(tmp_path: Path) -> None:
    where = store(tmp_path / "store", everything([elsewhere("Computer A"), elsewhere("Computer B", 40.0)], later_s=3.0))
    made = run(notebook("vantages"), tmp_path / "page.html", {"store": where, "most_apart_s": 1.0})
    assert "could join later than" in made.read_text()
    assert "nestobs-glossary" not in made.read_text()  # that is for JupyterLab: a page has its words at its end
    found = result_of(nbformat.read(made.with_suffix(".ipynb"), as_version=4))
    assert found["verdict"] == "breached"
    assert found["facts"]["half_apart_least_s"] > 1.0


LATE = """
[relays]
each = { kind = "constant", s = 0.05 }
last = { kind = "constant", s = 3.0 }
"""


async def test_a_relay_that_serves_one_of_two_late_is_found_in_the_lab(
    open_lab: Any, target_of: Any, scenario: Any, tmp_path: Path
) -> None:
    """Two real relays that are one to the reader: the one that A reaches has the event three seconds sooner."""
    async with open_lab(scenario(LATE), relays=2) as lab:
        host = replace(target_of(lab), vantage="host")
        a, b = (
            replace(host, vantage=name, relays=(url,)) for name, url in zip((A.name, B.name), host.relays, strict=True)
        )
        await run_canary(
            [host, a, b],
            Campaign(count=8, policies=(fixed(0.5),), horizon_s=6.0, stagger_s=0.1, media=0, wanted_polls=12),
            store=Store.open(tmp_path / "store"),
            keyring=Keyring(tmp_path / "keys"),
            budget=Budget(100_000),
            rng=random.Random(1),
            progress=lambda *_: None,
        )
        shown = [row for row in lab.truth() if row["change"] == "shown"][::-1]  # the first counts
        truth = {(row["room"], row["layer"]): (row["not_yet_at"], row["now_at"]) for row in shown}
        names = [lab.info["scenarios"]["made"]["truth_names"][url] for url in host.relays]
    found = vantages.load(str(tmp_path / "store"), same_relays=" ".join(host.relays))
    late = {one.vantage: one.late(found.late_s) for one in found.relays}
    assert {one.layer for one in found.relays} == {f"relay:{host.relays[0]}"}
    assert late["Computer B"].least >= 3  # of a busy machine some intervals are wide
    assert late["Computer A"].least == 0
    one = next(one for one in found.pairs[f"relay:{host.relays[0]}"] if (one.first, one.second) == (A.name, B.name))
    assert one.one_clock == one.n == 8
    assert one.error_s == 0.0
    for nest, low, high in zip(one.nests, one.lower, one.upper, strict=True):
        near, far = (truth[nest.rsplit(":", 1)[1], f"relay:{name}"] for name in names)
        assert low < (far[1] - near[0]) / 1e9
        assert high > (far[0] - near[1]) / 1e9
