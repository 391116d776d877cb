"""Spectra and room by the data in their traces: roots of eigenvalues, cuts where the event says, counts and shares."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import Clock, SpectrumMeasured
from dashboard.figures import nullity_plots, spectra
from dashboard.theme import task_colour

EIGENVALUES = np.array([100.0, 25.0, 4.0, 1.0, 0.0], dtype=np.float32)


def spectrum(task=0, layer=0, nullity=2, values=EIGENVALUES, space="affinity", used=True):
    share = float(values[: len(values) - nullity].sum() / values.sum())
    return SpectrumMeasured(Clock(task, 0, task), layer, space, values, nullity, "elbow", used, share, 2.0, 0.5, 0.03)


def test_singular_values_are_roots_of_eigenvalues_relative_to_the_largest():
    line = spectra.spectrum_decay([spectrum()], layer=0, space="affinity").data[0]
    np.testing.assert_allclose(line.y[:4], [1, 0.5, 0.2, 0.1], rtol=1e-6)
    assert line.y[4] == pytest.approx(1e-6)  # zero cannot be drawn on a log axis: it lies on the floor
    assert list(line.x) == [1, 2, 3, 4, 5]


def test_the_cut_lies_at_the_first_free_direction():
    figure = spectra.spectrum_decay([spectrum(nullity=2)], layer=0, space="affinity")
    cut = figure.data[1]
    assert list(cut.x) == [4] and cut.y[0] == pytest.approx(0.1)
    assert figure.layout.shapes[0].x0 == 3.5 and figure.layout.shapes[0].x1 == 5.5
    assert "2 of 5 directions (40 %)" in figure.layout.meta["caption"]


def test_energy_is_not_squared_twice():
    line, dot = spectra.energy_kept([spectrum(nullity=2)], layer=0, space="affinity").data
    np.testing.assert_allclose(line.y, 100 * np.array([0, 100, 125, 129, 130, 130]) / 130, rtol=1e-6)
    assert list(dot.x) == [3] and dot.y[0] == pytest.approx(100 * 129 / 130)


def test_every_task_has_its_colour_and_the_chosen_one_is_thick():
    measured = [spectrum(task=t, nullity=4 - t) for t in range(3)]
    lines = [
        t for t in spectra.spectrum_decay(measured, layer=0, space="affinity", task=1, tasks=5).data if t.name[0] == "T"
    ]
    assert [line.line.color for line in lines] == [task_colour(t, 5) for t in range(3)]
    assert [line.line.width for line in lines].index(3) == 1


def test_the_map_shows_share_and_count_and_leaves_the_unmeasured_empty():
    measured = [spectrum(task=0, layer=0), spectrum(task=0, layer=1, nullity=1), spectrum(task=1, layer=0, nullity=1)]
    heat = nullity_plots.nullity_map(measured, space="affinity", tasks=2).data[0]
    np.testing.assert_allclose(heat.z, [[40, 20], [20, np.nan]])
    assert heat.text[0][0] == "2 · 40 %" and heat.text[1][1] == ""
    assert (heat.zmin, heat.zmax) == (0, 100)


def test_layers_with_equally_many_directions_are_not_told_apart():
    for draw in (lambda m: nullity_plots.nullity_map(m, space="affinity", tasks=1), nullity_plots.free_directions):
        alike = draw([spectrum(layer=0), spectrum(layer=1)]).layout.meta["caption"]
        assert "all layers" in alike and "layer 1" not in alike
        assert "layer 2" in draw([spectrum(layer=0), spectrum(layer=1, nullity=1)]).layout.meta["caption"]


def test_only_the_space_asked_for_is_drawn():
    measured = [spectrum(), spectrum(space="mixture", nullity=1)]
    assert nullity_plots.nullity_map(measured, space="mixture").data[0].z[0][0] == pytest.approx(20)


def test_a_spectrum_that_training_ignores_says_so():
    caption = spectra.spectrum_decay([spectrum(used=False)], layer=0, space="affinity").layout.meta["caption"]
    assert "does not use the cut" in caption
    assert "does not use" not in spectra.spectrum_decay([spectrum()], layer=0, space="affinity").layout.meta["caption"]


@pytest.mark.parametrize(("width", "said"), [(127, False), (128, True), (192, True)])
def test_where_smoothing_decides_the_elbow_the_caption_says_so(width, said):
    values = np.geomspace(100, 1e-3, width).astype(np.float32)
    measured = [spectrum(values=values, nullity=width // 2)]
    caption = spectra.spectrum_decay(measured, layer=0, space="affinity").layout.meta["caption"]
    assert ("hardly depends on the data" in caption) == said


def test_many_layers_are_facets_with_common_axes(many):
    figure = spectra.spectrum_facets(many[SpectrumMeasured], space="affinity", layer=4)
    titles = [note.text for note in figure.layout.annotations][:12]
    assert len(titles) == 12 and titles[4] == "<b>layer 5</b>"
    assert len({figure.layout[f"yaxis{i or ''}"].range for i in ("", 2, 7, 12)}) == 1


def test_only_the_chosen_layer_and_the_outermost_are_named():
    measured = [
        spectrum(task=t, layer=i, nullity=n) for i, n in enumerate([3, 2, 3, 4, 3, 3, 1, 3, 3, 3, 3, 2]) for t in (0, 1)
    ]
    figure = nullity_plots.directions_left(measured, space="affinity", layer=4)
    assert len(figure.data) == 12 and figure.data[-1].name == "layer 5" and figure.data[-1].line.width > 3
    assert [note.text for note in figure.layout.annotations] == ["<b>layer 5 60 %</b>", "layer 7 20 %", "layer 4 80 %"]
