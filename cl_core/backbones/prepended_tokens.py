"""Prepended tokens in the format of prompts: last in the sequence, and absent before their block.

A backbone puts joined tokens right after the class token, from one block on. Whoever compares attention over blocks and
methods wants N image tokens and then M prompts, in every block alike. Attention does not mind the order of its tokens,
so blocks may be run on what is returned here.
Shapes: B images, H heads, N image tokens (class token included), M joined tokens, d width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.io_types import PrependedTokens, Tap


def shown(taps: Mapping[Tap, Tensor], joined: PrependedTokens, first: int) -> dict[Tap, Tensor]:
    """Activations with the M joined tokens behind the image tokens.

    "attention" [B, H, N, N + M], nothing paid to tokens that have not entered yet. With `joined.shown_last` also
    "input" [B, N + M, d], zeros in place of tokens that have not entered yet, and "output" [B, N, d]. Other activations
    are left as they are.

    Args:
        taps: as the backbone returns them. first: tokens before the joined ones.
    """
    return {(kind, layer): _shown(kind, layer, value, joined, first) for (kind, layer), value in taps.items()}


def run_joined(
    run: Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]],
    layer: int,
    tokens: Tensor,
    joined: PrependedTokens,
    first: int,
) -> tuple[Tensor, dict[str, Tensor]]:
    """A block, `run`, on tokens as `shown` shows its input; what was tapped, shown in the same way."""
    if joined.shown_last:
        count = joined.tokens.shape[1]
        tokens = tokens if layer >= joined.block else tokens[:, :-count]
        first = tokens.shape[1] - count * (layer >= joined.block)  # attention does not mind the order of its tokens
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
    """[B, H, N + M, N + M] → [B, H, N, N + M]: queries of joined tokens dropped, their keys last."""
    return _moved(_without(attention, first, count, dim=2), first, count, dim=3)


def _moved(value: Tensor, first: int, count: int, *, dim: int) -> Tensor:
    """The `count` tokens after the first ones, moved to the end of `dim`."""
    before, joined, after = value.split([first, count, value.shape[dim] - first - count], dim=dim)
    return torch.cat([before, after, joined], dim=dim)


def _without(value: Tensor, first: int, count: int, *, dim: int) -> Tensor:
    before, _, after = value.split([first, count, value.shape[dim] - first - count], dim=dim)
    return torch.cat([before, after], dim=dim)
