"""Back and Forward: controls show what the address says, or their default; no page holds the reader."""

from __future__ import annotations

import pytest

from tests import recorded_runs

pytestmark = pytest.mark.browser

# Of every row of buttons: its label, and what is chosen in it.
CHOSEN = """() => Object.fromEntries([...document.querySelectorAll('[data-testid=stButtonGroup]')].map(group =>
  [group.innerText.split('\\n')[0],
   [...group.querySelectorAll('[data-selected], [aria-checked=true]')].map(b => b.innerText)[0] ?? null]))"""
# The shared two say what the address says, or their default; every other row has a choice as well.
AGREE = f"""() => {{
  const chosen = ({CHOSEN})(), said = new URLSearchParams(location.search);
  return 'Task' in chosen && !Object.values(chosen).includes(null)
    && chosen.Task === (said.get('task') ?? 'newest') && chosen.Layer === (said.get('layer') ?? '1'); }}"""


@pytest.mark.xfail(
    reason="known defect: on a busy machine a control that follows from page to page and the address can differ after "
    "Back, because the server writes the address while the browser resets the control",
    strict=False,
)
def test_on_the_way_back_every_control_says_what_the_address_says_and_the_page_before_comes(server, page):
    recorded_runs.finished(server.runs)
    page.goto(f"{server.url}/spectra?run=finished&task=T2&layer=3")
    page.wait_for_function(AGREE)
    page.get_by_role("link", name="Attention and prompts").first.click()
    page.wait_for_url(lambda url: all(part in url for part in ("/attention", "task=T2", "layer=3")))
    page.wait_for_function(AGREE)
    for _ in range(6):
        if "/spectra" in page.url:
            break
        page.go_back()
        page.wait_for_timeout(1000)  # the address changes before the page: one step too many would leave the app
        page.wait_for_function(AGREE)
    assert "/spectra" in page.url
    page.go_forward()
    page.wait_for_function(AGREE)
