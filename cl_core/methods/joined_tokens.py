"""Tokens that joined the sequence, shown as prompts are: last, and absent before they enter.

A backbone puts joined tokens right after the class token, from one block on. Whoever compares attention over blocks and
methods wants N image tokens and then M prompts, in every block alike. Attention does not mind the order of its tokens,
so blocks may be run on what is returned here.
Shapes: B images, H heads, N image tokens (class token included), M joined tokens, d width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.features import Tap


def joined_last(taps: dict[Tap, Tensor], *, first: int, count: int, block: int) -> dict[Tap, Tensor]:
    """Activations with M = `count` joined tokens behind the image tokens.

    "input" [B, N + M, d], zeros in place of tokens that have not entered yet; "attention" [B, H, N, N + M], nothing
    paid to them; "output" [B, N, d]. Other activations are left as they are.

    Args:
        taps: as the backbone returns them. first: tokens before the joined ones. block: where they enter.
    """
    return {(kind, layer): _shown(kind, value, first, count, layer >= block) for (kind, layer), value in taps.items()}


def _shown(kind: str, value: Tensor, first: int, count: int, entered: bool) -> Tensor:
    if kind == "input":
        return _moved(value, first, count, dim=1) if entered else F.pad(value, (0, 0, 0, count))
    if kind == "attention":
        return _attention(value, first, count) if entered else F.pad(value, (0, count))
    if kind == "output":
        return _without(value, first, count, dim=1) if entered else value
    return value


def run_joined(
    backbone: Any, layer: int, tokens: Tensor, taps: frozenset[str], *, count: int, block: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The frozen block on tokens [B, N + M, d] as `joined_last` shows them; what was tapped, shown in the same way."""
    tokens = tokens if layer >= block else tokens[:, :-count]
    left, tapped = backbone.block(layer, tokens, taps=taps)
    images = tokens.shape[1] - count * (layer >= block)
    return left, {kind: _shown(kind, value, images, count, layer >= block) for kind, value in tapped.items()}


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
