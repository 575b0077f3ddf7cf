"""Reports: notebooks executed with parameters and published as one page that needs no network.

run.py           a notebook and parameters in, report.html and report.ipynb out, whole or not at all
page.py          an executed notebook as HTML
parts.py         what a cell shows: tables, paragraphs, figures, sections, the result
observed.py      the observations, timelines and joins of a window of a store
demo.py          what notebooks/demo.ipynb calls
tuning.py        for notebooks about tuning: from a store and a proof to sections
tables.py        a recommendation's numbers in words, each with its interval
"""

from nestobs.errors import NestobsError


class ReportError(NestobsError):
    """The notebook of a report failed: which cell, and its error. `traceback` has the kernel's own, as plain text."""

    def __init__(self, message: str, *, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback
