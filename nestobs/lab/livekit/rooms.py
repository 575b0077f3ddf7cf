"""LiveKit rooms as the Nests API makes and ends them: three RoomService calls, each tried once."""

from __future__ import annotations

import aiohttp
from livekit import api

from nestobs.lab.livekit.tokens import LivekitKeys

FAILED = (api.TwirpError, aiohttp.ClientError, TimeoutError)
"""What a call raises when LiveKit does not do it."""


class LivekitRooms:
    """RoomService on one URL, with the SDK's fail-over off."""

    def __init__(self, url: str, keys: LivekitKeys) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10))
        self._service = api.LiveKitAPI(url, keys.key, keys.secret, session=self._session, failover=False).room

    async def create(self, room: str, *, empty_timeout_s: float, departure_timeout_s: float) -> str:
        """Create the room, or find it; returns its sid."""
        made = await self._service.create_room(
            api.CreateRoomRequest(
                name=room, empty_timeout=int(empty_timeout_s), departure_timeout=int(departure_timeout_s)
            )
        )
        return str(made.sid)

    async def delete(self, room: str) -> None:
        """End the room, if there is one."""
        try:
            await self._service.delete_room(api.DeleteRoomRequest(room=room))
        except api.TwirpError as error:
            if error.code != "not_found":
                raise

    async def names(self) -> list[str]:
        """The rooms that exist now."""
        return [room.name for room in (await self._service.list_rooms(api.ListRoomsRequest())).rooms]

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()
