"""Image embeddings of a second frozen model, for images prepared for the first; computed once per image
(`answer_cache`).

Shapes: B images; S, S' input sizes of the two models; d width of the embeddings.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.answer_cache import Kept, KeptAnswers
from cl_core.config import Preprocessing

PORTION = 32  # images per pass


class ImageQueries:
    """Call it with images [B, 3, S, S] and their ids: raw embeddings [B, d], without gradient.

    At most `limit` embeddings are cached (4 d bytes each).
    """

    def __init__(self, model: Any, preparation: Preprocessing, limit: int) -> None:
        self.model, self.preparation, self.limit = model, preparation, limit
        self._kept = KeptAnswers(PORTION)

    @property
    def passes(self) -> int:
        """Number of images processed by the tower so far."""
        return self._kept.asked

    def __call__(self, images: Tensor, ids: Tensor | None = None) -> Tensor:
        return self._kept(lambda part: self.model.features(self.prepared(part)).pooled, images, ids, self.limit)

    def kept(self) -> Kept:
        """Maximum size of the cache."""
        return Kept(self.model.name, self.limit, 4 * self.model.pooled_width * self.limit)

    def prepared(self, images: Tensor) -> Tensor:
        """[B, 3, S, S] prepared for the first model → [B, 3, S', S'] for the second: normalisation is replaced, and
        images are resized bilinearly if the sizes differ."""
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
