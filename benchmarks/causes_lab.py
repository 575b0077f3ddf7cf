"""Does the diagnosis name the cause? Nests with known faults, joined for real, against the lab's truth.

    PYTHONPATH=tests python -m benchmarks.causes_lab --nests 1000 --faults 1 --out runs/causes
    PYTHONPATH=tests python -m benchmarks.causes_lab --nests 1000 --scenario races --out runs/races
    PYTHONPATH=tests python -m benchmarks.causes_lab --again runs/causes

Each nest has a deployment of its own (API, relays' gates, a way to LiveKit), so that what one suffers no other shows;
its faults are drawn from the scenario (`every-cause`, `two-faults`, `races`), seeded. The driver is the host: it makes
the nest, publishes, sits in the room, and does what is drawn for hosts. It asks what a prober asks, and people join
once the fault is there: signed in and as guests, some with a policy that polls, `--released-ratio` of them as the
released client does. What came to the store is then all that `diagnose` gets.

What counts as right, strictly: the first-named cause is the fault that the truth says was in force (for two, either),
and all of them are listed that another does not hide (HIDES; counted, and the share without that leave is printed too).
A nest whose faults never came into force, or none, is right as `joined`. Two readings that fit alike are no excuse: the
wrong one first is wrong. Confidently wrong: the first-named is none of the nest's causes, at a confidence of .9 or
more. False alarm: a standing fault of the API (ALARMS) is named as what is likelier than not, first or not, for a nest
that has no such fault; with `--scenario races` that is all nests. Left out, and counted: nests of whose joins we
ourselves held one up, by a machine that is too busy, since they have another fault than was drawn.

With `--again DIR` a run that is recorded in DIR (store, truth.json, scenarios) is scored with today's rules.

Exit code 1 when the shares are below the targets: 98 % of single faults, 90 % of double ones, nothing confidently
wrong, at most one false alarm in 1 000 nests.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.causes_host import HORIZON_S, Case, Host, OwnNetwork
from benchmarks.causes_score import Outcome, score
from nestobs.collector.lookup import find, load
from nestobs.collector.loop.pace import Pace
from nestobs.collector.manners import Care
from nestobs.collector.polling import Plan, poll
from nestobs.collector.prober import join
from nestobs.collector.station import Station, Target, recording
from nestobs.config import Config
from nestobs.diagnosis.diagnose import diagnose
from nestobs.join.budget import Budget
from nestobs.join.policy import RELEASED, Policy, exponential
from nestobs.lab import load_scenario
from nestobs.lab.livekit.server import find_binary
from nestobs.lab.plan import Planner
from nestobs.nostr import ROOM_KIND, Address, Keys
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import Clock
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store
from nestobs.store.writer import Writer
from nestobs.timeline.intervals.polls import held_up
from nestobs.trial.lab_process import running_lab

SHIPPED = Path(load_scenario.__code__.co_filename).with_name("scenarios")
POLLS = 7
RELAYS, WATCHED = 4, 2
"""Of the lab, and of these those that a nest uses."""

BATCH = 100

POLLING = replace(
    exponential(0.5, give_up_age_s=HORIZON_S), connect_attempts=1, connect_timeout_s=5.0, request_timeout_s=4.0
)


@dataclass(slots=True)
class Driver:
    """A run's settings, and what its nests share."""

    args: argparse.Namespace
    store: Store
    writer: Writer
    budget: Budget
    pace: Pace
    done: int = 0

    async def nest(self, target: Target, case: Case, stagger: float) -> None:
        """One nest from its making to the horizon."""
        await asyncio.sleep(stagger)
        network = OwnNetwork()
        if case.fault("observer_fault"):
            target = await network.through(target)
        pen = recording(self.store, [target], self.budget, writer=self.writer)
        async with pen as ([station], _), self.pace.place(station.vantage):
            await asyncio.gather(*(relay.ready(3.0) for relay in station.relays))
            host = Host(station, case, Keys.generate(), network)
            if (made := await host.make()) is not None:
                await self._watch(station, case, host, *made)
        await network.close()
        self.done += 1
        if self.done % 20 == 0:
            print(f"{self.done} nests", file=sys.stderr, flush=True)

    async def _watch(self, station: Station, case: Case, host: Host, trace: Trace, origin: int) -> None:
        plan, dice = Plan(POLLS, HORIZON_S, 15), case.dice
        address, watcher = Address(ROOM_KIND, host.keys.public, trace.room), Keys.generate()
        asks: list[tuple[int, Any]] = [
            (POLLS, partial(station.api.info, trace)),
            (POLLS, partial(station.api.guest, trace)),
            (POLLS, partial(station.api.join, trace, watcher)),
            (3, partial(load, station, trace, address)),
            *((4, partial(relay.query, trace, address=address)) for relay in station.relays),
        ]
        livekit = station.livekit
        if livekit is not None and livekit.lists_rooms:
            asks.append((POLLS, partial(livekit.rooms, trace)))
        async with asyncio.TaskGroup() as group:
            group.create_task(host.stay(origin))
            group.create_task(host.act(origin))
            group.create_task(_look(station, address, origin))
            aged = [(plan.ages_s(dice, polls), ask) for polls, ask in asks]
            group.create_task(poll(station, trace, origin, aged))
            for number, (age_s, policy) in enumerate(self._joins(case)):
                due = origin + round(age_s * SECOND_NS)
                media = (number == 0 and dice.random() < self.args.media_ratio) or bool(case.fault("media_blocked"))
                group.create_task(self._join(station, case, host, trace, policy, due=due, number=number, media=media))
        await asyncio.gather(host.publishing, return_exceptions=True)

    def _joins(self, case: Case) -> Iterator[tuple[float, Policy]]:
        released = round(self.args.joins * self.args.released_ratio)
        for number, age_s in enumerate(case.arrivals(self.args.joins)):
            left_s = max(0.5, HORIZON_S - age_s)
            yield age_s, RELEASED if number >= self.args.joins - released else replace(POLLING, horizon_s=left_s)

    async def _join(
        self,
        station: Station,
        case: Case,
        host: Host,
        trace: Trace,
        policy: Policy,
        *,
        due: int,
        number: int,
        media: bool,
    ) -> None:
        await station.clock.until(due)
        await join(
            station,
            trace,
            policy,
            rng=case.dice,
            nest=host.seen,
            relays=tuple(sorted(host.holders)),
            address=Address(ROOM_KIND, host.keys.public, trace.room),
            keys=Keys.generate() if number % 2 == 0 else None,
            media=media,
            care=Care(ours=True),
        )


async def _look(station: Station, address: Address, origin: int) -> None:
    """What who types its address asks: all versions on all relays, and whether its author withdrew it."""
    for age_s in (1.0, HORIZON_S / 2, HORIZON_S - 1.5):
        await station.clock.until(origin + round(age_s * SECOND_NS))
        await find(station, address, timeout_s=2.0)


def cases(args: argparse.Namespace, folder: Path, binary: bool) -> list[tuple[Path, Case]]:
    """A scenario file for each nest, and what its first nest will suffer."""
    folder.mkdir(parents=True)
    found = []
    text = (SHIPPED / f"{args.scenario}.toml").read_text("utf-8")
    if not binary:
        text = "[[faults]]".join(part for part in text.split("[[faults]]") if '"media_blocked"' not in part)
    for number in range(args.nests):
        path = folder / f"n{args.seed}-{number:05}.toml"
        path.write_text(text, "utf-8")
        faults = Planner(load_scenario(path), args.seed, RELAYS).nth(0).faults
        found.append((path, Case(path.stem, faults, random.Random(f"{args.seed}/{number}"))))
    return found


async def measure(args: argparse.Namespace, made: list[tuple[Path, Case]]) -> None:
    """Run all nests in labs of BATCH each; what was true of them goes to OUT/truth.json, batch by batch."""
    store = Store.open(args.out / "store")
    truth: list[dict[str, Any]] = []
    pace = Pace()
    async with store.writer() as writer:
        for number, at in enumerate(range(0, len(made), BATCH)):
            batch = made[at : at + BATCH]
            folder = args.out / f"lab-{number:03}"
            options = ["--stand-in"] if args.stand_in else []
            names = [str(path) for path, _ in batch]
            async with running_lab(folder, names, seed=args.seed, vantages=1, options=options):
                config = Config(folder / "nestobs.toml")
                driver = Driver(args, store, writer, Budget(1_000_000), pace)
                await _batch(driver, config, batch)
            truth += true_of(batch, folder / "truth.jsonl")
            (args.out / "truth.json").write_text(json.dumps(truth) + "\n")
            shutil.rmtree(folder)


async def _batch(driver: Driver, config: Config, batch: list[tuple[Path, Case]]) -> None:
    async with asyncio.TaskGroup() as group:
        for number, (_, case) in enumerate(batch):
            target = config.target(case.name)
            target = replace(target, relays=target.relays[:WATCHED])
            if not driver.args.keys:
                target = replace(target, livekit_key="", livekit_secret="")
            group.create_task(driver.nest(target, case, number / driver.args.nests_per_s))


def true_of(batch: list[tuple[Path, Case]], lab: Path) -> list[dict[str, Any]]:
    """Of each nest that was made its room, the causes that were in force, and in which kinds it was to have them."""
    shown: dict[str, set[str]] = {}
    for row in map(json.loads, lab.read_text().splitlines()):
        if row["layer"].startswith("fault:") and row["change"] == "shown":
            shown.setdefault(row["scenario"], set()).add(row["layer"].removeprefix("fault:"))
    return [
        {
            "room": case.event_room,
            "known": sorted(shown.get(case.name, set()) | case.acted),
            "kinds": {each.cause: each.kind for each in case.faults},
        }
        for _, case in batch
        if case.room
    ]


def outcomes(out: Path) -> list[Outcome]:
    """What was so and what is named, of each nest of a run that was made and that we did not hold up."""
    frame = Store.open(out / "store").frame()
    held, named = held_up_rooms(frame), {one.room: one for one in diagnose(frame)}
    found = []
    for row in json.loads((out / "truth.json").read_text()):
        if row["room"] in held and "observer_fault" not in row["known"]:
            continue
        one = named.get(row["room"])
        causes = () if one is None else tuple((each.cause.value, each.confidence) for each in one.causes)
        found.append(Outcome(row["room"], tuple(row["known"]), row["kinds"], causes, "" if one is None else one.line()))
    return found


def held_up_rooms(frame: Any) -> set[str]:
    """The rooms of which we held up a join, what the web client asks before it, or a question of the same kind."""
    alike = frame["operation"].isin(["join", "guest", "signal", "media", "rooms"])
    judged = frame["role"].isin(["joiner", "guest"]) | (frame["source"] == "client") | alike
    return set(frame.loc[held_up(frame) & judged.to_numpy(bool), "room"])


def shipped_like(path: Path) -> str:
    """The name of the scenario that ships of which this file is a copy, its own name where it is of none."""
    said = load_scenario(path).description
    like = (each.stem for each in SHIPPED.glob("*.toml") if load_scenario(each).description == said)
    return next(like, path.stem)


def main() -> int:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--nests", type=int, default=1000)
    parser.add_argument("--faults", type=int, choices=(1, 2), default=1)
    parser.add_argument("--scenario", help="of those that ship; by --faults unless given")
    parser.add_argument("--keys", action=argparse.BooleanOptionalAction, default=True, help="LiveKit's, for its list")
    parser.add_argument("--joins", type=int, default=4, help="people a nest")
    parser.add_argument("--released-ratio", type=float, default=0.5, help="of them, those with the released client")
    parser.add_argument("--media-ratio", type=float, default=0.1, help="of nests, those where one connects media")
    parser.add_argument("--nests-per-s", type=float, default=0.8)
    parser.add_argument("--stand-in", action="store_true", help="LiveKit's, even where a server is found")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", type=Path, metavar="DIR", help="score what an earlier run recorded there; run none")
    parser.add_argument("--out", type=Path, default=Path("runs/causes"))
    args = parser.parse_args()
    args.scenario = args.scenario or {1: "every-cause", 2: "two-faults"}[args.faults]
    if args.again is not None:
        recorded = sorted((args.again / "scenarios").glob("*.toml"))
        if not recorded or not (args.again / "truth.json").exists():
            print(f"{args.again} holds no recorded run: it has a store, truth.json and scenarios", file=sys.stderr)
            return 2
        args.out, args.nests, args.scenario = args.again, len(recorded), shipped_like(recorded[0])
    elif (args.out / "store").exists():
        print(f"{args.out} holds an earlier run: give --out another folder, or remove it", file=sys.stderr)
        return 2
    clock = Clock()
    began = clock.now()
    if args.again is None:
        args.out.mkdir(parents=True, exist_ok=True)
        made = cases(args, args.out / "scenarios", not args.stand_in and find_binary() is not None)
        asyncio.run(measure(args, made))
    found = outcomes(args.out)
    table, passed = score(found, doubles=args.scenario == "two-faults", left_out=args.nests - len(found))
    table["wall_s"] = round((clock.now() - began) / SECOND_NS, 1)
    (args.out / "causes.json").write_text(json.dumps(table, indent=1) + "\n")
    races = args.scenario == "races"  # nobody need have noticed a short one: there the alarms alone count
    return 0 if (table["alarmed_within"] if races else passed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
