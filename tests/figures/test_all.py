"""What holds of every figure: its words, its template, its size, its independence of the page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dashboard.figures
from cl_core.events import Event
from tests.figures.conftest import Told, all_figures, assert_complete
from tests.recorded_runs import Plan


@pytest.fixture(scope="module", params=["told", "many", "single"])
def figures(request):
    return all_figures(Told(Plan(tasks=1)) if request.param == "single" else request.getfixturevalue(request.param))


def test_every_figure_has_its_words_template_and_small_arrays(figures):
    assert_complete(figures)


def test_the_same_events_give_the_same_figure(told):
    first, again = all_figures(told), all_figures(told)
    assert all(first[name].to_json() == again[name].to_json() for name in first)


def test_figures_need_neither_a_page_nor_torch():
    modules = sorted(path.stem for path in Path(dashboard.figures.__file__).parent.glob("*.py"))
    assert len(modules) > 20
    program = (
        f"import sys\nfrom dashboard.figures import {', '.join(m for m in modules if m != '__init__')}\n"
        "sys.exit(any(name in sys.modules for name in ('streamlit', 'torch', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_nothing_measured_yet_is_a_figure_too():
    from dashboard.figures import (
        accuracy,
        attention,
        comparison,
        drift,
        frontier,
        nullity_plots,
        readouts,
        spectra,
        training,
        updates,
    )

    nothing: list[Event] = []
    for figure in (
        frontier.plane(nothing, budget=5.0),
        comparison.accuracy_overlay({}),
        comparison.forgetting_overlay({}),
        comparison.matrix_difference(np.full((0, 0), np.nan), np.full((0, 0), np.nan), names=("a", "b")),
        accuracy.accuracy_matrix(nothing, stages=5),
        accuracy.accuracy_over_time(nothing, stages=5),
        accuracy.learned_and_kept(nothing, stages=5),
        readouts.readout_comparison(nothing, stages=5),
        readouts.readout_bars(nothing, stages=5),
        training.losses(nothing, total_steps=10),
        training.batch_accuracy(nothing, total_steps=10),
        training.update_norms(nothing, total_steps=10),
        training.time_and_memory(nothing),
        spectra.spectrum_decay(nothing, layer=0, space="affinity"),
        spectra.spectrum_facets(nothing, space="affinity"),
        spectra.energy_kept(nothing, layer=0, space="affinity"),
        nullity_plots.nullity_map(nothing, space="affinity"),
        nullity_plots.directions_left(nothing, space="affinity", layer=0),
        updates.gains(nothing, space="affinity"),
        updates.update_residual(nothing, space="affinity"),
        attention.consistency_by_layer(nothing, probe_task=0),
        attention.consistency_over_tasks(nothing, layer=0),
        attention.prompt_mass(nothing),
        attention.feature_drift(nothing),
        drift.statistics_drift(nothing),
        drift.prompt_statistics(nothing, layer=0),
        drift.prompt_paths(nothing, layer=0),
        drift.movement(nothing),
    ):
        assert figure.layout.meta["title"]
        assert figure.to_json()
