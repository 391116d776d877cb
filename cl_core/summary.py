"""A run in numbers: its accuracy matrices and the measures computed from them. No torch."""

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
    """What is known of a run. Percent; None where undefined or not measured."""

    run: str
    folder: str
    state: str
    method: str
    backbone: str
    stream: str
    seed: int | None  # None: not known, of a run that was trained elsewhere
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
    readout: str = CLASS_INCREMENTAL  # whose accuracies `accuracy_matrix` holds

    def matrix(self, readout: str = "") -> list[list[float | None]]:
        """[T][T] percent of a readout ("" = the one that the run is judged by); empty where it was not measured."""
        return self.accuracy_matrix if readout in ("", self.readout) else self.readouts.get(readout, [])

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "readout"}

    def reported(self) -> dict[str, Any]:
        """What `plastiscope run --json` prints: its keys are fixed."""
        return {key: value for key, value in vars(self).items() if key not in ("readouts", "reason", "readout")}


def headline_readout(measured: Iterable[AccuracyMeasured]) -> str:
    """Whose accuracies a run is judged by: the readout that it names (`diagnostics.headline`), else its own head's."""
    measured = list(measured)
    named = next((event.readout for event in measured if event.headline), None)
    return named or own_head({event.readout for event in measured})


def own_head(readouts: Iterable[str]) -> str:
    """The readout of the method's own head: without naming the task where such rows exist, else with the task named.

    Runs over several domains name the task with every picture and have no class-incremental rows.
    """
    found = set(readouts)
    named_only = TASK_INCREMENTAL in found and CLASS_INCREMENTAL not in found
    return TASK_INCREMENTAL if named_only else CLASS_INCREMENTAL


def shared_readout(summaries: Iterable[Summary]) -> str:
    """The readout under which runs may be compared: "" (each by its own) where all name the same headline, else their
    own heads', which every run has."""
    summaries = list(summaries)
    if len({summary.readout for summary in summaries}) <= 1:
        return ""
    return own_head({summary.readout for summary in summaries} | {name for s in summaries for name in s.readouts})


def matrix_of(rows: dict[int, list[float | None]], tasks: int) -> list[list[float | None]]:
    """[T][T] with None where nothing was measured."""
    return [rows.get(i, [None] * tasks) for i in range(tasks)]


def measures(matrix: list[list[float | None]]) -> dict[str, float | None]:
    """All measures of one matrix; None where one is undefined: what compares rows, if only the last was measured."""
    read = metrics.accuracy_matrix(cast(Any, matrix))  # once for all
    computed = {name: float(getattr(metrics, name)(read)) for name in MEASURES}
    return {name: value if math.isfinite(value) else None for name, value in computed.items()}


def definition(measure: str) -> str:
    """What a measure is and its formula: its docstring in `cl_core.metrics`, without the arguments."""
    return re.split(r"\n\s*(?:Args|Returns|Raises):", inspect.getdoc(getattr(metrics, measure)) or "")[0].strip()


def summarise(folder: RunFolder, *, by_own_head: bool = False) -> Summary:
    """Everything `show` prints, from the stored events alone. Raises StoreError if the run cannot be read.

    `by_own_head`: the measures are those of the method's own head, whatever readout the run names as its headline.
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
