"""What was made in the world is on the disk before it is made."""

import signal
from pathlib import Path

import pytest

from nestobs.errors import StoreError, UsageError
from nestobs.store.reader import Store
from worlds.stored_rows import child, rows


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "data")


def test_an_entry_is_open_until_closed_and_closed_once(store):
    with store.writer() as writer:
        made = [
            writer.open_entry(
                kind=kind, run_id="r", vantage="v", api="a", room="", nest="", relays=[], key_ref="env", at=1
            )
            for kind in ("room", "event")
        ]
        writer.update_entry(made[0], room="abc", relays=["wss://a"], note="created")
        writer.update_entry(made[0])
        writer.close_entry(made[1], at=2, how="deleted")
        writer.close_entry(made[1], at=3, how="again")
        with pytest.raises(StoreError, match="no entry 99"):
            writer.close_entry(99, at=3, how="deleted")
        with pytest.raises(TypeError, match="'opened_at' cannot be changed"):
            writer.update_entry(made[0], opened_at="3")
        writer.append(rows(1))
    (entry,) = store.ledger()
    assert (entry.entry_id, entry.room, entry.relays, entry.note) == (made[0], "abc", ("wss://a",), "created")
    assert [(one.closed_at, one.how) for one in store.ledger(open_only=False)] == [(None, ""), (2, "deleted")]
    assert store.count() == 1


def test_the_ledger_is_written_with_synchronous_full_and_rows_with_normal(store):
    with store.writer() as writer:
        (before,) = writer._connection.execute("PRAGMA synchronous").fetchone()
        (during,) = writer.perform(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
        (after,) = writer._connection.execute("PRAGMA synchronous").fetchone()
    assert (before, during, after) == (1, 2, 1)


@pytest.mark.parametrize("key", ["nsec1" + "q" * 58, "ab" * 32])
def test_a_key_does_not_get_into_the_ledger_nor_the_message(store, key):
    with store.writer() as writer, pytest.raises(UsageError) as refused:
        writer.open_entry(kind="room", run_id="r", vantage="v", api="a", room="", nest="", relays=[], key_ref=key, at=1)
    assert key not in str(refused.value)
    assert store.ledger() == []


def test_the_ledger_keeps_an_intent_of_a_process_killed_right_after(store):
    code = """
Store.open(directory).writer().open_entry(kind="room", run_id="run", vantage="here", api="https://api.example",
    room="", nest="", relays=["wss://a", "wss://b"], key_ref="host.key", at=7, note="\\ud800")
die()
"""
    with child(store.directory, code) as victim:
        assert victim.wait() == -signal.SIGKILL
    (entry,) = store.ledger()
    assert (entry.kind, entry.relays, entry.opened_at, entry.closed_at) == ("room", ("wss://a", "wss://b"), 7, None)
    assert entry.note == "\\ud800"
