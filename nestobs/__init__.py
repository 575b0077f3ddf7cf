"""Observability for Nests: real joins, propagation intervals and tuned retries.

The public names are imported when first used, so that `import nestobs` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nestobs.errors import NestobsError as NestobsError
    from nestobs.observation import Observation as Observation
    from nestobs.policy import Policy as Policy
    from nestobs.policy import named_policy as named_policy
    from nestobs.session import canary as canary
    from nestobs.session import observations as observations
    from nestobs.session import open as open
    from nestobs.session import timelines as timelines
    from nestobs.station import Target as Target
    from nestobs.store import Store as Store

__version__ = "0.1.0"

_HOMES = {
    "NestobsError": "errors",
    "Observation": "observation",
    "Policy": "policy",
    "Store": "store",
    "Target": "station",
    "canary": "session",
    "named_policy": "policy",
    "observations": "session",
    "open": "session",
    "timelines": "session",
}

__all__ = ["__version__", *_HOMES]  # noqa: PLE0604 - the names of _HOMES are strings


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nestobs' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"nestobs.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
