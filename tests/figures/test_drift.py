"""Drift figures by the data in their traces."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import Clock, PromptsDrifted, UpdateMeasured
from dashboard.figures import drift
from dashboard.theme import task_colour

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def drifted(prompts, task, epoch):
    return PromptsDrifted(
        Clock(task, epoch, 10 * task + epoch),
        prompts.astype(np.float16),
        prompts.mean(-1).astype(np.float32),
        prompts.std(-1).astype(np.float32),
    )


@pytest.fixture
def moments():
    """One layer, two prompts in a plane: the first walks right in T1 and up in T2, the second stands still."""
    start = np.zeros((1, 2, 6))
    start[0, 1, 5] = 4.0
    places = [start.copy() for _ in range(5)]
    for k, (right, up) in enumerate([(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)]):
        places[k][0, 0, 0], places[k][0, 0, 1] = right, up
    clocks = [(0, -1), (0, 0), (0, 1), (1, 0), (1, 1)]
    return [drifted(p, *clock) for p, clock in zip(places, clocks, strict=True)]


def test_a_path_keeps_distances_that_lie_in_the_plane(moments):
    figure = drift.prompt_paths(moments, layer=0, tasks=2)
    ends = next(t for t in figure.data if t.name == "newest")
    walked = np.hypot(ends.x, ends.y)
    np.testing.assert_allclose(walked, [np.sqrt(8), 0], atol=1e-2)
    assert "100 % of the variance" in figure.layout.meta["caption"]


def test_stretches_have_the_colour_of_the_task_being_learned_and_touch(moments):
    figure = drift.prompt_paths(moments, layer=0, tasks=2)
    first, second = figure.data[:2]
    assert (first.line.color, second.line.color) == (task_colour(0, 2), task_colour(1, 2))
    assert first.x[2] == second.x[0] and first.y[2] == second.y[0]


def test_in_place_prompts_stay_apart(moments):
    figure = drift.prompt_paths(moments, layer=0, tasks=2, common_start=False)
    start = next(t for t in figure.data if t.name == "first stored moment")
    assert np.hypot(start.x[0] - start.x[1], start.y[0] - start.y[1]) > 3


def test_the_plane_does_not_flip_between_refreshes():
    points = np.random.default_rng(0).normal(size=(12, 5))
    placed, shares = drift.plane(points)
    again, _ = drift.plane(np.vstack([points, points[-1:] * 1.001]))
    assert np.sign(placed[:, 0] @ again[:12, 0]) == 1 and 0 < shares.sum() <= 1


def test_fewer_than_three_points_still_have_a_plane():
    placed, shares = drift.plane(np.ones((2, 4)))
    assert placed.shape == (2, 2) and np.isfinite(placed).all() and np.isfinite(shares).all()


def test_statistics_compare_with_the_end_of_the_task_before(moments):
    means, deviations = drift.statistics_drift(moments, tasks=2).data
    expected = np.abs(moments[2].means - moments[0].means).mean(), np.abs(moments[4].means - moments[2].means).mean()
    np.testing.assert_allclose(means.z, [expected], rtol=1e-5)
    assert means.zmax == deviations.zmax and means.zmin == 0


def test_without_the_initial_prompts_the_first_column_is_empty(moments):
    means = drift.statistics_drift(moments[1:], tasks=2).data[0]
    assert np.isnan(means.z[0][0]) and np.isfinite(means.z[0][1])


def test_movement_is_in_percent_and_empty_cells_print_nothing():
    updates = [UpdateMeasured(Clock(0, 0, 1), 0, 0.5, {}, {}), UpdateMeasured(Clock(1, 0, 2), 1, 0.25, {}, {})]
    heat = drift.movement(updates, tasks=2).data[0]
    np.testing.assert_allclose(heat.z, [[50, np.nan], [np.nan, 25]])
    assert list(heat.text[0]) == ["50.0 %", ""]


def test_the_prompts_that_travelled_furthest_are_drawn():
    rng = np.random.default_rng(1)
    start = rng.normal(size=(1, 30, 8))
    moved = start.copy()
    moved[0, 7] += 5
    figure = drift.prompt_paths([drifted(start, 0, -1), drifted(moved, 0, 0)], layer=0, most=3)
    assert "8" in next(t for t in figure.data if t.name == "newest").text
    assert "3 of 30 prompts" in figure.layout.meta["caption"]


def test_points_after_training_diverged_have_no_place():
    points = np.array([[0.0, 0, 0], [3, 4, 0], [np.nan, 1, 1], [6, 8, 0]])
    placed, shares = drift.plane(points)
    assert np.isnan(placed[2]).all() and np.isfinite(placed[[0, 1, 3]]).all() and shares[0] == pytest.approx(1)
    assert np.isnan(drift.plane(np.full((2, 3), np.nan))[0]).all()
