"""The overview and the feed: every verdict told apart, gaps shown, links that lead somewhere, hostile text harmless."""

from __future__ import annotations

import html
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nestobs.observation.window import DAY_S, Window
from nestobs.reports.publishing import index
from nestobs.reports.publishing.archive import Archive, Entry, Manifest
from nestobs.reports.publishing.manifest import manifest
from worlds import scheduled_reports as reports
from worlds.archives import SOURCE, publish

ATOM = "{http://www.w3.org/2005/Atom}"
DAYS = list(Window.parse("2026-01-01/2026-02-01").parts(DAY_S))
HOSTILE = "<script>window.pwned=1</script>]]>\x00\x07\u202e&amp;\"'><img src=x onerror=alert(1)>"


def about(window: Window, verdict: str = "good", reason: str = "as it was", coverage: float | None = 0.5) -> Manifest:
    found = {"verdict": verdict, "reasons": [reason], "coverage": coverage}
    error = reason if verdict == "failed" else ""
    return manifest("daily", window, {}, SOURCE, found, began_at=window.end, made_at=window.end + 1_000, error=error)


def entries(*verdicts: str) -> list[Entry]:
    """Days from 2026-01-01 with these verdicts, "" for none made."""
    return [Entry("daily", day, about(day, verdict)) for day, verdict in zip(DAYS, verdicts, strict=False) if verdict]


def text(page: str) -> str:
    bare = re.sub(r"<style>.*?</style>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).split())


def marks(page: str) -> list[tuple[str, str]]:
    """(style, sign) of each window's mark in the strips."""
    strips = page.partition("<section>")[2]
    return re.findall(r'<span class="mark (\w+)"[^>]*><b>([^<]*)</b>', strips)


def test_every_verdict_has_its_own_sign_and_its_own_style() -> None:
    page = index.page(entries("good", "breached", "too little data", "failed"))
    assert marks(page) == [("good", "✓"), ("breached", "✗"), ("little", "?"), ("failed", "F")]
    for words in ("good", "breached", "too little data", "failed", "not made"):
        assert words in text(page)


def test_gaps_are_marks_and_long_ones_say_how_many() -> None:
    page = index.page(entries("good", "", "", "good"))
    assert marks(page) == [("good", "✓"), ("gap", "·"), ("gap", "·"), ("good", "✓")]
    assert "2026-01-02 00:00:00 to 2026-01-03 00:00:00 UTC: not made" in page
    late = Window.parse("2027-01-01")
    page = index.page([*entries("good"), Entry("daily", late, about(late))])
    assert "364 windows were not made" in page
    assert len(marks(page)) == 3


def test_coverage_is_a_height_and_said_in_words() -> None:
    page = index.page(
        [Entry("daily", DAYS[0], about(DAYS[0], coverage=0.7)), Entry("daily", DAYS[1], about(DAYS[1], coverage=None))]
    )
    assert page.partition("<section>")[2].count("--share: 70%") == 1
    assert "good, coverage 70 %: as it was" in page
    assert "--share" not in page.partition("2026-01-02 00:00:00 to")[2]


def test_windows_of_different_lengths_have_strips_of_their_own() -> None:
    six = list(DAYS[0].parts(6 * 3_600))
    page = index.page([Entry("daily", window, about(window)) for window in [*six, DAYS[1]]])
    assert "every day" in text(page)
    assert "every 6 hours" in text(page)
    assert ("gap", "·") not in marks(page)


def test_every_link_leads_to_a_file_and_failed_ones_to_the_failed_page(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    publish(archive, DAYS[0])
    publish(archive, DAYS[1], error="no luck")
    publish(archive, DAYS[2])
    publish(archive, DAYS[2], error="later", late_s=500)
    index.refresh(archive)
    page = (tmp_path / "index.html").read_text()
    links = [link for link in re.findall(r'href="([^"]+)"', page) if not link.startswith(("data:", "#"))]
    assert [link for link in links if not (tmp_path / link).is_file()] == []
    assert "daily/2026-01-02/report.html" in links
    assert "daily/2026-01-03.failed/report.html" in links
    assert "daily/2026-01-03/report.html" in links
    assert "Failed last: 2026-01-03 : later. 1 more failed." in text(page)
    assert "<script" not in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert reports.left(tmp_path) == []


def test_nothing_made_is_said() -> None:
    assert "No report has been made yet." in text(index.page([]))
    feed = ElementTree.fromstring(index.feed([]))
    assert feed.find(f"{ATOM}entry") is None


@pytest.mark.parametrize("hostile", [HOSTILE, "x" * 1_000_000, "\ud800", "\u202e\u0000"])
def test_hostile_text_stays_text_in_page_and_feed(hostile: str) -> None:
    bad = about(DAYS[0], "failed", hostile)
    worse = {**about(DAYS[1]), "verdict": hostile, "reasons": [hostile] * 500, "made_at": hostile, "coverage": hostile}
    odd = {**about(DAYS[2]), "reasons": hostile, "coverage": float("nan"), "made_at": 3}
    found = [Entry("daily", day, each, failed=each) for day, each in zip(DAYS, (bad, worse, odd), strict=False)]
    page, feed = index.page(found), index.feed(found)
    for made in (page, feed):
        made.encode()
        assert "<script>" not in made
        assert "<img" not in made
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", made)
        assert len(made) < 100_000
    assert len(ElementTree.fromstring(feed).findall(f"{ATOM}entry")) == 3


def test_the_feed_has_what_atom_asks_for_and_ids_that_stay(tmp_path: Path) -> None:
    archive = Archive.open(tmp_path)
    publish(archive, DAYS[0])
    publish(archive, DAYS[1], error="no luck")
    index.refresh(archive)

    def read() -> dict[str, dict[str, str]]:
        feed = ElementTree.parse(tmp_path / "feed.xml").getroot()
        assert feed.tag == f"{ATOM}feed"
        for name in ("id", "title", "updated", "author"):
            assert feed.find(f"{ATOM}{name}") is not None
        found = {}
        for item in feed.findall(f"{ATOM}entry"):
            said = {child.tag.removeprefix(ATOM): child.text or child.get("href", "") for child in item}
            assert {"id", "title", "updated", "link", "summary"} <= set(said)
            assert (tmp_path / said["link"]).is_file()
            found[said["id"]] = said
        return found

    first = read()
    assert all(re.fullmatch(r"tag:[a-z0-9.-]+,\d{4}:[A-Za-z0-9_./-]+", name) for name in first)
    assert len(first) == 2
    publish(archive, DAYS[0], late_s=500)
    index.refresh(archive)
    again = read()
    assert set(again) == set(first)
    changed = {name for name in first if again[name]["updated"] != first[name]["updated"]}
    assert changed == {"tag:nestobs,2026:daily/2026-01-01"}


@pytest.mark.slow
def test_the_feed_is_bounded_and_newest_first() -> None:
    many = [Entry("daily", day, about(day)) for day in Window.parse("2025-01-01/2026-01-01").parts(DAY_S)]
    items = ElementTree.fromstring(index.feed(many)).findall(f"{ATOM}entry")
    assert len(items) == index.MOST_FEED
    assert "2025-12-31" in str(items[0].findtext(f"{ATOM}title"))
