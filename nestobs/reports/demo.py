"""What notebooks/demo.ipynb calls: a store (and a lab's truth, if there is one) in, tables and figures out.

`load` reads; everything after it lays out what it read. A lab's truth is used to name scenarios and relays and to judge
the intervals, never to make them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from nestobs.estimate.comparison import Span
from nestobs.figures import canvas, host, layer_order, percent, plain, proportions
from nestobs.figures import messages as statements
from nestobs.figures import timelines as lanes
from nestobs.observation.duration import SECOND_NS
from nestobs.reports.answer import Answer, Tile, tiles
from nestobs.reports.coverage import at_work
from nestobs.reports.dataset import whole_span
from nestobs.reports.display import Section, Table, Text, many, nothing_there, numbers
from nestobs.reports.joins import ended, words_of
from nestobs.reports.lab_files import description
from nestobs.reports.lab_files.proof import Proved, read_proof
from nestobs.reports.workbench.given import given
from nestobs.store.reader import Store
from nestobs.timeline import calibration as calibrate
from nestobs.timeline.intervals import timelines
from nestobs.timeline.joins import joins, open_intents
from nestobs.timeline.nests import count_nests, told_apart
from nestobs.timeline.uptime import observer

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_SWIMLANES: Final = 8
_STAND_IN: Final = (
    "LiveKit was a stand-in here: it lists rooms and speaks the signalling handshake, but carries no media. What is"
    " said of livekit:media in this report is not about a real LiveKit server."
)


@dataclass(frozen=True, slots=True)
class Story:
    """What the report is about. Frames have a column `scenario` beside their own; timelines name relays by the lab.

    sent_at: of each observation. watched_s: by trace, the age at which watching ended. note: sentences
    about the observer and LiveKit, to be shown first. span: all of it. proof: None where none is given.
    """

    title: str
    sent_at: pd.Series
    timelines: pd.DataFrame
    joins: pd.DataFrame
    coverage: pd.DataFrame | None
    cut_off: int
    watched_s: Mapping[str, float]
    livekit: str
    note: str
    span: Span
    proof: Proved | None = None


@given
def load(
    store: str, *, truth: str = "", lab: str = "", title: str = "", livekit_note: str = "", proof: str = ""
) -> Story:
    """Read a store, and a lab's truth.jsonl and lab.json and a proof.json where there are any ("" for none).

    Raises StoreError when there is no store, UsageError when one of these cannot be read as what it should be.
    """
    opened = Store.open(store, create=False)
    observed = opened.frame()
    rows, facts = description.truth(truth), description.lab_facts(lab)
    names = {url: name for scenario in facts["scenarios"] for url, name in scenario.items()}
    layers = {f"relay:{url}": f"relay:{name}" for url, name in names.items()}
    lines = timelines(observed)
    made = joins(observed, lines)
    scenarios = {row["room"]: row["scenario"] for row in rows} or _hosts(observed)
    kind = _livekit(observed, facts["livekit"])
    return Story(
        title=title or "When somebody opens an audio room, who can join it, when, and why not?",
        sent_at=pd.to_datetime(observed["sent_at"], utc=True),
        timelines=lines.assign(
            scenario=_scenario(lines, scenarios), layer=[layers.get(layer, layer) for layer in lines["layer"]]
        ),
        joins=made.assign(scenario=_scenario(made, scenarios)),
        coverage=calibrate.coverage(lines, rows, names) if rows else None,
        cut_off=open_intents(observed),
        watched_s=_watched(observed, lines),
        livekit=kind,
        span=whole_span(at_work(opened, None, observed), observed, lines, made),
        proof=read_proof(proof) if proof else None,
        note=" ".join(filter(None, (observer(observed).words, _STAND_IN if "stand-in" in kind else "", livekit_note))),
    )


def _hosts(observed: pd.DataFrame) -> dict[str, str]:
    """Room -> the API's host, for stores that no lab made."""
    api = observed[(observed["source"] == "api") & (observed["room"] != "")].drop_duplicates("room")
    return {str(room): host(str(url)) for room, url in zip(api["room"], api["target"], strict=True)}


def _scenario(frame: pd.DataFrame, scenarios: Mapping[str, str]) -> list[str]:
    return [scenarios.get(str(room), "unknown") for room in frame["room"]]


def _livekit(observed: pd.DataFrame, facts: Mapping[str, Any]) -> str:
    """Kind and version in words: as the lab says, else as the servers called themselves."""
    if facts:
        kind = str(facts.get("kind", ""))
        return f"{kind} {facts.get('version', '')}".strip()
    told = observed.loc[(observed["source"] == "livekit") & (observed["software"] != ""), "software"]
    return ", ".join(sorted(set(told))) or "not observed, or it did not say"


def _watched(observed: pd.DataFrame, lines: pd.DataFrame) -> dict[str, float]:
    last = observed[observed["trace_id"] != ""].groupby("trace_id")["sent_at"].max()
    origin = lines.dropna(subset=["origin_at"]).groupby("trace_id")["origin_at"].first()
    return {str(t): (int(last[t]) - origin[t].value) / SECOND_NS for t in origin.index if t in last.index}


# tables


def answer(found: Story) -> Answer:
    """What the page opens with: whether the change helped, where it was proven, else what was seen; and tiles."""
    if found.sent_at.empty:
        return Answer(found.title, "This store holds no observation, so there is nothing to report.")
    said = found.proof.answer[0] if found.proof is not None and found.proof.answer else _seen(found)
    *shown, covered = tiles(found.span)
    judged = covered if found.coverage is None else _true(found.coverage)
    return Answer(found.title, said, (*shown, judged), warning=found.note)


def _true(coverage: pd.DataFrame) -> Tile:
    """How many intervals contain what the lab knows."""
    came, name = calibrate.summary(coverage), "intervals with the truth"
    held, judged = int(came["contain_truth"]), int(came["n"])
    if not judged:
        return Tile(name, "not known", "none could be judged by the lab's truth", sign="open", judged="too little data")
    shown = Tile(name, percent(held / judged), f"{held:,} of {judged:,} measured intervals; counted")
    if held == judged:
        return replace(shown, sign="good", judged="every one")
    return replace(shown, sign="breached", judged=f"{judged - held:,} miss it: see the end of the page")


def seen(found: Story) -> Text:
    """What came out: `heading` under a title of the page's own."""
    return replace(heading(found), heading="", warning="")


def _seen(found: Story) -> str:
    span, places = found.sent_at.max() - found.sent_at.min(), found.timelines["vantage"].nunique()
    return (
        f"{many(count_nests(found.timelines), 'nest')} watched from {many(places, 'vantage point')} for"
        f" {span.total_seconds():.0f} s; {many(len(found.joins), 'join')} came to a verdict,"
        f" {int(found.joins['joined'].sum()):,} of them in the room."
    )


def heading(found: Story) -> Text:
    """The title and what came out, in a few sentences."""
    if found.sent_at.empty:
        return nothing_there(found.title)
    said = [_seen(found)]
    if len(found.joins):
        said.append(f"How the joins ended: {ended(found.joins['verdict'])}.")
    said += _untrue(found)
    if found.coverage is not None:
        said.append(_calibrated(found.coverage))
    return Text(said, heading=found.title, warning=found.note)


def _untrue(found: Story) -> list[str]:
    said = []
    for baseline, words in (("guide", "as its guide describes it"), ("released", "as released")):
        judged = found.joins[f"{baseline}_true"].dropna()
        if len(judged):
            false, unknown = int((~judged.astype(bool)).sum()), len(found.joins) - len(judged)
            rest = f" ({unknown} more cannot be judged)" if unknown else ""
            said.append(
                f"The web client {words} would have told {false} of {len(judged)} joiners something untrue{rest}."
            )
    return said


def _calibrated(coverage: pd.DataFrame) -> str:
    came = calibrate.summary(coverage)
    if not came["n"]:
        return "No interval could be judged by the lab's truth."
    width = "" if came["median_width_s"] is None else f", at a median width of {came['median_width_s']:.2f} s"
    return f"Calibration: {came['contain_truth']} of {came['n']} intervals contain the lab's truth{width}."


def measured(found: Story) -> Table:
    """What was measured, as a table of facts."""
    lines = found.timelines
    relays = sorted({layer.removeprefix("relay:") for layer in lines["layer"] if layer.startswith("relay:")})
    facts = {
        "Window": canvas.window(found.sent_at),
        "Vantage points": ", ".join(sorted(set(lines["vantage"]))) or "none",
        "Relays": ", ".join(relays) or "none",
        "LiveKit": found.livekit,
        "Scenarios": ", ".join(sorted(set(lines["scenario"]))) or "none",
        "Nests": str(count_nests(found.timelines)),
        "Observations": f"{len(found.sent_at):,}",
        "Intervals": f"{len(lines)}, of which {int(lines['right_censored'].sum())} not seen by the end of watching",
        "Joins": f"{len(found.joins)}" + (f", and {found.cut_off} cut off by a crash" if found.cut_off else ""),
        "Clocks": _clocks(lines),
    }
    return Table(pd.DataFrame({"what": facts.keys(), "found": facts.values()}), header=False)


def _clocks(lines: pd.DataFrame) -> str:
    error = lines["origin_error_s"].max()
    marked = int((lines["marked"] != "").sum())
    widened = "no bound needed widening" if not error > 0 else f"bounds widened by up to {error:.3f} s"
    return f"{widened}; {marked} intervals overlap a disturbance of the observer"


def by_scenario(found: Story) -> Table | Section:
    """Between which two ages, in seconds, half of the nests became visible, by layer and scenario; nothing for none."""
    lines = found.timelines[found.timelines["polls"] > 0]
    counts = lines.groupby(["scenario", "layer"]).size()
    most = {str(scenario): int(counts[scenario].max()) for scenario in sorted(set(lines["scenario"]))}
    rows = []
    for layer in layer_order(lines["layer"]):
        row = {"half visible after, s": layer.removeprefix("relay:")}
        for scenario, usual in most.items():
            mine = lines[(lines["layer"] == layer) & (lines["scenario"] == scenario)]
            row[f"{scenario} (n = {usual})"] = _median(mine, usual)
        rows.append(row)
    return numbers(rows) if rows else Section()


def _median(rows: pd.DataFrame, usual: int) -> str:
    """The bounds of the median: the middle of the lower and of the upper ends, whatever lies inside the intervals."""
    if rows.empty:
        return "not asked"
    middle = (len(rows) - 1) // 2
    lower, upper = (float(np.sort(rows[name].to_numpy(dtype=float))[middle]) for name in ("lower_s", "upper_s"))
    count = "" if len(rows) == usual else f" (n = {len(rows)})"
    if math.isnan(lower) or math.isnan(upper):
        return f"no origin{count}"
    if math.isinf(upper):
        return f"not by {lower:.1f}{count}"
    return f"{'' if math.isinf(lower) else f'{lower:.2f}'} – {upper:.2f}{count}"


def not_covered(found: Story) -> Table | Text:
    """The intervals that miss the truth or could not be judged, by layer and cause."""
    if found.coverage is None:
        return Text(["There is no truth to compare with: these nests were not made in a lab that wrote it down."])
    causes = found.coverage[found.coverage["cause"] != ""]
    if causes.empty:
        return Text(["No interval misses the truth, and every one could be judged."])
    counts = {"intervals": ("room", "size"), "at most by, s": ("miss_by_s", "max")}
    counted = causes.groupby(["layer", "cause"]).agg(**counts).reset_index()
    counted["at most by, s"] = [f"{by:.3f}" if math.isfinite(by) else "" for by in counted["at most by, s"]]
    return Table(counted)


# figures


def chosen(found: Story) -> list[str]:
    """One nest per scenario, by trace: the one whose layers came furthest apart; of equals the one joined most.

    At most `MOST_SWIMLANES`, in the order of the scenarios' names. Rows kept by address alone are not chosen.
    """
    lines = found.timelines[(found.timelines["trace_id"] != "") & (found.timelines["polls"] > 0)]
    joined = found.joins["trace_id"].value_counts()
    best: dict[str, tuple[tuple[float, float, int], str]] = {}
    for (scenario, trace), rows in lines.groupby(["scenario", "trace_id"]):
        first, last = float(rows["upper_s"].min()), float(rows["upper_s"].max())
        rank = (last - first if math.isfinite(first) else 0.0, float(len(rows)), int(joined.get(trace, 0)))
        if str(scenario) not in best or rank > best[str(scenario)][0]:
            best[str(scenario)] = (rank, str(trace))
    return [best[scenario][1] for scenario in sorted(best)][:MOST_SWIMLANES]


def swimlanes(found: Story) -> Section | Text:
    """The chosen nests, each on its lanes."""
    lanes = tuple(_swimlane(found, trace) for trace in chosen(found))
    return Section(lanes) if lanes else Text(["No nest was watched on any layer."])


def _swimlane(found: Story, trace: str) -> go.Figure:
    lines = found.timelines[found.timelines["trace_id"] == trace]
    room = plain(told_apart(str(lines["room"].iloc[0]), set(found.timelines["room"]))) or "unnamed"
    return lanes.swimlanes(
        lines,
        found.joins[found.joins["trace_id"] == trace],
        title=f"{plain(lines['scenario'].iloc[0], 24)}, nest {room}",
        watched_s=found.watched_s.get(trace),
    )


def first_visible(found: Story) -> go.Figure:
    """When each layer shows a nest, over all nests."""
    return lanes.first_visible(found.timelines)


def messages(found: Story) -> go.Figure:
    """What the two clients would have said, and whether it was true."""
    return statements.message_lanes(found.joins)


def verdicts(found: Story) -> go.Figure:
    """How the joins ended."""
    return statements.verdicts(found.joins)


def untrue(found: Story) -> Table | Text:
    """What was said and was not true, or cannot be told, counted by scenario and client."""
    if found.joins.empty:
        return Text(["Nobody joined, so nobody was told anything."])
    return Table(pd.concat([_told(found.joins, baseline) for baseline in ("guide", "released")]), style="nestobs-words")


def _told(made: pd.DataFrame, baseline: str) -> pd.DataFrame:
    said = words_of(made, baseline)
    truth = made[f"{baseline}_true"].map({True: "true", False: "false"}).astype(object).fillna("cannot tell")
    counts = pd.crosstab(said, truth).reindex(columns=["true", "false", "cannot tell"], fill_value=0)
    table = counts.rename_axis(columns=None).reset_index(names="it would have said")
    table.insert(0, "client", baseline)
    return table


def coverage(found: Story) -> go.Figure | Section:
    """Do the intervals contain the truth, where there is one?"""
    return Section() if found.coverage is None else proportions.coverage(found.coverage)
