"""What names can be given here: those that a shell offers, quickly, and without argparse, pydantic or the lab.

It only offers: a name is read by who takes it (config.py, lab, join), and what does not do is refused there.
"""

from __future__ import annotations

import os

import nestobs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

POLICIES = (
    "guide", "released", "manual_retry", "fixed(1)", "fixed(2)", "fixed(5)", "exponential(1)", "full_jitter(1)",
)  # fmt: skip  # join.policy.standard_policies, to import which takes longer than a shell should wait

_PACKAGE = nestobs.__path__[0]


def offered(words: Sequence[str]) -> str:
    """The names of a kind, one a line. words: the kind, then what stands in the line so far."""
    kind, line = (words[0] if words else ""), words[1:]
    makers = {"targets": lambda: _targets(line), "scenarios": _scenarios, "notebooks": _notebooks}
    found = [*POLICIES] if kind == "policies" else makers.get(kind, list)()
    return "".join(f"{name}\n" for name in found if name.isprintable())


def _scenarios() -> list[str]:
    return _stems(".toml", f"{_PACKAGE}/lab/scenarios")


def _notebooks() -> list[str]:
    return sorted({*_stems(".ipynb", f"{_PACKAGE}/../notebooks"), *_stems(".ipynb", f"{_PACKAGE}/notebooks")})


def _stems(ending: str, folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(each.name.removesuffix(ending) for each in entries if each.name.endswith(ending))
    except OSError:
        return []


def _targets(line: Sequence[str]) -> list[str]:
    """The targets of the configuration that the line names last: the shell begins it with that of its environment."""
    import tomllib

    named = [each.partition("=")[2] for each in line if each.startswith("--config=")]
    named += [line[place] for place in range(1, len(line)) if line[place - 1] == "--config"]
    path = named[-1] if named else "nestobs.toml"
    try:
        with open(os.path.expanduser(path), "rb") as file:  # noqa: PTH111, PTH123 - pathlib takes as long as the rest
            targets = tomllib.loads(file.read(100_000).decode()).get("targets")
    except (OSError, ValueError, RecursionError):
        return []
    return list(targets) if isinstance(targets, dict) else []
