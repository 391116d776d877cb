"""A threshold dragged in a browser: bars follow the pointer, the server hears of it once, on release."""

from __future__ import annotations

import pytest

from tests import recorded_runs
from tests.browser.conftest import turn_to
from tests.invented_run import LIFELIKE

pytestmark = pytest.mark.browser

SHOWN = ".threshold[data-draws]"
DRAWS = f"+document.querySelector('{SHOWN}').dataset.draws"


def test_bars_follow_the_pointer_without_the_server(server, page):
    recorded_runs.finished(server.runs, plan=LIFELIKE)
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda _: sent.append(1)))
    page.goto(f"{server.url}/whatif?run=finished&rule=knee")
    page.locator(SHOWN).wait_for()
    assert page.locator(".threshold-input").is_hidden(), "a knee cannot be moved"
    turn_to(page, f"{server.url}/whatif?run=finished&rule=energy+share&whatif-more=true")
    page.locator(SHOWN).wait_for()
    page.wait_for_function("document.querySelectorAll('.liveplot[data-drawn]').length >= 2")
    page.locator(".threshold-input").wait_for()
    assert page.locator(".st-key-tau").is_hidden(), "one slider is enough"
    page.wait_for_timeout(1500)  # what a fresh page still has to say
    handle = page.locator(".threshold-input").bounding_box()
    middle = handle["y"] + handle["height"] / 2
    before, drawn, seen = len(sent), page.evaluate(DRAWS), set()
    page.mouse.move(handle["x"] + 0.6 * handle["width"], middle)
    page.mouse.down()
    for step in range(12):
        page.mouse.move(handle["x"] + (0.6 - 0.03 * step) * handle["width"], middle)
        page.wait_for_timeout(30)
        seen.add((page.inner_text(".threshold-value"), page.inner_text(".threshold-row.threshold-mean")))
    assert page.evaluate(DRAWS) - drawn >= 10 and len(seen) >= 10
    assert len(sent) == before, "a drag asked the server"
    page.mouse.up()
    chosen = page.inner_text(".threshold-value")
    page.wait_for_function(f"new URL(location.href).searchParams.get('tau') === '{chosen}'")
    assert len(sent) > before and page.inner_text(".threshold-value") == chosen
    page.reload()
    page.locator(SHOWN).wait_for()
    page.wait_for_function(f"document.querySelector('.threshold-value').textContent === '{chosen}'")
