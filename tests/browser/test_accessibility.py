"""Every page in both themes against axe-core, and what only a keyboard shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser.conftest import ROOT, turn_to, violations

pytestmark = pytest.mark.browser

PAGES = sorted(file.stem for file in (ROOT / "dashboard" / "pages").glob("*.py"))
RUN = "run=nsp2-split-digits"  # of the bundled recordings the one with the most to show
SHOWN = {  # where another address shows more
    "start": ["", f"?{RUN}"],
    "gap": ["gap?run=gnsp-micro-mtil"],
    "learn": ["learn", "learn?lesson=forgetting&step=2", "learn?lesson=glossary"],
    "playground": ["playground"],
}
STILL = """() => document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'
    && document.querySelector('.stMain h2') && document.querySelector('.stHtml style')
    && [...document.querySelectorAll('.stMain [data-testid=stBidiComponentRegular]')].every(e => !e.offsetParent
      || e.offsetHeight && [...e.querySelectorAll('.liveplot')].every(plot => plot.dataset.drawn))"""
GROUND = "getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
FOCUSED = "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText"


@pytest.fixture(scope="module")
def page(browser):
    """One tab for all: it keeps the libraries it has loaded."""
    context = browser.new_context(viewport={"width": 1360, "height": 900}, reduced_motion="reduce")
    opened, errors = context.new_page(), []
    opened.set_default_timeout(60_000)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []


def visit(page, url):
    page.emulate_media(color_scheme="light")
    page.goto(url)
    page.wait_for_function(STILL)
    page.wait_for_timeout(300)  # what Streamlit still fades in


def look_at(page, url):
    """As `visit`, but what is loaded stays, and the theme too."""
    if page.url == "about:blank":
        visit(page, url)
    else:
        turn_to(page, url)
        page.wait_for_function(STILL)
        page.wait_for_timeout(300)


def change_theme(page):
    """From light to dark, or back."""
    before = page.evaluate(GROUND)
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    page.emulate_media(color_scheme="light" if dark else "dark")
    page.wait_for_function(f"{GROUND} !== {before!r}")
    page.wait_for_timeout(200)


@pytest.mark.parametrize("path", [path for name in PAGES for path in SHOWN.get(name, [f"{name}?{RUN}"])])
def test_no_serious_violation_in_either_theme_and_no_torch_in_the_server(dashboard, page, path):
    look_at(page, f"{dashboard.url}/{path}")
    assert violations(page) == [], "in the theme that the page before was left in"
    change_theme(page)
    assert violations(page, "color-contrast") == [], "in the other theme"  # it changes colours alone
    loaded = Path(f"/proc/{dashboard.process.pid}/maps")
    assert not loaded.exists() or "libtorch" not in loaded.read_text("utf-8", "replace"), "pages never import torch"


def test_the_tools_of_a_figure_are_one_visible_stop(dashboard, page):
    visit(page, f"{dashboard.url}/spectra?{RUN}")
    figure = page.locator(".liveplot[data-drawn]").first
    assert figure.get_attribute("role") == "figure" and len(figure.get_attribute("aria-label")) > 20
    tools = figure.locator(".modebar-btn")
    names = [tool.get_attribute("aria-label") for tool in tools.all()]
    assert len(names) > 3
    tools.first.evaluate("tool => tool.closest('.liveplot').setAttribute('tabindex', -1)")
    figure.focus()
    stops = []
    for _ in range(3):
        page.keyboard.press("Tab")
        stops.append(page.evaluate(FOCUSED))
    assert stops[0] == names[0] and not set(stops[1:]) & set(names)
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate(FOCUSED) == names[0]
    page.keyboard.press("ArrowRight")
    assert page.evaluate(FOCUSED) == names[1]
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(FOCUSED) == names[-1]
    page.wait_for_function("getComputedStyle(document.activeElement.closest('.modebar')).opacity === '1'")
    style = "(s => [s.outlineStyle, s.outlineWidth])(getComputedStyle(document.activeElement))"
    assert page.evaluate(style) == ["solid", "2px"]


def test_focus_in_the_bar_is_not_hover(dashboard, page):
    visit(page, f"{dashboard.url}/learn")
    style = "(s => [s.outlineStyle, s.outlineWidth])(getComputedStyle(document.querySelectorAll('{}')[1]))".format(
        "[data-testid=stTopNavLink]"
    )
    link = page.locator("[data-testid=stTopNavLink]").nth(1)
    link.hover()
    assert page.evaluate(style)[0] == "none"
    page.mouse.move(600, 600)
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate(FOCUSED) == link.inner_text()
    assert page.evaluate(style) == ["solid", "2px"]


def test_play_keeps_the_focus(dashboard, page):
    visit(page, f"{dashboard.url}/?{RUN}")
    panel = page.locator(".st-key-panel-start-matrix")
    panel.locator(".accuracy-matrix").wait_for()
    panel.get_by_role("button", name="Play").press("Enter")
    panel.get_by_role("button", name="Stop playing").wait_for()
    assert "Stop playing" in page.evaluate(FOCUSED)
    page.keyboard.press("Enter")
    panel.get_by_role("button", name="Stop playing").wait_for(state="detached")
    assert "Play" in page.evaluate(FOCUSED)


def test_start_shows_its_doors_at_once_and_the_question_mark_lists_the_keys(dashboard, page):
    page.set_viewport_size({"width": 1280, "height": 800})
    visit(page, f"{dashboard.url}/")
    for name in ("Try the threshold", "Begin with a lesson", "Your own pictures or run"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box["y"] + box["height"] < 800 and box["x"] + box["width"] < 1280, name
    page.keyboard.press("?")
    keys = page.get_by_role("dialog", name="Keys")
    assert "presenter mode" in keys.inner_text() and page.evaluate(FOCUSED) == "Close"
    assert violations(page) == []
    page.keyboard.press("Escape")
    keys.wait_for(state="hidden")
    page.set_viewport_size({"width": 1360, "height": 900})
