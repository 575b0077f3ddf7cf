"""Nostr against published vectors and a second implementation of BIP-340, bech32 and NIP-01 ids, written here."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nestobs import nostr
from nestobs.errors import AddressError, KeyFormatError
from nestobs.nostr import Address, Keys, MalformedAuth, MalformedEvent

VECTORS = Path(__file__).parent / "vectors"
BIP340 = json.loads((VECTORS / "bip340.json").read_text())["vectors"]
EVENTS = json.loads((VECTORS / "events.json").read_text())
NIP19 = json.loads((VECTORS / "nip19.json").read_text())


# A second implementation, slow and short


P = 2**256 - 2**32 - 977
N = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
G = (
    0x79BE667EF9DCBBAC55A06295CE870B07029BFCDB2DCE28D959F2815B16F81798,
    0x483ADA7726A3C4655DA4FBFC0E1108A8FD17B448A68554199C47D08FFB10D4B8,
)


def add(a, b):
    if a is None or b is None:
        return a or b
    if a[0] == b[0] and (a[1] + b[1]) % P == 0:
        return None
    slope = 3 * a[0] * a[0] * pow(2 * a[1], -1, P) if a == b else (b[1] - a[1]) * pow(b[0] - a[0], -1, P)
    x = (slope * slope - a[0] - b[0]) % P
    return x, (slope * (a[0] - x) - a[1]) % P


def times(count, point):
    total = None
    while count:
        total = add(total, point) if count & 1 else total
        point, count = add(point, point), count >> 1
    return total


def lift_x(x):
    y = pow(x**3 + 7, (P + 1) // 4, P)
    return (x, y if y % 2 == 0 else P - y) if x < P and y * y % P == (x**3 + 7) % P else None


def schnorr(public, message, signature):
    """Whether BIP-340 takes a signature (hex)."""
    point = lift_x(int(public, 16))
    r, s = int(signature[:64], 16), int(signature[64:], 16)
    if point is None or r >= P or s >= N:
        return False
    tag = hashlib.sha256(b"BIP0340/challenge").digest()
    challenge = hashlib.sha256(tag + tag + bytes.fromhex(signature[:64] + public + message)).digest()
    found = add(times(s, G), times(N - int.from_bytes(challenge) % N, point))
    return found is not None and found[1] % 2 == 0 and found[0] == r


def event_id(event):
    """NIP-01: sha256 of the canonical JSON."""
    row = [0, event["pubkey"], event["created_at"], event["kind"], event["tags"], event["content"]]
    return hashlib.sha256(json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def bech32(text):
    """Prefix and bytes of a bech32 text, checksum verified (BIP-173)."""
    alphabet = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
    prefix, _, rest = text.rpartition("1")
    values = [alphabet.index(character) for character in rest]
    check = 1
    for value in [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix] + values:
        top, check = check >> 25, (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    assert check == 1, "the checksum is false"
    bits = "".join(f"{value:05b}" for value in values[:-6])
    return prefix, bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) - 7, 8))


def tlv(data):
    """NIP-19: (type, value) pairs."""
    rows = []
    while data:
        rows.append((data[0], data[2 : 2 + data[1]]))
        data = data[2 + data[1] :]
    return rows


@pytest.mark.parametrize("vector", BIP340, ids=lambda vector: f"{vector['index']} {vector['comment'][:40]}")
def test_the_second_implementation_agrees_with_the_vectors_of_bip_340(vector):
    assert schnorr(vector["public"], vector["message"], vector["signature"]) is vector["genuine"]


# Keys


@pytest.mark.parametrize("vector", [v for v in BIP340 if v["secret"]], ids=lambda vector: str(vector["index"]))
def test_public_keys_are_those_of_bip_340(vector):
    assert Keys.from_secret(vector["secret"]).public == vector["public"]


@pytest.mark.parametrize("secret", [NIP19["nsec"]["nsec"], NIP19["nsec"]["secret"], f"  {NIP19['nsec']['nsec']}\n"])
def test_a_secret_is_read_from_nsec_or_hex(secret):
    keys = Keys.from_secret(secret)
    assert keys.public == NIP19["nsec"]["public"]
    assert keys.to_nsec() == NIP19["nsec"]["nsec"]


ALMOST = [
    "",
    "nsec1",
    NIP19["nsec"]["nsec"][:-1],
    NIP19["nsec"]["nsec"][:-1] + "q",
    NIP19["nsec"]["secret"][:-1],
    NIP19["nsec"]["secret"] + "00",
    "0" * 64,
    "f" * 64,
    f"{N:064x}",
    next(iter(NIP19["npub"])),
    "\x00" * 64,
    "é" * 64,
]


@pytest.mark.parametrize("secret", ALMOST, ids=lambda secret: repr(secret[:12]))
def test_a_secret_that_is_none_is_refused_without_being_quoted(secret):
    with pytest.raises(KeyFormatError) as refused:
        Keys.from_secret(secret)
    assert refused.value.__cause__ is None
    assert not secret.strip() or secret not in str(refused.value)


def test_a_secret_is_in_no_repr_text_or_error():
    keys = Keys.from_secret(NIP19["nsec"]["nsec"])
    shown = f"{keys} {keys!r} {[keys]} {keys._native} {keys._native!r}"
    assert NIP19["nsec"]["secret"] not in shown
    assert NIP19["nsec"]["nsec"] not in shown


def test_keys_are_equal_by_their_public_half():
    assert Keys.from_secret("01" * 32) == Keys.from_secret("01" * 32) != Keys.generate()


# Events


@pytest.mark.parametrize("event", EVENTS["genuine"], ids=lambda event: event["id"][:8])
def test_published_events_are_genuine(event):
    assert event_id(event) == event["id"]
    assert schnorr(event["pubkey"], event["id"], event["sig"])
    assert nostr.read_event(event).as_dict() == event


def test_the_event_that_nip_98_prints_is_not_the_one_it_signed():
    printed = EVENTS["nip98_printed_event"]  # its tag is named u, the signed one's url
    assert event_id(printed) != printed["id"]
    with pytest.raises(MalformedEvent, match="false"):
        nostr.read_event(printed)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    kind=st.integers(0, 65_535),
    created_at=st.integers(0, 2**40),
    content=TEXTS,
    tags=st.lists(st.lists(TEXTS, min_size=1, max_size=4), max_size=4),
)
@example(kind=1, created_at=0, content='"\\\n\t\b\f\r\x00\x1f\x7f\u2028 <script> \U0001f600', tags=[["d", ""]])
def test_what_we_sign_is_genuine_by_the_second_implementation(kind, created_at, content, tags):
    event = Keys.from_secret("02" * 32).sign(kind, created_at=created_at, tags=tags, content=content)
    made = event.as_dict()
    assert (made["kind"], made["created_at"], made["content"], made["tags"]) == (kind, created_at, content, tags)
    assert event_id(made) == event.id
    assert schnorr(event.pubkey, event.id, event.sig)
    assert nostr.read_event(json.loads(json.dumps(made))) == event


@pytest.mark.parametrize("field", ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"])
def test_an_event_changed_in_any_field_is_false(field):
    event = Keys.generate().sign(30312, created_at=1_700_000_000, tags=[("d", "room")], content="words").as_dict()
    other = Keys.generate().sign(1, created_at=1_700_000_001, tags=[("d", "other")], content="others").as_dict()
    with pytest.raises(MalformedEvent, match="false"):
        nostr.read_event(event | {field: other[field]})


EVENT = Keys.from_secret("03" * 32).sign(30312, created_at=1_700_000_000, tags=[("d", "room")]).as_dict()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"id": None}, "id"),
        ({"id": "zz"}, "not an event"),
        ({"pubkey": 5}, "pubkey"),
        ({"created_at": "1700000000"}, "created_at"),
        ({"created_at": -1}, "created_at"),
        ({"created_at": True}, "created_at"),
        ({"created_at": 1.5}, "created_at"),
        ({"created_at": 10**30}, "not an event|false"),
        ({"kind": 2**20}, "not an event|false"),
        ({"tags": None}, "tags"),
        ({"tags": {"d": "room"}}, "tags"),
        ({"tags": ["d"]}, "tags"),
        ({"tags": [["d", 5]]}, "tags"),
        ({"content": None}, "content"),
        ({"content": "\ud800"}, "not an event|false"),
        ({"sig": ""}, "not an event"),
    ],
    ids=repr,
)
def test_an_event_of_another_shape_is_refused_with_the_reason(changed, words):
    with pytest.raises(MalformedEvent, match=words):
        nostr.read_event(EVENT | changed)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(JSON_VALUES)
def test_no_json_value_is_an_event_by_accident(value):
    with pytest.raises(MalformedEvent):
        nostr.read_event(value)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(EVENT)), JSON_VALUES, min_size=1))
def test_an_event_with_garbage_in_its_fields_is_malformed_and_no_crash(changed):
    if all(changed[name] == EVENT[name] for name in changed):
        return
    with pytest.raises(MalformedEvent):
        nostr.read_event(EVENT | changed)


def test_a_tag_is_the_first_of_its_name_with_a_value():
    event = Keys.generate().sign(1, created_at=1, tags=[["d"], ["e", "x"], ["d", "one", "more"], ["d", "two"]])
    assert (event.tag("d"), event.tag("e"), event.tag("p")) == ("one", "x", None)


# Frames


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ('["EVENT","s",{"id":"x"}]', nostr.EventFrame("s", {"id": "x"})),
        ('["EOSE","s"]', nostr.Eose("s")),
        ('["OK","ab",true,""]', nostr.Ok("ab", True, "")),
        ('["OK","ab",false,"blocked: no"]', nostr.Ok("ab", False, "blocked: no")),
        ('["OK","ab",true]', nostr.Ok("ab", True, "")),
        ('["CLOSED","s","auth-required: who"]', nostr.Closed("s", "auth-required: who")),
        ('["CLOSED","s"]', nostr.Closed("s", "")),
        ('["NOTICE","hello"]', nostr.Notice("hello")),
        ('["AUTH","challenge"]', nostr.AuthChallenge("challenge")),
        (b'["EOSE","s"]', nostr.Eose("s")),
        ('["OK","ab","true",""]', nostr.Unreadable('["OK","ab","true",""]')),
        ('["EVENT","s"]', nostr.Unreadable('["EVENT","s"]')),
        ('["COUNT","s",{}]', nostr.Unreadable('["COUNT","s",{}]')),
        ("", nostr.Unreadable("")),
        ("[" * 100_000, nostr.Unreadable("[" * 200)),
        (b"\xff\xfe", nostr.Unreadable("\ufffd\ufffd")),
        ("[" + "9" * 10_000 + "]", nostr.Unreadable("[" + "9" * 199)),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_frames_are_told_apart(text, frame):
    assert nostr.read_frame(text) == frame


@given(st.text() | st.binary() | JSON_VALUES.map(json.dumps))
@example('["EVENT", null, {}]')
@example('"\\ud800"')
def test_no_frame_raises_or_is_kept_longer_than_200_characters(text):
    frame = nostr.read_frame(text)
    assert not isinstance(frame, nostr.Unreadable) or len(frame.text) <= 200


@given(
    st.lists(st.sampled_from(["EVENT", "EOSE", "OK", "CLOSED", "NOTICE", "AUTH"]) | JSON_VALUES, min_size=1, max_size=6)
)
def test_frames_with_the_right_word_and_garbage_after_it_do_not_raise(row):
    nostr.read_frame(json.dumps(row))


def test_what_we_say_to_a_relay():
    keys = Keys.generate()
    event = keys.sign(30312, created_at=1, tags=[("d", "room")])
    asked = nostr.room_filter(authors=[keys.public], identifiers=["room"], since=5, limit=1)
    assert asked == {"kinds": [30312], "authors": [keys.public], "#d": ["room"], "since": 5, "limit": 1}
    assert nostr.room_filter() == {"kinds": [30312]}
    assert json.loads(nostr.req("s", asked, {})) == ["REQ", "s", asked, {}]
    assert json.loads(nostr.close("s")) == ["CLOSE", "s"]
    assert json.loads(nostr.publish(event)) == ["EVENT", event.as_dict()]


def test_the_answer_to_a_relays_challenge_is_a_signed_22242():
    keys = Keys.generate()
    word, raw = json.loads(nostr.relay_auth(keys, relay="wss://r.example", challenge="c", created_at=7))
    event = nostr.read_event(raw)
    assert (word, event.kind, event.pubkey, event.created_at) == ("AUTH", 22_242, keys.public, 7)
    assert (event.tag("relay"), event.tag("challenge")) == ("wss://r.example", "c")


# HTTP auth (NIP-98)


def test_the_header_that_nip_98_prints_is_read():
    event = nostr.read_http_auth(EVENTS["nip98_header"])
    assert event.as_dict() == EVENTS["genuine"][2]


def header(value):
    return "Nostr " + base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


def test_a_header_is_an_event_about_this_very_request():
    keys, body = Keys.generate(), b'{"relays":[]}'
    made = nostr.http_auth(keys, url="https://h.example/a?b=c", method="put", created_at=1_700_000_000, body=body)
    event = nostr.read_http_auth(made)
    assert made.startswith("Nostr ")
    assert "\n" not in made
    assert (event.kind, event.content, event.pubkey) == (27_235, "", keys.public)
    assert event.tags == (
        ("u", "https://h.example/a?b=c"),
        ("method", "PUT"),
        ("payload", hashlib.sha256(body).hexdigest()),
    )
    raw = json.loads(base64.b64decode(made[6:]))
    assert schnorr(event.pubkey, event_id(raw), event.sig)


def test_without_a_body_there_is_no_payload():
    event = nostr.read_http_auth(nostr.http_auth(Keys.generate(), url="https://h", method="GET", created_at=1))
    assert event.tag("payload") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Nostr"),
        ("Nostr", "Nostr"),
        ("Bearer abc", "Nostr"),
        ("Nostr ###", "base64"),
        ("Nostr é", "base64"),
        (header(b"{"), "base64 of JSON"),
        (header(b"[" * 100_000), "base64 of JSON"),
        (header({}), "tags"),
        (header([]), "JSON object"),
        (header(EVENT | {"content": "changed"}), "false"),
    ],
    ids=lambda value: value[:24],
)
def test_a_header_that_is_none_is_refused_with_the_reason(text, words):
    with pytest.raises(MalformedAuth, match=words):
        nostr.read_http_auth(text)


@given(st.text() | st.binary().map(header) | JSON_VALUES.map(header))
def test_no_header_crashes(text):
    with pytest.raises(MalformedAuth):
        nostr.read_http_auth(text)


# Addresses (NIP-19)


@pytest.mark.parametrize(("npub", "public"), NIP19["npub"].items())
def test_public_keys_of_nip_19(npub, public):
    assert nostr.read_public_key(npub) == nostr.read_public_key(public) == nostr.read_public_key(f" {public}\n")
    assert bech32(npub) == ("npub", bytes.fromhex(public))


@pytest.mark.parametrize("text", ["", "npub1", "xyz", "ab" * 31, NIP19["nsec"]["nsec"]])
def test_a_public_key_that_is_none(text):
    with pytest.raises(AddressError, match="neither an npub nor 64 hex digits"):
        nostr.read_public_key(text)


def test_a_secret_given_for_a_public_key_is_not_quoted_whole():
    with pytest.raises(AddressError) as refused:
        nostr.read_public_key(NIP19["nsec"]["nsec"])
    assert NIP19["nsec"]["nsec"][:20] not in str(refused.value)


@pytest.mark.parametrize("vector", NIP19["naddr"], ids=lambda vector: vector["naddr"][-8:])
@pytest.mark.parametrize("prefix", ["", "nostr:"])
def test_published_naddrs(vector, prefix):
    address = nostr.read_naddr(prefix + vector["naddr"])
    assert address == Address(vector["kind"], vector["pubkey"], vector["identifier"], tuple(vector["relays"]))
    assert str(address) == f"{vector['kind']}:{vector['pubkey']}:{vector['identifier']}"
    assert nostr.read_naddr(nostr.write_naddr(address)) == address


RELAYS = st.sampled_from(["wss://relay.example", "ws://127.0.0.1:7777", "wss://a.example/path"])


@settings(deadline=None)
@given(
    identifier=st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(
        lambda text: len(text.encode()) <= 255
    ),
    relays=st.lists(RELAYS, max_size=3),
)
@example(identifier="", relays=[])
@example(identifier="a:b:c <script>\u202e", relays=["wss://relay.example"])
def test_an_naddr_we_write_is_what_nip_19_says(identifier, relays):
    address = Address(30312, NIP19["nsec"]["public"], identifier, tuple(relays))
    text = nostr.write_naddr(address)
    prefix, data = bech32(text)
    rows = tlv(data)
    assert prefix == "naddr"
    assert [value.decode() for kind, value in rows if kind == 0] == [identifier]
    assert [value.decode() for kind, value in rows if kind == 1] == relays
    assert [value.hex() for kind, value in rows if kind == 2] == [address.pubkey]
    assert [int.from_bytes(value) for kind, value in rows if kind == 3] == [30312]
    assert nostr.read_naddr(text) == address


GOOD = NIP19["naddr"][0]["naddr"]


@pytest.mark.parametrize(
    "text",
    ["", "naddr1", GOOD[:-1], GOOD[:-1] + "q", GOOD.replace("naddr", "nevent"), "naddr1" + "q" * 100_000, "naddr1é"],
    ids=lambda text: text[:12],
)
def test_an_naddr_that_is_none_is_refused_and_quoted_shortly(text):
    with pytest.raises(AddressError, match="not a valid naddr") as refused:
        nostr.read_naddr(text)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "address", [Address(30312, "zz", "d"), Address(30312, "", "d"), Address(30312, "ab" * 32, "x" * 300)], ids=str
)
def test_an_address_that_cannot_be_written_is_a_mistake(address):
    with pytest.raises(AddressError, match="cannot be written"):
        nostr.write_naddr(address)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}', {"a": 1}),
        (b'{"a": [null]}', {"a": [None]}),
        ("[1]", None),
        ("7", None),
        ("", None),
        ("{", None),
        (b"\xff", None),
        ("[" * 100_000, None),
        ('{"a":' * 100_000, None),
    ],
)
def test_what_a_stranger_sends_is_a_json_object_or_none(text, found):
    assert nostr.json_object(text) == found


@pytest.mark.slow
@given(
    content=st.text(st.characters(exclude_categories=["Cs"])),
    cells=st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=3)),
    created_at=st.integers(0, 2**63 - 1),
    kind=st.integers(0, 2**16 - 1),
)
@settings(max_examples=200, deadline=None)
def test_what_nostr_sdk_signs_is_genuine_here_whatever_its_text(content, cells, created_at, kind):
    tags = [row for row in cells if row[0]]
    event = SIGNER.sign(kind, created_at=created_at, tags=tags, content=content)
    assert nostr.read_event(event.as_dict()) == event
    if content:
        with pytest.raises(nostr.MalformedEvent, match="false"):
            nostr.read_event(event.as_dict() | {"content": content[:-1]})


SIGNER = Keys.from_secret("01" * 32)  # the same for every worker


@pytest.mark.parametrize(
    "changed",
    [
        {"tags": [["x"]] * 2_001},
        {"tags": [["x"] * 10_001]},
        {"created_at": 2**64},
        {"created_at": -1},
        {"created_at": 1.0},
        {"created_at": True},
        {"created_at": float("nan")},
        {"kind": None},
        {"id": "A" * 64},
        {"pubkey": SIGNER.public.upper()},
        {"id": "ab" * 31, "pubkey": SIGNER.public + "ab"},
        {"content": "\udc00"},
        {"tags": [["d", "\ud800"]]},
        {"tags": {"d": "x"}},
        {"tags": ["d"]},
        {"tags": [None]},
    ],
    ids=lambda changed: repr(changed)[:30],
)
def test_what_no_event_may_hold_is_refused_before_it_costs_anything(changed):
    event = SIGNER.sign(1, created_at=1)
    with pytest.raises(nostr.MalformedEvent):
        nostr.read_event(event.as_dict() | changed)


def test_a_frame_that_is_too_long_is_not_parsed():
    long = b'["EVENT","sub",{"id":"' + b"a" * 200_000
    assert nostr.read_frame(long) == nostr.TooLong("sub", len(long))
    assert isinstance(nostr.read_frame(b"[" * 200_000), nostr.Unreadable)
    assert isinstance(nostr.read_frame('["EVENT","' + "s" * 200_000), nostr.Unreadable)
