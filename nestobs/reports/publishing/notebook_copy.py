"""A notebook of the project to work in: a copy with parameters set and nothing run, for JupyterLab.

    python -m nestobs.reports.publishing.notebook_copy incident --store runs/demo/store --out runs/incident.ipynb

The copy opens on the nest that was asked for, else on the worst one of the store. What is there already stays as it is:
somebody may have worked in it. No output and no secret is written, only the parameters.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from nestobs.errors import NestobsError, UsageError
from nestobs.reports.publishing.execute import notebook
from nestobs.reports.publishing.parameters import check
from nestobs.store.reader import Store
from nestobs.timeline.ranking import RANKED_BY, ranking


def open_copy(name: str, out: Path, parameters: Mapping[str, object]) -> bool:
    """Write the copy of the notebook `name` with these parameters; False where `out` is there already.

    Raises UsageError for a notebook or a parameter that there is none of, or a file that cannot be written.
    """
    import nbformat
    from papermill.iorw import load_notebook_node
    from papermill.parameterize import parameterize_notebook

    source = notebook(name)
    check(source, parameters)
    if out.exists():
        return False
    made = parameterize_notebook(load_notebook_node(str(source)), dict(parameters))
    made.metadata.pop("papermill", None)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("x", encoding="utf-8") as file:
            nbformat.write(made, file)  # type: ignore[no-untyped-call]  # nbformat is typed in part
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}): give --out a folder you may write") from error
    return True


def worst(store: Path) -> str:
    """The address, else the room, of the nest of the store that went worst; "" where there is none."""
    ranked = ranking(Store.open(store, create=False).frame(columns=RANKED_BY, categories=True))
    return "" if ranked.empty else str(ranked["nest"].iloc[0] or ranked["room"].iloc[0])


def main(argv: list[str] | None = None) -> int:
    """The command above; its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m nestobs.reports.publishing.notebook_copy", description=__doc__.splitlines()[0]
    )
    parser.add_argument("name", choices=("incident", "live"), help="which notebook")
    parser.add_argument("--store", metavar="DIR", type=Path, required=True, help="folder of observations")
    parser.add_argument("--out", metavar="FILE", type=Path, required=True, help="the copy to write, .ipynb")
    parser.add_argument("--nest", metavar="ADDRESS", default="", help="incident: this nest (default: the worst one)")
    args = parser.parse_args(argv)
    parameters: dict[str, object] = {"store": str(args.store.expanduser().absolute())}
    try:
        if args.name == "incident":
            parameters["nest"] = args.nest or worst(args.store)
        made = open_copy(args.name, args.out, parameters)
    except NestobsError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(f"{args.out} is there" + ("" if made else " already, and stays as it is"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
