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

pytestmark = pytest.mark.browser

INKS = """[...document.querySelectorAll('.place')].map(e => e.layout.font.color)"""


def test_a_report_draws_itself_from_a_file_and_asks_for_nothing(tmp_path, browser):
    log = RunLog(recorded_runs.finished(tmp_path)).snapshot(force=True)
    file = tmp_path / "report.html"
    file.write_text(report(log, described=[]), "utf-8")
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light", offline=True)
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(file.as_uri())
    page.locator("html[data-drawn]").wait_for(state="attached", timeout=120_000)
    figures = page.locator(".plot").count()
    assert figures > 8 and page.locator(".place .main-svg:first-child").count() == figures
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator(".save button").count() == 2 * figures
    assert page.evaluate("[...document.querySelectorAll('.place')].every(e => e.getAttribute('aria-label'))")
    assert violations(page) == []
    light = set(page.evaluate(INKS))
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(1500)
    dark = set(page.evaluate(INKS))
    assert len(light) == len(dark) == 1 and light != dark
    assert violations(page, "color-contrast") == [], "in the dark"
    pdf = page.pdf(prefer_css_page_size=True)
    assert pdf[:5] == b"%PDF-" and len(pdf) > 50_000
    page.wait_for_timeout(1500)
    assert set(page.evaluate(INKS)) == dark, "after printing on white the page is as it was"
    assert asked == [file.as_uri()] and errors == []
    context.close()
    assert os.path.getsize(file) < 7e6


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
