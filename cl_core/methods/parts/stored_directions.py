"""Directions of inputs that earlier tasks need, one orthonormal basis a place, growing task by task.

Shapes: d width of a place's inputs, k directions stored there; B [d, k], h [k] in [0, 1], 1 where a direction is held
back wholly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from cl_core.backbones.io_types import Tap
from cl_core.methods.parts.clip_weights import key


@dataclass(frozen=True)
class Guard:
    """A place of the image tower whose inputs are watched over: what reads them, and what is held back of its changes.

    `space`: how figures call it. `inputs`: what was tapped → x [n, d]. `maps`: names of the weights [out, d] that read
    x. `held` [k] of the columns of `basis` [d, k]. `rule`: how many directions are stored, in words;
    `used`: whether steps obey it.
    """

    layer: int
    space: str
    taps: tuple[Tap, ...]
    inputs: Callable[[Mapping[Tap, Tensor]], Tensor]
    maps: tuple[str, ...]
    basis: Tensor
    held: Tensor
    rule: str
    used: bool = True


class StoredDirections(nn.Module):
    """B and h of every place, in float64; what is loaded may have another number of directions."""

    def __init__(self, widths: Mapping[str, int]) -> None:
        """`widths`: place → d."""
        super().__init__()
        self.places = tuple(widths)
        for place, width in widths.items():
            self.register_buffer(f"basis_{key(place)}", torch.zeros(width, 0, dtype=torch.float64))
            self.register_buffer(f"held_{key(place)}", torch.zeros(0, dtype=torch.float64))

    def basis(self, place: str) -> Tensor:
        """B [d, k]."""
        return cast(Tensor, self._buffers[f"basis_{key(place)}"])

    def held(self, place: str) -> Tensor:
        """h [k]."""
        return cast(Tensor, self._buffers[f"held_{key(place)}"])

    def set_held(self, place: str, held: Tensor) -> None:
        setattr(self, f"held_{key(place)}", held)

    def add(self, place: str, directions: Tensor, held: Tensor | None = None) -> None:
        """Columns [d, r] orthonormal and orthogonal to B; `held` [r]: 1 unless given."""
        known, more = self.basis(place), directions.new_ones(directions.shape[1]) if held is None else held
        setattr(self, f"basis_{key(place)}", torch.cat([known, directions.to(known)], dim=1))
        self.set_held(place, torch.cat([self.held(place), more.to(known)]))

    def counts(self) -> list[int]:
        """k of every place."""
        return [self.basis(place).shape[1] for place in self.places]

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *others: Any) -> None:
        for name, value in self._buffers.items():
            if value is not None and prefix + name in state_dict:
                setattr(self, name, value.new_empty(state_dict[prefix + name].shape))
        super()._load_from_state_dict(state_dict, prefix, *others)


def heads_of(taps: Mapping[Tap, Tensor], layer: int) -> Tensor:
    """Concatenated heads [n, d], which the output projection reads, from what was tapped of attention and values."""
    mixed = taps["attention", layer] @ taps["v", layer]  # [B, H, N, d/H]
    return mixed.transpose(1, 2).flatten(2).flatten(0, 1)


def tokens_of(tap: Tap) -> Callable[[Mapping[Tap, Tensor]], Tensor]:
    """Tokens [n, d] of one tap."""
    return lambda taps: taps[tap].flatten(0, 1)


def taps_of(guards: Sequence[Guard]) -> tuple[Tap, ...]:
    """What all of them want to see, each once."""
    return tuple(dict.fromkeys(tap for guard in guards for tap in guard.taps))
