"""The lab as a whole: files, vantages, ground truth, start and end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
import tomllib
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from nestobs import nostr
from nestobs.errors import UsageError
from nestobs.lab import Lab, run, scenario_names


async def test_its_files_say_where_everything_is(open_lab):
    async with open_lab("calm", "slow-relay", vantages=2, relays=4, stamps=True) as (lab, _):
        files = lab.info["files"]
        assert json.loads((lab.directory / "lab.json").read_text()) == lab.info
        assert all(Path(path).exists() for path in files.values())
        targets = tomllib.loads(Path(files["config"]).read_text())["targets"]
        assert set(targets) == {"calm", "calm-b", "slow-relay", "slow-relay-b"}
        a, b = lab.info["scenarios"]["slow-relay"]["vantages"]
        assert targets["slow-relay"] == {
            "vantage": "Computer A",
            "api": a["api"],
            "relays": a["relays"],
            "livekit": a["livekit"],
            "livekit_keys_file": files["livekit_keys"],
        }
        assert targets["slow-relay-b"]["vantage"] == b["name"] == "Computer B"
        names = lab.info["scenarios"]["slow-relay"]["truth_names"]
        assert [names[url] for url in a["relays"]] == ["relay-1", "relay-2", "relay-3", "relay-4"]
        assert [names[url] for url in b["relays"]] == ["relay-4", "relay-1", "relay-2", "relay-3"]
        assert [relay["name"] for relay in lab.info["relays"]] == ["relay-1", "relay-2", "relay-3", "relay-4"]
        secret = Path(files["livekit_keys"]).read_text().split(": ")[1].strip()
        assert secret not in json.dumps(lab.info) + Path(files["config"]).read_text() + repr(vars(lab))


async def test_the_second_vantage_is_further_away(open_lab, scenario):
    async with open_lab(scenario(), vantages=2) as (lab, host):
        _, b = lab.info["scenarios"]["made"]["vantages"]
        began = time.monotonic()
        assert (await host.http.get(b["api"] + "/x/info")).status_code == 404
        assert time.monotonic() - began >= 0.030
        async with connect(b["relays"][0]) as ws:
            began = time.monotonic()
            await ws.send(nostr.req("q", nostr.room_filter()))
            assert json.loads(await ws.recv()) == ["EOSE", "q"]
            assert time.monotonic() - began >= 0.080


TWO_PLACES = """
[[vantages]]
name = "here"
[[vantages]]
name = "there"
skew_s = -40.0
steps = [{at_s = 20.0, by_s = 1.0}]
cuts = [{from_s = 0.0, for_s = 1000.0}]
killed_s = 80.0
"""


async def test_each_place_of_a_fleet_has_a_way_of_its_own_and_its_cuts_are_its_own(open_lab, scenario):
    async with open_lab(scenario(TWO_PLACES), vantages=1, delay_scale=0.5) as (lab, host):
        here, there = lab.info["scenarios"]["made"]["vantages"]
        assert [here["target"], there["target"]] == ["made", "made-there"]
        assert not {here["api"], here["livekit"], *here["relays"]} & {there["api"], there["livekit"], *there["relays"]}
        assert there["steps"] == [{"at_s": 10.0, "by_s": 1.0}]
        assert (there["skew_s"], there["killed_s"], there["starts_s"]) == (-40.0, 40.0, None)
        assert lab.info["began_at"] == lab.clock.began_at
        targets = tomllib.loads(Path(lab.info["files"]["config"]).read_text())["targets"]
        assert {name: table["vantage"] for name, table in targets.items()} == {"made": "here", "made-there": "there"}
        names = lab.info["scenarios"]["made"]["truth_names"]
        assert [names[url] for url in here["relays"]] == [names[url] for url in there["relays"]]
        assert (await host.http.get(there["api"] + "/x/info")).status_code == 404, "nothing was made yet"
        await host.create()
        assert (await host.http.get(here["api"] + "/x/info")).status_code == 404
        with pytest.raises(httpx.ReadTimeout):
            await host.http.get(there["api"] + "/x/info", timeout=0.3)
        with pytest.raises(TimeoutError):
            await connect(there["relays"][0], open_timeout=0.3)


async def test_a_network_that_was_cut_carries_again(open_lab, scenario):
    text = '[[vantages]]\nname = "here"\ncuts = [{from_s = 0.0, for_s = 1.0}]'
    async with open_lab(scenario(text)) as (lab, host):
        url = lab.info["scenarios"]["made"]["vantages"][0]["api"]
        began_s = lab.clock.elapsed_s()
        await host.create()
        assert (await host.http.get(url + "/x/info", timeout=10)).status_code == 404
        assert lab.clock.elapsed_s() >= began_s + 1.0


async def test_every_shipped_scenario_starts_together_and_ends_clean(open_lab):
    asyncio.get_running_loop().set_debug(True)
    async with open_lab(*scenario_names(), vantages=2, delay_scale=0.01) as (lab, host):
        assert set(lab.gates) == set(lab.api) == set(scenario_names())
        room = await host.create()
        assert room in lab.nests()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_route_truth_holds_to_the_request(open_lab, scenario):
    """Ask as fast as possible: absent before not_yet_at, present after now_at, on each route."""
    text = '[api]\nrecord = {kind="constant", s=0.2}\nguest = {kind="constant", s=0.1}\n'
    async with open_lab(scenario(text + '[livekit]\ncreated = {kind="constant", s=0.25}')) as (lab, host):
        room = await host.create()
        looks = []
        ends = time.monotonic() + 10
        while time.monotonic() < ends and (len(lab.truth()) < 6 or not all(look[3] for look in looks[-20:])):
            for route in ("info", "guest"):
                asked_at = lab.clock.now_at()
                answer = await host.http.get(f"{host.base}/{room}/{route}")
                looks.append((route, asked_at, lab.clock.now_at(), answer.status_code == 200))
        rows = {row["layer"]: row for row in lab.truth()}
        assert rows["api:info"]["planned_delay_s"] == pytest.approx(0.2)
        assert rows["api:guest"]["planned_delay_s"] == pytest.approx(0.3)
        assert rows["api:join"]["planned_delay_s"] == pytest.approx(0.25)
        assert rows["api:join"]["not_yet_at"] == rows["livekit:room"]["not_yet_at"]
        for route, asked_at, answered_at, visible in looks:
            row = rows[f"api:{route}"]
            assert not (visible and answered_at < row["not_yet_at"])
            assert visible or asked_at < row["now_at"]
        widths = [(row["now_at"] - row["not_yet_at"]) / 1e9 for row in rows.values()]
        assert min(widths) > 0
        assert max(widths) < 0.5
        assert {row["address"] for row in rows.values()} == {f"30312:{host.keys.public}:{room}"}


async def test_truth_of_a_nest_that_never_comes_and_of_one_that_is_deleted(open_lab, scenario):
    never = scenario('[api]\nrecord = {kind="never"}\n[livekit]\ncreated = {kind="never"}')
    async with open_lab(never, scenario(name="up")) as (lab, host):
        await host.create()
        assert {(row["layer"], row["change"]) for row in lab.truth()} == {
            (layer, "never")
            for layer in ("api:info", "api:join", "api:guest", "livekit:room", "livekit:signal", "livekit:media")
        }
        other = type(host)(lab.info["scenarios"]["up"]["vantages"][0]["api"], host.http)
        room = await other.create()
        await other.call("DELETE", f"/{room}")
        changes = [(row["layer"], row["change"]) for row in lab.truth() if row["room"] == room]
        assert len(changes) == 12
        assert {layer for layer, change in changes if change == "gone"} == {layer for layer, _ in changes}
    lines = [json.loads(line) for line in Path(lab.info["files"]["truth"]).read_text().splitlines()]
    assert lines == lab.truth()


async def test_the_same_seed_gives_the_same_truth(open_lab, until):
    drawn = []
    for _ in range(2):
        async with open_lab("slow-api", seed=7, delay_scale=0.001) as (lab, host):
            await host.create()
            await until(lambda lab=lab: len(lab.truth()) >= 6)
            drawn.append({row["layer"]: row["planned_delay_s"] for row in lab.truth()})
    assert drawn[0] == drawn[1]


async def test_a_join_never_comes_when_the_room_ends_before_the_record_shows(open_lab, scenario, until):
    text = '[api]\nrecord = {kind="constant", s=0.4}\n[livekit]\nexpires = {kind="constant", s=0.1}'
    async with open_lab(scenario(text)) as (lab, host):
        await host.create()
        await until(lambda: any(row["layer"] == "api:info" for row in lab.truth()))
        changes = {(row["layer"], row["change"]) for row in lab.truth()}
        assert {
            ("api:join", "never"),
            ("api:guest", "never"),
            ("livekit:room", "gone"),
            ("api:info", "shown"),
        } <= changes
        assert not {("api:join", "shown"), ("api:guest", "shown")} & changes


async def test_every_layer_gets_a_verdict_when_a_nest_is_deleted_before_anything_shows(open_lab, scenario):
    text = '[api]\nrecord = {kind="constant", s=60}\n[livekit]\ncreated = {kind="constant", s=60}'
    async with open_lab(scenario(text)) as (lab, host):
        room = await host.create()
        assert (await host.call("DELETE", f"/{room}")).status_code == 204
        assert len(lab.truth()) == 6
        assert {(row["change"], row["planned_delay_s"]) for row in lab.truth()} == {("never", 60.0)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"scenarios": []}, "at least one scenario"),
        ({"scenarios": ["calm", "calm"]}, "only once"),
        ({"livekit": "none"}, "auto, server, stand-in"),
        ({"vantages": 3}, "one vantage or two"),
        ({"relays": 0}, "1 to 50"),
        ({"delay_scale": -1}, "zero or more"),
    ],
)
def test_words_it_cannot_use(tmp_path, words, said):
    with pytest.raises(UsageError, match=said):
        Lab(**{"scenarios": ["calm"], "directory": tmp_path, **words})


async def test_a_taken_port_is_an_error_with_a_remedy(open_lab):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} cannot be had"):
            async with open_lab("calm", api_port=port):
                pass


async def test_run_ends_on_a_signal(tmp_path):
    seen = []

    def ready(lab):
        seen.append(lab.info["livekit"]["kind"])
        os.kill(os.getpid(), signal.SIGTERM)

    await asyncio.wait_for(run(["calm"], tmp_path, on_ready=ready, livekit="stand-in"), 20)
    assert seen == ["stand-in"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills children with their parent")
async def test_a_killed_lab_leaves_no_server_behind(tmp_path, real_livekit, until):
    code = (
        "import asyncio, sys\nfrom pathlib import Path\nfrom nestobs.lab import run\n"
        "asyncio.run(run(['calm'], Path(sys.argv[1]), livekit=sys.argv[2],"
        " on_ready=lambda lab: print(lab.livekit_pid, flush=True)))\n"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), real_livekit, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    pid = int(await asyncio.wait_for(child.stdout.readline(), 30))
    child.kill()
    await child.wait()
    await until(lambda: _ended(pid))


def _ended(pid):
    """Gone, or a zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True
