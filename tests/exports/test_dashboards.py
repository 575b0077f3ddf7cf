"""docs/examples: scrape, alert rules and dashboard, each by its own tool, and all of it asked of a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import pytest

import nestobs
from nestobs.collector.shared_budget import SharedBudget
from nestobs.exports.metrics import Metrics
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import INSTANTS, Failure, Observation, Operation, Outcome
from nestobs.store.example import SHIPPED
from nestobs.store.reader import Store
from worlds.programs import tool
from worlds.prometheus import Server, prometheus, promtool

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
EXAMPLES = Path(nestobs.__file__).parent.parent / "docs" / "examples"
DASHBOARD = json.loads((EXAMPLES / "grafana-nestobs.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ASKED = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
RULES = re.findall(r"alert: (\w+)", (EXAMPLES / "nestobs.rules.yml").read_text("utf-8"))
RANGE = "10m"


def test_promtool_takes_the_rules_and_the_configuration(tmp_path):
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    assert f"{len(RULES)} rules found" in promtool("check", "rules", str(tmp_path / "nestobs.rules.yml"))
    assert "SUCCESS" in promtool("check", "config", str(tmp_path / "prometheus.yml"))


def test_alerts_come_when_they_should_and_not_otherwise(tmp_path):
    for path in (EXAMPLES / "nestobs.rules.yml", HERE / "nestobs.rules.test.yml"):
        shutil.copy(path, tmp_path)
    assert "SUCCESS" in promtool("test", "rules", str(tmp_path / "nestobs.rules.test.yml"))


def test_every_alert_is_tried():
    tried = (HERE / "nestobs.rules.test.yml").read_text("utf-8")
    assert len(RULES) == 8
    assert all(tried.count(f"alertname: {name}") == 2 for name in RULES)


def test_an_alert_that_does_not_come_fails_the_test_of_rules(tmp_path):
    """So that the test above can fail."""
    shutil.copy(HERE / "nestobs.rules.test.yml", tmp_path)
    text = (EXAMPLES / "nestobs.rules.yml").read_text("utf-8").replace("> 300", "> 30000")
    (tmp_path / "nestobs.rules.yml").write_text(text)
    with pytest.raises(AssertionError, match="NestobsNothingSeen"):
        promtool("test", "rules", str(tmp_path / "nestobs.rules.test.yml"))


# the dashboard


def test_every_panel_says_what_it_shows_and_lies_beside_the_others():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["title"]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert [each["refId"] for each in panel["targets"]] == sorted({each["refId"] for each in panel["targets"]})


def test_the_datasource_is_whichever_grafana_has():
    (variable,) = DASHBOARD["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")


def test_thirty_seconds_are_marked_where_delays_are():
    delays = [panel for panel in PANELS if panel["title"].startswith("Delay by layer")]
    assert len(delays) == 2
    for panel in delays:
        defaults = panel["fieldConfig"]["defaults"]
        assert 30 in [step["value"] for step in defaults["thresholds"]["steps"]]
        assert defaults["custom"]["thresholdsStyle"]["mode"] == "dashed"


OKABE_ITO = {"#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"}
"""Colours that people tell apart who do not see all of them (Okabe and Ito 2008)."""


def test_the_colours_are_told_apart_by_everybody():
    found = set(re.findall(r"#[0-9A-Fa-f]{6}", json.dumps(DASHBOARD)))
    assert found <= OKABE_ITO | {"#8C8C8C"}
    assert not re.search(r'"(red|green|yellow|dark-\w+|semi-dark-\w+)"', json.dumps(DASHBOARD))


# Grafana's own types


def told(dashboard: Any, folder: Path) -> tuple[int, str]:
    """What Grafana's own types say of a dashboard: 0 and nothing where it is one."""
    (folder / "dashboard.json").write_text(json.dumps(dashboard), encoding="utf-8")
    words = [tool("grafana-dashboard", "grafana"), str(folder / "dashboard.json")]
    said = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    return said.returncode, said.stdout + said.stderr


def test_grafanas_own_types_take_the_dashboard(tmp_path):
    assert told(DASHBOARD, tmp_path) == (0, "")


WRONG = {
    "a field that no dashboard has": ([], "tiitle", "x", "unexpected field 'tiitle'"),
    "a text for a number": (["panels", 1, "gridPos"], "w", "6", r"panels[1].gridPos.w: json: cannot unmarshal string"),
    "a key that no panel has": (["panels", 1], "expression", "up", r"panels[1].Panel: unexpected field 'expression'"),
    "an option that this kind has not": (["panels", 1, "options"], "tooltip", {}, "unexpected field 'tooltip'"),
    "a style that this kind has not": (
        ["panels", 6, "fieldConfig", "defaults", "custom"], "lineWidht", 1, "unexpected field 'lineWidht'"
    ),
    "a threshold's misspelt key": (
        ["panels", 1, "fieldConfig", "defaults", "thresholds"], "step", [], "unexpected field 'step'"
    ),
    "a query's misspelt key": (["panels", 1, "targets", 0], "expression", "up", "unexpected field 'expression'"),
    "a kind of panel that Grafana has not": (["panels", 1], "type", "statt", "unknown kind of panel 'statt'"),
    "a month that no year has": ([], "fiscalYearStartMonth", 12, "fiscalYearStartMonth: must be < 12"),
}  # fmt: skip  # one wrong thing, one or two lines


@pytest.mark.parametrize("kind", WRONG)
def test_they_take_no_dashboard_with_one_thing_wrong(kind, tmp_path):
    way, key, value, words = WRONG[kind]
    dashboard = place = deepcopy(DASHBOARD)
    for step in way:
        place = place[step]
    place[key] = value
    code, said = told(dashboard, tmp_path)
    assert (code, words in said) == (1, True), said


def test_they_take_no_query_of_a_datasource_that_grafana_has_not(tmp_path):
    dashboard = json.loads(json.dumps(DASHBOARD).replace('"type": "prometheus"', '"type": "promotheus"'))
    code, said = told(dashboard, tmp_path)
    assert (code, said.count("unknown kind of datasource")) == (1, len(ASKED))


def test_they_miss_a_field_that_must_be_there(tmp_path):
    dashboard = deepcopy(DASHBOARD)
    del dashboard["panels"][1]["options"]["orientation"]
    assert told(dashboard, tmp_path) == (
        1, "dashboard.panels[1].options.orientation: required field is missing from input\n"
    )  # fmt: skip


# a real Prometheus


def shifted(rows: list[Observation], by: int) -> list[Observation]:
    return [
        replace(row, **{name: at + by for name in INSTANTS if (at := getattr(row, name)) is not None}) for row in rows
    ]


def halves(rows: list[Observation]) -> tuple[list[Observation], list[Observation]]:
    """Every other nest and other row, then the rest: what is counted twice of a kind, `increase` sees."""
    first = set(sorted({row.trace_id or row.observation_id for row in rows})[::2])
    chosen = [(row.trace_id or row.observation_id) in first for row in rows]
    return list(compress(rows, chosen)), [row for row, is_first in zip(rows, chosen, strict=True) if not is_first]


def failed(rows: list[Observation]) -> Observation:
    """One of them as if no answer had come: in the example all came."""
    row = next(row for row in rows if row.operation is Operation.GUEST)
    why = {"failure": Failure.TIMEOUT, "reason": "no answer", "received_at": None, "status": None}
    return replace(row, observation_id=f"{row.observation_id}-failed", outcome=Outcome.UNKNOWN, **why)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prometheus with the example's configuration, that has scraped a store which grew meanwhile."""
    folder = tmp_path_factory.mktemp("prometheus")
    rows = list(Store.open(SHIPPED, create=False).observations())
    rows = shifted(rows, time.time_ns() - 400 * SECOND_NS - max(row.sent_at for row in rows))
    SharedBudget(folder / "budgets").of("https://nests.example/api").take(time.time_ns())
    store = Store.open(folder / "store")
    metrics = Metrics(folder / "store", apis=["https://nests.example/api"], budgets=folder / "budgets")
    serving = metrics.listen("127.0.0.1", 0)
    counted, text = 0, (EXAMPLES / "prometheus.yml").read_text("utf-8")
    assert "127.0.0.1:9464" in text
    text = text.replace("127.0.0.1:9464", f"127.0.0.1:{serving.server_port}").replace("15s", "1s")
    (folder / "prometheus.yml").write_text(text)
    shutil.copy(EXAMPLES / "nestobs.rules.yml", folder)
    try:
        with prometheus(folder / "prometheus.yml", folder / "data") as server, store.writer() as writer:
            server.until("nestobs_rows_total == 0")
            for part in halves(rows):
                writer.append([*part, failed(part)])
                writer.flush()
                counted += len(part) + 1
                server.until(f"nestobs_rows_total == {counted}")
            server.until("count_over_time(nestobs_rows_total[1m]) > 4")
            yield server
    finally:
        serving.shutdown()
        serving.server_close()


def now(expression: str) -> str:
    """An expression of the dashboard, with Grafana's own variables put in."""
    found = expression.replace("$__rate_interval", RANGE).replace("$__range", RANGE)
    assert "$" not in found.replace('"$1"', "")
    return found


def test_it_is_scraped_as_it_is_configured(asked):
    (target,) = asked.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"], target["labels"]["job"]) == ("up", "", "nestobs")


@pytest.mark.parametrize(("title", "expression"), ASKED, ids=[f"{n} {title}" for n, (title, _) in enumerate(ASKED)])
def test_every_panel_has_data(title, expression, asked):
    found = asked.ask(now(expression))
    assert found, expression
    assert any(value["value"][1] not in ("NaN", "+Inf") for value in found), expression


def test_every_rule_is_evaluated_and_the_true_ones_are_told(asked):
    asked.until("ALERTS")
    rules = [rule for group in asked.get("rules")["groups"] for rule in group["rules"]]
    health = {rule["name"]: (rule["health"], rule.get("lastError", "")) for rule in rules}
    assert health == dict.fromkeys(RULES, ("ok", ""))
    told = {series["metric"]["alertname"] for series in asked.until('ALERTS{alertname="NestsStandingFault"}')}
    assert told == {"NestsStandingFault"}
    told = {series["metric"]["alertname"] for series in asked.ask("ALERTS")}
    assert told <= {"NestsStandingFault", "NestobsNothingSeen", "NestsLateForTheMessage"}


def test_the_share_of_the_docs_can_be_asked(asked):
    (expression,) = re.findall(r"```promql\n(.*?)```", (EXAMPLES.parent / "metrics.md").read_text("utf-8"), re.S)
    found: list[dict[str, Any]] = asked.ask(expression.replace("[1d]", f"[{RANGE}]"))
    assert {series["metric"]["layer"] for series in found} >= {"api:join", "api:guest", "livekit:room"}
    shares = [float(series["value"][1]) for series in found if series["value"][1] != "NaN"]
    assert len(shares) > 5
    assert all(0 <= share <= 1 for share in shares)
    assert min(shares) < 1
