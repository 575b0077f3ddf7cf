"""What a scheduled report says of itself to programs: manifest.json, made from the notebook's result.

And what may never stand in anything published: secrets, and where on this machine things lie.
"""

from __future__ import annotations

import hashlib
import html
import math
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, get_args

from nestobs import __version__
from nestobs.figures import plain
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import Window
from nestobs.reports import ReportError
from nestobs.reports.display import RESULT, Judged
from nestobs.reports.publishing.archive import SCHEMA, Manifest
from nestobs.store.reader import Store

MOST_REASONS, MOST_FACTS = 50, 200
_MOST_TEXT: Final = 2_000
_NO_NUMBER: Final = ("inf", "-inf", "nan")
"""What Jupyter's messages make of numbers that JSON has not."""

_SECRET: Final = re.compile(
    r"nsec1[a-z0-9]{20,}"  # a secret key
    r"|(?<![\w-])(?=[\w-]*?\beyJ[\w-]{10})[\w-]++\.eyJ[\w-]{10,}\.[\w-]+"  # a JWT: LiveKit's tokens
    r"|\b(?:Nostr|Bearer|Basic)\s+[\w+/=.~-]{16,}",  # an Authorization header's value: NIP-98, and others
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Source:
    """What a report is made from, as hashes: sha256 of the notebook's cells of code, and the store's own digest."""

    notebook: str
    observations: str

    @classmethod
    def of(cls, notebook: Path, store: Path | str, window: Window) -> Source:
        """Of a notebook over a window of a store. Raises StoreError where there is no store."""
        import nbformat

        cells = nbformat.read(notebook, as_version=4).cells  # type: ignore[no-untyped-call]  # typed in part
        code = "\0".join(str(cell.source) for cell in cells if cell.cell_type == "code")
        digest = Store.open(store, create=False).digest(start=window.start, end=window.end)
        return cls(hashlib.sha256(code.encode("utf-8", "backslashreplace")).hexdigest(), digest)

    @property
    def digest(self) -> str:
        """Both in one."""
        return hashlib.sha256(f"{self.notebook}\n{self.observations}".encode()).hexdigest()


def result(executed: Any) -> dict[str, Any]:
    """The result that an executed notebook shows; {} for none. Raises ReportError for one that is malformed."""
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    found = [output["data"][RESULT] for output in outputs if RESULT in output.get("data", {})]
    if not found:
        return {}
    last = found[-1]
    if not isinstance(last, dict) or last.get("verdict") not in get_args(Judged):
        raise ReportError("the notebook's result is none that can be read: show one nestobs.reports.display.Result")
    return dict(last)


def manifest(
    name: str,
    window: Window,
    parameters: Mapping[str, object],
    source: Source,
    found: Mapping[str, Any],
    *,
    began_at: int,
    made_at: int,
    error: str = "",
) -> Manifest:
    """The manifest of a report, as plain JSON with nothing infinite. found: the notebook's result, {} for none.

    A notebook without a result is good when it ran. An `error` makes the verdict failed, and is its only reason.
    """
    said, reasons = _text(error), found.get("reasons")
    told = [_text(each) for each in reasons[:MOST_REASONS]] if isinstance(reasons, list | tuple) else []
    return {
        "schema": SCHEMA,
        "report": name,
        "window": {"name": window.name, "start": iso(window.start), "end": iso(window.end)},
        "verdict": "failed" if error else found.get("verdict", "good"),
        "reasons": [said] if error else told,
        "error": said or None,
        "coverage": None if error else _value(found.get("coverage")),
        "rows": {} if error else _values(found.get("rows")),
        "facts": {} if error else _values(found.get("facts")),
        "parameters": {key: _parameter(value) for key, value in parameters.items()},
        "source_digest": source.digest,
        "source": {"notebook": source.notebook, "observations": source.observations},
        "versions": {
            "nestobs": __version__,
            "python": platform.python_version(),
            "papermill": version("papermill"),
            "plotly": version("plotly"),
        },
        "duration_s": round((made_at - began_at) / SECOND_NS, 3),
        "made_at": iso(made_at),
    }


def iso(instant: int) -> str:
    """An instant, ns UTC, in ISO 8601, to the microsecond where it is no whole second."""
    at = datetime.fromtimestamp(instant // SECOND_NS, UTC).replace(microsecond=instant % SECOND_NS // 1_000)
    return at.isoformat().replace("+00:00", "Z")


def redacted(text: str, *places: Path) -> str:
    """Without what looks like a key, a token or an Authorization header; and paths below this environment, the package,
    the current folder, home and `places` cut to what lies below those."""
    package = Path(__file__).resolve().parents[3]
    known = {package, Path(sys.prefix), Path(sys.base_prefix), Path.cwd(), Path.home(), *places}
    absolute = [re.escape(str(place)) for place in known if place.is_absolute() and place != Path("/")]
    folders = "|".join(sorted(absolute, key=len, reverse=True))
    bare = re.sub(rf"(?<![\w./-])(?:{folders})(/|(?![\w.-]))", lambda found: "" if found[1] else ".", text)
    return _SECRET.sub("[secret]", bare)


def _text(value: object) -> str:
    """One clean line of text, not escaped."""
    return html.unescape(plain(redacted(str(value)[: 8 * _MOST_TEXT]), _MOST_TEXT))


def _values(value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {}
    return {_text(key): _value(each) for key, each in list(value.items())[:MOST_FACTS]}


def _value(value: object) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if value in _NO_NUMBER else _text(value)


def _parameter(value: object) -> Any:
    if isinstance(value, list | tuple):
        return [_parameter(each) for each in value]
    return redacted(value)[:_MOST_TEXT] if isinstance(value, str) else _value(value)
