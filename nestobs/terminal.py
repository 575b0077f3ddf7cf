"""What the terminal shows: progress while something runs, and tables. Text of others is escaped."""

from __future__ import annotations

import unicodedata
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def plain(text: str, most: int = 60) -> str:
    """Text that cannot harm a terminal: no control, format (right-to-left marks) or private characters, cut."""
    kept = "".join(c if unicodedata.category(c)[0] != "C" else "�" for c in text[: most * 2])
    return escape(kept if len(kept) <= most else kept[: most - 1] + "…")


class Teller:
    """Progress on stderr: one live line where it is a terminal, sparse plain lines elsewhere, nothing when quiet."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(stderr=True, quiet=quiet, highlight=False)
        self._counts: dict[str, int] = {}
        self._verdicts: dict[str, int] = {}

    def tell(self, what: str, facts: dict[str, Any]) -> None:
        """Take one piece of news: a sentence (`said`), or something to count."""
        if "said" in facts:
            self._console.print(plain(str(facts["said"]), 400))
            return
        self._counts[what] = self._counts.get(what, 0) + 1
        if what == "verdict":
            kind = str(facts.get("kind", ""))
            self._verdicts[kind] = self._verdicts.get(kind, 0) + 1
        line = self._line()
        if self._console.is_terminal:
            self._console.print(line, end="\r", overflow="crop", no_wrap=True)
        elif sum(self._counts.values()) % 50 == 0:
            self._console.print(line)

    def _line(self) -> str:
        counts = " ".join(f"{name} {n}" for name, n in self._counts.items() if name != "verdict")
        verdicts = ", ".join(f"{kind} {n}" for kind, n in sorted(self._verdicts.items()))
        return f"{counts}" + (f" · joins: {verdicts}" if verdicts else "")


def timeline_table(frame: pd.DataFrame) -> None:
    """Print timelines: a block a nest, a line a layer and vantage, the interval in seconds since the origin."""
    console = Console(highlight=False)
    if frame.empty:
        console.print("no timelines: the store holds no observation of a nest")
        return
    for room, rows in frame.groupby("room", sort=False):
        table = Table(title=plain(str(room)), title_justify="left")
        for name in ("layer", "vantage", "visible within (s]", "polls", "unknown", "flaps", "note"):
            table.add_column(name)
        for row in rows.sort_values(["layer", "vantage"]).to_dict("records"):
            table.add_row(
                plain(row["layer"]),
                plain(row["vantage"], 24),
                _interval(row),
                str(row["polls"]),
                str(row["unknown"]),
                str(row["flaps"]),
                _note(row),
            )
        console.print(table)


def _interval(row: dict[Any, Any]) -> str:
    if not row["polls"]:
        return "asked, nothing proven"
    if row["right_censored"]:
        return f"({row['lower_s']:.2f}, not seen by then"
    return f"({row['lower_s']:.2f}, {row['upper_s']:.2f}]"


def _note(row: dict[Any, Any]) -> str:
    notes = [str(row["marked"])] if row["marked"] else []
    if row["gone_upper_s"] == row["gone_upper_s"]:
        notes.append(f"gone by {row['gone_upper_s']:.1f} s")
    return ", ".join(notes)
