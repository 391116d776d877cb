"""Progress and remaining time of a run, from its events: times of steps, and times between steps."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from cl_core.events import CheckpointSaved, RunForked, StateChanged, StepEnded, TaskEnded, TaskStarted
from dashboard.run_log import Log, Snapshot

ENOUGH = 5  # steps before the first estimate
RECENT = 100  # newest steps whose mean time is used


@dataclass(frozen=True)
class Progress:
    """Progress of a run. Tasks count from 0; `seconds_left` is None until it can be estimated."""

    task: int  # task in training, or the last trained one; −1 = none yet
    tasks: int  # total number of trained tasks
    step: int  # optimiser steps done
    steps: int  # steps of the whole run; 0 = unknown
    seconds_left: float | None

    @property
    def share(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return min(1.0, self.step / self.steps) if self.steps else 0.0


def progress(log: Snapshot) -> Progress:
    """Return the progress of a run.

    Time left = steps left × recent step time + tasks left × time of a finished task outside its steps (measuring,
    evaluating, saving), without pauses. Before the first task has finished, the overall pace is used.
    """
    plan, starts, steps = log.started(), log.of(TaskStarted), log.count(StepEnded)
    if plan is None:
        return Progress(-1, log.tasks(), 0, 0, None)
    done = int(log.column(StepEnded, _step)[-1]) + 1 if steps else 0
    task = len(starts) - 1  # stages begun: a joint run has one, with its clock at the last task
    left = max(0, plan.total_steps - done)
    if steps < ENOUGH:
        return Progress(task, plan.trained_tasks, done, plan.total_steps, None)

    spent = log.column(StepEnded, _seconds)
    by_task = np.bincount(log.column(StepEnded, _task).astype(int), weights=spent, minlength=len(plan.tasks))
    pace = float(spent[-RECENT:].mean())
    idle = _pauses(log)
    outside = []
    for first, second in pairwise(starts):
        wall = second.time - first.time - _overlap(idle, first.time, second.time)
        outside.append(max(0.0, wall - float(by_task[first.event.clock.task])))
    if outside:
        tasks_left = plan.trained_tasks - len(outside)
        seconds = left * pace + tasks_left * sum(outside) / len(outside)
    else:
        begun, now = starts[0].time if starts else log.of(StepEnded)[0].time, log.of(StepEnded)[-1].time
        seconds = left * max(pace, (now - begun - _overlap(idle, begun, now)) / steps)
    return Progress(task, plan.trained_tasks, done, plan.total_steps, seconds)


def _step(event: StepEnded) -> float:
    return event.clock.step


def _task(event: StepEnded) -> float:
    return event.clock.task


def _seconds(event: StepEnded) -> float:
    return event.seconds


def _pauses(log: Log) -> list[tuple[float, float]]:
    """Return disjoint intervals in which the run was paused, stopped or dead before it continued; in a fork also the
    gap between the parent's last event and its own first."""
    found: list[tuple[float, float]] = []
    since = None
    for stored in log.of(StateChanged):
        state = stored.event.state  # type: ignore[attr-defined]
        if state == "running" and since is not None:
            found.append((since, stored.time))
            since = None
        elif state != "running" and since is None:
            since = stored.time
    for forked in log.of(RunForked):
        before = [s.time for kind in (TaskEnded, CheckpointSaved) for s in log.of(kind) if s.seq < forked.seq]
        after = [s.time for s in log.of(TaskStarted) if s.seq > forked.seq]
        if before and after:
            low, high = max(before), min(after)
            found = [(low, high), *((start, end) for start, end in found if end <= low or start >= high)]
    return found


def _overlap(intervals: list[tuple[float, float]], start: float, end: float) -> float:
    return sum(max(0.0, min(end, high) - max(start, low)) for low, high in intervals)
