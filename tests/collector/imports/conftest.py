"""What needs the real livekit-server is skipped where there is none, unless it is required."""

from __future__ import annotations

import os

import pytest

from nestobs.lab.livekit.server import find_binary


@pytest.fixture
def real_livekit() -> None:
    """The real server, which `make livekit` builds."""
    if find_binary() is None and os.environ.get("NESTOBS_REQUIRE_LIVEKIT") != "1":
        pytest.skip("there is no livekit-server: `make livekit` builds it")
