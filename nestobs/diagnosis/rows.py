"""Observations as they count for a diagnosis: the rows of each nest in order of time, on one clock as far as known.

Rows about no nest (a stepped clock, a machine that slept) are kept by vantage. Instants are less the vantage's known
offset, so that rows of two vantages can be set side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd

from nestobs.observation.columns import instants_of, reals_of
from nestobs.observation.detail import facts_of
from nestobs.observation.schema import Failure, Operation, Outcome, Source
from nestobs.timeline.intervals import Elsewhere, shifts, timelines
from nestobs.timeline.intervals.polls import held_up
from nestobs.timeline.nests import nests_of

_TEXTS: Final = (
    "observation_id", "run_id", "vantage", "role", "source", "target", "operation", "attempt_group", "outcome",
    "failure", "failure_layer", "reason",
)  # fmt: skip  # a list of words


@dataclass(slots=True, eq=False)
class Row:
    """One row. sent, received: ns on the common clock; received is `sent` where no answer came. failure: "" for none.
    held: we ourselves were held up while it ran. own_sent: `sent` on the vantage's own clock. facts: of its detail."""

    id: str
    run: str
    vantage: str
    role: str
    source: str
    target: str
    operation: str
    group: str
    outcome: str
    failure: str
    layer: str
    reason: str
    sent: int
    received: int
    answered: bool
    status: int | None
    remote_at: int | None
    timeout_s: float | None
    held: bool
    lag_s: float
    own_sent: int
    facts: dict[str, Any] = field(repr=False)

    def text(self, name: str) -> str:
        """A fact that is a text, "" where it is none."""
        found = self.facts.get(name)
        return found if isinstance(found, str) else ""

    @property
    def visible(self) -> bool:
        """It proves that the nest was there."""
        return self.outcome == Outcome.VISIBLE and self.answered

    @property
    def absent(self) -> bool:
        """It proves that the nest was not there, when it was answered, however late we took notice of it."""
        return self.outcome == Outcome.ABSENT and self.answered

    @property
    def proof(self) -> bool:
        """One of the two."""
        return self.visible or self.absent


@dataclass(frozen=True)
class Nest:
    """All that is known of one nest. rows: by `received`. origin: when it was made, ns, None where unknown; origin_kind
    as in timeline/intervals/origins.py. room_at: when its room was made, as the API or LiveKit tell. around: of the
    vantages that watched it, what befell them meanwhile."""

    address: str
    room: str
    rows: tuple[Row, ...]
    origin: int | None
    origin_kind: str
    room_at: int | None
    event_at: int | None
    around: tuple[Row, ...]

    @property
    def made_at(self) -> int | None:
        """When it was made, by who knows best: its host's own PUT, else its room; None where only its event tells."""
        if self.origin_kind in ("create", "publish"):
            return self.origin
        return self.room_at

    @cached_property
    def events(self) -> list[Row]:
        """What shows a version of its event; not what its host read back, who may have closed it by then."""
        reads = (Operation.QUERY, Operation.SUBSCRIBE, Operation.LOAD)
        shown = [row for row in self.rows if row.outcome == Outcome.VISIBLE and row.operation in reads]
        return [row for row in shown if row.source in (Source.RELAY, Source.CLIENT)]

    @cached_property
    def deletions(self) -> list[Row]:
        """Deletions that were accepted, by whomever."""
        return [row for row in self.rows if row.operation == Operation.DELETE and row.outcome == Outcome.ACCEPTED]

    @cached_property
    def hooks(self) -> list[Row]:
        """LiveKit's webhooks that count."""
        return [row for row in self.rows if row.source == Source.WEBHOOK and row.outcome == Outcome.ACCEPTED]

    @cached_property
    def withdrawals(self) -> list[Row]:
        """What says that its author withdrew it."""
        return [row for row in self.rows if row.source == Source.RELAY and row.facts.get("withdrawn") is True]

    def named(self) -> Iterator[tuple[Row, str]]:
        """The names that the API gives the nest, each once, with the row that has it first: a roomId, or an naddr."""
        seen = set()
        for row in self.rows:
            if row.source == Source.API and row.outcome in (Outcome.VISIBLE, Outcome.ACCEPTED):
                told = row.facts.get("info")
                name = told.get("link") if isinstance(told, dict) else row.facts.get("room")
                if isinstance(name, str) and name not in seen:
                    seen.add(name)
                    yield row, name


def nests(observations: pd.DataFrame, elsewhere: Elsewhere | None = None) -> Iterator[Nest]:
    """Each nest of these observations, in the order of their names. elsewhere: what rows of other nests tell, as
    `timelines` takes it. No row of a nest: none."""
    if observations.empty:
        return
    about = nests_of(observations)
    rows = _rows(observations, elsewhere)
    order = np.lexsort((np.array([row.received for row in rows], dtype=np.int64), about.unit))
    unit = about.unit[order]
    begins = np.flatnonzero(np.diff(unit, prepend=unit[0] - 1))
    nest, room = about.texts("nest"), about.texts("room")
    known = _origins(observations, elsewhere)
    loose = [rows[at] for at in order[unit < 0] if rows[at].failure in _BEFELL]
    for start, end in zip(begins, [*begins[1:], len(unit)], strict=True):
        if unit[start] < 0:
            continue
        mine = order[start:end]
        intent = str(Failure.INTENT)
        found = tuple(rows[at] for at in mine if rows[at].failure != intent)
        if not found:
            continue
        address = next((str(nest[at]) for at in mine if nest[at]), "")
        called = next((str(room[at]) for at in mine if room[at]), "")
        first, last = min(row.sent for row in found), found[-1].received
        vantages = {row.vantage for row in found}
        near = tuple(r for r in loose if r.vantage in vantages and r.received >= first and r.sent <= last)
        yield Nest(address, called, found, *known.get(address or called, _UNKNOWN), near)


_BEFELL: Final = frozenset(map(str, (Failure.CLOCK_STEP, Failure.SUSPENDED, Failure.LOOP_BLOCKED, Failure.NO_NETWORK)))
_UNKNOWN: Final = (None, "", None, None)


def _rows(observations: pd.DataFrame, elsewhere: Elsewhere | None) -> list[Row]:
    texts = [_text(observations[name]) for name in _TEXTS]
    sent, _ = instants_of(observations["sent_at"])
    received, answered = instants_of(observations["received_at"])
    remote, stamped = instants_of(pd.to_numeric(observations["remote_at"], errors="coerce").astype("Int64"))
    ends_only = observations["detail"].astype("str").str.contains('"begun_within_s"', regex=False).to_numpy(bool)
    sent = np.where(ends_only & answered, received, sent)  # an imported line: a request is short, its bound is not
    offsets = shifts(observations, elsewhere)
    status = observations["status"].astype("object").tolist()
    timeouts = reals_of(observations["timeout_s"]).tolist()
    columns: list[list[Any]] = [
        *texts,
        (sent - offsets).tolist(),
        (np.where(answered, received, sent) - offsets).tolist(),
        answered.tolist(),
        [None if pd.isna(code) else int(code) for code in status],
        [stamp if has else None for stamp, has in zip(remote.tolist(), stamped.tolist(), strict=True)],
        [None if math.isnan(timeout) else timeout for timeout in timeouts],
        held_up(observations).tolist(),
        np.nan_to_num(reals_of(observations["loop_lag_s"])).tolist(),
        sent.tolist(),
        _facts(observations["detail"]),
    ]
    return list(map(Row, *columns))


def _facts(details: pd.Series) -> list[dict[str, Any]]:
    """Of each detail its facts; equal ones are read once."""
    code, texts = pd.factorize(details.astype("object"))
    read = [*map(facts_of, texts), {}]
    return [read[at] for at in code.tolist()]


def _text(values: pd.Series) -> list[str]:
    return [str(value) for value in values.astype("object").where(values.notna(), "").tolist()]


def _origins(
    observations: pd.DataFrame, elsewhere: Elsewhere | None
) -> dict[str, tuple[int | None, str, int | None, int | None]]:
    """Of each nest when it was made, how that is known, when its room was, and its event; the first watch counts."""
    lines = timelines(observations, elsewhere=elsewhere)
    found: dict[str, tuple[int | None, str, int | None, int | None]] = {}
    lines = lines.sort_values("origin_at", kind="stable", na_position="last").drop_duplicates(["nest", "room"])
    for nest, room, *instants, kind in zip(
        *(lines[name] for name in ("nest", "room", "origin_at", "room_at", "event_at", "origin_kind")), strict=True
    ):
        origin, made, event = (None if pd.isna(each) else int(each.value) for each in instants)
        found.setdefault(str(nest) or str(room), (origin, str(kind), made, event))
    return found


def of(rows: Sequence[Row], source: Source, *operations: Operation) -> list[Row]:
    """Those of a source, and of these operations where any is given."""
    return [row for row in rows if row.source == source and (not operations or row.operation in operations)]
