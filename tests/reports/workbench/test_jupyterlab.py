"""In a kernel as JupyterLab starts one: captions, what is under way, and mistakes that are one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import start_new_kernel

from nestobs.reports.workbench.working_copy import working_copy

pytestmark = pytest.mark.slow

PLOTLY = "application/vnd.plotly.v1+json"


class Kernel:
    """A kernel, and what its cells show."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def run(self, *lines: str) -> list[dict[str, Any]]:
        """The outputs of a cell as a reader saw them come: what was updated, as often as it was."""
        shown: list[dict[str, Any]] = []

        def take(message: Any) -> None:
            kind, content = message["msg_type"], message["content"]
            if kind in ("stream", "display_data", "update_display_data", "execute_result", "error"):
                shown.append({"kind": kind, **content})

        self._client.execute_interactive("\n".join(lines), output_hook=take, timeout=100)
        return shown


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("kernel")
    manager, client = start_new_kernel(
        kernel_name="python3", startup_timeout=60, cwd=str(folder), extra_arguments=["--HistoryManager.enabled=False"]
    )
    try:
        yield Kernel(client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def under_way(shown: list[dict[str, Any]]) -> list[str]:
    """The lines that said what was under way, the last one included, which is empty."""
    texts = [each["data"].get("text/html", "") for each in shown if "display_id" in each.get("transient", {})]
    return [re.sub(r"<[^>]*>", "", text) for text in texts]


MISTAKES = {
    "no store": ('incident.load("none")', "no store at .*none: .*`example` comes with nestobs"),
    "a file": ('joins.load("letter")', "is a file, not a folder"),
    "another's store": ('propagation.load("theirs")', "is not a database|is not a journal"),
    "no window": ('incident.load("example", window="yesterday")', "window"),
    "a window backwards": ('joins.load("example", window="2026-01-02/2026-01-01")', "window"),
    "a half window": ('daily.load("example", window="2026-13-01")', "window"),
    "no file of ages": ('tuning.load("example", arrivals="none")', "holds no ages"),
    "no proof": ('tuning.load("example", proof="letter")', "no proof"),
    "no policy": ('daily.load("example", policy="letter")', "it is not JSON"),
    "no duration": ('live.load("example", last="soon")', "duration"),
    "no column": ('nestobs.observations("example", columns=["age"])', "no column 'age'"),
    "no nest": ('nestobs.diagnose("example", "https://")', "nest|address"),
    "nobody's policy": ('nestobs.named_policy("guied")', "guied"),
    "too little": ('nestobs.tune(nestobs.timelines("example").head(3))', "nest"),
    "no text": ('incident.load("example", 5)', "nest = 5 is not text"),
    "no name": ("incident.load(None)", "store = None is not text"),
    "no path": ("nestobs.timelines(None)", "None names no store"),
    "a long name": ('incident.load("x" * 300)', "name too long"),
    "two instants": ('joins.load("example", window=("2026-01-01", "2026-01-02"))', "window = .* is not text"),
    "a number in quotes": ('tuning.load("example", cost_ratio="0.2")', "cost_ratio = '0.2' is not a number"),
    "a share of requests": ('tuning.load("example", requests=0.5)', "requests = 0.5 is not a whole number"),
    "yes": ('daily.load("example", before=True)', "before = True is not a whole number"),
    "a number of minutes": ('live.load("example", last=15)', "last = 15 is not text"),
    "a foreign mark": ('raise nestobs.NestobsError("a\\x1b[31m\\u202eb")', "a\ufffd\\[31m\ufffdb"),
}


@pytest.mark.parametrize(("cell", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_sentence(cell: str, said: str, kernel: Kernel) -> None:
    kernel.run(
        "import nestobs, pathlib",
        "from nestobs.reports import daily, incident, joins, live, propagation, tuning",
        "pathlib.Path('letter').write_text('Dear all')",
        "pathlib.Path('theirs').mkdir(exist_ok=True); pathlib.Path('theirs/journal.sqlite').write_text('Dear all')",
    )
    (error,) = [each for each in kernel.run(cell) if each["kind"] == "error"]
    (shown,) = error["traceback"]
    assert re.search(said, shown)
    assert shown.count("\n") == 0
    assert "Traceback" not in shown
    assert len(shown) < 600


def test_what_is_no_mistake_of_the_operator_keeps_its_frames(kernel: Kernel) -> None:
    (error,) = kernel.run("1 / 0")
    assert len(error["traceback"]) > 1


def test_captions_stand_over_figures_as_text_and_not_in_them(kernel: Kernel) -> None:
    kernel.run("from nestobs.reports import incident", 'found = incident.load("example")')
    kernel.run("incident.lanes(found)")  # with the first figure plotly sends its script, too
    caption, figure = kernel.run("incident.lanes(found)")
    assert "Where did the time go?" in caption["data"]["text/html"]
    assert "<br>" not in caption["data"]["text/html"]
    layout = figure["data"][PLOTLY]["layout"]
    assert "text" not in layout.get("title", {})
    assert layout["margin"]["t"] < 40
    (again, same) = kernel.run("incident.lanes(found)")  # nothing of the figure was taken for good
    assert again["data"] == caption["data"]
    assert same["data"][PLOTLY]["layout"] == layout


def test_words_are_explained_where_they_first_stand_and_all_of_them_under_the_answer(kernel: Kernel) -> None:
    kernel.run("from nestobs.reports.workbench import jupyterlab", "jupyterlab._words.__init__()")  # as in a new kernel
    kernel.run("from nestobs.reports import vantages", 'looked = vantages.load("example")')
    (opened,) = kernel.run("vantages.answer(looked)  # opening")
    said = opened["data"]["text/html"]
    assert re.findall(r'<dfn tabindex="0" title="[^"]+">(nests)</dfn>', said) == ["nests"]
    assert "<dt>right-censored</dt>" in said.partition('<details class="nestobs-glossary">')[2]
    assert "application/vnd.nestobs.result+json" in opened["data"]
    assert kernel.run("vantages.answer(looked)  # opening")[0]["data"]["text/html"] == said  # the same cell again
    (later,) = kernel.run("vantages.seen(looked)")
    assert "nests" in later["data"]["text/html"]
    assert ">nests</dfn>" not in later["data"]["text/html"]


def test_below_a_figure_there_is_room_for_its_legend_as_wide_as_a_notebook_is(kernel: Kernel) -> None:
    kernel.run("import nestobs.reports", "from plotly.graph_objects import Bar", "from nestobs.figures import canvas")
    kernel.run("bars = [Bar(y=[1], name=f'a key of some words, {n}') for n in range(6)]")
    drawn = (f"canvas.drawn('Who?', 'n = 1', bars[:{count}], plot_px=100)" for count in (1, 6))
    (few,), (many,) = ([one["data"][PLOTLY] for one in kernel.run(made) if PLOTLY in one["data"]] for made in drawn)
    heights = [one["layout"]["height"] for one in (few, many)]
    margins = [one["layout"]["margin"]["b"] for one in (few, many)]
    assert heights[1] - heights[0] == margins[1] - margins[0] == 20  # two lines of three, not six of one


def test_a_figure_of_somebody_else_is_shown_as_plotly_shows_it(kernel: Kernel) -> None:
    kernel.run("import nestobs.reports", "from plotly.graph_objects import Figure")
    *_, figure = kernel.run("Figure().update_layout(title='mine', meta='any')")
    assert figure["data"][PLOTLY]["layout"]["title"]["text"] == "mine"


IMPATIENT = ("import time, nestobs", "from nestobs.reports.workbench import jupyterlab", "jupyterlab.QUIET_S = 0.0")


def test_what_takes_long_is_told_and_the_line_is_gone_at_the_end(kernel: Kernel) -> None:
    kernel.run(*IMPATIENT, "jupyterlab.PAUSE_S = 0.01")
    said = under_way(kernel.run("jupyterlab.step('reading the <store>')", "time.sleep(0.5)"))
    assert "reading the &lt;store&gt;, 0 s …" in said
    assert said[-1] == ""


@pytest.mark.parametrize(
    "cell", ["time.sleep(0.5)", "jupyterlab.rest(); time.sleep(0.5)"], ids=["another's", "resting"]
)
def test_of_other_cells_nothing_is_told(cell: str, kernel: Kernel) -> None:
    kernel.run(*IMPATIENT, "jupyterlab.PAUSE_S = 0.01")
    assert [line for line in under_way(kernel.run(cell)) if line not in ("", "at work, 0 s …")] == []
    if "jupyterlab" not in cell:
        assert under_way(kernel.run(cell)) == []


def test_each_step_of_tuning_is_told(kernel: Kernel) -> None:
    kernel.run(*IMPATIENT, "from nestobs.reports import tuning", "jupyterlab.PAUSE_S = 0.01")
    said = under_way(kernel.run('tuned = tuning.load("example", draws=40)'))
    assert any(line.startswith("resampling it 40 times, ") for line in said)
    assert said[-1] == ""


def test_a_whole_notebook_runs_there_and_leaves_no_line(kernel: Kernel, tmp_path: Path) -> None:
    import nbformat

    path, _ = working_copy("incident", tmp_path, {"store": "example"})
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    shown = [output for source in cells for output in kernel.run(source)]
    assert not [each for each in shown if each["kind"] in ("error", "stream")]
    assert under_way(shown)[-1:] in ([], [""])
