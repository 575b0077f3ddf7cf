"""A notebook run out of sight and published whole: parameters, failures, the kernel's end, and a page that is alone."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from nestobs.errors import NestobsError, UsageError
from nestobs.figures.canvas import blank, described
from nestobs.reports import ReportError
from nestobs.reports.publishing import kernel
from nestobs.reports.publishing.execute import notebook, run
from nestobs.reports.publishing.html import page
from nestobs.reports.publishing.renderer import PLOTLY

pytestmark = pytest.mark.slow

FIGURE = "import plotly.graph_objects as go\n\ngo.Figure(go.Bar(y=[1, 2], x=[3, 4]), layout={'title': {'text': name}})"


def write(path: Path, *sources: str, parameters: str = 'name = "nobody"') -> Path:
    cells = [new_code_cell(parameters, metadata={"tags": ["parameters"]}), new_markdown_cell("## A heading")]
    metadata = {"kernelspec": {"name": "no-such-kernel", "language": "python", "display_name": "elsewhere"}}
    made = new_notebook(cells=cells + [new_code_cell(source) for source in sources], metadata=metadata)
    path.write_text(nbformat.writes(made))
    return path


def outputs(path: Path) -> str:
    made: Any = nbformat.read(path, as_version=4)
    return "\n".join(str(output) for cell in made.cells for output in cell.get("outputs", []))


def loads(page: str) -> list[str]:
    """Whatever the page would fetch: sources, styles, imports; what stands inside a script's text is not asked for."""
    bare = re.sub(r"<script\b([^>]*)>.*?</script>", r"<script\1></script>", page, flags=re.DOTALL)
    found = re.findall(r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?([^\"' >]+)", bare)
    found += re.findall(r"<link\b[^>]*\bhref=[\"']?([^\"' >]+)", bare)
    found += re.findall(r"(?:@import|url\()\s*[\"']?([^\"')]+)", bare)
    return [url for url in found if not url.startswith(("data:", "#"))]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_runs_by_this_interpreter_with_the_parameters_and_writes_both_files(tmp_path: Path) -> None:
    source = write(tmp_path / "one.ipynb", "import sys, os\nprint(name, sys.executable, os.getcwd())")
    before = source.read_text()
    made = run(source, tmp_path / "made" / "report.html", {"name": "someone"})
    assert made == tmp_path / "made" / "report.html"
    import sys

    said = outputs(made.with_suffix(".ipynb"))
    assert f"someone {sys.executable} {Path.cwd()}" in said
    assert "someone" in made.read_text()
    assert source.read_text() == before
    assert sorted(path.name for path in made.parent.iterdir()) == ["report.html", "report.ipynb"]


def test_the_page_draws_by_itself_and_loads_nothing(tmp_path: Path) -> None:
    made = run(write(tmp_path / "one.ipynb", FIGURE, FIGURE), tmp_path / "report.html", {})
    page = made.read_text()
    assert loads(page) == []
    assert page.count("plotly.js v") == 1
    assert page.count('class="plotly-graph-div"') == 2
    assert "require.min.js" not in page
    assert "MathJax.js" not in page
    assert "<summary>show code</summary>" in page
    assert made.stat().st_size < 6_000_000
    assert made.with_suffix(".ipynb").stat().st_size < 100_000


def test_a_page_without_a_figure_carries_no_plotly(tmp_path: Path) -> None:
    made = run(write(tmp_path / "one.ipynb", "name"), tmp_path / "report.html", {})
    assert made.stat().st_size < 1_000_000


def test_hostile_text_in_a_figure_or_a_title_cannot_leave_its_place(tmp_path: Path) -> None:
    hostile = "</script><script>window.pwned=1</script>"
    source = write(tmp_path / "one.ipynb", FIGURE, parameters='name = ""\ntitle = ""')
    page = run(source, tmp_path / "report.html", {"name": hostile, "title": hostile}).read_text()
    assert "<script>window.pwned" not in page


def test_neither_warnings_nor_progress_bars_show(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = run(write(tmp_path / "one.ipynb", "name"), tmp_path / "report.html", {})
    assert "stderr" not in outputs(made.with_suffix(".ipynb"))
    said = capfd.readouterr()
    assert said.out == ""
    assert "TCP" not in said.err
    assert "it/s" not in said.err


@pytest.mark.parametrize("name", ["nam", "Name", ""])
def test_an_unknown_parameter_is_an_error_that_names_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="it knows name"):
        run(write(tmp_path / "one.ipynb", "name"), tmp_path / "report.html", {name: "x"})
    assert not (tmp_path / "report.html").exists()


def test_a_missing_notebook_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no notebook"):
        run(tmp_path / "none.ipynb", tmp_path / "report.html", {})


def test_a_failing_cell_is_told_and_leaves_the_old_report(tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    run(write(tmp_path / "one.ipynb", "name"), out, {"name": "good"})
    before = out.read_text()
    failing = write(tmp_path / "two.ipynb", "import os\nopen('pid', 'w').write(str(os.getpid()))", "1 / 0", "name")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        with pytest.raises(
            ReportError, match=r"two\.ipynb failed in cell 4: ZeroDivisionError: division by zero"
        ) as caught:
            run(failing, out, {"name": "bad"})
    assert isinstance(caught.value, NestobsError)
    assert "1 / 0" in caught.value.traceback
    assert "\x1b" not in caught.value.traceback
    assert out.read_text() == before
    assert not alive(int((tmp_path / "pid").read_text()))
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_a_kernel_that_dies_is_told(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match="was not finished"):
        run(
            write(tmp_path / "one.ipynb", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"),
            tmp_path / "r.html",
            {},
        )


def test_a_kernel_that_dies_before_it_is_told_where_to_talk_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = tmp_path / "launch.py"
    launch.write_text("raise SystemExit('there is no room for a kernel')")
    monkeypatch.setattr(kernel, "_LAUNCH", launch)
    with pytest.raises(ReportError, match="Kernel died") as caught:
        run(write(tmp_path / "one.ipynb", "name"), tmp_path / "report.html", {})
    assert "no room for a kernel" in caught.value.traceback


def test_a_kernel_that_is_never_told_where_to_talk_ends(tmp_path: Path) -> None:
    for way in ("cut", "told nothing"):
        with kernel.leash() as held:
            process = kernel.started(tmp_path, held, bucket=False)
            if way == "told nothing":
                assert process.stdin is not None
                process.stdin.close()
                assert process.wait(60) == 0
        assert not alive(process.pid)
        assert process.poll() is not None


def test_html_of_a_cell_reaches_the_page_as_it_is(tmp_path: Path) -> None:
    shown = "<p title='a &amp; b'>1 &lt; 2&nbsp;<br>&notanentity;</p><i id=\"part-0\"></i>\\1 \\g<0>"
    source = write(tmp_path / "one.ipynb", f"from IPython.display import HTML\n\nHTML({shown!r})", "HTML(name)")
    page = run(source, tmp_path / "report.html", {"name": "<b>second</b>"}).read_text()
    assert shown in page
    assert "<b>second</b>" in page
    assert page.count('<i id="part-') == 1


def test_a_figures_question_and_note_are_as_wide_as_the_page_and_its_plot_as_high_as_before() -> None:
    figure = blank("Who is &lt;last&gt;, &#36;x&#36;?", "n = 3. <b>Not bold</b>", plot_px=200)
    height, margin = figure.layout.height, figure.layout.margin
    output = new_output("display_data", {PLOTLY: json.loads(described(figure, "alt", pd.DataFrame()).to_json())})
    made = page(new_notebook(cells=[new_code_cell("", outputs=[output])]), title="x", shared_js="plotly.js")
    note = "n\u00a0=\u00a03. &lt;b&gt;Not bold&lt;/b&gt;"
    assert f"<strong>Who is &lt;last&gt;, &#36;x&#36;?</strong> {note}</figcaption>" in made
    drawn = re.search(r'"height":(\d+)', made)
    assert drawn is not None
    assert int(drawn[1]) == height - margin.t + 28
    assert "Who is" not in made.split("</figcaption>")[1]


@pytest.mark.parametrize("meta", [None, "text", ["a", "list"], 3, {"question": "Why?"}, {"note": 4}])
def test_a_figure_of_somebody_elses_keeps_its_title(meta: object) -> None:
    layout = {"title": {"text": "a title"}, "height": 300, "margin": {"t": 60, "b": 60}, "meta": meta}
    figure = {"data": [{"type": "bar", "y": [1, 2]}], "layout": layout}
    shown = [{PLOTLY: figure}, {"text/html": ["<b>in</b>\n", "<i>lines</i>"]}]
    cell = new_code_cell("", outputs=[new_output("display_data", data) for data in shown])
    made = page(new_notebook(cells=[cell]), title="x", shared_js="plotly.js")
    assert "<figcaption" not in made
    assert '"text":"a title"' in made
    assert "<b>in</b>\n<i>lines</i>" in made


def test_a_cell_that_does_not_end_is_ended_with_its_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "one.ipynb", "import os, time\nopen('pid', 'w').write(str(os.getpid()))\ntime.sleep(60)")
    started = time.monotonic()
    with pytest.raises(ReportError, match="was not finished"):
        run(source, tmp_path / "report.html", {}, cell_timeout_s=2)
    assert time.monotonic() - started < 40
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="give --out a folder"):
        run(write(tmp_path / "one.ipynb", "name"), tmp_path / "file" / "report.html", {})


def test_it_runs_in_a_thread_as_well(tmp_path: Path) -> None:
    source = write(tmp_path / "one.ipynb", "name")
    thread = threading.Thread(target=run, args=(source, tmp_path / "report.html", {}))
    thread.start()
    thread.join(60)
    assert (tmp_path / "report.html").exists()


def test_the_projects_notebooks_are_found_by_name() -> None:
    assert notebook("demo").name == "demo.ipynb"
    with pytest.raises(UsageError, match=r"did you mean propagation\? There are .*demo"):
        notebook("propagatoin")
