"""The watch: nests of others are found, followed gently, joined by one guest each; hostile ones do no harm."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from nestobs.collector.manners import Manners
from nestobs.collector.watch import MOST_FROM_ONE, run
from nestobs.join.budget import Budget
from nestobs.join.policy import GUIDE
from nestobs.nostr import ROOM_KIND, Address, Keys, http_auth
from nestobs.observation.detail import facts_of
from nestobs.observation.nest import room_tags
from nestobs.observation.schema import LONGEST_ROOM, Failure, Operation, Outcome, Role, Source
from nestobs.store.reader import Store
from worlds import hostile_relays
from worlds.command_line import Host, LabBeside, clear_environment, here, now_s, process, publish, raw_controls

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    clear_environment(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[LabBeside]:
    with LabBeside(["calm"], tmp_path_factory.mktemp("lab"), delay_scale=0.3) as running:
        yield running


@pytest.fixture
def canary(lab, home) -> Iterator[subprocess.Popen]:
    """A canary of two nests in a process of its own."""
    words = ["canary", "--store", "canarys", "--count", "2", "--horizon", "9s", "--json", "--policy", "guide"]
    words = [sys.executable, "-m", "nestobs", *words, *lab.target("calm")]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as running:
        yield running
        running.terminate()
        assert "Traceback" not in running.communicate(timeout=20)[1]


@pytest.fixture
def command(capsys):
    """`command("watch", …)`: in this process."""
    return partial(here, capsys)


def rows_of(home: Path):
    return list(Store.open(home / "nestobs-data").observations())


def test_a_watch_sees_the_nests_that_another_process_makes(lab, canary, home):
    said = process("watch", "--for", "9s", *lab.target("calm"), "--json")
    assert said.code == 0, said
    assert said.err == ""
    assert said.data["nests"] == 2
    assert said.data["followed_on_api"] == 2
    rows = rows_of(home)
    assert said.data["observations"] == len(rows)
    seen = {row.nest for row in rows if row.operation is Operation.SUBSCRIBE and row.outcome is Outcome.VISIBLE}
    assert len(seen) == 2
    assert {row.operation for row in rows if row.nest in seen} >= {Operation.QUERY, Operation.INFO, Operation.GUEST}
    assert not {row.operation for row in rows} & {Operation.CREATE, Operation.PUBLISH, Operation.DELETE}
    assert {row.run_id for row in rows} == {said.data["run_id"]}
    assert Store.open(home / "nestobs-data").ledger() == []


class Early:
    """As random as can be without being late: guests arrive at once."""

    def random(self) -> float:
        return 0.01


async def test_a_watch_joins_each_nest_as_one_real_guest(open_lab, target_of, scenario, home):
    async with open_lab(scenario()) as lab:
        target, keys, rooms = target_of(lab), Keys.generate(), []
        async with httpx.AsyncClient() as client:
            for _ in range(3):
                body = json.dumps({"relays": list(target.relays)}).encode()
                header = http_auth(keys, url=target.api, method="PUT", created_at=now_s(), body=body)
                answer = await client.put(target.api, content=body, headers={"authorization": header})
                rooms.append(answer.raise_for_status().json()["roomId"])
        for room in rooms:
            tags = room_tags(room=room, name="x", host=keys.public, service="", streaming="", relays=target.relays)
            await asyncio.to_thread(publish, target.relays[0], keys.sign(ROOM_KIND, created_at=now_s(), tags=tags))
        watched = await run(
            target,
            store=Store.open("nestobs-data"),
            budget=Budget(100_000),
            rng=Early(),
            progress=lambda what, facts: None,
            for_s=4.0,
            joins=replace(GUIDE, stay_s=0.2),
            manners=Manners(visit_empty=True),
        )
    assert watched.verdicts == {"guest": 3}
    joined = [row for row in rows_of(home) if row.operation is Operation.STAY]
    assert {row.role for row in joined} == {Role.GUEST}
    assert sorted(row.room for row in joined) == sorted(rooms)


def test_a_watch_of_nothing_ends_in_time_and_says_so(lab, home, command):
    with LabBeside(["calm"], home / "quiet") as quiet:
        said = command("watch", "--for", "1s", *quiet.target("calm"))
    assert said.code == 0
    assert said.out.startswith("saw 0 nests, asked the API about 0; ")
    rows = rows_of(home)
    beats = [row for row in rows if (row.source, row.operation) == (Source.CLOCK, Operation.HEALTH)]
    assert len(beats) == 1  # it was at work for a second
    assert beats[0].received_at - beats[0].sent_at >= 0.9e9
    assert {(row.vantage, row.run_id) for row in beats} == {(row.vantage, row.run_id) for row in rows}


def test_nests_of_another_deployment_are_seen_but_not_asked_about(lab, home, command):
    elsewhere = Host(lab).announce("elsewhere-room", service="https://other.example/api/v1/nests")
    said = command("watch", "--for", "2s", *lab.target("calm"), "--json")
    assert said.code == 0
    rows = [row for row in rows_of(home) if row.nest == str(elsewhere)]
    assert rows
    assert not {row.operation for row in rows} & {Operation.INFO, Operation.GUEST}


HOSTILE = {
    "markup": "<script>alert(1)</script>[red]x[/red]",
    "control": "\x1b[2J\x1b]0;mine\x07\x00\r\n",
    "direction": "\u202egnp.exe\u2066\u200f",
    "long": "x" * 60_000,
    "wide": "🦜" * 4_000,
}


@pytest.fixture(scope="module")
def hostile(lab, tmp_path_factory):
    """What a watch of hostile nests said, its folder, and their addresses: as names, and as rooms (the `d` tag)."""
    folder = tmp_path_factory.mktemp("hostile")
    host = Host(lab)
    named = {kind: host.announce(f"room-{kind}", name=text) for kind, text in HOSTILE.items()}
    roomed = {}
    for kind, text in HOSTILE.items():
        try:
            roomed[kind] = host.announce(text, service="")
        except AssertionError:  # a relay may refuse it, as LocalRelay does with very long tags
            continue
    named["service"] = host.announce("room-service", service="http://[::1/api/v1/nests", streaming="ws://[::1")
    roomed["path"] = host.announce("../../../health?x#y", service="")
    with pytest.MonkeyPatch.context() as patch:
        clear_environment(patch, folder)
        said = process("watch", "--for", "4s", "--join", "guest", *lab.target("calm"))
    return said, folder, named, roomed


def test_a_watch_survives_hostile_nests(hostile):
    said = hostile[0]
    assert said.code == 0, said
    assert "Traceback" not in said.err
    assert "never retrieved" not in said.err
    assert raw_controls(said.out + said.err) == []


def test_hostile_names_are_stored_rows_like_any_other(hostile):
    _, folder, named, roomed = hostile
    seen = {(row.nest, row.room) for row in rows_of(folder)}
    assert [kind for kind, address in named.items() if (str(address), address.identifier) not in seen] == []
    rooms = {kind: address for kind, address in roomed.items() if len(address.identifier) <= LONGEST_ROOM}
    assert [kind for kind, address in rooms.items() if (str(address), address.identifier) not in seen] == []


def test_a_room_with_a_name_longer_than_any_is_a_row_once_and_no_nest(hostile):
    _, folder, _, roomed = hostile
    longer = [address for address in roomed.values() if len(address.identifier) > LONGEST_ROOM]
    assert longer
    rows = rows_of(folder)
    assert not {str(address) for address in longer} & {row.nest for row in rows}
    found = [row for row in rows if row.failure is Failure.BAD_EVENT]
    assert 1 <= len(found) <= len({row.target for row in rows if row.source is Source.RELAY})
    assert "characters" in found[0].reason
    assert all(len(row.nest) < 2_000 and len(row.reason) < 1_000 for row in rows)


def test_a_hostile_room_is_asked_about_on_its_own_path_only(hostile):
    rows = [row for row in rows_of(hostile[1]) if row.nest == str(hostile[3]["path"])]
    answers = {row.status for row in rows if row.operation in (Operation.INFO, Operation.GUEST)}
    assert answers <= {404}, "a room name led to another path of the API"


def test_hostile_names_cannot_act_on_the_terminal(hostile, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    said = command("timeline", "--store", str(hostile[1] / "nestobs-data")).out
    assert raw_controls(said) == []
    assert "<script>alert(1)</script>[red]x[/red]" in said
    assert max(map(len, said.splitlines())) <= 100


def test_hostile_names_leave_json_that_is_json(hostile, command):
    said = command("timeline", "--json", "--store", str(hostile[1] / "nestobs-data")).out
    assert raw_controls(said) == []
    rooms = {address.identifier for address in hostile[3].values() if len(address.identifier) <= LONGEST_ROOM}
    assert {row["room"] for row in json.loads(said)} >= rooms


def test_an_event_far_from_now_is_no_harm(lab, home, command):
    host = Host(lab)
    tags = [
        ("d", "future-room"),
        ("room", "x"),
        ("status", "open"),
        ("service", ""),
        ("p", host.keys.public, "", "host"),
    ]
    event = host.keys.sign(ROOM_KIND, created_at=2**33, tags=tags)
    assert publish(lab.way("calm")["relays"][0], event)
    said = command("watch", "--for", "2s", *lab.target("calm"), "--json")
    assert said.code == 0, said
    assert "never retrieved" not in said.err
    assert str(Address(ROOM_KIND, host.keys.public, "future-room")) in {row.nest for row in rows_of(home)}
    assert command("timeline").code == 0


def test_a_watch_leaves_the_hosts_share_of_the_budget_alone(lab, home, command):
    """Many nests at once: the last ones are seen, but not asked about, and the report says how many."""
    with LabBeside(["rate-limited"], home / "limited") as limited:
        hosts = [Host(limited, "rate-limited", Keys.generate()) for _ in range(12)]
        for number, host in enumerate(hosts):
            host.announce(f"many-{number}")
        said = command("watch", "--for", "3s", *limited.target("rate-limited"), "--json")
    assert said.code == 0, said
    assert said.data["nests"] == 12
    assert said.data["followed_on_api"] + said.data["not_asked_for_budget"] == 12
    asked = [row for row in rows_of(home) if row.operation in (Operation.INFO, Operation.GUEST) and row.status]
    assert len(asked) <= 80
    assert 429 not in {row.status for row in asked}


async def watched_on(open_lab, target_of, scenario, *answers, keys=None, for_s=2.0):
    """What a watch of relays that answer so saw, and the API requests it made by room."""
    async with AsyncExitStack() as stack:
        urls = [(await stack.enter_async_context(hostile_relays.relay(**answer)))[0] for answer in answers]
        lab = await stack.enter_async_context(open_lab(scenario()))
        watched = await run(
            replace(target_of(lab), relays=tuple(urls)),
            store=Store.open("nestobs-data"),
            budget=Budget(100_000),
            rng=Early(),
            progress=lambda what, facts: None,
            for_s=for_s,
            keys=keys,
        )
    return watched, {row.room for row in rows_of(Path.cwd()) if row.operation in (Operation.INFO, Operation.GUEST)}


ANNOUNCER = Keys.generate()


def announced(room, age_s=1, status="open", **tags):
    made = [("d", room), ("status", status), *tags.items()]
    return ANNOUNCER.sign(ROOM_KIND, created_at=now_s() - age_s, tags=made)


def deleted(age_s, *tags):
    return ANNOUNCER.sign(5, created_at=now_s() - age_s, tags=tags)


def stream(*events, behind=()):
    """A relay that sends these to every REQ, then EOSE, then those `behind`."""

    async def answer(peer, verb, *rest):
        if verb == "REQ":
            for event in events:
                await peer.say("EVENT", rest[0], event.as_dict())
            await peer.say("EOSE", rest[0])
            for event in behind:
                await peer.say("EVENT", rest[0], event.as_dict())

    return {"answer": answer}


async def test_only_what_may_be_live_costs_budget(open_lab, target_of, scenario):
    soon = str(now_s() + 3_600)
    nests = [
        announced("live-one", status="Live"),
        announced("open-one"),
        announced("planned", status="planned", starts=soon),
        announced("later", starts=soon),
        announced("ended", status="ENDED"),
        announced("closed", status="Closed"),
        announced("ahead", age_s=-600),
        announced("year-far", age_s=-(2**40)),
        announced("years-ago", age_s=now_s()),
        announced("two-days", age_s=172_800),
    ]
    watched, asked = await watched_on(open_lab, target_of, scenario, stream(*nests), for_s=3.0)
    assert asked == {"live-one", "open-one"}
    assert watched.nests == len(nests)
    assert dict(watched.not_live) == {
        "not begun": 2,
        "over": 2,
        "dated ahead (clock skew)": 2,
        "older than 180 s": 2,
    }
    assert "2 not begun" in watched.sentences()[1]


async def test_a_relay_that_brings_very_many_nests_costs_the_others_no_more(open_lab, target_of, scenario):
    many = [announced(f"many-{number}") for number in range(MOST_FROM_ONE + 50)]

    async def bring(peer, verb, *rest):
        if verb == "REQ":
            for event in many if "since" in rest[1] else ():
                await peer.say("EVENT", rest[0], event.as_dict())
            await peer.say("EOSE", rest[0])

    relays = {"answer": bring}, stream(announced("one"))
    watched, asked = await watched_on(open_lab, target_of, scenario, *relays, for_s=10.0)
    assert watched.nests == len(many) + 1
    [(why, refused)] = watched.not_live.items()
    assert why.startswith("too many at once from ws://")
    assert refused == 50
    assert "one" in asked
    followed = {row.room for row in rows_of(Path.cwd()) if row.operation is Operation.QUERY}
    assert len(followed - {"one"}) == MOST_FROM_ONE


@pytest.mark.parametrize("order", [1, -1], ids=["old first", "new first"])
async def test_a_nest_whose_newest_version_is_closed_is_not_asked_about(open_lab, target_of, scenario, order):
    versions = [announced("edited", age_s=30), announced("edited", age_s=1, status="closed")][::order]
    _, asked = await watched_on(open_lab, target_of, scenario, *(stream(each) for each in versions))
    assert asked == set()


@pytest.mark.parametrize("by", ["a", "e"])
@pytest.mark.parametrize("where", ["stored", "pushed"])
async def test_a_withdrawn_nest_is_not_asked_about(open_lab, target_of, scenario, by, where):
    event = announced("withdrawn", age_s=5)
    tag = ("a", f"{ROOM_KIND}:{ANNOUNCER.public}:withdrawn") if by == "a" else ("e", event.id)
    gone = deleted(2, tag, ("k", "30312"))
    relay = stream(event, gone) if where == "stored" else stream(event, behind=[gone])
    watched, asked = await watched_on(open_lab, target_of, scenario, relay)
    assert asked == set()
    assert dict(watched.not_live) == {"withdrawn": 1}
    noted = [row for row in rows_of(Path.cwd()) if row.operation is Operation.RECEIVE]
    assert [(row.source, row.outcome, row.layer) for row in noted] == [(Source.RELAY, Outcome.ACCEPTED, "")]
    assert facts_of(noted[0].detail)["withdrawn"] is True
    assert noted[0].nest.endswith(":withdrawn")


@pytest.mark.parametrize("when", hostile_relays.CHALLENGES)
async def test_a_watch_with_a_key_sees_what_members_see(open_lab, target_of, scenario, when):
    talk = hostile_relays.members_only(when, stored=[announced("members")])
    watched, _ = await watched_on(open_lab, target_of, scenario, talk, keys=ANNOUNCER)
    assert (watched.nests, watched.silent) == (1, {})


@pytest.mark.parametrize(
    "talk",
    [hostile_relays.members_only("before EOSE"), {"answer": lambda peer, verb, *rest: asyncio.sleep(0)}, None],
    ids=["auth and eose", "silent", "not there"],
)
async def test_a_watch_to_which_no_relay_proved_anything_cannot_tell(talk, lab, home):
    async with AsyncExitStack() as stack:
        url = (
            "ws://127.0.0.1:9/" if talk is None else (await stack.enter_async_context(hostile_relays.relay(**talk)))[0]
        )
        said = await asyncio.to_thread(process, "watch", *lab.target("calm"), "--relay", url, "--for", "1s")
    assert said.code == 3
    assert "none of 1 relays gave proof of what it has" in said.err
    assert "saw 0 nests" in said.out


async def test_a_watch_that_asks_nothing_any_more_says_until_when(open_lab, target_of, scenario):
    said = []
    async with AsyncExitStack() as stack:
        url, _ = await stack.enter_async_context(hostile_relays.relay(**stream(announced("one"), announced("two"))))
        lab = await stack.enter_async_context(open_lab(scenario("rate_limit = { requests = 30, window_s = 600 }")))
        watched = await run(
            replace(target_of(lab), relays=(url,)),
            store=Store.open("nestobs-data"),
            budget=Budget(),
            rng=Early(),
            progress=lambda what, facts: said.append(facts.get("said", "")),
            for_s=3.0,
        )
    assert (watched.followed, watched.unasked) == (0, 2)
    clock, words = filter(None, said)
    assert clock == "how far this clock is off the API's is not known yet"
    assert re.search(r"budget .* spent.* until \d\d:\d\d:\d\d UTC: nests are seen, and not asked about", words), words


@pytest.mark.parametrize(
    ("silent", "why"),
    [
        (hostile_relays.members_only("before EOSE"), "wants to know who asks"),
        (hostile_relays.members_only("on connect"), "auth-required: who are you?"),
        ({"answer": lambda peer, verb, *rest: peer.say("NOTICE", "too many REQs")}, "NOTICE: too many REQs"),
        ({"answer": lambda peer, verb, *rest: asyncio.sleep(0)}, "no EOSE yet"),
    ],
    ids=["auth and eose", "auth on connect", "notice", "nothing"],
)
async def test_a_watch_says_which_relay_proved_nothing_and_why(open_lab, target_of, scenario, silent, why):
    watched, _ = await watched_on(open_lab, target_of, scenario, silent, stream(), for_s=1.5)
    [(_, said)] = watched.silent.items()
    assert why in said
    assert "gave no proof" in watched.sentences()[-1]
