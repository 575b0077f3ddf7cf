"""A restart by the nest's host: whether it made the room anew is told by its sid, and it is joined through."""

from __future__ import annotations

import re

import pytest
from aiohttp import web

from nestobs.collector.restart import restart
from nestobs.diagnosis import Cause
from nestobs.nostr import Keys
from nestobs.observation.schema import Failure, Operation
from nestobs.sources.vantage import Trace
from worlds.interposed import interposed

DELETES = "[api]\nrestart_deletes = true\n"

RESTARTS = {
    "made anew": (DELETES, None, "", r"the room was made anew \(RM_[\w-]+ before, RM_[\w-]+ after\)"),
    "as released": ("", None, "restart_without_effect", r"the same as before \(RM_[\w-]+\): it restarted nothing"),
    "no such route": ("", (404, "Endpoint not found"), "", "this API has none"),
    "not allowed": ("", (405, "Method not allowed"), "", "this API has none"),
    "not ours": ("", (403, "Only the host can do this"), "", "not done: Only the host"),
}


@pytest.mark.parametrize("how", RESTARTS)
async def test_a_restart_is_observed_and_joined_through(open_lab, canary, scenario, how):
    text, instead, cause, words = RESTARTS[how]

    async def refuse(request, forward):
        return web.json_response({"error": instead[1]}, status=instead[0])

    async with (
        open_lab(scenario(text)) as lab,
        interposed(lab, {"POST restart": refuse} if instead else {}) as url,
    ):
        lab.info["scenarios"]["made"]["vantages"][0]["api"] = url
        report = await canary.run(lab, 1, horizon_s=8.0, joins=1, restart=True)
        assert (await lab.rooms(), lab.nests(), canary.store.ledger(), report.left) == ([], [], [], [])
    [done] = report.restarts
    assert str(done.cause) == cause
    assert re.search(words, done.words())
    assert bool(report.problem()) is bool(cause or how == "not ours")
    rows = canary.rows()
    intent, outcome = rows.of(Operation.RESTART, intents=True)
    assert (intent.failure, outcome.status) == (Failure.INTENT, 200 if instead is None else instead[0])
    assert intent.attempt_group == outcome.attempt_group
    assert {row.trace_id for row in (intent, outcome)} == {rows.of(Operation.CREATE)[0].trace_id}
    meanwhile = [row for row in rows.of(Operation.VERDICT) if row.received_at >= intent.sent_at]
    assert len(meanwhile) == 4
    assert report.as_dict()["restarts"][0]["said"] == done.words()


async def test_without_livekits_keys_a_visit_tells_the_sids(open_lab, open_station_on, scenario, livekit):
    async with open_lab(scenario(DELETES), livekit=livekit) as lab, open_station_on(lab, keys=False) as station:
        keys = Keys.generate()
        answer = await station.api.create(Trace(), keys, ("ws://127.0.0.1:9",))
        trace = Trace(room=answer.room)
        row, session = await station.livekit.signal(trace, answer.token)
        await session.close()
        done = await restart(station, station.livekit, trace, keys, seen=[row])
        await station.api.delete(trace, keys)
    assert done.known
    assert done.before != done.after
    assert done.cause == ""


async def test_what_cannot_be_known_is_said(open_lab, open_station_on, scenario):
    async with open_lab(scenario(DELETES)) as lab, open_station_on(lab) as station:
        keys = Keys.generate()
        answer = await station.api.create(Trace(), keys, ("ws://127.0.0.1:9",))
        done = await restart(station, None, Trace(room=answer.room), keys)
        await station.api.delete(Trace(room=answer.room), keys)
    assert (done.known, str(done.cause), done.failed) == (False, "", False)
    assert "is not known" in done.words()


async def test_a_restart_that_loses_the_room_is_told(open_lab, open_station_on, scenario):
    async def losing(request, forward):
        answer = await forward()
        await lab.world.rooms.delete(request.path.split("/")[-2])
        return answer

    async with (
        open_lab(scenario()) as lab,
        interposed(lab, {"POST restart": losing}) as url,
    ):
        lab.info["scenarios"]["made"]["vantages"][0]["api"] = url
        async with open_station_on(lab) as station:
            keys = Keys.generate()
            answer = await station.api.create(Trace(), keys, ("ws://127.0.0.1:9",))
            done = await restart(station, station.livekit, Trace(room=answer.room), keys)
    assert (done.cause, done.failed) == (Cause.RESTART_WINDOW, True)
    assert "lists no room" in done.words()
