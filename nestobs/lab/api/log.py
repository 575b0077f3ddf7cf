"""The API's own log, as the deployed one's logger (winston) writes it: JSON lines, or the plain lines of a console.

Which sentences it writes of what, and the line of each request (the combined format, as a message), are E's. Its clock
is the API's, skewed with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from aiohttp import web

FORMS: Final = ("json", "plain")
_SERVICE: Final = "nests-api"


class ApiLog:
    """A log at `path`; None: nothing is written. form: one of FORMS. now_s: the API's clock."""

    def __init__(self, path: Path | None, form: str, now_s: Callable[[], float]) -> None:
        self.path = path
        self._form, self._now_s = form, now_s
        self._file: IO[str] | None = None

    def open(self, stack: ExitStack) -> None:
        """Begin to write; closed with the stack, and silent from then on."""
        if self.path is not None:
            self._file = stack.enter_context(self.path.open("a", encoding="utf-8"))

    def info(self, message: str, **meta: Any) -> None:
        """Write a line of level info."""
        self._write("info", message, meta)

    def listed(self, room: str, *, there: bool) -> None:
        """Write the lines of LiveKit's list having been asked for a guest."""
        self.info(f"Guest join: About to call roomService.listRooms() for room {room}")
        self.info(f"Guest join: Looking for room {room}, exists: {'true' if there else 'false'}")

    def request(self, request: web.BaseRequest, status: int, size: int | None) -> None:
        """Write the line of a request that was answered. size: of the body, None where there is none."""
        when = datetime.fromtimestamp(self._now_s(), UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        agent = request.headers.get("User-Agent", "-").replace("\\", "\\\\").replace('"', '\\"')[:200]
        asked = f"{request.method} {request.path_qs}"
        sent = "-" if size is None else size
        self.info(f'{request.remote or "-"} - - [{when}] "{asked} HTTP/1.1" {status} {sent} "-" "{agent}"')

    def _write(self, level: str, message: str, meta: dict[str, Any]) -> None:
        if self._file is None or self._file.closed:
            return
        at = datetime.fromtimestamp(self._now_s(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._form == "json":
            line = json.dumps({"level": level, "message": message, "service": _SERVICE, **meta, "timestamp": at})
        else:
            line = f"{at} {level}: {message} {json.dumps({'service': _SERVICE, **meta})}"
        self._file.write(line.replace("\n", " ") + "\n")
        self._file.flush()
