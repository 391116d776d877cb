"""Gradient projection memory (GPM): steps stay orthogonal to the inputs that old tasks feed a layer.

Saha, Garg, Roy. Gradient Projection Memory for Continual Learning. ICLR 2021, arXiv:2103.09762.
Shapes: X [n, d] a layer's inputs as rows, B [d, k] its memory, W [d, out], so that x W is the output.

    after a task      X' = X − X B Bᵀ;  B ← [B, V_k],  k = min { k : ‖X B‖² + s_1² + … + s_k² ≥ ε ‖X‖² }
    later steps       ∂W ← ∂W − B Bᵀ ∂W               so x B = x for old x means x ΔW = 0
    threshold         ε_t = min(1, ε + growth · t)

Differs from the release: all training images stand for a task, not 300 of them; after the first task the fewest
directions that reach ε are kept, not one fewer (which keeps none where the first direction alone reaches it).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_core.playground.algebra import complement, extended, leading_directions
from cl_core.playground.network import Network
from cl_core.playground.rules.rule import Rule, of
from cl_core.playground.settings import PlaygroundConfig
from cl_core.playground.streams import Task


class GPM(Rule):
    """Bases of all layers' old inputs, and the projectors off them."""

    def __init__(self, configs: Sequence[PlaygroundConfig], network: Network) -> None:
        super().__init__(configs, network)
        widths = network.sizes[:-1]
        self.bases = [[np.zeros((d, 0)) for d in widths] for _ in configs]  # [N][L] of [d_l, k]
        self.projectors: list[np.ndarray] | None = None  # [L] of [N, d_l, d_l]; None until a task has been learned

    def constrain(self, steps: list[np.ndarray]) -> list[np.ndarray]:
        """∂W − B Bᵀ ∂W, layer by layer."""
        if self.projectors is None:
            return steps
        return self.projected(steps, self.projectors)

    def end_task(self, task: int, inputs: list[np.ndarray], grams: list[np.ndarray], shown: Task) -> None:
        for network, config in enumerate(self.configs):
            for layer in self.protected_layers:
                share = config.energies[layer]
                grown = min(1.0, share + config.energy_growth * task) if share else 0.0  # 0 protects nothing, ever
                self.add_classes(network, layer, of(grams[layer], network), grown)
        self.projectors = [
            np.stack([self.projector(network, layer) for network in range(len(self.configs))]).astype(np.float32)
            for layer in range(self.config.layers)
        ]

    def add_classes(self, network: int, layer: int, inputs: np.ndarray, share: float) -> None:
        """Extend one layer's basis by what it lacks of the new inputs' Gram matrix."""
        basis = self.bases[network][layer]
        new, _ = leading_directions(inputs, basis, share)
        self.bases[network][layer] = extended(basis, new) if new.shape[1] else basis

    def projector(self, network: int, layer: int) -> np.ndarray:
        """I − B Bᵀ."""
        return complement(self.bases[network][layer])

    def free(self) -> np.ndarray:
        return np.array([[1 - basis.shape[1] / basis.shape[0] for basis in layers] for layers in self.bases])
