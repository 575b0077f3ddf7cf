"""Observability for Nests: real joins, propagation intervals and tuned retries.

The public names are imported when first used, so that `import nestobs` costs next to nothing: not even `typing`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nestobs.collector.station import Target as Target
    from nestobs.errors import NestobsError as NestobsError
    from nestobs.estimate.npmle import DelayLaw as DelayLaw
    from nestobs.estimate.npmle import npmle as npmle
    from nestobs.join.policy import Policy as Policy
    from nestobs.join.policy import named_policy as named_policy
    from nestobs.observation.schema import Observation as Observation
    from nestobs.session import canary as canary
    from nestobs.session import diagnose as diagnose
    from nestobs.session import herd as herd
    from nestobs.session import joins as joins
    from nestobs.session import observations as observations
    from nestobs.session import open as open
    from nestobs.session import timelines as timelines
    from nestobs.session import timelines_in_parts as timelines_in_parts
    from nestobs.session import tune as tune
    from nestobs.store.reader import Store as Store
    from nestobs.tuning.recommendation import Recommendation as Recommendation
    from nestobs.tuning.replay import replay as replay
    from nestobs.tuning.schedule import PollTable as PollTable
    from nestobs.tuning.schedule import optimal_polls as optimal_polls
    from nestobs.tuning.threshold import message_threshold as message_threshold
    from nestobs.tuning.threshold import posterior_starting as posterior_starting
    from nestobs.tuning.threshold import stop_age as stop_age

__version__ = "0.1.0"

_HOMES = {
    "DelayLaw": "estimate.npmle",
    "NestobsError": "errors",
    "Observation": "observation.schema",
    "Policy": "join.policy",
    "PollTable": "tuning.schedule",
    "Recommendation": "tuning.recommendation",
    "Store": "store.reader",
    "Target": "collector.station",
    "canary": "session",
    "diagnose": "session",
    "herd": "session",
    "joins": "session",
    "message_threshold": "tuning.threshold",
    "named_policy": "join.policy",
    "npmle": "estimate.npmle",
    "observations": "session",
    "open": "session",
    "optimal_polls": "tuning.schedule",
    "posterior_starting": "tuning.threshold",
    "replay": "tuning.replay",
    "stop_age": "tuning.threshold",
    "timelines": "session",
    "timelines_in_parts": "session",
    "tune": "session",
}

# `open` is a public name, and no star import hides the builtin with it
__all__ = ["__version__", *(name for name in _HOMES if name != "open")]  # noqa: PLE0604 - all are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nestobs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"nestobs.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "open"])
