"""Random nests that ail: the rows that collectors would write of them, and what ails them.

A nest is a few schedules (when each relay has its event, when the API has its record, when LiveKit has the room) and a
list of ailments, each of which bends a schedule or answers in somebody's place from an instant on. People arrive at
random, by the very core that joins for real (join/flow.py); others poll. Which sources there are is random: with
LiveKit's keys or without, webhooks or none, one vantage or two, our own nest or a stranger's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from nestobs.join.decision import JOINED, MESSAGES
from nestobs.join.flow import Guest, Info, Join, Load, Media, Reply, Signal, Stay, Step, Verdict, Wait, join_flow
from nestobs.join.policy import GUIDE, Policy, exponential
from nestobs.nostr import Address
from nestobs.observation.detail import detail
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import Nest
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Role, Source

NOON: Final = 1_772_625_600 * SECOND_NS
API, LIVEKIT = "https://nests.example/api/v1/nests", "wss://livekit.example"
HOST = "ab" * 32
NEVER = 1e9

V, AB, UN, RE, ACC = Outcome.VISIBLE, Outcome.ABSENT, Outcome.UNKNOWN, Outcome.REFUSED, Outcome.ACCEPTED
OURS = Outcome.PROBE_ERROR
Said = dict[str, Any]
"""The fields of a row that say what came; `token` beside them."""


def no(words: str) -> Said:
    return said(AB, Failure.NOT_FOUND, words, status=404)


def said(outcome: Outcome, failure: Failure | None = None, reason: str = "", **more: Any) -> Said:
    layer = FailureLayer.API if failure is not None else None
    return {"outcome": outcome, "failure": failure, "failure_layer": layer, "reason": reason} | more


@dataclass(frozen=True, slots=True)
class Ailment:
    """cause: its id. side: no two of one side in a nest. from_s, until_s: ages between which it is there."""

    cause: str
    side: str
    kind: str = ""
    from_s: float = 0.0
    until_s: float = NEVER

    def on(self, s: float) -> bool:
        return self.from_s <= s < self.until_s


@dataclass
class World:
    """One nest. Ages in seconds since it was made; rooms: (from, until, sid)."""

    rng: random.Random
    number: int
    ailments: list[Ailment]
    relays: list[str] = field(default_factory=list)
    stored_s: dict[str, float] = field(default_factory=dict)
    record: tuple[float, float] = (0.1, NEVER)
    rooms: list[tuple[float, float, str]] = field(default_factory=list)
    keys: bool = True
    webhooks: bool = True
    own: bool = True
    guest_by_room: bool = False
    horizon_s: float = 60.0
    vantages: tuple[str, ...] = ("Computer A",)
    created_s: float = 0.0
    clock_s: float = 0.0
    edits: list[tuple[float, str]] = field(default_factory=list)
    rows: list[Observation] = field(default_factory=list)
    inside: int = 1

    @property
    def truth(self) -> set[str]:
        """The causes that hold: the ailments, and what they consist of."""
        return {each.cause for each in self.ailments} | {
            also for each in self.ailments for also in _ALSO.get(each.cause, ())
        }

    @property
    def room(self) -> str:
        return f"room-{self.number}"

    @property
    def nest(self) -> str:
        return f"30312:{HOST}:{self.room}"

    def ails(self, s: float, *causes: str) -> Ailment | None:
        return next((each for each in self.ailments if each.cause in causes and each.on(s)), None)

    def write(self, s: float, took: float, source: Source, operation: Operation, what: Said, **more: Any) -> Said:
        """One row, asked at this age and answered `took` seconds later."""
        at = NOON + round(s * SECOND_NS)
        target = {Source.API: API, Source.JOIN: API, Source.LIVEKIT: LIVEKIT, Source.WEBHOOK: "http://hooks"}.get(
            source, ""
        )
        values: Said = {
            "observation_id": f"{self.number:06d}-{len(self.rows):05d}",
            "run_id": "run",
            "trace_id": f"trace-{self.number}-{more.get('vantage', self.vantages[0])}",
            "vantage": self.vantages[0],
            "nest": self.nest,
            "room": self.room,
            "source": source,
            "target": target,
            "operation": operation,
            "sent_at": at,
            "received_at": at + round(took * SECOND_NS),
        }
        fields = {name: value for name, value in what.items() if name != "token"}
        self.rows.append(Observation(**values | fields | more))
        return what

    # what the parts answer

    def room_at(self, s: float) -> str:
        return next((sid for begun, ended, sid in self.rooms if begun <= s < ended), "")

    def has_record(self, s: float) -> bool:
        late = self.ails(s, "replicas_disagree")
        if late is not None and self.rng.random() < 0.5:
            return False
        return self.record[0] <= s < self.record[1]

    def api(self, s: float, operation: Operation, vantage: str) -> Said:
        """What the API answers to /info, join or guest."""
        signed = operation is Operation.JOIN
        if door := self.ails(s, *_DOORS):
            return _DOORS[door.cause](self, s, door, signed)
        if signed and (ailment := self.ails(s, "auth_rejected", "auth_clock_skew", "forbidden")):
            return self.turned_away(s, ailment)
        if operation is Operation.INFO:
            return self.info(s)
        if self.ails(s, "livekit_down"):
            words = "Nest not found: proves nothing, since LiveKit cannot be reached (connection refused)"
            down = said(UN, Failure.UNREACHABLE, words, status=404, failure_layer=FailureLayer.SIGNAL)
            return down if self.rng.random() < 0.7 else no("Nest not found")
        if self.ails(s, "negative_cache"):
            return said(UN, Failure.CACHED, "a cache's copy (Age: 12): Nest not found", status=404)
        if self.ails(s, "api_join_fault"):
            return no(self.rng.choice(["Nest not found", "Nest is no longer active"]))
        needs_record = signed or not self.guest_by_room
        if needs_record and not self.has_record(s):
            return no("Nest not found")
        if not self.room_at(s):
            return no("Nest is no longer active" if signed else "Nest not found or no longer active")
        if (ailment := self.ails(s, "bad_token")) and ailment.kind == "object":
            return said(UN, Failure.BAD_TOKEN, "the token is an object, not a string", status=200)
        return said(V, status=200) | {"token": "token"}

    def turned_away(self, s: float, ailment: Ailment) -> Said:
        if ailment.cause == "forbidden":
            return said(RE, Failure.FORBIDDEN, "You are not allowed", status=403)
        off = 300.0 if ailment.cause == "auth_clock_skew" else self.rng.uniform(-3.0, 3.0)
        stamp = NOON + round((s + off) * SECOND_NS) // SECOND_NS * SECOND_NS
        words = "Missing or invalid authorization header"
        if off > 5:
            words += f"; our clock is {off:.0f} s behind the server's: set it (NTP)"
        return said(RE, Failure.UNAUTHORISED, words, status=401, remote_at=stamp, remote_grain_s=1.0)

    def info(self, s: float) -> Said:
        if not self.has_record(s):
            return no("Nest not found")
        room = f"other-{self.room}" if self.ails(s, "room_id_mismatch") else self.room
        facts: Said = {
            "host": HOST,
            "status": "active",
            "createdAt": NOON // 1_000_000,
            "participantCount": self.inside,
        }
        if self.rng.random() < 0.9:
            facts["link"] = link_of(room)
        return said(V, status=200, detail=detail(info=facts))

    def listed(self, s: float) -> Said:
        if ailment := self.ails(s, "livekit_down", "livekit_unreachable"):
            return _unreached(ailment)
        if not (sid := self.room_at(s)):
            return said(AB, Failure.NOT_FOUND, "not in the room list")
        begun = next(begun for begun, _, each in self.rooms if each == sid)
        stamp = {"remote_at": NOON + int(begun) * SECOND_NS, "remote_grain_s": 1.0}
        return said(V, detail=detail(sid=sid, participants=self.count(s)), **stamp)

    def count(self, s: float) -> int:
        """How many are inside, the host where there is one: whoever expires was alone, whoever leaves was not."""
        left = next((each for each in self.ailments if each.cause == "ended_by_departure"), None)
        return self.inside if left is None else int(s < left.from_s - 2.0)

    def signal(self, s: float) -> Said:
        if ailment := self.ails(s, "livekit_down", "livekit_unreachable"):
            return _unreached(ailment)
        if (ailment := self.ails(s, "bad_token")) and ailment.kind == "foreign_key":
            words = "the token is signed with another key than LiveKit's (invalid signature)"
            return said(RE, Failure.UNAUTHORISED, words, status=401)
        if self.ails(s, "wrong_room_token"):
            return said(UN, Failure.BAD_TOKEN, "the API's token is for another room, 'x': not used")
        if not (sid := self.room_at(s)):
            return said(AB, Failure.NOT_FOUND, "requested room does not exist", status=404)
        return said(V, detail=detail(room_sid=sid))

    def shows(self, relay: str, s: float, patience_s: float) -> tuple[Said, float]:
        """What a relay answers, and after how long."""
        if ailment := self.ails(s, "relay_unreachable"):
            if ailment.kind == "closed":
                return said(UN, Failure.REFUSED, "connection refused: is the server running?", received_at=None), 0.0
            return said(UN, Failure.TIMEOUT, f"no answer within {patience_s:g} s", received_at=None), patience_s
        if self.ails(s, "relay_wants_auth"):
            return said(RE, Failure.AUTH_REQUIRED, "auth-required: who are you?"), 0.05
        takes_s = 2.5 if self.ails(s, "client_cutoff") else 0.05
        if takes_s > patience_s:
            return said(UN, Failure.TIMEOUT, f"no answer within {patience_s:g} s", received_at=None), patience_s
        if s + takes_s < self.stored_s[relay] or (self.ails(s, "withdrawn") and self.rng.random() < 0.5):
            return said(AB), takes_s
        return said(V, detail=self.event(s)), takes_s

    def event(self, s: float) -> str:
        created_s, status = next(((at, word) for at, word in reversed(self.edits) if at <= s), (self.created_s, "open"))
        planned = self.ails(s, "not_begun")
        facts: Said = {"created_at": NOON // SECOND_NS + int(created_s), "event_id": f"e{int(created_s)}"}
        if planned is not None and planned.kind == "starts":
            facts["starts"] = NOON // SECOND_NS + 86_400
        return detail(**facts, status="planned" if planned is not None and planned.kind == "planned" else status)

    # what the collectors do

    def make(self) -> None:
        """Our own nest: PUT and publish, each relay's OK, and read-backs."""
        host: Said = {"role": Role.HOST, "attempt_group": f"put-{self.number}"}
        self.write(-0.2, 0.15, Source.API, Operation.CREATE, said(ACC, status=200), **host | {"nest": "", "room": ""})
        for relay in self.relays:
            group = {"role": Role.HOST, "attempt_group": f"pub-{relay}", "target": relay}
            rejected = next((e for e in self.ailments if e.cause == "relay_rejected" and self.hits(e, relay)), None)
            if self.ails(0.0, "relay_unreachable"):
                gone = said(UN, Failure.REFUSED, "connection refused", received_at=None)
                self.write(0.0, 0.05, Source.RELAY, Operation.PUBLISH, gone, **group)
            elif self.ails(0.0, "relay_wants_auth"):
                wants = said(RE, Failure.AUTH_REQUIRED, "auth-required: sign in first")
                self.write(0.0, 0.05, Source.RELAY, Operation.PUBLISH, wants, **group)
            elif rejected is not None:
                words = said(RE, Failure.RELAY_REFUSED, "blocked: not on the list")
                self.write(0.0, 0.05, Source.RELAY, Operation.PUBLISH, words, **group)
            else:
                self.write(0.0, 0.05, Source.RELAY, Operation.PUBLISH, said(ACC), **group)
                self.read_back(relay)

    def read_back(self, relay: str) -> None:
        for s in (0.1, 0.3, 0.7, 1.5, 3.0):
            shown = s >= self.stored_s[relay]
            what = said(V, detail=self.event(s)) if shown else said(AB, Failure.NOT_STORED, "OK but not there")
            self.write(s, 0.02, Source.RELAY, Operation.READ_BACK, what, target=relay, role=Role.HOST)
            if shown:
                return

    @staticmethod
    def hits(ailment: Ailment, relay: str) -> bool:
        return ailment.kind in ("", "all") or relay.endswith(f"-{ailment.kind}")

    def poll(self, vantage: str, ages: list[float]) -> None:
        """Each layer asked at these ages."""
        away = {"vantage": vantage}
        for age in ages:
            for relay in self.relays:
                what, took = self.shows(relay, age, 5.0)
                self.write(age, took, Source.RELAY, Operation.QUERY, what, target=relay, **away)
            for operation in (Operation.INFO, Operation.JOIN, Operation.GUEST):
                s = age + self.rng.uniform(0.0, 0.3)
                what = self.held(s) or self.api(s, operation, vantage)
                self.write(s, 0.02, Source.API, operation, what, **away)
            if self.keys:
                s = age + self.rng.uniform(0.0, 0.3)
                self.write(s, 0.01, Source.LIVEKIT, Operation.ROOMS, self.listed(s), **away)

    def held(self, s: float) -> Said | None:
        """What is written of an attempt that we hold up ourselves."""
        if self.ails(s, "observer_fault") is None:
            return None
        words = "not judged: our own event loop stood still for 3.0 s (no answer within 10 s)"
        return said(OURS, Failure.LOOP_BLOCKED, words, failure_layer=FailureLayer.PROBER, loop_lag_s=3.0)

    def arrive(self, vantage: str, at_s: float, signed_in: bool, policy: Policy) -> Verdict:
        """Somebody joins, by the core that joins for real."""
        group = f"join-{vantage}-{at_s:.3f}"
        role = Role.JOINER if signed_in else Role.GUEST
        shared: Said = {"vantage": vantage, "role": role, "attempt_group": group}
        intent = said(UN, Failure.INTENT, "about to join", received_at=None, failure_layer=FailureLayer.PROBER)
        self.write(at_s, 0.0, Source.JOIN, Operation.VERDICT, intent, **shared)
        loaded = self.load(vantage, at_s)
        flow = join_flow(
            self.room, signed_in, policy, arrived_at=NOON + round(at_s * SECOND_NS), rng=self.rng, nest=loaded.nest
        )
        step, now = next(flow), at_s
        try:
            while True:
                reply, now = self.perform(step, now, vantage, shared, loaded)
                step = flow.send(reply)
        except StopIteration as ended:
            verdict: Verdict = ended.value
        self.conclude(verdict, at_s, now, policy, shared)
        return verdict

    def load(self, vantage: str, s: float) -> Reply:
        """The web client's one look at its selected relay, cut off at 1.5 s."""
        what, took = self.shows(self.relays[0], s, 1.5)
        more = {"vantage": vantage, "target": self.relays[0], "timeout_s": 1.5}
        self.write(s, took, Source.CLIENT, Operation.LOAD, what, **more)
        nest = self.read(s) if what["outcome"] is V else None
        return Reply(NOON + round((s + took) * SECOND_NS), what["outcome"], None, what["failure"], nest=nest)

    def read(self, s: float) -> Nest:
        created_s = next((at for at, _ in reversed(self.edits) if at <= s), self.created_s)
        at = NOON + int(created_s) * SECOND_NS
        return Nest(
            address=Address(30312, HOST, self.room),
            event_id="e",
            created_at=at,
            first_created_at=at,
            name="a nest",
            status="open",
            service=API,
            streaming="",
            host=HOST,
            relays=(),
        )

    def perform(self, step: Step, now: float, vantage: str, shared: Said, loaded: Reply) -> tuple[Reply, float]:
        if isinstance(step, Wait):
            now = (step.until - NOON) / SECOND_NS
            return Reply(step.until, V), now
        if isinstance(step, Load):
            return loaded, now
        took = self.rng.uniform(0.01, 0.1)
        if isinstance(step, Stay):
            took = step.duration_s
        source, operation, what = self.asked(step, now, vantage)
        late = self.held(now)
        if late is not None and what["outcome"] is not V:
            what = late
        self.write(now, took, source, operation, what, **shared)
        now += took
        at = NOON + round(now * SECOND_NS)
        if operation is Operation.MEDIA and what["failure"] is None and what["outcome"] is UN:
            return Reply(at, UN), now
        return (
            Reply(
                at, what["outcome"], what.get("status"), what["failure"], token=what.get("token"), reason=what["reason"]
            ),
            now,
        )

    def asked(self, step: Step, s: float, vantage: str) -> tuple[Source, Operation, Said]:
        match step:
            case Info():
                return Source.API, Operation.INFO, self.api(s, Operation.INFO, vantage)
            case Join():
                return Source.API, Operation.JOIN, self.api(s, Operation.JOIN, vantage)
            case Guest():
                return Source.API, Operation.GUEST, self.api(s, Operation.GUEST, vantage)
            case Signal():
                if self.keys:
                    self.write(s - 0.005, 0.004, Source.LIVEKIT, Operation.ROOMS, self.listed(s), vantage=vantage)
                return Source.LIVEKIT, Operation.SIGNAL, self.signal(s)
            case Media():
                if self.ails(s, "media_blocked"):
                    ice = said(UN, Failure.ICE, "media failed: ICE timed out", failure_layer=FailureLayer.ICE)
                    return Source.LIVEKIT, Operation.MEDIA, ice
                return Source.LIVEKIT, Operation.MEDIA, said(V)
        if self.ails(s, "duplicate_identity"):
            words = "somebody came in under the same identity and took our place"
            return Source.JOIN, Operation.STAY, said(UN, Failure.REMOVED, words)
        return Source.JOIN, Operation.STAY, said(V)

    def conclude(self, verdict: Verdict, at_s: float, ended_s: float, policy: Policy, shared: Said) -> None:
        facts = detail(
            verdict=verdict.kind.value,
            message=verdict.message,
            policy=policy.name,
            requests=verdict.requests,
            elapsed_s=verdict.elapsed_s,
            age_s=verdict.age_s,
            said={},
        )
        ok = verdict.kind in JOINED
        what = said(V) if ok else said(UN, Failure.NOT_FOUND, verdict.kind.value)
        assert verdict.message in (MESSAGES[verdict.kind], verdict.message)
        self.write(at_s, ended_s - at_s, Source.JOIN, Operation.VERDICT, what | {"detail": facts}, **shared)

    def hook(self, s: float, event: str, sid: str) -> None:
        """A webhook of LiveKit, received a moment later."""
        if self.webhooks:
            stamp = {"remote_at": NOON + int(s) * SECOND_NS, "remote_grain_s": 1.0}
            facts = detail(event=event, event_id=f"{event}-{s}", room_sid=sid)
            self.write(s + 0.1, 0.01, Source.WEBHOOK, Operation.RECEIVE, said(ACC, detail=facts), **stamp)


def link_of(room: str) -> str:
    from nestobs.nostr import write_naddr

    return write_naddr(Address(30312, HOST, room))


def _unreached(ailment: Ailment) -> Said:
    if ailment.kind == "stall":
        return said(
            UN, Failure.TIMEOUT, "no JoinResponse within 10 s", received_at=None, failure_layer=FailureLayer.SIGNAL
        )
    return said(UN, Failure.REFUSED, "connection refused: is the server running?", failure_layer=FailureLayer.TCP)


def _down(world: World, s: float, ailment: Ailment, signed: bool) -> Said:
    if ailment.kind == "stall":
        return said(UN, Failure.TIMEOUT, "no answer within 10 s", failure_layer=FailureLayer.HTTP)
    return said(UN, Failure.SERVER_ERROR, "HTTP 502 (by nginx, text/html, '502 Bad Gateway')", status=502)


def _foreign(world: World, s: float, ailment: Ailment, signed: bool) -> Said:
    words = "HTTP 404 (by nginx, text/html, '404 Not Found'): not as the Nests API says no"
    status = 404
    if ailment.kind == "page":
        words, status = "HTTP 200 (text/html, 'Nests'): the answer is not a JSON object", 200
    if ailment.kind == "path":
        return said(UN, Failure.WRONG_PATH, "Endpoint not found: check the API address", status=404)
    return said(UN, Failure.UNEXPECTED, words, status=status, failure_layer=FailureLayer.HTTP)


def _limited(world: World, s: float, ailment: Ailment, signed: bool) -> Said:
    return said(RE, Failure.RATE_LIMITED, "Too many requests", status=429)


_DOORS: Final[dict[str, Callable[[World, float, Ailment, bool], Said]]] = {
    "api_down": _down,
    "wrong_door": _foreign,
    "rate_limited": _limited,
}


# which ailments there are


def _draw(rng: random.Random, cause: str) -> Ailment:
    begins, kinds, side = _AILMENTS[cause]
    from_s = rng.uniform(*begins) if begins[1] else 0.0
    return Ailment(cause, side, rng.choice(kinds), from_s)


_ALL: Final = ("all", "first", "last")
_AILMENTS: Final[dict[str, tuple[tuple[float, float], tuple[str, ...], str]]] = {
    "joined": ((0, 0), ("",), "none"),
    "relay_delay": ((0, 0), _ALL, "relay"),
    "relay_rejected": ((0, 0), _ALL, "relay"),
    "relay_dropped": ((0, 0), _ALL, "relay"),
    "relay_unreachable": ((0, 0), ("closed", "stall"), "relay"),
    "relay_wants_auth": ((0, 0), ("",), "relay"),
    "client_cutoff": ((0, 0), ("",), "relay"),
    "api_behind_livekit": ((0, 0), ("",), "api"),
    "late_record_made_a_listener": ((0, 0), ("",), "api"),
    "api_join_fault": ((0, 0), ("",), "api"),
    "bad_token": ((0, 0), ("object", "foreign_key"), "api"),
    "wrong_room_token": ((0, 0), ("",), "api"),
    "wrong_door": ((0, 3), ("nginx", "page", "path"), "api"),
    "auth_clock_skew": ((0, 0), ("",), "api"),
    "auth_rejected": ((0, 3), ("",), "api"),
    "forbidden": ((0, 3), ("",), "api"),
    "rate_limited": ((0, 3), ("",), "api"),
    "api_down": ((0, 3), ("502", "stall"), "api"),
    "negative_cache": ((0, 0), ("",), "api"),
    "replicas_disagree": ((0, 0), ("",), "api"),
    "livekit_behind_api": ((0, 0), ("",), "livekit"),
    "livekit_down": ((0, 3), ("closed", "stall"), "livekit"),
    "livekit_unreachable": ((0, 3), ("closed", "stall"), "livekit"),
    "media_blocked": ((0, 0), ("",), "livekit"),
    "room_expired": ((3, 8), ("",), "livekit"),
    "ended_by_departure": ((3, 8), ("",), "livekit"),
    "restart_window": ((3, 8), ("",), "livekit"),
    "duplicate_identity": ((0, 0), ("",), "livekit"),
    "not_begun": ((0, 0), ("planned", "starts"), "host"),
    "room_id_mismatch": ((0, 0), ("",), "host"),
    "closed_by_host": ((3, 8), ("",), "host"),
    "withdrawn": ((3, 8), ("",), "host"),
    "deleted": ((3, 8), ("",), "host"),
    "restart_without_effect": ((3, 8), ("",), "host"),
    "age_rule_misled": ((0, 0), ("old_clock",), "host"),
    "observer_fault": ((0, 0), ("",), "observer"),
}
_ALSO: Final = {
    "age_rule_misled": ("api_behind_livekit",),
    "late_record_made_a_listener": ("api_behind_livekit",),
}
CAUSES: Final = tuple(_AILMENTS)


_HIDES: Final = {"not_begun", "deleted"}
_BEHIND: Final = {"api", "livekit"}
"""What ails a nest that is not there shows nowhere."""


def draw(rng: random.Random, count: int = 1) -> list[Ailment]:
    """So many ailments, of different sides."""
    found: list[Ailment] = []
    while len(found) < count:
        each = _draw(rng, rng.choice(CAUSES[1:] if count > 1 else CAUSES))
        hidden = {each.cause, *(one.cause for one in found)} & _HIDES and {
            each.side,
            *(one.side for one in found),
        } & _BEHIND
        if each.side not in {one.side for one in found} and not hidden:
            found.append(each)
    return found


def _bend(world: World, ailment: Ailment) -> None:
    """What an ailment does to the schedules."""
    rng, late_s = world.rng, world.rng.uniform(4.0, 15.0)
    begun, ended, sid = world.rooms[0] if world.rooms else (NEVER, NEVER, "")
    match ailment.cause:
        case "relay_delay" | "relay_dropped" | "relay_rejected":
            until_s = late_s if ailment.cause == "relay_delay" else NEVER
            world.stored_s |= {relay: until_s for relay in world.relays if world.hits(ailment, relay)}
        case "api_behind_livekit":
            world.record, world.guest_by_room = (late_s, NEVER), False
        case "replicas_disagree":
            world.guest_by_room = False
        case "late_record_made_a_listener":
            world.record, world.guest_by_room = (late_s, NEVER), True
        case "livekit_behind_api":
            world.rooms = [(late_s, ended, sid)]
        case "room_expired" | "ended_by_departure":
            world.rooms, world.inside = [(begun, ailment.from_s, sid)], 0
        case "restart_window":
            world.rooms = [(begun, ailment.from_s, sid), (ailment.from_s + rng.uniform(3.0, 6.0), NEVER, "RM_again")]
        case "not_begun":
            world.rooms, world.record = [], (NEVER, NEVER)
        case "closed_by_host":
            world.edits.append((ailment.from_s, rng.choice(["closed", "ended"])))
        case "deleted":
            world.record = (world.record[0], ailment.from_s)
            world.rooms = [(start, min(end, ailment.from_s), each) for start, end, each in world.rooms]
        case "age_rule_misled":
            world.created_s, world.record, world.guest_by_room = -3_600.0, (late_s, NEVER), False


def _happen(world: World, ailment: Ailment) -> None:
    """What leaves rows of its own."""
    s, host = ailment.from_s, {"role": Role.HOST}
    sid = world.rooms[0][2] if world.rooms else "RM_1"
    match ailment.cause:
        case "deleted":
            if world.own:
                world.write(s, 0.02, Source.API, Operation.DELETE, said(ACC, status=204), **host)
            world.hook(s, "room_finished", sid)
        case "withdrawn":
            noted = said(ACC, detail=detail(withdrawn=True, event_id="k5"))
            world.write(s, 0.0, Source.RELAY, Operation.RECEIVE, noted, target=world.relays[0])
        case "restart_without_effect":
            world.write(s, 0.02, Source.API, Operation.RESTART, said(ACC, status=200), **host)
        case "room_expired":
            world.hook(s, "room_finished", sid)
        case "ended_by_departure":
            world.hook(s - 2.0, "participant_left", sid)
            world.hook(s, "room_finished", sid)
        case "restart_window":
            world.hook(s, "room_finished", sid)
            world.hook(world.rooms[-1][0], "room_started", "RM_again")


def ailing(seed: int, number: int, count: int = 1, causes: tuple[str, ...] = ()) -> World:
    """Nest number so and so of a seed with so many ailments (or these), watched and joined, rows and all."""
    rng = random.Random(f"{seed}-{number}-{count}")
    ailments = [_draw(rng, cause) for cause in causes] or draw(rng, count)
    world = World(rng, number, ailments)
    world.relays = ["wss://relay-first", "wss://relay-last"]
    world.stored_s = {relay: rng.uniform(0.05, 0.4) for relay in world.relays}
    world.record = (rng.uniform(0.0, 0.2), NEVER)
    world.rooms = [(rng.uniform(-0.2, 0.1), NEVER, f"RM_{number}")]
    world.keys, world.webhooks, world.own = (rng.random() < share for share in (0.75, 0.6, 0.8))
    world.own |= any(each.cause in ("relay_rejected", "relay_dropped", "restart_without_effect") for each in ailments)
    world.keys |= any(each.cause in _NEED_KEYS for each in ailments)
    world.guest_by_room = rng.random() < 0.5
    world.horizon_s = rng.choice([40.0, 60.0, 90.0])
    world.vantages = ("Computer A", "Computer B")[: rng.choice([1, 2])]
    for each in ailments:
        _bend(world, each)
    if world.own:
        world.make()
    for each in ailments:
        _happen(world, each)
    for vantage in world.vantages:
        ages = sorted(rng.uniform(0.2, world.horizon_s) ** 1.0 for _ in range(6))
        world.poll(vantage, sorted([*(rng.uniform(0.2, 12.0) for _ in range(6)), *ages]))
        for place in range(rng.choice([1, 2, 3])):
            at = rng.uniform(0.3, 3.0) if place == 0 else rng.uniform(3.0, world.horizon_s * 0.6)
            world.arrive(vantage, at, place % 2 == 0, exponential(1.0) if rng.random() < 0.8 else GUIDE)
    return world


_NEED_KEYS: Final = ("restart_without_effect", "api_join_fault", "livekit_behind_api", "api_behind_livekit")
"""Without LiveKit's list these are two readings of one picture: see test_without_livekits_keys…"""


def many(seed: int, count: int, ailments: int = 1) -> Iterator[World]:
    for number in range(count):
        yield ailing(seed, number, ailments)
