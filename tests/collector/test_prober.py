"""Real joins against a lab: every step a row, the verdict and what the two baselines would have said."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from contextlib import asynccontextmanager
from dataclasses import replace

import jwt
import pytest

from nestobs.collector.lookup import load
from nestobs.collector.manners import CAREFUL, Care, Manners
from nestobs.collector.prober import join
from nestobs.join.decision import GONE, JOINED_AS_GUEST, LOADING, NO_ROOM, RELEASED_FAILED, STARTING, THERE, Kind
from nestobs.join.policy import GUIDE, RELEASED, fixed
from nestobs.lab import ProxyMode
from nestobs.nostr import Address, Keys
from nestobs.observation.nest import read_nest, room_tags
from nestobs.observation.schema import Failure, FailureLayer, Operation, Outcome, Role, Source
from nestobs.sources.livekit import LiveKit
from nestobs.sources.vantage import NO_TRACE, Trace
from worlds.media_workers import workers
from worlds.strangers import overhear

pytestmark = pytest.mark.slow

S = 1_000_000_000
ONCE = replace(GUIDE, stay_s=0.1, request_timeout_s=5.0)
PATIENT = replace(fixed(0.2), stay_s=0.1, give_up_age_s=30.0)


@pytest.fixture
def on_stage(open_lab, scenario, open_station_on):
    """`async with on_stage(scenario or TOML) as stage`: a host has made a nest and published its event."""

    class Stage:
        def __init__(self, lab, station, host, trace, nest):
            self.lab, self.station, self.host, self.trace, self.nest = lab, station, host, trace, nest
            name = next(iter(lab.api))
            self.api, self.fault = lab.api[name], lab.api[name].fault
            self.api_proxy, self.livekit_proxy = lab.api_proxy[name], lab.livekit_proxy[name]

        async def join(self, policy=ONCE, *, signed_in=True, **options):
            keys = Keys.generate() if signed_in else None
            return await join(
                self.station,
                self.trace,
                policy,
                rng=random.Random(1),
                **{"nest": self.nest, "keys": keys, "media": False, "care": Care(ours=True)} | options,
            )

        @asynccontextmanager
        async def somebody_inside(self, keys=None):
            """Somebody signed in, and known to be, as far as it can be asked; gives the session."""
            livekit = self.station.livekit
            answer = await self.station.api.join(self.trace, keys or Keys.generate())
            _, session = await LiveKit(self.station.vantage, livekit.url).signal(self.trace, answer.token)
            async with asyncio.timeout(10):
                while not await livekit.inside(self.trace.room):
                    if (await self.station.api.info(self.trace)).body["participantCount"]:
                        break
            yield session
            await session.close()

        async def empty(self):
            """Wait until nobody is in the room."""
            async with asyncio.timeout(10):
                while json.loads((await self.station.livekit.rooms(self.trace)).detail)["participants"]:
                    pass

    @asynccontextmanager
    async def opened(what="", *, published=True, born_s=0, keys=True, **options):
        named = what if what and "\n" not in what and "=" not in what else scenario(what)
        async with open_lab(named, **options) as lab, open_station_on(lab, keys=keys) as station:
            host = Keys.generate()
            made = await station.api.create(NO_TRACE, host, ("wss://relay.example",))
            room = made.body["roomId"]
            tags = room_tags(
                room=room, name="n", host=host.public, service="https://s", streaming="wss+livekit://h", relays=()
            )
            event = host.sign(30312, created_at=station.clock.now() // S - born_s, tags=tags)
            trace = Trace("trace", f"30312:{host.public}:{room}", room)
            if published:
                for relay in station.relays:
                    await relay.publish(trace, event)
            yield Stage(lab, station, host, trace, read_nest(event))

    return opened


def verdict_row(rows):
    [row] = rows.of(Operation.VERDICT)
    return row, json.loads(row.detail)


# Calm


async def test_a_signed_in_joiner_gets_in(on_stage, rows):
    async with on_stage() as stage:
        verdict = await stage.join()
        assert await stage.lab.rooms() == [stage.trace.room]
    assert (verdict.kind, verdict.message) == (Kind.AUTHENTICATED, "")
    row, facts = verdict_row(rows)
    assert (row.source, row.outcome, row.failure, row.role) == (Source.JOIN, Outcome.VISIBLE, None, Role.JOINER)
    assert (row.trace_id, row.nest, row.room) == (stage.trace.trace_id, stage.trace.nest, stage.trace.room)
    assert (facts["verdict"], facts["policy"], facts["requests"]) == ("authenticated", "guide", 2)
    assert facts["said"]["guide"]["verdict"] == facts["said"]["released"]["verdict"] == "authenticated"


async def test_a_guest_gets_in(on_stage, rows):
    async with on_stage() as stage:
        verdict = await stage.join(signed_in=False)
    assert verdict.kind is Kind.GUEST
    assert {row.role for row in rows.of(Operation.SIGNAL, Operation.STAY, Operation.VERDICT)} == {Role.GUEST}


async def test_every_step_is_a_row_of_one_group_after_the_intent(on_stage, rows):
    async with on_stage() as stage:
        await stage.join()
    mine = [row for row in rows if row.attempt_group == rows.of(Operation.VERDICT)[0].attempt_group]
    assert [(str(row.operation), row.failure) for row in mine] == [
        ("verdict", Failure.INTENT),
        ("info", None),
        ("join", None),
        ("signal", None),
        ("stay", None),
        ("verdict", None),
    ]
    assert mine[0].sent_at == mine[-1].sent_at
    assert mine[0].received_at is None


async def test_the_clients_own_load_runs_beside_the_join(on_stage, rows):
    async with on_stage() as stage:
        await stage.join()
        selected = stage.station.relays[0].url
    [row] = rows.of(Operation.LOAD)
    assert (row.source, row.layer, row.target) == (Source.CLIENT, "client", selected)
    assert (row.outcome, row.timeout_s) == (Outcome.VISIBLE, 1.5)


async def test_with_media_on_the_real_server(on_stage, livekit_server, rows):
    async with on_stage(livekit=livekit_server) as stage:
        verdict = await stage.join(media=True)
    assert verdict.kind is Kind.AUTHENTICATED
    assert [row.outcome for row in rows.of(Operation.MEDIA)] == [Outcome.VISIBLE]
    assert [line.step for line in verdict.attempts] == ["info", "join", "signal", "media", "stay"]


@pytest.mark.parametrize("attempts", [1, 2])
async def test_a_media_worker_that_is_lost_is_our_own_fault(on_stage, livekit_server, rows, until, attempts):
    async with on_stage(livekit=livekit_server) as stage:
        policy = replace(ONCE, stay_s=1.0, connect_attempts=attempts)
        joining = asyncio.create_task(stage.join(policy, media=True))
        await until(lambda: rows.of(Operation.MEDIA))
        os.kill(workers()[0], signal.SIGKILL)
        verdict = await joining
        await stage.empty()
    lost, *again = rows.of(Operation.STAY)
    own = (Outcome.PROBE_ERROR, Failure.INTERNAL, FailureLayer.PROBER)
    assert (lost.outcome, lost.failure, lost.failure_layer) == own
    assert lost.reason == "the media worker was ended by SIGKILL"
    row = verdict_row(rows)[0]
    if attempts == 1:
        assert (verdict.kind, verdict.message, again) == (Kind.PROBE_ERROR, "", [])
        assert (row.outcome, row.failure, row.failure_layer) == own
        assert row.reason == f"probe_error: {lost.reason}"
    else:
        assert verdict.kind is Kind.AUTHENTICATED
        assert [row.outcome for row in again] == [Outcome.VISIBLE]
    assert workers() == []


async def test_nobody_arrives_before_media_can_be_connected(on_stage, livekit_server, rows, monkeypatch):
    async with on_stage(livekit=livekit_server) as stage:
        there = []
        monkeypatch.setattr(rows, "append", lambda row: there.append(len(workers())) or list.append(rows, row))
        stage.station.vantage.sink = rows.append
        await stage.join(media=True)
    assert there
    assert set(there) == {1}


async def test_a_joiner_leaves_when_it_is_over(on_stage):
    async with on_stage() as stage:
        await stage.join()
        await stage.empty()


# The race and its faults


async def test_a_slow_api_is_waited_for(on_stage, rows):
    late = '[api]\nrecord = {kind="constant", s=0.7}'
    async with on_stage(late) as stage:
        verdict = await stage.join(PATIENT)
    assert verdict.kind in {Kind.AUTHENTICATED, Kind.GUEST_INSTEAD}  # a record may come between the two tries
    assert verdict.requests > 3
    attempts = [(row.operation, row.attempt_no, row.outcome) for row in rows.of(Operation.INFO, Operation.GUEST)]
    first = [row for row in attempts if row[1] == 1]
    assert {row[2] for row in first} == {Outcome.ABSENT}
    numbers = [number for operation, number, _ in attempts if operation is Operation.INFO]
    assert numbers == list(range(1, len(numbers) + 1))
    _, facts = verdict_row(rows)
    assert facts["said"]["guide"] | {"age_s": 0} == {
        "verdict": "starting_up",
        "message": STARTING,
        "age_s": 0,
        "retry": True,
    }
    assert facts["said"]["released"]["message"] == RELEASED_FAILED


async def test_the_scenario_of_the_race_itself(on_stage):
    async with on_stage("slow-api", delay_scale=0.25) as stage:
        verdict = await stage.join(PATIENT)
    assert verdict.joined  # at which try depends on how long the stage took to be set


async def test_a_slow_authenticated_route_makes_a_guest_of_a_signed_in_joiner(on_stage):
    async with on_stage('[api]\njoin = {kind="constant", s=60}') as stage:
        verdict = await stage.join()
    assert (verdict.kind, verdict.message) == (Kind.GUEST_INSTEAD, JOINED_AS_GUEST)


LATE_RECORD = '[api]\njoin = {kind="constant", s=1.5}'


async def test_who_waits_for_the_own_route_is_seated_as_oneself(on_stage, rows):
    async with on_stage(LATE_RECORD) as stage:
        verdict = await stage.join(replace(PATIENT, fallback_age_s=20.0))
    assert verdict.kind is Kind.AUTHENTICATED
    assert [row.operation for row in rows if row.operation is Operation.GUEST] == []


async def test_a_guests_seat_is_kept_until_the_own_one_is_held(on_stage, rows):
    async with on_stage(LATE_RECORD) as stage:
        verdict = await stage.join(replace(PATIENT, upgrades=50))
        await stage.empty()
    assert verdict.kind is Kind.AUTHENTICATED
    assert [row.outcome for row in rows.of(Operation.STAY)] == [Outcome.VISIBLE] * 2
    listed = [json.loads(row.detail) for row in rows.of(Operation.ROOMS)]
    assert any(one.get("participants") == 1 for one in listed)  # the guest, when the own seat was asked for
    assert verdict_row(rows)[1]["verdict"] == "authenticated"


@pytest.mark.parametrize(
    ("born_s", "kind", "message"), [(0, Kind.STARTING_UP, STARTING), (3600, Kind.GONE, GONE)], ids=["young", "old"]
)
async def test_the_api_fault_is_called_starting_up_then_gone_and_neither_is_true(on_stage, rows, born_s, kind, message):
    async with on_stage("api-join-fault", delay_scale=0.0, born_s=born_s) as stage:
        verdict = await stage.join()
        assert await stage.lab.rooms() == [stage.trace.room]
    assert (verdict.kind, verdict.message) == (kind, message)
    row, facts = verdict_row(rows)
    assert (row.outcome, row.failure, row.status) == (Outcome.ABSENT, Failure.NOT_FOUND, 404)
    assert facts["said"]["released"]["message"] == message  # its rule fires here, where info says active


EITHER = {True: "with LiveKit's keys", False: "without"}


@pytest.mark.parametrize("keys", EITHER, ids=EITHER.get)
@pytest.mark.parametrize("signed_in", [True, False], ids=["signed in", "guest"])
async def test_the_api_fault_of_an_old_nest_is_named_by_the_second_look_where_livekit_is_asked(
    on_stage, rows, keys, signed_in
):
    async with on_stage("api-join-fault", delay_scale=0.0, born_s=3600, keys=keys) as stage:
        policy = replace(PATIENT, schedule=fixed(1).schedule, give_up_age_s=4e3, horizon_s=3.0)
        verdict = await stage.join(policy, signed_in=signed_in)
    listed = [row.outcome for row in rows.of(Operation.ROOMS)]
    if keys:
        assert (verdict.kind, verdict.message) == (Kind.API_FAULT, THERE)
        assert verdict.requests == (6 if signed_in else 4)
        assert listed == [Outcome.VISIBLE] * 2
    else:
        assert (verdict.kind, verdict.message) == (Kind.STARTING_UP, THERE)
        assert listed == []


async def test_a_seat_that_somebody_has_is_a_witness_where_livekit_is_not_asked(on_stage):
    async with on_stage("api-join-fault", delay_scale=0.0, born_s=3600, keys=False) as stage:
        patient = replace(PATIENT, schedule=fixed(1).schedule, give_up_age_s=4e3)
        verdict = await stage.join(patient, seat=lambda: True)
    assert (verdict.kind, verdict.requests) == (Kind.API_FAULT, 6)


async def test_of_a_room_whose_event_nobody_has_its_own_age_counts(on_stage):
    async with on_stage("api-join-fault", delay_scale=0.0, published=False, keys=False) as stage:
        policy = replace(PATIENT, schedule=fixed(1).schedule, give_up_age_s=4e3)
        stage.api.nests[stage.trace.room].created_at -= 3600 * S
        verdict = await stage.join(policy, nest=None, address=stage.nest.address, seat=lambda: True)
    assert (verdict.kind, verdict.requests, verdict.age_s) == (Kind.API_FAULT, 6, None)


async def test_a_late_room_beside_an_active_info_is_waited_for(on_stage):
    async with on_stage('[livekit]\ncreated = {kind="constant", s=3.0}', delay_scale=1.0) as stage:
        verdict = await stage.join(PATIENT)
        assert stage.trace.room in await stage.lab.rooms()
    assert verdict.kind in (Kind.AUTHENTICATED, Kind.GUEST_INSTEAD)


async def test_an_expired_room_whose_record_stays_is_no_fault_where_livekit_is_asked(on_stage):
    async with on_stage("calm", delay_scale=0.0, born_s=3600) as stage:
        await stage.station.livekit.delete(stage.trace)
        verdict = await stage.join(replace(PATIENT, give_up_age_s=4e3, horizon_s=2.0))
    assert (verdict.kind, verdict.message) == (Kind.GONE, NO_ROOM)


async def test_an_old_nest_without_room_or_record_is_gone(on_stage):
    async with on_stage(born_s=3600) as stage:
        await stage.station.api.delete(stage.trace, stage.host)
        verdict = await stage.join(PATIENT)
    assert (verdict.kind, verdict.requests) == (Kind.GONE, 3)


async def test_a_nest_that_no_relay_has_is_not_loaded_by_the_released_client(on_stage, rows):
    async with on_stage(published=False) as stage:
        verdict = await stage.join(nest=None, address=stage.nest.address)
    assert verdict.kind is Kind.AUTHENTICATED
    _, facts = verdict_row(rows)
    assert facts["said"]["released"] == {
        "verdict": "not_loaded",
        "message": LOADING,
        "age_s": None,
        "retry": False,
    }


async def test_the_released_policy_itself_can_be_run(on_stage, rows):
    async with on_stage() as stage:
        verdict = await stage.join(replace(RELEASED, stay_s=0.1), nest=None, address=stage.nest.address)
    assert verdict.kind is Kind.AUTHENTICATED
    assert verdict.age_s is not None


@pytest.mark.parametrize(
    ("status", "kind", "failure"),
    [
        (401, Kind.UNAUTHORISED, Failure.UNAUTHORISED),
        (403, Kind.FORBIDDEN, Failure.FORBIDDEN),
        (429, Kind.RATE_LIMITED, Failure.RATE_LIMITED),
        (503, Kind.API_DOWN, Failure.SERVER_ERROR),
    ],
)
async def test_how_an_api_that_says_no_ends_it(on_stage, rows, status, kind, failure):
    async with on_stage() as stage:
        stage.fault.status = status
        verdict = await stage.join(replace(PATIENT, error_retries=0))
    assert verdict.kind is kind
    row, facts = verdict_row(rows)
    assert (row.failure, row.status) == (failure, status)
    assert facts["message"] == verdict.message


async def test_an_api_that_recovers_is_joined_after_retries(on_stage, rows):
    policy = replace(PATIENT, error_retries=20, error_gap_s=0.05, horizon_s=20.0)
    async with on_stage("[api]\nserver_error_s = 0.6") as stage:
        verdict = await stage.join(policy)
    assert verdict.kind is Kind.AUTHENTICATED
    assert Failure.SERVER_ERROR in {row.failure for row in rows.of(Operation.JOIN)}


async def test_a_token_that_is_an_object_is_a_bad_token(on_stage, rows):
    async with on_stage() as stage:
        stage.fault.token = "object"
        verdict = await stage.join()
    assert verdict.kind is Kind.BAD_TOKEN
    assert verdict_row(rows)[0].failure is Failure.BAD_TOKEN


async def test_an_api_out_of_reach_is_down(on_stage, rows):
    async with on_stage() as stage:
        stage.api_proxy.mode = ProxyMode.RESET  # ends the connection that is open
        stage.api_proxy.mode = ProxyMode.REFUSE
        verdict = await stage.join()
    assert verdict.kind is Kind.API_DOWN
    assert {row.failure for row in rows.of(Operation.JOIN)} == {Failure.REFUSED}


async def test_a_livekit_out_of_reach_is_told_from_the_rest(on_stage, rows):
    async with on_stage() as stage:
        stage.livekit_proxy.mode = ProxyMode.REFUSE
        verdict = await stage.join(replace(ONCE, connect_attempts=2))
    assert verdict.kind is Kind.LIVEKIT_UNREACHABLE
    assert verdict_row(rows)[0].reason == "livekit_unreachable: connection refused: is the server running?"
    assert [(row.attempt_no, row.failure) for row in rows.of(Operation.SIGNAL)] == [
        (1, Failure.REFUSED),
        (2, Failure.REFUSED),
    ]


async def test_a_joiner_thrown_out_during_the_stay_has_not_joined(on_stage, livekit, rows, until):
    async with on_stage(livekit=livekit) as stage:
        joining = asyncio.create_task(stage.join(replace(ONCE, stay_s=30.0)))
        await until(lambda: rows.of(Operation.SIGNAL))
        await stage.lab.world.rooms.delete(stage.trace.room)
        verdict = await joining
    assert verdict.kind is Kind.REMOVED
    assert "the room was deleted" in verdict.reason
    [stay] = rows.of(Operation.STAY)
    assert (stay.outcome, stay.failure, stay.failure_layer) == (
        Outcome.UNKNOWN,
        Failure.REMOVED,
        FailureLayer.SIGNAL,
    )
    assert "the room was deleted" in verdict_row(rows)[0].reason


async def test_each_stay_of_a_join_has_its_own_number(on_stage, rows, until):
    async with on_stage() as stage:
        joining = asyncio.create_task(stage.join(replace(ONCE, stay_s=0.5, connect_attempts=2)))
        await until(lambda: rows.of(Operation.SIGNAL))
        stage.livekit_proxy.mode = ProxyMode.RESET
        stage.livekit_proxy.mode = ProxyMode.PASS
        verdict = await joining
    assert verdict.kind is Kind.AUTHENTICATED
    assert [(row.attempt_no, row.failure) for row in rows.of(Operation.STAY)] == [(1, Failure.DROPPED), (2, None)]


async def test_our_own_spent_budget_is_not_blamed_on_the_server(on_stage, rows):
    async with on_stage() as stage:
        stage.station.api.limiter.allowed = 0
        verdict = await stage.join()
    row, _ = verdict_row(rows)
    assert {row.failure for row in rows.of(Operation.INFO, Operation.JOIN)} == {Failure.BUDGET}
    assert verdict.kind is not Kind.API_DOWN
    assert row.outcome is Outcome.PROBE_ERROR
    assert row.failure is Failure.BUDGET


async def test_without_a_livekit_known_the_missing_signal_is_a_row_too(on_stage, rows):
    async with on_stage() as stage:
        stage.station.livekit = None
        verdict = await stage.join()
    assert verdict.kind is Kind.LIVEKIT_UNREACHABLE
    assert [line.step for line in verdict.attempts] == ["info", "join", "signal"]
    assert len(rows.of(Operation.SIGNAL)) == 1


async def test_a_cancelled_join_leaves_the_room_and_its_intent(on_stage, rows, until):
    async with on_stage() as stage:
        joining = asyncio.create_task(stage.join(replace(ONCE, stay_s=60.0)))
        await until(lambda: rows.of(Operation.SIGNAL))
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        await stage.empty()
    assert [row.failure for row in rows.of(Operation.VERDICT, intents=True)] == [Failure.INTENT]


async def test_no_token_or_key_is_in_any_row_of_a_join(on_stage, rows):
    keys, tokens = Keys.generate(), []
    async with on_stage() as stage:
        overhear(stage.api, tokens)
        await stage.join(keys=keys)
        await stage.join(signed_in=False)
    assert len(tokens) == 2
    for hidden in (*tokens, keys.to_nsec(), "Nostr "):
        assert hidden not in rows.text()


# The client's load


async def test_a_load_is_cut_off_and_proves_nothing(on_stage, rows):
    async with on_stage('[relays]\neach = {kind="constant", s=60}', published=False) as stage:
        stage.lab.gates["made"][0].fault = type(stage.lab.gates["made"][0].fault)("stall")
        reply = await load(stage.station, stage.trace, stage.nest.address, 0.3)
    assert (reply.outcome, reply.failure, reply.nest) == (Outcome.UNKNOWN, Failure.TIMEOUT, None)


async def test_without_an_address_nothing_can_be_loaded(on_stage, rows):
    async with on_stage(published=False) as stage:
        reply = await load(stage.station, stage.trace, None)
    assert (reply.outcome, reply.nest) == (Outcome.UNKNOWN, None)


async def test_a_load_finds_the_nest_of_the_address(on_stage):
    async with on_stage() as stage:
        reply = await load(stage.station, stage.trace, stage.nest.address)
        other = await load(stage.station, stage.trace, Address(30312, stage.host.public, "another"))
    assert reply.nest == stage.nest
    assert (other.outcome, other.nest) == (Outcome.ABSENT, None)


LIVEKIT_DOWN = {
    "refuses": (ProxyMode.REFUSE, "refused"),
    "resets": (ProxyMode.RESET, "reset"),
    "is silent": (ProxyMode.BLACKHOLE, "no answer"),
}


@pytest.mark.parametrize("how", LIVEKIT_DOWN)
async def test_a_404_while_livekit_is_down_proves_nothing_of_the_nest(on_stage, rows, how):
    """The API asks LiveKit for its joins, and says 404 whatever it fails with."""
    mode, words = LIVEKIT_DOWN[how]
    async with on_stage("api-join-fault", delay_scale=0.0) as stage:
        stage.livekit_proxy.mode = ProxyMode.RESET
        stage.livekit_proxy.mode = mode
        verdict = await stage.join()
    assert verdict.kind is Kind.LIVEKIT_UNREACHABLE
    for row in rows.of(Operation.JOIN, Operation.GUEST):
        assert (row.outcome, row.failure, row.status) == (Outcome.UNKNOWN, Failure.UNREACHABLE, 404)
        assert words in row.reason
    row, facts = verdict_row(rows)
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.UNREACHABLE)
    assert "LiveKit cannot be reached" in row.reason
    assert facts["said"]["guide"]["message"] == STARTING


async def test_once_livekit_is_back_a_404_is_proof_again(on_stage, rows):
    async with on_stage("api-join-fault", delay_scale=0.0) as stage:
        stage.livekit_proxy.mode = ProxyMode.REFUSE
        down = (await stage.station.api.guest(stage.trace)).row
        stage.livekit_proxy.mode = ProxyMode.PASS
        soon = (await stage.station.api.guest(stage.trace)).row
        stage.station.livekit._down = (0, "")
        later = (await stage.station.api.guest(stage.trace)).row
    assert [row.outcome for row in (down, soon, later)] == [Outcome.UNKNOWN, Outcome.UNKNOWN, Outcome.ABSENT]


# Rooms of others


async def test_a_room_of_others_with_nobody_in_it_is_not_visited(on_stage, livekit, rows):
    async with on_stage(livekit=livekit) as stage:
        verdict = await stage.join(care=CAREFUL)
        assert await stage.station.livekit.inside(stage.trace.room) == set()
    assert (verdict.kind, verdict.joined, verdict.message) == (Kind.NOT_VISITED, False, "")
    assert verdict.reason.startswith("not visited: nobody is inside")
    [signal] = rows.of(Operation.SIGNAL)
    row, facts = verdict_row(rows)
    for each in (signal, row):
        assert (each.outcome, each.failure) == (Outcome.PROBE_ERROR, Failure.SKIPPED)
        assert each.reason.startswith("not visited: nobody is inside")
    assert facts["verdict"] == "not_visited"
    assert json.loads(signal.detail)["validated"] is True
    assert not rows.of(Operation.STAY)


@pytest.mark.parametrize("signed_in", [True, False], ids=["signed in", "as a guest"])
async def test_where_somebody_is_inside_a_room_of_others_is_visited(on_stage, livekit, signed_in):
    async with on_stage(livekit=livekit) as stage, stage.somebody_inside():
        verdict = await stage.join(signed_in=signed_in, care=CAREFUL)
    assert verdict.joined


async def test_who_insists_visits_an_empty_room(on_stage):
    async with on_stage() as stage:
        verdict = await stage.join(care=Care(manners=Manners(visit_empty=True)))
    assert verdict.joined


@pytest.mark.parametrize("who", ["a guest", "a fresh key"])
async def test_without_livekits_key_the_count_of_info_tells_whether_somebody_is_inside(on_stage, who):
    async with on_stage(keys=False) as stage:
        alone = await stage.join(signed_in=who != "a guest", care=CAREFUL)
        async with stage.somebody_inside():
            joined = await stage.join(signed_in=who != "a guest", care=CAREFUL)
    assert (alone.kind, joined.joined) == (Kind.NOT_VISITED, True)


async def test_a_policy_without_info_asks_it_before_a_visit(on_stage, rows):
    async with on_stage(keys=False) as stage, stage.somebody_inside():
        verdict = await stage.join(replace(ONCE, ask_info=False), care=CAREFUL)
    assert verdict.joined
    assert [str(row.operation) for row in rows.of(Operation.JOIN, Operation.INFO)][-2:] == ["join", "info"]


@pytest.mark.parametrize("keys", [True, False], ids=["seen", "perhaps"])
async def test_who_may_be_inside_already_does_not_come_in_a_second_time(on_stage, keys):
    """A browser of the operator's own is in the room: signing in with the same key would throw it out."""
    me = Keys.generate()
    async with on_stage(keys=keys) as stage, stage.somebody_inside(me) as first:
        verdict = await stage.join(keys=me, care=Care(standing_key=True))
        assert await first.stays(0.3)
        guest = await stage.join(signed_in=False, care=CAREFUL)
        assert await first.stays(0.3)
        insisted = await stage.join(keys=me, care=Care(standing_key=True, manners=Manners(as_yourself=True)))
        assert not await first.stays(5.0)
    assert verdict.kind is Kind.NOT_VISITED
    assert me.public[:8] in verdict.reason
    assert "--as-yourself" in verdict.reason
    assert guest.joined
    assert insisted.joined


STRANGERS = jwt.encode({"iss": "key", "sub": "me", "exp": 2**31, "video": {"roomJoin": True}}, "x" * 40)


async def test_a_false_token_is_told_without_a_visit(on_stage):
    async with on_stage() as stage:
        stage.api._granted = lambda nest, token: {"token": STRANGERS}
        verdict = await stage.join(care=CAREFUL)
    assert verdict.kind is Kind.BAD_TOKEN
    assert verdict.reason


async def test_a_token_for_another_room_is_not_used(on_stage, rows):
    async with on_stage() as stage:
        given = stage.lab.world.keys.guest("another-room")
        stage.api._granted = lambda nest, token: {"token": given}
        verdict = await stage.join()
    assert verdict.kind is Kind.BAD_TOKEN
    [signal] = rows.of(Operation.SIGNAL)
    assert (signal.outcome, signal.failure) == (Outcome.UNKNOWN, Failure.BAD_TOKEN)
    assert "another-room" in verdict_row(rows)[0].reason
