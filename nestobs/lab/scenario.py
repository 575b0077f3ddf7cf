"""Scenarios: how long each layer takes to show a nest, and what goes wrong. TOML in, frozen dataclasses out.

The files that ship are in `scenarios/`. Reading is strict: an unknown key or a value of the wrong kind is a UsageError
that names file and key, because a misspelled fault would otherwise be a calm scenario that nobody asked for.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

from nestobs.errors import UsageError
from nestobs.lab.delays import AT_ONCE, Distribution, read_distribution


@dataclass(frozen=True, slots=True)
class ApiConditions:
    """The Nests API of a scenario.

    `record` is the delay of the nest's record from the moment before the PUT answers, common to all routes; `info`,
    `join`, `guest` come on top, each for its route and replica. `server_error_s`: nest routes answer 500 for that long
    after the creation. `cache_404_s`: a 404 is repeated from a cache for that long. `date_skew_s`: the server's clock
    runs ahead by that. `require_payload`: a body without a NIP-98 payload tag is refused.
    """

    record: Distribution = AT_ONCE
    info: Distribution = AT_ONCE
    join: Distribution = AT_ONCE
    guest: Distribution = AT_ONCE
    replicas: int = 1
    routing: str = "round-robin"
    join_fault: str = "none"
    token_fault: str = "none"
    server_error_s: float = 0.0
    cache_404_s: float = 0.0
    date_skew_s: float = 0.0
    require_payload: bool = False
    restart_deletes: bool = False


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`requests` per `window_s` seconds for each client address, all routes together."""

    requests: int = 1_000_000
    window_s: float = 900.0


@dataclass(frozen=True, slots=True)
class LivekitConditions:
    """The LiveKit room: `created` after the PUT came in (0: before it answers), `expires` after its creation."""

    created: Distribution = AT_ONCE
    expires: Distribution | None = None
    empty_timeout_s: float = 300.0
    departure_timeout_s: float = 300.0


@dataclass(frozen=True, slots=True)
class RelayConditions:
    """How long an accepted event waits before a relay stores it; `last`, if given, is for the last relay.

    `faults` maps a relay's number, "1" for the first, to the name of a gate fault.
    """

    each: Distribution = AT_ONCE
    last: Distribution | None = None
    faults: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NetworkConditions:
    """TCP between nestobs and the API, LiveKit and (for the second vantage) the relays.

    `latency_s` and `jitter_s` are one way; `loss` is the share of connections that are reset at the start.
    `b_relays_s` and `b_api_s` are what the second vantage has on top.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    b_relays_s: float = 0.040
    b_api_s: float = 0.015


@dataclass(frozen=True, slots=True)
class Scenario:
    """One set of conditions under which nests are created and joined."""

    name: str
    description: str = ""
    api: ApiConditions = field(default_factory=ApiConditions)
    rate_limit: RateLimit = field(default_factory=RateLimit)
    livekit: LivekitConditions = field(default_factory=LivekitConditions)
    relays: RelayConditions = field(default_factory=RelayConditions)
    network: NetworkConditions = field(default_factory=NetworkConditions)


_SECTIONS: dict[str, type] = {
    "api": ApiConditions,
    "rate_limit": RateLimit,
    "livekit": LivekitConditions,
    "relays": RelayConditions,
    "network": NetworkConditions,
}
_DISTRIBUTIONS = {"record", "info", "join", "guest", "created", "expires", "each", "last"}
_CHOICES = {
    "routing": ("round-robin", "random"),
    "join_fault": ("none", "404"),
    "token_fault": ("none", "object"),
}
GATE_FAULTS = ("pass", "late_ok", "drop", "refuse", "cut", "never_eose", "closed", "auth", "stall")


def scenario_names() -> list[str]:
    """The scenarios that ship, in alphabetical order."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in resources.files("nestobs.lab").joinpath("scenarios").iterdir()
        if entry.name.endswith(".toml")
    )


def load_scenario(name: str | Path) -> Scenario:
    """A scenario that ships, by name, or any TOML file, by path. Raises UsageError."""
    if isinstance(name, Path) or name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise UsageError(f"there is no scenario file {path}")
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the scenario {path} cannot be read ({type(error).__name__}): it is UTF-8 TOML") from None
        return read_scenario(text, name=path.stem, where=str(path))
    if name not in scenario_names():
        raise UsageError(f"there is no scenario {name!r}: choose among {', '.join(scenario_names())}")
    file = resources.files("nestobs.lab").joinpath("scenarios", f"{name}.toml")
    return read_scenario(file.read_text("utf-8"), name=name, where=f"{name}.toml")


def read_scenario(text: str, *, name: str, where: str) -> Scenario:
    """The scenario in a TOML text. `where` is the file's name for messages. Raises UsageError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where}: not TOML: {error}") from None
    if unknown := set(table) - {"description", *_SECTIONS}:
        raise UsageError(f"{where}: unknown key {sorted(unknown)[0]!r}")
    description = table.get("description", "")
    if not isinstance(description, str):
        raise UsageError(f"{where}: description must be a text")
    sections = {key: _section(table[key], key, where) for key in _SECTIONS if key in table}
    return Scenario(name=name, description=description, **sections)


def _section(table: object, section: str, where: str) -> Any:
    kind = _SECTIONS[section]
    if not isinstance(table, Mapping):
        raise UsageError(f"{where}: {section} must be a table")
    known = {entry.name: entry.type for entry in fields(kind)}
    found: dict[str, Any] = {}
    for key, value in table.items():
        spot = f"{where}: {section}.{key}"
        if key not in known:
            raise UsageError(f"{where}: unknown key {section}.{key}")
        found[key] = read_distribution(value, spot) if key in _DISTRIBUTIONS else _plain(key, value, known[key], spot)
    return kind(**found)


def _plain(key: str, value: object, kind: object, spot: str) -> object:
    if key == "faults":
        return _gate_faults(value, spot)
    if key in _CHOICES:
        if value not in _CHOICES[key]:
            raise UsageError(f"{spot} must be one of {', '.join(_CHOICES[key])}")
        return value
    if kind == "bool":
        if not isinstance(value, bool):
            raise UsageError(f"{spot} must be true or false")
        return value
    whole = kind == "int"
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        raise UsageError(f"{spot} must be a {'whole number' if whole else 'number'}")
    if value < (1 if whole else 0) and key != "date_skew_s":
        raise UsageError(f"{spot} must be {'1' if whole else 'zero'} or more")
    if key == "loss" and value > 1:
        raise UsageError(f"{spot} is a share: 0 to 1")
    return value if whole else float(value)


def _gate_faults(value: object, spot: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(
        key.isdigit() and fault in GATE_FAULTS for key, fault in value.items()
    ):
        raise UsageError(f"{spot} maps a relay's number to one of {', '.join(GATE_FAULTS)}")
    return dict(value)
