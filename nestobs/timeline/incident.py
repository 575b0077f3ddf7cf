"""One nest gone wrong: what its observations say, and what they leave open. Facts; causes are nestobs.diagnosis' own.

    observations ─> requests, attempts   what every real join asked, and how each ended (requests.py)
                 ─> layers               what each layer answered to each vantage (layers.py)
                 ─> facts                sentences: who had the nest, who had not, where they disagree, who was lost,
                                         what disturbed the watch
                 ─> gaps                 what was never asked, or not enough to say: the reason to ask again

A layer's answers are two or more readings of one hidden state, so they may disagree: relays show the nest, LiveKit
lists the room, and every join answers 404. That is said as it was seen. That a layer was not seen means as long as it
was asked; what was never asked is a gap, and no fact.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from nestobs.join.decision import Kind
from nestobs.observation.columns import dicts_of
from nestobs.observation.detail import facts_of
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, Operation, Outcome, Role, Source
from nestobs.observation.text import shortened
from nestobs.timeline.intervals import MARKS
from nestobs.timeline.intervals.origins import EDIT
from nestobs.timeline.intervals.stamps import stamp_words
from nestobs.timeline.layers import EXPECTED, NOT_SEEN, SHOWN, UNPROVEN, WENT
from nestobs.timeline.requests import CUT_OFF

GAP_S: Final = 300.0
"""A silence longer than this, between two questions about a nest, is told."""

ENOUGH_S: Final = 60.0
"""A layer not seen and not asked beyond this age may have come later."""

MOST_ROOMS: Final = 3
"""So many rooms of one name are told one by one."""

# what they say together


class _Sign(NamedTuple):
    """A fact that may be the sign of a cause. causes: the ids of those whose evidence it would be."""

    said: str
    causes: frozenset[str]


def facts(
    observations: pd.DataFrame,
    layers: pd.DataFrame,
    attempts: pd.DataFrame,
    around: pd.DataFrame,
    *,
    told: Collection[str] = (),
) -> list[str]:
    """Sentences about one nest: who showed it, where layers or vantages disagree, refusals, closings, disturbances.

    around: the rows about no nest at all that were written meanwhile. told: ids of causes that are named elsewhere,
    with their evidence, so that it is not said again. Nothing observed: no sentence.
    """
    signs = (*_disagreements(layers), *_unsteady(layers), *_refusals(observations), *_event(observations))
    return [
        *_imported(observations),
        *_shown(layers),
        *(sign.said for sign in signs if not sign.causes.intersection(told)),
        *_older(layers),
        *stamp_words(observations),
        *_remade(observations),
        *_unbounding(layers),
        *_joined(attempts),
        *_silences(observations),
        *_disturbances(observations, around, layers),
    ]


def _sign(said: str, *causes: str) -> _Sign:
    return _Sign(said, frozenset(causes))


def _imported(observations: pd.DataFrame) -> Iterator[str]:
    """That rows were read from files, and from which: nobody asked then, so nobody could ask more."""
    marked = [text for text in observations["detail"] if isinstance(text, str) and '"imported"' in text]
    told = [facts_of(text).get("imported") for text in marked]
    files = list(dict.fromkeys(_short(one.get("file")) for one in told if isinstance(one, dict)))
    if files:
        shown = ", ".join(files[:5]) + (f" and {len(files) - 5} more" if len(files) > 5 else "")
        yield f"{len(told):,} of {len(observations):,} observations were imported, from {shown}."


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
    return shortened(str(text), limit)


def _disagreements(layers: pd.DataFrame) -> Iterator[_Sign]:
    had = {kind: _of(layers, kind, SHOWN, WENT) for kind in EXPECTED}
    lacked = {kind: _of(layers, kind, NOT_SEEN) for kind in EXPECTED}
    doors = [*lacked["api:join"], *lacked["api:guest"]]
    witnesses = [*had["api:info"], *had["livekit:room"]]
    if doors and witnesses and not had["api:join"] and not had["api:guest"]:
        yield _sign(
            f"{_names(witnesses)} had the nest, and yet every answer of {_names(doors)} was 404, from"
            f" {_clock(min(row['first_at'] for row in doors))} to {_clock(max(row['last_at'] for row in doors))}.",
            "api_join_fault",
            "livekit_behind_api",
            "api_behind_livekit",
        )
    if had["relay"] and doors and not witnesses:
        said = f"Relays showed the event while no other layer showed the nest: {_names(had['relay'])}."
        yield _sign(said, "api_behind_livekit", "room_expired", "deleted")
    if had["relay"] and lacked["relay"]:
        said = f"The relays disagree: {_names(had['relay'])} had the event, {_names(lacked['relay'])} had it not."
        yield _sign(said, "relay_dropped", "relay_delay")
    if had["api:guest"] and lacked["api:join"] and not had["api:join"]:
        said = "Guests were given a token; the signed in were answered 404 every time."
        yield _sign(said, "late_record_made_a_listener")
    if had["livekit:room"] and not had["relay"] and lacked["relay"]:
        yield _sign("LiveKit listed the room, and no relay that was asked had the event.", "relay_dropped")
    if (had["api:guest"] or had["api:join"]) and lacked["livekit:signal"] and not had["livekit:signal"]:
        yield _sign("A token was given, and LiveKit's signalling never took it.", "livekit_unreachable", "bad_token")
    for layer, rows in layers.groupby("layer"):
        states = {str(row["vantage"]): str(row["state"]) for row in dicts_of(rows)}
        if {SHOWN, NOT_SEEN} <= set(states.values()):
            parts = "; ".join(f"{_short(vantage, 24)}: {state}" for vantage, state in sorted(states.items()))
            yield _sign(f"The vantage points disagree about {_short(layer)}: {parts}.")


def _of(layers: pd.DataFrame, kind: str, *states: str) -> list[dict[str, Any]]:
    return dicts_of(layers[layers["state"].isin(states) & layers["layer"].str.startswith(kind)])


def _names(rows: Sequence[dict[str, Any]]) -> str:
    return ", ".join(_short(name) for name in dict.fromkeys(str(row["layer"]) for row in rows))


def _unsteady(layers: pd.DataFrame) -> Iterator[_Sign]:
    for row in dicts_of(layers[layers["flaps"] > 0]):
        yield _sign(
            f"{_short(row['layer'])}, asked from {_short(row['vantage'], 24)}, said absent {row['flaps']} times between"
            " two answers that showed the nest.",
            "replicas_disagree",
        )


def _refusals(observations: pd.DataFrame) -> Iterator[_Sign]:
    words = {
        Failure.UNAUTHORISED: _sign("401, not let in with its sign-in", "auth_rejected", "auth_clock_skew"),
        Failure.FORBIDDEN: _sign("403, forbidden", "forbidden"),
        Failure.RATE_LIMITED: _sign("429, too many requests from this address", "rate_limited"),
        Failure.BUDGET: _sign("not sent, since our own request budget was spent"),
        Failure.CACHED: _sign("answered from a cache, which proves nothing", "negative_cache"),
        Failure.BAD_TOKEN: _sign("answered without a usable token", "bad_token"),
        Failure.WRONG_PATH: _sign("404 of a path that is no nest's: the API's base may be wrong", "wrong_door"),
    }
    counts = observations["failure"].value_counts()
    for failure, (said, causes) in words.items():
        if count := int(counts.get(str(failure), 0)):
            yield _Sign(f"{count} {'request was' if count == 1 else 'requests were'} {said}.", causes)


def _event(observations: pd.DataFrame) -> Iterator[_Sign]:
    stamps, statuses = set[int](), set[str]()
    for facts in _events(observations):
        stamps |= {facts[name] for name in ("created_at", "first_created_at") if type(facts.get(name)) is int}
        statuses |= {str(facts.get("status", ""))}
    if len(stamps) > 1:
        yield _sign(
            f"The event was edited: its created_at moved by {max(stamps) - min(stamps)} s, and a client that counts the"
            " age from it takes the nest for younger than it is."
        )
    if "closed" in statuses:
        yield _sign("The event says that the nest is closed.", "closed_by_host")
    if len(deleted := _deleted(observations)):
        sources = set(deleted["source"])
        who = " and ".join(name for source, name in _DELETERS.items() if source in sources)
        said = f"The nest was deleted at {_clock(int(deleted['sent_at'].min()))}, and {who} accepted that."
        yield _sign(said, "deleted")


_DELETERS: Final = {Source.API: "the API", Source.LIVEKIT: "LiveKit"}


def _older(layers: pd.DataFrame) -> Iterator[str]:
    edits = layers[layers["origin_kind"] == EDIT]
    for row in dicts_of(edits.dropna(subset=["origin_at", "event_at"]).head(1)):
        event = pd.Timestamp(row["event_at"]).value
        yield (
            f"This was an edit of an older room, and no new nest: the nest was made at {_clock(int(row['origin_at']))},"
            f" {_span((event - row['origin_at']) / SECOND_NS)} before the event that was seen first."
        )


def _remade(observations: pd.DataFrame) -> Iterator[str]:
    """Where LiveKit showed another room under the same name: a restart, or a vanished room made again by a join."""
    told = observations[(observations["source"] == Source.LIVEKIT) & (observations["outcome"] == Outcome.VISIBLE)]
    before, last, times = "", 0, 0
    for row in dicts_of(told.sort_values("received_at", kind="stable")):
        facts = facts_of(row["detail"])
        sid = facts.get("sid") or facts.get("room_sid")
        if not isinstance(sid, str):
            continue
        times += bool(before) and sid != before
        if before and sid != before and times <= MOST_ROOMS:
            yield (
                f"LiveKit made the room anew between {_clock(last)} and {_clock(int(row['received_at']))}"
                f" ({_short(before, 24)} became {_short(sid, 24)}): what was seen before and after are two rooms."
            )
        before, last = sid, int(row["sent_at"])
    if times > MOST_ROOMS:
        yield f"It made the room anew {times - MOST_ROOMS} times more."


def _unbounding(layers: pd.DataFrame) -> Iterator[str]:
    """Absents that say nothing of when a layer began to show the nest, and why."""
    wordings = {
        "after_end": "came after the nest had ended, so that it may have come and gone before",
        "livekit_down": "came while LiveKit could not be reached, when the API says 404 whatever there is",
        "held_up": "came while we ourselves were held up",
    }
    for column, words in wordings.items():
        mine = layers[layers[column] > 0]
        if len(mine):
            yield f"Of absents, {int(mine[column].sum())} {words}: they bound nothing ({_names(dicts_of(mine))})."


def _events(observations: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What visible answers of relays said of the event, each different saying once."""
    for detail in dict.fromkeys(_told(observations)["detail"]):
        yield facts_of(detail)


def _told(observations: pd.DataFrame) -> pd.DataFrame:
    """The visible answers of relays; not what its host read back, who may have closed it by then."""
    told = observations["source"].isin([Source.RELAY, Source.CLIENT]) & (observations["outcome"] == Outcome.VISIBLE)
    return observations[told & (observations["operation"] != Operation.READ_BACK)]


def _joined(attempts: pd.DataFrame) -> Iterator[str]:
    if attempts.empty:
        yield "Nobody joined for real."
        return
    ended = attempts[attempts["verdict"] != CUT_OFF]
    kinds = ended["verdict"].value_counts()
    parts = ", ".join(f"{count} {str(kind).replace('_', ' ')}" for kind, count in kinds.items())
    if len(ended):
        yield f"Of {len(ended)} joins that ended {int(ended['joined'].sum())} got in: {parts}."
    known = attempts["lost"].dropna().astype(bool)
    if lost := int(known.sum()):
        yield (
            f"{lost} of the {len(known)} of which it is known {'was' if lost == 1 else 'were'} lost: without a seat"
            " although one could be had while they were there."
        )
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
    asked = tuple(layers["layer"].unique())
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
    yield from (gap for kind, gap in whys.items() if not any(layer.startswith(kind) for layer in asked))
    for row in dicts_of(layers[layers["state"] == UNPROVEN]):
        where = f"{_short(row['layer'])} was asked from {_short(row['vantage'], 24)}"
        yield Gap(f"{where} and proved nothing ({row['answers']}).", "doctor")


def _unjoined(attempts: pd.DataFrame) -> Iterator[Gap]:
    if attempts.empty:
        yield Gap("Nobody joined it for real, so nobody knows what a person would have seen.", "join")
    elif not (attempts["role"] == Role.JOINER).any():
        yield Gap("Only guests joined: whether the signed in can is not known.", "join")
    if (attempts["verdict"] == CUT_OFF).any():
        yield Gap("A join was cut off before it ended.", "join")
    if (attempts["verdict"] == Kind.RATE_LIMITED).any():
        yield Gap("A join was rate limited, which says nothing of the nest: the budget is shown by doctor.", "doctor")


def _too_soon(layers: pd.DataFrame) -> Iterator[Gap]:
    unseen = layers[layers["state"] == NOT_SEEN]
    early = unseen[~(unseen["last_s"] > ENOUGH_S)]
    if len(early):
        yield Gap(
            f"Watching ended too soon to say that it never came: {_names(dicts_of(early))} was last asked at"
            f" {_ages(early)}.",
            "ready",
        )
    elif len(unseen):
        yield Gap(f"{_names(dicts_of(unseen))} had not shown it by {_ages(unseen)}: is it still so?", "ready")


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


# words


def latest_event(observations: pd.DataFrame) -> dict[str, Any]:
    """What the newest answer of a relay that had the event says: status, created_at (s), event_id; {} for none."""
    shown = _told(observations).sort_values("sent_at", kind="stable")
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
