"""A vantage's network that is cut for a while: nothing it sends arrives, and nothing comes to it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nestobs.lab.clock import LabClock
from nestobs.lab.fault_proxy import FaultProxy, ProxyMode
from nestobs.lab.scenario import Cut


async def cut(proxies: Sequence[FaultProxy], cuts: Sequence[Cut], begun: asyncio.Event, clock: LabClock) -> None:
    """Let all of a vantage's proxies carry nothing during each of its cuts, one after the other, counted from `begun`.

    As where a cable is out: connections stay open on both sides, and what was sent meanwhile arrives when it is over,
    if somebody still waits for it.
    """
    await begun.wait()
    since_s = clock.elapsed_s()
    for each in sorted(cuts, key=lambda one: one.from_s):
        for mode, at_s in ((ProxyMode.STALL, each.from_s), (ProxyMode.PASS, each.from_s + each.for_s)):
            await asyncio.sleep(max(0.0, since_s + at_s - clock.elapsed_s()))
            for proxy in proxies:
                proxy.mode = mode
