"""Real relays in this process: nostr-sdk's LocalRelay, without its rate limit and with a roomy query limit."""

from __future__ import annotations

from typing import Any

import nostr_sdk

PLENTY = 1_000_000
EVENTS_PER_ANSWER = 5_000


async def start_relay() -> tuple[Any, str]:
    """A running LocalRelay on a free loopback port, and its ws:// URL. End it with `shutdown()`."""
    relay = (
        nostr_sdk.LocalRelayBuilder()
        .addr("127.0.0.1")
        .rate_limit(nostr_sdk.RateLimit(max_reqs=PLENTY, notes_per_minute=PLENTY))
        .default_filter_limit(EVENTS_PER_ANSWER)
        .max_filter_limit(EVENTS_PER_ANSWER)
        .build()
    )
    await relay.run()
    return relay, str(await relay.url())
