"""Forks and sweeps made for real from the pages: workers train, Compare draws what came out."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from cl_core.store import RunReader, create_run, entitle, find_run, fork_of
from cl_core.sweeps import load, sweep_status
from tests import recorded_forks

pytest.importorskip("torch", reason="torch is not installed")
pytestmark = pytest.mark.browser

CONNECTED = "[data-testid=stApp][data-test-connection-state=CONNECTED]"
LINES = """key => { const figure = document.querySelector(`.st-key-panel-${key} .liveplot`);
  return figure && figure._fullData ? Object.fromEntries(
    figure._fullData.map(t => [t.name, [Array.from(t.x), Array.from(t.y)]])) : {}; }"""
SMALL = "backbone=random-vit stream=synthetic device=cpu stream.tasks=2 batch_size=50"


def look_at(page, url):
    page.goto(url)
    page.locator(CONNECTED).wait_for()


def drawn(page, key, *names):
    """Trace name → (x, y), once the figure has all of `names`."""
    page.wait_for_function(f"names => {{ const t = ({LINES})('{key}'); return names.every(n => n in t); }}", arg=names)
    return page.evaluate(LINES, key)


def trained(runs: Path, config):
    from cl_core.training.worker import drive

    folder = entitle(create_run(runs, config), config.name)
    assert drive(folder).state == "finished"


def state_of(folder):
    with closing(RunReader(folder)) as reader:
        return reader.status().state


def wait_for(page, what, seconds=60):
    for _ in range(10 * seconds):
        if what():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not come about")


def test_a_fork_made_on_the_page_is_trained(page, server, tiny_config):
    trained(
        server.runs,
        tiny_config(
            "nsp2",
            tasks=3,
            stream_settings={"first_task": 4},
            name="parent",
            diagnostics={"attention": False, "drift": False},
        ),
    )
    look_at(page, f"{server.url}/run?run=parent")
    page.get_by_text("Fork this run", exact=True).click()
    form = page.locator(".st-key-fork-form")
    form.get_by_role("radio", name="T2", exact=True).click()
    form.get_by_text("T3 will be trained again", exact=False).wait_for()
    form.get_by_label("Name", exact=True).fill("child")
    form.get_by_text("Without changes the fork", exact=False).wait_for()
    form.get_by_label("prompt rate", exact=True).fill("0.5")
    form.get_by_role("button", name="Fork from after T2").click()  # at once: the page hears of the number only now
    page.wait_for_url("**/run?*run=child*")
    page.get_by_text("Forked from parent after T2: prompt_rate", exact=False).wait_for()
    child = find_run(server.runs, "child")
    wait_for(page, lambda: state_of(child) in ("finished", "failed"))
    assert state_of(child) == "finished", child.log.read_text("utf-8")[-2000:]
    page.locator("[data-testid=stAppViewContainer]").get_by_text("task 3 of 3", exact=False).first.wait_for()
    fork = fork_of(child)
    assert (fork.parent, fork.after_task, list(fork.changed)) == ("parent", 2, ["prompt_rate"])


def test_the_past_of_a_fork_is_drawn_once_and_the_address_names_what_is_compared(page, server):
    parent = entitle(recorded_forks.forkable(server.runs, "parent"), "parent")
    entitle(recorded_forks.forked(parent, 2, "child", 30.0), "child")
    look_at(page, f"{server.url}/compare?runs=child,parent")
    found = drawn(page, "compare-accuracy", "parent", "child", "forks")
    assert found["parent"][0] == [0, 1, 2] and found["child"][0] == [1, 2], "the past once"
    (place,), (value,) = found["forks"]
    assert place == 1 and value == found["parent"][1][1] == found["child"][1][0]
    page.locator(".st-key-menu-compare-accuracy button").first.click()
    page.get_by_text("child leaves parent after T2", exact=False).first.wait_for()
    page.keyboard.press("Escape")
    chosen = page.locator(".st-key-runs-named .react-aria-ComboBox [data-tag]")
    assert chosen.all_inner_texts() == ["child", "parent"] and "runs=child&runs=parent" in page.url
    page.reload()  # the same as repeated keys
    drawn(page, "compare-accuracy", "parent", "child")
    page.locator(".st-key-runs-named").get_by_role("button", name="Remove child").first.click()
    page.wait_for_url(lambda url: "child" not in url)
    page.wait_for_function(f"!('child' in ({LINES})('compare-accuracy'))")
    assert chosen.all_inner_texts() == ["parent"]


def test_a_sweep_started_on_the_page_finishes_into_a_frontier(page, server):
    look_at(page, f"{server.url}/compare")
    page.get_by_text("Sweep a setting", exact=True).click()
    form = page.locator(".st-key-panel-sweep-form")

    def fill(label, text):
        form.get_by_label(label, exact=True).fill(text)
        form.get_by_label(label, exact=True).press("Enter")

    fill("Values", "0, 1")
    fill("Seeds", "0")
    fill("Other settings", f"{SMALL} epochs=1")
    fill("Name", "small")
    form.get_by_role("button", name="Start the sweep of 2 runs").click()
    page.wait_for_url("**/compare?*sweep=small*")
    page.get_by_text("of 2 runs finished", exact=False).first.wait_for()  # the progress bar
    found = drawn(page, "compare-plane", "eta_affinity 0", "eta_affinity 1")
    assert all(len(found[name][0]) == 1 for name in ("eta_affinity 0", "eta_affinity 1"))
    page.get_by_role("button", name="Stop the sweep").wait_for(state="detached")
    assert sweep_status(load(server.runs, "small"), server.runs).finished == 2
