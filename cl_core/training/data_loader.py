"""Batches of a stream on the run's device.

A small stream is copied there once in its stored format (uint8 stays uint8), and batches are indexed on the device. For
a larger one a thread gathers each batch into pinned memory while the device works on the previous one, and copies it
asynchronously. On the CPU nothing is moved. The images and their order are the same in all three cases.
"""

from __future__ import annotations

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from cl_core.streams.augmentation import Augmentation
from cl_core.streams.stream import Batch, Split, Task, TaskStream
from cl_core.training.device import memory

SHARE = 0.25  # share of the memory left by the models; activations need the rest
AHEAD = 2  # batches gathered in advance


class Feed:
    """`way`: "in place" (images are already on the device), "resident" or "loaded"."""

    def __init__(self, streams: Iterable[TaskStream], device: torch.device, free: int | None = None) -> None:
        """`streams` are all that batches will be asked of; `free` bytes on the device, asked of it if None."""
        self.device = device
        splits = {id(split): split for stream in streams for task in stream for split in (task.train, task.test)}
        self.bytes = sum(split.nbytes for split in splits.values())
        self.way = "in place"
        if device.type != "cpu" or free is not None:
            if free is None:
                free = found.free if (found := memory(device)) is not None else 0
            self.way = "resident" if self.bytes <= SHARE * free else "loaded"
        self._moved: dict[int, tuple[Split, Split]] = {}  # id of a split → itself, so that the id stays its, and a copy

    def batches(
        self,
        task: Task,
        size: int,
        *,
        seed: int,
        epoch: int,
        repeats: int = 1,
        start: int = 0,
        augmentation: Augmentation | None = None,
    ) -> Iterator[Batch]:
        """Shuffled training batches of one epoch, from batch number `start`, as `Task.batches` has them."""
        order = {"seed": seed, "epoch": epoch, "repeats": repeats, "start": start}
        if self.way == "loaded":
            prepared = task.preparing(augmentation, seed=seed, epoch=epoch)
            portions = task.portions(size, **order)
            return self._loaded(task.train, portions, prepared, start, as_stored=augmentation is None)
        return self._here(task).batches(size, **order, augmentation=augmentation)

    def ordered(self, task: Task, split: str, size: int) -> Iterator[Batch]:
        """Batches of "train" or "test" in stored order, each image once, as `Task.ordered` has them."""
        if self.way == "loaded":
            part = {"train": task.train, "test": task.test}[split]
            portions = (slice(start, start + size) for start in range(0, len(part), size))
            return self._loaded(part, portions, lambda item, pictures: task.prepare(pictures))
        return self._here(task).ordered(split, size)

    def _here(self, task: Task) -> Task:
        """The task with its pictures on the device."""
        if self.way == "in place":
            return task
        return replace(task, train=self._resident(task.train), test=self._resident(task.test))

    def _resident(self, split: Split) -> Split:
        if id(split) not in self._moved:
            self._moved[id(split)] = split, split.to(self.device)
        return self._moved[id(split)][1]

    def _loaded(
        self,
        split: Split,
        portions: Iterable[Tensor | slice],
        prepared: Callable[..., Tensor],
        start: int = 0,
        as_stored: bool = True,
    ) -> Iterator[Batch]:
        """Gathered by one thread, in order, `AHEAD` batches before they are used; changed and scaled on the device."""

        def gathered(rows: Tensor | slice) -> tuple[Tensor, Tensor, Tensor | None]:
            pictures, labels, ids = split.pictures[rows], split.labels[rows], split.ids_of(rows)
            if self.device.type == "cuda":
                pictures, labels = pictures.pin_memory(), labels.pin_memory()
            return pictures, labels, ids if as_stored else None

        numbers = itertools.count(start)

        def sent(found: Future[tuple[Tensor, Tensor, Tensor | None]]) -> Batch:
            *parts, ids = found.result()
            pictures, labels = (part.to(self.device, non_blocking=True) for part in parts)
            shown = functools.partial(prepared, next(numbers))
            return Batch(shown(pictures), labels, ids, pictures, shown)

        waiting: deque[Future[tuple[Tensor, Tensor, Tensor | None]]] = deque()
        with ThreadPoolExecutor(1, "gathers batches") as loader:
            for rows in portions:
                waiting.append(loader.submit(gathered, rows))
                if len(waiting) > AHEAD:
                    yield sent(waiting.popleft())
            while waiting:
                yield sent(waiting.popleft())
