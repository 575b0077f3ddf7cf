"""Which rows are of one nest, how many there are on every page, and the names by which a person means one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nestobs
from nestobs.errors import AddressError
from nestobs.nostr import ROOM_KIND, Address, Keys, write_naddr
from nestobs.observation.schema import Failure, Observation, Operation, Outcome
from nestobs.reports import daily, demo, incident, joins, live, propagation, tuning, vantages
from nestobs.timeline.nests import address_of, count_nests, named, nests_of, told_apart
from worlds.stored_nests import drawn, nest_rows, store_of

NESTS, FAILED = 40, 7
NO_ADDRESSES = ("", "x", "30312:a", "²:a:b", "٣:a:b", ":a:b", "123456:a:b", f"{'9' * 5_000}:a:b")
HOST = Keys.from_secret("11" * 32).public  # one key, so that every worker collects the same tests


def attempts() -> Iterator[Observation]:
    """PUTs that failed: each has a trace, none an address or a room."""
    for row in nest_rows(*drawn(FAILED, 5), name="attempt"):
        if row.operation is Operation.CREATE:
            yield replace(
                row, nest="", room="", outcome=Outcome.UNKNOWN, failure=Failure.SERVER_ERROR, reason="503", status=503
            )


def elsewhere() -> Iterator[Observation]:
    """The same nests from another vantage, each under another trace; half of them by their room alone."""
    for number, row in enumerate(nest_rows(*drawn(NESTS), vantage="there")):
        if row.operation is not Operation.CREATE:
            yield replace(row, trace_id=f"again-{row.room}", nest=row.nest if number % 2 else "")


def listed() -> Iterator[Observation]:
    """Rooms that LiveKit's webhooks told of, without a trace: one of ours, one of somebody else."""
    row = next(nest_rows(*drawn(1)))
    for room in (row.room, "somebody-elses"):
        yield replace(row, trace_id="", nest="", room=room, observation_id=f"listed-{room}", operation=Operation.ROOMS)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    rows = sorted(chain(nest_rows(*drawn(NESTS)), elsewhere(), attempts(), listed()), key=lambda row: row.sent_at)
    return store_of(tmp_path_factory.mktemp("nests") / "store", iter(rows))


class TestCounted:
    def test_by_address_trace_or_room_and_attempts_not_at_all(self, store):
        frame = store.frame()
        found = nests_of(frame)
        assert found.units == count_nests(frame) == NESTS
        assert sorted(found.names) == sorted(set(frame["nest"]) - {""})
        told = frame["trace_id"].str.startswith("attempt") | (frame["room"] == "somebody-elses")
        assert [*(found.unit < 0)] == [*told]

    def test_the_same_in_timelines_as_in_rows(self, store):
        assert count_nests(nestobs.timelines(store.directory)) == NESTS

    @pytest.mark.slow
    def test_the_same_on_every_page(self, store):
        where = str(store.directory)
        day = "2026-01-01"
        counts = {
            "vantages": vantages.result(vantages.load(where)).rows["nests"],
            "propagation": propagation.result(propagation.load(where)).rows["nests"],
            "joins": joins.result(joins.load(where)).rows["nests"],
            "daily": daily.result(daily.load(where, window=day)).rows["nests"],
            "incident": incident.result(incident.load(where)).rows["nests"],
            "live": live.result(live.load(where, last="1d", most=1_000)).rows["nests"],
            "tuning": tuning.result(tuning.load(where)).rows["nests"],
            "demo": int(demo.measured(demo.load(where)).frame.set_index("what").loc["Nests"].iloc[0]),
        }
        assert counts == dict.fromkeys(counts, NESTS)
        assert f"The store knows {NESTS} nests." in " ".join(incident.load(where, "none-of-them").missing)

    @given(st.lists(st.tuples(*[st.sampled_from(["", "a", "b", "c"])] * 3), max_size=12), st.randoms())
    def test_whatever_the_order_of_the_rows(self, rows, random):
        names = ["trace_id", "nest", "room"]
        mixed = random.sample(rows, len(rows))
        counts = [nests_of(pd.DataFrame(each, columns=names, dtype="str")) for each in (rows, mixed)]
        assert {*counts[0].names} >= {nest for _, nest, _ in rows if nest}
        assert all(len(np.unique(found.unit[found.unit >= 0])) == found.units for found in counts)

    def test_none_in_no_rows(self):
        assert count_nests(pd.DataFrame({"trace_id": [], "nest": [], "room": []}, dtype="str")) == 0


def known(*rooms: str, host: str = HOST) -> pd.DataFrame:
    return pd.DataFrame({"nest": [f"30312:{host}:{room}" for room in rooms], "room": rooms}, dtype="str")


class TestNamed:
    frame = known("alpha-1", "alpha-2", "beta")
    beta = Address(ROOM_KIND, HOST, "beta")

    @pytest.mark.parametrize(
        "words",
        [
            f"30312:{HOST}:beta",
            f"30312:{HOST}:b",
            f"30312:{HOST}:b…",
            write_naddr(beta),
            f"nostr:{write_naddr(beta)}",
            f"https://nests.example/{write_naddr(beta)}?x=1#top",
            "b",
            "be…",
            " bet ",
        ],
    )
    def test_by_address_link_or_beginning(self, words):
        assert named(words, self.frame) == self.beta

    @pytest.mark.parametrize("words", ["beta", "https://nests.example/room/beta"])
    def test_by_its_room(self, words):
        assert named(words, self.frame) == "beta"

    @pytest.mark.parametrize("words", ["alpha", "a", "alpha-…", "30312:", f"30312:{HOST}:alp"])
    def test_what_begins_several_names_them(self, words):
        with pytest.raises(AddressError, match=r"2 nests begin with .*alpha-1, alpha-2;|3 nests begin with"):
            named(words, self.frame)

    def test_at_most_five_are_named_in_one_sentence(self):
        frame = known(*(f"room-{number}" for number in range(9)))
        with pytest.raises(AddressError, match="9 nests begin") as refused:
            named("room", frame)
        assert str(refused.value).count("room-") == 5

    def test_one_room_of_two_hosts_is_told_apart_by_the_address(self):
        other = Keys.generate().public
        frame = pd.concat([known("shared-room"), known("shared-room", host=other)])
        assert named("shared-room", frame) == "shared-room"
        with pytest.raises(AddressError, match=other):
            named("shared", frame)

    def test_a_whole_name_is_not_the_beginning_of_another(self):
        assert named("alpha", known("alpha", "alphabet")) == "alpha"
        stranger = Address(ROOM_KIND, Keys.generate().public, "beta")
        assert named(write_naddr(stranger), self.frame) == stranger

    @pytest.mark.parametrize("words", ["gamma", f"30312:{HOST}:gamma"])
    def test_what_is_not_there_comes_back(self, words):
        assert str(named(words, self.frame)) == words

    @pytest.mark.parametrize("words", ["", "a room", "naddr1xyz", "…", "x" * 1_000_000, "\x1b[2J", "30312:zz:d"])
    def test_what_is_not_understood_is_refused(self, words):
        with pytest.raises(AddressError) as refused:
            named(words, self.frame)
        assert len(str(refused.value)) < 500
        assert str(refused.value).isprintable()

    def test_hostile_rooms_are_found_whole_and_named_harmlessly(self):
        rooms = ("\x1b[2J\u202ea", "\x1b[2J\u202eb", "x" * 1_000_000, "x" * 999_999 + "y")
        frame = known(*rooms)
        assert all(named(room, frame) == room for room in rooms)
        for start in ("\x1b[2J", "x" * 500):
            with pytest.raises(AddressError, match="2 nests begin") as refused:
                named(start, frame)
            assert str(refused.value).isprintable()
            assert len(str(refused.value)) < 500


NAMES = st.lists(st.text("ab-", min_size=1, max_size=14), min_size=1, max_size=8, unique=True)


class TestToldApart:
    @given(NAMES, st.integers(1, 12))
    def test_what_is_shown_is_read_back(self, names, least):
        frame = known(*names)
        for name in names:
            said = told_apart(name, names, least)
            assert len(said) <= max(len(name), least)
            found = named(said, frame)
            assert str(found) in (name, f"30312:{HOST}:{name}")

    def test_names_are_as_short_as_they_can_be(self):
        names = ["aaaaaaaaaa-1", "bbbbbbbbbbbbbbbb", "aaaaaaaaaa-2"]
        assert [told_apart(name, names, 4) for name in names] == ["aaaaaaaaaa-1", "bbbb…", "aaaaaaaaaa-2"]

    def test_an_address_of_a_row_may_be_none(self):
        assert address_of(f"30312:{HOST}:d:e") == Address(ROOM_KIND, HOST, "d:e")
        assert [address_of(text) for text in NO_ADDRESSES] == list(NO_ADDRESSES)
