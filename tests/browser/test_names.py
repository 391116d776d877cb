"""A run whose classes, tasks and reasons would like to be links and pictures: pages show them as text."""

from __future__ import annotations

import pytest

from cl_core.store import entitle
from tests import recorded_clip_runs, recorded_forks, recorded_pool_runs, recorded_rare_runs
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


def test_a_title_of_a_run_is_text_on_every_page(server, page):
    """In pickers, headings, legends, tables and sentences."""
    title = " ".join((NAMES[3], NAMES[0], NAMES[4]))
    parent = entitle(recorded_forks.forkable(server.runs, "parent"), title)
    entitle(recorded_forks.forked(parent, 2, "child", 30.0), f"{title} again")
    for place, figures in (
        ("?run=child", 0),
        ("run?run=child", 2),
        ("compare?runs=parent,child", 3),
        ("forgetting?run=child", 3),
        ("export?run=child", 0),
        ("whatif?run=child", 0),
    ):
        turn_to(page, f"{server.url}/{place}") if page.url != "about:blank" else page.goto(f"{server.url}/{place}")
        page.wait_for_function(f"document.querySelectorAll('.liveplot[data-drawn]').length >= {figures}")
        for part in page.locator(".stMain summary").all():
            part.click()
        if "forgetting" not in place and "whatif" not in place:
            page.wait_for_function(SAYS, arg=title[:20])
        assert page.evaluate(ADDRESSES) == [], place
