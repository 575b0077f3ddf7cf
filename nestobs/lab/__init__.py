"""The other side of the wire: relays, a Nests API, LiveKit and network faults on loopback, with ground truth.

The lab shares only `nestobs.nostr` and `nestobs.errors` with the rest of nestobs, so that a bug cannot hide by
standing on both sides.
"""

from nestobs.lab.fault_proxy import FaultProxy, ProxyMode
from nestobs.lab.lab import Lab, run
from nestobs.lab.scenario import GateFault, Scenario, load_scenario, scenario_names

__all__ = [
    "FaultProxy",
    "GateFault",
    "Lab",
    "ProxyMode",
    "Scenario",
    "load_scenario",
    "run",
    "scenario_names",
]
