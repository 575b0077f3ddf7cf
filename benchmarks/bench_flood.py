"""One relay floods: how late are the stamps of the others, against a quiet run just before?

A relay that behaves says when it sent its EOSE; each is asked every 20 ms, and what is printed is how much later than
that our `received_at` is. The flooders are beside it, each in turn, in a process of its own; so are its memory and what
our row says of it. Aim: p99 at most 50 ms above the quiet p99, and memory that does not grow with the flood.

    python -m benchmarks.bench_flood [SECONDS [KIND...]]
"""

import asyncio
import json
import os
import resource
import subprocess
import sys
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import numpy as np

from nestobs.nostr import Address, Keys
from nestobs.observation.schema import Failure, Observation, Operation, Outcome
from nestobs.sources.relay import Relay
from nestobs.sources.vantage import Trace, Vantage
from worlds.flooders import KINDS

SECONDS = 4.0
SPACING_S = 0.02
LIMIT_MS = 50.0
ADDRESS = Address(30312, Keys.generate().public, "none")


@contextmanager
def relays(*kinds: str):
    """Their URLs by kind; they end with the block."""
    words = [sys.executable, "-m", "worlds.flooders", *kinds]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1] / "tests") as running:
        assert running.stdout is not None
        yield {kind: f"ws://127.0.0.1:{port}" for kind, port in json.loads(running.stdout.readline()).items()}
        running.kill()


async def run(honest: str, floods: list[str], seconds: float) -> tuple[np.ndarray, list[Observation]]:
    """How late each stamp of the honest relay is, ms, and all rows."""
    rows: list[Observation] = []
    vantage = Vantage("bench", "run", rows.append)
    async with AsyncExitStack() as stack:
        asked = await stack.enter_async_context(Relay(vantage, honest))
        await asked.ready(5)
        for url in floods:
            flooding = await stack.enter_async_context(Relay(vantage, url, keys=Keys.generate()))
            flooding.subscribe({"kinds": [30312]}, lambda event: Trace("t", "n", event.tag("d") or ""))
        for _ in range(round(seconds / SPACING_S)):
            await asked.query(Trace(), address=ADDRESS, timeout_s=5)
            await asyncio.sleep(SPACING_S)
    answers = [row for row in rows if row.target == honest and row.outcome is Outcome.ABSENT]
    sent = [int(json.loads(row.detail)["notices"][0]) for row in answers]
    return np.array([(row.received_at or 0) - at for row, at in zip(answers, sent, strict=True)]) / 1e6, rows


def line(name: str, late: np.ndarray) -> str:
    """Median, p99 and the worst."""
    median, p99 = np.percentile(late, [50, 99])
    return f"{name:<14} n {len(late):>4}  median {median:6.2f} ms  p99 {p99:6.2f}  worst {late.max():6.1f}"


def flooded(honest: str, kind: str, seconds: float) -> bool:
    """Print the line of a flood, and the quiet run before it; whether it kept the limit."""
    quiet, _ = asyncio.run(run(honest, [], seconds))
    with relays(kind) as flood:
        late, rows = asyncio.run(run(honest, [flood[kind]], seconds))
    base, p99 = (float(np.percentile(each, 99)) for each in (quiet, late))
    of = [row for row in rows if row.target == flood[kind]]
    said = next((row.reason for row in of if row.operation is Operation.CONNECT and row.failure), "")
    cut = sum(row.failure is Failure.FLOODED for row in of)
    size = sum(len(row.nest) + len(row.room) + len(row.detail) + len(row.reason) for row in of)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{line(kind, late)}  quiet {base:6.2f}  {(p99 - base) / LIMIT_MS:5.2f} of the limit  cut off {cut}"
        f"  rows {len(of)} ({size / 1e3:.0f} kB)  peak {peak:.0f} MB  load {os.getloadavg()[0]:.1f}  {said[:90]}",
        flush=True,
    )
    return p99 - base <= LIMIT_MS


def main(seconds: float, kinds: list[str]) -> bool:
    """Print a line a flood; whether all kept the limit. One that did not is looked at once more: what others do on the
    machine comes and goes, what a flood costs does not."""
    with relays("honest") as calm:
        kept = [flooded(calm["honest"], kind, seconds) or flooded(calm["honest"], kind, seconds) for kind in kinds]
    return all(kept)


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(0 if main(float(given[0]) if given else SECONDS, given[1:] or list(KINDS)) else 1)
