"""From timelines to delays: against a plain reading of each nest, one by one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nestobs.observation.schema import COLUMNS, Operation, Outcome, Source
from nestobs.timeline.delays import LEAST_BLOCKS, among, blocks, deployments, joinable, round_trip_s
from nestobs.timeline.intervals import SCHEMA

INF, NAN = math.inf, math.nan
DTYPES = {"text": "str", "int": "int64", "real": "float64", "bool": "bool", "instant": "datetime64[ns, UTC]"}
BLANK = {"text": "", "int": 0, "real": NAN, "bool": False, "instant": pd.NaT}
DAY = pd.Timestamp("2026-01-05T10:00:00Z")
API = "https://nests.example:8443/api/v1/nests"


def frame(*rows):
    """A frame of timelines, as timelines() types it; what a row leaves out is blank."""
    return pd.DataFrame(
        {
            name: pd.Series([row.get(name, BLANK[kind]) for row in rows], dtype=DTYPES[kind])
            for name, kind in ((column.name, column.type) for column in SCHEMA)
        }
    )


def row(layer, lower, upper, **more):
    """A row of one nest, made at DAY and watched from A."""
    fields = {
        "nest": "30312:ab:room",
        "trace_id": "trace",
        "vantage": "A",
        "layer": layer,
        "target": API,
        "origin_at": DAY,
        "lower_s": lower,
        "upper_s": upper,
        "polls": 2,
        "left_censored": lower in (0, -INF) and upper < INF,
        "right_censored": upper == INF,
    }
    return fields | more


def only(found):
    """The (lower, upper] of the only row."""
    assert len(found) == 1
    return float(found["lower_s"].iloc[0]), float(found["upper_s"].iloc[0])


def gone(found):
    return found[["gone_lower_s", "gone_upper_s"]].iloc[0].tolist()


JOIN, GUEST, SIGNAL = row("api:join", 1, 2), row("api:guest", 3, 4), row("livekit:signal", 5, 7)

# When a join succeeds


def test_a_join_succeeds_when_either_token_is_given_and_signalling_lets_in():
    assert only(joinable(frame(JOIN))) == (1, 2)
    assert only(joinable(frame(JOIN, GUEST))) == (1, 2)
    assert only(joinable(frame(row("api:join", 1, 9), row("api:guest", 3, 4)))) == (1, 4)
    assert only(joinable(frame(JOIN, GUEST, SIGNAL))) == (5, 7)
    assert only(joinable(frame(row("api:join", 4, 9), SIGNAL))) == (5, 9)


def test_a_guest_has_the_guest_join_alone():
    table = frame(JOIN, GUEST, SIGNAL)
    assert only(joinable(table, signed_in=False)) == (5, 7)
    assert only(joinable(frame(JOIN, GUEST), signed_in=False)) == (3, 4)
    assert joinable(frame(JOIN), signed_in=False).empty


def test_one_who_is_signed_in_falls_back_to_the_guest_join_where_only_that_was_watched():
    assert only(joinable(frame(GUEST))) == (3, 4)


def test_never_seen_is_never_joined():
    assert only(joinable(frame(row("api:join", 60, INF), row("api:guest", 50, INF)))) == (50, INF)
    assert only(joinable(frame(JOIN, row("livekit:signal", 60, INF)))) == (60, INF)


def test_signalling_that_worked_at_the_first_try_holds_nothing_up():
    assert only(joinable(frame(JOIN, row("livekit:signal", 0, 40)))) == (1, 2)
    assert only(joinable(frame(JOIN, row("livekit:signal", -INF, 40)))) == (1, 2)
    assert only(joinable(frame(JOIN, row("livekit:signal", 0, 40, left_censored=False)))) == (1, 40)


@pytest.mark.parametrize(
    "nothing", [{"polls": 0}, {"origin_at": pd.NaT, "lower_s": NAN, "upper_s": NAN}, {"lower_s": NAN, "upper_s": NAN}]
)
def test_a_row_that_proves_nothing_or_has_no_origin_has_no_place(nothing):
    assert joinable(frame(JOIN | nothing)).empty
    assert only(joinable(frame(JOIN | nothing, GUEST))) == (3, 4)
    assert only(joinable(frame(JOIN, SIGNAL | nothing))) == (1, 2)


def test_other_layers_make_no_delay_of_a_join():
    assert joinable(frame(row("relay:wss://a.example", 1, 2), row("api:info", 1, 2), SIGNAL)).empty


def test_it_is_gone_when_both_joins_are():
    went, later = {"gone_lower_s": 30.0, "gone_upper_s": 31.0}, {"gone_lower_s": 40.0, "gone_upper_s": 42.0}
    assert gone(joinable(frame(JOIN | went, GUEST | later))) == [40, 42]
    assert gone(joinable(frame(JOIN | went))) == [30, 31]
    assert np.isnan(gone(joinable(frame(JOIN | went, GUEST)))).all()
    assert gone(joinable(frame(JOIN, GUEST | later), signed_in=False)) == [40, 42]


def test_a_row_says_where_when_and_over_what():
    table = frame(
        row("relay:wss://b.example", 1, 2),
        row("relay:wss://a.example", 1, 2, polls=0),
        row("relay:wss://c.example", 1, 2, vantage="B"),
        JOIN,
        row("api:join", 2, 3, vantage="B", target="http://[::1]:8080/api"),
    )
    found = joinable(table)
    assert found["unit"].tolist() == ["trace", "trace"]
    assert found["nest"].tolist() == ["30312:ab:room"] * 2
    assert found["vantage"].tolist() == ["A", "B"]
    assert found["host"].tolist() == ["nests.example:8443", "[::1]:8080"]
    assert found["relays"].tolist() == ["wss://a.example wss://b.example", "wss://c.example"]
    assert found["hour"].tolist() == [10, 10]
    assert found["origin_at"].tolist() == [DAY, DAY]


def test_without_a_trace_the_address_names_the_nest():
    found = joinable(frame(JOIN | {"trace_id": ""}, GUEST | {"trace_id": ""}, GUEST))
    assert found["unit"].tolist() == ["30312:ab:room", "trace"]
    assert found["upper_s"].tolist() == [2, 4]


def test_rows_are_sorted_by_time_whatever_their_order():
    late = DAY + pd.Timedelta(hours=3)
    table = frame(
        JOIN | {"trace_id": "b", "origin_at": late}, JOIN | {"trace_id": "c"}, JOIN | {"trace_id": "a", "vantage": "Z"}
    )
    for order in itertools.permutations(range(3)):
        found = joinable(table.iloc[list(order)].set_index(pd.Index([9, 9, 9])))
        assert found["unit"].tolist() == ["a", "c", "b"]
        assert found.index.tolist() == [0, 1, 2]
    assert found["hour"].tolist() == [10, 10, 13]


def test_without_rows_there_are_none_of_the_same_types():
    empty, full = joinable(frame()), joinable(frame(JOIN, SIGNAL))
    assert empty.dtypes.to_dict() == full.dtypes.to_dict() == joinable(frame(SIGNAL)).dtypes.to_dict()
    assert joinable(frame(), signed_in=False).dtypes.to_dict() == full.dtypes.to_dict()
    assert empty.empty


def read_plainly(table, *, signed_in):
    """The same by loops: {(unit, vantage): (lower, upper, gone_lower, gone_upper, relays)}."""
    nests: dict = {}
    for one in table.to_dict("records"):
        if pd.notna(one["origin_at"]) and not math.isnan(one["upper_s"]):
            nests.setdefault((one["trace_id"] or one["nest"], one["vantage"]), []).append(one)
    found = {}
    for key, rows in nests.items():
        by = {one["layer"]: one for one in rows if one["polls"] > 0}
        names = ["api:join", "api:guest"] if signed_in else ["api:guest"]
        tokens = [by[name] for name in names if name in by]
        if not tokens:
            continue
        lower, upper = min(one["lower_s"] for one in tokens), min(one["upper_s"] for one in tokens)
        signal = by.get("livekit:signal")
        if signal and not signal["left_censored"] and signal["lower_s"] > -INF:
            lower, upper = max(lower, signal["lower_s"]), max(upper, signal["upper_s"])
        went = [(one["gone_lower_s"], one["gone_upper_s"]) for one in tokens]
        away = (NAN, NAN) if any(math.isnan(a) for a, _ in went) else tuple(map(max, zip(*went, strict=True)))
        relays = sorted({one["layer"].removeprefix("relay:") for one in rows if one["layer"].startswith("relay:")})
        found[key] = (lower, upper, *away, " ".join(relays))
    return found


LAYERS = ["api:join", "api:guest", "api:info", "livekit:signal", "relay:wss://a.example", "relay:wss://b.example"]


@st.composite
def tables(draw):
    """Some nests at some vantages with some of the layers."""
    rows = []
    for trace, vantage, layer in itertools.product(["t1", "t2", ""], ["A", "B"], LAYERS):
        if not draw(st.booleans()):
            continue
        lower = draw(st.sampled_from([-INF, 0.0, 1.0, 2.0, 5.0]))
        upper = draw(st.sampled_from([6.0, 7.0, 9.0, INF]))
        if lower >= 0 and draw(st.booleans()):
            upper = lower + 0.5
        more = {"trace_id": trace, "vantage": vantage, "polls": draw(st.sampled_from([0, 1, 3]))}
        if upper < INF and draw(st.booleans()):
            more |= {"gone_lower_s": upper + draw(st.integers(0, 3)), "gone_upper_s": upper + 4.0}
        if draw(st.integers(0, 9)) == 0:
            more |= {"origin_at": pd.NaT, "lower_s": NAN, "upper_s": NAN}
        rows.append(row(layer, lower, upper) | more)
    return frame(*rows)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(tables(), st.booleans())
def test_every_nest_is_read_as_one_would_by_hand(table, signed_in):
    found = joinable(table, signed_in=signed_in)
    known = read_plainly(table, signed_in=signed_in)
    keys = list(zip(found["unit"], found["vantage"], strict=True))
    assert sorted(keys) == sorted(known)
    names = ["lower_s", "upper_s", "gone_lower_s", "gone_upper_s", "relays"]
    for key, values in zip(keys, found[names].itertuples(index=False), strict=True):
        assert tuple(values)[:4] == pytest.approx(known[key][:4], nan_ok=True)
        assert values[4] == known[key][4]
    assert (found["lower_s"] < found["upper_s"]).all()


# Blocks


def delays(n, *, hours_apart=0.0, host=API, vantages=("A",)):
    """Joinable nests, made so many hours apart."""
    return joinable(
        frame(
            *(
                row("api:join", 1, 2, trace_id=f"t{number:03}", vantage=vantage, target=host)
                | {"origin_at": DAY + pd.Timedelta(hours=hours_apart * number)}
                for number in range(n)
                for vantage in vantages
            )
        )
    )


def test_nests_of_one_day_and_host_are_a_block():
    label, kind = blocks(delays(2 * LEAST_BLOCKS, hours_apart=12))
    assert kind == "day and host"
    assert label.tolist() == np.repeat(np.arange(LEAST_BLOCKS), 2).tolist()
    two = pd.concat([delays(20, hours_apart=24), delays(20, hours_apart=24, host="https://other.example/")])
    label, kind = blocks(two.assign(unit=np.arange(40).astype(str)).reset_index(drop=True))
    assert (kind, len(set(label.tolist()))) == ("day and host", 40)


def test_too_few_days_make_way_for_hours_and_these_for_nests():
    assert blocks(delays(50, hours_apart=0.5))[1] == "hour and host"
    label, kind = blocks(delays(50, hours_apart=0.01))
    assert (kind, len(set(label.tolist()))) == ("nest", 50)
    assert blocks(delays(1))[0].tolist() == [0]


@pytest.mark.parametrize("hours_apart", [0.01, 0.7, 13.0])
def test_all_vantages_of_a_nest_are_in_one_block(hours_apart):
    """Even where each saw another host, or counted from a little before midnight and a little after."""
    found = delays(40, hours_apart=hours_apart, vantages=("A", "B", "C"))
    second = found["vantage"] == "B"
    found.loc[second, "host"] = "b.example"
    found.loc[second, "origin_at"] += pd.Timedelta(hours=14)
    label, _ = blocks(found)
    assert label.dtype == np.int64
    assert len(label) == len(found)
    assert (pd.Series(label).groupby(found["unit"].to_numpy()).nunique() == 1).all()
    assert len(set(label.tolist())) >= LEAST_BLOCKS


def test_no_delays_have_no_blocks():
    label, kind = blocks(joinable(frame()))
    assert (len(label), label.dtype, kind) == (0, np.dtype(np.int64), "nest")


# Some of the nests


def test_nests_are_chosen_by_when_they_were_made_and_whom_one_asked():
    table = frame(
        JOIN,
        row("relay:wss://a.example", 1, 2, target="wss://a.example"),
        row("api:join", 1, 2, trace_id="other", target="https://other.example/api"),
        row("api:join", 1, 2, trace_id="later") | {"origin_at": DAY + pd.Timedelta(hours=1)},
    )
    hour = (DAY, DAY + pd.Timedelta(hours=1))
    assert among(table)["trace_id"].tolist() == ["trace", "trace", "other", "later"]
    assert among(table, window=hour)["trace_id"].tolist() == ["trace", "trace", "other"]
    assert among(table, host="nests.example:8443")["trace_id"].tolist() == ["trace", "trace", "later"]
    assert among(table, host=["other.example", "none.example"])["trace_id"].tolist() == ["other"]
    assert among(table, host="nests.example:8443", window=hour)["layer"].tolist() == [
        "api:join",
        "relay:wss://a.example",
    ]
    assert among(table, host="a.example").empty  # a relay is not asked for joins
    assert among(frame(), host="a.example", window=hour).empty


# The round trip


def observed(*rows):
    fields = dict.fromkeys(column.name for column in COLUMNS)
    base = {"source": Source.API, "operation": Operation.JOIN, "outcome": Outcome.ABSENT, "target": API}
    return pd.DataFrame([fields | base | one for one in rows])


def test_the_round_trip_is_the_median_of_the_answers_that_prove_something():
    seconds = [{"sent_at": 10**18, "received_at": 10**18 + round(each * 1e9)} for each in (0.1, 0.2, 0.9)]
    table = observed(
        *seconds[:2],
        seconds[2] | {"operation": Operation.GUEST, "outcome": Outcome.VISIBLE},
        {"sent_at": 0, "received_at": 10**10, "outcome": Outcome.UNKNOWN},
        {"sent_at": 0, "received_at": 10**10, "operation": Operation.CREATE},
        {"sent_at": 0, "received_at": 10**10, "source": Source.RELAY},
        {"sent_at": 0, "received_at": None},
    )
    assert round_trip_s(table) == pytest.approx(0.2)
    assert round_trip_s(table, "nests.example:8443") == pytest.approx(0.2)
    assert round_trip_s(table, ["other.example"]) == 0.0
    assert round_trip_s(table.iloc[:0]) == 0.0


# The routes by themselves


def test_each_route_keeps_its_own_ends_beside_the_earlier_of_both():
    found = joinable(frame(row("api:join", 4.0, 6.0), row("api:guest", 1.0, 2.0)))
    assert only(found) == (1.0, 2.0)
    ends = ["join_lower_s", "join_upper_s", "guest_lower_s", "guest_upper_s"]
    assert found[ends].to_numpy().tolist() == [[4.0, 6.0, 1.0, 2.0]]
    alone = joinable(frame(row("api:guest", 1.0, INF)))
    assert alone[ends[2:]].to_numpy().tolist() == [[1.0, INF]]
    assert alone[ends[:2]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("rows", "host", "found"),
    [
        pytest.param([], (), (), id="nothing asked"),
        pytest.param([{}, {"target": "https://b.example/x"}], (), ("b.example", "nests.example:8443"), id="hosts"),
        pytest.param([{}, {"target": "https://b.example/x"}], "b.example", ("b.example",), id="one of them"),
        pytest.param([{"software": "nginx/1.24.0"}], (), ("nests.example:8443",), id="a server's name is none"),
        pytest.param([{"software": "nestobs-lab/slow-api"}, {"software": ""}], (), ("lab:slow-api",), id="a lab"),
        pytest.param([{"operation": Operation.CREATE}, {"source": Source.RELAY}], (), (), id="what no join asks"),
        pytest.param([{"target": "http://["}], (), (), id="no URL"),
        pytest.param([{"software": "nestobs-lab/\x1b[2Jx"}], (), ("lab:[2Jx",), id="a stranger's text"),
    ],
)
def test_whose_nests_they_were_is_their_hosts_or_the_scenario_of_a_lab(rows, host, found):
    table = observed(*({"software": ""} | each for each in rows or [{}]))
    assert deployments(table.iloc[: len(rows)], host) == found
