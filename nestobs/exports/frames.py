"""Frames as files: Parquet for programs, CSV for people and spreadsheets. Each file is there whole or not at all.

CSV cannot carry everything. It is UTF-8 with a header line, every text in quotes (so a control character or a line
break stays inside its cell), a missing value an empty pair of quotes, an instant as ISO 8601 in UTC with nanoseconds.
A text that a spreadsheet would take for a formula, because it starts with = + - @ (as they are, or of full width), tab,
CR or LF (OWASP, CSV injection), gets a leading apostrophe: the cell is then no longer the stored text. What must come
back exactly goes through Parquet.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nestobs.errors import StoreError
from nestobs.observation.schema import INSTANTS
from nestobs.store.files import replacing

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_CHUNK_ROWS = 50_000


def write_parquet(frame: pd.DataFrame, path: Path | str) -> None:
    """Write the frame, without its index, to `path`, replacing what was there. No row gives the columns alone.

    Raises StoreError, `path` as it was, when the disk does not take it.
    """
    with _placing(Path(path)) as temporary:
        frame.to_parquet(temporary, engine="pyarrow", compression="zstd", index=False)


def write_csv(frame: pd.DataFrame, path: Path | str) -> None:
    """Write the frame, without its index, to `path` as the module says. No row gives the header alone.

    Instants are the integer columns named in `observation.INSTANTS` (ns UTC) and every datetime column; a naive one
    counts as UTC. Raises StoreError, `path` as it was, when the disk does not take it.
    """
    import pandas as pd

    with (
        _placing(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as sink,
    ):
        for at in range(0, max(len(frame), 1), _CHUNK_ROWS):
            part = frame.iloc[at : at + _CHUNK_ROWS]
            shown = pd.DataFrame({name: _shown(part[name]) for name in part.columns}, index=part.index)
            shown.to_csv(sink, header=at == 0, index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")


@contextmanager
def _placing(path: Path) -> Iterator[Path]:
    try:
        with replacing(path) as temporary:
            yield temporary
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written ({error.strerror or error}): give a path with room that you may write"
        ) from error


def _shown(column: pd.Series) -> pd.Series:
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return _iso(column)
    if column.name in INSTANTS and pd.api.types.is_integer_dtype(column.dtype):
        return _iso(pd.to_datetime(column, unit="ns", utc=True))
    if pd.api.types.is_numeric_dtype(column.dtype):
        return column
    guarded = [None if missing else _guarded(value) for value, missing in zip(column, column.isna(), strict=True)]
    return pd.Series(guarded, index=column.index, dtype=object)


def _iso(column: pd.Series) -> pd.Series:
    import numpy as np
    import pandas as pd

    instants = pd.DatetimeIndex(pd.to_datetime(column, utc=True)).tz_localize(None).to_numpy("datetime64[ns]")
    text = pd.Series(np.datetime_as_string(instants, unit="ns"), index=column.index, dtype=object) + "Z"
    return text.mask(np.isnat(instants), None)


def _guarded(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
