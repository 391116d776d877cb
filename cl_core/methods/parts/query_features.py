"""What a pool is asked with: the features of the frozen model without prompts, computed once an image
(`answer_cache`)."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_core.backbones.answer_cache import Kept, KeptAnswers
from cl_core.backbones.backbone import Backbone

PORTION = 16  # images a pass
KEPT_BYTES = 64 * 2**20  # of queries


class FrozenQueries:
    """q(x) = f(x), f without prompts: [B, 3, S, S] → [B, d], no gradient; in float32 whatever steps are trained in, so
    that an image picks the same entries whenever it is asked. `ids`: the images' numbers, under which they are kept."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept_bytes = kept_bytes
        self._answers = KeptAnswers(PORTION)

    @torch.no_grad()
    def __call__(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> Tensor:
        with backbone.computing_in(torch.float32):
            return self._answers(lambda part: backbone.features(part).pooled, images, ids, self.kept(backbone).images)

    def kept(self, backbone: Backbone) -> Kept:
        """What is held in memory at most."""
        each = 4 * backbone.pooled_width  # bytes, float32
        return Kept(backbone.name, self.kept_bytes // each, self.kept_bytes // each * each)

    def __len__(self) -> int:
        return len(self._answers)
