"""Which reports are old enough to go. The newest that was made of a report never goes, nor does the newest good one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nestobs.observation.duration import SECOND_NS
from nestobs.reports.publishing import index
from nestobs.reports.publishing.archive import Archive, Entry, writing


@dataclass(frozen=True, slots=True)
class Gone:
    """A report that goes, and how much room it takes. what: the report, with a failed run beside it if there is one;
    or that failed run alone."""

    entry: Entry
    what: Literal["report", "failed run"]
    bytes: int

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        entry = self.entry
        return {
            "report": entry.name,
            "window": entry.window.name,
            "verdict": entry.verdict if self.what == "report" else "failed",
            "bytes": self.bytes,
        }


def going(archive: Archive, *, now: int, keep_s: int, keep_failed_s: int) -> list[Gone]:
    """What goes when reports are kept `keep_s` after the end of their windows, failed ones `keep_failed_s`."""
    entries = archive.entries()
    kept = {id(entry) for entry in _newest(entries)}
    found = []
    for entry in entries:
        age_s = (now - entry.window.end) / SECOND_NS
        if id(entry) not in kept and age_s > (keep_s if entry.made else keep_failed_s):
            found.append(Gone(entry, "report", archive.size(entry.name, entry.window)))
        elif entry.failed is not None and age_s > keep_failed_s:
            found.append(Gone(entry, "failed run", archive.size(entry.name, entry.window, only_failed=True)))
    return found


def remove(archive: Archive, chosen: Sequence[Gone]) -> list[Gone]:
    """Remove them, but not what is being made anew right now; what went. Raises StoreError when it cannot."""
    gone = []
    with writing(archive.root):
        for each in chosen:
            with archive.holding(each.entry.name, each.entry.window) as mine:
                if mine and archive.entry(each.entry.name, each.entry.window) == each.entry:
                    archive.remove(each.entry.name, each.entry.window, only_failed=each.what == "failed run")
                    gone.append(each)
        index.refresh(archive)
    return gone


def _newest(entries: Sequence[Entry]) -> Iterator[Entry]:
    for name in {entry.name for entry in entries}:
        made = [entry for entry in entries if entry.name == name and entry.made]
        yield from made[-1:]
        yield from [entry for entry in made if entry.verdict == "good"][-1:]
