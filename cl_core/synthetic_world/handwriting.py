"""Handwritten digits: pen strokes along jittered skeletons, as distances to the nearest point of the pen's path.

The skeletons were drawn by eye after the look of real 8 × 8 digits (a one with a long upstroke, a crossed seven,
a nine whose tail curls back); pen width and height were set so that the mean ink per row of the 8 × 8 frame agrees
with scikit-learn's digits. Neither labels nor pixels of real digits enter the drawing. Several skeletons a digit,
because people write differently.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

PATH_POINTS = 56  # along the whole digit: one every 1.3 pixels or closer at full size

# Ways of writing each digit: strokes parted by "/", each a chain of points "x y" in percent, rightwards and downwards.
SKELETONS = {
    "0": (
        "50 0, 20 20, 12 50, 20 85, 50 100, 80 85, 88 50, 78 15, 50 0",
        "65 2, 30 15, 15 50, 25 90, 55 100, 82 75, 85 35, 65 2",
    ),
    "1": (
        "10 50, 35 30, 62 2, 60 35, 58 70, 56 100",
        "20 38, 40 22, 58 0, 58 50, 58 100 / 30 100, 58 99, 85 100",
        "5 58, 35 42, 70 0, 62 50, 50 100",
        "50 0, 50 35, 49 70, 48 100",
        "15 45, 45 40, 62 5, 58 50, 54 100",
    ),
    "2": (
        "20 22, 40 2, 70 10, 72 35, 50 65, 20 98, 50 97, 88 95",
        "18 25, 45 0, 75 20, 60 50, 30 80, 15 95, 30 80, 55 92, 90 98",
    ),
    "3": (
        "20 10, 50 0, 78 15, 70 38, 42 48, 75 60, 80 82, 50 100, 15 92",
        "15 5, 50 3, 85 5, 65 28, 50 45, 75 60, 75 85, 48 100, 20 95",
    ),
    "4": (
        "45 0, 30 30, 8 62, 50 64, 92 60 / 65 35, 60 65, 55 100",
        "30 5, 15 35, 20 55, 50 56, 75 50 / 80 5, 70 50, 60 100",
        "62 0, 35 30, 10 65, 50 68, 90 65 / 62 0, 62 50, 62 100",
    ),
    "5": (
        "80 2, 55 2, 28 5, 25 25, 24 45, 50 38, 76 55, 76 82, 50 100, 20 93",
        "28 5, 25 25, 25 45, 55 40, 75 60, 70 88, 45 100, 15 95 / 28 5, 55 3, 85 2",
    ),
    "6": (
        "60 0, 38 20, 22 50, 20 80, 45 100, 75 90, 78 68, 55 55, 25 70",
        "40 0, 25 30, 20 65, 30 95, 60 98, 82 80, 65 60, 40 65, 25 80",
    ),
    "7": (
        "15 5, 50 4, 85 5, 68 40, 50 70, 42 100 / 20 52, 50 50, 88 48",
        "20 12, 40 4, 80 3, 70 35, 55 65, 45 100",
        "20 25, 25 6, 50 8, 80 4, 62 50, 45 100 / 25 55, 55 52, 85 50",
    ),
    "8": (
        "72 15, 45 0, 25 20, 45 42, 72 65, 70 92, 45 100, 25 85, 35 60, 62 40, 72 15",
        "50 0, 25 22, 50 45, 75 22, 50 0 / 50 45, 20 75, 50 100, 80 75, 50 45",
    ),
    "9": (
        "75 20, 50 0, 22 18, 30 42, 60 42, 75 20, 75 55, 65 88, 40 100, 15 92",
        "78 10, 45 2, 22 22, 45 42, 75 32, 76 65, 60 93, 30 100",
        "25 5, 20 30, 45 45, 72 40 / 70 2, 75 40, 72 75, 50 100, 20 97",
        "70 25, 55 2, 28 12, 28 38, 55 42, 70 25, 68 60, 62 100",
        "70 5, 40 5, 25 28, 50 45, 78 50, 75 80, 50 100, 20 98",
    ),
}


@functools.cache
def load_skeletons(device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """All ways of writing as evenly spaced points of smooth curves.

    Returns:
        paths [ways, PATH_POINTS, 2] in −1..1; first [10] and variants [10]: where a digit's ways lie.
    """
    ways: list[Tensor] = []
    first: list[int] = []
    variants: list[int] = []
    for digit in "0123456789":
        first.append(len(ways))
        variants.append(len(SKELETONS[digit]))
        ways.extend(_resample([_smooth(stroke) for stroke in _strokes(way)]) for way in SKELETONS[digit])
    paths = torch.stack(ways) * 2 - 1
    return paths.to(device), torch.tensor(first, device=device), torch.tensor(variants, device=device)


def _strokes(way: str) -> list[Tensor]:
    """The control points [n, 2] in 0..1 of each stroke."""
    return [
        torch.tensor([[float(value) / 100 for value in point.split()] for point in stroke.split(",")])
        for stroke in way.split("/")
    ]


def _smooth(points: Tensor) -> Tensor:
    """Catmull-Rom curve through the control points [n, 2] → [20·(n−1)+1, 2]."""
    padded = torch.cat([2 * points[:1] - points[1:2], points, 2 * points[-1:] - points[-2:-1]])
    before, start, end, after = padded[:-3, None], padded[1:-2, None], padded[2:-1, None], padded[3:, None]
    t = torch.linspace(0, 1, 21)[None, :-1, None]
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return torch.cat([curve.flatten(0, 1), points[-1:]])


def _resample(strokes: list[Tensor]) -> Tensor:
    """PATH_POINTS points over all strokes, shared out by length (pen lifts take none)."""
    lengths = [stroke.diff(dim=0).norm(dim=1).cumsum(0) for stroke in strokes]
    total = sum(float(length[-1]) for length in lengths)
    shares = [max(2, round(PATH_POINTS * float(length[-1]) / total)) for length in lengths]
    shares[-1] += PATH_POINTS - sum(shares)
    pieces = []
    for stroke, length, share in zip(strokes, lengths, shares, strict=True):
        at = torch.searchsorted(length, torch.linspace(0, float(length[-1]), share)).clamp(max=len(stroke) - 1)
        pieces.append(stroke[at])
    return torch.cat(pieces)


def pen_distance(digits: Tensor, generator: torch.Generator, side: int = 32) -> Tensor:
    """Distance of every pixel to a freshly written digit, filling the frame from top to bottom.

    Args:
        digits: [N] integers 0..9.
        generator: chooses the way of writing, the tremble, the slant and the width.

    Returns:
        [N, side, side] distance to the pen's path, in pixels of a 32-pixel frame.
    """
    n, device = len(digits), digits.device
    paths, first, variants = load_skeletons(str(device))
    uniform = functools.partial(torch.rand, generator=generator, device=device)
    way = first[digits] + (uniform(n) * variants[digits]).long()
    path = paths[way]  # [N, P, 2]

    tremble = torch.randn(n, 2, 7, generator=generator, device=device) * 0.055
    path = path + F.interpolate(tremble, size=PATH_POINTS, mode="linear", align_corners=True).mT
    x, y = path.unbind(-1)
    x = x * (0.62 + 0.3 * uniform(n, 1)) + (0.5 * uniform(n, 1) - 0.33) * y  # slant: people lean to the right
    half = 12.4 + 1.6 * uniform(n, 1)
    high, low = y.amax(1, keepdim=True), y.amin(1, keepdim=True)
    y = (2 * y - high - low) / (high - low) * half  # scanned digits are cut to their height
    x = (x - (x.amax(1, keepdim=True) + x.amin(1, keepdim=True)) / 2) * half + 3.0 * (uniform(n, 1) - 0.5)

    axis = torch.arange(side, device=device) - (side - 1) / 2
    squared = (axis[None, :, None] - x[:, None]) ** 2, (axis[None, :, None] - y[:, None]) ** 2  # [N, side, P] each
    return (squared[1][:, :, None] + squared[0][:, None]).amin(-1).sqrt()
