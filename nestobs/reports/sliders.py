"""Sliders over a recommendation: live where there is a kernel, precomputed steps where there is none.

The figure's own slider exchanges what was computed before, in JupyterLab and on a page alike. A live one asks the
kernel for each answer: its output holds the widget too, which JupyterLab prefers. No scheduled run makes widgets: they
have nobody to talk to, and would leave their state in the notebook.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nestobs import figures
from nestobs.tuning.whatif import BUDGETS, COST_RATIOS, Answer, WhatIf

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from nestobs.tuning.recommendation import Recommendation

PLOTLY: Final = "application/vnd.plotly.v1+json"
WIDGET: Final = "application/vnd.jupyter.widget-view+json"


@dataclass(frozen=True, slots=True, repr=False)
class Slider:
    """A figure that is drawn anew for each place of a slider.

    name: what the slider moves; values: its places, ascending, `start` the first; draw: of a place, live; still: with
    precomputed steps. live: whether it is a widget where there is a kernel.
    """

    name: str
    values: tuple[float, ...]
    start: float
    draw: Callable[[float], go.Figure]
    still: go.Figure
    live: bool = False

    def __repr__(self) -> str:
        return f"<slider: {self.name}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        import json

        return {**self._live(), PLOTLY: json.loads(self.still.to_json()), "text/plain": repr(self)}

    def _live(self) -> dict[str, Any]:
        if not self.live:
            return {}
        widget = box(self)
        found = widget._repr_mimebundle_()
        bundle = found[0] if isinstance(found, tuple) else found
        return {WIDGET: bundle[WIDGET]} if bundle and WIDGET in bundle else {}


def box(slider: Slider) -> Any:
    """The slider as an ipywidgets box: moving it asks for the figure of that place."""
    import ipywidgets
    from IPython.display import display

    place = ipywidgets.SelectionSlider(
        options=[(f"{value:g}", value) for value in slider.values],
        value=slider.start,
        description=slider.name,
        continuous_update=True,
        layout={"width": "95%"},
    )
    shown = ipywidgets.Output()

    def draw(_: Any = None) -> None:
        with shown:
            shown.clear_output(wait=True)
            display(slider.draw(place.value))  # type: ignore[no-untyped-call]  # IPython does not type it

    place.observe(draw, "value")
    draw()
    return ipywidgets.VBox([place, shown])


def cost_ratio(found: Recommendation) -> Slider:
    """Moves the message threshold."""
    whatif, used = WhatIf(found), found.terms.cost_ratio
    values, draw = _with(COST_RATIOS, used), _drawn(found, figures.threshold_moved)
    return _slider("ρ", values, used, lambda ratio: whatif.at(cost_ratio=ratio), draw)


def budget(found: Recommendation) -> Slider:
    """Moves the poll table."""
    whatif, allowed = WhatIf(found), found.terms.allowance.requests
    values, draw = _with(BUDGETS, allowed), _drawn(found, figures.polls_moved)
    return _slider("requests", values, allowed, lambda many: whatif.at(allowed=int(many)), draw)


Draw = Callable[[Sequence[Answer], int], "go.Figure"]


def _drawn(found: Recommendation, figure: Callable[..., go.Figure]) -> Draw:
    return lambda answers, chosen: figure(found, answers, chosen=chosen)


def _slider(
    name: str, values: tuple[float, ...], start: float, answer: Callable[[float], Answer], draw: Draw
) -> Slider:
    still = draw([answer(value) for value in values], values.index(start))
    return Slider(name, values, start, lambda value: draw([answer(value)], 0), still)


def _with(grid: Sequence[float], value: float) -> tuple[float, ...]:
    """The grid and the value, ascending."""
    place = bisect_left(grid, value)
    return tuple(grid) if place < len(grid) and grid[place] == value else (*grid[:place], value, *grid[place:])
