"""The incident's page, on a store that holds nothing but what was imported."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import nestobs
from nestobs.reports.publishing.execute import run
from worlds.imported import NEST, ROOM, store_of
from worlds.parsers_of_logs import ACCESS, API, CONSOLE, HAR, LIVEKIT, TRANSCRIPT

NOTEBOOK = Path(nestobs.__file__).parents[1] / "notebooks" / "incident.ipynb"


@pytest.mark.slow
def test_the_incident_notebook_works_on_an_imported_store(tmp_path):
    logs = {"api__log": API, "livekit__log": LIVEKIT, "access__log": ACCESS}
    store = store_of(tmp_path, **logs, relay__txt=TRANSCRIPT, console__txt=CONSOLE, b__har=HAR)
    page = run(NOTEBOOK, tmp_path / "report.html", {"store": str(store.directory), "nest": ROOM}).read_text("utf-8")
    assert "Traceback" not in page
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert NEST in text
    assert "observations were imported, from" in text
    assert "api.log" in text
    for vantage in ("api-log", "livekit-log", "nginx-log", "relay-log", "browser"):
        assert vantage in text
