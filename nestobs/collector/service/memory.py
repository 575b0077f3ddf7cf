"""What a service remembers of its plan when it is killed: so that no burst is made twice and no hour forgotten."""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Final

from nestobs.errors import StoreError, StoreFullError
from nestobs.nostr import json_object
from nestobs.store.files import text_in, write

FILE: Final = "service.json"
_BYTES: Final = 10_000
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class Memory:
    """first_at: when a service first began here; burst: the number of the last turn that was begun, or left out;
    reports_at: the last hour of reports that was done with. Instants of the plan, ns UTC; None: never."""

    first_at: int | None = None
    burst: int | None = None
    reports_at: int | None = None


class Notebook:
    """A Memory in the store's folder. A file that is no such thing counts for none: the plan begins anew."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self.memory = Memory()
        try:
            found = json_object(text_in(self._path, _BYTES).encode()) or {}
        except (OSError, ValueError):
            return
        known = {each.name: found.get(each.name) for each in fields(Memory)}
        self.memory = Memory(**{name: value for name, value in known.items() if type(value) is int})

    def note(self, **changes: int) -> None:
        """Remember this, on the disk when it returns. Raises StoreFullError, StoreError."""
        self.memory = replace(self.memory, **changes)
        try:
            write(self._path, json.dumps(asdict(self.memory)) + "\n")
        except OSError as error:
            if error.errno in _FULL:
                raise StoreFullError(f"no room to write {self._path} ({error.strerror}): free space there") from None
            raise StoreError(
                f"{self._path} cannot be written ({error.strerror}): give --store another folder"
            ) from None
