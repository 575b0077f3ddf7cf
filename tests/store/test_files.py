"""Files that are there whole or not at all."""

import pytest

from nestobs.store.files import replacing


def test_replacing_leaves_what_was_there_when_it_fails(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
