"""Figures of updates, and of moments of features, by the data in their traces."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import Clock, SpectrumMeasured, StepEnded, UpdateMeasured
from dashboard.figures import nullity_plots, spectra, updates
from tests.figures.conftest import assert_complete, trace
from tests.recorded_clip_runs import ClipPlan, moments


def told(**plan):
    events = [event for moment in moments(ClipPlan(**plan)) for event in moment]
    return {kind: [e for e in events if isinstance(e, kind)] for kind in (SpectrumMeasured, UpdateMeasured, StepEnded)}


@pytest.fixture(scope="module")
def said():
    return told(features=True)


@pytest.mark.parametrize(
    "plan",
    [{"features": True}, {"tasks": 1}, {"tasks": 6, "features": True}, {}],
    ids=["three", "one", "six", "nothing"],
)
def test_every_figure_has_its_words_template_and_small_arrays(plan):
    said = told(**plan)
    moment = said[SpectrumMeasured]
    assert_complete(
        {
            "free_directions": nullity_plots.free_directions(moment),
            "leak_of_updates": updates.leak_of_updates(said[UpdateMeasured], moment, space="c_fc"),
            "kept_share": updates.kept_share(said[StepEnded], moment, total_steps=12),
        }
    )


def test_residuals_stand_beside_their_reference_and_the_first_task_has_none():
    changes = [
        UpdateMeasured(Clock(0, 0, 1), 0, 0.5, {"affinity": None}, {"affinity": None}),
        UpdateMeasured(Clock(1, 0, 2), 0, 0.1, {"affinity": 0.05}, {"affinity": 0.2}),
        UpdateMeasured(Clock(1, 0, 2), 1, 0.1, {"affinity": 0.3}, {"affinity": 0.2}),
    ]
    figure = updates.update_residual(changes, space="affinity", tasks=2)
    bars, dots = figure.data
    np.testing.assert_allclose(dots.y, [0.05, 0.3], rtol=1e-6)
    assert [v for v in bars.y if v is not None] == [0.2] * 4
    assert "1 of 2 updates lie below" in figure.layout.meta["caption"]


def test_free_directions_of_every_kind_of_input_side_by_side(said):
    first, second, projection = nullity_plots.free_directions(said[SpectrumMeasured]).data
    np.testing.assert_allclose(first.z[0], [75, 50, 25])
    np.testing.assert_allclose(second.z[1], [93.75, 87.5, 81.25])
    assert np.isnan(projection.z[:2]).all() and projection.text[0][0] == "" and projection.z[2][0] == 75
    assert (first.name, projection.name) == ("first MLP matrix", "image projection")


def test_leak_is_compared_with_the_spectrum_that_protected_the_task(said):
    figure = updates.leak_of_updates(said[UpdateMeasured], said[SpectrumMeasured], space="c_fc")
    assert [t.name for t in figure.data if t.mode == "markers"] == ["T2", "T3"], "the first task has no past"
    np.testing.assert_allclose(trace(figure, "T3").y, [0.2, 0.3, 0.4], rtol=1e-6)
    for task, kept in ((1, 2), (2, 4)):
        bars = [v for v in trace(figure, f"a random change, T{task + 1}").y if v is not None]
        np.testing.assert_allclose(bars, (kept / 8) ** 0.5)
    assert "6 of 6 lie below" in figure.layout.meta["caption"] and "AdamW" in figure.layout.meta["caption"]


def test_a_task_whose_past_was_not_measured_has_a_dot_without_a_reference(said):
    later = [e for e in said[SpectrumMeasured] if e.clock.task == 1]
    assert updates.protecting(later, "c_fc", 0, 1) is None
    figure = updates.leak_of_updates(said[UpdateMeasured], later, space="c_fc")
    assert len(trace(figure, "T2").y) == 3
    assert all(v is None for v in trace(figure, "a random change, T2").y)


def test_kept_is_the_mean_over_matrices_with_the_least_and_the_most(said):
    figure = updates.kept_share(said[StepEnded], said[SpectrumMeasured], total_steps=12)
    assert list(trace(figure, "mean").x) == list(range(4, 12)), "the first task projects nothing"
    np.testing.assert_allclose(trace(figure, "mean").y, 50)
    np.testing.assert_allclose(trace(figure, "most").y, 75)
    np.testing.assert_allclose(trace(figure, "least").y, 25)
    shares = [(1 - 2 / n) ** 0.5 for n in (8, 32, 8, 32, 8, 32, 8)]
    assert trace(figure, "a random direction, T2").y[0] == pytest.approx(100 * np.mean(shares))


def test_a_step_without_a_size_has_no_share():
    steps = [StepEnded(Clock(1, 0, 4), {}, {}, {"a": 0.0, "b": 2.0}, {"a": 0.0, "b": 1.0}, 50.0, 0.1)]
    assert list(updates.kept_share(steps).data[-1].y) == [50]


@pytest.mark.parametrize("space", ["c_fc", "c_proj", "proj"])
def test_moments_of_features_are_not_called_prompts(said, space):
    moment, changes = said[SpectrumMeasured], said[UpdateMeasured]
    for figure in (
        spectra.spectrum_decay(moment, layer=2, space=space),
        spectra.spectrum_facets(moment, space=space),
        spectra.energy_kept(moment, layer=2, space=space),
        nullity_plots.directions_left(moment, space=space, layer=2),
        updates.update_residual(changes, space=space),
        updates.leak_of_updates(changes, moment, space=space),
    ):
        words = figure.layout.meta
        every = " ".join(str(words[k]) for k in ("title", "caption", "how", "alt"))
        assert (
            "prompt" not in every and space not in every.replace("projection", "").split() and "no words" not in every
        )
        assert spectra.short(space) in words["title"]
