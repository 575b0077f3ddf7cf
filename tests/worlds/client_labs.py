"""Labs for clients of the exported package, and the policies that they follow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nestobs.join.policy import Policy, Schedule
from nestobs.lab.scenario import read_scenario
from worlds.client_front import Front
from worlds.command_line import LabBeside

PATIENT = Policy(
    name="patient",
    schedule=Schedule("fixed", interval_s=0.4),
    give_up_age_s=25.0,
    horizon_s=40.0,
    error_retries=3,
    max_requests=90,
    fault_after_s=2.0,
)
FRUGAL = Policy(
    name="frugal", schedule=Schedule("fixed", interval_s=0.1), message_threshold_s=0.0, horizon_s=40.0, max_requests=7
)
LIMITED = "[api]\njoin = { kind = 'constant', s = 3.0 }\nguest = { kind = 'constant', s = 3.0 }\n[rate_limit]\n"
SCENARIOS = {
    "slow-api": "slow-api",
    "api-join-fault": "api-join-fault",
    "never": "[api]\njoin = { kind = 'never' }\nguest = { kind = 'never' }\ninfo = { kind = 'never' }\n",
    "guests-only": "[api]\njoin = { kind = 'never' }\n",
    "limited": LIMITED + "requests = 3\nwindow_s = 4",
    "limited-long": LIMITED + "requests = 3\nwindow_s = 900",
}


@contextmanager
def world(scenario: str, folder: Path, site: Path | None = None, **options: Any) -> Iterator[Front]:
    """A lab of one scenario, the race's delays two fifths as long, and what stands before it: `options` are its own."""
    text = SCENARIOS[scenario]
    made = text if text == scenario else read_scenario(text, name=scenario, where="a test")
    with (
        LabBeside([made], folder / "lab", livekit="stand-in", delay_scale=0.4 if made == "slow-api" else 1.0) as lab,
        Front(lab, scenario, folder if site is None else site, **options) as front,
    ):
        yield front
