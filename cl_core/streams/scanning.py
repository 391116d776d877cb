"""Helpers for reading folders of images: names of splits, folders and images below a path, notes.

`class_folders` defines the layouts; `listings` and `shards` read those that need more than folders.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cl_core.config import ConfigError, StreamConfig
from cl_core.streams.images import OLD_SUFFIXES, SUFFIXES, UNREAD, USUAL, ImageFile, is_picture, shown

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "testing", "val", "validation", "valid", "dev", "eval", "evaluation")  # in order of preference
OLD_TEST_NAMES = ("test", "val", "validation", "valid")
JUNK = (
    "@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin",
    "system volume information", "lost+found",
)  # fmt: skip
PACKED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")  # .tar alone may be a shard
PACKED = (".zip", ".rar", ".7z", *PACKED_TARS)
PREFIXED = re.compile(r"(.+[ ._-])([A-Za-z]+)")  # seg_train: common prefix, and the half
SHOWN = 5  # most names in a sentence

Files = tuple[ImageFile, ...]
Parts = dict[str, dict[str, Files]]  # name of a split ("" where there is none) → class → files


@dataclass
class Look:
    """State of a folder's scan: the settings, and what is found."""

    root: Path
    config: StreamConfig = USUAL
    skipped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)  # class → name, if a table defines it
    unnamed: list[Path] = field(default_factory=list)  # images by content whose names have no suffix

    @property
    def here(self) -> str:
        return shown(str(self.root))


def natural(name: str) -> tuple[Any, ...]:
    """Return a natural sort key, which puts `2` before `10`."""
    parts = re.split(r"([0-9]+)", name)
    return tuple(int(part) if row % 2 else part for row, part in enumerate(parts)), name


def half_of(name: str) -> str:
    """Return "train", "test", or "" for other names."""
    name = name.lower()
    return "train" if name in TRAIN_NAMES else "test" if name in TEST_NAMES else ""


def halves_in(names: Sequence[str]) -> dict[str, str]:
    """Return folder name → name of its half, for folders named like a half; if there are none, for those named so after
    a common prefix (seg_train, seg_test), provided that both halves exist."""
    if plain := {name: name.lower() for name in names if half_of(name)}:
        return plain
    begun = [found for name in names if (found := PREFIXED.fullmatch(name)) and half_of(found[2])]
    called = {found[0]: found[2].lower() for found in begun}
    one = len({found[1].lower() for found in begun}) == 1
    return called if one and {half_of(half) for half in called.values()} == {"train", "test"} else {}


def folders_in(parent: Path, look: Look) -> list[Path]:
    """Return visible folders of `parent` by name; broken and circular links are noted."""
    try:
        entries = sorted(parent.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise ConfigError(f"cannot read the folder {shown(str(parent))}: {error.strerror}") from error
    folders, above = [], {look.root.resolve(), *look.root.resolve().parents}
    for entry in entries:
        if entry.name.startswith((".", "__")) or is_junk(entry.name, look.config):
            continue
        if entry.is_symlink():
            try:
                place = entry.resolve(strict=True)
            except (OSError, RuntimeError):  # a circular link raises OSError or RuntimeError, depending on the version
                note(look.skipped, entry, look.root, "a link that leads nowhere or in a circle")
                continue
            if place in above:
                note(look.skipped, entry, look.root, "a link back to where it comes from")
                continue
        if entry.is_dir():
            folders.append(entry)
    return folders


def is_junk(name: str, config: StreamConfig = USUAL) -> bool:
    """Return whether a folder belongs to a file server or operating system; its thumbnails are not images."""
    return config.reading_rules > 1 and name.lower() in JUNK


def images_below(folder: Path, look: Look) -> Iterator[Path]:
    """Yield files with image suffixes at any depth, by name; unsupported formats are noted."""

    def refuse(error: OSError) -> None:
        raise ConfigError(f"cannot read the folder {shown(str(error.filename))}: {error.strerror}") from error

    first_rules = look.config.reading_rules == 1
    for place, inner, files in os.walk(folder, followlinks=False, onerror=refuse):
        inner[:] = sorted(n for n in inner if first_rules or not (n.startswith("__MACOSX") or is_junk(n)))
        for name in inner:
            if os.path.islink(os.path.join(place, name)):
                note(look.skipped, Path(place, name), look.root, "a linked folder inside a class, not followed")
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in sorted(files):
            if name.startswith("."):
                continue
            file = Path(place, name)
            if not name.lower().endswith(OLD_SUFFIXES if first_rules else SUFFIXES):
                if first_rules:
                    continue
                if name.lower().endswith(PACKED):
                    note(look.skipped, file, look.root, "an archive, which is not opened; unpack it")
                elif kind := UNREAD.get(file.suffix.lower()):
                    note(look.skipped, file, look.root, f"{kind}, which is not read; convert it to JPEG or PNG")
                elif not file.suffix and is_picture(file):
                    look.unnamed.append(file)
            elif os.path.isfile(file):
                yield file
            else:
                note(look.skipped, file, look.root, "a link that leads nowhere or in a circle")


def archives(folder: Path) -> str:
    """Describe the archives in a folder: "the archive pets.zip"; "" if there are none."""
    names = sorted(file.name for file in folder.iterdir() if file.name.lower().endswith(PACKED) and file.is_file())
    return f"the {some(names, 'archive', 'archives')}" if names else ""


def note(skipped: list[str], file: ImageFile, root: Path, reason: str) -> None:
    """Record a file and the reason why it is left out."""
    name = str(file)
    with contextlib.suppress(ValueError):
        name = str(Path(name).relative_to(root))
    skipped.append(f"{shown(name)}: {reason}")


def some(names: Sequence[str], one: str, many: str) -> str:
    """Return `class a` or `classes a, b, c and 7 more`."""
    texts = [shown(name) for name in names[:SHOWN]]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{one if len(names) == 1 else many} {', '.join(texts)}{more}"
