"""Protocol of frozen models, as used by methods, observers and the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from cl_core.backbones.io_types import NO_EDIT, Features, ModelEdit, Tap
from cl_core.config import Preprocessing


class Backbone(Protocol):
    """A frozen image tower of `depth` blocks of width `width`. Shapes: B images, N tokens, L blocks."""

    name: str
    preparation: Preprocessing
    depth: int
    width: int
    heads: int
    tokens: int
    patch_grid: tuple[int, ...]

    @property
    def pooled_width(self) -> int:
        """Width of `Features.pooled`."""
        ...

    def features(
        self, images: Tensor, edit: ModelEdit = NO_EDIT, taps: Iterable[Tap] = (), ids: Tensor | None = None
    ) -> Features:
        """Features of prepared images [B, 3, S, S] and the activations asked for, as `edit` changes the model. `ids`
        [B]: their numbers in the stream, under which a model that keeps what does not change may look."""
        ...

    def edited_block(
        self, layer: int, tokens: Tensor, edit: ModelEdit = NO_EDIT, taps: frozenset[str] = frozenset()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One block on tokens [B, N, d] as `features` shows its input: (tokens leaving it, what was tapped). Where its
        attention map is tapped and nothing after it, tokens leaving it need not be computed."""
        ...

    def computing_in(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """Within the block, products inside the model run in this type; what comes out is float32."""
        ...

    def map_weight(self, name: str) -> Tensor:
        """W [out, in] of an attention projection by name: "image.3.k"."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def describe(self) -> dict[str, Any]:
        """Sizes as plain values, for the record of a run."""
        ...
