"""One nest gone wrong: what its observations say, and what they leave open. Facts, never a guess called a cause.

    observations ─> requests   what every real join asked, in order: when, how long, what came
                 ─> attempts   the joins themselves: how each ended, and what each client would have shown
                 ─> layers     what each layer answered to each vantage, from the first question to the last
                 ─> facts      sentences: who had the nest, who had not, where they disagree, what disturbed the watch
                 ─> gaps       what was never asked, or not enough to say: the reason to ask again
                 ─> ranking    of many nests: the worst first

A layer's answers are two or more readings of one hidden state, so they may disagree: relays show the nest, LiveKit
lists the room, and every join answers 404. That is said as it was seen. That a layer was not seen means as long as it
was asked; what was never asked is a gap, and no fact.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.join.decision import Kind
from nestobs.observation.arrays import NONE, Flags, Ints, Texts, count_of, least_at
from nestobs.observation.columns import codes_of, equals, instants_of, paired, ranked
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Role, Source
from nestobs.timeline.intervals import MARKS
from nestobs.timeline.polls import layers_of

GAP_S: Final = 300.0
"""A silence longer than this, between two questions about a nest, is told."""

ENOUGH_S: Final = 60.0
"""A layer not seen and not asked beyond this age may have come later."""

EXPECTED: Final = (
    "relay", "client", "api:info", "api:join", "api:guest", "livekit:room", "livekit:signal", "livekit:media",
)  # fmt: skip
"""Every kind of layer there is, in the order in which a nest passes through them."""

SHOWN, NOT_SEEN, WENT, UNPROVEN = "shown", "not seen", "went", "nothing proven"

GRANTED, ABSENT, REFUSED, NOTHING, OURS = "there", "404", "refused", "no proof", "our own error"
ANSWERS: Final = (GRANTED, ABSENT, REFUSED, NOTHING, OURS)
"""What a request of a join came to."""

_ANSWERS: Final = {
    Outcome.VISIBLE: GRANTED,
    Outcome.ACCEPTED: GRANTED,
    Outcome.ABSENT: ABSENT,
    Outcome.REFUSED: REFUSED,
    Outcome.PROBE_ERROR: OURS,
}
_NEVER_ENDED: Final = "cut off"

REQUESTS: Final = (
    "join", "vantage", "role", "step", "way", "round", "waited_s", "sent_at", "from_s", "to_s", "answer", "status",
    "failure", "reason",
)  # fmt: skip
ATTEMPTS: Final = (
    "join", "vantage", "role", "policy", "arrived_at", "age_s", "verdict", "joined", "elapsed_s", "asked", "fell_back",
    "waited_s", "message", "retry", "guide_message", "guide_true", "released_message", "released_true",
)  # fmt: skip
LAYERS: Final = (
    "layer", "vantage", "state", "origin_at", "lower_s", "upper_s", "gone_lower_s", "gone_upper_s", "polls", "unknown",
    "flaps", "marked", "first_at", "last_at", "last_s", "answers", "refused",
)  # fmt: skip
RANKING: Final = (
    "nest", "room", "first_at", "observations", "joins", "failed", "cut_off", "unseen", "last_layer", "last_s",
)  # fmt: skip


# joins and what they asked


def requests(observations: pd.DataFrame) -> pd.DataFrame:
    """One row per request that a real join made, by join and then by the time of sending; the columns of REQUESTS.

    join: its number from 1, by arrival, as in `attempts`. step: info, join, guest, signal, media, stay; way: info,
    join, guest or LiveKit. round: from 1; a new one begins where a step comes again that the round already had.
    waited_s: since the answer before, or the arrival. from_s, to_s: seconds since arrival, NaN where no answer came.
    answer: one of ANSWERS.
    """
    rows: list[dict[str, Any]] = []
    for number, (arrival, asked) in enumerate(_joins(observations), 1):
        rows += _asked(number, arrival, asked)
    return pd.DataFrame(rows, columns=list(REQUESTS))


def _joins(observations: pd.DataFrame) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each join's verdict (its intent, where it was cut off) and the steps it made, in order of arrival."""
    grouped = observations[observations["attempt_group"] != ""]
    told = (grouped["source"] == Source.JOIN) & (grouped["operation"] == Operation.VERDICT)
    keys = list(zip(grouped["run_id"], grouped["attempt_group"], strict=True))
    known = {key for key, is_verdict in zip(keys, told, strict=True) if is_verdict}
    found: dict[tuple[str, str], list[dict[str, Any]]] = {key: [] for key in known}
    for key, row in zip(keys, grouped.to_dict("records"), strict=True):
        if key in known:
            found[key].append({str(name): value for name, value in row.items()})
    joins = []
    for rows in found.values():
        verdicts = [row for row in rows if row["operation"] == Operation.VERDICT]
        ended = [row for row in verdicts if row["failure"] != Failure.INTENT] or verdicts
        steps = sorted((row for row in rows if row["operation"] != Operation.VERDICT), key=lambda row: row["sent_at"])
        joins.append((ended[0], steps))
    yield from sorted(joins, key=lambda join: (join[0]["sent_at"], str(join[0]["observation_id"])))


def _asked(number: int, arrival: dict[str, Any], asked: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    arrived, ready, seen, turn = int(arrival["sent_at"]), int(arrival["sent_at"]), set[str](), 1
    for row in asked:
        step, sent = str(row["operation"]), int(row["sent_at"])
        if step in seen and step in ("info", "join", "guest"):
            seen, turn = set(), turn + 1
        seen.add(step)
        received = None if pd.isna(row["received_at"]) else int(row["received_at"])
        yield {
            "join": number,
            "vantage": row["vantage"],
            "role": row["role"],
            "step": step,
            "way": step if row["source"] == Source.API else "LiveKit",
            "round": turn,
            "waited_s": max(0.0, (sent - ready) / SECOND_NS),
            "sent_at": sent,
            "from_s": (sent - arrived) / SECOND_NS,
            "to_s": math.nan if received is None else (received - arrived) / SECOND_NS,
            "answer": _ANSWERS.get(Outcome(str(row["outcome"])), NOTHING),
            "status": None if pd.isna(row["status"]) else int(row["status"]),
            "failure": "" if pd.isna(row["failure"]) else str(row["failure"]),
            "reason": str(row["reason"]),
        }
        ready = max(ready, sent if received is None else received)


def attempts(observations: pd.DataFrame, joins: pd.DataFrame) -> pd.DataFrame:
    """One row per join, the cut off among them, by arrival; the columns of ATTEMPTS.

    `joins` as `timeline.joins` makes them of the same observations. age_s: of the nest at arrival. asked: requests
    made. fell_back: asked as a guest after a 404 to the signed in. waited_s: in all, between its requests. message and
    retry: what our client shows at the end, and whether with a Retry button; of a join that was cut off: nothing.
    """
    asked = requests(observations)
    known = {
        (row["vantage"], row["role"], pd.Timestamp(row["arrived_at"]).value): row for row in joins.to_dict("records")
    }
    rows = []
    for number, (arrival, _) in enumerate(_joins(observations), 1):
        mine = asked[asked["join"] == number]
        row = known.get((arrival["vantage"], arrival["role"], int(arrival["sent_at"])), {})
        rows.append(_attempt(number, arrival, mine, {str(name): value for name, value in row.items()}))
    return pd.DataFrame(rows, columns=list(ATTEMPTS))


def _attempt(number: int, arrival: dict[str, Any], mine: pd.DataFrame, row: dict[str, Any]) -> dict[str, Any]:
    facts = facts_of(arrival["detail"])
    ways = mine.loc[mine["way"] != "LiveKit", ["step", "answer"]].to_numpy().tolist()
    pairs = itertools.pairwise(ways)
    return {
        "join": number,
        "vantage": arrival["vantage"],
        "role": arrival["role"],
        "policy": row.get("policy", ""),
        "arrived_at": int(arrival["sent_at"]),
        "age_s": row.get("arrival_age_s", math.nan),
        "verdict": row.get("verdict", _NEVER_ENDED),
        "joined": bool(row.get("joined", False)),
        "elapsed_s": row.get("elapsed_s", math.nan),
        "asked": len(mine),
        "fell_back": any(one == ["join", ABSENT] and other[0] == "guest" for one, other in pairs),
        "waited_s": float(mine["waited_s"].sum()),
        "message": str(facts.get("message", "")) if row else "",
        "retry": bool(facts.get("retry_offered", False)) if row else False,
        "guide_message": row.get("guide_message", ""),
        "guide_true": row.get("guide_true"),
        "released_message": row.get("released_message", ""),
        "released_true": row.get("released_true"),
    }


# layers


def layers(observations: pd.DataFrame, timelines: pd.DataFrame) -> pd.DataFrame:
    """One row per layer and vantage that was asked, in the order of the layers; the columns of LAYERS.

    `timelines` of the same observations, of one nest. state: shown, not seen (proven absent, as long as it was asked),
    went (shown, then proven absent for good), nothing proven. first_at, last_at: when it was first and last asked, ns
    UTC; last_s: the same last as an age, NaN without an origin. answers: "404 x 12, 200 x 3". refused: how many were.
    """
    asked = observations.assign(layer=_layers(observations))
    asked = asked[(asked["layer"] != "") & (asked["failure"].fillna("") != Failure.INTENT)]
    groups = {(str(key[0]), str(key[1])): rows for key, rows in asked.groupby(["layer", "vantage"])}
    found = []
    for row in timelines.to_dict("records"):
        mine = groups.get((row["layer"], row["vantage"]))
        if mine is not None:
            found.append(_layer({str(name): value for name, value in row.items()}, mine))
    found.sort(key=lambda row: (_place(row["layer"]), row["layer"], row["vantage"]))
    return pd.DataFrame(found, columns=list(LAYERS))


def _layer(row: dict[str, Any], asked: pd.DataFrame) -> dict[str, Any]:
    first, last = int(asked["sent_at"].min()), int(asked["sent_at"].max())
    origin = None if pd.isna(row["origin_at"]) else pd.Timestamp(row["origin_at"]).value
    words = asked["status"].astype("string").fillna(asked["failure"].astype("string")).fillna(asked["outcome"])
    counts = words.value_counts()
    kept = {
        name: row[name]
        for name in ("layer", "vantage", "lower_s", "upper_s", "gone_lower_s", "gone_upper_s", "polls", "unknown",
                     "flaps", "marked")
    }  # fmt: skip
    return kept | {
        "state": _state(row),
        "origin_at": origin,
        "first_at": first,
        "last_at": last,
        "last_s": math.nan if origin is None else (last - origin) / SECOND_NS,
        "answers": ", ".join(f"{word} x {count}" for word, count in counts.items()),
        "refused": int((asked["outcome"] == Outcome.REFUSED).sum()),
    }


def _state(row: dict[str, Any]) -> str:
    if not row["polls"]:
        return UNPROVEN
    if row["right_censored"]:
        return NOT_SEEN
    return SHOWN if pd.isna(row["gone_upper_s"]) and pd.isna(row["gone_lower_s"]) else WENT


def _place(layer: str) -> int:
    kinds = [number for number, kind in enumerate(EXPECTED) if layer.startswith(kind)]
    return kinds[0] if kinds else len(EXPECTED)


def _layers(observations: pd.DataFrame) -> list[str]:
    """The layer of each row, "" for none."""
    code, names = layers_of(observations)
    return [str(name) for name in np.append(names, "")[code]]


# what they say together


def facts(observations: pd.DataFrame, layers: pd.DataFrame, attempts: pd.DataFrame, around: pd.DataFrame) -> list[str]:
    """Sentences about one nest: who showed it, where layers or vantages disagree, refusals, closings, disturbances.

    around: the rows about no nest at all that were written meanwhile. Nothing observed: no sentence.
    """
    return [
        *_shown(layers),
        *_disagreements(layers),
        *_unsteady(layers),
        *_refusals(observations),
        *_event(observations),
        *_joined(attempts),
        *_silences(observations),
        *_disturbances(observations, around, layers),
    ]


def _shown(layers: pd.DataFrame) -> Iterator[str]:
    wordings = (
        (SHOWN, "Showed the nest:"),
        (NOT_SEEN, "Did not show it as long as they were asked:"),
        (WENT, "Showed it and then did not any more:"),
        (UNPROVEN, "Asked, and nothing was proven:"),
    )
    for state, words in wordings:
        mine = layers[layers["state"] == state]
        parts = [f"{_short(layer)} ({_seen(rows, state)})" for layer, rows in mine.groupby("layer", sort=False)]
        if parts:
            yield f"{words} {', '.join(parts)}."


def _seen(rows: pd.DataFrame, state: str) -> str:
    """From where, and by which age at the latest, or until which age it was asked."""
    who = ", ".join(_short(vantage, 24) for vantage in rows["vantage"])
    ages = {
        SHOWN: ("by", rows["upper_s"]),
        WENT: ("gone by", rows["gone_upper_s"]),
        NOT_SEEN: ("until", rows["last_s"]),
    }
    word, age = ages.get(state, ("", pd.Series(dtype=float)))
    known = age[np.isfinite(age.to_numpy(dtype=float))]
    return f"{who}; {word} {known.max():.1f} s" if len(known) else who


def _short(text: object, limit: int = 44) -> str:
    """A name of others, so long that a sentence can bear it."""
    name = str(text)
    return name if len(name) <= limit else name[: limit - 1] + "…"


def _disagreements(layers: pd.DataFrame) -> Iterator[str]:
    had = {kind: _of(layers, kind, SHOWN, WENT) for kind in EXPECTED}
    lacked = {kind: _of(layers, kind, NOT_SEEN) for kind in EXPECTED}
    doors = [*lacked["api:join"], *lacked["api:guest"]]
    witnesses = [*had["api:info"], *had["livekit:room"]]
    if doors and witnesses and not had["api:join"] and not had["api:guest"]:
        yield (
            f"{_names(witnesses)} had the nest, and yet every answer of {_names(doors)} was 404, from"
            f" {_clock(min(row['first_at'] for row in doors))} to {_clock(max(row['last_at'] for row in doors))}."
        )
    if had["relay"] and doors and not witnesses:
        yield f"Relays showed the event while no other layer showed the nest: {_names(had['relay'])}."
    if had["relay"] and lacked["relay"]:
        yield f"The relays disagree: {_names(had['relay'])} had the event, {_names(lacked['relay'])} had it not."
    if had["api:guest"] and lacked["api:join"] and not had["api:join"]:
        yield "Guests were given a token; the signed in were answered 404 every time."
    if had["livekit:room"] and not had["relay"] and lacked["relay"]:
        yield "LiveKit listed the room, and no relay that was asked had the event."
    if (had["api:guest"] or had["api:join"]) and lacked["livekit:signal"] and not had["livekit:signal"]:
        yield "A token was given, and LiveKit's signalling never took it."
    for layer, rows in layers.groupby("layer"):
        states = {str(row["vantage"]): str(row["state"]) for row in rows.to_dict("records")}
        if {SHOWN, NOT_SEEN} <= set(states.values()):
            parts = "; ".join(f"{_short(vantage, 24)}: {state}" for vantage, state in sorted(states.items()))
            yield f"The vantage points disagree about {_short(layer)}: {parts}."


def _of(layers: pd.DataFrame, kind: str, *states: str) -> list[dict[str, Any]]:
    mine = layers[layers["state"].isin(states) & layers["layer"].str.startswith(kind)]
    return [{str(name): value for name, value in row.items()} for row in mine.to_dict("records")]


def _names(rows: Sequence[dict[str, Any]]) -> str:
    return ", ".join(_short(name) for name in dict.fromkeys(str(row["layer"]) for row in rows))


def _unsteady(layers: pd.DataFrame) -> Iterator[str]:
    for row in layers[layers["flaps"] > 0].to_dict("records"):
        yield (
            f"{_short(row['layer'])}, asked from {_short(row['vantage'], 24)}, said absent {row['flaps']} times between"
            " two answers that showed the nest."
        )


def _refusals(observations: pd.DataFrame) -> Iterator[str]:
    words = {
        Failure.UNAUTHORISED: "401, not let in with its sign-in",
        Failure.FORBIDDEN: "403, forbidden",
        Failure.RATE_LIMITED: "429, too many requests from this address",
        Failure.BUDGET: "not sent, since our own request budget was spent",
        Failure.CACHED: "answered from a cache, which proves nothing",
        Failure.BAD_TOKEN: "answered without a usable token",
        Failure.WRONG_PATH: "404 of a path that is no nest's: the API's base may be wrong",
    }
    counts = observations["failure"].value_counts()
    for failure, said in words.items():
        if count := int(counts.get(str(failure), 0)):
            yield f"{count} {'request was' if count == 1 else 'requests were'} {said}."


def _event(observations: pd.DataFrame) -> Iterator[str]:
    stamps, statuses = set[int](), set[str]()
    for facts in _events(observations):
        stamps |= {facts[name] for name in ("created_at", "first_created_at") if type(facts.get(name)) is int}
        statuses |= {str(facts.get("status", ""))}
    if len(stamps) > 1:
        yield (
            f"The event was edited: its created_at moved by {max(stamps) - min(stamps)} s, and a client that counts the"
            " age from it takes the nest for younger than it is."
        )
    if "closed" in statuses:
        yield "The event says that the nest is closed."
    if len(deleted := _deleted(observations)):
        yield f"The nest was deleted at {_clock(int(deleted['sent_at'].min()))}, and the API accepted that."


def _events(observations: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What visible answers of relays said of the event, each different saying once."""
    told = observations[observations["source"].isin([Source.RELAY, Source.CLIENT])]
    for detail in dict.fromkeys(told.loc[told["outcome"] == Outcome.VISIBLE, "detail"]):
        yield facts_of(detail)


def _joined(attempts: pd.DataFrame) -> Iterator[str]:
    if attempts.empty:
        yield "Nobody joined for real."
        return
    ended = attempts[attempts["verdict"] != _NEVER_ENDED]
    kinds = ended["verdict"].value_counts()
    parts = ", ".join(f"{count} {str(kind).replace('_', ' ')}" for kind, count in kinds.items())
    if len(ended):
        yield f"Of {len(ended)} joins that ended {int(ended['joined'].sum())} got in: {parts}."
    if cut := len(attempts) - len(ended):
        yield f"{cut} more {'join was' if cut == 1 else 'joins were'} begun and cut off, so what came of it is unknown."
    if int(attempts["fell_back"].sum()):
        yield f"{int(attempts['fell_back'].sum())} fell back to asking as a guest after a 404."


def _silences(observations: pd.DataFrame) -> Iterator[str]:
    sent = np.sort(observations["sent_at"].to_numpy(np.int64))
    gaps = np.diff(sent) / SECOND_NS
    for place in np.flatnonzero(gaps > GAP_S)[:3]:
        yield (
            f"Nothing was asked from {_clock(int(sent[place]))} to {_clock(int(sent[place + 1]))}"
            f" ({_span(float(gaps[place]))}): what a layer did meanwhile is not known, whatever is drawn across it."
        )


def _disturbances(observations: pd.DataFrame, around: pd.DataFrame, layers: pd.DataFrame) -> Iterator[str]:
    words = {
        Failure.CLOCK_STEP: "the wall clock was stepped; delays do not change by it, instants keep to the old time",
        Failure.SUSPENDED: "the machine slept",
        Failure.LOOP_BLOCKED: "the observer itself was held up",
        Failure.NO_NETWORK: "its own network failed",
    }
    both = pd.concat([observations, around])
    for failure in MARKS:
        mine = both[both["failure"] == failure]
        for vantage, rows in mine.groupby("vantage"):
            first = _clock(int(rows["sent_at"].min()))
            more = f" and {len(rows) - 1} times more" if len(rows) > 1 else ""
            yield f"{_short(vantage, 24)}: at {first}{more} {words[failure]}."
    if touched := int((layers["marked"] != "").sum()):
        yield f"{touched} of the intervals overlap such a disturbance, and are marked."


# what is missing


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that the observations leave open. why: a sentence. ask: which of the commands would tell; "" for none.

    ask: join, guest, ready, doctor, watch, webhooks, elsewhere (the same join, from another machine), canary (of
    another nest, on the same way, since this one is gone).
    """

    why: str
    ask: str = ""


def gaps(observations: pd.DataFrame, layers: pd.DataFrame, attempts: pd.DataFrame) -> list[Gap]:
    """What was never asked, or not enough to say, the most telling first. Nothing observed at all: one gap."""
    if observations.empty:
        return [Gap("Nothing was observed of this nest: join it for real.", "join")]
    found = [*_unasked(layers), *_unjoined(attempts), *_too_soon(layers), *_one_sided(observations, layers)]
    if not _over(observations):
        return found
    late = [replace(gap, ask="canary") if gap.ask in ("join", "guest", "ready", "elsewhere") else gap for gap in found]
    return [Gap("This nest was closed or deleted: what was not asked of it can be asked of another one only."), *late]


def _over(observations: pd.DataFrame) -> bool:
    """Whether its host deleted it, or its newest event says closed."""
    return bool(len(_deleted(observations))) or latest_event(observations).get("status") == "closed"


def _deleted(observations: pd.DataFrame) -> pd.DataFrame:
    deed = observations["operation"].isin([str(Operation.DELETE)])
    return observations[deed & observations["outcome"].isin([str(Outcome.ACCEPTED)])]


def _unasked(layers: pd.DataFrame) -> Iterator[Gap]:
    asked = set(layers["layer"])
    never = [kind for kind in EXPECTED if not any(layer.startswith(kind) for layer in asked)]
    whys = {
        "relay": Gap("No relay was asked for its event: a join asks every relay that it is given.", "join"),
        "api:info": Gap("The API's /info was never asked.", "join"),
        "api:join": Gap("The signed in's way to join was never tried.", "join"),
        "api:guest": Gap("The guests' way to join was never tried.", "guest"),
        "livekit:room": Gap(
            "LiveKit's list of rooms was never asked. With NESTOBS_LIVEKIT_API_KEY and NESTOBS_LIVEKIT_API_SECRET set,"
            " a join asks it.",
            "join",
        ),
        "livekit:signal": Gap("Nobody came as far as LiveKit's signalling: that takes a token.", "join"),
        "livekit:media": Gap("Nobody came as far as media: that takes a token and the real RTC library.", "join"),
    }
    yield from (whys[kind] for kind in never if kind in whys)
    for row in layers[layers["state"] == UNPROVEN].to_dict("records"):
        where = f"{_short(row['layer'])} was asked from {_short(row['vantage'], 24)}"
        yield Gap(f"{where} and proved nothing ({row['answers']}).", "doctor")


def _unjoined(attempts: pd.DataFrame) -> Iterator[Gap]:
    if attempts.empty:
        yield Gap("Nobody joined it for real, so nobody knows what a person would have seen.", "join")
    elif not (attempts["role"] == Role.JOINER).any():
        yield Gap("Only guests joined: whether the signed in can is not known.", "join")
    if (attempts["verdict"] == _NEVER_ENDED).any():
        yield Gap("A join was cut off before it ended.", "join")
    if (attempts["verdict"] == Kind.RATE_LIMITED).any():
        yield Gap("A join was rate limited, which says nothing of the nest: the budget is shown by doctor.", "doctor")


def _too_soon(layers: pd.DataFrame) -> Iterator[Gap]:
    unseen = layers[layers["state"] == NOT_SEEN]
    early = unseen[~(unseen["last_s"] > ENOUGH_S)]
    if len(early):
        yield Gap(
            f"Watching ended too soon to say that it never came: {_names(_records(early))} was last asked at"
            f" {_ages(early)}.",
            "ready",
        )
    elif len(unseen):
        yield Gap(f"{_names(_records(unseen))} had not shown it by {_ages(unseen)}: is it still so?", "ready")


def _ages(rows: pd.DataFrame) -> str:
    known = rows["last_s"].dropna()
    return "an unknown age" if known.empty else f"an age of {known.min():.0f} s"


def _one_sided(observations: pd.DataFrame, layers: pd.DataFrame) -> Iterator[Gap]:
    vantages = sorted(set(layers["vantage"]))
    if len(vantages) == 1:
        yield Gap(
            f"All of it was seen from one place, {_short(vantages[0], 24)}: whether others see the same takes a second"
            " machine.",
            "elsewhere",
        )
    if vantages and not observations["clock_offset_s"].notna().any():
        yield Gap("The clock was never compared with the API's: ages may be off by its error.", "doctor")
    if not layers["origin_at"].notna().any():
        yield Gap(
            "When the nest was made is not known, so there are no ages: a relay that has its event tells.", "join"
        )
    if not (observations["source"] == Source.WEBHOOK).any():
        yield Gap("LiveKit's webhooks were not received, so nobody saw rooms start and end as they did.", "webhooks")
    if len(layers):
        yield Gap("What comes next is not being watched: a watch sees what other nests do on the same way.", "watch")


def _records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]


# many nests


RANKED_BY: Final = (
    "nest", "room", "trace_id", "source", "operation", "target", "outcome", "failure", "sent_at", "received_at",
    "run_id", "attempt_group",
)  # fmt: skip
"""The columns of observations that `ranking` needs."""


def ranking(observations: pd.DataFrame) -> pd.DataFrame:
    """One row per nest, the worst first; the columns of RANKING.

    Worst: most joins that ended and did not get in, then most layers that proved absent and never showed it, then the
    one whose last layer came latest. Rows are of one nest if they, or others of their trace, name its address, or
    without one its room; what names neither is left out. first_at: its first row, ns UTC. unseen: layers that only ever
    proved absent. last_layer, last_s: which layer came last, and how long after the first row, NaN where none came.
    """
    told = [codes_of(observations[name])[0] >= 0 for name in ("nest", "room", "trace_id")]
    named = observations[np.any(told, axis=0)]
    if named.empty:
        return pd.DataFrame(columns=list(RANKING))
    about, (layer, layers) = _units(named), layers_of(named)
    sent, _ = instants_of(named["sent_at"])
    intent = equals(named["failure"], Failure.INTENT)
    visible, absent = (equals(named["outcome"], one) & ~intent for one in (Outcome.VISIBLE, Outcome.ABSENT))
    proven = (visible | absent) & (layer >= 0)
    found = pd.DataFrame({"first_at": least_at(sent, about.unit, about.units)})
    found["observations"] = np.bincount(about.unit, minlength=about.units)
    for name, codes, texts in (("nest", about.nest, about.nests), ("room", about.room, about.rooms)):
        best = np.full(about.units, -1, dtype=np.int64)
        np.maximum.at(best, about.unit, codes)
        found[name] = np.append(texts, "")[best]
    joins = equals(named["source"], Source.JOIN) & equals(named["operation"], Operation.VERDICT)
    found = found.assign(**_ended(named, about, joins, intent, visible))
    found = found.assign(**_came(named, about, np.where(proven, layer, -1), layers, visible))
    found["last_s"] = (found.pop("last_at") - found["first_at"]) / SECOND_NS
    order = found.assign(name=about.names).sort_values(
        ["failed", "unseen", "last_s", "first_at", "name"],
        ascending=[False, False, False, True, True],
        na_position="last",
    )
    return order[(order["nest"] != "") | (order["room"] != "")].reset_index(drop=True)[list(RANKING)]


@dataclass(frozen=True, slots=True)
class _About:
    """What rows are about. Per row: unit, a code from 0; nest, room: those that it or its trace names, -1 for none.

    names: of each unit its address, room or trace; nests, rooms: the texts of the codes."""

    unit: Ints
    nest: Ints
    room: Ints
    names: Texts
    nests: Texts
    rooms: Texts

    @property
    def units(self) -> int:
        return len(self.names)


def _units(named: pd.DataFrame) -> _About:
    trace, traces = codes_of(named["trace_id"])
    nest, nests = codes_of(named["nest"])
    room, rooms = codes_of(named["room"])
    nest = np.where(nest >= 0, nest, _first(nest, trace, len(traces))[trace])
    room = np.where(room >= 0, room, _first(room, trace, len(traces))[trace])
    nest = np.where(nest >= 0, nest, _first(nest, room, len(rooms))[room])
    found = np.where(nest >= 0, nest, np.where(room >= 0, room + len(nests), trace + len(nests) + len(rooms)))
    unit = ranked(found)
    names = np.empty(count_of(unit), dtype=object)
    names[unit] = np.concatenate([nests, rooms, traces])[found]
    return _About(unit, nest, room, names, nests, rooms)


def _first(codes: Ints, of: Ints, size: int) -> Ints:
    """Per place the first code there is, -1 for none; one more for no place, which has none."""
    known = np.flatnonzero((codes >= 0) & (of >= 0))[::-1]
    first = np.full(size + 1, -1, dtype=np.int64)
    first[of[known]] = codes[known]  # the last write stands
    return first


def _ended(named: pd.DataFrame, about: _About, joins: Flags, intent: Flags, visible: Flags) -> dict[str, Ints]:
    """Of each unit how many joins ended, how many of these did not get in, and how many never ended."""
    ended, begun = joins & ~intent, joins & intent
    group = paired(codes_of(named["run_id"])[0], codes_of(named["attempt_group"])[0])
    over = np.zeros(count_of(group) + 1, dtype=bool)
    over[group[ended]] = True
    cut = np.flatnonzero(begun & ~over[group])
    _, first = np.unique(paired(about.unit[cut], group[cut]), return_index=True)
    return {
        name: np.bincount(about.unit[which], minlength=about.units)
        for name, which in (("joins", ended), ("failed", ended & ~visible), ("cut_off", cut[first]))
    }


def _came(named: pd.DataFrame, about: _About, layer: Ints, layers: Texts, visible: Flags) -> dict[str, Any]:
    """Of each unit how many layers only proved absent, which was shown last, and when (ns, NaN for none). layer: of the
    rows that prove something, else -1."""
    received, answered = instants_of(named["received_at"])
    told = layer >= 0
    place = paired(about.unit[told], layer[told])
    size = count_of(place)
    unit, of = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
    unit[place], of[place] = about.unit[told], layer[told]
    shown = (visible & answered)[told]
    at = least_at(received[told][shown], place[shown], size)
    came = np.flatnonzero(at != NONE)
    order = np.array([*map(_place, layers)], dtype=np.int64)
    came = came[np.lexsort((order[of[came]], at[came]))]  # of those at one instant the last that a nest passes through
    last = np.full(about.units, -1, dtype=np.int64)
    last[unit[came]] = came  # the last write stands
    some = last >= 0
    return {
        "unseen": np.bincount(unit[at == NONE], minlength=about.units),
        "last_layer": np.where(some, np.append(layers, "")[of[last] if size else last], ""),
        "last_at": np.where(some, at[last] if size else np.nan, np.nan),
    }


# words


def latest_event(observations: pd.DataFrame) -> dict[str, Any]:
    """What the newest answer of a relay that had the event says: status, created_at (s), event_id; {} for none."""
    told = observations[observations["source"].isin([Source.RELAY, Source.CLIENT])]
    shown = told[told["outcome"] == Outcome.VISIBLE].sort_values("sent_at", kind="stable")
    return facts_of(shown["detail"].iloc[-1]) if len(shown) else {}


def _clock(at: int) -> str:
    """An instant in words, UTC, to the second."""
    return f"{pd.Timestamp(at, tz='UTC'):%Y-%m-%d %H:%M:%S} UTC"


def _span(seconds: float) -> str:
    """A length of time in words."""
    for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
