"""For the kernels that run the site's pages: `%load_ext drawn`, and a figure is HTML as in a report."""

from __future__ import annotations

from itertools import count
from typing import Any

from nestobs.reports.publishing.html import figure_html

_NUMBERS = count(1)


def load_ipython_extension(shell: Any) -> None:
    """Show plotly's figures so from now on."""
    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type_by_name("plotly.graph_objs._figure", "Figure", _show)


def _show(figure: Any) -> None:
    from IPython.display import publish_display_data

    publish_display_data({"text/html": figure_html(figure.to_plotly_json(), f"figure-{next(_NUMBERS)}")})
