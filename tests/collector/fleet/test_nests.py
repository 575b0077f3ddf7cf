"""A fleet's vantages find the nests of its host key by themselves, and watch and join them as their host does."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from nestobs.collector.fleet.nests import arrivals, origin, plan
from nestobs.collector.fleet.settings import JOINERS, Fleet
from nestobs.collector.manners import POLITE
from nestobs.collector.watch import run
from nestobs.errors import BudgetError
from nestobs.join.budget import Budget
from nestobs.join.policy import fixed
from nestobs.nostr import ROOM_KIND, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import TRACE_TAG, read_nest, room_tags, trace_told
from nestobs.observation.schema import Operation, Outcome, Role
from nestobs.store.reader import Store
from nestobs.timeline.intervals import timelines
from worlds.command_line import now_s, publish

pytestmark = pytest.mark.slow

POLICY = replace(fixed(0.5), stay_s=0.2)


class Early:
    """As random as can be without being late."""

    def random(self) -> float:
        return 0.01


@pytest.fixture
def watch(tmp_path, target_of):
    """`await watch(lab, host)`: a vantage of the fleet of this host key, in a store of its own, and its rows."""

    async def watched(lab, host, *, for_s=6.0, join="both", manners=POLITE, **options):
        fleet = Fleet(host=host, horizon_s=4.0, polls=8, joiners=JOINERS[join])
        store = Store.open(tmp_path / "vantage")
        target = replace(target_of(lab), vantage="berlin")
        found = await run(
            target,
            store=store,
            budget=Budget(100_000),
            rng=Early(),
            progress=lambda what, facts: None,
            for_s=for_s,
            joins=POLICY,
            manners=manners,
            fleet=fleet,
            **options,
        )
        return found, list(store.observations())

    return watched


async def test_a_vantage_watches_a_canarys_nest_under_its_trace_and_joins_it(open_lab, canary, watch):
    canary.keyring = replace(canary.keyring, operator=Keys.generate())
    async with open_lab("calm", delay_scale=0.2) as lab:
        watching = asyncio.create_task(watch(lab, canary.keyring.operator.public))
        await asyncio.sleep(1.0)
        report = await canary.run(lab, 1)
        found, rows = await watching
    assert report.left == []
    assert (found.nests, found.followed, sum(found.verdicts.values())) == (1, 1, 2)
    about = [row for row in rows if row.trace_id]
    hosts = {row.trace_id for row in canary.rows() if row.room in report.rooms and row.trace_id}
    assert {row.trace_id for row in about} == hosts
    asked = {row.operation for row in about}
    assert asked >= {Operation.INFO, Operation.JOIN, Operation.GUEST, Operation.QUERY, Operation.LOAD, Operation.ROOMS}
    assert {row.role for row in about if row.operation is Operation.STAY} == {Role.JOINER, Role.GUEST}
    assert not asked & {Operation.CREATE, Operation.PUBLISH, Operation.DELETE}
    assert {row.vantage for row in rows} == {"berlin"}


async def test_what_both_saw_counts_from_the_hosts_own_put(open_lab, canary, watch):
    canary.keyring = replace(canary.keyring, operator=Keys.generate())
    async with open_lab("calm", delay_scale=0.2) as lab:
        watching = asyncio.create_task(watch(lab, canary.keyring.operator.public))
        await asyncio.sleep(1.0)
        await canary.run(lab, 1)
        _, rows = await watching
    from nestobs.observation.columns import observations_of

    lines = timelines(observations_of([*canary.rows(), *rows]))
    lines = lines[lines["room"] != ""]
    assert set(lines["vantage"]) == {"Computer A", "berlin"}
    assert set(lines["origin_kind"]) == {"create"}
    assert lines["origin_at"].nunique() <= 2, "one nest, on this clock and on the API's"


async def test_nests_of_others_are_not_watched_nor_entered_whatever_their_event_says(open_lab, target_of, watch):
    mine, stranger = Keys.generate(), Keys.generate()
    async with open_lab("calm") as lab:
        target = target_of(lab)
        tags = room_tags(
            room="theirs",
            name="x",
            host=mine.public,
            service="",
            streaming="",
            relays=target.relays,
            trace_id="01890000-0000-7000-8000-000000000000",
        )
        await asyncio.to_thread(publish, target.relays[0], stranger.sign(ROOM_KIND, created_at=now_s(), tags=tags))
        found, rows = await watch(lab, mine.public, for_s=1.5)
    assert (found.nests, found.verdicts) == (0, {})
    assert {row.room for row in rows} == {""}


@pytest.mark.parametrize("off_s", [-120, 120])
async def test_a_host_whose_clock_is_off_is_watched_all_the_same(open_lab, target_of, watch, off_s):
    mine = Keys.generate()
    async with open_lab("calm") as lab:
        target = target_of(lab)
        tags = room_tags(room="r", name="x", host=mine.public, service="", streaming="", relays=target.relays)
        event = mine.sign(ROOM_KIND, created_at=now_s() + off_s, tags=tags)
        await asyncio.to_thread(publish, target.relays[0], event)
        found, rows = await watch(lab, mine.public, for_s=3.0, join="none")
    assert (found.nests, found.followed, found.not_live) == (1, 1, {})
    answered = [row for row in rows if row.operation is Operation.INFO and row.outcome is Outcome.ABSENT]
    assert len(answered) >= 4
    assert found.verdicts == {}


async def test_what_is_too_old_or_over_is_not_followed(open_lab, target_of, watch):
    mine = Keys.generate()
    async with open_lab("calm") as lab:
        target = target_of(lab)
        for room, age_s, status in (("old", 299, "open"), ("over", 0, "closed")):
            tags = room_tags(room=room, name="x", host=mine.public, service="", streaming="", relays=target.relays)
            tags = [("status", status) if tag[0] == "status" else tag for tag in tags]
            event = mine.sign(ROOM_KIND, created_at=now_s() - age_s, tags=tags)
            await asyncio.to_thread(publish, target.relays[0], event)
        found, _ = await watch(lab, mine.public, for_s=2.0, join="none")
    assert found.not_live["over"] == 1
    assert found.followed <= 1


def test_a_nest_gets_half_of_what_is_left():
    fleet = Fleet(host="ab" * 32, joiners=(True, False))
    found = plan(fleet, 200)
    assert 3 * found.polls + 2 * found.join_requests <= 100
    assert plan(replace(fleet, polls=6), 100_000).polls == 6
    with pytest.raises(BudgetError):
        plan(fleet, 20)


def test_joiners_come_by_the_middle_of_the_watch():
    fleet = Fleet(host="ab" * 32, horizon_s=40.0, joiners=JOINERS["both"])
    (signed_in, keys), (guest, none) = arrivals(fleet, Early())
    assert 0.5 <= signed_in <= 20.0
    assert 0.5 <= guest <= 20.0
    assert keys is not None
    assert none is None


async def test_polls_count_from_created_at_where_that_is_new_and_else_from_the_coming(open_lab, open_station_on):
    mine = Keys.generate()
    async with open_lab("calm") as lab, open_station_on(lab) as station:
        now = station.clock.now()
        nests = {
            age_s: read_nest(mine.sign(ROOM_KIND, created_at=now // SECOND_NS - age_s, tags=[("d", "r")]))
            for age_s in (3, 60, -60)
        }
        assert origin(station, nests[3]) == nests[3].created_at
        assert now <= origin(station, nests[60]) < now + SECOND_NS
        assert now <= origin(station, nests[-60]) < now + SECOND_NS


@pytest.mark.parametrize(
    ("told", "taken"),
    [
        ("01890000-0000-7000-8000-000000000000", True),
        ("01890000-0000-7000-8000-00000000000g", False),
        ("", False),
        ("x" * 10_000, False),
        ("<script>", False),
    ],
)
def test_a_trace_is_taken_from_an_event_in_its_form_alone(told, taken):
    event = Keys.generate().sign(ROOM_KIND, created_at=1, tags=[("d", "r"), (TRACE_TAG, told)])
    assert trace_told(event) == (told if taken else "")
