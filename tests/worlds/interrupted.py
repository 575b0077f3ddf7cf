"""Shippers as processes of their own, to be killed at any instant."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import nestobs

_CODE = """
import sys, time
from nestobs.store.reader import Store
from nestobs.store.shipments.place import Place
from nestobs.store.shipments.shipping import destination, ship
store, to = Store.open(sys.argv[1]), sys.argv[2]
place = destination(store, to)
place.sizes("shipped-1")  # connected
print("ready", flush=True)
sys.stdin.readline()
began = time.monotonic()
ship(store, place, before=2**63 - 1)
print(time.monotonic() - began, flush=True)
"""


class Shipper:
    """A process that is ready to ship, once it is told to."""

    def __init__(self, store: Path, to: str, environment: Mapping[str, str]) -> None:
        paths = [str(Path(nestobs.__file__).parents[1]), str(Path(__file__).parents[1])]
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CODE, str(store), to],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment | {"PYTHONPATH": os.pathsep.join(paths)},
        )

    def begin(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdin is not None
        assert self.process.stdout.readline() == "ready\n"
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def took_s(self) -> float:
        """Wait for its end; how long shipping took."""
        out, _ = self.process.communicate(timeout=100)
        assert self.process.returncode == 0
        return float(out)

    def killed_after(self, pause_s: float) -> bool:
        """Kill it then; whether it was at work."""
        time.sleep(pause_s)
        self.process.kill()
        out, _ = self.process.communicate()
        return not out


def delays(count: int, took_s: float, seed: int = 16) -> list[float]:
    """Random instants within what shipping takes, seconds."""
    rng = random.Random(seed)
    return [rng.uniform(0, took_s) for _ in range(count)]
