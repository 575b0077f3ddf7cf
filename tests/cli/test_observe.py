"""demo, lab, doctor, canary, watch, join and ready as their users meet them, mostly against a lab beside."""

from __future__ import annotations

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nestobs.collector.undo import cleanup
from nestobs.nostr import ROOM_KIND, Address, Keys, write_naddr
from nestobs.store.reader import Store
from worlds.command_line import NOBODY, Host, is_one_sentence, process, raw_controls
from worlds.hostile_relays import relay, storing

pytestmark = pytest.mark.slow

# words that are wrong


@pytest.mark.parametrize(
    "address",
    [
        "",
        "naddr1",
        "naddr1qqqqq",
        "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5",
        "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg",
        "30312:abc:room",
        "30311:" + "a" * 64 + ":room",
        "30312:" + "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e" + ":",
        "a room",
        "../../health",
        "room\x1b[2J",
        "r" * 300,
    ],
)
@pytest.mark.parametrize("command", ["join", "ready"])
def test_a_malformed_address_is_refused_before_anything_is_asked(command, address, run, home):
    said = run(command, *NOBODY, "--", address)
    is_one_sentence(said, 2)
    assert raw_controls(said.err) == []
    assert "nsec1" not in said.err
    assert not (home / "nestobs-data").exists()


def test_an_unknown_scenario_lists_the_known_ones(run):
    is_one_sentence(run("lab", "--scenario", "nope"), 2, "'nope'", "calm", "slow-api")
    is_one_sentence(run("lab", "--scenario", "nope.toml"), 2, "nope.toml")


def test_a_scenario_file_that_is_no_text_or_no_toml_is_named(home, run):
    (home / "odd.toml").write_bytes(b"\xff\xfe")
    is_one_sentence(run("lab", "--scenario", "odd.toml"), 2, "odd.toml")
    (home / "bad.toml").write_text("[api")
    is_one_sentence(run("lab", "--scenario", "bad.toml"), 2, "bad.toml")
    (home / "folder.toml").mkdir()
    is_one_sentence(run("lab", "--scenario", "folder.toml"), 2, "folder.toml")


@pytest.mark.parametrize("scale", ["-1", "nan", "inf"])
def test_a_delay_scale_that_is_none_is_refused(scale, run, home):
    """The folder that cannot be made keeps a lab that takes such a scale from running for ever."""
    (home / "file").write_text("")
    is_one_sentence(run("lab", "--stand-in", "--delay-scale", scale, "--dir", "file/lab"), 2, "delay")


def test_a_lab_folder_that_is_a_file_is_told(home, run):
    (home / "file").write_text("mine")
    is_one_sentence(run("lab", "--stand-in", "--dir", "file"), 2, "file")


def test_a_demo_folder_that_is_a_file_or_not_the_demos_is_left_alone(home, run):
    (home / "file").write_text("mine")
    is_one_sentence(run("demo", "--out", "file"), 2, "--out")
    (home / "folder").mkdir()
    (home / "folder" / "thesis.txt").write_text("mine")
    is_one_sentence(run("demo", "--out", "folder"), 2, "--out")
    assert (home / "folder" / "thesis.txt").read_text() == "mine"


def test_a_demo_of_too_few_nests_is_refused(run):
    is_one_sentence(run("demo", "--nests", "2"), 2, "at least")


# keys


def test_a_key_folder_that_cannot_be_written_is_told_before_anything_is_made(lab, run, home, monkeypatch):
    before = lab.made()
    (home / "file").write_text("")
    monkeypatch.setenv("NESTOBS_STATE_DIR", str(home / "file"))
    said = run("canary", "--count", "1", *lab.target("calm"), "--json")
    is_one_sentence(said, 2, "NESTOBS_STATE_DIR")
    assert lab.made() == before


def test_what_a_relay_still_shows_open_is_in_the_last_line_and_the_exit_code(lab, home):
    standing = relay(**storing(honours="", versions="first"))
    url, _ = lab.call(standing.__aenter__())
    try:
        words = ("--api", lab.way("calm")["api"], "--relay", url, "--count", "1", "--horizon", "1s")
        said = process("canary", *words)
    finally:
        lab.call(standing.__aexit__(None, None, None))
    [room, event] = Store.open(home / "nestobs-data").ledger(open_only=False)
    assert said.code == 1
    left = f"nestobs: 1 left behind: the event of {room.room}: still open on {url}"
    assert said.err.splitlines()[-1].startswith(left)
    assert f"left behind: the event of {room.room}" in said.out
    assert (room.how, event.closed_at, event.note) == ("deleted", None, f"still open on {url}")


# the request budget


@pytest.fixture
def limited():
    """An API that allows 5 requests in 15 minutes and knows no nest: its address, and what it was asked."""
    asked: list[str] = []

    class Limited(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(404)
            self.send_header("RateLimit-Policy", "5;w=900")
            self.end_headers()
            self.wfile.write(b'{"error":"Nest not found"}')

        def log_message(self, *_):
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Limited) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/v1/nests", asked
        server.shutdown()
        thread.join()


def test_a_loop_of_ready_spends_no_more_than_our_share_and_is_told_until_when(run, limited):
    url, asked = limited
    said = [run("ready", "room", "--api", url, "--relay", "ws://127.0.0.1:9") for _ in range(6)]
    assert len(asked) == 4
    assert [each.code for each in said] == [3] * 6
    assert "the API answers 404" in said[1].out
    for each in said[2:]:
        assert re.search(r"the request budget of this host \(4 in 900 s\) is spent until \d\d:\d\d:\d\d UTC", each.out)


# what does not answer


@pytest.mark.parametrize("words", [("canary", "--count", "1"), ("watch", "--for", "1s")])
def test_an_api_that_does_not_answer_ends_the_run(words, stored, run):
    is_one_sentence(run(*words, *NOBODY), 3, "127.0.0.1:9", "does not answer", "address")
    assert Store.open(stored).count() > 3  # the attempt itself is a row


def test_a_host_that_does_not_resolve_is_told(run):
    said = run(
        "watch", "--for", "1s", "--api", "http://nestobs.invalid/api/v1/nests", "--relay", "ws://nestobs.invalid"
    )
    is_one_sentence(said, 3, "nestobs.invalid", "resolve")


def test_a_plan_beyond_the_budget_is_refused(lab, run, home):
    said = run("canary", "--count", "500", *lab.target("rate-limited"), "--json")
    is_one_sentence(said, 4, "ask for at most 3 nests")
    assert list((home / "state").rglob("*.nsec")) == []


# ports in use


def test_a_port_in_use_stops_the_lab(taken, run):
    is_one_sentence(run("lab", "--stand-in", "--api-port", taken), 2, taken, "in use")


def test_a_webhook_port_in_use_stops_a_canary_before_it_makes_anything(taken, lab, run, home, stored):
    before = lab.made()
    said = run("canary", "--count", "1", "--webhook-port", taken, *lab.target("calm"), "--json")
    is_one_sentence(said, 2, taken)
    assert lab.made() == before
    assert list((home / "state").rglob("*.nsec")) == []
    assert Store.open(stored).count() >= 3
    assert Store.open(stored).ledger() == []


def test_a_webhook_port_in_use_stops_a_watch(taken, lab, run):
    is_one_sentence(run("watch", "--for", "1s", "--webhook-port", taken, *lab.target("calm"), "--json"), 2, taken)


def test_webhooks_without_livekits_key_are_refused(lab, run):
    way = lab.way("calm")
    said = run(
        "watch", "--for", "1s", "--webhook-port", "0", "--api", way["api"], "--relay", way["relays"][0], "--json"
    )
    is_one_sentence(said, 2, "key and secret")


# canary


def test_a_canary_says_its_result_as_json_and_nothing_else(observed, lab):
    said, store = observed
    assert said.code == 0, said
    assert said.err == ""
    assert said.data["nests"] == 2
    assert said.data["left"] == []
    assert len(said.data["rooms"]) == 2
    assert sum(said.data["verdicts"].values()) == 8  # two joins a nest and vantage
    assert not set(said.data["rooms"]) & set(lab.nests())
    assert not set(said.data["rooms"]) & set(lab.rooms())
    assert Store.open(store).ledger() == []


def test_a_canary_looks_from_each_vantage(observed):
    rows = list(Store.open(observed[1]).observations())
    assert {row.vantage for row in rows} == {"Computer A", "Computer B"}
    assert {row.run_id for row in rows} == {observed[0].data["run_id"]}


def test_a_canarys_own_key_is_gone_when_all_is_deleted(observed):
    assert list(observed[1].parent.rglob("*.nsec")) == []


def test_no_key_and_no_token_reaches_the_store(observed, lab):
    key, _, secret = Path(lab.config).with_name("livekit-keys.txt").read_text().strip().partition(": ")
    raw = b"".join(path.read_bytes() for path in observed[1].rglob("*") if path.is_file())
    assert key
    for word in (secret.encode(), b"nsec1", b"Nostr ey", b"access_token", b"eyJhbGciOi"):
        assert word not in raw


def test_a_canary_tells_its_plan_and_result_in_words(lab, run):
    words = ("--count", "1", "--horizon", "1s", "--policy", "guide")
    said = run("canary", *lab.target("calm"), *words)
    assert said.code == 0
    assert "made 1 nests, 0 refused; joins: " in said.out  # after how the observer was, where it had too much to do
    assert "polls of each API layer" in said.err
    assert raw_controls(said.out + said.err) == []


def test_a_canary_of_none_only_cleans_up(lab, run):
    before = lab.made()
    said = run("canary", "--count", "0", *lab.target("calm"), "--json")
    assert said.code == 0
    assert said.data["nests"] == 0
    assert lab.made() == before


def test_a_canary_whose_nests_are_all_refused_says_no_and_why_in_its_last_line(lab, run, monkeypatch):
    monkeypatch.setattr(cleanup, "GRACE_S", 0.0)
    fault = lab._lab.api["calm"].fault
    fault.status = 503
    try:
        said = run("canary", "--count", "1", "--horizon", "1s", *lab.target("calm"), "--json")
    finally:
        fault.status = None
    assert said.code == 1
    assert said.data["nests"] == 0
    assert said.data["refused"] == 1
    assert said.err.splitlines()[-1] == "nestobs: none of 1 nests was made: The lab answers so"


def test_a_canary_whose_nests_nobody_gets_into_says_no_and_how_they_ended(lab, run):
    words = ("--count", "1", "--horizon", "2s", "--policy", "guide")
    said = run("canary", *lab.target("starting"), *words, "--json")
    assert said.code == 1
    assert (said.data["nests"], said.data["joined"], said.data["left"]) == (1, 0, [])
    assert said.err.splitlines()[-1] == "nestobs: nobody got in: 2 joins of 1 nests, 2 starting_up"


# join, ready


def test_a_nest_is_joined_by_its_naddr_by_its_address_and_by_its_room(nest, lab, run):
    for name in (write_naddr(nest), str(nest), nest.identifier):
        said = run("join", name, "--guest", "--stay", "100ms", *lab.target("calm"), "--visit-empty", "--json")
        assert said.code == 0, said
        assert said.data["verdict"] == "guest"
        assert said.data["joined"] is True
        assert said.data["room"] == nest.identifier
        assert said.data["nest"] == str(nest)
        assert len(said.data["relays"]) == 2
        assert said.err == ""


def test_with_a_key_one_joins_authenticated(nest, lab, run, monkeypatch):
    keys = Keys.generate()
    monkeypatch.setenv("NESTOBS_NSEC", keys.to_nsec())
    said = run("join", str(nest), "--stay", "100ms", *lab.target("calm"), "--visit-empty", "--json")
    assert said.code == 0
    assert said.data["verdict"] == "authenticated"
    raw = b"".join(path.read_bytes() for path in Path("nestobs-data").rglob("*"))
    assert keys.to_nsec() not in said.out
    assert keys.to_nsec().encode() not in raw


def test_a_guest_joins_as_a_guest_even_where_there_is_a_key(nest, lab, run, monkeypatch):
    monkeypatch.setenv("NESTOBS_NSEC", Keys.generate().to_nsec())
    said = run("join", str(nest), "--guest", "--stay", "100ms", *lab.target("calm"), "--visit-empty", "--json")
    assert said.data["verdict"] == "guest"


def test_a_join_in_words_says_how_it_went_step_by_step(nest, lab, run):
    said = run("join", str(nest), "--guest", "--stay", "100ms", *lab.target("calm"), "--visit-empty")
    assert said.code == 0
    assert said.out.startswith("guest")
    assert nest.identifier in said.out
    assert re.search(r"^  guest +visible +200", said.out, re.M)


def test_an_empty_nest_of_others_is_not_visited_and_the_words_say_so(nest, lab, run):
    said = run("join", str(nest), "--guest", *lab.target("calm"))
    assert said.code == 1
    assert said.out.startswith("not_visited\n  found      not visited: nobody is inside")
    assert "--visit-empty" in said.out
    assert run("join", str(nest), *lab.target("calm"), "--json").data["reason"].startswith("not visited: nobody")


def test_a_nest_that_is_starting_up_is_not_joined_and_the_user_is_told(lab, run):
    address = Host(lab, "starting").open()
    said = run("join", str(address), "--guest", "--policy", "guide", *lab.target("starting"), "--json")
    assert said.code == 1
    assert said.data["verdict"] == "starting_up"
    assert said.data["joined"] is False
    assert said.data["message"]


def test_a_hostile_event_cannot_act_on_the_terminal_of_who_joins(lab, run):
    host = Host(lab, "starting")
    address = host.announce("quiet-room", status="\x1b[2J\x07\u202eclosed", name="\x1b]0;mine\x07")
    for words in (("join", "--policy", "guide"), ("ready",)):
        said = run(words[0], str(address), *words[1:], *lab.target("starting"))
        assert said.code in (1, 3, 6)
        assert raw_controls(said.out + said.err) == []


@pytest.mark.parametrize("url", ["ws://[::1", "ws://127.0.0.1:99999", "javascript:alert(1)"])
def test_an_event_with_unusable_addresses_does_not_stop_who_joins(url, lab, run):
    way, host = lab.way("calm"), Host(lab)
    address = host.open(streaming=url, service=url)
    flags = [word for relay in way["relays"] for word in ("--relay", relay)]
    said = run("join", str(address), "--guest", "--policy", "guide", "--api", way["api"], *flags, "--json")
    assert said.code in (0, 1)
    assert said.data["verdict"]


def test_a_hostile_room_name_inside_an_naddr_cannot_act_on_the_terminal(lab, run):
    name = write_naddr(Address(ROOM_KIND, Keys.generate().public, "\x1b[2Jroom\u202e\r/../x?y#z"))
    for words in (("join", "--policy", "guide"), ("ready",)):
        said = run(words[0], name, *words[1:], *lab.target("calm"))
        assert said.code in (1, 3, 6)
        assert raw_controls(said.out + said.err) == []


def test_ready_is_0_for_a_live_nest(nest, lab, run):
    for name in (write_naddr(nest), str(nest), nest.identifier):
        said = run("ready", name, *lab.target("calm"), "--json")
        assert said.code == 0
        assert (said.data["code"], said.data["state"]) == (0, "ready")


def test_ready_is_1_for_one_that_is_starting(lab, run):
    said = run("ready", str(Host(lab, "starting").open()), *lab.target("starting"))
    assert said.code == 1
    assert said.out.startswith("not yet: ")
    assert said.err == ""


def test_ready_is_6_for_one_that_is_closed(lab, run):
    said = run("ready", str(Host(lab).announce("closed-room", status="closed")), *lab.target("calm"), "--json")
    assert said.code == 6
    assert said.data["state"] == "gone or closed"


def test_ready_is_6_for_one_that_is_past_the_threshold(lab, run):
    said = run("ready", str(Host(lab).announce("old-room", age_s=40)), *lab.target("calm"), "--json")
    assert said.code == 6
    assert "40" in said.data["why"] or "41" in said.data["why"]


def test_ready_is_3_when_the_api_is_down(nest, lab, run):
    way = lab.way("calm")
    said = run("ready", str(nest), *NOBODY[:2], "--relay", way["relays"][0], "--json")
    assert said.code == 3
    assert said.data["state"] == "cannot tell"
    assert "refused" in said.data["why"]


def test_ready_is_3_for_one_that_nobody_knows(lab, run):
    said = run("ready", "no-such-room", *lab.target("calm"), "--json")
    assert said.code == 3


# doctor, lab


def test_the_doctor_finds_a_sound_target_good(lab, run, home):
    said = run("doctor", *lab.target("calm"), "--json")
    assert said.code == 0, said.out
    states = {check["name"]: check["state"] for check in said.data["checks"]}
    assert {"python", "media", "store", "api", "budget", "clock", "api path", "livekit", "livekit keys"} <= set(states)
    assert set(states.values()) == {"good"}
    assert not (home / "nestobs-data").exists()


def test_the_doctor_finds_a_dead_api_and_secure_words_to_a_plain_port_bad(lab, run):
    secure = lab.way("calm")["relays"][0].replace("ws://", "wss://")
    said = run("doctor", *NOBODY[:2], "--relay", secure)
    assert said.code == 1
    assert said.err == ""
    assert re.search(r"^BAD   api: .*refused", said.out, re.M)
    assert re.search(rf"^BAD   relay {re.escape(secure)}: .*tls", said.out, re.M | re.I)


def test_the_doctor_without_a_target_looks_at_this_machine(run):
    said = run("doctor")
    assert said.code == 0
    assert "note  target: none named" in said.out


@pytest.mark.parametrize("flags", [(), ("--no-make",)], ids=["no key", "a key, and not wanted"])
def test_the_doctor_says_that_it_tried_only_doors(lab, run, monkeypatch, flags):
    if flags:
        monkeypatch.setenv("NESTOBS_NSEC", Keys.generate().to_nsec())
    before = lab.made()
    said = run("doctor", *lab.target("calm"), *flags)
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("good: only the doors were tried")
    assert lab.made() == before


@pytest.mark.parametrize("flags", [(), ("--make",)], ids=["a host's key", "asked for"])
def test_the_doctor_tries_a_room_where_there_is_a_hosts_key_or_it_is_asked_for(lab, run, home, monkeypatch, flags):
    """The lab restarts as released APIs do, and the bug report says so."""
    if not flags:
        monkeypatch.setenv("NESTOBS_NSEC", Keys.generate().to_nsec())
    before = set(lab.nests()), set(lab.rooms())
    said = run("doctor", *lab.target("calm"), *flags, "--json")
    assert said.code == 1, said.out
    assert said.data["verdict"]["id"] == "restart_without_effect"
    assert said.data["requests"] <= 20
    assert said.data["left"] == []
    steps = {step["name"]: step for step in said.data["steps"]}
    assert {name for name, step in steps.items() if step["state"] != "good"} == {"restart"}
    assert steps["restart"].keys() >= {"cause", "asked", "answered", "should", "looks_like", "evidence"}
    [first, *_] = steps["restart"]["evidence"]
    ids = {row.observation_id for row in Store.open(home / "nestobs-data").observations()}
    assert re.search(r"^request \d+ at \d+\.\d s: POST ", first["said"])
    assert {row for seen in steps["restart"]["evidence"] for row in seen["rows"]} <= ids
    assert (set(lab.nests()), set(lab.rooms())) == before
    assert Store.open(home / "nestobs-data").ledger() == []


def test_the_doctor_whose_store_is_in_use_looks_at_the_doors_and_says_so(lab, run, home, monkeypatch):
    monkeypatch.setenv("NESTOBS_NSEC", Keys.generate().to_nsec())
    with Store.open(home / "nestobs-data").writer():
        said = run("doctor", *lab.target("calm"))
        insisted = run("doctor", *lab.target("calm"), "--make")
    assert said.code == 3
    assert said.out.splitlines()[-1].startswith("cannot tell: ")
    is_one_sentence(insisted, 5, "another")


def test_the_scenarios_are_listed(run):
    names = run("lab", "--list").out.split()
    assert {"calm", "slow-relay", "slow-api", "api-join-fault", "expired-room", "rate-limited", "never"} <= set(names)
    assert run("lab", "--list", "--json").data == {"scenarios": names}
