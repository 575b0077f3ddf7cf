"""What all stages of a lab share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nestobs.lab.clock import LabClock
from nestobs.lab.livekit.rooms import LivekitRooms
from nestobs.lab.livekit.tokens import LivekitKeys
from nestobs.lab.truth import JsonLines, TruthLog


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One clock, one truth, one LiveKit and the relays behind the gates. `stamps`: None when nobody wants them.

    `mute_rooms` and `mute_port`: of a second LiveKit, which carries no media; None and 0 where no scenario needs it.
    `log_form`: how the APIs write their logs to `directory` (api/log.FORMS); "": they write none.
    """

    clock: LabClock
    truth: TruthLog
    stamps: JsonLines | None
    keys: LivekitKeys
    rooms: LivekitRooms
    relay_urls: tuple[str, ...]
    livekit_port: int
    directory: Path
    log_form: str = ""
    mute_rooms: LivekitRooms | None = None
    mute_port: int = 0

    def log_of(self, scenario: str) -> Path | None:
        """Where the API of a scenario writes its log; None where it writes none."""
        name = re.sub(r"[^A-Za-z0-9_-]", "_", scenario)[:80]
        return self.directory / f"api-{name}.log" if self.log_form else None

    def stamp(self, **row: object) -> None:
        """Write when something came in or went out, if stamps are wanted."""
        if self.stamps is not None:
            self.stamps.append(row)
