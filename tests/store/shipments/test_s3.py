"""A bucket of a real S3 server: shipped to, read, and everything that can be wrong with one is a sentence."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from s3fs import S3FileSystem

import nestobs
from nestobs.errors import NestobsError, StoreError
from nestobs.store.inventory import contents, verify
from nestobs.store.reader import Store
from nestobs.store.shipments import place as place_module
from nestobs.store.shipments.names import FOLDER
from nestobs.store.shipments.place import Place
from worlds.programs import tool
from worlds.s3 import BUCKET, KEY, SECRET
from worlds.shipped_stores import files_at, held, in_order, seen, shipped, stored
from worlds.trickling import HEADS, trickling

pytestmark = pytest.mark.slow


def test_what_was_shipped_is_read_as_it_was_written(tmp_path, bucket):
    rows = seen(*range(300)) + seen(*range(50), day=1)
    store = stored(tmp_path / "a", rows)
    assert len(shipped(store, bucket).shipped) == 2
    assert shipped(store, bucket).there == 2
    found = nestobs.open(bucket)
    assert list(found.observations()) == rows
    assert (found.count(), found.digest(), found.location) == (350, store.digest(), bucket)
    held_there = contents(found)
    assert (held_there.rows, held_there.files) == (350, 2)
    assert verify(found) == []


def test_vantages_and_copies_ship_into_one_bucket(tmp_path, bucket):
    rows = [seen(*range(50), vantage=name) for name in ("Computer A", "../..")]
    shipped(stored(tmp_path / "a", rows[0]), bucket)
    shipped(stored(tmp_path / "b", rows[1]), bucket)
    shipped(stored(tmp_path / "c", rows[0][:30]), bucket)
    assert held(bucket) == in_order(*rows[0], *rows[1])


def test_half_a_file_is_refused_named_and_shipped_again(tmp_path, bucket, server):
    store = stored(tmp_path / "a", seen(*range(10)))
    shipped(store, bucket)
    path = files_at(bucket)[0]
    place = Place.of(bucket)
    place.put(path, place.read(path)[:-50])
    with pytest.raises(StoreError, match="its digest is not that of its name") as refused:
        Store.open(bucket).frame()
    assert path in str(refused.value)
    assert [each.wrong for each in verify(Store.open(bucket))] == [True]
    assert len(shipped(store, bucket).shipped) == 1
    assert held(bucket) == seen(*range(10))


def test_an_empty_folder_of_a_bucket_is_told(bucket):
    with pytest.raises(StoreError, match=f"nothing was shipped to {bucket} yet"):
        nestobs.open(bucket)


def forget(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    for name, value in changes.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    S3FileSystem.clear_instance_cache()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "does not let us in"),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, "does not let us in"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "does not let us in"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "could not be used"),
        ({"AWS_ENDPOINT_URL": "no url"}, "."),
    ],
)
def test_who_may_not_or_cannot_is_told_in_a_sentence(tmp_path, bucket, monkeypatch, changes, said):
    store = stored(tmp_path / "a", seen(1))
    monkeypatch.setenv("HOME", str(tmp_path))
    forget(monkeypatch, **changes)
    for call in (lambda: shipped(store, bucket), lambda: Store.open(bucket)):
        with pytest.raises(NestobsError, match=said) as refused:
            call()
        assert refused.value.exit_code == 5
        assert SECRET not in str(refused.value)
        assert bucket in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1
    assert store.count() == 1


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_a_server_whose_answers_do_not_end_is_told(head, bucket, monkeypatch):
    for name in ("ASKED_S", "CONTENT_S"):
        monkeypatch.setattr(place_module, name, 1.0)
    with trickling(head) as url:
        forget(monkeypatch, AWS_ENDPOINT_URL=url)
        place = Place.of(bucket)
        calls = (
            lambda: place.sizes("day"),
            lambda: place.read("day/file"),
            lambda: place.put("day/file", b"row"),
            lambda: place.remove("day/file"),
        )
        for call in calls:
            with pytest.raises(StoreError, match=r"could not be used \(no whole answer in time\): check the URL"):
                call()


def test_a_bucket_that_is_not_there_is_told(tmp_path, bucket):
    store = stored(tmp_path / "a", seen(1))
    for call in (lambda: shipped(store, "s3://no-such/nests"), lambda: Store.open("s3://no-such/nests")):
        with pytest.raises(StoreError, match=r"there is nothing at s3://no-such/nests \(.*\): make the bucket"):
            call()


def test_who_may_read_and_not_write_is_told(tmp_path, bucket, server, monkeypatch):
    store = stored(tmp_path / "a", seen(1))
    shipped(store, bucket)
    folder = server.folder / bucket.removeprefix("s3://").rpartition("/")[0]
    assert folder.is_dir()
    stored(tmp_path / "a", seen(2, day=1))
    add_user(server, "reader", "reader-secret")
    forget(monkeypatch, AWS_ACCESS_KEY_ID="reader", AWS_SECRET_ACCESS_KEY="reader-secret")
    with pytest.raises(StoreError, match="does not let us in"):
        shipped(store, bucket)
    forget(monkeypatch, AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    assert held(bucket) == seen(1)


def add_user(server: object, key: str, secret: str) -> None:
    words = ["admin", "--access", KEY, "--secret", SECRET, "--endpoint-url", server.endpoint, "--region", "us-east-1"]
    user = ["create-user", "--access", key, "--secret", secret, "--role", "user"]
    subprocess.run([tool("versitygw", "s3"), *words, *user], check=True, capture_output=True, timeout=60)


class Cut:
    """Between a client and a server: passes so many bytes on, and then cuts every connection."""

    def __init__(self, to: tuple[str, int], most: int) -> None:
        self._to, self.left = to, most
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:
                return
            if self.left <= 0:
                here.close()
                continue
            there = socket.create_connection(self._to)
            threading.Thread(target=self._pass, args=(here, there, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(there, here, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1_000):
                if counts:
                    self.left -= len(data)
                    if self.left <= 0:
                        break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # who waits to accept is told
        self._listening.close()


@pytest.mark.parametrize("most", [3_000, 20_000, 60_000])
def test_a_network_that_breaks_in_the_middle_loses_nothing(tmp_path, bucket, server, monkeypatch, caplog, most):
    rows = [each for day in range(10) for each in seen(*range(20), day=day)]
    store = stored(tmp_path / "a", rows)
    host, _, port = server.endpoint.removeprefix("http://").partition(":")
    cut = Cut((host, int(port)), most)
    forget(monkeypatch, AWS_ENDPOINT_URL=cut.url)
    with pytest.raises(StoreError, match="call it again: what is there stays, and it goes on from there"):
        shipped(store, bucket)
    cut.close()
    assert caplog.records == []  # what libraries have to say of each connection is no news
    forget(monkeypatch, AWS_ENDPOINT_URL=server.endpoint)
    there = len(files_at(bucket))
    made = shipped(store, bucket)
    assert (made.there, len(made.shipped)) == (there, 10 - there)
    assert held(bucket) == rows
    assert FOLDER in files_at(bucket)[0]
    assert BUCKET in bucket


@pytest.mark.timeout(300)  # a kernel and four commands, on a machine that may have much else to do
def test_commands_read_a_bucket(tmp_path, bucket):
    from nestobs.store.example import SHIPPED

    shipped(Store.open(SHIPPED), bucket)

    def said(*words: str) -> str:
        call = [sys.executable, "-m", "nestobs", *words, "--store", bucket]
        ended = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
        assert ended.returncode in (0, 1, 4), ended.stderr
        assert "Traceback" not in ended.stderr
        return ended.stdout

    assert "observations" in said("store", "info")
    assert said("store", "verify").endswith("is whole\n")
    words = ["timeline", "5dc7d2a5", "--json"]
    assert said(*words) == _of_example(*words, cwd=tmp_path)
    said("report", "incident", "5dc7d2a5", "--out", "page.html")
    assert "5dc7d2a5" in (tmp_path / "page.html").read_text("utf-8")


def _of_example(*words: str, cwd: Path) -> str:
    call = [sys.executable, "-m", "nestobs", *words, "--store", "example"]
    return subprocess.run(call, cwd=cwd, capture_output=True, text=True, timeout=100, check=False).stdout
