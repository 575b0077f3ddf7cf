"""Scenario files, delay distributions and plans."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import TypeAdapter

from nestobs.errors import UsageError
from nestobs.lab import GateFault, load_scenario, scenario_names
from nestobs.lab.delays import LONGEST_S, Distribution, draw
from nestobs.lab.plan import Planner

DELAYS = TypeAdapter(Distribution)


def test_the_scenarios_that_ship_all_load_and_say_what_they_are():
    assert set(scenario_names()) == {
        "api-join-fault",
        "calm",
        "every-cause",
        "expired-room",
        "fleet",
        "flapping-replicas",
        "lossy-network",
        "never",
        "races",
        "rate-limited",
        "skewed-clocks",
        "slow-api",
        "slow-relay",
        "two-faults",
    }
    assert all(load_scenario(name).description for name in scenario_names())


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UsageError, match="choose among api-join-fault, calm"):
        load_scenario("clam")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("speed = 1", r"made.toml: unknown key speed"),
        ("name = 'other'", r"made.toml: unknown key name"),
        ("[api]\njion = {kind='never'}", r"made.toml: unknown key api.jion"),
        ("[api]\njoin = 3", r"made.toml: api.join: Input should be a valid dictionary"),
        ("[api]\njoin = {kind='normal'}", r"api.join: .* expected tags: 'constant', 'lognormal'"),
        ("[api]\njoin = {s=1}", r"api.join: .*'kind'"),
        ("[api]\njoin = {kind='constant', s=1, sigma=2}", r"unknown key api.join.constant.sigma"),
        ("[api]\njoin = {kind='constant', s='1'}", r"api.join.constant.s: Input should be a valid number"),
        ("[api]\njoin = {kind='constant', s=true}", r"api.join.constant.s: Input should be a valid number"),
        ("[api]\njoin = {kind='constant', s=inf}", r"api.join.constant.s: Input should be a finite number"),
        ("[api]\njoin = {kind='lognormal', median_s=1}", r"api.join.lognormal.sigma: Field required"),
        ("[api]\njoin = {kind='weibull', scale_s=1, shape=0}", r"shape: Input should be greater than or equal to 0.1"),
        ("[api]\njoin = {kind='constant', s=-1}", r"s: Input should be greater than or equal to 0"),
        ("[api]\njoin = {kind='mixture', parts=[]}", r"parts: List should have at least 1 item"),
        ("[api]\njoin = {kind='mixture', parts=[3]}", r"parts.0: Input should be a valid dictionary"),
        ("[api]\njoin = {kind='mixture', parts=[{kind='never'}]}", r"parts.0.weight: Field required"),
        ("[api]\njoin = {kind='mixture', parts=[{weight=0, kind='never'}]}", r"weights of a mixture sum to zero"),
        ("[api]\njoin = {kind='mixture', parts=[{weight=1, kind='mixture'}]}", r"parts.0.delay: .*'mixture'"),
        ("[api]\njoin_fault = 404", r"api.join_fault: Input should be 'none' or '404'"),
        ("[api]\nreplicas = 0", r"api.replicas: Input should be greater than 0"),
        ("[api]\nreplicas = 1.5", r"api.replicas: Input should be a valid integer"),
        ("[api]\nrequire_payload = 1", r"api.require_payload: Input should be a valid boolean"),
        ("[network]\nloss = 2", r"network.loss: Input should be less than or equal to 1"),
        ("[relays]\nfaults = {one = 'drop'}", r"relays.faults.one"),
        ("[relays]\nfaults = {1 = 'dorp'}", r"relays.faults.1: Input should be 'pass', 'late_ok'"),
        ("[[vantages]]\nskew_s = 1", r"vantages.0.name: Field required"),
        ("[[vantages]]\nname = 'a'\n[[vantages]]\nname = 'a'", r"two vantages have one name"),
        ("[[vantages]]\nname = 'a'\ncuts = [{from_s = 1}]", r"vantages.0.cuts.0.for_s: Field required"),
        (
            "[[vantages]]\nname = 'a'\nsteps = [{at_s = -1, by_s = 2}]",
            r"vantages.0.steps.0.at_s: .* greater than or equal to 0",
        ),
        ("[[vantages]]\nname = 'a'\ndrift_ppm = 1e6", r"vantages.0.drift_ppm: .* less than or equal to 100000"),
        ("api = 1", r"made.toml: api: Input should be a valid dictionary"),
        ("[api", r"made.toml: not TOML"),
    ],
)
def test_a_mistake_is_named_with_file_and_key(scenario, text, said):
    with pytest.raises(UsageError, match=said):
        scenario(text)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('description = "x"\n[relays]\nfaults = {2 = "stall"}\n')
    assert (load_scenario(path).name, load_scenario(str(path)).relays.faults) == ("mine", {2: GateFault.STALL})
    with pytest.raises(UsageError, match="there is no scenario file"):
        load_scenario(tmp_path / "other.toml")


@pytest.mark.parametrize(
    ("table", "quantiles"),
    [
        ({"kind": "constant", "s": 2.0}, (2.0, 2.0)),
        ({"kind": "lognormal", "median_s": 8.0, "sigma": 0.7}, (8.0, 8.0 * np.exp(0.7 * 1.2816))),
        ({"kind": "weibull", "scale_s": 3.0, "shape": 1.5}, (3 * np.log(2) ** (1 / 1.5), 3 * np.log(10) ** (1 / 1.5))),
    ],
)
def test_draws_have_the_distribution_they_are_named_after(table, quantiles):
    rng = np.random.default_rng(1)
    found = [draw(DELAYS.validate_python(table), rng) for _ in range(20_000)]
    assert np.quantile(found, [0.5, 0.9]) == pytest.approx(quantiles, rel=0.04)


def test_a_mixture_takes_its_parts_by_weight():
    parts = [{"weight": 3, "kind": "never"}, {"weight": 1, "kind": "constant", "s": 1.0}]
    mixture = DELAYS.validate_python({"kind": "mixture", "parts": parts})
    rng = np.random.default_rng(1)
    found = [draw(mixture, rng, scale=2.0) for _ in range(8_000)]
    assert found.count(None) / len(found) == pytest.approx(0.75, abs=0.02)
    assert set(found) == {None, 2.0}


def test_a_seed_reproduces_delays_and_the_scale_multiplies_them():
    slow = load_scenario("slow-api")
    first = [Planner(slow, 5, 4).nth(number) for number in range(10)]
    assert first == [Planner(slow, 5, 4).nth(number) for number in range(10)]
    assert first != [Planner(slow, 6, 4).nth(number) for number in range(10)]
    half = Planner(slow, 5, 4, 0.5).nth(0)
    assert half.routes["join"][0] == pytest.approx(first[0].routes["join"][0] / 2)
    assert half.relays == pytest.approx([delay / 2 for delay in first[0].relays])


def test_slow_api_has_the_tail_that_the_thirty_second_rule_meets():
    planner = Planner(load_scenario("slow-api"), 1, 4)
    joins = np.array([planner.nth(number).routes["join"][0] for number in range(4_000)])
    assert 6 < np.median(joins) < 10
    assert 0.05 < (joins > 30).mean() < 0.11


def test_only_the_last_relay_is_slow():
    planner = Planner(load_scenario("slow-relay"), 1, 4)
    delays = np.array([planner.nth(number).relays for number in range(500)])
    assert np.median(delays, axis=0)[:3].max() < 0.3
    assert np.median(delays[:, 3]) > 4


def test_an_event_of_a_stranger_has_a_plan_of_its_own():
    planner = Planner(load_scenario("calm"), 1, 4)
    assert planner.stranger("a") == planner.stranger("a") != planner.stranger("b")


NO_SCENARIOS = {
    "a deep array": "api = " + "[" * 50_000 + "]" * 50_000,
    "deep inline tables": "api = " + "{a = " * 5_000 + "1" + "}" * 5_000,
    "a deep key": ".".join(["a"] * 40_000) + " = 1",
    "five thousand digits": "[rate_limit]\nrequests = " + "9" * 5_000,
    "a long hexadecimal": "[rate_limit]\nrequests = 0x" + "f" * 50_000,
    "beyond any float": "[rate_limit]\nwindow_s = 1e400",
    "no number": "[api]\ndate_skew_s = nan",
    "longer than any life": "[livekit]\nempty_timeout_s = 1e300",
    "a spread without end": "[api]\nrecord = { kind = 'lognormal', median_s = 1, sigma = 1e6 }",
    "a tail without end": "[api]\nrecord = { kind = 'weibull', scale_s = 1, shape = 1e-6 }",
    "a relay's number in other digits": "[relays.faults]\n'²' = 'cut'",
    "a year before all": "name2 = 0001-01-01T00:00:00+23:59",
    "a megabyte": "# " + "x" * 1_000_000,
}


@pytest.mark.parametrize("text", NO_SCENARIOS.values(), ids=NO_SCENARIOS)
def test_whatever_a_text_holds_it_is_a_scenario_or_an_error_in_a_sentence(scenario, text):
    with pytest.raises(UsageError, match=r"made\.toml"):
        scenario(text)


@pytest.mark.parametrize("name", ["/dev/zero.toml", "/dev/zero", ".toml", "a\0b.toml", "\ud800.toml"], ids=ascii)
def test_what_is_no_file_of_a_scenario_is_told(name):
    with pytest.raises(UsageError):
        load_scenario(name)


@pytest.mark.parametrize("kind", ["lognormal", "weibull"])
def test_no_draw_is_longer_than_anything_can_be(kind):
    widest = {"median_s": 1e9, "sigma": 10} if kind == "lognormal" else {"scale_s": 1e9, "shape": 0.1}
    distribution = DELAYS.validate_python({"kind": kind, **widest})
    drawn = [draw(distribution, np.random.default_rng(seed)) for seed in range(300)]
    assert 0 <= min(drawn) <= max(drawn) == LONGEST_S


def test_a_scale_moves_when_things_happen_to_a_vantage_and_not_how_wrong_its_clock_is():
    quito, lagos = (
        next(one for one in load_scenario("fleet").vantages if one.name == name) for name in ("quito", "lagos")
    )
    half = quito.scaled(0.5)
    assert (half.skew_s, half.drift_ppm, half.killed_s) == (quito.skew_s, quito.drift_ppm, None)
    assert [(cut.from_s, cut.for_s) for cut in half.cuts] == [(cut.from_s / 2, cut.for_s / 2) for cut in quito.cuts]
    (step,), (before,) = lagos.scaled(0.5).steps, lagos.steps
    assert (step.at_s, step.by_s, lagos.scaled(0.5).killed_s) == (before.at_s / 2, before.by_s, lagos.killed_s / 2)
