"""SplitLoRA: trains new tasks along weak directions of past inputs, with the cut chosen by a trade-off.

Parts: `key_value`.

Qiu et al. SplitLoRA: Balancing Stability and Plasticity in Continual Learning Through Gradient Space Splitting. 2025,
arXiv:2505.22370; written from the equations, details as in the released code.
Shapes: L blocks of width d, rank r; A [L, 2, r, d] frozen, B [L, 2, d, r] trained; C [L, d, d]; x a block's inputs.

    ΔW = Σ_s B_s A_s, merged after each task; only B_t and the new head are trained, B_t from 0
    C = mean of x xᵀ over the tokens of all tasks so far = U diag(λ) Uᵀ, λ descending
    J(i) = t (1 − Σ_{j≤i} λ_j / Σ λ) − α (d − i)/d,   i* = argmin J,   N = the columns of U from max(i*, 1) + 1 on
    A_t = (N z)ᵀ / t,  z ~ N(0, 1),  N z with the norm of a Kaiming-uniform draw; A_1 is such a draw

The factor 1/t is in the release since May 2025 (`scaling="none"` omits it). The size of AdamW's steps of B does not
depend on the norm of A, so changes in task t are smaller by 1/t. A is fixed, so B_t A_t u = 0 for every protected
direction u at every step, with any optimiser: there is no leak as long as inputs do not move. Ours: C is computed once
from a task's unmodified images (release: the augmented, repeated training batches).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.linalg import eigenbasis, splitting_cut
from cl_core.methods.parts.key_value import KEYS, VALUES, KeyValueConfig, KeyValueMethod
from cl_core.streams.stream import mixed_seed


@dataclass(frozen=True)
class SplitLoraConfig(KeyValueConfig):
    """Defaults are the release's for ViT-B/16."""

    temperature: float = setting(
        30.0, low=0.01, high=1000.0, help="logits are divided by this in the training loss only"
    )
    weight_decay: float = setting(5e-5, low=0.0, high=1.0, help="decoupled decay (AdamW)")
    rank: int = setting(10, low=1, high=1024, fixed="sets shapes", help="rank r of the branches, at most the width")
    alpha: float = setting(20.0, low=0.0, high=1e6, help="α, value of a free direction: larger protects less")
    scaling: str = setting(
        "by task",
        choices=("by task", "none"),
        help="by task: A of task t is divided by t, so later tasks change weights less (released since May 2025)",
    )


@final
class SplitLora(KeyValueMethod):
    """Trains B; rows of A are fixed mixtures of all minor directions."""

    Config = SplitLoraConfig
    optimiser = "adamw"

    down: Tensor
    merged: Tensor
    moment: Tensor
    rows: Tensor
    tasks: Tensor

    def __init__(self, config: SplitLoraConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        layers, width, rank = backbone.depth, backbone.width, min(config.rank, backbone.width)
        self.up = nn.Parameter(torch.zeros(layers, 2, width, rank))  # B
        self._pretrained = [  # W_k and W_v one above the other, [2d, d]
            torch.cat([backbone.map_weight(f"image.{layer}.{which}") for which in (KEYS, VALUES)])
            for layer in range(layers)
        ]
        self.register_buffer("down", torch.zeros(layers, 2, rank, width))  # A
        self.register_buffer("merged", torch.zeros(layers, 2, width, width))
        self.register_buffer("moment", torch.zeros(layers, width, width, dtype=torch.float64))  # C
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))  # number of tokens in the mean C
        self.register_buffer("tasks", torch.zeros((), dtype=torch.int64))
        self._basis: tuple[Tensor, Tensor] | None = None
        self.register_load_state_dict_post_hook(lambda method, _: setattr(method, "_basis", None))

    def change(self) -> Tensor:
        return self.merged + self.up @ self.down

    def changed(self) -> dict[str, nn.Parameter]:
        return {"up": self.up}

    @torch.no_grad()
    def begin_task(self, index: int, classes: range) -> None:
        """A from (seed, task) and C; B = 0."""
        super().begin_task(index, classes)
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "branches", index))
        bound = self.down.shape[-1] ** -0.5  # Kaiming-uniform with a = √5
        drawn = (torch.rand(self.down.shape, generator=generator) * 2 - 1) * bound
        if int(self.tasks):
            mixtures = torch.randn(drawn.mT.shape, generator=generator, dtype=torch.float64)  # z [L, 2, d, r]
            vectors, cuts = self.basis[1].cpu(), self.cuts()
            for layer, cut in enumerate(cuts):
                minor = vectors[layer][:, cut:]  # N [d, d − k]
                found = (minor @ mixtures[layer, :, cut:]).mT  # [2, r, d]
                length = drawn[layer].flatten(1).norm(dim=1) / found.flatten(1).norm(dim=1).clamp(min=1e-30)
                drawn[layer] = length[:, None, None] * found
        if self.config.scaling == "by task":
            drawn /= index + 1
        self.down.copy_(drawn)
        self.up.zero_()

    def cuts(self) -> list[int]:
        """Directions protected in every block."""
        cut = splitting_cut(self.basis[0], tasks=int(self.tasks), alpha=self.config.alpha)
        return torch.as_tensor(cut).tolist()

    @property
    def update(self) -> Tensor:
        """B_t A_t of the current task: [L, 2, d, d]."""
        return (self.up @ self.down).detach()

    @torch.no_grad()
    def end_task(self, clock: Clock) -> list[Event]:
        self.merged += self.update
        self.up.zero_()
        sums, rows = self.inputs.take()
        self.rows += rows
        self.moment += (sums - rows * self.moment) / self.rows  # the mean over all tokens so far
        self.tasks += 1
        self._basis = None
        return []

    @property
    def basis(self) -> tuple[Tensor, Tensor]:
        """λ [L, d] and U [L, d, d] of C, cached until C changes."""
        if self._basis is None:
            self._basis = eigenbasis(self.moment)
        return self._basis

    def pretrained(self, layer: int) -> Tensor:
        """W_k and W_v of a block, one above the other: [2d, d]."""
        return self._pretrained[layer]

    def kept_bytes(self) -> int:
        """Reset A and B."""
        anew = self.up.numel() * self.up.element_size() + self.down.numel() * self.down.element_size()
        return sum(value.numel() * value.element_size() for value in self.state_dict().values()) - anew
