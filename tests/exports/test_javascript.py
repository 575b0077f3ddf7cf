"""The ES module decides as Python does: on the vectors, on random cases, and step by step through whole joins.

node runs the module itself; no part of it is read by Python. Where node is not installed these tests are skipped,
unless NESTOBS_REQUIRE_NODE is 1.
"""

from __future__ import annotations

import json
import math
import os
import random
import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from nestobs.exports.javascript import expected, module, random_state, vectors
from nestobs.join.decision import MESSAGES, OF_A_PROBER, Kind
from nestobs.join.policy import GUIDE, RELEASED, Schedule, exponential, fixed, full_jitter, standard_policies
from nestobs.tuning.policy_file import PolicyFile, Provenance, dumps
from worlds.client_episodes import ALL, CHOOSY, PATIENT, STANDARD, TUNED, followed, random_episode

pytestmark = pytest.mark.slow

HARNESS = """
import { readFileSync } from "node:fs";

const numbers = (given) => {
  const left = [...given];
  return { random: () => { if (left.length === 0) throw new Error("drawn dry"); return left.shift(); }, left };
};

// A web client that keeps no other state than the module asks for. Statuses are the world's answers, in turn.
function episode(nextAction, policy, { signedIn, host, ageNs, statuses, retryAfter, given, faulty, witness }) {
  const { random } = numbers(given);
  const answers = [...statuses];
  const log = [];
  const counts = { polls: 0, requests: 0, errorRetries: 0 };
  const fresh = { asked: null, status: null, retryAfterSeconds: null, infoActive: false };
  const at = { active: null, there: 0, seen: null };
  let upgrades = null;
  let now = 0;
  let round = { ...fresh };
  for (;;) {
    const ageSeconds = ageNs === null ? null : (now + ageNs) / 1e9;
    const infoActiveSeconds = at.active === null ? null : (now - at.active) / 1e9;
    const roomThereSeconds = at.seen ? (now - Math.max(at.there, at.active ?? 0)) / 1e9 : 0;
    const known = { infoActiveSeconds, roomThere: at.seen, roomThereSeconds, upgrades };
    const timedOut = round.status === 0 || (round.asked === "connect" && ![200, 404, 401, 403].includes(round.status));
    const state = { signedIn, host, timedOut, ageSeconds, elapsedSeconds: now / 1e9, ...counts, ...round, ...known };
    const next = nextAction(state, random);
    if (next.action === "stop") return { log, ...next };
    if (next.action === "wait") {
      if (round.status === 0 || round.status === 429 || round.status >= 500) counts.errorRetries += 1;
      const waited = Math.round(next.waitSeconds * 1e9);
      now += waited;
      log.push(["wait", waited]);
      round = { ...fresh };
    } else if (next.action === "connect") {
      const status = answers.shift();
      const once = [200, 404, 401, 403].includes(status) || now > Math.round(policy.horizon_s * 1e9);
      for (let left = once ? 1 : policy.connect_attempts; left > 0; left--) log.push(["signal", status]);
      if (status === 200) {
        if (next.kind !== "guest_instead" || !policy.upgrades) return { log, ...next };
        upgrades = 0;
        continue;
      }
      round = { ...round, asked: "connect", status, retryAfterSeconds: null };
    } else {
      const status = faulty ? (next.action === "info" ? 200 : 404) : answers.shift();
      log.push([next.action, status]);
      now += 100_000_000;
      const said = witness[(counts.requests + 1) % witness.length];
      if (said !== null) {
        if (!at.seen) at.there = now;
        at.seen = said;
      }
      if (next.action === "info" && status === 200) at.active ??= now;
      if (next.action === "info" && status === 404) at.active = null;
      if (round.asked === null) counts.polls += 1;
      if (round.asked === null && upgrades !== null) upgrades += 1;
      counts.requests += 1;
      const infoActive = next.action === "info" ? status === 200 : round.infoActive;
      round = { asked: next.action, status, retryAfterSeconds: status === 429 ? retryAfter : null, infoActive };
    }
  }
}

const out = [];
for (const { path, cases = [], episodes = [] } of JSON.parse(readFileSync(0, "utf8"))) {
  const { nextAction, policy, ...rest } = await import(path);
  const decided = cases.map(({ state, random: given }) => {
    const { random, left } = numbers(given);
    return { ...nextAction(state, random), left: left.length };
  });
  const played = episodes.map((one) => episode(nextAction, policy, one));
  out.push({ policy, exported: Object.keys(rest), decided, played });
}
process.stdout.write(JSON.stringify(out));
"""


@pytest.fixture(scope="session")
def node():
    found = shutil.which("node")
    if found is None:
        if os.environ.get("NESTOBS_REQUIRE_NODE") == "1":
            pytest.fail("NESTOBS_REQUIRE_NODE is 1 and there is no node: install Node 18 or newer")
        pytest.skip("there is no node here: install Node 18 or newer to run the ES module")
    return found


@pytest.fixture
def run_node(node, tmp_path):
    """Standard output of node, run on these arguments in a folder of its own."""

    def run(*arguments, text=""):
        said = subprocess.run(
            [node, *arguments], input=text, capture_output=True, text=True, timeout=100, check=False, cwd=tmp_path
        )
        assert said.returncode == 0, said.stderr
        assert said.stderr == ""
        return said.stdout

    return run


@pytest.fixture
def in_node(run_node, tmp_path):
    """What the modules of these policies say, by the policy's key, all in one process."""

    def run(work):
        jobs = []
        for number, (policy, job) in enumerate(work.values()):
            path = tmp_path / f"policy{number}.mjs"
            path.write_text(module(PolicyFile(policy=policy)), "ascii")
            jobs.append({"path": path.as_uri()} | job)
        (tmp_path / "harness.mjs").write_text(HARNESS, "utf-8")
        said = json.loads(run_node("harness.mjs", text=json.dumps(jobs, allow_nan=False)))
        return dict(zip(work, said, strict=True))

    return run


def differences(cases, decided):
    """Cases in which the two disagree: the state, what Python says, what the module says."""
    assert len(cases) == len(decided) > 0
    return [
        (case["state"], case["random"], case["expected"], said)
        for case, said in zip(cases, decided, strict=True)
        if {name: said[name] for name in case["expected"]} != case["expected"]
    ]


class TestAgreement:
    def test_the_module_agrees_with_every_vector(self, in_node):
        cases = {name: json.loads(vectors(PolicyFile(policy=policy)))["vectors"] for name, policy in ALL.items()}
        said = in_node({name: (policy, {"cases": cases[name]}) for name, policy in ALL.items()})
        assert {name: found for name in ALL if (found := differences(cases[name], said[name]["decided"])[:3])} == {}

    def test_the_module_agrees_on_random_cases_and_draws_as_many_numbers(self, in_node):
        cases = {}
        for name, policy in ALL.items():
            rng = random.Random(f"cases of {name}")
            cases[name] = []
            for _ in range(2_000 if name in STANDARD else 500):
                state, numbers = random_state(policy, rng), [rng.random(), rng.random()]
                drawn = iter(numbers)
                told = expected(policy, state, drawn)
                cases[name].append({"state": state, "random": numbers, "expected": told | {"left": len([*drawn])}})
        said = in_node({name: (policy, {"cases": cases[name]}) for name, policy in ALL.items()})
        assert {name: found for name in ALL if (found := differences(cases[name], said[name]["decided"])[:3])} == {}

    def test_a_client_that_follows_the_module_takes_the_steps_of_join_flow(self, in_node):
        episodes = {name: [random_episode(random.Random(f"{name} {n}")) for n in range(60)] for name in ALL}
        said = in_node({name: (policy, {"episodes": episodes[name]}) for name, policy in ALL.items()})
        odd = []
        for name, policy in ALL.items():
            for episode, client in zip(episodes[name], said[name]["played"], strict=True):
                log, verdict = followed(policy, episode)
                told = {"kind": verdict.kind, "message": verdict.message, "retryOffered": verdict.retry_offered}
                if client["log"] != log or {part: client[part] for part in told} != told:
                    odd.append((name, episode, log, told, client))
        assert odd[:2] == []
        ends = [client["kind"] for name in ALL for client in said[name]["played"]]
        assert ends.count(Kind.API_FAULT) > 50
        own = [one["log"] for name in ALL for one in said[name]["played"] if one["kind"] == Kind.AUTHENTICATED]
        assert sum(["guest", 200] in log for log in own) > 10  # seated as a guest, then as oneself

    def test_a_policy_that_does_as_today_has_todays_vectors_and_file(self):
        """Old readers refuse unknown fields, and clients have vectors that were written before there were any."""
        for policy in (*standard_policies().values(), TUNED, PATIENT):
            file = PolicyFile(policy=policy)
            assert not re.search("fallback_|upgrades", vectors(file) + dumps(file))
        assert re.search("fallback_age_s.*upgrades", vectors(PolicyFile(policy=CHOOSY)))

    def test_the_module_exports_the_policy_as_it_is(self, in_node):
        said = in_node({name: (policy, {}) for name, policy in STANDARD.items()})
        assert {name: one["policy"] for name, one in said.items()} == {
            name: json.loads(json.dumps(policy.as_dict())) for name, policy in STANDARD.items()
        }
        assert [one["exported"] for one in said.values()] == [[]] * len(STANDARD)  # policy, nextAction and no more


class TestTheModule:
    """As a web client's author meets it."""

    hostile = PolicyFile(
        policy=replace(GUIDE, name="</script><script>alert(1)//*/ @MESSAGES@"),
        provenance=Provenance(store_digest="*/ alert(2) /*", n=3),
        notes=("\n alert(3)", "\r\u2028\u2029 alert(4) <!--", "*/ @POLICY@ `${alert(5)}`\x1b[2J\ud800"),
    )

    @pytest.mark.parametrize("policy", [*STANDARD.values()], ids=STANDARD)
    def test_is_an_es_module_that_node_accepts(self, run_node, tmp_path, policy):
        (tmp_path / "policy.mjs").write_text(module(PolicyFile(policy=policy)), "ascii")
        run_node("--check", "policy.mjs")

    def test_needs_nothing(self):
        text = module(PolicyFile(policy=TUNED))
        assert re.findall(r"\bimport\b|\brequire\b|\beval\b|\bFunction\b|\bDate\b|\bfetch\b|\bglobalThis\b", text) == []
        assert re.findall("@[A-Z_]+@", text) == []

    def test_may_stand_inside_a_page(self):
        for file in (self.hostile, PolicyFile(policy=TUNED)):
            text = module(file)
            assert not re.search(r"</script|<!--", text, re.IGNORECASE)
            assert text.isascii()
            assert [c for c in text if not c.isprintable() and c != "\n"] == []

    def test_a_hostile_file_says_nothing_in_it(self, run_node, tmp_path):
        (tmp_path / "policy.mjs").write_text(module(self.hostile), "ascii")
        said = run_node(
            "--input-type=module",
            "--eval",
            """
            globalThis.alert = () => { throw new Error("said something"); };
            const { policy, nextAction } = await import("./policy.mjs");
            nextAction({ status: 404 });
            console.log(JSON.stringify(policy.name));
            """,
        )
        assert json.loads(said) == self.hostile.policy.name

    def test_says_of_what_it_was_made(self):
        made = Provenance(window_start="2026-01-01T00:00:00Z", n=120, n_censored=8, store_digest="sha256:ab")
        file = PolicyFile(policy=TUNED, provenance=made, intervals={"give_up_age_s": (30.0, None)}, notes=("Tuned.",))
        head = module(file).split("\n\n")[0]
        for words in ('"tuned"', "2026-01-01T00:00:00Z", "120", "8", "sha256:ab", "[30.0, null]", '"Tuned."'):
            assert words in head
        assert all(line.startswith("//") for line in head.splitlines())

    def test_a_few_lines_are_enough(self, run_node, tmp_path):
        """Age, polls made and last status; the rest is guessed."""
        (tmp_path / "policy.mjs").write_text(module(PolicyFile(policy=fixed(2))), "ascii")
        run_node(
            "--input-type=module",
            "--eval",
            """
            import assert from "node:assert/strict";
            import { nextAction } from "./policy.mjs";
            assert.equal(nextAction({}).action, "info");
            assert.equal(nextAction({ asked: "info", status: 200 }).action, "guest");
            const told = nextAction({ ageSeconds: 3, polls: 1, status: 404 });
            assert.equal(told.action, "wait");
            assert.equal(told.waitSeconds, 2);
            assert.equal(nextAction({ ageSeconds: 30, polls: 14, status: 404 }).kind, "gone");
            assert.equal(nextAction({ ageSeconds: 3, polls: 30, status: 404 }).action, "stop");
            assert.equal(nextAction({ ageSeconds: 3, polls: 1, asked: null, status: 404 }).action, "info");
            assert.equal(nextAction({ polls: 1, status: 429, retryAfterSeconds: Infinity }).action, "stop");
            assert.equal(nextAction({ polls: 1, status: 429, retryAfterSeconds: NaN }).kind, "rate_limited");
            """,
        )

    def test_draws_its_own_numbers_where_none_are_given(self, run_node, tmp_path):
        (tmp_path / "policy.mjs").write_text(module(PolicyFile(policy=full_jitter(4))), "ascii")
        said = run_node(
            "--input-type=module",
            "--eval",
            """
            import { nextAction } from "./policy.mjs";
            const waits = Array.from({ length: 50 }, () => nextAction({ polls: 1, status: 404 }).waitSeconds);
            console.log(JSON.stringify(waits));
            """,
        )
        waits = json.loads(said)
        assert len(set(waits)) == 50
        assert all(0 <= wait < 4 for wait in waits)

    @pytest.mark.parametrize(
        ("state", "name"),
        [
            ("{ ageSeconds: NaN }", "ageSeconds"),
            ("{ ageSeconds: '5' }", "ageSeconds"),
            ("{ elapsedSeconds: -1 }", "elapsedSeconds"),
            ("{ elapsedSeconds: Infinity }", "elapsedSeconds"),
            ("{ signedIn: 'no' }", "signedIn"),
            ("{ asked: 'Guest' }", "asked"),
            ("{ asked: 'constructor', status: 404 }", "asked"),
            ("{ status: '404' }", "status"),
            ("{ status: 404.5 }", "status"),
            ("{ status: 404, polls: -1 }", "polls"),
            ("{ status: 404, polls: 1.5 }", "polls"),
            ("{ status: 404, requests: NaN }", "requests"),
            ("{ status: 404, errorRetries: 1e300 }", "errorRetries"),
            ("{ status: 429, retryAfterSeconds: '7' }", "retryAfterSeconds"),
            ("{ status: 404, infoActive: 1 }", "infoActive"),
            ("{ status: 404, infoActiveSeconds: -1 }", "infoActiveSeconds"),
            ("{ status: 404, roomThere: 'yes' }", "roomThere"),
            ("{ status: 404, roomThereSeconds: NaN }", "roomThereSeconds"),
        ],
    )
    def test_a_state_that_is_none_is_a_type_error_with_its_name(self, run_node, tmp_path, state, name):
        (tmp_path / "policy.mjs").write_text(module(PolicyFile(policy=GUIDE)), "ascii")
        said = run_node(
            "--input-type=module",
            "--eval",
            f"""
            import {{ nextAction }} from "./policy.mjs";
            try {{ nextAction({state}); }} catch (error) {{ console.log(error.name, error.message); }}
            """,
        )
        assert said.startswith(f"TypeError nextAction: {name} ")

    def test_nobody_changes_its_policy(self, run_node, tmp_path):
        (tmp_path / "policy.mjs").write_text(module(PolicyFile(policy=TUNED)), "ascii")
        said = run_node(
            "--input-type=module",
            "--eval",
            """
            import { policy } from "./policy.mjs";
            const changes = [
              () => { policy.max_requests = 1; },
              () => { policy.schedule.kind = "none"; },
              () => { policy.schedule.table[0][1] = 0; },
            ];
            for (const change of changes) try { change(); } catch (error) { console.log(error.name); }
            """,
        )
        assert said.split() == ["TypeError"] * 3


class TestVectors:
    def test_are_strict_json_with_the_policy_they_are_of(self):
        def refused(token):
            raise AssertionError(token)

        text = vectors(PolicyFile(policy=TUNED))
        data = json.loads(text, parse_constant=refused)
        assert data["nestobs_policy_vectors"] == 1
        assert data["policy"] == json.loads(json.dumps(TUNED.as_dict()))
        assert "1e-12" in data["about"]
        assert text.count("\n") == len(data["vectors"]) + 2

    def test_are_the_same_at_each_writing(self):
        assert vectors(PolicyFile(policy=TUNED)) == vectors(PolicyFile(policy=TUNED))

    @pytest.mark.parametrize("policy", [exponential(1), full_jitter(1), TUNED], ids=lambda policy: policy.name)
    def test_reach_every_action_and_kind(self, policy):
        cases = json.loads(vectors(PolicyFile(policy=policy)))["vectors"]
        assert {case["expected"]["action"] for case in cases} == {"info", "join", "guest", "connect", "wait", "stop"}
        assert {case["expected"]["kind"] for case in cases} >= set(Kind) - OF_A_PROBER - {Kind.NOT_LOADED}
        stops = {case["expected"]["kind"] for case in cases if case["expected"]["action"] == "stop"}
        joins = {Kind.AUTHENTICATED, Kind.GUEST, Kind.GUEST_INSTEAD}
        assert stops >= set(Kind) - OF_A_PROBER - joins - {Kind.NOT_LOADED}
        waits = {case["expected"]["kind"] for case in cases if case["expected"]["action"] == "wait"}
        assert waits == {Kind.STARTING_UP, Kind.GONE, Kind.RATE_LIMITED, Kind.API_DOWN}

    def test_those_of_the_released_client_reach_its_own_words(self):
        cases = json.loads(vectors(PolicyFile(policy=RELEASED)))["vectors"]
        messages = {case["expected"]["message"] for case in cases}
        assert any(message.startswith("Failed to join nest") for message in messages)
        assert any(message.startswith(MESSAGES[Kind.STARTING_UP]) for message in messages)
        assert MESSAGES[Kind.NOT_LOADED] in messages

    @pytest.mark.parametrize("edge", ["message_threshold_s", "give_up_age_s"])
    def test_stand_on_both_sides_of_every_edge(self, edge):
        cases = json.loads(vectors(PolicyFile(policy=TUNED)))["vectors"]
        ages = {case["state"].get("ageSeconds") for case in cases}
        at = getattr(TUNED, edge)
        assert {None, -1.0, math.nextafter(at, 0), at, math.nextafter(at, math.inf)} <= ages

    @pytest.mark.parametrize(
        "other",
        [
            replace(TUNED, message_threshold_s=math.nextafter(TUNED.message_threshold_s, 100)),
            replace(TUNED, give_up_age_s=math.nextafter(TUNED.give_up_age_s, 0)),
            replace(TUNED, horizon_s=TUNED.horizon_s + 1),
            replace(TUNED, max_requests=TUNED.max_requests - 1),
            replace(TUNED, error_retries=TUNED.error_retries + 1),
            replace(TUNED, error_gap_s=math.nextafter(TUNED.error_gap_s, 1)),
            replace(TUNED, jitter=0.21),
            replace(TUNED, fallback=()),
            replace(TUNED, ask_info=False),
            replace(TUNED, wording="released"),
            replace(TUNED, load_cutoff_s=1.5),
            replace(TUNED, info_from=1),
            replace(TUNED, info_from=3),
            replace(TUNED, fault_after_s=None),
            replace(TUNED, fault_after_s=math.nextafter(33.3, 0)),
            replace(TUNED, fault_listed_s=None),
            replace(TUNED, fault_listed_s=math.nextafter(7.7, 9)),
            replace(TUNED, schedule=Schedule("table", table=TUNED.schedule.table[:-1])),
            replace(TUNED, schedule=replace(TUNED.schedule, table=((0.0, 0.31), *TUNED.schedule.table[1:]))),
        ],
        ids=range(19),
    )
    def test_tell_a_client_that_follows_another_policy(self, other):
        cases = json.loads(vectors(PolicyFile(policy=TUNED)))["vectors"]
        assert any(expected(other, case["state"], case["random"]) != case["expected"] for case in cases)
