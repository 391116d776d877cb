"""Sweeps written by hand with the real writer: accuracies chosen by the test, settings as a sweep makes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cl_core.events import AccuracyMeasured, Clock, Event, RunFailed, RunStarted, StateChanged
from cl_core.store import RunFolder
from cl_core.sweeps import Sweep, axis
from cl_core.sweeps.spec import Point, save
from tests.recording import ENVIRONMENT, recorded

Matrix = Sequence[Sequence[float]]


def softness(name: str = "softness", values: str = "0,0.5,1", seeds: Sequence[int] = (0, 1)) -> Sweep:
    """A sweep of NSP²'s η over two tasks."""
    return Sweep(
        name, ({"method": "nsp2"},), ("stream.tasks=2",), (axis(f"eta_affinity+eta_mixture={values}"),), tuple(seeds)
    )


def trade(point: Point) -> Matrix:
    """More η forgets less and learns less; a seed more adds a point to both. Nothing measured is drawn from it."""
    eta, seed = float(point.values[0]), point.config.seed
    learned = 90 - 20 * eta + seed
    return [[90 + seed, 0], [90 + seed - (30 - 25 * eta), 2 * learned - (90 + seed)]]


def write_run(runs: Path, point: Point, matrix: Matrix, end: str = "finished", reason: str = "") -> RunFolder:
    names = range(len(matrix[0]) if matrix else 2)
    tasks = [{"name": f"T{j + 1}", "classes": [], "train": 1, "test": 1} for j in names]
    backbone = {"name": "x", "depth": 1}
    started = RunStarted(Clock(), tasks, "class-incremental", len(tasks), 4, 1, backbone, ENVIRONMENT)
    moments: list[list[Event]] = [[StateChanged(Clock(), "running"), started]]
    for task, row in enumerate(matrix):
        cells = [*row[: task + 1]] + [None] * (len(row) - task - 1)
        moments += [
            [AccuracyMeasured(Clock(task), readout, cells)] for readout in ("class-incremental", "task-incremental")
        ]
    last: list[Event] = [RunFailed(Clock(), reason, "")] if end == "failed" else []
    moments.append([*last, StateChanged(Clock(len(matrix) - 1), end, reason)])
    return recorded(runs, point.config, moments)


def write(runs: Path, sweep: Sweep | None = None, matrix: Callable[[Point], Matrix] = trade) -> Sweep:
    """All runs of a sweep, finished, and its record."""
    sweep = sweep or softness()
    for point in sweep.points:
        write_run(runs, point, matrix(point))
    save(sweep, runs)
    return sweep
