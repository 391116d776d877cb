"""A run whose classes, tasks and reasons would like to be links and pictures: pages show them as text."""

from __future__ import annotations

import pytest

from tests import recorded_clip_runs, recorded_pool_runs, recorded_rare_runs
from tests.browser.conftest import turn_to
from tests.browser.test_figure_tools import ADDRESSES

pytestmark = pytest.mark.browser

NAMES = tuple(
    f"{name}{number}"
    for number in range(2)
    for name in (
        "![](https://x.example/y)",
        "http://x.example/y",
        "[a](https://x.example/z)",
        "<a href='https://x.example/a'>b</a>",
        "www.x.example",
    )
)

SAYS = r"said => document.querySelector('.stMain').innerText.replaceAll('\u2060', '').includes(said)"


def test_names_of_a_run_are_text_on_every_page(server, page, monkeypatch):
    """The page's own fixture fails on a request to another host: a picture would be asked for."""
    monkeypatch.setattr(recorded_pool_runs, "DIGITS", NAMES)
    monkeypatch.setattr(recorded_clip_runs, "DOMAINS", NAMES[:3])
    recorded_rare_runs.finished(server.runs, "rare")
    recorded_clip_runs.finished(server.runs, "clip")
    for place, said in (
        ("pools?run=rare", NAMES[5]),
        ("forgetting?run=clip", NAMES[0][:17]),
        ("gap?run=clip", ""),  # they stand in figures and behind menus alone
    ):
        turn_to(page, f"{server.url}/{place}") if page.url != "about:blank" else page.goto(f"{server.url}/{place}")
        page.wait_for_function("document.querySelectorAll('.liveplot[data-drawn]').length >= 3")
        for part in page.locator(".stMain summary").all():  # what opens on demand
            part.click()
        page.wait_for_function(SAYS, arg=said)
        assert page.evaluate(ADDRESSES) == [], place
