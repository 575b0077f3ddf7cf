"""Nests and the words a person types to name one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nestobs.errors import AddressError, UsageError
from nestobs.nostr import Address, Event, Keys, write_naddr
from nestobs.observation.nest import Nest, State, read_address, read_nest, room_tags, withdrawn_at

S = 1_000_000_000
NIP19 = json.loads((Path(__file__).parents[1] / "vectors" / "nip19.json").read_text())
NPUB, HEX = next(iter(NIP19["npub"].items()))
HOST = "ab" * 32
TAGS = room_tags(
    room="room-1",
    name="A nest",
    host=HOST,
    service="https://api.example",
    streaming="wss+livekit://livekit.example:443",
    relays=("wss://a.example", "wss://b.example"),
)


def event(tags=TAGS, kind=30312, created_at=1_700_000_000):
    return Event("cd" * 32, "ef" * 32, created_at, kind, tuple(tuple(row) for row in tags), "", "00")


def test_the_event_we_publish_is_a_whole_nest():
    nest = read_nest(event())
    assert nest.address == Address(30312, "ef" * 32, "room-1")
    assert (nest.room, nest.name, nest.status, nest.host) == ("room-1", "A nest", "open", HOST)
    assert (nest.service, nest.streaming) == ("https://api.example", "wss+livekit://livekit.example:443")
    assert nest.relays == ("wss://a.example", "wss://b.example")
    assert nest.created_at == nest.first_created_at == 1_700_000_000 * S
    assert nest.lacks == ()


@pytest.mark.parametrize("lost", ["room", "status", "service", "p"])
def test_what_the_web_client_would_miss_is_named(lost):
    assert read_nest(event([row for row in TAGS if row[0] != lost])).lacks == (lost,)


@pytest.mark.parametrize(
    ("changed", "lacks"),
    [
        (("d", ""), ("d",)),
        (("status", "live"), ("status",)),
        (("status", "closed"), ()),
        (("status", "private"), ()),
        (("service", ""), ("service",)),
        (("p",), ("p",)),
    ],
)
def test_an_empty_or_unknown_value_is_missed_too(changed, lacks):
    tags = [changed if row[0] == changed[0] else row for row in TAGS]
    assert read_nest(event(tags)).lacks == lacks


def test_without_a_host_among_the_people_the_author_is_the_host():
    tags = [row for row in TAGS if row[0] != "p"] + [("p", HOST, "", "speaker"), ("p", HOST)]
    assert read_nest(event(tags)).host == "ef" * 32


def test_the_role_of_a_host_is_read_in_any_case():
    tags = [row for row in TAGS if row[0] != "p"] + [("p", "11" * 32, "wss://a", "Host")]
    assert read_nest(event(tags)).host == "11" * 32


@pytest.mark.parametrize(("made", "words"), [(event(kind=30311), "30311"), (event(TAGS[1:]), "d tag")])
def test_what_is_no_nest_is_refused(made, words):
    with pytest.raises(ValueError, match=words):
        read_nest(made)


@given(st.lists(st.lists(st.text(max_size=10), max_size=5).map(tuple), max_size=8))
def test_no_tags_crash_the_reading(tags):
    nest = read_nest(event([("d", "room"), *tags]))
    assert nest.room == "room"
    assert set(nest.lacks) <= {"room", "status", "service", "p"}


def test_a_hostile_name_is_kept_as_it_came_as_far_as_a_name_goes():
    name = "<script>alert(1)</script>\x1b[31m\u202e"
    assert read_nest(event([("d", "room"), ("room", name)])).name == name
    assert read_nest(event([("d", "room"), ("room", name + "x" * 1_000_000)])).name.startswith(name)


def test_no_text_of_an_event_is_kept_longer_than_anybody_writes():
    long = "x" * 100_000
    tags = [(name, long) for name in ("room", "status", "service", "streaming", "starts")]
    nest = read_nest(event([("d", "room"), *tags, ("p", long, "", "host"), ("relays", *[long] * 1_000)]))
    texts = (nest.name, nest.status, nest.service, nest.streaming, nest.host, *nest.relays)
    assert sum(map(len, texts)) < 30_000


def test_a_room_longer_than_any_is_no_nest():
    assert read_nest(event([("d", "x" * 1_024)])).room == "x" * 1_024
    with pytest.raises(ValueError, match="1900000 characters"):
        read_nest(event([("d", "x" * 1_900_000)]))
    for text in (f"30312:{HEX}:" + "x" * 2_000, "naddr1" + "q" * 5_000):
        with pytest.raises(AddressError):
            read_address(text)


NOW = 1_700_000_000


@pytest.mark.parametrize(
    ("status", "starts", "state", "why"),
    [
        ("open", "", State.OPEN, ""),
        ("Private", "", State.OPEN, ""),
        (" LIVE ", "", State.OPEN, ""),
        ("open", str(NOW - 60), State.OPEN, ""),
        ("something new", "", State.OPEN, ""),
        ("", "", State.OPEN, ""),
        ("Closed", "", State.OVER, "its event says closed"),
        ("ended", str(NOW + 3_600), State.OVER, "its event says ended"),
        ("planned", "", State.PLANNED, "not for when"),
        ("PLANNED", str(NOW + 3_600), State.PLANNED, "2023-11-14 23:13:20 UTC, in 60 min"),
        ("planned", str(NOW - 7_200), State.PLANNED, "2 h ago"),
        ("open", str(NOW + 5), State.PLANNED, "in 5 s"),
        ("live", str(NOW + 864_000), State.PLANNED, "in 10 days"),
        ("open", "253402300799", State.PLANNED, "9999-12-31"),
        ("open", "9" * 400, State.OPEN, ""),
        ("open", "-5", State.OPEN, ""),
        ("open", "soon", State.OPEN, ""),
        ("open", "1e9", State.OPEN, ""),
        ("open", "\u0663\u0663", State.OPEN, ""),
    ],
)
def test_what_a_status_and_a_start_say(status, starts, state, why):
    nest = read_nest(event([("d", "room"), ("status", status), ("starts", starts)], created_at=NOW))
    assert nest.state(NOW * S) is state
    assert (why in nest.why_not_live(NOW * S)) if why else not nest.why_not_live(NOW * S)


@pytest.mark.parametrize(
    ("urls", "chosen"),
    [
        (["https://cdn.example/live.m3u8", "wss+livekit://live.example"], "wss+livekit://live.example"),
        (["wss+livekit://a.example", "wss+livekit://b.example"], "wss+livekit://a.example"),
        (["https://x.example", "WSS+LiveKit://up.example"], "WSS+LiveKit://up.example"),
        (["moq://x.example", "https://y.example"], "moq://x.example"),
        ([], ""),
    ],
    ids=["hls first", "two livekits", "upper case", "no livekit", "none"],
)
def test_of_several_streams_the_one_that_says_livekit_counts(urls, chosen):
    assert read_nest(event([("d", "room"), *[("streaming", url) for url in urls]])).streaming == chosen


@pytest.mark.parametrize("ahead_s", [-5, 0, 60, 61, 600, 10**8, 2**62])
def test_a_date_far_ahead_is_clock_skew_and_no_age(ahead_s):
    nest = read_nest(event(created_at=NOW + ahead_s))
    assert nest.ahead_s(NOW * S) == (ahead_s if ahead_s > 60 else 0)


def test_of_one_second_the_lowest_id_counts_in_any_order():
    low, high = (replace(read_nest(event()), event_id=letter * 64, name=letter) for letter in "ab")
    assert low.renewed(high).name == high.renewed(low).name == "a"
    first, second = (replace(event(), id=letter * 64) for letter in "ab")
    assert (first.replaces(second), second.replaces(first)) == (True, False)
    assert not first.replaces(first)


def deletion(*tags, pubkey="ef" * 32, created_at=NOW + 10, kind=5):
    return Event("99" * 32, pubkey, created_at, kind, tags, "", "00")


A, E = ("a", "30312:" + "ef" * 32 + ":room-1"), ("e", "cd" * 32)


@pytest.mark.parametrize(
    ("given", "withdrawn"),
    [
        (deletion(A), True),
        (deletion(E), True),
        (deletion(A, E, ("k", "30312")), True),
        (deletion((*A, "wss://relay.example")), True),
        (deletion(A, created_at=NOW), True),
        (deletion(A, created_at=NOW - 1), False),
        (deletion(E, created_at=NOW - 1), False),
        (deletion(A, pubkey="11" * 32), False),
        (deletion(A, kind=6), False),
        (deletion(("a", A[1] + "x")), False),
        (deletion(("e", "dc" * 32)), False),
        (deletion(("e", "")), False),
        (deletion(("a",), ()), False),
    ],
    ids=lambda value: None,
)
def test_only_its_authors_own_and_later_deletion_withdraws_a_nest(given, withdrawn):
    newest = event(created_at=NOW)
    nest = read_nest(newest)
    assert (withdrawn_at(nest.address, newest, [given]) is not None) is withdrawn
    assert nest.withdrawn_by([given]) is withdrawn
    if withdrawn:
        assert withdrawn_at(nest.address, newest, [given, given]) == given.created_at * S


def test_an_address_of_which_nothing_is_left_is_withdrawn_by_its_a_tag_alone():
    address = read_nest(event()).address
    assert withdrawn_at(address, None, [deletion(A)]) is not None
    assert withdrawn_at(address, None, [deletion(E), deletion(("e", ""))]) is None


class TestAge:
    nest = read_nest(event())

    @pytest.mark.parametrize("age_s", [0.0, 29.9, 30.0, -3.5, 1e6])
    def test_counts_from_created_at_and_may_be_negative(self, age_s):
        assert self.nest.age_s(self.nest.created_at + round(age_s * S)) == age_s

    def test_an_edit_renews_it_and_the_first_is_kept(self):
        edited = replace(read_nest(event(created_at=1_700_000_500)), name="edited")
        for either in (self.nest.renewed(edited), edited.renewed(self.nest)):
            assert (either.name, either.created_at) == ("edited", 1_700_000_500 * S)
            assert either.first_created_at == 1_700_000_000 * S

    @given(st.lists(st.integers(0, 10**9), min_size=1, max_size=6))
    def test_edits_in_any_order_give_the_newest_words_and_the_oldest_birth(self, instants):
        nest, *edits = [read_nest(event(created_at=at)) for at in instants]
        for edit in edits:
            nest = nest.renewed(edit)
        assert isinstance(nest, Nest)
        assert (nest.created_at, nest.first_created_at) == (max(instants) * S, min(instants) * S)


class TestAddresses:
    address = Address(30312, HEX, "room-1")

    @pytest.mark.parametrize("prefix", ["", "nostr:", "  "])
    def test_an_naddr(self, prefix):
        assert read_address(prefix + write_naddr(self.address)) == self.address

    def test_an_naddr_brings_its_relays(self):
        with_relays = replace(self.address, relays=("wss://relay.example",))
        assert read_address(write_naddr(with_relays)) == with_relays

    @pytest.mark.parametrize("key", [NPUB, HEX, HEX.upper()])
    def test_kind_key_and_room(self, key):
        assert read_address(f" 30312:{key}:room-1\n") == self.address

    def test_a_room_may_hold_colons(self):
        assert read_address(f"30312:{HEX}:a:b") == replace(self.address, identifier="a:b")

    @pytest.mark.parametrize("room", ["room-1", "6f1c7f66-9f0a-4c52-a0a5-d6a4a2d0cbb5", "a", "x" * 255, "a.b_c~d"])
    def test_anything_like_an_id_is_a_room(self, room):
        assert read_address(room) == room

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "a room",
            "room/1",
            "x" * 256,
            "naddr1qqqq",
            write_naddr(Address(30023, HEX, "article")),
            f"30023:{HEX}:article",
            f"30312:{HEX}:",
            "30312:zz:room",
            f"30312:{HEX}",
            NPUB,
            NIP19["nsec"]["nsec"],
            "note1abc",
            "<script>",
            "\x1b[31m",
            "émission",
            "https://nests.example/room",
            f"30312:{HEX}:r\udce9union",  # as the command line gives Latin-1
            "naddr1\udce9",
        ],
        ids=lambda text: ascii(text[:20]),
    )
    def test_anything_else_is_a_mistake_with_its_remedy(self, text):
        with pytest.raises(AddressError) as refused:
            read_address(text)
        assert isinstance(refused.value, UsageError)
        assert any(word in str(refused.value) for word in ("30312", "naddr", "npub"))
        assert "\x1b" not in str(refused.value)

    def test_a_secret_key_is_never_quoted(self):
        for text in (NIP19["nsec"]["nsec"], f"30312:{NIP19['nsec']['nsec']}:room"):
            with pytest.raises(AddressError) as refused:
                read_address(text)
            assert NIP19["nsec"]["nsec"][5:25] not in str(refused.value)

    @given(st.text(st.characters(codec=None)) | st.text(st.characters(codec=None)).map("30312:{0}:x".format))
    @example("naddr1\ud800")
    @example("30312:\ud800:x")
    @example("30312:" + "a" * 3_000_000 + ":x")
    @example("naddr1" + "q" * 3_000_000)
    @example("https://nests.example/naddr1\ud800")
    def test_no_text_crashes(self, text):
        try:
            read_address(text)
        except AddressError:
            return


def test_a_nest_signed_and_read_back_has_the_room_of_its_d_tag():
    keys = Keys.generate()
    assert read_nest(keys.sign(30312, created_at=1, tags=TAGS)).address == Address(30312, keys.public, "room-1")


ADDRESS = Address(30312, HEX, "room-1")
NADDR = write_naddr(ADDRESS)


@pytest.mark.parametrize(
    "link",
    [
        f"https://nests.example/{NADDR}",
        f"https://nests.example/{NADDR}/",
        f"HTTPS://nests.example:8443/a/b/{NADDR}?autojoin=1#chat",
        f"http://nests.example/room/{NADDR}",
        f"https://nests.example/#/{NADDR}",
        f"https://nests.example/nostr%3A{NADDR}",
        f"https://nests.example/30312%3A{HEX}%3Aroom-1?x",
        f" https://nests.example/{NADDR}\n",
    ],
)
def test_a_pages_link_names_the_address_in_it(link):
    assert read_address(link) == ADDRESS


@pytest.mark.parametrize(
    "link",
    [
        "https://nests.example/room/room-1",
        "https://nests.example/room/room-1/?a=b/c#d",
        "https://nests.example/app/room/room%2D1",
        "https://nests.example/#/room/room-1?guest",
    ],
)
def test_a_pages_link_names_the_room_in_it(link):
    assert read_address(link) == "room-1"


@pytest.mark.parametrize(
    "link",
    [
        "https://",
        "https://nests.example",
        "https://room/room-1",
        "https://nests.example/room/",
        "https://nests.example/room/a%2Fb",
        "https://nests.example/room/%1b%5b2J",
        "https://nests.example/about/room-1",
        "https://nests.example/naddr1qqqqq",
        "https://[::1/room",
        "https://nests.example/https://nests.example/",
        "ftp://nests.example/room/room-1",
        "https://nests.example/room/" + "r" * 1_000_000,
        "https://nests.example/" + "/room" * 1_000_000,
        "https://nests.example/room/nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5",
    ],
)
def test_a_link_that_names_no_nest_is_refused_and_not_repeated(link):
    with pytest.raises(AddressError) as refused:
        read_address(link)
    assert len(str(refused.value)) < 400
    assert str(refused.value).isprintable()
    assert "nsec1" not in str(refused.value)


@given(st.text(max_size=60))
def test_any_link_names_a_nest_or_is_refused(tail):
    try:
        found = read_address(f"https://nests.example/{tail}")
    except AddressError:
        return
    assert isinstance(found, Address) or found in tail or "%" in tail


def bech32(prefix, data):
    """Any bytes as bech32 (BIP-173): an naddr by its checksum, whatever is inside."""
    letters, bits = "qpzry9x8gf2tvdw0s3jn54khce6mua7l", "".join(f"{byte:08b}" for byte in data)
    words = [int(bits[at : at + 5].ljust(5, "0"), 2) for at in range(0, len(bits), 5)]
    sum_, spread = 1, [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    for word in spread + words + [0] * 6:
        top, sum_ = sum_ >> 25, (sum_ & 0x1FFFFFF) << 5 ^ word
        for place, part in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            sum_ ^= part if top >> place & 1 else 0
    checked = [(sum_ ^ 1) >> 5 * (5 - place) & 31 for place in range(6)]
    return f"{prefix}1" + "".join(letters[word] for word in words + checked)


PARTS = st.tuples(
    st.sampled_from([0, 1, 2, 3, 4, 255]),
    st.binary(max_size=40)
    | st.just(bytes.fromhex(HEX))
    | st.just((30312).to_bytes(4))
    | st.just(b"wss://relay.example"),
)


@given(parts=st.lists(PARTS, max_size=6), cut=st.integers(0, 300))
@example(parts=[(0, b"\xff\xfe"), (2, bytes.fromhex(HEX)), (3, (30312).to_bytes(4))], cut=300)
@example(parts=[(0, b"room"), (2, bytes.fromhex(HEX)), (3, (30312).to_bytes(4)), (1, b"\xff")], cut=300)
def test_an_naddr_with_any_bytes_inside_is_an_address_or_a_mistake(parts, cut):
    data = b"".join(bytes([kind, len(value)]) + value for kind, value in parts)[:cut]
    try:
        found = read_address(bech32("naddr", data))
    except AddressError:
        return
    assert isinstance(found, Address)
    found.identifier.encode()
