"""Looks at old tasks within a new one: few, where the budget puts them, and the same after a resume."""

from __future__ import annotations

from itertools import pairwise

import pytest

pytest.importorskip("torch", reason="torch is not installed")

from cl_core.analysis.ledger import costly_steps
from cl_core.events import Clock, OldTasksMeasured
from cl_core.observers.old_tasks import FEWEST, MOST, cadence


def looks(trainer):
    return [event for moment in trainer.run() for event in moment if event.kind == "OldTasksMeasured"]


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.3, 1.0])
@pytest.mark.parametrize(("steps", "size"), [(1, 8), (25, 64), (1000, 256), (7, 3)])
def test_a_task_costs_no_more_than_its_share(share, steps, size):
    found = cadence(share, steps, size)
    if not found.images:
        assert int(share * 3 * steps * size) < FEWEST
        return
    assert FEWEST <= found.images <= MOST
    assert steps // found.every * found.images <= share * 3 * steps * size


def test_looks_come_at_the_cadence_from_the_second_task_on(tiny_trainer):
    trainer = tiny_trainer("sequential", tasks=5, diagnostics={"within": 0.5})
    found = looks(trainer)
    assert {event.clock.task for event in found} == {1, 2, 3, 4}
    steps = [event.clock.step for event in found if event.clock.task == 1]
    assert {b - a for a, b in pairwise(steps)} <= {found[0].every}
    assert all(0 <= event.accuracy <= 100 and event.loss >= 0 and event.images >= FEWEST for event in found)
    assert not looks(tiny_trainer("sequential", tasks=2, diagnostics={"within": 0.0}))
    assert not looks(tiny_trainer("joint", tasks=2, diagnostics={"within": 0.5})), "nothing was learned before"


def test_a_resumed_task_is_looked_at_after_the_same_steps(tiny_trainer):
    make = lambda: tiny_trainer("sequential", tasks=2, diagnostics={"within": 0.5})
    whole = [event.clock.step for event in looks(make())]
    first, seen = make(), []
    for moment in first.run():
        seen += [event.clock.step for event in moment if event.kind == "OldTasksMeasured"]
        if first.cursor.task == 1 and first.cursor.stage == "train" and first.cursor.item:
            break
    second = make()
    second.restore(first.state())
    assert seen + [event.clock.step for event in looks(second)] == whole


def test_the_stretches_that_cost_most_stay_within_a_task_and_the_cell():
    losses = [(1, 10, 0.2), (1, 12, 0.9), (1, 14, 0.8), (2, 20, 3.0), (2, 22, 3.1), (3, 30, 0.0), (3, 32, 9.0)]
    looked = [OldTasksMeasured(Clock(task, 0, step), 4, 50.0, loss, 2) for task, step, loss in losses]
    found = [(part.task, part.first, part.last) for part in costly_steps(looked, 0, 2)]
    assert found == [(1, 10, 12), (2, 20, 22)]
    assert costly_steps(looked, 2, 3)[0].rise == 9.0


def test_a_curve_of_many_looks_is_thinned_and_keeps_its_peak():
    from dashboard.figures.diagnosis import old_tasks_within
    from dashboard.figures.plot_helpers import LIMIT

    looked = [
        OldTasksMeasured(Clock(task, 0, 5000 * task + step), 8, 50.0, 9.0 if step == 1234 else 1.0, 1)
        for task in (1, 2)
        for step in range(5000)
    ]
    drawn = old_tasks_within(looked, tasks=3).data
    assert [len(line.x) == len(line.customdata) <= LIMIT for line in drawn] == [True, True]
    assert [max(line.y) for line in drawn] == [9.0, 9.0] and 5000 + 1234 in drawn[0].x
