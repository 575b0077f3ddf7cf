"""A notebook's parameters: the plain values of its cell tagged `parameters`; words NAME=VALUE read as their types, and
values set in that cell."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from pydantic import FiniteFloat, TypeAdapter

from nestobs.errors import UsageError, meant
from nestobs.observation.duration import read_duration
from nestobs.store.files import text_in

TAG: Final = "parameters"
NOTEBOOK_BYTES: Final = 50_000_000
_UNREADABLE: Final = (
    OSError,
    ValueError,
    SyntaxError,
    AttributeError,
    TypeError,
    LookupError,
    RecursionError,
    MemoryError,
)
"""What nbformat, and Python's parser of a cell, raise for what is none; the last two where it is nested too deep."""


def defaults(notebook: Path) -> dict[str, object]:
    """Names and default values, in their order; a value that is no literal is None. Raises UsageError for a notebook
    that is missing or is none."""
    nbformat = _nbformat()
    if not notebook.is_file():
        raise UsageError(f"there is no notebook {notebook}")
    try:
        cells = nbformat.reads(text_in(notebook, NOTEBOOK_BYTES), as_version=4).cells
        source = next((str(cell.source) for cell in cells if TAG in cell.metadata.get("tags", [])), "")
        return {name: _literal(value) for name, value in _assigned(source)}
    except (*_UNREADABLE, nbformat.ValidationError) as error:
        raise UsageError(f"{notebook} cannot be read as a notebook ({type(error).__name__})") from None


def _nbformat() -> Any:
    """nbformat, without what checks that texts are IRIs: no notebook has any, and that grammar takes over a second to
    make ready, each time jsonschema is imported where it is installed."""
    grammar = "rfc3987_syntax"
    hidden = grammar not in sys.modules
    if hidden:
        sys.modules[grammar] = None  # type: ignore[assignment]  # what Python takes for "cannot be imported"
    try:
        import nbformat
    finally:
        if hidden:
            del sys.modules[grammar]
    return nbformat


def _assigned(source: str) -> Iterable[tuple[str, ast.expr]]:
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value


def _literal(node: ast.expr) -> object:
    try:
        value: object = ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return None
    return value


def filled(source: str, values: Mapping[str, object]) -> str:
    """The source of a parameters cell with these values in place of its own, and its comments as they are."""
    text = source.encode()
    starts = [0, *accumulate(len(line) for line in text.splitlines(keepends=True))]
    for name, node in reversed(list(_assigned(source))):
        if name in values and node.end_lineno is not None and node.end_col_offset is not None:
            start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            text = text[:start] + _written(values[name]).encode() + text[end:]
    return text.decode()


def _written(value: object) -> str:
    """A value as Python, texts in double quotes where that is a matter of taste."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) and value.isprintable() else repr(value)


def check(notebook: Path, names: Iterable[str]) -> dict[str, object]:
    """The notebook's defaults. Raises UsageError, naming the known, for a name that it does not know."""
    known = defaults(notebook)
    for name in names:
        if name not in known:
            near = meant(name, list(known))
            raise UsageError(f"{notebook.name} has no parameter {name!r}{near}: it knows {', '.join(known) or 'none'}")
    return known


def read(notebook: Path, words: Iterable[str]) -> dict[str, object]:
    """NAME=VALUE, each read as the type of the notebook's default. Raises UsageError."""
    pairs: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            raise UsageError(f"--parameter {word[:80]!r}: write NAME=VALUE")
        pairs[name.strip()] = value
    known = check(notebook, pairs)
    return {name: typed(name, value, known[name]) for name, value in pairs.items()}


def typed(name: str, text: str, default: object) -> object:
    """The text as a value of the default's type: a list is JSON, true and false are said so; the number of a name that
    ends with _s is a duration, in seconds. Raises UsageError."""
    if type(default) not in _KINDS:
        return text
    kind, said = _KINDS[type(default)]
    try:
        if isinstance(default, list):
            return _list(text, default)
        duration = name.endswith("_s") and not isinstance(default, bool)
        value: object = TypeAdapter(kind).validate_python(read_duration(text, zero=True) if duration else text.strip())
    except UsageError as error:
        raise UsageError(f"--parameter {name}: {error}") from None
    except (ValueError, RecursionError):
        raise UsageError(f"--parameter {name}={text[:80]!r} is no {said}, as its default {default!r} is") from None
    return value


_KINDS: Final[Mapping[type, tuple[Any, str]]] = {
    bool: (bool, "truth value (true or false)"),
    int: (int, "whole number"),
    float: (FiniteFloat, "number"),
    list: (list, "list (write JSON)"),
}


def _list(text: str, default: list[Any]) -> list[Any]:
    """Of the default's element type, where it has one; a whole number may stand for a number."""
    found = json.loads(text)
    kinds = {type(each) for each in default}
    wanted = kinds | ({int} if float in kinds else set())
    if not isinstance(found, list) or (kinds and not {type(each) for each in found} <= wanted):
        raise ValueError(text)
    return found
