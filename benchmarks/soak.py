"""Do memory, descriptors and threads stay flat? A canary makes many nests, and a watch follows them on ten relays of
which one floods.

    PYTHONPATH=tests python -m benchmarks.soak --minutes 30 --nests 1000

Both are processes of their own against a lab on loopback. Each is looked at every few seconds: resident memory, open
descriptors, threads. What is compared are the medians of the second and of the last quarter of the time; exit code 1
when one grew by more than its limit, or when a process ended early. Prints one JSON object.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from statistics import median

from benchmarks.bench_flood import relays
from nestobs.lab import Lab
from nestobs.store.inventory import contents
from nestobs.store.reader import Store

LIMITS = {"rss_mb": 1.15, "descriptors": 1.15, "threads": 1.1}
"""By how much each may grow from the second to the last quarter."""

HORIZON_S = 20.0
SAMPLE_S = 5.0


def look(pid: int) -> dict[str, float] | None:
    """Resident memory (MB), descriptors and threads of a process; None when it has ended."""
    with suppress(OSError):
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        if "VmRSS" in status:
            return {
                "rss_mb": int(status["VmRSS"].split()[0]) / 1024,
                "descriptors": len(os.listdir(f"/proc/{pid}/fd")),  # noqa: PTH208 - the entries vanish while listed
                "threads": int(status["Threads"]),
            }
    return None


async def soak(out: Path, minutes: float, nests: int, flood: str) -> dict[str, object]:
    """Run it; what was seen."""
    async with Lab(["calm"], out / "lab", relays=9) as lab:
        config = out / "lab" / "nestobs.toml"
        every_s = max(minutes * 60 - HORIZON_S - 15, 1) / nests
        words = {
            "canary": ["--count", str(nests), "--every", f"{every_s:.3f}s", "--horizon", f"{HORIZON_S:.0f}s"],
            "watch": [
                "--for",
                "1d",
                *(w for url in (flood, *(gate.url for gate in lab.gates["calm"])) for w in ("--relay", url)),
            ],
        }
        with (out / "said.log").open("wb") as log:
            running = {
                name: await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "nestobs", name, "--config", str(config), "--target", "calm"),
                    *("--store", str(out / name), *more),
                    stdout=log,
                    stderr=log,
                    env=os.environ | {"NESTOBS_STATE_DIR": str(out / "state")},
                )
                for name, more in words.items()
            }
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in running}
        loop = asyncio.get_running_loop()
        began, number = loop.time(), 0
        while running["canary"].returncode is None:
            number += 1
            await asyncio.sleep(began + number * SAMPLE_S - loop.time())
            for name, process in running.items():
                if sample := look(process.pid):
                    seen[name].append(sample)
        early = running["watch"].returncode is not None
        with suppress(ProcessLookupError):
            running["watch"].send_signal(signal.SIGTERM)
        codes = {name: await process.wait() for name, process in running.items()}
    return {
        "minutes": round((loop.time() - began) / 60, 1),
        "nests": nests,
        "relays": 10,
        "exit_codes": codes,
        "watch_ended_early": early,
        "rows": {name: contents(Store.open(out / name, create=False)).rows for name in running},
        "quarters": {name: quarters(samples) for name, samples in seen.items()},
    }


def quarters(samples: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of each measure the median of the second and of the last quarter, the peak, and how it grew."""
    size = len(samples) // 4
    found = {}
    for what in LIMITS:
        values = [sample[what] for sample in samples]
        second, last = median(values[size : 2 * size]), median(values[-size:])
        found[what] = {
            "second": round(second, 1),
            "last": round(last, 1),
            "peak": round(max(values), 1),
            "grew": round(last / second, 3),
        }
    return found


def main() -> int:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--nests", type=int, default=1000)
    parser.add_argument("--flood", default="small", help="a kind of worlds.flooders")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, relays(args.flood) as flood:
        found = asyncio.run(soak(Path(name), args.minutes, args.nests, flood[args.flood]))
        said = Path(name, "said.log").read_text(errors="replace").splitlines()[-5:]
    print(json.dumps(found | {"said": said}, indent=2))
    grown = [
        f"{name}'s {what} grew to {measured['grew']} of its second quarter"
        for name, of in found["quarters"].items()
        for what, measured in of.items()
        if measured["grew"] > LIMITS[what]
    ]
    for line in grown:
        print(line, file=sys.stderr)
    return 1 if grown or found["watch_ended_early"] or found["exit_codes"]["canary"] not in (0, 1) else 0


if __name__ == "__main__":
    raise SystemExit(main())
