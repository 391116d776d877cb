"""DualPrompt: general prompts for all tasks in the first blocks, one expert entry per task in the following blocks.

Parts: `pool_method`, `selection`.

Wang et al. DualPrompt: Complementary Prompting for Rehearsal-free Continual Learning. ECCV 2022, arXiv:2204.04799;
settings as in the PILOT toolbox.
Shapes: p tokens per prefix, d width, T entries so far (one per task), B images.

    q = f(x)                                              frozen, without prompts            [B, d]
    blocks of G    keys and values of G_l join those of the tokens                           [2, p, d] each
    blocks of E    those of E_l of one task: training, the current one; test, argmax_t cos(q, k_t)
    loss = CE(head(z)) − λ · mean_x cos(q, k_t)

Prefix tuning: keys and values are learned directly, p of each per block, divided among the heads; no tokens are added.
An entry starts as a copy of the previous one; G, the first entry and all keys from U(−1, 1). Entries and keys of
earlier tasks are never trained again; forgetting comes from changes of G and from confusion of keys and heads.
Difference: gradients are not clipped.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import BlockIntervention, ModelEdit
from cl_core.config import setting
from cl_core.methods.method import Loss
from cl_core.methods.parts.pool_method import PoolConfig, PoolMethod
from cl_core.methods.parts.selection import Selection
from cl_core.streams.stream import Batch


@dataclass(frozen=True)
class DualPromptConfig(PoolConfig):
    """Defaults are PILOT's for batches of 24, but for λ: 1 as in mammoth (PILOT 0.1). A key has no other gradient, so
    under Adam λ hardly changes its path."""

    general_length: int = setting(5, low=1, high=64, help="keys and values per block of the general prompts")
    general_blocks: int = setting(2, low=1, high=100, help="number of blocks with general prompts, from the first on")
    expert_length: int = setting(5, low=1, high=64, help="keys and values per block of an expert entry")
    expert_blocks: int = setting(
        3, low=1, high=100, help="number of following blocks with expert entries; at least the last block"
    )
    pull: float = setting(1.0, low=0.0, high=1e3, help="λ, weight of the pull of the task's key to its queries")


@final
class DualPrompt(PoolMethod):
    """A pool with one entry per task, selected by key at test time."""

    Config = DualPromptConfig

    def __init__(self, config: DualPromptConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        depth, self.width, self.query_width = backbone.depth, backbone.width, backbone.pooled_width
        first = min(config.general_blocks, depth - 1)  # at least the last block is for experts
        self.general_layers, self.expert_layers = range(first), range(first, min(first + config.expert_blocks, depth))
        self.general = nn.Parameter(self.drawn(first, 2, config.general_length, self.width, of="general"))
        self.entries, self.keys = nn.ParameterList(), nn.ParameterList()

    def begin_task(self, index: int, classes: range) -> None:
        """Add an entry and its key."""
        super().begin_task(index, classes)
        shape = len(self.expert_layers), 2, self.config.expert_length, self.width
        entry = self.entries[-1].detach().clone() if len(self.entries) else self.drawn(*shape, of="expert")
        for earlier in (*self.entries, *self.keys):
            earlier.requires_grad_(False)
        self.entries.append(nn.Parameter(entry))
        self.keys.append(nn.Parameter(self.drawn(self.query_width, of="key", task=index)))

    def pool(self) -> dict[str, nn.Parameter]:
        last = len(self.entries) - 1
        return {"general": self.general, f"entries.{last}": self.entries[last], f"keys.{last}": self.keys[last]}

    def nearness(self, query: Tensor, keys: list[Tensor]) -> Tensor:
        """cos(q, k_t): [B, T]."""
        return F.normalize(query, dim=1) @ F.normalize(torch.stack(keys), dim=1).mT

    def chosen(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> Tensor:
        """The entry with the nearest key, [B]."""
        return self.nearness(self.query(backbone, images, ids), list(self.keys)).argmax(dim=1)

    def with_entries(self, entries: Tensor) -> ModelEdit:
        """The general prompts, and `entries` [B or 1, blocks of E, 2, p, d]."""
        prefixes = [*self.general[:, None], *entries.unbind(dim=1)]  # each [B or 1, 2, p, d]
        layers = (*self.general_layers, *self.expert_layers)
        edits = zip(layers, prefixes, strict=True)
        return ModelEdit({layer: BlockIntervention(prefix=(x[:, 0], x[:, 1])) for layer, x in edits})

    def edit(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        """The entries selected by keys; the task is unknown."""
        return self.with_entries(torch.stack(list(self.entries))[self.chosen(backbone, images, ids)])

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        """With the current task's entry, regardless of the keys."""
        seen = backbone.features(batch.images, self.with_entries(self.entries[-1][None]))
        near = self.nearness(self.query(backbone, batch.images, batch.ids), [self.keys[-1]])
        loss = self.head_loss(seen.pooled, batch.labels)
        return replace(loss, parts={**loss.parts, "pull": -self.config.pull * near.mean()})

    def selection(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> list[Selection]:
        """One selection for all blocks of E."""
        tasks, taken = len(self.entries), self.chosen(backbone, images, ids)
        return [Selection(-1, "task", list(range(tasks)), F.one_hot(taken, tasks).float())]
