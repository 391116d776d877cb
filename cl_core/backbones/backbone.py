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
        """Return features of prepared images [B, 3, S, S] and requested activations, with the model changed by `edit`.
        `ids` [B]: the images' ids in the stream, by which a model may cache unchanged parts."""
        ...

    def edited_block(
        self, layer: int, tokens: Tensor, edit: ModelEdit = NO_EDIT, taps: frozenset[str] = frozenset()
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run one block on tokens [B, N, d] in the layout of its input tap; return (output tokens, taps). If the
        attention map is tapped and nothing after it, output tokens need not be computed."""
        ...

    def computing_in(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """Run products inside the model in this type within the block; outputs are float32."""
        ...

    def map_weight(self, name: str) -> Tensor:
        """Return W [out, in] of an attention projection by name: "image.3.k"."""
        ...

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]: ...

    def describe(self) -> dict[str, Any]:
        """Return sizes as plain values, for the record of a run."""
        ...
