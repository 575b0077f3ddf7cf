"""A scrape: what promtool accepts, the same in each process, nothing of a nest, and docs/metrics.md says what it is."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

import nestobs
from nestobs.collector.shared_budget import SharedBudget
from nestobs.diagnosis.causes import Cause
from nestobs.errors import StoreError, UsageError
from nestobs.exports.metrics import CONTENT_TYPE, Metrics
from nestobs.exports.tally import OWN_FAULT
from nestobs.join.decision import Kind
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import Clock
from nestobs.store.example import SHIPPED
from nestobs.store.reader import Store
from worlds import prometheus
from worlds.stored_rows import rows

pytestmark = pytest.mark.slow

API = "https://nests.example/api/v1/nests"
TABLE = (Path(nestobs.__file__).parent.parent / "docs" / "metrics.md").read_text("utf-8")


def families(scrape: bytes) -> dict[str, dict[tuple[str, ...], float]]:
    """By sample's name the values by their labels."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(scrape.decode()):
        for sample in family.samples:
            labels = tuple(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


@pytest.fixture(scope="module")
def scrape(tmp_path_factory) -> bytes:
    budgets = tmp_path_factory.mktemp("budgets")
    SharedBudget(budgets).of(API).take(Clock().now())
    return Metrics(SHIPPED, apis=[API], budgets=budgets).scrape()


def test_promtool_has_nothing_to_say_against_it(scrape):
    prometheus.checked(scrape)


def test_the_table_in_the_docs_is_the_registry(scrape):
    told = {}
    for family in text_string_to_metric_families(scrape.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        told[name] = (family.type, labels)
    written = {
        name: (kind, set(re.findall(r"`(\w+)`", labels)))
        for name, kind, labels in re.findall(r"^\| `(nestobs_\w+)` \| (\w+) \| ([^|]*)\|", TABLE, re.M)
    }
    assert written == told


def test_no_nest_event_key_or_attempt_is_in_it(scrape):
    frame = Store.open(SHIPPED, create=False).frame()
    names = {name for column in ("nest", "room", "trace_id", "run_id", "attempt_group") for name in frame[column]} - {
        ""
    }
    keys = {name.split(":")[1] for name in frame["nest"] if name}
    assert len(names) > 500
    text = scrape.decode()
    assert not [name for name in names | keys if name in text]


def test_every_process_counts_the_same(scrape):
    assert {name: values for name, values in families(Metrics(SHIPPED).scrape()).items() if "budget" not in name} == {
        name: values for name, values in families(scrape).items() if "budget" not in name
    }


def test_what_can_happen_is_there_at_nought(scrape):
    found = families(scrape)
    assert {f"verdict={kind}" for kind in (*(each.value for each in Kind), OWN_FAULT)} == {
        label[1] for label in found["nestobs_joins_total"]
    }
    assert {label[0] for label in found["nestobs_causes_total"]} == {f"cause={cause.value}" for cause in Cause}
    assert found["nestobs_causes_total"]["cause=livekit_down", "standing_fault=false"] == 0


def test_a_delay_says_which_end_is_counted_and_where_the_never_seen_are(scrape):
    (words,) = re.findall(r"^# HELP nestobs_layer_delay_seconds (.*)$", scrape.decode(), re.M)
    assert "upper end" in words
    assert "nestobs_layer_results_total" in words
    assert 'le="30.0"' in scrape.decode()


def test_counters_grow_with_the_store_over_sealing_and_a_restart(tmp_path):
    store = Store.open(tmp_path / "store")
    metrics, before = Metrics(tmp_path / "store"), 0.0
    with store.writer() as writer:
        for number in range(6):
            writer.append(rows(*range(number * 100, number * 100 + 100)))
            writer.flush()
            if number % 2:
                store.seal(before=2**63 - 1)
            found = families(metrics.scrape())["nestobs_rows_total"][()]
            assert found == before + 100
            before = found
    assert families(Metrics(tmp_path / "store").scrape())["nestobs_rows_total"][()] == 600


def test_several_scrapes_at_once_count_each_row_once(tmp_path):
    store = Store.open(tmp_path / "store")
    with store.writer() as writer:
        writer.append(rows(*range(5_000)))
    metrics, found = Metrics(tmp_path / "store"), []
    threads = [threading.Thread(target=lambda: found.append(metrics.scrape())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {families(one)["nestobs_rows_total"][()] for one in found} == {5_000.0}


def test_while_old_rows_are_being_read_no_counter_is_told(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "store")
    with store.writer() as writer:
        writer.append(rows(*range(100)))
    metrics = Metrics(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr("nestobs.exports.metrics.READ_S", 0.0)
        found = families(metrics.scrape())
    assert found["nestobs_caught_up"][()] == 0
    assert not [name for name in found if name.endswith("_total")]
    assert families(metrics.scrape())["nestobs_caught_up"][()] == 1


def test_a_store_that_comes_later_is_read_then(tmp_path):
    metrics = Metrics(tmp_path / "store")
    assert metrics.advance()
    assert families(metrics.scrape())["nestobs_store_up"][()] == 0
    with Store.open(tmp_path / "store").writer() as writer:
        writer.append(rows(1, 2, 3))
    found = families(metrics.scrape())
    assert (found["nestobs_store_up"][()], found["nestobs_rows_total"][()]) == (1, 3)


def test_a_store_that_cannot_be_read_is_down_and_later_goes_on_where_it_was(tmp_path):
    store = Store.open(tmp_path / "store")
    with store.writer() as writer:
        writer.append(rows(*range(50)))
    (path,) = store.seal(before=2**63 - 1)
    content = path.read_bytes()
    path.write_bytes(content[:100])
    metrics = Metrics(tmp_path / "store")
    found = families(metrics.scrape())
    assert found["nestobs_store_up"][()] == 0
    assert not [name for name in found if name.endswith("_total")]
    with pytest.raises(StoreError, match=path.name):
        metrics.advance()
    path.write_bytes(content)
    assert families(metrics.scrape())["nestobs_rows_total"][()] == 50


def test_an_empty_store_is_a_scrape(tmp_path):
    Store.open(tmp_path / "store")
    made = Metrics(tmp_path / "store", budgets=tmp_path / "none").scrape()
    prometheus.checked(made)
    assert families(made)["nestobs_rows_total"][()] == 0
    assert "nestobs_last_row_timestamp_seconds" not in families(made)


def test_a_budget_is_told_as_all_processes_share_it(tmp_path):
    limiter, now = SharedBudget(tmp_path).of(API), Clock().now()
    metrics = Metrics(tmp_path / "store", apis=[API], budgets=tmp_path)
    for _ in range(3):
        limiter.take(now)
    api = ("api=nests.example:443",)
    found = families(metrics.scrape())
    assert found["nestobs_budget_remaining_requests"][api] == 77
    assert found["nestobs_budget_limit_requests"][api] == 80
    assert found["nestobs_budget_window_seconds"][api] == 900
    assert found["nestobs_budget_shut_until_timestamp_seconds"][api] == 0
    limiter.learn({"retry-after": "600"}, 429, now)
    found = families(metrics.scrape())
    assert found["nestobs_budget_remaining_requests"][api] == 0
    until = found["nestobs_budget_shut_until_timestamp_seconds"][api]
    assert until == pytest.approx(now / SECOND_NS + 600, abs=1)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"address": "x"}', b"\xff" * 100], ids=range(5))
def test_a_budget_that_cannot_be_read_is_left_out(tmp_path, content):
    SharedBudget(tmp_path).of(API).take(Clock().now())
    metrics = Metrics(tmp_path / "store", apis=[API], budgets=tmp_path)
    assert "nestobs_budget_limit_requests" in families(metrics.scrape())
    (file,) = tmp_path.glob("*.json")
    file.write_bytes(content)
    assert "nestobs_budget_limit_requests" not in families(metrics.scrape())


def test_no_budget_is_told_but_of_the_apis_of_the_operator_and_of_the_stores_own_rows(tmp_path):
    asked = next(
        target
        for target in nestobs.observations(str(SHIPPED), columns=["source", "target"]).query("source == 'api'")[
            "target"
        ]
    )
    now, shared = Clock().now(), SharedBudget(tmp_path)
    for api in (API, asked, "https://another.example/api/v1/nests"):
        shared.of(api).take(now)
    metrics = Metrics(SHIPPED, apis=[API], budgets=tmp_path)
    metrics.advance(60)
    told = families(metrics.scrape())["nestobs_budget_limit_requests"]
    assert set(told) == {("api=nests.example:443",), (f"api={urlsplit(asked).netloc}",)}


def test_a_file_is_there_whole_and_promtool_reads_it(tmp_path):
    Metrics(SHIPPED).write(tmp_path / "nestobs.prom")
    prometheus.checked((tmp_path / "nestobs.prom").read_bytes())
    assert [path.name for path in tmp_path.iterdir()] == ["nestobs.prom"]


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path):
    with pytest.raises(StoreError, match=r"cannot be written \(No such file"):
        Metrics(SHIPPED).write(tmp_path / "none" / "nestobs.prom")


def test_where_somebody_listens_already_is_a_sentence(tmp_path):
    metrics = Metrics(tmp_path / "store")
    server = metrics.listen("127.0.0.1", 0)
    try:
        with pytest.raises(UsageError, match="Address already in use"):
            metrics.listen("127.0.0.1", server.server_port)
    finally:
        server.shutdown()
        server.server_close()


def test_the_type_of_a_scrape_is_the_text_formats():
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")
