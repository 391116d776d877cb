"""Training figures and what curves share."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import Clock, StepEnded
from dashboard.figures import training
from dashboard.figures.plot_helpers import decade_ticks, smoothed, spread_out, thinned, within
from dashboard.theme import task_colour


def steps(count=40, tasks=2, gain=0.1):
    each = count // tasks
    return [
        StepEnded(
            Clock(k // each, 0, k),
            {"cross_entropy": 1.0, "norm_drift": 0.5, "total": 1.5},
            {"prompts": 0.05},
            {"prompts": 2.0, "more": 0.0},
            {"prompts": 2.0 * (1 if k < each else gain), "more": 0.0},
            80.0,
            0.05,
        )
        for k in range(count)
    ]


def test_each_tasks_losses_have_its_colour_and_parts_are_dashed():
    figure = training.losses(steps(), tasks=2, total_steps=40)
    assert {t.line.color for t in figure.data} == {task_colour(0, 2), task_colour(1, 2)}
    dashes = {t.name: t.line.dash for t in figure.data}
    assert dashes["total"] == "solid" and dashes["cross entropy"] != dashes["norm drift"] != "solid"
    assert [note.text for note in figure.layout.annotations] == ["total", "cross entropy", "norm drift", "T1", "T2"]
    assert list(figure.layout.xaxis.range) == [0, 40] and figure.layout.yaxis.range[0] == 0


def test_one_part_is_drawn_once():
    alone = [StepEnded(e.clock, {"cross_entropy": 1.0, "total": 1.0}, {}, {}, {}, 80.0, 0.05) for e in steps()]
    assert {t.name for t in training.losses(alone).data} == {"total"}


def test_boundaries_are_dotted_where_a_task_begins():
    shapes = training.losses(steps(), total_steps=40).layout.shapes
    assert [(s.x0, s.line.dash) for s in shapes] == [(0, "dot"), (20, "dot")]


def test_what_gets_through_is_the_ratio_after_the_first_task():
    figure = training.update_norms(steps(gain=0.125))
    assert "T1 100.0 %, later 12.5 %" in figure.layout.meta["caption"]
    proposed, applied = figure.data
    np.testing.assert_allclose(proposed.y, 2.0)
    np.testing.assert_allclose(applied.y[-1], 0.25)


def test_steps_without_projected_parameters_draw_nothing_and_do_not_fail():
    bare = [StepEnded(Clock(0, 0, k), {"total": 1.0}, {}, {}, {}, 80.0, 0.05) for k in range(5)]
    assert len(training.update_norms(bare).data) == 0


def test_a_late_first_task_is_fine():
    late = [StepEnded(Clock(4, 0, k), {"total": 1.0}, {}, {"p": 1.0}, {"p": 1.0}, 80.0, 0.05) for k in range(5)]
    assert training.losses(late).data[0].line.color == task_colour(4, 5)
    assert training.update_norms(late).data


def test_thinning_keeps_the_extremes():
    x, y = np.arange(10_000), np.zeros(10_000)
    y[4321], y[8765] = 7, -3
    few_x, few_y = thinned(x, y, 600)
    assert len(few_x) <= 600 and few_y.max() == 7 and few_y.min() == -3 and (np.diff(few_x) > 0).all()
    assert few_x[-1] == 9_999


def test_thinning_leaves_out_what_was_not_measured():
    y = np.arange(10_000.0)
    y[:5000], y[7000] = np.nan, np.inf
    few_x, few_y = thinned(np.arange(10_000), y, 600)
    measured = few_y[np.isfinite(few_y)]
    assert len(few_x) < 320 and len(measured) >= len(few_x) - 1 and measured.max() == 9_999  # its two ends stay


def test_smoothing_is_a_mean_of_the_last_values():
    np.testing.assert_allclose(smoothed(np.array([1.0, 2, 3, 4]), 2), [1, 1.5, 2.5, 3.5])


def test_labels_are_moved_apart_and_keep_their_order():
    places = spread_out([10, 11, 50, 10.5], 16)
    assert np.argsort(places).tolist() == [0, 3, 1, 2]
    assert np.diff(np.sort(places)).min() >= 16 - 1e-9
    assert spread_out([0.0, 100.0], 16) == [0.0, 100.0]


def test_labels_stay_inside_the_figure_while_there_is_room():
    assert within([-20, -5, 100], 16, 0, 250) == [0, 16, 100]
    assert within([240, 256], 16, 0, 250) == [234, 250]
    crowded = within([0] * 30, 16, 0, 250)
    assert np.diff(sorted(crowded)).min() >= 16


@pytest.mark.parametrize(("low", "high"), [(1e-6, 2.0), (0.01, 1.6), (0.4, 0.9), (3e-5, 7e-5), (1e-9, 1e9)])
def test_log_axes_have_ticks_within_their_range(low, high):
    ticks = decade_ticks(low, high)
    assert 1 <= len(ticks["tickvals"]) <= 12
    assert all(low * 0.999 <= v <= high * 1.001 for v in ticks["tickvals"])
