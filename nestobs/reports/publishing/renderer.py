"""How a report's kernel shows a plotly figure: as plotly's JSON, without plotly's renderers.

Those load nbformat and a validator of JSON Schemas at the first figure, more than a second of a report's time. What is
shown is the same: plotly's MIME type, which JupyterLab and html.py draw. Loaded by the kernel as an IPython extension.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import plotly.graph_objects as go

PLOTLY: Final = "application/vnd.plotly.v1+json"


def load_ipython_extension(shell: Any) -> None:
    """Show figures so from now on; plotly itself is not loaded by this."""
    formatter = shell.display_formatter.ipython_display_formatter
    formatter.for_type_by_name("plotly.graph_objs._figure", "Figure", show)


def show(figure: go.Figure) -> None:
    """Publish it from a cell."""
    from IPython.display import publish_display_data

    drawn = json.loads(figure.to_json(validate=False))
    publish_display_data({PLOTLY: drawn, "text/plain": f"<figure of {len(figure.data)} traces>"})  # type: ignore[no-untyped-call]  # IPython does not type it
