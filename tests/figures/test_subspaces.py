"""Figures of task subspaces by the data in their traces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dashboard.figures import forward_transfer, subspaces
from dashboard.theme import INK, task_colour
from tests.figures.conftest import assert_complete, trace
from tests.recorded_subspace_runs import PARTS, WIDTH, probe, subspace

TASKS = [{"name": f"T{j + 1}"} for j in range(3)]


def told(tasks=3):
    return [subspace(task) for task in range(-1, tasks)], [probe(task, tasks=tasks) for task in range(-1, tasks)]


def all_of(measured, probed, tasks=TASKS):
    by_spaces = (
        subspaces.embedding_spectra,
        subspaces.overlap_map,
        subspaces.space_budget,
        subspaces.gradient_parts,
        subspaces.leak_into_cores,
    )
    return {f.__name__: f(measured, tasks) for f in by_spaces} | {
        "forward_transfer": forward_transfer.forward_transfer(probed, tasks),
        "transfer_against_overlap": forward_transfer.transfer_against_overlap(measured, probed, tasks),
    }


@pytest.mark.parametrize(
    "events",
    [told(), told(1), told(12), ([], []), (told()[0][1:2], told()[1][:1]), ([subspace(0, moved=False)], [])],
    ids=["three tasks", "one", "twelve", "nothing", "no reference", "unmoved"],
)
def test_every_figure_has_its_words_template_and_small_arrays(events):
    assert_complete(all_of(*events, tasks=[]))


def test_spectra_are_relative_singular_values_with_the_core_marked():
    figure = subspaces.embedding_spectra(told()[0], TASKS)
    event = subspace(1)
    expected = np.sqrt(event.eigenvalues / event.eigenvalues[0])
    np.testing.assert_allclose(trace(figure, "T2").y, expected, rtol=1e-5)
    assert trace(figure, "T2").line.color == task_colour(1, 3) and trace(figure, "pre-training").line.color == INK
    mark = trace(figure, "T2, end of the core")
    assert mark.x[0] == event.rank == 4 and mark.y[0] == pytest.approx(expected[3], rel=1e-5)
    assert "T1 3 (effective rank 4.5), T2 4" in figure.layout.meta["caption"]


def test_the_overlap_has_pretraining_first_and_says_what_chance_is():
    figure = subspaces.overlap_map(told()[0], TASKS)
    (cells,) = figure.data
    assert list(cells.x) == ["pre-training", "T1", "T2"] and list(cells.y) == ["T1", "T2", "T3"]
    np.testing.assert_allclose(cells.z[2], [0.9, 0.6, 0.3], rtol=1e-6)
    assert np.isnan(cells.z[0][1:]).all() and "random spaces 0.38" in figure.layout.meta["caption"]
    assert list(cells.customdata[2][0]) == ["0.38", "6° to 57°"]


def test_the_budget_adds_up_to_the_width_and_an_exhausted_space_is_said():
    figure = subspaces.space_budget(told()[0], TASKS)
    assert [sum(t.y[i] for t in figure.data) for i in range(4)] == [WIDTH] * 4
    assert list(figure.data[0].x) == [-1, 0, 1, 2] and len(figure.data) == len(PARTS)
    assert "7 of 16 directions are free" in figure.layout.meta["caption"]
    full = subspaces.space_budget([subspace(0), subspace(1, exhausted=True)])
    assert "exhausted: projected steps are zero" in full.layout.meta["caption"]
    control = subspaces.space_budget([subspace(0, projection="random")])
    assert "does not use these parts (projection random)" in control.layout.meta["caption"]


def test_gradient_parts_are_percent_with_what_was_let_through():
    figure = subspaces.gradient_parts(told()[0], TASKS)
    assert [float(sum(t.y[i] for t in figure.data[:4])) for i in range(3)] == pytest.approx([100] * 3)
    np.testing.assert_allclose(trace(figure, "let through").y, [100, 60, 60])
    assert "T1 100.0 %; T2 60.0 %" in figure.layout.meta["caption"]


def test_leaks_stand_beside_chance_from_the_second_task_on():
    figure = subspaces.leak_into_cores(told()[0], TASKS)
    assert list(trace(figure, "T1").x) == [1, 2] and list(trace(figure, "T2").x) == [2]
    np.testing.assert_allclose(trace(figure, "a random change").y, [0.5, 0.5])


def test_forward_transfer_is_the_mean_over_tasks_to_come():
    figure = forward_transfer.forward_transfer(told()[1], TASKS)
    np.testing.assert_allclose(trace(figure, "FWD").y, [-2, -4])
    assert [len([t for t in figure.data if t.name == f"T{j}"]) for j in (1, 2, 3)] == [0, 1, 2]
    assert "T1 −2.0 pp, T2 −4.0 pp" in figure.layout.meta["caption"]


def test_without_a_look_before_training_there_is_no_forward_transfer():
    assert "Nothing has been measured" in forward_transfer.forward_transfer([probe(0), probe(1)]).layout.meta["caption"]


def test_pairs_of_tasks_are_drawn_at_their_overlap():
    measured, probed = told()
    probed[2] = replace(probed[2], row=[0, 0, 65.0])
    figure = forward_transfer.transfer_against_overlap(measured, probed, TASKS)
    dots = {(float(x), float(y)) for t in figure.data for x, y in zip(t.x, t.y, strict=True)}
    rounded = {(round(x, 2), round(y, 1)) for x, y in dots}
    assert rounded == {(0.3, -2.0), (0.6, -2.0), (0.3, 7.0)}, "T1→T2, T1→T3, T2→T3"
    assert "3 pairs of tasks" in figure.layout.meta["caption"]
