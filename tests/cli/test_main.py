"""The command line as its users meet it: help, and mistakes that are one sentence with its exit code.

Most runs are `main()` in this process, against a lab in a thread of its own; a handful are real processes.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys

import pytest

import nestobs
from nestobs.store.reader import Store
from worlds.command_line import NOBODY, is_one_sentence, process

pytestmark = pytest.mark.slow

WRITERS = [("canary", "--count", "1"), ("watch", "--for", "1s"), ("join", "room"), ("ready", "room")]
READERS = [
    ("timeline",),
    ("diagnose",),
    ("export", "--csv", "x.csv"),
    ("export", "--parquet", "x.parquet", "--timelines"),
]
READERS += [("store", "info"), ("store", "seal"), ("store", "verify"), ("store", "verify", "--set-aside")]


# what can go wrong before a command begins


def test_help_imports_nothing_heavy():
    code = "import sys; from nestobs.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "print('\\n', sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"'(\w+)'", loaded.splitlines()[-1]))
    heavy = "asyncio httpx pandas numpy pyarrow pydantic pydantic_settings nostr_sdk websockets aiohttp livekit rich"
    heavy += " plotly papermill jinja2 sqlite3 click dataclasses pathlib json argparse typing re shutil"
    assert names & set(heavy.split()) == set()


def test_no_command_at_all_is_a_usage_error(run):
    said = run()
    assert said.code == 2
    assert "COMMAND" in said.err


def test_the_version_is_told(run):
    assert run("--version").out == f"nestobs {nestobs.__version__}\n"


# stores that cannot be used


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
