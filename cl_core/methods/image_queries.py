"""Image embeddings of a second frozen model, for images that were prepared for the first.

A training stream without augmentation shows the same images in every epoch, and test images after every task. So what
the second model says of an image is kept under the image's content and its tower runs once per image.

Shapes: B images; S, S' side lengths the two models read; d width of the embeddings.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.config import Preparation

PORTION = 32  # images per forward pass, always exactly so many: see `_embedded`


class ImageQueries:
    """Call it with images [B, 3, S, S]: raw embeddings [B, d], without gradient.

    At most `limit` embeddings are kept (4 d bytes each and 16 for the digest); then the oldest go. 0 keeps none.
    """

    def __init__(self, model: Any, preparation: Preparation, limit: int) -> None:
        self.model, self.preparation, self.limit = model, preparation, limit
        self.passes = 0  # images that went through the tower so far
        self._kept: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        names = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in images.detach().cpu().numpy()]
        new = {name: place for place, name in enumerate(names) if name not in self._kept}
        fresh: dict[bytes, Tensor] = {}
        if new:
            fresh = dict(zip(new, self._embedded(images[list(new.values())]), strict=True))
        found = torch.stack([fresh[name] if name in fresh else self._kept[name] for name in names])
        self._keep(fresh)
        return found

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

    def _embedded(self, images: Tensor) -> Tensor:
        """Portions are filled up with their first image: a matrix product of another height rounds differently, and
        what is kept must not depend on which images came together."""
        self.passes += len(images)
        found = []
        for part in self.prepared(images).split(PORTION):
            filled = torch.cat([part, part[:1].expand(PORTION - len(part), -1, -1, -1)])
            found.append(self.model(filled).pooled[: len(part)])
        return torch.cat(found)

    def _keep(self, fresh: dict[bytes, Tensor]) -> None:
        if self.limit:
            self._kept |= {name: row.clone() for name, row in fresh.items()}
        for name in list(self._kept)[: max(0, len(self._kept) - self.limit)]:
            del self._kept[name]
