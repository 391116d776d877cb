"""Types of a backbone's inputs (besides images) and outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor

Tap = tuple[str, int]  # an activation's name and its block: ("attention", 3)


@dataclass(frozen=True)
class Features:
    """One forward pass: `pooled` [B, d] is what a head reads; `taps` holds the requested activations."""

    pooled: Tensor
    taps: dict[Tap, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class LowRank:
    """A branch parallel to a linear map y = x Wᵀ:  y += s · dropout(x) Aᵀ Bᵀ,  equal to W + s B A if p = 0."""

    down: Tensor  # A [r, in]
    up: Tensor  # B [out, r]
    scale: float
    dropout: float = 0.0  # p on the branch's input; > 0 only in training

    def __call__(self, x: Tensor) -> Tensor:
        if self.dropout:
            x = F.dropout(x, self.dropout)
        return F.linear(F.linear(x, self.down), self.scale * self.up)

    def update(self) -> Tensor:
        """s B A: [out, in]."""
        return self.scale * self.up @ self.down


@dataclass(frozen=True)
class Adaptation:
    """Changes of a frozen model: parameters replaced by name, branches added to linear maps by name."""

    weights: Mapping[str, Tensor] = field(default_factory=dict)
    branches: Mapping[str, LowRank] = field(default_factory=dict)


@dataclass(frozen=True)
class BlockIntervention:
    """Changes by a method within one ViT block. A batch dimension of 1 means the same for all images."""

    prompts: Tensor | None = None  # [M, d] appended to the block's input, their outputs dropped (VPT-Deep)
    prefix: tuple[Tensor, Tensor] | None = None  # keys, values [B, M, d] joined to those of the tokens (prefix tuning)
    head_shift: Tensor | None = None  # [B, d] added to every token's concatenated heads, before the output projection
    stream_shift: Tensor | None = None  # [B, d] added to every token between attention and MLP
    branches: Mapping[str, LowRank | Tensor] = field(default_factory=dict)  # "q", "k", "v" → beside W: ΔW [d, d] or BA


@dataclass(frozen=True)
class PrependedTokens:
    """Tokens [B, M, d] inserted at `block`, after the class token, and kept to the end."""

    tokens: Tensor
    block: int = 0
    pooled: bool = False  # True: features are the mean of their outputs; False: pooling leaves them out
    # True: taps show them like prompts, after the image tokens in inputs and attention, and not in outputs.
    # False: only the attention map shows them so.
    shown_last: bool = True


UNEDITED = BlockIntervention()
AS_IT_IS = Adaptation()


@dataclass(frozen=True)
class ModelEdit:
    """Changes of the frozen model by a method for a batch of images. A ViT reads `blocks` and `joined`, a CLIP
    `adaptation` and the prompts in `blocks`."""

    blocks: Mapping[int, BlockIntervention] = field(default_factory=dict)  # block → its changes
    joined: PrependedTokens | None = None
    adaptation: Adaptation = AS_IT_IS

    @property
    def first_block(self) -> int | None:
        """Return the first changed block of a ViT, or the block that joined tokens enter; None = unchanged."""
        joined = () if self.joined is None else (self.joined.block,)
        return min((*self.blocks, *joined), default=None)


NO_EDIT = ModelEdit()


class Prefix(Protocol):
    """Caches the output of the first blocks by image: `compute` [B, 3, S, S] → tokens or features, row by row."""

    first: int

    def __call__(self, compute: Callable[[Tensor], Tensor], images: Tensor, ids: Tensor) -> Tensor: ...
