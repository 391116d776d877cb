"""Which runs have a past in common, and where: forks, forks of forks, and two forks of one run. No torch, no streamlit.

A fork's folder holds its parent's events up to where it left, so its first accuracies are its parent's own numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cl_core.store import RunFolder, StoreError, fork_of


@dataclass(frozen=True)
class Lineage:
    """A run and the runs it was forked from, the eldest first."""

    names: tuple[str, ...]
    left_after: tuple[int, ...] = ()  # tasks that names[i] had trained when names[i + 1] left it


@dataclass(frozen=True)
class Parting:
    """Where a run's line begins: on the line of another run that carries the past of both."""

    carrier: str  # label of the run whose line carries it
    after_task: int  # tasks in common
    parent: str  # the run in which these tasks were trained, the carrier or a run before both


def lineage(folder: RunFolder, find: Callable[[str], RunFolder | None]) -> Lineage:
    """A run's parent, its parent's parent and so on, as far as their folders are there. A parent whose folder is gone
    still has its name in its fork's note, and ends the line; so does a note that cannot be read."""
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
    """The youngest run that both come from (or are), and how many of its tasks both have: "", 0 if they share none."""
    depth = 0
    for one, other in zip(first.names, second.names):
        if one != other:
            break
        depth += 1
    ways = (*first.left_after[depth - 1 :], *second.left_after[depth - 1 :])
    return (first.names[depth - 1], min(ways)) if depth and ways else ("", 0)


def partings(lineages: Mapping[str, Lineage], matrices: Mapping[str, np.ndarray]) -> dict[str, Parting]:
    """For every run that shares its beginning with another of them, whose line it leaves and when.

    An ancestor carries the past of its forks. Where none is among them, the fork named first does for its siblings.
    Runs whose accuracies differ in what they should share (a name used again, a parent trained anew) are kept apart.

    Args:
        lineages: label → where the run comes from.
        matrices: label → [rows, T] percent, NaN = not measured.
    """
    found: dict[str, Parting] = {}
    placed: list[str] = []
    for label in sorted(lineages, key=lambda label: len(lineages[label].names)):  # stable: as chosen among equals
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
    """Whether the rows of the first `tasks` tasks are the same numbers, as far as both have them."""
    rows = min(tasks, len(first), len(second))
    return first.shape[1:] == second.shape[1:] and np.array_equal(first[:rows], second[:rows], equal_nan=True)
