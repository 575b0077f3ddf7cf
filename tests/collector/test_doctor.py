"""The doctor at the doors: each check is good or bad for its own reason, says what to do, and changes nothing."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from aiohttp import web

from nestobs.collector.doctor import examine
from nestobs.lab import ProxyMode
from nestobs.nostr import Keys
from nestobs.store.reader import Store
from worlds import hostile_relays
from worlds.served_api import nests_url


@pytest.fixture
def look(tmp_path):
    """`await look(target)`: checks by name, of a store that is not there unless named."""

    async def looked(target, store=None, keys=None):
        checks = (await examine(target, store or tmp_path / "store", keys=keys)).checks
        names = [check.name for check in checks]
        assert len(names) == len(set(names))
        assert all(check.said for check in checks)
        return {check.name: check for check in checks}

    return looked


def dead_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def test_a_sound_target_is_good_throughout_and_stays_as_it_was(open_lab, target_of, scenario, look, tmp_path):
    async with open_lab(scenario()) as lab:
        checks = await look(target_of(lab))
        assert await lab.rooms() == []
    assert {check.state for check in checks.values()} == {"good"}
    assert not (tmp_path / "store").exists()


async def test_the_budget_is_what_the_server_announces(open_lab, target_of, look):
    async with open_lab("rate-limited") as lab:
        said = (await look(target_of(lab)))["budget"].said
    assert "announces 100 requests" in said
    assert "in 900 s" in said


async def test_without_livekits_keys_that_is_a_note(open_lab, target_of, scenario, look):
    async with open_lab(scenario()) as lab:
        checks = await look(target_of(lab, keys=False))
    assert checks["livekit keys"].state == "note"
    assert "everything works but the room list" in checks["livekit keys"].said


async def test_wrong_keys_of_livekit_are_bad_and_not_repeated(open_lab, target_of, scenario, look):
    secret = "another-secret-of-more-than-thirty-two-bytes"
    async with open_lab(scenario()) as lab:
        checks = await look(replace(target_of(lab), livekit_secret=secret))
    assert checks["livekit keys"].state == "bad"
    assert secret not in "".join(check.said for check in checks.values())


async def test_without_a_livekit_address_that_is_a_note(open_lab, target_of, scenario, look):
    async with open_lab(scenario()) as lab:
        checks = await look(replace(target_of(lab), livekit=""))
    assert checks["livekit"].state == "note"


async def test_an_api_that_is_down_is_bad_and_the_rest_is_still_looked_at(open_lab, target_of, scenario, look):
    async with open_lab(scenario()) as lab:
        lab.api_proxy["made"].mode = ProxyMode.REFUSE
        checks = await look(target_of(lab))
    assert checks["api"].state == "bad"
    assert "refused" in checks["api"].said
    assert checks["livekit"].state == "good"
    assert {check.state for name, check in checks.items() if name.startswith("relay")} == {"good"}


async def test_a_path_that_is_not_the_apis_is_bad(open_lab, target_of, scenario, look):
    async with open_lab(scenario()) as lab:
        target = target_of(lab)
        checks = await look(replace(target, api=target.api.replace("/api/v1/nests", "/api/v2/rooms")))
    assert checks["api path"].state == "bad"
    assert "check the API address" in checks["api path"].said


OTHERS = {
    "a proxy": ("text/plain", "404 page not found\n", "bad"),
    "a gateway": ("application/json", '{"message":"no Route matched with those values"}', "bad"),
    "a .NET service": (
        "application/problem+json",
        '{"title":"Not Found","status":404,"traceId":"00-ab-cd-00"}',
        "note",
    ),
    "a web app": ("text/html", "<title>Nests</title>", "bad"),
}


@pytest.mark.parametrize("whose", OTHERS)
async def test_a_404_of_somebody_else_is_not_called_the_apis(serving, open_lab, target_of, scenario, look, whose):
    kind, text, state = OTHERS[whose]

    async def answer(request):
        return web.Response(status=404, text=text, content_type=kind)

    async with serving(answer) as port, open_lab(scenario()) as lab:
        checks = await look(replace(target_of(lab), api=nests_url(port)))
    assert checks["api path"].state == state
    assert "own 404" not in checks["api path"].said


async def test_an_api_that_only_errs_is_bad(open_lab, target_of, scenario, look):
    async with open_lab(scenario()) as lab:
        lab.api["made"].fault.status = 503
        checks = await look(target_of(lab))
    assert checks["api path"].state == "bad"


async def test_a_relay_that_is_down_is_bad_by_name(open_lab, target_of, scenario, look):
    dead = f"ws://127.0.0.1:{dead_port()}"
    async with open_lab(scenario()) as lab:
        target = target_of(lab)
        checks = await look(replace(target, relays=(target.relays[0], dead)))
    assert checks[f"relay {target.relays[0]}"].state == "good"
    assert checks[f"relay {dead}"].state == "bad"
    assert "refused" in checks[f"relay {dead}"].said


async def notice(peer, verb, *rest):
    await peer.say("NOTICE", "ERROR: too many concurrent REQs")


@pytest.mark.parametrize(
    ("answer", "key", "state", "said"),
    [
        ({"answer": notice}, False, "bad", "no answer: no answer within 5 s (NOTICE: ERROR: too many"),
        (hostile_relays.members_only("before EOSE"), False, "bad", "set NESTOBS_NSEC"),
        (hostile_relays.members_only("after CLOSED"), False, "bad", "set NESTOBS_NSEC"),
        (hostile_relays.members_only("on connect"), True, "good", "wants to know who asks (NIP-42) and took your key"),
        (hostile_relays.members_only("held"), True, "good", "wants to know who asks (NIP-42) and took your key"),
        (hostile_relays.members_only("on connect", ok="false"), True, "bad", "restricted: not a member"),
    ],
    ids=["notice", "auth and eose", "auth", "auth with a key", "held with a key", "a key that is not taken"],
)
async def test_a_relay_is_good_when_it_answers_a_question(
    open_lab, target_of, scenario, look, answer, key, state, said
):
    async with open_lab(scenario()) as lab, hostile_relays.relay(**answer) as (url, _):
        checks = await look(replace(target_of(lab), relays=(url,)), keys=Keys.generate() if key else None)
    assert checks[f"relay {url}"].state == state
    assert said in checks[f"relay {url}"].said


async def test_a_livekit_that_is_down_is_bad(open_lab, target_of, scenario, look):
    async with open_lab(scenario()) as lab:
        lab.livekit_proxy["made"].mode = ProxyMode.REFUSE
        checks = await look(target_of(lab))
    assert checks["livekit"].state == "bad"


PAGES = {
    "404": (404, "<h1>404 Not Found</h1>", "is the path right?"),
    "502": (502, "<h1>502 Bad Gateway</h1>", "a web page"),
    "200": (200, "<!doctype html>", "a web page"),
    "a redirect": (301, "", "redirects to"),
}


@pytest.mark.parametrize("page", PAGES)
async def test_a_web_server_in_livekits_place_is_bad_and_named(open_lab, target_of, scenario, look, serving, page):
    status, text, words = PAGES[page]

    async def answer(request):
        headers = {"Location": "https://sso.invalid/"} if status == 301 else {}
        return web.Response(status=status, text=text, content_type="text/html", headers=headers)

    async with open_lab(scenario()) as lab, serving(answer) as port:
        checks = await look(replace(target_of(lab), livekit=f"ws://127.0.0.1:{port}"))
    for name in ("livekit", "livekit keys"):
        assert checks[name].state == "bad"
        assert words in checks[name].said


@pytest.mark.parametrize("skew_s", [60.0, -60.0])
async def test_a_clock_far_from_the_apis_is_bad(open_lab, target_of, scenario, look, skew_s):
    async with open_lab(scenario(f"[api]\ndate_skew_s = {skew_s}\n")) as lab:
        checks = await look(target_of(lab))
    assert checks["clock"].state == "bad"
    assert "NTP" in checks["clock"].said


async def test_a_hostile_servers_words_are_cut_and_kept_apart(open_lab, target_of, scenario, look):
    """What a server calls itself is its own affair; it may not be endless."""
    async with open_lab(scenario()) as lab:
        checks = await look(target_of(lab))
    assert all(len(check.said) < 500 for check in checks.values())


async def test_without_a_target_this_machine_is_looked_at(look):
    checks = await look(None)
    assert set(checks) == {"python", "media", "store", "target"}
    assert checks["target"].state == "note"


async def test_a_store_is_counted_and_a_foreign_one_is_bad(look, tmp_path):
    Store.open(tmp_path / "rows")
    assert "holds 0 observations" in (await look(None, tmp_path / "rows"))["store"].said
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "journal.sqlite").write_bytes(b"not a database, and long enough to be looked at" * 10)
    assert (await look(None, tmp_path / "theirs"))["store"].state == "bad"


async def test_a_store_that_cannot_be_made_is_bad(look, tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        assert (await look(None, path))["store"].state == "bad"


async def test_a_folder_that_holds_no_store_yet_can_become_one(look, tmp_path):
    """`canary --store DIR` makes one there, so the doctor may not call it bad."""
    (tmp_path / "empty").mkdir()
    assert (await look(None, tmp_path / "empty"))["store"].state == "good"


async def test_that_only_doors_were_tried_is_said(open_lab, target_of, scenario, tmp_path):
    async with open_lab(scenario("[api]\njoin_fault = '404'\n")) as lab:
        found = await examine(target_of(lab), tmp_path / "store")
    assert (found.verdict.code, found.verdict.id, found.steps) == (0, "", [])
    assert found.verdict.said.startswith("only the doors were tried")
    assert "--make" in found.verdict.said
    assert "join" in found.verdict.not_tried[0]
    assert "only the doors" in found.lines()[-1]


@pytest.mark.parametrize("mode", [ProxyMode.REFUSE, ProxyMode.STALL], ids=str)
async def test_what_is_bad_at_a_door_has_an_id(open_lab, target_of, scenario, tmp_path, mode):
    async with open_lab(scenario()) as lab:
        lab.api_proxy["made"].mode = mode
        found = await examine(target_of(lab), tmp_path / "store")
    assert (found.verdict.code, found.verdict.id) == (1, "api_down")
    assert found.as_dict()["verdict"]["id"] == "api_down"
