"""Image embeddings of a second frozen model, for images that were prepared for the first; its tower runs once an image
(`answer_cache`).

Shapes: B images; S, S' side lengths the two models read; d width of the embeddings.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.answer_cache import Kept, KeptAnswers
from cl_core.config import Preprocessing

PORTION = 32  # images a pass


class ImageQueries:
    """Call it with images [B, 3, S, S] and their numbers: raw embeddings [B, d], without gradient.

    At most `limit` embeddings are kept (4 d bytes each). 0 keeps none.
    """

    def __init__(self, model: Any, preparation: Preprocessing, limit: int) -> None:
        self.model, self.preparation, self.limit = model, preparation, limit
        self._kept = KeptAnswers(PORTION)

    @property
    def passes(self) -> int:
        """Images that went through the tower so far."""
        return self._kept.asked

    def __call__(self, images: Tensor, ids: Tensor | None = None) -> Tensor:
        return self._kept(lambda part: self.model.features(self.prepared(part)).pooled, images, ids, self.limit)

    def kept(self) -> Kept:
        """What is held in memory at most."""
        return Kept(self.model.name, self.limit, 4 * self.model.pooled_width * self.limit)

    def prepared(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] as the first model reads them → [B, 3, S', S'] as the second does: the first one's scaling is
        undone and the second one's applied; where the sides differ, resized bilinearly."""
        mine, theirs = self.preparation, self.model.preparation
        if (mine.mean, mine.std) != (theirs.mean, theirs.std):
            mean, std, new_mean, new_std = (
                images.new_tensor(values).view(3, 1, 1) for values in (mine.mean, mine.std, theirs.mean, theirs.std)
            )
            images = (images * std + mean - new_mean) / new_std
        if images.shape[-1] != theirs.size:
            images = F.interpolate(
                images, size=(theirs.size,) * 2, mode="bilinear", align_corners=False, antialias=True
            )
        return images
