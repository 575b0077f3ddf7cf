"""Whatever was made is undone from the ledger: by hand-written entries about real rooms and events in a lab."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiohttp import web

from nestobs.collector.keyring import OPERATOR, Keyring
from nestobs.collector.station import greet
from nestobs.collector.undo import cleanup, withdrawal
from nestobs.collector.undo.cleanup import GRACE_S, SEARCH_S, Cleaned, clean_strays, clean_up, settle, strays
from nestobs.collector.undo.deeds import Deeds, Made
from nestobs.collector.undo.removal import delete_room
from nestobs.errors import StoreError
from nestobs.lab import GateFault, ProxyMode
from nestobs.nostr import Address, Keys
from nestobs.observation.nest import room_tags
from nestobs.observation.schema import Operation, Outcome, Source
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import NO_TRACE, Trace
from nestobs.store.reader import Store
from worlds.hostile_relays import members_only, relay, storing
from worlds.served_api import served_api

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
        for each in self.station.relays:
            await each.publish(Trace(room=room), event)
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
        return await clean_up(self.station, self.writer, self.ring, self.store, self.store.ledger())

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
    assert left.how() == ["deleted", "gone"] * 2
    assert not left.key_is_kept()
    assert (row.outcome, found) == (Outcome.ABSENT, None)


async def test_a_room_that_is_gone_already_is_done_with(after_a_crash):
    async with after_a_crash() as left:
        left.enter("room", "long-gone")
        cleaned = await left.clean()
    assert (cleaned.rooms, left.left()) == (1, [])


async def test_hundreds_of_rooms_are_deleted_some_at_a_time_and_the_unnamed_one_is_looked_for_last(
    after_a_crash, monkeypatch
):
    at_once, peak, named = 0, 0, []

    async def counted(station, trace, keys):
        nonlocal at_once, peak
        at_once += 1
        peak = max(peak, at_once)
        named.append(trace.room)
        try:
            return await delete_room(station, trace, keys)
        finally:
            at_once -= 1

    monkeypatch.setattr(cleanup, "delete_room", counted)
    async with after_a_crash() as left:
        unnamed = await left.nest()
        left.enter("room", "")
        rooms = [f"long-gone-{number}" for number in range(200)]
        for room in rooms:
            left.enter("room", room)
        cleaned = await left.clean()
    assert (cleaned.rooms, cleaned.left, left.left()) == (201, [], [])
    assert (sorted(named[:-1]), named[-1]) == (sorted(rooms), unnamed)
    assert 1 < peak <= cleanup.AT_ONCE
    assert not left.key_is_kept()


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
        said = "Endpoint not found" if request.method == "DELETE" else "Nest not found"
        return web.json_response({"error": said}, status=404)

    async with after_a_crash() as left, serving(no_endpoint) as port:
        room = await left.nest()
        async with served_api(left.station.vantage, port) as left.station.api:
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
        async with served_api(left.station.vantage, port) as left.station.api:
            left.enter("room", room)
            cleaned = await left.clean()
        assert await left.lab.rooms() == []
    assert cleaned.rooms == 1


def record_stays(request):
    return web.json_response({"host": "ab" * 32, "speakers": [], "admins": [], "link": "naddr1", "recording": False})


class TestWhatIsFoundAfterADeletion:
    """The API's word is not enough: it is looked whether the room and the record are gone."""

    @pytest.mark.parametrize(("status", "error"), [(204, None), (404, "Nest not found")], ids=str)
    async def test_a_record_that_stays_is_a_leak_and_named(self, status, error, after_a_crash, serving):
        async def half(request):
            if request.method != "DELETE":
                return record_stays(request)
            return web.json_response({"error": error}, status=status) if error else web.Response(status=status)

        async with after_a_crash() as left, serving(half) as port:
            room = await left.nest()
            async with served_api(left.station.vantage, port) as left.station.api:
                left.enter("room", room)
                cleaned = await left.clean()
            assert await left.lab.rooms() == []
            [entry] = left.store.ledger()
        assert entry.note == "the API still has its record: /info answers 200"
        assert cleaned.left == [f"{room}: {entry.note}"]
        assert left.key_is_kept()

    @pytest.mark.parametrize(("status", "error"), [(404, "Endpoint not found"), (405, ""), (501, "")], ids=str)
    async def test_a_record_that_no_delete_can_end_is_said_once(self, status, error, after_a_crash, serving):
        async def no_delete(request):
            if request.method != "DELETE":
                return record_stays(request)
            return web.json_response({"error": error}, status=status)

        async with after_a_crash() as left, serving(no_delete) as port:
            room = await left.nest()
            async with served_api(left.station.vantage, port) as left.station.api:
                left.enter("room", room)
                first, second = await left.clean(), await left.clean()
            assert await left.lab.rooms() == []
            [entry] = left.store.ledger(open_only=False)
        why = "the API still has its record: /info answers 200; it has no DELETE"
        assert (first.left, first.unsettled) == ([f"{room}: {why}"], 0)
        assert (entry.how, entry.closed_at is not None) == (f"leaked: {why}", True)
        assert second.left == []
        assert not left.key_is_kept()

    async def test_a_room_that_livekit_goes_on_listing_is_a_leak_and_named(self, after_a_crash, serving, monkeypatch):
        async def gone(request):
            return web.json_response({"error": "Nest not found"}, status=404)

        async def deaf(self, room, timeout_s):
            return None

        monkeypatch.setattr("nestobs.sources.livekit_http.LiveKitHttp.delete", deaf)
        async with after_a_crash() as left, serving(gone) as port:
            room = await left.nest()
            async with served_api(left.station.vantage, port) as left.station.api:
                left.enter("room", room)
                cleaned = await left.clean()
        assert cleaned.left == [f"{room}: LiveKit still lists the room"]
        assert left.left() == [("room", room)]

    @pytest.mark.parametrize("status", [500, 429, 403])
    async def test_while_info_proves_nothing_the_entry_stays(self, status, after_a_crash, serving):
        async def half(request):
            return web.Response(status=204 if request.method == "DELETE" else status)

        async with after_a_crash() as left, serving(half) as port:
            async with served_api(left.station.vantage, port) as left.station.api:
                left.enter("room", "some-room")
                cleaned = await left.clean()
            [entry] = left.store.ledger()
        assert entry.note.startswith("whether the API still has its record is not known: ")
        assert (cleaned.left, cleaned.unsettled) == ([], 1)  # of a room that is gone, nothing is known to be left

    async def test_what_cleaning_asks_makes_no_timeline(self, after_a_crash, rows):
        async with after_a_crash() as left:
            room = await left.nest()
            asked = len(rows)
            left.enter(after_s=-GRACE_S)  # a PUT that was not answered
            left.enter("event", room)
            await left.clean()
        found = rows[asked:]
        assert {row.operation for row in found if row.source is Source.LIVEKIT} == {Operation.READ_BACK}
        assert {row.layer for row in found} == {""}


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

    async def test_of_several_runs_each_is_found_by_its_own_key(self, after_a_crash):
        """Whose a room is not is no other key's answer."""
        async with after_a_crash() as left:
            for run in (f"{RUN[:-1]}{number}" for number in range(3)):
                left.keys, left.key_ref = left.ring.host(run)
                left.enter(run_id=run)
                await left.nest()
            cleaned = await left.clean()
            assert await left.lab.rooms() == []
        assert (cleaned.rooms, cleaned.left, left.left()) == (3, [], [])
        assert left.how() == ["deleted"] * 3

    async def test_that_made_several_rooms_leaves_none(self, after_a_crash):
        """As one whose entry was closed before its room was listed."""
        async with after_a_crash() as left:
            left.enter()
            rooms = [await left.nest() for _ in range(3)]
            cleaned = await left.clean()
            assert await left.lab.rooms() == []
        assert (cleaned.rooms, left.left()) == (3, [])
        assert {entry.room for entry in left.store.ledger(open_only=False)} == set(rooms)

    async def test_is_entered_by_name_before_it_is_deleted(self, after_a_crash, monkeypatch):
        """A process that dies then, beside a LiveKit that restarts, would else leave a record that nobody finds."""

        async def dies(*_):
            raise asyncio.CancelledError

        monkeypatch.setattr(cleanup, "delete_room", dies)
        async with after_a_crash() as left:
            left.enter()
            room = await left.nest()
            with pytest.raises(asyncio.CancelledError):
                await left.clean()
        assert left.left() == [("room", room)]

    async def test_that_made_nothing_is_done_with_once_no_server_can_be_at_it(self, after_a_crash):
        async with after_a_crash() as left:
            left.enter()
            cleaned = await left.clean()
            assert (left.left(), left.key_is_kept(), cleaned.unsettled) == ([("room", "")], True, 1)
            assert "its server may still be at it" in cleaned.left[0]
            left.enter(after_s=-GRACE_S - 1)
            await left.clean()
        assert (left.left(), left.how()) == ([("room", "")], ["", "never made"])

    async def test_that_a_row_names_needs_no_list(self, after_a_crash, rows):
        """The process ended when it had the answer, and its ledger had not."""
        async with after_a_crash() as left:
            left.enter()
            room = await left.nest()
            told = next(row for row in rows if row.operation is Operation.CREATE and room in row.detail)
            left.writer.append([replace(told, run_id=RUN)])
            await left.writer.flushed()
            left.enter("room", "another", run_id="another run", key_ref=OPERATOR)
            await left.station.livekit.delete(Trace(room=room))  # as a LiveKit that was restarted
            await left.clean()
            assert left.lab.nests() == []
        assert left.left() == [("room", "another")]
        assert {entry.room for entry in left.store.ledger(open_only=False)} == {room, "another"}

    async def test_stays_open_where_the_room_list_cannot_be_asked(self, after_a_crash):
        async with after_a_crash(keys=False) as left:
            left.enter()
            cleaned = await left.clean()
            [entry] = left.store.ledger()
        by = datetime.fromtimestamp(entry.opened_at // S + 1_800, UTC).strftime("%H:%M:%S UTC")
        assert entry.note.endswith(f"cannot be asked: it ends by its own empty timeout, at the latest by {by}")
        assert "cannot be known without LiveKit's key" in entry.note
        assert entry.note in cleaned.left[0]
        assert left.key_is_kept()

    async def test_is_closed_a_day_later_where_the_room_list_cannot_be_asked_and_not_called_deleted(
        self, after_a_crash
    ):
        async with after_a_crash(keys=False) as left:
            left.enter(after_s=-86_401.0)
            cleaned = await left.clean()
        assert (cleaned, left.how()) == (Cleaned(), ["not known, and over by itself"])
        assert not left.key_is_kept()

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
            [room] = await left.lab.rooms()
            assert left.left() == [("room", ""), ("candidate", room)]
            assert left.key_is_kept()
            left.lab.api["made"].fault.status = None
            left.station.api.limiter.closed_until = 0
            cleaned = await left.clean()
            assert await left.lab.rooms() == left.lab.nests() == []
        assert cleaned.rooms == 1

    async def test_is_looked_for_by_name_where_livekit_has_forgotten_it_since(self, after_a_crash, monkeypatch):
        async with after_a_crash() as left:
            left.enter(after_s=-GRACE_S - 1)
            room, stranger = await left.nest(), Keys.generate()
            other = (await left.station.api.create(NO_TRACE, stranger, ("wss://relay.example",))).room
            left.lab.api["made"].fault.status = 500
            cleaned = await left.clean()
            assert sorted(left.left()) == sorted([("candidate", room), ("candidate", other)])
            assert cleaned.unsettled == len(cleaned.left) == 2
            await left.clean()  # and is entered once
            assert len(left.left()) == 2
            left.lab.api["made"].fault.status = None
            for each in (room, other):
                await left.station.livekit.delete(Trace(room=each))
            cleaned = await left.clean()
            assert left.lab.nests() == [other]
        assert (cleaned.rooms, cleaned.left, left.left(), left.key_is_kept()) == (1, [], [], False)
        assert sorted(left.how()[1:]) == ["deleted", "not ours"]

    async def test_is_found_by_the_apis_clock_where_ours_was_off(self, after_a_crash, monkeypatch):
        monkeypatch.setattr(cleanup, "GRACE_S", 0.0)
        monkeypatch.setattr(cleanup, "SETTLE_S", 0.5)
        async with after_a_crash("[api]\ndate_skew_s = -600.0") as left:  # ours is ten minutes ahead of it
            await greet(left.station)
            left.enter(after_s=600.0)
            await left.nest()
            cleaned = await settle(left.station, left.writer, left.ring, left.store)
            assert await left.lab.rooms() == []
        assert (cleaned.rooms, cleaned.left, left.left()) == (1, [], [])

    async def test_is_looked_for_though_rows_cannot_be_read(self, after_a_crash, monkeypatch):
        def torn(*_, **__):
            raise StoreError("a sealed file is damaged")

        async with after_a_crash() as left:
            left.enter()
            await left.nest()
            monkeypatch.setattr(Store, "observations", torn)
            await left.clean()
            assert await left.lab.rooms() == []
        assert left.how() == ["deleted"]

    async def test_whose_room_may_be_an_operators_other_is_no_reason_to_delete_it(self, after_a_crash):
        async with after_a_crash('[api]\ninfo = {kind="constant", s=60}') as left:
            left.ring = Keyring(left.ring.folder, left.keys)
            room = await left.nest()
            left.enter(after_s=-GRACE_S - 1, key_ref=OPERATOR)
            for _ in range(2):
                await left.clean()
                assert left.left() == [("candidate", room)]
            assert await left.lab.rooms() == [room]

    async def test_is_no_candidates_any_more_where_no_part_has_it(self, after_a_crash):
        async with after_a_crash() as left:
            left.enter("candidate", "a-room", after_s=-10.0)
            left.enter("candidate", "an-old-room", after_s=-SEARCH_S - 1)
            await left.clean()
        assert (left.left(), left.how()) == ([("candidate", "a-room")], ["", "gone"])

    async def test_stays_open_while_info_does_not_show_a_listed_room_yet(self, after_a_crash):
        async with after_a_crash('[api]\ninfo = {kind="constant", s=60}') as left:
            left.enter()
            await left.nest()
            await left.clean()
            rooms = await left.lab.rooms()
            assert rooms == [] or left.left() == [("room", ""), ("candidate", rooms[0])]

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
            async with served_api(left.station.vantage, port) as left.station.api:
                left.enter()
                said = (await settle(left.station, left.writer, left.ring, left.store, RUN)).left
            assert await left.lab.rooms() == [room]
        if told:
            assert said == []
            assert left.how() == ["", "never made"]
        else:
            assert left.left() == [("candidate", room)]
            assert f"whose room {room} is the API does not say yet" in said[0]

    async def test_that_is_still_being_answered_is_waited_for(self, after_a_crash, monkeypatch):
        monkeypatch.setattr(cleanup, "GRACE_S", 1.0)
        async with after_a_crash() as left:
            left.enter()
            settling = asyncio.create_task(settle(left.station, left.writer, left.ring, left.store, RUN))
            await asyncio.sleep(0.3)
            await left.nest()  # a slow server makes it only now
            assert (await settling).left == []
            assert await left.lab.rooms() == []


async def test_a_name_that_was_just_heard_is_entered_though_there_is_no_time_to_delete_it(after_a_crash):
    async with after_a_crash() as left:
        deeds = Deeds(left.station, left.writer, left.key_ref)
        made = Made(await deeds.enter("room", NO_TRACE))
        room = await left.nest()
        left.lab.api_proxy["made"].mode = ProxyMode.STALL
        found = await deeds.undo(Trace(room=room, nest=f"30312:{left.keys.public}:{room}"), left.keys, made, 0.2)
    assert found.why == "not undone within 0.2 s"
    assert left.left() == [("room", room)]


class TestEvents:
    async def test_stay_in_the_ledger_where_no_relay_takes_it_back(self, after_a_crash):
        async with after_a_crash() as left:
            room = await left.nest()
            left.enter("event", room)
            for gate in left.lab.gates["made"]:
                gate.fault = GateFault.REFUSE
            cleaned = await left.clean()
            urls = [relay.url for relay in left.station.relays]
            [entry] = left.store.ledger()
        said = "; ".join(f"still open on {url} (blocked: the lab refuses events here)" for url in urls)
        assert cleaned.left == [f"the event of {room}: {said}"]
        assert (entry.kind, entry.room, entry.note) == ("event", room, said)
        assert left.key_is_kept()

    async def test_stay_where_one_relay_of_several_still_shows_it_open_and_that_one_is_named(self, after_a_crash):
        async with after_a_crash() as left:
            room = await left.nest()
            left.enter("event", room)
            left.lab.gates["made"][0].fault = GateFault.REFUSE
            cleaned = await left.clean()
            [entry] = left.store.ledger()
            first = left.station.relays[0].url
            assert entry.note == f"still open on {first} (blocked: the lab refuses events here)"
            assert (cleaned.events, len(cleaned.left)) == (0, 1)
            left.lab.gates["made"][0].fault = GateFault.PASS
            again = await left.clean()
        assert (again.events, again.left, left.how()) == (1, [], ["gone"])
        assert not left.key_is_kept()

    async def test_stay_while_a_relay_does_not_answer_and_go_at_the_next_start(self, after_a_crash, monkeypatch):
        monkeypatch.setattr(withdrawal, "PATIENCE_S", 0.5)
        async with after_a_crash() as left:
            room = await left.nest()
            left.enter("event", room)
            left.lab.gates["made"][1].fault = GateFault.STALL
            cleaned = await left.clean()
            assert cleaned.unsettled == 1
            assert cleaned.left[0].startswith(f"the event of {room}: not known of {left.station.relays[1].url} (")
            left.lab.gates["made"][1].fault = GateFault.PASS
            again = await left.clean()
        assert (again.left, left.how()) == ([], ["gone"])

    async def test_are_taken_back_from_relays_that_the_target_does_not_name_any_more(self, after_a_crash):
        async with after_a_crash() as left:
            world = storing(honours="e")
            async with relay(**world) as (url, _):
                room = await left.nest()
                async with Relay(left.station.vantage, url) as elsewhere:
                    await elsewhere.ready(5)
                    event = left.keys.sign(30312, created_at=1_700_000_000, tags=[("d", room), ("status", "open")])
                    await elsewhere.publish(Trace(room=room), event, read_back=False)
                left.enter("event", room, relays=[url])
                cleaned = await left.clean()
        assert (cleaned.events, left.how()) == (1, ["gone"])
        assert [each["kind"] for each in world["answer"].kept] == [5]

    async def test_of_two_runs_are_told_by_the_key_of_each(self, after_a_crash):
        """A relay that lets nobody but the author see an event, and one connection knows one of them."""
        async with after_a_crash() as left:
            world = members_only("on connect")
            async with relay(**world) as (url, _):
                other, name = left.ring.host("0190a5c2-0000-7000-8000-000000000001")
                for keys, key_ref in ((left.keys, left.key_ref), (other, name)):
                    left.enter("event", "r", relays=[url], key_ref=key_ref, nest=f"30312:{keys.public}:r")
                await left.clean()
        assert {pubkey for _, pubkey, _ in world["answer"].known} == {left.keys.public, other.public}

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


class TestAKeyThatNoLedgerNames:
    """Of a run that was killed between making its key and entering something, or whose store is gone."""

    OLD = "0190a5c2-0000-7000-8000-00000000000a"

    @pytest.fixture
    async def stray(self, after_a_crash):
        async with after_a_crash() as left:
            left.ring.forget(left.key_ref)
            left.keys, left.key_ref = left.ring.host(self.OLD, api=left.station.api.url, store="/gone/store")
            yield left

    async def clean(self, left):
        files = strays(left.station, left.ring, left.store)
        return await clean_strays(left.station, left.writer, left.ring, left.store, files)

    async def test_is_forgotten_where_nothing_of_it_exists(self, stray):
        cleaned = await self.clean(stray)
        assert cleaned == Cleaned()
        assert not stray.key_is_kept()
        assert list(stray.ring.folder.iterdir()) == []

    async def test_cleans_up_what_the_relays_show_of_it(self, stray):
        rooms = {await stray.nest() for _ in range(3)}
        stranger = await stray.station.api.create(NO_TRACE, Keys.generate(), ("wss://relay.example",))
        cleaned = await self.clean(stray)
        assert await stray.lab.rooms() == [stranger.body["roomId"]]
        assert (cleaned.rooms, cleaned.events, cleaned.left) == (3, 3, [])
        assert {entry.room for entry in stray.store.ledger(open_only=False)} == rooms
        assert {entry.run_id for entry in stray.store.ledger(open_only=False)} == {self.OLD}
        assert not stray.key_is_kept()

    async def test_cleans_up_a_room_that_livekit_lists_though_it_was_never_published(self, stray):
        await stray.station.api.create(NO_TRACE, stray.keys, ("wss://relay.example",))
        cleaned = await self.clean(stray)
        assert await stray.lab.rooms() == stray.lab.nests() == []
        assert (cleaned.rooms, cleaned.events) == (1, 0)
        assert not stray.key_is_kept()

    async def test_is_entered_with_what_could_not_be_undone(self, stray):
        room = await stray.nest()
        stray.lab.gates["made"][0].fault = GateFault.REFUSE
        cleaned = await self.clean(stray)
        assert stray.left() == [("event", room)]
        assert "still open on" in cleaned.left[0]
        assert strays(stray.station, stray.ring, stray.store) == []  # the ledger names it now
        stray.lab.gates["made"][0].fault = GateFault.PASS
        assert (await stray.clean()).left == []
        assert not stray.key_is_kept()

    async def test_has_candidates_where_the_api_does_not_say_whose_a_room_is(self, stray):
        made = await stray.station.api.create(NO_TRACE, stray.keys, ("wss://relay.example",))
        stray.lab.api["made"].fault.status = 500
        cleaned = await self.clean(stray)
        assert (stray.left(), cleaned.unsettled, len(cleaned.left)) == ([("candidate", made.room)], 1, 1)
        assert strays(stray.station, stray.ring, stray.store) == []  # the ledger names it now
        stray.lab.api["made"].fault.status = None
        await stray.station.livekit.delete(Trace(room=made.room))
        await stray.clean()
        assert (stray.lab.nests(), stray.left(), stray.key_is_kept()) == ([], [], False)

    async def test_is_kept_while_a_relay_does_not_say(self, stray, monkeypatch):
        monkeypatch.setattr(cleanup, "PATIENCE_S", 0.5)
        stray.lab.gates["made"][0].fault = GateFault.STALL
        cleaned = await self.clean(stray)
        assert cleaned.left[0].startswith(f"a key of the run {self.OLD} that no ledger names: not known of ws://")
        assert stray.key_is_kept()
        assert stray.keys.to_nsec() not in cleaned.left[0]

    async def test_is_kept_for_a_while_where_livekit_cannot_be_asked(self, stray):
        stray.station.livekit.lists_rooms = False
        assert await self.clean(stray) == Cleaned()
        assert stray.key_is_kept()
        os.utime(stray.ring.folder / stray.key_ref, (0, 1_700_000_000))
        await self.clean(stray)
        assert not stray.key_is_kept()

    async def test_of_a_run_at_work_is_let_be(self, stray):
        with stray.ring.held(stray.key_ref) as mine:
            assert mine
            await self.clean(stray)
        assert stray.key_is_kept()

    async def test_of_another_api_or_of_a_store_that_names_it_is_let_be(self, stray, tmp_path):
        other, third = Store.open(tmp_path / "other"), "0190a5c2-0000-7000-8000-00000000000b"
        stray.ring.host(third, api="https://other.example/api/v1/nests")
        name = stray.ring.host("0190a5c2-0000-7000-8000-00000000000c", store=str(other.directory))[1]
        with other.writer() as writer:
            values = {"vantage": "v", "api": "a", "room": "", "nest": "", "relays": [], "key_ref": name, "at": 1}
            writer.open_entry(kind="room", run_id="r", **values)
        assert [file.name for file in strays(stray.station, stray.ring, stray.store)] == [stray.key_ref]

    async def test_that_is_damaged_is_removed_once_nobody_can_be_writing_it(self, stray):
        path = stray.ring.folder / stray.key_ref
        path.write_text("")
        await self.clean(stray)
        assert path.exists()
        os.utime(path, (0, 1_700_000_000))
        await self.clean(stray)
        assert not path.exists()
