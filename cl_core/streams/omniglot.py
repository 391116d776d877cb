"""Omniglot in torchvision's layout: handwritten characters, one alphabet per task, 20 drawings per character.

B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum. Human-level concept learning through probabilistic program induction.
Science 350, 2015. https://github.com/brendenlake/omniglot

    PATH/omniglot-py/images_background/ALPHABET/character01/0001_01.png   (torchvision's layout)
    PATH/images_background/ALPHABET/…                                     (the archives as they are unpacked)

Reads images_background and, if they exist, images_evaluation and the smaller sets of the release. Nothing is
downloaded unless PLASTISCOPE_DOWNLOAD=1 (or `--download`) is set.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from cl_core.config import ConfigError, Preprocessing, StreamConfig
from cl_core.hf_cache import DOWNLOAD, downloads_allowed
from cl_core.streams.class_folders import ClassFolder, Collection, pictures_of, planned_of, scan
from cl_core.streams.folder import Pictures, assemble, class_names
from cl_core.streams.images import Noted, shown
from cl_core.streams.stream import TaskStream, class_order, refuse_uneven

PARTS = ("images_background", "images_evaluation")
SMALL = ("images_background_small1", "images_background_small2")
ARCHIVES = tuple(f"{part}.zip" for part in (*PARTS, *SMALL))
MEGABYTES = 10  # of images_background.zip


def omniglot(path: str, config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    """Return the first `stream.tasks` alphabets below `path` (else $PLASTISCOPE_DATA, else ./data), shuffled by `seed`
    or in order of their names (`stream.class_order`). Raises ConfigError if the data is missing."""
    refuse_uneven("omniglot", config)
    if config.classes:
        raise ConfigError("stream.classes cannot be used with omniglot, where every alphabet is a task")
    root = Path(path or os.environ.get("PLASTISCOPE_DATA") or "data").expanduser().absolute()
    alphabets = _alphabets(root)
    where = f"Omniglot in {shown(str(root))}"
    if config.tasks > len(alphabets):
        raise ConfigError(f"{where} has {len(alphabets)} alphabets, one a task; stream.tasks must be 1 to that")
    names = sorted(alphabets)
    if config.class_order == "seed":
        names = [names[row] for row in class_order(len(names), seed)]
    skipped: list[str] = []
    notes: list[str] = []
    noted = Noted()
    characters: dict[str, ClassFolder] = {}
    groups: list[list[str]] = []
    for name in names[: config.tasks]:
        found = scan(alphabets[name], config=config)
        skipped += [f"{name}/{line}" for line in found.skipped]
        notes += [f"{name}: {line}" for line in found.notes]
        group = {f"{name}/{item.key}": item for item in found.classes}
        characters |= {key: ClassFolder(key, item.train, item.test) for key, item in group.items()}
        groups.append(list(group))

    def reader(key: str) -> tuple[Pictures, Pictures]:
        return pictures_of(characters[key], config, preparation.size, skipped, root, noted)

    planned = sum(planned_of(item, config) for item in characters.values())
    usual = {key: key.replace("/", " ").replace("_", " ") for key in characters}
    whole = Collection(root, tuple(characters.values()), (), usual, ())
    dealt = assemble(groups, class_names(whole, config), reader, planned, config, preparation, (), where)
    tasks = tuple(replace(task, domain=name.replace("_", " ")) for task, name in zip(dealt, names, strict=False))
    notes += noted.lines(config)
    return TaskStream("omniglot", "class-incremental", tasks, skipped=tuple(skipped), notes=tuple(notes))


def _alphabets(root: Path) -> dict[str, Path]:
    """Return alphabet name → folder."""
    found = _looked_up(root)
    if not found and downloads_allowed():
        from torchvision.datasets import Omniglot

        try:
            Omniglot(root, background=True, download=True)
        except Exception as error:  # no network, no space, an unknown archive
            raise ConfigError(f"Omniglot could not be fetched to {shown(str(root))}: {error}") from error
        found = _looked_up(root)
    if found:
        return found
    places = (root, root / "omniglot-py")
    packed = next((place / name for place in places for name in ARCHIVES if (place / name).is_file()), None)
    if packed is not None:
        raise ConfigError(f"Omniglot is still packed: unpack {shown(str(packed))} where it lies")
    raise ConfigError(
        f"Omniglot is not in {shown(str(root))} (looked for omniglot-py/{PARTS[0]} and {PARTS[0]}): put it there, name "
        f"another place with omniglot:PATH, or fetch its {MEGABYTES} MB with {DOWNLOAD}=1; split-digits needs nothing"
    )


def _looked_up(root: Path) -> dict[str, Path]:
    """Return alphabets of the full sets if they exist, else of the small ones; each alphabet once."""
    found: dict[str, Path] = {}
    for parts in (PARTS, SMALL):
        folders = [place / part for part in parts for place in (root / "omniglot-py", root)]
        if root.name in parts:
            folders.append(root)
        for folder in filter(Path.is_dir, folders):
            for alphabet in folder.iterdir():
                if alphabet.is_dir() and not alphabet.name.startswith((".", "__")):
                    found.setdefault(alphabet.name, alphabet)
        if found:
            return found
    return found
