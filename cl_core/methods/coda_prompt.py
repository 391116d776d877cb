"""CODA-Prompt: prompts mixed from components by attention instead of selected; each task adds components.

Parts: `pool_method`, `selection`.

Smith et al. CODA-Prompt: COntinual Decomposed Attention-based Prompting for Rehearsal-Free Continual Learning. CVPR
2023, arXiv:2211.13218; settings as in the PILOT toolbox.
Shapes: per block m components so far, p prefix tokens, d width, B images.

    q = f(x)                                              frozen, without prompts            [B, d]
    w_m = cos(q ∘ A_m, K_m)                               no softmax, may be negative        [B, m]
    prefix = Σ_m w_m P_m,  first half keys, second half values                               [B, p, d]
    loss = CE(head(z)) + μ Σ_blocks Σ_{Z ∈ P, K, A} mean((Z Zᵀ − I)²)

A task adds pool / T new components; older ones are used but never trained again. New P (as rows of p·d numbers), K and
A are drawn at random and made orthonormal to the older ones of their block (Gram-Schmidt), against the span of their
trained values; the release subtracts their directions one by one, which is equivalent only if they are orthogonal. A
block has at most d components, the number of orthogonal directions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import BlockIntervention, ModelEdit
from cl_core.config import ConfigError, setting
from cl_core.linalg import orthonormal_beside, orthonormality_loss
from cl_core.methods.method import Loss
from cl_core.methods.parts.pool_method import PoolConfig, PoolMethod
from cl_core.methods.parts.selection import Selection
from cl_core.streams.stream import Batch, TaskStream

PARTS = ("prompts", "keys", "attentions")  # P, K, A


@dataclass(frozen=True)
class CodaPromptConfig(PoolConfig):
    """Defaults are PILOT's for batches of 128."""

    pool: int = setting(
        100, low=1, high=10_000, help="components per block, divided among the tasks; at most the width"
    )
    prompt_length: int = setting(8, low=2, high=64, help="prefix tokens per component (p): half keys, half values")
    blocks: int = setting(5, low=1, high=100, help="number of blocks with prompts, from the first on; at most all")
    orthogonality: float = setting(
        0.0, low=0.0, high=1e4, live=True, help="μ, weight of the orthogonality loss; paper 0.1"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt_length % 2:
            raise ConfigError(f"prompt_length must be even (half keys, half values), got {self.prompt_length}")


@final
class CodaPrompt(PoolMethod):
    """Old components are frozen; old tasks change only because new components join the mixture."""

    Config = CodaPromptConfig

    def __init__(self, config: CodaPromptConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.width, self.query_width = backbone.width, backbone.pooled_width
        self.layers = range(min(config.blocks, backbone.depth))
        self.room = min(config.pool, backbone.width)
        self.per_task = 0  # set in `setup`
        self.prompts, self.keys, self.attentions = (nn.ParameterList() for _ in PARTS)  # one [blocks, n, …] per task

    def setup(self, stream: TaskStream, backbone: Backbone) -> None:
        self.per_task = self.room // len(stream)
        if not self.per_task:
            raise ConfigError(
                f"pool must be at least the number of tasks ({len(stream)}) and is cut to the width {self.width}, got "
                f"{self.config.pool}; enlarge pool or choose fewer tasks"
            )

    def begin_task(self, index: int, classes: range) -> None:
        """Add new components."""
        super().begin_task(index, classes)
        shapes = {"prompts": (self.config.prompt_length * self.width,)}
        for part in PARTS:
            own = getattr(self, part)
            drawn = self.drawn(
                len(self.layers), self.per_task, *shapes.get(part, (self.query_width,)), of=part, task=index
            )
            own.requires_grad_(False)
            own.append(nn.Parameter(orthonormal_beside(drawn, self.all_of(part) if len(own) else drawn[:, :0])))

    def all_of(self, part: str) -> Tensor:
        """Components of all tasks so far, in order of arrival: [blocks, m, …]."""
        return torch.cat(list(getattr(self, part)), dim=1)

    def pool(self) -> dict[str, nn.Parameter]:
        last = len(self.prompts) - 1
        return {f"{part}.{last}": getattr(self, part)[last] for part in PARTS}

    def mixture(self, query: Tensor) -> Tensor:
        """w: [blocks, B, m]. By matrix products: q ∘ A_m · K_m = q · (A_m ∘ K_m)."""
        keys, attentions = self.all_of("keys"), self.all_of("attentions")
        attended = (query.square() @ attentions.square().mT).clamp_min(1e-24).sqrt()  # ‖q ∘ A_m‖
        return query @ (attentions * keys).mT / (attended * keys.norm(dim=-1)[:, None].clamp_min(1e-12))

    def edit(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        mixed = self.mixture(self.query(backbone, images, ids)) @ self.all_of("prompts")  # [blocks, B, p·d]
        prefixes = mixed.unflatten(-1, (2, self.config.prompt_length // 2, self.width))
        edits = zip(self.layers, prefixes, strict=True)
        return ModelEdit({layer: BlockIntervention(prefix=(x[:, 0], x[:, 1])) for layer, x in edits})

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        loss = self.head_loss(self.features(backbone, batch.images, ids=batch.ids).pooled, batch.labels)
        if not self.config.orthogonality:
            return loss
        apart = sum(orthonormality_loss(rows) for part in PARTS for rows in self.all_of(part))
        return replace(loss, parts={**loss.parts, "orthogonality": self.config.orthogonality * apart})

    def selection(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> list[Selection]:
        """Shares |w_m| / Σ |w| of the mixture, one selection per block."""
        owners = [task for task, own in enumerate(self.keys) for _ in range(own.shape[1])]
        strength = self.mixture(self.query(backbone, images, ids)).abs()
        shares = strength / strength.sum(dim=-1, keepdim=True).clamp_min(1e-12)
        return [Selection(layer, "task", owners, part) for layer, part in zip(self.layers, shares, strict=True)]
