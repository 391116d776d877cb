"""What a backbone returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

Tap = tuple[str, int]  # an activation's name and its block: ("attention", 3)


@dataclass(frozen=True)
class Features:
    """One forward pass: `pooled` [B, d] is what a head reads; `taps` holds the activations that were asked for."""

    pooled: Tensor
    taps: dict[Tap, Tensor] = field(default_factory=dict)
