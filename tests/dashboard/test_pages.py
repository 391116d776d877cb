"""Every page in every state: drawn without an exception, with the sentence that belongs there."""

from __future__ import annotations

import pytest

from tests import recorded_runs
from tests.dashboard.reading import PAGES, words


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("state", recorded_runs.STATES)
def test_every_page_opens_every_run(page, state, runs_folder, open_page):
    recorded_runs.STATES[state](runs_folder)
    app = open_page(page, run=state)
    assert "Traceback" not in words(app)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_without_any_run(page, open_page):
    app = open_page(page)
    assert len(words(app)) > 40
