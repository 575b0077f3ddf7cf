"""What a report's sections show, as one text; and stores made by hand around them."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nestobs.observation.detail import detail
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Source
from nestobs.reports.display import Section, Table, Text
from nestobs.store.reader import Store
from worlds.full_nests import NOON, SECOND_NS

HOUR_S = 3_600


def text(*shown: Any) -> str:
    """Words of texts, tables, results, and of figures their titles, alt texts and data."""
    return " ".join(" ".join(html.unescape(re.sub(r"<[^>]*>", " ", one)) for one in _texts(each)) for each in shown)


def figures(*shown: Any) -> list[Any]:
    """The figures among them."""
    return [one for each in shown for one in _parts(each) if hasattr(one, "layout")]


def _parts(shown: Any) -> Iterable[Any]:
    """What is shown, its sections taken apart."""
    if isinstance(shown, Section):
        return [inner for part in shown.parts for inner in _parts(part)]
    return [shown]


def _texts(shown: Any) -> Iterable[str]:
    for part in _parts(shown):
        if hasattr(part, "layout"):
            meta = part.layout.meta
            yield " ".join([part.layout.title.text, meta["alt"], *(cell for row in meta["rows"] for cell in row)])
        elif hasattr(part, "_repr_html_"):
            yield part._repr_html_()
        else:
            yield part._repr_mimebundle_()["text/html"]


def said(*shown: Any) -> str:
    """What a reader sees of their texts and tables alone."""
    parts = [part for each in shown for part in _parts(each) if isinstance(part, Table | Text)]
    return " ".join(text(*parts).split())


def page(found: Any, sections: Iterable[Callable[[Any], Any]]) -> str:
    """The words of all sections of a report."""
    return " ".join(text(section(found)).strip() for section in sections)


def whole(found: Any, sections: Iterable[Callable[[Any], Any]], *, count: int) -> None:
    """All sections of a report have so many figures, each with something drawn and the table of it."""
    made = [figure for section in sections for figure in figures(section(found))]
    assert len(made) == count
    assert all(figure.data and figure.layout.meta["rows"] for figure in made)


def beats(*spans: tuple[float, float], vantage: str = "Computer A", run: str = "run") -> list[Observation]:
    """Heartbeats of each span of seconds after noon, one a minute."""
    made = []
    for begin, end in spans:
        at = begin
        while at < end:
            upto = min(at + 60.0, end)
            made.append(of_clock(at, upto, Operation.HEALTH, vantage=vantage, run_id=f"{run}-{begin}"))
            at = upto
    return made


def stepped(at_s: float, size_s: float, failure: Failure = Failure.CLOCK_STEP) -> Observation:
    """A clock that was stepped, or a machine that slept."""
    words = {"failure": failure, "failure_layer": FailureLayer.PROBER, "reason": "it was", "run_id": "run"}
    words |= {"outcome": Outcome.PROBE_ERROR, "detail": detail(size_s=size_s)}
    return of_clock(at_s, at_s, Operation.STEP, vantage="Computer A", **words)


def of_clock(sent_s: float, received_s: float, operation: Operation, **more: Any) -> Observation:
    usual: dict[str, Any] = {
        "observation_id": f"clock-{operation}-{more.get('vantage')}-{sent_s}",
        "source": Source.CLOCK,
        "target": "clock:",
        "operation": operation,
        "outcome": Outcome.ACCEPTED,
        "sent_at": NOON + round(sent_s * SECOND_NS),
        "received_at": NOON + round(received_s * SECOND_NS),
    }
    return Observation(**usual | more)


def store(directory: Path, rows: Iterable[Observation]) -> str:
    """The folder of a store with these rows."""
    opened = Store.open(directory)
    with opened.writer() as writer:
        writer.append(list(rows))
    return str(directory)
