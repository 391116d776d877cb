"""Scaled gradient projection (SGP): stored directions are blocked only as far as they mattered.

Saha, Roy. Continual Learning with Scaled Gradient Projection. AAAI 2023, arXiv:2302.01386.
Shapes: X [n, d] a layer's inputs as rows, B [d, k] its memory, λ [k] the importance of every direction.

    importance        f(s) = (α + 1) s / (α s + max s)
    after a task      s_old,i = ‖X b_i‖;  B grows as in GPM, by directions with singular values s_new
                      raw = f([s_old, s_new]);  λ_old ← min(λ_old + raw_old, 1);  λ_new = raw_new
    later steps       ∂W ← ∂W − B diag(λ) Bᵀ ∂W
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cl_core.playground.algebra import complement, importance, leading_directions
from cl_core.playground.network import Network
from cl_core.playground.rules.gpm import GPM
from cl_core.playground.settings import PlaygroundConfig


class SGP(GPM):
    """GPM's bases, with an importance for every direction."""

    def __init__(self, configs: Sequence[PlaygroundConfig], network: Network) -> None:
        super().__init__(configs, network)
        self.importances = [[np.zeros(0) for _ in layers] for layers in self.bases]

    def add_classes(self, network: int, layer: int, inputs: np.ndarray, share: float) -> None:
        basis, old = self.bases[network][layer], self.importances[network][layer]
        new, values = leading_directions(inputs, basis, share)
        asked = np.sqrt(np.maximum(np.einsum("ik,ij,jk->k", basis, inputs, basis, optimize=True), 0))  # s_old = ‖X b_i‖
        raw = importance(np.concatenate([asked, values]), self.configs[network].sgp_alpha)
        # Not orthonormalised again: columns must keep the meaning their importance belongs to. V ⊥ B to rounding.
        self.bases[network][layer] = np.concatenate([basis, new], axis=1)
        self.importances[network][layer] = np.concatenate([np.minimum(old + raw[: len(old)], 1), raw[len(old) :]])

    def projector(self, network: int, layer: int) -> np.ndarray:
        """I − B diag(λ) Bᵀ."""
        return complement(self.bases[network][layer], self.importances[network][layer])

    def free(self) -> np.ndarray:
        """Directions without a share in B count whole, stored ones as 1 − λ: (d − Σ λ) / d."""
        return np.array(
            [
                [1 - weights.sum() / len(basis) for basis, weights in zip(bases, importances)]
                for bases, importances in zip(self.bases, self.importances)
            ]
        )
