"""The doctor's throwaway room: on a sound deployment, and on each kind of broken one, the right verdict, within its
requests by the lab's own count, and nothing left."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from typing import Any

import jwt
import pytest
from aiohttp import web

from nestobs.collector.doctor import Examination, examine
from nestobs.collector.doctor.room import MOST_REQUESTS
from nestobs.collector.keyring import Keyring
from nestobs.diagnosis import Cause
from nestobs.lab import Lab, ProxyMode
from nestobs.lab.livekit.server import find_binary
from nestobs.nostr import Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store
from worlds import hostile_relays
from worlds.interposed import interposed

RESTARTS = "[api]\nrestart_deletes = true\n"


@dataclass
class Doctor:
    """A store and a keyring, and examinations that use them."""

    store: Store
    keyring: Keyring
    asked: int = 0

    async def examine(self, lab: Lab, target: Any, **options: Any) -> Examination:
        """Examine a target of the lab with a room, and count the requests as the lab does."""
        limiter = next(iter(lab.api.values()))._limiter
        count = limiter.count

        def counted(address: str) -> tuple[bool, dict[str, str]]:
            self.asked += 1
            return count(address)

        limiter.count = counted
        began = time.monotonic()
        found = await examine(target, self.store.directory, keyring=self.keyring, **options)
        print(f"{self.asked} requests, {time.monotonic() - began:.1f} s: {found.lines()[-1]}")
        return found

    async def left(self, lab: Lab) -> list[Any]:
        """Whatever is left anywhere."""
        return [*await lab.rooms(), *lab.nests(), *self.store.ledger(), *self.keyring.folder.glob("*")]


@pytest.fixture
def doctor(tmp_path):
    return Doctor(Store.open(tmp_path / "store"), Keyring(tmp_path / "keys"))


@pytest.fixture
def open_lab(open_lab):
    """With the real livekit-server where there is one."""
    return lambda *scenarios, **options: open_lab(*scenarios, **{"livekit": "auto", **options})


def step(found, name):
    return next(step for step in found.steps if step.name == name)


# a sound deployment


@pytest.mark.parametrize("keys", [True, False], ids=["with LiveKit's keys", "without"])
async def test_a_sound_deployment_is_good_in_every_step(open_lab, target_of, scenario, doctor, keys):
    async with open_lab(scenario(RESTARTS)) as lab:
        found = await doctor.examine(lab, target_of(lab, keys=keys))
        assert await doctor.left(lab) == []
    assert (found.verdict.code, found.verdict.id, found.verdict.faults, found.left) == (0, "", (), [])
    states = {each.name: each.state for each in found.steps}
    assert {name for name, state in states.items() if state != "good"} == (set() if keys else {"list"})
    assert {"create", "publish", "info", "join", "guest", "visit", "restart", "delete", "event"} <= set(states)
    assert found.requests == doctor.asked <= MOST_REQUESTS


async def test_the_operators_own_key_hosts_and_stays(open_lab, target_of, scenario, doctor, tmp_path):
    doctor.keyring = Keyring(tmp_path / "keys", Keys.generate())
    async with open_lab(scenario(RESTARTS)) as lab:
        found = await doctor.examine(lab, target_of(lab), keys=doctor.keyring.operator)
        assert await doctor.left(lab) == []
    assert found.verdict.code == 0
    hosts = {row.nest.split(":")[1] for row in doctor.store.observations() if row.nest}
    assert hosts == {doctor.keyring.operator.public}


async def test_every_deed_has_its_intent_and_no_secret_is_stored(open_lab, target_of, scenario, doctor):
    async with open_lab(scenario(RESTARTS)) as lab:
        given, tokens = lab.api["made"]._granted, []
        overheard = lambda nest, token: tokens.append(token) or given(nest, token)  # noqa: E731 - where they are made
        lab.api["made"]._granted = overheard
        found = await doctor.examine(lab, target_of(lab))
        secret = target_of(lab).livekit_secret
    rows = list(doctor.store.observations())
    deeds = (Operation.CREATE, Operation.PUBLISH, Operation.RESTART, Operation.DELETE)
    done = {(row.attempt_group, row.attempt_no) for row in rows if row.operation in deeds}
    intended = {(row.attempt_group, row.attempt_no) for row in rows if row.failure is Failure.INTENT}
    assert done == intended
    assert len(tokens) > 3
    told = json.dumps(found.as_dict()) + "\n".join(found.lines())
    stored = b"".join(path.read_bytes() for path in doctor.store.directory.rglob("*") if path.is_file())
    for hidden in (*tokens, secret):
        assert hidden.encode() not in stored
        assert hidden not in told


# the race


async def test_a_race_that_ends_is_none_of_a_fault(open_lab, target_of, scenario, doctor):
    late = "record = { kind = 'constant', s = 2.0 }\njoin = { kind = 'constant', s = 1.5 }\n"
    async with open_lab(scenario(RESTARTS + late + "[livekit]\ncreated = { kind = 'constant', s = 1.0 }\n")) as lab:
        found = await doctor.examine(lab, target_of(lab))
        assert await doctor.left(lab) == []
    assert (found.verdict.code, found.verdict.faults) == (0, ())
    assert "the race, which time heals" in step(found, "join").said
    assert found.requests == doctor.asked <= MOST_REQUESTS


NEVER = "{ kind = 'never' }"
RACES = {
    "the record never comes": (f"record = {NEVER}\n", "", {Cause.API_BEHIND_LIVEKIT}),
    "LiveKit's room never comes": ("", f"[livekit]\ncreated = {NEVER}\n", {Cause.LIVEKIT_BEHIND_API}),
    "/info never comes": (f"info = {NEVER}\n", "", {Cause.API_BEHIND_LIVEKIT}),
    "all is late": ("record = { kind = 'constant', s = 60.0 }\n", "", {Cause.API_BEHIND_LIVEKIT}),
}


@pytest.mark.parametrize("race", RACES)
async def test_a_race_that_has_not_ended_cannot_be_told_from_what_never_comes(
    open_lab, target_of, scenario, doctor, race
):
    api, more, causes = RACES[race]
    async with open_lab(scenario(RESTARTS + api + more)) as lab:
        found = await doctor.examine(lab, target_of(lab))
        assert await doctor.left(lab) == []
    assert {step.cause for step in found.steps if step.state == "unsaid"} == causes
    assert Cause.API_JOIN_FAULT not in found.verdict.faults
    assert found.requests == doctor.asked <= MOST_REQUESTS
    assert (found.verdict.code, found.verdict.id) == (3, *causes)
    assert found.verdict.said.startswith("it could not be said")


# the lab's own faults

LAB_FAULTS = {
    "released restart": ("", "restart_without_effect"),
    "joins fail": (RESTARTS + "join_fault = '404'\n", "api_join_fault"),
    "token is an object": (RESTARTS + "token_fault = 'object'\n", "bad_token"),
    "both, as released": ("[api]\njoin_fault = '404'\ntoken_fault = 'object'\n", "bad_token"),
    "clock ahead": (RESTARTS + "date_skew_s = 300.0\n", "auth_clock_skew"),
    "clock behind": (RESTARTS + "date_skew_s = -300.0\n", "auth_clock_skew"),
    "server error": (RESTARTS + "server_error_s = 600.0\n", "api_down"),
    "negative cache": (RESTARTS + "record = { kind = 'constant', s = 0.9 }\ncache_404_s = 60.0\n", "negative_cache"),
    "expires": (
        RESTARTS + "join = { kind = 'constant', s = 9.0 }\n[livekit]\nexpires = { kind = 'constant', s = 0.7 }\n",
        "room_expired",
    ),
    "relay refuses": (RESTARTS + "[relays]\nfaults = { 2 = 'refuse' }\n", "relay_rejected"),
    "relay drops": (RESTARTS + "[relays]\nfaults = { 2 = 'drop' }\n", "relay_dropped"),
}


UNPROVED = ("server error", "negative cache")
"""Here the API proves of nothing that it is gone: what it has not proved stays in the ledger."""


@pytest.mark.parametrize("fault", LAB_FAULTS)
async def test_a_fault_of_the_lab_is_named(open_lab, target_of, scenario, doctor, fault):
    text, cause = LAB_FAULTS[fault]
    async with open_lab(scenario(text)) as lab:
        found = await doctor.examine(lab, target_of(lab))
        assert (await lab.rooms(), lab.nests()) == ([], [])
        if fault not in UNPROVED:
            assert await doctor.left(lab) == found.left == []
    assert (found.verdict.code, found.verdict.id) == (1, cause)
    assert found.requests == doctor.asked <= MOST_REQUESTS
    told = [step for step in found.steps if step.cause == cause] or [check for check in found.checks if check.cause]
    assert told
    if cause not in ("api_down", "auth_clock_skew"):  # of which a door tells, in a line
        assert told[0].evidence, "a bug report has evidence"
        assert told[0].asked
        assert told[0].answered
        assert told[0].should


NEST_FAULTS = {
    ("bad_token", "missing"): "bad_token",
    ("bad_token", "foreign_key"): "bad_token",
    ("wrong_room_token", ""): "wrong_room_token",
    ("api_join_fault", "no_longer_active"): "api_join_fault",
    ("auth_rejected", ""): "auth_rejected",
    ("forbidden", ""): "forbidden",
    ("wrong_door", "nginx"): "wrong_door",
    ("wrong_door", "web_page"): "wrong_door",
    ("rate_limited", "retry_after"): "rate_limited",
    ("api_down", "status_503"): "api_down",
    ("api_down", "stall"): "api_down",
    ("api_down", "reset"): "api_down",
    ("relay_rejected", "all"): "relay_rejected",
    ("relay_unreachable", "closed"): "relay_unreachable",
}


@pytest.mark.parametrize(("cause", "kind"), NEST_FAULTS, ids=lambda word: word or "the only kind")
async def test_a_fault_of_the_nest_itself_is_named(open_lab, target_of, scenario, doctor, cause, kind):
    text = f"{RESTARTS}[[faults]]\ncause = '{cause}'\nshare = 1.0\n" + (f"kind = '{kind}'\n" if kind else "")
    async with open_lab(scenario(text)) as lab:
        found = await doctor.examine(lab, target_of(lab))
        assert await lab.rooms() == []
        assert (lab.nests() == []) is (cause not in ("wrong_door", "rate_limited", "api_down"))
        assert bool(found.left) is bool(lab.nests()), "what is left is said"
    code = 3 if cause == "rate_limited" else 1
    assert (found.verdict.code, found.verdict.id) == (code, NEST_FAULTS[cause, kind])
    assert set(found.verdict.faults) <= {found.verdict.id}, "nothing else is blamed"
    assert doctor.asked <= MOST_REQUESTS


async def test_joins_that_fail_are_told_from_the_race_by_a_visit_where_there_are_no_keys(
    open_lab, target_of, scenario, doctor
):
    async with open_lab(scenario(RESTARTS + "join_fault = '404'\n")) as lab:
        found = await doctor.examine(lab, target_of(lab, keys=False))
        assert await doctor.left(lab) == []
    if find_binary() is not None:  # the stand-in does not say when it made a room
        assert (found.verdict.code, found.verdict.id) == (1, "api_join_fault")
    assert step(found, "join").cause == Cause.API_JOIN_FAULT
    evidence = " ".join(each.said for each in step(found, "join").evidence)
    assert "request" in evidence
    assert found.requests == doctor.asked <= MOST_REQUESTS


# a relay that cannot be read back

UNREADABLE = {
    "cuts": ({"faults": "cut"}, "relay_unreachable"),
    "closes": ({"faults": "closed"}, "relay_unreachable"),
    "stalls": ({"faults": "stall"}, "relay_unreachable"),
}


@pytest.mark.parametrize("gate", UNREADABLE)
async def test_of_a_relay_that_cannot_be_read_it_is_said_that_something_may_be_left(
    open_lab, target_of, scenario, doctor, gate
):
    fault, cause = UNREADABLE[gate]
    text = RESTARTS + "[relays]\nfaults = {{ 2 = '{faults}' }}\n".format(**fault)
    async with open_lab(scenario(text)) as lab:
        found = await doctor.examine(lab, target_of(lab))
        assert (await lab.rooms(), lab.nests()) == ([], [])
        assert (found.verdict.code, found.verdict.id) == (1, cause)
        [entry] = doctor.store.ledger()
        assert entry.kind == "event"
        assert found.left == [entry.note]
        lab.gates["made"][1].fault = type(lab.gates["made"][1].fault).PASS
        again = await doctor.examine(lab, target_of(lab))
        assert await doctor.left(lab) == []
    assert again.verdict.code == 0
    assert "earlier runs had left" in next(check for check in again.checks if check.name == "left before").said


@pytest.mark.parametrize(
    ("taken", "code", "cause"),
    [("true", 0, ""), ("false", 1, "relay_wants_auth")],
    ids=["our key is taken", "it is not"],
)
async def test_a_relay_that_wants_to_know_who_asks(open_lab, target_of, scenario, doctor, taken, code, cause):
    async with (
        open_lab(scenario(RESTARTS + ("[relays]\nfaults = { 2 = 'auth' }\n" if taken == "true" else ""))) as lab,
        hostile_relays.relay(**hostile_relays.members_only("on connect", ok="false")) as (url, _),
    ):
        target = target_of(lab)
        target = target if taken == "true" else replace(target, relays=(target.relays[0], url))
        found = await doctor.examine(lab, target)
        assert (await lab.rooms(), lab.nests()) == ([], [])
    assert (found.verdict.code, found.verdict.id) == (code, cause)


# other releases, proxies and services in between


OWN = {"RateLimit-Policy": "1000000;w=900", "RateLimit-Limit": "1000000", "ETag": 'W/"1"'}
"""What the lab's API puts into each of its answers."""


def says(status, body=None, *, text="", kind="application/json"):
    async def answer(request, forward):
        if body is not None:
            return web.json_response(body, status=status, headers=OWN)
        return web.Response(status=status, text=text or None, content_type=kind if text else None, headers=OWN)

    return answer


def done_but(**changes):
    """The answer with some of its fields changed."""

    async def answer(request, forward):
        response = await forward()
        body = json.loads(bytes(response.body))
        given = {name: value(body.get(name)) if callable(value) else value for name, value in changes.items()}
        return web.json_response(body | given, status=response.status)

    return answer


def forged(**claims):
    """A token as it is, with other claims, signed by somebody else."""

    def change(token):
        found = jwt.decode(token, options={"verify_signature": False})
        video = found["video"] | claims.pop("video", {})
        return jwt.encode(found | claims | {"video": video}, "another-secret-of-more-than-thirty-two-bytes")

    return change


PAGE = says(200, text="<!doctype html><title>Nests</title>", kind="text/html")
ROUTER = says(404, {"error": "Endpoint not found"})
NO_NEST = says(404, {"error": "Nest not found"})

BETWEEN = {
    "PUT is a page": ({"PUT": PAGE}, 1, "wrong_door"),
    "PUT is refused": ({"PUT": says(401, {"error": "Missing or invalid authorization header"})}, 1, "auth_rejected"),
    "PUT is forbidden": ({"PUT": says(403, {"error": "not on the list"})}, 1, "forbidden"),
    "PUT fails": ({"PUT": says(500, {"error": "Failed to create nest"})}, 3, "api_down"),
    "PUT is limited": ({"PUT": says(429, {"error": "Too many requests"})}, 3, "rate_limited"),
    "a PUT's token for another room": ({"PUT": done_but(token=forged(video={"room": "x"}))}, 1, "wrong_room_token"),
    "a PUT's token by another key": ({"PUT": done_but(token=forged())}, 1, "bad_token"),
    "a PUT without a token": ({"PUT": done_but(token=None)}, 1, "bad_token"),
    "a guest's token is an object": ({"GET guest": done_but(token={})}, 1, "bad_token"),
    "a joiner's token has expired": ({"GET": done_but(token=forged(exp=1_000_000_000))}, 1, "bad_token"),
    "/info names another host": ({"GET info": done_but(host="f" * 64)}, 1, "room_id_mismatch"),
    "/info is a page": ({"GET info": PAGE}, 1, "wrong_door"),
    "only the signed-in join fails": ({"GET": NO_NEST}, 1, "api_join_fault"),
    "only the guest's join fails": ({"GET guest": NO_NEST}, 1, "api_join_fault"),
    "joins are refused": ({"GET": says(401, {"error": "Invalid NIP-98 authentication"})}, 1, "auth_rejected"),
    "joins are forbidden": ({"GET": says(403, {"error": "no"})}, 1, "forbidden"),
    "joins err": ({"GET": says(502, text="Bad Gateway", kind="text/plain")}, 1, "api_down"),
    "no restart": ({"POST restart": ROUTER}, 0, ""),
    "restart is not allowed": ({"POST restart": says(405, {"error": "Method not allowed"})}, 0, ""),
    "restart is forbidden": ({"POST restart": says(403, {"error": "Only the host can do this"})}, 1, "forbidden"),
    "no DELETE": ({"DELETE": says(405, {"error": "Method not allowed"})}, 0, ""),
    "DELETE is a page": ({"DELETE": PAGE}, 1, "wrong_door"),
    "DELETE does nothing": ({"DELETE": says(204)}, 1, "room_left_behind"),
}


@pytest.mark.parametrize("between", BETWEEN)
async def test_what_stands_between_is_named(open_lab, target_of, scenario, doctor, between):
    instead, code, cause = BETWEEN[between]
    async with open_lab(scenario(RESTARTS)) as lab, interposed(lab, instead) as url:
        found = await doctor.examine(lab, replace(target_of(lab), api=url))
        assert await lab.rooms() == []
    assert (found.verdict.code, found.verdict.id) == (code, cause), found.verdict
    assert found.requests <= MOST_REQUESTS
    assert doctor.asked <= MOST_REQUESTS
    for fault in found.verdict.faults:
        assert fault in {*Cause, "room_left_behind", "record_left_behind", "event_left_behind"}


async def test_a_delete_that_leaves_the_record_is_named(open_lab, target_of, scenario, doctor):
    async def livekit_only(request, forward):
        await lab.world.rooms.delete(request.path.rpartition("/")[2])
        return web.Response(status=204, headers=OWN)

    async with open_lab(scenario(RESTARTS)) as lab, interposed(lab, {"DELETE": livekit_only}) as url:
        found = await doctor.examine(lab, replace(target_of(lab), api=url))
    assert (found.verdict.code, found.verdict.id) == (1, "record_left_behind")
    assert "/info still shows the room" in step(found, "delete").said
    assert found.left, "the record is left, and that is said"


async def test_a_delete_that_leaves_livekits_room_is_named_and_the_room_is_ended(open_lab, target_of, scenario, doctor):
    async def record_only(request, forward):
        lab.api["made"].nests[request.path.rpartition("/")[2]].delete(0)
        return web.Response(status=204, headers=OWN)

    async with open_lab(scenario(RESTARTS)) as lab, interposed(lab, {"DELETE": record_only}) as url:
        found = await doctor.examine(lab, replace(target_of(lab), api=url))
        assert await doctor.left(lab) == []
    assert (found.verdict.code, found.verdict.id, found.left) == (1, "room_left_behind", [])


async def test_a_livekit_that_is_down_is_named(open_lab, target_of, scenario, doctor):
    async with open_lab(scenario(RESTARTS)) as lab:
        lab.livekit_proxy["made"].mode = ProxyMode.REFUSE
        found = await doctor.examine(lab, target_of(lab))
        lab.livekit_proxy["made"].mode = ProxyMode.PASS
    assert (found.verdict.code, found.verdict.id) == (1, "livekit_unreachable")
    assert [step.state for step in found.steps if step.name in ("join", "guest")] == ["good", "good"]


# what cannot be said


async def test_a_budget_that_is_too_small_makes_nothing_and_is_said(open_lab, target_of, scenario, doctor):
    async with open_lab(scenario("[rate_limit]\nrequests = 10\n")) as lab:
        found = await doctor.examine(lab, target_of(lab))
        assert await doctor.left(lab) == []
    assert (found.verdict.code, found.steps) == (3, [])
    assert "requests are left in the budget" in found.verdict.said


async def test_a_store_that_another_run_writes_is_said_or_raised(open_lab, target_of, scenario, doctor):
    from nestobs.errors import StoreError

    async with open_lab(scenario()) as lab:
        with doctor.store.writer():
            found = await doctor.examine(lab, target_of(lab), insist=False)
            with pytest.raises(StoreError):
                await doctor.examine(lab, target_of(lab))
        assert await doctor.left(lab) == []
    assert (found.verdict.code, found.steps) == (3, [])
    assert "another" in found.verdict.said


async def test_what_we_held_up_ourselves_is_no_fault_of_theirs(open_lab, target_of, scenario, doctor):
    """Our loop stands still for most of the time: it ends by itself, leaves nothing, and calls nothing a fault."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + 20

    def block() -> None:
        time.sleep(1.5)
        if loop.time() < ends:
            loop.call_later(0.2, block)

    async with open_lab(scenario(RESTARTS)) as lab:
        loop.call_later(0.5, block)
        found = await doctor.examine(lab, target_of(lab))
        ends = 0
        await asyncio.sleep(2)
        if doctor.store.ledger():
            await doctor.examine(lab, target_of(lab))
        assert await doctor.left(lab) == []
    assert found.verdict.code in (0, 3), found.verdict


# what an interrupted one leaves


@pytest.mark.parametrize("moment", ["created", "restarting", "deleting"])
async def test_an_interrupted_examination_cleans_up(open_lab, target_of, scenario, doctor, until, moment):
    async with open_lab(scenario(RESTARTS)) as lab:
        api = lab.api["made"]
        come = {
            "created": lambda: any(entry.room for entry in doctor.store.ledger()),
            "restarting": lambda: any(not nest.room_sid for nest in api.nests.values()),
            "deleting": lambda: api.nests and not lab.nests(),
        }
        running = asyncio.create_task(doctor.examine(lab, target_of(lab)))
        await until(come[moment])
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        if doctor.store.ledger():  # in the very moment between two steps: the next start cleans
            await doctor.examine(lab, target_of(lab))
        assert await doctor.left(lab) == []


async def test_what_earlier_runs_left_is_cleaned_within_a_few_requests(open_lab, target_of, scenario, doctor):
    """As after kill -9: rooms of runs whose processes are gone, and more than the doctor has requests for."""
    async with open_lab(scenario(RESTARTS)) as lab:
        for number in range(12):
            await made_and_killed(doctor, target_of(lab), number)
        assert len(lab.nests()) == 12
        found = await doctor.examine(lab, target_of(lab))
        assert doctor.asked <= MOST_REQUESTS
        assert "canary --count 0" in next(check for check in found.checks if check.name == "left before").said
        for _ in range(10):
            if not doctor.store.ledger():
                break
            await doctor.examine(lab, target_of(lab))
        assert await doctor.left(lab) == []


async def made_and_killed(doctor, target, number):
    """A run that made a room, said so in the ledger, and was killed."""
    from nestobs.collector.station import recording
    from nestobs.join.budget import Budget

    async with recording(doctor.store, [target], Budget(), run_id=f"0000000{number:x}-dead") as ([station], pen):
        keys, ref = doctor.keyring.host(station.vantage.run_id, api=station.api.url, store=str(doctor.store.directory))
        answer = await station.api.create(Trace(), keys, ("ws://127.0.0.1:9",))
        assert answer.row.outcome is Outcome.ACCEPTED
        entry = {"kind": "room", "run_id": station.vantage.run_id, "vantage": "x", "api": station.api.url, "nest": ""}
        at = answer.row.sent_at - 60 * SECOND_NS
        pen.writer.open_entry(**entry, room=answer.body["roomId"], relays=(), key_ref=ref, at=at)
