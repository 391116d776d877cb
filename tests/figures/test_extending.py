"""The walk in docs/extending.md, followed with its own code: an event, its figure, its entry."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
from streamlit.testing.v1 import AppTest

from cl_core.config import RunConfig
from cl_core.events import KINDS, Clock, RunStarted, StateChanged
from dashboard.figures import catalogue
from dashboard.report import document, report
from dashboard.run_log import RunLog
from tests.recording import ENVIRONMENT, recorded

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def walk(monkeypatch):
    """What the code blocks of the walk define, run in their order; the event is known from then on."""
    chapter = (
        (ROOT / "docs/extending.md").read_text("utf-8").split("## A measurement with its figure")[1].split("\n## ")[0]
    )
    module = ModuleType("walk")
    monkeypatch.setitem(sys.modules, "walk", module)
    blocks = re.findall(r"```python\n(.*?)```", chapter, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile("from __future__ import annotations\n" + block, "extending.md", "exec"), module.__dict__)
    monkeypatch.setitem(KINDS, "SharpnessMeasured", module.SharpnessMeasured)
    return module


@pytest.fixture
def run(walk, tmp_path, monkeypatch):
    measured = walk.SharpnessMeasured
    tasks = [{"name": f"T{t + 1}", "classes": ["a", "b"], "train": 1, "test": 1} for t in range(2)]
    moments = [(RunStarted(Clock(), tasks, "class-incremental", 2, 8, 1, {"name": "x", "depth": 3}, ENVIRONMENT),)]
    moments += [tuple(measured(Clock(t, 0, 4 * t), layer, layer + 10.0 * t) for layer in range(3)) for t in range(2)]
    moments.append((StateChanged(Clock(1, 0, 7), "finished"),))
    monkeypatch.setenv("PLASTISCOPE_RUNS", str(tmp_path))
    return RunLog(recorded(tmp_path, RunConfig(method="joint", name="invented"), moments)).snapshot(force=True)


def all_measurements() -> str:
    """Titles of what the page draws by itself."""
    from dashboard import view_state

    app = AppTest.from_file(str(view_state.page_file("entry/navigation.py")), default_timeout=60)
    app.query_params["run"] = "invented"
    app.run()
    app.switch_page(str(view_state.page_file("pages/measurements.py"))).run()
    assert not app.exception
    return "\n".join(element.value for element in app.markdown)


def test_before_any_edit_the_event_is_on_the_page_of_all_measurements(run):
    assert "**Sharpness measured\\: Curvature**" in all_measurements()


def test_with_a_function_and_an_entry_it_has_its_figure_in_pages_and_report(run, walk, monkeypatch):
    monkeypatch.setitem(catalogue.FIGURES, walk.ENTRY.id, walk.ENTRY)
    monkeypatch.setattr(document, "_library", lambda: "")
    assert catalogue.unclaimed(run) == []
    assert "Every measurement of this run has a figure" in all_measurements()
    drawn = catalogue.figure_of(run, "sharpness").drawn(run, {"layer": 1})
    assert list(drawn.data[0].y) == [1.0, 11.0]
    made = report(run, described=[])
    assert "Sharpness of layer 3" in made and "One layer is drawn: the last." in made
