"""The only reader of the environment and of nestobs.toml: both become values here, once.

    # nestobs.toml
    store = "nestobs-data"                # optional
    [targets.production]
    api = "https://HOST/api/v1/nests"
    relays = ["wss://relay.one", "wss://relay.two"]   # the first is the selected one
    livekit = "wss://HOST/livekit"        # optional: needed to join rooms of others; no event's word replaces it
    livekit_keys_file = "livekit.keys"    # optional: one line `key: secret`; used with `livekit` alone
    nsec_file = "canary.nsec"             # optional
    vantage = "office"                    # optional: else this host's name
    control = "example.org:443"           # optional: tells our own network's failures from theirs
    [run]                                 # optional: what `nestobs run` does; see docs/service.md

Secrets go to what is named here and to nothing else (collector/station.py): the nsec to the relays and the API,
LiveKit's key to `livekit`. Keys come by environment (NESTOBS_NSEC, NESTOBS_LIVEKIT_API_KEY, NESTOBS_LIVEKIT_API_SECRET)
or by such a file, never as an argument, where other users of the machine could read them.

Long, because nobody else may read the environment or the file.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from nestobs.collector.fleet.settings import JOINERS, Fleet
from nestobs.collector.fleet.vantages import Placed
from nestobs.collector.keyring import KEY_BYTES, Keyring
from nestobs.collector.polling import HORIZON_S
from nestobs.collector.service.settings import Canaries, Keep, Reports, Settings
from nestobs.collector.station import Target
from nestobs.errors import ConfigError, KeyFormatError, UsageError, meant
from nestobs.join.budget import Budget, host_and_port
from nestobs.join.policy import Policy, exponential, named_policy
from nestobs.nostr import Keys, read_public_key
from nestobs.observation.duration import duration_words, read_duration
from nestobs.store.files import at_home, text_in
from nestobs.store.shipments.place import place_of

FILE: Final = "nestobs.toml"
FILE_BYTES: Final = 100_000
LINE_DOTS: Final = 500
"""Of a key with n dots the TOML reader keeps n ** 2 parts: no more is read than what costs it little."""


class Environment(BaseSettings):
    """What is read from the environment: each variable with the prefix NESTOBS_, and the folders of a desktop's."""

    model_config = SettingsConfigDict(env_prefix="NESTOBS_")

    nsec: SecretStr | None = None
    livekit_api_key: SecretStr | None = None
    livekit_api_secret: SecretStr | None = None
    state_dir: Path | None = None
    xdg_state_home: str = Field(default="", validation_alias="XDG_STATE_HOME")
    xdg_config_home: str = Field(default="", validation_alias="XDG_CONFIG_HOME")
    config: Path | None = None
    vantage: str = ""


class _TargetTable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    api: str
    relays: list[str]
    livekit: str = ""
    livekit_keys_file: Path | None = None
    nsec_file: Path | None = None
    vantage: str = ""
    control: str = ""


_NO_TARGET: Final = _TargetTable(api="", relays=[])


def _duration(least_s: float, most_s: float) -> BeforeValidator:
    """Reads a duration in words, within these."""

    def read(text: object) -> float:
        found = read_duration(str(text), zero=least_s == 0)
        if not least_s <= found <= most_s:
            raise UsageError(f"{text!r:.40} is not from {duration_words(least_s)} to {duration_words(most_s)}")
        return found

    return BeforeValidator(_sentence(read))


def _sentence(read: Callable[[object], Any]) -> Callable[[object], Any]:
    """So that pydantic takes an operator's mistake as one."""

    def validated(value: object) -> Any:
        try:
            return read(value)
        except UsageError as error:
            raise ValueError(str(error)) from None

    return validated


def _hour(text: object) -> int:
    """A time of the day, UTC, in seconds after midnight."""
    if not isinstance(text, str) or not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", text):
        raise UsageError(f"{text!r:.40} is no hour: write it as 00:20, in UTC")
    return int(text[:2]) * 3_600 + int(text[3:]) * 60


def _several(value: object) -> object:
    """A list, also where only one is written."""
    return [value] if isinstance(value, str) else value


def _listen(text: object) -> tuple[str, int] | None:
    if text == "":
        return None
    found = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})", text) if isinstance(text, str) else None
    if found is None or int(found[2]) > 65_535:
        raise UsageError(f'{text!r:.60} is no address: write it as "127.0.0.1:9464", or "" for none')
    return found[1].strip("[]"), int(found[2])


def _ship(text: object) -> str:
    if not isinstance(text, str) or not text:
        raise UsageError("write a folder, or a URL as s3://BUCKET/FOLDER")
    place_of(text)
    return text


def _policy(text: object) -> Policy:
    return named_policy(str(text))


_Hour = Annotated[int, BeforeValidator(_sentence(_hour))]
_Nests = Annotated[int, Field(ge=1, le=100)]
_DAY_S: Final = 86_400.0


class _CanariesTable(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    every: Annotated[float, _duration(60.0, _DAY_S)] = 10_800.0
    count: _Nests = 2
    jitter: Annotated[float, _duration(0.0, _DAY_S / 2)] = 0.0
    horizon: Annotated[float, _duration(1.0, 3_600.0)] = HORIZON_S
    policy: Annotated[Policy, BeforeValidator(_sentence(_policy))] = Field(default_factory=exponential)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.jitter > self.every / 2:
            raise ValueError("jitter is more than half of every, so two bursts could meet")
        if self.horizon > self.every / 2:
            raise ValueError("horizon is more than half of every, so two bursts could meet")
        return self

    def settings(self) -> Canaries:
        return Canaries(
            every_s=self.every, count=self.count, jitter_s=self.jitter, horizon_s=self.horizon, policy=self.policy
        )


def _public_key(text: object) -> str:
    return read_public_key(str(text))


class _FleetTable(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    host: Annotated[str, BeforeValidator(_sentence(_public_key))]
    join: Literal["both", "guest", "none"] = "both"
    horizon: Annotated[float, _duration(1.0, 3_600.0)] = HORIZON_S
    policy: Annotated[Policy, BeforeValidator(_sentence(_policy))] = Field(default_factory=exponential)

    def settings(self) -> Fleet:
        return Fleet(host=self.host, horizon_s=self.horizon, joiners=JOINERS[self.join])


class _ReportsTable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    names: Annotated[list[str], BeforeValidator(_several)] = Field(default=["daily_report"], min_length=1)
    at: Annotated[list[_Hour], BeforeValidator(_several)] = Field(default=[1_200], min_length=1)
    every: Annotated[float, _duration(60.0, 7 * _DAY_S)] = _DAY_S
    since: Annotated[float, _duration(60.0, 3_660 * _DAY_S)] = 7 * _DAY_S
    out: Path = Path("reports")

    def settings(self, out: Path) -> Reports:
        return Reports(
            names=tuple(dict.fromkeys(self.names)),
            at_s=tuple(self.at),
            length_s=self.every,
            since_s=self.since,
            out=out,
        )


class _KeepTable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    store: Annotated[float | None, _duration(_DAY_S, 36_600 * _DAY_S)] = None
    reports: Annotated[float | None, _duration(_DAY_S, 36_600 * _DAY_S)] = None
    failed: Annotated[float | None, _duration(_DAY_S, 36_600 * _DAY_S)] = None


class _RunTable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target: str | None = None
    watch: bool = True
    listen: Annotated[tuple[str, int] | None, BeforeValidator(_sentence(_listen))] = ("127.0.0.1", 9464)
    fleet: _FleetTable | None = None
    canaries: _CanariesTable | None = None
    reports: _ReportsTable | None = None
    keep: _KeepTable = Field(default_factory=_KeepTable)
    ship: Annotated[str | None, BeforeValidator(_sentence(_ship))] = None


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]


class _VantageTable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target: str | None = None
    api: str | None = None
    relays: list[str] = []
    livekit: str | None = None
    store: Path | None = None
    start: Annotated[list[str], BeforeValidator(_several)] = [sys.executable, "-m", "nestobs"]


class _VantagesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    vantages: dict[_Name, _VantageTable] = Field(min_length=1, max_length=50)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    store: str | None = None
    targets: dict[str, _TargetTable] = {}
    run: _RunTable | None = None


class Config:
    """Environment and file together. Paths in the file are relative to the file."""

    def __init__(self, path: Path | None = None) -> None:
        try:
            self.environment = Environment()
        except ValidationError as error:
            raise ConfigError(f"the environment is not usable: {_first(error)}") from None
        named = path or self.environment.config
        everywhere = _folder(self.environment.xdg_config_home, "~/.config") / FILE
        self.path = named or (everywhere if everywhere.is_file() and not Path(FILE).exists() else Path(FILE))
        self.file = (
            _File()
            if named is None and not self.path.exists()
            else _read(self.path, _File, "--config or NESTOBS_CONFIG")
        )

    def store(self, given: str | None) -> Path | str:
        """The store's folder, or the URL that stores were shipped to: as given, else the file's, else ./nestobs-data.

        Raises UsageError for a URL that holds a secret.
        """
        if given:
            return place_of(given)
        return self._place(self.file.store) if self.file.store else Path("nestobs-data")

    def ship_to(self, given: str | None) -> Path | str:
        """Where sealed files are shipped to: as given, else as [run] says. Raises UsageError where neither names it."""
        run = self.file.run
        if given:
            return place_of(given)
        if run is None or run.ship is None:
            raise UsageError('nobody says where to: give --to URL, or write ship = "URL" into [run] of nestobs.toml')
        return self._place(run.ship)

    def target(
        self, name: str | None, *, api: str | None = None, relays: Sequence[str] = (), livekit: str | None = None
    ) -> Target:
        """The target of that name, with what was given by flags in place of what the file says.

        Raises ConfigError that lists the known targets, or says which flags are missing.
        """
        if name is not None and name not in self.file.targets:
            known = ", ".join(self.file.targets) or "none"
            near = meant(name, list(self.file.targets))
            raise ConfigError(
                f"target {name!r} is unknown in {self.path}{near} (known: {known}): add it, or give --api and --relay"
            )
        if api is None:
            name = self._only(name)
        table = self.file.targets.get(name or "", _NO_TARGET)
        found_api, found_relays = api or table.api, tuple(relays or table.relays)
        if name is not None and not found_relays:
            raise ConfigError(f"target {name!r} in {self.path} lists no relay: add one to its relays, or give --relay")
        if not found_api or not found_relays:
            raise UsageError(
                "no target: give --target NAME (from nestobs.toml) or --api URL and at least one --relay URL"
            )
        key, secret = self._livekit_keys(table)
        return Target(
            name=name or "flags",
            vantage=self.environment.vantage or table.vantage or socket.gethostname(),
            api=found_api.rstrip("/"),
            relays=found_relays,
            livekit=livekit or table.livekit,
            livekit_key=key,
            livekit_secret=secret,
            control=table.control,
        )

    def service(self) -> tuple[Target, Settings]:
        """What `nestobs run` is to do, and on which target. Raises ConfigError where there is no [run]."""
        run = self.file.run
        if run is None:
            raise ConfigError(f"there is no [run] in {self.path}: it says what a service does, see docs/service.md")
        canaries, reports, keep, fleet = run.canaries, run.reports, run.keep, run.fleet
        if fleet is not None and not run.watch:
            raise ConfigError(
                f"[run.fleet] in {self.path} says whose nests to watch, and watch = false: remove one of them"
            )
        if not run.watch and canaries is None:
            raise ConfigError(f"[run] in {self.path} observes nothing: let it watch, or give it [run.canaries]")
        return self.target(run.target), Settings(
            watch=run.watch,
            fleet=None if fleet is None else fleet.settings(),
            joins=None if fleet is None or fleet.join == "none" else fleet.policy,
            listen=run.listen,
            canaries=None if canaries is None else canaries.settings(),
            reports=None if reports is None else reports.settings(self._beside(reports.out)),
            ship="" if run.ship is None else str(self._place(run.ship)),
            keep=Keep(store_s=keep.store, reports_s=keep.reports, failed_s=keep.failed),
        )

    def vantages(self, path: Path, *, store: Path, beside: Target) -> list[Placed]:
        """The vantages of a file, each of the target that it names, else of `beside`'s URLs; with a store of its own
        beside `store`, unless the file says where. Raises ConfigError."""
        found = []
        for name, table in _read(path, _VantagesFile, "--vantages").vantages.items():
            target = beside
            if table.target is not None or table.api is not None or table.relays:
                target = self.target(table.target, api=table.api, relays=table.relays, livekit=table.livekit)
            words = ["--api", target.api, *(word for relay in target.relays for word in ("--relay", relay))]
            words += ["--livekit", target.livekit] if target.livekit else []
            words += ["--target", target.name] if target.name in self.file.targets else []
            words += ["--config", str(self.path)] if self.path.exists() else []
            own = store.with_name(f"{store.name}-{name}") if table.store is None else _near(path, table.store)
            shares = host_and_port(target.api) == host_and_port(beside.api)
            found.append(Placed(name=name, words=tuple(words), store=own, start=tuple(table.start), shares=shares))
        return found

    def budget(self) -> Budget:
        """The request budget that all processes of this machine share, in the state folder."""
        from nestobs.collector.shared_budget import SharedBudget

        return SharedBudget(self.budgets)

    @property
    def budgets(self) -> Path:
        """Where that budget is kept, a file a host."""
        return self.state[0] / "budgets"

    @property
    def state(self) -> tuple[Path, ...]:
        """The folder of keys and budgets, and others that may hold keys of earlier runs.

        It is NESTOBS_STATE_DIR; else, so that no key is lost and all processes of a machine count together, that of
        before XDG_STATE_HOME was heeded, where that is there; else nestobs in XDG_STATE_HOME.
        """
        if self.environment.state_dir is not None:
            return (at_home(self.environment.state_dir),)
        before, now = _folder("", "~/.local/state"), _folder(self.environment.xdg_state_home, "~/.local/state")
        return (before, now) if before != now and before.is_dir() else (now,)

    @property
    def relays(self) -> list[str]:
        """The relays of all targets in the file."""
        return [relay for table in self.file.targets.values() for relay in table.relays]

    @property
    def apis(self) -> list[str]:
        """The Nests APIs of all targets in the file."""
        return [table.api for table in self.file.targets.values() if table.api]

    def receiver(self, given: str | None) -> str:
        """The URL that traces are sent to: as given, or as OpenTelemetry's own variables name it.

        Raises UsageError where nobody names any, or what is named is no URL.
        """
        whole = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
        named = given or whole or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")
        parts = _http_url(named)
        if parts is None:
            raise UsageError("no receiver: give --to http://HOST:4318, or set OTEL_EXPORTER_OTLP_ENDPOINT")
        return named if parts.path.strip("/") and (given or whole) else f"{named.rstrip('/')}/v1/traces"

    def keyring(self, name: str | None = None) -> Keyring:
        """Where run keys are kept, with the operator's own key from the environment or the target's file."""
        nsec_file = self.file.targets.get(self._only(name) or "", _NO_TARGET).nsec_file
        operator = None
        if self.environment.nsec is not None and self.environment.nsec.get_secret_value():
            operator = Keys.from_secret(self.environment.nsec.get_secret_value())
        elif nsec_file is not None:
            path = self._beside(nsec_file)
            try:
                operator = Keys.from_secret(_secret_file(path))
            except KeyFormatError:
                raise ConfigError(f"the key file {path} holds neither an nsec nor 64 hex digits") from None
        folder, *others = [each / "keys" for each in self.state]
        return Keyring(folder, operator, tuple(others))

    def _only(self, name: str | None) -> str | None:
        """The name, where none is given that of the only target; None where there are none or several."""
        return next(iter(self.file.targets)) if name is None and len(self.file.targets) == 1 else name

    def _livekit_keys(self, table: _TargetTable) -> tuple[str, str]:
        key, secret = self.environment.livekit_api_key, self.environment.livekit_api_secret
        if key is not None and secret is not None:
            return key.get_secret_value(), secret.get_secret_value()
        if (key is None) != (secret is None):
            raise ConfigError("set both NESTOBS_LIVEKIT_API_KEY and NESTOBS_LIVEKIT_API_SECRET, or neither")
        if table.livekit_keys_file is None:
            return "", ""
        path = self._beside(table.livekit_keys_file)
        first, separator, rest = _secret_file(path).partition(":")
        if not separator or not rest.strip():
            raise ConfigError(f"{path} does not hold one line `key: secret`")
        return first.strip(), rest.strip()

    def _place(self, named: str) -> Path | str:
        """A URL, or a path beside the file."""
        place = place_of(named)
        return self._beside(place) if isinstance(place, Path) else place

    def _beside(self, path: Path) -> Path:
        return _near(self.path, path)


def _near(file: Path, path: Path) -> Path:
    """A path that stands in a file: relative ones begin where the file is."""
    path = at_home(path)
    return path if path.is_absolute() else file.parent / path


def _http_url(text: str) -> SplitResult | None:
    """The parts of a URL of HTTP; None for anything else."""
    try:
        parts = urlsplit(text)
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:
        return None


def _folder(named: str, default: str) -> Path:
    """Ours, in a folder of the XDG base directories: one that is not absolute is to be passed over."""
    return (Path(named) if Path(named).is_absolute() else at_home(Path(default))) / "nestobs"


_PLAIN: Final = frozenset(
    {"PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "LANGUAGE", "TZ", "TMPDIR", "PYTHONPATH", "PYTHONHOME"}
    | {"XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"}
    | {"VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"}
)

_BUCKETS: Final = ("AWS_", "FSSPEC_", "GOOGLE_APPLICATION_", "AZURE_STORAGE_")


def plain_environment() -> dict[str, str]:
    """What a process needs that is to know no secret: where programs are, language, time zone; none of ours."""
    return {name: value for name, value in os.environ.items() if name in _PLAIN or name.startswith("LC_")}


def bucket_environment() -> dict[str, str]:
    """What opens buckets: the credentials, endpoints and settings of their libraries. For who reads or writes there."""
    return {name: value for name, value in os.environ.items() if name.startswith(_BUCKETS)}


def _secret_file(path: Path) -> str:
    try:
        return text_in(path, KEY_BYTES).strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the key file {path} cannot be read ({type(error).__name__}): check the path in nestobs.toml"
        ) from None


Table = TypeVar("Table", bound=BaseModel)


def _read(path: Path, kind: type[Table], named_by: str) -> Table:
    """A file of that kind, whose name comes from there. Raises ConfigError."""
    try:
        text = text_in(path, FILE_BYTES)
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}: check {named_by}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({type(error).__name__})") from None
    except ValueError as error:
        raise ConfigError(f"{str(path)[:200]!r} cannot be read: {error}") from None
    if max(line.count(".") for line in text.split("\n")) > LINE_DOTS:
        raise ConfigError(f"{path} has a line with more than {LINE_DOTS} dots: write its lists in several lines")
    try:
        return kind.model_validate(tomllib.loads(text))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first(error)}") from None
    except ValueError as error:  # TOMLDecodeError, and a number of five thousand digits
        raise ConfigError(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path} is not valid TOML: it is nested too deep") from None


def _first(error: ValidationError) -> str:
    """The first mistake, without the value: it may be a secret."""
    found = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(part) for part in found["loc"])
    if found["type"] == "extra_forbidden":
        return f"{where} is no known key: remove it or correct its spelling"
    return f"{where}: {found['msg']}"
