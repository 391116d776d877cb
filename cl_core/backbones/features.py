"""What goes into a backbone besides images, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor

Tap = tuple[str, int]  # an activation's name and its block: ("attention", 3)


@dataclass(frozen=True)
class Features:
    """One forward pass: `pooled` [B, d] is what a head reads; `taps` holds the activations that were asked for."""

    pooled: Tensor
    taps: dict[Tap, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LowRank:
    """A branch beside a linear map y = x Wᵀ:  y += s · dropout(x) Aᵀ Bᵀ,  the same as W + s B A where p = 0."""

    down: Tensor  # A [r, in]
    up: Tensor  # B [out, r]
    scale: float
    dropout: float = 0.0  # p on the branch's input; > 0 while training only

    def __call__(self, x: Tensor) -> Tensor:
        if self.dropout:
            x = F.dropout(x, self.dropout)
        return F.linear(F.linear(x, self.down), self.scale * self.up)

    def update(self) -> Tensor:
        """s B A: [out, in]."""
        return self.scale * self.up @ self.down


@dataclass(frozen=True)
class Adaptation:
    """How a model differs from the frozen one: parameters replaced by name, branches added to linear maps by name."""

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    branches: Mapping[str, LowRank] = field(default_factory=dict)


AS_IT_IS = Adaptation()
