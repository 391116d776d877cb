"""Accuracy figures by the data in their traces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cl_core.events import AccuracyMeasured, Clock
from cl_core.summary import headline_readout
from dashboard.figures import accuracy
from dashboard.figures.event_arrays import accuracies, mean_so_far, readouts, zero_shot
from dashboard.figures.matrix_table import matrix_table
from dashboard.figures.plot_helpers import task_ticks
from dashboard.figures.readouts import readout_bars, readout_comparison
from dashboard.summary_metrics import numbers_of
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
    figure = readout_comparison(both, stages=3)
    assert readouts(both) == ["class-incremental", "task-incremental"]
    assert len({trace.line.dash for trace in figure.data}) == len({trace.marker.symbol for trace in figure.data}) == 2
    assert len({trace.line.color for trace in figure.data}) == 1
    bars = readout_bars(both, stages=3)
    assert [bar.marker.pattern.shape for bar in bars.data] == ["", "/"]


def test_the_first_pages_table_shows_the_same_cells():
    matrix = accuracies(measured(), rows=3)
    table = matrix_table(matrix, through=1)
    assert table.count("data-measured") - table.count("td[data-measured]") == 3  # two rows: one cell, two cells
    assert 'title="T1 after training on T2: 60.0 %"' in table and "nan" not in table
    assert "data-measured=" not in matrix_table(np.full((3, 3), np.nan))


@pytest.mark.parametrize("columns", [3, 12, 30])
def test_numbers_in_cells_shrink_and_then_disappear(columns):
    rows = [[50.0] * (i + 1) + [None] * (columns - i - 1) for i in range(columns)]
    template = accuracy.accuracy_matrix(measured(rows), stages=columns).data[0].texttemplate
    assert template == {3: "%{z:.1f}", 12: "%{z:.0f}", 30: ""}[columns]


NAMED = [[80.0, 41.0, 52.0], [78.0, 90.0, 50.0], [75.0, 88.0, 95.0]]  # every task in every row
DOMAINS = [{"name": name, "classes": []} for name in ("Digits", "Letters", "<b>Shapes</b>")]


def domains(rows=NAMED):
    """A run that names the task with every picture, measured before training as well."""
    zero = AccuracyMeasured(Clock(-1), "zero-shot", [30.0, 40.0, 55.0])
    return [zero, *measured(rows, "task-incremental")]


def test_without_class_incremental_rows_a_run_is_judged_with_the_task_named():
    assert headline_readout(domains()) == "task-incremental" and readouts(domains()) == ["task-incremental"]
    assert headline_readout(measured() + domains()) == "class-incremental"
    np.testing.assert_array_equal(accuracies(domains()), NAMED)


def test_the_readout_that_a_run_names_comes_first_and_is_drawn():
    stored = [replace(event, headline=True) for event in measured(readout="stored statistics")]
    assert readouts([*measured(), *stored])[0] == headline_readout([*measured(), *stored]) == "stored statistics"
    assert accuracy.accuracy_matrix([*measured(), *stored]).layout.meta["how"].startswith("a(i, j)")
    assert zero_shot(domains()).tolist() == [30, 40, 55] and zero_shot(measured()) is None


def test_the_full_matrix_has_the_untrained_row_on_top_and_lighter_type_above_the_diagonal():
    figure = accuracy.accuracy_matrix(domains(NAMED[:2]), stages=3, tasks=DOMAINS)
    learned, before = figure.data
    nan = np.nan
    np.testing.assert_array_equal(
        learned.z, np.array([[nan] * 3, [80, nan, nan], [78, 90, nan], [nan] * 3], np.float32)
    )
    np.testing.assert_array_equal(
        before.z, np.array([[30, 40, 55], [nan, 41, 52], [nan, nan, 50], [nan] * 3], np.float32)
    )
    assert learned.y0 == before.y0 == -1 and figure.layout.yaxis.range == (2.5, -1.5)
    assert before.textfont.weight == 300 and before.textfont.size < learned.textfont.size
    assert figure.layout.yaxis.ticktext[0] == "zero-shot" and figure.layout.yaxis.tickvals[0] == -1
    assert "T1<br>Digits" in figure.layout.xaxis.ticktext[0] and "&lt;b&gt;" in figure.layout.xaxis.ticktext[2]
    assert "2 of 3 rows measured so far" in figure.layout.meta["caption"]
    only = accuracy.accuracy_matrix(domains([]), stages=3)
    np.testing.assert_array_equal(only.data[-1].z[0], [30, 40, 55])


def test_a_line_is_dotted_until_its_task_is_learned():
    figure = accuracy.accuracy_over_time(domains(), stages=3, tasks=DOMAINS)
    dotted = [trace for trace in figure.data if trace.line.dash == "dot"]
    assert [list(trace.x) for trace in dotted] == [[-1, 0], [-1, 0, 1], [-1, 0, 1, 2]]
    solid = next(trace for trace in figure.data if trace.name == "Letters")
    assert list(solid.x) == [1, 2] and figure.layout.xaxis.ticktext[0] == "zero-shot"


def test_the_first_pages_table_shows_rows_before_learning_in_lighter_type():
    table = matrix_table(accuracies(domains()), tasks=DOMAINS, untrained=zero_shot(domains()), through=0)
    assert table.count("data-measured=") == 6  # three before training, one row
    assert table.count("class=before") == 5 and "<b>Shapes" not in table
    assert 'title="Digits before training: 30.0 %"' in table


def test_the_numbers_of_a_run_follow_from_what_was_measured():
    assert [(name, value) for name, value, _ in numbers_of(np.array(NAMED))] == [
        ("Transfer", "46.0 %"),
        ("Average", "72.1 %"),
        ("Last", "86.0 %"),
    ]
    names = ["Final average accuracy", "Learning accuracy", "Forgetting"]
    assert [name for name, *_ in numbers_of(accuracies(measured()))] == names
    together = accuracies([AccuracyMeasured(Clock(2, 4, 99), "class-incremental", [80.0, 85.0, 90.0])])
    assert [value for _, value, _ in numbers_of(together)] == ["85.0 %", "–", "–"]  # nothing earlier to compare with
    assert [value for _, value, _ in numbers_of(np.full((0, 0), np.nan))] == ["–"] * 3


def test_thinned_ticks_leave_room_for_the_moment_before_training():
    assert task_ticks(3, before="zero-shot")["ticktext"] == ["zero-shot", "T1", "T2", "T3"]
    assert task_ticks(12, most=8, before="zero-shot")["ticktext"] == ["zero-shot", "T2", "T4", "T6", "T8", "T10", "T12"]
    assert task_ticks(12, most=8)["ticktext"][0] == "T1"
