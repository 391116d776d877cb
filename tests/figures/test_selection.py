"""Selection figures by the data in their traces."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.events import RunStarted, SelectionMeasured
from dashboard.figures import selection
from dashboard.theme import INK, task_colour
from tests.figures.conftest import assert_complete
from tests.recorded_pool_runs import PoolPlan, moments

PLANS = {
    "task": PoolPlan(),
    "class": PoolPlan(of="class", layers=(0, 2)),
    "nobody": PoolPlan(of=""),
    "mixed": PoolPlan(each=5, layers=(1,)),
    "one": PoolPlan(tasks=1),
}


def told(plan):
    events = [event for moment in moments(plan) for event in moment]
    started = next(e for e in events if isinstance(e, RunStarted))
    return [e for e in events if isinstance(e, SelectionMeasured)], started.tasks


def all_of(plan, task=None):
    measured, tasks = told(plan)
    layer = plan.layers[-1]
    return {
        "taken_entries": selection.taken_entries(measured, tasks, layer=layer, task=task),
        "own_entry_taken": selection.own_entry_taken(measured, tasks, layer=layer),
        "pool_use": selection.pool_use(measured, tasks, layer=layer, task=task),
    }


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_every_figure_has_its_words_template_and_small_arrays(plan):
    assert_complete(all_of(plan))


def test_nothing_measured_yet_is_a_figure_too():
    for figure in (selection.taken_entries([]), selection.own_entry_taken([]), selection.pool_use([])):
        assert figure.layout.meta["title"] and figure.to_json()


def test_rows_are_classes_seen_and_columns_the_owners_of_what_they_took():
    measured, tasks = told(PLANS["task"])
    figure = selection.taken_entries(measured, tasks)
    np.testing.assert_allclose(figure.data[0].z, np.repeat([[80, 0, 20], [0, 90, 10], [0, 0, 100]], 2, axis=0))
    assert "three" in figure.layout.yaxis.ticktext[0] and task_colour(0, 3) in figure.layout.yaxis.ticktext[0]
    assert [t.endswith(n) for t, n in zip(figure.layout.xaxis.ticktext, ("T1", "T2", "T3"), strict=True)] == [True] * 3
    assert "90.0 % took their own" in figure.layout.meta["caption"]
    earlier = selection.taken_entries(measured, tasks, task=1)
    np.testing.assert_allclose(earlier.data[0].z, np.repeat([[90, 10], [0, 100]], 2, axis=0))
    assert "after T2" in earlier.layout.meta["title"] and "after T3" in figure.layout.meta["title"]


def test_entries_of_one_owner_are_one_column():
    whole, parts = (selection.taken_entries(*told(PLANS[p]), layer=PLANS[p].layers[0]) for p in ("task", "mixed"))
    np.testing.assert_allclose(parts.data[0].z, whole.data[0].z, rtol=1e-5)
    assert "share of the mixture" in parts.layout.meta["caption"]


def test_entries_of_nobody_stand_for_themselves():
    figure = selection.taken_entries(*told(PLANS["nobody"]))
    assert list(figure.layout.xaxis.ticktext) == ["P1", "P2", "P3", "P4"]
    np.testing.assert_allclose(figure.data[0].z[0], [100, 100, 0, 0])
    assert "Each image selects 2 of 4" in figure.layout.meta["caption"]


def test_many_classes_are_drawn_by_task():
    measured, tasks = told(PoolPlan(tasks=5))
    classes = 30
    counts = np.repeat(measured[-1].counts, 3, axis=0)
    wide = [
        SelectionMeasured(e.clock, e.layer, e.of, counts, e.owners, e.accuracy) for e in measured if e.clock.task == 4
    ]
    tasks = [{**t, "classes": [f"{t['name']} {k}" for k in range(classes // 5)]} for t in tasks]
    figure = selection.taken_entries(wide, tasks)
    assert figure.data[0].z.shape == (5, 5) and figure.data[0].z[0][0] == pytest.approx(60)


def test_own_entries_have_a_line_a_task_in_its_colour_all_pictures_and_chance():
    figure = selection.own_entry_taken(*told(PLANS["task"]))
    lines = {t.name: t for t in figure.data}
    assert list(lines["T1"].x) == [0, 1, 2] and lines["T1"].line.color == task_colour(0, 3)
    np.testing.assert_allclose(lines["T1"].y, [100, 90, 80], rtol=1e-5)
    assert list(lines["T3"].x) == [2] and list(lines["T1"].marker.size) == [10, 6, 6]
    np.testing.assert_allclose(lines["all images"].y, [100, 95, 90], rtol=1e-5)
    assert lines["all images"].line.color == INK
    np.testing.assert_allclose(lines["chance"].y, [100, 50, 100 / 3], rtol=1e-5)


def test_classes_own_entries_are_averaged_over_the_task():
    measured, tasks = told(PLANS["class"])
    figure = selection.own_entry_taken(measured, tasks, layer=2)
    np.testing.assert_allclose(figure.data[0].y, [100, 90, 80], rtol=1e-5)
    assert "layer 3" in figure.layout.meta["title"] and selection.layers(measured) == [0, 2]


def test_bars_of_the_pool_are_stacked_by_whose_pictures_took_them():
    figure = selection.pool_use(*told(PLANS["nobody"]))
    assert [t.marker.color for t in figure.data] == [task_colour(t, 3) for t in range(3)]
    np.testing.assert_allclose(np.sum([t.y for t in figure.data], axis=0), [100, 100 / 3, 100 / 3, 100 / 3], rtol=1e-5)
    assert "0 were never selected" in figure.layout.meta["caption"]
    one = selection.pool_use(*told(PLANS["nobody"]), task=0)
    assert "2 were never selected" in one.layout.meta["caption"] and "Effectively 2 of 4" in one.layout.meta["caption"]


def test_entries_in_use_are_all_when_used_alike_and_one_when_alone():
    def event(counts):
        return SelectionMeasured(told(PLANS["task"])[0][0].clock, -1, "", np.array(counts, np.float32), [-1] * 3, None)

    assert selection.entries_in_use(event([[1, 1, 1]])) == pytest.approx(3)
    assert selection.entries_in_use(event([[0, 1, 0], [np.nan] * 3])) == pytest.approx(1)
