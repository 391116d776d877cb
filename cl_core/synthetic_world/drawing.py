"""Choosing scenes and drawing them: one batch at a time, in plain torch, repeatable from one generator.

Shapes: B scenes, 32 × 32 pixels, up to 4 copies of one object in a scene.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.synthetic_world.atlas import EXTENT, load_atlas
from cl_core.synthetic_world.handwriting import pen_distance
from cl_core.synthetic_world.vocabulary import (
    BACKGROUNDS,
    COLOUR_NAMES,
    COLOURS,
    DIGIT_KINDS,
    HANDWRITTEN,
    KINDS,
    PATTERNS,
    SHAPE_KINDS,
    STYLES,
    TEXTURES,
    is_held_out,
)

SIDE = 32
SINGLE_RADIUS = (5.2, 7.8, 11.2)  # half-sides in pixels of small, medium, large objects that stand alone
GROUP_RADIUS = (3.4, 4.5, 5.7)  # and of two to four together
SPREAD = 1.12  # neighbours in a group stand 2 × 1.12 half-sides apart
LAYOUTS = (  # unit offsets of one to four objects
    ((0, 0), (0, 0), (0, 0), (0, 0)),
    ((-1, 0), (1, 0), (0, 0), (0, 0)),
    ((0, -1.0), (-1.05, 0.9), (1.05, 0.9), (0, 0)),
    ((-1, -1), (1, -1), (-1, 1), (1, 1)),
)
DIRECTIONS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # center, left, right, top, bottom

SOLID, STRIPED, DOTTED, CHECKERED, HOLLOW, SHADED = range(len(TEXTURES))
BLURRY, NOISY = STYLES.index("blurry"), STYLES.index("noisy")
WHITE, BLACK = COLOUR_NAMES.index("white"), COLOUR_NAMES.index("black")


@dataclass(frozen=True)
class Scenes:
    """Integer attributes [B] of a batch of scenes; names in `vocabulary`."""

    kind: Tensor
    colour: Tensor
    texture: Tensor
    size: Tensor
    count: Tensor  # 0 means one object
    position: Tensor
    background: Tensor
    style: Tensor

    def __len__(self) -> int:
        return len(self.kind)

    def as_dict(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def select(self, index: Tensor) -> Scenes:
        return Scenes(**{name: values[index] for name, values in self.as_dict().items()})


def sample_scenes(
    n: int, generator: torch.Generator, kinds: Sequence[int] = range(len(KINDS)), held_out: bool = False
) -> Scenes:
    """Draw lots for n scenes.

    Patterns need room, so they come mostly large and single; the handwritten style is one large object near the
    center, without pattern, half the time white on black as scanned digits are.

    Args:
        n: how many.
        generator: the only source of chance; its device is where the tensors live.
        kinds: which kinds may appear, equally often.
        held_out: only combinations kept out of training if true, none of them otherwise.
    """
    device = generator.device
    uniform = functools.partial(torch.rand, n, generator=generator, device=device)

    def choose(weights: Sequence[float]) -> Tensor:
        return torch.multinomial(torch.tensor(weights, device=device), n, replacement=True, generator=generator)

    allowed = torch.as_tensor(list(kinds), device=device)
    kind = allowed[(uniform() * len(allowed)).long().clamp(max=len(allowed) - 1)]
    style = choose([0.42, 0.14, 0.14, 0.30])
    texture = choose([0.20, 0.16, 0.16, 0.16, 0.14, 0.18])
    count = choose([0.61, 0.13, 0.13, 0.13])
    size = choose([0.22, 0.33, 0.45])
    position = choose([0.28, 0.18, 0.18, 0.18, 0.18])

    patterned = torch.isin(texture, torch.tensor(PATTERNS, device=device))
    count = torch.where(patterned & (uniform() < 0.7), 0, count)
    size = torch.where(patterned & (uniform() < 0.6), 2, size)
    by_hand = style == HANDWRITTEN
    is_shape = kind < SHAPE_KINDS.stop
    texture = torch.where(by_hand, torch.where(is_shape & (uniform() < 0.7), HOLLOW, SOLID), texture)
    count = torch.where(by_hand, 0, count)
    size = torch.where(by_hand, 2, size)
    position = torch.where(by_hand, 0, position)

    # The held-out rule decides which colours a (kind, texture) may have: never an empty choice.
    every = torch.arange(len(COLOURS), device=device)
    weights = (is_held_out(kind[:, None], every, texture[:, None]) == held_out).float()
    scan = by_hand & (uniform() < 0.5)
    weights[:, WHITE] *= torch.where(scan, 100.0, 1.0)
    colour = torch.multinomial(weights, 1, generator=generator).squeeze(1)
    background = (colour + 1 + (uniform() * (len(BACKGROUNDS) - 1)).long()) % len(BACKGROUNDS)  # never the object's
    background = torch.where(scan & (colour == WHITE), BLACK, background)
    return Scenes(kind, colour, texture, size, count, position, background, style)


def draw(scenes: Scenes, generator: torch.Generator) -> Tensor:
    """Draw scenes with everything that is not an attribute left to chance.

    Args:
        scenes: B scenes on the generator's device.
        generator: decides fonts, exact places, warps, shades and noise.

    Returns:
        [B, 3, 32, 32] red, green, blue in 0..1.
    """
    n, device = len(scenes), generator.device
    uniform = functools.partial(torch.rand, generator=generator, device=device)
    axis = torch.arange(SIDE, device=device) - (SIDE - 1) / 2
    by_hand = scenes.style == HANDWRITTEN

    single = torch.tensor(SINGLE_RADIUS, device=device)[scenes.size]
    group = torch.tensor(GROUP_RADIUS, device=device)[scenes.size]
    radius = torch.where(scenes.count > 0, group, single) * (0.92 + 0.16 * uniform(n))
    is_shape = scenes.kind < SHAPE_KINDS.stop
    filling = torch.where(is_shape, 10.8, 13.2) + 2.2 * uniform(n)  # scanned writing fills its frame
    radius = torch.where(by_hand, filling, radius)
    depth, centre = _signed_depth(scenes, radius, generator)  # [B, 32, 32] pixels inside the outline, [B, 2]

    digits = (by_hand & (scenes.kind >= DIGIT_KINDS.start) & (uniform(n) < 0.75)).nonzero().squeeze(1)
    if len(digits):
        written = pen_distance(scenes.kind[digits] - DIGIT_KINDS.start, generator)
        depth = depth.index_copy(0, digits, 1.9 + 1.5 * uniform(len(digits), 1, 1) - written)

    weight = torch.where(is_shape, 0.0, (uniform(n) - 0.35) * 0.8)  # pen and print come in weights
    weight = torch.where(by_hand, (uniform(n) - 0.3) * 1.6, weight)
    depth = depth + weight[:, None, None]
    line = 0.75 + 0.05 * radius + 0.3 * uniform(n)
    line = torch.where(by_hand, 1.3 + 0.9 * uniform(n), line)[:, None, None]
    rim = torch.where(is_shape[:, None, None], line - (depth - line).abs(), 0.85 - depth.abs())
    hollow = (scenes.texture == HOLLOW)[:, None, None]
    coverage = (torch.where(hollow, rim, depth) + 0.5).clamp(0, 1)  # [B, 32, 32]

    low = F.avg_pool2d(coverage[:, None], 4)  # 8 × 8, as scanned digits come
    smooth = F.interpolate(low, size=SIDE, mode="bilinear", align_corners=False)[:, 0]
    blocky = F.interpolate(low, size=SIDE, mode="nearest")[:, 0]
    rescanned = torch.where((uniform(n) < 0.75)[:, None, None], smooth, blocky)
    coarse = (by_hand & (uniform(n) < 0.65))[:, None, None]
    coverage = torch.where(coarse, rescanned, coverage)

    palette = torch.tensor(list(COLOURS.values()), device=device)
    jitter = functools.partial(torch.randn, n, 3, generator=generator, device=device)
    ink = (palette[scenes.colour] + 0.045 * jitter()).clamp(0, 1)
    paper = (palette[scenes.background] + 0.045 * jitter()).clamp(0, 1)
    bright = (ink.mean(1, keepdim=True) > 0.4).float()
    dark = torch.where(paper.mean(1, keepdim=True) < 0.3, 0.45, 0.25)  # must not vanish on a dark background
    second = bright * ink * dark + (1 - bright) * (0.3 * ink + 0.7)  # the pattern's other shade
    share = _pattern(scenes, radius, centre, axis, generator)[:, None]  # [B, 1, 32, 32] how much of `second`
    surface = ink[:, :, None, None] * (1 - share) + second[:, :, None, None] * share
    ground = paper[:, :, None, None] + _unevenness(n, axis, generator)
    image = ground + coverage[:, None] * (surface - ground)

    blurred = _blur(image, sigma=0.9 + 0.5 * uniform(n))
    image = torch.where((scenes.style == BLURRY)[:, None, None, None], blurred, image)
    strength = torch.where(scenes.style == NOISY, 0.08 + 0.06 * uniform(n), 0.012 * uniform(n))
    noise = torch.randn(n, 3, SIDE, SIDE, generator=generator, device=device)
    return (image + strength[:, None, None, None] * noise).clamp(0, 1)


def _signed_depth(scenes: Scenes, radius: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pixels inside the nearest outline [B, 32, 32] (negative outside) and the group's centre [B, 2]."""
    n, device = len(scenes), generator.device
    uniform = functools.partial(torch.rand, generator=generator, device=device)
    by_hand = scenes.style == HANDWRITTEN
    atlas = load_atlas(str(device))

    offsets = torch.tensor(LAYOUTS, device=device)[scenes.count] * (SPREAD * radius)[:, None, None]  # [B, 4, 2]
    turned = (scenes.count == 1) & (uniform(n) < 0.5)
    offsets = torch.where(turned[:, None, None], offsets.flip(-1), offsets)
    reach = offsets.abs().amax(1) + radius[:, None]  # [B, 2]
    room = (SIDE / 2 + 0.5 - reach).clamp(min=0)
    direction = torch.tensor(DIRECTIONS, device=device)[scenes.position].float()
    centre = direction * room * (0.85 + 0.15 * uniform(n, 1)) + (uniform(n, 2) - 0.5) * 1.8

    # Each copy has its own font, turn, stretch and warp; copies beyond the count are left out.
    scene, copy = (torch.arange(4, device=device) <= scenes.count[:, None]).nonzero(as_tuple=True)
    m = len(scene)
    kind = scenes.kind[scene]
    item = atlas.first[kind] + (uniform(m) * atlas.variants[kind]).long()
    hand = by_hand[scene]
    angle = (uniform(m) - 0.5) * 0.5
    stretch = torch.exp((uniform(m, 2) - 0.5) * torch.where(hand, 0.55, 0.24)[:, None])
    slant = (uniform(m) - 0.5) * torch.where(hand, 0.7, 0.2)
    place = centre[scene] + offsets[scene, copy] + (uniform(m, 2) - 0.5) * 0.6

    axis = torch.arange(SIDE, device=device) - (SIDE - 1) / 2
    x = axis[None, None] - place[:, 0, None, None]  # [M, 1, 32]
    y = axis[None, :, None] - place[:, 1, None, None]  # [M, 32, 1]
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    scale = radius[scene][:, None, None]
    u = (cosine * x + sine * y) / scale
    v = (cosine * y - sine * x) / scale
    u, v = u * stretch[:, 0, None, None] + slant[:, None, None] * v, v * stretch[:, 1, None, None]
    amount = torch.where(hand, 0.09, 0.025)[:, None, None]
    phase = uniform(m, 4, 1, 1) * 2 * math.pi
    wave = 2.0 + 2.0 * uniform(m, 2, 1, 1)
    warped_u = u + amount * (torch.sin(wave[:, 0] * v + phase[:, 0]) + 0.5 * torch.sin(2.3 * u + phase[:, 1]))
    warped_v = v + amount * (torch.sin(wave[:, 1] * u + phase[:, 2]) + 0.5 * torch.sin(2.3 * v + phase[:, 3]))
    grid = torch.stack([warped_u, warped_v], dim=-1) / EXTENT
    sampled = F.grid_sample(
        atlas.distances[item][:, None], grid, mode="bilinear", padding_mode="border", align_corners=False
    )[:, 0]
    # Beyond the map its border value would repeat; no outline reaches there.
    inside_map = grid.abs().amax(-1) <= 1
    pixels = torch.where(inside_map, sampled * scale, -4.0)  # [M, 32, 32]

    depth = torch.full((n, 4, SIDE, SIDE), -32.0, device=device)
    depth[scene, copy] = pixels
    return depth.amax(1), centre


def _pattern(scenes: Scenes, radius: Tensor, centre: Tensor, axis: Tensor, generator: torch.Generator) -> Tensor:
    """[B, 32, 32] in 0..1: where a textured object shows its second shade."""
    n, device = len(scenes), generator.device
    uniform = functools.partial(torch.rand, generator=generator, device=device)
    turn = uniform(n) * math.pi
    # Checks and dots stay near upright, so that neither looks like the other.
    tilted = (scenes.texture == CHECKERED) | (scenes.texture == DOTTED)
    turn = torch.where(tilted, (turn - math.pi / 2) * 0.2, turn)[:, None, None]
    x = axis[None, None] - centre[:, 0, None, None]
    y = axis[None, :, None] - centre[:, 1, None, None]
    along = turn.cos() * x + turn.sin() * y
    across = turn.cos() * y - turn.sin() * x
    period = (0.62 * radius).clamp(3.8, 6.4) * (0.92 + 0.16 * uniform(n))
    frequency = (2 * math.pi / period)[:, None, None]
    shift = uniform(n, 2, 1, 1) * 2 * math.pi
    a, b = frequency * along + shift[:, 0], frequency * across + shift[:, 1]
    edge = 3.5  # steepness of a pattern's border; about one pixel wide
    stripes = torch.sigmoid(edge * 1.4 * torch.sin(a))
    dots = torch.sigmoid(edge * 1.3 * (a.cos() + b.cos() - 0.55))
    checks = torch.sigmoid(edge * 2.2 * (0.62 * a).sin() * (0.62 * b).sin())
    ramp = (0.5 + 0.62 * along / (radius * torch.where(scenes.count > 0, 1.7, 1.0))[:, None, None]).clamp(0, 1)
    texture = scenes.texture[:, None, None]
    share = torch.where(texture == STRIPED, stripes, 0.0)
    share = torch.where(texture == DOTTED, dots, share)
    share = torch.where(texture == CHECKERED, checks, share)
    return torch.where(texture == SHADED, ramp, share)


def _unevenness(n: int, axis: Tensor, generator: torch.Generator) -> Tensor:
    """[B, 1, 32, 32] light on the background: flat, a gradient or mottled, a third each."""
    device = generator.device
    uniform = functools.partial(torch.rand, generator=generator, device=device)
    turn = uniform(n, 1, 1) * 2 * math.pi
    gradient = (turn.cos() * axis[None, None] + turn.sin() * axis[None, :, None]) / SIDE * 0.3
    blotches = torch.randn(n, 1, 6, 6, generator=generator, device=device)
    mottled = F.interpolate(blotches, size=SIDE, mode="bilinear", align_corners=False)[:, 0] * 0.07
    lot = uniform(n, 1, 1)
    return torch.where(lot < 1 / 3, 0.0, torch.where(lot < 2 / 3, gradient, mottled))[:, None]


def _blur(image: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur of every image [B, 3, 32, 32] with its own width [B] in pixels."""
    n = len(image)
    steps = torch.arange(-3, 4, device=image.device)
    kernel = torch.exp(-(steps**2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)[:, None]  # [3B, 1, 7]
    padded = F.pad(image, (3, 3, 3, 3), mode="replicate").reshape(1, 3 * n, SIDE + 6, SIDE + 6)
    rows = F.conv2d(padded, kernel[:, :, None], groups=3 * n)
    return F.conv2d(rows, kernel[..., None], groups=3 * n).reshape(n, 3, SIDE, SIDE)
