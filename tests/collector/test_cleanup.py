"""Whatever was made is undone from the ledger: by hand-written entries about real rooms and events in a lab."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from nestobs.collector import cleanup
from nestobs.collector.cleanup import Cleaned, clean_up, delete_room, settle, withdraw
from nestobs.collector.keyring import OPERATOR, Keyring
from nestobs.join.budget import Limiter
from nestobs.lab import GateFault, ProxyMode
from nestobs.nostr import Address, Keys
from nestobs.observation.nest import room_tags
from nestobs.observation.schema import Operation, Outcome
from nestobs.sources.api import Api
from nestobs.sources.vantage import NO_TRACE, Trace
from nestobs.store.reader import Store

S = 1_000_000_000
RUN = "0190a5c2-7b1e-7000-8000-0123456789ab"


class Left:
    """An earlier run that ended before it could clean up."""

    def __init__(self, lab, station, store, writer, ring):
        self.lab, self.station, self.store, self.writer, self.ring = lab, station, store, writer, ring
        self.keys, self.key_ref = ring.host(RUN)

    async def nest(self):
        """Make a nest and publish it: its room id."""
        made = await self.station.api.create(NO_TRACE, self.keys, ("wss://relay.example",))
        room = made.body["roomId"]
        tags = room_tags(room=room, name="n", host=self.keys.public, service="https://s", streaming="", relays=())
        event = self.keys.sign(30312, created_at=self.station.clock.now() // S, tags=tags)
        for relay in self.station.relays:
            await relay.publish(Trace(room=room), event)
        return room

    def enter(self, kind="room", room="", after_s=0.0, **changed):
        fields = {
            "kind": kind,
            "run_id": RUN,
            "vantage": "A",
            "api": self.station.api.url,
            "room": room,
            "nest": f"30312:{self.keys.public}:{room}" if room else "",
            "relays": [],
            "key_ref": self.key_ref,
            "at": self.station.clock.now() + round(after_s * S),
        }
        return self.writer.open_entry(**fields | changed)

    async def clean(self):
        return await clean_up(self.station, self.writer, self.ring, self.store.ledger())

    def left(self):
        return [(entry.kind, entry.room) for entry in self.store.ledger()]

    def how(self):
        return [entry.how for entry in self.store.ledger(open_only=False)]

    def key_is_kept(self):
        return self.ring.find(self.key_ref) is not None


@pytest.fixture
def after_a_crash(open_lab, scenario, open_station_on, tmp_path):
    """`async with after_a_crash(toml) as left`: a lab, a store with its writer, and a run's key."""

    @asynccontextmanager
    async def opened(toml="", **options):
        store = Store.open(tmp_path / "store")
        async with (
            open_lab(scenario(toml)) as lab,
            open_station_on(lab, **options) as station,
            store.writer() as writer,
        ):
            yield Left(lab, station, store, writer, Keyring(tmp_path / "keys"))

    return opened


async def test_rooms_and_events_are_undone_and_the_key_forgotten(after_a_crash):
    async with after_a_crash() as left:
        for _ in range(2):
            room = await left.nest()
            left.enter("room", room)
            left.enter("event", room)
        cleaned = await left.clean()
        assert await left.lab.rooms() == left.lab.nests() == []
        row, found = await left.station.relays[0].query(
            NO_TRACE, address=Address(30312, left.keys.public, room), timeout_s=5.0
        )
    assert (cleaned.rooms, cleaned.events, cleaned.left) == (2, 2, [])
    assert cleaned.sentence() == "deleted 2 rooms and withdrew 2 events"
    assert left.left() == []
    assert left.how() == ["deleted", "deletion requested"] * 2
    assert not left.key_is_kept()
    assert (row.outcome, found) == (Outcome.ABSENT, None)


async def test_a_room_that_is_gone_already_is_done_with(after_a_crash):
    async with after_a_crash() as left:
        left.enter("room", "long-gone")
        cleaned = await left.clean()
    assert (cleaned.rooms, left.left()) == (1, [])


async def test_entries_of_another_api_are_left_to_its_own_run(after_a_crash):
    async with after_a_crash() as left:
        left.enter("room", "elsewhere", api="https://other.example/api/v1/nests")
        cleaned = await left.clean()
    assert cleaned == Cleaned()
    assert left.left() == [("room", "elsewhere")]
    assert left.key_is_kept()


@pytest.mark.parametrize("key_ref", [OPERATOR, "0190a5c2-0000-7000-8000-000000000000.nsec"])
async def test_without_the_key_a_room_stays_and_the_reason_is_told(after_a_crash, key_ref):
    async with after_a_crash() as left:
        room = await left.nest()
        left.enter("room", room, key_ref=key_ref)
        cleaned = await left.clean()
        assert await left.lab.rooms() == [room]
    assert "NESTOBS_NSEC" in cleaned.sentence()
    assert left.left() == [("room", room)]


async def test_one_damaged_key_file_does_not_keep_the_rest_from_being_cleaned(after_a_crash):
    async with after_a_crash() as left:
        room = await left.nest()
        (left.ring.folder / "0190a5c2-0000-7000-8000-000000000000.nsec").write_text("")
        left.enter("room", "other", key_ref="0190a5c2-0000-7000-8000-000000000000.nsec")
        left.enter("room", room)
        cleaned = await left.clean()
    assert (cleaned.rooms, len(cleaned.left)) == (1, 1)
    assert left.left() == [("room", "other")]


async def test_a_room_of_somebody_else_is_not_deleted(after_a_crash):
    async with after_a_crash() as left:
        made = await left.station.api.create(NO_TRACE, Keys.generate(), ("wss://relay.example",))
        left.enter("room", made.body["roomId"])
        cleaned = await left.clean()
        assert await left.lab.rooms() == [made.body["roomId"]]
    assert cleaned.rooms == 0
    assert len(cleaned.left) == 1
    assert left.key_is_kept()


@pytest.mark.parametrize("mode", [ProxyMode.RESET, ProxyMode.REFUSE], ids=lambda mode: mode.value)
async def test_an_api_out_of_reach_leaves_the_entry_and_the_key_for_the_next_start(after_a_crash, mode):
    async with after_a_crash() as left:
        room = await left.nest()
        left.enter("room", room)
        left.lab.api_proxy["made"].mode = ProxyMode.RESET  # ends the connections that are open
        left.lab.api_proxy["made"].mode = mode
        cleaned = await left.clean()
        assert len(cleaned.left) == 1
        assert left.left() == [("room", room)]
        assert left.key_is_kept()
        left.lab.api_proxy["made"].mode = ProxyMode.PASS
        assert (await left.clean()).rooms == 1
        assert await left.lab.rooms() == []


async def test_where_the_api_cannot_delete_livekit_does(after_a_crash, serving):
    async def no_endpoint(request):
        return web.json_response({"error": "Endpoint not found"}, status=404)

    async with after_a_crash() as left, serving(no_endpoint) as port:
        room = await left.nest()
        url = f"http://127.0.0.1:{port}/api/v1/nests"
        async with Api(left.station.vantage, url, Limiter(1_000)) as left.station.api:
            left.enter("room", room)
            cleaned = await left.clean()
            left.station.livekit.lists_rooms = False
            without_key = await delete_room(left.station, Trace(room=room), left.keys)
        assert await left.lab.rooms() == []
    assert cleaned.rooms == 1
    assert "empty timeout" in without_key.why


async def test_a_room_whose_record_is_gone_is_ended_in_livekit(after_a_crash, serving):
    async def no_record(request):
        return web.json_response({"error": "Nest not found"}, status=404)

    async with after_a_crash() as left, serving(no_record) as port:
        room = await left.nest()
        url = f"http://127.0.0.1:{port}/api/v1/nests"
        async with Api(left.station.vantage, url, Limiter(1_000)) as left.station.api:
            left.enter("room", room)
            cleaned = await left.clean()
        assert await left.lab.rooms() == []
    assert cleaned.rooms == 1


class TestUnansweredPut:
    """The room may be there, under a name we were never told."""

    async def test_is_found_through_livekits_list_and_infos_host(self, after_a_crash):
        async with after_a_crash() as left:
            stranger = await left.station.api.create(NO_TRACE, Keys.generate(), ("wss://relay.example",))
            left.enter()
            await left.nest()
            cleaned = await left.clean()
            assert await left.lab.rooms() == [stranger.body["roomId"]]
        assert (cleaned.rooms, left.left(), left.how()) == (1, [], ["deleted"])

    async def test_that_made_nothing_is_done_with(self, after_a_crash):
        async with after_a_crash() as left:
            left.enter()
            await left.clean()
        assert (left.left(), left.how()) == ([], ["never made"])

    async def test_stays_open_where_the_room_list_cannot_be_asked(self, after_a_crash):
        async with after_a_crash(keys=False) as left:
            left.enter()
            cleaned = await left.clean()
        assert "empty timeout" in cleaned.left[0]
        assert left.left() == [("room", "")]
        assert left.key_is_kept()

    @pytest.mark.parametrize("mode", [ProxyMode.RESET, ProxyMode.REFUSE, ProxyMode.STALL], ids=lambda mode: mode.value)
    async def test_stays_open_while_livekit_is_out_of_reach(self, after_a_crash, mode):
        async with after_a_crash() as left:
            left.enter()
            await left.nest()
            left.station.livekit.timeout_s = 0.3
            left.lab.livekit_proxy["made"].mode = mode
            async with asyncio.timeout(5):
                cleaned = await left.clean()
        assert len(cleaned.left) == 1
        assert left.left() == [("room", "")]

    @pytest.mark.parametrize("status", [500, 429])
    async def test_stays_open_while_info_proves_nothing(self, after_a_crash, status):
        async with after_a_crash() as left:
            left.enter()
            await left.nest()
            left.lab.api["made"].fault.status = status
            await left.clean()
            assert left.left() == [("room", "")]
            assert left.key_is_kept()
            left.lab.api["made"].fault.status = None
            left.station.api.limiter.closed_until = 0
            await left.clean()
            assert await left.lab.rooms() == []

    async def test_stays_open_while_info_does_not_show_a_listed_room_yet(self, after_a_crash):
        async with after_a_crash('[api]\ninfo = {kind="constant", s=60}') as left:
            left.enter()
            await left.nest()
            await left.clean()
            assert await left.lab.rooms() == [] or left.left() == [("room", "")]

    @pytest.mark.parametrize("skew_s", [10.0, -20.0])
    async def test_a_livekit_clock_that_is_off_hides_no_room(self, after_a_crash, skew_s):
        async with after_a_crash() as left:
            await left.nest()
            left.enter(after_s=skew_s)  # as our clock would have had it
            await left.clean()
            assert await left.lab.rooms() == [] or left.left() == [("room", "")]

    @pytest.mark.parametrize("told", [True, False])
    async def test_is_not_to_blame_for_a_room_that_another_api_made_for_another_entry(
        self, after_a_crash, serving, monkeypatch, told
    ):
        async def no_record(request):
            return web.json_response({"error": "Nest not found"}, status=404)

        for name, value in {"GRACE_S": 0.0, "SETTLE_S": 0.5, "PAUSE_S": 0.1}.items():
            monkeypatch.setattr(cleanup, name, value)
        async with after_a_crash() as left, serving(no_record) as port:
            room = await left.nest()
            if told:
                left.enter("room", room, run_id="another run")
            url = f"http://127.0.0.1:{port}/api/v1/nests"
            async with Api(left.station.vantage, url, Limiter(1_000)) as left.station.api:
                left.enter()
                said = await settle(left.station, left.writer, left.ring, left.store, RUN, traces={})
            assert await left.lab.rooms() == [room]
        if told:
            assert said == []
            assert left.how() == ["", "never made"]
        else:
            assert f"whose room {room} is the API does not say yet" in said[0]

    async def test_that_is_still_being_answered_is_waited_for(self, after_a_crash, monkeypatch):
        monkeypatch.setattr(cleanup, "GRACE_S", 1.0)
        async with after_a_crash() as left:
            left.enter()
            settling = asyncio.create_task(settle(left.station, left.writer, left.ring, left.store, RUN, traces={}))
            await asyncio.sleep(0.3)
            await left.nest()  # a slow server makes it only now
            assert await settling == []
            assert await left.lab.rooms() == []


class TestEvents:
    async def test_stay_in_the_ledger_when_no_relay_takes_the_request(self, after_a_crash):
        async with after_a_crash() as left:
            room = await left.nest()
            left.enter("event", room)
            for gate in left.lab.gates["made"]:
                gate.fault = GateFault.REFUSE
            cleaned = await left.clean()
        assert cleaned.left[0].endswith("no relay took the deletion request")
        assert left.left() == [("event", room)]
        assert left.key_is_kept()

    async def test_are_withdrawn_where_one_relay_of_several_takes_it(self, after_a_crash, rows):
        async with after_a_crash() as left:
            room = await left.nest()
            left.lab.gates["made"][0].fault = GateFault.REFUSE
            trace = Trace(nest=f"30312:{left.keys.public}:{room}", room=room)
            assert await withdraw(left.station, trace, left.keys) is None
        outcomes = [row.outcome for row in rows.of(Operation.PUBLISH)[-2:]]
        assert sorted(outcomes) == [Outcome.ACCEPTED, Outcome.REFUSED]

    async def test_a_room_that_cannot_be_deleted_keeps_the_key_though_its_event_is_withdrawn(self, after_a_crash):
        async with after_a_crash() as left:
            room = await left.nest()
            left.enter("event", room)
            left.enter("room", room)
            left.lab.api["made"].fault.status = 503
            cleaned = await left.clean()
        assert (cleaned.events, cleaned.rooms, len(cleaned.left)) == (1, 0, 1)
        assert left.key_is_kept()


async def test_the_secret_of_a_run_is_in_no_row_and_no_ledger(after_a_crash, rows):
    async with after_a_crash() as left:
        room = await left.nest()
        left.enter("room", room)
        left.enter("event", room)
        secret = left.keys.to_nsec()
        await left.clean()
        kept = rows.text() + repr(left.store.ledger(open_only=False))
    assert secret not in kept
