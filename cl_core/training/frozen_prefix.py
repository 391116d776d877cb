"""Cache of the blocks below a method's first edit: they are frozen, so their outputs are computed once per image.

A method declares the first block it may change (`EditsFrom`); the input of that block is then a function of the image
only. Unaugmented training images and test images have an id in their stream, the cache key; augmented images have none
and pass through all blocks each time. If the model is never changed, features are cached instead of tokens.

Memory is bounded by `LIMIT` bytes. When it is full, entries not used in the current task are evicted; if all were used,
new ones are computed each time, so that a task larger than the limit still benefits from the cached share. Batching
does not depend on the cache (`answer_cache`), so a resumed run gets the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from cl_core.backbones.answer_cache import Kept, KeptAnswers
from cl_core.backbones.backbone import Backbone
from cl_core.methods.method import EditsFrom, Method

LIMIT = 256 * 2**20  # bytes
PORTION = 32  # images a pass


class FrozenPrefix:
    """A cache that a backbone is given. `first`: the block that what is kept enters; the depth: finished features."""

    def __init__(self, backbone: Any, first: int) -> None:
        self.first, self.name = first, backbone.name
        self.whole = first == backbone.depth
        each = backbone.pooled_width if self.whole else backbone.width * backbone.tokens
        self.each = 4 * each  # bytes an image, float32
        self.images = LIMIT // self.each
        self._answers = KeptAnswers(PORTION, keep_current=True)

    def __call__(self, compute: Callable[[Tensor], Tensor], images: Tensor, ids: Tensor) -> Tensor:
        """`compute` of images [B, 3, S, S] with these numbers [B]: [B, N, d], or [B, d] of finished features."""
        return self._answers(compute, images, ids, self.images)

    @property
    def asked(self) -> int:
        """Number of images computed so far."""
        return self._answers.asked

    def new_task(self) -> None:
        """Start of a task: entries not used from now on may be evicted."""
        self._answers.new_turn()

    def kept(self) -> Kept:
        """Maximum size of the cache."""
        blocks = "all blocks" if self.whole else f"block 1 to {self.first}" if self.first > 1 else "block 1"
        return Kept(f"{self.name}, {blocks}", self.images, self.images * self.each)


def with_frozen_prefix(backbone: Backbone, method: Method) -> tuple[Backbone, FrozenPrefix | None]:
    """The backbone with a cache for what lies below the method's edits; itself and None where there is nothing to keep.

    The model given back shares its weights with the one that came in; the cache is its own.
    """
    if not isinstance(method, EditsFrom):
        return backbone, None
    first = method.edits_from(backbone)
    if first <= 0 or not hasattr(backbone, "with_prefix"):
        return backbone, None
    prefix = FrozenPrefix(backbone, first)
    if not prefix.images:
        return backbone, None
    return backbone.with_prefix(prefix), prefix
