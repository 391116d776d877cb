"""One projection in a browser: dragged, by keyboard, in a file; always the numbers that NumPy finds."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.widgets.projection_plane import example_points, html, projection_picture, says
from tests.browser.conftest import serving, violations

pytestmark = pytest.mark.browser

DRAWN = ".plane[data-draws]"
PAGE = """
import streamlit as st
from dashboard.widgets.projection_plane import projection_plane
projection_plane(key="plane")
st.button("Again")
"""
PROGRAM = """
from pathlib import Path
import streamlit as st
from dashboard.serve import settings
st.App(Path("page.py").resolve()).run(config={**settings(), "server.port": port})
"""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """A page with nothing but the plane."""
    folder = tmp_path_factory.mktemp("plane")
    (folder / "page.py").write_text(PAGE, "utf-8")
    with serving(folder, PROGRAM) as running:
        yield running.url


def state(page):
    return page.evaluate(
        f"(() => {{ const b = document.querySelector('{DRAWN}'); return {{ ...b.__state, points: b.__points,"
        "gradient: b.__gradient, picture: b.__picture, says: b.__says.textContent }; })()"
    )


def agrees(now):
    """What the browser drew is what NumPy finds for the same points and gradient."""
    told = projection_picture(now["points"], now["gradient"], now["energy"], now["alpha"] if now["soft"] else None)
    for name, value in now["picture"].items():
        np.testing.assert_allclose(value, getattr(told, name), atol=1e-9, err_msg=name)
    assert now["says"] == says(told, now["energy"])
    return told


def move(page, name, value):
    page.evaluate(
        "([name, value]) => { const i = document.querySelector('input.plane-' + name);"
        "i.value = value; i.dispatchEvent(new Event('input', { bubbles: true })); }",
        [name, value],
    )


def test_the_browser_finds_what_numpy_finds_and_asks_nobody(address, page):
    sent = []
    page.on("websocket", lambda opened: opened.on("framesent", lambda _: sent.append(1)))
    page.goto(address)
    page.locator(DRAWN).wait_for()
    page.get_by_role("button", name="Again").wait_for()
    page.wait_for_timeout(1000)  # what a fresh page still has to say
    before, first = len(sent), state(page)
    np.testing.assert_allclose(first["points"], example_points(), atol=1e-12)
    assert agrees(first).protected == 1
    counts = []
    for energy in (0, 0.5, 0.97, 1):
        move(page, "energy", energy)
        counts.append(agrees(state(page)).protected)
    assert counts == [0, 1, 2, 2]
    page.locator("input.plane-soft").check()
    assert 0 < agrees(state(page)).strength[1] < 1
    move(page, "alpha", 2)
    soft = agrees(state(page))
    assert 0 < soft.left_share < 1
    page.locator("input.plane-soft").uncheck()
    move(page, "energy", 0.9)
    move(page, "angle", 110)
    move(page, "elongation", 6)
    shaped = agrees(state(page))
    np.testing.assert_allclose(shaped.axes[0], [np.cos(np.deg2rad(110)), np.sin(np.deg2rad(110))], atol=1e-9)
    assert shaped.deviations[0] / shaped.deviations[1] == pytest.approx(6)
    np.testing.assert_allclose(np.square(state(page)["points"]).sum(), np.square(first["points"]).sum())

    square, tip = page.locator(".plane-square").bounding_box(), page.locator(".plane-tip").bounding_box()
    middle = square["x"] + square["width"] / 2, square["y"] + square["height"] / 2
    page.mouse.move(tip["x"] + tip["width"] / 2, tip["y"] + tip["height"] / 2)
    page.mouse.down()
    seen = set()
    for x, y in ((90, -90), (60, 100), (-100, 30), (-120, -20)):
        page.mouse.move(middle[0] + x, middle[1] + y)
        now = state(page)
        agrees(now)
        seen.add(now["says"])
        np.testing.assert_allclose(np.linalg.norm(now["gradient"]), np.linalg.norm(first["gradient"]))
        wanted = np.array([x, -y]) / np.hypot(x, y)
        np.testing.assert_allclose(now["gradient"] / np.linalg.norm(now["gradient"]), wanted, atol=0.02)
    page.mouse.up()
    assert len(seen) == 4
    page.wait_for_timeout(300)
    assert len(sent) == before, "a move asked the server"
    still = state(page)["gradient"]
    page.mouse.move(*middle)
    assert state(page)["gradient"] == still, "let go is let go"
    page.get_by_role("button", name="Again").click()
    page.wait_for_timeout(500)
    assert len(sent) > before and state(page)["gradient"] == still, "drawing the page again keeps the reader's arrow"


def test_a_finger_and_the_keyboard_turn_the_arrow(address, browser):
    context = browser.new_context(viewport={"width": 400, "height": 800}, has_touch=True, reduced_motion="reduce")
    page = context.new_page()
    page.goto(address)
    page.locator(DRAWN).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    handle = page.get_by_role("slider", name="gradient")
    handle.focus()
    was = state(page)["turned"]
    page.keyboard.press("ArrowRight")
    assert state(page)["turned"] == pytest.approx(round(was) + 3)
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("PageDown")
    assert state(page)["turned"] == pytest.approx(round(was) - 15)
    assert handle.get_attribute("aria-valuenow") == str(round(was) - 15)
    ring = "getComputedStyle(document.querySelector('.plane-touch')).strokeWidth"
    assert page.evaluate(ring) == "3px", "focus is seen"
    agrees(state(page))
    page.keyboard.press("Home")
    assert state(page)["turned"] == pytest.approx(was)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "plane-energy"
    page.keyboard.press("ArrowRight")
    assert state(page)["energy"] == pytest.approx(0.91)
    assert page.locator(".plane-says").get_attribute("aria-live") == "polite"

    square, tip = page.locator(".plane-square").bounding_box(), page.locator(".plane-touch").bounding_box()
    middle = square["x"] + square["width"] / 2, square["y"] + square["height"] / 2
    touch = context.new_cdp_session(page)
    for kind, at in (
        ("touchStart", (tip["x"] + tip["width"] / 2, tip["y"] + tip["height"] / 2)),
        ("touchMove", (middle[0] + 40, middle[1] - 40)),
        ("touchMove", (middle[0] + 90, middle[1])),
    ):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": at[0], "y": at[1]}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function(f"Math.cos(document.querySelector('{DRAWN}').__state.turned * Math.PI / 180) > 0.99")
    assert page.evaluate("scrollY") == 0
    context.close()


def test_two_planes_in_a_file_move_without_a_server(tmp_path, browser):
    file, points = tmp_path / "planes.html", np.array([[3.0, 1.0], [2.0, 1.5], [4.0, 1.0], [0.5, 2.0]])
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Planes</title>'
    file.write_text(f"{head}<body>{html()}{html(points, [1, 0], energy=0.99)}", "utf-8")
    context = browser.new_context(offline=True)
    page, asked, errors = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    assert page.locator(DRAWN).count() == 2
    assert violations(page) == []
    agrees(state(page))
    second = page.locator(".plane-says").nth(1)
    was = second.inner_text()
    assert was == says(projection_picture(points, [1, 0], 0.99), 0.99)
    page.get_by_role("slider", name="gradient").nth(1).press("ArrowUp")
    assert second.inner_text() != was
    assert asked == [file.as_uri()] and errors == []
    context.close()
