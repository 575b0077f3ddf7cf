"""A folder behind a real sshd: shipped to, read, and everything that can be wrong with it is a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nestobs
from nestobs.errors import NestobsError, StoreError
from nestobs.store.inventory import verify
from nestobs.store.reader import Store
from nestobs.store.shipments.place import Place
from worlds.sftp import Sftp, private_key, public_of, serving
from worlds.shipped_stores import files_at, held, in_order, seen, shipped, stored

pytestmark = pytest.mark.slow

PASSWORD = "a-password-of-the-tests"


@pytest.fixture(scope="module")
def server() -> Iterator[Sftp]:
    with serving() as sftp:
        yield sftp


@pytest.fixture
def place(server: Sftp, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a folder there, the client's keys and known hosts in its home."""
    monkeypatch.setenv("HOME", str(server.home))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return f"{server.url}/{abs(hash(request.node.nodeid)):x}"


def test_what_was_shipped_is_read_as_it_was_written(tmp_path, place):
    rows = seen(*range(300)) + seen(*range(50), day=1)
    store = stored(tmp_path / "a", rows)
    assert len(shipped(store, place).shipped) == 2
    assert shipped(store, place).there == 2
    found = nestobs.open(place)
    assert list(found.observations()) == rows
    assert (found.count(), found.digest(), found.location) == (350, store.digest(), place)
    assert verify(found) == []


def test_vantages_and_copies_ship_into_one_folder(tmp_path, place):
    rows = [seen(*range(50), vantage=name) for name in ("Computer A", "../..")]
    shipped(stored(tmp_path / "a", rows[0]), place)
    shipped(stored(tmp_path / "b", rows[1]), place)
    shipped(stored(tmp_path / "c", rows[0][:30]), place)
    assert held(place) == in_order(*rows[0], *rows[1])


def test_half_a_file_is_refused_named_and_shipped_again(tmp_path, place):
    store = stored(tmp_path / "a", seen(*range(10)))
    shipped(store, place)
    (path,) = files_at(place)
    Place.of(place).put(path, Place.of(place).read(path)[:-50])
    with pytest.raises(StoreError, match="its digest is not that of its name"):
        Store.open(place).frame()
    assert len(shipped(store, place).shipped) == 1
    assert held(place) == seen(*range(10))


def test_a_folder_that_is_not_there_yet_is_told_and_made_by_shipping(tmp_path, place):
    with pytest.raises(StoreError, match=f"nothing was shipped to {place} yet"):
        nestobs.open(place)
    shipped(stored(tmp_path / "a", seen(1)), place)
    assert held(place) == seen(1)


def refused(tmp_path: Path, url: str) -> str:
    """What shipping there and reading there says: the same sentence."""
    store = stored(tmp_path / "a", seen(1))
    said = set()
    for call in (lambda: shipped(store, url), lambda: Store.open(url)):
        with pytest.raises(NestobsError) as told:
            call()
        assert told.value.exit_code == 5
        assert len(str(told.value).splitlines()) == 1
        assert PASSWORD not in str(told.value)
        said.add(str(told.value))
    assert store.count() == 1
    return "; ".join(said)


def test_a_host_that_is_not_known_is_refused_with_what_to_do(tmp_path, place, server, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    said = refused(tmp_path, place)
    assert f"[127.0.0.1]:{server.port} is not known here" in said
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in said
    assert "SHA256:" in said


def test_a_host_with_another_key_than_is_known_is_told_nothing(tmp_path, place, server, monkeypatch):
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "key").write_bytes(private_key())
    (home / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {public_of(home / 'key')}\n")
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.setenv("FSSPEC_SFTP_PASSWORD", PASSWORD)
    said = refused(tmp_path, place)
    assert "shows another host key (ssh-ed25519 SHA256:" in said
    assert "somebody may stand in between" in said


@pytest.mark.parametrize("how", ["no key", "another key", "a password that is wrong", "another user"])
def test_who_may_not_come_in_is_told(tmp_path, place, server, monkeypatch, how):
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "known_hosts").write_text(server.known_hosts.read_text())
    monkeypatch.setenv("HOME", str(home.parent))
    if how == "another key":
        (home / "id_ed25519").write_bytes(private_key())
    elif how == "a password that is wrong":
        monkeypatch.setenv("FSSPEC_SFTP_PASSWORD", PASSWORD)
        forget_configuration(monkeypatch, password=PASSWORD)
    elif how == "another user":
        place = place.replace(f"//{server.user}@", "//somebody-else@")
        monkeypatch.setenv("HOME", str(server.home))
    said = refused(tmp_path, place)
    assert said.startswith(f"sftp://…@{place.partition('@')[2]} does not let us in (")
    assert "keys in ~/.ssh" in said


def forget_configuration(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """What fsspec reads of the environment when it is imported."""
    import fsspec.config

    monkeypatch.setitem(fsspec.config.conf, "sftp", settings)


def test_a_password_in_the_url_is_refused_and_not_quoted(place, server):
    with pytest.raises(NestobsError, match="holds a password or a token") as told:
        Place.of(place.replace(f"//{server.user}@", f"//{server.user}:{PASSWORD}@"))
    assert PASSWORD not in str(told.value)


def test_where_nobody_listens_is_told(tmp_path, place, server):
    assert "cannot be opened" in refused(tmp_path, place.replace(f":{server.port}/", ":9/"))


def test_a_folder_that_may_be_read_and_not_written_loses_nothing(tmp_path, place, server):
    store = stored(tmp_path / "a", seen(1))
    shipped(store, place)
    stored(tmp_path / "a", seen(2, day=1))
    folder = Path(place.partition(f":{server.port}")[2])
    days = [path for path in (folder, *folder.rglob("*")) if path.is_dir()]
    for path in days:
        path.chmod(0o555)
    with pytest.raises(StoreError, match="does not let us in") as told:
        shipped(store, place)
    assert told.value.exit_code == 5
    assert held(place) == seen(1)
    for path in days:
        path.chmod(0o755)
    assert len(shipped(store, place).shipped) == 1
    assert held(place) == [*seen(1), *seen(2, day=1)]


def test_a_folder_that_may_not_be_read_is_not_taken_for_an_empty_one(tmp_path, place, server):
    shipped(stored(tmp_path / "a", seen(1)), place)
    folder = next(Path(place.partition(f":{server.port}")[2]).rglob("here"))
    folder.chmod(0o000)
    try:
        with pytest.raises(StoreError, match="does not let us in"):
            Store.open(place)
        with pytest.raises(StoreError, match="does not let us in"):
            shipped(Store.open(tmp_path / "a"), place)
    finally:
        folder.chmod(0o755)
    assert held(place) == seen(1)


def test_commands_ship_and_read(tmp_path, place, server):
    stored(tmp_path / "a", seen(*range(5)))

    def run(*words: str, code: int = 0) -> str:
        call = [sys.executable, "-m", "nestobs", *words]
        home = os.environ | {"HOME": str(server.home), "FSSPEC_SFTP_PASSWORD": PASSWORD}
        ended = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False, env=home)
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr
        assert PASSWORD not in ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    assert "1 file" in run("ship", "--store", "a", "--to", place, "--all")
    assert "observations" in run("store", "info", "--store", place)
    assert run("store", "verify", "--store", place).endswith("is whole\n")
    other = place.replace(f"//{server.user}@", "//somebody-else@")
    assert len(run("ship", "--store", "a", "--to", other, code=5).strip().splitlines()) == 1
