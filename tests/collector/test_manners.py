"""When a room of others is visited: where somebody else is inside, or where the operator insists."""

from __future__ import annotations

import pytest

from nestobs.collector.manners import Manners, Visitor, is_fleets, is_ours, objection
from nestobs.nostr import ROOM_KIND, Keys
from nestobs.observation.nest import read_nest, room_tags
from nestobs.store.reader import Store

ME, OTHER = "ab" * 32, "cd" * 32
GUEST = Visitor(identity="guest-1")
FRESH = Visitor(identity=ME)
MYSELF = Visitor(identity=ME, pubkey=ME)
MYSELF_AS_GUEST = Visitor(identity="guest-1", pubkey=ME)
OPAQUE = Visitor(identity="", pubkey=ME)
AGAIN = Visitor(identity="guest-1", visited=frozenset({"guest-1"}))
POLITE, INSISTENT = Manners(), Manners(visit_empty=True)
AS_MYSELF = Manners(as_yourself=True)

CASES = {
    "somebody is inside": ([OTHER], None, GUEST, POLITE, ""),
    "nobody is inside": ([], 5, GUEST, POLITE, "nobody is inside"),
    "nobody, and one insists": ([], None, GUEST, INSISTENT, ""),
    "only our own last visit is inside": (["guest-1"], None, AGAIN, POLITE, "nobody is inside"),
    "I am inside": ([ME, OTHER], None, MYSELF, POLITE, "is inside already"),
    "I am inside, and insist on emptiness": ([ME], None, MYSELF, INSISTENT, "is inside already"),
    "I am inside, and insist": ([ME], None, MYSELF, AS_MYSELF, ""),
    "I am inside, and come as a guest": ([ME], None, GUEST, POLITE, ""),
    "I am inside, and was given a guest's token": ([ME], None, MYSELF_AS_GUEST, POLITE, "is inside already"),
    "an opaque token, and I am inside": ([ME], None, OPAQUE, POLITE, "is inside already"),
    "a guest of the same name is inside": (["guest-1", OTHER], None, GUEST, POLITE, "is inside already"),
    "I am not inside": ([OTHER], None, MYSELF, POLITE, ""),
    "counted": (None, 1, GUEST, POLITE, ""),
    "counted, and none": (None, 0, GUEST, POLITE, "nobody is inside"),
    "counted, and only our own": (None, 1, AGAIN, POLITE, "nobody is inside"),
    "a fresh key cannot be inside": (None, 1, FRESH, POLITE, ""),
    "I may be inside": (None, 1, MYSELF, POLITE, "cannot be known"),
    "I may be inside, and insist on emptiness": (None, 1, MYSELF, INSISTENT, "--as-yourself"),
    "I may be inside, and insist": (None, 1, MYSELF, AS_MYSELF, ""),
    "I may be inside by an opaque token": (None, 1, OPAQUE, POLITE, "cannot be known"),
    "nothing is known": (None, None, GUEST, POLITE, "cannot be known"),
    "nothing is known, and one insists": (None, None, GUEST, INSISTENT, ""),
    "a count that is none": (None, "3", GUEST, POLITE, "cannot be known"),
    "a count that is true": (None, True, GUEST, POLITE, "cannot be known"),
    "a count below 0": (None, -1, GUEST, POLITE, "nobody is inside"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_room_is_visited_where_that_does_no_harm(case):
    inside, count, visitor, manners, words = CASES[case]
    said = objection(inside, count, visitor, manners)
    assert words in said
    assert bool(said) is bool(words)
    assert not said or said.startswith("not visited: ")


def test_the_ledger_knows_which_rooms_are_ours(tmp_path):
    store = Store.open(tmp_path / "store")
    with store.writer() as writer:
        entry = writer.open_entry(
            kind="room", run_id="r", vantage="A", api="a", room="room", nest="", relays=[], key_ref="k", at=1
        )
        assert is_ours(store, "room")
        assert not is_ours(store, "another")
        writer.close_entry(entry, at=2, how="deleted")
        assert not is_ours(store, "room")


def test_a_fleets_own_are_those_its_host_key_has_signed_whoever_else_is_named():
    fleet, other = Keys.generate(), Keys.generate()
    tags = room_tags(room="r", name="n", host=fleet.public, service="", streaming="", relays=())
    mine, theirs = (read_nest(keys.sign(ROOM_KIND, created_at=1, tags=tags)) for keys in (fleet, other))
    assert is_fleets(mine, fleet.public)
    assert theirs.host == fleet.public
    assert not is_fleets(theirs, fleet.public)
    assert not is_fleets(mine, "")
