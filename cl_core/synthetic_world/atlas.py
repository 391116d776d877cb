"""The atlas: every shape and glyph as a small map of signed distances to its outline.

Distances make anti-aliasing, stroke weight and hollow drawing one threshold each, at any size. The glyphs come
from the free fonts that matplotlib carries; nothing is stored with the project, the maps take about two seconds
to build and stay in memory.

Shapes: 64 × 64 maps over the square [−EXTENT, EXTENT]², where the object's longer half-side is 1.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cl_core.synthetic_world.vocabulary import DIGITS, KINDS, LETTERS, SHAPES

EXTENT = 1.35  # leaves room around the outline for warps and blurring
RESOLUTION = 64
FINE = 128  # raster on which distances are measured before averaging down

FONTS = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSansMono",
    "DejaVuSansMono-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral",
    "STIXGeneralBol", "STIXGeneralItalic", "cmr10", "cmss10", "cmtt10",
)  # fmt: skip


@dataclass(frozen=True)
class Atlas:
    """Signed distances and where each kind's drawings lie.

    Attributes:
        distances: [items, 64, 64] signed distance to the outline, positive inside, in half-sides of the object.
        first: [kinds] index of a kind's first drawing.
        variants: [kinds] how many drawings a kind has: 1 for a shape, one per font for a glyph.
    """

    distances: Tensor
    first: Tensor
    variants: Tensor


@functools.cache
def load_atlas(device: str = "cpu") -> Atlas:
    """Build the atlas once per process and device (about two seconds for the first)."""
    if device != "cpu":
        source = load_atlas("cpu")
        return Atlas(source.distances.to(device), source.first.to(device), source.variants.to(device))
    maps = [_signed_distance(_polygon_mask(_outline(shape))) for shape in SHAPES]
    first, variants = list(range(len(SHAPES))), [1] * len(SHAPES)
    fonts = [ImageFont.truetype(str(_font_folder() / f"{name}.ttf"), size=150) for name in FONTS]
    for glyph in LETTERS + DIGITS:
        first.append(len(maps))
        variants.append(len(fonts))
        maps.extend(_signed_distance(_glyph_mask(font, glyph)) for font in fonts)
    assert len(first) == len(KINDS)
    return Atlas(torch.from_numpy(np.stack(maps)).float(), torch.tensor(first), torch.tensor(variants))


def _font_folder() -> Path:
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the micro world takes its letters from matplotlib's fonts, and matplotlib is not installed; "
            "reinstall Plastiscope, which brings it"
        ) from error
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


def _signed_distance(inside: np.ndarray) -> np.ndarray:
    """[FINE, FINE] booleans → [64, 64] signed distances, positive inside, in half-sides."""
    from scipy.ndimage import distance_transform_edt

    pixels = distance_transform_edt(inside) - distance_transform_edt(~inside)
    block = FINE // RESOLUTION
    averaged = pixels.reshape(RESOLUTION, block, RESOLUTION, block).mean(axis=(1, 3))
    return averaged * (2 * EXTENT / FINE)


def _polygon_mask(points: np.ndarray) -> np.ndarray:
    """Fill an outline [points, 2] after centring it and scaling its longer half-side to 1."""
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) / ((high - low).max() / 2)
    pixels = (points / EXTENT + 1) / 2 * FINE - 0.5
    canvas = Image.new("L", (FINE, FINE))
    ImageDraw.Draw(canvas).polygon([tuple(point) for point in pixels], fill=255)
    return np.asarray(canvas) > 127


def _glyph_mask(font: ImageFont.FreeTypeFont, glyph: str) -> np.ndarray:
    """Draw one character centred, its longer side scaled to the unit square."""
    left, top, right, bottom = map(int, font.getbbox(glyph))
    drawn = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(drawn).text((-left, -top), glyph, font=font, fill=255)
    drawn = drawn.crop(drawn.getbbox())
    scale = FINE / EXTENT / max(drawn.size)
    width, height = (max(1, round(side * scale)) for side in drawn.size)
    canvas = Image.new("L", (FINE, FINE))
    canvas.paste(drawn.resize((width, height)), ((FINE - width) // 2, (FINE - height) // 2))
    return np.asarray(canvas) > 127


def _outline(shape: str) -> np.ndarray:
    """[points, 2] outline of a named shape; x to the right, y downwards."""
    turn = np.linspace(0, 2 * math.pi, 180, endpoint=False)
    match shape:
        case "circle":
            return np.stack([np.cos(turn), np.sin(turn)], axis=1)
        case "square":
            return np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)], dtype=float)
        case "triangle":
            return np.array([(0, -1), (1.1, 0.85), (-1.1, 0.85)])
        case "diamond":
            return np.array([(0, -1), (0.72, 0), (0, 1), (-0.72, 0)])
        case "hexagon":
            return _radial(np.ones(6), start=0.0)
        case "star":
            return _radial(np.tile([1.0, 0.42], 5))
        case "heart":
            x = 16 * np.sin(turn) ** 3
            y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
            return np.stack([x, -y], axis=1)
        case "cross":
            a = 0.33
            quarter = [(-a, -1), (a, -1), (a, -a), (1, -a), (1, a), (a, a)]
            return np.array(quarter + [(-x, -y) for x, y in quarter])
        case "crescent":
            outer = np.linspace(0.25 * math.pi, 1.75 * math.pi, 90)
            inner = np.linspace(1.62 * math.pi, 0.38 * math.pi, 90)
            bow = np.stack([np.cos(outer), np.sin(outer)], axis=1)
            bite = np.stack([0.45 + 0.78 * np.cos(inner), 0.78 * np.sin(inner)], axis=1)
            return np.concatenate([bow, bite])
        case "arrow":
            return np.array([(-1, -0.3), (0.1, -0.3), (0.1, -0.8), (1, 0), (0.1, 0.8), (0.1, 0.3), (-1, 0.3)])
        case "drop":
            return np.stack([0.95 * np.sin(turn) * np.sin(turn / 2) ** 1.6, -np.cos(turn)], axis=1)
        case "flower":
            return _radial(0.72 + 0.28 * np.cos(5 * turn))
    raise ValueError(f"unknown shape {shape!r}; known: {', '.join(SHAPES)}")


def _radial(radii: np.ndarray, start: float = -math.pi / 2) -> np.ndarray:
    """Points at equal angles and the given distances from the centre."""
    angles = start + np.linspace(0, 2 * math.pi, len(radii), endpoint=False)
    return radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
