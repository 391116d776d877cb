"""Elastic weight consolidation (EWC): weights are pulled back to where earlier tasks needed them.

Kirkpatrick et al. Overcoming catastrophic forgetting in neural networks. PNAS 2017, arXiv:1612.00796.
Shapes: W [d, out] of one layer, F [d, out] the diagonal of the Fisher information, n images.

    after a task      F_t = mean over images of (∂ log p(y | x) / ∂W)²,   W_t the weights then
    loss              cross-entropy + (λ/2) Σ_t F_t (W − W_t)²

One anchor a task adds up to A = Σ F_t and C = Σ F_t W_t, so memory does not grow. The penalty is stepped implicitly,
W ← (W − η ∂CE + η λ C) / (1 + η λ A), which is stable for every λ; an explicit step diverges from η λ F > 2 on.
y is the true label (the customary "empirical" Fisher).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_core.playground.network import Network, softmax
from cl_core.playground.rules.rule import Rule
from cl_core.playground.settings import PlaygroundConfig
from cl_core.playground.streams import Task, onehot


class EWC(Rule):
    """Σ F_t and Σ F_t W_t of every layer."""

    def __init__(self, configs: Sequence[PlaygroundConfig], network: Network) -> None:
        super().__init__(configs, network)
        self.fisher = [np.zeros_like(weight) for weight in network.weights]
        self.anchor = [np.zeros_like(weight) for weight in network.weights]
        self.strength = np.array([c.learning_rate * c.ewc_lambda for c in configs], np.float32)[:, None, None]  # η λ

    def settle(self) -> None:
        """The penalty's share of the step."""
        for weight, fisher, anchor in zip(self.network.weights, self.fisher, self.anchor):
            weight += self.strength * anchor
            weight /= 1 + self.strength * fisher

    def end_task(self, task: int, inputs: list[np.ndarray], grams: list[np.ndarray], shown: Task) -> None:
        for fisher, anchor, weight, squares in zip(
            self.fisher, self.anchor, self.network.weights, self.squared_gradients(inputs, shown)
        ):
            fisher += squares
            anchor += squares * weight

    def squared_gradients(self, inputs: list[np.ndarray], shown: Task) -> list[np.ndarray]:
        """F_t of every layer, [N, d_l, d_{l+1}]: the gradient of one image is a δᵀ, so its square is a² (δ²)ᵀ."""
        logits = inputs[-1] @ self.network.weights[-1]
        own = softmax(logits, shown.competing()) - onehot(shown.labels)  # of each image's loss, not of the mean
        count = np.float32(len(shown.labels))
        return [(a * a).swapaxes(-1, -2) @ (d * d) / count for a, d in zip(inputs, self.network.errors(inputs, own))]
