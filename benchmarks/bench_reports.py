"""What reports cost: time against an empty notebook's in the same run, size, and how soon a browser shows them.

Run by `make bench`. Prints each figure with its limit and exits with 1 when one is missed. The empty notebook has a
parameters cell alone and is made by the same command: papermill, with its kernel and its page. For scale, the time of
papermill with nbconvert on it, without nestobs. Times are of whole processes, medians of interleaved rounds after one
that warms up. Seconds until the first plot count from the start of the navigation to the frame in which its marks
stand. Ratios last; seconds depend on the machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from nestobs.observation.schema import Observation
from nestobs.reports.publishing.html import page, shared_name
from nestobs.store.reader import Store
from nestobs.store.sql import DAY as DAY_NS
from worlds.browser import Browser, find_chromium
from worlds.full_nests import DAY, NOON, SECOND_NS, all_rows, store_of

ROUNDS, OPENED = 3, 5
ROWS, ROWS_PER_NEST = 1_000_000, 318
MIDNIGHT = NOON - NOON % DAY_NS

PAPERMILL = """
import sys, nbconvert, papermill
path = sys.argv[1]
made = papermill.execute_notebook(path, path + ".out.ipynb", parameters={"store": "x"}, progress_bar=False)
open(path + ".html", "w").write(nbconvert.HTMLExporter().from_notebook_node(made)[0])
"""

FIRST_PLOT = """
new MutationObserver((_, watching) => {
  if (!document.querySelector(".cartesianlayer .trace :is(path, image)")) return;
  watching.disconnect();
  requestAnimationFrame(() => { window.firstPlot = performance.now() / 1000 });
}).observe(document, { childList: true, subtree: true });
"""


@dataclass
class Judged:
    """Figures and their limits, printed as they come."""

    missed: list[str] = field(default_factory=list)

    def at_most(self, what: str, value: float, limit: float, *, unit: str = "", more: str = "") -> None:
        well = value <= limit
        if not well:
            self.missed.append(what)
        end = "" if well else "  MISSED"
        print(f"{what}: {value:.2f}{unit} (limit {limit:g}{unit}){f', {more}' if more else ''}{end}", flush=True)


def empty(folder: Path) -> Path:
    """A notebook that does nothing."""
    cell = new_code_cell('store = ""\nwindow = ""', metadata={"tags": ["parameters"]})
    metadata = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    path = folder / "empty.ipynb"
    path.write_text(nbformat.writes(new_notebook(cells=[cell], metadata=metadata)))
    return path


def day_of_rows() -> Iterator[Observation]:
    """A million rows, all sent on one day."""
    count = -(-ROWS // ROWS_PER_NEST)
    yield from all_rows(count, start=MIDNIGHT + 5 * SECOND_NS, spacing_s=86_200 / count)


def sealed_day(folder: Path) -> str:
    """A store with those rows, sealed as yesterday's are."""
    began = perf_counter()
    store = Store.open(store_of(folder, day_of_rows()))
    store.seal(before=MIDNIGHT + 2 * DAY_NS)
    print(f"a store of {store.count():,} observations was made in {perf_counter() - began:.0f} s", flush=True)
    return str(folder)


def timed(command: list[str]) -> float:
    """Wall seconds of a process that must succeed."""
    began = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return perf_counter() - began


def made(name: str, store: str, out: Path, *more: str) -> list[str]:
    """The command that makes a report of that day."""
    ours = [sys.executable, "-m", "nestobs", "report", "run", name, "--window", DAY, "--force"]
    return [*ours, "--store", store, "--out", str(out), *more]


def first_plot_s(browser: Browser, path: Path) -> float:
    """Of one opening by a page that has seen nothing before."""
    shown = browser.open("about:blank")
    shown.before(FIRST_PLOT)
    shown.go(path)
    taken = float(shown.until("window.firstPlot"))
    shown.close()
    return taken


def times(judged: Judged, folder: Path) -> None:
    """Both reports against the empty one."""
    nothing = empty(folder)
    small, day = store_of(folder / "small", all_rows(40)), sealed_day(folder / "day")
    jobs = {
        "papermill": [sys.executable, "-c", PAPERMILL, str(nothing)],
        "empty": made(str(nothing), small, folder),
        "incident": made("incident", small, folder, "--parameter", "nest=room-0007"),
        "daily_report": made("daily_report", day, folder),
    }
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(ROUNDS + 1):
        for name, command in jobs.items():
            taken[name].append(timed(command))
    typical = {name: median(values[1:]) for name, values in taken.items()}
    for name, limit in (("incident", 1.5), ("daily_report", 3.0)):
        seconds = f"{typical[name]:.2f} s over {typical['empty']:.2f} s"
        plain = f"{typical[name] / typical['papermill']:.2f} times papermill with nbconvert"
        judged.at_most(f"{name} to an empty run", typical[name] / typical["empty"], limit, more=f"{seconds}; {plain}")


def sizes(judged: Judged, name: str, path: Path) -> None:
    """The report as it is, and as one that shares plotly.js with others."""
    executed = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    shared = len(page(executed, title=name, shared_js=shared_name()).encode())
    judged.at_most(f"{name}, plotly.js inside", path.stat().st_size / 1e6, 6.0, unit=" MB")
    judged.at_most(f"{name}, plotly.js beside", shared / 1e6, 1.0, unit=" MB")


def main() -> int:
    judged = Judged()
    with tempfile.TemporaryDirectory(prefix="nestobs-bench-") as made_in:
        folder = Path(made_in)
        times(judged, folder)
        reports = {name: folder / name / DAY / "report.html" for name in ("incident", "daily_report")}
        for name, path in reports.items():
            sizes(judged, name, path)
        if find_chromium() is None:
            print("there is no Chromium here, so nothing was opened: `make browser` installs it")
            return 1
        with Browser() as browser:
            for name, path in reports.items():
                opened = median(first_plot_s(browser, path) for _ in range(OPENED))
                judged.at_most(f"{name}, opened to the first plot", opened, 2.0, unit=" s")
    if judged.missed:
        print(f"missed: {'; '.join(judged.missed)}", file=sys.stderr)
    return 1 if judged.missed else 0


if __name__ == "__main__":
    sys.exit(main())
