"""The ledger: what was made in the world, entered before it is made, and closed when it is gone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from nestobs.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Something made in the world that must not be left behind: a room or an event; or a candidate, a room
    of which it is not proven yet that it is ours. Open until `closed_at` is set.

    `key_ref` names a key file, or is "env": never a key. Instants are ns UTC. `how` says how it was closed.
    """

    entry_id: int
    kind: str
    run_id: str
    vantage: str
    api: str
    room: str
    nest: str
    relays: tuple[str, ...]
    key_ref: str
    opened_at: int
    closed_at: int | None
    how: str
    note: str


FIELDS: Final = tuple(spec.name for spec in fields(Entry))
CHANGEABLE: Final = frozenset(FIELDS) - {"entry_id", "opened_at", "closed_at", "how"}


def stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the journal keeps them. Raises UsageError, without quoting it, when `key_ref` looks like a key."""
    if re.search(r"nsec1|[0-9a-fA-F]{64}", str(values.get("key_ref", ""))):
        raise UsageError("key_ref must name a key file or be 'env', never hold a key")
    return {name: "\n".join(value) if name == "relays" else value for name, value in values.items()}


def entry_of(row: tuple[Any, ...]) -> Entry:
    """An entry of what the journal keeps, in the order of `FIELDS`."""
    values = dict(zip(FIELDS, row, strict=True))
    values["relays"] = tuple(values["relays"].split("\n")) if values["relays"] else ()
    return Entry(**values)
