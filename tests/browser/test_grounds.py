"""Figures on the dark page: a map of differences has its zero in the colour of the ground, and follows the switch."""

from __future__ import annotations

import pytest

from dashboard.theme import DIVERGING, DIVERGING_DARK
from tests import recorded_runs
from tests.invented_run import LIFELIKE

pytestmark = pytest.mark.browser

# Of every map with a sign: the middle of its scale as it is drawn, and as it is saved.
MIDDLES = """() => [...document.querySelectorAll('.liveplot[data-drawn]')].flatMap(box => box._fullData
  .map((t, n) => box.data[n].meta?.dark ? [t.colorscale[4][1], box.__figure.data[n].colorscale[4][1]] : null)
  .filter(Boolean))"""


def middles(page, colour):
    page.wait_for_function(
        f"want => {{ const m = ({MIDDLES})(); return m.length > 0 && m.every(c => c[0] === want); }}", arg=colour
    )
    return page.evaluate(MIDDLES)


def test_a_difference_is_quiet_on_both_grounds_and_saved_for_white_paper(server, page):
    recorded_runs.finished(server.runs, plan=LIFELIKE)
    page.emulate_media(color_scheme="dark")
    page.goto(f"{server.url}/attention?run=finished")
    dark, light = DIVERGING_DARK[4], DIVERGING[4]
    assert {saved for _, saved in middles(page, dark)} == {light}
    page.emulate_media(color_scheme="light")
    assert {saved for _, saved in middles(page, light)} == {light}
    page.emulate_media(color_scheme="dark")
    middles(page, dark)
