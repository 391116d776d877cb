"""Replay of a few stored images, and joint training, its upper limit.

Chaudhry et al. On Tiny Episodic Memories in Continual Learning. 2019, arXiv:1902.10486. Every batch is
joined by as many images of old tasks; the loss is the mean over both.

    memory of M images in all    after task t each of the t + 1 tasks keeps its first ⌊M / (t + 1)⌋ in a random order
    joint                        the steps of task t go over the images of all tasks up to t
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_core.playground.network import Network
from cl_core.playground.rules.rule import Rule
from cl_core.playground.settings import PlaygroundConfig
from cl_core.playground.streams import Task


class Replay(Rule):
    """Rows of old tasks' training images, drawn from (seed, task) alone."""

    def __init__(self, configs: Sequence[PlaygroundConfig], network: Network) -> None:
        super().__init__(configs, network)
        self.orders: list[np.ndarray] = []  # every finished task's rows, shuffled

    def rehearsed(self, random: np.random.Generator, count: int) -> list[tuple[int, np.ndarray]]:
        each = self.config.images // len(self.orders) if self.orders else 0
        kept = [order[:each] for order in self.orders]
        sizes = [len(rows) for rows in kept]
        if not sum(sizes):
            return []
        drawn = np.sort(random.integers(sum(sizes), size=count))
        starts = np.cumsum([0, *sizes])
        owners = np.searchsorted(starts, drawn, side="right") - 1
        return [(task, kept[task][drawn[owners == task] - starts[task]]) for task in np.unique(owners).tolist()]

    def end_task(self, task: int, inputs: list[np.ndarray], grams: list[np.ndarray], shown: Task) -> None:
        self.orders.append(np.random.default_rng([self.config.seed, 4, task]).permutation(len(shown.labels)))


class Joint(Rule):
    """Every task trained together with all earlier ones."""

    def trained_on(self, task: int) -> list[int]:
        return list(range(task + 1))
