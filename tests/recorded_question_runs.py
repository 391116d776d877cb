"""Runs of questions, written by hand with the real writer: the settings a question asks for, and events one gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cl_core.events import (
    AccuracyMeasured,
    Clock,
    Event,
    ModalityGapMeasured,
    RunStarted,
    SpectrumMeasured,
    StateChanged,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from cl_core.questions import config_of, question
from cl_core.store import RunFolder
from tests.recording import ENVIRONMENT, recorded


def write(
    runs: Path,
    name: str,
    label: str,
    *said: Event,
    rows: Sequence[Sequence[float]] = (),
    zero_shot: Sequence[float] | None = None,
    tasks: Sequence[str] | None = None,
    classes: int = 0,
    seed: int = 0,
    end: str = "finished",
) -> RunFolder:
    """The run `label` of the question `name`: accuracies `rows` (one a task), then whatever is `said`."""
    names = tasks or [f"T{j + 1}" for j in range(len(rows[0]) if rows else 2)]
    plan = [{"name": n, "classes": [f"{n} {c}" for c in range(classes)], "train": 1, "test": 1} for n in names]
    scenario = "multi-domain task-incremental"
    started = RunStarted(Clock(), plan, scenario, len(plan), 4, 1, {"name": "x", "depth": 1}, ENVIRONMENT)
    untrained = [] if zero_shot is None else [[AccuracyMeasured(Clock(), "zero-shot", list(zero_shot))]]
    moments = [
        [StateChanged(Clock(), "running"), started],
        *untrained,
        *([AccuracyMeasured(Clock(task), "task-incremental", list(row))] for task, row in enumerate(rows)),
        [*said, StateChanged(Clock(len(rows) - 1), end)],
    ]
    return recorded(runs, config_of(question(name), label, seed=seed), moments)


def weight(task: int = 0, name: str = "image.0.q", *, sigma: Sequence[float] = (2, 1, 1, 1), **others: Any) -> Event:
    """Singular values `sigma` before and after, half of the directions principal, a quarter of them leaking."""
    values = np.array(sigma, dtype=np.float32)
    usual: dict[str, Any] = {
        "before": values,
        "after": values,
        "rho": 0.5,
        "principal": len(values) // 2,
        "written": len(values) - len(values) // 2,
        "bound": "rho",
        "used": True,
        "effective_rank": 3.0,
        "effective_rank_before": 2.0,
        "leak_left": 0.25,
        "leak_right": 0.25,
        "chance": 0.5,
        "drift": 0.1,
        "overlap": 0.9,
        "movement": 0.01,
        "promoted": 0,
        "seconds": 0.001,
    }
    return WeightSpectrumMeasured(Clock(task), name, **{**usual, **others})


def gap(task: int, length: float, recall: float, *, direction: float = 1.0, general: float = 90.0) -> Event:
    """The joint space with R@1 `recall` one way and 10 points less the other way."""
    few, points = np.zeros(2, np.float32), np.zeros((2, 2), np.float16)
    return ModalityGapMeasured(
        Clock(task), length, direction, 0.4, 0.5, 0.8, np.zeros(3, np.float32), few, few, 0.7, 0.1, 3.0, 0.9, 95.0,
        {"1": recall, "5": 99.0}, {"1": recall - 10, "5": 99.0}, 24, general, points, points,
    )  # fmt: skip


def cut(task: int, nullity: int, *, width: int = 4, space: str = "c_fc") -> Event:
    """What the next task is held to in one layer."""
    values = np.linspace(1, 0.1, width).astype(np.float32)
    return SpectrumMeasured(Clock(task), 0, space, values, nullity, "tail 0.15", True, 0.9, 3.0, 1.0, 0.0)


def update(task: int, leak: float | None, *, space: str = "c_fc") -> Event:
    return UpdateMeasured(Clock(task), 0, 0.1, {space: None}, {space: None}, {space: leak})
