"""Reports: notebooks executed with parameters and published as one page that needs no network.

incident, propagation, joins, tuning, daily, live, demo   what the notebook of that name calls
vantages/     the same: which vantage saw a nest first, by how much, and how surely
display       what a cell shows: tables, paragraphs, figures, sections, the result
evidence      what a store knows of one nest, or of the worst of a window
commands      what to ask next of a nest, as commands to copy
dataset       the observations, timelines and joins of a window of a store
coverage      when the collector was at work, for every report over wall time
tables        a recommendation's numbers in words, each with its interval
publishing/   how a notebook becomes a page, on a schedule
workbench/    how a notebook is worked in, in JupyterLab
"""

import sys

from nestobs.errors import NestobsError


class ReportError(NestobsError):
    """The notebook of a report failed: which cell, and its error. `traceback` has the kernel's own, as plain text."""

    def __init__(self, message: str, *, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


if "ipykernel" in sys.modules:
    from nestobs.reports.workbench.jupyterlab import set_up

    set_up()
