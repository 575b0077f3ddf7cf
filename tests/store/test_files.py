"""Files that are there whole or not at all."""

from pathlib import Path

import pytest

from nestobs.store.files import at_home, replacing, text_in


def test_replacing_leaves_what_was_there_when_it_fails(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "plain", "nül\0\r\n", "\U0001f399"], ids=["empty", "ascii", "controls", "astral"])
def test_a_text_is_read_as_it_stands_with_an_editors_mark_or_without(tmp_path, text):
    path = tmp_path / "file"
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + text.encode())
        assert text_in(path) == text


@pytest.mark.parametrize(
    "content", [b"\xff", "text".encode("utf-16"), b"\xed\xa0\x80", b"x" * 101], ids=["latin", "utf-16", "half", "long"]
)
def test_what_is_no_text_or_too_long_is_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=r"no|longer"):
        text_in(tmp_path / "file", 100)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5_000, ".", "missing"], ids=ascii)
def test_a_name_that_no_file_has_is_an_error_that_can_be_caught(tmp_path, name):
    with pytest.raises((OSError, ValueError)):
        text_in(tmp_path / name)


def test_a_file_without_end_is_not_read_to_its_end():
    with pytest.raises(ValueError, match="longer than 1000 bytes"):
        text_in("/dev/zero", 1_000)


@pytest.mark.parametrize(
    ("named", "meant"),
    [
        ("~/x", "/home/ada/x"),
        ("~", "/home/ada"),
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x"),
        ("~:", "~:"),
        ("~a\0b/x", "~a\0b/x"),
    ],
)
def test_a_path_begins_at_home_where_there_is_one(named, meant, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert at_home(Path(named)) == Path(meant)
