"""Faults of single nests: drawn as a file says, acted out at their time, told in the truth."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from pathlib import Path

import aiohttp
import httpx
import jwt
import pytest
from livekit.protocol import models, rtc
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from nestobs import nostr
from nestobs.lab import load_scenario, scenario_names
from nestobs.lab.delays import LONGEST_S
from nestobs.lab.faults.causes import CAUSES
from nestobs.lab.plan import Planner


def entry(cause, *lines):
    return "\n".join(["[[faults]]", f'cause = "{cause}"', *lines])


def lasting(seconds):
    return f'for = {{kind = "constant", s = {seconds}}}'


def told(lab, cause):
    """What the truth says of a fault: changes in order."""
    return [row["change"] for row in lab.truth() if row["layer"] == f"fault:{cause}"]


async def asked(host, room):
    """Status and body of info, signed join and guest."""
    answers = [
        await host.http.get(f"{host.base}/{room}/info"),
        await host.call("GET", f"/{room}"),
        await host.http.get(f"{host.base}/{room}/guest"),
    ]
    return [answer.status_code for answer in answers], answers


# drawing


def drawn(text, scenario, nests=400, seed=3):
    planner = Planner(scenario(text), seed, 3)
    return [planner.nth(number).faults for number in range(nests)]


def test_by_its_own_share_a_nest_has_none_one_or_several(scenario):
    found = drawn("\n".join([entry("bad_token", "share = 0.5"), entry("relay_delay", "share = 0.2")]), scenario)
    assert {len(faults) for faults in found} == {0, 1, 2}
    counts = Counter(fault.cause for faults in found for fault in faults)
    assert counts["bad_token"] / 400 == pytest.approx(0.5, abs=0.07)
    assert counts["relay_delay"] / 400 == pytest.approx(0.2, abs=0.06)


def test_exactly_so_many_are_drawn_by_weight_and_on_different_sides(scenario):
    entries = [entry("bad_token", "share = 0.9"), entry("forbidden", "share = 0.1"), entry("relay_delay")]
    found = drawn("faults_a_nest = 2\n" + "\n".join(entries), scenario)
    assert {tuple(sorted(fault.theory.side for fault in faults)) for faults in found} == {("api", "relay")}
    counts = Counter(fault.cause for faults in found for fault in faults)
    assert counts["bad_token"] / 400 == pytest.approx(0.9, abs=0.05)


def test_a_seed_reproduces_the_faults_and_they_shift_no_delay(scenario):
    delays = '[api]\nrecord = {kind = "lognormal", median_s = 1, sigma = 1}\n'
    faults = delays + entry("api_down", 'from = {kind = "weibull", scale_s = 2, shape = 1}', "share = 0.5")
    assert drawn(faults, scenario) == drawn(faults, scenario) != drawn(faults, scenario, seed=4)
    plain, faulty = Planner(scenario(delays), 3, 3), Planner(scenario(faults), 3, 3)
    assert [plain.nth(n).routes for n in range(50)] == [faulty.nth(n).routes for n in range(50)]


def test_the_scale_multiplies_when_a_fault_comes_and_how_long_it_stays(scenario):
    made = scenario(entry("api_down", 'from = {kind = "constant", s = 4}', lasting(6)))
    [fault] = Planner(made, 1, 3, 0.5).nth(0).faults
    assert (fault.from_s, fault.for_s) == (2.0, 3.0)


def test_an_event_of_a_stranger_has_no_faults(scenario):
    assert Planner(scenario(entry("bad_token")), 1, 3).stranger("x").faults == ()


@pytest.mark.parametrize("cause", CAUSES)
def test_every_cause_is_in_the_scenario_of_every_cause(cause):
    assert cause in {each.cause for each in load_scenario("every-cause").faults}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in scenario_names() if load_scenario(name).faults])
def test_what_ships_draws_as_many_faults_as_it_says_and_all_of_them(name):
    made = load_scenario(name)
    found = [Planner(made, 1, 3).nth(number).faults for number in range(1_500)]
    counts = Counter(len(faults) for faults in found)
    assert set(counts) == ({made.faults_a_nest} if made.faults_a_nest else set(range(5)) & set(counts))
    assert {fault.cause for faults in found for fault in faults} == {each.cause for each in made.faults}
    assert all(0 <= fault.from_s < LONGEST_S for faults in found for fault in faults)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (entry("bad_tokn"), "made.toml: faults.0: .*there is no cause 'bad_tokn': choose among relay_delay"),
        (entry("bad_token", 'kind = "nil"'), "bad_token comes in the kinds object, null, .*, not 'nil'"),
        (
            entry("relay_delay", 'from = {kind = "constant", s = 1}'),
            "relay_delay begins with the nest: leave out `from`",
        ),
        (entry("bad_token", "share = 2"), "faults.0.share: Input should be less than or equal to 1"),
        (entry("bad_token", "for = 3"), "faults.0.for: Input should be a valid dictionary"),
        (entry("bad_token", "until = 3"), "unknown key faults.0.until"),
        (entry("bad_token", "begins = 3"), "unknown key faults.0.begins"),
        ("faults_a_nest = 9", "faults_a_nest: Input should be less than or equal to 5"),
        ("[[faults]]", "faults.0.cause: Field required"),
        ("faults = 1", "faults: Input should be a valid list"),
    ],
)
def test_a_mistake_is_named(scenario, text, said):
    from nestobs.errors import UsageError

    with pytest.raises(UsageError, match=said):
        scenario(text)


# the API


@pytest.mark.parametrize(
    ("cause", "kind", "statuses"),
    [
        ("api_join_fault", "not_found", [200, 404, 404]),
        ("api_join_fault", "no_longer_active", [200, 404, 404]),
        ("auth_rejected", "plain", [200, 401, 200]),
        ("forbidden", "plain", [200, 403, 200]),
        ("auth_clock_skew", "ahead", [200, 401, 200]),
        ("auth_clock_skew", "behind", [200, 401, 200]),
        ("rate_limited", "draft_6", [429, 429, 429]),
        ("rate_limited", "draft_8", [429, 429, 429]),
        ("rate_limited", "retry_after", [429, 429, 429]),
        ("api_down", "status_500", [500, 500, 500]),
        ("api_down", "status_502", [502, 502, 502]),
        ("api_down", "status_503", [503, 503, 503]),
        ("wrong_door", "nginx", [404, 404, 404]),
        ("wrong_door", "traefik", [404, 404, 404]),
        ("wrong_door", "kong", [404, 404, 404]),
        ("wrong_door", "web_page", [200, 200, 200]),
        ("wrong_door", "other_service", [404, 404, 404]),
        ("livekit_down", "closed", [200, 404, 404]),
    ],
)
async def test_what_the_routes_answer_instead(open_lab, scenario, cause, kind, statuses):
    async with open_lab(scenario(entry(cause, f'kind = "{kind}"'))) as (lab, host):
        room = await host.create()
        found, answers = await asked(host, room)
        assert found == statuses
        ours = ["ETag" in answer.headers for answer in answers]
        assert ours == [not (cause == "wrong_door" or kind in ("status_502", "status_503"))] * 3
        assert told(lab, cause) == ["planned", "shown"]


async def test_the_clock_that_judges_is_the_one_that_date_shows(open_lab, scenario):
    async with open_lab(scenario(entry("auth_clock_skew", 'kind = "ahead"'))) as (_, host):
        from email.utils import parsedate_to_datetime

        room = await host.create()
        answer = await host.call("GET", f"/{room}")
        ahead_s = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
        assert 290 < ahead_s < 310
        away_s = int(re.search(r"(\d+) s away", answer.headers["X-Lab-Reason"])[1])
        assert 299 <= away_s <= 302, "the signature and the Date have whole seconds"


@pytest.mark.parametrize("kind", ["draft_6", "draft_8", "retry_after"])
async def test_a_limit_says_how_long_and_ends(open_lab, scenario, kind):
    async with open_lab(scenario(entry("rate_limited", f'kind = "{kind}"', lasting(0.3)))) as (lab, host):
        room = await host.create()
        answer = await host.http.get(f"{host.base}/{room}/info")
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        assert ("RateLimit-Remaining" in answer.headers, "RateLimit" in answer.headers) == (
            kind == "draft_6",
            kind == "draft_8",
        )
        await asyncio.sleep(0.35)
        assert (await asked(host, room))[0] == [200, 200, 200]
        assert told(lab, "rate_limited") == ["planned", "shown", "gone"]


@pytest.mark.parametrize(
    ("kind", "token"), [("object", {}), ("null", None), ("number", 42), ("empty", ""), ("missing", "none")]
)
async def test_a_token_that_is_none(open_lab, scenario, kind, token):
    async with open_lab(scenario(entry("bad_token", f'kind = "{kind}"'))) as (_, host):
        room = (await host.call("PUT", body={"relays": ["wss://relay.example"]})).json()["roomId"]
        statuses, answers = await asked(host, room)
        assert statuses == [200, 200, 200]
        assert [answer.json().get("token", "none") for answer in answers[1:]] == [token, token]


async def test_a_token_for_another_room(open_lab, scenario):
    async with open_lab(scenario(entry("wrong_room_token"))) as (_, host):
        room = await host.create()
        for answer in (await asked(host, room))[1][1:]:
            named = jwt.decode(answer.json()["token"], options={"verify_signature": False})["video"]["room"]
            assert named != room


async def test_a_token_signed_with_another_key_is_refused_by_livekit(open_lab, scenario, livekit):
    made = scenario(entry("bad_token", 'kind = "foreign_key"'))
    async with open_lab(made, livekit=livekit) as (lab, host), aiohttp.ClientSession() as session:
        room = await host.create()
        token = (await host.http.get(f"{host.base}/{room}/guest")).json()["token"]
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(url_of(lab) + "/rtc", params={"access_token": token, "protocol": "16"})
        assert caught.value.status == 401


async def test_an_api_that_resets_or_says_nothing(open_lab, scenario):
    made = [scenario(entry("api_down", f'kind = "{kind}"'), kind) for kind in ("reset", "stall")]
    async with open_lab(*made) as (lab, host):
        room = await host.create()
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
            await host.http.get(f"{host.base}/{room}/info")
        stalled = type(host)(lab.info["scenarios"]["stall"]["vantages"][0]["api"], host.http)
        room = await stalled.create()
        with pytest.raises(httpx.ReadTimeout):
            await host.http.get(f"{stalled.base}/{room}/info", timeout=0.3)


async def test_a_fault_comes_at_its_time_and_hits_only_its_nest(open_lab, scenario):
    made = scenario(entry("api_down", 'kind = "status_500"', 'from = {kind = "constant", s = 0.3}', "share = 0.5"))
    planner = Planner(made, 1, 3)
    first, other = (next(n for n in range(9) if bool(planner.nth(n).faults) is faulty) for faulty in (True, False))
    async with open_lab(made, seed=1) as (lab, host):
        rooms = [await host.create() for _ in range(max(first, other) + 1)]
        await asyncio.sleep(0.4)
        assert (await asked(host, rooms[first]))[0] == [500, 500, 500]
        assert (await asked(host, rooms[other]))[0] == [200, 200, 200]
        row = next(row for row in lab.truth() if row["layer"] == "fault:api_down" and row["change"] == "shown")
        assert (row["kind"], row["by"], row["for_s"], row["planned_delay_s"]) == ("status_500", "lab", None, 0.3)
        assert row["not_yet_at"] <= row["now_at"]


@pytest.mark.parametrize(
    ("cause", "at_once", "later"),
    [
        ("api_behind_livekit", [404, 404, 404], [200, 200, 200]),
        ("livekit_behind_api", [200, 404, 404], [200, 200, 200]),
        ("late_record_made_a_listener", [404, 404, 200], [200, 200, 200]),
        ("not_begun", [200, 404, 404], [200, 404, 404]),
    ],
)
async def test_what_is_late_comes(open_lab, scenario, cause, at_once, later):
    async with open_lab(scenario(entry(cause, lasting(0.4)))) as (_, host):
        room = await host.create()
        assert (await asked(host, room))[0] == at_once
        await asyncio.sleep(0.6)
        assert (await asked(host, room))[0] == later


async def test_replicas_that_disagree_answer_in_turn(open_lab, scenario):
    async with open_lab(scenario(entry("replicas_disagree"))) as (_, host):
        room = await host.create()
        found = [(await host.http.get(f"{host.base}/{room}/guest")).status_code for _ in range(6)]
        assert sorted(found) == [200] * 3 + [404] * 3


@pytest.mark.parametrize(
    ("kind", "header"), [("x_cache", "X-Cache"), ("cf", "CF-Cache-Status"), ("cache_status", "Cache-Status")]
)
async def test_a_cache_keeps_a_404_longer_than_it_is_true(open_lab, scenario, kind, header):
    async with open_lab(scenario(entry("negative_cache", f'kind = "{kind}"', lasting(1.2)))) as (_, host):
        room = await host.create()
        first = await host.http.get(f"{host.base}/{room}/guest")
        await asyncio.sleep(0.8)  # the record has been there since 0.6 s
        second = await host.http.get(f"{host.base}/{room}/guest")
        assert (first.status_code, header in first.headers) == (404, False)
        assert (second.status_code, header in second.headers, "Age" in second.headers) == (404, True, True)
        assert (await host.http.get(f"{host.base}/{room}/info")).status_code == 200  # nobody asked before
        await asyncio.sleep(0.6)
        assert (await host.http.get(f"{host.base}/{room}/guest")).status_code == 200


# LiveKit


def url_of(lab, scenario="made"):
    return lab.info["scenarios"][scenario]["vantages"][0]["livekit"]


@pytest.mark.parametrize("cause", ["room_expired", "ended_by_departure"])
async def test_the_room_ends_and_the_record_stays(open_lab, scenario, livekit, until, cause):
    made = scenario(entry(cause, 'from = {kind = "constant", s = 0.3}'))
    async with open_lab(made, livekit=livekit) as (lab, host):
        room = await host.create()
        assert (await asked(host, room))[0] == [200, 200, 200]
        await until(lambda: [row for row in lab.truth() if (row["layer"], row["change"]) == ("livekit:room", "gone")])
        statuses, answers = await asked(host, room)
        assert statuses == [200, 404, 404]
        assert answers[1].json()["error"] == "Nest is no longer active"
        assert await lab.rooms() == []


async def test_a_restart_takes_the_room_away_and_makes_another(open_lab, scenario, livekit, until):
    made = scenario(entry("restart_window", 'from = {kind = "constant", s = 0.3}', lasting(0.5)))
    async with open_lab(made, livekit=livekit) as (lab, host):
        room = await host.create()
        sid = lab.api["made"].nests[room].room_sid
        await until(lambda: "shown" in told(lab, "restart_window") and not lab.api["made"].nests[room].room_sid)
        assert (await asked(host, room))[0] == [200, 404, 404]
        await until(lambda: lab.api["made"].nests[room].room_sid)
        assert (await asked(host, room))[0] == [200, 200, 200]
        assert lab.api["made"].nests[room].room_sid != sid


@pytest.mark.parametrize(("kind", "raised"), [("closed", httpx.ConnectError), ("reset", httpx.ReadError)])
@pytest.mark.parametrize("cause", ["livekit_down", "livekit_unreachable"])
async def test_livekit_cannot_be_reached_while_it_lasts(open_lab, scenario, until, cause, kind, raised):
    made = scenario(entry(cause, f'kind = "{kind}"', lasting(0.5)))
    async with open_lab(made) as (lab, host):
        room = await host.create()
        where = url_of(lab).replace("ws", "http", 1)
        with pytest.raises((raised, httpx.RemoteProtocolError)):
            await host.http.get(where)
        assert (await host.http.get(f"{host.base}/{room}/guest")).status_code == (
            404 if cause == "livekit_down" else 200
        )
        await until(lambda: "gone" in told(lab, cause))
        await asyncio.sleep(0.05)
        assert (await host.http.get(where)).status_code == 200


async def test_another_server_stands_where_livekit_should(open_lab, scenario):
    async with open_lab(scenario(entry("livekit_unreachable", 'kind = "other_server"'))) as (lab, host):
        await host.create()
        answer = await host.http.get(url_of(lab).replace("ws", "http", 1) + "/rtc/validate")
        assert (answer.status_code, answer.json()) == (404, {"error": "Endpoint not found"})


async def test_somebody_comes_in_under_the_same_identity(open_lab, scenario, livekit):
    made = scenario(entry("duplicate_identity"))
    async with open_lab(made, livekit=livekit) as (lab, host), aiohttp.ClientSession() as session:
        room = await host.create()
        token = (await type(host)(host.base, host.http).call("GET", f"/{room}")).json()["token"]
        async with session.ws_connect(url_of(lab) + "/rtc", params={"access_token": token, "protocol": "16"}) as ws:
            while True:
                message = await asyncio.wait_for(ws.receive(), 10)
                assert message.type is aiohttp.WSMsgType.BINARY
                answer = rtc.SignalResponse.FromString(message.data)
                if answer.HasField("leave"):
                    assert answer.leave.reason == models.DUPLICATE_IDENTITY
                    break


@pytest.mark.slow
async def test_media_do_not_come_where_signalling_does(open_lab, scenario, real_livekit):
    from nestobs.sources.livekit import LiveKit
    from nestobs.sources.vantage import Trace, Vantage

    both = [scenario(entry("media_blocked"), "blocked"), scenario("", "open")]
    async with open_lab(*both, livekit=real_livekit) as (lab, host):
        found = {}
        for name in ("blocked", "open"):
            there = type(host)(lab.info["scenarios"][name]["vantages"][0]["api"], host.http)
            room = await there.create()
            token = (await host.http.get(f"{there.base}/{room}/guest")).json()["token"]
            async with LiveKit(Vantage("here", "run", lambda row: None), url_of(lab, name)) as source:
                signalled, first = await source.signal(Trace(room=room), token)
                await first.close()
                row, session = await source.media(Trace(room=room), token, timeout_s=5.0 if name == "blocked" else 30.0)
                found[name] = (signalled.outcome, row.outcome)
                if session is not None:
                    await session.close()
        assert found == {"blocked": ("visible", "unknown"), "open": ("visible", "visible")}


async def test_what_only_the_real_server_can_do_is_left_out_with_the_stand_in(open_lab, scenario):
    from nestobs.errors import UsageError

    async with open_lab(scenario(entry("media_blocked") + "\n" + entry("bad_token"))) as (lab, host):
        await host.create()
        assert told(lab, "media_blocked") == []
        assert told(lab, "bad_token") == ["planned", "shown"]
    with pytest.raises(UsageError, match="media_blocked takes the real livekit-server"):
        async with open_lab(scenario(entry("media_blocked"))):
            pass


# relays


async def heard(ws, within_s=10):
    return json.loads(await asyncio.wait_for(ws.recv(), within_s))


async def published(lab, host, room):
    """What each gate says to the nest's event, and which of them then have it."""
    event, said, has = host.room_event(room), [], []
    for gate in lab.gates["made"]:
        async with connect(gate.url) as ws:
            await ws.send(nostr.publish(event))
            said.append((await heard(ws))[2])
            await ws.send(nostr.req("q", nostr.room_filter(identifiers=[room])))
            has.append((await heard(ws))[0] == "EVENT")
    return said, has


@pytest.mark.parametrize(
    ("cause", "kind", "said", "has"),
    [
        ("relay_rejected", "first", [False, True, True], [False, True, True]),
        ("relay_rejected", "all", [False] * 3, [False] * 3),
        ("relay_dropped", "last", [True] * 3, [True, True, False]),
        ("relay_dropped", "all", [True] * 3, [False] * 3),
        ("relay_delay", "first", [True] * 3, [False, True, True]),
    ],
)
async def test_what_relays_do_with_the_event(open_lab, scenario, cause, kind, said, has):
    made = scenario(entry(cause, f'kind = "{kind}"', *([lasting(0.4)] if cause == "relay_delay" else [])))
    async with open_lab(made) as (lab, host):
        room = await host.create()
        assert await published(lab, host, room) == (said, has)
        stranger = str(room)[::-1]
        assert await published(lab, host, stranger) == ([True] * 3, [True] * 3)
        if cause == "relay_delay":
            await asyncio.sleep(0.5)
            assert (await published(lab, host, room))[1] == [True] * 3


async def test_a_relay_answers_about_the_nest_too_late_for_the_web_client(open_lab, scenario):
    async with open_lab(scenario(entry("client_cutoff"))) as (lab, host):
        room = await host.create()
        async with connect(lab.gates["made"][0].url) as ws:
            await ws.send(nostr.publish(host.room_event(room)))
            await heard(ws)
            await ws.send(nostr.req("q", nostr.room_filter(identifiers=[room])))
            with pytest.raises(TimeoutError):
                await heard(ws, 1.5)
            assert (await heard(ws))[0] == "EVENT"


async def answered(ws):
    await ws.send(nostr.req("q", nostr.room_filter()))
    await heard(ws, 0.3)


@pytest.mark.parametrize("kind", ["closed", "cut", "stall"])
async def test_a_relay_that_cannot_be_reached_while_it_lasts(open_lab, scenario, until, kind):
    made = scenario(entry("relay_unreachable", f'kind = "{kind}"', 'from = {kind = "constant", s = 0.2}', lasting(2)))
    async with open_lab(made) as (lab, host):
        gate = lab.gates["made"][0]
        before = await connect(gate.url, ping_interval=None)
        await host.create()
        await until(lambda: "shown" in told(lab, "relay_unreachable"))
        with pytest.raises((OSError, ConnectionClosed, TimeoutError)):
            await answered(before)
        before.transport.abort()
        with pytest.raises((OSError, ConnectionClosed, TimeoutError)):
            await answered(await asyncio.wait_for(connect(gate.url, ping_interval=None), 0.3))
        await until(lambda: "gone" in told(lab, "relay_unreachable"))
        await asyncio.sleep(0.05)
        async with connect(gate.url) as ws:
            await ws.send(nostr.req("q", nostr.room_filter(identifiers=["x"])))
            assert await heard(ws) == ["EOSE", "q"]


async def test_a_relay_wants_to_know_who_asks_once_the_nest_is_there(open_lab, scenario):
    async with open_lab(scenario(entry("relay_wants_auth"))) as (lab, host):
        await host.create()
        async with connect(lab.gates["made"][1].url) as ws:
            assert (await heard(ws))[0] == "AUTH"
            await ws.send(nostr.req("q", nostr.room_filter()))
            assert (await heard(ws))[2].startswith("auth-required")


async def test_a_door_is_mended_when_the_last_nest_with_its_fault_is_over(open_lab, scenario, until):
    made = scenario(entry("relay_wants_auth", lasting(0.6)))
    async with open_lab(made) as (lab, host):
        await host.create()
        await asyncio.sleep(0.3)
        await host.create()
        await until(lambda: told(lab, "relay_wants_auth").count("gone") == 1)
        assert lab.gates["made"][0].fault.value == "auth"
        await until(lambda: told(lab, "relay_wants_auth").count("gone") == 2)
        assert lab.gates["made"][0].fault.value == "pass"


# the host's part


@pytest.mark.parametrize("cause", [cause for cause, theory in CAUSES.items() if theory.by != "lab"])
async def test_what_others_are_to_do_is_planned_in_the_truth(open_lab, scenario, cause):
    begins = CAUSES[cause].begins
    text = entry(cause, *([] if begins else ['from = {kind = "constant", s = 2}']))
    async with open_lab(scenario(text)) as (lab, host):
        room = await host.create()
        row = next(row for row in lab.truth() if row["layer"] == f"fault:{cause}")
        assert (row["change"], row["room"], row["by"]) == ("planned", room, CAUSES[cause].by)
        assert row["planned_delay_s"] == (0.0 if begins else 2.0)
        assert row["kind"] in CAUSES[cause].kinds
        assert json.loads(Path(lab.info["files"]["truth"]).read_text().splitlines()[0])["scenario"] == "made"


@pytest.mark.parametrize("cause", CAUSES)
def test_the_page_about_scenarios_has_every_cause_with_its_kinds(cause):
    page = Path(__file__).parents[2].joinpath("docs", "scenarios.md").read_text("utf-8")
    line = next(line for line in page.splitlines() if line.startswith(f"| `{cause}` |"))
    theory = CAUSES[cause]
    assert f"| {theory.side} |" in line
    assert theory.says in line
    assert len(theory.kinds) == 1 or f"| {', '.join(theory.kinds)} |" in line
