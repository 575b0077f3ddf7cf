"""The host role end to end in a lab: what it makes and writes down, and that nothing stays behind whatever ends it.

The name of the run's module is nestobs.collector.canary; the command is `nestobs canary`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest
from aiohttp import ClientSession, web

from nestobs.collector.undo import cleanup
from nestobs.errors import BudgetError, StoreError, UnreachableError
from nestobs.join.policy import GUIDE, fixed
from nestobs.lab import GateFault, ProxyMode
from nestobs.observation.schema import Failure, Operation, Outcome, Role, Source
from nestobs.store.writer import Writer
from nestobs.timeline.intervals import timelines
from nestobs.timeline.uptime import bursts
from worlds.hostile_relays import relay, storing
from worlds.served_api import nests_url

pytestmark = pytest.mark.slow


async def nothing_left(lab, canary):
    """No LiveKit room, no record, no open ledger entry, no key file."""
    assert await lab.rooms() == []
    assert lab.nests() == []
    assert canary.store.ledger() == []
    assert list(canary.keyring.folder.glob("*")) == []


# A calm run


@pytest.fixture
async def calm(open_lab, canary):
    """Two nests in a calm lab of two vantages, run to the end: report and canary."""
    async with open_lab("calm", delay_scale=0.5, vantages=2) as lab:
        report = await canary.run(lab, 2, horizon_s=6.0)
        await nothing_left(lab, canary)
        yield report, canary


async def test_a_run_reports_what_it_made_and_how_the_joins_ended(calm):
    report, canary = calm
    assert (report.made, report.refused, report.left, len(set(report.rooms))) == (2, 0, [], 2)
    assert report.joined == sum(report.verdicts.values()) == 2 * 2 * 2  # nests, vantages, joins
    assert set(report.verdicts) <= {"authenticated", "guest", "guest_instead"}
    assert "polls of each API layer" in report.plan
    assert json.loads(json.dumps(report.as_dict()))["nests"] == 2
    assert canary.told[-1] == "deleted"
    assert Counter(canary.told) >= Counter(plan=1, created=2, verdict=8, deleted=2)
    closed = [(entry.kind, entry.how) for entry in canary.store.ledger(open_only=False)]
    assert sorted(closed) == [("event", "gone")] * 2 + [("room", "deleted")] * 2

    rows = canary.rows()
    assert {row.run_id for row in rows} == {report.run_id}
    assert {row.vantage for row in rows} == {"Computer A", "Computer B"}
    assert all(row.reason for row in rows if row.failure is not None)
    assert all(row.received_at is None or row.sent_at <= row.received_at for row in rows)
    traces = {row.trace_id for row in rows.of(Operation.VERDICT)}
    assert len(traces) == 2
    relays = {f"relay:{way}" for way in rows_of_relays(rows)}
    for trace in traces:
        layers = {row.layer for row in rows if row.trace_id == trace and row.outcome is Outcome.VISIBLE}
        wanted = {"api:info", "api:join", "api:guest", "livekit:room", "livekit:signal", "client"}
        assert layers >= wanted | relays

    deeds = [row for row in rows if row.operation in (Operation.CREATE, Operation.DELETE, Operation.PUBLISH)]
    intended = {(row.attempt_group, row.attempt_no) for row in deeds if row.failure is Failure.INTENT}
    done = {(row.attempt_group, row.attempt_no) for row in deeds if row.failure is not Failure.INTENT}
    assert done == intended
    assert {row.role for row in rows.of(Operation.CREATE)} == {Role.HOST}

    table = timelines(canary.store.frame())
    assert set(table["trace_id"]) == traces
    assert (table["lower_s"] <= table["upper_s"]).all()


def rows_of_relays(rows):
    return {row.target for row in rows if row.source is Source.RELAY and row.operation is Operation.QUERY}


async def test_every_row_about_a_nest_bears_its_trace(open_lab, canary):
    async with open_lab("calm", delay_scale=0.1, relays=1) as lab:
        report = await canary.run(lab, 1, horizon_s=1.0)
    rows = canary.rows()
    [trace] = {row.trace_id for row in rows.of(Operation.CREATE)}
    strangers = {str(row.operation) for row in rows if row.room in report.rooms and row.trace_id != trace}
    assert strangers == set()


async def test_no_secret_of_a_run_is_in_its_store(open_lab, canary, target_of):
    made, tokens = [], []
    async with open_lab("calm", delay_scale=0.2) as lab:
        given = lab.api["calm"]._granted
        overheard = lambda nest, token: tokens.append(token) or given(nest, token)  # noqa: E731 - where they are made
        lab.api["calm"]._granted = overheard
        canary.when["created"] = lambda: made.extend(
            path.read_text().strip() for path in canary.keyring.folder.glob("*")
        )
        await canary.run(lab, 1, horizon_s=2.0)
        secret = target_of(lab).livekit_secret
    assert made
    assert len(tokens) > 3
    stored = b"".join(path.read_bytes() for path in canary.store.directory.rglob("*") if path.is_file())
    for hidden in {*made, *tokens, secret}:
        assert hidden.encode() not in stored
    assert b"uthorization" not in stored


async def test_a_policy_that_never_retries_ends_as_the_guide_says(open_lab, canary):
    async with open_lab("never", delay_scale=0.1) as lab:
        report = await canary.run(lab, 2, policy=GUIDE, horizon_s=3.0)
        await nothing_left(lab, canary)
    assert sum(report.verdicts.values()) == 4


async def test_relays_are_asked_as_often_as_the_campaign_says(open_lab, canary):
    async with open_lab("calm", delay_scale=0.1, relays=1) as lab:
        await canary.run(lab, 1, horizon_s=2.0, wanted_polls=10, relay_polls=3)
    asked = [row for row in canary.rows().of(Operation.QUERY) if row.source is Source.RELAY]
    assert len(asked) == 3


@pytest.mark.parametrize(("room_polls", "rows"), [(None, 6), (2, 2), (0, 0)])
async def test_so_is_livekits_room_list(open_lab, canary, room_polls, rows):
    async with open_lab("calm", delay_scale=0.1, relays=1) as lab:
        await canary.run(lab, 1, horizon_s=1.0, joins=0, wanted_polls=6, room_polls=room_polls)
    assert len([row for row in canary.rows().of(Operation.ROOMS) if row.planned_at is not None]) == rows


async def test_policies_side_by_side_meet_each_nest_at_one_instant_as_strangers(open_lab, canary):
    policies = tuple(replace(fixed(0.5), name=name, stay_s=0.2) for name in "abc")
    async with open_lab("calm", delay_scale=0.5, relays=1) as lab:
        report = await canary.run(lab, 2, policies=policies, arrivals=(0.4, 1.2), joins=2, horizon_s=4.0)
        await nothing_left(lab, canary)
    assert sum(report.verdicts.values()) == 2 * 2 * 3  # nests, arrivals, policies
    ends = canary.rows().of(Operation.VERDICT)
    assert {row.role for row in ends} == {Role.JOINER, Role.GUEST}  # the first arrival, the second
    for trace, role in {(row.trace_id, row.role) for row in ends}:
        group = [row for row in ends if (row.trace_id, row.role) == (trace, role)]
        assert sorted(json.loads(row.detail)["policy"] for row in group) == list("abc")
        assert max(row.sent_at for row in group) - min(row.sent_at for row in group) < 50_000_000
        assert len({row.attempt_group for row in group}) == 3


async def test_policies_as_written_outlast_the_watch_and_others_are_cut_to_it(open_lab, canary):
    long = replace(fixed(0.5, give_up_age_s=3.0), name="long", stay_s=0.2)
    async with open_lab("api-join-fault", delay_scale=0.1, relays=1) as lab:
        ends = {}
        for as_written in (True, False):
            shape = {"policies": (long,), "arrivals": (0.2,), "joins": 1, "horizon_s": 1.0, "as_written": as_written}
            await canary.run(lab, 1, **shape)
            await nothing_left(lab, canary)
            ends[as_written] = json.loads(canary.rows().of(Operation.VERDICT)[-1].detail)
    assert ends[True]["elapsed_s"] > 2.0
    assert ends[True]["requests"] > ends[False]["requests"]
    assert ends[False]["elapsed_s"] < 1.5


async def test_somebody_who_comes_after_the_watch_is_not_made_to_wait(open_lab, canary):
    async with open_lab("api-join-fault", delay_scale=0.1, relays=1) as lab:
        await canary.run(lab, 1, arrivals=(1.5,), joins=1, horizon_s=1.0)
    [verdict] = canary.rows().of(Operation.VERDICT)
    assert json.loads(verdict.detail)["guest_requests"] == 1


async def test_the_plan_leaves_requests_for_every_policy(open_lab, canary, scenario):
    policies = tuple(replace(GUIDE, name=str(number)) for number in range(4))
    async with open_lab(scenario("[rate_limit]\nrequests = 40")) as lab:
        with pytest.raises(BudgetError):
            await canary.run(lab, 1, policies=policies, joins=2)


# One of a schedule


async def test_a_run_of_a_schedule_says_at_its_end_what_it_stands_for(open_lab, canary):
    async with open_lab("calm", delay_scale=0.1, vantages=2) as lab:
        planned_at = time.time_ns() - 1_000_000_000
        await canary.run(lab, 1, joins=1, horizon_s=1.0, period_s=10_800.0, planned_at=planned_at)
        await canary.run(lab, 0, period_s=10_800.0)  # it only cleans
    found = bursts(canary.store.frame())
    assert sorted(found["vantage"]) == ["Computer A", "Computer B"]
    assert {at.value for at in found["start_at"]} == {planned_at}
    assert {(end - start).total_seconds() for start, end in zip(found["start_at"], found["end_at"], strict=True)} == {
        10_800.0
    }


@pytest.mark.parametrize(
    ("ends", "error", "stands"),
    [("unreachable", UnreachableError, 1), ("unaffordable", BudgetError, 0)],
    ids=["that nobody answers is observed", "what cannot be paid is not made"],
)
async def test_what_a_burst_stands_for_that_came_to_nothing(open_lab, canary, scenario, ends, error, stands):
    async with open_lab(scenario("[rate_limit]\nrequests = 20")) as lab:
        if ends == "unreachable":
            next(iter(lab.api_proxy.values())).mode = ProxyMode.REFUSE
        with pytest.raises(error):
            await canary.run(lab, 1, period_s=3_600.0)
    assert len(bursts(canary.store.frame())) == stands


# What cannot be


@pytest.mark.parametrize("mode", [ProxyMode.REFUSE, ProxyMode.RESET])
async def test_an_api_that_loses_the_first_connection_is_asked_again(open_lab, canary, mode):
    def greetings():
        return [row.status for row in canary.store.observations() if row.operation == "health"]

    async def mended(lab):
        while not greetings():  # noqa: ASYNC110 - rows come from a thread
            await asyncio.sleep(0.05)
        lab.api_proxy["calm"].mode = ProxyMode.PASS

    async with open_lab("calm") as lab, asyncio.TaskGroup() as group:
        lab.api_proxy["calm"].mode = mode
        group.create_task(mended(lab))
        await canary.run(lab, 1)
    assert greetings()[0] is None
    assert 200 in greetings()


async def test_an_api_that_does_not_answer_is_told(open_lab, canary):
    async with open_lab("calm") as lab:
        lab.api_proxy["calm"].mode = ProxyMode.REFUSE
        with pytest.raises(UnreachableError, match=r"does not answer .*connection refused"):
            await canary.run(lab, 1)
    assert canary.store.ledger(open_only=False) == []


async def test_a_budget_that_is_too_small_makes_nothing(open_lab, canary, scenario):
    async with open_lab(scenario("[rate_limit]\nrequests = 20")) as lab:
        with pytest.raises(BudgetError, match="at least"):
            await canary.run(lab, 1)
        assert lab.nests() == []
        assert list(canary.keyring.folder.glob("*")) == []
    assert canary.store.count() > 0


async def test_a_refused_put_makes_nothing_and_is_counted(open_lab, canary):
    async with open_lab("calm") as lab:
        canary.when["plan"] = lambda: setattr(lab.api["calm"].fault, "status", 403)
        report = await canary.run(lab, 2, horizon_s=1.0)
        lab.api["calm"].fault.status = None
        await nothing_left(lab, canary)
    assert (report.made, report.refused, report.rooms) == (0, 2, [])
    assert {entry.how for entry in canary.store.ledger(open_only=False)} == {"refused: HTTP 403"}


async def test_a_second_run_on_the_same_store_is_a_mistake(open_lab, canary):
    async with open_lab("calm") as lab:
        with canary.store.writer(), pytest.raises(StoreError):
            await canary.run(lab, 1)
        assert lab.nests() == []


def stop_writer(store):
    store._writer.close()


async def test_a_store_that_stops_ends_the_run_and_what_was_made_is_deleted(open_lab, canary):
    async with open_lab("calm", delay_scale=0.1) as lab:
        canary.when["verdict"] = lambda: stop_writer(canary.store)  # the disk is gone from under the run
        with pytest.raises(StoreError):
            await canary.run(lab, 2, horizon_s=8.0)
        assert await lab.rooms() == []
        canary.when.clear()
        await canary.run(lab, 0)
        await nothing_left(lab, canary)


# Nothing stays behind


@pytest.fixture
def hasty(monkeypatch):
    """What is not answered is given a second to come, and not minutes."""
    monkeypatch.setattr(cleanup, "GRACE_S", 0.5)
    monkeypatch.setattr(cleanup, "SETTLE_S", 2.0)
    monkeypatch.setattr(cleanup, "PAUSE_S", 0.2)


@pytest.mark.parametrize("moment", ["plan", "created", "verdict"])
async def test_an_interrupted_run_cleans_up(open_lab, canary, moment):
    async with open_lab("calm", delay_scale=0.1) as lab:
        running = asyncio.create_task(canary.run(lab, 3, horizon_s=30.0))
        await canary.told_of(moment)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        if moment == "verdict":  # all PUTs were answered long ago
            await nothing_left(lab, canary)
        await canary.run(lab, 0)
        await nothing_left(lab, canary)


async def test_a_run_that_is_interrupted_while_it_cleans_up_comes_to_the_end_of_it(open_lab, canary, until):
    async with open_lab("calm", delay_scale=0.1) as lab:
        lab.api["calm"].fault.answer_delay_s = 0.6
        running = asyncio.create_task(canary.run(lab, 2, horizon_s=1.0, joins=0))
        await canary.told_of("created", 2)
        await until(lambda: not lab.nests())  # the DELETEs came, and will be answered
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await nothing_left(lab, canary)


async def test_a_key_is_not_forgotten_while_its_entry_is_on_the_way_to_a_slow_disk(open_lab, canary, monkeypatch):
    def slowly(writer, **values):
        loop.call_soon_threadsafe(running.cancel)  # interrupted in this very moment
        time.sleep(0.001)  # and the disk takes its time: in a thread, not in the loop
        return prompt(writer, **values)

    prompt, loop = Writer.open_entry, asyncio.get_running_loop()
    monkeypatch.setattr(Writer, "open_entry", slowly)
    async with open_lab("calm", delay_scale=0.1) as lab:
        running = asyncio.create_task(canary.run(lab, 1))
        with pytest.raises(asyncio.CancelledError):
            await running
        monkeypatch.undo()
        report = await canary.run(lab, 0)
        assert report.left == []
        await nothing_left(lab, canary)


async def test_an_interrupted_run_does_not_wait_long_for_an_api_that_is_gone(open_lab, canary):
    async with open_lab("calm", delay_scale=0.1) as lab:
        running = asyncio.create_task(canary.run(lab, 1, horizon_s=30.0))
        await canary.told_of("created")
        lab.api_proxy["calm"].mode = ProxyMode.STALL
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        deleting = canary.rows().of(Operation.DELETE)  # given up before the attempt's own five seconds were over
        assert [row.failure for row in deleting] == []
        left = len(canary.store.ledger())
        assert canary.said["interrupted"] == (
            f"interrupted: made 1 nests, deleted 0, {left} rooms and events left: the next start undoes"
            " them, and so does `nestobs canary --count 0`, which makes nothing"
        )
        lab.api_proxy["calm"].mode = ProxyMode.PASS
        await canary.run(lab, 0)
        await nothing_left(lab, canary)


async def test_a_put_that_is_never_answered_is_found_by_the_next_start(open_lab, canary, until):
    async with open_lab("calm", delay_scale=0.0) as lab:
        api = lab.api["calm"]
        canary.when["plan"] = lambda: setattr(api.fault, "answer_delay_s", 60.0)
        running = asyncio.create_task(canary.run(lab, 1))
        await until(lab.nests)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        [entry] = canary.store.ledger()
        assert (entry.kind, entry.room) == ("room", "")
        canary.when.clear()
        api.fault.answer_delay_s = 0.0
        report = await canary.run(lab, 0)
        assert report.earlier.rooms == 1
        await nothing_left(lab, canary)


async def test_what_an_earlier_run_may_have_made_is_asked_again_at_the_end_of_the_next(open_lab, canary, until, hasty):
    async with open_lab("calm", delay_scale=0.0) as lab:
        fault = lab.api["calm"].fault
        canary.when["plan"] = lambda: setattr(fault, "answer_delay_s", 60.0)
        running = asyncio.create_task(canary.run(lab, 1))
        await until(lab.nests)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        fault.answer_delay_s = 0.0
        canary.when = {
            "cleaning": lambda: setattr(fault, "status", 500),
            "cleaned": lambda: canary.when.clear() or setattr(fault, "status", None),
        }
        report = await canary.run(lab, 1)
        assert (report.made, report.earlier.rooms, report.earlier.left) == (1, 1, [])
        await nothing_left(lab, canary)


async def test_a_put_whose_answer_is_lost_is_found_at_the_end_of_the_same_run(open_lab, canary, monkeypatch, hasty):
    monkeypatch.setattr("nestobs.sources.api.Api.create", impatient("create"))
    async with open_lab("calm", delay_scale=0.0) as lab:
        canary.when["plan"] = lambda: setattr(lab.api_proxy["calm"], "mode", ProxyMode.BLACKHOLE)
        canary.when["refused"] = lambda: setattr(lab.api_proxy["calm"], "mode", ProxyMode.PASS)
        report = await canary.run(lab, 1)
        await nothing_left(lab, canary)
    assert (report.made, report.refused, report.left) == (0, 1, [])
    assert report.problem() == "none of 1 nests was made: no answer within 0.5 s"
    [row] = canary.rows().of(Operation.CREATE)
    assert (row.outcome, row.failure) == (Outcome.UNKNOWN, Failure.TIMEOUT)


def impatient(name):
    """The call as it is, but with half a second instead of ten."""
    from nestobs.sources.api import Api

    call = getattr(Api, name)

    async def called(*args, **options):
        return await call(*args, **options | {"timeout_s": 0.5})

    return called


async def test_a_put_answered_with_something_unreadable_leaves_no_room(open_lab, canary, serving, hasty):
    """A reverse proxy's page instead of the answer: the room was made all the same."""

    async def forward(request):
        async with ClientSession() as session:
            url = f"http://127.0.0.1:{lab.api_proxy['calm'].port}{request.path}"
            headers = {name: request.headers[name] for name in ("Authorization",) if name in request.headers}
            async with session.request(request.method, url, data=await request.read(), headers=headers) as answer:
                body = await answer.read()
        if request.method == "PUT":
            return web.Response(text="<html>please wait</html>", content_type="text/html")
        return web.Response(status=answer.status, body=body)

    async with open_lab("calm", delay_scale=0.0) as lab, serving(forward) as port:
        way = lab.info["scenarios"]["calm"]["vantages"][0]
        way["api"] = nests_url(port)
        await canary.run(lab, 1, horizon_s=1.0)
        await canary.run(lab, 0)
        await nothing_left(lab, canary)


@pytest.fixture
def unanswered(monkeypatch, hasty):
    """DELETEs are given half a second."""
    monkeypatch.setattr("nestobs.sources.api.Api.delete", impatient("delete"))


async def test_a_delete_that_is_not_answered_is_settled_at_the_end_of_the_same_run(open_lab, canary, unanswered):
    def deaf():
        if canary.told.count("verdict") == 2:  # both are made by then, on however busy a machine
            lab.api_proxy["calm"].mode = ProxyMode.BLACKHOLE

    async with open_lab("calm", delay_scale=0.1) as lab:
        canary.when["verdict"] = deaf
        canary.when["settling"] = lambda: setattr(lab.api_proxy["calm"], "mode", ProxyMode.PASS)
        report = await canary.run(lab, 2, horizon_s=2.0, joins=1)
        await nothing_left(lab, canary)
    assert (report.made, report.left, report.problem()) == (2, [], "")
    assert canary.told.count("settling") == 1
    deletes = canary.rows().of(Operation.DELETE)
    silent = {Failure.TIMEOUT, Failure.LOOP_BLOCKED}  # on a busy machine half a second may be lost to ourselves
    assert silent & {row.failure for row in deletes if row.status is None}
    made = {row.trace_id for row in canary.rows().of(Operation.PUBLISH)}
    assert {row.trace_id for row in deletes} <= made, "a row about a nest bears its trace, at the end, too"


async def test_a_room_that_is_gone_is_not_left_behind_though_its_delete_is_never_answered(open_lab, canary, unanswered):
    async with open_lab("calm", delay_scale=0.1) as lab:
        canary.when["verdict"] = lambda: setattr(lab.api_proxy["calm"], "mode", ProxyMode.BLACKHOLE)
        report = await canary.run(lab, 1, horizon_s=2.0, joins=1)
        assert await lab.rooms() == [] == report.left
        assert [entry.room for entry in canary.store.ledger()] == report.rooms, "of its record nothing is proven"


async def test_only_what_is_there_is_left_behind_and_it_is_said_how_that_is_known(open_lab, canary, unanswered):
    async with open_lab("calm", delay_scale=0.1) as lab:
        canary.when["verdict"] = lambda: setattr(lab.api_proxy["calm"], "mode", ProxyMode.STALL)
        report = await canary.run(lab, 1, horizon_s=2.0, joins=1)
        assert report.left == [f"{report.rooms[0]}: DELETE: no answer within 0.5 s; LiveKit lists the room"]
        assert report.problem() == f"1 left behind: {report.left[0]}"
        canary.when.clear()
        lab.api_proxy["calm"].mode = ProxyMode.PASS
        await canary.run(lab, 0)
        await nothing_left(lab, canary)


async def test_a_delete_that_fails_is_told_and_done_by_the_next_start(open_lab, canary, hasty):
    async with open_lab("calm", delay_scale=0.1) as lab:
        canary.when["verdict"] = lambda: setattr(lab.api["calm"].fault, "status", 503)
        report = await canary.run(lab, 1, horizon_s=2.0)
        assert len(report.left) == 1
        assert report.rooms[0] in report.left[0]
        assert "HTTP 503" in report.left[0] or "The lab answers so" in report.left[0]
        canary.when.clear()
        lab.api["calm"].fault.status = None
        again = await canary.run(lab, 0)
        assert (again.earlier.rooms, again.left) == (1, [])
        await nothing_left(lab, canary)


async def test_a_relay_that_goes_on_showing_a_nest_open_is_named_and_the_next_start_tries_again(open_lab, canary):
    world = storing(honours="", versions="first")
    async with open_lab("calm", delay_scale=0.1, relays=1) as lab, relay(**world) as (url, _):
        lab.info["scenarios"]["calm"]["vantages"][0]["relays"].append(url)
        report = await canary.run(lab, 2, horizon_s=1.0, joins=0)
        assert report.deleted == 2
        assert sorted(report.left) == sorted(f"the event of {room}: still open on {url}" for room in report.rooms)
        assert report.problem() == f"2 left behind: {report.left[0]}"
        assert {(entry.kind, entry.note) for entry in canary.store.ledger()} == {("event", f"still open on {url}")}
        assert len(list(canary.keyring.folder.glob("*"))) == 1
        world["answer"].kept.clear()  # mended by its operator
        again = await canary.run(lab, 0)
        assert (again.earlier.events, again.left) == (2, [])
        await nothing_left(lab, canary)


async def test_a_relay_that_never_had_the_event_is_not_asked_for_it(open_lab, canary):
    """Out of reach all the time, or it refuses events of this kind: nothing of ours can be there."""
    world = storing(refuses=("30312 open",))
    async with open_lab("calm", delay_scale=0.1, relays=1) as lab, relay(**world) as (url, heard):
        lab.info["scenarios"]["calm"]["vantages"][0]["relays"] += [url, "ws://127.0.0.1:9"]
        report = await canary.run(lab, 1, horizon_s=1.0, joins=0)
        await nothing_left(lab, canary)
    assert (report.deleted, report.left) == (1, [])
    assert [frame[1]["kind"] for frame in heard if frame[0] == "EVENT"] == [30312]


async def test_the_closed_version_is_no_sight_of_the_nest(open_lab, canary, scenario):
    """A relay that never showed the nest shows how it was closed: the layer stays unseen."""
    async with open_lab(scenario("[relays]\neach = { kind = 'never' }"), relays=1) as lab:
        report = await canary.run(lab, 1, horizon_s=1.0, joins=0)
        await nothing_left(lab, canary)
    assert report.left == []
    table = timelines(canary.store.frame())
    assert set(table[table["layer"].str.startswith("relay:")]["right_censored"]) == {True}


async def test_a_key_of_a_run_that_was_killed_before_it_entered_anything_goes_at_the_next_start(open_lab, canary):
    async with open_lab("calm", delay_scale=0.1) as lab:
        canary.keyring.host("0190a5c2-7b1e-7000-8000-0123456789ab", store=str(canary.store.directory))
        report = await canary.run(lab, 1, horizon_s=1.0, joins=0)
        await nothing_left(lab, canary)
    assert report.earlier == cleanup.Cleaned()


@pytest.mark.parametrize("status", [408, 499, 504])
async def test_a_put_that_a_gateway_gave_up_on_is_settled(status, open_lab, canary, serving, hasty):
    async def forward(request):
        async with ClientSession() as session:
            url = f"http://127.0.0.1:{lab.api_proxy['calm'].port}{request.path}"
            headers = {name: request.headers[name] for name in ("Authorization",) if name in request.headers}
            async with session.request(request.method, url, data=await request.read(), headers=headers) as answer:
                body = await answer.read()
        if request.method == "PUT":
            return web.Response(status=status, text="gateway")
        kept = {name: answer.headers[name] for name in ("ETag", "RateLimit-Policy") if name in answer.headers}
        kind = {"content_type": "application/json"} if body else {}
        return web.Response(status=answer.status, body=body, headers=kept, **kind)

    async with open_lab("calm", delay_scale=0.0) as lab, serving(forward) as port:
        lab.info["scenarios"]["calm"]["vantages"][0]["api"] = nests_url(port)
        report = await canary.run(lab, 1, horizon_s=1.0)
        assert (report.made, report.refused, report.left) == (0, 1, [])
        await nothing_left(lab, canary)
    assert [entry.how for entry in canary.store.ledger(open_only=False)] == ["deleted"]


PROGRAM = """
import asyncio, json, random, sys
from pathlib import Path
from nestobs.join.budget import Budget
from nestobs.collector.canary import Campaign, run
from nestobs.collector.keyring import Keyring
from nestobs.join.policy import fixed
from nestobs.collector.station import Target
from nestobs.store.reader import Store

told = json.load(sys.stdin)
asyncio.run(run(
    [Target(**told["target"] | {"relays": tuple(told["target"]["relays"])})],
    Campaign(count=3, policies=(fixed(0.5),), horizon_s=20.0, stagger_s=0.4, media=0, wanted_polls=20),
    store=Store.open(told["directory"] + "/store"),
    keyring=Keyring(Path(told["directory"]) / "keys"),
    budget=Budget(100_000),
    rng=random.Random(told["seed"]),
    progress=lambda what, facts: print(what, flush=True),
))
"""


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_failure_10_killed_at_a_random_instant_it_loses_no_row_and_the_next_start_leaves_nothing(
    open_lab, canary, target_of, seed
):
    dice = random.Random(seed)
    async with open_lab("calm", delay_scale=0.2) as lab:
        lab.api["calm"].fault.answer_delay_s = 0.15  # so that some kills fall between a PUT and its answer
        target = {name: getattr(target_of(lab), name) for name in target_of(lab).__slots__}
        told = json.dumps({"target": target, "directory": str(canary.directory), "seed": seed})
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        process.stdin.write(told.encode())
        process.stdin.write_eof()
        assert await process.stdout.readline() == b"plan\n"
        await asyncio.sleep(dice.uniform(0.0, 2.0))
        acknowledged = {row.observation_id for row in canary.rows()}
        process.kill()
        assert await process.wait() == -9
        made = len(lab.nests())
        lab.api["calm"].fault.answer_delay_s = 0.0
        kept = {row.observation_id for row in canary.rows()}
        assert acknowledged <= kept
        await asyncio.sleep(0.2)  # a request that was under way comes to its end in the lab
        report = await canary.run(lab, 0)
        assert report.left == []
        assert report.earlier.rooms >= made
        await nothing_left(lab, canary)
        assert kept < {row.observation_id for row in canary.rows()}
        assert set(timelines(canary.store.frame())["origin_kind"]) <= {"create", "publish"}


async def test_relays_that_want_to_know_who_publishes_are_told_the_hosts_key(open_lab, canary):
    async with open_lab("calm", delay_scale=0.5) as lab:
        for gate in lab.gates["calm"]:
            gate.fault = GateFault.AUTH
        report = await canary.run(lab, 1, horizon_s=6.0)
        await nothing_left(lab, canary)
    assert report.left == []
    rows = canary.rows()
    ends = {row.attempt_group: row.outcome for row in rows.of(Operation.PUBLISH) if row.failure is not Failure.INTENT}
    assert set(ends.values()) == {Outcome.ACCEPTED}  # the last attempt of each
    assert {row.outcome for row in rows.of(Operation.READ_BACK)} >= {Outcome.VISIBLE}
    assert Outcome.VISIBLE in {row.outcome for row in rows.of(Operation.SUBSCRIBE)}
