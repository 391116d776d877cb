"""L2P: a shared pool of prompts; each image selects those with the nearest keys.

Parts: `pool_method`, `selection`.

Wang et al. Learning to Prompt for Continual Learning. CVPR 2022, arXiv:2112.08654; settings as in the PILOT toolbox.
Shapes: M prompts of p tokens in the pool, K of them selected, d width, B images, N image tokens.

    q = f(x)                                              frozen, without prompts            [B, d]
    s_m = cos(q, k_m),  T(x) = the K largest                                                 [B, K]
    tokens = [class; P_T(x); patches] from block 0 on,  z = mean of the K·p prompt outputs   [B, d]
    loss = CE(head(z)) − λ · mean_x Σ_{m ∈ T(x)} s_m

Prompts and keys start from U(−1, 1). Every image selects independently, in training and at test time: the released code
has a majority vote of the batch (`batchwise_prompt`), which leaks information about other test images. Two differences:
the prompt tokens get no position embedding, and gradients are not clipped. Prompts and keys are not protected.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import ModelEdit, PrependedTokens
from cl_core.config import ConfigError, setting
from cl_core.methods.method import Loss
from cl_core.methods.parts.pool_method import PoolConfig, PoolMethod
from cl_core.methods.parts.selection import Selection
from cl_core.streams.stream import Batch


@dataclass(frozen=True)
class L2PConfig(PoolConfig):
    """Defaults are PILOT's for batches of 16; the authors' rate is 0.03 for 256 images, scaled by the batch."""

    rate: float = setting(1.875e-3, low=0.0, high=10.0, help="learning rate of prompts and keys")
    head_rate: float = setting(
        1.875e-3, low=0.0, high=10.0, help="learning rate of the heads; the authors use one for all"
    )
    pool: int = setting(10, low=1, high=1000, help="prompts in the pool (M)")
    prompt_length: int = setting(5, low=1, high=64, help="tokens a prompt")
    taken: int = setting(5, low=1, high=1000, help="prompts an image takes (K)")
    pull: float = setting(
        0.1, low=0.0, high=1e3, help="λ, weight of the key loss, which pulls selected keys to their queries"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.taken > self.pool:
            raise ConfigError(f"taken must be at most pool ({self.pool}), got {self.taken}; enlarge pool or take fewer")


@final
class L2P(PoolMethod):
    """A shared pool: any task may change any prompt."""

    Config = L2PConfig

    def __init__(self, config: L2PConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.prompts = nn.Parameter(self.drawn(config.pool, config.prompt_length, backbone.width, of="prompts"))
        self.keys = nn.Parameter(self.drawn(config.pool, backbone.pooled_width, of="keys"))

    def pool(self) -> dict[str, nn.Parameter]:
        return {"prompts": self.prompts, "keys": self.keys}

    def nearest(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """cos(q, k) of the K nearest keys, and their indices: [B, K] twice."""
        return (F.normalize(query, dim=1) @ F.normalize(self.keys, dim=1).mT).topk(self.config.taken, dim=1)

    def edit(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        return self.with_prompts(self.nearest(self.query(backbone, images, ids))[1])

    def with_prompts(self, taken: Tensor) -> ModelEdit:
        """Insert the prompts `taken` [B, K]; z is the mean of their outputs."""
        # By embedding, not by indexing, whose backward pass is not deterministic with several threads.
        tokens = F.embedding(taken, self.prompts.flatten(1)).unflatten(-1, self.prompts.shape[1:]).flatten(1, 2)
        return ModelEdit(joined=PrependedTokens(tokens, pooled=True, shown_last=False))

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        nearness, taken = self.nearest(self.query(backbone, batch.images, batch.ids))
        loss = self.head_loss(backbone.features(batch.images, self.with_prompts(taken)).pooled, batch.labels)
        return replace(loss, parts={**loss.parts, "pull": -self.config.pull * nearness.sum(dim=1).mean()})

    def selection(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> list[Selection]:
        _, taken = self.nearest(self.query(backbone, images, ids))
        entries = len(self.keys)
        return [Selection(-1, "", [-1] * entries, F.one_hot(taken, entries).sum(dim=1).float())]
