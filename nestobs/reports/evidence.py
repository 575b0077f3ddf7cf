"""What a store knows of one nest, or of the worst nest of a window: all that a page about an incident is made of.

`read` reads only the rows of that nest: those of its address and room, those of the traces they belong to, and those
about no nest at all (a stepped clock) that were written meanwhile. `worst` first ranks the nests of a window by a few
columns, and then reads the first. Several watches of one nest are read as one.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import Final

import pandas as pd

from nestobs.diagnosis import Diagnosis, diagnose
from nestobs.errors import AddressError
from nestobs.figures import plain
from nestobs.nostr import Address
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import Window
from nestobs.reports.dataset import LEAD_S, frame, watched
from nestobs.reports.display import many
from nestobs.store.reader import Store
from nestobs.timeline import layers as answered
from nestobs.timeline import ranking, requests
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins
from nestobs.timeline.nests import address_of, named, nests_of, told_apart

MOST_TRACES: Final = 20
MOST_MATCHES: Final = 5


@dataclass(frozen=True, slots=True)
class Incident:
    """What the page is about. Frames as nestobs.timeline.incident makes them, empty where there is nothing to say.

    address, room: of the nest, "" while unknown. rows: all of the nest; around: about no nest, written meanwhile.
    causes: of the nest, from each vantage. nests: of a window, the worst first; None when one nest was asked for.
    missing: why there is no nest to show.
    short: its name as a title bears it, which may be typed.
    warning: what the reader has to know before. coverage: share of the window in which the collector was at work.
    """

    title: str
    store: str
    window: Window | None
    address: str = ""
    room: str = ""
    short: str = ""
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)
    around: pd.DataFrame = field(default_factory=pd.DataFrame)
    timelines: pd.DataFrame = field(default_factory=pd.DataFrame)
    joins: pd.DataFrame = field(default_factory=pd.DataFrame)
    layers: pd.DataFrame = field(default_factory=pd.DataFrame)
    attempts: pd.DataFrame = field(default_factory=pd.DataFrame)
    asked: pd.DataFrame = field(default_factory=pd.DataFrame)
    causes: tuple[Diagnosis, ...] = ()
    nests: pd.DataFrame | None = None
    missing: tuple[str, ...] = ()
    warning: str = ""
    coverage: float | None = None

    @property
    def name(self) -> str:
        """What to call the nest."""
        return self.room or self.address


def worst(opened: Store, found: Incident) -> Incident:
    """The nests of the window, and the page of the first of them."""
    ranked = ranking.ranking(frame(opened, found.window, columns=ranking.RANKED_BY, categories=True))
    if ranked.empty:
        said = "This window of the store holds" if found.window else "This store holds"
        return replace(found, nests=ranked, missing=(f"{said} no observation of a nest.",))
    first = ranked.iloc[0]
    about = address_of(str(first["nest"])) if first["nest"] else str(first["room"])
    known = read(opened, about, replace(found, window=found.window and watched(found.window))) if about else None
    if known is None:
        missing = ("The worst of them names neither its address nor its room, so there is no page of it.",)
        return replace(found, nests=ranked, missing=missing)
    return replace(known, nests=ranked, window=found.window, short=_short(known, ranked))


def one(opened: Store, nest: str, found: Incident) -> Incident:
    """The page of the nest that is meant, by any of its names or how one begins; or one that says what there is."""
    known = frame(opened, found.window, columns=["nest", "room"], categories=True)
    try:
        page = read(opened, named(nest, known), found)
    except AddressError as error:
        return unknown(opened, found, nest, f"{error}.")
    if page is None:
        return unknown(opened, found, nest, "The store holds no observation of it.")
    return replace(page, short=_short(page, known))


def _short(page: Incident, known: pd.DataFrame) -> str:
    """How its name begins, so far that no other one does."""
    names = {str(name) for name in known["room" if page.room else "nest"].unique()}
    return told_apart(page.name, names)


def read(opened: Store, wanted: Address | str, found: Incident) -> Incident | None:
    """The page of one nest; None where there is no row of it."""
    room, address = (wanted, "") if isinstance(wanted, str) else (wanted.identifier, str(wanted))
    rows = frame(opened, found.window, room=room)
    if address or rows.empty:
        rows = _together(rows, frame(opened, found.window, nest=address or room))
    others = rows.loc[(rows["nest"] != "") & (rows["nest"] != address), "nest"].value_counts()
    if not address and len(others):
        address, others = str(others.index[0]), others.iloc[1:]
    rows = rows[(rows["nest"] == "") | (rows["nest"] == address)]
    if rows.empty:
        return None
    first, last = int(rows["sent_at"].min()), int(rows["sent_at"].max())
    begin, end = first - LEAD_S * SECOND_NS, last + LEAD_S * SECOND_NS
    if found.window:
        begin, end = max(begin, found.window.start), min(end, found.window.end)
    traces = rows.loc[rows["trace_id"] != "", "trace_id"].value_counts().index
    for trace in traces[:MOST_TRACES]:  # its creation, for one, names neither address nor room
        mine = opened.frame(trace_id=str(trace), start=begin, end=end)
        rows = _together(rows, mine[mine["nest"].isin(["", address])])
    around = opened.frame(trace_id="", nest="", room="", start=first, end=last + 1)
    warning = _warning(others, len(traces))
    rooms = rows.loc[rows["room"] != "", "room"]
    about = replace(found, address=address, room=str(rooms.iloc[0]) if len(rooms) else room, warning=warning)
    return _computed(about, rows, around)


def _warning(others: pd.Series, traces: int) -> str:
    said = []
    if len(others):
        who = ", ".join(plain(name, 400) for name in others.index[:3])
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
    together = pd.concat([one, around], ignore_index=True)
    lines = timelines(together)
    made = joins(one, lines)
    return replace(
        found,
        rows=rows,
        around=around,
        timelines=lines,
        joins=made,
        layers=answered.layers(one, lines),
        attempts=requests.attempts(one, made),
        asked=requests.requests(one),
        causes=tuple(diagnose(together)),
    )


def _together(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The rows of both, each once, by the time of sending."""
    both = pd.concat([part for part in (first, second) if len(part)] or [first])
    return both.drop_duplicates("observation_id").sort_values(["sent_at", "observation_id"], ignore_index=True)


def unknown(opened: Store, found: Incident, nest: str, why: str) -> Incident:
    """A page that says that there is no such nest, and what there is."""
    held = frame(opened, found.window, columns=["trace_id", "nest", "room", "sent_at"])
    about = nests_of(held)
    asked = f"{nest if len(nest) <= 80 else nest[:79] + '…'}: {why}"
    if not about.units:
        return replace(found, missing=(asked, "This store holds no observation of a nest."))
    told = held.assign(unit=about.unit, nest=about.texts("nest"), room=about.texts("room"))[about.unit >= 0]
    last = told.groupby("unit")[["nest", "room", "sent_at"]].max().sort_values("sent_at", ascending=False)
    names = [str(name) for name in [*last["room"], *last["nest"]] if name][: 2 * 5_000]
    near = difflib.get_close_matches(nest[:200], [name[:200] for name in names], n=MOST_MATCHES, cutoff=0.6)
    nearest = f"Nearest: {', '.join(dict.fromkeys(near))}." if near else "None has a name like it."
    latest = ", ".join(str(name) for name in (last["room"].where(last["room"] != "", last["nest"]))[:MOST_MATCHES])
    return replace(
        found,
        missing=(
            asked,
            f"The store knows {many(len(last), 'nest')}. {nearest}",
            f"Seen last: {latest}.",
            "A nest may not be there because nobody watched it: see what to ask next.",
        ),
    )
