"""What notebooks/incident.ipynb calls: one nest in, everything that is known about it out; or a window, and its worst.

`load` reads (evidence.py); the rest lays out what was read, one section a cell. What is said is what was seen: layers
that disagree are set side by side. What was not asked becomes a command to ask it, safe to paste (commands.py).
"""

from __future__ import annotations

import html
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from nestobs.diagnosis import Cause
from nestobs.estimate.dependence import lost_share
from nestobs.figures import canvas, plain
from nestobs.figures.requests import request_lanes
from nestobs.figures.text import seconds
from nestobs.figures.timelines import swimlanes
from nestobs.observation.columns import records
from nestobs.observation.detail import finite
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import Window
from nestobs.reports.answer import Answer, Tile, observer_tile
from nestobs.reports.causes import ids, of_one
from nestobs.reports.commands import Commands, commands_for, exporting, reachable
from nestobs.reports.coverage import part_of
from nestobs.reports.display import Folded, Result, Section, Table, Text, judged
from nestobs.reports.evidence import Incident, one, worst
from nestobs.reports.workbench.given import given
from nestobs.reports.workbench.jupyterlab import step
from nestobs.store.reader import Store
from nestobs.timeline import incident, requests, uptime
from nestobs.timeline import layers as answered
from nestobs.timeline.intervals import clock_words, shifts
from nestobs.timeline.omissions import remarks

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_ROWS: Final = 500
"""Raw rows shown; the rest is a command away."""

MOST_NESTS: Final = 25
_NO_NEST: Final = "There is no nest to show, so there is nothing to draw."


@given
def load(store: str, nest: str = "", window: str = "", *, title: str = "") -> Incident:
    """Everything a store knows of a nest, by any name or how one begins; "": of the worst nest of the window.

    window: START/END, a day, or "" for all there is; with a nest, only its rows sent in it are read. A nest that is
    not there, or is not understood, gives a page that says what is. Raises StoreError when there is no store,
    UsageError for a window that is none.
    """
    opened = Store.open(store, create=False)
    wanted = Window.parse(window) if window.strip() else None
    part = None if wanted is None else part_of(opened, wanted)
    step("reading the store")
    found = Incident(title or "Who could join this audio room, when, and why not?", store, wanted, coverage=part)
    return one(opened, nest.strip(), found) if nest.strip() else worst(opened, found)


# sections


def answer(found: Incident) -> Answer:
    """What the page opens with: what was the matter, from the first vantage of those where something was."""
    came = result(found)
    if found.missing:
        return Answer(found.title, found.missing[0], result=came, warning=_warning(found))
    shut = [one for one in found.causes if one.first.cause is not Cause.JOINED] or list(found.causes)
    where = f"From {shut[0].vantage}: " if len(found.causes) > 1 else ""
    which = (
        f"Of {len(found.nests):,} nests this one went worst. "
        if found.nests is not None and len(found.nests) > 1
        else ""
    )
    said = f"{where}{shut[0].line()}" if shut else came.reasons[0]
    said = f"{which}{_not_judged(found, said)}"
    return Answer(found.title, said, _tiles(found), came, _warning(found))


def _not_judged(found: Incident, said: str) -> str:
    """What was the matter; where too much was held up, that it is not judged, and what it would have seemed to be."""
    if not uptime.observer(found.rows).much:
        return said
    why = "too much of this was observed while the machine itself was held up"
    return f"What was the matter is not judged: {why}. Seemingly: {said}"


def _tiles(found: Incident) -> tuple[Tile, ...]:
    over = found.attempts[found.attempts["verdict"] != "cut off"] if len(found.attempts) else found.attempts
    inside = int(over["joined"].astype(bool).sum()) if len(over) else 0
    shown = int((found.layers["state"] == answered.SHOWN).sum())
    places = found.layers["vantage"].nunique()
    times = pd.to_datetime(found.rows["sent_at"], utc=True)
    lasted_s = (times.max() - times.min()).total_seconds()
    return (
        Tile(
            "joins in the room",
            f"{inside} of {len(over)}" if len(over) else "nobody joined",
            "of those that ended; counted",
        ),
        Tile("layers that showed it", f"{shown} of {len(found.layers)}", "each seen from each place; counted"),
        Tile("observed for", seconds(lasted_s), f"{len(found.rows):,} observations from {places} vantage points"),
        observer_tile(uptime.observer(found.rows)),
    )


def _warning(found: Incident) -> str:
    """What its reader has to know before: how the observer was, and what the nest is not."""
    ours = uptime.observer(found.rows).words if len(found.rows) else ""
    return " ".join(filter(None, (ours, html.unescape(found.warning))))


def seen(found: Incident) -> Text:
    """What was observed: `heading` under a title of the page's own."""
    return replace(heading(found), heading="", warning="")


def heading(found: Incident) -> Text:
    """What the page is about, and what came out, in a few sentences."""
    said = list(found.missing)
    if not said:
        when = canvas.window(pd.to_datetime(found.rows["sent_at"], utc=True))
        said = [
            f"Room {found.room or 'unknown'}, address {found.address or 'unknown'}.",
            f"{len(found.rows):,} observations from {found.layers['vantage'].nunique()} vantage points, {when}.",
            *clock_words(found.rows, found.timelines),
        ]
    if found.nests is not None and len(found.nests):
        where = f" from {found.window.words}" if found.window else ""
        said.insert(0, f"{len(found.nests):,} nests were observed{where}. The page below is of the worst of them.")
    return Text(said, heading=found.title, warning=_warning(found))


def causes(found: Incident) -> Section:
    """What was the matter, as each vantage point saw it: the causes, what to do, and the evidence."""
    shown = of_one(found.causes)
    if not shown.parts or not (ours := uptime.observer(found.rows)).much:
        return shown
    words = f"{ours.words} So these causes are what it seemed to be, and none is sure."
    return Section((Text([], warning=words), *shown.parts))


def _utc(instants: pd.Series, form: str = "%m-%d %H:%M:%S") -> pd.Series:
    """Instants, ns UTC, as texts."""
    return pd.to_datetime(instants, utc=True).dt.strftime(form)


def nests(found: Incident) -> Section:
    """With a window: its nests, the worst first, and how to see another one. Else nothing."""
    ranked = found.nests
    if ranked is None or ranked.empty:
        return Section()
    shown = ranked.head(MOST_NESTS)
    frame = pd.DataFrame(
        {
            "": range(1, len(shown) + 1),
            "nest": _called(ranked).head(MOST_NESTS),
            "first seen (UTC)": _utc(shown["first_at"], "%Y-%m-%d %H:%M:%S"),
            "joins": shown["joins"],
            "failed": shown["failed"],
            "cut off": shown["cut_off"],
            "layers never shown": shown["unseen"],
            "last to show it": [
                f"{layer} after {seconds:.1f} s" if layer else "none did"
                for layer, seconds in zip(shown["last_layer"], shown["last_s"], strict=True)
            ],
        }
    )
    more = f" {len(ranked) - MOST_NESTS:,} more are not listed." if len(ranked) > MOST_NESTS else ""
    words = (
        "Worst first: most joins that did not get in, then most layers that never showed it, then the longest wait for"
        " the last one, counted from the first observation. To see another nest, put what stands under nest into nest"
        f" in the first cell, and run again.{more}"
    )
    return Section((Text([words]), Table(frame, style="nestobs-nests")))


def _called(ranked: pd.DataFrame) -> pd.Series:
    """Each nest by its room, or by its address where there is none or another nest has the same."""
    alone = (ranked["room"] != "") & ~ranked["room"].duplicated(keep=False)
    return ranked["room"].where(alone | (ranked["nest"] == ""), ranked["nest"])


def panel(found: Incident) -> Table | Text:
    """What the web client's debug panel would show, and what it leaves out."""
    if found.missing:
        return Text(["There is no nest to show."])
    event = incident.latest_event(found.rows)
    created, age = _stamps(event.get("created_at"), found)
    shown = found.layers.loc[found.layers["state"] == answered.SHOWN, "layer"].astype(str)
    relays = sorted({layer.removeprefix("relay:") for layer in shown if layer.startswith("relay:")})
    who = f"which relays have the event: {', '.join(relays) or 'none that was asked'}"
    asked = found.asked[found.asked["way"] != "LiveKit"]
    statuses = ", ".join(f"{row.step} {_status(row.status)}" for row in records(asked.head(6)))
    rows = [
        ("room id", found.room or "unknown", f"the address: {found.address or 'unknown'}"),
        ("status", str(event.get("status", "")) or "none: no relay had the event", who),
        ("created", created, "the age on one clock, and edits: see the sentences below"),
        ("age", age, f"how it came to be known: {_origin(found)}"),
        ("attempts", statuses or "none", f"each of {len(found.asked)} requests, its duration, wait and reason: below"),
        ("", "", "LiveKit: list of rooms, signalling, media; what other vantage points see at that time"),
    ]
    return Table(pd.DataFrame(rows, columns=["in the panel", "it would show", "it leaves out"]), style="nestobs-words")


def _status(status: Any) -> str:
    return "no answer" if pd.isna(status) else str(int(status))


def _stamps(created: object, found: Incident) -> tuple[str, str]:
    if type(created) is not int or not 0 <= created < 2**33:
        return "nothing: the client counts age 0", "0 s"
    at = pd.Timestamp(created, unit="s", tz="UTC")
    watched = found.rows["sent_at"].to_numpy(np.int64) - shifts(found.rows)
    age_s = (int(watched.max()) - at.value) / SECOND_NS
    return f"{at:%Y-%m-%d %H:%M:%S} UTC", f"{age_s:.0f} s when it was last watched"


def _origin(found: Incident) -> str:
    known = found.timelines["origin_kind"][found.timelines["origin_kind"] != ""]
    words = {
        "create": "from the API's answer that made it",
        "publish": "from the publishing of its event",
        "created_at": "from created_at in its event, whole seconds of the host's clock",
        "room": "from when its room was made, as /info or LiveKit tell it: before its event",
        "edit": "from when its room was made: what was seen first was an edit of an older room",
    }
    return words.get(str(known.iloc[0]), "unknown") if len(known) else "it is not: no event and no creation was seen"


def lanes(found: Incident) -> go.Figure:
    """Every layer and vantage of the nest, and its joins, by age."""
    if found.missing:
        return canvas.nothing("Where did the time go?", _NO_NEST)
    if not found.timelines["origin_at"].notna().any():
        why = (
            "When the nest was made is not known, so its layers have no ages and there is nothing to draw; the table"
            " below has their times."
        )
        return canvas.nothing("Where did the time go?", why)
    last = float(found.layers["last_s"].max())
    return swimlanes(found.timelines, found.joins, title=f"nest {plain(found.short)}", watched_s=last)


def layers(found: Incident) -> Table | Text:
    """What each layer answered to each vantage, in numbers."""
    if found.layers.empty:
        return Text(["No layer of this nest was asked."])
    rows = found.layers
    days = pd.to_datetime(pd.concat([rows["first_at"], rows["last_at"]])).dt.date.nunique()
    form = "%m-%d %H:%M:%S" if days > 1 else "%H:%M:%S"
    frame = pd.DataFrame(
        {
            "layer": rows["layer"],
            "from": rows["vantage"],
            "state": rows["state"],
            "became visible, s": [_interval(row) for row in rows.to_dict("records")],
            "asked from": _utc(rows["first_at"], form),
            "until (UTC)": _utc(rows["last_at"], form),
            "proofs": rows["polls"],
            "answers": rows["answers"],
            "note": [_note(row) for row in rows.to_dict("records")],
        }
    )
    return Table(frame if frame["note"].any() else frame.drop(columns="note"))


def _interval(row: dict[Any, Any]) -> str:
    if row["state"] == answered.UNPROVEN:
        return "nothing proven"
    if pd.isna(row["lower_s"]) or pd.isna(row["upper_s"]):
        return "no origin"
    if row["state"] == answered.NOT_SEEN:
        return f"not by {row['last_s']:.2f}" if pd.notna(row["last_s"]) else "not seen"
    low = "" if row["lower_s"] == float("-inf") else f"{row['lower_s']:.2f}"
    return f"{low} – {row['upper_s']:.2f}"


def _note(row: dict[Any, Any]) -> str:
    said = [f"{row['flaps']} flaps"] if row["flaps"] else []
    said += [f"gone by {row['gone_upper_s']:.1f} s"] if pd.notna(row["gone_upper_s"]) else []
    said += [f"disturbed: {row['marked']}"] if row["marked"] else []
    return ", ".join([*said, *remarks(row)])


def attempts(found: Incident) -> go.Figure | Text:
    """What each join asked, request by request."""
    if found.missing:
        return canvas.nothing("What did each join ask, and what did it get?", _NO_NEST)
    if found.asked.empty:
        return Text(["No request of a join of this nest was recorded, so there is nothing to draw."])
    return request_lanes(found.asked, found.attempts)


def attempt_table(found: Incident) -> Section:
    """How each join ended, and each of its requests."""
    rows = found.attempts
    if rows.empty:
        return Section()
    ended = pd.DataFrame(
        {
            "join": rows["join"],
            "who, from": [f"{'guest' if row.role == 'guest' else 'signed in'}, {row.vantage}" for row in records(rows)],
            "arrived (UTC)": _utc(rows["arrived_at"]),
            "at age, s": [canvas.cell(float(age)) for age in rows["age_s"]],
            "verdict": [str(verdict).replace("_", " ") for verdict in rows["verdict"]],
            "lost": ["not known" if pd.isna(lost) else "lost" if lost else "no" for lost in rows["lost"]],
            "after, s": [canvas.cell(float(each)) for each in rows["elapsed_s"]],
            "requests": rows["asked"],
            "waited, s": [canvas.cell(float(each)) for each in rows["waited_s"]],
            "fell back": ["as guest after 404" if each else "" for each in rows["fell_back"]],
            "policy": rows["policy"],
        }
    )
    return Section((Table(ended), *([_steps(found)] if len(found.asked) else [])))


def _steps(found: Incident) -> Folded:
    shown = found.asked.head(MOST_ROWS)
    frame = pd.DataFrame(
        {
            "join": shown["join"],
            "round": shown["round"],
            "asked": shown["step"],
            "waited before, s": [f"{each:.3f}" for each in shown["waited_s"]],
            "sent after arrival, s": [f"{each:.3f}" for each in shown["from_s"]],
            "answered after, s": [
                "never" if pd.isna(row.to_s) else f"{row.to_s - row.from_s:.3f}" for row in records(shown)
            ],
            "status": [_status(each) for each in shown["status"]],
            "came": shown["answer"],
            "reason": shown["reason"],
        }
    )
    more = f", the first {MOST_ROWS}" if len(found.asked) > MOST_ROWS else ""
    return Folded(f"every request of every join: {len(found.asked):,}{more}", Table(frame))


def messages(found: Incident) -> Table | Text:
    """What each joiner would have been shown: by the two clients of the web at arrival, by ours at the end."""
    if found.attempts.empty:
        return Text(["Nobody joined, so nobody was shown anything."])
    rows = [
        {
            "join": row.join,
            "guide, at arrival": _said(row, row.guide_message, row.guide_true),
            "released, at arrival": _said(row, row.released_message, row.released_true),
            "ours, at the end": _ours(row),
        }
        for row in records(found.attempts)
    ]
    return Table(pd.DataFrame(rows), style="nestobs-words")


def _said(row: Any, message: str, true: Any) -> str:
    return f"{message or _silence(row)}{'' if pd.isna(true) else ' (true)' if true else ' (not true)'}"


def _silence(row: Any) -> str:
    return "unknown: the join was cut off" if row.verdict == "cut off" else "in the room, nothing to say"


def _ours(row: Any) -> str:
    if not row.message:
        return _silence(row) if row.joined or row.verdict == "cut off" else "nothing was recorded"
    return f"{row.message}{' [Retry]' if row.retry else ''}"


def facts(found: Incident) -> Text:
    """Who had the nest and who had not, where they disagree, and what disturbed the watch."""
    if found.missing:
        return Text(["There is no nest to speak of."])
    said = incident.facts(found.rows, found.layers, found.attempts, found.around, told=ids(found.causes))
    return Text([*said, "These are facts beside the causes that are named above: of these none claims one."])


def asking(found: Incident) -> Commands:
    """What to ask next, as commands to copy."""
    if found.missing and found.nests is not None and found.nests.empty:
        gaps = [
            incident.Gap("Nothing was observed. Make some nests and watch them, or watch those of others.", "watch")
        ]
    elif found.missing:
        gaps = [incident.Gap("To know of a nest, join it: put its address for NEST.", "join")]
    else:
        gaps = incident.gaps(found.rows, found.layers, found.attempts)
    together: dict[str, list[str]] = {}
    for gap, command in zip(gaps, commands_for([gap.ask for gap in gaps], found), strict=True):
        together.setdefault(command, []).append(gap.why)
    first = [(said, "")] if (said := reachable(found)) else []
    return Commands([*first, *((" ".join(whys), command) for command, whys in together.items())])


def raw(found: Incident) -> Section:
    """The rows themselves, one click away, and how to have all of them."""
    if found.missing:
        return Section()
    rows = found.rows.head(MOST_ROWS)
    frame = pd.DataFrame(
        {
            "sent (UTC)": _utc(rows["sent_at"], "%m-%d %H:%M:%S.%f").str[:-3],
            "took, s": [
                "" if pd.isna(row.received_at) else f"{(row.received_at - row.sent_at) / SECOND_NS:.3f}"
                for row in records(rows)
            ],
            **{name: rows[name].astype(object).where(rows[name].notna(), "") for name in _RAW},
        }
    )
    more = f", the first {MOST_ROWS} of them" if len(found.rows) > MOST_ROWS else ""
    folded = Folded(f"the raw observations: {len(found.rows):,}{more}", Table(frame))
    return Section((folded, exporting(found)))


_RAW: Final = "vantage role source operation target outcome status failure reason detail".split()  # noqa: SIM905 - shorter so


def result(found: Incident) -> Result:
    """good: every join that ended got in; breached: some did not; too little data: none ended, or the observer was held
    up too often.

    Of the nest, with those lost of those of which it is known; or, with a window and no nest, of all nests of the
    window, of which only a few columns are read.
    """
    if found.nests is not None:
        ended, failed = int(found.nests["joins"].sum()), int(found.nests["failed"].sum())
        cut, observed = int(found.nests["cut_off"].sum()), int(found.nests["observations"].sum())
        many = len(found.nests)
    else:
        known = found.attempts if len(found.attempts) else pd.DataFrame(columns=list(requests.ATTEMPTS))
        over = known[known["verdict"] != "cut off"]
        ended, failed = len(over), int((~over["joined"].astype(bool)).sum())
        cut, observed, many = len(known) - len(over), len(found.rows), int(not found.missing)
    counts = {"observations": observed, "nests": many, "joins": ended}
    cut_words = f" {cut} more were cut off." if cut else ""
    facts: dict[str, float | str | None] = {"failed_joins": None, "cut_off": cut}
    lacks = [*found.missing[:1], f"No join came to a verdict, so nobody knows whether one could.{cut_words}"]
    if ended:
        lacks, facts = [], {"failed_joins": failed, "failed_share": failed / ended, "cut_off": cut}
    if ended and found.nests is None:
        lost = lost_share(found.joins)
        facts |= {"lost": lost.least, "lost_known": lost.n, "lost_share": finite(lost.value)}
    if len(found.rows) and (ours := uptime.observer(found.rows)).much:
        lacks = [ours.words]
    where = "" if found.nests is None else f" of {many:,} nests of the window"
    broken = [f"{failed} of {ended} joins{where} did not get in.{cut_words}"] if failed else []
    kept = [f"Every join{where} got in: {ended} of {ended}.{cut_words}"]
    return Result(*judged(lacks, broken, kept), found.coverage, counts, facts)
