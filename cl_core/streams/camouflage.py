"""Camouflage: ten shapes that differ from the background only in stripe direction, two per task.

A stream that requires adaptation. The bundled models learned shapes whose colour differs from the background; here
shape and background carry stripes in the same two colours, perpendicular to each other, so that brightness and colour
agree on average. The pre-trained features of such an image contain little information on its outline.

The outlines come from the micro world (with its warps, rotations and stretches); the stripes are drawn here.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.config import Preprocessing, StreamConfig
from cl_core.streams.stream import TaskStream, Words, arrange, mixed_seed
from cl_core.streams.synthetic_pretraining import drawn_world
from cl_core.synthetic_world import COLOUR_NAMES, COLOURS, POSITIONS, SHAPES, SIZES, STYLES, TEXTURES, Scenes, draw

NAME = "camouflage"
# Without hexagon and diamond: at this size and with stripes, people take them for a circle and a square, too.
NAMES = tuple(name for name in SHAPES if name not in ("hexagon", "diamond"))
WORDS = Words(tuple(f"a striped {name}" for name in NAMES), ("a photo of {}", "a picture of {}", "{}"))
TRAIN, TEST = 200, 50  # images per class
APART = 0.5  # smallest distance between the two colours in the RGB cube
PERIOD = (3.2, 4.4)  # pixels from stripe to stripe: 1.5 to 2.5 stripes per patch of 8
CUT = 3  # pixels of margin cut off each side before the outline is enlarged to fill the picture
NOISE = 0.03  # standard deviation, in the units of 0..1


def camouflage(config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    """Return ten shapes in `config.tasks` tasks; `seed` orders the classes and does not affect the images."""
    pictures, labels, test = _pictures()
    size = preparation.size
    if size != pictures.shape[-1]:
        shrinks = size < pictures.shape[-1]
        pictures = F.interpolate(pictures, size=(size, size), mode="bilinear", align_corners=False, antialias=shrinks)
    stream = arrange(
        NAME, pictures, labels, test, NAMES, config=config, preparation=preparation, seed=seed, words=WORDS
    )
    return replace(stream, world=drawn_world(size))


@functools.cache
def _pictures() -> tuple[Tensor, Tensor, Tensor]:
    """Return images [n, 3, 32, 32] in 0..1, labels [n], and a mask of test images [n]. Drawn once per process, in under
    a second."""
    generator = torch.Generator().manual_seed(mixed_seed(NAME))
    labels = torch.arange(len(NAMES)).repeat_interleave(TRAIN + TEST)
    inside = outlines(labels, generator)
    return camouflaged(inside, generator), labels, torch.arange(len(labels)) % (TRAIN + TEST) >= TRAIN


def outlines(labels: Tensor, generator: torch.Generator) -> Tensor:
    """[n] class ids → [n, 32, 32] in 0..1: 1 inside a large shape near the centre, as the micro world draws it."""

    def same(value: int) -> Tensor:
        return torch.full_like(labels, value)

    white_on_black = Scenes(
        kind=torch.tensor([SHAPES.index(name) for name in NAMES])[labels],
        colour=same(COLOUR_NAMES.index("white")),
        texture=same(TEXTURES.index("solid")),
        size=same(SIZES.index("large")),
        count=same(0),
        position=same(POSITIONS.index("center")),
        background=same(COLOUR_NAMES.index("black")),
        style=same(STYLES.index("plain")),
    )
    light = draw(white_on_black, generator).mean(1, keepdim=True)[..., CUT:-CUT, CUT:-CUT]
    light = F.interpolate(light, size=32, mode="bilinear", align_corners=False)[:, 0]
    return (2 * (light - 0.5) + 0.5).clamp(0, 1)  # removes uneven light: the black background is well below a quarter


def camouflaged(inside: Tensor, generator: torch.Generator) -> Tensor:
    """Draw stripes by the mask [n, 32, 32] of a shape → [n, 3, 32, 32] in 0..1, perpendicular inside and outside.

    Both have the same period and the same two jittered palette colours; direction, phases and colours are random.
    """
    n, side = len(inside), inside.shape[-1]
    uniform = functools.partial(torch.rand, generator=generator)
    turn = uniform(n, 1, 1) * math.pi
    low, high = PERIOD
    frequency = 2 * math.pi / (low + (high - low) * uniform(n, 1, 1))
    axis = torch.arange(side) - (side - 1) / 2

    def stripes(turn: Tensor) -> Tensor:
        along = turn.cos() * axis[None, None] + turn.sin() * axis[None, :, None]  # [n, side, side]
        return torch.sigmoid(4 * torch.sin(frequency * along + 2 * math.pi * uniform(n, 1, 1)))

    share = stripes(turn + math.pi / 2) * inside + stripes(turn) * (1 - inside)
    first, second = _two_colours(n, generator)
    mixed = second[:, :, None, None] + share[:, None] * (first - second)[:, :, None, None]
    return (mixed + NOISE * torch.randn(n, 3, side, side, generator=generator)).clamp(0, 1)


def _two_colours(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw two palette colours [n, 3] each, at least `APART` apart, with the micro world's jitter."""
    palette = torch.tensor(list(COLOURS.values()))
    pairs = (torch.cdist(palette, palette) >= APART).nonzero()  # [pairs, 2], either way round
    chosen = pairs[torch.randint(len(pairs), (n,), generator=generator)]
    jitter = 0.045 * torch.randn(n, 2, 3, generator=generator)
    return (palette[chosen] + jitter).clamp(0, 1).unbind(1)  # type: ignore[return-value]
