"""Environment and nestobs.toml become values: what goes before what, where paths lead, and that no secret shows."""

from __future__ import annotations

import asyncio
import json
import socket
import tomllib
from pathlib import Path

import pytest

from nestobs.collector.fleet.settings import Fleet
from nestobs.config import Config
from nestobs.errors import ConfigError, NestobsError, UsageError
from nestobs.nostr import Keys

FILE = """
store = "rows"
[targets.one]
api = "https://one.example/api/v1/nests/"
relays = ["wss://a.example", "wss://b.example"]
livekit = "wss://one.example/livekit"
livekit_keys_file = "secret/livekit.keys"
nsec_file = "secret/key.nsec"
vantage = "office"
control = "example.org:443"
"""
TWO = '[targets.two]\napi = "https://two.example"\nrelays = ["wss://c.example"]\n'


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in ("NSEC", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET", "CONFIG", "VANTAGE", "TARGET", "STORE", "API"):
        monkeypatch.delenv(f"NESTOBS_{name}", raising=False)
    monkeypatch.setenv("NESTOBS_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")


@pytest.fixture
def keys():
    return Keys.generate()


@pytest.fixture
def file(tmp_path, keys):
    """A configuration with its key files beside it, in a folder that is not the present one."""
    folder = tmp_path / "there"
    (folder / "secret").mkdir(parents=True)
    (folder / "secret" / "livekit.keys").write_text("file-key: file-secret\n")
    (folder / "secret" / "key.nsec").write_text(keys.to_nsec() + "\n")
    (folder / "nestobs.toml").write_text(FILE)
    return folder / "nestobs.toml"


def test_without_file_and_environment_everything_has_a_default():
    config = Config()
    assert config.store(None) == Path("nestobs-data")
    assert config.keyring().operator is None
    target = config.target(None, api="http://h/api/v1/nests", relays=["ws://r"])
    assert (target.name, target.vantage) == ("flags", socket.gethostname())
    assert (target.livekit, target.livekit_key, target.livekit_secret, target.control) == ("", "", "", "")


def test_a_target_is_what_the_file_says(file):
    target = Config(file).target("one")
    assert target.api == "https://one.example/api/v1/nests"
    assert target.relays == ("wss://a.example", "wss://b.example")
    assert target.livekit == "wss://one.example/livekit"
    assert (target.livekit_key, target.livekit_secret) == ("file-key", "file-secret")
    assert (target.name, target.vantage, target.control) == ("one", "office", "example.org:443")


def test_flags_go_before_the_file(file):
    target = Config(file).target("one", api="http://flag", relays=["ws://flag"], livekit="ws://flag-livekit")
    assert (target.api, target.relays, target.livekit) == ("http://flag", ("ws://flag",), "ws://flag-livekit")
    assert Config(file).store("given") == Path("given")


def test_a_single_flag_leaves_the_rest_of_the_target(file):
    target = Config(file).target("one", relays=["ws://flag"])
    assert target.relays == ("ws://flag",)
    assert target.api == "https://one.example/api/v1/nests"


def test_keys_of_the_environment_go_before_the_files(file, monkeypatch):
    other = Keys.generate()
    monkeypatch.setenv("NESTOBS_NSEC", other.to_nsec())
    monkeypatch.setenv("NESTOBS_LIVEKIT_API_KEY", "env-key")
    monkeypatch.setenv("NESTOBS_LIVEKIT_API_SECRET", "env-secret")
    monkeypatch.setenv("NESTOBS_VANTAGE", "train")
    config = Config(file)
    target = config.target("one")
    assert (target.livekit_key, target.livekit_secret, target.vantage) == ("env-key", "env-secret", "train")
    assert config.keyring("one").operator == other


def test_the_file_is_named_by_flag_before_environment_before_the_present_folder(file, tmp_path, monkeypatch):
    Path("nestobs.toml").write_text(TWO)
    assert list(Config().file.targets) == ["two"]
    monkeypatch.setenv("NESTOBS_CONFIG", str(file))
    assert list(Config().file.targets) == ["one"]
    (tmp_path / "third.toml").write_text(TWO.replace("two", "three"))
    assert list(Config(tmp_path / "third.toml").file.targets) == ["three"]


def test_paths_in_the_file_are_relative_to_the_file(file, keys):
    config = Config(file)
    assert config.store(None) == file.parent / "rows"
    assert config.keyring("one").operator == keys


def test_absolute_paths_and_the_home_folder_are_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for text, path in ((str(tmp_path / "rows"), tmp_path / "rows"), ("~/rows", tmp_path / "rows")):
        Path("nestobs.toml").write_text(f'store = "{text}"\n')
        assert Config().store(None) == path


def test_a_lone_target_needs_no_name(file, keys):
    assert Config(file).target(None).name == "one"


def test_a_lone_target_that_was_not_named_brings_its_key_too(file, keys):
    """Else a nest is silently hosted by a fresh key although the file names one."""
    assert Config(file).keyring(None).operator == keys


def test_two_targets_need_a_name(file):
    file.write_text(FILE + TWO)
    with pytest.raises(UsageError, match="--target"):
        Config(file).target(None)


def test_an_unknown_target_lists_the_known_ones_and_the_file(file):
    file.write_text(FILE + TWO)
    with pytest.raises(ConfigError, match=r"'three' is unknown in .*nestobs\.toml \(known: one, two\)"):
        Config(file).target("three")


def test_no_secret_shows_in_any_repr(file, monkeypatch, keys):
    monkeypatch.setenv("NESTOBS_NSEC", keys.to_nsec())
    monkeypatch.setenv("NESTOBS_LIVEKIT_API_KEY", "env-key")
    monkeypatch.setenv("NESTOBS_LIVEKIT_API_SECRET", "env-secret")
    config = Config(file)
    things = [config, config.environment, config.file, config.target("one"), config.keyring("one"), vars(config)]
    monkeypatch.delenv("NESTOBS_LIVEKIT_API_KEY")
    monkeypatch.delenv("NESTOBS_LIVEKIT_API_SECRET")
    things.append(Config(file).target("one"))
    shown = "".join(repr(thing) + str(thing) for thing in things)
    for secret in (keys.to_nsec(), "env-secret", "file-secret"):
        assert secret not in shown


WRONG_FILES = [
    ('livekit_keys_file = "keys"', b"one-secret-word"),
    ('livekit_keys_file = "keys"', b"key:"),
    ('livekit_keys_file = "keys"', b"secret-\xff\xfe"),
    ('nsec_file = "keys"', b"secret-nsec1garbage"),
    ('nsec_file = "keys"', b""),
]


@pytest.mark.parametrize(("line", "content"), WRONG_FILES)
def test_a_key_file_that_holds_no_key_is_an_error_without_its_content(line, content):
    Path("nestobs.toml").write_text(f"{TWO}{line}\n")
    Path("keys").write_bytes(content)
    with pytest.raises(NestobsError) as caught:  # noqa: PT012 - either of the two reads it
        Config().target("two")
        Config().keyring("two")
    said = str(caught.value)
    assert "secret-" not in said
    assert "one-secret-word" not in said
    assert "keys" in said
    assert caught.value.exit_code == 2


def test_a_value_of_the_file_is_not_repeated_when_it_is_wrong():
    Path("nestobs.toml").write_text(TWO + 'nsec = "nsec1secret"\n')
    with pytest.raises(ConfigError) as caught:
        Config()
    assert "nsec1secret" not in str(caught.value)
    assert "targets.two.nsec" in str(caught.value)


def test_an_empty_variable_is_no_key(monkeypatch):
    monkeypatch.setenv("NESTOBS_NSEC", "")
    assert Config().keyring().operator is None


def test_blanks_around_a_key_do_no_harm(monkeypatch, keys):
    monkeypatch.setenv("NESTOBS_NSEC", f" {keys.to_nsec()}\n")
    assert Config().keyring().operator == keys


def test_the_environment_is_read_when_asked_and_not_at_import(monkeypatch, keys):
    assert Config().keyring().operator is None
    monkeypatch.setenv("NESTOBS_NSEC", keys.to_nsec())
    assert Config().keyring().operator == keys


def test_the_files_the_lab_writes_are_read(open_lab):
    async def work():
        async with open_lab("calm", "slow-relay", vantages=2) as lab:
            return lab.info

    info = asyncio.run(work())
    path = Path(info["files"]["config"])
    config = Config(path)
    assert list(config.file.targets) == ["calm", "calm-b", "slow-relay", "slow-relay-b"]
    for name in config.file.targets:
        target = config.target(name)
        way = info["scenarios"][name.removesuffix("-b")]["vantages"][1 if name.endswith("-b") else 0]
        assert (target.api, target.relays, target.livekit) == (way["api"], tuple(way["relays"]), way["livekit"])
        assert target.vantage == way["name"]
        assert target.livekit_key
        assert target.livekit_secret
        assert target.livekit_secret not in path.read_text()


def test_the_example_in_the_modules_words_is_a_configuration():
    import nestobs.config

    lines = (nestobs.config.__doc__ or "").splitlines()
    text = "\n".join(line for line in lines if line.startswith("    "))
    assert list(tomllib.loads(text)["targets"]) == ["production"]
    Path("nestobs.toml").write_text(text)
    assert Config().file.targets["production"].control == "example.org:443"


NO_CONFIGURATION = {
    "a deep array": b"store = " + b"[" * 50_000 + b"]" * 50_000,
    "deep inline tables": b"store = " + b"{a = " * 5_000 + b"1" + b"}" * 5_000,
    "a deep key": b".".join([b"a"] * 40_000) + b" = 1",
    "a deep header": b"[" + b".".join([b"a"] * 40_000) + b"]",
    "deep keys below the bound": (b".".join([b"a"] * 400) + b" = 1\n") * 2,
    "five thousand digits": b"store = " + b"9" * 5_000,
    "a long hexadecimal": b"store = 0x" + b"f" * 50_000,
    "an infinite number": b"store = inf",
    "a date that is none": b"store = 0000-00-00T99:99:99Z",
    "year 1 ahead of UTC": b"store = 0001-01-01T00:00:00+23:59",
    "utf-16": 'store = "x"'.encode("utf-16"),
    "a null byte": b'store = "a\0b"',
    "half a character": b'store = "\xed\xa0\x80"',
    "a lone surrogate": b'store = "\\ud800"',
    "a megabyte": b"# " + b"x" * 1_000_000,
    "many tables": b"".join(b"[a%d]\n" % i for i in range(9_000)),
    "open to the end": b'store = """' + b"x\n" * 40_000,
}


@pytest.mark.parametrize("content", NO_CONFIGURATION.values(), ids=NO_CONFIGURATION)
def test_whatever_a_file_holds_it_is_a_configuration_or_an_error_in_a_sentence(tmp_path, content):
    path = tmp_path / "nestobs.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"nestobs\.toml") as said:
        Config(path)
    assert "\n" not in str(said.value)
    assert len(str(said.value)) < 2_000


def test_a_file_that_an_editor_begins_with_a_mark_is_read(tmp_path):
    path = tmp_path / "nestobs.toml"
    path.write_bytes(b"\xef\xbb\xbf" + TWO.encode())
    assert list(Config(path).file.targets) == ["two"]


@pytest.mark.parametrize("name", ["/dev/zero", ".", "a\0b", "\ud800", "x" * 5_000], ids=ascii)
def test_what_is_no_file_is_told(name):
    with pytest.raises(ConfigError):
        Config(Path(name))


@pytest.mark.parametrize("name", ["/dev/zero", ".", "a\0b", "x" * 5_000], ids=ascii)
def test_a_key_file_that_is_none_is_told(tmp_path, name, monkeypatch):
    path = tmp_path / "nestobs.toml"
    path.write_text(f'[targets.one]\napi = "http://h"\nrelays = ["ws://h"]\nnsec_file = {json.dumps(name)}\n')
    with pytest.raises(ConfigError, match="key file"):
        Config(path).keyring("one")


@pytest.mark.parametrize(
    ("table", "words"),
    [
        pytest.param("wach = true", "run.wach is no known key", id="a spelling"),
        pytest.param('[run.canaries]\nevery = "3 hours"', "is no duration", id="no duration"),
        pytest.param('[run.canaries]\nevery = "10s"', "is not from", id="too often"),
        pytest.param('[run.canaries]\nevery = "1w"', "is not from", id="too seldom"),
        pytest.param('[run.canaries]\nevery = "1h"\njitter = "40m"', "two bursts could meet", id="jitter"),
        pytest.param('[run.canaries]\nevery = "2m"\nhorizon = "90s"', "two bursts could meet", id="horizon"),
        pytest.param("[run.canaries]\ncount = 0", "run.canaries.count: ", id="none"),
        pytest.param('[run.canaries]\npolicy = "hope"', "policy 'hope' is unknown", id="policy"),
        pytest.param('[run.fleet]\nhost = "npub1x"', "neither an npub nor 64 hex digits", id="no key"),
        pytest.param('[run.fleet]\njoin = "both"', "run.fleet.host: Field required", id="no host"),
        pytest.param(f'[run.fleet]\nhost = "{"ab" * 32}"\njoin = "all"', "run.fleet.join: ", id="no joiners"),
        pytest.param('[run.reports]\nat = "24:00"', "is no hour: write it as 00:20", id="no hour"),
        pytest.param("[run.reports]\nat = 20", "run.reports.at: ", id="a number for an hour"),
        pytest.param("[run.reports]\nnames = []", "run.reports.names: ", id="no report"),
        pytest.param('[run.keep]\nstore = "1h"', "is not from", id="to keep next to nothing"),
        pytest.param('ship = "s3://me:horse@b/x"', "holds a password", id="a secret in a URL"),
        pytest.param("ship = 5", "write a folder, or a URL", id="no place"),
        pytest.param('listen = "9464"', "is no address", id="a port alone"),
        pytest.param('listen = "localhost:99999"', "is no address", id="no port"),
        pytest.param("listen = 9464", "is no address", id="a number for an address"),
    ],
)
def test_a_plan_that_cannot_be_is_one_sentence(tmp_path, table, words):
    (tmp_path / "nestobs.toml").write_text(f"[run]\n{table}\n")
    with pytest.raises(ConfigError) as error:
        Config(tmp_path / "nestobs.toml")
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("join", "joiners"), [("both", (True, False)), ("guest", (False,)), ("none", ())])
def test_a_service_can_watch_for_a_fleet(tmp_path, join, joiners):
    target = '[targets.one]\napi = "http://h/api"\nrelays = ["ws://h"]\n'
    keys = Keys.generate().public
    text = f'{target}[run.fleet]\nhost = "{keys}"\njoin = "{join}"\nhorizon = "20s"\n'
    (tmp_path / "nestobs.toml").write_text(text)
    settings = Config(tmp_path / "nestobs.toml").service()[1]
    assert settings.fleet == Fleet(host=keys, horizon_s=20.0, joiners=joiners)
    assert (settings.joins is None) == (join == "none")


def test_a_service_that_watches_nothing_watches_for_no_fleet(tmp_path):
    target = '[targets.one]\napi = "http://h/api"\nrelays = ["ws://h"]\n'
    fleet = f'[run]\nwatch = false\n[run.canaries]\n[run.fleet]\nhost = "{Keys.generate().public}"\n'
    (tmp_path / "nestobs.toml").write_text(target + fleet)
    with pytest.raises(ConfigError, match=r"\[run.fleet\]"):
        Config(tmp_path / "nestobs.toml").service()


# the folders of a desktop


@pytest.fixture
def desktop(tmp_path, monkeypatch):
    """A home without any state, and folders of its own for everything."""
    monkeypatch.delenv("NESTOBS_STATE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_state_is_where_the_desktop_keeps_it(desktop):
    _, name = Config().keyring().host("0123456789abcdef")
    assert (desktop / "state" / "nestobs" / "keys" / name).is_file()
    assert Config().budgets == desktop / "state" / "nestobs" / "budgets"
    assert not (desktop / "home").exists()


@pytest.mark.parametrize("value", ["", "relative/state", "~/state"])
def test_a_folder_that_is_not_absolute_is_passed_over(value, desktop, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", value)
    assert Config().budgets == desktop / "home" / ".local" / "state" / "nestobs" / "budgets"


def test_keys_of_before_the_desktops_folder_was_heeded_are_found_and_their_place_stays_in_use(desktop, monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME")
    made, name = Config().keyring().host("0123456789abcdef", api="http://h", store="s")
    monkeypatch.setenv("XDG_STATE_HOME", str(desktop / "state"))
    keyring = Config().keyring()
    assert keyring.find(name) == made
    assert [file.name for file in keyring.files()] == [name]
    with keyring.held(name) as held:
        assert held
    keyring.host("fedcba9876543210")
    assert not (desktop / "state").exists()
    assert Config().budgets.parent == desktop / "home" / ".local" / "state" / "nestobs"


def test_where_both_places_hold_keys_all_are_found_and_can_be_forgotten(desktop, monkeypatch):
    newer, one = Config().keyring().host("0123456789abcdef")
    monkeypatch.delenv("XDG_STATE_HOME")  # as under cron
    older, other = Config().keyring().host("fedcba9876543210")
    monkeypatch.setenv("XDG_STATE_HOME", str(desktop / "state"))
    keyring = Config().keyring()
    assert (keyring.find(one), keyring.find(other)) == (newer, older)
    assert {file.name for file in keyring.files()} == {one, other}
    for name in (one, other):
        with keyring.held(name) as held:
            assert held
        keyring.forget(name)
        assert keyring.find(name) is None
    assert keyring.files() == []


def test_a_state_folder_that_is_named_goes_before_all(desktop, monkeypatch, tmp_path):
    (desktop / "home" / ".local" / "state" / "nestobs").mkdir(parents=True)
    monkeypatch.setenv("NESTOBS_STATE_DIR", str(tmp_path / "named"))
    assert Config().state == (tmp_path / "named",)


def test_the_desktops_configuration_is_read_where_there_is_none_here(desktop, monkeypatch):
    folder = desktop / "config" / "nestobs"
    folder.mkdir(parents=True)
    (folder / "nestobs.toml").write_text('store = "rows"\n' + TWO)
    assert Config().target("two").api == "https://two.example"
    assert Config().store(None) == folder / "rows"
    Path("nestobs.toml").write_text(TWO.replace("two", "three"))
    assert list(Config().file.targets) == ["three"]
    with pytest.raises(ConfigError, match="none\\.toml"):
        Config(Path("none.toml"))


def test_children_know_the_desktops_folders(desktop):
    from nestobs.config import plain_environment

    assert plain_environment()["XDG_STATE_HOME"] == str(desktop / "state")
