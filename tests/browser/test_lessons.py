"""A lesson in a browser: a link opens its step, keys lead on, and a refresh keeps the place."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.browser

STEP = "new URL(location.href).searchParams.get('step')"


def heading(page, text):
    """Wait until the step is there as a whole: a key pressed while the page is still being drawn is not heard."""
    page.get_by_role("heading", name=text).wait_for()
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
    page.locator(".liveplot[data-drawn]").wait_for()


def test_a_link_opens_a_step_and_a_refresh_keeps_it(server, page):
    page.goto(f"{server.url}/learn?lesson=forgetting&step=2")
    heading(page, "Down a column")
    page.get_by_role("button", name="Next").first.click()
    page.wait_for_function(f"{STEP} === '3'")
    heading(page, "Along the last row")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"{STEP} === '4'")
    page.reload()
    heading(page, "Forgetting as a number")
    assert page.evaluate(STEP) == "4"
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(f"{STEP} === '3'")
    page.get_by_role("button", name="All readouts of this run").click()
    page.wait_for_url("**/forgetting?run=sequential-split-digits**")
    page.get_by_role("link", name="Learn").click()
    heading(page, "Along the last row")
