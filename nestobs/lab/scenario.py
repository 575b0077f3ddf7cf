"""Scenarios: how long each layer takes to show a nest, and what goes wrong. TOML in, frozen models out.

The files that ship are in `scenarios/`. Reading is strict: an unknown key or a value of the wrong kind is a UsageError
that names file and key, because a misspelled fault would otherwise be a calm scenario that nobody asked for.
"""

from __future__ import annotations

import enum
import tomllib
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import Field, FiniteFloat, PositiveInt, ValidationError, model_validator

from nestobs.errors import UsageError, meant
from nestobs.lab.delays import AT_ONCE, LONGEST_S, Distribution, NotNegative, Table
from nestobs.lab.faults.draw import FaultEntry


class GateFault(enum.Enum):
    """What a gate does wrong.

    PASS: nothing. LATE_OK: OK comes only when the relay has stored the event. DROP: OK true, never stored. REFUSE: OK
    false. GONE: the port is closed, and so is every connection. CUT: the socket is closed without a close frame at the
    client's next frame. NEVER_EOSE: EOSE is swallowed. CLOSED: REQ is answered by CLOSED. AUTH: NIP-42 is asked for
    before REQ and EVENT. STALL: connections open, and nothing is read, answered or sent, pings included, until the
    fault is changed.
    """

    PASS = "pass"
    LATE_OK = "late_ok"
    DROP = "drop"
    REFUSE = "refuse"
    GONE = "gone"
    CUT = "cut"
    NEVER_EOSE = "never_eose"
    CLOSED = "closed"
    AUTH = "auth"
    STALL = "stall"


FILE_CHARACTERS: Final = 100_000
LINE_DOTS: Final = 500
"""Of a key with n dots the TOML reader keeps n ** 2 parts."""

MOST_VANTAGES: Final = 50

_SHIPPED = Path(__file__).with_name("scenarios")

_RelayNumber: TypeAlias = Annotated[PositiveInt, Field(strict=False)]
_Seconds: TypeAlias = Annotated[FiniteFloat, Field(ge=-LONGEST_S, le=LONGEST_S)]
_FaultName: TypeAlias = Annotated[GateFault, Field(strict=False)]


class ApiConditions(Table):
    """The Nests API of a scenario.

    `record` is the delay of the nest's record from the moment before the PUT answers, common to all routes; `info`,
    `join`, `guest` come on top, each for its route and replica; replicas answer in turn. `server_error_s`: nest routes
    answer 500 for that long after the creation. `cache_404_s`: a 404 is repeated from a cache for that long.
    `date_skew_s`: the server's clock runs ahead by that. `require_payload`: a body without a NIP-98 payload tag is
    refused.
    """

    record: Distribution = AT_ONCE
    info: Distribution = AT_ONCE
    join: Distribution = AT_ONCE
    guest: Distribution = AT_ONCE
    replicas: Annotated[PositiveInt, Field(le=100)] = 1
    join_fault: Literal["none", "404"] = "none"
    token_fault: Literal["none", "object"] = "none"
    server_error_s: NotNegative = 0.0
    cache_404_s: NotNegative = 0.0
    date_skew_s: _Seconds = 0.0
    require_payload: bool = False
    restart_deletes: bool = False


class RateLimit(Table):
    """`requests` per `window_s` seconds for each client address, all routes together."""

    requests: Annotated[PositiveInt, Field(le=1_000_000_000)] = 1_000_000
    window_s: NotNegative = 900.0


class LivekitConditions(Table):
    """The LiveKit room: `created` after the PUT came in (0: before it answers), `expires` after its creation."""

    created: Distribution = AT_ONCE
    expires: Distribution | None = None
    empty_timeout_s: NotNegative = 300.0
    departure_timeout_s: NotNegative = 300.0


class RelayConditions(Table):
    """How long an accepted event waits before a relay stores it; `last`, if given, is for the last relay.

    `faults` maps a relay's number, 1 for the first, to a gate fault.
    """

    each: Distribution = AT_ONCE
    last: Distribution | None = None
    faults: dict[_RelayNumber, _FaultName] = Field(default_factory=dict)


class NetworkConditions(Table):
    """TCP between nestobs and the API, LiveKit and (for the second vantage) the relays.

    `latency_s` and `jitter_s` are one way; `loss` is the share of connections that are reset at the start.
    `b_relays_s` and `b_api_s` are what the second vantage has on top.
    """

    latency_s: NotNegative = 0.0
    jitter_s: NotNegative = 0.0
    loss: Annotated[NotNegative, Field(le=1)] = 0.0
    b_relays_s: NotNegative = 0.040
    b_api_s: NotNegative = 0.015


class ClockStep(Table):
    """A wall clock is put forward by `by_s` (back where that is below 0) `at_s` after the first nest was made."""

    at_s: NotNegative
    by_s: _Seconds


class Cut(Table):
    """A network that carries nothing for `for_s`, from `from_s` after the first nest was made."""

    from_s: NotNegative
    for_s: NotNegative


class VantageConditions(Table):
    """One place and clock of a fleet: how its clock is wrong, when its network is cut, when it begins and is killed.

    Its clock reads, `t` seconds after the lab began, `skew_s` + `drift_ppm` millionths of `t` + the steps so far ahead
    of the lab's. What happens to it is told in seconds after the first nest was made: cuts and steps, when it begins,
    when it is killed (kill -9); None: it is there from the beginning, and to the end. The lab cuts the network; clock,
    start and end are for whoever plays the vantages (trial/fleet.py).
    """

    name: Annotated[str, Field(min_length=1, max_length=60)]
    skew_s: _Seconds = 0.0
    drift_ppm: Annotated[FiniteFloat, Field(ge=-1e5, le=1e5)] = 0.0
    steps: list[ClockStep] = Field(default_factory=list)
    cuts: list[Cut] = Field(default_factory=list)
    starts_s: NotNegative | None = None
    killed_s: NotNegative | None = None

    def scaled(self, scale: float) -> VantageConditions:
        """The same with all instants and lengths times `scale`; how wrong the clock is stays."""
        return self.model_copy(
            update={
                "steps": [ClockStep(at_s=step.at_s * scale, by_s=step.by_s) for step in self.steps],
                "cuts": [Cut(from_s=cut.from_s * scale, for_s=cut.for_s * scale) for cut in self.cuts],
                "starts_s": None if self.starts_s is None else self.starts_s * scale,
                "killed_s": None if self.killed_s is None else self.killed_s * scale,
            }
        )


class Scenario(Table):
    """One set of conditions under which nests are created and joined.

    `faults`: what single nests suffer, drawn for each (lab/faults). `faults_a_nest`: exactly so many, on different
    sides, their shares being weights; without it each is drawn by its own share. `vantages`: of a fleet, each with a
    way of its own to everything; without them the lab's one or two.
    """

    name: str
    description: str = ""
    api: ApiConditions = ApiConditions()
    rate_limit: RateLimit = RateLimit()
    livekit: LivekitConditions = LivekitConditions()
    relays: RelayConditions = RelayConditions()
    network: NetworkConditions = NetworkConditions()
    faults: list[FaultEntry] = Field(default_factory=list)
    faults_a_nest: Annotated[int, Field(ge=0, le=5)] | None = None
    vantages: Annotated[list[VantageConditions], Field(max_length=MOST_VANTAGES)] = Field(default_factory=list)

    @model_validator(mode="after")
    def _told_apart(self) -> Scenario:
        names = [each.name for each in self.vantages]
        if len(set(names)) < len(names):
            raise ValueError("two vantages have one name")
        return self


def scenario_names() -> list[str]:
    """The scenarios that ship, in alphabetical order."""
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def load_scenario(name: str | Path) -> Scenario:
    """A scenario that ships, by name, or any TOML file, by path. Raises UsageError."""
    if isinstance(name, Path) or name.endswith(".toml"):
        path = Path(name)
    elif name in scenario_names():
        path = _SHIPPED / f"{name}.toml"
    else:
        known = scenario_names()
        raise UsageError(f"there is no scenario {name!r}{meant(name, known)}: choose among {', '.join(known)}")
    try:
        if not path.is_file():
            raise UsageError(f"there is no scenario file {path}")
        with path.open("rb") as file:
            text = file.read(4 * FILE_CHARACTERS + 1).decode("utf-8-sig")
    except (OSError, ValueError) as error:  # a name that no file can have; what is not UTF-8
        raise UsageError(f"the scenario {path} cannot be read ({type(error).__name__}): it is UTF-8 TOML") from None
    return read_scenario(text, name=path.stem, where=str(path))


def read_scenario(text: str, *, name: str, where: str) -> Scenario:
    """The scenario in a TOML text. `where` is the file's name for messages. Raises UsageError."""
    if len(text) > FILE_CHARACTERS or max(line.count(".") for line in text.split("\n")) > LINE_DOTS:
        raise UsageError(f"{where}: longer than {FILE_CHARACTERS} characters, or {LINE_DOTS} dots in a line")
    try:
        table = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and a number of five thousand digits
        raise UsageError(f"{where}: not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{where}: not TOML: nested too deep") from None
    if "name" in table:
        raise UsageError(f"{where}: unknown key name: a scenario is named by its file")
    try:
        return Scenario.model_validate({**table, "name": name})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise UsageError(f"{where}: unknown key {key}") from None
        raise UsageError(f"{where}: {key}: {first['msg']}") from None
