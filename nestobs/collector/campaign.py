"""What a canary run is told to do, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nestobs.collector.fleet.vantages import Beside
from nestobs.collector.polling import HORIZON_S, RELAY_POLLS, WANTED_POLLS
from nestobs.collector.restart import Restart
from nestobs.collector.undo.cleanup import Cleaned
from nestobs.join.policy import Policy
from nestobs.observation.schema import Operation
from nestobs.store.reader import Store

if TYPE_CHECKING:
    from nestobs.diagnosis import Diagnosis


@dataclass(frozen=True, slots=True, kw_only=True)
class Campaign:
    """What a canary run does. `joins`: arrivals per nest and vantage, alternately authenticated and guest.

    policies: at each arrival one joiner for each of them comes at the same instant, strangers to each other. arrivals:
    ages at which they come, seconds, each as likely; None: log-uniform to the middle of the watch. as_written: the
    policies run as they are, and a nest is kept until its joins have ended; else they are cut to what the plan can pay
    and to the watch. stagger_s: seconds between the starts of two nests. media: at how many of a nest's arrivals joins
    go on to media, the first ones (the RTC library is heavy: about .13 s of processor a connection). wanted_polls: of
    each layer, budget allowing. room_polls: of LiveKit's room list; None: as many. webhook_port: where LiveKit's
    webhooks are received, None: nowhere. restart: the host restarts each nest in the middle of its watch, and some come
    as it is asked for, and as many when it is answered. investigate: before a nest is deleted, ask what decides between
    the causes that fit, where somebody was not let in. period_s: the run is one of a schedule, for planned_at (ns UTC,
    None: for when it begins), and the next is so much later; 0.0: of none. stands: for the time until the next, since
    nothing else observes.
    """

    count: int
    policies: tuple[Policy, ...]
    arrivals: tuple[float, ...] | None = None
    as_written: bool = False
    horizon_s: float = HORIZON_S
    stagger_s: float = 1.0
    joins: int = 2
    media: int = 1
    wanted_polls: int = WANTED_POLLS
    relay_polls: int = RELAY_POLLS
    room_polls: int | None = None
    service: str = ""
    webhook_port: int | None = None
    restart: bool = False
    investigate: bool = False
    period_s: float = 0.0
    planned_at: int | None = None
    stands: bool = True


@dataclass(slots=True)
class Report:
    """What came of a run. `verdicts` by kind, over all vantages; `refusals`: why PUTs made no nest that we know of;
    `left`: sentences about what could not be deleted; `vantages`: what became of those in other processes."""

    run_id: str
    plan: str = ""
    made: int = 0
    deleted: int = 0
    refused: int = 0
    joined: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    rooms: list[str] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)
    earlier: Cleaned = field(default_factory=Cleaned)
    left: list[str] = field(default_factory=list)
    vantages: list[Beside] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """For people."""
        verdicts = ", ".join(f"{n} {kind}" for kind, n in sorted(self.verdicts.items())) or "none"
        said = [f"made {self.made} nests, {self.refused} refused; joins: {verdicts}"]
        said += [each.words() for each in self.vantages]
        said += [f"restart of {each.row.room}: {each.words()}" for each in self.restarts]
        said += [f"before that: {self.earlier.sentence()}"] if self.earlier.rooms or self.earlier.left else []
        return said + [f"left behind: {sentence}" for sentence in self.left]

    def problem(self) -> str:
        """Why the run is not as it should be, in a sentence; "" when it is."""
        said = [f"{len(self.left)} left behind: {self.left[0]}"] if self.left else []
        if self.refused and not self.made:
            said.append(f"none of {self.refused} nests was made: {self.refusals.most_common(1)[0][0]}")
        said += [f"restart: {each.words()}" for each in self.restarts if each.failed][:1]
        lost = [each.name for each in self.vantages if each.lost]
        said += (
            [f"{len(lost)} of {len(self.vantages)} vantages did not observe to the end: {', '.join(lost)}"]
            if lost
            else []
        )
        return "; ".join(said)

    def shut_out(self) -> str:
        """That there were joins and nobody got in, in a sentence; "" where somebody did, or nobody tried."""
        tried = sum(self.verdicts.values())
        if not tried or self.joined:
            return ""
        ends = ", ".join(f"{n} {kind}" for kind, n in self.verdicts.most_common())
        return f"nobody got in: {tried} joins of {self.made} nests, {ends}"

    def as_dict(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "run_id": self.run_id,
            "plan": self.plan,
            "nests": self.made,
            "deleted": self.deleted,
            "refused": self.refused,
            "joined": self.joined,
            "verdicts": dict(self.verdicts),
            "rooms": self.rooms,
            "restarts": [each.as_dict() for each in self.restarts],
            "cleaned_before": self.earlier.sentence(),
            "left": self.left,
            "vantages": [each.as_dict() for each in self.vantages],
        }


def causes(store: Store, report: Report, since: int) -> list[Diagnosis]:
    """Why the nests of a run could be joined or not, by nest and vantage; its own cleaning up left out. since: when the
    run began, ns UTC."""
    from nestobs.diagnosis import diagnose

    rows = store.frame(run_id=report.run_id, start=since)
    rows = rows[rows["room"].isin(report.rooms) | (rows["trace_id"] == "") | (rows["operation"] == Operation.CREATE)]
    undone = rows["room"].map(rows[rows["operation"] == Operation.DELETE].groupby("room")["sent_at"].min())
    made, kept = set(report.rooms), rows[~(rows["sent_at"] >= undone)].reset_index(drop=True)
    return [each for each in diagnose(kept) if each.room in made]
