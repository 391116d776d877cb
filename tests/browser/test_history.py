"""Back and Forward: one step of the browser for each page, and every control says what the address says."""

from __future__ import annotations

from urllib.parse import parse_qs, urlparse

import pytest

from tests import recorded_runs
from tests.browser.conftest import visit

pytestmark = pytest.mark.browser

# Of every row of buttons that is shown: its label, and what is chosen in it.
CHOSEN = """() => Object.fromEntries([...document.querySelectorAll('[data-testid=stButtonGroup]')]
  .filter(group => group.checkVisibility()).map(group => [group.innerText.split('\\n')[0],
    [...group.querySelectorAll('[data-selected], [aria-checked=true]')].map(b => b.innerText)[0] ?? null]))"""
SETTLED = "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"


def agrees(page, path: str, asked: dict[str, str], shown: dict[str, str]) -> None:
    """Wait until the address is `path` with just `asked` besides the run, and the rows of buttons show `shown`."""
    page.wait_for_function(
        f"""([path, asked, shown]) => {{
          const chosen = ({CHOSEN})(), said = Object.fromEntries(new URLSearchParams(location.search));
          delete said.run;
          const same = (a, b) => Object.keys(b).every(k => a[k] === b[k]);
          return location.pathname === path && same(said, asked) && same(asked, said) && same(chosen, shown)
            && {SETTLED}; }}""",
        arg=[path, asked, shown],
    )
    page.wait_for_timeout(500)  # nothing that is under way may change it again
    said = {key: value[0] for key, value in parse_qs(urlparse(page.url).query).items() if key != "run"}
    assert said == asked and page.evaluate(CHOSEN).items() >= shown.items()


def test_back_and_forward_bring_every_page_as_it_was_left(server, page):
    recorded_runs.finished(server.runs)
    page.goto(f"{server.url}/spectra?run=finished&task=T2&layer=3&space=mixture")
    agrees(page, "/spectra", {"task": "T2", "layer": "3", "space": "mixture"}, {"Task": "T2", "Layer": "3"})
    visit(page, "Look at", "Attention and prompts")
    agrees(page, "/attention", {"task": "T2", "layer": "3"}, {"Task": "T2", "Layer": "3"})
    page.get_by_role("radio", name="the task before").click()
    page.locator(".st-key-shared-layer").get_by_role("radio", name="2").click()
    before = "the task before"
    left = {"task": "T2", "layer": "2", "against": before}, {"Layer": "2", "Compared with": before}
    agrees(page, "/attention", *left)
    visit(page, "Run")
    agrees(page, "/run", {"task": "T2", "layer": "2"}, {})
    page.go_back()
    agrees(page, "/attention", *left)
    page.go_back()
    agrees(page, "/spectra", {"task": "T2", "layer": "3", "space": "mixture"}, {"Task": "T2", "Layer": "3"})
    page.go_forward()
    agrees(page, "/attention", *left)
    page.go_forward()
    agrees(page, "/run", {"task": "T2", "layer": "2"}, {})


def test_what_an_address_leaves_out_is_the_default_again_on_the_way_back(server, page):
    recorded_runs.finished(server.runs)
    page.goto(f"{server.url}/spectra?run=finished")
    agrees(page, "/spectra", {}, {"Task": "newest", "Layer": "1"})
    visit(page, "Look at", "Attention and prompts")
    agrees(page, "/attention", {}, {"Task": "newest", "Layer": "1"})
    page.locator(".st-key-shared-task").get_by_role("radio", name="T2").click()
    agrees(page, "/attention", {"task": "T2"}, {"Task": "T2"})
    page.go_back()
    agrees(page, "/spectra", {}, {"Task": "newest", "Layer": "1"})
    page.go_forward()
    agrees(page, "/attention", {"task": "T2"}, {"Task": "T2"})
    page.reload()
    agrees(page, "/attention", {"task": "T2"}, {"Task": "T2"})


def test_a_run_is_chosen_by_its_name_and_linked_by_its_folder(server, page):
    for seed in (0, 1):
        recorded_runs.finished(server.runs, f"seed{seed}", recorded_runs.Plan(seed=seed))
    picker = page.locator(".st-key-run-named").get_by_role("combobox", name="Run")
    shows = "[...document.querySelectorAll('.st-key-run-named input')].some(field => field.value.endsWith('seed %d'))"
    page.goto(f"{server.url}/spectra?run=seed0&image=2")
    page.wait_for_function(shows % 0)
    page.wait_for_function(SETTLED)
    picker.click()
    page.get_by_role("option", name="NSP² on handwritten digits: seed 1").click()
    page.wait_for_url("**run=seed1**")
    page.wait_for_function(shows % 1)
    page.wait_for_url(lambda url: "image=" not in url)  # a number of an image of the run before
    visit(page, "Run")
    page.wait_for_url("**/run?**run=seed1**")
    page.go_back()
    page.wait_for_url("**/spectra?**run=seed1**")
    page.wait_for_function(shows % 1)
