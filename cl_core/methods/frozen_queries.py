"""What a pool is asked with: the features of the frozen model without prompts, computed once an image.

Nothing of it is learned or kept between tasks, so it is no state of a run: a resumed run computes what it needs anew.
That it then finds the same numbers takes two things. Images are recognised by their content, not by where they come
from; and on the CPU they pass through the model in portions of one fixed size, filled up with zeros, so that the
arithmetic of one image does not depend on which others were missing too.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor

PORTION = 16  # images a pass
KEPT_BYTES = 64 * 2**20  # of queries; the least recently used go first


class FrozenQueries:
    """q(x) = f(x), f without prompts: [B, 3, S, S] → [B, d], no gradient.

    On a GPU a pass over the batch costs less than recognising its images: nothing is kept there.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept_bytes = kept_bytes
        self._known: OrderedDict[bytes, Tensor] = OrderedDict()

    @torch.no_grad()
    def __call__(self, backbone: Any, images: Tensor) -> Tensor:
        if images.is_cuda:
            return backbone(images).pooled
        names = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in images]
        found = {name: self._known[name] for name in names if name in self._known}
        missing = {name: image for name, image in zip(names, images, strict=True) if name not in found}
        found.update(zip(missing, self._computed(backbone, list(missing.values())), strict=True))
        for name, query in found.items():
            self._known[name] = query
            self._known.move_to_end(name)
        while len(self._known) * backbone.pooled_width * images.element_size() > self.kept_bytes:
            self._known.popitem(last=False)
        return torch.stack([found[name] for name in names])

    def _computed(self, backbone: Any, images: list[Tensor]) -> list[Tensor]:
        queries: list[Tensor] = []
        for start in range(0, len(images), PORTION):
            portion = torch.stack(images[start : start + PORTION])
            filled = torch.cat([portion, portion.new_zeros(PORTION - len(portion), *portion.shape[1:])])
            queries += backbone(filled).pooled[: len(portion)].clone()
        return queries

    def __len__(self) -> int:
        return len(self._known)
