"""What notebooks/incident.ipynb calls: one nest in, everything that is known about it out; or a window, and its worst.

`load` reads only the rows of that nest: those of its address and room, those of the traces they belong to, and those
about no nest at all (a stepped clock) that were written meanwhile. With a window and no nest it first ranks the nests
of the window by a few columns, and then reads the worst. Several watches of one nest are read as one.

What is said is what was seen: layers that disagree are set side by side. What was not asked becomes a command to ask
it, safe to paste.
"""

from __future__ import annotations

import difflib
import html
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from nestobs import figures
from nestobs.errors import AddressError
from nestobs.figures import plain
from nestobs.nostr import Address, write_naddr
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.nest import read_address
from nestobs.observation.schema import Operation, Source
from nestobs.observation.window import Window
from nestobs.reports.coverage import part_of
from nestobs.reports.dataset import FOLLOW_S, LEAD_S
from nestobs.reports.display import Result, Section, Table, Text
from nestobs.store.reader import Store
from nestobs.timeline import incident
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_ROWS: Final = 500
"""Raw rows shown; the rest is a command away."""

MOST_NESTS: Final = 25
MOST_TRACES: Final = 20
MOST_MATCHES: Final = 5
_LONGEST_WORD: Final = 600
"""A word of a command longer than this is not shown: nobody pastes it."""


@dataclass(frozen=True, slots=True, repr=False)
class Commands:
    """What to ask next: each reason above the command that asks it, as text to copy. A command is shown as it is."""

    asked: Sequence[tuple[str, str]]
    heading: str = ""

    def __repr__(self) -> str:
        return f"<{len(self.asked)} commands>"

    def _repr_html_(self) -> str:
        parts = [f"<h3>{plain(self.heading, 120)}</h3>"] if self.heading else []
        for why, command in self.asked:
            parts.append(f"<p>{plain(why, 600)}</p>")
            if command:
                parts.append(f"<pre><code>{html.escape(command)}</code></pre>")
        return "".join(parts)


@dataclass(frozen=True, slots=True, repr=False)
class Folded:
    """A table that is one click away."""

    summary: str
    table: Table

    def __repr__(self) -> str:
        return f"<{self.summary}>"

    def _repr_html_(self) -> str:
        return (
            f'<details class="data"><summary>{plain(self.summary, 200)}</summary>{self.table._repr_html_()}</details>'
        )


@dataclass(frozen=True, slots=True)
class Incident:
    """What the page is about. Frames as nestobs.timeline.incident makes them, empty where there is nothing to say.

    address, room: of the nest, "" while unknown. rows: all of the nest; around: about no nest, written meanwhile.
    nests: of a window, the worst first; None when one nest was asked for. missing: why there is no nest to show.
    warning: what the reader has to know before. coverage: share of the window in which the collector was at work.
    """

    title: str
    store: str
    window: Window | None
    address: str = ""
    room: str = ""
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    around: pd.DataFrame = field(default_factory=pd.DataFrame)
    timelines: pd.DataFrame = field(default_factory=pd.DataFrame)
    joins: pd.DataFrame = field(default_factory=pd.DataFrame)
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    attempts: pd.DataFrame = field(default_factory=pd.DataFrame)
    asked: pd.DataFrame = field(default_factory=pd.DataFrame)
    nests: pd.DataFrame | None = None
    missing: tuple[str, ...] = ()
    warning: str = ""
    coverage: float | None = None

    @property
    def name(self) -> str:
        """What to call the nest."""
        return self.room or self.address


def load(store: str, nest: str = "", window: str = "", *, title: str = "") -> Incident:
    """Everything a store knows of a nest: naddr, `30312:pubkey:d` or room id; "": of the worst nest of the window.

    window: START/END, a day, or "" for all there is; with a nest, only its rows sent in it are read. A nest that is
    not there, or is not understood, gives a page that says what is. Raises StoreError when there is no store,
    UsageError for a window that is none.
    """
    opened = Store.open(store, create=False)
    wanted = Window.parse(window) if window.strip() else None
    title = title or "What happened to this nest?"
    found = Incident(title, store, wanted, coverage=None if wanted is None else part_of(opened, wanted))
    if not nest.strip():
        return _worst(opened, found)
    try:
        address = _address(opened, nest.strip(), wanted)
    except AddressError as error:
        return _unknown(opened, found, nest, f"{error}.")
    read = _read(opened, address, found)
    return read if read is not None else _unknown(opened, found, nest, "The store holds no observation of it.")


# reading


def _worst(opened: Store, found: Incident) -> Incident:
    """The nests of the window, and the page of the first of them."""
    start, end = (found.window.start, found.window.end) if found.window else (None, None)
    ranked = incident.ranking(opened.frame(start=start, end=end, columns=incident.RANKED_BY, categories=True))
    if ranked.empty:
        said = "This window of the store holds" if found.window else "This store holds"
        return replace(found, nests=ranked, missing=(f"{said} no observation of a nest.",))
    first = ranked.iloc[0]
    about = _of(str(first["nest"])) if first["nest"] else str(first["room"])
    around = found.window and Window(found.window.start - LEAD_S * SECOND_NS, found.window.end + FOLLOW_S * SECOND_NS)
    read = _read(opened, about, replace(found, window=around)) if about else None
    if read is None:
        missing = ("The worst of them names neither its address nor its room, so there is no page of it.",)
        return replace(found, nests=ranked, missing=missing)
    return replace(read, nests=ranked, window=found.window)


def _of(text: str) -> Address | str:
    """The address a row names. A row may hold what no address is: then it is looked for as it stands."""
    kind, _, rest = text.partition(":")
    pubkey, _, identifier = rest.partition(":")
    return Address(int(kind), pubkey, identifier) if kind.isdigit() and identifier else text


def _address(opened: Store, nest: str, window: Window | None) -> Address | str:
    """What is meant: a room of that very name, else what `read_address` makes of it."""
    try:
        return read_address(nest)
    except AddressError:
        if len(_frame(opened, window, room=nest, columns=["room"])):  # stored as others wrote it, however strange
            return nest
        raise


def _read(opened: Store, wanted: Address | str, found: Incident) -> Incident | None:
    """The page of one nest; None where there is no row of it."""
    room = wanted if isinstance(wanted, str) else wanted.identifier
    named = "" if isinstance(wanted, str) else str(wanted)
    rows = _frame(opened, found.window, room=room)
    if named or rows.empty:
        rows = _together(rows, _frame(opened, found.window, nest=named or room))
    others = rows.loc[(rows["nest"] != "") & (rows["nest"] != named), "nest"].value_counts()
    if not named and len(others):
        named, others = str(others.index[0]), others.iloc[1:]
    rows = rows[(rows["nest"] == "") | (rows["nest"] == named)]
    if rows.empty:
        return None
    first, last = int(rows["sent_at"].min()), int(rows["sent_at"].max())
    begin, end = first - LEAD_S * SECOND_NS, last + LEAD_S * SECOND_NS
    if found.window:
        begin, end = max(begin, found.window.start), min(end, found.window.end)
    traces = rows.loc[rows["trace_id"] != "", "trace_id"].value_counts().index
    for trace in traces[:MOST_TRACES]:  # its creation, for one, names neither address nor room
        mine = opened.frame(trace_id=str(trace), start=begin, end=end)
        rows = _together(rows, mine[mine["nest"].isin(["", named])])
    around = opened.frame(trace_id="", nest="", room="", start=first, end=last + 1)
    warning = _warning(others, len(traces))
    rooms = rows.loc[rows["room"] != "", "room"]
    about = replace(found, address=named, room=str(rooms.iloc[0]) if len(rooms) else room, warning=warning)
    return _computed(about, rows, around)


def _warning(others: pd.Series, traces: int) -> str:
    said = []
    if len(others):
        who = ", ".join(plain(name, 40) for name in others.index[:3])
        said.append(f"The same room was announced by others too, and they are left out here: {who}.")
    if traces > MOST_TRACES:
        said.append(
            f"It was watched {traces} times over; what was done before it had a name is read of {MOST_TRACES} of them."
        )
    return " ".join(said)


def _computed(found: Incident, rows: pd.DataFrame, around: pd.DataFrame) -> Incident:
    """All that is made of the rows. They are of one nest, whichever watch wrote them: one trace for all."""
    traces = rows.loc[rows["trace_id"] != "", "trace_id"]
    one = rows.assign(trace_id=str(traces.iloc[0]) if len(traces) else "one", nest=found.address, room=found.room)
    for name in ("trace_id", "nest", "room"):
        one[name] = one[name].astype(rows[name].dtype)
    lines = timelines(pd.concat([one, around], ignore_index=True))
    made = joins(one, lines)
    return replace(
        found,
        rows=rows,
        around=around,
        timelines=lines,
        joins=made,
        layers=incident.layers(one, lines),
        attempts=incident.attempts(one, made),
        asked=incident.requests(one),
    )


def _frame(opened: Store, window: Window | None, **wanted: Any) -> pd.DataFrame:
    start, end = (window.start, window.end) if window else (None, None)
    return opened.frame(start=start, end=end, **wanted)


def _together(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The rows of both, each once, by the time of sending."""
    both = pd.concat([part for part in (first, second) if len(part)] or [first])
    both = both.drop_duplicates("observation_id")
    return both.sort_values(["sent_at", "observation_id"], ignore_index=True)


def _unknown(opened: Store, found: Incident, nest: str, why: str) -> Incident:
    """A page that says that there is no such nest, and what there is."""
    held = _frame(opened, found.window, columns=["nest", "room", "sent_at"])
    held = held[(held["nest"] != "") | (held["room"] != "")]
    if held.empty:
        return replace(found, missing=(f"{_shortened(nest)}: {why}", "This store holds no observation of a nest."))
    last = held.groupby(["room", "nest"])["sent_at"].max().sort_values(ascending=False).reset_index()
    names = [str(name) for name in [*last["room"], *last["nest"]] if name][: 2 * 5_000]
    near = difflib.get_close_matches(nest[:200], [name[:200] for name in names], n=MOST_MATCHES, cutoff=0.6)
    nearest = f"Nearest: {', '.join(dict.fromkeys(near))}." if near else "None has a name like it."
    latest = ", ".join(str(name) for name in (last["room"].where(last["room"] != "", last["nest"]))[:MOST_MATCHES])
    return replace(
        found,
        missing=(
            f"{_shortened(nest)}: {why}",
            f"The store knows {len(last):,} {'nest' if len(last) == 1 else 'nests'}. {nearest}",
            f"Seen last: {latest}.",
            "A nest may not be there because nobody watched it: see what to ask next.",
        ),
    )


def _shortened(text: str) -> str:
    """What the operator typed, short."""
    return text if len(text) <= 80 else text[:79] + "…"


def _each(frame: pd.DataFrame) -> list[Any]:
    """The rows, by their columns' names."""
    return list(frame.itertuples())


# sections


def heading(found: Incident) -> Text:
    """What the page is about, and what came out, in a few sentences."""
    said = list(found.missing)
    if not said:
        said = [
            f"Room {found.room or 'unknown'}, address {found.address or 'unknown'}.",
            f"{len(found.rows):,} observations from {found.layers['vantage'].nunique()} vantage points,"
            f" {_times(found)}.",
        ]
    if found.nests is not None and len(found.nests):
        said.insert(0, f"{len(found.nests):,} nests were observed{_in(found)}. The page below is of the worst of them.")
    return Text(said, heading=found.title, warning=html.unescape(found.warning))


def _in(found: Incident) -> str:
    return f" from {found.window.words}" if found.window else ""


def _times(found: Incident) -> str:
    return figures.window(pd.Series(pd.to_datetime(found.rows["sent_at"], utc=True)))


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
            "first seen (UTC)": pd.to_datetime(shown["first_at"], utc=True).dt.strftime("%Y-%m-%d %H:%M:%S"),
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
    return Section(
        (
            Text(
                [
                    "Worst first: most joins that did not get in, then most layers that never showed it, then the"
                    " longest wait for the last one, counted from the first observation. To see another nest, put what"
                    f" stands under nest into nest in the first cell, and run again.{more}"
                ],
                heading="Which nests went badly?",
                level=2,
            ),
            Table(frame, style="nestobs-nests"),
        )
    )


def _called(ranked: pd.DataFrame) -> pd.Series:
    """Each nest by its room, or by its address where there is none or another nest has the same."""
    alone = (ranked["room"] != "") & ~ranked["room"].duplicated(keep=False)
    return ranked["room"].where(alone | (ranked["nest"] == ""), ranked["nest"])


def panel(found: Incident) -> Table | Text:
    """What the web client's debug panel would show, and what it leaves out."""
    if found.missing:
        return Text(["There is no nest to show."])
    event = incident.latest_event(found.rows)
    created = event.get("created_at")
    stamps = _stamps(created, found)
    relays = sorted(
        {str(row["layer"]).removeprefix("relay:") for row in found.layers.to_dict("records")
         if str(row["layer"]).startswith("relay:") and row["state"] == incident.SHOWN}
    )  # fmt: skip
    asked = found.asked[found.asked["way"] != "LiveKit"]
    statuses = ", ".join(f"{row.step} {_status(row.status)}" for row in _each(asked.head(6)))
    rows = [
        ("room id", found.room or "unknown", f"the address: {found.address or 'unknown'}"),
        ("status", str(event.get("status", "")) or "none: no relay had the event", _who(relays)),
        ("created", stamps[0], "the age on one clock, and edits: see the sentences below"),
        ("age", stamps[1], f"how it came to be known: {_origin(found)}"),
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
    age_s = (int(found.rows["sent_at"].max()) - at.value) / SECOND_NS
    return f"{at:%Y-%m-%d %H:%M:%S} UTC", f"{age_s:.0f} s when it was last watched"


def _who(relays: Sequence[str]) -> str:
    return (
        f"which relays have the event: {', '.join(relays)}"
        if relays
        else "which relays have the event: none that was asked"
    )


def _origin(found: Incident) -> str:
    known = found.timelines["origin_kind"][found.timelines["origin_kind"] != ""]
    words = {
        "create": "from the API's answer that made it",
        "publish": "from the publishing of its event",
        "created_at": "from created_at in its event, whole seconds of the host's clock",
    }
    return words.get(str(known.iloc[0]), "unknown") if len(known) else "it is not: no event and no creation was seen"


def lanes(found: Incident) -> go.Figure:
    """Every layer and vantage of the nest, and its joins, by age."""
    lines, made = found.timelines, found.joins
    if found.missing or not lines["origin_at"].notna().any():
        lines, made = lines.head(0), made.head(0)
    if lines.empty:
        why = (
            "There is no nest to show, so there is nothing to draw."
            if found.missing
            else "When the nest was made is not known, so its layers have no ages and there is nothing to draw; the"
            " table below has their times."
        )
        return figures.nothing("Where did the time go?", why)
    last = found.layers["last_s"].max()
    return figures.swimlanes(lines, made, title=f"nest {plain(found.name, 10)}", watched_s=float(last))


def layers(found: Incident) -> Table | Text:
    """What each layer answered to each vantage, in numbers."""
    if found.missing or found.layers.empty:
        return Text(["No layer of this nest was asked."])
    rows = found.layers
    days = pd.to_datetime(pd.concat([rows["first_at"], rows["last_at"]])).dt.date.nunique()
    frame = pd.DataFrame(
        {
            "layer": rows["layer"],
            "from": rows["vantage"],
            "state": rows["state"],
            "became visible, s": [_interval(row) for row in rows.to_dict("records")],
            "asked from": [_time(at, day=days > 1) for at in rows["first_at"]],
            "until (UTC)": [_time(at, day=days > 1) for at in rows["last_at"]],
            "proofs": rows["polls"],
            "answers": rows["answers"],
            "note": [_note(row) for row in rows.to_dict("records")],
        }
    )
    return Table(frame if frame["note"].any() else frame.drop(columns="note"))


def _interval(row: dict[Any, Any]) -> str:
    if row["state"] == incident.UNPROVEN:
        return "nothing proven"
    if pd.isna(row["lower_s"]) or pd.isna(row["upper_s"]):
        return "no origin"
    if row["state"] == incident.NOT_SEEN:
        return f"not by {row['last_s']:.2f}" if pd.notna(row["last_s"]) else "not seen"
    low = "" if row["lower_s"] == float("-inf") else f"{row['lower_s']:.2f}"
    return f"{low} – {row['upper_s']:.2f}"


def _note(row: dict[Any, Any]) -> str:
    said = [f"{row['flaps']} flaps"] if row["flaps"] else []
    said += [f"gone by {row['gone_upper_s']:.1f} s"] if pd.notna(row["gone_upper_s"]) else []
    said += [f"disturbed: {row['marked']}"] if row["marked"] else []
    return ", ".join(said)


def _time(at: Any, *, day: bool = True) -> str:
    return f"{pd.Timestamp(at, tz='UTC'):{'%m-%d ' if day else ''}%H:%M:%S}"


def attempts(found: Incident) -> go.Figure | Text:
    """What each join asked, request by request."""
    if not found.missing and found.asked.empty:
        return Text(["No request of a join of this nest was recorded, so there is nothing to draw."])
    if found.missing:
        return figures.nothing(
            "What did each join ask, and what did it get?", "There is no nest to show, so there is nothing to draw."
        )
    return figures.request_lanes(found.asked, found.attempts)


def attempt_table(found: Incident) -> Section:
    """How each join ended, and each of its requests."""
    if found.missing or found.attempts.empty:
        return Section()
    rows = found.attempts
    ended = pd.DataFrame(
        {
            "join": rows["join"],
            "who, from": [f"{_role(row.role)}, {row.vantage}" for row in _each(rows)],
            "arrived (UTC)": [_time(at) for at in rows["arrived_at"]],
            "at age, s": [figures.cell(float(age)) for age in rows["age_s"]],
            "verdict": [str(verdict).replace("_", " ") for verdict in rows["verdict"]],
            "after, s": [figures.cell(float(each)) for each in rows["elapsed_s"]],
            "requests": rows["asked"],
            "waited, s": [figures.cell(float(each)) for each in rows["waited_s"]],
            "fell back": ["as guest after 404" if each else "" for each in rows["fell_back"]],
            "policy": rows["policy"],
        }
    )
    return Section((Table(ended), *_steps(found)))


def _role(role: object) -> str:
    return "guest" if role == "guest" else "signed in"


def _steps(found: Incident) -> tuple[Folded, ...]:
    shown = found.asked.head(MOST_ROWS)
    if shown.empty:
        return ()
    frame = pd.DataFrame(
        {
            "join": shown["join"],
            "round": shown["round"],
            "asked": shown["step"],
            "waited before, s": [f"{each:.3f}" for each in shown["waited_s"]],
            "sent after arrival, s": [f"{each:.3f}" for each in shown["from_s"]],
            "answered after, s": [
                "never" if pd.isna(row.to_s) else f"{row.to_s - row.from_s:.3f}" for row in _each(shown)
            ],
            "status": [_status(each) for each in shown["status"]],
            "came": shown["answer"],
            "reason": shown["reason"],
        }
    )
    more = f", the first {MOST_ROWS}" if len(found.asked) > MOST_ROWS else ""
    return (Folded(f"every request of every join: {len(found.asked):,}{more}", Table(frame)),)


def messages(found: Incident) -> Table | Text:
    """What each joiner would have been shown: by the two clients of the web at arrival, by ours at the end."""
    if found.missing or found.attempts.empty:
        return Text(["Nobody joined, so nobody was shown anything."])
    rows = found.attempts
    truth = {True: " (true)", False: " (not true)", None: ""}
    said = {
        name: [
            f"{getattr(row, f'{name}_message') or _silence(row)}{truth[_flag(getattr(row, f'{name}_true'))]}"
            for row in _each(rows)
        ]
        for name in ("guide", "released")
    }
    frame = pd.DataFrame(
        {
            "join": rows["join"],
            "guide, at arrival": said["guide"],
            "released, at arrival": said["released"],
            "ours, at the end": [_ours(row) for row in _each(rows)],
        }
    )
    return Table(frame, style="nestobs-words")


def _flag(value: Any) -> bool | None:
    return None if pd.isna(value) else bool(value)


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
    said = incident.facts(found.rows, found.layers, found.attempts, found.around)
    return Text(
        [
            *said,
            "These are facts, and no cause is claimed: the same facts can have several.",
        ]
    )


def asking(found: Incident) -> Commands:
    """What to ask next, as commands to copy."""
    if found.missing and found.nests is not None and found.nests.empty:
        return Commands([("Nothing was observed. Make some nests and watch them, or watch those of others.",
                          _command(["watch", "--for", "1h"], found, {}))])  # fmt: skip
    targets = _targets(found.rows) if not found.missing else {}
    address = _typed(found)
    gaps = (
        incident.gaps(found.rows, found.layers, found.attempts)
        if not found.missing
        else [incident.Gap("To know of a nest, join it: put its address for NEST.", "join")]
    )
    together: dict[str, list[str]] = {}
    for gap in gaps:
        together.setdefault(_asks(gap.ask, address, found, targets), []).append(gap.why)
    return Commands([(" ".join(whys), command) for command, whys in together.items()])


_WORDS: Final = {
    "join": ("join",),
    "elsewhere": ("join",),
    "guest": ("join", "--guest"),
    "ready": ("ready",),
    "doctor": ("doctor",),
    "canary": ("canary", "--count", "1"),
    "watch": ("watch", "--for", "1h"),
    "webhooks": ("watch", "--for", "1h", "--webhook-port", "7890"),
}
_OF_THE_NEST: Final = ("join", "guest", "ready", "elsewhere")


def _asks(ask: str, address: str, found: Incident, targets: dict[str, list[str]]) -> str:
    """The command that asks it; "" where there is none, or where the nest has no name that can be typed."""
    if ask not in _WORDS or (ask in _OF_THE_NEST and not address):
        return ""
    last = _last(address) if ask in _OF_THE_NEST else []
    if ask == "elsewhere":
        return f"{_command(_WORDS[ask], None, targets, last=last)}  # on another machine, into its own store"
    return _command(_WORDS[ask], found, targets, last=last)


def _last(address: str) -> list[str]:
    """The address as the last words of a command: a room may be called as an option is."""
    return ["--", address] if address.startswith("-") else [address]


def _command(
    words: Sequence[str], found: Incident | None, targets: dict[str, list[str]], *, last: Sequence[str] = ()
) -> str:
    """A command line in which whatever others wrote is one word of plain ASCII. found: None to name no store."""
    parts = ["nestobs", *words]
    for name, urls in targets.items():
        for url in urls:
            parts += [f"--{name}", url]
    parts += ["--store", found.store] if found is not None else []
    return shlex.join([*parts, *last])


def _targets(rows: pd.DataFrame) -> dict[str, list[str]]:
    """The API asked most, every relay, the LiveKit asked most; only what can be typed."""
    found: dict[str, list[str]] = {}
    for name, source in (("api", Source.API), ("relay", Source.RELAY), ("livekit", Source.LIVEKIT)):
        mine = rows[(rows["source"] == source) & (rows["operation"] != Operation.CONNECT)]
        urls = [str(url) for url in mine["target"].value_counts().index if _typable(str(url))]
        found[name] = urls if name == "relay" else urls[:1]
    return found


def _typable(text: str) -> bool:
    """Whether it is one word of printable ASCII, short enough to paste."""
    return 0 < len(text) <= _LONGEST_WORD and text.isascii() and text.isprintable() and " " not in text


def _typed(found: Incident) -> str:
    """How a person names this nest to a command: the naddr, which is plain letters whatever the room is called."""
    if found.missing:
        return "NEST"
    address = _of(found.address)
    if isinstance(address, Address):
        try:
            typed = write_naddr(address)
        except AddressError:
            typed = found.address
    else:
        typed = found.room
    return typed if _typable(typed) else ""


def raw(found: Incident) -> Section:
    """The rows themselves, one click away, and how to have all of them."""
    if found.missing:
        return Section()
    rows = found.rows.head(MOST_ROWS)
    frame = pd.DataFrame(
        {
            "sent (UTC)": [f"{pd.Timestamp(at, tz='UTC'):%m-%d %H:%M:%S.%f}"[:-3] for at in rows["sent_at"]],
            "took, s": [_took(row) for row in _each(rows)],
            **{name: rows[name].astype(object).where(rows[name].notna(), "") for name in _RAW},
        }
    )
    more = f", the first {MOST_ROWS} of them" if len(found.rows) > MOST_ROWS else ""
    folded = Folded(f"the raw observations: {len(found.rows):,}{more}", Table(frame))
    address = _typed(found)
    commands = [["nestobs", "export", "--parquet", "observations.parquet", "--store", found.store]]
    commands += [["nestobs", "timeline", "--store", found.store, *_last(address)]] if address else []
    why = "All rows, and those of other nests, as a file; and the intervals of this nest in a terminal:"
    return Section((folded, Commands([(why, "\n".join(shlex.join(words) for words in commands))])))


_RAW: Final = (
    "vantage", "role", "source", "operation", "target", "outcome", "status", "failure", "reason", "detail",
)  # fmt: skip


def _took(row: Any) -> str:
    return "" if pd.isna(row.received_at) else f"{(row.received_at - row.sent_at) / SECOND_NS:.3f}"


def result(found: Incident) -> Result:
    """good: every join that ended got in; breached: some did not; too little data: none ended.

    Of the nest, or, with a window and no nest, of all nests of the window.
    """
    if found.nests is not None:
        ended, failed = int(found.nests["joins"].sum()), int(found.nests["failed"].sum())
        cut, observed = int(found.nests["cut_off"].sum()), int(found.nests["observations"].sum())
        many = len(found.nests)
    else:
        known = found.attempts if len(found.attempts) else pd.DataFrame(columns=list(incident.ATTEMPTS))
        over = known[known["verdict"] != "cut off"]
        ended, failed = len(over), int((~over["joined"].astype(bool)).sum())
        cut, observed, many = len(known) - len(over), len(found.rows), int(not found.missing)
    counts = {"observations": observed, "nests": many, "joins": ended}
    part = found.coverage
    cut_words = f" {cut} more were cut off." if cut else ""
    if not ended:
        reasons = [*found.missing[:1], f"No join came to a verdict, so nobody knows whether one could.{cut_words}"]
        return Result("too little data", reasons, part, counts, {"failed_joins": None, "cut_off": cut})
    facts = {"failed_joins": failed, "failed_share": failed / ended, "cut_off": cut}
    if failed:
        return Result("breached", [f"{failed} of {ended} joins did not get in.{cut_words}"], part, counts, facts)
    return Result("good", [f"Every join got in: {ended} of {ended}.{cut_words}"], part, counts, facts)


__all__ = [
    "Commands", "Folded", "Incident", "asking", "attempt_table", "attempts", "facts", "heading", "lanes", "layers",
    "load", "messages", "nests", "panel", "raw", "result",
]  # fmt: skip
