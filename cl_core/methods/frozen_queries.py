"""What a pool is asked with: the features of the frozen model without prompts, computed once an image
(`answers_by_content`)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from cl_core.methods.answers_by_content import AnswersByContent

PORTION = 16  # images a pass
KEPT_BYTES = 64 * 2**20  # of queries


class FrozenQueries:
    """q(x) = f(x), f without prompts: [B, 3, S, S] → [B, d], no gradient.

    On a GPU a pass over the batch costs less than recognising its images: nothing is kept there.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept_bytes = kept_bytes
        self._answers = AnswersByContent(PORTION)

    @torch.no_grad()
    def __call__(self, backbone: Any, images: Tensor) -> Tensor:
        if images.is_cuda:
            return backbone(images).pooled
        limit = self.kept_bytes // (backbone.pooled_width * images.element_size())
        return self._answers(lambda part: backbone(part).pooled, images, limit)

    def __len__(self) -> int:
        return len(self._answers)
