"""Sequential LoRA: low-rank branches on q, k, v, o of both towers, merged after each task.

Parts: `clip_method`, `clip_weights`.

Hu et al. LoRA. ICLR 2022, arXiv:2106.09685; as the baseline of the NuSA-CL release (arXiv:2510.21175) uses it.
Shapes: W [d, d], A [r, d], B [d, r].

    y = W x + s B A dropout(x),   s = alpha / √r
    A Kaiming-uniform (a = √5), B = 0 at the start of every task;   W ← W + s B A at its end
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import nn

from cl_core.backbones.io_types import Adaptation, LowRank
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.methods.method import ParameterGroup
from cl_core.methods.parts.clip_method import ClipConfig, ClipMethod
from cl_core.methods.parts.clip_weights import ClipWeights, attention_parameters, key

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class LoraConfig(ClipConfig):
    """Defaults are those of the NuSA-CL release's baseline."""

    rate: float = setting(3e-4, low=0.0, high=10.0, help="peak learning rate")
    weight_decay: float = setting(0.01, low=0.0, high=1.0, help="decoupled decay of A and B (AdamW)")
    rank: int = setting(128, low=1, high=1024, help="rank r of every branch; at most the width of a tower is used")
    alpha: float = setting(2.0, low=0.0, high=1000.0, help="branches are scaled by alpha / √r")
    dropout: float = setting(0.25, low=0.0, high=0.95, help="dropout on the branches' input during training")


@final
class LoraSequential(ClipMethod):
    """Low-rank branches without protection of earlier tasks."""

    Config = LoraConfig

    def __init__(self, config: LoraConfig, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.maps = backbone.attention_maps()
        self.clip = ClipWeights(backbone, attention_parameters(backbone, self.maps))
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for name in self.maps:
            width = backbone.map_weight(name).shape[0]
            rank = min(config.rank, width)
            self.down[key(name)] = nn.Parameter(torch.empty(rank, width))
            self.up[key(name)] = nn.Parameter(torch.zeros(width, rank))

    def begin_task(self, index: int, classes: range) -> None:
        """New A from (seed, task), B = 0."""
        super().begin_task(index, classes)
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + index)
        with torch.no_grad():
            for name in self.maps:
                down = self.down[key(name)]
                bound = 1 / math.sqrt(down.shape[1])  # Kaiming-uniform with a = √5
                down.copy_(torch.rand(down.shape, generator=generator) * 2 * bound - bound)
                self.up[key(name)].zero_()

    def groups(self) -> list[ParameterGroup]:
        trained = {f"{side}.{key(n)}": getattr(self, side)[key(n)] for n in self.maps for side in ("down", "up")}
        return [ParameterGroup("branches", trained, self.config.rate, self.config.weight_decay, "adamw")]

    def adaptation(self, *, training: bool = False) -> Adaptation:
        return Adaptation(self.clip.weights(), self.branches(self.config.dropout if training else 0.0))

    def branches(self, dropout: float = 0.0) -> dict[str, LowRank]:
        found = {}
        for name in self.maps:
            down, up = self.down[key(name)], self.up[key(name)]
            found[name] = LowRank(down, up, self.config.alpha / math.sqrt(len(down)), dropout)
        return found

    @torch.no_grad()
    def end_task(self, clock: Clock) -> list[Event]:
        for name, branch in self.branches().items():
            self.clip.merge(name, branch.update())
            self.up[key(name)].zero_()
        return []

    def kept_bytes(self) -> int:
        """Reset A and B."""
        return 0
