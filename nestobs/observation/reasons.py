"""Parts of a row's `reason` that are read again: by whom diagnosis tells causes apart that share a failure.

Who writes such a reason takes the words from here, and so does who reads it. They are in the rows of every store: to
change one is to change the format of observations.
"""

from __future__ import annotations

from typing import Final

SERVER_PAUSES: Final = "the server asked for a pause"
SERVER_COUNTS: Final = "by the server's own count"
"""Why our budget is shut, where it is not our own doing."""

ERROR_INSIDE: Final = "with an error in it"
"""An answer in the API's form that is none to the question."""

OTHER_TOKEN: Final = "for another room"
OTHER_ROOM: Final = "not the room asked for"
"""Of a token by its own words, and of where it led."""

NO_LIVEKIT: Final = "no LiveKit is named"

REPLACED: Final = "under the same identity"
REMOVED: Final = "removed us"
ROOM_DELETED: Final = "the room was deleted"
ROOM_CLOSED: Final = "the room was closed"
"""Why one who was inside is outside."""

NOT_YET_VALID: Final = "the token is not valid yet"
EXPIRED: Final = "the token has expired"
TOKEN_TIMES: Final = ("not valid yet", "expired", "(nbf)", "(exp)")
"""A token whose time is wrong, as it is told here and by LiveKit."""
