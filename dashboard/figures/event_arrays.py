"""Conversion of events to arrays for the figures. NumPy only; tasks, layers and epochs count from 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from cl_core.events import AccuracyMeasured, AttentionCompared, Event, PromptsDrifted, SpectrumMeasured
from cl_core.readouts import READOUTS, ZERO_SHOT
from cl_core.summary import headline_readout

E = TypeVar("E", bound=Event)

ORDER = tuple(READOUTS)


def readouts(measured: Iterable[AccuracyMeasured]) -> list[str]:
    """Readouts measured after training: the run's default first, then the known ones."""
    after = [event for event in measured if event.clock.task >= 0]
    found, headline = {event.readout for event in after}, headline_readout(after)
    return sorted(found, key=lambda r: (r != headline, ORDER.index(r) if r in ORDER else len(ORDER), r))


def zero_shot(measured: Iterable[AccuracyMeasured]) -> np.ndarray | None:
    """[T] accuracy in percent on every task before any training; None = not measured."""
    rows = [event.row for event in measured if event.readout == ZERO_SHOT]
    return np.array([np.nan if value is None else value for value in rows[-1]], dtype=float) if rows else None


def accuracies(
    measured: Iterable[AccuracyMeasured], readout: str | None = None, *, rows: int | None = None
) -> np.ndarray:
    """a[i, j]: accuracy in percent on task j after training on task i; NaN = not measured.

    Args:
        measured: the run's accuracy events, in order; a later one for the same row replaces an earlier one.
        readout: the readout; None = the run's default.
        rows: number of training stages of the run (rows not reached stay NaN); None = as many as were measured; 1 =
        only
            the newest row, whatever its task (a run that learns all tasks at once).

    Returns:
        [rows, T] float64; [0, 0] if nothing was measured.
    """
    measured = list(measured)
    readout = readout or headline_readout(measured)
    found = {e.clock.task: e.row for e in measured if e.readout == readout and e.clock.task >= 0}
    if not found:
        return np.full((rows or 0, 0), np.nan)
    width = max(len(row) for row in found.values())
    if rows == 1:
        found = {0: found[max(found)]}
    matrix = np.full((max(rows or 0, max(found) + 1), width), np.nan)
    for task, row in found.items():
        matrix[task, : len(row)] = [np.nan if value is None else value for value in row]
    return matrix


def mean_so_far(matrix: np.ndarray) -> np.ndarray:
    """[rows] mean of each row over the tasks seen so far (j ≤ i; a single row: over all its columns), NaN = no row."""
    means = np.full(len(matrix), np.nan)
    for i, row in enumerate(matrix):
        seen = row if len(matrix) == 1 else row[: i + 1]
        if np.isfinite(seen).any():
            means[i] = np.nanmean(seen)
    return means


def last_of_tasks(events: Iterable[E]) -> dict[int, E]:
    """The last event of each task: the state after the task (or the newest one so far)."""
    return {event.clock.task: event for event in events}


def compared_later(compared: Iterable[AttentionCompared], probe_task: int | None = None) -> list[AttentionCompared]:
    """Comparisons (on one task's images) after the first one, which is the reference."""
    first: dict[int, int] = {}
    later = []
    for event in compared:
        if event.clock.task > first.setdefault(event.probe_task, event.clock.task) and probe_task in (
            None,
            event.probe_task,
        ):
            later.append(event)
    return later


def layer_task_table(
    events: Iterable[Event], field: str, *, layers: int, tasks: int, key: str | None = None
) -> np.ndarray:
    """[layers, tasks] of one field of events that have a `layer`; NaN = not measured. `key` selects from a dict."""
    table = np.full((layers, tasks), np.nan)
    for event in events:
        value = getattr(event, field)
        if key is not None:
            value = value.get(key)
        if value is not None and 0 <= event.clock.task < tasks:
            table[event.layer, event.clock.task] = value  # type: ignore[attr-defined]
    return table


def sizes(events: Sequence[Event]) -> tuple[int, int]:
    """(layers, tasks) that events with a `layer` reach."""
    return (
        max((e.layer for e in events), default=-1) + 1,  # type: ignore[attr-defined]
        max((e.clock.task for e in events), default=-1) + 1,
    )


def task_count(events: Iterable[Event], tasks: Sequence[Any] = ()) -> int:
    """Number of tasks of the run: the announced ones (`tasks`), or those in `events`; at least one."""
    return max([len(tasks), 1, *(e.clock.task + 1 for e in events)])


def spaces(measured: Iterable[SpectrumMeasured]) -> list[str]:
    """Measured spaces, the wider one (affinity) first."""
    return sorted({event.space for event in measured})


def moments(drifted: Sequence[PromptsDrifted]) -> list[tuple[int, int]]:
    """(task, epoch) of each stored set of prompts, in order; (−1, −1) or epoch −1 = as initialised."""
    return [(event.clock.task, event.clock.epoch) for event in drifted]
