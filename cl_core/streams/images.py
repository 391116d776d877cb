"""Decoding of an image file to RGB bytes: formats, value ranges, cropping. Pillow, numpy.

No image silently becomes black or white. More than 8 bits are scaled by the range that the file declares, by
`stream.white`, or by all bits; if none of these applies, the file is rejected by name. Unexpected conversions
(transparency over a background, first frames, strips that lose most of their area) are counted in `Noted`.
"""

from __future__ import annotations

import hashlib
import io
import os
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image, ImageOps, features

from cl_core.config import StreamConfig

OLD_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jfif")
SUFFIXES = (*OLD_SUFFIXES, ".avif")
FORMATS = (
    "JPEG",
    "PNG",
    "BMP",
    "GIF",
    "WEBP",
    "TIFF",
    "PPM",
    "AVIF",
)  # formats of these suffixes; others are not opened
UNREAD = {
    ".heic": "HEIC", ".heif": "HEIF", ".jxl": "JPEG XL", ".jp2": "JPEG 2000", ".j2k": "JPEG 2000", ".svg": "SVG",
    ".psd": "Photoshop", ".eps": "PostScript", ".ps": "PostScript", ".pdf": "PDF", ".dng": "raw camera data",
    ".cr2": "raw camera data", ".cr3": "raw camera data", ".nef": "raw camera data", ".arw": "raw camera data",
    ".dcm": "DICOM", ".exr": "OpenEXR", ".npy": "NumPy arrays", ".tga": "TGA", ".nii": "NIfTI",
}  # fmt: skip
MOST_PIXELS = 64_000_000  # largest image
LONG = 2.0  # above this aspect ratio, cropping removes more than half of an image
TWELVE_BITS = 4095
DEPTHS = {2**bits - 1 for bits in range(9, 33)}
GROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}

WIDE_MODES = ("I", "F")  # and those that begin with I;16

KINDS = {
    "transparent": "have transparent parts, laid on {ground} (stream.ground)",
    "long": f"are more than {LONG:g} times as long as wide: only the middle square is read",
    "frames": "hold several frames or pages: the first one is read",
    "unit": "hold decimals from 0 to 1: 1 is read as white",
    "bytes": "hold values up to 255 in wider numbers: 255 is read as white",
    "clipped": "are brighter than stream.white={white:g} in places, which are read as white",
}


class Packed(Protocol):
    """An image within another file: its name in text form, and its bytes."""

    def read(self) -> bytes:
        """The encoded image. Raises OSError or ValueError."""


ImageFile = Path | Packed


def shown(name: str) -> str:
    """Return a file's name as displayable text: NFC, with a mark for unprintable characters."""
    text = unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


@dataclass
class Noted:
    """Counts of images per class whose conversion should be reported, and the files of each half."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)  # kind → class → images
    learned: list[Path] = field(default_factory=list)
    tested: list[Path] = field(default_factory=list)

    def of(self, key: str) -> Callable[[str], None]:
        """Return a function that counts a kind for the class `key`."""

        def count(kind: str) -> None:
            by_class = self.counts.setdefault(kind, {})
            by_class[key] = by_class.get(key, 0) + 1

        return count

    def lines(self, config: StreamConfig, most: int = 5) -> list[str]:
        """Return one sentence per kind."""
        found = []
        for kind, by_class in self.counts.items():
            total, names = sum(by_class.values()), [f"{shown(key)} ({n})" for key, n in list(by_class.items())[:most]]
            more = f" and {len(by_class) - most} more classes" if len(by_class) > most else ""
            what = KINDS[kind].format(ground=config.ground, white=config.white)
            if total == 1:
                what = what.replace("have ", "has ", 1).replace("are ", "is ", 1).replace("hold ", "holds ", 1)
            found.append(f"{total} image{'s' * (total > 1)} of {', '.join(names)}{more} {what}")
        if twice := repeated(self.learned, self.tested):
            (test, train), count = twice[0], len(twice)
            are = "pictures are" if count > 1 else "picture is"
            found.append(
                f"{count:,} test {are} byte for byte also in training ({_short(test)} is {_short(train)}"
                f"{', …' if count > 1 else ''}): accuracy on {'them' if count > 1 else 'it'} is not generalisation"
            )
        return found


def repeated(learned: Sequence[Path], tested: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Return pairs (test file, training file) with equal bytes. Few files are read in full: sizes are compared first,
    then the first bytes, then hashes of the remaining ones."""
    marks: dict[Path, Any] = {}
    try:
        for mark in (_size, _beginning, _hash):
            marks = {file: mark(file) for file in {*learned, *tested}}
            both = {marks[file] for file in learned} & {marks[file] for file in tested}
            learned, tested = ([file for file in files if marks[file] in both] for files in (learned, tested))
    except OSError:  # a file that was removed since it was read
        return []
    first = {marks[file]: file for file in reversed(learned)}
    return [(file, first[marks[file]]) for file in tested]


def _size(file: Path) -> int:
    return file.stat().st_size


def _beginning(file: Path) -> tuple[int, bytes]:
    with file.open("rb") as opened:
        return _size(file), hashlib.sha256(opened.read(4096)).digest()


def _hash(file: Path) -> bytes:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").digest()


def _short(file: Path) -> str:
    """Return a file's name with its two parent folders, half and class."""
    return shown("/".join(file.parts[-3:]))


def _nothing(_: str) -> None:
    """No-op callback, where notes are not collected."""


USUAL = StreamConfig()


def picture(
    file: ImageFile, size: int, config: StreamConfig = USUAL, noted: Callable[[str], None] = _nothing
) -> np.ndarray:
    """Decode an image to [s, s, 3] uint8: upright, RGB, shorter side resized to s = min(size, shorter side) (bicubic),
    centre-cropped. Smaller images keep their size and are enlarged later. Raises Pillow's errors, or ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about size and odd metadata, which do not matter here
        source = file if isinstance(file, Path) else io.BytesIO(file.read())
        with Image.open(source, formats=FORMATS) as opened:  # Pillow would pass PostScript to an external program
            width, height = opened.size
            if width * height > MOST_PIXELS:  # half a megabyte of PNG could then take seconds and gigabytes
                raise ValueError(f"{width}×{height} pixels; at most {MOST_PIXELS:,} are read")
            if opened.format != "MPO" and getattr(opened, "is_animated", False):  # phones append depth maps as MPO
                noted("frames")
            opened.load()
            tags = dict(getattr(opened, "tag_v2", {}))
            image = ImageOps.exif_transpose(opened)
    if max(image.size) > LONG * min(image.size):
        noted("long")
    image = _before(image) if config.reading_rules == 1 else _in_colour(image, tags, config, noted)
    return square(image, min(size, *image.size))


def is_picture(file: Path) -> bool:
    """Return whether a file's first bytes are those of a supported format, whatever its name."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS):
                return True
    except Exception:  # Pillow raises kinds of its own for every way to be broken
        return False


def _before(image: Image.Image) -> Image.Image:
    """Convert by the rules of earlier versions, for runs that were started with them."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("RGB")


def _in_colour(
    image: Image.Image, tags: dict[int, Any], config: StreamConfig, noted: Callable[[str], None]
) -> Image.Image:
    if image.mode in WIDE_MODES or image.mode.startswith("I;16"):
        return Image.fromarray(_bytes_of(np.asarray(image), tags, config, noted)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        if np.asarray(layered.getchannel("A")).min() < 255:
            noted("transparent")
            ground = Image.new("RGBA", layered.size, (*GROUNDS[config.ground], 255))
            return Image.alpha_composite(ground, layered).convert("RGB")
    return image.convert("RGB")


def _bytes_of(
    values: np.ndarray, tags: dict[int, Any], config: StreamConfig, noted: Callable[[str], None]
) -> np.ndarray:
    """Convert wider grey values to [h, w] uint8: 255 · value / white, clipped. Raises ValueError without a white."""
    decimals = values.dtype.kind == "f"
    if decimals and not np.isfinite(values).all():
        raise ValueError("it holds values that are no numbers (NaN or ∞)")
    low, top = (values.min().item(), values.max().item()) if values.size else (0, 0)
    if low < 0:
        raise ValueError(f"values from {low:g} to {top:g}: negative ones have no brightness; shift them before")
    white = config.white or _declared(tags, decimals)
    if not white and top:
        if decimals and top <= 1:
            noted("unit")
            white = 1.0
        elif top <= 255 and values.dtype.itemsize > 2:
            noted("bytes")
            white = 255.0
        elif values.dtype.itemsize == 2 and top > TWELVE_BITS:
            white = 65535.0
        else:
            bits = 8 * values.dtype.itemsize
            also = f", {TWELVE_BITS} (12 bits) or 65535 (16)" if bits == 16 else ""
            raise ValueError(
                f"values up to {top:g} in {bits} bits, and the file does not say which is white: set stream.white, "
                f"for example {top:g}{also}"
            )
    white = white or 1.0  # all black
    if top > white:
        noted("clipped")
    scaled = (values.astype(np.float64) * (255 / white)).clip(0, 255)
    if tags.get(262) == 0:  # TIFF's WhiteIsZero
        scaled = 255 - scaled
    return (scaled + 0.5).astype(np.uint8)


def _declared(tags: dict[int, Any], decimals: bool) -> float:
    """Return white as declared by a TIFF: (S)MaxSampleValue, if it is the maximum of a bit depth; 0 if not declared."""
    for tag in (341, 281):
        value = tags.get(tag)
        value = value[0] if isinstance(value, tuple) and value else value
        if isinstance(value, (int, float)) and ((decimals and value > 0) or value in DEPTHS):
            return float(value)
    return 0.0


def square(image: Image.Image, side: int) -> np.ndarray:
    """Resize the shorter side to `side` and centre-crop: [side, side, 3] uint8."""
    width, height = image.size
    if min(width, height) != side:
        scale = side / min(width, height)
        image = image.resize(
            (max(side, round(width * scale)), max(side, round(height * scale))), Image.Resampling.BICUBIC
        )
    left, top = ((edge - side) // 2 for edge in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def stacked(pictures: Sequence[np.ndarray], side: int) -> np.ndarray:
    """Stack images to [n, 3, side, side] uint8; smaller ones are enlarged."""
    whole = np.empty((len(pictures), 3, side, side), dtype=np.uint8)
    for row, array in enumerate(pictures):
        fitting = array if len(array) == side else square(Image.fromarray(array), side)
        whole[row] = fitting.transpose(2, 0, 1)
    return whole


def said(error: Exception, file: ImageFile | None = None) -> str:
    """Return in a few words why a file cannot be read as an image."""
    if isinstance(error, Image.UnidentifiedImageError):
        if str(file).lower().endswith(".avif") and not features.check("avif"):
            return "AVIF, which this Pillow cannot read: pip install 'pillow>=11.3', or convert it to JPEG or PNG"
        return "not a picture, whatever it is called"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than any photograph; refused as an attack"
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return f"cannot be read ({text})"


def memory_bound() -> int:
    """Return the bytes that images may occupy: half of the machine's memory, or of the container's limit."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        given = int(Path("/sys/fs/cgroup/memory.max").read_text())
    except (OSError, ValueError):  # not in a container, or without a limit ("max")
        given = whole
    return min(whole, given) // 2
