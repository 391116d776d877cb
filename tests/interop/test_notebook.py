"""A run in a script: frames with the numbers of the run, without the app and without torch."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest

import cl_core
from cl_core.config import ConfigError
from cl_core.interop.notebook import escaped
from cl_core.store import StoreError
from cl_core.summary import summarise
from tests.recorded_runs import finished


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("runs"))


@pytest.fixture
def run(folder):
    return cl_core.open_run(folder.path)


def test_the_matrix_is_the_runs_and_unmeasured_is_nan(run, folder):
    summary = summarise(folder)
    table = run.matrix()
    assert list(table.columns) == ["T1", "T2", "T3"] and table.index.name == "after training on"
    wanted = np.array(summary.accuracy_matrix, dtype=float)
    np.testing.assert_array_equal(table.to_numpy(), wanted)
    other = run.matrix("task-incremental").to_numpy()
    np.testing.assert_array_equal(other, np.array(summary.readouts["task-incremental"], dtype=float))
    assert run.measures()["forgetting"] == summary.forgetting
    with pytest.raises(ConfigError, match="has no readout 'x'; it has class-incremental"):
        run.matrix("x")


def test_events_are_tidy_and_count_from_one(run):
    spectra = run.events("SpectrumMeasured")
    assert spectra["task"].min() == 1 and set(spectra["layer"]) == {1, 2, 3}
    long = spectra.explode("eigenvalues")
    assert len(long) == sum(len(values) for values in spectra["eigenvalues"])
    steps = run.events("StepEnded")
    assert steps["step"].tolist() == list(range(1, 19)) and steps["losses_total"].gt(0).all()
    assert list(run.events("ModalityGapMeasured").columns[:4]) == [
        "task",
        "epoch",
        "step",
        "length",
    ]  # none in this run
    with pytest.raises(ConfigError, match="Did you mean SpectrumMeasured"):
        run.events("SpectraMeasured")


def test_the_matrix_as_latex(run):
    text = run.latex(caption="Accuracy", label="tab:a")
    first = run.matrix().iloc[0, 0]
    assert f"T1 & {first:.1f} &  &  \\\\" in text and text.startswith("\\begin{table}")
    assert text.count("\\\\\n") == 4
    assert escaped("50%_a&b") == r"50\%\_a\&b"


def test_runs_side_by_side(run, folder):
    table = cl_core.compare_runs({"mine": run, "again": folder.path})
    assert (
        list(table.index) == ["mine", "again"] and table.loc["mine", "forgetting"] == table.loc["again", "forgetting"]
    )


def test_what_is_not_there_is_said(tmp_path):
    with pytest.raises(StoreError, match="no run 'nothing' in"):
        cl_core.open_run("nothing", tmp_path)
    with pytest.raises(AttributeError):
        cl_core.nothing  # noqa: B018


def test_opening_a_run_imports_neither_torch_nor_the_app(folder):
    code = (
        f"import cl_core, sys; cl_core.open_run({str(folder.path)!r}).matrix(); "
        "print(*({'torch', 'streamlit'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == ""
    light = "import cl_core, sys; print(*({'pandas', 'numpy', 'torch'} & set(sys.modules)))"
    assert (
        subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True).stdout.strip() == ""
    )


def test_a_figure_is_the_very_figure_of_the_page(run, folder):
    from dashboard.figures import figure
    from dashboard.figures.catalogue import FIGURES
    from dashboard.notebook import figures
    from dashboard.run_log import RunLog

    log = RunLog(folder).snapshot(force=True)
    drawn = FIGURES["spectrum-decay"].drawn(log, {"space": "affinity", "layer": 1, "task": 2})
    assert figure(run, "spectrum-decay", space="affinity", layer=2, task="T3").to_json() == drawn.to_json()
    assert figure(folder.path, "accuracy-matrix").layout.meta["title"] == "Accuracy matrix"
    assert figure(run, "nullity", layer=3).layout.meta["title"].startswith("Free directions over tasks")
    drawable = [id for id in figures(run) if any(True for _ in FIGURES[id].in_report(log))]
    assert len(drawable) > 20 and all(figure(run, id).data for id in drawable)


@pytest.mark.parametrize(
    ("id", "controls", "said"),
    [
        ("acuracy-matrix", {}, "no figure 'acuracy-matrix'; did you mean accuracy-matrix"),
        ("xyzzy", {}, "no figure 'xyzzy'; this run has accuracy-matrix, "),
        ("losses", {"layer": 1}, "no control layer; its controls: none"),
        ("spectrum-decay", {"layr": 1}, "no control layr; its controls: space, layer, task"),
        ("spectrum-decay", {"layer": 0}, "layer counts from 1"),
        ("spectrum-decay", {"layer": 99}, "nothing to draw for 'spectrum-decay' with layer=99"),
        ("gap-over-tasks", {}, "drawn from ModalityGapMeasured"),
        ("attention-on-image", {}, "its controls: probe, image, layer, head, before, after"),
    ],
)
def test_an_unknown_figure_or_control_names_the_known_ones(id, controls, said, run):
    from dashboard.figures import figure

    with pytest.raises(ConfigError, match=re.escape(said)):
        figure(run, id, **controls)
