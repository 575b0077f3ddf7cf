"""Fresh keys of runs, kept in files until what they made is gone.

A nest can be deleted only by its host's key. A run without an operator's key makes one; it is written, readable by its
owner only, to a folder outside the store, so that after a crash the next start can still delete what was left. When
the ledger holds nothing more of the run, the file is removed. The ledger names the file, never the key.

The file also says of which API and store it is, so that a key that no ledger names (the run was killed at once, or its
store is gone) finds its way (cleanup.strays). A run at work holds its key file locked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nestobs.errors import ConfigError, KeyFormatError
from nestobs.nostr import Keys, json_object
from nestobs.observation.duration import SECOND_NS
from nestobs.store.files import text_in

OPERATOR: Final = "env"
KEY_BYTES: Final = 10_000
"""A longer file holds no key."""

_NAME = re.compile(r"[0-9a-f-]{8,64}\.nsec")


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file: its name, the API and the store's folder that it was made for ("" where it does not say), when it was
    made (ns UTC)."""

    name: str
    api: str
    store: str
    made_at: int


@dataclass(frozen=True, slots=True)
class Keyring:
    """A folder of key files, and the operator's own key if there is one. others: where earlier runs kept theirs."""

    folder: Path
    operator: Keys | None = None
    others: tuple[Path, ...] = ()

    def host(self, run_id: str, *, api: str = "", store: str = "") -> tuple[Keys, str]:
        """The key of a run and the name under which `find` has it: the operator's, else a fresh one in a file.

        api, store: whose it is, for `files`.
        """
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
            file.write(f"{keys.to_nsec()}\n{json.dumps({'api': api, 'store': store})}\n")
            file.flush()
            os.fsync(file.fileno())
        return keys, name

    def find(self, name: str) -> Keys | None:
        """The key of that name; None when it is not here, or its file is damaged."""
        if name == OPERATOR:
            return self.operator
        try:
            secret = text_in(self._place(name), KEY_BYTES).partition("\n")[0] if _NAME.fullmatch(name) else ""
            return Keys.from_secret(secret) if secret else None
        except (OSError, ValueError, KeyFormatError):
            return None

    def forget(self, name: str) -> None:
        """Remove a key file. The operator's key and unknown names are left alone."""
        if _NAME.fullmatch(name):
            self._place(name).unlink(missing_ok=True)

    def files(self) -> list[KeyFile]:
        """The key files that are here, oldest first; none where the folder cannot be read."""
        found = []
        for folder in (self.folder, *self.others):
            with suppress(OSError):
                for path in [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]:
                    with suppress(OSError):  # forgotten meanwhile
                        made_at = path.stat().st_mtime
                        found.append(KeyFile(path.name, *_whose(path), round(made_at * SECOND_NS)))
        return sorted(found, key=lambda file: (file.made_at, file.name))

    def _place(self, name: str) -> Path:
        """Where the key file of that name is, or would be."""
        return next((each / name for each in self.others if (each / name).exists()), self.folder / name)

    @contextmanager
    def held(self, name: str) -> Iterator[bool]:
        """Keep a key file to oneself for the while; whether that could be had: a run at work holds its own.

        The operator's key is everybody's.
        """
        if not _NAME.fullmatch(name):
            yield True
            return
        try:
            handle = os.open(self._place(name), os.O_RDONLY)
        except OSError:
            yield False
            return
        try:
            yield _locked(handle)
        finally:
            os.close(handle)


def _whose(path: Path) -> tuple[str, str]:
    """The API and the store of a key file."""
    try:
        said = json_object(text_in(path, KEY_BYTES).partition("\n")[2]) or {}
    except ValueError:  # damaged
        said = {}
    return str(said.get("api") or ""), str(said.get("store") or "")


def _locked(handle: int) -> bool:
    import fcntl  # not on Windows, where reading still works

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
