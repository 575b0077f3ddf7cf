"""The command line as its users meet it: every mistake one sentence, every command its exit code, stdout the result's.

Most runs are `main()` in this process, against a lab in a thread of its own; a handful are real processes.
"""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

import nestobs
from nestobs.lab.scenario import read_scenario
from nestobs.nostr import ROOM_KIND, Address, Keys, write_naddr
from nestobs.observation.schema import Observation, Operation, Outcome, Source
from nestobs.store.reader import Store
from nestobs.timeline.intervals import SCHEMA
from worlds.command_line import (
    GOLDEN,
    SECOND_NS,
    STARTING,
    WRITE_GOLDEN,
    Host,
    LabBeside,
    Said,
    clear_environment,
    here,
    is_one_sentence,
    now_s,
    process,
    raw_controls,
)

COMMANDS = (
    "demo", "lab", "doctor", "canary", "watch", "join", "ready", "timeline", "live", "export",
    "tune", "replay", "prove", "policy", "report",
)  # fmt: skip
NOBODY = ("--api", "http://127.0.0.1:9/api/v1/nests", "--relay", "ws://127.0.0.1:9")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and no variable of the developer's own."""
    clear_environment(monkeypatch, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabBeside]:
    starting = read_scenario(STARTING, name="starting", where="starting.toml")
    scenarios = ["calm", "rate-limited", starting]
    directory = tmp_path_factory.mktemp("lab")
    with LabBeside(scenarios, directory, vantages=2, delay_scale=0.3) as running:
        yield running


@pytest.fixture
def taken() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """`run("ready", room, …)`: the command in this process."""

    return partial(here, capsys)


@pytest.fixture(scope="module")
def observed(lab: LabBeside, tmp_path_factory: pytest.TempPathFactory) -> tuple[Said, Path]:
    """What a canary of two nests from two vantages said, and its store."""
    store = tmp_path_factory.mktemp("observed") / "store"
    with pytest.MonkeyPatch.context() as patch:
        clear_environment(patch, store.parent)
        words = ("--also", "calm-b", "--count", "2", "--horizon", "3s", "--every", "100ms", "--seed", "1", "--json")
        return process("canary", *lab.target("calm"), "--store", str(store), *words), store


def _row(number: int) -> Observation:
    return Observation(
        observation_id=f"id-{number}",
        run_id="run",
        vantage="here",
        source=Source.API,
        target="http://h/api/v1/nests",
        operation=Operation.INFO,
        sent_at=now_s() * SECOND_NS,
        received_at=now_s() * SECOND_NS + 1,
        outcome=Outcome.VISIBLE,
        status=200,
    )


@pytest.fixture
def stored(home: Path) -> Path:
    """./nestobs-data with three rows."""
    with Store.open(home / "nestobs-data").writer() as writer:
        writer.append([_row(number) for number in range(3)])
    return home / "nestobs-data"


# help


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_as_written_down(command, monkeypatch, run):
    """Regenerate with NESTOBS_WRITE_GOLDEN=1 and read the difference."""
    monkeypatch.setenv("COLUMNS", "100")
    said = run(*command.split(), "--help")
    file = GOLDEN / f"help-{command or 'nestobs'}.txt"
    if WRITE_GOLDEN:
        file.write_text(said.out, "utf-8")
    assert said.code == 0
    assert said.err == ""
    assert said.out == file.read_text("utf-8")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_documents_the_exit_codes(command, run):
    said = run(*command.split(), "--help").out
    assert "exit codes:" in said
    assert [code for code in ("0", "1", "2", "3", "4", "5", "130") if not re.search(rf"^  {code}  ", said, re.M)] == []


def test_the_list_of_commands_is_complete(run):
    said = run("--help").out
    assert re.findall(r"^    (\w+)  ", said, re.M) == list(COMMANDS)


def test_help_imports_nothing_heavy():
    code = "import sys; from nestobs.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print('\\n', sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"'(\w+)'", loaded.splitlines()[-1]))
    heavy = "asyncio httpx pandas numpy pyarrow pydantic pydantic_settings nostr_sdk websockets aiohttp livekit rich"
    heavy += " plotly papermill jinja2 sqlite3 click"
    assert names & set(heavy.split()) == set()


def test_no_command_at_all_is_a_usage_error(run):
    said = run()
    assert said.code == 2
    assert "COMMAND" in said.err


def test_the_version_is_told(run):
    assert run("--version").out == f"nestobs {nestobs.__version__}\n"


# words that are wrong


def test_an_unknown_target_lists_the_known_ones(home, run):
    (home / "nestobs.toml").write_text(
        '[targets.one]\napi="http://h"\nrelays=["ws://h"]\n[targets.two]\napi="x"\nrelays=[]'
    )
    is_one_sentence(run("canary", "--count", "1", "--target", "three"), 2, "'three'", "one, two", "--api")


def test_without_a_target_the_ways_to_name_one_are_told(run):
    for words in (("canary", "--count", "1"), ("watch",), ("join", "room"), ("ready", "room")):
        is_one_sentence(run(*words), 2, "--target", "nestobs.toml", "--relay")


def test_a_target_without_relays_is_told_so_and_not_that_there_is_no_target(home, run):
    (home / "nestobs.toml").write_text('[targets.one]\napi = "http://h/api/v1/nests"\nrelays = []\n')
    said = run("ready", "room", "--target", "one")
    is_one_sentence(said, 2, "relay")
    assert "no target" not in said.err


@pytest.mark.parametrize(
    "address",
    [
        "",
        "naddr1",
        "naddr1qqqqq",
        "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5",
        "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg",
        "30312:abc:room",
        "30311:" + "a" * 64 + ":room",
        "30312:" + "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e" + ":",
        "a room",
        "../../health",
        "room\x1b[2J",
        "r" * 300,
    ],
)
@pytest.mark.parametrize("command", ["join", "ready"])
def test_a_malformed_address_is_refused_before_anything_is_asked(command, address, run, home):
    said = run(command, *NOBODY, "--", address)
    is_one_sentence(said, 2)
    assert raw_controls(said.err) == []
    assert "nsec1" not in said.err
    assert not (home / "nestobs-data").exists()


def test_a_malformed_address_of_a_timeline_is_refused(stored, run):
    is_one_sentence(run("timeline", "a room"), 2, "naddr")


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "ftp://host/api/v1/nests",
        "http:///api/v1/nests",
        "http://[::1/api/v1/nests",
        "http://127.0.0.1:99999/api/v1/nests",
        "http://127.0.0.1:port/api/v1/nests",
    ],
)
def test_a_malformed_api_address_is_refused(url, run):
    is_one_sentence(run("ready", "room", "--api", url, "--relay", "ws://127.0.0.1:9"), 2, "http")


@pytest.mark.parametrize(
    "url", ["nonsense", "http://127.0.0.1:9", "ws://", "ws://[::1", "ws://127.0.0.1:99999", "ws://a b"]
)
def test_a_malformed_relay_address_is_refused(url, run):
    is_one_sentence(run("ready", "room", *NOBODY[:2], "--relay", url), 2, "wss://")


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "ws://", "ws://[::1", "ws://127.0.0.1:99999"])
def test_a_malformed_livekit_address_is_refused(url, run):
    is_one_sentence(run("ready", "room", *NOBODY, "--livekit", url), 2, "wss://")


@pytest.mark.parametrize("flag", ["--api", "--relay", "--livekit"])
def test_a_password_in_an_address_is_refused_and_not_repeated(flag, run, home):
    scheme = "http" if flag == "--api" else "ws"
    flags = dict(zip(NOBODY[::2], NOBODY[1::2], strict=True)) | {
        flag: f"{scheme}://me:pass1234@127.0.0.1:9/api/v1/nests"
    }
    said = run("ready", "room", *(word for pair in flags.items() for word in pair))
    assert "pass1234" not in said.out + said.err
    journal = home / "nestobs-data" / "journal.sqlite"
    kept = Store.open("nestobs-data").observations() if journal.exists() else ()
    assert "pass1234" not in "".join(map(repr, kept))
    is_one_sentence(said, 2)


@pytest.mark.parametrize("text", ["targets = [", "\x00", "[targets.a", "store = ", 'a = "\n"'])
def test_a_configuration_that_is_no_toml_is_named(text, home, run):
    (home / "nestobs.toml").write_text(text)
    is_one_sentence(run("ready", "room", *NOBODY), 2, "nestobs.toml", "TOML")


def test_a_configuration_that_is_no_text_is_named(home, run):
    (home / "nestobs.toml").write_bytes(b"\xff\xfe\x00")
    is_one_sentence(run("ready", "room", *NOBODY), 2, "nestobs.toml")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("sotre = 'x'", "sotre"),
        ("[targets.a]\napi='x'\nrelays=[]\nnsec='x'", "targets.a.nsec"),
        ("[targets.a]\nrelays=[]", "targets.a.api"),
        ("[targets.a]\napi=1\nrelays=[]", "targets.a.api"),
        ("[targets.a]\napi='x'\nrelays='ws://h'", "targets.a.relays"),
    ],
)
def test_an_unknown_or_wrong_key_of_the_configuration_is_named(text, key, home, run):
    (home / "nestobs.toml").write_text(text)
    is_one_sentence(run("doctor"), 2, "nestobs.toml", key)


def test_a_configuration_named_but_missing_is_told(run, monkeypatch):
    is_one_sentence(run("doctor", "--config", "none.toml"), 2, "none.toml", "--config")
    monkeypatch.setenv("NESTOBS_CONFIG", "neither.toml")
    is_one_sentence(run("doctor"), 2, "neither.toml", "NESTOBS_CONFIG")


def test_a_control_address_that_is_none_is_told(home, run):
    (home / "nestobs.toml").write_text(
        '[targets.a]\napi="http://127.0.0.1:9"\nrelays=["ws://127.0.0.1:9"]\ncontrol="x"'
    )
    is_one_sentence(run("ready", "room"), 2, "host:port")


@pytest.mark.parametrize("words", ["", "x", "-1", "0", "inf", "nan", "5 parsecs", "1e400", "5m5", "٣s!"])
def test_a_duration_that_is_none_is_explained(words, run):
    said = run("canary", "--count", "1", *NOBODY, f"--horizon={words}")
    assert said.code == 2
    assert "--horizon" in said.err
    assert "write 90s, 5m or 2h" in said.err


@pytest.mark.parametrize("words", ["", "x", "-1", "1.5", "100001", "²", "1e3"])
def test_a_count_that_is_none_is_explained(words, run):
    said = run("canary", *NOBODY, f"--count={words}")
    assert said.code == 2
    assert "--count" in said.err
    assert "whole number" in said.err


@pytest.mark.parametrize("policy", ["", "nope", "fixed(-1)", "fixed(nan)", "fixed(x)", "exponential(0)", "guide()"])
@pytest.mark.parametrize("words", [("join", "room"), ("canary", "--count", "1"), ("watch", "--join", "guest")])
def test_an_unknown_policy_is_refused(policy, words, run, home):
    said = run(*words, *NOBODY, f"--policy={policy}")
    assert said.code == 2, said
    is_one_sentence(said, 2)


def test_an_unknown_scenario_lists_the_known_ones(run):
    is_one_sentence(run("lab", "--scenario", "nope"), 2, "'nope'", "calm", "slow-api")
    is_one_sentence(run("lab", "--scenario", "nope.toml"), 2, "nope.toml")


def test_a_scenario_file_that_is_no_text_or_no_toml_is_named(home, run):
    (home / "odd.toml").write_bytes(b"\xff\xfe")
    is_one_sentence(run("lab", "--scenario", "odd.toml"), 2, "odd.toml")
    (home / "bad.toml").write_text("[api")
    is_one_sentence(run("lab", "--scenario", "bad.toml"), 2, "bad.toml")
    (home / "folder.toml").mkdir()
    is_one_sentence(run("lab", "--scenario", "folder.toml"), 2, "folder.toml")


@pytest.mark.parametrize("scale", ["-1", "nan", "inf"])
def test_a_delay_scale_that_is_none_is_refused(scale, run, home):
    """The folder that cannot be made keeps a lab that takes such a scale from running for ever."""
    (home / "file").write_text("")
    is_one_sentence(run("lab", "--stand-in", "--delay-scale", scale, "--dir", "file/lab"), 2, "delay")


@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_cannot_be_is_refused(port, run):
    said = run("lab", "--stand-in", f"--api-port={port}")
    assert said.code == 2
    assert "port" in said.err
    assert said.err.splitlines()[-1].startswith("nestobs")


def test_a_lab_folder_that_is_a_file_is_told(home, run):
    (home / "file").write_text("mine")
    is_one_sentence(run("lab", "--stand-in", "--dir", "file"), 2, "file")


def test_a_demo_folder_that_is_a_file_or_not_the_demos_is_left_alone(home, run):
    (home / "file").write_text("mine")
    is_one_sentence(run("demo", "--out", "file"), 2, "--out")
    (home / "folder").mkdir()
    (home / "folder" / "thesis.txt").write_text("mine")
    is_one_sentence(run("demo", "--out", "folder"), 2, "--out")
    assert (home / "folder" / "thesis.txt").read_text() == "mine"


def test_a_demo_of_too_few_nests_is_refused(run):
    is_one_sentence(run("demo", "--nests", "2"), 2, "at least")


# keys


def test_a_key_that_is_none_is_told_without_the_key(run, monkeypatch):
    monkeypatch.setenv("NESTOBS_NSEC", "garbage-that-may-be-a-secret")
    for words in (("canary", "--count", "1"), ("join", "room")):
        said = run(*words, *NOBODY)
        is_one_sentence(said, 2, "NESTOBS_NSEC")
        assert "garbage" not in said.err + said.out


def test_a_key_file_that_holds_none_is_named_without_the_key(home, run):
    (home / "key.nsec").write_text("garbage-that-may-be-a-secret\n")
    text = '[targets.a]\napi = "http://127.0.0.1:9"\nrelays = ["ws://127.0.0.1:9"]\nnsec_file = "key.nsec"\n'
    (home / "nestobs.toml").write_text(text)
    said = run("canary", "--count", "1", "--target", "a")
    is_one_sentence(said, 2, "key.nsec")
    assert "garbage" not in said.err


def test_a_missing_key_file_is_named(home, run):
    head = '[targets.a]\napi = "http://127.0.0.1:9"\nrelays = ["ws://127.0.0.1:9"]\n'
    for key in ("nsec_file", "livekit_keys_file"):
        (home / "nestobs.toml").write_text(f'{head}{key} = "none.txt"\n')
        is_one_sentence(run("canary", "--count", "1", "--target", "a"), 2, "none.txt", "nestobs.toml")


def test_a_livekit_key_file_of_another_shape_is_named_without_its_words(home, run):
    (home / "keys").write_text("only-one-secret-word")
    text = '[targets.a]\napi = "http://127.0.0.1:9"\nrelays = ["ws://127.0.0.1:9"]\nlivekit_keys_file = "keys"\n'
    (home / "nestobs.toml").write_text(text)
    said = run("canary", "--count", "1", "--target", "a")
    is_one_sentence(said, 2, "keys", "key: secret")
    assert "only-one" not in said.err


@pytest.mark.parametrize("name", ["NESTOBS_LIVEKIT_API_KEY", "NESTOBS_LIVEKIT_API_SECRET"])
def test_only_one_of_livekits_two_variables_is_refused(name, run, monkeypatch):
    monkeypatch.setenv(name, "half-of-a-secret")
    said = run("ready", "room", *NOBODY)
    is_one_sentence(said, 2, "NESTOBS_LIVEKIT_API_KEY", "NESTOBS_LIVEKIT_API_SECRET", "both")
    assert "half-of" not in said.err


def test_a_key_folder_that_cannot_be_written_is_told_before_anything_is_made(lab, run, home, monkeypatch):
    before = lab.made()
    (home / "file").write_text("")
    monkeypatch.setenv("NESTOBS_STATE_DIR", str(home / "file"))
    said = run("canary", "--count", "1", *lab.target("calm"), "--json")
    is_one_sentence(said, 2, "NESTOBS_STATE_DIR")
    assert lab.made() == before


# what does not answer


@pytest.mark.parametrize("words", [("canary", "--count", "1"), ("watch", "--for", "1s")])
def test_an_api_that_does_not_answer_ends_the_run(words, stored, run):
    is_one_sentence(run(*words, *NOBODY), 3, "127.0.0.1:9", "does not answer", "address")
    assert Store.open(stored).count() > 3  # the attempt itself is a row


def test_a_host_that_does_not_resolve_is_told(run):
    said = run(
        "watch", "--for", "1s", "--api", "http://nestobs.invalid/api/v1/nests", "--relay", "ws://nestobs.invalid"
    )
    is_one_sentence(said, 3, "nestobs.invalid", "resolve")


def test_a_plan_beyond_the_budget_is_refused(lab, run, home):
    said = run("canary", "--count", "500", *lab.target("rate-limited"), "--json")
    is_one_sentence(said, 4, "ask for at most 3 nests")
    assert list((home / "state").rglob("*.nsec")) == []


# ports in use


def test_a_port_in_use_stops_the_lab(taken, run):
    is_one_sentence(run("lab", "--stand-in", "--api-port", taken), 2, taken, "in use")


def test_a_webhook_port_in_use_stops_a_canary_before_it_makes_anything(taken, lab, run, home, stored):
    before = lab.made()
    said = run("canary", "--count", "1", "--webhook-port", taken, *lab.target("calm"), "--json")
    is_one_sentence(said, 2, taken)
    assert lab.made() == before
    assert list((home / "state").rglob("*.nsec")) == []
    assert Store.open(stored).count() >= 3
    assert Store.open(stored).ledger() == []


def test_a_webhook_port_in_use_stops_a_watch(taken, lab, run):
    is_one_sentence(run("watch", "--for", "1s", "--webhook-port", taken, *lab.target("calm"), "--json"), 2, taken)


def test_webhooks_without_livekits_key_are_refused(lab, run):
    way = lab.way("calm")
    said = run(
        "watch", "--for", "1s", "--webhook-port", "0", "--api", way["api"], "--relay", way["relays"][0], "--json"
    )
    is_one_sentence(said, 2, "key and secret")


# stores that cannot be used

WRITERS = [("canary", "--count", "1"), ("watch", "--for", "1s"), ("join", "room"), ("ready", "room")]
READERS = [("timeline",), ("export", "--csv", "x.csv"), ("export", "--parquet", "x.parquet", "--timelines")]


@pytest.mark.parametrize("words", WRITERS + READERS)
def test_a_store_that_is_a_file_is_left_alone(words, home, run):
    (home / "file").write_text("mine")
    target = NOBODY if words in WRITERS else ()
    is_one_sentence(run(*words, *target, "--store", "file"), 5, "file", "--store")
    is_one_sentence(run(*words, *target, "--store", "file/below"), 5, "file/below", "--store")
    assert (home / "file").read_text() == "mine"


@pytest.mark.parametrize("words", WRITERS + READERS)
def test_another_programs_database_is_left_alone(words, home, run):
    (home / "theirs").mkdir()
    connection = sqlite3.connect(home / "theirs" / "journal.sqlite")
    connection.executescript("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")
    connection.close()
    before = (home / "theirs" / "journal.sqlite").read_bytes()
    is_one_sentence(run(*words, *(NOBODY if words in WRITERS else ()), "--store", "theirs"), 5, "theirs", "--store")
    assert (home / "theirs" / "journal.sqlite").read_bytes() == before


@pytest.mark.parametrize("words", READERS)
def test_reading_a_store_that_is_not_there_makes_none(words, home, run):
    is_one_sentence(run(*words), 5, "nestobs-data", "--store")
    assert sorted(home.iterdir()) == []


@pytest.mark.parametrize("words", WRITERS)
def test_a_store_that_another_process_writes_is_told_with_its_number(words, stored, run):
    with Store.open(stored).writer():
        is_one_sentence(run(*words, *NOBODY), 5, str(os.getpid()), "--store")
    assert Store.open(stored).count() == 3


def test_a_store_is_read_while_another_process_writes_it(stored, run):
    with Store.open(stored).writer():
        assert run("timeline").code == 0
        assert run("export", "--csv", "x.csv").code == 0


def test_a_file_that_cannot_be_written_is_told(stored, home, run):
    (home / "file").write_text("mine")
    for flag in ("--csv", "--parquet"):
        is_one_sentence(run("export", flag, "file/x"), 5, "file/x")
        is_one_sentence(run("export", flag, "none/x"), 5, "none/x")
        is_one_sentence(run("export", flag, "."), 2, "name the file")
    assert (home / "file").read_text() == "mine"


def test_rows_written_survive_every_mistake(stored, run, monkeypatch):
    for words in (
        ("canary", "--count", "1", *NOBODY),
        ("canary", "--count", "1", *NOBODY, "--policy", "nope"),
        ("join", "naddr1", *NOBODY),
        ("watch", "--target", "nope"),
    ):
        assert run(*words).code in (2, 3)
    assert {f"id-{number}" for number in range(3)} <= {row.observation_id for row in Store.open(stored).observations()}


# the same as processes


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("canary", "--count", "1", *NOBODY), 3),
        (("ready", "naddr1xx", *NOBODY), 2),
    ],
)
def test_a_mistake_is_one_sentence_of_a_real_process_too(words, code):
    is_one_sentence(process(*words), code)


@pytest.mark.parametrize("words", [("timeline", "--json", "--store", "{store}"), ("lab", "--list")])
def test_a_reader_that_goes_away_ends_a_command_quietly(words, observed, monkeypatch):
    """Whether the answer is longer than a buffer or only leaves it at the end."""
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    command = [sys.executable, "-m", "nestobs", *(word.format(store=observed[1]) for word in words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.close()
        said = writer.stderr.read()
        assert (writer.wait(30), said) == (1, "")


# canary


def test_a_canary_says_its_result_as_json_and_nothing_else(observed, lab):
    said, store = observed
    assert said.code == 0, said
    assert said.err == ""
    assert said.data["nests"] == 2
    assert said.data["left"] == []
    assert len(said.data["rooms"]) == 2
    assert sum(said.data["verdicts"].values()) == 8  # two joins a nest and vantage
    assert not set(said.data["rooms"]) & set(lab.nests())
    assert not set(said.data["rooms"]) & set(lab.rooms())
    assert Store.open(store).ledger() == []


def test_a_canary_looks_from_each_vantage(observed):
    rows = list(Store.open(observed[1]).observations())
    assert {row.vantage for row in rows} == {"Computer A", "Computer B"}
    assert {row.run_id for row in rows} == {observed[0].data["run_id"]}


def test_a_canarys_own_key_is_gone_when_all_is_deleted(observed):
    assert list(observed[1].parent.rglob("*.nsec")) == []


def test_no_key_and_no_token_reaches_the_store(observed, lab):
    key, _, secret = Path(lab.config).with_name("livekit-keys.txt").read_text().strip().partition(": ")
    raw = b"".join(path.read_bytes() for path in observed[1].rglob("*") if path.is_file())
    assert key
    for word in (secret.encode(), b"nsec1", b"Nostr ey", b"access_token", b"eyJhbGciOi"):
        assert word not in raw


def test_a_canary_tells_its_plan_and_result_in_words(lab, run):
    words = ("--count", "1", "--horizon", "1s", "--policy", "guide")
    said = run("canary", *lab.target("calm"), *words)
    assert said.code == 0
    assert said.out.startswith("made 1 nests, 0 refused; joins: ")
    assert "polls of each API layer" in said.err
    assert raw_controls(said.out + said.err) == []


def test_a_canary_of_none_only_cleans_up(lab, run):
    before = lab.made()
    said = run("canary", "--count", "0", *lab.target("calm"), "--json")
    assert said.code == 0
    assert said.data["nests"] == 0
    assert lab.made() == before


def test_a_canary_whose_nests_are_all_refused_says_no(lab, run):
    fault = lab._lab.api["calm"].fault
    fault.status = 503
    try:
        said = run("canary", "--count", "1", "--horizon", "1s", *lab.target("calm"), "--json")
    finally:
        fault.status = None
    assert said.code == 1
    assert said.data["nests"] == 0
    assert said.data["refused"] == 1


# timeline


def test_timelines_of_all_nests_are_json(observed, run):
    said = run("timeline", "--store", str(observed[1]), "--json")
    assert said.code == 0
    rows = [row for row in said.data if row["room"] in observed[0].data["rooms"]]
    assert {row["room"] for row in rows} == set(observed[0].data["rooms"])
    assert {row["vantage"] for row in rows} == {"Computer A", "Computer B"}
    layers = {row["layer"].partition(":")[0] for row in rows}
    assert layers == {"relay", "api", "livekit", "client"}
    assert set(rows[0]) == {column.name for column in SCHEMA}


def test_timelines_as_json_are_the_frames_of_python(observed, run):
    frame = nestobs.timelines(observed[1])
    rows = run("timeline", "--store", str(observed[1]), "--json").data
    assert len(rows) == len(frame)
    finite = frame[~frame["right_censored"]].iloc[0]
    row = next(r for r in rows if all(r[name] == finite[name] for name in ("room", "layer", "vantage")))
    assert row["upper_s"] == pytest.approx(finite["upper_s"])
    assert pd.Timestamp(row["origin_at"]) == pytest.approx(finite["origin_at"], abs=pd.Timedelta("1ms"))


def test_one_nest_is_asked_for_by_any_of_its_names(observed, run):
    store, room = str(observed[1]), observed[0].data["rooms"][0]
    nest = next(row["nest"] for row in run("timeline", "--store", store, "--json").data if row["room"] == room)
    _, pubkey, _ = nest.split(":")
    names = [room, nest, write_naddr(Address(ROOM_KIND, pubkey, room))]
    answers = [run("timeline", name, "--store", store, "--json").data for name in names]
    assert {row["room"] for row in answers[0]} == {room}
    assert answers[0] == answers[1] == answers[2]


def test_the_address_of_somebody_elses_nest_with_the_same_room_is_another_nest(observed, run):
    stranger = Keys.generate().public
    said = run("timeline", f"30312:{stranger}:{observed[0].data['rooms'][0]}", "--store", str(observed[1]), "--json")
    assert said.data == []


def test_timelines_in_words_tell_relays_apart_in_a_narrow_terminal(observed, lab, run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = run("timeline", observed[0].data["rooms"][0], "--store", str(observed[1]))
    assert said.code == 0
    ports = {relay.rstrip("/").rpartition(":")[2] for relay in lab.way("calm")["relays"]}
    assert [port for port in ports if port not in said.out] == []


def test_timelines_in_words_show_each_layer_and_interval(observed, run):
    said = run("timeline", observed[0].data["rooms"][0], "--store", str(observed[1]))
    assert said.code == 0
    assert said.out.count("api:info") == 2
    assert re.search(r"\(\d+\.\d\d, \d+\.\d\d\]", said.out)
    assert observed[0].data["rooms"][1] not in said.out


def test_a_nest_that_the_store_does_not_know_is_told_so(observed, run):
    said = run("timeline", "no-such-room", "--store", str(observed[1]))
    assert said.code in (0, 1)
    assert "no-such-room" in said.out + said.err
    assert "the store holds no observation of a nest" not in said.out


def test_an_empty_store_has_no_timelines(home, run):
    Store.open(home / "nestobs-data")
    assert run("timeline", "--json").data == []
    assert "no timelines" in run("timeline").out


# export


def test_observations_go_to_parquet_and_come_back_whole(observed, run, home):
    said = run("export", "--parquet", "x.parquet", "--store", str(observed[1]), "--json")
    assert said.code == 0
    frame = Store.open(observed[1]).frame()
    assert said.data == {"file": "x.parquet", "rows": len(frame)}
    pd.testing.assert_frame_equal(pd.read_parquet(home / "x.parquet"), frame, check_dtype=False)


def test_observations_go_to_csv_with_every_row_and_column(observed, run, home):
    assert run("export", "--csv", "x.csv", "--store", str(observed[1])).code == 0
    frame, back = Store.open(observed[1]).frame(), pd.read_csv(home / "x.csv")
    assert list(back.columns) == list(frame.columns)
    assert list(back["observation_id"]) == list(frame["observation_id"])


def test_timelines_are_exported_too(observed, run, home):
    for flag, read in (("--csv", pd.read_csv), ("--parquet", pd.read_parquet)):
        assert run("export", "--timelines", flag, "x", "--store", str(observed[1])).code == 0
        back = read(home / "x")
        assert list(back["layer"]) == list(nestobs.timelines(observed[1])["layer"])


def test_an_export_needs_exactly_one_kind(stored, run):
    assert run("export").code == 2
    assert run("export", "--csv", "a", "--parquet", "b").code == 2


# join, ready


@pytest.fixture(scope="module")
def nest(lab: LabBeside) -> Address:
    """A live nest of somebody else."""
    return Host(lab).open()


def test_a_nest_is_joined_by_its_naddr_by_its_address_and_by_its_room(nest, lab, run):
    for name in (write_naddr(nest), str(nest), nest.identifier):
        said = run("join", name, "--guest", "--stay", "100ms", *lab.target("calm"), "--json")
        assert said.code == 0, said
        assert said.data["verdict"] == "guest"
        assert said.data["joined"] is True
        assert said.data["room"] == nest.identifier
        assert said.data["nest"] == str(nest)
        assert len(said.data["relays"]) == 2
        assert said.err == ""


def test_with_a_key_one_joins_authenticated(nest, lab, run, monkeypatch):
    keys = Keys.generate()
    monkeypatch.setenv("NESTOBS_NSEC", keys.to_nsec())
    said = run("join", str(nest), "--stay", "100ms", *lab.target("calm"), "--json")
    assert said.code == 0
    assert said.data["verdict"] == "authenticated"
    raw = b"".join(path.read_bytes() for path in Path("nestobs-data").rglob("*"))
    assert keys.to_nsec() not in said.out
    assert keys.to_nsec().encode() not in raw


def test_a_guest_joins_as_a_guest_even_where_there_is_a_key(nest, lab, run, monkeypatch):
    monkeypatch.setenv("NESTOBS_NSEC", Keys.generate().to_nsec())
    said = run("join", str(nest), "--guest", "--stay", "100ms", *lab.target("calm"), "--json")
    assert said.data["verdict"] == "guest"


def test_a_join_in_words_says_how_it_went_step_by_step(nest, lab, run):
    said = run("join", str(nest), "--guest", "--stay", "100ms", *lab.target("calm"))
    assert said.code == 0
    assert said.out.startswith("guest")
    assert nest.identifier in said.out
    assert re.search(r"^  guest +visible +200", said.out, re.M)


def test_a_nest_that_is_starting_up_is_not_joined_and_the_user_is_told(lab, run):
    address = Host(lab, "starting").open()
    said = run("join", str(address), "--guest", "--policy", "guide", *lab.target("starting"), "--json")
    assert said.code == 1
    assert said.data["verdict"] == "starting_up"
    assert said.data["joined"] is False
    assert said.data["message"]


def test_a_hostile_event_cannot_act_on_the_terminal_of_who_joins(lab, run):
    host = Host(lab, "starting")
    address = host.announce("quiet-room", status="\x1b[2J\x07\u202eclosed", name="\x1b]0;mine\x07")
    for words in (("join", "--policy", "guide"), ("ready",)):
        said = run(words[0], str(address), *words[1:], *lab.target("starting"))
        assert said.code in (1, 2, 3)
        assert raw_controls(said.out + said.err) == []


@pytest.mark.parametrize("url", ["ws://[::1", "ws://127.0.0.1:99999", "javascript:alert(1)"])
def test_an_event_with_unusable_addresses_does_not_stop_who_joins(url, lab, run):
    way, host = lab.way("calm"), Host(lab)
    address = host.open(streaming=url, service=url)
    flags = [word for relay in way["relays"] for word in ("--relay", relay)]
    said = run("join", str(address), "--guest", "--policy", "guide", "--api", way["api"], *flags, "--json")
    assert said.code in (0, 1)
    assert said.data["verdict"]


def test_a_hostile_room_name_inside_an_naddr_cannot_act_on_the_terminal(lab, run):
    name = write_naddr(Address(ROOM_KIND, Keys.generate().public, "\x1b[2Jroom\u202e\r/../x?y#z"))
    for words in (("join", "--policy", "guide"), ("ready",)):
        said = run(words[0], name, *words[1:], *lab.target("calm"))
        assert said.code in (1, 2, 3)
        assert raw_controls(said.out + said.err) == []


def test_ready_is_0_for_a_live_nest(nest, lab, run):
    for name in (write_naddr(nest), str(nest), nest.identifier):
        said = run("ready", name, *lab.target("calm"), "--json")
        assert said.code == 0
        assert (said.data["code"], said.data["state"]) == (0, "ready")


def test_ready_is_1_for_one_that_is_starting(lab, run):
    said = run("ready", str(Host(lab, "starting").open()), *lab.target("starting"))
    assert said.code == 1
    assert said.out.startswith("not yet: ")
    assert said.err == ""


def test_ready_is_2_for_one_that_is_closed(lab, run):
    said = run("ready", str(Host(lab).announce("closed-room", status="closed")), *lab.target("calm"), "--json")
    assert said.code == 2
    assert said.data["state"] == "gone or closed"


def test_ready_is_2_for_one_that_is_past_the_threshold(lab, run):
    said = run("ready", str(Host(lab).announce("old-room", age_s=40)), *lab.target("calm"), "--json")
    assert said.code == 2
    assert "40" in said.data["why"] or "41" in said.data["why"]


def test_ready_is_3_when_the_api_is_down(nest, lab, run):
    way = lab.way("calm")
    said = run("ready", str(nest), *NOBODY[:2], "--relay", way["relays"][0], "--json")
    assert said.code == 3
    assert said.data["state"] == "cannot tell"
    assert "refused" in said.data["why"]


def test_ready_is_3_for_one_that_nobody_knows(lab, run):
    said = run("ready", "no-such-room", *lab.target("calm"), "--json")
    assert said.code == 3


# doctor, lab


def test_the_doctor_finds_a_sound_target_good(lab, run, home):
    said = run("doctor", *lab.target("calm"), "--json")
    assert said.code == 0, said.out
    states = {check["name"]: check["state"] for check in said.data["checks"]}
    assert {"python", "media", "store", "api", "budget", "clock", "api path", "livekit", "livekit keys"} <= set(states)
    assert set(states.values()) == {"good"}
    assert not (home / "nestobs-data").exists()


def test_the_doctor_finds_a_dead_api_and_secure_words_to_a_plain_port_bad(lab, run):
    secure = lab.way("calm")["relays"][0].replace("ws://", "wss://")
    said = run("doctor", *NOBODY[:2], "--relay", secure)
    assert said.code == 1
    assert said.err == ""
    assert re.search(r"^BAD   api: .*refused", said.out, re.M)
    assert re.search(rf"^BAD   relay {re.escape(secure)}: .*tls", said.out, re.M | re.I)


def test_the_doctor_without_a_target_looks_at_this_machine(run):
    said = run("doctor")
    assert said.code == 0
    assert "note  target: none named" in said.out


def test_the_scenarios_are_listed(run):
    names = run("lab", "--list").out.split()
    assert {"calm", "slow-relay", "slow-api", "api-join-fault", "expired-room", "rate-limited", "never"} <= set(names)
    assert run("lab", "--list", "--json").data == {"scenarios": names}
