"""tune, replay and policy as their users meet them: on a small store, with words that are wrong, and interrupted."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nestobs
from nestobs.cli import tuning as cli_tuning
from nestobs.exports import javascript
from nestobs.exports.package import package
from nestobs.join.policy import Policy, fixed, read_policy, standard_policies
from nestobs.observation.schema import Failure, Operation, Outcome, Role
from nestobs.store.reader import Store
from nestobs.timeline.delays import joinable
from nestobs.tuning.decisions import Allowance
from nestobs.tuning.policy_file import PolicyFile, dumps, loads
from nestobs.tuning.replay import DRAWS, METRICS, PRICES
from nestobs.tuning.threshold import COST_RATIO
from worlds.command_line import Said, clear_environment, is_one_sentence, raw_controls
from worlds.recommended import usual
from worlds.stored_nests import API, drawn, nest_rows, store_of

pytestmark = pytest.mark.slow

OTHER = "https://other.example:8443/api/v1/nests"
QUICK = ("--draws", "100")
HOSTILE = "\x1b[2J\u202egone\x07"


DRIVER = """
import sys
from nestobs.cli import pool
from nestobs.cli.main import main

pool.MANY_ROWS = 0  # a pool for any store
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Forty nests of one host, a minute apart from noon, then ten of another."""
    directory = tmp_path_factory.mktemp("observed") / "store"
    other = nest_rows(*drawn(10, 3), name="other", api=OTHER)
    return str(store_of(directory, nest_rows(*drawn(40)), other).directory)


@pytest.fixture(scope="module")
def tuned(store, tmp_path_factory):
    """What `tune --json --out` said, and the policy file; from a real process that has a pool of others."""
    home = tmp_path_factory.mktemp("tuned")
    out = home / "below" / "policy.json"
    (home / "driver.py").write_text(DRIVER)
    with pytest.MonkeyPatch.context() as patch:
        clear_environment(patch, home)
        words = ("--store", store, "--out", str(out), "--candidate", "tuned", "--json", *QUICK)
        command = [sys.executable, "driver.py", "tune", *words]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    return Said(ended.returncode, ended.stdout, ended.stderr), out


def handed_on(monkeypatch, run, *words):
    """What `nestobs.tune` is called with."""
    found = {}

    def tune(_, **given):
        found.update(given)
        return usual()

    monkeypatch.setattr("nestobs.session.tune", tune)
    assert run("tune", *words).code == 0
    return found


def refused(said, *words):
    """A word that argparse refuses: exit code 2, nothing on stdout, the reason in the last line."""
    assert (said.code, said.out) == (2, ""), said
    last = said.err.splitlines()[-1]
    assert last.startswith("nestobs ")
    assert [word for word in words if word not in last] == []
    assert "Traceback" not in said.err


class TestTune:
    def test_says_its_result_as_strict_json_and_nothing_else(self, tuned):
        said, _ = tuned
        assert (said.code, said.err) == (0, "")
        data = json.loads(said.out, parse_constant=pytest.fail)
        assert (data["nests"], data["rows"]) == (50, 50)
        assert data["window"] == ["2026-01-01T12:00:00Z", "2026-01-01T12:39:00Z"]
        assert read_policy(data["policy"])
        assert set(data["policies"]) >= {"manual_retry", "tuned", "simple"}

    def test_writes_a_policy_file_that_says_where_it_comes_from(self, tuned, store):
        said, out = tuned
        assert [path.name for path in out.parent.iterdir()] == ["policy.json"]
        file = loads(out.read_text("utf-8"))
        assert file.policy.name == "tuned"
        assert file.provenance.store_digest == Store.open(store).digest()
        assert file.provenance.nestobs == nestobs.__version__
        assert file.provenance.made_at > "2026-01-01T00:00:00Z"
        assert (file.provenance.n, file.provenance.n_censored) == (50, json.loads(said.out)["censored"])
        assert set(file.predicted) == {"tuned", "manual_retry"}

    def test_finds_alone_what_it_found_with_processes(self, tuned, store, run):
        said = run("tune", "--store", store, "--json", *QUICK)
        assert said.data == tuned[0].data

    def test_tells_people_what_to_do_and_how_sure_that_is(self, store, run):
        said = run("tune", "--store", store, "--out", "mine.json", "--host", "nests.example", "--seed", "3", *QUICK)
        assert said.code == 0, said
        lines = said.out.splitlines()
        assert re.match(r"(Use|Keep|The message threshold moves) ", lines[0])
        assert re.match(r"(manual_retry|tuned|simple): at once; .*; stops at [\d.]+ s", lines[2])
        [sure] = [line for line in lines if line.startswith("how sure: ")]
        assert sure.startswith("how sure: 40 nests, 40 rows (")
        [threshold] = [line for line in lines if line.startswith("message threshold: ")]
        assert re.fullmatch(r"message threshold: \d+(\.\d)? s \(95 %: .* to .*\), today 30 s", threshold)
        assert [line for line in lines if line.startswith(("give-up age: ", "manual_retry ", "tuned ", "simple "))]
        assert lines[-1] == "policy: mine.json"
        assert loads(Path("mine.json").read_text("utf-8")).policy.name in ("manual_retry", "tuned", "simple")
        assert "resampling it 100 times" in said.err
        assert raw_controls(said.out + said.err) == []

    def test_takes_only_nests_made_from_the_begin_to_before_the_end_of_a_window(self, store, run):
        """The last of 31 nests is made at 12:30."""
        words = ("tune", "--store", store, "--host", "nests.example", "--json", *QUICK, "--window")
        assert run(*words, "2026-01-01T12:00/2026-01-01T12:31").data["nests"] == 31
        said = run(*words, "2026-01-01T12:01:00+00:00/2026-01-01T13:30+01:00")
        is_one_sentence(said, 1, "29 nests were observed", "at least 1 more")

    def test_asks_when_people_ask(self, store, run, monkeypatch):
        Path("ages.txt").write_text("0.5\n2\n 7.25\n")
        words = handed_on(monkeypatch, run, "--store", store, "--arrivals", "ages.txt")
        assert words["arrivals"] == [0.5, 2.0, 7.25]
        assert handed_on(monkeypatch, run, "--store", store)["arrivals"] is None

    def test_hands_on_what_things_cost_and_what_the_api_allows(self, store, run, monkeypatch):
        flags = ("--lost", "300", "--vain", "0", "--cost-ratio", "0.5", "--requests", "50", "--request-window", "60")
        flags += ("--joins", "2.5", "--draws", "250", "--guest", "--host", "a", "--host", "b")
        words = handed_on(monkeypatch, run, "--store", store, *flags)
        assert words["prices"] == replace(PRICES, lost_value=300.0, never_cost=0.0)
        assert words["allowance"] == Allowance(requests=50, window_s=60.0, joins=2.5)
        assert (words["cost_ratio"], words["draws"], words["signed_in"]) == (0.5, 250, False)
        assert words["host"] == ["a", "b"]
        plain = handed_on(monkeypatch, run, "--store", store)
        assert plain["prices"] == PRICES
        assert plain["allowance"] == Allowance()
        assert (plain["cost_ratio"], plain["draws"], plain["signed_in"]) == (COST_RATIO, DRAWS, True)
        assert (plain["window"], plain["engine"]) == (None, None)

    def test_shows_names_of_strangers_harmlessly(self, store, run, monkeypatch):
        """A host or a relay may be called anything."""
        found = replace(usual(), why=HOSTILE, notes=(HOSTILE,), window=(HOSTILE, HOSTILE))
        monkeypatch.setattr("nestobs.session.tune", lambda *_, **__: found)
        said = run("tune", "--store", store, *QUICK)
        assert said.code == 0
        assert "gone" in said.out
        assert raw_controls(said.out + said.err) == []
        data = run("tune", "--store", store, "--json", *QUICK)
        assert data.data["why"] == HOSTILE
        assert raw_controls(data.out) == []


class TestTuneRefuses:
    @pytest.mark.parametrize(
        "words",
        [
            ("--host", "nowhere.example"),
            ("--host", "other.example:8443"),
            ("--window", "2020-01-01/2020-02-01"),
            ("--guest",),
        ],
    )
    def test_too_few_nests_with_how_many_are_needed(self, words, store, run):
        said = run("tune", "--store", store, "--out", "p.json", *words)
        is_one_sentence(said, 1, "nests were observed", "observe at least", "--window")
        assert not Path("p.json").exists()

    def test_an_empty_store_and_none(self, run):
        Store.open("empty")
        is_one_sentence(run("tune", "--store", "empty"), 1, "0 nests", "at least 30 more")
        is_one_sentence(run("tune", "--store", "none"), 5, "none", "--store")
        assert not Path("none").exists()

    @pytest.mark.parametrize(
        "window",
        [
            "",
            "/",
            "x/y",
            "2026-01-32",
            "2026-01-01/",
            "2026-13-01/2027-01-01",
            "2026-01-01/2026-01-02/2026-01-03",
            "2026-01-02/2026-01-01",
            "2026-01-01/2026-01-01",
            "99999999999999999999/2026-01-01",
            "2026-01-01T00:00+99:00/2027-01-01",
            "NaT/NaT",
            "nan/inf",
            HOSTILE,
        ],
    )
    def test_a_window_that_is_none(self, window, store, run):
        said = run("tune", "--store", store, f"--window={window}", *QUICK)
        is_one_sentence(said, 2, "--window", "START/END")
        assert raw_controls(said.err) == []

    @pytest.mark.parametrize("flag", ["--cost-ratio", "--lost", "--vain", "--request-window", "--joins"])
    @pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-1", "1e999", "1e300", "x", "", "1,5", HOSTILE])
    def test_a_number_that_is_none(self, flag, number, run):
        said = run("tune", f"{flag}={number}")
        refused(said, flag, "is no duration from" if flag in ("--lost", "--request-window") else "is no number from")
        assert raw_controls(said.err) == []

    @pytest.mark.parametrize("flag", ["--requests", "--draws", "--seed"])
    @pytest.mark.parametrize("number", ["nan", "-1", "1.5", "1e3", "9" * 30, "1" + "0" * 5000, "x", "", "²", "٣"])
    def test_a_count_that_is_none(self, flag, number, run):
        refused(run("tune", f"{flag}={number}"), flag, "is no whole number from")

    @pytest.mark.parametrize("flags", [("--requests=0",), ("--joins=0",), ("--cost-ratio=0",), ("--draws=99",)])
    def test_a_number_at_its_bound(self, flags, run):
        refused(run("tune", *flags), flags[0].partition("=")[0])

    def test_an_unknown_candidate(self, run):
        refused(run("tune", "--candidate", "best"), "best", "recommended", "tuned", "simple")

    @pytest.mark.parametrize("text", [b"", b"x", b"1 -2", b"nan", b"inf", b"1e9", b"\xff"])
    def test_ages_that_are_none(self, text, store, run):
        Path("ages.txt").write_bytes(text)
        is_one_sentence(run("tune", "--store", store, "--arrivals", "ages.txt"), 2, "ages.txt")
        is_one_sentence(run("tune", "--store", store, "--arrivals", "none.txt"), 2, "none.txt")
        is_one_sentence(run("tune", "--store", store, "--arrivals", "."), 2, "cannot be read")

    @pytest.mark.parametrize("out", [".", "/", "", "folder"])
    def test_a_folder_as_file_before_it_works(self, out, store, run):
        Path("folder").mkdir()
        is_one_sentence(run("tune", "--store", store, "--out", out), 2, "name the file")

    def test_a_file_that_cannot_be_written_and_leaves_nothing(self, store, run, monkeypatch):
        monkeypatch.setattr("nestobs.session.tune", lambda *_, **__: usual())
        Path("file").write_text("mine")
        for out in ("file/policy.json", f"{'n' * 300}.json"):
            is_one_sentence(run("tune", "--store", store, "--out", out), 5, "cannot be written", "--out")
        assert [path.name for path in Path().iterdir()] == ["file"]
        assert Path("file").read_text() == "mine"

    def test_a_disk_that_is_full_and_leaves_the_old_policy(self, run, monkeypatch):
        """The text is put beside the file first: half of it never stands in its place."""
        Path("policy.json").write_text("old")

        def full(self, text, **_):
            self.write_bytes(text[:10].encode())
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_text", full)
        said = run("policy", "export", "guide", "--format", "json", "--out", "policy.json")
        is_one_sentence(said, 5, "No space left")
        assert [(path.name, path.read_bytes()) for path in Path().iterdir()] == [("policy.json", b"old")]


def running(session):
    """Processes of a session that are not only waiting to be reaped."""
    found = subprocess.run(["ps", "-eo", "sid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()]
    return [row[2] for row in rows if row[0] == str(session) and not row[1].startswith("Z")]


class TestInterrupted:
    @pytest.mark.parametrize(("whom", "after_s"), [("all", 0.05), ("all", 1.5), ("one", 1.5), ("killed", 1.5)])
    def test_tuning_leaves_no_process_no_file_and_no_traceback(self, whom, after_s, store, home):
        """By Ctrl-C, which a terminal sends to workers too, or by a signal to the one process, or by its sudden end."""
        (home / "driver.py").write_text(DRIVER)
        words = ["tune", "--store", store, "--out", "policy.json", "--draws", "10000"]
        command = [sys.executable, "driver.py", *words]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        ) as tuning:
            assert tuning.stderr is not None
            while "resampling" not in tuning.stderr.readline():
                assert tuning.poll() is None
            time.sleep(after_s)
            if whom == "all":
                os.killpg(tuning.pid, signal.SIGINT)
            else:
                tuning.send_signal(signal.SIGINT if whom == "one" else signal.SIGKILL)
            out, said = tuning.communicate(timeout=60)
        assert tuning.returncode == (-signal.SIGKILL if whom == "killed" else 130)
        assert out == ""
        assert "Traceback" not in said
        assert "KeyboardInterrupt" not in said
        for _ in range(100):
            if not running(tuning.pid):
                break
            time.sleep(0.05)
        assert running(tuning.pid) == []
        assert sorted(path.name for path in home.iterdir() if path.is_file()) == ["driver.py"]


class TestReplay:
    def test_shows_policies_by_file_and_by_name_against_todays_rule(self, tuned, store, run):
        said = run("replay", "--policy", str(tuned[1]), "fixed(2)", "--store", store)
        assert said.code == 0
        lines = said.out.splitlines()
        assert lines[0].startswith("50 rows, blocks: 50")
        assert [line.split()[0] for line in lines[2:5]] == ["manual_retry", "tuned", "fixed(2)"]
        number = r"[+-]\d+\.\d\d \([+-]\d+\.\d\d to [+-]\d+\.\d\d\)"
        pattern = rf"tuned less manual_retry: delay {number} s, lost {number} %, requests {number}; "
        assert re.match(pattern, lines[5])
        assert said.err == ""

    def test_says_it_as_strict_json(self, store, run):
        said = run("replay", "--policy", "guide", "--store", store, "--json")
        data = json.loads(said.out, parse_constant=pytest.fail)["replays"]
        assert [(row["policy"], row["metric"]) for row in data] == [
            (policy, metric) for policy in ("manual_retry", "guide") for metric in METRICS
        ]
        assert data[0]["difference"] is None
        assert all(row["lower"] <= row["value"] <= row["upper"] for row in data)
        again = run("replay", "--policy", "guide", "--store", store, "--json", "--seed", "0")
        assert again.out == said.out

    def test_takes_the_window_and_the_host_that_are_named(self, store, run):
        words = ("replay", "--policy", "guide", "--store", store)
        assert run(*words, "--host", "other.example:8443").out.startswith("10 rows")
        assert run(*words, "--window", "2026-01-01T12:00/2026-01-01T12:05").out.startswith("10 rows")
        assert run(*words, "--window", "2026-01-01").out == run(*words).out
        is_one_sentence(run(*words, "--host", "nowhere.example"), 2, "observe some")
        is_one_sentence(run(*words, "--window", "x"), 2, "--window")

    def test_counts_the_requests_that_failed_at_the_host_that_is_named(self, run):
        """One in five of those of one host; today's rule loses as many."""
        lower, upper = np.zeros(40), np.full(40, 0.5)
        rows = list(nest_rows(lower, upper))
        lost = [
            replace(row, observation_id=f"lost {number}", outcome=Outcome.UNKNOWN, status=None,
                    failure=Failure.RESET, reason="reset", role=Role.JOINER)
            for number, row in enumerate(row for row in rows if row.operation is Operation.JOIN) if number % 4 == 0
        ]  # fmt: skip
        store = store_of(Path("lossy"), iter(rows), iter(lost), nest_rows(lower, upper, name="other", api=OTHER))
        words = ("replay", "--policy", "guide", "--json", "--store", str(store.directory))
        shares = []
        for host in ("nests.example", "other.example:8443"):
            data = json.loads(run(*words, "--host", host).out)["replays"]
            shares.append({row["metric"]: row["value"] for row in data}["lost_share"])
        assert shares[0] - shares[1] == pytest.approx(0.2, abs=0.06)

    def test_needs_a_store_and_a_policy(self, store, run):
        is_one_sentence(run("replay", "--policy", "guide", "--store", "none"), 5, "none", "--store")
        Store.open("empty")
        is_one_sentence(run("replay", "--policy", "guide", "--store", "empty"), 2, "observe some")
        assert run("replay", "--store", store).code == 2

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{", "is not JSON"),
            ("[]", "nestobs_policy"),
            ('{"nestobs_policy": 2, "policy": {"name": "x"}}', "newer nestobs"),
            ('{"nestobs_policy": 1, "policy": {"name": "\\u001b[2J"}}', "control character"),
            ('{"nestobs_policy": 1, "policy": {"name": "x"}, "\\u001b[2J\\u202e": 1}', "has no field"),
            ('{"nestobs_policy": 1, "policy": {"name": "x", "horizon_s": 1e999}}', "1e999"),
            ('{"nestobs_policy": 1, "policy": {"name": "x", "max_requests": 10001}}', "max_requests"),
            ("[" * 100_000, "nested too deep"),
            (" " * 1_000_001, "exceeds"),
            ("\x00", "is not JSON"),
        ],
    )
    @pytest.mark.parametrize("words", [("replay", "--policy"), ("policy", "export", "--format", "js")])
    def test_a_file_that_is_no_policy_is_named_with_the_reason(self, text, word, words, run):
        Path("odd.json").write_text(text)
        said = run(*words, "odd.json")
        is_one_sentence(said, 2, "odd.json", word)
        assert raw_controls(said.err) == []

    @pytest.mark.parametrize("words", [("replay", "--policy"), ("policy", "export", "--format", "js")])
    def test_a_policy_that_is_not_there_is_told(self, words, run, home):
        Path("binary.json").write_bytes(b"\xff\xfe\x00")
        Path("folder.json").mkdir()
        os.mkfifo(home / "pipe")
        is_one_sentence(run(*words, "binary.json"), 2, "binary.json", "UTF-8")
        for name in ("none.json", "folder.json", "below/none", f"{'d/' * 3000}x"):
            is_one_sentence(run(*words, name), 2, "no such policy file")
        is_one_sentence(run(*words, "fixed(x)"), 2, "fixed(x)", "is no duration", "90s")
        for name in ("nope", "", "pipe", "n" * 300, "fixed(1", HOSTILE):
            said = run(*words, name)
            is_one_sentence(said, 2, "is unknown", "manual_retry")
            assert raw_controls(said.err) == []
        for name in ("fixed(0)", "fixed(nan)", "fixed(-1)", "full_jitter(inf)"):
            is_one_sentence(run(*words, name), 2, name, "is no duration")


class TestPolicyExport:
    @pytest.mark.parametrize("form", ["js", "vectors", "json"])
    def test_says_the_same_to_standard_output_and_to_a_file(self, form, tuned, run):
        file = loads(tuned[1].read_text("utf-8"))
        wanted = {"js": javascript.module, "vectors": javascript.vectors, "json": dumps}[form](file)
        shown = run("policy", "export", str(tuned[1]), "--format", form)
        assert (shown.code, shown.out, shown.err) == (0, wanted, "")
        kept = run("policy", "export", str(tuned[1]), "--format", form, "--out", "below/written")
        assert (kept.code, kept.out, kept.err) == (0, "", "")
        assert Path("below/written").read_text("utf-8") == wanted

    @pytest.mark.parametrize("name", [*standard_policies(), "fixed(0.5)"])
    def test_writes_named_policies(self, name, run):
        said = run("policy", "export", name, "--format", "json")
        assert loads(said.out).policy.name == name

    def test_reads_what_it_wrote(self, run):
        Path("mine.json").write_text(dumps(PolicyFile(policy=Policy(name="mine \N{SNOWMAN}"), notes=(HOSTILE,))))
        said = run("policy", "export", "mine.json", "--format", "json")
        assert said.out == Path("mine.json").read_text()
        assert raw_controls(said.out) == []

    @pytest.mark.parametrize("out", [".", "", "/"])
    def test_refuses_a_folder_as_file(self, out, run):
        said = run("policy", "export", "guide", "--format", "js", "--out", out)
        is_one_sentence(said, 2, "name the file")

    def test_writes_a_package_into_a_new_an_empty_or_its_own_folder(self, tuned, run):
        wanted = package(loads(tuned[1].read_text("utf-8")))
        Path("empty").mkdir()
        for folder in ("new/below", "empty", "empty"):
            said = run("policy", "export", str(tuned[1]), "--format", "npm", "--to", folder)
            assert (said.code, said.out, said.err) == (0, f"package: {folder}\n", "")
            assert {path.name: path.read_text("ascii") for path in Path(folder).iterdir()} == wanted
        run("policy", "export", "guide", "--format", "npm", "--to", "empty")
        assert "guide" in Path("empty/package.json").read_text()

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("package.json", '{"name": "mine", "dependencies": {}}'),
            ("package.json", "[" * 100_000),
            ("package.json", '"nestobs"'),
            ("package.json", "\x00"),
            ("README.md", "# Mine"),
        ],
        ids=["project", "deep", "text", "zero", "other"],
    )
    def test_overwrites_nothing_but_its_own(self, name, text, run):
        Path("web").mkdir()
        Path("web", name).write_text(text)
        said = run("policy", "export", "guide", "--format", "npm", "--to", "web")
        is_one_sentence(said, 2, "web holds something else", "empty folder")
        assert {path.name: path.read_text() for path in Path("web").iterdir()} == {name: text}

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("--format", "npm"), "name it by --to DIR"),
            (("--format", "npm", "--out", "x"), "name it by --to DIR"),
            (("--format", "npm", "--to", "x", "--out", "y"), "without --out"),
            (("--format", "js", "--to", "x"), "--format npm"),
            (("--format", "npm", "--to", "file"), "file holds something else"),
            (("--format", "npm", "--to", "file/below"), "--to"),
        ],
        ids=["nowhere", "out", "both", "js", "file", "below-file"],
    )
    def test_a_package_goes_into_a_folder_and_nothing_else_does(self, words, told, run):
        Path("file").write_text("kept")
        is_one_sentence(run("policy", "export", "guide", *words), 2 if told != "--to" else 5, told)
        assert [path.name for path in Path().iterdir()] == ["file"]

    def test_needs_a_policy_and_a_known_form(self, run):
        for words in ((), ("export",), ("export", "guide"), ("export", "guide", "--format", "c++"), ("import",)):
            said = run("policy", *words)
            assert (said.code, said.out) == (2, "")
            assert said.err.splitlines()[-1].startswith("nestobs policy")

    def test_ends_quietly_when_its_reader_goes_away(self):
        command = [sys.executable, "-m", "nestobs", "policy", "export", "guide", "--format", "vectors"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as writer:
            writer.stdout.close()
            said = writer.stderr.read()
            assert (writer.wait(60), said) == (1, "")


class TestProve:
    """Its words alone: what it does is tested where it is."""

    @pytest.mark.parametrize(
        ("flag", "value"), [("--nests", "0"), ("--nests", "-3"), ("--nests", "x"), ("--nests", "1e9"), ("--seed", "-1")]
    )
    def test_refuses_a_count_that_is_none(self, flag, value, run):
        words = {"--policy": "guide", "--scenario": "calm", "--nests": "3"} | {flag: value}
        refused(run("prove", *(f"{name}={word}" for name, word in words.items())), flag, "is no whole number from")

    def test_needs_its_words(self, run):
        for words in ((), ("--policy", "guide"), ("--scenario", "calm")):
            assert run("prove", *words).code == 2

    @pytest.mark.parametrize("within", ["0s", "-3s", "soon"])
    def test_refuses_a_time_that_is_none(self, within, run):
        assert run("prove", "--policy", "guide", "--scenario", "calm", f"--within={within}").code == 2

    def test_refuses_a_policy_that_is_none(self, run):
        said = run("prove", "--policy", "none.json", "--scenario", "calm", "--nests", "3")
        is_one_sentence(said, 2, "none.json")


def test_a_policy_is_found_by_file_before_name(home):
    Path("guide").write_text(dumps(PolicyFile(policy=fixed(3))))
    assert cli_tuning.policy_of("guide").policy == fixed(3)
    assert cli_tuning.policy_of("released").policy.name == "released"


def test_the_store_of_these_tests_holds_what_it_says(store):
    """Fifty nests, each between its last absent and its first visible, as the estimators will see them."""
    delays = joinable(nestobs.timelines(store))
    lower, upper = drawn(40)
    first = delays[delays["host"] == API.split("/")[2]]
    assert first["upper_s"].to_numpy() == pytest.approx(upper, abs=1e-6)
    assert first["lower_s"].to_numpy() == pytest.approx(lower, abs=1e-6)
    assert len(delays) == 50
    assert {row.operation for row in Store.open(store).observations()} == {Operation.CREATE, Operation.JOIN}
