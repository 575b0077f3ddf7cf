"""What notebooks/joins.ipynb calls: who got in, how far the others got, what fallback and retry were worth.

`load` reads and computes; everything after it lays out what came of it, one section a cell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from nestobs.estimate.comparison import Span
from nestobs.estimate.dependence import join_blocks, lost_share, share_of
from nestobs.estimate.npmle import npmle
from nestobs.estimate.proportion import Share
from nestobs.figures import amount, host, percent, plain, span
from nestobs.figures import funnel as joining
from nestobs.figures import messages as statements
from nestobs.figures.proportions import share_lanes
from nestobs.observation.detail import finite
from nestobs.observation.schema import Role
from nestobs.reports.answer import Answer, tiles
from nestobs.reports.causes import Failed, of_failed
from nestobs.reports.commands import pages_of
from nestobs.reports.coverage import steps
from nestobs.reports.dataset import Observed, earlier, read
from nestobs.reports.display import Result, Section, Table, Text, drawn, many, numbers
from nestobs.reports.workbench.given import given
from nestobs.store.reader import Store
from nestobs.timeline import funnel as worth
from nestobs.timeline.joins import KINDS, judged, open_intents
from nestobs.timeline.uptime import observer

if TYPE_CHECKING:
    import plotly.graph_objects as go

LEAST_JOINS: Final = 10
"""With fewer joins the report says "too little data"."""

MOST_ROWS: Final = 16
MOST_GROUPS: Final = 4
"""Policies, or vantages, shown apart; of more the most frequent."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the page is about. journeys: as timeline.funnel gives them; answers: what came of their requests; cut_off:
    joins that were begun and came to no verdict; failed: those that ended outside the room, and why; before: the time
    before, None where there is none."""

    title: str
    observed: Observed
    journeys: pd.DataFrame
    answers: pd.DataFrame
    cut_off: int
    failed: Failed
    store: str
    before: Span | None = None

    @property
    def when(self) -> str:
        """The window in words."""
        return self.observed.when

    @property
    def judged(self) -> pd.DataFrame:
        """See timeline.joins.judged."""
        return judged(self.journeys)

    @property
    def lost(self) -> Share:
        """Of the joins of which it is known whether they were lost, those that were."""
        return lost_share(self.journeys)


@given
def load(store: str, window: str = "", title: str = "", before: int = 0) -> Found:
    """Read a store and compute all that is shown. window: START/END, a day, a window's name, "" for all there is.
    before: so many windows of that length before it are set beside.

    Raises StoreError when there is no store, UsageError for a window that is none.
    """
    observed = read(store, window)
    table = worth.journeys(observed.around, observed.joins)
    return Found(
        title=title or "Who can join an audio room, how, and why not?",
        observed=observed,
        journeys=table,
        answers=worth.answers(observed.around, table),
        cut_off=open_intents(observed.rows),
        failed=of_failed(Store.open(store, create=False), observed.joins, observed.window),
        store=store,
        before=earlier(store, observed, before),
    )


def answer(found: Found, most_lost: float = 1.0, least_joins: int = LEAST_JOINS) -> Answer:
    """What the page opens with; most_lost, least_joins as in `result`."""
    came = result(found, most_lost, least_joins)
    table, one = found.journeys, found.lost
    if found.observed.rows.empty:
        return Answer(found.title, "This store holds no observation, so there is nothing to report.", result=came)
    shown, warning = tiles(found.observed.span, found.before, most_lost=most_lost), observer(found.observed.rows).words
    if table.empty:
        return Answer(found.title, "Nobody joined.", shown, came, warning)
    count, inside = len(found.judged), int(found.judged["joined"].sum())
    lost = f"{one.least:,} of the {one.n:,} of which it is known lost a seat that could be had" if one.n else ""
    said = f"{inside:,} of {many(count, 'join')} got in; {lost or 'of none is it known whether it was lost'}."
    return Answer(found.title, said, shown, came, warning, ruled=most_lost < 1)


def seen(found: Found) -> Text:
    """What was measured: `heading` under a title of the page's own."""
    return replace(heading(found), heading="", warning="")


def heading(found: Found) -> Text:
    """What was measured, in sentences."""
    seen, table = found.observed, found.journeys
    if table.empty:
        said = [f"Nobody joined: {many(seen.nests, 'nest')}, {many(len(seen.rows), 'observation')}. {found.when}"]
    else:
        policies = ", ".join(plain(name, 24) for name in _frequent(table["policy"]))
        about = (
            f"{many(len(table), 'join')} of {many(seen.nests, 'nest')} from"
            f" {many(table['vantage'].nunique(), 'vantage point')} under {policies}. {found.when}"
        )
        said = [about, f"How they ended: {ended(table['verdict'])}.", _lost_words(found)]
    if found.cut_off:
        said.append(f"{many(found.cut_off, 'join')} more came to no verdict: cut off by a crash.")
    return seen.heading(found.title, said)


def ended(verdicts: pd.Series) -> str:
    """How often joins ended in each way, in the order of the ways."""
    counts = verdicts.value_counts()
    return ", ".join(f"{counts[kind]} {kind.replace('_', ' ')}" for kind in KINDS if kind in counts.index)


def _lost_words(found: Found) -> str:
    fates = pd.Series(worth.fates(found.journeys)).value_counts()
    own = int(found.journeys["own_fault"].sum())
    rest = f" {fates.get('not_had', 0)} more had no seat, and there was none to be had while they were there."
    if unclear := int(fates.get("unclear", 0)):
        ours = f", {own} of them ended by a fault of our own (a spent budget, a visit not made)" if own else ""
        rest += f" Of {unclear} it cannot be known{ours}."
    one = found.lost
    if not one.n:
        return f"Of no join is it known whether it was lost.{rest}"
    return f"Lost, without a seat although one could be had while they were there: {_said(one)}.{rest}"


def _said(one: Share) -> str:
    lower, upper = one.score()
    return (
        f"{one.least} of the {one.n} joins of which it is known, {percent(one.value)}"
        f" ({percent(lower)} to {percent(upper)})"
    )


def _frequent(names: pd.Series) -> list[str]:
    """The most frequent, at most MOST_GROUPS."""
    return [str(name) for name in names.value_counts().index[:MOST_GROUPS]]


# sections


def over_time(found: Found) -> Section:
    """When they came."""
    collector = found.observed.collector
    bins = worth.by_time(found.journeys, steps(collector))
    return Section((drawn(joining.over_time(bins, collector, when=found.when)),))


def funnel(found: Found) -> Section:
    """How far they got, by policy, and by vantage where there are several."""
    ways = ["policy"] + (["vantage"] if found.judged["vantage"].nunique() > 1 else [])
    return Section(tuple(_funnel(found, by) for by in ways))


def _funnel(found: Found, by: str) -> go.Figure | Text:
    table, lanes = found.judged, {}
    names = _frequent(table[by])
    for name in names:
        mine = table[table[by] == name]
        end = f"<br>{plain(name, 14)}" if len(names) > 1 else ""
        for stage, word in (("token", "got a token"), ("signalled", "signalled"), ("joined", "in the room")):
            lanes[f"{word}{end}"] = _share(mine[stage], mine)
        tried = mine[mine["media_tried"].to_numpy(dtype=bool)]
        if len(tried):
            lanes[f"media, of {len(tried)}{end}"] = _share(tried["media"], tried)
    more = table[by].nunique() - len(names)
    left_out = f" {more} more not shown." if more else ""
    note = f"n = {len(table)} joins that arrived.{left_out} Line: 95 %. {found.when}"
    return drawn(share_lanes(f"How far do joins get, by {by}?", note, lanes, of="joins", sure="got so far"))


def verdicts(found: Found) -> Section:
    """How they ended, by vantage."""
    return Section((drawn(statements.verdicts(found.journeys.assign(scenario=found.journeys["vantage"]))),))


def causes(found: Found) -> Section:
    """Why joins failed: how often each cause, and of which nests, from where."""
    failed = found.failed
    pages = pages_of(failed.worst(), found.store) if len(failed.joins) else ()
    return Section((*failed.table().parts, *failed.by_nest().parts, *pages))


def saved(found: Found) -> Section:
    """What fallback and retry were worth."""
    inside = found.judged[found.judged["joined"].to_numpy(dtype=bool)]
    fallback, retry = (inside[name].to_numpy(dtype=bool) for name in ("by_fallback", "by_retry"))
    signed_in = inside["role"].eq(str(Role.JOINER)).to_numpy(dtype=bool)
    first = inside["first_round"].to_numpy(dtype=object)
    n = len(inside)
    lanes = {
        "by either": _share(fallback | retry, inside),
        "by fallback,<br>of signed in": _share(fallback[signed_in], inside[signed_in]),
        "by retry": _share(retry, inside),
        "after a 404": _share(retry & (first == "404"), inside),
        "after an error": _share(retry & (first == "error"), inside),
        "after LiveKit<br>refused": _share(retry & (first == "LiveKit"), inside),
    }
    lanes |= _by_vantage(inside)
    note = (
        f"n = {n} joins that got in, {int(signed_in.sum())} of them signed in; {int((fallback & retry).sum())} by"
        f" fallback and retry both. Line: 95 %. {found.when}"
    )
    question = "Which joins got in only by fallback or retry?"
    figure = share_lanes(question, note, lanes, of="joins that got in", sure="saved")
    return Section((drawn(figure), _saved_table(found)))


def _by_vantage(inside: pd.DataFrame) -> dict[str, Share]:
    names = _frequent(inside["vantage"])
    if len(names) < 2:
        return {}
    either = inside["by_fallback"].to_numpy(dtype=bool) | inside["by_retry"].to_numpy(dtype=bool)
    places = {name: inside["vantage"].eq(name).to_numpy(dtype=bool) for name in sorted(names)}
    return {f"by either,<br>{plain(name, 14)}": _share(either[at], inside[at]) for name, at in places.items()}


def _saved_table(found: Found) -> Table | Text:
    """By policy and vantage: saved, lost, and the rest."""
    rows = []
    for (policy, vantage), mine in found.judged.groupby(["policy", "vantage"]):
        joined, lost = int(mine["joined"].sum()), mine["lost"].dropna().astype(bool)
        kept = mine[mine["joined"].to_numpy(dtype=bool)]
        rows.append(
            {
                "policy": policy,
                "vantage": vantage,
                "joins": f"{len(mine):,}",
                "in the room": f"{joined:,}",
                "by fallback": _cell(_share(kept["by_fallback"], kept)),
                "by retry": _cell(_share(kept["by_retry"], kept)),
                "lost": _cell(_share(lost, mine[mine["lost"].notna()])),
                "of so many known": f"{len(lost):,}",
            }
        )
    return numbers(rows) if rows else Text(["Nobody joined."])


def _share(hit: ArrayLike, joins: pd.DataFrame) -> Share:
    """The share of these joins, those of one nest or hour as what they are: not independent."""
    return share_of(np.asarray(hit, dtype=bool), join_blocks(joins))


def _cell(one: Share) -> str:
    lower, upper = one.by_chance()
    return f"{one.least} ({percent(lower)} to {percent(upper)})" if one.n else "none to count"


def answers(found: Found) -> Section:
    """What their requests were answered."""
    figure = drawn(joining.answers(found.answers, when=found.when))
    if found.answers.empty:
        return Section((figure,))
    names = ["operation", "target"] + (["vantage"] if found.answers["vantage"].nunique() > 1 else [])
    wide = found.answers.pivot_table(index=names, columns="answer", values="n", aggfunc="sum", fill_value=0, sort=False)
    kinds = [name for name in worth.ANSWERS if name in wide.columns]
    failed = wide[[name for name in kinds if name != "granted"]].sum(axis=1)
    shown = wide.loc[failed.sort_values(ascending=False, kind="stable").index[:MOST_ROWS], kinds]
    shown = shown.reset_index().rename_axis(columns=None)
    shown["target"] = shown["target"].map(host)
    more = len(wide) - len(shown)
    rest = (Text([f"{more} more, of which less failed, are in the figure's data."]),) if more else ()
    return Section((figure, Table(shown.rename(columns={"operation": "asked for", "target": "at"})), *rest))


def time_spent(found: Found) -> Section:
    """Where the time from arrival to the room went."""
    inside = found.journeys[found.journeys["total_s"].notna().to_numpy(dtype=bool)]
    sums = inside.groupby("vantage")[list(worth.PARTS)].mean()
    parts = sums.assign(n=inside.groupby("vantage").size()).reset_index()
    figure = joining.time_spent(parts, when=found.when)
    rows = [
        {
            "vantage": vantage,
            "part": word,
            "median, s (95 %)": _quantile(mine[name], 0.5),
            "90 %, s (95 %)": _quantile(mine[name], 0.9),
            "n": f"{len(mine):,}",
        }
        for vantage, mine in inside.groupby("vantage")
        for name, word in zip(
            (*worth.PARTS, "total_s"), ("waiting", "requests", "signalling", "media", "all"), strict=True
        )
    ]
    tables = (numbers(rows),) if rows else ()
    return Section((drawn(figure), *tables))


def _quantile(values: pd.Series, p: float) -> str:
    """A quantile of exact durations, with its interval."""
    law = npmle(values, values)
    low, high = law.quantile_bounds(p)
    return f"{amount(float(law.quantile(p)))} ({span(max(low, 0.0), high)})"


def words_of(made: pd.DataFrame, baseline: str) -> pd.Series:
    """What a baseline client would have said to each joiner."""
    said = made[f"{baseline}_message"]
    return said.where(said != "", "(in the room, nothing to say)")


def told(found: Found) -> Section:
    """What today's message would have said, by vantage, and how much of it was untrue."""
    made = found.journeys
    figure = statements.message_lanes(made.assign(scenario=made["vantage"]))
    rows = []
    for baseline in ("guide", "released"):
        for words, mine in made.groupby(words_of(made, baseline)):
            judged = mine[f"{baseline}_true"].dropna().astype(bool)
            false = _share(~judged, mine.loc[judged.index])
            rows.append(
                {
                    "client": baseline,
                    "it would have said": words,
                    "joiners": f"{len(mine):,}",
                    "untrue (95 %)": _cell(false),
                    "cannot be told": f"{len(mine) - len(judged):,}",
                }
            )
    tables = (Table(pd.DataFrame(rows), style="nestobs-words"),) if rows else ()
    return Section((drawn(figure), *tables))


def result(found: Found, most_lost: float = 1.0, least_joins: int = LEAST_JOINS) -> Result:
    """How it came out. most_lost: breached when the share of joins lost, of those of which it is known, is proven
    greater (the lower end of its 95 % interval); 1: no such limit. least_joins: fewer of which it is known are too
    little data."""
    one = found.lost
    facts = {
        "lost_share": finite(one.value),
        "joined": float(found.judged["joined"].sum()),
        "lost": float(one.least),
        "lost_known": float(one.n),
        "saved_by_fallback": float(found.judged["by_fallback"].sum()),
        "saved_by_retry": float(found.judged["by_retry"].sum()),
        "median_to_room_s": finite(float(found.journeys["total_s"].astype(float).median())),
    }
    lacks, broken = [], []
    if one.n < least_joins:
        lacks = [f"Of {many(one.n, 'join')} it is known whether lost; from {least_joins} on this says something."]
    if one.score().lower > most_lost:
        broken = [f"Lost: {_said(one)}; at most {percent(most_lost)} is asked for."]
    limit = f" That is not proven to be more than {percent(most_lost)}." if most_lost < 1 else ""
    return found.observed.result(lacks, broken, [f"Lost: {_said(one)}.{limit}"], facts)
