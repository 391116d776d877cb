"""Numbers of a finished run for answers. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import closing
from typing import TypeVar

import numpy as np

from cl_core.events import Event, RunStarted
from cl_core.store import RunFolder, RunReader
from cl_core.summary import Summary, summarise

Kind = TypeVar("Kind", bound=Event)


def events(folder: RunFolder, kind: type[Kind]) -> list[Kind]:
    """All events of one kind, oldest first."""
    with closing(RunReader(folder)) as reader:
        return [stored.event for stored in reader.since(kinds=(kind.__name__,))]  # type: ignore[misc]


def seconds_of(folder: RunFolder) -> float:
    """Wall time of the run."""
    with closing(RunReader(folder)) as reader:
        return reader.worked_seconds()


def task_names(folder: RunFolder) -> list[str]:
    """Of the evaluated tasks, in order of arrival."""
    plan = events(folder, RunStarted)
    return [str(task["name"]) for task in plan[-1].tasks] if plan else []


def results(summary: Summary) -> dict[str, float | None]:
    """Results of a class-incremental run."""
    return {
        "final, %": summary.final_average_accuracy,
        "forgetting, pp": summary.forgetting,
        "learning, %": summary.learning_accuracy,
    }


def results_of(folder: RunFolder) -> dict[str, float | None]:
    """The same of a run, by its own heads."""
    return results(summarise(folder, by_own_head=True))


def domain_results_of(folder: RunFolder) -> dict[str, float | None]:
    """Results of a run over domains, with the task known."""
    summary = summarise(folder, by_own_head=True)
    return {
        "Transfer, %": summary.transfer,
        "Last, %": summary.last,
        "forgetting, pp": summary.forgetting,
        "learning, %": summary.learning_accuracy,
    }


# ---------------------------------------------------------------- numbers


def known(values: Iterable[float | None]) -> np.ndarray:
    """The measured ones among `values`."""
    return np.array([v for v in values if v is not None and math.isfinite(v)], dtype=float)


def mean(values: Iterable[float | None]) -> float | None:
    numbers = known(values)
    return float(numbers.mean()) if numbers.size else None


def less(first: float | None, second: float | None) -> float | None:
    """first − second; None where one is not measured."""
    return None if first is None or second is None else first - second
