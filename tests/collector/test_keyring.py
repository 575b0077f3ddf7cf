"""Keys of runs: readable by their owner only, found after a crash, gone when nothing is left to delete."""

from __future__ import annotations

import os
import stat

import pytest

from nestobs.collector.keyring import OPERATOR, Keyring
from nestobs.errors import ConfigError, KeyFormatError, NestobsError
from nestobs.nostr import Keys

RUN = "0190a5c2-7b1e-7000-8000-0123456789ab"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state" / "keys"


def test_a_run_without_an_operators_key_gets_one_that_is_found_again(folder):
    keys, name = Keyring(folder).host(RUN)
    assert Keyring(folder).find(name) == keys
    assert RUN in name
    assert keys.to_nsec() not in name


def test_the_file_is_its_owners_alone_even_with_an_open_umask(folder):
    before = os.umask(0)
    try:
        _, name = Keyring(folder).host(RUN)
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_forgetting_removes_the_file_and_may_be_repeated(folder):
    ring = Keyring(folder)
    _, name = ring.host(RUN)
    for _ in range(2):
        ring.forget(name)
    assert ring.find(name) is None
    assert list(folder.iterdir()) == []


def test_the_operators_key_is_used_and_never_written(folder):
    operator = Keys.generate()
    ring = Keyring(folder, operator)
    assert ring.host(RUN) == (operator, OPERATOR)
    assert ring.find(OPERATOR) == operator
    ring.forget(OPERATOR)
    assert ring.find(OPERATOR) == operator
    assert not folder.exists()


def test_without_an_operators_key_its_name_finds_nothing(folder):
    assert Keyring(folder).find(OPERATOR) is None


@pytest.mark.parametrize(
    "name", ["", "../secret.nsec", "/etc/passwd", f"{RUN}.nsec/../x", "x.nsec", f"{RUN}.txt", "\x00" * 40]
)
def test_a_name_that_is_no_key_file_is_neither_read_nor_removed(folder, name):
    folder.mkdir(parents=True)
    outside = folder.parent / "secret.nsec"
    outside.write_text(Keys.generate().to_nsec())
    ring = Keyring(folder)
    ring.forget(name)
    assert ring.find(name) is None
    assert outside.exists()


def test_no_secret_shows_in_repr_or_error(folder):
    ring = Keyring(folder, Keys.generate())
    keys, name = Keyring(folder).host(RUN)
    assert ring.operator.to_nsec() not in repr(ring)
    with pytest.raises(ConfigError) as refused:
        Keyring(folder).host(RUN)  # the same run again: the file is there
    assert keys.to_nsec() not in str(refused.value)
    assert Keyring(folder).find(name) == keys


def test_a_folder_that_cannot_be_made_is_a_mistake_with_its_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="NESTOBS_STATE_DIR"):
        Keyring(tmp_path / "file" / "keys").host(RUN)


@pytest.mark.parametrize("content", ["", "nsec1garbage", "\xff" * 10])
def test_a_damaged_key_file_is_no_key_and_does_not_stop_the_next_start(folder, content):
    folder.mkdir(parents=True)
    (folder / f"{RUN}.nsec").write_bytes(content.encode("latin-1"))
    assert Keyring(folder).find(f"{RUN}.nsec") is None


def test_errors_about_keys_are_operators_mistakes():
    assert issubclass(KeyFormatError, NestobsError)
