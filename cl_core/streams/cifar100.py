"""CIFAR-100 in torchvision's layout: 50,000 training and 10,000 test images of 32×32, 100 classes.

A. Krizhevsky. Learning Multiple Layers of Features from Tiny Images. Technical report, University of Toronto, 2009.

The archive's batches are pickles. Plastiscope does not read them itself: torchvision does, after checking their MD5
sums. Nothing is downloaded unless PLASTISCOPE_DOWNLOAD=1 (or `--download`) is set.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR100

from cl_core.config import ConfigError, Preprocessing, StreamConfig
from cl_core.hf_cache import DOWNLOAD, downloads_allowed
from cl_core.streams.class_folders import ClassFolder, Collection
from cl_core.streams.folder import Pictures, assemble, class_names, dealt
from cl_core.streams.stream import TaskStream, told_sizes

MEGABYTES = 169  # of the archive


def cifar100(path: str, config: StreamConfig, preparation: Preprocessing, seed: int) -> TaskStream:
    """Return CIFAR-100 from `path` (else $PLASTISCOPE_DATA, else ./data); classes by torchvision's names. Raises
    ConfigError if it is missing."""
    root = Path(path or os.environ.get("PLASTISCOPE_DATA") or "data").expanduser().absolute()
    try:
        train, test = (CIFAR100(root, train=part, download=downloads_allowed()) for part in (True, False))
    except Exception as error:
        raise ConfigError(
            f"CIFAR-100 is not in {root} (looked for cifar-100-python/train, test and meta, with their MD5 sums): "
            f"put it there, name another place with cifar100:PATH, or fetch its {MEGABYTES} MB with {DOWNLOAD}=1; "
            "split-digits needs nothing"
        ) from error
    where, keys = f"CIFAR-100 in {root}", list(train.classes)
    groups = dealt(keys, config, seed, where)
    rows = {
        name: [np.flatnonzero(np.asarray(part.targets) == label) for part in (train, test)]
        for label, name in enumerate(keys)
    }
    generator = np.random.Generator(np.random.PCG64(config.split_seed))
    tested = config.evaluate_on == "test"

    def limited(found: np.ndarray, limit: int) -> np.ndarray:
        return np.sort(generator.permutation(found)[:limit]) if limit else found

    chosen = {
        key: (limited(first, config.per_class), limited(second, config.per_class_test))
        for key, (first, second) in rows.items()
    }

    def reader(key: str) -> tuple[Pictures, Pictures]:
        learned, evaluated = chosen[key]
        return list(train.data[learned]), list(test.data[evaluated]) if tested else []

    used = [key for group in groups for key in group]
    planned = sum(len(chosen[key][0]) + (len(chosen[key][1]) if tested else 0) for key in used)
    named = Collection(root, tuple(ClassFolder(key, (), ()) for key in keys), (), {}, ())
    tasks = assemble(groups, class_names(named, config), reader, planned, config, preparation, (), where)
    return TaskStream("cifar100", "class-incremental", tasks, notes=told_sizes(groups, config))
