"""The whole thing once: a lab, nests over its scenarios, two vantages, real joins, a tuned policy proven on fresh nests
of another lab, a report, the truth beside it.

The lab runs in a process of its own, as a deployment would. The ground truth it writes is read only here, after the
last observation, to say how many intervals contain it.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from nestobs import __version__
from nestobs.collector.canary import Campaign, Progress, Report, run
from nestobs.collector.loop.pace import Pace
from nestobs.config import Config
from nestobs.errors import UsageError, mistake_in
from nestobs.join.budget import Budget
from nestobs.join.policy import exponential
from nestobs.observation.duration import SECOND_NS
from nestobs.reports.tuning import DRAWS
from nestobs.session import tune
from nestobs.sources.clock import Clock
from nestobs.store.files import write
from nestobs.store.reader import Store
from nestobs.store.writer import Writer
from nestobs.timeline.uptime import observer
from nestobs.trial.lab_process import empty, listed, running_lab
from nestobs.trial.prove import Proof, prove
from nestobs.tuning.policy_file import dumps
from nestobs.tuning.recommendation import Recommendation, plain
from nestobs.tuning.threshold import TODAY_S
from nestobs.tuning.tuner import TooLittleDataError

SHARES: Final = {
    "calm": 0.12,
    "slow-relay": 0.12,
    "slow-api": 0.49,
    "api-join-fault": 0.09,
    "expired-room": 0.07,
    "never": 0.08,
    "rate-limited": 0.03,
}
"""How the nests are spread over the scenarios. Most go to the one that is tuned on: tuning refuses a handful."""

TUNED: Final = "slow-api"
"""The race itself: the policy is tuned on its nests, and proven on fresh ones."""

PROOF_S: Final = 150.0
"""So long the proof may take, of which a person may look for a nest for 80 s: so many fresh nests that the prediction
could fail, if these seconds allow it, each joined once under today's rule and once under the tuned policy."""

ONE_VANTAGE: Final = frozenset({"rate-limited"})
"""80 requests do not pay for two vantages."""

HORIZON_S: Final = 48.0
SPREAD_S: Final = 28.0
"""The nests of a scenario start within so many seconds: all at once, two cores could not keep to the plan."""

TUNED_SPREAD_S: Final = 12.0
"""Those of TUNED start sooner: the proof goes on while the others are still watched."""

MADE: Final = frozenset({"lab", "store", "proof", "policy.json", "report.html", "report.ipynb", "summary.json"})
"""What a demo leaves in its folder."""


async def demo(out: Path, *, nests: int = 66, seed: int = 1, progress: Progress) -> dict[str, Any]:
    """Run it all into `out` (made anew); the summary, also in `out/summary.json`. See README for its fields."""
    if nests < len(SHARES):
        raise UsageError(f"the demo has {len(SHARES)} scenarios: ask for at least {len(SHARES)} nests")
    started_at = Clock().now()
    empty(out, MADE, "an earlier demo")
    pace = Pace()
    async with running_lab(out / "lab", list(SHARES), seed=seed, vantages=2) as info:
        livekit = info["livekit"]
        progress(
            "lab", {"said": f"the lab runs: LiveKit {livekit['kind']} {livekit['version']}, {len(SHARES)} scenarios"}
        )
        store = Store.open(out / "store")
        config = Config(out / "lab" / "nestobs.toml")
        try:
            async with store.writer() as writer, asyncio.TaskGroup() as group:
                campaigns = _campaigns(group, store, writer, config, spread(nests), seed, pace, progress)
                proving = group.create_task(_prove(out, store, config, campaigns[TUNED], seed, pace, progress))
        except BaseExceptionGroup as failures:
            raise mistake_in(failures) or failures from None
        reports = {scenario: task.result() for scenario, task in campaigns.items()}
        left = await _left(out, reports)
    progress("report", {"said": "the lab has ended; making the report"})
    found, proof = proving.result()
    left += [] if proof is None else proof.left
    summary = await asyncio.to_thread(_report, out, store, info, reports, left, proof is not None)
    summary |= _told(found, proof)
    summary["failed"] += _failed(reports, left)
    summary["wall_s"] = round((Clock().now() - started_at) / SECOND_NS, 1)
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    return summary


def _campaigns(  # noqa: PLR0917 - called once, above
    group: asyncio.TaskGroup,
    store: Store,
    writer: Writer,
    config: Config,
    counts: Mapping[str, int],
    seed: int,
    pace: Pace,
    progress: Progress,
) -> dict[str, asyncio.Task[Report]]:
    """One campaign a scenario, all at once, into one store."""
    keyring, budget = config.keyring(), Budget()

    def tell(what: str, facts: dict[str, Any]) -> None:
        if what != "plan":  # seven times the same
            progress(what, facts)

    async def one(scenario: str, count: int) -> Report:
        campaign = Campaign(
            count=count,
            policies=(exponential(give_up_age_s=45.0),),
            horizon_s=HORIZON_S,
            stagger_s=(TUNED_SPREAD_S if scenario == TUNED else SPREAD_S) / count,
            wanted_polls=14,
            relay_polls=8,
        )
        names = [scenario] if scenario in ONE_VANTAGE else [scenario, f"{scenario}-b"]
        return await run(
            [config.target(name) for name in names],
            campaign,
            store=store,
            keyring=keyring,
            budget=budget,
            rng=random.Random(f"{seed}/{scenario}"),
            progress=tell,
            writer=writer,
            pace=pace,
        )

    words = ", ".join(f"{count} {scenario}" for scenario, count in counts.items())
    progress("plan", {"said": f"making {sum(counts.values())} nests: {words}; each watched {HORIZON_S:g} s"})
    return {scenario: group.create_task(one(scenario, count)) for scenario, count in counts.items()}


async def _prove(  # noqa: PLR0917 - called once, above
    out: Path, store: Store, config: Config, observed: asyncio.Task[Report], seed: int, pace: Pace, progress: Progress
) -> tuple[Recommendation | None, Proof | None]:
    """Tune on what was observed of TUNED, and prove that on fresh nests; neither where there is too little."""
    await observed
    hosts = [urlsplit(config.target(name).api).netloc for name in (TUNED, f"{TUNED}-b")]
    progress("tune", {"said": f"tuning on the nests of {TUNED}"})
    try:
        found = await asyncio.to_thread(tune, store, host=hosts, draws=DRAWS)
    except TooLittleDataError as error:
        progress("tune", {"said": f"not tuned: {error}"})
        return None, None
    progress("tune", {"said": f"a first answer, to be proven now on fresh nests: {found.why}"})
    file = found.file(found.tuned if found.kept else found.policy, nestobs=__version__)
    write(out / "policy.json", dumps(file))
    proof = await prove(
        file,
        TUNED,
        None,
        out / "proof",
        within_s=PROOF_S,
        seed=seed + 1,
        horizon_s=HORIZON_S,
        progress=progress,
        pace=pace,
    )
    return found, proof


def _told(found: Recommendation | None, proof: Proof | None) -> dict[str, Any]:
    """What the summary says of them."""
    message = None if found is None else plain(found.message_threshold_s)
    return {
        "message_threshold": {
            "today_s": TODAY_S,
            "tuned_s": None if message is None else message["value"],
            "interval_s": None if message is None else [message["lower"], message["upper"]],
        },
        "recommendation": None if found is None else found.why,
        "policies": [] if proof is None else proof.as_dict()["policies"],
        "proof": None if proof is None else _proven(proof),
    }


def _proven(proof: Proof) -> dict[str, Any]:
    told = proof.as_dict()
    shared = {name: told[name] for name in ("verdict", "paired", "power", "elsewhere", "held_up", "observer")}
    return {"scenario": TUNED, "nests": proof.nests, "inside": proof.share_inside} | shared


def spread(nests: int) -> dict[str, int]:
    """How many nests each scenario gets: at least one each, the sum exactly `nests`."""
    counts = {name: max(1, int(nests * share)) for name, share in SHARES.items()}
    counts["slow-api"] += nests - sum(counts.values())
    return counts


async def _left(out: Path, reports: Mapping[str, Report]) -> list[str]:
    """Rooms of ours that LiveKit still lists, or that a campaign says are left."""
    target = Config(out / "lab" / "nestobs.toml").target("calm")
    rooms = await listed(target, [room for report in reports.values() for room in report.rooms])
    said = [sentence for report in reports.values() for sentence in report.left]
    return rooms + said


def _failed(reports: Mapping[str, Report], left: Sequence[str]) -> list[str]:
    """What is not as it must be, a sentence each."""
    said = [f"{scenario}: {report.problem()}" for scenario, report in reports.items() if not report.made]
    return said + ([f"{len(left)} left behind: {left[0]}"] if left else [])


def _report(  # noqa: PLR0917 - called once, above
    out: Path, store: Store, info: Mapping[str, Any], reports: Mapping[str, Report], left: Sequence[str], proven: bool
) -> dict[str, Any]:
    from nestobs.reports.publishing.execute import notebook
    from nestobs.reports.publishing.execute import run as make
    from nestobs.timeline.calibration import coverage, missed, summary, truth_width
    from nestobs.timeline.intervals import timelines

    observations, truth = store.frame(), read_truth(out / "lab")
    judged = coverage(timelines(observations), truth, relay_names(info))
    untrue = missed(judged)
    first = next((f"{row.layer} of {row.room} at {row.vantage}: {row.cause}" for row in untrue.itertuples()), "")
    parts = {"store": "store", "lab": "lab/lab.json", "truth": "lab/truth.jsonl"}
    if proven:
        parts["proof"] = "proof/proof.json"
    make(
        notebook("demo"),
        out / "report.html",
        {name: str(out.resolve() / path) for name, path in parts.items()} | {"tune_on": TUNED},
    )
    made, ours = sum(report.made for report in reports.values()), observer(observations)
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
        "held_up": ours.share,
        "observer": ours.as_dict() | {"said": ours.words},
        "failed": [f"{len(untrue)} of {len(judged)} intervals contradict the truth: {first}"] if first else [],
        "report": "report.html",
    }


def read_truth(lab: Path) -> list[dict[str, Any]]:
    """The rows of a lab's truth.jsonl: only for saying afterwards how well it was measured."""
    return [json.loads(line) for line in (lab / "truth.jsonl").read_text().splitlines()]


def relay_names(info: Mapping[str, Any]) -> dict[str, str]:
    """URL -> the lab's own name of a relay, from lab.json, over all its scenarios and vantages."""
    return {url: name for scenario in info["scenarios"].values() for url, name in scenario["truth_names"].items()}
