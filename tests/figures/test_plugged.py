"""The walk in docs/plugins.md, with its own code: figures of plug-ins on the page, in scripts and in the report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cl_core import plugins
from cl_core.cli import main
from cl_core.config import ConfigError, RunConfig
from cl_core.events import Clock, PluginMeasured, RunStarted, StateChanged
from cl_core.registry import FIGURES, OBSERVERS
from dashboard import view_state
from dashboard.figures import catalogue, figure
from dashboard.notebook import figures
from dashboard.report import document, report
from dashboard.run_log import RunLog
from tests.recording import ENVIRONMENT, recorded

ROOT = Path(__file__).resolve().parents[2]
WALK = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", (ROOT / "docs/plugins.md").read_text("utf-8"), re.DOTALL)
FIGURE = dict(WALK)["norms_figure.py"]


@pytest.fixture(autouse=True)
def nothing_brought(monkeypatch):
    tables = (FIGURES, OBSERVERS, plugins._LOADED)
    before = [dict(table) for table in tables]
    monkeypatch.setenv(plugins.VARIABLE, "")
    for table in tables:
        table.clear()
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


@pytest.fixture
def load(tmp_path):
    def write(text, name="norms_figure.py"):
        file = tmp_path / name
        file.write_text(text)
        return plugins.load(str(file))

    return write


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two tasks in which two plug-ins measured something."""
    tasks = [{"name": f"T{t + 1}", "classes": ["a", "b"], "train": 1, "test": 1} for t in range(2)]
    moments = [(RunStarted(Clock(), tasks, "class-incremental", 2, 8, 1, {"name": "x", "depth": 3}, ENVIRONMENT),)]
    for t in range(2):
        norms = PluginMeasured(Clock(t, 0, 4 * t), "parameter norms", {"head": 1.0 + t, "prompts": 5.0})
        moments.append((norms, PluginMeasured(Clock(t, 0, 4 * t), "dead units", {"all": 0.5})))
    moments.append((StateChanged(Clock(1, 0, 7), "finished"),))
    monkeypatch.setenv("PLASTISCOPE_RUNS", str(tmp_path / "runs"))
    return recorded(tmp_path / "runs", RunConfig(method="joint", name="watched"), moments)


def page(**chosen):
    app = AppTest.from_file(str(view_state.page_file("entry/navigation.py")), default_timeout=60)
    app.query_params["run"] = "watched"
    app.run()
    app.switch_page(str(view_state.page_file("pages/measurements.py")))
    for key, value in chosen.items():
        app.session_state[key] = value
    app.run()
    assert not app.exception
    return "\n".join(element.value for element in [*app.markdown, *app.caption])


def test_the_walk_draws_on_the_page_in_a_script_and_in_the_report(load, folder, monkeypatch):
    (brought,) = load(FIGURE)
    assert "parameter-norms" in figures(folder)
    drawn = figure(folder, "parameter-norms", parameter="head")
    assert list(drawn.data[0].x) == [1, 2] and list(drawn.data[0].y) == [1.0, 2.0]
    assert list(figure(folder, "parameter-norms").data[0].y) == [1.0, 2.0], "the first choice, as in the report"
    assert drawn.layout.meta["how"].endswith(f"Plug-in: {brought.origin}.") and "sha256" in brought.origin
    with pytest.raises(ConfigError, match="there is no parameter tail here, only head, prompts"):
        figure(folder, "parameter-norms", parameter="tail")
    shown = page()
    assert "**Parameter norms**" in shown and brought.origin in shown and shown.count("Does training make") == 1
    assert view_state.literal("Plugin measured: Values (dead units)") in shown, (
        "what others measured is drawn by itself as before"
    )
    monkeypatch.setattr(document, "_library", lambda: "")
    made = report(RunLog(folder).snapshot(force=True), described=[])
    assert (
        "Drawn by the plug-in norms_figure.py (sha256" in made and "Does training make the parameters larger?" in made
    )


def test_without_the_plug_in_the_run_opens_and_what_was_measured_is_drawn(folder):
    assert "parameter-norms" not in figures(folder)
    shown = page()
    assert (
        view_state.literal("Plugin measured: Values (parameter norms)") in shown and "Figures of plug-ins" not in shown
    )


BROKEN = FIGURE.replace("return go.Figure(", "1 / 0; return go.Figure(")


@pytest.mark.parametrize(
    "text, said",
    [
        (BROKEN, r"ZeroDivisionError: division by zero \(line 19 of norms_figure.py\)"),
        (FIGURE.replace("return go.Figure(", "return str("), "it gave no Plotly figure but str"),
        (FIGURE.replace("lambda run: sorted(", "lambda run: 1 + sorted("), "TypeError: unsupported operand"),
        (
            FIGURE.replace("run.events(PluginMeasured)", "run.events(RunFailed)"),
            "LookupError: RunFailed is read, but is not among",
        ),
    ],
)
def test_a_figure_that_fails_is_a_sentence_and_the_rest_is_drawn(load, folder, monkeypatch, text, said):
    load(text.replace("import PluginMeasured", "import PluginMeasured, RunFailed"))
    with pytest.raises(ConfigError, match=f"figure 'parameter-norms' of the plug-in norms_figure.py .* failed: {said}"):
        figure(folder, "parameter-norms")
    if text == BROKEN:
        assert "could not draw this: ZeroDivisionError" in page()
        monkeypatch.setattr(document, "_library", lambda: "")
        made = report(RunLog(folder).snapshot(force=True), described=[])
        assert "could not draw this: ZeroDivisionError" in made and "dead units" in made


def test_a_run_that_has_not_what_it_draws(load, folder):
    load(FIGURE.replace('"parameter norms"', '"something else"'))
    assert "parameter-norms" not in figures(folder)
    assert "Parameter norms, from `norms_figure.py" in page() and "this run lacks the required events" in page()


def test_names_and_kinds_that_do_not_do_are_refused(load, folder):
    with pytest.raises(ConfigError, match=r"unknown kind of event 'PluginMesured'.* Did you mean PluginMeasured"):
        load(FIGURE.replace('needs=["PluginMeasured"]', 'needs=["PluginMesured"]'), "misspelt.py")
    load(FIGURE.replace('"parameter-norms"', '"losses"'), "taken.py")
    with pytest.raises(ConfigError, match="brings a figure losses, and there is one of that name"):
        catalogue.plugged()


def test_it_is_checked_beside_the_observer_whose_measurements_it_draws(tmp_path, capsys):
    for name, text in WALK:
        (tmp_path / name).write_text(text)
    assert main(["check-plugin", str(tmp_path / "norms.py"), str(tmp_path / "norms_figure.py")]) == 0
    assert "figure parameter-norms: ok, drawn from a-tiny-run, twice the same" in capsys.readouterr().out
