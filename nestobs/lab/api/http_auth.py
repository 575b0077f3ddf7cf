"""The server's half of NIP-98: does this Authorization header fit this request?

E compares the path of the `u` tag only (behind a reverse proxy it does not know its own scheme and host), the method,
the time within 60 s either way, and the payload hash when there is a body and a payload tag.
"""

from __future__ import annotations

import hashlib
from urllib.parse import urlsplit

from nestobs import nostr

WINDOW_S = 60.0


class NotAuthorized(Exception):
    """Why the header is refused; for the lab's diagnostic header only, the answer's body says less."""


def check_http_auth(
    header: str | None, *, method: str, path: str, body: bytes, now_s: float, require_payload: bool = False
) -> str:
    """The public key (hex) that signed this very request. `now_s`: the server's time. Raises NotAuthorized."""
    if not header:
        raise NotAuthorized("no Authorization header")
    try:
        event = nostr.read_http_auth(header)
    except nostr.MalformedAuth as error:
        raise NotAuthorized(str(error)) from None
    if event.kind != nostr.HTTP_AUTH_KIND:
        raise NotAuthorized(f"kind {event.kind} is not {nostr.HTTP_AUTH_KIND}")
    if abs(now_s - event.created_at) > WINDOW_S:
        raise NotAuthorized(f"created_at is {now_s - event.created_at:.0f} s away from the server's clock")
    if (event.tag("method") or "").upper() != method:
        raise NotAuthorized("the method tag is for another method")
    if _path(event.tag("u") or "") != _path(path):
        raise NotAuthorized("the u tag is for another path")
    _check_payload(event, body, require_payload)
    return event.pubkey


def _path(url: str) -> str:
    try:
        return urlsplit(url).path.rstrip("/")
    except ValueError:
        return "?"


def _check_payload(event: nostr.Event, body: bytes, required: bool) -> None:
    if not body:
        return
    claimed = event.tag("payload")
    if claimed is None:
        if required:
            raise NotAuthorized("there is a body and no payload tag")
    elif claimed.lower() != hashlib.sha256(body).hexdigest():
        raise NotAuthorized("the payload tag is the hash of another body")
