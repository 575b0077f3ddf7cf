"""Fresh keys of runs, kept in files until what they made is gone.

A nest can be deleted only by its host's key. A run without an operator's key makes one; it is written, readable by its
owner only, to a folder outside the store, so that after a crash the next start can still delete what was left. When
the ledger holds nothing more of the run, the file is removed. The ledger names the file, never the key.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nestobs.errors import ConfigError, KeyFormatError
from nestobs.nostr import Keys
from nestobs.store.files import text_in

OPERATOR: Final = "env"
KEY_BYTES: Final = 10_000
"""A longer file holds no key."""

_NAME = re.compile(r"[0-9a-f-]{8,64}\.nsec")


@dataclass(frozen=True, slots=True)
class Keyring:
    """A folder of key files, and the operator's own key if there is one."""

    folder: Path
    operator: Keys | None = None

    def host(self, run_id: str) -> tuple[Keys, str]:
        """The key of a run and the name under which `find` has it: the operator's, else a fresh one in a file."""
        if self.operator is not None:
            return self.operator, OPERATOR
        keys, name = Keys.generate(), f"{run_id}.nsec"
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise ConfigError(
                f"no key file can be written in {self.folder} ({error.strerror}): set NESTOBS_STATE_DIR to a folder "
                "of yours, or NESTOBS_NSEC"
            ) from None
        with os.fdopen(handle, "w") as file:
            file.write(keys.to_nsec() + "\n")
            file.flush()
            os.fsync(file.fileno())
        return keys, name

    def find(self, name: str) -> Keys | None:
        """The key of that name; None when it is not here, or its file is damaged."""
        if name == OPERATOR:
            return self.operator
        try:
            return Keys.from_secret(text_in(self.folder / name, KEY_BYTES)) if _NAME.fullmatch(name) else None
        except (OSError, ValueError, KeyFormatError):
            return None

    def forget(self, name: str) -> None:
        """Remove a key file. The operator's key and unknown names are left alone."""
        if _NAME.fullmatch(name):
            (self.folder / name).unlink(missing_ok=True)
