"""Pages run in this process against runs that the real writer has just written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason="streamlit is not installed")

from streamlit.testing.v1 import AppTest

from cl_core.assets import recordings_folder
from cl_core.questions import stored
from dashboard import launch, run_log, runs, view_state
from dashboard.figures import catalogue

SHOWN = catalogue.Figure.shown
RECORDINGS = recordings_folder().resolve()
ENTRY = Path(view_state.__file__).parent / "entry" / "navigation.py"


@pytest.fixture(autouse=True)
def forget_everything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of an earlier test is remembered, no recording travels along, and no test starts a real worker.

    What was read of the bundled recordings stays, and with it what was drawn of them: nobody writes into them, and
    reading and drawing them took half of the time of tests that show them."""
    for kept in (runs._INDEX, launch._CHILDREN):
        kept.clear()
    for path in [path for path in run_log._LOGS if not path.is_relative_to(RECORDINGS)]:
        del run_log._LOGS[path]
    monkeypatch.setattr(view_state, "HEAD_START", 0.0)
    monkeypatch.setattr(catalogue.Figure, "shown", catalogue.Figure.drawn)  # a figure that fails fails the test
    monkeypatch.setattr(runs, "recordings_folder", lambda: tmp_path / "no-recordings")
    monkeypatch.setattr(stored, "answers_file", lambda: tmp_path / "no-answers.json")
    monkeypatch.setenv("PLASTISCOPE_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def runs_folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def open_page() -> Callable[..., AppTest]:
    """`open_page("run", run="failed")`: the app on that page with these URL parameters, drawn once."""

    def open_it(page: str = "start", **query: str) -> AppTest:
        shown = AppTest.from_file(str(ENTRY), default_timeout=30)
        file, asked = str(view_state.page_file(f"pages/{page}.py")), query.keys() - {"run"}
        for key, value in query.items():
            shown.query_params[key] = value
        if page != "start" and not asked:  # before the first run the page is found by the name of its file
            shown.switch_page(file)
        shown.run()
        assert not shown.exception, [e.value for e in shown.exception]
        if page != "start" and asked:
            shown.switch_page(file)
            for key in asked:  # AppTest drops what a page's own controls read from the URL
                shown.session_state[key] = query[key]
            shown.run()
            assert not shown.exception, [e.value for e in shown.exception]
        return shown

    return open_it
