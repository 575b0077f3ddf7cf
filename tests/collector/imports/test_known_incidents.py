"""Logs of the real livekit-server, of the lab's API and of a relay, in an incident of which the truth is known."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from nestobs.collector.imports.files import import_files
from nestobs.diagnosis.causes import Cause
from nestobs.diagnosis.diagnose import diagnose
from nestobs.store.reader import Store
from nestobs.timeline.calibration import coverage
from nestobs.timeline.intervals import timelines
from worlds.incident import Left, happened

pytestmark = pytest.mark.slow


def judged(left: Left, store: Store) -> pd.DataFrame:
    """Each imported interval beside the truth."""
    return coverage(timelines(store.frame()), left.truth, left.relays)


async def imported(scenario, folder, **how) -> tuple[Left, Store]:
    left = await happened(scenario, folder, **how)
    store = Store.open(folder / "store")
    assert import_files(store, left.files).new > 20
    return left, store


def causes_of(left: Left, store: Store) -> list[str]:
    """What is named as the cause from where the API's log was written, the first first."""
    (found,) = [one for one in diagnose(store.frame()) if one.room == left.room and one.vantage == "api-log"]
    return [str(each.cause) for each in found.causes]


@pytest.mark.parametrize("form", ["json", "plain"])
async def test_the_race_is_found_with_intervals_that_contain_the_truth(form, tmp_path, real_livekit):
    left, store = await imported("slow-api", tmp_path, form=form, scale=0.4, seconds=60)
    found = judged(left, store)
    assert found["contains"].dropna().all(), found.to_string()
    layers = set(found.loc[found["contains"].notna(), "layer"])
    assert {"api:info", "api:guest", "api:join", "livekit:room", "livekit:signal"} < layers
    assert any(layer.startswith("relay:") for layer in layers)
    guest = timelines(store.frame()).query("layer == 'api:guest'").iloc[0]
    assert guest["nest"] == f"30312:{left.host}:{left.room}"
    assert math.isfinite(guest["upper_s"])
    assert causes_of(left, store)[:2] == [Cause.API_BEHIND_LIVEKIT, Cause.JOINED]  # everybody got in, in the end


async def test_joins_that_fail_for_ever_are_told_from_the_race(tmp_path, real_livekit):
    left, store = await imported("api-join-fault", tmp_path, seconds=8)
    found = judged(left, store)
    assert found["contains"].dropna().all(), found.to_string()
    assert causes_of(left, store)[0] == Cause.API_JOIN_FAULT


async def test_a_room_that_ended_is_named(tmp_path, real_livekit):
    left, store = await imported("expired-room", tmp_path, seconds=16, scale=0.5, enough=10**6)
    found = judged(left, store)
    assert found["contains"].dropna().all(), found.to_string()
    ended = timelines(store.frame()).query("layer == 'livekit:room' and vantage == 'livekit-log'").iloc[0]
    assert math.isfinite(ended["gone_upper_s"])
    assert causes_of(left, store)[0] == Cause.ROOM_EXPIRED
