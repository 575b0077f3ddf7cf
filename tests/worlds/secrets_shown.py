"""Texts that hold a secret, in the forms in which one may slip out."""

from __future__ import annotations

SECRETS = {
    "nsec": "nsec1" + "q" * 58,
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJBUElrZXkxMjMifQ.c2lnbmF0dXJlLXNpZ25hdHVyZQ",
    "nostr": "Authorization: Nostr eyJpZCI6ImFiY2RlZiIsInB1YmtleSI6IjAxMjMifQ==",
    "bearer": "authorization: Bearer abcdefghijklmnopqrstuvwxyz012345",
}
