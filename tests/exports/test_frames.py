"""What is written can be read by what people use, and runs nothing there."""

import csv

import pandas as pd
import pytest

from nestobs.errors import StoreError
from nestobs.exports.frames import write_csv, write_parquet
from nestobs.store.reader import Store
from worlds.hostile import MEGABYTE, TEXTS, hostile_rows, names

FRAME = pd.DataFrame(
    {
        "sent_at": [1_700_000_000_123_456_789, 0],
        "received_at": pd.array([None, -1], "Int64"),
        "status": pd.array([404, None], "Int64"),
        "timeout_s": pd.array([-1.5, None], "Float64"),
        "connection_reused": pd.array([True, None], "boolean"),
        "target": ['wss://a,"b"\r\n\x00\x1b[31m\u202e', "é"],
        "failure": pd.array([None, "timeout"], "string"),
        "when": pd.to_datetime(["2026-01-01T02:00:00+02:00", None]),
    }
)


def read(path):
    with path.open(encoding="utf-8", newline="") as source:
        return list(csv.reader(source))


def test_csv_has_a_header_iso_instants_and_empty_cells_for_what_is_missing(tmp_path):
    write_csv(FRAME, tmp_path / "out.csv")
    header, first, second = read(tmp_path / "out.csv")
    assert header == list(FRAME.columns)
    assert first == [
        "2023-11-14T22:13:20.123456789Z", "", "404", "-1.5", "True", FRAME["target"][0], "",
        "2026-01-01T00:00:00.000000000Z",
    ]  # fmt: skip
    assert second == [
        "1970-01-01T00:00:00.000000000Z",
        "1969-12-31T23:59:59.999999999Z",
        "",
        "",
        "",
        "é",
        "timeout",
        "",
    ]


@pytest.mark.parametrize("start", list("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
@pytest.mark.parametrize("dtype", ["str", "string", "object", "category"])
def test_a_text_that_would_be_a_formula_gets_an_apostrophe(tmp_path, start, dtype):
    cells = [f'{start}HYPERLINK("https://evil.example")', f"a{start}", ""]
    write_csv(pd.DataFrame({"reason": pd.Series(cells, dtype=dtype)}), tmp_path / "out.csv")
    assert [cell for (cell,) in read(tmp_path / "out.csv")] == ["reason", f"'{cells[0]}", cells[1], cells[2]]


def test_control_characters_stay_inside_quotes(tmp_path):
    cells = ["\x00", "\x1b[2J", "\x07", "a\nb", "a\rb"]
    write_csv(pd.DataFrame({"reason": cells}), tmp_path / "out.csv")
    expected = '"reason"\n' + "".join(f'"{cell}"\n' for cell in cells)
    assert (tmp_path / "out.csv").read_bytes() == expected.encode()


def test_a_lone_surrogate_is_escaped(tmp_path):
    write_csv(pd.DataFrame({"reason": pd.Series(["\ud800"], dtype=object)}), tmp_path / "out.csv")
    assert read(tmp_path / "out.csv")[1] == ["\\ud800"]


def test_no_row_gives_the_header_alone(tmp_path):
    write_csv(FRAME.iloc[:0], tmp_path / "out.csv")
    assert read(tmp_path / "out.csv") == [list(FRAME.columns)]


@pytest.mark.slow
def test_many_rows_have_one_header(tmp_path):
    write_csv(pd.DataFrame({"attempt_no": range(120_000)}), tmp_path / "out.csv")
    assert [cell for (cell,) in read(tmp_path / "out.csv")] == ["attempt_no", *map(str, range(120_000))]


def test_parquet_brings_back_the_frame(tmp_path):
    write_parquet(FRAME, tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), FRAME)


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_path_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path, write):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"out cannot be written .*: give a path"):
        write(FRAME, tmp_path / "file" / "out")
    with pytest.raises(StoreError, match="none/out cannot be written"):
        write(FRAME, tmp_path / "none" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_a_file_is_replaced_whole(tmp_path, write):
    (tmp_path / "out").write_text("old " * 10_000)
    write(FRAME, tmp_path / "out")
    assert b"old" not in (tmp_path / "out").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.fixture(scope="module")
def infested(tmp_path_factory):
    """What a store gives back of nests that strangers named."""
    store = Store.open(tmp_path_factory.mktemp("store"))
    with store.writer() as writer:
        writer.append(hostile_rows(2))
    return store.frame()


@pytest.fixture
def longest_cell():
    usual = csv.field_size_limit(4 * MEGABYTE)
    yield
    csv.field_size_limit(usual)


@pytest.mark.slow
def test_strangers_names_make_no_formula_and_no_row_of_their_own(infested, tmp_path, longest_cell):
    write_csv(infested, tmp_path / "out.csv")
    header, *rows = read(tmp_path / "out.csv")
    assert header == list(infested.columns)
    assert len(rows) == len(infested)
    assert {len(row) for row in rows} == {len(header)}
    texts = [n for n, name in enumerate(header) if not pd.api.types.is_numeric_dtype(infested[name].dtype)]
    assert not {row[n][:1] for row in rows for n in texts} & set("=+-@\t\r")
    room = header.index("room")
    shown = {row[room] for row in rows}
    assert {"'" * text.startswith(("=", "+", "-", "@")) + text for text in TEXTS if "\ud800" not in text} <= shown
    assert sum(text.startswith("M" * 100) for text in shown) == 1, "a name of a megabyte, cut where it was observed"


@pytest.mark.slow
def test_strangers_names_come_back_from_parquet(infested, tmp_path):
    write_parquet(infested, tmp_path / "out.parquet")
    back = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(back.astype(infested.dtypes), infested)
    assert {names(text).room for text in TEXTS if "\ud800" not in text} <= set(back["room"])
