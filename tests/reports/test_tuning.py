"""The page about tuning: from a store and a proof to sentences, tables and figures; or what is missing, and no more."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from nestobs.errors import StoreError, UsageError
from nestobs.figures.sliders import threshold_moved
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Observation, Operation, Outcome, Role, Source
from nestobs.reports import tables, tuning
from nestobs.reports.display import RESULT, Table, Text
from nestobs.reports.publishing.execute import notebook, run
from nestobs.reports.publishing.html import PLOTLY, plotly_js
from nestobs.reports.tuning import Tuned
from nestobs.store.reader import Store
from nestobs.tuning.policy_file import loads
from nestobs.tuning.recommendation import Recommendation
from nestobs.tuning.replay import METRICS
from nestobs.tuning.whatif import BUDGETS, COST_RATIOS, WhatIf
from worlds.recommended import hostile, odd, usual
from worlds.shown import figures, said

pytestmark = pytest.mark.slow

NOON = 1_772_625_600 * SECOND_NS  # 2026-03-04 12:00 UTC
HOSTILE = "<script>window.pwned=1</script>{{7*7}}$x$"
SECTIONS = (tuning.delays, tuning.message, tuning.asking, tuning.proved, tuning.doubts)


def observations(host: str, count: int, *, first: int = 0) -> Iterator[Observation]:
    """Nests a second apart whose joins succeed after some seconds, or never, polled to 60 s."""
    rng = np.random.default_rng(1)
    for number in range(first, first + count):
        delay = np.inf if number % 8 == 7 else 4.0 * np.exp(0.8 * rng.standard_normal())
        shared = {
            "run_id": "run",
            "trace_id": f"{host}-{number}",
            "vantage": "Computer A",
            "room": f"room-{number}",
            "source": Source.API,
            "target": f"http://{host}/api/v1/nests",
        }
        polls: list[tuple[float, dict[str, Any]]] = [
            (0.0, {"operation": Operation.CREATE, "outcome": Outcome.ACCEPTED, "role": Role.HOST})
        ]
        for age in (0.2, 0.5, 1, 2, 3, 4, 6, 8, 11, 15, 20, 27, 36, 48, 60):
            seen = Outcome.VISIBLE if age >= delay else Outcome.ABSENT
            polls.append((age, {"operation": Operation.GUEST, "outcome": seen, "role": Role.GUEST}))
        for place, (age, facts) in enumerate(polls):
            at = NOON + round((number + age) * SECOND_NS)
            yield Observation(
                observation_id=f"{host}-{number:04}-{place:02}",
                sent_at=at,
                received_at=at + 5_000_000,
                **shared | facts,
            )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Forty nests of one host, ten of another."""
    opened = Store.open(tmp_path_factory.mktemp("tuning") / "store")
    with opened.writer() as writer:
        writer.append([*observations("fast.example:80", 40), *observations("slow.example", 10, first=40)])
        writer.flush()
    return str(opened.directory)


def lab(folder: Path) -> str:
    path = folder / "lab.json"
    scenario = {"truth_names": {}, "vantages": [{"api": "http://fast.example:80/api/v1/nests"}]}
    path.write_text(json.dumps({"scenarios": {"slow-api": scenario, "old": {"truth_names": {}}}}))
    return str(path)


def told(name: str = "tuned", **more: Any) -> dict[str, Any]:
    predicted = {metric: {"value": 0.5, "lower": 0.2, "upper": 0.8} for metric in METRICS}
    realised = {metric: {"value": 0.6, "error_s": 0.0, "n": 24, "inside": True} for metric in METRICS}
    realised["mean_delay_s"] = {"value": 0.9, "error_s": 0.15, "n": 18, "inside": False}
    nothing = {metric: dict.fromkeys(("value", "lower", "upper")) for metric in METRICS}
    nobody = {metric: {"value": None, "error_s": None, "n": 0, "inside": None} for metric in METRICS}
    return {
        "scenario": "slow-api",
        "seed": 2,
        "nests": 24,
        "livekit": {"kind": "stand-in", "version": "1"},
        "window": ["2026-03-04T13:00:00Z", "2026-03-04T13:02:00Z"],
        "policies": [
            {"name": "manual_retry", "predicted": nothing, "realised": nobody},
            {"name": name, "predicted": predicted, "realised": realised},
        ],
    } | more


def proof(folder: Path, data: Any) -> str:
    path = folder / "proof.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return str(path)


def all_tables(found: Recommendation) -> list[Table]:
    makers = (
        tables.policies,
        tables.differences,
        tables.thresholds,
        tables.errors,
        tables.sharing,
        tables.strata,
        tables.peaks,
    )
    return [make(found) for make in makers]


# from a store


def test_a_store_is_tuned_on_and_every_section_has_something(store: str, tmp_path: Path) -> None:
    tuned = tuning.load(store, lab=lab(tmp_path), proof=proof(tmp_path, told()))
    assert tuned.found is not None
    assert tuned.found.nests == 50
    assert len(tuned.found.resampled.laws) == tuning.DRAWS
    advice = said(tuning.advice(tuned))
    assert tuned.found.why in advice
    assert "Tuned on 50 intervals of 50 nests, 6 not seen by the end" in advice
    assert "a join may make 8 requests (100 in 900 s for 10 joins, 20 % kept back)" in advice
    assert [len(figures(section(tuned))) for section in SECTIONS] == [1, 1, 1, 1, 0]
    assert "The guide guesses 10 to 15 s: by then " in said(tuning.delays(tuned))
    assert all(note in said(tuning.doubts(tuned)) for note in tuned.found.notes)


def test_the_same_store_gives_the_same_page(store: str) -> None:
    one, other = (tuning.load(store, draws=60) for _ in range(2))
    for section in SECTIONS:
        assert said(section(one)) == said(section(other))
        assert [f.to_json() for f in figures(section(one))] == [f.to_json() for f in figures(section(other))]


@pytest.mark.parametrize("words", ["slow-api", "fast.example:80", ["slow-api"], "slow-api fast.example:80"])
def test_a_scenario_or_a_host_limits_it_to_its_nests(store: str, tmp_path: Path, words: Any) -> None:
    tuned = tuning.load(store, tune_on=words, lab=lab(tmp_path), draws=60)
    assert tuned.found is not None
    assert tuned.found.nests == 40
    assert f"Only nests of {tuned.only[0]}" in said(tuning.advice(tuned))


def test_hosts_are_those_of_the_scenario_and_others_stay_as_they_are(tmp_path: Path) -> None:
    assert tuning.hosts_of("slow-api elsewhere:1 old", lab(tmp_path)) == ("fast.example:80", "elsewhere:1")
    assert tuning.hosts_of("") == ()
    assert tuning.hosts_of(["a", "b", "a"]) == ("a", "b")


def test_a_window_limits_it_to_nests_made_in_it(store: str) -> None:
    tuned = tuning.load(store, window="2026-03-04T12:00:00/2026-03-04T12:00:35", draws=60)
    assert tuned.found is not None
    assert tuned.found.nests == 35


@pytest.mark.parametrize(
    "how", [{"tune_on": "slow.example"}, {"tune_on": "nobody"}, {"window": "2020-01-01/2020-01-02"}]
)
def test_too_little_is_said_and_nothing_else_is_shown(store: str, tmp_path: Path, how: dict[str, str]) -> None:
    tuned = tuning.load(store, proof=proof(tmp_path, told()), **how)
    assert tuned.found is None
    advice = said(tuning.advice(tuned))
    assert "Nothing is tuned: " in advice
    assert "tuning needs 30 and 15" in advice
    assert [section(tuned).parts for section in SECTIONS] == [()] * len(SECTIONS)


def test_an_empty_store_is_too_little(tmp_path: Path) -> None:
    Store.open(tmp_path / "store")
    assert "0 nests were observed" in said(tuning.advice(tuning.load(str(tmp_path / "store"))))


@pytest.mark.parametrize("window", ["yesterday", "2026-01-01/", "a/b", "2026-01-01/2026-01-02/2026-01-03"])
def test_a_window_that_is_none_is_a_usage_error(store: str, window: str) -> None:
    with pytest.raises(UsageError, match="write START/END"):
        tuning.load(store, window=window)


def test_a_store_that_is_none_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        tuning.load(str(tmp_path / "none"))


# a proof


def test_a_proof_says_what_ran_and_what_came(tmp_path: Path) -> None:
    tuned = Tuned(usual(), proof=tuning.read_proof(proof(tmp_path, told())))
    words = said(tuning.proved(tuned))
    assert "24 fresh nests of slow-api (seed 2)" in words
    assert "under manual_retry and tuned" in words
    assert "3 of 4 numbers came inside" in words
    assert "LiveKit was a stand-in." in words
    assert "0.50 (0.20 to 0.80) 0.90 ± 0.15 18 no" in words
    assert "nobody joined" in words
    title = figures(tuning.proved(tuned))[0].layout.title.text
    assert "2026-03-04 13:00:00 to 13:02:00 UTC" in " ".join(re.sub(r"<[^>]*>", " ", title).split())


def paired(**more: Any) -> list[dict[str, Any]]:
    one = {
        "metric": "cost_s", "value": -4.0, "lower": -6.0, "upper": -2.0, "realised": -3.5, "realised_lower": -5.5,
        "realised_upper": -1.5, "sd": 9.0, "n": 24, "inside": True, "fails": 0.97, "seen": 1.8,
    }  # fmt: skip
    unpredicted = {"value": None, "lower": None, "upper": None, "fails": None, "inside": None}
    return [one, one | unpredicted | {"metric": "lost_share", "realised": -0.05} | more]


def test_a_proof_answers_whether_the_change_helped(tmp_path: Path) -> None:
    answered = {"verdict": {"kind": "helped", "said": "The change helped."}, "elsewhere": "Tuned on others."}
    came = tuning.read_proof(proof(tmp_path, told(paired=paired(), **answered)))
    words = said(tuning.proved(Tuned(usual(), proof=came)))
    assert "The change helped. Tuned on others." in words
    assert "cost in all, s of waiting -4.00 (-6.00 to -2.00) -3.50 (-5.50 to -1.50) 24 yes" in words
    assert "lost, % nothing -5.0 (-550.0 to -150.0) 24 not judged" in words


@pytest.mark.parametrize("wrong", [{"n": None}, {"realised": "much"}, {"metric": None, "n": "x"}])
def test_pairs_that_are_none_are_no_proof(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"give the proof\.json"):
        tuning.read_proof(proof(tmp_path, told(paired=paired(**wrong))))


def test_a_proof_of_an_older_nestobs_has_no_answer(tmp_path: Path) -> None:
    parts = tuning.proved(Tuned(usual(), proof=tuning.read_proof(proof(tmp_path, told())))).parts
    assert said(parts[0]).startswith("24 fresh nests")


def test_without_a_proof_there_is_no_section() -> None:
    assert tuning.proved(Tuned(usual())).parts == ()


WRONG = {
    "not json": "not json",
    "a list": [1],
    "no policies": {},
    "policies that are none": told(policies=[3]),
    "a policy without a prediction": told(policies=[{"name": "x", "realised": told()["policies"][1]["realised"]}]),
    "a text for a number": json.dumps(told()).replace("0.15", '"much"'),
    "too many joins": json.dumps(told()).replace('"n": 18', '"n": 1e999'),
    "a window of words": told(window=["then", "now"]),
    "no scenario": {key: value for key, value in told().items() if key != "scenario"},
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)
def test_a_proof_that_is_none_is_a_usage_error(tmp_path: Path, data: Any) -> None:
    with pytest.raises(UsageError, match=r"give the proof\.json of nestobs prove"):
        tuning.read_proof(proof(tmp_path, data))


def test_a_missing_proof_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"give the proof\.json"):
        tuning.read_proof(str(tmp_path / "none.json"))


# tables


def test_whatever_tuning_gives_every_table_is_words() -> None:
    for case, found in odd().items():
        for table in all_tables(found):
            assert not re.search(r"\b(nan|NaN|inf|None)\b", table._repr_html_()), case


def test_every_policy_is_a_row_with_intervals_and_roles() -> None:
    found = usual()
    rows = tables.policies(found).frame
    assert list(rows["policy"])[:2] == ["manual_retry (today)", "guide"]
    assert any("advised" in name for name in rows["policy"])
    assert rows.drop(columns="policy").map(lambda cell: bool(re.search(r"\(.* to .*\)", cell))).all(axis=None)
    assert len(tables.differences(found).frame) == len(rows) - 1
    apart = tables.differences(found).frame.set_index("less today's")
    assert apart.loc["guide"].tolist() == apart.loc["released"].tolist()  # in a race neither page shows more
    assert "the same" not in set(apart.loc["fixed(5)"])  # today's rule is a person, and no robot


def test_each_cost_ratio_has_its_threshold_and_range() -> None:
    rows = tables.thresholds(usual()).frame.set_index("ρ")
    assert list(rows.index) == ["0.1", "0.25 (used)", "1"]
    assert list(rows["starting up while likelier than"]) == ["9.1 %", "20 %", "50 %"]
    assert not [name for name in rows if "within 5 %" in name]  # it reads like an interval, and is none
    open_ended = tables.thresholds(odd()["all thresholds unknown"]).frame
    assert open_ended["threshold, s (95 %)"][0] == "not within the watch (40 to no upper end)"


def test_a_clock_that_is_ahead_says_gone_too_soon_and_the_date_mends_it() -> None:
    rows = tables.errors(usual()).frame.set_index("the joiner's clock")
    assert len(rows) == 8
    gone = rows["30 s: false “no longer”"]
    assert gone["right"].startswith("0")
    assert float(gone["30 s ahead"].split(" %")[0]) > 10
    assert rows.loc["30 s ahead", "30 s: false “starting up”"] == "0 % (0 to 0 %)"
    assert rows.loc["read from the answer's Date"].equals(rows.loc["right"])


def test_another_threshold_that_is_advised_has_columns_of_its_own() -> None:
    found = usual()
    columns = len(tables.errors(found).frame.columns)
    advised = found.policy.message_threshold_s
    assert columns == (3 if advised == found.today.message_threshold_s else 5)
    assert len(tables.errors(odd()["kept"]).frame.columns) == 3


def test_strata_say_whether_a_policy_of_their_own_would_pay() -> None:
    words = said(tables.strata(odd()["strata"]))
    assert "host: a<b>" in words
    assert "relays: none" in words
    assert "no upper end" in words
    assert "20 % would pay" in words
    assert "1.0 % would not pay" in words
    assert "policy of their own pay?" in said(tuning.delays(Tuned(odd()["strata"])))
    assert "policy of their own pay?" not in said(tuning.delays(Tuned(usual())))


# strangers


def test_names_and_notes_stay_text(tmp_path: Path) -> None:
    came = tuning.read_proof(proof(tmp_path, told(HOSTILE, scenario=HOSTILE)))
    tuned = Tuned(hostile(HOSTILE), only=(HOSTILE,), proof=came)
    parts = [tuning.advice(tuned), *(part for section in SECTIONS for part in section(tuned).parts)]
    for part in parts:
        if isinstance(part, Table | Text):
            assert "<script" not in part._repr_html_()
        else:
            assert "<script" not in part.to_json()
    assert HOSTILE in said(tuning.doubts(tuned))


# the notebook


def test_the_notebook_tunes_and_shows_the_proof(store: str, tmp_path: Path) -> None:
    given = {"store": store, "lab": lab(tmp_path), "tune_on": "slow-api", "proof": proof(tmp_path, told())}
    page = run(notebook("demo"), tmp_path / "report.html", given)
    source = page.with_suffix(".ipynb").read_text()
    for question in (
        "When can a nest be joined",
        "Answered 404",
        "When is it worth asking again",
        "less waiting cost",
        "Did fresh joins come out",
    ):
        assert question in source
    assert "Only nests of slow-api count. Tuned on 40 intervals of 40 nests" in source
    assert "stderr" not in source


# the tuning notebook


def test_the_tuning_notebook_shows_everything_and_writes_a_policy(store: str, tmp_path: Path) -> None:
    out = tmp_path / "out" / "policy.json"
    given = {"store": store, "tune_on": "fast.example:80", "out": str(out), "cost_ratio": 0.5, "requests": 60}
    page = run(notebook("tuning"), tmp_path / "report.html", given)
    made = nbformat.read(page.with_suffix(".ipynb"), as_version=4)
    outputs = [output for cell in made.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.get("name") == "stderr"] == []
    results = [output["data"][RESULT] for output in outputs if RESULT in output.get("data", {})]
    assert [(one["verdict"], one["rows"]["nests"]) for one in results] == [("good", 40)]
    drawn = [output["data"][PLOTLY] for output in outputs if PLOTLY in output.get("data", {})]
    steps = [len(one["layout"]["sliders"][0]["steps"]) for one in drawn if one["layout"].get("sliders")]
    assert steps == [18, len(BUDGETS)]
    assert "widgets" not in made.metadata  # nobody would be there to move them
    file = loads(out.read_text())
    assert file.policy.as_dict()
    assert file.provenance.n == 40
    assert file.provenance.store_digest
    assert list(out.parent.iterdir()) == [out]
    shown = page.read_text()
    assert "What would change the answer" in shown
    assert "From " in shown
    plotly = len(plotly_js())
    assert len(shown) - plotly < 900_000


def test_with_too_little_it_shows_what_there_is_and_writes_nothing(tmp_path: Path) -> None:
    opened = Store.open(tmp_path / "store")
    with opened.writer() as writer:
        writer.append(observations("few.example", 3))
    tuned = tuning.load(str(opened.directory))
    assert tuning.result(tuned).verdict == "too little data"
    assert "tuning needs 30 and 15" in tuning.result(tuned).reasons[0]
    assert "When does each layer" in tuning.seen_so_far(tuned).layout.title.text
    assert tuning.cost_slider(tuned).parts == tuning.budget_slider(tuned).parts == tuning.flips(tuned).parts == ()
    assert "Nothing is written" in said(tuning.written(tuned, str(tmp_path / "policy.json")))
    assert not (tmp_path / "policy.json").exists()
    json.dumps(tuning.result(tuned)._repr_mimebundle_(), allow_nan=False)


@pytest.mark.parametrize("count", [0, 1])
def test_a_store_of_nothing_or_of_one_row_is_said_to_be_that(tmp_path: Path, count: int) -> None:
    opened = Store.open(tmp_path / "store")
    with opened.writer() as writer:
        writer.append([*observations("one.example", 1)][:count])
    tuned = tuning.load(str(opened.directory))
    assert ("holds no observation" in tuning.answer(tuned).sentence) == (count == 0)
    assert tuning.result(tuned).verdict == "too little data"
    assert "nothing to draw" in tuning.seen_so_far(tuned).layout.title.text.replace("<br>", " ")


def test_only_nests_that_never_came_cannot_be_tuned_on(tmp_path: Path) -> None:
    rows = [
        replace(row, outcome=Outcome.ABSENT) if row.outcome is Outcome.VISIBLE else row
        for row in observations("never.example", 40)
    ]
    opened = Store.open(tmp_path / "store")
    with opened.writer() as writer:
        writer.append(rows)
    assert "40 nests were observed, 0 became joinable" in tuning.result(tuning.load(str(opened.directory))).reasons[0]


@pytest.mark.parametrize("which", ["usual", "none stayed away", "mostly censored", "strata", "kept", "exact"])
def test_what_would_change_the_answer_is_said_of_whatever_tuning_gives(which: str) -> None:
    words = said(tuning.flips(Tuned(odd()[which])))
    assert not re.search(r"\b(nan|NaN|inf|None)\b", words)
    assert "message" in words
    assert "requests in 900 s on, more would change nothing" in words
    assert ("20 %" in words) == (which == "strata")
    assert "60 (used)" in words


def test_a_budget_that_binds_is_said_to_bind(store: str) -> None:
    tight, free = (tuning.load(store, requests=many, draws=60) for many in (20, 500))
    assert "the budget of 20 binds" in said(tuning.flips(tight))
    assert "the budget of 500 does not bind" in said(tuning.flips(free))


def test_every_step_of_a_slider_is_its_answer() -> None:
    found = usual()
    (figure,) = tuning.cost_slider(Tuned(found)).parts
    values = sorted({*COST_RATIOS, found.terms.cost_ratio})
    whatif = WhatIf(found)
    steps = figure.layout.sliders[0].steps
    assert [step.label for step in steps] == [f"{value:.2g}" for value in values]
    assert values[figure.layout.sliders[0].active] == found.terms.cost_ratio
    place = len(figure.layout.annotations) - 1
    for value, step in zip(values, steps, strict=True):
        marks, words, traces = step.args
        alone = threshold_moved(found, [whatif.at(cost_ratio=value)])
        assert alone.layout.sliders == ()
        assert list(traces) == [1, 2]
        assert words[f"annotations[{place}].text"] == alone.layout.annotations[-1].text
        level = value / (1.0 + value)
        assert marks["y"][0] == [level, level]
        if math.isfinite(threshold := whatif.threshold(value).value):
            assert marks["x"][1][1] == pytest.approx(math.asinh(threshold / 0.3), abs=1e-3)


def test_a_budget_slider_moves_the_polls() -> None:
    (figure,) = tuning.budget_slider(Tuned(usual())).parts
    steps = figure.layout.sliders[0].steps
    rounds = [len(step.args[0]["x"][0]) for step in steps]
    assert rounds == sorted(rounds)
    assert rounds[0] < rounds[-1]
    assert len(figure.to_json()) < 60_000
    assert figure.layout.meta["alt"].startswith("With 100 requests allowed")


def test_a_budget_between_the_places_is_one_more() -> None:
    found = usual()
    terms = replace(found.terms, allowance=replace(found.terms.allowance, requests=BUDGETS[0] + 1))
    between = replace(found, terms=terms)
    slider, wider = (tuning.budget_slider(Tuned(one)).parts[0].layout.sliders[0] for one in (found, between))
    assert [step.label for step in wider.steps] == [str(many) for many in sorted((*BUDGETS, BUDGETS[0] + 1))]
    assert (len(wider.steps), wider.active) == (len(slider.steps) + 1, 1)


def test_ages_are_read_from_a_file(store: str, tmp_path: Path) -> None:
    path = tmp_path / "ages.txt"
    path.write_text("1 2\n3\n")
    assert tuning.ages_in(str(path)) == [1.0, 2.0, 3.0]
    tuned = tuning.load(store, arrivals=str(path), draws=60)
    assert tuned.found is not None
    assert tuned.found.terms.arrivals.max() <= 3.0
    for text in ("", "soon", "-1", "inf"):
        path.write_text(text)
        with pytest.raises(UsageError):
            tuning.ages_in(str(path))
    with pytest.raises(UsageError):
        tuning.ages_in(str(tmp_path / "none"))


def test_a_policy_that_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    Store.open(tmp_path / "store")
    tuned = replace(Tuned(usual()), store=str(tmp_path / "store"))
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="another place"):
        tuning.written(tuned, str(tmp_path / "folder"))
    assert list((tmp_path / "folder").iterdir()) == []
    assert "give out to write one" in said(tuning.written(tuned, ""))
