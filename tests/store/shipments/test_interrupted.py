"""A shipment killed at random instants, and two shippers at once, on a folder, on a real S3 and by a real sshd: whole
files only, and in the end each row once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nestobs.store.inventory import verify
from nestobs.store.reader import Store
from nestobs.store.shipments.names import FOLDER, listing
from nestobs.store.shipments.place import Place
from worlds import sftp
from worlds.interrupted import Shipper, delays
from worlds.s3 import BUCKET, serving
from worlds.shipped_stores import held, seen, stored

pytestmark = pytest.mark.slow

KILLS = 20
ROWS = [each for day in range(30) for each in seen(*range(40), day=day, detail='"' + "x" * 500 + '"')]


@dataclass
class Destination:
    url: str
    environment: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture(params=["folder", "s3", "sftp"])
def to(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Destination]:
    if request.param == "folder":
        yield Destination(str(tmp_path / "fleet"))
        return
    if request.param == "sftp":
        with sftp.serving() as server:
            monkeypatch.setenv("HOME", str(server.home))
            monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
            yield Destination(server.url, {"HOME": str(server.home)})
        return
    with serving(tmp_path / "server") as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        yield Destination(f"s3://{BUCKET}/nests", s3.environment)


def check_whole(place: Place) -> int:
    """How many files are there, every one of them whole."""
    found = listing(place.sizes(FOLDER))
    for each in found.files:
        content = place.read(each.path)
        assert (len(content), hashlib.sha256(content).hexdigest()) == (each.size, each.digest)
    assert (found.others, found.doubled) == ([], [])
    return len(found.files)


def empty(place: Place) -> None:
    for path in place.sizes(FOLDER):
        place.remove(path)


@pytest.mark.timeout(300)  # some twenty processes, on a machine that may have much else to do
def test_killed_at_random_instants_and_two_at_once(tmp_path, to):
    stored(tmp_path / "a", ROWS)
    place = Place.of(to.url)
    first = Shipper(tmp_path / "a", to.url, to.environment)
    first.begin()
    took_s = first.took_s()
    assert check_whole(place) == 30
    at_work, waiting = [], Shipper(tmp_path / "a", to.url, to.environment)
    for pause_s in delays(KILLS, took_s):
        shipper, waiting = waiting, Shipper(tmp_path / "a", to.url, to.environment)
        if check_whole(place) == 30:
            empty(place)
        shipper.begin()
        at_work.append(shipper.killed_after(pause_s))
        assert check_whole(place) <= 30
        assert {row.observation_id for row in held_there(to.url)} <= {row.observation_id for row in ROWS}
    assert sum(at_work) >= KILLS // 2
    empty(place)
    both = [waiting, Shipper(tmp_path / "a", to.url, to.environment)]
    for shipper in both:
        shipper.begin()
    for shipper in both:
        shipper.took_s()
    assert check_whole(place) == 30
    assert held(to.url) == ROWS
    assert [each for each in verify(Store.open(to.url)) if each.wrong] == []


def held_there(url: str) -> list:
    return held(url) if listing(Place.of(url).sizes(FOLDER)).files else []
