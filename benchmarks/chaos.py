"""Everything goes wrong at once, seeded: what does the instrument then claim, lose, leave behind?

    PYTHONPATH=tests python -m benchmarks.chaos --seconds 600 --seed 1 --out runs/chaos

A lab with the real livekit-server (where there is one), a proxy in front of its API that answers by itself now and then
(its own 404s, copies from a cache, web pages, 503s, garbage, bombs; a creation whose answer is lost), gates that close,
refuse, stall, forget, ask who is there, and flood; livekit-server killed and started again. In all this one `nestobs
canary` after another works on one store until it is killed (or stopped, or its terminal closed, its wall clock stepped,
its disk full), a `nestobs watch` on another is killed as well, and `nestobs ready` is asked now and then. In the end
all faults are over, and a last start cleans up.

Exit code 1 and the reasons when a row that a reader had seen is gone or there twice, an interval does not contain the
truth, a proof rests on an answer that the API never gave, a room, record, event, key or open entry of the ledger is
left, or the API had to refuse a request for its limit. Prints one JSON object of what was done and found.
"""

import argparse
import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import websockets

from benchmarks.impostor import Impostor
from nestobs.errors import StoreError
from nestobs.lab import Lab
from nestobs.lab.fault_proxy import ProxyMode
from nestobs.lab.livekit.server import find_binary
from nestobs.lab.scenario import GateFault, Scenario
from nestobs.observation.duration import SECOND_NS
from nestobs.store.inventory import verify
from nestobs.store.reader import Store
from nestobs.timeline.calibration import coverage
from nestobs.timeline.intervals import timelines
from nestobs.trial.demo import relay_names

SCENARIO = Scenario.model_validate(
    {
        "name": "chaos",
        "api": {
            "record": {"kind": "lognormal", "median_s": 0.3, "sigma": 0.5},
            "info": {"kind": "lognormal", "median_s": 0.5, "sigma": 0.7},
            "join": {"kind": "lognormal", "median_s": 1.0, "sigma": 0.7},
            "guest": {"kind": "lognormal", "median_s": 1.0, "sigma": 0.7},
        },
        "relays": {"each": {"kind": "lognormal", "median_s": 0.3, "sigma": 0.6}},
        "rate_limit": {"requests": 900, "window_s": 60},
    }
)
GATE_FAULTS = (
    GateFault.CUT,
    GateFault.NEVER_EOSE,
    GateFault.CLOSED,
    GateFault.AUTH,
    GateFault.STALL,
    GateFault.REFUSE,
    GateFault.LATE_OK,
    GateFault.DROP,
)
ENDS = {signal.SIGKILL: 12, signal.SIGTERM: 2, signal.SIGINT: 2, signal.SIGHUP: 2, None: 2}
"""How a canary ends, and how often of twenty; None: of itself."""

PATIENCE_S = 300
"""So long a process may take to end: a starved one is no failure."""

WORK = ("--count", "5", "--every", "600ms", "--horizon", "8s", "--policy", "exponential(0.5)")

STARTER = """
import json, resource, runpy, sys, time
steps, full = json.loads(sys.argv.pop(1))
if full:
    resource.setrlimit(resource.RLIMIT_FSIZE, (full, full))
anchored, ns, s = [], time.time_ns, time.time
def off():
    return sum(size for after, size in steps if anchored and time.monotonic() - anchored[0] > after)
time.time_ns, time.time = (lambda: ns() + int(off() * 1e9)), (lambda: s() + off())
from nestobs.sources.clock import Clock
anchor = Clock.__init__
def anchoring(*given, **named):
    anchor(*given, **named)
    anchored.append(time.monotonic())
Clock.__init__ = anchoring
sys.argv[0] = "nestobs"
runpy.run_module("nestobs", run_name="__main__", alter_sys=True)
"""
"""`python -m nestobs` with a wall clock that is stepped (after s, by s) and files that can grow to so many bytes.

Seconds count from its first look at the clock: a busy machine takes long to start it, and a clock that was wrong before
is no step."""


class Chaos:
    """One run. `found` holds a sentence for each thing that must not be."""

    def __init__(self, out: Path, seconds: float, seed: int) -> None:
        self.out, self.seconds, self.dice = out, seconds, random.Random(seed)
        self.seed = seed
        self.found: list[str] = []
        self.did: Counter[str] = Counter()
        self.seen: dict[str, set[str]] = {"canary": set(), "watch": set()}
        self.deaths: list[tuple[int, int]] = []
        self.livekit: subprocess.Popen[bytes] | None = None

    async def run(self) -> dict[str, object]:
        """Do it all; what is printed."""
        async with AsyncExitStack() as stack:
            self.lab = await stack.enter_async_context(Lab([SCENARIO], self.out / "lab", seed=self.seed))
            stack.callback(self._end_livekit)
            target = self.lab.info["scenarios"]["chaos"]["vantages"][0]
            self.impostor = Impostor(target["api"], random.Random(self.seed + 1), self.lab.clock.now_at)
            api = await self.impostor.start(stack)
            config = self.out / "lab" / "nestobs.toml"
            config.write_text(config.read_text().replace(target["api"], api))
            end = asyncio.get_running_loop().time() + self.seconds
            async with asyncio.TaskGroup() as group:
                for work in (self._canaries, self._watches, self._asks, self._misfortune, self._kill_livekit):
                    group.create_task(work(end))
            self.impostor.honest = True
            for gate in self.lab.gates["chaos"]:
                gate.fault = GateFault.PASS
            await self._clean_up()
            await self._look_for_leftovers()
            stores = [name for name in self.seen if (self.out / name).exists()]  # on a slow machine no watch may begin
            for name in stores:
                self._check_store(name)
            self._check_intervals(stores)
        return {
            "seconds": self.seconds,
            "seed": self.seed,
            "livekit": self.lab.info["livekit"],
            "done": dict(sorted(self.did.items())),
            "answers": dict(sorted(self.impostor.count.items())),
            "found": self.found,
        }

    # what works

    async def _process(self, *words: str, steps: object = (), full: int = 0) -> asyncio.subprocess.Process:
        environment = os.environ | {"NESTOBS_STATE_DIR": str(self.out / "state"), "NO_COLOR": "1"}
        command = [sys.executable, "-c", STARTER, json.dumps([steps, full]), *words]
        command += ["--config", str(self.out / "lab" / "nestobs.toml"), "--target", "chaos"]
        log = (self.out / f"{words[0]}.log").open("ab")
        with log:
            return await asyncio.create_subprocess_exec(
                *command, env=environment, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True
            )

    async def _canaries(self, end: float) -> None:
        while (left := end - asyncio.get_running_loop().time()) > 0:
            steps = [[self.dice.uniform(1, 6), self.dice.choice((-3600.0, -40.0, 2.0, 40.0, 3600.0))]]
            stepped, full = self.dice.random() < 0.25, self.dice.random() < 0.08
            canary = await self._process(
                "canary",
                "--store",
                str(self.out / "canary"),
                *WORK,
                steps=steps if stepped else (),
                full=self._journal_size() + 100_000 if full else 0,
            )
            self.did["canaries"] += 1
            self.did["clocks stepped"] += stepped
            self.did["disks filled"] += full
            how = self.dice.choices([*ENDS], [*ENDS.values()])[0]
            if self.dice.random() < 0.2:
                await self._hold(canary)
            with suppress(TimeoutError):
                await asyncio.wait_for(canary.wait(), min(left + 5, 60.0 if how is None else self.dice.uniform(0.8, 9)))
            early = await self._end(canary, how or signal.SIGTERM, "canary")
            if canary.returncode not in (0, 1, 3, 4, 5, 129, 130, -9, early):
                self.found.append(f"a canary ended with {canary.returncode}: see canary.log")

    async def _hold(self, process: asyncio.subprocess.Process) -> None:
        await asyncio.sleep(self.dice.uniform(1, 4))
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(self.dice.uniform(0.5, 3))
            process.send_signal(signal.SIGCONT)
            self.did["canaries held"] += 1

    async def _watches(self, end: float) -> None:
        while (left := end - asyncio.get_running_loop().time()) > 0:
            watch = await self._process("watch", "--store", str(self.out / "watch"), "--for", "1h")
            self.did["watches"] += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(watch.wait(), min(left, self.dice.uniform(4, 20)))
            early = await self._end(watch, self.dice.choice((signal.SIGKILL, signal.SIGTERM)), "watch")
            if watch.returncode not in (0, 3, 4, 130, -9, early):
                self.found.append(f"a watch ended with {watch.returncode}: see watch.log")

    async def _end(self, process: asyncio.subprocess.Process, how: signal.Signals, store: str) -> int:
        """Look at what a reader sees, and end it; the exit code of one that was still starting, and did nothing yet."""
        self._look(store)
        early = 0
        if process.returncode is None:
            self.did[f"{store} ended by {how.name}"] += 1
            early = 0 if how is signal.SIGKILL or _has_begun(process.pid) else -how
            self.did[f"{store} ended while it started"] += early < 0
            with suppress(ProcessLookupError):
                process.send_signal(how)
            try:
                await asyncio.wait_for(process.wait(), PATIENCE_S)
            except TimeoutError:
                self.found.append(f"a {store} did not end within {PATIENCE_S} s of {how.name}")
                process.kill()
                await process.wait()
        return early

    async def _asks(self, end: float) -> None:
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(self.dice.uniform(2, 6))
            if nests := self.lab.nests():
                asked = await self._process("ready", self.dice.choice(nests), "--store", str(self.out / "ready"))
                if await asked.wait() not in (0, 1, 3, 4, 6):
                    self.found.append(f"ready ended with {asked.returncode}: see ready.log")
                self.did["asked whether ready"] += 1

    # what goes wrong

    async def _misfortune(self, end: float) -> None:
        proxy, gates = self.lab.api_proxy["chaos"], self.lab.gates["chaos"]
        while asyncio.get_running_loop().time() < end:
            await asyncio.sleep(self.dice.uniform(0.3, 1.5))
            kind = self.dice.choice(("gate", "gate", "calm", "api", "network"))
            self.did[f"fault: {kind}"] += 1
            if kind == "gate":
                gate = self.dice.choice(gates)
                gate.fault = self.dice.choice(GATE_FAULTS) if gate.fault is GateFault.PASS else GateFault.PASS
            elif kind == "calm":
                for gate in gates:
                    gate.fault = GateFault.PASS
            elif kind == "api":  # it is being restarted
                proxy.mode = ProxyMode.REFUSE
                await asyncio.sleep(self.dice.uniform(0.5, 2))
                proxy.mode = ProxyMode.PASS
            else:
                proxy.mode = self.dice.choice((ProxyMode.RESET, ProxyMode.STALL))
                await asyncio.sleep(self.dice.uniform(0.2, 1.5))
                proxy.mode = ProxyMode.PASS
        proxy.mode = ProxyMode.PASS

    async def _kill_livekit(self, end: float) -> None:
        binary = find_binary() if self.lab.livekit_pid else None
        while binary and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.sleep(min(left, self.dice.uniform(20, 45)))
            before = self.lab.clock.now_at()
            if self.livekit is None:
                os.kill(self.lab.livekit_pid, signal.SIGKILL)
            self._end_livekit()
            await asyncio.sleep(self.dice.uniform(0.2, 3))
            words = [str(binary), "--config", str(self.out / "lab" / "livekit.json")]
            with (self.out / "livekit-again.log").open("ab") as log:
                self.livekit = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)  # noqa: ASYNC220 - it returns within milliseconds
            await asyncio.sleep(1.5)
            self.deaths.append((before, self.lab.clock.now_at()))
            self.did["livekit-server killed"] += 1

    def _end_livekit(self) -> None:
        if self.livekit is not None:
            self.livekit.kill()
            self.livekit.wait()

    def _journal_size(self) -> int:
        files = [self.out / "canary" / name for name in ("journal.sqlite", "journal.sqlite-wal")]
        return max((file.stat().st_size for file in files if file.exists()), default=0)

    # what must hold

    def _look(self, store: str) -> None:
        """A row that a reader has seen is acknowledged."""
        with suppress(StoreError):  # there is none yet
            self.seen[store] |= {
                row.observation_id for row in Store.open(self.out / store, create=False).observations()
            }

    async def _clean_up(self) -> None:
        for _ in range(3):
            last = await self._process("canary", "--store", str(self.out / "canary"), "--count", "0")
            if await last.wait() == 0:
                return
        self.found.append(f"the last start ended with {last.returncode}, three times: see canary.log")

    async def _look_for_leftovers(self) -> None:
        """The id of a nest whose PUT was never answered is nowhere but in LiveKit's list. Where LiveKit died, too, its
        record is the API's alone, until it expires."""
        store = Store.open(self.out / "canary", create=False)
        known = {row.room for row in store.observations()} | {entry.room for entry in store.ledger(open_only=False)}
        records, rooms = self.lab.nests(), await self.lab.rooms()
        self.did["records that nobody was told of"] = len(set(records) - known - set(rooms))
        left = {
            "rooms of LiveKit": rooms,
            "records of the API": [room for room in records if room in known or room in rooms],
            "open entries of the ledger": [f"{e.kind} {e.room or e.nest}: {e.note}" for e in store.ledger()],
            "keys": [path.name for path in (self.out / "state" / "keys").glob("*")],
            "open events": [one for gate in self.lab.gates["chaos"] for one in await _open_events(gate.relay_url)],
        }
        self.found += [f"{len(what)} {name} left: {sorted(map(str, what))[:3]}" for name, what in left.items() if what]
        if refused := self.impostor.count["429 of the API"]:
            self.found.append(f"the API refused {refused} requests for its limit")

    def _check_store(self, name: str) -> None:
        store = Store.open(self.out / name, create=False)
        rows = list(store.observations())
        kept = Counter(row.observation_id for row in rows)
        self.did[f"rows of {name}"] = len(rows)
        if lost := self.seen[name] - set(kept):
            self.found.append(f"{len(lost)} rows that a reader of {name} had seen are gone")
        if twice := [one for one, times in kept.items() if times > 1]:
            self.found.append(f"{len(twice)} rows of {name} are there twice")
        self.found += [f"{name}: {one.file}: {one.said}" for one in verify(store) if one.wrong]
        for row in rows:
            if said := self.impostor.unproved(row):
                self.found.append(f"{name}: {row.operation} {row.outcome} of {row.room} rests on {said}")

    def _check_intervals(self, stores: Sequence[str]) -> None:
        """Of nests that were alive when LiveKit was killed, what it took has no truth. What came and went before
        a watch heard of the nest, nobody could tell it."""
        gone: dict[str, int] = {}
        left: dict[tuple[str, str], int] = {}
        truth = []
        for row in self.lab.truth():
            place = row["room"], row["layer"]
            if row["change"] == "gone" and place in left:
                continue  # it was withdrawn once more
            truth.append(row)
            if row["change"] == "gone":
                left[place] = row["now_at"]
                if not row["layer"].startswith("relay"):
                    gone[row["room"]] = row["now_at"]
        born = {row["room"]: row["not_yet_at"] for row in reversed(truth) if row["change"] == "shown"}
        struck = {
            room
            for room, at in born.items()
            if any(at - 5 * SECOND_NS < after and gone.get(room, after) > before for before, after in self.deaths)
        }
        names = relay_names(self.lab.info)
        for name in stores:
            lines = timelines(Store.open(self.out / name, create=False).frame())
            lines = lines[lines["room"] != ""].reset_index(drop=True)
            table = coverage(lines, truth, names)
            spared = table["room"].isin(struck) & table["layer"].str.match("livekit|api")
            ends = [left.get(place, math.inf) for place in zip(table["room"], table["layer"], strict=True)]
            missed = (name == "watch") & (table["upper_s"] == math.inf) & (lines["lower_at"].astype("int64") > ends)
            self.did[f"intervals of {name} not judged: gone before it asked"] = int((missed & ~spared).sum())
            judged = table[table["contains"].notna() & ~spared & ~missed]
            self.did[f"intervals of {name}"] = len(judged)
            self.did[f"intervals of {name} not judged: LiveKit was killed"] = int(spared.sum())
            for row in judged[~judged["contains"].astype(bool)].to_dict("records"):
                told = {key: row[key] for key in ("room", "layer", "cause", "lower_s", "upper_s", "truth_now_s")}
                self.found.append(f"{name}: an interval without the truth: {told}")


def _has_begun(pid: int) -> bool:
    """Whether a process handles SIGTERM by itself, as each command does before it makes anything."""
    with suppress(OSError):
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return bool(int(status["SigCgt"], 16) >> signal.SIGTERM - 1 & 1)
    return False


async def _open_events(relay: str) -> list[str]:
    """Addresses of nests that a relay still shows open."""
    newest: dict[str, dict[str, object]] = {}
    async with websockets.connect(relay, compression=None) as ws:
        await ws.send(json.dumps(["REQ", "left", {"kinds": [30312]}]))
        async for text in ws:
            frame = json.loads(text)
            if frame[0] != "EVENT":
                break
            event = frame[2]
            place = f"{event['pubkey']}:{dict(tag[:2] for tag in event['tags'])['d']}"
            newest[place] = max(newest.get(place, event), event, key=lambda one: one["created_at"])
    return [place for place, event in newest.items() if ["status", "closed"] not in [tag[:2] for tag in event["tags"]]]


def main() -> int:
    """Run it, print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/chaos"))
    args = parser.parse_args()
    if args.out.exists():
        print(f"{args.out} is there: give --out another folder, or remove it", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # who starts this in the background has it ignored
    result = asyncio.run(Chaos(args.out.absolute(), args.seconds, args.seed).run())
    print(json.dumps(result, indent=2))
    return 1 if result["found"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
