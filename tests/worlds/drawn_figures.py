"""Figures of the frames, by name: what is drawn of nests, of places and joins, and of a tuning; and of nothing."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from nestobs.estimate import agreement
from nestobs.estimate import groups as grouped
from nestobs.estimate.proportion import share
from nestobs.figures import decisions, messages, policies, propagation, proportions, timelines
from nestobs.figures import funnel as joining
from nestobs.figures import time_axis as wall
from nestobs.timeline import funnel as worth
from nestobs.timeline.intervals import SCHEMA
from nestobs.tuning.prediction import CELLS
from nestobs.tuning.recommendation import Recommendation
from worlds.figure_frames import JUDGED, LINES, MADE, ORIGIN, frame, line

# nests


@cache
def of_nests() -> dict[str, go.Figure]:
    return {
        "swimlanes": timelines.swimlanes(LINES, MADE, title="calm"),
        "first_visible": timelines.first_visible(LINES),
        "messages": messages.message_lanes(MADE),
        "verdicts": messages.verdicts(MADE),
        "coverage": proportions.coverage(JUDGED),
    }


def no_nests() -> dict[str, go.Figure]:
    lines, made = LINES.iloc[:0], MADE.iloc[:0]
    return {
        "swimlanes": timelines.swimlanes(lines, made, title="calm"),
        "first_visible": timelines.first_visible(lines),
        "messages": messages.message_lanes(made),
        "verdicts": messages.verdicts(made),
        "coverage": proportions.coverage(JUDGED.iloc[:0]),
    }


# places and joins

START, SECOND = ORIGIN.value, 1_000_000_000
END = START + 3_600 * SECOND
WHEN = "2026-03-04 12:00:00 to 13:00:00 UTC."


def utc(*after_s: float) -> Any:
    return pd.to_datetime([START + round(at * SECOND) for at in after_s], utc=True)


def collector(*spans: tuple[str, float, float], marks: list[tuple[str, float]] | None = None) -> wall.Collector:
    names, begins, ends = zip(*spans, strict=True) if spans else ((), (), ())
    found = pd.DataFrame({"vantage": pd.Series(names, dtype="str"), "start_at": utc(*begins), "end_at": utc(*ends)})
    kinds, at = zip(*marks, strict=True) if marks else ((), ())
    shown = pd.DataFrame(
        {
            "vantage": pd.Series(["A"] * len(kinds), dtype="str"),
            "at": utc(*at),
            "kind": pd.Series(kinds, dtype="str"),
            "size_s": [3600.0] * len(kinds),
        }
    )
    return wall.Collector(found, shown, START, END)


AT_WORK = collector(("A", 0, 1800), ("B", 0, 3600))
RNG = np.random.default_rng(4)


def lines(n: int = 30) -> pd.DataFrame:
    rows = []
    for unit in range(n):
        for place in ("Computer A", "Computer B"):
            for layer in ("relay:wss://one.example/", "relay:wss://two.example/", "api:info", "api:join", "api:guest"):
                lower = float(RNG.exponential(3))
                upper = math.inf if unit % 9 == 8 and layer == "api:join" else lower + float(RNG.exponential(1))
                at = ORIGIN + pd.Timedelta(minutes=unit)
                rows.append(
                    line(
                        layer,
                        lower,
                        upper,
                        place,
                        trace_id=str(unit),
                        seen_until_s=60.0,
                        origin_at=at,
                        flaps=int(unit == 3),
                        target="https://nests.example/api/v1/nests",
                    )
                )
    return frame(SCHEMA, *rows)


MANY = lines()
WATCHED = agreement.watched(MANY)
STRETCHES = agreement.stretches(WATCHED)
BINS = pd.DataFrame(
    {
        "start_at": utc(0, 1800),
        "end_at": utc(1800, 3600),
        "joined": [3, 0],
        "lost": [1, 0],
        "not_had": [0, 2],
        "unclear": [0, 1],
    }
)
ANSWERS = pd.DataFrame(
    [("A", "guest", "https://nests.example/api", kind, 1 + place) for place, kind in enumerate(worth.ANSWERS)],
    columns=["vantage", "operation", "target", "answer", "n"],
)
PARTS = pd.DataFrame(
    {
        "vantage": ["A", "B"],
        "waiting_s": [3.0, 1.0],
        "requests_s": [0.3, 0.1],
        "signal_s": [0.1, 0.1],
        "media_s": [0.0, 0.2],
        "n": [5, 6],
    }
)


@cache
def of_places() -> dict[str, go.Figure]:
    layers, hours = grouped.by_layer(MANY), grouped.by_hour(MANY)
    return {
        "laws": propagation.laws(grouped.curves(layers, grouped.ages(layers)), question="When?", when=WHEN),
        "by_hour": propagation.by_hour(grouped.summary(hours), when=WHEN),
        "last_layers": propagation.last_layers(agreement.last(WATCHED), when=WHEN),
        "agreement_by_age": propagation.agreement_by_age(
            agreement.by_age(STRETCHES, np.linspace(0, 70, 90)), nests=30, when=WHEN
        ),
        "parted_by_age": propagation.parted_by_age(
            agreement.by_age(STRETCHES, [0.0, 1.0, 3.0, 10.0, 50.0]), nests=30, unsure=3, when=WHEN
        ),
        "agreement_by_time": propagation.agreement_by_time(
            agreement.by_time(STRETCHES, [START, START + 900 * SECOND, END]), AT_WORK, when=WHEN
        ),
        "collector_strip": propagation.collector_strip(AT_WORK, when=WHEN),
        "over_time": joining.over_time(BINS, AT_WORK, when=WHEN),
        "answers": joining.answers(ANSWERS, when=WHEN),
        "time_spent": joining.time_spent(PARTS, when=WHEN),
        "share_lanes": proportions.share_lanes("Who?", f"n = 10 joins. {WHEN}", {"a": share(2, 10, 5)}, of="joins"),
    }


def no_places() -> dict[str, go.Figure]:
    none = agreement.stretches(agreement.watched(MANY.iloc[:0]))
    return {
        "laws": propagation.laws(grouped.curves([], [0.0]), question="When?", when=WHEN),
        "by_hour": propagation.by_hour(grouped.summary([]), when=WHEN),
        "last_layers": propagation.last_layers([], when=WHEN),
        "agreement_by_age": propagation.agreement_by_age(agreement.by_age(none, [0.0, 1.0]), nests=0, when=WHEN),
        "parted_by_age": propagation.parted_by_age(agreement.by_age(none, [0.0]), nests=0, unsure=0, when=WHEN),
        "agreement_by_time": propagation.agreement_by_time(agreement.by_time(none, [START, END]), AT_WORK, when=WHEN),
        "over_time": joining.over_time(BINS.iloc[:0], AT_WORK, when=WHEN),
        "answers": joining.answers(ANSWERS.iloc[:0], when=WHEN),
        "time_spent": joining.time_spent(PARTS.iloc[:0], when=WHEN),
        "share_lanes": proportions.share_lanes("Who?", "", {"a": share(0, 0)}, of="joins"),
    }


# a tuning


def cells(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """policy, metric, value, lower, upper, realised, error_s, n, inside."""
    return pd.DataFrame(rows, columns=list(CELLS)).astype(CELLS)


def proved(today: str = "manual_retry", tuned: str = "tuned") -> pd.DataFrame:
    made: list[tuple[Any, ...]] = []
    for policy in (today, tuned):
        made += [
            (policy, "joined_share", 0.9, 0.7, 1.0, 0.75, 0.0, 24, True),
            (policy, "lost_share", 0.02, 0.0, 0.1, 0.2, 0.0, 24, False),
            (policy, "mean_delay_s", 0.5, 0.2, 0.8, 0.6, 0.15, 18, True),
            (policy, "requests_per_join", 3.0, 2.0, 4.0, 3.5, 0.0, 24, True),
        ]
    return cells(*made)


def of_tuning(rec: Recommendation) -> dict[str, go.Figure]:
    return {
        "delay_law": decisions.delay_law(rec),
        "posterior": decisions.posterior(rec),
        "polls": decisions.polls(rec),
        "frontier": policies.frontier(rec),
        "proof": policies.proof(proved(rec.today.name, rec.tuned.name), when=WHEN),
    }


# named by strangers


def named_so(text: str) -> list[go.Figure]:
    """Figures in which every name is this text."""
    hostile = MANY.assign(vantage=text, layer=[f"relay:wss://{text[:500]}/{i % 3}" for i in range(len(MANY))])
    groups, rows = grouped.by_relay(hostile), agreement.watched(hostile)
    work = collector((text, 0, 900), ("B", 0, 60))
    return [
        propagation.laws(grouped.curves(groups, grouped.ages(groups)), question="When?", when=WHEN),
        propagation.last_layers(agreement.last(rows), when=WHEN),
        propagation.collector_strip(work, when=WHEN),
        joining.over_time(BINS, work, when=WHEN),
        joining.answers(ANSWERS.assign(vantage=text, target=text), when=WHEN),
        joining.time_spent(PARTS.assign(vantage=text), when=WHEN),
        *_nests_of(text),
    ]


def _nests_of(text: str) -> list[go.Figure]:
    rows = LINES.assign(vantage=text, room=text)
    made = MADE.assign(vantage=text, policy=text, scenario=text, verdict="gone", role=text)
    return [
        timelines.swimlanes(rows, made, title=""),
        messages.message_lanes(made),
        messages.verdicts(made),
        proportions.coverage(JUDGED.assign(layer=text)),
        timelines.first_visible(rows),
    ]
