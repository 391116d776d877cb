"""Accuracy figures by the data in their traces."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import AccuracyMeasured, Clock
from dashboard.figures import accuracy
from dashboard.figures.matrix_chart import matrix_chart
from dashboard.figures.readings import accuracies, mean_so_far, readouts
from dashboard.theme import task_colour

ROWS = [[90.0, None, None], [60.0, 95.0, None], [45.0, 70.0, 98.0]]


def measured(rows=ROWS, readout="class-incremental", first=0):
    return [AccuracyMeasured(Clock(first + task, 0, 10 * task), readout, row) for task, row in enumerate(rows)]


def test_rows_are_after_training_on_and_missing_cells_stay_missing():
    figure = accuracy.accuracy_matrix(measured(ROWS[:2]), stages=3)
    cells = np.asarray(figure.data[0].z)
    np.testing.assert_array_equal(cells, np.array([[90, np.nan, np.nan], [60, 95, np.nan], [np.nan] * 3], np.float32))
    assert figure.layout.yaxis.title.text == "after training on" and figure.layout.xaxis.title.text == "evaluated on"
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]  # the first task's row is on top
    assert (figure.data[0].zmin, figure.data[0].zmax) == (0, 100)
    assert "2 of 3 rows measured so far" in figure.layout.meta["caption"]


def test_a_run_that_learns_all_at_once_has_one_row():
    joint = [AccuracyMeasured(Clock(2, 4, 99), "class-incremental", [80.0, 85.0, 90.0])]
    assert accuracies(joint, rows=1).tolist() == [[80.0, 85.0, 90.0]]
    figure = accuracy.accuracy_matrix(joint, stages=1)
    assert figure.layout.yaxis.ticktext == ("all tasks",)
    assert mean_so_far(accuracies(joint, rows=1)).tolist() == [85.0]


def test_a_row_measured_again_replaces_the_old_one():
    again = [*measured(), AccuracyMeasured(Clock(1, 0, 11), "class-incremental", [61.0, 96.0, None])]
    assert accuracies(again)[1, 0] == 61.0


def test_lines_begin_on_the_diagonal_in_the_tasks_colour():
    figure = accuracy.accuracy_over_time(measured(), stages=3)
    second = figure.data[1]
    assert list(second.x) == [1, 2] and second.line.color == task_colour(1, 3)
    np.testing.assert_allclose(second.y, [95, 70])
    np.testing.assert_allclose(figure.data[-1].y, [90, 77.5, 71])
    assert figure.layout.yaxis.range[0] == 0 and figure.layout.yaxis.range[1] >= 100


def test_lost_points_are_printed_signed():
    figure = accuracy.learned_and_kept(measured(), stages=3)
    assert [note.text for note in figure.layout.annotations] == ["−45.0 pp", "−25.0 pp"]
    np.testing.assert_allclose(figure.data[0].y, [90, 95, 98])
    np.testing.assert_allclose(figure.data[1].y, [45, 70, 98])


def test_readouts_are_told_apart_without_colour():
    both = measured() + measured([[95.0, None, None], [90.0, 96.0, None]], "task-incremental")
    figure = accuracy.readout_comparison(both, stages=3)
    assert readouts(both) == ["class-incremental", "task-incremental"]
    assert len({trace.line.dash for trace in figure.data}) == len({trace.marker.symbol for trace in figure.data}) == 2
    assert len({trace.line.color for trace in figure.data}) == 1
    bars = accuracy.readout_bars(both, stages=3)
    assert [bar.marker.pattern.shape for bar in bars.data] == ["", "/"]


def test_the_first_pages_chart_shows_the_same_cells():
    matrix = accuracies(measured(), rows=3)
    record = matrix_chart(matrix, through=1).to_dict()
    assert len(record["data"]["values"]) == 3  # two rows: one cell, two cells
    assert {"after": "T2", "on": "T1", "accuracy": 60.0, "classes": ""} in record["data"]["values"]
    assert "NaN" not in str(matrix_chart(np.full((3, 3), np.nan)).to_dict())


@pytest.mark.parametrize("columns", [3, 12, 30])
def test_numbers_in_cells_shrink_and_then_disappear(columns):
    rows = [[50.0] * (i + 1) + [None] * (columns - i - 1) for i in range(columns)]
    template = accuracy.accuracy_matrix(measured(rows), stages=columns).data[0].texttemplate
    assert template == {3: "%{z:.1f}", 12: "%{z:.0f}", 30: ""}[columns]
