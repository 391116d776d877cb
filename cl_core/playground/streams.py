"""Task streams made from scikit-learn's real handwritten digits (1,297 training and 500 test images of 8×8).

Shapes: S seeds, T tasks, n images, 64 pixels in 0..1.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from cl_core.playground.settings import PlaygroundConfig
from cl_core.streams.digit_table import NAMES, digit_table, held_out_rows

PIXELS, CLASSES, SIDE = 64, 10, 8
TURN = 180.0  # degrees between the first and the last task of the least similar rotated digits


@dataclass(frozen=True)
class Task:
    """What one task shows: images [n, 64] float32 in 0..1, labels [n] int64 in 0..9, and the classes it is about."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[int, ...]

    @property
    def names(self) -> list[str]:
        return [NAMES[c] for c in self.classes]

    def competing(self) -> np.ndarray:
        """[n, 10] bool: the task's own classes, for each of its training images."""
        mask = np.zeros((len(self.labels), CLASSES), bool)
        mask[:, list(self.classes)] = True
        return mask


def onehot(labels: np.ndarray) -> np.ndarray:
    """[n, 10] float32."""
    return np.eye(CLASSES, dtype=np.float32)[labels]


@functools.lru_cache(maxsize=1)
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images [1797, 64] float32 in 0..1, labels [1797] and which are test images [1797] bool; read once."""
    table = digit_table()
    return (table[:, :-1] / 16).astype(np.float32), table[:, -1].astype(np.int64), held_out_rows(len(table))


def tasks_of(config: PlaygroundConfig, seed: int) -> list[Task]:
    """The stream of one seed.

    permuted-digits   task 0 as drawn; in task t the pixels of a random subset of round(64 (1 − similarity)) places
                      change places among themselves (similarity 0: all)
    rotated-digits    task t turned by t/(T − 1) · 180° (1 − similarity), bilinearly
    split-digits      the digits in the seed's order, dealt to the tasks as equally as possible
    """
    images, labels, held_out = digits()
    everything = tuple(range(CLASSES))
    if config.stream == "split-digits":
        order = np.random.default_rng([seed, 1]).permutation(CLASSES)
        return [
            _split(images, labels, held_out, tuple(int(c) for c in part))
            for part in np.array_split(order, config.tasks)
        ]
    return [_split(_changed(config, images, seed, task), labels, held_out, everything) for task in range(config.tasks)]


def _changed(config: PlaygroundConfig, images: np.ndarray, seed: int, task: int) -> np.ndarray:
    if config.stream == "rotated-digits":
        from scipy.ndimage import rotate

        angle = TURN * (1 - config.similarity) * task / (config.tasks - 1)
        upright = images.reshape(-1, SIDE, SIDE)
        turned = rotate(upright, angle, axes=(2, 1), reshape=False, order=1) if angle else upright
        return np.ascontiguousarray(turned.reshape(-1, PIXELS).clip(0, 1), dtype=np.float32)
    return np.ascontiguousarray(images[:, permutation(config.similarity, seed, task)])


def permutation(similarity: float, seed: int, task: int) -> np.ndarray:
    """[64]: which pixel stands at each place in `task`; drawn from (seed, task) alone."""
    places = np.arange(PIXELS)
    if task:
        random = np.random.default_rng([seed, 2, task])
        moved = random.permutation(PIXELS)[: round(PIXELS * (1 - similarity))]
        places[np.sort(moved)] = moved
    return places


def _split(images: np.ndarray, labels: np.ndarray, held_out: np.ndarray, classes: tuple[int, ...]) -> Task:
    mine = np.isin(labels, classes)
    train, test = mine & ~held_out, mine & held_out
    return Task(images[train], labels[train], images[test], labels[test], classes)
