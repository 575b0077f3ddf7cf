"""Does the diagnosis name the cause? Nests with known faults, joined for real, against the lab's truth.

    PYTHONPATH=tests python -m benchmarks.causes_lab --nests 1000 --faults 1 --out runs/causes
    PYTHONPATH=tests python -m benchmarks.causes_lab --nests 1000 --scenario races --out runs/races

Each nest has a deployment of its own (API, relays' gates, a way to LiveKit), so that what one suffers no other shows;
its faults are drawn from the scenario (`every-cause`, `two-faults`, `races`), seeded. The driver is the host: it makes
the nest, publishes, sits in the room, and does what is drawn for hosts. It asks what a prober asks, and people join
once the fault is there: signed in and as guests, some with a policy that polls, `--released-ratio` of them as the
released client does. What came to the store is then all that `diagnose` gets.

What counts as right, strictly: the first-named cause is the fault that the truth says was in force (for two, either),
and all of them are listed. A nest whose faults never came into force, or none, is right as `joined`. Two readings that
fit alike are no excuse: the wrong one first is wrong. Confidently wrong: the first-named is none of the nest's causes,
at a confidence of .9 or more. False alarm: a standing fault of the API (ALARMS) is named as what is likelier than not,
first or not, for a nest that has no such fault; with `--scenario races` that is all nests. Left out, and counted: nests
of whose joins we ourselves held one up, by a machine that is too busy, since they have another fault than was drawn.

Exit code 1 when the shares are below the targets: 98 % of single faults, 90 % of double ones, nothing confidently
wrong, at most one false alarm in 1 000 nests.
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.causes_score import Outcome, score
from nestobs.collector.lookup import find
from nestobs.collector.manners import Care
from nestobs.collector.pace import Pace
from nestobs.collector.polling import Plan, poll
from nestobs.collector.prober import join, load
from nestobs.collector.station import Station, Target, recording
from nestobs.config import Config
from nestobs.diagnosis.diagnose import diagnose
from nestobs.join.budget import Budget
from nestobs.join.policy import RELEASED, Policy, exponential
from nestobs.lab import load_scenario
from nestobs.lab.faults.draw import Fault
from nestobs.lab.livekit.server import find_binary
from nestobs.lab.plan import Planner
from nestobs.nostr import DELETION_KIND, ROOM_KIND, Address, Event, Keys, room_filter
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest, read_nest, room_tags
from nestobs.observation.schema import Role
from nestobs.sources.clock import Clock
from nestobs.sources.relay.pushes import Seen
from nestobs.sources.vantage import Trace
from nestobs.store.reader import Store
from nestobs.store.writer import Writer
from nestobs.timeline.intervals.polls import held_up
from nestobs.trial.lab_process import running_lab

SHIPPED = Path(load_scenario.__code__.co_filename).with_name("scenarios")
HORIZON_S = 14.0
POLLS = 7
RELAYS, WATCHED = 4, 2
"""Of the lab, and of these those that a nest uses."""

BATCH = 100
BLOCKED_S = 3.0
EARLY_S, LATE_S = 0.3, 2.5
"""People come so long after a fault began."""

POLLING = replace(
    exponential(0.5, give_up_age_s=HORIZON_S), connect_attempts=1, connect_timeout_s=5.0, request_timeout_s=4.0
)


@dataclass(slots=True)
class Case:
    """One nest: where, its faults as they are drawn, and what the host has then really done."""

    name: str
    faults: tuple[Fault, ...]
    dice: random.Random
    room: str = ""
    event_room: str = ""
    acted: set[str] = field(default_factory=set)

    def fault(self, cause: str) -> Fault | None:
        return next((each for each in self.faults if each.cause == cause), None)

    def arrivals(self, count: int) -> list[float]:
        """Ages at which people come: each while some fault of the nest is there."""
        found = []
        for number in range(count):
            fault = self.faults[number % len(self.faults)] if self.faults else None
            latest = LATE_S if fault is None or fault.for_s is None else min(LATE_S, max(0.5, 0.6 * fault.for_s))
            begun_s = 0.0 if fault is None else min(fault.from_s, HORIZON_S - 4)
            found.append(begun_s + self.dice.uniform(EARLY_S, max(EARLY_S, latest)))
        return found


class Host:
    """Makes one nest, sits in it, and does what its faults say that hosts do."""

    def __init__(self, station: Station, case: Case, keys: Keys) -> None:
        self.station, self.case, self.keys = station, case, keys
        self.session: Any = None
        self.newest: Event
        self.trace = Trace(trace_id=station.vantage.new_id())

    async def make(self) -> tuple[Trace, int] | None:
        """Make and announce it: what observers follow, and when it was asked for; None where none was made."""
        station, case = self.station, self.case
        relays = tuple(relay.url for relay in station.relays)
        answer = await station.api.create(self.trace, self.keys, relays, role=Role.HOST)
        body = answer.body or {}
        if not body.get("roomId"):
            return None
        case.room = case.event_room = str(body["roomId"])
        if case.fault("room_id_mismatch"):
            case.event_room = case.room[::-1]
            case.acted.add("room_id_mismatch")
        address = str(Address(ROOM_KIND, self.keys.public, case.event_room))
        self.made = replace(self.trace, room=case.room)
        self.trace = replace(self.trace, room=case.event_room, nest=address)
        self.newest = self._event(body)
        self._subscribe()
        self.publishing = asyncio.gather(*(relay.publish(self.trace, self.newest) for relay in station.relays))
        self.token = body.get("token")
        return self.trace, answer.row.sent_at

    def _event(self, body: dict[str, Any], **changed: str) -> Event:
        now_s, relays = self.station.clock.now() // SECOND_NS, tuple(relay.url for relay in self.station.relays)
        tags = room_tags(
            room=self.case.event_room,
            name="causes",
            host=self.keys.public,
            service=self.station.target.api,
            streaming=next((each for each in body.get("endpoints", []) if "livekit" in each), ""),
            relays=relays,
        )
        created_at = now_s
        if (fault := self.case.fault("not_begun")) is not None:
            changed = {"status": "planned"} if fault.kind == "planned" else {}
            tags = [*tags, ("starts", str(now_s + 3600))]
            self.case.acted.add("not_begun")
        if (fault := self.case.fault("age_rule_misled")) is not None and fault.kind == "old_clock":
            created_at -= 3600
            self.case.acted.add("age_rule_misled")
        return self._signed(tags, created_at, **changed)

    def _signed(self, tags: Any, created_at: int, **changed: str) -> Event:
        new = [(row[0], changed[row[0]]) if row[0] in changed else row for row in tags]
        return self.keys.sign(ROOM_KIND, created_at=created_at, tags=new)

    def _subscribe(self) -> None:
        self.seen: Nest | None = None
        self.holders: set[str] = set()
        for number, relay in enumerate(self.station.relays):

            def seen(found: Seen, relay: Any = relay, selected: bool = number == 0) -> None:
                self.holders.add(relay.url)
                if selected:
                    nest = read_nest(found.event)
                    self.seen = nest if self.seen is None else self.seen.renewed(nest)

            relay.subscribe(
                room_filter(authors=[self.keys.public], since=None),
                lambda event: self.trace if event.tag("d") == self.case.event_room else None,
                seen,
            )

    async def stay(self, origin: int) -> None:
        """Sit in the room as hosts do, and leave it where that is what ends it."""
        livekit, clock, ends_s = self.station.livekit, self.station.clock, HORIZON_S
        away = self.case.fault("room_expired") or self.case.fault("room_id_mismatch")
        if away or livekit is None or not isinstance(self.token, str) or not self.token:
            return
        if (fault := self.case.fault("ended_by_departure")) is not None:
            ends_s = max(0.5, fault.from_s - 1.0)
        try:
            for age_s in (0.2, 1.0, 3.0, 6.0, 8.0, 10.0):
                await clock.until(origin + round(age_s * SECOND_NS))
                if age_s < ends_s and (self.session is None or self.session.dropped.is_set()):
                    _, self.session = await livekit.signal(self.made, self.token, role=Role.HOST)
            await clock.until(origin + round(ends_s * SECOND_NS))
        finally:
            if self.session is not None:
                await asyncio.shield(self.session.close())

    async def act(self, origin: int) -> None:
        """What is drawn for hosts, at its time."""
        for fault in self.case.faults:
            await self.station.clock.until(origin + round(min(fault.from_s, HORIZON_S) * SECOND_NS))
            await self._act(fault)

    async def _act(self, fault: Fault) -> None:
        now_s = max(self.station.clock.now() // SECOND_NS, self.newest.created_at + 1)
        match fault.cause:
            case "closed_by_host":
                await self._edit(now_s, status=fault.kind)
            case "withdrawn":
                tags = [("e", self.newest.id), ("a", self.trace.nest), ("k", str(ROOM_KIND))]
                await self._publish(self.keys.sign(DELETION_KIND, created_at=now_s, tags=tags))
            case "deleted":
                await self._delete(recorded=self.case.dice.random() < 0.5)
            case "restart_without_effect":
                await self.station.api.restart(self.made, self.keys, role=Role.HOST)
            case "age_rule_misled" if fault.kind == "edited":
                await asyncio.sleep(0.5)
                await self._edit(now_s + 1)
            case _:
                return
        self.case.acted.add(fault.cause)

    async def _edit(self, created_at: int, **changed: str) -> None:
        self.newest = self._signed(self.newest.tags, created_at, **changed)
        await self._publish(self.newest)

    async def _publish(self, event: Event) -> None:
        await asyncio.gather(*(relay.publish(self.trace, event, read_back=False) for relay in self.station.relays))

    async def _delete(self, *, recorded: bool) -> None:
        """As this vantage's own deed, or as somebody does it elsewhere, of which there is no row."""
        if recorded:
            await self.station.api.delete(self.made, self.keys, role=Role.HOST)
            return
        import httpx

        from nestobs.nostr import http_auth

        url = f"{self.station.target.api}/{self.case.room}"
        auth = http_auth(self.keys, url=url, method="DELETE", created_at=int(time.time()), body=None)
        async with httpx.AsyncClient(timeout=5) as http:
            with suppress(httpx.HTTPError):
                await http.delete(url, headers={"Authorization": auth})


@dataclass(slots=True)
class Driver:
    """A run's settings, and what its nests share."""

    args: argparse.Namespace
    store: Store
    writer: Writer
    budget: Budget
    pace: Pace
    done: int = 0

    async def nest(self, target: Target, case: Case, stagger: float, blocking: asyncio.Event | None = None) -> None:
        """One nest from its making to the horizon."""
        await asyncio.sleep(stagger)
        pen = recording(self.store, [target], self.budget, writer=self.writer)
        async with pen as ([station], _), self.pace.place(station.vantage):
            await asyncio.gather(*(relay.ready(3.0) for relay in station.relays))
            host = Host(station, case, Keys.generate())
            if (made := await host.make()) is not None:
                await self._watch(station, case, host, *made, blocking)
        self.done += 1
        if self.done % 20 == 0:
            print(f"{self.done} nests", file=sys.stderr, flush=True)

    async def _watch(
        self, station: Station, case: Case, host: Host, trace: Trace, origin: int, blocking: asyncio.Event | None
    ) -> None:
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
            for polls, ask in asks:
                group.create_task(poll(station, trace, origin, plan.ages_s(dice, polls), ask))
            for number, (age_s, policy) in enumerate(self._joins(case)):
                due = origin + round(age_s * SECOND_NS)
                media = number == 0 and (dice.random() < self.args.media_ratio or bool(case.fault("media_blocked")))
                group.create_task(self._join(station, case, host, trace, policy, due=due, number=number, media=media))
            if blocking is not None:
                group.create_task(blocking.wait())
        await asyncio.gather(host.publishing, return_exceptions=True)

    def _joins(self, case: Case) -> Iterator[tuple[float, Policy]]:
        released = round(self.args.joins * self.args.released_ratio)
        for number, age_s in enumerate(case.arrivals(self.args.joins)):
            left_s = max(0.5, HORIZON_S - age_s)
            polling = replace(POLLING, horizon_s=left_s, request_timeout_s=1.5 if case.fault("observer_fault") else 4.0)
            yield age_s, RELEASED if number >= self.args.joins - released else polling

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


async def measure(args: argparse.Namespace, made: list[tuple[Path, Case]]) -> list[dict[str, Any]]:
    """Run all nests in labs of BATCH each; the rows of truth."""
    store = Store.open(args.out / "store")
    truth: list[dict[str, Any]] = []
    own = [pair for pair in made if pair[1].fault("observer_fault")]
    rest = [pair for pair in made if not pair[1].fault("observer_fault")]
    batches = [rest[at : at + BATCH] for at in range(0, len(rest), BATCH)]
    blocked = [own[at : at + 20] for at in range(0, len(own), 20)]
    pace = Pace()
    async with store.writer() as writer:
        for number, (batch, held) in enumerate([*((one, False) for one in batches), *((one, True) for one in blocked)]):
            folder = args.out / f"lab-{number:03}"
            options = ["--stand-in"] if args.stand_in else []
            names = [str(path) for path, _ in batch]
            async with running_lab(folder, names, seed=args.seed, vantages=1, options=options):
                config = Config(folder / "nestobs.toml")
                driver = Driver(args, store, writer, Budget(1_000_000), pace)
                await _batch(driver, config, batch, held)
            truth += [json.loads(line) for line in (folder / "truth.jsonl").read_text().splitlines()]
            shutil.rmtree(folder)
    return truth


async def _batch(driver: Driver, config: Config, batch: list[tuple[Path, Case]], held: bool) -> None:
    blocking = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number, (_, case) in enumerate(batch):
            target = config.target(case.name)
            target = replace(target, relays=target.relays[:WATCHED])
            if not driver.args.keys:
                target = replace(target, livekit_key="", livekit_secret="")
            stagger = 0.0 if held else number / driver.args.nests_per_s
            group.create_task(driver.nest(target, case, stagger, blocking if held else None))
        if held:
            group.create_task(_stand_still(batch, blocking))


async def _stand_still(batch: list[tuple[Path, Case]], blocking: asyncio.Event) -> None:
    """Our own event loop stands still, again and again while people come."""
    for _ in range(4):
        await asyncio.sleep(2.0)
        time.sleep(BLOCKED_S)  # noqa: ASYNC251 - that is what is measured
    for _, case in batch:
        case.acted.add("observer_fault")
    blocking.set()


def outcomes(args: argparse.Namespace, made: list[tuple[Path, Case]], truth: list[dict[str, Any]]) -> list[Outcome]:
    """What was so and what was named, a row a nest that was made."""
    shown: dict[str, set[str]] = {}
    for row in truth:
        if row["layer"].startswith("fault:") and row["change"] == "shown":
            shown.setdefault(row["scenario"], set()).add(row["layer"].removeprefix("fault:"))
    frame = Store.open(args.out / "store").frame()
    named, held = {one.room: one for one in diagnose(frame)}, held_up_rooms(frame)
    found = []
    for _, case in made:
        if not case.room or (case.event_room in held and not case.fault("observer_fault")):
            continue
        known = shown.get(case.name, set()) | case.acted
        kinds = {each.cause: each.kind for each in case.faults}
        diagnosis = named.get(case.event_room) or named.get(case.room)
        causes = [] if diagnosis is None else [(one.cause.value, one.confidence) for one in diagnosis.causes]
        said = "" if diagnosis is None else diagnosis.line()
        found.append(Outcome(case.event_room, tuple(sorted(known)), kinds, tuple(causes), said))
    return found


def held_up_rooms(frame: Any) -> set[str]:
    """The rooms of which we held up a join, or what the web client asks before it."""
    judged = frame[frame["role"].isin(["joiner", "guest"]) | (frame["source"] == "client")]
    return set(judged.loc[held_up(judged), "room"])


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
    parser.add_argument("--again", action="store_true", help="diagnose once more what an earlier run observed")
    parser.add_argument("--out", type=Path, default=Path("runs/causes"))
    args = parser.parse_args()
    args.scenario = args.scenario or {1: "every-cause", 2: "two-faults"}[args.faults]
    if (args.out / "store").exists() and not args.again:
        print(f"{args.out} holds an earlier run: give --out another folder, or remove it", file=sys.stderr)
        return 2
    clock = Clock()
    began = clock.now()
    if args.again:
        earlier = json.loads((args.out / "truth.json").read_text())
        found = [Outcome.again(row, diagnose_again) for diagnose_again in [again(args)] for row in earlier]
    else:
        args.out.mkdir(parents=True, exist_ok=True)
        made = cases(args, args.out / "scenarios", not args.stand_in and find_binary() is not None)
        truth = asyncio.run(measure(args, made))
        found = outcomes(args, made, truth)
        (args.out / "truth.json").write_text(json.dumps([one.truth() for one in found]) + "\n")
    table, passed = score(found, doubles=args.scenario == "two-faults", left_out=args.nests - len(found))
    table["wall_s"] = round((clock.now() - began) / SECOND_NS, 1)
    (args.out / "causes.json").write_text(json.dumps(table, indent=1) + "\n")
    return 0 if passed else 1


def again(args: argparse.Namespace) -> dict[str, Any]:
    """What is named now of what an earlier run observed, by room."""
    return {one.room: one for one in diagnose(Store.open(args.out / "store").frame())}


if __name__ == "__main__":
    raise SystemExit(main())
