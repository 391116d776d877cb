"""Recorded runs of a method with a pool of prompts, written by the real writer: invented numbers, real shapes.

One entry a task, found less often with every later task:    record(runs, "pool")
Entries of nobody, of which each picture takes two:           record(runs, "pool", PoolPlan(of=""))
An entry a class, in two of three layers:                     record(runs, "pool", PoolPlan(of="class", layers=(0, 2)))
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cl_core.config import DiagnosticsConfig, RunConfig, StreamConfig
from cl_core.events import AccuracyMeasured, Clock, Event, RunStarted, SelectionMeasured, StateChanged, TaskStarted
from cl_core.store import RunFolder
from tests.recording import ENVIRONMENT, recorded

DIGITS = ("three", "seven", "zero", "nine", "one", "four", "two", "eight", "five", "six")


@dataclass(frozen=True)
class PoolPlan:
    """Sizes of an invented run with two classes a task."""

    of: str = "task"
    layers: tuple[int, ...] = (-1,)
    tasks: int = 3
    each: int = 1  # entries an owner; more than one: they are mixed
    measured: bool = True

    @property
    def config(self) -> RunConfig:
        return RunConfig(
            method="dualprompt",
            stream_settings=StreamConfig(tasks=self.tasks),
            diagnostics=DiagnosticsConfig() if self.measured else DiagnosticsConfig.off(),
        )


def moments(plan: PoolPlan) -> Iterator[tuple[Event, ...]]:
    """From RunStarted to StateChanged("finished"); per task its start, then what was measured."""
    tasks = [
        {"name": f"T{t + 1}", "classes": list(DIGITS[2 * t : 2 * t + 2]), "train": 20, "test": 10}
        for t in range(plan.tasks)
    ]
    backbone = {"name": "micro-vit", "depth": 3, "width": 16, "heads": 2, "tokens": 17, "patch_grid": [4, 4]}
    yield (
        RunStarted(Clock(), tasks, "class-incremental", plan.tasks, 4 * plan.tasks, 100, backbone, ENVIRONMENT),
        StateChanged(Clock(), "running"),
    )
    for task in range(plan.tasks):
        clock, row = Clock(task, 1, 4 * task + 3), [90.0] * (task + 1) + [None] * (plan.tasks - task - 1)
        yield (TaskStarted(Clock(task, -1, 4 * task), tasks[task]["classes"], 4),)
        selected = [_selection(plan, clock, layer) for layer in plan.layers] if plan.measured else []
        yield (AccuracyMeasured(clock, "class-incremental", row), *selected)
    yield (StateChanged(Clock(plan.tasks - 1, 1, 4 * plan.tasks - 1), "finished"),)


def record(runs: Path, name: str, plan: PoolPlan | None = None, *, until: int | None = None) -> RunFolder:
    """A run `name` below `runs` holding the first `until` moments of `plan` (all if None)."""
    plan = plan or PoolPlan()
    return recorded(runs, replace(plan.config, name=name), moments(plan), until=until)


def _selection(plan: PoolPlan, clock: Clock, layer: int) -> SelectionMeasured:
    """Own entries lose a tenth with every later task, to the newest owner; entries of nobody: P1 always, then the
    task's."""
    seen, classes = clock.task + 1, 2 * plan.tasks
    owners = {"task": list(range(seen)), "class": list(range(2 * seen)), "": [-1] * 4}[plan.of]
    counts = np.full((classes, len(owners)), np.nan)
    for c in range(2 * seen):
        counts[c] = 0
        if plan.of:
            lost, own = 0.1 * (clock.task - c // 2), c if plan.of == "class" else c // 2
            counts[c, own] += 1 - lost
            counts[c, -1] += lost
        else:
            counts[c, [0, 1 + (c // 2) % 3]] = 1
    known = counts[: 2 * seen]
    own = np.mean([known[c, c if plan.of == "class" else c // 2] for c in range(len(known))]) if plan.of else None
    if plan.each > 1:
        counts, owners = np.repeat(counts, plan.each, axis=1) / plan.each, [o for o in owners for _ in range(plan.each)]
    return SelectionMeasured(
        clock, layer, plan.of, counts.astype(np.float32), owners, None if own is None else float(100 * own)
    )
