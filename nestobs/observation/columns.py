"""Columns of observations as numpy arrays: texts as codes, instants as whole nanoseconds, and the least of a group.

A code stands for a text: 0, 1, … in the order of the texts, -1 for none. What many rows are grouped by is a code.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import pandas as pd

from nestobs.observation.arrays import BELOW, NONE, Flags, Floats, Ints, Texts, count_of
from nestobs.observation.schema import COLUMNS, Column, Observation, as_row

_DENSE: Final = 4
"""Codes up to so many times their number are counted, others hashed."""


def codes_of(values: pd.Series) -> tuple[Ints, Texts]:
    """Each value's place among the sorted texts, -1 where null or empty, and the texts."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        codes, texts = _of_categories(values)
    else:
        found, names = pd.factorize(values, sort=True)
        codes, texts = np.asarray(found, dtype=np.int64), np.asarray(names, dtype=object)
    if len(texts) and texts[0] == "":  # the empty text sorts first
        codes, texts = np.maximum(codes - 1, -1), texts[1:]
    return codes, texts


def _of_categories(values: pd.Series) -> tuple[Ints, Texts]:
    """The same of a categorical column, whose texts are looked at once each, and only those there are rows of."""
    given = np.asarray(values.cat.codes, dtype=np.int64)
    texts = np.asarray(values.cat.categories, dtype=object)
    present = np.flatnonzero(np.bincount(given + 1, minlength=len(texts) + 1)[1:])
    place, names = pd.factorize(texts[present], sort=True)
    places = np.full(len(texts) + 1, -1, dtype=np.int64)  # the last is null's
    places[present] = place
    return places[given], np.asarray(names, dtype=object)


def distinct(frame: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, Ints]:
    """Each different row of these columns of text once, in the order in which they come, and per row which it is of."""
    key, size = np.zeros(len(frame), dtype=np.int64), 1
    for name in names:
        codes, count = _numbered(frame[name])
        if size * (count + 1) > NONE:
            key, found = pd.factorize(key)
            size = len(found)
        key *= count + 1
        key += codes
        key += 1
        size *= count + 1
    of, found = pd.factorize(key)
    first = np.empty(len(found), dtype=np.int64)
    first[of[::-1]] = np.arange(len(of))[::-1]  # the last write stands
    return frame[[*names]].iloc[first].reset_index(drop=True), of


def _numbered(values: pd.Series) -> tuple[Ints, int]:
    """A number for each text, -1 for null, and how many there may be."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return np.asarray(values.array.codes), len(values.cat.categories)
    codes, names = pd.factorize(values)
    return codes, len(names)


def texts_at(names: Texts, codes: Ints) -> pd.api.extensions.ExtensionArray:
    """The text of each code, "" for -1, as a column of text is made of."""
    return pd.array(np.append(names, ""), dtype="str").take(codes)


def units_of(frame: pd.DataFrame) -> tuple[Ints, Texts]:
    """What observations are grouped by, as codes: the trace, where there is none the nest; and the text of each.

    A row without a trace, whose nest has one, is of it: of the last, where there are several.
    """
    trace, traces = codes_of(frame["trace_id"])
    nest, nests = codes_of(frame["nest"])
    last = np.full(len(nests) + 1, -1, dtype=np.int64)  # the last place is of rows of no nest
    named = (trace >= 0) & (nest >= 0)
    np.maximum.at(last, nest[named], trace[named])
    return _units(np.where(trace >= 0, trace, last[nest]), traces, nest, nests)


def lines_of(timelines: pd.DataFrame) -> tuple[Ints, Texts]:
    """The same of timelines, as it stands in each row: the trace, where there is none the nest."""
    return _units(*codes_of(timelines["trace_id"]), *codes_of(timelines["nest"]))


def _units(trace: Ints, traces: Texts, nest: Ints, nests: Texts) -> tuple[Ints, Texts]:
    found = np.where(trace >= 0, trace, np.where(nest >= 0, nest + len(traces), -1))
    unit = ranked(found)
    texts = np.empty(count_of(unit), dtype=object)
    known = found >= 0
    texts[unit[known]] = np.concatenate([traces, nests])[found[known]]
    return unit, texts


def unit_of(frame: pd.DataFrame) -> pd.Series:
    """What each row of timelines or joins is of: its trace_id, where there is none the nest's address."""
    return frame["trace_id"].where(frame["trace_id"] != "", frame["nest"])


def ranked(codes: Ints) -> Ints:
    """The same partition, numbered from 0 by size of the code; -1 stays."""
    size = count_of(codes)
    if size <= _DENSE * len(codes) + 1:
        present = np.zeros(size + 1, dtype=np.int64)
        present[codes] = 1  # -1 writes to the last
        present[size] = 0
        ranks = np.cumsum(present) - 1
        ranks[size] = -1
        return np.asarray(ranks[codes], dtype=np.int64)
    found, names = pd.factorize(codes, sort=True)
    return np.asarray(found, dtype=np.int64) - int(len(names) > 0 and names[0] == -1)


def paired(first: Ints, second: Ints) -> Ints:
    """One number from 0 per distinct pair, in the order of the pairs. Both may be -1."""
    return ranked((first + 1) * (count_of(second) + 1) + second + 1)


def instants_of(values: pd.Series) -> tuple[Ints, Flags]:
    """Instants in ns, 0 where null, and which are not null. Raises TypeError for a column of no integers."""
    known = np.asarray(values.notna(), dtype=bool)
    if not (pd.api.types.is_integer_dtype(values.dtype) or values.dtype == object or not known.any()):
        raise TypeError(f"{values.name} holds {values.dtype}, not int64 nanoseconds")
    if not known.any():
        return np.zeros(len(values), dtype=np.int64), known
    return np.asarray(values.astype("Int64").to_numpy(np.int64, na_value=0), dtype=np.int64), known


def reals_of(values: pd.Series) -> Floats:
    """Numbers, NaN where null."""
    if not pd.api.types.is_numeric_dtype(values.dtype):
        values = pd.to_numeric(values)
    return np.asarray(values.astype("Float64").to_numpy(np.float64, na_value=np.nan), dtype=np.float64)


def instant_in(value: Any) -> int | None:
    """A cell of a frame's instants in ns UTC, None where null."""
    return None if pd.isna(value) else pd.Timestamp(value).value


def equals(values: pd.Series, word: str) -> Flags:
    """Which are that text; a null is none."""
    if isinstance(values.dtype, pd.CategoricalDtype):  # a text of many rows is looked at once
        place = values.cat.categories.get_indexer(pd.Index([str(word)]))[0]
        codes = np.asarray(values.array.codes)
        return np.asarray(codes == place, dtype=bool) if place >= 0 else np.zeros(len(values), dtype=bool)
    return np.asarray(values.isin([str(word)]), dtype=bool)


def equals_any(values: pd.Series, words: Iterable[str]) -> Flags:
    """Which are one of these texts; a null is none."""
    wanted = [*{str(word) for word in words}]
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return values.isin(wanted).to_numpy(bool, copy=True)
    codes, found = np.asarray(values.array.codes), np.zeros(len(values), dtype=bool)
    for place in values.cat.categories.get_indexer(pd.Index(wanted)):
        if place >= 0:
            found |= codes == place
    return found


def records(frame: pd.DataFrame) -> list[Any]:
    """The rows in order, each with its columns as attributes."""
    return list(frame.itertuples(index=False))


def dicts_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows in order, each by its columns' names."""
    return cast(list[dict[str, Any]], frame.to_dict("records"))


_NULLABLE: Final = {"int": "Int64", "real": "Float64", "bool": "boolean", "text": "str"}


def observations_of(rows: Iterable[Observation]) -> pd.DataFrame:
    """Rows that are at hand as a frame like those of Store.frame, in their order. No row gives the columns alone."""
    values = [as_row(row) for row in rows]
    by_column = zip(*values, strict=True) if values else ([] for _ in COLUMNS)
    return pd.DataFrame(
        {
            column.name: pd.array([*cells], dtype=cast(Any, _NULLABLE[column.type]))
            for column, cells in zip(COLUMNS, by_column, strict=True)
        }
    )


DTYPES: Final = {
    "text": "str",
    "int": "int64",
    "real": "float64",
    "bool": "bool",
    "flag": "boolean",
    "instant": "datetime64[ns, UTC]",
}
"""Of a column's type, the dtype in frames. Nullable ones use NaN, NA and NaT."""


def framed(schema: Iterable[Column], values: Mapping[str, Any]) -> pd.DataFrame:
    """The values under the names and dtypes of these columns. Instants are whole ns UTC, NaT for NONE and BELOW."""
    made = {}
    for column in schema:
        value = values[column.name]
        if column.type == "instant":
            stamps = np.asarray(value, dtype=np.int64)
            value = pd.Series(np.where(stamps == NONE, BELOW, stamps).view("M8[ns]")).dt.tz_localize("UTC")
        made[column.name] = pd.Series(value).astype(cast(Any, DTYPES[column.type]))
    return pd.DataFrame(made)
