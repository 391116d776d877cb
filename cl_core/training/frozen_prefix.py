"""What the blocks below a method's first edit make of images: frozen, so computed once an image and kept in memory.

A method says from which block on it may change a model (`EditsFrom`); what enters that block is then a function of the
image alone. Training images without augmentation and test images have a number in their stream, under which it is kept;
augmented images have none and pass through all blocks each time. Where nothing of the model is changed, its features
are kept instead of tokens.

Memory is bounded by `LIMIT` bytes. When they are used up, what was not asked for since the present task began makes
room for what is needed now; if all was, what is new is computed each time, so that a task larger than the limit still
gains on the share that is kept. How images are portioned does not depend on what is kept (`answer_cache`), so a resumed
run finds the same bits.
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
        """Images that were computed so far."""
        return self._answers.asked

    def new_task(self) -> None:
        """From now on, what is not asked for again may make room."""
        self._answers.new_turn()

    def kept(self) -> Kept:
        """What is held in memory at most."""
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
