"""An invented run of Fwd-Prompt: subspaces of tasks and a probe of tasks to come, with the real writer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cl_core.events import Clock, Event, ForwardTransferMeasured, RunStarted, StateChanged, SubspaceMeasured
from cl_core.presets import resolve
from cl_core.store import RunFolder
from tests.recording import ENVIRONMENT, recorded

WIDTH, PRETRAINED = 16, 6
PARTS = ("free pre-trained", "conflicting", "occupied", "free residual")


def subspace(task: int, *, projection: str = "both", exhausted: bool = False, moved: bool = True) -> SubspaceMeasured:
    """The pre-trained space (task −1), or a task of 3 + task directions that takes 2 inside and 1 outside."""
    t = task + 1
    values = np.exp(-np.arange(WIDTH) / (2 + t)).astype(np.float32)
    inside, outside = (PRETRAINED, WIDTH - PRETRAINED) if exhausted else (min(2 * t, PRETRAINED), t)
    budget = (PRETRAINED - inside, inside, outside, WIDTH - PRETRAINED - outside)
    rank = PRETRAINED if task < 0 else 3 + task
    angles = np.full((t, rank), np.nan, dtype=np.float32)
    angles[:, :3] = [0.1, 0.5, 1.0]
    shares = (0.4, 0.1 * min(t, 3), 0.1, 0.5 - 0.1 * min(t, 3))
    return SubspaceMeasured(
        Clock(task, 1, 10 * task) if task >= 0 else Clock(),
        0,
        values / values.sum(),
        0.99,
        rank,
        4.5,
        np.linspace(0.9, 0.3, t).astype(np.float32),
        np.full(t, 0.375, dtype=np.float32),
        angles,
        dict(zip(PARTS, budget, strict=True)),
        dict(zip(PARTS, shares, strict=True)) if moved and task >= 0 else {},
        (1.0 if task == 0 else 0.6) if moved and task >= 0 else None,
        np.full(max(task, 0) if moved else 0, 0.2, dtype=np.float32),
        np.full(max(task, 0), 0.5, dtype=np.float32),
        projection,
        "pictures of the pre-training world",
    )


def probe(task: int, *, tasks: int = 3, gain: float = -2.0) -> ForwardTransferMeasured:
    """60 % everywhere before training; every task then changes all that is to come by `gain` points."""
    return ForwardTransferMeasured(Clock(task, 1, 10 * max(task, 0)), [60.0 + gain * (task + 1)] * tasks, 10, 0.1)


def written(
    runs: Path,
    *,
    tasks: int = 3,
    forward: bool = True,
    spaces: bool = True,
    name: str = "spaces",
    until: int | None = None,
) -> RunFolder:
    config = resolve({"method": "fwd_prompt", "backbone": "random-vit", "name": name})
    plan = [{"name": f"T{j + 1}", "classes": [], "train": 1, "test": 1} for j in range(tasks)]
    backbone = {"name": "x", "depth": 2, "width": WIDTH}
    started = RunStarted(Clock(), plan, "class-incremental", tasks, 30, 1, backbone, ENVIRONMENT)
    moments: list[list[Event]] = [[StateChanged(Clock(), "running"), started]]
    moments[0] += [probe(-1, tasks=tasks)] if forward else []
    for task in range(tasks if until is None else until):
        said: list[Event] = [subspace(-1)] if task == 0 and spaces else []
        said += [subspace(task)] if spaces else []
        moments.append([*said, *([probe(task, tasks=tasks)] if forward else [])])
    moments += [[StateChanged(Clock(tasks - 1), "finished")]] if until is None else []
    return recorded(runs, config, moments)
