"""The Playground in a browser: numbers follow the pointer without the server and come from real training on release."""

from __future__ import annotations

import dataclasses

import pytest

from cl_core.playground import PlaygroundConfig, train
from dashboard.playground_page import frontier_page
from tests.browser.conftest import violations

pytestmark = pytest.mark.browser

BOARD = ".playground[data-draws]"
QUICK = PlaygroundConfig(tasks=3, epochs=2)
QUERY = "tasks=3&epochs=2"


def state(page, name: str) -> str:
    return page.evaluate(f"document.querySelector('{BOARD}').dataset.{name}")


def trained(page) -> None:
    page.wait_for_function(f"document.querySelector('{BOARD}')?.dataset.kind === 'live'")


def drag(page, share: float, *, release: bool = True) -> None:
    """Move the slider's handle to a share of its track."""
    track = page.locator(".pg-input").bounding_box()
    middle = track["y"] + track["height"] / 2
    page.mouse.move(track["x"] + 0.5 * track["width"], middle)
    page.mouse.down()
    for step in range(1, 9):
        page.mouse.move(track["x"] + (0.5 + (share - 0.5) * step / 8) * track["width"], middle)
        page.wait_for_timeout(30)
    if release:
        page.mouse.up()


def test_play_fills_the_matrix_row_by_row_and_letting_go_of_the_slider_trains_for_real(server, page):
    page.goto(f"{server.url}/playground?{QUERY}")
    trained(page)
    page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()  # no redraw meanwhile
    page.locator(".pg-reset").click()
    assert state(page, "shown") == "0" and page.locator(".pg-panel-matrix text.pg-cell").count() == 0
    page.locator(".pg-one").click()
    page.wait_for_function(f"document.querySelector('{BOARD}').dataset.shown === '1'")
    assert page.locator(".pg-panel-matrix text.pg-cell").count() == 1
    page.locator(".pg-play").focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('{BOARD}').dataset.shown === '3'")
    assert page.locator(".pg-panel-matrix text.pg-cell").count() == 6
    assert page.evaluate("document.activeElement.classList.contains('pg-play')"), "Play keeps the focus"

    assert state(page, "at") == "0.95" and page.locator(".st-key-eps").is_hidden(), "one slider is enough"
    before = page.inner_text(".pg-value >> nth=0")
    drag(page, 0.05)
    page.wait_for_function(f"document.querySelector('{BOARD}').dataset.at !== '0.95'")
    trained(page)
    chosen = state(page, "at")
    real = train([dataclasses.replace(QUICK, energy=float(chosen))])[0].numbers()
    assert float(state(page, "final")) == pytest.approx(real["final_average_accuracy"], abs=0.01)
    assert page.inner_text(".pg-value >> nth=0") != before
    page.wait_for_function(f"new URL(location.href).searchParams.get('epsilon') === '{chosen}'")
    page.reload()  # a link opens the same picture
    trained(page)
    assert state(page, "at") == chosen and float(state(page, "final")) == pytest.approx(
        real["final_average_accuracy"], abs=0.01
    )


def test_recorded_positions_follow_the_pointer_without_the_server(server, page):
    sent = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda _: sent.append(1)))
    page.goto(f"{server.url}/playground")
    trained(page)
    page.wait_for_timeout(1500)  # what a fresh page still has to say
    count, draws = len(sent), int(state(page, "draws"))
    drag(page, 0.9, release=False)
    assert len(sent) == count, "a drag asked the server"
    assert int(state(page, "draws")) - draws >= 4 and state(page, "kind") == "stored"
    assert "let go to train it" in page.inner_text(".pg-said >> nth=0")
    page.mouse.up()
    trained(page)


def test_a_prediction_is_placed_before_the_dot_appears(server, page):
    page.goto(f"{server.url}/playground?{QUERY}&predict=true")
    trained(page)
    assert page.inner_text(".pg-value >> nth=0") == "?" and page.locator(".pg-panel-plane .pg-dot").count() == 0
    page.locator(".pg-panel-plane svg").focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert page.locator(".pg-panel-plane .pg-dot").count() == 1
    assert "in what is learned" in page.inner_text(".pg-sentence")


def test_the_exported_page_works_without_a_server(page, tmp_path):
    row = [dataclasses.replace(QUICK, energy=e, seed=s) for e in (0.0, 0.9, 0.999) for s in (0, 1)]
    file = tmp_path / "frontier.html"
    file.write_text(frontier_page(train(row)), "utf-8")
    page.goto(file.as_uri())
    page.locator(BOARD).wait_for()
    slider, seen = page.locator(".pg-input"), set()
    for _ in range(3):
        seen.add((state(page, "at"), page.inner_text(".pg-sentence"), page.inner_text(".pg-panel-free")))
        slider.focus()
        page.keyboard.press("ArrowLeft")
    slider.focus()
    page.keyboard.press("End")
    seen.add((state(page, "at"), page.inner_text(".pg-sentence"), page.inner_text(".pg-panel-free")))
    assert {at for at, *_ in seen} == {"0", "0.9", "0.999"} and len({free for *_, free in seen}) == 3
    assert violations(page) == []
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_start_opens_on_the_trade_off_and_plays_two_matrices(server, page):
    page.goto(server.url)
    page.locator(BOARD).wait_for()
    assert state(page, "kind") == "stored" and "the unprotected network stands at" in page.inner_text(".pg-sentence")
    page.locator(".pg-reset").click()
    page.locator(".pg-speed").select_option("fast")
    page.locator(".pg-play").click()
    page.wait_for_function(f"document.querySelector('{BOARD}').dataset.shown === '4'")
    page.locator(".pg-play").click()  # pause
    shown = int(state(page, "shown"))
    plain, held = (page.locator(f".pg-panel-{name} text.pg-cell").all_text_contents() for name in ("other", "matrix"))
    assert len(plain) == len(held) == shown * (shown + 1) // 2 and plain != held
    page.wait_for_timeout(600)
    assert int(state(page, "shown")) == shown
    page.locator(".pg-input").focus()
    page.keyboard.press("Home")
    page.wait_for_function(f"document.querySelector('{BOARD}').dataset.at === '0'")
    page.wait_for_function("new URL(location.href).searchParams.get('threshold') === '0'")
    page.get_by_role("button", name="Train it yourself").click()
    page.wait_for_url("**/playground**")
    trained(page)
    assert state(page, "at") == "0", "the Playground opens where the slider stood"
