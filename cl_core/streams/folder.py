"""A stream of the user's images: one folder per class, read into memory once.

One path is a class-incremental stream. Several paths are a multi-domain stream with one task per path, in which the
domain of a test image is known. `class_folders` defines the accepted layouts; this module assigns classes to tasks.

Images stay uint8, at the backbone's size, or smaller if all are smaller. Training uses them as evaluation does unless
`training` enables augmentation, which starts from the stored image.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cl_core.config import ConfigError, Preprocessing, StreamConfig, nearest
from cl_core.streams.class_folders import Collection, pictures_of, planned_of, scan
from cl_core.streams.images import USUAL, ImageFile, Noted, memory_bound, picture, said, shown, stacked
from cl_core.streams.scanning import note
from cl_core.streams.stream import (
    MULTI_DOMAIN,
    Pairs,
    Split,
    Task,
    TaskStream,
    Words,
    class_order,
    refuse_uneven,
    task_sizes,
    told_sizes,
    validation_rows,
)

TEMPLATES = ("a photo of a {}.",)

Pictures = list[np.ndarray]  # each [s, s, 3] uint8, of any size up to the backbone's
Reader = Callable[[str], tuple[Pictures, Pictures]]  # class key → (training, test) pictures


def folder(paths: str, config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    """Return the stream of `paths`, separated by commas. Raises ConfigError for contradictory settings."""
    roots = [Path(paths)] if os.path.isdir(paths) else [Path(path) for path in paths.split(",") if path]
    if config.order != "I":
        raise ConfigError("stream.order is for the embedded domains; folders are learned in the order of their paths")
    if len(roots) == 1:
        return _one(roots[0], config, preparation, seed)
    return _domains(roots, config, preparation)


def _one(root: Path, config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    only = [key for part in config.classes for key in (part if isinstance(part, tuple) else (part,))]
    found = scan(root, only, config)
    where, skipped, noted = shown(str(root)), list(found.skipped), Noted()
    keys = [item.key for item in found.classes]
    groups = dealt(keys, config, seed, where)
    names = class_names(found, config)
    reader, planned = _reader(found, config, preparation.size, skipped, noted)
    tasks = assemble(groups, names, reader, planned, config, preparation, found.templates, where)
    notes = (*found.notes, *told_sizes(groups, config), *noted.lines(config))
    references = references_of(config, preparation.size)
    return TaskStream(
        "folder",
        "class-incremental",
        tasks,
        references=references,
        skipped=tuple(skipped),
        notes=notes,
        found=tuple(files_of(found, group) for group in groups),
    )


def files_of(found: Collection, keys: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Return the number of files of each class for training and for testing (0 = not split)."""
    by_key = {item.key: item for item in found.classes}
    return tuple((len(by_key[key].train), len(by_key[key].test or ())) for key in keys)


def _domains(roots: Sequence[Path], config: StreamConfig, preparation: Preprocessing) -> TaskStream:
    """Return a stream with one task per path; classes in order of folder names, independent of the run's seed."""
    if config.classes:
        raise ConfigError(
            "stream.classes cannot be used with several paths, where every path is a task; leave classes out by moving "
            "their folders elsewhere"
        )
    refuse_uneven("several paths", config)
    found = [scan(root, config=config) for root in roots]
    titles = [collection.title for collection in found]
    if len(set(titles)) < len(titles):
        twice = next(title for title in titles if titles.count(title) > 1)
        raise ConfigError(f"two domains are called {twice} after their folders; rename one of them")
    skipped: list[str] = []
    notes: list[str] = []
    tasks: list[Task] = []
    first = 0
    bound = memory_bound()
    for collection in found:
        left_out, noted = list(collection.skipped), Noted()
        reader, planned = _reader(collection, config, preparation.size, left_out, noted)
        (task,) = assemble(
            [[item.key for item in collection.classes]],
            class_names(collection, config),
            reader,
            planned,
            config,
            preparation,
            collection.templates,
            shown(str(collection.path)),
            first=first,
            index=len(tasks),
            domain=collection.title,
            bound=bound,
        )
        bound -= task.train.pictures.nbytes + task.test.pictures.nbytes
        tasks.append(task)
        first = task.classes.stop
        skipped += [f"{collection.title}/{line}" for line in left_out]
        notes += [f"{collection.title}: {line}" for line in (*collection.notes, *noted.lines(config))]
    references = references_of(config, preparation.size)
    return TaskStream(
        "folder",
        MULTI_DOMAIN,
        tuple(tasks),
        references=references,
        skipped=tuple(skipped),
        notes=tuple(notes),
        found=tuple(files_of(collection, [item.key for item in collection.classes]) for collection in found),
    )


def _reader(found: Collection, config: StreamConfig, size: int, skipped: list[str], noted: Noted) -> tuple[Reader, int]:
    """Return a function that reads a class, and the number of images that all classes keep in memory."""
    by_key = {item.key: item for item in found.classes}

    def reader(key: str) -> tuple[Pictures, Pictures]:
        return pictures_of(by_key[key], config, size, skipped, found.path, noted)

    return reader, sum(planned_of(item, config) for item in found.classes)


# ---------------------------------------------------------------- shared by streams from disk


def dealt(keys: Sequence[str], config: StreamConfig, seed: int, where: str) -> list[list[str]]:
    """Return class keys by task: as listed in the settings, or all, by name or shuffled by `seed`. Raises
    ConfigError."""
    listed = list(config.classes)
    flat = [key for part in listed for key in (part if isinstance(part, tuple) else (part,))]
    unknown = [key for key in flat if key not in keys]
    if unknown:
        raise ConfigError(nearest(unknown[0], keys, f"class of {where}"))
    if len(set(flat)) < len(flat):
        twice = next(key for key in flat if flat.count(key) > 1)
        raise ConfigError(f"stream.classes names {twice!r} twice; a class arrives once")
    if listed and isinstance(listed[0], tuple):
        if not all(listed):
            raise ConfigError(f"task {listed.index(()) + 1} of stream.classes has no class; remove the empty list")
        return [list(part) for part in listed]
    if listed:
        order = flat
    elif config.class_order == "name":
        order = list(keys)
    else:
        order = [keys[row] for row in class_order(len(keys), seed)]
    ends = list(itertools.accumulate(task_sizes(len(order), config, where)))
    return [order[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def class_names(found: Collection, config: StreamConfig) -> dict[str, str]:
    """Return key → display name: from the settings, from `classes.json`, or the folder's name with spaces. Raises
    ConfigError if two classes have the same name."""
    told = dict(pair.split("=", 1) for pair in config.class_names)
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    keys = [item.key for item in found.classes]
    strange = [key for key in told if key not in keys]
    if strange and not any(key in keys for key in told):
        raise ConfigError(nearest(strange[0], keys, f"class (in stream.class_names) of {shown(str(found.path))}"))
    for key in keys:
        name = shown((told.get(key) or found.names.get(key) or key.replace("_", " ")).strip())
        if name in owners:
            other = owners[name]
            raise ConfigError(
                f"classes {shown(other)} and {shown(key)} of {shown(str(found.path))} are both called {name!r}; change "
                "one in stream.class_names"
            )
        names[key], owners[name] = name, key
    return names


def assemble(
    groups: Sequence[Sequence[str]],
    names: dict[str, str],
    reader: Reader,
    planned: int,
    config: StreamConfig,
    preparation: Preprocessing,
    templates: tuple[str, ...],
    where: str,
    *,
    first: int = 0,
    index: int = 0,
    domain: str = "",
    bound: int | None = None,
) -> tuple[Task, ...]:
    """Read every class and build the tasks; class ids start at `first`, task numbers at `index`. Raises ConfigError
    if memory does not suffice or a task would have no test images."""
    bound = memory_bound() if bound is None else bound
    held: dict[str, tuple[Pictures, Pictures]] = {}
    side = 1
    for group in groups:
        for key in group:
            train, test = reader(key)
            if config.evaluate_on == "validation":
                held_out = validation_rows(len(train)).tolist()
                if not any(held_out):
                    raise ConfigError(
                        f"class {shown(key)} of {where} has {len(train)} training pictures, and a validation part "
                        "(every fifth) needs 5; use stream.evaluate_on=test"
                    )
                test = [picture for picture, out in zip(train, held_out, strict=True) if out]
                train = [picture for picture, out in zip(train, held_out, strict=True) if not out]
            held[key] = (train, test)
            side = max(side, *(len(array) for array in (*train, *test)))
            _refuse_too_large(planned, side, bound, len(names), where)
    tasks: list[Task] = []
    for group in groups:
        classes = range(first, first + len(group))
        first = classes.stop
        parts = [held.pop(key) for key in group]
        learned, tested = (_split([part[half] for part in parts], classes, side) for half in (0, 1))
        called = tuple(names[key] for key in group)
        words = Words(called, config.templates or templates or TEMPLATES)
        tasks.append(Task(index + len(tasks), classes, called, learned, tested, preparation, domain, words))
    return tuple(tasks)


def _split(parts: Sequence[Pictures], classes: range, side: int) -> Split:
    whole = stacked([picture for part in parts for picture in part], side)
    labels = np.repeat(np.arange(classes.start, classes.stop), [len(part) for part in parts])
    return Split(torch.from_numpy(whole), torch.from_numpy(labels.astype(np.int64)))


def _refuse_too_large(count: int, side: int, bound: int, classes: int, where: str) -> None:
    each = 3 * side * side
    if count * each > bound:
        fitting = max(1, int(0.8 * bound / each / classes))  # with a fifth of it for testing
        raise ConfigError(
            f"the {count:,} pictures of {where} need {count * each / 1e9:.1f} GB of memory at {side}×{side}, more than "
            f"the {bound / 1e9:.1f} GB set aside for them (half of this machine's); stream.per_class={fitting} and "
            f"stream.per_class_test={max(1, fitting // 5)} would fit"
        )


def references_of(config: StreamConfig, size: int) -> Callable[[int, int], Pairs] | None:
    """Return a function that draws image-caption pairs from `stream.references` for each task; None = no such folder.

    `RandomState(42 + task)` chooses without replacement from the sorted file list, as GNSP's release does from an
    unsorted one; a caption is the first template with the class's name. Raises ConfigError.
    """
    if not config.references:
        return None
    found = scan(Path(config.references).expanduser(), config=replace(USUAL, reading_rules=config.reading_rules))
    names = class_names(found, StreamConfig())
    template = (found.templates or TEMPLATES)[0]
    files = [(file, label) for label, item in enumerate(found.classes) for file in item.train]
    captions = [template.format(names[item.key]) for item in found.classes]

    def references(task: int, count: int) -> Pairs:
        order = np.random.RandomState(42 + task).permutation(len(files))
        taken: list[tuple[np.ndarray, int]] = []
        skipped: list[str] = []
        for row in order:
            if len(taken) == count:
                break
            _take(files[row], size, found.path, taken, skipped)
        if len(taken) < count:
            reason = f" (left out: {skipped[0]})" if skipped else ""
            raise ConfigError(
                f"stream.references={shown(str(found.path))} holds {len(taken)} pictures that can be read{reason}, and "
                f"{count} are asked for; set reference_images lower"
            )
        if skipped:  # drawn during the run, so reported in the worker's output
            print(f"{len(skipped)} reference pictures left out, the first: {skipped[0]}", file=sys.stderr)
        labels = [label for _, label in taken]
        whole = stacked([array for array, _ in taken], max(len(array) for array, _ in taken))
        return Pairs(torch.from_numpy(whole), tuple(captions[label] for label in labels), torch.tensor(labels))

    return references


def _take(
    labelled: tuple[ImageFile, int], size: int, root: Path, taken: list[tuple[np.ndarray, int]], skipped: list[str]
) -> None:
    """Append an image and its label to `taken`, or the reason why it cannot be read to `skipped`."""
    file, label = labelled
    try:
        taken.append((picture(file, size), label))
    except Exception as error:  # Pillow raises kinds of its own for every way to be broken
        note(skipped, file, root, said(error, file))
