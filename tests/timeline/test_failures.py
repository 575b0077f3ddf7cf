"""What failed of what joins asked, against a count by hand and the join core's reading."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nestobs.join.flow import Info, Join, Reply, Wait, join_flow
from nestobs.join.policy import fixed
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import COLUMNS, Failure, Operation, Outcome, Role, Source
from nestobs.timeline.failures import LEAST_JOINS, Failures, Tally, failures

API, OTHER = "https://nests.example:8443/api/v1/nests", "https://other.example/api/v1/nests"


def row(operation=Operation.JOIN, outcome=Outcome.VISIBLE, took_s=0.1, **more):
    """One attempt of a join at a nest of the first API."""
    usual = {"source": Source.API, "target": API, "role": Role.JOINER, "trace_id": "nest", "detail": "{}", "nest": ""}
    usual |= {"sent_at": 10**18, "received_at": 10**18 + round(took_s * SECOND_NS)}
    return dict.fromkeys(column.name for column in COLUMNS) | usual | {
        "operation": operation, "outcome": outcome
    } | more  # fmt: skip


def failed(failure, status=None, **more):
    refused = failure in (Failure.RATE_LIMITED, Failure.UNAUTHORISED, Failure.FORBIDDEN)
    return row(outcome=Outcome.REFUSED if refused else Outcome.UNKNOWN, failure=failure, status=status, **more)


def signal(outcome=Outcome.VISIBLE, **more):
    return row(Operation.SIGNAL, outcome, source=Source.LIVEKIT, target="wss://livekit.example", **more)


def table(*rows):
    instants = {column.name: "Int64" for column in COLUMNS if column.name.endswith("_at")}
    made = pd.DataFrame([*rows], columns=[column.name for column in COLUMNS])
    return made.astype(instants | {"status": "Int64"})


class TestWhatIsCounted:
    def test_is_each_kind_by_itself(self):
        found = failures(
            table(
                *[row(Operation.INFO)] * 3,
                row(Operation.INFO, Outcome.UNKNOWN, 0.2, failure=Failure.RESET),
                *[row()] * 4,
                row(Operation.GUEST, Outcome.ABSENT, status=404),
                failed(Failure.TIMEOUT, took_s=10.0),
                failed(Failure.RATE_LIMITED, 429, detail='{"retry-after": "7"}'),
                failed(Failure.SERVER_ERROR, 503, took_s=0.4),
                *[signal()] * 2,
                signal(Outcome.UNKNOWN, failure=Failure.REFUSED, took_s=0.3),
                row(Operation.CREATE, Outcome.UNKNOWN, failure=Failure.RESET),
                row(Operation.QUERY, Outcome.UNKNOWN, failure=Failure.RESET, source=Source.RELAY),
            )
        )
        assert found.info == Tally(4, broken=1, broken_s=(0.2,))
        assert found.token == Tally(8, timed_out=1, limited=1, broken=1, broken_s=(0.4,), retry_after_s=7.0)
        assert found.signal == Tally(3, broken=1, broken_s=(0.3,))
        assert found.shares() == pytest.approx((1 / 4, 3 / 8, 1 / 3))
        assert found.seen
        assert found.as_dict()["token"] == {"asked": 8, "timed_out": 1, "limited": 1, "broken": 1}

    def test_is_nothing_where_nothing_was_asked(self):
        nothing = failures(table())
        assert nothing == Failures()
        assert nothing.held_up_share == 0.0
        assert not nothing.seen
        assert nothing.shares() == (0.0, 0.0, 0.0)

    def test_leaves_out_intents_and_our_own_faults(self):
        ours = row(outcome=Outcome.PROBE_ERROR, failure=Failure.BUDGET)
        intent = row(outcome=Outcome.UNKNOWN, failure=Failure.INTENT, received_at=None)
        assert failures(table(row(), ours, intent)).token == Tally(1)

    @pytest.mark.parametrize(
        "held",
        [
            pytest.param([row(outcome=Outcome.UNKNOWN, failure=Failure.TIMEOUT, loop_lag_s=3.0)], id="our timeout"),
            pytest.param([row(Operation.INFO, loop_lag_s=0.5)], id="an answer, too"),
            pytest.param([signal(Outcome.UNKNOWN, failure=Failure.TIMEOUT, loop_lag_s=14.0)], id="signalling"),
            pytest.param([row(outcome=Outcome.PROBE_ERROR, failure=Failure.LOOP_BLOCKED)], id="marked as ours"),
            pytest.param([row(outcome=Outcome.PROBE_ERROR, failure=Failure.SUSPENDED)], id="slept through"),
        ],
    )
    def test_leaves_out_what_ran_while_we_were_held_up_and_counts_it(self, held):
        found = failures(table(row(), row(), signal(), *held))
        assert (found.token, found.info, found.signal) == (Tally(2), Tally(), Tally(1))
        assert (found.requests, found.held_up, found.held_up_share) == (4, 1, 0.25)

    def test_are_joins_where_they_are_enough_and_else_all(self):
        """Polls keep their connections open, and so fail less."""
        polls = [row(role=Role.OBSERVER)] * 500
        joins = [failed(Failure.RESET)] * 5 + [row()] * (LEAST_JOINS - 5)
        assert failures(table(*polls, *joins)).token.asked == LEAST_JOINS
        few = failures(table(*polls, *joins[:-1])).token
        assert (few.asked, few.failed) == (500 + LEAST_JOINS - 1, 5)

    def test_is_of_the_hosts_that_are_named_and_the_connections_of_their_nests(self):
        there = {"target": OTHER, "trace_id": "there"}
        rows = table(row(), signal(), failed(Failure.RESET, **there), signal(Outcome.UNKNOWN, trace_id="there"))
        first, other = (failures(rows, host) for host in ("nests.example:8443", ["other.example"]))
        assert [tally.failed for tally in (first.token, first.signal)] == [0, 0]
        assert [tally.failed for tally in (other.token, other.signal)] == [1, 1]
        assert failures(rows).token.asked == 2
        assert failures(rows, "nowhere.example") == Failures()

    @pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"retry-after": "soon"}', '{"retry-after": "-1"}'])
    def test_bears_a_detail_that_names_no_wait(self, text):
        assert failures(table(failed(Failure.RATE_LIMITED, 429, detail=text))).token.retry_after_s is None

    @pytest.mark.parametrize(
        ("outcome", "failure", "status"),
        [
            (Outcome.UNKNOWN, Failure.TIMEOUT, None),
            (Outcome.UNKNOWN, Failure.RESET, None),
            (Outcome.UNKNOWN, Failure.DNS, None),
            (Outcome.UNKNOWN, Failure.SERVER_ERROR, 500),
            (Outcome.UNKNOWN, Failure.SERVER_ERROR, 503),
            (Outcome.REFUSED, Failure.RATE_LIMITED, 429),
            (Outcome.REFUSED, Failure.UNAUTHORISED, 401),
            (Outcome.REFUSED, Failure.FORBIDDEN, 403),
            (Outcome.UNKNOWN, Failure.UNEXPECTED, 418),
            (Outcome.UNKNOWN, Failure.UNEXPECTED, 404),
            (Outcome.UNKNOWN, Failure.BAD_TOKEN, 200),
            (Outcome.UNKNOWN, Failure.WRONG_PATH, 404),
        ],
    )
    def test_is_what_the_join_core_tries_again_as_an_error(self, outcome, failure, status):
        """It waits after these and no others: 404s, which have schedules, apart."""
        policy = fixed(1)
        flow = join_flow("room", True, policy, arrived_at=0, rng=np.random.default_rng(7))
        assert isinstance(next(flow), Info)
        assert isinstance(flow.send(Reply(1, Outcome.VISIBLE)), Join)
        try:
            again = isinstance(flow.send(Reply(2, outcome, status, failure)), Wait)
        except StopIteration:
            again = False
        counted = failures(table(row(outcome=outcome, failure=failure, status=status))).token.failed
        assert counted == int(again)

    def test_lasts_as_long_as_the_broken_ones_took(self):
        took = np.sort(np.random.default_rng(7).exponential(0.2, 400))
        kept = failures(table(*[failed(Failure.RESET, took_s=one) for one in took])).token.broken_s
        assert len(kept) == 8
        assert np.mean(kept) == pytest.approx(took.mean(), rel=0.1)
        assert list(kept) == sorted(kept)
