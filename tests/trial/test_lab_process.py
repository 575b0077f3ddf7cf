"""A lab of our own: what it would leave behind is looked for until it is known."""

from __future__ import annotations

import asyncio

import pytest

from nestobs.lab import ProxyMode
from nestobs.nostr import Keys
from nestobs.sources.vantage import NO_TRACE
from nestobs.trial import lab_process
from nestobs.trial.lab_process import listed


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(lab_process, "LISTED_S", 1.5)


async def test_rooms_that_livekit_lists_are_told_and_those_of_others_are_not(
    open_lab, open_station_on, target_of, hasty
):
    async with open_lab("calm", delay_scale=0.0) as lab, open_station_on(lab) as station:
        rooms = [
            (await station.api.create(NO_TRACE, Keys.generate(), ("wss://relay.example",))).body["roomId"]
            for _ in range(2)
        ]
        assert await listed(target_of(lab), [rooms[0], "gone"]) == [f"LiveKit lists {rooms[0]}"]
        assert await listed(target_of(lab), ["gone"]) == []


async def test_a_room_that_goes_meanwhile_is_not_told(open_lab, open_station_on, target_of, monkeypatch):
    monkeypatch.setattr(lab_process, "LISTED_S", 20.0)
    async with open_lab("calm", delay_scale=0.0) as lab, open_station_on(lab) as station:
        room = (await station.api.create(NO_TRACE, Keys.generate(), ("wss://relay.example",))).body["roomId"]
        looking = asyncio.create_task(listed(target_of(lab), [room]))
        await asyncio.sleep(0.5)
        await lab.world.rooms.delete(room)
        assert await looking == []


async def test_a_list_that_cannot_be_asked_proves_nothing(open_lab, target_of, hasty):
    async with open_lab("calm") as lab:
        lab.livekit_proxy["calm"].mode = ProxyMode.REFUSE
        assert "not known" in (await listed(target_of(lab), ["any"]))[0]
