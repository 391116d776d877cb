"""The tools of a figure: none of them would send the figure to another host. Those of a report: test_report."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import recorded_runs

pytestmark = pytest.mark.browser

# Every figure on the page, its drawing tools by title, and every address outside this machine that an element names.
TOOLS = """selector => [...document.querySelectorAll(selector)].map(box =>
  [...box.querySelectorAll('.modebar-btn')].map(b => b.getAttribute('data-title') || b.getAttribute('data-attr')))"""
ADDRESSES = r"""() => [...document.querySelectorAll('[href], [src], [action], [data-url]')]
  .flatMap(e => ['href', 'src', 'action', 'data-url'].map(name => e.getAttribute(name)))
  .concat([...document.querySelectorAll('.js-plotly-plot')].map(e => e._context.plotlyServerURL))
  .filter(value => value && /^(https?:)?\/\//.test(value) && !value.includes('//127.0.0.1'))"""


def assert_nothing_leaves(page, selector: str) -> None:
    page.locator(f"{selector} .modebar-btn").first.wait_for(state="attached")
    tools = page.evaluate(TOOLS, selector)
    assert any(tools) and any("Zoom" in title for titles in tools for title in titles)
    offered = {title for titles in tools for title in titles}
    assert not any(word in title.lower() for title in offered for word in ("share", "cloud", "upload", "plotly")), (
        offered
    )
    assert page.evaluate(ADDRESSES) == []


def test_figures_of_a_page_follow_the_theme_save_here_and_offer_no_upload(server, page, tmp_path):
    recorded_runs.finished(server.runs)
    page.emulate_media(color_scheme="dark")
    page.goto(f"{server.url}/run?run=finished&run-more=true")
    page.wait_for_function("document.querySelectorAll('.liveplot[data-drawn]').length >= 4")
    assert page.evaluate("document.querySelector('.liveplot')._fullLayout.font.color").lower() == "#e6eef0"
    assert_nothing_leaves(page, ".liveplot")
    page.get_by_role("button", name="More").first.click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the drawn numbers as CSV").first.click()
    assert Path(download.value.path()).read_text("utf-8").startswith("trace,x,y,z\n")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as SVG").first.click()
    assert "<svg" in Path(download.value.path()).read_text("utf-8")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Save as SVG").wait_for(state="hidden")
    page.locator(".st-key-run-matrix-place").get_by_role("button", name="More").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save the drawn numbers as CSV").click()  # the menu is not inside the card
    download.value.save_as(tmp_path / "matrix.csv")
    rows = [line.split(",") for line in (tmp_path / "matrix.csv").read_text("utf-8").splitlines()]
    cells = {(x, y): z for _, x, y, z in rows[1:] if z}
    assert ("T1", "T1") in cells and ("T1", "T3") in cells and not any(x.isdigit() for x, _ in cells)
    assert "NaN" not in (tmp_path / "matrix.csv").read_text("utf-8"), "a value that was not measured is empty"
