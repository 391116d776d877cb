"""Pre-training images of the bundled backbones: images of the micro world, without captions.

They replace pre-training data where a method needs images of the pre-training distribution. Only shapes and letters, as
in the pre-training of the bundled ViT, which saw no digits.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.streams.stream import mixed_seed
from cl_core.synthetic_world import LETTER_KINDS, SHAPE_KINDS, draw, sample_scenes


def drawn_world(size: int) -> Callable[[int], Tensor]:
    """Return a function count → images [count, 3, size, size] in 0..1, independent of the stream and its seed."""

    def pictures(count: int) -> Tensor:
        generator = torch.Generator().manual_seed(mixed_seed("pre-training world"))
        drawn = draw(sample_scenes(count, generator, kinds=[*SHAPE_KINDS, *LETTER_KINDS]), generator)
        if drawn.shape[-1] == size:
            return drawn
        shrinks = size < drawn.shape[-1]
        return F.interpolate(drawn, size=(size, size), mode="bilinear", align_corners=False, antialias=shrinks)

    return pictures
