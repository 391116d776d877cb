"""Common pasts of runs: forks, forks of forks, and several forks of one run. No torch, no streamlit.

A fork's folder holds its parent's events up to the fork, so its first accuracies are those of the parent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cl_core.store import RunFolder, StoreError, fork_of


@dataclass(frozen=True)
class Lineage:
    """A run and its ancestors, the oldest first."""

    names: tuple[str, ...]
    left_after: tuple[int, ...] = ()  # number of tasks of names[i] after which names[i + 1] was forked


@dataclass(frozen=True)
class Parting:
    """The point at which a run's curve leaves that of another run, which shows the past of both."""

    carrier: str  # label of the run whose curve shows the common past
    after_task: int  # number of common tasks
    parent: str  # the run in which these tasks were trained: the carrier or a common ancestor


def lineage(folder: RunFolder, find: Callable[[str], RunFolder | None]) -> Lineage:
    """Return a run's ancestors as far as their folders exist. A parent without a folder is still named by the fork's
    note and ends the lineage; so does a note that cannot be read."""
    names: list[str] = [folder.name]
    left: list[int] = []
    seen: RunFolder | None = folder
    while seen is not None:
        try:
            fork = fork_of(seen)
        except StoreError:
            break
        if fork is None or fork.parent in names:
            break
        names.insert(0, fork.parent)
        left.insert(0, fork.after_task)
        seen = find(fork.parent)
    return Lineage(tuple(names), tuple(left))


def common(first: Lineage, second: Lineage) -> tuple[str, int]:
    """Return the latest common ancestor (possibly one of both) and their number of common tasks; "", 0 if none."""
    depth = 0
    for one, other in zip(first.names, second.names):
        if one != other:
            break
        depth += 1
    ways = (*first.left_after[depth - 1 :], *second.left_after[depth - 1 :])
    return (first.names[depth - 1], min(ways)) if depth and ways else ("", 0)


def partings(lineages: Mapping[str, Lineage], matrices: Mapping[str, np.ndarray]) -> dict[str, Parting]:
    """Return for every run that shares its past with another one whose curve it leaves, and after which task.

    The curve of an ancestor shows the past of its forks. Without an ancestor among the runs, the first fork does so for
    its siblings. Runs whose accuracies differ in the shared part (a reused name, a retrained parent) stay separate.

    Args:
        lineages: label → lineage of the run.
        matrices: label → [rows, T] percent, NaN = not measured.
    """
    found: dict[str, Parting] = {}
    placed: list[str] = []
    # A stable sort, which keeps the order of choice among equals.
    for label in sorted(lineages, key=lambda label: len(lineages[label].names)):
        best: Parting | None = None
        for carrier in placed:
            parent, tasks = common(lineages[carrier], lineages[label])
            if tasks > (best.after_task if best else 0) and _agree(matrices[carrier], matrices[label], tasks):
                best = Parting(carrier, tasks, parent)
        if best:
            found[label] = best
        placed.append(label)
    return {label: found[label] for label in lineages if label in found}


def _agree(first: np.ndarray, second: np.ndarray, tasks: int) -> bool:
    """Return whether the rows of the first `tasks` tasks are equal where both are known."""
    rows = min(tasks, len(first), len(second))
    return first.shape[1:] == second.shape[1:] and np.array_equal(first[:rows], second[:rows], equal_nan=True)
