"""Small reports to publish into an archive."""

from __future__ import annotations

import json
from pathlib import Path

from nestobs.observation.duration import SECOND_NS
from nestobs.observation.window import Window
from nestobs.reports.publishing.archive import Archive
from nestobs.reports.publishing.manifest import Source, manifest
from worlds import scheduled_reports as reports

DAY = Window.parse("2026-01-01")


SOURCE = Source("ab" * 32, "cd" * 32)


def publish(
    archive: Archive,
    window: Window = DAY,
    *,
    name: str = "daily",
    error: str = "",
    verdict: str = "good",
    late_s: int = 60,
) -> Path:
    """Publish a small report of that window, made `late_s` after its end."""
    made_at = window.end + late_s * SECOND_NS
    found = {"verdict": verdict, "reasons": ["as it was"], "coverage": 0.5}
    about = manifest(name, window, {}, SOURCE, found, began_at=made_at - 1, made_at=made_at, error=error)
    with archive.holding(name, window) as mine, archive.draft(name, window) as draft:
        assert mine
        text = json.dumps(about)
        for file in reports.FILES:
            (draft / file).write_text(text if file == "manifest.json" else f"{late_s} " * 50_000)
        return archive.publish(draft, failed=bool(error))
