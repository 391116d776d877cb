"""From a cell to one of its images, by keyboard and by clicks; the address follows."""

from __future__ import annotations

import re

import pytest

from tests import recorded_runs

pytestmark = pytest.mark.browser


def test_arrows_move_the_cell_and_a_click_traces_an_image(server, page):
    recorded_runs.located(recorded_runs.finished(server.runs, "plain", recorded_runs.Plan(method="sequential")).path)
    page.goto(f"{server.url}/forgetting?run=plain")
    heading = lambda text: page.get_by_role("heading", name=text).wait_for()
    heading("T1 after training on T3")
    page.get_by_text(re.compile(r"T1 fell \d+ of \d+ points")).wait_for()
    page.get_by_role("button", name="Task after").wait_for()
    page.get_by_text("In numbers").wait_for()  # the page's last part: keys are heard
    page.keyboard.press("ArrowRight")
    heading("T2 after training on T3")
    page.keyboard.press("ArrowUp")
    heading("T2 after training on T2")
    page.wait_for_url(re.compile("from=T2.*to=T2|to=T2.*from=T2"))
    page.keyboard.press("ArrowLeft")
    heading("T1 after training on T2")
    page.locator("[class*='st-key-trace-0-'] button").first.click()
    page.get_by_role("heading", name="Traced").wait_for()
    page.wait_for_url(re.compile(r"image=\d+"))
    page.get_by_text("Lost, taken for").wait_for()
    page.goto(f"{server.url}/forgetting?run=plain&from=T3&to=T1&layer=2&trace=1")  # as links were written once
    page.get_by_role("heading", name="Traced").wait_for()
    page.wait_for_url(re.compile("image=1"))
    page.get_by_role("button", name="Layer 2 on Spectra").click()
    page.wait_for_url(re.compile("/spectra.*from=T3"))
    for kept in ("to=T1", "layer=2", "image=1"):
        page.wait_for_url(re.compile(kept))
    page.go_back()
    page.get_by_role("heading", name="Traced").wait_for()
