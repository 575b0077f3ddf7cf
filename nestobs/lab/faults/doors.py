"""The doors that all nests of a scenario share, and what a nest's faults do to them while they last.

Several nests may have the same fault at once: a door is mended when the last of them ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from nestobs.lab.fault_proxy import FaultProxy, ProxyMode
from nestobs.lab.faults.draw import Fault
from nestobs.lab.gate import Gate
from nestobs.lab.listening import HOST
from nestobs.lab.scenario import GateFault

_GATES: Final = {"closed": GateFault.GONE, "cut": GateFault.CUT, "stall": GateFault.STALL}
_PROXIES: Final = {"closed": ProxyMode.REFUSE, "reset": ProxyMode.RESET, "stall": ProxyMode.STALL}


class Doors:
    """`livekits`: the proxies in front of LiveKit; `api_port`, `livekit_port` and `mute_port`: where these are; no
    `mute_port` (0) where there is no LiveKit without media. `gates` have the faults of `usual`, by index, else none."""

    def __init__(
        self,
        gates: Sequence[Gate],
        livekits: Sequence[FaultProxy],
        *,
        usual: dict[int, GateFault],
        api_port: int,
        livekit_port: int,
        mute_port: int,
    ) -> None:
        self._gates, self._livekits, self._usual = gates, livekits, usual
        self._ports = {"api": api_port, "livekit": livekit_port, "mute": mute_port}
        self._closed = False
        self._held: Counter[tuple[str, str]] = Counter()

    def close(self) -> None:
        """Let everything be as it is from now on: the doors are being closed."""
        self._closed = True

    def __call__(self, fault: Fault, begins: bool) -> None:
        """A fault of a nest begins or ends."""
        if self._closed:
            return
        key = (fault.cause, fault.kind)
        self._held[key] += 1 if begins else -1
        if self._held[key] == int(begins):  # the first to begin, or the last to end
            self._set(fault, begins)

    def _set(self, fault: Fault, begins: bool) -> None:
        match fault.cause:
            case "relay_unreachable":
                self._gate(_GATES[fault.kind] if begins else None)
            case "relay_wants_auth":
                self._gate(GateFault.AUTH if begins else None)
            case "livekit_down" | "livekit_unreachable" if fault.kind in _PROXIES:
                for proxy in self._livekits:
                    proxy.mode = ProxyMode.RESET if begins else ProxyMode.PASS  # what is open ends, too
                    if begins:
                        proxy.mode = _PROXIES[fault.kind]
            case "livekit_unreachable":
                self._lead("api" if begins else "livekit")
            case "media_blocked":
                self._lead("mute" if begins else "livekit")

    def _gate(self, fault: GateFault | None) -> None:
        for index, gate in enumerate(self._gates):
            gate.fault = self._usual.get(index, GateFault.PASS) if fault is None else fault

    def _lead(self, where: str) -> None:
        if port := self._ports[where]:
            for proxy in self._livekits:
                proxy.target = (HOST, port)
