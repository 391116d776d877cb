"""Conversion of prepended tokens to the layout of prompts: last in the sequence, and absent before their block.

A backbone inserts joined tokens after the class token, from one block on. Comparisons of attention over blocks and
methods need N image tokens followed by M prompts in every block. Attention does not depend on token order, so blocks
can be run on the converted tokens.
Shapes: B images, H heads, N image tokens (class token included), M joined tokens, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.io_types import PrependedTokens, Tap


def shown(taps: Mapping[Tap, Tensor], joined: PrependedTokens, first: int) -> dict[Tap, Tensor]:
    """Return activations with the M joined tokens after the image tokens.

    "attention" [B, H, N, N + M], zero for tokens that have not entered yet. With `joined.shown_last` also "input"
    [B, N + M, d], zeros for tokens that have not entered yet, and "output" [B, N, d]. Other activations are unchanged.

    Args:
        taps: as returned by the backbone. first: number of tokens before the joined ones.
    """
    return {(kind, layer): _shown(kind, layer, value, joined, first) for (kind, layer), value in taps.items()}


def run_joined(
    run: Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]],
    layer: int,
    tokens: Tensor,
    joined: PrependedTokens,
    first: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Apply the block `run` to tokens in the layout of `shown`; return its taps in that layout."""
    if joined.shown_last:
        count = joined.tokens.shape[1]
        tokens = tokens if layer >= joined.block else tokens[:, :-count]
        first = tokens.shape[1] - count * (layer >= joined.block)  # attention does not depend on token order
    left, tapped = run(tokens)
    return left, {kind: _shown(kind, layer, value, joined, first) for kind, value in tapped.items()}


def _shown(kind: str, layer: int, value: Tensor, joined: PrependedTokens, first: int) -> Tensor:
    count, entered = joined.tokens.shape[1], layer >= joined.block
    if kind == "attention":
        return _attention(value, first, count) if entered else F.pad(value, (0, count))
    if kind == "input" and joined.shown_last:
        return _moved(value, first, count, dim=1) if entered else F.pad(value, (0, 0, 0, count))
    if kind == "output" and joined.shown_last and entered:
        return _without(value, first, count, dim=1)
    return value


def _attention(attention: Tensor, first: int, count: int) -> Tensor:
    """Convert [B, H, N + M, N + M] → [B, H, N, N + M]: drop queries of joined tokens, move their keys last."""
    return _moved(_without(attention, first, count, dim=2), first, count, dim=3)


def _moved(value: Tensor, first: int, count: int, *, dim: int) -> Tensor:
    """Move the `count` tokens after the first ones to the end of `dim`."""
    before, joined, after = value.split([first, count, value.shape[dim] - first - count], dim=dim)
    return torch.cat([before, after, joined], dim=dim)


def _without(value: Tensor, first: int, count: int, *, dim: int) -> Tensor:
    before, _, after = value.split([first, count, value.shape[dim] - first - count], dim=dim)
    return torch.cat([before, after], dim=dim)
