"""LiveKit access tokens as the Nests API hands them out (livekit.api.AccessToken), and the pair of keys they need."""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field

from livekit import api


@dataclass(frozen=True, slots=True)
class LivekitKeys:
    """LiveKit's API key and its secret; the secret is kept out of `repr`."""

    key: str
    secret: str = field(repr=False)

    @classmethod
    def generate(cls) -> LivekitKeys:
        """A random pair in LiveKit's form."""
        return cls("API" + secrets.token_hex(6), secrets.token_hex(24))

    def joining(self, room: str, pubkey: str, *, host: bool, speaker: bool) -> str:
        """The token of somebody who signed in; the host may administer the room."""
        return self._token(pubkey, room=room, room_join=True, can_publish=host or speaker, room_admin=host)

    def guest(self, room: str) -> str:
        """A listener's token under a fresh identity guest-<uuid>."""
        return self._token(f"guest-{uuid.uuid4()}", room=room, room_join=True, can_publish=False)

    def _token(self, identity: str, **grants: object) -> str:
        token = api.AccessToken(self.key, self.secret).with_identity(identity)
        return str(token.with_grants(api.VideoGrants(**grants)).to_jwt())  # type: ignore[arg-type]  # names above
