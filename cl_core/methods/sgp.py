"""SGP on attention weights: each stored direction is damped by its importance for past tasks.

Parts: `gradient_memory`, `key_value`, `stored_directions`.

Saha, Roy. Continual Learning with Scaled Gradient Projection. AAAI 2023, arXiv:2302.01386. Written from the equations,
details as in the released code. The soft form of `gpm`: same directions, a factor for each.
Shapes: d width of a block, k directions stored; B [d, k], λ [k] in [0, 1]; X [d, N] its inputs, G = X Xᵀ.

    ΔW ← ΔW + S (I − B diag(λ) Bᵀ)             S the optimiser's step, from the second task on
    f(s) = (α + 1) s / (α s + max s)
    after task 1    B as `gpm`; λ = f(s), s the singular values along B, the maximum over the stored ones
    after task t    B ← [B, U] as `gpm`; s_i = ‖b_iᵀ X‖ along old directions, singular values of the rest along U
                    raw = f of both together;  λ_old ← min(λ_old + raw_old, 1),  λ_new = raw_new

λ = 1 is `gpm`, λ = 0 no protection. λ never decreases: raw values of moderately used directions are already large
(α = 10: a twentieth of the largest gives 0.37), so that most λ reach 1 within a few tasks and SGP becomes GPM.

Our adaptation: as for `gpm`. If all energy lies along old directions, the maximum is over these only, as released; a
first task whose leading direction holds everything stores it (release: crashes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from cl_core.config import setting
from cl_core.linalg import added_directions, first_directions, scaled_importance
from cl_core.methods.parts.gradient_memory import GradientMemoryConfig, GradientMemoryMethod


@dataclass(frozen=True)
class SgpConfig(GradientMemoryConfig):
    """Threshold and α are the release's for Split CIFAR-100."""

    alpha: float = setting(
        10.0,
        low=0.0,
        high=1e6,
        help="α, how fast importance saturates with a direction's share of the largest singular value",
    )


@final
class SGP(GradientMemoryMethod):
    """A soft projector with one factor per direction."""

    Config = SgpConfig

    def store(self, place: str, gram: Tensor) -> None:
        known = self.stored.basis(place)
        new = added_directions(gram, known, self.threshold) if int(self.tasks) else None
        new = first_directions(gram, self.threshold) if new is None else new
        raw = scaled_importance(torch.cat([lengths(gram, known), lengths(gram, new)]), self.config.alpha)
        old = known.shape[1]
        self.stored.set_held(place, (self.stored.held(place) + raw[:old]).clamp(max=1))
        self.stored.add(place, new, raw[old:])


def lengths(gram: Tensor, directions: Tensor) -> Tensor:
    """‖b_iᵀ X‖ = √(b_iᵀ G b_i) of orthonormal columns b_i [d, k]: [k]."""
    return ((gram @ directions) * directions).sum(dim=0).clamp(min=0).sqrt()
