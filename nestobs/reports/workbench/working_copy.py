"""A notebook of the project to work in: a copy with its parameters set and nothing run, for JupyterLab.

What is there already stays as it is: somebody may have worked in it. No output and no secret is written, only the
parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from pathlib import Path

from nestobs.errors import UsageError
from nestobs.reports.publishing.execute import notebook
from nestobs.reports.publishing.parameters import TAG, check, defaults, filled


def working_copy(name: str, folder: Path, parameters: Mapping[str, object]) -> tuple[Path, bool]:
    """The copy of the notebook `name` in `folder` with these parameters, and whether it was written now.

    It is NAME.ipynb; where something else has that name NAME-2.ipynb, and so on; a copy that is there already and has
    the same parameters is taken. Raises UsageError for a notebook or a parameter that there is none of, or a folder
    that cannot be written.
    """
    import nbformat

    source = notebook(name)
    wanted = check(source, parameters) | dict(parameters)
    made = nbformat.read(source, as_version=4)  # type: ignore[no-untyped-call]  # nbformat is typed in part
    cell = next(cell for cell in made.cells if TAG in cell.metadata.get("tags", []))
    cell.source = filled(cell.source, parameters)
    text = nbformat.writes(made)  # type: ignore[no-untyped-call]  # nbformat is typed in part
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            path = folder / (f"{name}.ipynb" if number == 1 else f"{name}-{number}.ipynb")
            if not (path.exists() or path.is_symlink()):
                with path.open("x", encoding="utf-8") as file:
                    file.write(text)
                return path, True
            if _parameters(path) == wanted:
                return path, False
    except OSError as error:
        raise UsageError(f"{folder} cannot be written ({error.strerror}): give --to a folder you may write") from None
    raise AssertionError


def _parameters(path: Path) -> Mapping[str, object]:
    """Those of a notebook; none of a file that is no notebook."""
    try:
        return defaults(path)
    except UsageError:
        return {}
