"""What only a browser can show: first picture, a live run, refreshes that keep the reader's place, links, themes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from cl_core.store import RunFolder, create_run, lock_owner
from dashboard.theme import GROUNDS, contrast
from tests import recorded_runs
from tests.recorded_runs import ROOT, Plan
from tests.stand_in_worker import HURRY

pytestmark = pytest.mark.browser

CONNECTED = "[data-testid=stApp][data-test-connection-state=CONNECTED]"
MATRIX = ".accuracy-matrix td[data-measured]"
DRAWN = "[...document.querySelectorAll('.liveplot')].filter(e => e.dataset.drawn).length"
LOSSES = "document.querySelector('.st-key-run-losses-place .liveplot')"
RANGE = f"{LOSSES}.layout.xaxis.range"
GROUND = "getComputedStyle(document.querySelector('.stApp')).backgroundColor"
CELLS = """(() => {
  const map = [...document.querySelectorAll('.liveplot')].find(e => e.data && e.data.some(t => t.type === 'heatmap'));
  return map ? map._fullData[0].z.flatMap(r => Array.from(r)).filter(v => v != null && !Number.isNaN(v)).length : 0;
})()"""


@contextmanager
def training(runs: Path, *, delay: float = 0.15):
    """A stand-in for a worker plays a run into `runs/live`."""
    folder = create_run(runs, replace(Plan().config, name="live"))
    with working(folder, delay=delay):
        yield folder


@contextmanager
def working(folder: RunFolder, *, delay: float):
    """A stand-in for a worker plays a run into a folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stand_in_worker", "work", str(folder.path), "--delay", str(delay)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def zoom_into_the_middle(page):
    """Drag over the middle half of the first figure, as a reader does."""
    box = page.locator(".st-key-run-losses-place .nsewdrag").first.bounding_box()
    height = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] / 4, height)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 3 / 4, height, steps=8)
    page.mouse.up()
    page.wait_for_function(f"{RANGE}[1] - {RANGE}[0] < 12")


def look_at(page, url):
    page.goto(url)
    page.locator(CONNECTED).wait_for()


def test_start_shows_a_matrix_and_plays_it(page, server):
    look_at(page, server.url)
    panel = page.locator(".st-key-panel-start-matrix")  # the trade-off above has a Play of its own
    page.locator(MATRIX).first.wait_for()
    panel.get_by_role("button", name="Play").click()
    panel.get_by_role("button", name="Stop playing").wait_for()
    panel.get_by_role("button", name="Play", exact=False).first.wait_for()
    page.wait_for_url("**run=*permuted-digits*")  # the recording that travels along, and the link to it opens it again
    page.reload()
    page.locator(MATRIX).first.wait_for()


def test_a_live_run_fills_the_matrix_while_zoom_and_node_stay(page, server):
    with training(server.runs, delay=0.6) as folder:
        look_at(page, f"{server.url}/run?run=live")
        page.wait_for_function(f"{DRAWN} >= 1")
        zoom_into_the_middle(page)
        (folder.path / HURRY).touch()
        zoomed = page.evaluate(RANGE)
        page.evaluate(f"{LOSSES}.__mine = true")
        before = page.evaluate(f"+{LOSSES}.dataset.drawn")
        page.wait_for_function(f"{CELLS} >= 3", timeout=60_000)
        page.wait_for_function(f"+{LOSSES}.dataset.drawn > {before}")
        assert page.evaluate(f"{LOSSES}.__mine"), "the same node"
        assert page.evaluate(RANGE) == zoomed and zoomed[1] - zoomed[0] < 12
        page.wait_for_function(f"{CELLS} == 6", timeout=60_000)
        page.get_by_text("finished", exact=True).first.wait_for()


def test_a_page_opened_before_the_worker_finds_it_and_has_pause_step_and_stop_obeyed(page, server):
    folder = create_run(server.runs, replace(Plan().config, name="live"))
    look_at(page, f"{server.url}/run?run=live")
    page.get_by_text("not begun").first.wait_for()
    with working(folder, delay=0.4):
        page.get_by_role("button", name="Pause").click()
        page.get_by_text("Paused.", exact=False).first.wait_for()
        page.keyboard.press("s")
        page.wait_for_timeout(1500)
        page.get_by_text("Paused.", exact=False).first.wait_for()
        page.get_by_role("button", name="Stop").first.click()
        page.get_by_role("button", name="Save and stop").click()
        page.get_by_text("Everything was saved.", exact=False).wait_for()
        assert lock_owner(folder) is None


def test_a_killed_worker_is_said_and_what_was_measured_stays(page, server):
    with training(server.runs, delay=0.6) as folder:
        look_at(page, f"{server.url}/run?run=live")
        page.wait_for_function(f"{DRAWN} >= 2")
        os.kill(lock_owner(folder), 9)
        page.get_by_text("The training process died", exact=False).first.wait_for()
        page.wait_for_timeout(1500)  # the page is drawn anew with that sentence; one figure may be put up again
        page.wait_for_function(f"{DRAWN} >= 2")


def test_a_click_on_a_cell_opens_it_and_the_link_names_it(page, server):
    recorded_runs.finished(server.runs)
    look_at(page, f"{server.url}/forgetting?run=finished")
    page.wait_for_function(f"{CELLS} == 6")
    place = page.evaluate("""() => { const g = document.querySelector('.liveplot'), l = g._fullLayout,
        b = g.querySelector('.nsewdrag').getBoundingClientRect();
        return [b.x + l.xaxis.d2p(1), b.y + l.yaxis.d2p(1)]; }""")
    page.mouse.click(*place)
    page.get_by_text("T2 after training on T2").wait_for()
    page.wait_for_url("**/forgetting?*to=T2*")
    assert "from=T2" in page.url


def test_a_chosen_segment_is_legible(page, server):
    recorded_runs.finished(server.runs)
    for dark in (False, True):
        page.emulate_media(color_scheme="dark" if dark else "light")
        if not dark:
            look_at(page, f"{server.url}/forgetting?run=finished")
            page.locator("[role=radio][aria-checked=true]:visible").first.wait_for()
        page.wait_for_function(f"{GROUND} === '{ground(dark)}'")
        ink, tint = page.evaluate("""() => { const s = getComputedStyle(
            [...document.querySelectorAll('[role=radio][aria-checked=true]')].find(e => e.checkVisibility()));
            return [s.color, s.backgroundColor].map(c => c.match(/[0-9.]+/g).map(Number)); }""")
        share = tint[3] if len(tint) > 3 else 1.0
        mixed = [round(share * a + (1 - share) * b) for a, b in zip(tint, channels(dark), strict=False)]
        assert contrast(*("#" + "".join(f"{round(v):02x}" for v in c[:3]) for c in (ink, mixed))) >= 4.5


def channels(dark: bool) -> list[int]:
    """Red, green and blue of the page's ground."""
    return [int(GROUNDS[dark][i : i + 2], 16) for i in (1, 3, 5)]


def ground(dark: bool) -> str:
    """The same as a browser says it."""
    return "rgb({}, {}, {})".format(*channels(dark))


def test_the_server_ends_and_the_run_goes_on(page, own_server):
    with training(own_server.runs, delay=1.0) as folder:
        look_at(page, f"{own_server.url}/run?run=live")
        page.wait_for_function(f"{DRAWN} >= 1")
        own_server.process.terminate()
        own_server.process.wait(20)
        assert lock_owner(folder) is not None


SEEN = """seen => { Object.defineProperty(document, 'hidden', { configurable: true, get: () => !seen });
  Object.defineProperty(document, 'visibilityState', { configurable: true, get: () => seen ? 'visible' : 'hidden' });
  document.dispatchEvent(new Event('visibilitychange')); }"""


def test_a_tab_that_nobody_sees_asks_for_nothing_until_it_is_seen_again(page, server):
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda frame: sent.append(frame)))
    with training(server.runs, delay=0.3):
        look_at(page, f"{server.url}/run?run=live")
        page.wait_for_function(f"{DRAWN} >= 1")
        page.evaluate(SEEN, False)
        for _ in range(8):  # it says so once, and what was under way ends
            count = len(sent)
            page.wait_for_timeout(3000)  # three times as long as a visible tab waits
            if len(sent) == count:
                break
        assert len(sent) == count, "a hidden tab asks the server"
        before = page.evaluate(f"+{LOSSES}.dataset.drawn")
        page.evaluate(SEEN, True)
        page.wait_for_function(f"+{LOSSES}.dataset.drawn > {before}")
