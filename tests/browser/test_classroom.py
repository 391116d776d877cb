"""For a classroom: another address, a code, nothing to change; one figure at a time with keys."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
import segno

from tests import recorded_runs
from tests.browser.conftest import serving, violations

pytestmark = pytest.mark.browser

VIEWING = (
    "from pathlib import Path; from dashboard.serve import serve; "
    "serve(Path('runs'), port=port, browser=False, host='127.0.0.2', view_only=True, code='word')"
)
PRESENTED = "[...document.querySelectorAll('.presented')].map(e => e.querySelector('strong')?.innerText)"

# Of a drawn QR code with 8 pixels a module: which modules are dark.
MODULES = """(image, border) => {
  const size = image.naturalWidth;
  const canvas = Object.assign(document.createElement('canvas'), { width: size, height: size });
  const pen = canvas.getContext('2d'), modules = size / 8 - 2 * border;
  pen.drawImage(image, 0, 0);
  return Array.from({ length: modules }, (_, y) => Array.from({ length: modules }, (_, x) =>
    pen.getImageData((x + border) * 8 + 4, (y + border) * 8 + 4, 1, 1).data[0] < 128)); }"""


def status(url: str, method: str = "GET") -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def test_a_viewer_needs_the_code_and_changes_nothing(tmp_path, browser):
    with serving(tmp_path, VIEWING, host="127.0.0.2") as server:
        folder = recorded_runs.stopped(server.runs)
        assert status(server.url) == 403 and status(f"{server.url}/_stcore/upload_file/x/y", "PUT") == 403
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{server.url}/run?run=stopped&code=word")
        page.get_by_text("Everything was saved.", exact=False).wait_for(timeout=60_000)
        assert "code" not in page.url
        assert not page.get_by_role("button", name="Resume").count()
        page.get_by_role("button", name="This run").click()
        page.get_by_role("button", name="Classroom link").click()
        page.get_by_text("cannot change anything here").wait_for()
        dialog = page.get_by_role("dialog", name="Classroom link")  # the menu closes behind it
        dialog.get_by_text("code=word", exact=False).first.wait_for()  # the address is drawn last
        assert f"{server.url}/run?" in dialog.inner_text()
        address = dialog.locator("code").inner_text().strip()
        drawn = dialog.get_by_role("img", name="QR code of the address below")
        code = segno.make(address, micro=False)
        assert drawn.bounding_box()["width"] == code.symbol_size(scale=8, border=4)[0]
        assert drawn.evaluate(MODULES, 4) == [[bool(module) for module in row] for row in code.matrix]
        context.close()
        assert folder.config()


def test_one_figure_at_a_time_with_keys(server, page):
    recorded_runs.finished(server.runs)
    page.goto(f"{server.url}/spectra?run=finished&present=true")
    page.wait_for_function(f"{PRESENTED}.length === 1")
    first = page.evaluate(PRESENTED)
    page.keyboard.press("PageDown")
    page.wait_for_function(f"{PRESENTED}.length === 1 && {PRESENTED}[0] !== {first[0]!r}")
    shown = page.locator(".presented").bounding_box()
    assert shown["width"] > 0.8 * 1360 or shown["height"] > 0.8 * 800
    assert not page.get_by_test_id("stBottom").is_visible() and not violations(page)
    seen = page.evaluate("""() => [...document.querySelectorAll('.stMainBlockContainer p, .stMainBlockContainer h2')]
      .filter(e => e.checkVisibility({ visibilityProperty: true }))
      .filter(e => !e.closest('.presented, .st-key-presenting, .st-key-answer'))
      .map(e => e.innerText)""")
    assert seen == [], "nothing else shows through"
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"{PRESENTED}[0] === {first[0]!r}")
    page.keyboard.press("Escape")
    page.wait_for_function(f"{PRESENTED}.length === 0")
    page.get_by_test_id("stBottom").wait_for()
    assert "present" not in page.url


def test_a_link_without_controls(server, page):
    recorded_runs.finished(server.runs)
    page.goto(f"{server.url}/spectra?run=finished&layer=2&plain=true")
    page.locator(".liveplot[data-drawn]").first.wait_for()
    assert not page.locator(".st-key-shared-layer").is_visible() and not page.get_by_test_id("stBottom").is_visible()
    assert "layer=2" in page.url
