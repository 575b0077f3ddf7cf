"""A relay's transcript: frames, whatever stands before them."""

from __future__ import annotations

import json

import pytest

from nestobs.observation.detail import facts_of
from worlds.imported import HOST, KEYS, NEST, ROOM, at, event, iso, read

REQ = f'["REQ","a",{{"kinds":[30312],"authors":["{HOST}"],"#d":["{ROOM}"]}}]'
SHOWN = f'["EVENT","a",{json.dumps(event().as_dict())}]'
EOSE = '["EOSE","a"]'
STYLES = {
    "iso": "{at} {arrow} {frame}",
    "bracketed": "[{at}] {arrow} wss://relay.example {frame}",
    "epoch": "{at}\t{frame}",
    "logger": "{at} DEBUG relay wss://relay.example {arrow}: {frame}",
}


def lines(*said: tuple[float, str], style: str = STYLES["iso"]) -> list[str]:
    shown = [style.format(at=iso(when), arrow="<-", frame=frame) for when, frame in said]
    return ["# wss://relay.example", *shown]


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_frames_are_read_in_every_style(style):
    rows = read(lines((1, REQ), (1.2, EOSE), (3, SHOWN), style=style))
    assert [(row.operation, row.outcome) for row in rows] == [("query", "absent"), ("subscribe", "visible")]
    assert {row.target for row in rows} == {"wss://relay.example"}
    assert {row.nest for row in rows} == {NEST}
    assert (rows[0].sent_at, rows[0].received_at, rows[1].received_at) == (at(1), at(1.201), at(3.001))


def test_what_is_there_at_once_was_asked_for_at_the_request():
    (row,) = read(lines((1, REQ), (1.2, SHOWN), (1.3, EOSE)))
    assert (row.operation, row.outcome, row.sent_at) == ("query", "visible", at(1))
    assert facts_of(row.detail)["status"] == "open"


@pytest.mark.parametrize(
    "asked",
    [
        '{"kinds":[30312]}',
        f'{{"kinds":[30312],"#d":["{ROOM}"],"since":1795761600}}',
        f'{{"kinds":[1],"#d":["{ROOM}"]}}',
        f'{{"kinds":[30312],"#d":["{ROOM}","other"],"limit":1}}',
    ],
    ids=["by kind", "since", "another kind", "limited"],
)
def test_an_eose_proves_nothing_of_what_was_not_asked_for_by_name(asked):
    assert not [
        row for row in read(lines((1, f'["REQ","a",{asked}]'), (2, EOSE), (3, SHOWN))) if row.outcome == "absent"
    ]


def test_an_eose_before_the_answer_to_a_challenge_proves_nothing():
    (row,) = read(lines((1, REQ), (1.1, '["AUTH","abc"]'), (1.2, EOSE)))
    assert (row.outcome, row.failure) == ("refused", "auth_required")


@pytest.mark.parametrize(("accepted", "outcome"), [("true", "accepted"), ("false", "refused")])
def test_a_publication_is_answered_by_its_ok(accepted, outcome):
    made = event()
    sent = f'["EVENT",{json.dumps(made.as_dict())}]'
    (row,) = read(lines((1, sent), (1.5, f'["OK","{made.id}",{accepted},"blocked: no"]')))
    assert (row.operation, row.outcome, row.sent_at, row.role) == ("publish", outcome, at(1), "host")


def test_a_deletion_by_its_author_withdraws():
    gone = KEYS.sign(5, created_at=1_795_761_700, tags=[("a", NEST)])
    (row,) = read(lines((100, f'["EVENT","b",{json.dumps(gone.as_dict())}]')))
    assert (row.operation, row.outcome, row.nest) == ("receive", "accepted", NEST)
    assert facts_of(row.detail)["withdrawn"] is True


def test_without_instants_what_was_shown_lies_between_its_making_and_the_files_last_change():
    (row,) = read([REQ, EOSE, SHOWN], changed_at=at(900))
    assert (row.outcome, row.sent_at, row.received_at) == ("visible", at(0), at(900))
    assert facts_of(row.detail)["imported"]["untimed"] is True


def test_a_forged_event_is_none():
    forged = event().as_dict() | {"content": "other"}
    assert read(lines((1, f'["EVENT","a",{json.dumps(forged)}]')), "relay") == []
