"""Labelled images on disk: classes, files, and unusable files. Needs only Pillow and NumPy.

    PATH/cat/1.jpg                      one folder per class; a fixed share is kept for testing
    PATH/train/cat/1.jpg, PATH/test/…   if both exist, they are the split (training, testing, val, validation; or with
                                        a common prefix: seg_train, seg_test)
    PATH/cat/train/1.jpg, cat/test/…    the same, within every class
    PATH/metadata.csv, .jsonl, .parquet a table of file names and labels (Hugging Face's imagefolder; `listings`)
    PATH/val/val_annotations.txt        Tiny-ImageNet's validation half, or ImageNet's flat one (`listings`)
    PATH/*.tar, PATH/*.parquet          webdataset's shards, Hugging Face's with images inside (`shards`)

Ambiguous folders raise a `ConfigError` whose sentence names a fix: empty classes, two folders for the same class, a
class in one half only, folders that may be domains or tasks. Broken files are left out and listed in `skipped`: files
that are not images whatever their suffix, broken or circular links. Interpretations that may surprise are reported in
`notes`. Links to folders are followed for a class folder itself, but not inside one.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cl_core.config import ConfigError, StreamConfig
from cl_core.streams.images import SUFFIXES, USUAL, ImageFile, Noted, picture, said, shown
from cl_core.streams.listings import annotated, is_listed, listed, names_beside
from cl_core.streams.scanning import (
    OLD_TEST_NAMES,
    TEST_NAMES,
    Files,
    Look,
    Parts,
    archives,
    folders_in,
    half_of,
    halves_in,
    images_below,
    natural,
    note,
    some,
)
from cl_core.streams.shards import sharded, shards_in
from cl_core.untrusted import read_json

NAMES_FILE = "classes.json"  # beside the class folders: {"n02119789": "kit fox"}
TEMPLATES_FILE = "templates.json"  # the same: ["a photo of a {}, a type of pet."]


@dataclass(frozen=True)
class ClassFolder:
    """A class: its key (the folder's name) and its image files by name; `test` is None if they are not split."""

    key: str
    train: Files
    test: Files | None


@dataclass(frozen=True)
class Collection:
    """All classes of a folder by name, its unusable files, and names from its `classes.json`."""

    path: Path
    classes: tuple[ClassFolder, ...]
    skipped: tuple[str, ...]
    names: dict[str, str]
    templates: tuple[str, ...]  # from its `templates.json`; empty if there is none
    notes: tuple[str, ...] = ()  # interpretations that may surprise

    @property
    def title(self) -> str:
        return shown(self.path.name or str(self.path))


def scan(root: Path, only: Sequence[str] = (), config: StreamConfig = USUAL) -> Collection:
    """Find the classes below `root` (all, or those named) without opening an image. Raises ConfigError."""
    if root.is_file():
        raise ConfigError(
            f"{shown(str(root))} is a file; a folder: stream needs a folder: unpack an archive first, and of a table "
            "or a shard name the folder"
        )
    if not root.is_dir():
        raise ConfigError(
            f"there is no folder {shown(str(root))}; a folder: stream needs one that holds a folder of pictures a class"
        )
    look = Look(root, config)
    found = _before(look, only) if config.reading_rules == 1 else _understood(look, only)
    packed = archives(root)
    if not found:
        raise ConfigError(
            f"{look.here} holds no class folders; expected one folder a class (PATH/cat/1.jpg), the same below "
            "PATH/train and PATH/test, a metadata.csv (file_name, label), or shards (.tar, .parquet)"
            + (f". It holds {packed}, which a folder: stream does not open: unpack first" if packed else "")
        )
    if packed:
        look.notes.append(f"not read: {packed}; unpack to use what is inside")
    order = sorted(found, key=natural if config.reading_rules > 1 else None)
    classes = [ClassFolder(key, *found[key]) for key in order]
    if only:
        by_key = {item.key: item for item in classes}
        for key in only:
            if key not in by_key:
                raise ConfigError(_unknown(key, by_key, root))
        classes = [by_key[key] for key in sorted(set(only))]
    classes = _refuse_unclear(look, classes)
    if look.unnamed:
        look.notes.append(f"not read: {_unnamed(look)}")
    names = {**look.names, **_names(root)}
    return Collection(root, tuple(classes), tuple(look.skipped), names, _templates(root), tuple(look.notes))


Found = dict[str, tuple[Files, Files | None]]  # class → its training and test files


def _before(look: Look, only: Sequence[str]) -> Found:
    """Apply the rules of earlier versions, for runs that were started with them."""
    inside = folders_in(look.root, look)
    halves = {entry.name.lower(): entry for entry in inside}
    test_name = next((name for name in OLD_TEST_NAMES if name in halves), None)
    if "train" in halves and test_name:
        train, test = (_classes(folders_in(halves[name], look), look) for name in ("train", test_name))
        return _paired(look, train, test, "train", test_name, only)
    if halves.keys() & {"train", *OLD_TEST_NAMES} and len(halves) == 1:
        half = next(iter(halves.values()))
        raise ConfigError(f"{look.here} holds {half.name} alone; name {shown(str(half))} to use it by itself")
    return {key: (files, None) for key, files in _classes(inside, look).items()}


def _understood(look: Look, only: Sequence[str]) -> Found:
    parts = listed(look.root, look) or sharded(look.root, look)
    if parts:
        found = _split(look, parts, only)
    else:
        inside = folders_in(look.root, look)
        found = _divided(look, inside, only) or _within(look, look.root, _classes(inside, look))
    look.names = {**names_beside(look, list(found)), **look.names}
    return found


def _split(look: Look, parts: Parts, only: Sequence[str]) -> Found:
    """Assign splits to training and test by name; a single split is treated as not split."""
    trains = [name for name in parts if half_of(name) == "train"]
    tests = sorted((n for n in parts if half_of(n) == "test"), key=lambda name: TEST_NAMES.index(name.lower()))
    if len(parts) == 1:
        return {key: (files, None) for key, files in next(iter(parts.values())).items()}
    if len(trains) != 1 or not tests:
        raise ConfigError(
            f"{look.here} has the splits {', '.join(shown(n) or 'without a name' for n in parts)}; one of them must be "
            "train and one test, val or validation"
        )
    unused = [name for name in parts if name not in (trains[0], tests[0])]
    look.notes += _serves(tests[0], unused)
    return _paired(look, parts[trains[0]], parts[tests[0]], trains[0], tests[0], only)


def _serves(test: str, unused: Sequence[str]) -> list[str]:
    """Return a note on which half is used for testing, if that is not obvious."""
    if test.lower() == "test" and not unused:
        return []
    return [f"{shown(test)} is the test half{_unused(unused)}"]


def _serves_by_ending(train: str, test: str, unused: Sequence[str]) -> str:
    """Return a note on halves that were recognised after a common prefix."""
    return f"{shown(train)} is the training half and {shown(test)} the test half, by their names{_unused(unused)}"


def _unused(names: Sequence[str]) -> str:
    return f"; {some(names, 'not used:', 'not used:')}" if names else ""


def _paired(
    look: Look, train: Mapping[str, Files], test: Mapping[str, Files], first: str, second: str, only: Sequence[str]
) -> Found:
    one_sided = sorted(key for key in train.keys() ^ test.keys() if not only or key in only)
    if one_sided:
        where = first if one_sided[0] in train else second
        raise ConfigError(
            f"{some(one_sided, 'class', 'classes')} of {look.here} lie in one half only ("
            f"{shown(one_sided[0])} in {shown(where)}): give both halves the same class folders"
        )
    return {key: (train[key], test[key]) for key in train if key in test}


def _divided(look: Look, inside: Sequence[Path], only: Sequence[str]) -> Found:
    """Return the classes if folders are halves of a split, else empty. A class may also be called train; then it holds
    images itself."""
    called = _halves(inside, look)
    halves = [entry for entry in called if not _is_flat(entry, look)]
    trains = [entry for entry in halves if half_of(called[entry]) == "train"]
    if not halves:
        named = list(called)
        if named and len(named) == len(inside):
            raise ConfigError(
                f"{some([entry.name for entry in named], 'folder', 'folders')} of {look.here} hold images without "
                "class folders; give each a folder a class, or a metadata.csv with the columns file_name and label"
            )
        return {}
    others = [entry.name for entry in inside if entry not in called]
    tests = sorted(
        (entry for entry in called if half_of(called[entry]) == "test"),
        key=lambda entry: TEST_NAMES.index(called[entry]),
    )
    if len(trains) > 1:
        raise ConfigError(f"{look.here} holds {trains[0].name} and {trains[1].name}; remove or rename one of them")
    if not trains or not tests:
        alone = halves[0]
        beside = f" beside {some(others, 'folder', 'folders')}" if others else " alone"
        raise ConfigError(f"{look.here} holds {alone.name}{beside}; name {shown(str(alone))} to use it by itself")
    train = _half(trains[0], look)
    reasons: list[str] = []
    for entry in tests:
        kept = len(look.skipped), len(look.notes)
        try:
            test = _half(entry, look)
        except ConfigError as error:
            reasons.append(str(error))
            continue
        if train.keys() & test.keys():
            unused = [e.name for e in tests if e != entry] + others
            if half_of(trains[0].name):
                look.notes += _serves(entry.name, unused)
            else:
                look.notes.append(_serves_by_ending(trains[0].name, entry.name, unused))
            return _paired(look, train, test, trains[0].name, entry.name, only)
        del look.skipped[kept[0] :], look.notes[kept[1] :]
        reasons.append(f"no folder of {shown(str(entry))} is called like a class of {trains[0].name}")
    raise ConfigError(reasons[0])


def _halves(inside: Sequence[Path], look: Look) -> dict[Path, str]:
    """Return folders named like halves, and which half. With a common prefix (seg_train) only if both hold several
    classes and nothing else, so that folders that earlier versions read as classes stay classes."""
    called = halves_in([entry.name for entry in inside])
    found = {entry: called[entry.name] for entry in inside if entry.name in called}
    if all(half_of(entry.name) for entry in found):
        return found
    quiet = Look(look.root, look.config)
    places = {entry: _nested(entry, quiet) for entry in found}
    keys = {entry: {folder.name for folder in folders_in(place, quiet)} for entry, place in places.items()}
    shared = [
        keys[first] & keys[second]
        for first in found
        for second in found
        if half_of(found[first]) == "train" and half_of(found[second]) == "test"
    ]
    plain = look.config.subfolders != "pool" and not any(map(_holds_images, places.values()))
    return found if plain and any(len(classes) > 1 for classes in shared) else {}


def _nested(place: Path, look: Look) -> Path:
    """Return a half's folder, or the only folder in it if it has the same name (seg_train/seg_train/CLASS)."""
    inside = folders_in(place, Look(look.root, look.config))
    alone = len(inside) == 1 and inside[0].name.lower() == place.name.lower() and not _holds_images(place)
    return inside[0] if alone and folders_in(inside[0], Look(look.root, look.config)) else place


def _holds_images(place: Path) -> bool:
    return any(file.name.lower().endswith(SUFFIXES) for file in place.iterdir())


def _is_flat(entry: Path, look: Look) -> bool:
    """Return whether a folder holds images itself and nothing that splits or labels them."""
    if is_listed(entry) or shards_in(entry):
        return False
    return not folders_in(entry, Look(look.root, look.config))


def _half(place: Path, look: Look) -> dict[str, Files]:
    """Return class → files of one half. Raises ConfigError."""
    parts = listed(place, look) or sharded(place, look)
    if parts:
        if len(parts) > 1:
            raise ConfigError(f"{shown(str(place))} is one half, and what lies in it names splits of its own")
        return next(iter(parts.values()))
    place = _nested(place, look)
    noted = annotated(place, look)
    if noted is not None:
        return noted
    return {key: files for key, (files, _) in _within(look, place, _classes(folders_in(place, look), look)).items()}


def _within(look: Look, place: Path, classes: Mapping[str, Files]) -> Found:
    """Interpret folders within the class folders of `place`: halves of a split, domains or tasks, or more images of the
    class. Raises ConfigError if that is ambiguous."""
    inner = {key: {_first_part(file, place / key) for file in files} for key, files in classes.items() if files}
    pooled: Found = {key: (files, None) for key, files in classes.items()}
    called = {key: {name for name in names if half_of(name)} for key, names in inner.items()}
    if inner and all(names and names == called[key] for key, names in inner.items()):
        return _split_within(look, place, classes, called)
    if look.config.subfolders == "pool":
        return pooled
    if unclear := [key for key, names in called.items() if names]:
        has = some(sorted(called[unclear[0]]), "folder", "folders")
        other = "also other images" if len(unclear) == len(inner) else "other classes do not"
        raise ConfigError(
            f"class {shown(unclear[0])} of {look.here} holds {has}, and {other}: is it a split? Give every class train "
            "and test and nothing else, or set stream.subfolders=pool to take all of a class together"
        )
    nested = [key for key, names in inner.items() if "" not in names]
    only_once = len({tuple(inner[key]) for key in nested}) == 1 and all(len(inner[key]) == 1 for key in nested)
    if not nested or (len(nested) == len(inner) > 1 and only_once):
        return pooled
    within = some(sorted(inner[nested[0]], key=natural), "folder", "folders")
    if len(inner) == 1:
        raise ConfigError(
            f"the images of {shown(str(place))} all lie below its one folder {shown(nested[0])}, in {within}: name "
            f"{shown(str(place / nested[0]))} if these are the classes, or set stream.subfolders=pool"
        )
    offered = ",".join(shown(str(place / key)) for key in nested[:2]) + (",…" if len(nested) > 2 else "")
    raise ConfigError(
        f"{some(nested, 'folder', 'folders')} of {shown(str(place))} may be domains or tasks, not classes: "
        f"{shown(nested[0])} holds {within}. Make each of them a task with folder:{offered}, or set "
        "stream.subfolders=pool if each is a class with all that lies below it"
    )


def _first_part(file: ImageFile, folder: Path) -> str:
    """Return the subfolder of a class folder that holds a file; "" if it lies directly in the class folder."""
    parts = Path(str(file)).relative_to(folder).parts
    return parts[0] if len(parts) > 1 else ""


def _split_within(look: Look, place: Path, classes: Mapping[str, Files], called: Mapping[str, set[str]]) -> Found:
    """Return the classes, if every class has its own train and test folders."""
    found: Found = {}
    unused: set[str] = set()
    for key, names in called.items():
        tests = sorted((n for n in names if half_of(n) == "test"), key=lambda name: TEST_NAMES.index(name.lower()))
        trains = [name for name in names if half_of(name) == "train"]
        if len(trains) != 1 or not tests:
            raise ConfigError(
                f"class {shown(key)} of {look.here} holds {some(sorted(names), 'folder', 'folders')} alone; classes "
                "that are split within need train and test each"
            )
        parts = {name: tuple(f for f in classes[key] if _first_part(f, place / key) == name) for name in names}
        found[key] = (parts[trains[0]], parts[tests[0]])
        unused |= set(tests[1:])
    note = "every class folder has train and test folders of its own, which are the split"
    look.notes.append(note + (f"; {some(sorted(unused), 'not used:', 'not used:')}" if unused else ""))
    return {key: found.get(key, ((), ())) for key in classes}


def _classes(folders: Sequence[Path], look: Look) -> dict[str, Files]:
    """Return class folder → its files, by name."""
    found: dict[str, Files] = {}
    places: dict[Path, str] = {}
    for folder in folders:
        place = folder.resolve()
        if place in places:
            raise ConfigError(
                f"class folders {shown(places[place])} and {shown(folder.name)} of {look.here} are the same "
                "folder: remove the link"
            )
        places[place] = folder.name
        found[folder.name] = tuple(images_below(folder, look))
    return found


def _unknown(key: str, known: Mapping[str, ClassFolder], root: Path) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"; did you mean {shown(close[0])}?" if close else ""
    return f"stream.classes names {key!r}, and {shown(str(root))} has no such class folder{hint}"


def _refuse_unclear(look: Look, classes: Sequence[ClassFolder]) -> list[ClassFolder]:
    """Return the classes, without empty ones if settings allow that. Raises ConfigError for two folders of the same
    class and for classes without images."""
    meanings: dict[str, str] = {}
    for item in classes:
        meant = unicodedata.normalize("NFKC", shown(item.key)).casefold().strip()
        if meant in meanings:
            raise ConfigError(
                f"class folders {shown(meanings[meant])!r} and {shown(item.key)!r} of {look.here} differ only in "
                "case or in how their letters are stored: merge or rename one"
            )
        meanings[meant] = item.key
    kept = [item for item in classes if item.train != () and item.test != ()]
    empty = [item.key for item in classes if item not in kept] if len(kept) < len(classes) else []
    if empty and look.config.allow_empty and kept:
        look.notes.append(f"left out, because there are no images in it: {some(empty, 'class', 'classes')}")
        return kept
    for half in ("train", "test"):
        empty = [item.key for item in classes if getattr(item, half) == ()]
        if empty:
            divided = f" in {half}" if classes[0].test is not None else ""
            reason = next((line for line in look.skipped if f"{shown(empty[0])}/" in line), _unnamed(look, empty[0]))
            raise ConfigError(
                f"{some(empty, 'class', 'classes')} of {look.here} hold no pictures{divided} "
                f"({reason or ', '.join(SUFFIXES[:4]) + ', …'}): add some, remove the folder, or leave such classes "
                "out with stream.allow_empty=true"
            )
    return list(classes)


def _unnamed(look: Look, key: str = "") -> str:
    """Describe images (of the class `key`) whose names have no suffix, and the fix; "" if there are none."""
    files = [file.relative_to(look.root) for file in look.unnamed]
    if not (files := [file for file in files if not key or key in file.parts]):
        return ""
    count, first = len(files), shown(str(files[0]))
    what = f"{count:,} files without an ending are pictures" if count > 1 else "a file without an ending is a picture"
    return f"{what} by content ({first}{', …' if count > 1 else ''}): give names an ending, such as .jpg"


def _names(root: Path) -> dict[str, str]:
    """Read `classes.json` beside the class folders. Raises ConfigError if it is not a table of strings."""
    table = _json(root / NAMES_FILE, {})
    if not isinstance(table, dict) or not all(isinstance(name, str) and name.strip() for name in table.values()):
        raise ConfigError(f'{shown(str(root / NAMES_FILE))} must be a table of names: {{"folder": "name", …}}')
    return table


def _templates(root: Path) -> tuple[str, ...]:
    """Read `templates.json` beside the class folders. Raises ConfigError if it is not a list of strings."""
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


# ---------------------------------------------------------------- images of a class

Read = list[tuple[ImageFile, np.ndarray]]


def pictures_of(
    item: ClassFolder, config: StreamConfig, size: int, skipped: list[str], root: Path, noted: Noted | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Read (training, test) images of a class, each [s, s, 3] uint8 with s ≤ size, in the order of file names.

    The files selected by a limit, and the test share of a class without a split (at least one file), are drawn at
    random from `split_seed` and the class alone. They do not depend on other classes, nor on file names, which often
    follow a source or a time. Raises ConfigError.
    """
    words = np.frombuffer(os.fsencode(item.key).ljust(1, b"\0"), dtype=np.uint8).astype(np.uint32).tolist()
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence([config.split_seed, *words])))
    noted = noted or Noted()
    count = noted.of(item.key)

    def read(files: Files, limit: int) -> Read:
        """Read the first `limit` (0 = all) readable files in random order; unreadable ones are noted."""
        taken: Read = []
        for file in [files[row] for row in generator.permutation(len(files))]:
            if limit and len(taken) == limit:
                break
            try:
                taken.append((file, picture(file, size, config, count)))
            except Exception as error:  # Pillow raises many exception classes for broken files
                note(skipped, file, root, said(error, file))
        return taken

    before = len(skipped)
    if item.test is not None:
        learned = read(item.train, config.per_class)
        evaluated = read(item.test, config.per_class_test)
    else:
        tested = tested_of(len(item.train), config)
        both = read(item.train, tested + config.per_class if config.per_class else 0)
        tested = min(tested, tested_of(len(both), config))  # of the readable ones
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
    noted.learned += [file for file, _ in learned if isinstance(file, Path)]
    noted.tested += [file for file, _ in evaluated if isinstance(file, Path)]
    return _by_name(learned), _by_name(evaluated)


def tested_of(count: int, config: StreamConfig) -> int:
    """Return how many of the `count` images of a class without a split are kept for testing, leaving at least one."""
    share = max(1, round(config.test_share * count))
    return max(0, min(count - 1, share, config.per_class_test or share))


def planned_of(item: ClassFolder, config: StreamConfig) -> int:
    """Return the largest number of images of a class that are kept in memory."""
    if item.test is None:
        tested = tested_of(len(item.train), config)
        learned = len(item.train) - tested
    else:
        learned, tested = len(item.train), min(len(item.test), config.per_class_test or len(item.test))
    return tested + min(learned, config.per_class or learned)


def _by_name(pairs: Read) -> list[np.ndarray]:
    return [array for _, array in sorted(pairs, key=lambda pair: str(pair[0]))]
