"""A change of the delay law in mid-window is told with its date, and the part since is offered where it suffices."""

from __future__ import annotations

import json

import numpy as np
import pytest

from nestobs.estimate.change_point import changes
from nestobs.observation.window import Window
from nestobs.reports import tuning as tuning_page
from nestobs.reports.tuning import Tuned
from nestobs.timeline.delays import among, joinable, nests_in
from nestobs.tuning.policy_file import dumps, loads
from nestobs.tuning.recommendation import Since
from nestobs.tuning.tuner import LEAST_NESTS, recommend
from worlds.simulated import TRUTHS, observe, timelines


def nests(at, factor, count=120):
    """Nests a minute apart, from the `at`-th on so many times as slow."""
    rng = np.random.default_rng(4)
    delays = TRUTHS[0].draw(count, rng)
    delays[at:] *= factor
    return timelines(*observe(delays, rng))


@pytest.mark.slow
@pytest.mark.parametrize(("at", "enough"), [(60, True), (100, False)])
def test_the_part_since_is_offered_where_there_are_nests_enough(at, enough):
    table = nests(at, 8.0)
    rows = joinable(table)
    since = Since.of(rows, changes(rows), LEAST_NESTS)
    part = joinable(among(table, window=Window.parse(since.window).instants))
    assert nests_in(part) == since.nests
    assert part["origin_at"].max() == rows["origin_at"].max()
    assert part["origin_at"].min() >= rows["origin_at"].iloc[at]
    assert (since.nests >= LEAST_NESTS) is enough
    assert (f"`nestobs tune --window {since.window}`" in since.words) is enough
    assert (f"observe at least {LEAST_NESTS - since.nests} more" in since.words) is not enough


@pytest.mark.slow
def test_a_change_is_said_first_and_kept_in_every_form():
    found = recommend(nests(60, 8.0), draws=40)
    (change,) = found.changes
    said, offer = found.changed
    assert said.startswith(f"The delays changed between {change.first:%Y-%m-%d %H:%M} and {change.last:%H:%M} UTC")
    assert f"of {change.n_before} nests before" in said
    assert offer == found.since.words
    assert [*tuning_page.advice(Tuned(found=found)).paragraphs][1:3] == [said, offer]
    data = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert data["notes"][:2] == [said, offer]
    assert data["since"]["nests"] == found.since.nests
    assert data["changes"][0]["before"]["value"] == change.before.value
    assert loads(dumps(found.file(found.policy))).notes[1:3] == (said, offer)


@pytest.mark.slow
def test_where_nothing_changed_nothing_is_said():
    found = recommend(nests(60, 1.0), draws=40)
    assert found.changes == found.changed == ()
    assert found.since is None
    assert found.as_dict()["changes"] == []
