"""Pre-training images of the bundled backbones: images of the micro world, without captions.

They stand in for pre-training data where a method asks what the pre-trained model is used to. Shapes and letters only,
as the embedded ViT saw them: no digit is among them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.streams.stream import mixed_seed
from cl_core.synthetic_world import LETTER_KINDS, SHAPE_KINDS, draw, sample_scenes


def drawn_world(size: int) -> Callable[[int], Tensor]:
    """count → pictures [count, 3, size, size] in 0..1, always the same ones, whatever the stream and its seed."""

    def pictures(count: int) -> Tensor:
        generator = torch.Generator().manual_seed(mixed_seed("pre-training world"))
        drawn = draw(sample_scenes(count, generator, kinds=[*SHAPE_KINDS, *LETTER_KINDS]), generator)
        if drawn.shape[-1] == size:
            return drawn
        shrinks = size < drawn.shape[-1]
        return F.interpolate(drawn, size=(size, size), mode="bilinear", align_corners=False, antialias=shrinks)

    return pictures
