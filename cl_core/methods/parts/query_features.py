"""Queries of a pool: features of the frozen model without prompts, computed once per image (`answer_cache`)."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_core.backbones.answer_cache import Kept, KeptAnswers
from cl_core.backbones.backbone import Backbone

PORTION = 16  # images per pass
KEPT_BYTES = 64 * 2**20  # of queries


class FrozenQueries:
    """q(x) = f(x), f without prompts: [B, 3, S, S] → [B, d], no gradient; always in float32, so that an image's
    selection is reproducible. `ids`: the images' ids, used as cache keys."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept_bytes = kept_bytes
        self._answers = KeptAnswers(PORTION)

    @torch.no_grad()
    def __call__(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> Tensor:
        with backbone.computing_in(torch.float32):
            return self._answers(lambda part: backbone.features(part).pooled, images, ids, self.kept(backbone).images)

    def kept(self, backbone: Backbone) -> Kept:
        """Maximum size of the cache."""
        each = 4 * backbone.pooled_width  # bytes, float32
        return Kept(backbone.name, self.kept_bytes // each, self.kept_bytes // each * each)

    def __len__(self) -> int:
        return len(self._answers)
