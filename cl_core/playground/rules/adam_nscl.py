"""Adam-NSCL: Adam's steps, projected onto the null space of all old inputs' covariance.

Wang, Li, Sun, Xu. Training Networks in Null Space of Feature Covariance for Continual Learning. CVPR 2021,
arXiv:2103.07113.
Shapes: X [n, d] a layer's inputs as rows, Q [d, d] their uncentred covariance over all tasks, V [d, r] its null space.

    after a task      Q ← Q + XᵀX;  V = eigenvectors of Q with eigenvalues ≤ a λ_min
    later steps       W ← W − V Vᵀ Adam(∂W)               moments of Adam see the raw gradient

Two ways to call a direction null: `nscl_cut=multiple` is the paper's a λ_min; `nscl_cut=energy` leaves out the fewest
leading directions that hold the share ε of Q's trace, so that the same slider moves every projection rule.
Differs from the release: covariances of single images, not of batch means (which lose what varies within a batch);
V Vᵀ is divided by its Frobenius norm √r only with `nscl_normalised`, because that also shortens the free step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_core.playground.algebra import null_directions, tail_directions
from cl_core.playground.network import Network
from cl_core.playground.rules.rule import Rule
from cl_core.playground.settings import PlaygroundConfig
from cl_core.playground.streams import Task

BETAS, EPSILON = (np.float32(0.9), np.float32(0.999)), np.float32(1e-8)


class AdamNSCL(Rule):
    """Covariances of all layers' old inputs, and the projectors onto what they leave free."""

    def __init__(self, configs: Sequence[PlaygroundConfig], network: Network) -> None:
        super().__init__(configs, network)
        self.covariances = [np.zeros((len(configs), d, d)) for d in network.sizes[:-1]]
        self.nullity = np.array([[float(d) for d in network.sizes[:-1]] for _ in configs])
        self.projectors: list[np.ndarray] | None = None
        self.first: list[np.ndarray] = []  # Adam's moments
        self.second: list[np.ndarray] = []
        self.count = 0

    def begin_task(self, task: int) -> None:
        """A new optimiser for every task."""
        self.first = [np.zeros_like(weight) for weight in self.network.weights]
        self.second = [np.zeros_like(weight) for weight in self.network.weights]
        self.count = 0

    def propose(self, gradients: list[np.ndarray]) -> list[np.ndarray]:
        """Adam: η m̂ / (√v̂ + 1e-8)."""
        self.count += 1
        rate, steps = np.float32(self.config.adam_rate), []
        corrections = [1 - beta**self.count for beta in BETAS]
        for first, second, gradient in zip(self.first, self.second, gradients):
            first += (1 - BETAS[0]) * (gradient - first)
            second += (1 - BETAS[1]) * (gradient * gradient - second)
            steps.append(rate * (first / corrections[0]) / (np.sqrt(second / corrections[1]) + EPSILON))
        return steps

    def constrain(self, steps: list[np.ndarray]) -> list[np.ndarray]:
        """V Vᵀ step, layer by layer."""
        if self.projectors is None:
            return steps
        return self.projected(steps, self.projectors)

    def end_task(self, task: int, inputs: list[np.ndarray], grams: list[np.ndarray], shown: Task) -> None:
        self.projectors = []
        for layer, covariance in enumerate(self.covariances):
            covariance += grams[layer]
            found = [self._projector(n, layer) for n in range(len(self.configs))]
            self.projectors.append(np.stack(found).astype(np.float32))

    def _projector(self, network: int, layer: int) -> np.ndarray:
        config, covariance = self.configs[network], self.covariances[layer][network]
        if config.nscl_cut == "multiple":
            free = null_directions(covariance, config.nscl_multiple)
        else:
            free = tail_directions(covariance, config.energies[layer])
        if layer in self.protected_layers:
            self.nullity[network, layer] = free.shape[1]
        projector = free @ free.T
        return projector / np.sqrt(max(free.shape[1], 1)) if config.nscl_normalised else projector

    def free(self) -> np.ndarray:
        return self.nullity / np.array(self.network.sizes[:-1])
