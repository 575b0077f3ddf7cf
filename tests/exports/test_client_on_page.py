"""join() and useNestJoin in Chromium, bundled as a page's author does, against a lab: the race, the fault, a 429."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nestobs.join.decision import GONE, LABELS, THERE, TOAST, TRYING, WAITING, Kind
from worlds.browser import Browser, Page, need_chromium
from worlds.client_front import Front
from worlds.client_labs import FRUGAL, PATIENT, world
from worlds.client_package import Project, installed_policy

pytestmark = pytest.mark.slow

CLIENT = Path(__file__).parent / "client"
BUSY = f"{LABELS['retrying']} (disabled)"
COUNTED = """
window.timers = new Set();
window.made = 0;
const [set, clear] = [setTimeout.bind(window), clearTimeout.bind(window)];
window.setTimeout = (work, ms, ...more) => {
  if (!/ within /.test(new Error().stack)) return set(work, ms, ...more); // React has some of its own
  const timer = set(() => [window.timers.delete(timer), work()], ms);
  window.made += 1;
  window.timers.add(timer);
  return timer;
};
window.clearTimeout = (timer) => [window.timers.delete(timer), clear(timer)];
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    need_chromium()
    with Browser() as started:
        yield started


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with the page, for each policy."""
    folder = tmp_path_factory.mktemp("pages")
    return {policy.name: site(installed_policy(folder / policy.name, policy)) for policy in (PATIENT, FRUGAL)}


def site(project: Project) -> Path:
    tools = project.link_tools()
    (project.folder / "page.jsx").write_text((CLIENT / "page.jsx").read_text("utf-8"), "utf-8")
    words = ["page.jsx", "--bundle", "--format=esm", "--jsx=automatic", "--outfile=site/page.js", "--log-level=warning"]
    said = project.run(tools / ".bin" / "esbuild", *words, "--define:process.env.NODE_ENV='development'")
    assert said == ""
    made = project.folder / "site"
    (made / "index.html").write_text(
        '<!doctype html><title>A nest</title><body><script type="module" src="page.js"></script>'
    )
    return made


@pytest.fixture
def visit(sites, browser, tmp_path) -> Callable[..., Any]:
    """`with visit(scenario) as (front, page)`."""

    @contextmanager
    def visited(scenario: str, policy: Any = PATIENT, **options: Any) -> Iterator[tuple[Front, Page]]:
        with world(scenario, tmp_path, sites[policy.name], **options) as front:
            page = browser.open("about:blank")
            page.before(COUNTED)
            page.go(front.origin)
            assert [said for said in page.errors if not said.startswith("Failed to load resource")] == []
            try:
                yield front, page
                assert page.evaluate("[window.made > 0, window.timers.size]") == [True, 0]
                assert [said for said in page.errors if not said.startswith("Failed to load resource")] == []
            finally:
                page.close()

    return visited


def press(page: Page) -> None:
    page.evaluate("document.querySelector('button').click()")


def begun(front: Front, page: Page, **words: Any) -> None:
    """The page with a fresh nest, its button pressed."""
    page.evaluate(f"prepare({json.dumps({'api': front.api, **words})})")
    page.until("!!document.querySelector('button')")
    press(page)


def status(page: Page) -> str:
    return str(page.evaluate("document.querySelector('[role=status]').textContent"))


def ended(page: Page) -> dict[str, Any]:
    return dict(page.until("window.nest.verdict", wait_s=60))


class TestTheHook:
    @pytest.mark.parametrize("guest", [False, True], ids=["signed in", "guest"])
    def test_in_the_race_it_tries_again_and_joins(self, guest, visit):
        with visit("slow-api") as (front, page):
            begun(front, page, guest=guest)
            page.until("window.nest.wait")
            assert status(page).startswith(WAITING[Kind.STARTING_UP] + TRYING)
            verdict = ended(page)
            assert verdict["kind"] in ((Kind.GUEST,) if guest else (Kind.AUTHENTICATED, Kind.GUEST_INSTEAD))
            page.until("document.querySelector('button') === null")
            first = LABELS["join_as_guest" if guest else "join"]
            assert page.evaluate("window.labels") == [first, f"{first} (disabled)", BUSY, ""]
            assert page.evaluate("window.nest.phase") == "joined"
            assert page.evaluate("window.nest.attempts.map(({ status }) => status)") == [
                status for _, _, status in front.asked
            ]

    def test_in_the_fault_it_says_that_the_room_is_there(self, visit):
        with visit("api-join-fault") as (front, page):
            begun(front, page)
            assert ended(page)["kind"] == Kind.API_FAULT
            assert status(page) == THERE
            assert page.evaluate("[window.nest.phase, window.nest.button]") == ["failed", None]

    def test_retry_is_offered_pressed_and_offered_again(self, visit):
        with visit("never", FRUGAL) as (front, page):
            begun(front, page)
            ended(page)
            page.until("!!document.querySelector('button:enabled')")
            assert status(page) == GONE
            press(page)
            page.until("window.nest.phase === 'joining'")
            ended(page)
            page.until("!!document.querySelector('button:enabled')")
            retry = LABELS["retry"]
            assert page.evaluate("window.labels") == [
                LABELS["join"],
                f"{LABELS['join']} (disabled)",
                BUSY,
                retry,
                BUSY,
                retry,
            ]
            assert len(front.asked) == 2 * page.evaluate("window.nest.verdict.requests") <= 2 * FRUGAL.max_requests

    def test_a_host_is_given_restart(self, visit):
        with visit("never", FRUGAL) as (front, page):
            begun(front, page, host=True)
            ended(page)
            page.until("!!document.querySelector('button:enabled')")
            assert page.evaluate("window.labels.at(-1)") == LABELS["restart"]
            press(page)
            assert page.evaluate("window.restarted") == 1
            assert page.evaluate("window.nest.phase") == "failed"

    def test_whoever_is_seated_as_a_guest_is_told(self, visit):
        with visit("guests-only") as (front, page):
            begun(front, page)
            assert ended(page)["kind"] == Kind.GUEST_INSTEAD
            told = page.evaluate("document.querySelector('[role=alert]').textContent")
            assert told == f"{TOAST['title']}: {TOAST['description']}"

    @pytest.mark.parametrize(
        ("script", "shows"),
        [
            ("window.leave()", "null"),
            ("window.render({ room: 'another' })", "'idle'"),
            ("window.nest.stop()", "'idle'"),
        ],
        ids=["left", "another room", "stopped"],
    )
    def test_when_the_page_moves_on_nothing_is_asked_any_more(self, script, shows, visit):
        with visit("never") as (front, page):
            begun(front, page)
            page.until("window.nest.wait")
            page.evaluate(script)
            page.until("window.timers.size === 0")
            asked = len(front.asked)
            time.sleep(1.0)  # two rounds and more
            assert len(front.asked) == asked
            if shows != "null":
                assert page.evaluate(f"window.nest.phase === {shows}")


class TestTheDriver:
    @pytest.mark.parametrize(
        ("origin", "exposes"), [("own", True), ("other", True), ("other", False)], ids=["own", "other", "hidden"]
    )
    def test_a_429_is_waited_for_and_the_join_goes_on(self, origin, exposes, visit):
        """Another origin's Retry-After is hidden unless it is exposed: then the policy's own gap is waited."""
        with visit("limited", exposes=exposes) as (front, page):
            api = front.api if origin == "own" else front.elsewhere
            said = page.evaluate(f"window.drive({json.dumps({'api': api})})", wait_s=60)
            assert said["verdict"]["kind"] == Kind.AUTHENTICATED
            assert said["verdict"]["requests"] == len(front.asked) <= PATIENT.max_requests
            limited = [event["retryAfterSeconds"] for event in said["events"] if event.get("status") == 429]
            waits = [
                event["seconds"]
                for event in said["events"]
                if event["type"] == "wait" and event["kind"] == Kind.RATE_LIMITED
            ]
            assert len(limited) > 0
            assert waits == (limited if exposes else [PATIENT.error_gap_s * 2**n for n in range(len(limited))])

    def test_aborted_while_it_waits_it_is_gone(self, visit):
        with visit("never") as (front, page):
            said = page.evaluate(f"window.drive({json.dumps({'api': front.api})}, {{ stopAt: 'wait' }})")
            assert said["error"] == "enough"
            assert page.evaluate("window.timers.size") == 0
            asked = len(front.asked)
            time.sleep(1.0)
            assert len(front.asked) == asked == 3

    def test_aborted_while_it_asks_it_hangs_up(self, visit):
        with visit("never") as (front, page):
            front.holds = True
            page.evaluate(f"void (window.said = window.drive({json.dumps({'api': front.api})}))")
            page.until("fetch('/held').then((answer) => answer.text()).then((text) => text === '1')")
            page.evaluate("window.stop()")
            assert page.evaluate("window.said") == {"events": [], "error": "enough"}
            page.until("fetch('/left').then((answer) => answer.text()).then((text) => text === '1')")
