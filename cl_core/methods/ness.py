"""NESS: updates only along input directions with tiny singular values.

Parts: `key_value`, `stored_directions`.

Pham et al. CPAL 2026, arXiv:2602.21919. Written from the equations, details as in the released code.
Shapes: L blocks of width d, k directions free in a block; V [d, k] frozen, U [2, d, k] trained; x a block's inputs.

    ΔW = Σ_s U_s V_sᵀ, merged after each task;  U from 0 in every task
    G = Σ x xᵀ over the tokens of all earlier tasks = W diag(s²) Wᵀ
    V = the columns of W with  s_i ≤ ε Σ_j s_j;   the first task is unconstrained: V = I

V is orthonormal and frozen, so a step is zero along the other directions with any optimiser, and the leak is at most
‖U‖ times the largest free s: weight decay on U bounds it. Unlike in `gpm`, single s are compared with the sum of all.

Our adaptation: a ViT frozen except for keys and values, as in `split_lora` (paper: whole convolutional networks, known
tasks). G is summed over tasks, each with the network at that time; the release stores all earlier images and recomputes
with the current network. Negative eigenvalues count as 0 (in the release one of them freezes the layer).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.linalg import eigenbasis
from cl_core.methods.method import ParameterGroup
from cl_core.methods.parts.key_value import KEYS, VALUES, KeyValueConfig, KeyValueMethod
from cl_core.methods.parts.stored_directions import Guard, tokens_of


@dataclass(frozen=True)
class NessConfig(KeyValueConfig):
    """Defaults are those of the release's script for Split CIFAR-100."""

    rate: float = setting(0.005, low=0.0, high=10.0, help="learning rate of U")
    temperature: float = setting(
        1.0, low=0.01, high=1000.0, help="logits are divided by this in the training loss only"
    )
    weight_decay: float = setting(1e-4, low=0.0, high=1.0, help="coupled weight decay; bounds the leak through U")
    optimiser: str = setting("sgd", choices=("sgd", "adam"), help="sgd: as published, with momentum")
    momentum: float = setting(0.9, low=0.0, high=0.999, help="of sgd")
    epsilon: float = setting(
        1e-3, low=0.0, high=1.0, help="ε: a direction is free if its singular value is at most this share of their sum"
    )


@final
class NESS(KeyValueMethod):
    """Trains each task along the smallest singular directions of past inputs."""

    Config = NessConfig

    merged: Tensor
    gram: Tensor
    tasks: Tensor

    def __init__(self, config: NessConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        layers, width = backbone.depth, backbone.width
        self.update = nn.Parameter(torch.zeros(layers, 2, width, width))  # U; columns of protected directions stay 0
        self.register_buffer("merged", torch.zeros(layers, 2, width, width))
        self.register_buffer("gram", torch.zeros(layers, width, width, dtype=torch.float64))  # G
        self.register_buffer("tasks", torch.zeros((), dtype=torch.int64))
        self._vectors: Tensor | None = None  # derived: W [L, d, d], most used first
        self._free: Tensor | None = None  # derived: V [L, d, d], 0 in protected columns

    def begin_task(self, index: int, classes: range) -> None:
        super().begin_task(index, classes)
        with torch.no_grad():
            self.update.zero_()

    def refresh(self) -> None:
        width = self.gram.shape[-1]
        if not int(self.tasks):
            self._vectors = self._free = torch.eye(width, device=self.gram.device).expand_as(self.merged[:, 0])
            return
        values, vectors = eigenbasis(self.gram)
        free = tiny(values.sqrt(), self.config.epsilon)  # [L, d]
        self._vectors, self._free = vectors.to(self.merged), (vectors * free[:, None]).to(self.merged)

    def change(self) -> Tensor:
        assert self._free is not None  # set by `refresh`
        return self.merged + self.update @ self._free.mT[:, None]

    def changed(self) -> dict[str, nn.Parameter]:
        return {"update": self.update}

    def groups(self) -> list[ParameterGroup]:
        c = self.config
        return [replace(group, optimiser=c.optimiser, momentum=c.momentum) for group in super().groups()]

    @torch.no_grad()
    def end_task(self, clock: Clock) -> list[Event]:
        self.merged.copy_(self.change())
        self.update.zero_()
        sums, _ = self.inputs.take()
        self.gram += sums
        self.tasks += 1
        self.refresh()
        return []

    def guards(self) -> list[Guard]:
        """Protected directions of the next task, by block."""
        found = []
        for layer in range(len(self.merged)):
            tap, maps = ("normed", layer), tuple(f"image.{layer}.{which}" for which in (KEYS, VALUES))
            basis = self._kept(layer)
            rule = f"singular value above {self.config.epsilon:g} of their sum"
            found.append(Guard(layer, "kv", (tap,), tokens_of(tap), maps, basis, basis.new_ones(basis.shape[1]), rule))
        return found

    def _kept(self, layer: int) -> Tensor:
        """The protected directions [d, d − k]."""
        if self._vectors is None or self._free is None:
            return self.merged.new_zeros(self.merged.shape[-1], 0)
        return self._vectors[layer][:, ~self._free[layer].any(dim=0)]

    def kept_bytes(self) -> int:
        """Reset U."""
        state = self.state_dict().items()
        return sum(value.numel() * value.element_size() for name, value in state if name != "update")


def tiny(sizes: Tensor, epsilon: float) -> Tensor:
    """Which singular values s [..., d] are at most ε Σ s: bool [..., d]."""
    return sizes <= epsilon * sizes.sum(dim=-1, keepdim=True)
