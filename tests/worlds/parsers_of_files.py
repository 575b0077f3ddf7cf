"""What reads an operator's words and files."""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from urllib.parse import quote

import numpy as np

from nestobs import nostr
from nestobs.cli import arguments
from nestobs.cli.terminal import harmless
from nestobs.cli.tuning import ages_in, policy_of
from nestobs.collector import strangers, watch
from nestobs.collector.keyring import Keyring
from nestobs.collector.station import Target
from nestobs.config import Config
from nestobs.errors import NestobsError
from nestobs.figures import plain
from nestobs.join.budget import Limiter, host_and_port
from nestobs.join.policy import named_policy
from nestobs.lab.delays import draw
from nestobs.lab.scenario import load_scenario
from nestobs.nostr import Keys, write_naddr
from nestobs.observation.duration import SECOND_NS, read_duration
from nestobs.observation.nest import read_address
from nestobs.observation.window import Window
from nestobs.reports import tuning
from nestobs.reports.lab_files import description, proof
from nestobs.reports.publishing import index, parameters
from nestobs.reports.publishing.archive import Archive
from nestobs.reports.publishing.manifest import redacted
from nestobs.sources.control import Control
from nestobs.sources.dial import read_url
from nestobs.sources.livekit import signal_url
from nestobs.sources.vantage import Vantage
from nestobs.store.inventory import verify
from nestobs.store.reader import Store
from nestobs.store.shipments import names
from nestobs.store.shipments.place import is_url, place_of
from nestobs.store.shipments.place import redacted as redacted_url
from nestobs.store.sql import JOURNAL
from nestobs.timeline import delays
from nestobs.timeline.nests import address_of
from nestobs.tuning.policy_file import PolicyFile, dumps, loads
from worlds.parser import OPERATOR, Parser, Read, on_text, parser, text_of
from worlds.scheduled_reports import write as write_notebook
from worlds.stored_nests import NOON, drawn, nest_rows, store_of

KEY = "11" * 32
HOST = Keys.from_secret(KEY).public


@contextmanager
def in_file(name: str, read: Callable[[Path], object]) -> Iterator[Read]:
    """Reads bytes as what stands in a file of that name."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name

        def reading(data: bytes) -> object:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            return read(path)

        yield reading


def _window(text: str) -> object:
    window = Window.parse(text)
    assert Window.parse(window.text) == Window.parse(window.name) == window
    return window.words, window.instants, window.seconds


def _address(text: str) -> object:
    address = read_address(text)
    return quote(str(address), safe=""), quote(address if isinstance(address, str) else address.identifier)


def _bech32(data: bytes) -> str:
    """An naddr whose checksum is right, whatever is in it (BIP-173)."""
    letters, generators = (
        "qpzry9x8gf2tvdw0s3jn54khce6mua7l",
        (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3),
    )
    bits = "".join(f"{byte:08b}" for byte in data)
    words = [int(bits[at : at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5)]
    whole = [ord(c) >> 5 for c in "naddr"] + [0] + [ord(c) & 31 for c in "naddr"] + words + [0] * 6
    check = 1
    for word in whole:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ word
        for number, generator in enumerate(generators):
            check ^= generator if top >> number & 1 else 0
    check ^= 1
    return "naddr1" + "".join(letters[word] for word in [*words, *(check >> 5 * (5 - n) & 31 for n in range(6))])


def _naddr(data: bytes) -> object:
    address = nostr.read_naddr(_bech32(data[:5_000]))
    return write_naddr(address), quote(str(address))


def tlv(*parts: tuple[int, bytes]) -> bytes:
    """As NIP-19 writes what an naddr holds."""
    return b"".join(bytes([kind, len(value)]) + value for kind, value in parts)


NADDR = ((0, b"room"), (1, b"wss://relay.example"), (2, bytes.fromhex(HOST)), (3, (30312).to_bytes(4)))


def _config(path: Path) -> object:
    config = Config(path)
    for name in (None, *config.file.targets):
        try:
            config.target(name)
            config.keyring(name)
        except NestobsError:
            pass
    return config.store(None)


BESIDE = Target(name="one", vantage="here", api="https://h/api/v1/nests", relays=("wss://r",))


def _vantages(path: Path) -> object:
    return Config().vantages(path, store=path.parent / "store", beside=BESIDE)


def _scenario(path: Path) -> object:
    scenario = load_scenario(path)
    rng = np.random.default_rng(1)
    parts = (scenario.api.record, scenario.api.join, scenario.livekit.created, scenario.relays.each)
    return str(scenario), [draw(part, rng) for part in parts]


def _policy(path: Path) -> object:
    file = policy_of(str(path))
    assert loads(dumps(file)) == file
    return file


def _words(text: str) -> object:
    kinds = [arguments.duration_s, arguments.count, arguments.port, arguments.number_between(0, 1)]
    found = []
    for kind in (*kinds, arguments.duration_between(1, 9), arguments.whole_between(0, 2**63)):
        try:
            found.append(kind(text))
        except argparse.ArgumentTypeError as error:
            found.append(str(error).encode("utf-8", "replace"))
    return found


def _addresses(text: str) -> object:
    vantage, config = Vantage("here", "run", lambda _: None), Config()
    found: list[object] = []
    reads = (read_url, signal_url, host_and_port, partial(Control, vantage), read_duration, nostr.read_public_key)
    for read in (*reads, config.receiver):
        try:
            found.append(read(text))
        except NestobsError as error:
            found.append(str(error))
    hosts = delays._host(text), strangers._host(text), watch._names(text, "https://h")
    return found, hosts, str(address_of(text))


def _parameter(data: bytes) -> object:
    text, found = text_of(data), []
    for name, default in (("n", 1), ("x", 1.0), ("wait_s", 1.0), ("on", True), ("many", [1.0]), ("text", "")):
        try:
            found.append(parameters.typed(name, text, default))
        except NestobsError as error:
            found.append(str(error))
    return found


@contextmanager
def _manifests() -> Iterator[Read]:
    with tempfile.TemporaryDirectory() as folder:
        archive = Archive.open(Path(folder))
        place = Path(folder) / "daily" / "2026-01-01"
        place.mkdir(parents=True)

        def read(data: bytes) -> object:
            (place / "manifest.json").write_bytes(data)
            entries = archive.entries()
            index.refresh(archive)
            return [(entry.verdict, entry.final, entry.latest) for entry in entries]

        yield read


@cache
def stored() -> dict[str, bytes]:
    """The files of a small store, some of it sealed, by their names in its folder."""
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), nest_rows(*drawn(3)))
        store.seal(before=NOON + 86_400 * SECOND_NS)
        with store.writer() as writer:
            writer.append(list(nest_rows(*drawn(2), name="later")))
            writer.open_entry(**LEDGER)
        return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def _sealed() -> str:
    return next(name for name in stored() if name.endswith(".parquet"))


@contextmanager
def _in_store(name: str) -> Iterator[Read]:
    """Reads bytes as one file of a store."""
    with tempfile.TemporaryDirectory() as folder:
        opened = Store(Path(folder))
        asks = (opened.frame, opened.ledger, opened.digest, lambda: verify(opened), lambda: opened.tail(0, 10))

        def read(data: bytes) -> object:
            for path in Path(folder).glob("journal*"):
                path.unlink()
            for file, content in {**stored(), name: data}.items():
                (Path(folder) / file).parent.mkdir(exist_ok=True)
                (Path(folder) / file).write_bytes(content)
            found: list[object] = []
            for ask in asks:
                try:
                    found.append(ask())
                except NestobsError as error:
                    found.append(str(error))
            return found

        yield read


@contextmanager
def _shipped() -> Iterator[Read]:
    """Reads bytes as a shipped file whose name tells their digest."""
    with tempfile.TemporaryDirectory() as folder:

        def read(data: bytes) -> object:
            about = {"first_at": NOON, "last_at": NOON + 60 * SECOND_NS, "rows": 9, "keys": (0, names.MOST_KEY)}
            digest = hashlib.sha256(data).hexdigest()
            path = Path(folder, names.path_of(**about, digest=digest, vantages=["here"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            opened, found = Store.open(folder), list[object]()
            for ask in (opened.frame, opened.count, lambda: verify(opened)):
                try:
                    found.append(ask())
                except NestobsError as error:
                    found.append(str(error))
            path.unlink()
            return found

        yield read


def _place(text: str) -> object:
    named = names.listing({text: 1, f"{names.FOLDER}/{text}": 1})
    words = names.path_of(first_at=0, last_at=0, rows=1, keys=names.key_of(text, text), digest="", vantages=[text])
    assert ".." not in words.split("/")
    return named, is_url(text), place_of(text), redacted_url(text)


LEDGER = {
    "kind": "room",
    "run_id": "run",
    "vantage": "here",
    "api": "https://nests.example",
    "room": "room",
    "nest": "",
    "relays": ("wss://relay.example",),
    "key_ref": "env",
    "at": NOON,
    "note": "",
}


def _notebook() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return write_notebook(Path(folder) / "x.ipynb").read_bytes()


def _restored(data: bytes) -> object:
    state = nostr.json_object(data)
    if state is None:
        return None
    limiter = Limiter()
    limiter.restore(state, NOON)
    limiter.take(NOON)
    return limiter.left(NOON), limiter.opens_at(NOON), limiter.why_shut(NOON), json.dumps(limiter.state())


TARGET = (
    '[targets.one]\napi = "https://h/api/v1/nests"\nrelays = ["wss://r"]\n'
    'livekit = "wss://h/livekit"\ncontrol = "h:443"\n'
)
PROOF = {
    "nests": 3,
    "scenario": "calm",
    "seed": 2,
    "window": ["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"],
    "livekit": {"kind": "stand-in"},
    "policies": [
        {
            "name": "guide",
            "predicted": {"mean_delay_s": {"value": 1.0, "lower": 0.5, "upper": 2.0}},
            "realised": {"mean_delay_s": {"value": 1.0, "error_s": 0.1, "n": 3, "inside": True}},
        }
    ],
}
LAB = {
    "livekit": {"kind": "server", "version": "1"},
    "scenarios": {"calm": {"vantages": [{"api": "http://h:1/api"}], "truth_names": {"ws://h:1": "relay-1"}}},
}
TRUTH = {"scenario": "calm", "room": "r", "layer": "api:info", "change": "shown", "not_yet_at": 1, "now_at": 2}
MANIFEST = {
    "schema": 1,
    "report": "daily",
    "window": {"name": "2026-01-01", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"},
    "verdict": "good",
    "reasons": ["all well"],
    "error": None,
    "coverage": 0.5,
    "rows": {"nests": 3},
    "facts": {"median_s": 1.5},
    "parameters": {},
    "duration_s": 1.0,
    "made_at": "2026-01-02T00:00:00Z",
}
SCENARIO = (
    "description = 'x'\n[api]\nrecord = {kind='lognormal', median_s=1, sigma=1}\njoin = {kind='mixture', parts=["
    "{weight=1, kind='never'}, {weight=2, kind='weibull', scale_s=1.5, shape=0.5}]}\n[rate_limit]\nrequests = 100\n"
    "[relays.faults]\n1 = 'cut'\n"
)

FILES: tuple[Parser, ...] = (
    parser(
        "window",
        on_text(_window),
        *("2026-01-01", "2026-01-01/2026-01-02T12:00", "2026-01-01T12:00Z/PT1H", "2026-01-01/6h"),
        *(
            "2026-01-01T120000Z--2026-01-01T130000Z",
            "2026-W01-1/1d",
            "2026-01-01T00:00+23:59/1w",
            "1678-01-01/2262-01-01",
        ),
        allowed=OPERATOR,
        words="/ -- T Z +01:00 -23:59 W 1d 2h30m 0001-01-01 9999-12-31",
    ),
    parser("words of commands", on_text(_words), "90s", "2h30m", "1.5m", "8080", "0.5", "100000", "1e3"),
    parser(
        "addresses of servers",
        on_text(_addresses),
        *(
            "wss://relay.example:443/path",
            "https://h/api/v1/nests",
            "wss+livekit://h:7880",
            "example.org:443",
            "[::1]:80",
        ),
        *(f"30312:{HOST}:room", "wss://u:p@h/", "wss://xn--nxasmq6b/", "npub180cvv07tjdrrgpa0j7j7tmnyl2yr6yr7l8j4s3"),
        words=":// @ : [::1] [fe80::1%eth0] xn-- .. ws wss http https wss+livekit 65536 ²",
    ),
    parser(
        "a nest's name",
        on_text(_address),
        *(
            f"30312:{HOST}:room",
            f"https://nests.example/room/{'a' * 36}",
            "my-room",
            f"https://h/#/{_bech32(tlv(*NADDR))}",
        ),
        *(f"nostr:{_bech32(tlv(*NADDR))}", "https://h/room/%66%6f?x=1#y", f"https://h/30312%3A{HOST}%3Aroom"),
        allowed=OPERATOR,
        words="naddr1 nostr: https:// /room/ 30312: npub1 nsec1 # ? %2F %C3%28",
    ),
    parser(
        "what an naddr holds",
        _naddr,
        *(tlv(*NADDR), tlv(*NADDR[::-1]), tlv(*NADDR, (9, b"x" * 200)), tlv(*NADDR, *[NADDR[1]] * 9), tlv((0, b""))),
        *(tlv(*NADDR) + b"\x01\xff", tlv((0, b"\xff\xfe"), *NADDR[1:]), tlv(*NADDR[:3], (3, b"\x00")), tlv(*NADDR[:3])),
        allowed=OPERATOR,
    ),
    parser(
        "nestobs.toml",
        bytes,
        *("store = 'rows'\n" + TARGET, TARGET + TARGET.replace("one", "two"), "x = 1", "[[a]]\nb = {c = 1}\n"),
        *(
            TARGET + "nsec_file = 'k'\nlivekit_keys_file = 'l'\nvantage = 'office'\n",
            "\ufeffstore = 'x'",
            "store = '~:'",
        ),
        allowed=OPERATOR,
        words="[targets. ]\n = [[ ]] {a= ''' \"\"\" \\u0000 0x 0o 0b inf nan 1979-05-27T07:32:00Z relays store",
        opened=lambda: in_file("nestobs.toml", _config),
    ),
    parser(
        "vantages.toml",
        bytes,
        "[vantages.berlin]\napi = 'https://h/api/v1/nests'\nrelays = ['wss://r']\nlivekit = 'wss://l'\nstore = 'x'\n",
        "[vantages.beside]\nstart = ['nice', 'nestobs']\n[vantages.b]\n",
        allowed=OPERATOR,
        words="[vantages. ] start = [[ ]] {a= target api relays store ../ '' \\u0000",
        opened=lambda: in_file("vantages.toml", _vantages),
    ),
    parser(
        "a key file",
        bytes,
        *(KEY, Keys.from_secret(KEY).to_nsec() + "\n"),
        opened=lambda: in_file("0" * 8 + ".nsec", lambda path: Keyring(path.parent).find(path.name)),
    ),
    parser(
        "a scenario",
        bytes,
        *(SCENARIO, "[network]\nloss = 0.5\n", "[livekit]\nexpires = {kind='constant', s=5}\n"),
        allowed=OPERATOR,
        words="[api] kind='never' median_s= sigma= parts=[ weight= 1e308 1e-308 '1' = 0x7fffffff",
        opened=lambda: in_file("made.toml", _scenario),
    ),
    parser(
        "a policy file",
        bytes,
        *(dumps(PolicyFile(policy=named_policy(name))) for name in ("guide", "full_jitter(2)", "manual_retry")),
        allowed=OPERATOR,
        words='"policy": "schedule": "table": [[0,1]] "intervals": "predicted": "provenance": "notes": null 1e400',
        opened=lambda: in_file("policy.json", _policy),
    ),
    parser("a policy's name", on_text(named_policy), "fixed(2)", "full_jitter(500ms)", "guide", allowed=OPERATOR),
    parser("ages", bytes, "1\n2.5\n30s 1m", allowed=OPERATOR, opened=lambda: in_file("ages", ages_in)),
    parser(
        "ages of a notebook",
        bytes,
        "1\n2.5\n30",
        allowed=OPERATOR,
        opened=lambda: in_file("ages", lambda path: tuning.ages_in(str(path))),
    ),
    parser(
        "a notebook",
        bytes,
        _notebook(),
        '{"cells":[],"metadata":{},"nbformat":4,"nbformat_minor":5}',
        allowed=OPERATOR,
        words='"cells": "tags": "parameters" "source": "nbformat": 3 x=1 x=(((1))) lambda: {**a} \\n',
        opened=lambda: in_file("report.ipynb", parameters.defaults),
        slow=True,
    ),
    parser("a parameter", _parameter, "1", "1.5", "2h", "true", "[1, 2.5]", "text", words="[ ] { } , 1e400 NaN"),
    parser(
        "a manifest",
        bytes,
        json.dumps(MANIFEST),
        json.dumps(MANIFEST | {"verdict": "failed", "error": "x", "coverage": None}),
        words='"made_at": "reasons": "verdict": "coverage": "facts": "window": 0001-01-01T00:00:00+23:59 \\u0000',
        opened=_manifests,
        slow=True,
    ),
    parser(
        "a proof",
        bytes,
        json.dumps(PROOF),
        allowed=OPERATOR,
        words='"policies": "predicted": "realised": "window": "inside": "n": 9999-12-31 {} []',
        opened=lambda: in_file("proof.json", lambda path: proof.read_proof(str(path))),
        slow=True,
    ),
    parser(
        "lab.json",
        bytes,
        json.dumps(LAB),
        allowed=OPERATOR,
        opened=lambda: in_file("lab.json", lambda path: description.lab_facts(str(path))),
    ),
    parser(
        "truth.jsonl",
        bytes,
        f"{json.dumps(TRUTH)}\n{json.dumps(TRUTH)}\n",
        allowed=OPERATOR,
        opened=lambda: in_file("truth.jsonl", lambda path: description.truth(str(path))),
    ),
    parser(
        "a text to publish",
        on_text(lambda text: (redacted(text, Path("/somewhere")), plain(text), harmless(text))),
        *(
            "/somewhere/x: eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrZXkifQ.c2ln",
            "Authorization: Nostr eyJraW5kIjoyNzIzNX0=",
            KEY,
        ),
        words="eyJ- eyJ eyJhbGciOiJIUzI1NiJ9. nsec1 Bearer Basic Nostr /somewhere/ / &amp; \x1b[",
    ),
    parser(
        "a budget's state",
        _restored,
        json.dumps(Limiter().state()),
        '{"announced":100,"closed":[1,9223372036854775807],"windows":[[80,900,[[1,2]]]],"ceilings":[[1,2,true]]}',
        allowed=(ValueError, TypeError, KeyError, IndexError, OverflowError),
    ),
    Parser("a journal", lambda: _in_store(JOURNAL), (stored()[JOURNAL],), slow=True),
    Parser("a shipped file", _shipped, (stored()[_sealed()],), slow=True),
    parser(
        "where stores are shipped to",
        on_text(_place),
        "s3://bucket/folder",
        "sftp://user@host:22/folder",
        "file:///srv/fleet",
        "shipped-1/here/2024-10-04/1_2_3_000000000000_ffffffffffff_" + "ab" * 32 + ".parquet",
        allowed=OPERATOR,
        words="s3:// :: @ : ? / _ - .parquet .tmp shipped-1/ .. file:// localhost",
    ),
    Parser("a sealed file", lambda: _in_store(_sealed()), (stored()[_sealed()],), slow=True),
)
