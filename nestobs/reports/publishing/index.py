"""The overview of an archive, for people (index.html) and for feed readers (feed.xml). Neither needs a script or a
network; both are replaced in one step.

A strip a report: a mark a window, oldest first, a row for each month (of shorter windows: each day). A mark says its
verdict by letter and colour, its coverage by the height of the bar below it, and leads to the report. Windows between
the first and the last that have no report are marks of their own.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any, Final
from xml.etree import ElementTree

from nestobs.figures import plain
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import DAY_S, Window
from nestobs.reports.publishing.archive import FAILED, PAGE, Archive, Entry, Manifest
from nestobs.reports.publishing.glossary import kept_together
from nestobs.store.files import write

INDEX, FEED = "index.html", "feed.xml"
MOST_FEED: Final = 100
_MOST_GAP: Final = 62
"""Longer gaps are one mark that says how many windows are missing."""

_ATOM: Final = "http://www.w3.org/2005/Atom"
_TAG: Final = "tag:nestobs,2026:"
_SIGNS: Final = {
    "good": ("✓", "good"),
    "breached": ("✗", "breached"),
    "too little data": ("?", "little"),
    "failed": ("F", "failed"),
    "unreadable": ("!", "failed"),
}

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --paper: #fff; --soft: #59636e; --line: #8a929a88; }
@media (prefers-color-scheme: dark) { :root { --ink: #d5dbe1; --paper: #0d1117; --soft: #9aa4ae; } }
body { margin: 0 auto; padding: 1rem .75rem 3rem; max-width: 62rem; font: 16px/1.5 system-ui, sans-serif;
  color: var(--ink); background: var(--paper); }
h1 { font-size: 1.6rem; margin: .4rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .2rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; overflow-wrap: anywhere; } a { color: inherit; } .soft { color: var(--soft); font-size: 14px; }
.row { display: grid; grid-template-columns: 6rem 1fr; gap: .25rem; margin: .3rem 0; }
.marks { display: flex; flex-wrap: wrap; gap: 3px; margin: 0; padding: 0; list-style: none; }
.mark { display: block; width: 24px; text-decoration: none; text-align: center; font-size: 14px; line-height: 22px; }
.mark b { display: block; height: 22px; border: 1px solid transparent; box-sizing: border-box; line-height: 20px; }
.good b { background: #009E73; color: #000; border-radius: 11px; }
.breached b { background: #D55E00; color: #000; }
.little b { background: none; color: inherit; border: 1px dashed currentColor; border-radius: 5px; }
.failed b { background: #000; color: #fff; border-color: #8a929a; border-radius: 0 11px 11px 0; }
.gap b { color: var(--soft); border: 1px dotted var(--line); font-weight: 400; }
.gap { width: auto; min-width: 24px; }
.bar { display: block; height: 14px; margin-top: 2px; background: linear-gradient(#0072B2, #0072B2) bottom / 100%
  var(--share, 0) no-repeat, #8a929a22; border-bottom: 1px solid var(--line); }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1rem; align-items: center; } .key .mark { display: inline-block; }
"""


def refresh(archive: Archive) -> None:
    """Write both anew from what is published now; under a lock, so that the last writer saw the latest."""
    with archive.indexing():
        entries = archive.entries()
        write(archive.root / INDEX, page(entries))
        write(archive.root / FEED, feed(entries))


# index.html


def page(entries: Sequence[Entry]) -> str:
    """The overview as HTML."""
    reports = [(name, list(each)) for name, each in groupby(entries, key=lambda entry: entry.name)]
    body = "".join(_report(name, each) for name, each in reports) or "<p>No report has been made yet.</p>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Reports</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f'<link rel="alternate" type="application/atom+xml" href="{FEED}" title="Reports"><style>{_STYLE}</style>'
        "</head><body><h1>Reports</h1>"
        f'<p class="soft">Windows are half-open and in UTC. <a href="{FEED}">Atom feed</a></p>'
        f"{_key() if reports else ''}{kept_together(body)}</body></html>\n"
    )


def _key() -> str:
    signs = [(sign, style, verdict) for verdict, (sign, style) in _SIGNS.items() if verdict != "unreadable"]
    said = "".join(
        f'<span><span class="mark {style}"><b>{sign}</b></span> {words}</span>'
        for sign, style, words in (*signs, ("·", "gap", "not made"))
    )
    return f'<div class="key soft">{said}<span>the bar below: coverage, full is 100 %</span></div>'


def _report(name: str, entries: Sequence[Entry]) -> str:
    made = [entry for entry in entries if entry.made]
    newest = f"The newest is {_link(made[-1])}: {_words(made[-1])}." if made else "None has been made well yet."
    parts = [f'<section><h2 id="{name}">{name}</h2><p>{newest}</p>', _failures(entries)]
    lengths = sorted({entry.window.seconds for entry in entries}, reverse=True)
    for length_s in lengths:
        parts.append(_strip([entry for entry in entries if entry.window.seconds == length_s], int(length_s)))
    return "".join(parts) + "</section>"


def _failures(entries: Sequence[Entry]) -> str:
    """What failed last, by itself or beside a good report."""
    failed = [entry for entry in entries if entry.failed is not None or entry.verdict == "failed"]
    if not failed:
        return ""
    last = failed[-1]
    reason = plain(_reason(last.latest), 200).removesuffix(".")
    more = f" {len(failed) - 1} more failed." if len(failed) > 1 else ""
    return f"<p>Failed last: {_link(last, failed=last.failed is not None)}: {reason}.{more}</p>"


def _reason(manifest: Manifest) -> str:
    return str(next(iter(_reasons(manifest)), ""))


def _strip(entries: Sequence[Entry], length_s: int) -> str:
    """The marks of all windows of one length, gaps among them, in rows."""
    every = f"every {_span(length_s)}"
    rows = []
    for label, marks in groupby(_marks(entries, length_s), key=lambda mark: mark[0]):
        shown = "".join(f"<li>{text}</li>" for _, text in marks)
        rows.append(f'<div class="row"><span class="soft">{label}</span><ul class="marks">{shown}</ul></div>')
    return f'<div role="group" aria-label="{every}"><p class="soft">{every}</p>{"".join(rows)}</div>'


def _span(length_s: int) -> str:
    for name, unit in (("week", 7 * DAY_S), ("day", DAY_S), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if length_s % unit == 0:
            count = length_s // unit
            return name if count == 1 else f"{count} {name}s"
    return f"{length_s} seconds"


def _marks(entries: Sequence[Entry], length_s: int) -> Iterator[tuple[str, str]]:
    """Each with the label of its row."""
    before: Entry | None = None
    for entry in entries:
        if before is not None:
            missing = (entry.window.start - before.window.end) // (length_s * SECOND_NS)
            yield from _gap(before.window, missing, length_s)
        yield _row(entry.window), _mark(entry)
        before = entry


def _gap(before: Window, missing: int, length_s: int) -> Iterator[tuple[str, str]]:
    if missing > _MOST_GAP:
        said = f"{missing:,} windows were not made"
        yield _row(before), f'<span class="mark gap" title="{said}"><b>&nbsp;{missing:,} not made&nbsp;</b></span>'
        return
    step = length_s * SECOND_NS
    for start in range(before.end, before.end + missing * step, step):
        window = Window(start, start + step)
        said = f"{window.words}: not made"
        yield _row(window), f'<span class="mark gap" role="img" aria-label="{said}" title="{said}"><b>·</b></span>'


def _row(window: Window) -> str:
    begins = datetime.fromtimestamp(window.start // SECOND_NS, UTC)
    return f"{begins:%Y-%m}" if window.seconds >= DAY_S else f"{begins:%Y-%m-%d}"


def place(name: str, window: Window) -> str:
    """What the mark of a report is called, for a link to it: one that leads to the overview where there is none."""
    return f"{name}@{window.name}"


def _mark(entry: Entry) -> str:
    sign, style = _SIGNS.get(entry.verdict, _SIGNS["unreadable"])
    coverage = _coverage(entry)
    share = "" if coverage is None else f' style="--share: {100 * coverage:.0f}%"'
    mark = f'<span id="{place(entry.name, entry.window)}"></span>'
    mark += _linked_mark(_href(entry), f"{entry.window.words}: {_words(entry)}", sign, style, share)
    if entry.failed is None:
        return mark
    later = f"{entry.window.words}: made again later, which failed"
    return mark + _linked_mark(_href(entry, failed=True), later, *_SIGNS["failed"])


def _linked_mark(href: str, said: str, sign: str, style: str, share: str = "") -> str:
    mark = f'<span class="mark {style}"><b>{sign}</b><span class="bar"{share}></span></span>'
    return f'<a class="mark" href="{href}" title="{said}" aria-label="{said}">{mark}</a>'


def _coverage(entry: Entry) -> float | None:
    share = entry.manifest.get("coverage")
    return min(max(float(share), 0.0), 1.0) if isinstance(share, int | float) else None


def _words(entry: Entry) -> str:
    """Verdict, coverage and first reason, escaped."""
    share, reason = _coverage(entry), _reason(entry.manifest)
    coverage = "" if share is None else f", coverage {100 * share:.0f} %"
    return f"{plain(entry.verdict, 40)}{coverage}" + (f": {plain(reason, 200).removesuffix('.')}" if reason else "")


def _link(entry: Entry, *, failed: bool = False) -> str:
    return f'<a href="{_href(entry, failed=failed)}">{html.escape(entry.window.name)}</a>'


def _href(entry: Entry, *, failed: bool = False) -> str:
    return f"{entry.name}/{entry.window.name}{FAILED if failed else ''}/{PAGE}"


# feed.xml


def feed(entries: Sequence[Entry]) -> str:
    """The latest reports made, as an Atom feed; an entry's id stays the same when it is made again."""
    latest = sorted(entries, key=_made_at, reverse=True)[:MOST_FEED]
    ElementTree.register_namespace("", _ATOM)
    root = ElementTree.Element(f"{{{_ATOM}}}feed")
    _child(root, "id", f"{_TAG}reports")
    _child(root, "title", "Nests: reports")
    _child(root, "updated", _made_at(latest[0]) if latest else "1970-01-01T00:00:00Z")
    _child(_child(root, "author"), "name", "nestobs")
    _child(root, "link", rel="self", href=FEED)
    _child(root, "link", rel="alternate", href=INDEX)
    for entry in latest:
        failed, about = entry.failed is not None, entry.latest
        item = _child(root, "entry")
        _child(item, "id", f"{_TAG}{entry.name}/{entry.window.name}")
        _child(item, "title", f"{entry.name} {entry.window.name}: {_clean(about.get('verdict', 'unreadable'), 40)}")
        _child(item, "updated", _made_at(entry))
        _child(item, "published", _made_at(entry))
        _child(item, "link", rel="alternate", type="text/html", href=_href(entry, failed=failed))
        _child(item, "summary", " ".join(_clean(each, 600) for each in _reasons(about)) or "No reason is given.")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _reasons(about: Manifest) -> list[Any]:
    reasons = about.get("reasons")
    return reasons[:20] if isinstance(reasons, list) else []


def _made_at(entry: Entry) -> str:
    """When it was last made, in RFC 3339; the end of its window where that cannot be read."""
    try:
        made_at = datetime.fromisoformat(str(entry.latest.get("made_at", ""))).astimezone(UTC)
    except (ValueError, OverflowError):
        made_at = datetime.fromtimestamp(entry.window.end // SECOND_NS, UTC)
    return made_at.isoformat().replace("+00:00", "Z")


def _clean(value: object, most: int) -> str:
    """Without what XML cannot hold; ElementTree escapes the rest."""
    return html.unescape(plain(value, most))


def _child(parent: ElementTree.Element, name: str, text: str = "", **attributes: str) -> ElementTree.Element:
    made = ElementTree.SubElement(parent, f"{{{_ATOM}}}{name}", attributes)
    made.text = text or None
    return made
