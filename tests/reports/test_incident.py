"""The incident page: one nest from every side, what disagrees, what was never asked, and commands safe to paste."""

from __future__ import annotations

import html
import re
import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

from nestobs.cli.main import _parser
from nestobs.errors import StoreError, UsageError
from nestobs.join.decision import GONE, STARTING
from nestobs.nostr import Address, Keys, write_naddr
from nestobs.observation.detail import detail
from nestobs.observation.schema import Failure, Observation, Operation, Outcome, Role, Source
from nestobs.reports import incident
from nestobs.reports.display import RESULT
from nestobs.reports.evidence import Incident
from nestobs.reports.incident import load
from nestobs.reports.publishing.execute import notebook, run
from nestobs.store.reader import Store
from worlds.asked import NOON, SECOND_NS, join, made, polls, row, store_of
from worlds.full_nests import all_rows, nest_rows
from worlds.hostile import TEXTS, hostile_rows

pytestmark = pytest.mark.slow

AGES = (0.1, 0.5, 1, 2, 4, 8, 16, 32, 45, 60)
CELLS = (
    "answer", "seen", "heading", "result", "causes", "nests", "panel", "lanes", "layers", "attempts", "attempt_table",
    "messages", "facts", "asking", "raw",
)  # fmt: skip  # a list of words
J, G, S = Operation.JOIN, Operation.GUEST, Operation.SIGNAL
YES, NO = Outcome.VISIBLE, Outcome.ABSENT


def shown(found: Incident) -> str:
    """The text of the whole page as a reader sees it, figures' alt text included."""
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page(found))).split())


def page(found: Incident) -> str:
    """Every part of the page, as HTML; of figures their alt text."""
    parts: list[Any] = []
    for name in CELLS:
        made = getattr(incident, name)(found)
        parts += getattr(made, "parts", [made])
    return "\n".join(_html(part) for part in parts)


def _html(part: Any) -> str:
    if hasattr(part, "layout"):
        return f"<p>{part.layout.title.text}</p><p>{html.escape((part.layout.meta or {}).get('alt', ''))}</p>"
    return part._repr_html_() if hasattr(part, "_repr_html_") else part._repr_mimebundle_()["text/html"]


def result(found: Incident) -> dict[str, Any]:
    return incident.result(found)._repr_mimebundle_()[RESULT]


def api_fault() -> list[Observation]:
    """The API says active, LiveKit lists the room, and every join is answered 404."""
    rows = [made(), *polls(Source.RELAY, Operation.QUERY, 0.5, AGES), *polls(Source.API, Operation.INFO, 1, AGES)]
    rows += polls(Source.LIVEKIT, Operation.ROOMS, 1, AGES)
    rows += join(5, [(J, NO, 0.0), (G, NO, 0.1), (J, NO, 2.0), (G, NO, 2.1)], "gone", GONE)
    rows += join(6, [(G, NO, 0.0), (G, NO, 3.0)], "starting_up", STARTING, role=Role.GUEST, vantage="Computer B")
    return rows


def test_an_api_fault_is_told_as_the_cause_that_it_is_and_not_said_twice(tmp_path):
    found = load(store_of(tmp_path, api_fault()), "room")
    said = shown(found)
    assert "From Computer A: The API fails every join of a room that is there" in said
    answered = "Evidence: 4 of 4 joins answered 404, at 5.0 s to 7.1 s, "
    assert f"{answered}/info active at 4.0 s, LiveKit lists the room at 4.0 s." in said
    assert "had the nest, and yet every answer of" not in said
    assert "These are facts beside the causes" in said
    told = {row["observation_id"] for _, row in found.rows.iterrows()}
    assert {each for one in found.causes for cause in one.causes for e in cause.evidence for each in e.rows} <= told
    assert result(found)["verdict"] == "breached"
    assert result(found)["rows"] == {"observations": len(api_fault()), "nests": 1, "joins": 2}
    assert found.layers.set_index(["layer", "vantage"])["state"].to_dict() == {
        ("relay:wss://relay.example/", "Computer A"): "shown",
        ("api:info", "Computer A"): "shown",
        ("api:join", "Computer A"): "not seen",
        ("api:guest", "Computer A"): "not seen",
        ("api:guest", "Computer B"): "not seen",
        ("livekit:room", "Computer A"): "shown",
    }


def test_the_page_opens_with_the_cause_and_with_what_was_seen(tmp_path):
    opened = incident.answer(load(store_of(tmp_path, api_fault()), "room"))
    assert opened.sentence.startswith("From Computer A: The API fails every join of a room that is there")
    assert opened.result is not None
    assert opened.result.verdict == "breached"
    shown = {tile.name: tile.value for tile in opened.tiles}
    assert list(shown) == ["joins in the room", "layers that showed it", "observed for", "observer held up"]
    assert (shown["joins in the room"], shown["layers that showed it"]) == ("0 of 2", "3 of 6")


def test_each_request_of_a_join_is_told_with_its_round_its_wait_and_its_fallback(tmp_path):
    found = load(store_of(tmp_path, api_fault()), "room")
    first = found.asked[found.asked["join"] == 1]
    assert first["step"].tolist() == ["join", "guest", "join", "guest"]
    assert first["round"].tolist() == [1, 1, 2, 2]
    assert first["status"].tolist() == [404] * 4
    assert first["waited_s"].tolist() == pytest.approx([0.0, 0.09, 1.89, 0.09])
    assert found.attempts["fell_back"].tolist() == [True, False]
    assert found.attempts["role"].tolist() == ["joiner", "guest"]
    said = shown(found)
    assert "as guest after 404" in said
    assert f"{STARTING} [Retry]" in said
    assert "Requests: 6 404. Joins: 1 gone, 1 starting up." in said


def test_a_join_that_got_in_is_good_and_one_cut_off_is_neither(tmp_path):
    rows = [made(), *polls(Source.API, Operation.INFO, 0.5, AGES)]
    rows += join(3, [(J, YES, 0.0), (S, YES, 0.1)], "authenticated", "")
    rows += join(9, [(J, NO, 0.0)], "", "")
    found = load(store_of(tmp_path, rows), "room")
    assert result(found)["verdict"] == "good"
    assert result(found)["facts"]["cut_off"] == 1
    assert found.attempts["verdict"].tolist() == ["authenticated", "cut off"]
    assert "unknown: the join was cut off" in shown(found)


def test_without_a_join_the_data_are_too_little(tmp_path):
    found = load(store_of(tmp_path, [made(), *polls(Source.API, Operation.INFO, 0.5, AGES)]), "room")
    assert result(found)["verdict"] == "too little data"
    assert "Nobody joined for real." in shown(found)
    assert "Nobody joined it for real, so nobody knows" in shown(found)


def test_the_creation_is_found_by_its_trace_though_it_names_no_nest(tmp_path):
    others = [made(30.0, trace_id="other")]
    others.append(row(Source.API, Operation.INFO, NO, 31.0, trace_id="other", room="x", nest=""))
    found = load(store_of(tmp_path, [*api_fault(), *others]), "room")
    assert set(found.timelines["origin_kind"]) == {"create"}
    assert len(found.rows) == len(api_fault())


def test_two_watches_of_one_nest_are_read_as_one(tmp_path):
    """`nestobs join` after a watch is another trace; a question by room alone knows no address."""
    later = [row(Source.API, G, NO, 70.0, trace_id="second", run_id="second", nest="")]
    found = load(store_of(tmp_path, [*api_fault(), *later]), f"30312:{'ab' * 32}:room")
    assert found.timelines.groupby(["layer", "vantage"]).size().max() == 1
    guest = found.layers.set_index(["layer", "vantage"]).loc[("api:guest", "Computer A")]
    assert guest["last_s"] == pytest.approx(70.0)


def test_an_naddr_an_address_and_a_room_name_the_same_page(tmp_path):
    key = Keys.generate().public
    rows = [row(Source.API, Operation.INFO, YES, 1.0, nest=f"30312:{key}:room")]
    store = store_of(tmp_path, rows)
    for name in (write_naddr(Address(30312, key, "room")), f"30312:{key}:room", "room"):
        assert load(store, name).address == f"30312:{key}:room"


def test_a_room_that_others_announce_too_says_so_and_leaves_them_out(tmp_path):
    foreign = row(Source.RELAY, Operation.QUERY, YES, 3.0, nest=f"30312:{'cd' * 32}:room", trace_id="foreign")
    found = load(store_of(tmp_path, [*api_fault(), foreign]), "room")
    assert found.address == f"30312:{'ab' * 32}:room"
    assert "announced by others too" in found.warning
    assert foreign.observation_id not in set(found.rows["observation_id"])


# what to ask next


def commands(found: Incident) -> list[str]:
    return [command for _, command in incident.asking(found).asked if command]


def parsed(command: str) -> Any:
    """As a shell splits it, as the command line reads it."""
    words = shlex.split(command, comments=True)
    assert words[0] == "nestobs"
    return _parser().parse_args(words[1:])


def test_what_was_not_asked_becomes_commands_that_the_command_line_reads(tmp_path):
    key = Keys.generate().public
    rows = [row(Source.RELAY, Operation.QUERY, NO, 1.0, nest=f"30312:{key}:room")]
    found = load(store_of(tmp_path, rows), "room")
    said = shown(found)
    for gap in (
        "/info was never asked",
        "signed in's way",
        "guests' way",
        "list of rooms was never asked",
        "webhooks were not received",
        "from one place, Computer A",
        "never compared",
        "too soon",
    ):
        assert gap in said
    assert {shlex.split(command)[1] for command in commands(found)} == {"join", "ready", "doctor", "watch"}
    for command in commands(found):
        args = parsed(command)
        assert args.relay == ["wss://relay.example/"]
        if hasattr(args, "address"):
            assert args.address == write_naddr(Address(30312, key, "room"))


def test_of_a_deployment_that_is_gone_the_commands_are_shown_and_not_said_to_reach_anybody():
    found = load("example")
    (said, none), *asked = incident.asking(found).asked
    assert "has ended" in said
    assert none == ""
    assert asked
    for command in filter(None, (command for _, command in asked)):
        assert "127.0.0.1" not in command
        assert parsed(command).target == "TARGET"
    assert "<code>nestobs lab</code>" in incident.asking(found)._repr_html_()


@pytest.mark.parametrize(
    ("target", "here"),
    [
        ("http://127.0.0.1:7000/api", True), ("http://[::1]:7000", True), ("http://localhost:80/x", True),
        ("https://nests.example/api", False), ("https://127.0.0.1.example", False), ("https://[::1", False),
        ("", False),
    ],
    ids=["loopback", "six", "localhost", "public", "a name", "no url", "none"],
)  # fmt: skip  # a list of words
def test_addresses_of_the_observing_machine_are_said_to_reach_nobody_elsewhere(tmp_path, target, here):
    found = load(store_of(tmp_path, [row(Source.API, Operation.INFO, NO, 1.0, target=target)]), "room")
    first = incident.asking(found).asked[0][0]
    assert ("the very machine from which it was observed" in first) == here


def test_what_was_observed_while_the_machine_was_held_up_is_not_judged(tmp_path):
    sound = load(store_of(tmp_path / "sound", api_fault()), "room")
    held = load(store_of(tmp_path / "held", [replace(row, loop_lag_s=2.0) for row in api_fault()]), "room")
    assert "not judged" not in incident.answer(sound).sentence
    assert incident.answer(held).sentence.startswith("What was the matter is not judged")
    assert result(held)["verdict"] == "too little data"
    first = incident.causes(held).parts[0]._repr_html_()
    assert "none is sure" in first
    assert "none is sure" not in incident.causes(sound).parts[0]._repr_html_()


@pytest.mark.parametrize("room", [*TEXTS, "--help", "-x", "a;touch x", "$(id)", "`id`", "a\nb", "x" * 5_000])
def test_whatever_a_room_is_called_a_command_is_plain_words(tmp_path, room):
    rows = [
        row(Source.API, Operation.INFO, NO, 1.0, nest=f"30312:{'ab' * 32}:{room}", room=room),
        row(Source.LIVEKIT, Operation.SIGNAL, NO, 2.0, room=room, nest="", target=f"wss://{room}/; touch y"),
    ]
    found = load(store_of(tmp_path, rows))
    assert commands(found)
    for command in commands(found):
        assert command.isascii()
        assert command.isprintable()
        assert "touch" not in command
        parsed(command)
    assert "<script>window" not in page(found)


@pytest.mark.parametrize(
    ("api", "livekit", "who"),
    [
        (Outcome.ACCEPTED, Outcome.ACCEPTED, "the API and LiveKit"),
        (Outcome.ACCEPTED, Outcome.UNKNOWN, "the API"),
        (Outcome.UNKNOWN, Outcome.ACCEPTED, "LiveKit"),
    ],
)
def test_a_nest_that_was_deleted_is_not_asked_again_and_who_accepted_that_is_told(api, livekit, who, tmp_path):
    asked = zip((Source.API, Source.LIVEKIT), (api, livekit), strict=True)
    gone = [row(source, Operation.DELETE, outcome, 70.0, role=Role.HOST) for source, outcome in asked]
    found = load(store_of(tmp_path, [*api_fault(), *gone]), "room")
    assert {shlex.split(command)[1] for command in commands(found)} <= {"canary", "doctor", "watch"}
    assert f"The nest was deleted at 2026-03-04 12:01:10 UTC, and {who} accepted that." in shown(found)


def test_how_its_host_closed_it_in_the_end_is_no_edit(tmp_path):
    stamp = NOON // SECOND_NS
    rows = [made(), row(Source.RELAY, Operation.QUERY, YES, 1.0, detail=detail(created_at=stamp, status="open"))]
    closed = detail(created_at=stamp + 90, status="closed")
    rows.append(row(Source.RELAY, Operation.READ_BACK, YES, 90.0, role=Role.HOST, detail=closed))
    said = shown(load(store_of(tmp_path, rows), "room"))
    assert "edited" not in said
    assert "nest is closed" not in said


# windows


def test_a_window_lists_its_nests_the_worst_first_and_shows_that_one(tmp_path):
    store = store_of(tmp_path, list(all_rows(24)))
    found = load(store, window="2026-03-04T12:00/2026-03-04T12:10")
    ranked = found.nests
    assert ranked is not None
    assert len(ranked) <= 20
    assert ranked["failed"].is_monotonic_decreasing
    assert found.room == ranked["room"].iloc[0]
    assert 0 < result(found)["coverage"] <= 1
    assert found.timelines["origin_kind"].iloc[0] == "create"
    assert f"{len(ranked)} nests were observed" in shown(found)
    whole = load(store)
    assert whole.nests is not None
    assert len(whole.nests) == 24
    assert result(whole)["coverage"] is None
    verdicts = result(whole)
    assert verdicts["verdict"] == "breached"
    assert verdicts["rows"]["joins"] == 24 * 4
    never = {f"room-{number:04}" for number in range(24) if number % 8 == 7}  # as full_nests has it
    assert set(whole.nests["room"].head(3)) == never
    assert whole.nests["failed"].iloc[0] == 4


def test_a_window_of_nothing_says_so(tmp_path):
    found = load(store_of(tmp_path, api_fault()), window="2020-01-01")
    assert "This window of the store holds no observation of a nest." in shown(found)
    assert result(found)["verdict"] == "too little data"
    assert result(found)["coverage"] == 0


def test_a_nest_in_a_window_is_read_in_that_window_only(tmp_path):
    found = load(store_of(tmp_path, api_fault()), "room", "2026-03-04T12:00:00/2026-03-04T12:00:03")
    assert found.rows["sent_at"].max() < NOON + 3 * SECOND_NS


def test_among_thousands_of_nests_only_the_rows_of_one_are_kept(tmp_path):
    many = []
    for number in range(4_000):
        name = f"r{number}"
        mine = {"nest": f"30312:{'cd' * 32}:{name}", "room": name, "trace_id": name}
        many += [row(Source.API, Operation.INFO, YES, number, **mine) for _ in range(5)]
    store = store_of(tmp_path, [*many, *api_fault()])
    begin = time.monotonic()
    found = load(store, "room")
    assert len(found.rows) == len(api_fault())
    ranked = load(store).nests
    assert ranked is not None
    assert (len(ranked), ranked["room"].iloc[0]) == (4_001, "room")
    assert time.monotonic() - begin < 30  # a few seconds; a page that reads everything for each nest takes hours


# what cannot be said


def test_an_unknown_nest_says_what_there_is(tmp_path):
    store = store_of(tmp_path, api_fault())
    found = load(store, "rooom")
    said = shown(found)
    assert "The store holds no observation of it." in said
    assert "Nearest: room." in said
    assert result(found)["verdict"] == "too little data"
    assert "is not understood" in shown(load(store, "what is this?"))
    assert "nothing to draw" in incident.lanes(found).layout.meta["alt"]


def test_mistakes_of_the_operator(tmp_path):
    with pytest.raises(StoreError, match="no store"):
        load(str(tmp_path / "none"))
    with pytest.raises(UsageError, match="no window"):
        load(store_of(tmp_path, api_fault()), "room", "yesterday")


def test_one_row(tmp_path):
    found = load(store_of(tmp_path, [row(Source.API, Operation.INFO, NO, 1.0)]), "room")
    said = shown(found)
    assert "When the nest was made is not known" in said
    assert "no origin" in said or "not seen" in said
    assert len(found.layers) == 1


def test_a_nest_never_shown_by_any_layer(tmp_path):
    rows = [made(), *polls(Source.RELAY, Operation.QUERY, 99, AGES), *polls(Source.API, G, 99, AGES)]
    found = load(store_of(tmp_path, rows), "room")
    assert set(found.layers["state"]) == {"not seen"}
    assert "Did not show it as long as they were asked" in shown(found)


def test_a_layer_that_only_failed_proved_nothing(tmp_path):
    failed = {"failure": Failure.TIMEOUT, "reason": "no answer", "received_at": None}
    rows = [made(), row(Source.API, Operation.INFO, Outcome.UNKNOWN, 1.0, **failed)]
    found = load(store_of(tmp_path, rows), "room")
    assert found.layers["state"].tolist() == ["nothing proven"]
    assert "proved nothing (timeout x 1)" in shown(found)


def test_a_request_without_an_answer_has_an_open_end(tmp_path):
    never = {"failure": Failure.TIMEOUT, "reason": "no answer", "received_at": None}
    rows = [made(), *join(5, [(J, NO, 0.0)], "gone", GONE, group="one")]
    rows.append(row(Source.API, G, Outcome.UNKNOWN, 5.02, attempt_group="one", role=Role.JOINER, **never))
    found = load(store_of(tmp_path, rows), "room")
    assert found.asked["to_s"].isna().tolist() == [False, True]
    assert incident.attempts(found).layout.meta["alt"].startswith("What each of 1 joins asked")
    drawn = incident.attempts(found).layout.meta["rows"]
    assert [(each[2], each[4]) for each in drawn] == [("join", "0.01"), ("guest", "")]


def test_a_gap_of_a_day_is_told(tmp_path):
    rows = [*api_fault(), row(Source.API, G, NO, 86_400.0)]
    assert "Nothing was asked from 2026-03-04 12:01:00 UTC to 2026-03-05 12:00:00 UTC (24.0 h)" in shown(
        load(store_of(tmp_path, rows), "room")
    )


def test_a_clock_step_in_the_middle_is_told_and_marks_what_it_touches(tmp_path):
    step = row(
        Source.CLOCK,
        Operation.STEP,
        Outcome.PROBE_ERROR,
        0.7,
        nest="",
        room="",
        trace_id="",
        failure=Failure.CLOCK_STEP,
        reason="the wall clock was stepped",
    )
    found = load(store_of(tmp_path, [*api_fault(), step]), "room")
    said = shown(found)
    assert "Computer A: at 2026-03-04 12:00:00 UTC the wall clock was stepped" in said
    assert "disturbed: clock_step" in said


def test_edits_replicas_that_disagree_and_refusals_are_told(tmp_path):
    stamp = NOON // SECOND_NS
    rows = [made()]
    rows += [
        row(Source.RELAY, Operation.QUERY, YES, s, detail=detail(created_at=stamp + edit, status="closed"))
        for s, edit in ((1.0, 0), (9.0, 40))
    ]
    rows += [row(Source.API, G, outcome, s) for s, outcome in ((1, NO), (2, YES), (3, NO), (4, YES))]
    limited = {"status": 429, "failure": Failure.RATE_LIMITED, "reason": "Too many requests"}
    rows += [row(Source.API, J, Outcome.REFUSED, 5, **limited)]
    said = shown(load(store_of(tmp_path, rows), "room"))
    assert "its created_at moved by 40 s" in said
    assert "Its host has closed the nest." in said
    assert "1 x 404 between answers that showed it" in said
    assert "1 x 429, last at 5.0 s (Too many requests)" in said


def test_vantage_points_that_disagree_are_named(tmp_path):
    rows = [made(), *polls(Source.API, G, 2, AGES), *polls(Source.API, G, 99, AGES, vantage="Computer B")]
    assert "The vantage points disagree about api:guest: Computer A: shown; Computer B: not seen." in shown(
        load(store_of(tmp_path, rows), "room")
    )


# the notebook


def test_every_hostile_nest_has_its_page(tmp_path):
    store = store_of(tmp_path, list(hostile_rows(2)))
    ranked = load(store).nests
    assert ranked is not None
    for address in ranked["nest"]:
        found = load(store, address)
        assert not found.missing, address[:100]
        text = page(found)
        assert "<script>window" not in text
        assert not [mark for mark in "\u202e\x1b\x07\x00" if mark in text]


def test_the_notebook_of_one_nest(tmp_path):
    store = store_of(tmp_path / "store", [*nest_rows(0), *nest_rows(7)])
    made = run(notebook("incident"), tmp_path / "report.html", {"store": store, "nest": "room-0007"})
    cells = nbformat.read(made.with_suffix(".ipynb"), as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"] == []
    results = [output["data"][RESULT] for output in outputs if RESULT in output.get("data", {})]
    assert [one["verdict"] for one in results] == ["breached"]
    text = made.read_text()
    for heading in ("Where the time went", "What each join asked", "What to ask next", "the raw observations: "):
        assert heading in text
    assert "<pre><code>nestobs ready" in text


def test_an_empty_store_has_a_page(tmp_path: Path):
    Store.open(tmp_path)
    said = shown(load(str(tmp_path)))
    assert "This store holds no observation of a nest." in said
