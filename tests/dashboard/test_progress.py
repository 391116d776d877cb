"""Time left: estimating at first, then steps and what lies between them, pauses left out."""

from __future__ import annotations

from pathlib import Path

import pytest

from cl_core.events import Clock, RunForked, RunStarted, StateChanged, StepEnded, TaskEnded, TaskStarted
from cl_core.store import RunFolder, StoredEvent
from dashboard.progress import progress
from dashboard.run_log import Snapshot


def log_with(happened, *, tasks=2, steps=20):
    """A log of (time, event) pairs for a run of `steps` steps in all."""
    plan = RunStarted(Clock(), [{"name": "T"}] * tasks, "class-incremental", tasks, steps, 1, {}, {})
    stored = [StoredEvent(i, t, e) for i, (t, e) in enumerate([(0.0, plan), *happened])]
    return Snapshot.holding(RunFolder(Path("run")), stored)


def step(task, number, seconds=1.0):
    return StepEnded(Clock(task, 0, number), {}, {}, {}, {}, 0.0, seconds)


def test_nothing_is_estimated_from_a_few_steps():
    assert progress(log_with([(0, TaskStarted(Clock(0), [], 10)), (1, step(0, 0))])).seconds_left is None


def test_before_a_task_has_ended_the_pace_so_far_counts():
    happened = [(0, TaskStarted(Clock(0), [], 10))] + [(2.0 * (i + 1), step(0, i)) for i in range(6)]
    assert progress(log_with(happened)).seconds_left == pytest.approx(14 * 2.0)


def test_measuring_at_task_ends_is_counted_for_every_task_left():
    happened = [(0, TaskStarted(Clock(0), [], 10))] + [(i + 1.0, step(0, i)) for i in range(10)]
    happened += [(15, TaskStarted(Clock(1), [], 10))]  # ten seconds of steps, five of measuring
    assert progress(log_with(happened)).seconds_left == pytest.approx(10 * 1.0 + 5.0)


def test_a_pause_does_not_lengthen_the_estimate():
    happened = [(0, StateChanged(Clock(), "running")), (0, TaskStarted(Clock(0), [], 10))]
    happened += [(i + 1.0, step(0, i)) for i in range(5)]
    happened += [(5, StateChanged(Clock(), "paused")), (1005, StateChanged(Clock(), "running"))]
    happened += [(1006.0 + i, step(0, 5 + i)) for i in range(5)]
    assert progress(log_with(happened)).seconds_left == pytest.approx(10.0)


@pytest.mark.parametrize(
    "said", [[], [(1010, StateChanged(Clock(), "stopped")), (1018, StateChanged(Clock(), "running"))]]
)
def test_the_time_between_a_parent_and_its_fork_is_no_training(said):
    happened = [(0, TaskStarted(Clock(0), [], 10))] + [(i + 1.0, step(0, i)) for i in range(10)]
    happened += [(15, TaskEnded(Clock(0), 15.0, 0)), (1000, RunForked(Clock(0), "parent", 1, {}, 20)), *said]
    happened += [(1020, TaskStarted(Clock(1), [], 10))]  # ten seconds of steps, five of measuring, the rest nothing
    assert progress(log_with(happened)).seconds_left == pytest.approx(10 * 1.0 + 5.0)
