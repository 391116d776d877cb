"""What answers are made of: numbers read from a finished run's events, and how they are said. No torch.

Every answer names its runs, seeds and cells, so that a reader can look each number up on the pages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from functools import partial
from typing import TypeVar

import numpy as np

from cl_core.events import Event, RunStarted
from cl_core.questions.seeds import CLEAR
from cl_core.store import RunFolder, RunReader
from cl_core.summary import Summary, summarise

Kind = TypeVar("Kind", bound=Event)
Found = TypeVar("Found")
Row = list[float | None]
Runs = Mapping[str, RunFolder]  # finished runs by label

ONE_SEED = "One seed: what lies a few points apart may change places with another."


def events(folder: RunFolder, kind: type[Kind]) -> list[Kind]:
    """All events of one kind, oldest first."""
    with closing(RunReader(folder)) as reader:
        return [stored.event for stored in reader.since(kinds=(kind.__name__,))]  # type: ignore[misc]


def seconds_of(folder: RunFolder) -> float:
    """Wall time the run was worked on."""
    with closing(RunReader(folder)) as reader:
        return reader.worked_seconds()


def task_names(folder: RunFolder) -> list[str]:
    """Of the evaluated tasks, in order of arrival."""
    plan = events(folder, RunStarted)
    return [str(task["name"]) for task in plan[-1].tasks] if plan else []


def processor(folder: RunFolder) -> str:
    """What the run was trained on: "cpu, 1 thread"."""
    plan = events(folder, RunStarted)
    around = plan[-1].environment if plan else {}
    threads = around.get("threads")
    return str(around.get("device", "an unknown device")) + (
        f", {threads} thread{'s' if threads != 1 else ''}" if threads else ""
    )


def span(tasks: int) -> str:
    """ "T1 to T6"."""
    return f"T1 to T{tasks}" if tasks > 1 else "T1"


def untrained_transfer(summary: Summary) -> float | None:
    """Transfer of the model before any training: the mean of its accuracies on T2, T3, …"""
    return mean(summary.zero_shot[1:]) if summary.zero_shot else None


def in_each(runs: Runs, read: Callable[[RunFolder], Found]) -> dict[str, Found]:
    """Label → what `read` finds in the run."""
    return {label: read(folder) for label, folder in runs.items()}


def summaries(runs: Runs) -> dict[str, Summary]:
    return in_each(runs, partial(summarise, by_own_head=True))


def results(summary: Summary) -> dict[str, float | None]:
    """What a class-incremental run came to."""
    return {
        "final, %": summary.final_average_accuracy,
        "forgetting, pp": summary.forgetting,
        "learning, %": summary.learning_accuracy,
    }


def results_of(folder: RunFolder) -> dict[str, float | None]:
    """The same of a run, by its own heads."""
    return results(summarise(folder, by_own_head=True))


def domain_results_of(folder: RunFolder) -> dict[str, float | None]:
    """What a run over domains came to, the task named."""
    summary = summarise(folder, by_own_head=True)
    return {
        "Transfer, %": summary.transfer,
        "Last, %": summary.last,
        "forgetting, pp": summary.forgetting,
        "learning, %": summary.learning_accuracy,
    }


def told_of(found: Mapping[str, Found], told: Callable[[Found], str]) -> str:
    """ "fixed keys: …; trained keys: …": what is told of each run."""
    return "; ".join(f"{label}: {told(what)}" for label, what in found.items())


def sources(runs: Runs, cells: str) -> str:
    """One sentence: runs, seeds and cells an answer comes from."""
    seeds = sorted({folder.config().seed for folder in runs.values()}, key=lambda seed: -1 if seed is None else seed)
    named = ", ".join(f"{label} = {folder.name}" for label, folder in runs.items())
    return f"From {named}; seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}; {cells}."


def concluded(verdict: str, each: str, runs: Runs, cells: str) -> str:
    """The usual paragraph: verdict, what each run came to, where the numbers are from, and what one seed is worth."""
    return f"{verdict} {each}. {sources(runs, cells)} {ONE_SEED}"


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


def percent(value: float | None) -> str:
    """ "81.3 %"; "not measured" where there is nothing."""
    return "not measured" if value is None else f"{value:.1f} %"


def points(value: float | None) -> str:
    """ "+1.2 pp", "−3.0 pp"."""
    return "not measured" if value is None else f"{round(value, 1) + 0.0:+.1f} pp".replace("-", "−")  # never −0.0


def number(value: float | None) -> str:
    """Three significant digits."""
    return "not measured" if value is None else f"{value:.3g}".replace("-", "−")


def scores(summary: Summary) -> str:
    """ "Transfer 71.2 %, Last 80.0 %, forgetting +3.1 pp"."""
    return (
        f"Transfer {percent(summary.transfer)}, Last {percent(summary.last)}, forgetting {points(summary.forgetting)}"
    )


def compared(value: float | None, against: float | None) -> str:
    """ "higher", "lower" or "alike" (closer than `CLEAR` points)."""
    difference = less(value, against)
    if difference is None:
        return "not comparable"
    return "alike" if abs(difference) < CLEAR else "higher" if difference > 0 else "lower"
