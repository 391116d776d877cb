"""Plain gradient descent, which protects nothing: the rule that the others change.

W ← W − η ∂W
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_core.playground.network import Network
from cl_core.playground.settings import PlaygroundConfig
from cl_core.playground.streams import Task


def of(arrays: np.ndarray, network: int) -> np.ndarray:
    """One network's part of what may be the same for all ([1, …])."""
    return arrays[network if len(arrays) > 1 else 0]


class Rule:
    """The loop calls `propose`, `constrain` and `settle` at every step, and `end_task` after a task.

    Shapes: N networks, L layers; steps and gradients [N, d_l, d_{l+1}] a layer.
    """

    def __init__(self, configs: Sequence[PlaygroundConfig], network: Network) -> None:
        self.configs, self.config, self.network = list(configs), configs[0], network
        # One head a task needs no protection: later tasks do not touch its columns.
        self.protected_layers = range(self.config.layers - (self.config.stream == "split-digits"))

    def begin_task(self, task: int) -> None:
        """Before the first step of a task."""

    def trained_on(self, task: int) -> list[int]:
        """The tasks whose images the steps of `task` go over."""
        return [task]

    def rehearsed(self, random: np.random.Generator, count: int) -> list[tuple[int, np.ndarray]]:
        """Old images that join a batch of `count`: (task, rows of its training images)."""
        return []

    def propose(self, gradients: list[np.ndarray]) -> list[np.ndarray]:
        """The optimiser's own step: η ∂W."""
        rate = np.float32(self.config.learning_rate)
        return [rate * gradient for gradient in gradients]

    def constrain(self, steps: list[np.ndarray]) -> list[np.ndarray]:
        """What the rule lets through of it."""
        return steps

    def projected(self, steps: list[np.ndarray], projectors: list[np.ndarray]) -> list[np.ndarray]:
        """P_l step, layer by layer, where the layer is protected."""
        return [projectors[k] @ step if k in self.protected_layers else step for k, step in enumerate(steps)]

    def settle(self) -> None:
        """After the step was taken."""

    def end_task(self, task: int, inputs: list[np.ndarray], grams: list[np.ndarray], shown: Task) -> None:
        """Keep what the rule needs of a finished task.

        Args:
            task: from 0.
            inputs: of every layer, [N, n, d_l], for all its training images under the weights just learned; the first
                layer's are the same for all networks, [1, n, d_0].
            grams: XᵀX of these, [N or 1, d_l, d_l] float64.
            shown: the task itself.
        """

    def free(self) -> np.ndarray:
        """[N, L] share of every layer's input directions along which a step passes unchanged (1: nothing protected)."""
        return np.ones((len(self.network), self.config.layers))
