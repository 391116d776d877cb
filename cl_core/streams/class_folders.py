"""Class folders on disk: which classes there are, which pictures, and what cannot be used. Pillow and numpy alone.

    PATH/cat/1.jpg                     a folder a class; a fixed share is kept for testing
    PATH/train/cat/1.jpg, PATH/test/…  where both are there, they are the split (`val` or `validation` serves as test)

What is unclear is refused in one sentence (`ConfigError`): empty classes, two folders that mean one class, a class in
one half only. What is broken is left out and named in `skipped`: files that are no pictures whatever they are called,
links that lead nowhere or back. Links to folders are followed for a class itself, never inside one.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import unicodedata
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from cl_core.config import ConfigError, StreamConfig
from cl_core.untrusted import read_json

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jfif")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")  # what these suffixes stand for, and nothing else
MOST_PIXELS = 64_000_000  # of a picture
TEST_NAMES = ("test", "val", "validation", "valid")
NAMES_FILE = "classes.json"  # beside the class folders: {"n02119789": "kit fox"}
TEMPLATES_FILE = "templates.json"  # the same: ["a photo of a {}, a type of pet."]
SHOWN = 5  # names in a sentence


@dataclass(frozen=True)
class ClassFolder:
    """A class: its key (the folder's name), and its picture files by name; `test` is None where nobody divided them."""

    key: str
    train: tuple[Path, ...]
    test: tuple[Path, ...] | None


@dataclass(frozen=True)
class Collection:
    """All classes of a folder by name, what could not be used, and names from its `classes.json`."""

    path: Path
    classes: tuple[ClassFolder, ...]
    skipped: tuple[str, ...]
    names: dict[str, str]
    templates: tuple[str, ...]  # from its `templates.json`; empty: none there

    @property
    def title(self) -> str:
        return shown(self.path.name or str(self.path))


def shown(name: str) -> str:
    """A file's name as text that every screen and file can hold: NFC, with a mark for what is not printable."""
    text = unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def scan(root: Path, only: Sequence[str] = ()) -> Collection:
    """The classes below `root` (all, or those named), without opening a picture. Raises ConfigError."""
    if not root.is_dir():
        raise ConfigError(
            f"there is no folder {shown(str(root))}; a folder: stream needs one that holds a folder of pictures a class"
        )
    skipped: list[str] = []
    inside = _folders(root, root, skipped)
    halves = {entry.name.lower(): entry for entry in inside}
    test_name = next((name for name in TEST_NAMES if name in halves), None)
    if "train" in halves and test_name:
        train, test = (_classes(_folders(halves[name], root, skipped), root, skipped) for name in ("train", test_name))
        one_sided = sorted(key for key in train.keys() ^ test.keys() if not only or key in only)
        if one_sided:
            where = "train" if one_sided[0] in train else test_name
            raise ConfigError(
                f"{_some(one_sided, 'class', 'classes')} of {shown(str(root))} lie in one half only ("
                f"{shown(one_sided[0])} in {where}): give both halves the same class folders"
            )
        classes = [ClassFolder(key, train[key], test[key]) for key in train if key in test]
    elif halves.keys() & {"train", *TEST_NAMES} and len(halves) == 1:
        half = next(iter(halves.values()))
        raise ConfigError(f"{shown(str(root))} holds {half.name} alone; name {shown(str(half))} to use it by itself")
    else:
        classes = [ClassFolder(key, files, None) for key, files in _classes(inside, root, skipped).items()]
    if not classes:
        raise ConfigError(
            f"{shown(str(root))} holds no class folders; expected one folder a class (PATH/cat/1.jpg), or the same "
            "below PATH/train and PATH/test"
        )
    if only:
        by_key = {item.key: item for item in classes}
        for key in only:
            if key not in by_key:
                raise ConfigError(_unknown(key, by_key, root))
        classes = [by_key[key] for key in sorted(set(only))]
    _refuse_unclear(root, classes)
    return Collection(root, tuple(classes), tuple(skipped), _names(root), _templates(root))


def _classes(folders: Sequence[Path], root: Path, skipped: list[str]) -> dict[str, tuple[Path, ...]]:
    """Class folder → its files, by name."""
    found: dict[str, tuple[Path, ...]] = {}
    places: dict[Path, str] = {}
    for folder in folders:
        place = folder.resolve()
        if place in places:
            raise ConfigError(
                f"class folders {shown(places[place])} and {shown(folder.name)} of {shown(str(root))} are the same "
                "folder: remove the link"
            )
        places[place] = folder.name
        found[folder.name] = tuple(_pictures(folder, root, skipped))
    return found


def _folders(parent: Path, root: Path, skipped: list[str]) -> list[Path]:
    """Visible folders of `parent` by name; links that lead nowhere, in a circle or back up are noted."""
    try:
        entries = sorted(parent.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(f"cannot read the folder {shown(str(parent))}: {error.strerror}") from error
    folders, above = [], {root.resolve(), *root.resolve().parents}
    for entry in entries:
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_symlink():
            try:
                place = entry.resolve(strict=True)
            except (OSError, RuntimeError):  # a circle is an OSError or a RuntimeError, by version
                note(skipped, entry, root, "a link that leads nowhere or in a circle")
                continue
            if place in above:
                note(skipped, entry, root, "a link back to where it comes from")
                continue
        if entry.is_dir():
            folders.append(entry)
    return folders


def _pictures(folder: Path, root: Path, skipped: list[str]) -> Iterator[Path]:
    """Files that are called pictures, in any depth, by name."""

    def refuse(error: OSError) -> None:
        raise ConfigError(f"cannot read the folder {shown(str(error.filename))}: {error.strerror}") from error

    for place, inner, files in os.walk(folder, followlinks=False, onerror=refuse):
        for name in sorted(inner):
            if os.path.islink(os.path.join(place, name)):
                note(skipped, Path(place, name), root, "a linked folder inside a class, not followed")
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in sorted(files):
            if name.startswith(".") or not name.lower().endswith(SUFFIXES):
                continue
            file = Path(place, name)
            if os.path.isfile(file):
                yield file
            else:
                note(skipped, file, root, "a link that leads nowhere or in a circle")


def _unknown(key: str, known: Mapping[str, ClassFolder], root: Path) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {shown(close[0])}?" if close else ""
    return f"stream.classes names {key!r}, and {shown(str(root))} has no such class folder{hint}"


def _refuse_unclear(root: Path, classes: Sequence[ClassFolder]) -> None:
    """Two folders that mean one class, and classes without pictures. Raises ConfigError."""
    said: dict[str, str] = {}
    for item in classes:
        meant = unicodedata.normalize("NFKC", shown(item.key)).casefold().strip()
        if meant in said:
            raise ConfigError(
                f"class folders {shown(said[meant])!r} and {shown(item.key)!r} of {shown(str(root))} differ only in "
                "case or in how their letters are stored: merge or rename one"
            )
        said[meant] = item.key
    for half in ("train", "test"):
        empty = [item.key for item in classes if getattr(item, half) == ()]
        if empty:
            divided = f" in {half}" if classes[0].test is not None else ""
            raise ConfigError(
                f"{_some(empty, 'class', 'classes')} of {shown(str(root))} hold no pictures{divided} "
                f"({', '.join(SUFFIXES[:4])}, …): add some or remove the folder"
            )


def _names(root: Path) -> dict[str, str]:
    """`classes.json` beside the class folders. Raises ConfigError where it is not a table of texts."""
    table = _json(root / NAMES_FILE, {})
    if not isinstance(table, dict) or not all(isinstance(name, str) and name.strip() for name in table.values()):
        raise ConfigError(f'{shown(str(root / NAMES_FILE))} must be a table of names: {{"folder": "name", …}}')
    return table


def _templates(root: Path) -> tuple[str, ...]:
    """`templates.json` beside the class folders. Raises ConfigError where it is not a list of sentences."""
    listed = _json(root / TEMPLATES_FILE, [])
    try:
        return StreamConfig(templates=tuple(listed) if isinstance(listed, list) else listed).templates
    except ConfigError as error:
        raise ConfigError(f"{shown(str(root / TEMPLATES_FILE))}: {error}") from error


def _json(file: Path, otherwise: Any) -> Any:
    if not file.is_file():
        return otherwise
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {shown(str(file))}: {error}") from error


def note(skipped: list[str], file: Path, root: Path, reason: str) -> None:
    """Add a file and why it is left out."""
    with contextlib.suppress(ValueError):
        file = file.relative_to(root)
    skipped.append(f"{shown(str(file))}: {reason}")


def _some(names: Sequence[str], one: str, many: str) -> str:
    """`class a` or `classes a, b, c and 7 more`."""
    texts = [shown(name) for name in names[:SHOWN]]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{one if len(names) == 1 else many} {', '.join(texts)}{more}"


# ---------------------------------------------------------------- pictures


def pictures_of(
    item: ClassFolder, config: StreamConfig, size: int, skipped: list[str], root: Path
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """(training, test) pictures of a class, each [s, s, 3] uint8 with s ≤ size, in the order of the files' names.

    Which files a limit takes, and which a class that nobody divided gives to testing (a share of its files, at least
    one), is drawn by `split_seed` and the class alone: other classes do not matter, and file names often follow a
    source or a time. Raises ConfigError.
    """
    words = np.frombuffer(os.fsencode(item.key).ljust(1, b"\0"), dtype=np.uint8).astype(np.uint32).tolist()
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([config.split_seed, *words])))

    def drawn(files: Sequence[Path]) -> list[Path]:
        return [files[row] for row in generator.permutation(len(files))]

    before = len(skipped)
    if item.test is not None:
        learned = _read(drawn(item.train), config.per_class, size, skipped, root)
        evaluated = _read(drawn(item.test), config.per_class_test, size, skipped, root)
    else:
        tested = tested_of(len(item.train), config)
        both = _read(drawn(item.train), tested + config.per_class if config.per_class else 0, size, skipped, root)
        tested = min(tested, tested_of(len(both), config))  # of those that can be read
        evaluated, learned = both[:tested], both[tested:]
    for half, part in (("training", learned), ("test", evaluated)):
        if not part:
            reason = f" ({skipped[before]})" if len(skipped) > before else ""
            alone = item.test is None and len(learned) + len(evaluated) == 1
            found = "one picture, and training and testing need one each" if alone else f"no {half} picture to read"
            raise ConfigError(
                f"class {shown(item.key)} of {shown(str(root))} has {found}{reason}: add some, or leave the class out "
                "with stream.classes"
            )
    return _by_name(learned), _by_name(evaluated)


def tested_of(count: int, config: StreamConfig) -> int:
    """How many of an undivided class's `count` pictures are kept for testing; at least one goes to training."""
    share = max(1, round(config.test_share * count))
    return max(0, min(count - 1, share, config.per_class_test or share))


def planned_of(item: ClassFolder, config: StreamConfig) -> int:
    """At most so many pictures of a class are held."""
    if item.test is None:
        tested = tested_of(len(item.train), config)
        learned = len(item.train) - tested
    else:
        learned, tested = len(item.train), min(len(item.test), config.per_class_test or len(item.test))
    return tested + min(learned, config.per_class or learned)


def _read(files: Sequence[Path], limit: int, size: int, skipped: list[str], root: Path) -> list[tuple[str, np.ndarray]]:
    """The first `limit` (0: all) files that can be read, with their names; others are noted."""
    taken: list[tuple[str, np.ndarray]] = []
    for file in files:
        if limit and len(taken) == limit:
            break
        try:
            taken.append((str(file), picture(file, size)))
        except Exception as error:  # Pillow raises kinds of its own for every way to be broken
            note(skipped, file, root, said(error))
    return taken


def _by_name(pairs: list[tuple[str, np.ndarray]]) -> list[np.ndarray]:
    return [array for _, array in sorted(pairs, key=lambda pair: pair[0])]


def picture(file: Path, size: int) -> np.ndarray:
    """[s, s, 3] uint8: upright, in RGB, the shorter side resized to s = min(size, shorter side) (bicubic), the middle
    cut out. Smaller pictures keep their size; what reads them enlarges them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # very large, odd metadata: neither is our reader's concern
        with Image.open(file, formats=FORMATS) as opened:  # Pillow would hand PostScript to a program outside
            width, height = opened.size
            if width * height > MOST_PIXELS:  # half a megabyte of PNG takes seconds and gigabytes then
                raise ValueError(f"{width}×{height} pixels; at most {MOST_PIXELS:,} are read")
            opened.load()
            image = ImageOps.exif_transpose(opened)
    if image.mode.startswith("I;16"):  # Pillow would cut 16-bit grey at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert("RGB")
    side = min(size, *image.size)
    return square(image, side)


def square(image: Image.Image, side: int) -> np.ndarray:
    """Shorter side to `side`, then the middle: [side, side, 3] uint8."""
    width, height = image.size
    if min(width, height) != side:
        scale = side / min(width, height)
        image = image.resize(
            (max(side, round(width * scale)), max(side, round(height * scale))), Image.Resampling.BICUBIC
        )
    left, top = ((edge - side) // 2 for edge in image.size)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def stacked(pictures: Sequence[np.ndarray], side: int) -> np.ndarray:
    """[n, 3, side, side] uint8; smaller ones are enlarged."""
    whole = np.empty((len(pictures), 3, side, side), dtype=np.uint8)
    for row, array in enumerate(pictures):
        fitting = array if len(array) == side else square(Image.fromarray(array), side)
        whole[row] = fitting.transpose(2, 0, 1)
    return whole


def said(error: Exception) -> str:
    """Why a file is no picture, in a few words."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "not a picture, whatever it is called"
    if isinstance(error, Image.DecompressionBombError):
        return "more pixels than any photograph; refused as an attack"
    text = (str(error).splitlines() or [type(error).__name__])[0]
    return f"cannot be read ({text})"
