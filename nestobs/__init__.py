"""Observability for Nests: real joins, propagation intervals and tuned retries.

The public names are imported when first used, so that `import nestobs` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nestobs.errors import NestobsError as NestobsError
    from nestobs.estimate import DelayLaw as DelayLaw
    from nestobs.estimate import npmle as npmle
    from nestobs.observation import Observation as Observation
    from nestobs.policy import Policy as Policy
    from nestobs.policy import named_policy as named_policy
    from nestobs.recommendation import Recommendation as Recommendation
    from nestobs.replaying import replay as replay
    from nestobs.schedule import PollTable as PollTable
    from nestobs.schedule import optimal_polls as optimal_polls
    from nestobs.session import canary as canary
    from nestobs.session import observations as observations
    from nestobs.session import open as open
    from nestobs.session import timelines as timelines
    from nestobs.session import tune as tune
    from nestobs.station import Target as Target
    from nestobs.store import Store as Store
    from nestobs.threshold import message_threshold as message_threshold
    from nestobs.threshold import posterior_starting as posterior_starting
    from nestobs.threshold import stop_age as stop_age

__version__ = "0.1.0"

_HOMES = {
    "DelayLaw": "estimate",
    "NestobsError": "errors",
    "Observation": "observation",
    "Policy": "policy",
    "PollTable": "schedule",
    "Recommendation": "recommendation",
    "Store": "store",
    "Target": "station",
    "canary": "session",
    "message_threshold": "threshold",
    "named_policy": "policy",
    "npmle": "estimate",
    "observations": "session",
    "open": "session",
    "optimal_polls": "schedule",
    "posterior_starting": "threshold",
    "replay": "replaying",
    "stop_age": "threshold",
    "timelines": "session",
    "tune": "session",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names of _HOMES are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nestobs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"nestobs.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
