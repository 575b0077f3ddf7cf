"""Mistakes of the operator, each with the sentence that mends it.

    NestobsError                 base; never raised itself
    ├── UsageError               the words of a call are wrong            exit 2
    │   ├── ConfigError          nestobs.toml or the environment
    │   ├── AddressError         a nest address that is none
    │   └── KeyFormatError       a secret key that is none (the key is never quoted)
    ├── StoreError               the store cannot be used                 exit 5
    │   ├── StoreFullError       the disk is full; rows before are safe
    │   └── ForeignStoreError    the folder or file is somebody else's
    ├── UnreachableError         a target that must answer does not       exit 3
    ├── BudgetError              the plan does not fit the request budget exit 4
    └── FailedError              a run came to its end, and not to what it should; exit 1

Failures of the world while observing it (a timeout, a 404, a refused event) are data and never exceptions.
"""

from __future__ import annotations

from collections.abc import Sequence


class NestobsError(Exception):
    """An operator's mistake: one clear sentence with the remedy. `exit_code` is what the command line returns."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it, in place of the frames: `%debug` still enters them."""
        return ["".join(each if each.isprintable() or each == "\n" else "\ufffd" for each in str(self))]


class UsageError(NestobsError):
    """The words of a call, a file or a flag are wrong."""

    exit_code = 2


class ConfigError(UsageError):
    """nestobs.toml or the environment holds something unusable."""


class AddressError(UsageError):
    """Not an naddr, not `30312:pubkey:d`, not a room id."""


class KeyFormatError(UsageError):
    """Not an nsec and not 64 hex digits. The message never quotes the key."""


class UnreachableError(NestobsError):
    """A target that the call cannot do without does not answer."""

    exit_code = 3


class BudgetError(NestobsError):
    """What was asked needs more requests than the budget allows."""

    exit_code = 4


class FailedError(NestobsError):
    """A run came to its end, but not to what it should: the sentence says what is not as it must be."""


class StoreError(NestobsError):
    """The store cannot be opened or written."""

    exit_code = 5


class StoreFullError(StoreError):
    """No room on the disk. Everything acknowledged before is safe."""


class ForeignStoreError(StoreError):
    """The folder or database belongs to another program or a newer nestobs."""


def mistake_in(group: BaseExceptionGroup[BaseException]) -> NestobsError | None:
    """The first operator's mistake in a group of failures, however deep; None where there is none."""
    for error in group.exceptions:
        found = mistake_in(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, NestobsError):
            return found
    return None


def meant(word: str, known: Sequence[str]) -> str:
    """That one of what is known was meant by a word that is not, in parentheses: another case, a beginning, a slip.
    "" where none is near."""
    from difflib import get_close_matches

    asked = word[:80].lower().replace("_", "-")
    spelt = {each.lower().replace("_", "-"): each for each in known}
    begun = [each for each in spelt if asked.strip("-") and each.startswith(asked)]
    near = begun if len(begun) == 1 else get_close_matches(asked, spelt, n=1)
    return f" (did you mean {spelt[near[0]]}?)" if near else ""
