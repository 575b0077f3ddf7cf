"""A fleet in the lab: vantages in processes of their own, whose clocks are wrong and whose networks are cut, compared
with the truth.

Each vantage of the scenario is a process with a store, a state folder and a clock of its own. The first makes the nests
and is a vantage, too; the others are told its public key and find its nests on their relays. One comes late and one is
killed, as the scenario says. Afterwards the stores are shipped together, and held against what the lab wrote down:

    each interval contains the truth, on the one clock that all can see (the API's)
    each offset that a row states is within its stated error of what that clock was really off
    each row is there once
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.collector.canary import Progress
from nestobs.config import plain_environment
from nestobs.nostr import Keys
from nestobs.observation.columns import dicts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.sources.clock import Clock
from nestobs.store.files import write
from nestobs.store.reader import Store
from nestobs.store.shipments.shipping import destination, ship
from nestobs.timeline.calibration import coverage, missed, summary
from nestobs.timeline.intervals import timelines
from nestobs.trial.demo import read_truth, relay_names
from nestobs.trial.lab_process import empty, running_lab
from nestobs.trial.wrong_clock import WrongClock, words

SCENARIO: Final = "fleet"
MADE: Final = frozenset({"lab", "stores", "shipped", "state", "logs", "first", "fleet.json"})
"""What a trial leaves in its folder."""

READY_S, END_S, LINGER_S = 60.0, 20.0, 2.0
"""How long the first nest waits for vantages to watch; how long one may take to end; how long they go on after the
last nest."""

ROUNDED_S: Final = 2e-6
"""Columns are rounded to microseconds."""

_WATCHES: Final = b"watches the nests of"
_CREATED: Final = b"created: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the fleet does: so many nests, one every `every_s`, each watched for `horizon_s` with so many `polls` of a
    layer. scale: of the scenario's delays and of when things happen to its vantages."""

    nests: int = 40
    every_s: float = 6.0
    horizon_s: float = 30.0
    polls: int = 16
    scale: float = 1.0


@dataclass(slots=True)
class Place:
    """A vantage and its process. spawned_at, watches_at: ns UTC, true: between them it took its clock's anchor."""

    table: Mapping[str, Any]
    store: Path
    log: Path
    process: asyncio.subprocess.Process | None = None
    spawned_at: int = 0
    watches_at: int = 0
    code: int | None = None
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The vantage's."""
        return str(self.table["name"])


class Trial:
    """One run into `out`."""

    def __init__(self, out: Path, work: Work, info: Mapping[str, Any], progress: Progress) -> None:
        self.out, self.work, self.info, self.progress = out, work, info, progress
        self.clock, self.keys = Clock(), Keys.generate()
        self.first, self.first_at = out / "first", 0
        tables = info["scenarios"][SCENARIO]["vantages"]
        self.places = [
            Place(each, out / "stores" / each["name"], out / "logs" / f"{each['name']}.log") for each in tables
        ]

    def wrong_clock(self, place: Place) -> WrongClock:
        """How the clock of a vantage was wrong."""
        known = {"began_at": self.info["began_at"], "first_at": self.first_at or None}
        return WrongClock.of({**place.table, **known})

    async def run(self) -> None:
        """Let all of it happen; returns when every process has ended."""
        host, *others = self.places
        (self.out / "logs").mkdir()
        self.begun = asyncio.Event()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._end_all)
            for each in others:
                each.tasks.append(asyncio.create_task(self._course(each)))
            early = [each for each in others if each.table["starts_s"] is None]
            await self._until(lambda: all(each.watches_at or each.code is not None for each in early), READY_S)
            await self._spawn(host, self._canary(), {"NESTOBS_NSEC": self.keys.to_nsec()})
            self.progress("fleet", {"said": f"{len(early)} vantages watch; {host.name} makes {self.work.nests} nests"})
            assert host.process is not None
            host.code = await host.process.wait()
            await asyncio.sleep(LINGER_S)

    async def _course(self, place: Place) -> None:
        """From the start of a vantage to its end, where the scenario kills it."""
        if (starts_s := place.table["starts_s"]) is not None:
            await self._after(starts_s)
        await self._spawn(place, self._watch())
        if (killed_s := place.table["killed_s"]) is not None:
            await self._after(killed_s)
            self.progress("fleet", {"said": f"{place.name} is killed"})
            await self._end(place, SIGKILL)

    async def _after(self, seconds: float) -> None:
        """Wait until so long after the first nest was made."""
        await self.begun.wait()
        await self.clock.until(self.first_at + round(seconds * SECOND_NS))

    def _canary(self) -> list[str]:
        work = self.work
        found = ["canary", "--count", str(work.nests), "--every", f"{work.every_s:g}s", "--seed", "1"]
        return [*found, "--horizon", f"{work.horizon_s:g}s", "--policy", "exponential(0.5)"]

    def _watch(self) -> list[str]:
        work, host = self.work, self.keys.public
        found = ["watch", "--host", host, "--join", "both", "--horizon", f"{work.horizon_s:g}s"]
        return [*found, "--polls", str(work.polls), "--policy", "exponential(0.5)"]

    async def _spawn(self, place: Place, command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
        state = {"NESTOBS_STATE_DIR": str(self.out / "state" / place.name)}
        full = [*words(place.table, self.info["began_at"], self.first), *command, "--target", place.table["target"]]
        full += ["--config", self.info["files"]["config"], "--store", str(place.store), "-v", "--json"]
        place.spawned_at = self.clock.now()
        process = place.process = await asyncio.create_subprocess_exec(
            *full,
            env=plain_environment() | state | dict(more or {}),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        place.tasks.append(asyncio.create_task(self._hear(place, process)))

    async def _hear(self, place: Place, process: asyncio.subprocess.Process) -> None:
        """Keep what it says, and note when it watches."""
        assert process.stderr is not None
        with place.log.open("ab") as log:
            async for line in process.stderr:
                log.write(line)
                log.flush()
                if _WATCHES in line:
                    place.watches_at = self.clock.now()
                elif line.startswith(_CREATED) and not self.begun.is_set():
                    self.first_at = self.clock.now()
                    write(self.first, f"{self.first_at}\n")
                    self.begun.set()
        place.code = await process.wait()

    async def _until(self, holds: Any, patience_s: float) -> None:
        end = self.clock.now() + round(patience_s * SECOND_NS)
        while not holds() and self.clock.now() < end:  # noqa: ASYNC110 - of several processes
            await asyncio.sleep(0.05)

    async def _end(self, place: Place, how: int = SIGTERM) -> None:
        if (process := place.process) is None:
            return
        with suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            async with asyncio.timeout(END_S):
                place.code = await process.wait()
        except TimeoutError:
            process.kill()
            place.code = await process.wait()

    async def _end_all(self) -> None:
        await asyncio.gather(*(self._end(each) for each in self.places))
        for task in (task for each in self.places for task in each.tasks):
            with suppress(TimeoutError):
                await asyncio.wait_for(task, END_S)


async def trial(
    out: Path, *, work: Work, seed: int = 1, scenario: str = SCENARIO, stand_in: bool = False, progress: Progress
) -> dict[str, Any]:
    """Run it into `out` (made anew); what came of it, also in `out/fleet.json`: see `judged`."""
    out = out.absolute()
    empty(out, MADE, "an earlier fleet")
    options = ["--delay-scale", f"{work.scale:g}", *(["--stand-in"] if stand_in else [])]
    async with running_lab(out / "lab", [scenario], seed=seed, vantages=1, options=options) as info:
        running = Trial(out, work, info, progress)
        await running.run()
    found = await asyncio.to_thread(judged, running)
    (out / "fleet.json").write_text(json.dumps(found, indent=2) + "\n")
    return found


def judged(done: Trial) -> dict[str, Any]:
    """What a trial comes to, as JSON data: vantages, rows, intervals, offsets, and `failed`, a sentence for each thing
    that is not as it must be."""
    frames = {each.name: Store.open(each.store).frame() for each in done.places if each.store.exists()}
    rows, table, lines = _together(done, frames)
    offsets = pd.concat(
        [stated(frames[each.name], each, done.wrong_clock(each)) for each in done.places if each.name in frames]
    )
    wrong, known = missed(table), offsets[offsets["held"].notna()]
    failed = [_missed_words(row) for row in dicts_of(wrong)]
    failed += [f"{len(bad)} offsets of {name} are off by more than they say" for name, bad in _off(known)]
    failed += [] if rows["doubled"] == rows["lost"] == 0 else [f"{rows['doubled']} rows doubled, {rows['lost']} lost"]
    if (made := done.places[0].code) != 0:
        failed.append(f"the host ended with {made}: see {done.places[0].log}")
    return {
        "vantages": [
            {
                "name": each.name,
                "code": each.code,
                "observations": len(frames.get(each.name, ())),
                "verdicts": _verdicts(frames.get(each.name)),
                "clock": {key: each.table[key] for key in ("skew_s", "drift_ppm", "steps")},
            }
            for each in done.places
        ],
        "rows": rows,
        "intervals": summary(table) | {"by_vantage": _by_vantage(table), "not_judged": _not_judged(table)},
        "across": _across(lines, table),
        "offsets": _offsets(offsets),
        "failed": failed,
    }


def _shipped(done: Trial) -> Store:
    """What all stores come to where they are shipped to, each of them twice: the second time nothing is to be done."""
    url = (done.out / "shipped").as_uri()
    for store in [Store.open(each.store) for each in done.places if each.store.exists()] * 2:
        ship(store, destination(store, url), before=2**63 - 1)
    return Store.open(url)


def _together(done: Trial, frames: Mapping[str, pd.DataFrame]) -> tuple[dict[str, int], pd.DataFrame, pd.DataFrame]:
    """The stores as one: its rows counted, its intervals held against the truth, and the intervals."""
    apart = pd.concat([each["observation_id"] for each in frames.values()])
    whole = _shipped(done).frame()
    lines = _since_the_true_put(done, timelines(whole), whole)
    table = coverage(lines, read_truth(done.out / "lab"), relay_names(done.info))
    found = {
        "apart": len(apart),
        "together": len(whole),
        "doubled": int(whole["observation_id"].duplicated().sum()),
        "lost": len(set(apart) - set(whole["observation_id"])),
    }
    return found, table, lines[lines["room"] != ""].reset_index(drop=True)


def _since_the_true_put(done: Trial, lines: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Timelines that count from when the host really sent its PUT: their delays are what is held against the truth,
    since the clock by which it is told when that was has an error of its own."""
    host = done.places[0]
    clock = done.wrong_clock(host)
    made = rows[(rows["operation"] == "create") & (rows["outcome"] == "accepted") & rows["received_at"].notna()]
    true = {
        trace: at - round(ahead_s(clock, at, host.spawned_at) * SECOND_NS)
        for trace, at in zip(made["trace_id"], made["sent_at"].astype("int64"), strict=True)
    }
    known = lines["origin_kind"].eq("create") & lines["trace_id"].isin(list(true))
    lines = lines.copy()
    lines.loc[known, "origin_at"] = pd.to_datetime(lines.loc[known, "trace_id"].map(true), unit="ns", utc=True)
    return lines


def stated(rows: pd.DataFrame, place: Place, clock: WrongClock) -> pd.DataFrame:
    """Of each row that states an offset: vantage, offset_s, error_s, off_by_s (stated less true), and held, whether it
    is within its error; NA where a step fell into the start of the process, so that nobody knows its anchor."""
    known = rows[rows["clock_offset_s"].notna() & rows["received_at"].notna()]
    at = known["received_at"].to_numpy(np.int64)
    true_s = np.array([ahead_s(clock, int(one), place.spawned_at) for one in at])
    offset, error = (known[name].to_numpy(np.float64) for name in ("clock_offset_s", "clock_error_s"))
    first_at = clock.first_at or 0
    torn = any(place.spawned_at <= first_at + at_s * SECOND_NS <= place.watches_at for at_s, _ in clock.steps)
    held = pd.array(np.abs(offset - true_s) <= error + ROUNDED_S, dtype="boolean")
    found = {"vantage": place.name, "offset_s": offset, "error_s": error, "off_by_s": offset - true_s, "held": held}
    return pd.DataFrame(found).assign(**({"held": pd.array([pd.NA] * len(at), dtype="boolean")} if torn else {}))


def ahead_s(clock: WrongClock, shown_at: int, anchored_at: int) -> float:
    """What it is ahead when it shows this, to a process that took its anchor then; seconds."""
    found_s = clock.ahead_s(shown_at, anchored_at)
    for _ in range(2):
        found_s = clock.ahead_s(shown_at - round(found_s * SECOND_NS), anchored_at)
    return found_s


def _off(known: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    bad = known[~known["held"].astype(bool)]
    return [(str(name), part) for name, part in bad.groupby("vantage")]


def _offsets(stated_: pd.DataFrame) -> dict[str, Any]:
    found = {}
    for name, part in stated_.groupby("vantage"):
        settled = part.iloc[len(part) // 2 :]
        found[str(name)] = {
            "n": len(part),
            "judged": int(part["held"].notna().sum()),
            "held": int(part["held"].fillna(value=False).sum()),
            "error_s": {"first": _real(part["error_s"].iloc[0]), "median": _real(settled["error_s"].median())},
            "worst_off_by_s": _real(part["off_by_s"].abs().max()),
        }
    return found


def _by_vantage(table: pd.DataFrame) -> dict[str, Any]:
    known = table[table["contains"].notna()]
    return {str(name): summary(part) | {"by_layer": None} for name, part in known.groupby("vantage")}


def _not_judged(table: pd.DataFrame) -> dict[str, int]:
    return dict(Counter(map(str, table.loc[table["contains"].isna(), "cause"])))


def _across(lines: pd.DataFrame, table: pd.DataFrame) -> dict[str, Any]:
    """How wide the intervals are that rest on two clocks, beside those of one."""
    wide = lines["origin_error_s"].to_numpy() > 0
    finite = np.isfinite(table["width_s"].to_numpy())
    return {
        "one_clock": {
            "n": int((~wide & finite).sum()),
            "median_width_s": _real(table.loc[~wide & finite, "width_s"].median()),
        },
        "two_clocks": {
            "n": int((wide & finite).sum()),
            "median_width_s": _real(table.loc[wide & finite, "width_s"].median()),
        },
        "median_clock_error_s": _real(lines.loc[wide, "origin_error_s"].median()),
    }


def _verdicts(rows: pd.DataFrame | None) -> dict[str, int]:
    if rows is None:
        return {}
    ended = rows[(rows["operation"] == "verdict") & rows["received_at"].notna()]
    return {str(name): int(count) for name, count in ended["outcome"].value_counts().items()}


def _missed_words(row: Mapping[str, Any]) -> str:
    named = f"{row['layer']} of {row['room']} at {row['vantage']}"
    return f"{named}: {row['cause']} by {row['miss_by_s']:.3f} s, of ({row['lower_s']:.3f}, {row['upper_s']:.3f}]"


def _real(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 6)


def sentences(found: Mapping[str, Any]) -> list[str]:
    """For people."""
    intervals, across = found["intervals"], found["across"]
    said = [f"{intervals['contain_truth']} of {intervals['n']} intervals contain the truth"]
    for each in found["vantages"]:
        mine, offsets = intervals["by_vantage"].get(each["name"], {}), found["offsets"].get(each["name"])
        told = f"{each['name']:<8} {each['observations']} rows"
        told += f", {mine.get('contain_truth', 0)} of {mine.get('n', 0)} intervals"
        if offsets is not None:
            told += f"; offsets {offsets['held']} of {offsets['judged']} within their error"
            told += f" (first ±{offsets['error_s']['first']} s, later ±{offsets['error_s']['median']} s)"
        said.append(f"{told}; ended with {each['code']}")
    one, two = across["one_clock"]["median_width_s"], across["two_clocks"]["median_width_s"]
    errors = f"whose errors come to {across['median_clock_error_s']} s"
    said.append(f"median width {one} s on one clock, {two} s across two, {errors}")
    rows = found["rows"]
    said.append(f"{rows['together']} rows of {rows['apart']}, {rows['doubled']} doubled, {rows['lost']} lost")
    return said
