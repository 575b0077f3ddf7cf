"""Reports: notebooks executed with parameters and published as one page that needs no network.

run.py           a notebook and parameters in, report.html and report.ipynb out, whole or not at all
kernel.py        the process a notebook runs in, and the leash it is on; launch.py is what it starts with
parameters.py    a notebook's parameters, and words NAME=VALUE read as their types
scheduled.py     a report of a window made once; windows that were missed, made up for
archive.py       where scheduled reports lie, published in one step, whoever dies when
manifest.py      what such a report says of itself to programs, without secrets
index.py         the overview of an archive: index.html and an Atom feed
prune.py         which reports are old enough to go
page.py          an executed notebook as HTML
parts.py         what a cell shows: tables, paragraphs, figures, sections, the result
observed.py      the observations, timelines and joins of a window of a store
collector.py     when the collector was at work, for every report over wall time
propagation.py   what notebooks/propagation.ipynb calls
joins.py         what notebooks/joins.ipynb calls
daily.py         what notebooks/daily_report.ipynb calls
incident.py      what notebooks/incident.ipynb calls: one nest from every side
live.py          what notebooks/live.ipynb calls: the newest nests while they are observed
open.py          a copy of a notebook to work in, parameters set
demo.py          what notebooks/demo.ipynb calls
tuning.py        for notebooks about tuning: from a store and a proof to sections
sliders.py       a recommendation's costs, moved: live in JupyterLab, precomputed on a page
tables.py        a recommendation's numbers in words, each with its interval
"""

from nestobs.errors import NestobsError


class ReportError(NestobsError):
    """The notebook of a report failed: which cell, and its error. `traceback` has the kernel's own, as plain text."""

    def __init__(self, message: str, *, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback
