"""What is wrong with a URL is said in a sentence, with the exit code that is documented, and without a secret."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import nestobs
from nestobs.config import Config
from nestobs.errors import NestobsError, StoreError, UsageError
from nestobs.store.shipments.place import Place, is_url, place_of, plain_path, redacted

SECRET = "correct-horse"


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@bucket/nests",
        f"sftp://me:{SECRET}@host/folder",
        f"sftp://me:a/{SECRET}@host/folder",
        f"az://container/nests?sig={SECRET}",
        f"https://:{SECRET}@host/x",
    ],
)
def test_a_url_with_a_secret_is_refused_and_not_quoted(url, tmp_path):
    config = tmp_path / "nestobs.toml"
    config.write_text(f'store = "{url}"\n')
    calls = [lambda: Place.of(url), lambda: place_of(url), lambda: nestobs.open(url), lambda: Config().store(url)]
    for call in (*calls, lambda: Config(config).store(None)):
        with pytest.raises(UsageError, match="holds a password or a token, which would be stored with it") as refused:
            call()
        assert SECRET not in str(refused.value)


@pytest.mark.parametrize("url", ["s3://", "s3:///", "simplecache::s3://bucket/x", "zip://a::file://b.zip"])
def test_what_names_no_folder_is_refused(url):
    with pytest.raises(UsageError, match=r"names no folder: write s3://BUCKET/FOLDER"):
        Place.of(url)


def test_a_scheme_that_nobody_knows_is_told():
    with pytest.raises(UsageError, match=r"nobody knows how to open carrier-pigeon://: write s3://, sftp://, file://"):
        Place.of("carrier-pigeon://loft/nests")


@pytest.mark.parametrize("module", ["s3fs", "paramiko"])
def test_a_library_that_is_missing_is_told_with_how_to_get_it(module):
    url = {"s3fs": "s3://b/x", "paramiko": "sftp://h/x"}[module]
    imports = f"import sys; sys.modules[{module!r}] = None; from nestobs.store.shipments.place import Place"
    code = f"{imports}; Place.of({url!r})"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False).stderr
    last = said.strip().splitlines()[-1]
    assert last.startswith("nestobs.errors.UsageError: ")
    assert "needs a library that is not here" in last
    assert "pip install 'nestobs[fleet]'" in last


def test_a_host_that_is_none_is_a_sentence_of_ours():
    with pytest.raises(NestobsError):
        Place.of("sftp://127.0.0.1:9/nests").sizes("x")


def test_what_stands_before_the_at_of_a_url_is_hidden():
    assert redacted("at http://me:x@host/a and sftp://me@host") == "at http://…@host/a and sftp://…@host"
    assert redacted("me@host") == "me@host"


@pytest.mark.parametrize(
    ("named", "path"),
    [
        ("data", Path("data")),
        (Path("data"), Path("data")),
        ("file:///a/b%20c", Path("/a/b c")),
        ("file://localhost/a", Path("/a")),
        ("local:///a", Path("/a")),
        ("s3://a/b", None),
        ("c:/data", Path("c:/data")),
    ],
)
def test_which_names_are_paths(named, path):
    assert plain_path(named) == path


def test_what_is_a_url():
    assert [is_url(each) for each in ("s3://a", "file:///a", "a/b", Path("a"), "://")] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_a_disk_without_room_is_told(monkeypatch):
    place = Place.of("memory://full")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(place.files), "pipe_file", full)
    with pytest.raises(StoreError, match=r"there is no room at memory://full .*: make some; what is there stays"):
        place.put("a", b"x")
