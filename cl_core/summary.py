"""Summary of a run: its accuracy matrices and the measures computed from them. No torch."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from cl_core import metrics
from cl_core.events import AccuracyMeasured, RunStarted
from cl_core.readouts import CLASS_INCREMENTAL, TASK_INCREMENTAL, ZERO_SHOT
from cl_core.store import RunFolder, RunReader, StoreError

MEASURES = (  # of a matrix, as `cl_core.metrics` names them
    "final_average_accuracy",
    "average_incremental_accuracy",
    "learning_accuracy",
    "forgetting",
    "backward_transfer",
    "transfer",
    "average",
    "last",
)


@dataclass(frozen=True)
class Summary:
    """Summary of a run. Percent; None if undefined or not measured."""

    run: str
    folder: str
    state: str
    method: str
    backbone: str
    stream: str
    seed: int | None  # None: unknown (a run that was trained elsewhere)
    device: str
    seconds: float
    accuracy_matrix: list[list[float | None]]  # rows = after training on, columns = evaluated on
    zero_shot: list[float | None] | None  # the row before training, where it was measured
    final_average_accuracy: float | None
    average_incremental_accuracy: float | None
    learning_accuracy: float | None
    forgetting: float | None
    backward_transfer: float | None
    transfer: float | None
    average: float | None
    last: float | None
    readouts: dict[str, list[list[float | None]]]  # further matrices by readout: task-incremental, stored statistics, …
    reason: str = ""
    readout: str = CLASS_INCREMENTAL  # the readout of `accuracy_matrix`

    def matrix(self, readout: str = "") -> list[list[float | None]]:
        """[T][T] percent of a readout ("" = the run's default); empty if it was not measured."""
        return self.accuracy_matrix if readout in ("", self.readout) else self.readouts.get(readout, [])

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "readout"}

    def reported(self) -> dict[str, Any]:
        """The output of `plastiscope run --json`; its keys are fixed."""
        return {key: value for key, value in vars(self).items() if key not in ("readouts", "reason", "readout")}


def headline_readout(measured: Iterable[AccuracyMeasured]) -> str:
    """The run's default readout: the one named by `diagnostics.headline`, else that of the method's head."""
    measured = list(measured)
    named = next((event.readout for event in measured if event.headline), None)
    return named or own_head({event.readout for event in measured})


def own_head(readouts: Iterable[str]) -> str:
    """The readout of the method's own head: class-incremental if such rows exist, else task-incremental.

    In runs over several domains the task is known, and there are no class-incremental rows.
    """
    found = set(readouts)
    named_only = TASK_INCREMENTAL in found and CLASS_INCREMENTAL not in found
    return TASK_INCREMENTAL if named_only else CLASS_INCREMENTAL


def shared_readout(summaries: Iterable[Summary]) -> str:
    """The readout for comparing runs: "" (the default) if all have the same default readout, else that of their own
    heads, which every run has."""
    summaries = list(summaries)
    if len({summary.readout for summary in summaries}) <= 1:
        return ""
    return own_head({summary.readout for summary in summaries} | {name for s in summaries for name in s.readouts})


def matrix_of(rows: dict[int, list[float | None]], tasks: int) -> list[list[float | None]]:
    """[T][T] with None for values not measured."""
    return [rows.get(i, [None] * tasks) for i in range(tasks)]


def measures(matrix: list[list[float | None]]) -> dict[str, float | None]:
    """All measures of one matrix; None if undefined, such as comparisons of rows if only the last was measured."""
    read = metrics.accuracy_matrix(cast(Any, matrix))  # once; None is NaN there
    computed = {name: float(getattr(metrics, name)(read)) for name in MEASURES}
    return {name: value if math.isfinite(value) else None for name, value in computed.items()}


def definition(measure: str) -> str:
    """Definition and formula of a measure: its docstring in `cl_core.metrics`, without the arguments."""
    return re.split(r"\n\s*(?:Args|Returns|Raises):", inspect.getdoc(getattr(metrics, measure)) or "")[0].strip()


def summarise(folder: RunFolder, *, by_own_head: bool = False) -> Summary:
    """The data printed by `show`, from stored events only. Raises StoreError if the run cannot be read.

    `by_own_head`: measures of the method's own head, instead of the run's default readout.
    """
    config, reader = folder.config(), RunReader(folder)
    with contextlib.closing(reader), reader.snapshot() as status:
        newest = reader.latest("RunStarted")
        started = cast(RunStarted, newest.event) if newest else None
        tasks = len(started.tasks) if started else 0
        rows: dict[str, dict[int, list[float | None]]] = {}
        zero_shot, measured = None, []
        for stored in reader.since(kinds=("AccuracyMeasured",)):
            event = cast(AccuracyMeasured, stored.event)
            if len(event.row) != tasks or event.clock.task >= tasks:
                raise StoreError(
                    f"run {folder.name} has {tasks} tasks, and a row of {len(event.row)} accuracies after task "
                    f"{event.clock.task + 1}; its events are damaged"
                )
            if event.readout == ZERO_SHOT:
                zero_shot = event.row
            else:
                measured.append(event)
                rows.setdefault(event.readout, {})[event.clock.task] = event.row
        seconds = reader.worked_seconds()
        device = started.environment.get("device", config.device) if started else config.device
    matrices = {name: matrix_of(found, tasks) for name, found in rows.items()}
    judged = own_head(matrices) if by_own_head else headline_readout(measured)
    headline = matrices.pop(judged, matrix_of({}, tasks))
    numbers = (
        measures(headline) if any(v is not None for row in headline for v in row) else dict.fromkeys(measures([[1.0]]))
    )
    return Summary(
        folder.name,
        str(folder.path),
        status.state,
        config.method,
        config.backbone,
        config.stream,
        config.seed,
        device,
        round(seconds, 3),
        headline,
        zero_shot,
        **numbers,
        readouts=matrices,
        reason=status.reason,
        readout=judged,
    )
