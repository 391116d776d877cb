"""What holds of every figure: its words, its template, its size, its independence of the page."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from plotly.io.json import to_json_plotly

from cl_core.events import Event
from dashboard.theme import FONT
from tests.figures.conftest import Told, all_figures
from tests.recorded_runs import Plan


@pytest.fixture(scope="module", params=["told", "many", "single"])
def figures(request):
    return all_figures(Told(Plan(tasks=1)) if request.param == "single" else request.getfixturevalue(request.param))


def test_every_figure_says_what_it_is_and_what_to_look_for(figures):
    for name, figure in figures.items():
        words = figure.layout.meta
        assert {"title", "caption", "how", "alt", "height"} <= set(words), name
        assert all(str(text).strip() for text in words.values()), name
        assert words["caption"].rstrip().endswith((".", "!")) and words["alt"].rstrip().endswith("."), name
        assert "nan" not in (words["caption"] + words["alt"]).lower().split(), name
        assert 200 <= words["height"] <= 800, name


def test_every_figure_brings_its_template_and_keeps_the_readers_view(figures):
    for name, figure in figures.items():
        assert figure.layout.template.layout.font.family == FONT, name
        assert figure.layout.uirevision == "keep", name


def test_arrays_travel_small(figures):
    for name, figure in figures.items():
        assert len(to_json_plotly(figure)) < 700_000, name
        for trace in figure.data:
            for axis in ("x", "y", "z"):
                values = getattr(trace, axis, None)
                assert not (isinstance(values, np.ndarray) and values.dtype == np.float64), (name, axis)


def test_the_same_events_give_the_same_figure(told):
    first, again = all_figures(told), all_figures(told)
    assert all(first[name].to_json() == again[name].to_json() for name in first)


def test_figures_need_neither_a_page_nor_torch():
    program = (
        "import sys\n"
        "from dashboard.figures import accuracy, attention, drift, matrix_table, spectra, training\n"
        "from dashboard import theme\n"
        "sys.exit(any(name in sys.modules for name in ('streamlit', 'torch', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


def test_nothing_measured_yet_is_a_figure_too():
    from dashboard.figures import accuracy, attention, comparison, drift, frontier, spectra, training

    nothing: list[Event] = []
    for figure in (
        frontier.plane(nothing, budget=5.0),
        comparison.accuracy_overlay({}),
        comparison.forgetting_overlay({}),
        comparison.matrix_difference(np.full((0, 0), np.nan), np.full((0, 0), np.nan), names=("a", "b")),
        accuracy.accuracy_matrix(nothing, stages=5),
        accuracy.accuracy_over_time(nothing, stages=5),
        accuracy.learned_and_kept(nothing, stages=5),
        accuracy.readout_comparison(nothing, stages=5),
        accuracy.readout_bars(nothing, stages=5),
        training.losses(nothing, total_steps=10),
        training.batch_accuracy(nothing, total_steps=10),
        training.update_norms(nothing, total_steps=10),
        training.time_and_memory(nothing),
        spectra.spectrum_decay(nothing, layer=0, space="affinity"),
        spectra.spectrum_facets(nothing, space="affinity"),
        spectra.energy_kept(nothing, layer=0, space="affinity"),
        spectra.nullity_map(nothing, space="affinity"),
        spectra.directions_left(nothing, space="affinity", layer=0),
        spectra.gains(nothing, space="affinity"),
        spectra.update_residual(nothing, space="affinity"),
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
