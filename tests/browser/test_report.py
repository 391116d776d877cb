"""A report opened as a file: it draws every figure, asks nobody for anything, follows the dark, and prints. And the
page that hands files out."""

from __future__ import annotations

import os
import zipfile

import pytest

pytest.importorskip("plotly", reason="plotly is not installed")

from dashboard.report import report
from dashboard.run_log import RunLog
from tests import recorded_runs
from tests.browser.conftest import violations
from tests.browser.test_figure_tools import assert_nothing_leaves

pytestmark = pytest.mark.browser

INKS = """[...document.querySelectorAll('.place')].map(e => e.layout.font.color)"""


@pytest.fixture
def opened(tmp_path, browser):
    """`opened(folder)`: the report of a run in a browser that is offline, drawn from its file; the file alone may be
    asked for, and nothing may go wrong in it."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light", offline=True)
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    file = tmp_path / "report.html"

    def open_it(folder):
        file.write_text(report(RunLog(folder).snapshot(force=True), described=[]), "utf-8")
        page.goto(file.as_uri())
        page.locator("html[data-drawn]").wait_for(state="attached", timeout=120_000)
        return page

    yield open_it
    context.close()
    assert asked == [file.as_uri()] and errors == []
    assert os.path.getsize(file) < 7e6


def in_the_dark(page):
    """The colour of its letters, after it was the same in all figures by light and by dark."""
    (light,) = set(page.evaluate(INKS))
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"{INKS}.every(ink => ink !== {light!r})")
    (dark,) = set(page.evaluate(INKS))
    return dark


def test_a_report_draws_itself_from_a_file_and_asks_for_nothing(tmp_path, opened):
    page = opened(recorded_runs.finished(tmp_path))
    figures = page.locator(".plot").count()
    assert figures > 8 and page.locator(".place .main-svg:first-child").count() == figures
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".save button").count() == 2 * figures
    assert page.evaluate("[...document.querySelectorAll('.place')].every(e => e.getAttribute('aria-label'))")
    assert_nothing_leaves(page, ".plot")
    assert violations(page) == []
    in_the_dark(page)
    assert violations(page, "color-contrast") == [], "in the dark"


def test_a_report_is_printed_on_white_and_then_dark_again(tmp_path, opened):
    page = opened(recorded_runs.unmeasured(tmp_path))  # few figures: printing draws each of them twice
    dark = in_the_dark(page)
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf[:5] == b"%PDF-" and len(pdf) > 50_000
    page.wait_for_function(f"{INKS}.every(ink => ink === {dark!r})")


def test_the_page_hands_out_what_its_buttons_say(server, page, tmp_path):
    recorded_runs.finished(server.runs)
    page.goto(f"{server.url}/export?run=finished")
    for button, name in (("Data (ZIP)", "finished-data.zip"), ("Recording (ZIP)", "finished.zip")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == name
        download.value.save_as(tmp_path / name)
    assert "finished-data/accuracy.csv" in zipfile.ZipFile(tmp_path / "finished-data.zip").namelist()
    assert "finished/events.db" in zipfile.ZipFile(tmp_path / "finished.zip").namelist()
    with page.expect_download() as download:
        page.get_by_role("button", name="Report (HTML)").click()
    download.value.save_as(tmp_path / "finished.html")
    assert "<!doctype html>" in (tmp_path / "finished.html").read_text("utf-8")[:20]
