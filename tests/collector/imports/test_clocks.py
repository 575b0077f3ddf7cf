"""How far clocks are apart, by what two sources saw: an interval that contains the truth, or none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.collector.imports.clocks import MADE, TOLD, Seen, offsets
from nestobs.collector.imports.said import Sighting
from nestobs.observation.duration import SECOND_NS
from worlds.imported import AT, ROOM, access, iso, morgan, read, winston, zap

ASKED = f"GET /api/v1/nests/{ROOM}"
spans = st.lists(st.tuples(*[st.integers(0, 10**10)] * 3), min_size=1, max_size=8)


def seen(key: tuple[str, ...], begun: int, ended: int, depth: int) -> Sighting:
    return Sighting(key, begun, ended, depth, begun, ended)


@given(spans, st.integers(-(10**13), 10**13))
def test_whatever_happened_the_interval_contains_the_offset(happened, ahead):
    """The proxy's clock is `ahead` of the API's; each of its requests encloses the API's."""
    inner = [
        Sighting(("http", str(n)), at - 10**9, at + before + 5, 2, at + before + 5, at + before + 5)  # its end is told
        for n, (at, before, _) in enumerate(happened)
    ]
    outer = [
        seen(("http", str(n)), at + ahead, at + before + 5 + after + ahead, 1)
        for n, (at, before, after) in enumerate(happened)
    ]
    found = offsets({"api": Seen(inner, is_api=True), "proxy": Seen(outer, is_proxy=True)})
    assert found["api"] == (0, 0, 0, True)
    assert found["proxy"].least <= ahead <= found["proxy"].most
    assert found["proxy"].steady


def test_a_webhook_is_told_by_its_id_and_outweighs_what_may_be_another_event():
    hook, other = (TOLD, "EV_1"), ("delete", ROOM)
    api = Seen([seen(hook, 100, 101, 3), seen(other, 50_000, 50_010, 2)], is_api=True)
    livekit = Seen([seen(hook, 90, 110, 2), seen(other, 9, 10, 3)])
    assert offsets({"api": api, "livekit": livekit})["livekit"][:2] == (-10, 9)


def test_the_making_of_rooms_alone_counts_only_where_three_agree():
    def of(count: int, late: int) -> dict[str, object]:
        api = [seen((MADE, str(n)), 0, SECOND_NS, 2) for n in range(count)]
        livekit = [seen((MADE, str(n)), late * n + 5, late * n + 6, 3) for n in range(count)]
        return dict(offsets({"api": Seen(api, is_api=True), "livekit": Seen(livekit)}))

    assert "livekit" not in of(2, 0)
    assert "livekit" in of(3, 0)
    assert "livekit" not in of(3, 5 * SECOND_NS)  # an API that does not wait for LiveKit


def test_events_that_contradict_each_other_widen_what_is_said():
    api = Seen([seen(("http", str(n)), 0, 10, 2) for n in range(2)], is_api=True)
    proxy = Seen([seen(("http", "0"), 0, 10, 1), seen(("http", "1"), 900, 910, 1)])
    found = offsets({"api": api, "proxy": proxy})["proxy"]
    assert (found.least, found.most, found.steady) == (0, 900, False)


def test_a_source_is_reached_through_another_and_the_errors_add_up():
    browser = Seen([seen(("x",), 0, 100, 0)])
    proxy = Seen([seen(("x",), 40, 60, 1), seen(("y",), 0, 100, 1)])
    api = Seen([seen(("y",), 45, 55, 2)], is_api=True)
    found = offsets({"api": api, "browser": browser, "proxy": proxy})
    assert found["browser"].error_s == pytest.approx(found["proxy"].error_s + 40 / SECOND_NS)


def test_where_nothing_relates_them_no_offset_is_claimed():
    rows = read([winston(1, f"Created nest {ROOM} for host {'ab' * 32}"), zap(60, "room closed")])
    by_vantage = {row.vantage: row.clock_offset_s for row in rows}
    assert by_vantage == {"api-log": 0.0, "livekit-log": None}


def test_a_proxy_that_runs_a_zone_ahead_is_corrected_with_the_documented_sign():
    """Its clock is an hour ahead: the vantage's clock less the reference is +3600 s."""
    asked = [f"{ASKED}/guest", f"{ASKED}/info"]
    api = [morgan(n + 0.5, one, 404, 26) for n, one in enumerate(asked)]
    proxy = [access(3_600 + n, one, 404, 26, " 0.500") for n, one in enumerate(asked)]
    rows = read([*api, *proxy])
    offset, error = next((row.clock_offset_s, row.clock_error_s) for row in rows if row.vantage == "nginx-log")
    assert abs(offset - 3_600) <= error < 2


def test_livekit_and_the_api_are_related_by_the_webhooks_that_both_logged():
    """LiveKit's clock is 2.5 s behind."""
    meta = {"event": "room_started", "id": "EV_1", "createdAt": str(AT), "room": {"name": ROOM}}
    api = winston(10, "LiveKit webhook event:", **meta)
    rows = read([api, zap(7.505, "sent webhook", event="room_started", id="EV_1", sendDuration=0.01)])
    offset, error = next((row.clock_offset_s, row.clock_error_s) for row in rows if row.vantage == "livekit-log")
    assert abs(offset + 2.5) <= error < 0.02
    assert iso(10) in api
