"""The whole thing once: a lab, nests over its scenarios, two vantages, real joins, a report, the truth beside it.

The lab runs in a process of its own, as a deployment would. The ground truth it writes is read only here, after the
last observation, to say how many intervals contain it.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from nestobs import __version__
from nestobs.budget import Budget
from nestobs.clock import Clock
from nestobs.config import Config
from nestobs.errors import NestobsError, UsageError
from nestobs.host import Campaign, Progress, Report, run
from nestobs.policy import exponential
from nestobs.store import Store, Writer

SECOND_NS: Final = 1_000_000_000
SHARES: Final = {
    "calm": 0.2,
    "slow-relay": 0.2,
    "slow-api": 0.25,
    "api-join-fault": 0.1,
    "expired-room": 0.1,
    "never": 0.12,
    "rate-limited": 0.03,
}
"""How the nests are spread over the scenarios."""

ONE_VANTAGE: Final = frozenset({"rate-limited"})
"""80 requests do not pay for two vantages."""

HORIZON_S: Final = 48.0
SPREAD_S: Final = 28.0
"""The nests of a scenario start within so many seconds: all at once, two cores could not keep to the plan."""

READY_S: Final = 30.0
MADE: Final = frozenset({"lab", "store", "report.html", "report.ipynb", "summary.json"})
"""What a demo leaves in its folder."""


class LabFailedError(NestobsError):
    """The lab's process did not come up."""

    exit_code = 3


async def demo(out: Path, *, nests: int = 66, seed: int = 1, progress: Progress) -> dict[str, Any]:
    """Run it all into `out` (made anew); the summary, also in `out/summary.json`. See README for its fields."""
    if nests < len(SHARES):
        raise UsageError(f"the demo has {len(SHARES)} scenarios: ask for at least {len(SHARES)} nests")
    started_at = Clock().now()
    _fresh(out)
    async with running_lab(out / "lab", list(SHARES), seed=seed, vantages=2) as info:
        livekit = info["livekit"]
        progress(
            "lab", {"said": f"the lab runs: LiveKit {livekit['kind']} {livekit['version']}, {len(SHARES)} scenarios"}
        )
        store = Store.open(out / "store")
        async with store.writer() as writer:
            reports = await _campaigns(
                store, writer, Config(out / "lab" / "nestobs.toml"), spread(nests), seed, progress
            )
        left = await _left(out, reports)
    progress("report", {"said": "the lab has ended; making the report"})
    summary = await asyncio.to_thread(_report, out, store, info, reports, left)
    summary["wall_s"] = round((Clock().now() - started_at) / SECOND_NS, 1)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _fresh(out: Path) -> None:
    """Make `out` empty. Only what a demo makes is ever removed, and only where there is nothing else."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: give --out a folder")
    found = {path.name for path in out.iterdir()} if out.exists() else set()
    if found:
        if found - MADE or not ((out / "lab" / "lab.json").exists() or (out / "store" / "journal.sqlite").exists()):
            raise UsageError(f"{out} holds other things than an earlier demo: give --out another folder")
        shutil.rmtree(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out} cannot be made ({error.strerror}): give --out another folder") from None


@asynccontextmanager
async def running_lab(
    directory: Path, scenarios: Sequence[str], *, seed: int, vantages: int, options: Sequence[str] = ()
) -> AsyncIterator[dict[str, Any]]:
    """A lab in a process of its own; yields what it says of itself (lab.json). Raises LabFailedError with why not."""
    words = [sys.executable, "-m", "nestobs", "lab", "--json", "--dir", str(directory), "--seed", str(seed)]
    words += ["--vantages", str(vantages), *options, *(w for name in scenarios for w in ("--scenario", name))]
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, limit=2**20, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        try:
            async with asyncio.timeout(READY_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            process.kill()
            said = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
            raise LabFailedError(f"the lab did not start: {said[-1] if said else 'it said nothing'}")
        draining = asyncio.create_task(process.stderr.read())
        yield json.loads(line)
        draining.cancel()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _campaigns(  # noqa: PLR0917 - called once, above
    store: Store, writer: Writer, config: Config, counts: Mapping[str, int], seed: int, progress: Progress
) -> dict[str, Report]:
    """One campaign a scenario, all at once, into one store."""
    keyring, budget = config.keyring(), Budget()
    reports: dict[str, Report] = {}

    def tell(what: str, facts: dict[str, Any]) -> None:
        if what != "plan":  # seven times the same
            progress(what, facts)

    async def one(scenario: str, count: int) -> None:
        campaign = Campaign(
            count=count,
            policy=exponential(give_up_age_s=45.0),
            horizon_s=HORIZON_S,
            stagger_s=SPREAD_S / count,
            wanted_polls=14,
            relay_polls=8,
        )
        names = [scenario] if scenario in ONE_VANTAGE else [scenario, f"{scenario}-b"]
        reports[scenario] = await run(
            [config.target(name) for name in names],
            campaign,
            store=store,
            keyring=keyring,
            budget=budget,
            rng=random.Random(f"{seed}/{scenario}"),
            progress=tell,
            writer=writer,
        )

    words = ", ".join(f"{count} {scenario}" for scenario, count in counts.items())
    progress("plan", {"said": f"making {sum(counts.values())} nests: {words}; each watched {HORIZON_S:g} s"})
    async with asyncio.TaskGroup() as group:
        for scenario, count in counts.items():
            group.create_task(one(scenario, count))
    return {scenario: reports[scenario] for scenario in counts}


def spread(nests: int) -> dict[str, int]:
    """How many nests each scenario gets: at least one each, the sum exactly `nests`."""
    counts = {name: max(1, int(nests * share)) for name, share in SHARES.items()}
    counts["slow-api"] += nests - sum(counts.values())
    return counts


async def _left(out: Path, reports: Mapping[str, Report]) -> list[str]:
    """Rooms of ours that LiveKit still lists, or that a campaign says are left."""
    from nestobs.sources.livekit import LiveKit
    from nestobs.vantage import Vantage

    target = Config(out / "lab" / "nestobs.toml").target("calm")
    made = {room for report in reports.values() for room in report.rooms}
    vantage = Vantage("leaks", "", lambda _: None)
    async with LiveKit(vantage, target.livekit, key=target.livekit_key, secret=target.livekit_secret) as livekit:
        listed = made & set(await livekit.all_rooms() or ())
    said = [sentence for report in reports.values() for sentence in report.left]
    return sorted(listed) + said


def _report(
    out: Path, store: Store, info: Mapping[str, Any], reports: Mapping[str, Report], left: Sequence[str]
) -> dict[str, Any]:
    from nestobs.calibrate import coverage, summary, truth_width
    from nestobs.reports.run import notebook
    from nestobs.reports.run import run as make
    from nestobs.timeline import timelines

    observations = store.frame()
    judged = coverage(timelines(observations), read_truth(out / "lab"), relay_names(info))
    parts = {"store": "store", "lab": "lab/lab.json", "truth": "lab/truth.jsonl"}
    make(
        notebook("propagation"),
        out / "report.html",
        {name: str(out.resolve() / path) for name, path in parts.items()},
    )
    made = sum(report.made for report in reports.values())
    return {
        "nestobs": __version__,
        "wall_s": None,
        "livekit": info["livekit"],
        "relays": [relay["name"] for relay in info["relays"]],
        "observations": len(observations),
        "scenarios": {
            name: {"nests": report.made, "refused": report.refused, "verdicts": dict(report.verdicts)}
            for name, report in reports.items()
        },
        "intervals": summary(judged),
        "truth_width_s": truth_width(judged),
        "leaks": {"made": made, "left": len(left), "which": list(left)},
        "report": "report.html",
    }


def read_truth(lab: Path) -> list[dict[str, Any]]:
    """The rows of a lab's truth.jsonl: only for saying afterwards how well it was measured."""
    return [json.loads(line) for line in (lab / "truth.jsonl").read_text().splitlines()]


def relay_names(info: Mapping[str, Any]) -> dict[str, str]:
    """URL -> the lab's own name of a relay, from lab.json, over all its scenarios and vantages."""
    return {url: name for scenario in info["scenarios"].values() for url, name in scenario["truth_names"].items()}
