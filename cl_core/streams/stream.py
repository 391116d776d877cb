"""A task stream held in memory: class order, splits, reproducible batches.

Class ids are renumbered in order of arrival, so a task's classes are a `range` and "classes seen so far" is a slice
everywhere else. Batches are a pure function of (seed, task, epoch): a resumed epoch sees the same images in the same
order.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.config import ConfigError, Preprocessing, StreamConfig
from cl_core.streams.augmentation import Augmentation

MULTI_DOMAIN = "multi-domain task-incremental"


@dataclass(frozen=True)
class Batch:
    """A batch: images [B, 3, S, S] prepared for the backbone; labels [B] int64, class ids in order of arrival; ids [B]
    int64 on the CPU, the index of each image in its stream, or None for augmented images.

    A training batch also has `pictures` [B, 3, s, s] as stored in the stream, and `shown`: (pictures [n, 3, s, s],
    purpose) → images [n, 3, S, S], augmented like this batch with separate random draws.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor | None = None
    pictures: Tensor | None = None
    shown: Callable[[Tensor, str], Tensor] | None = None

    def first(self, count: int) -> Batch:
        """Return a batch of the first `count` images."""
        cut = lambda rows: None if rows is None else rows[:count]
        return Batch(self.images[:count], self.labels[:count], cut(self.ids), cut(self.pictures), self.shown)


@dataclass(frozen=True)
class Split:
    """Images of a split: pictures [n, 3, s, s], in 0..1 or as uint8 in 0..255; labels [n] int64 in order of arrival;
    ids [n] int64 on the CPU, the images' indices in their stream (None = not in a stream yet).

    Images from disk stay uint8 and at their size if small, which takes a quarter of the memory or less. `Task.prepare`
    converts both.
    """

    pictures: Tensor
    labels: Tensor
    ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def ids_of(self, rows: Tensor | slice) -> Tensor | None:
        """Return the ids of the images in `rows` (on the CPU)."""
        return None if self.ids is None else self.ids[rows]

    @property
    def nbytes(self) -> int:
        """Return the bytes of the stored images."""
        return self.pictures.nbytes

    def to(self, device: torch.device) -> Split:
        """Return a copy on a device; uint8 stays uint8."""
        return Split(self.pictures.to(device), self.labels.to(device), self.ids)


@dataclass(frozen=True)
class Words:
    """Texts of a task's classes for a text tower: each phrase fills the `{}` of every template.

    Training uses the first template, evaluation the ensemble of all.
    """

    phrases: tuple[str, ...]  # one per class, including the article: "a star", "the letter k"
    templates: tuple[str, ...]

    def texts(self, template: int | None = None) -> list[list[str]]:
        """Return the sentences of each class, in one template or in all."""
        chosen = self.templates if template is None else self.templates[template : template + 1]
        return [[sentence.format(phrase) for sentence in chosen] for phrase in self.phrases]


@dataclass(frozen=True)
class Pairs:
    """Image-caption pairs: pictures [n, 3, S, S] in 0..1, captions, labels [n] int64, equal if a caption fits both."""

    pictures: Tensor
    captions: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True)
class General:
    """Held-out data from a model's pre-training distribution, which shows the cost of adaptation.

    `pairs` have distinct captions (retrieval, modality gap); `test` is classified zero-shot by `words`.
    """

    pairs: Pairs
    test: Split
    words: Words


@dataclass(frozen=True)
class Task:
    """One step of the stream."""

    index: int
    classes: range
    names: tuple[str, ...]  # names of its classes
    train: Split
    test: Split
    preparation: Preprocessing
    domain: str = ""  # name of its domain in a multi-domain stream
    words: Words | None = None  # None: its classes have no texts

    @property
    def title(self) -> str:
        return self.domain or f"T{self.index + 1}"

    def steps(self, size: int, repeats: int = 1) -> int:
        """Return the number of batches in an epoch, including a shorter last one."""
        return -(-len(self.train) * repeats // size)

    def batches(
        self,
        size: int,
        *,
        seed: int,
        epoch: int,
        repeats: int = 1,
        start: int = 0,
        augmentation: Augmentation | None = None,
    ) -> Iterator[Batch]:
        """Yield shuffled training batches of one epoch, from batch number `start`."""
        prepared = self.preparing(augmentation, seed=seed, epoch=epoch)
        portions = self.portions(size, seed=seed, epoch=epoch, repeats=repeats, start=start)
        device = self.train.labels.device
        for item, rows in enumerate(portions, start):
            ids, rows = self.train.ids_of(rows) if augmentation is None else None, rows.to(device, non_blocking=True)
            pictures, shown = self.train.pictures[rows], functools.partial(prepared, item)
            yield Batch(shown(pictures), self.train.labels[rows], ids, pictures, shown)

    def preparing(self, augmentation: Augmentation | None, *, seed: int, epoch: int) -> Callable[..., Tensor]:
        """Return a function (batch number, pictures, purpose) → images for the backbone. The same (seed, task, epoch,
        number) gives the same augmentation; purpose "" is the batch itself, other purposes have separate draws."""
        if augmentation is None:
            return lambda item, pictures, purpose="": self.prepare(pictures)

        def changed(item: int, pictures: Tensor, purpose: str = "") -> Tensor:
            drawn = mixed_seed(seed, "augmentation", self.index, epoch, item, *filter(None, [purpose]))
            return self.prepare(augmentation(pictures, self.preparation.size, drawn))

        return changed

    def portions(self, size: int, *, seed: int, epoch: int, repeats: int = 1, start: int = 0) -> Iterator[Tensor]:
        """Yield the row indices of the training images of each batch, on the CPU.

        The index set is repeated `repeats` times before shuffling (so that an image may recur within a batch, as in the
        NSP² release). The same (seed, task, epoch) gives the same order on every device.
        """
        generator = torch.Generator().manual_seed(mixed_seed(seed, "batches", self.index, epoch))
        order = torch.randperm(len(self.train) * repeats, generator=generator) % len(self.train)
        for item in range(start, self.steps(size, repeats)):
            yield order[item * size : (item + 1) * size]

    def ordered(self, split: str, size: int) -> Iterator[Batch]:
        """Yield batches of "train" or "test" in stored order, each image once, without augmentation."""
        part = {"train": self.train, "test": self.test}[split]
        for start in range(0, len(part), size):
            rows = slice(start, start + size)
            yield Batch(self.prepare(part.pictures[rows]), part.labels[rows], part.ids_of(rows))

    def probes(self, count: int) -> Split:
        """Return the fixed probe set: the first `count` test images, alternating classes."""
        by_class = [torch.nonzero(self.test.labels == c).flatten() for c in self.classes]
        turns = max(map(len, by_class))
        order = [rows[turn] for turn in range(turns) for rows in by_class if turn < len(rows)]
        chosen = torch.stack(order[:count])
        return Split(unit_range(self.test.pictures[chosen]), self.test.labels[chosen], self.test.ids_of(chosen))

    def prepare(self, pictures: Tensor) -> Tensor:
        """Prepare images for the backbone, [n, 3, S, S]: enlarge smaller ones to S (bicubic), then (x − mean) / std per
        channel."""
        pictures = enlarged(unit_range(pictures), self.preparation.size)
        mean, std = (_channels(tuple(v), pictures.device) for v in (self.preparation.mean, self.preparation.std))
        return (pictures - mean) / std


def enlarged(pictures: Tensor, size: int) -> Tensor:
    """Enlarge smaller images [n, 3, s, s] in 0..1 to [n, 3, size, size] by bicubic interpolation."""
    if pictures.shape[-1] == size:
        return pictures
    return F.interpolate(pictures, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


@dataclass(frozen=True)
class TaskStream(Sequence[Task]):
    """Tasks in order of arrival."""

    name: str
    scenario: str  # "class-incremental" or MULTI_DOMAIN
    tasks: tuple[Task, ...]
    general: General | None = None  # held-out pairs and classes of the pre-training distribution
    references: Callable[[int, int], Pairs] | None = None  # (task, count) → pairs of that distribution for training
    world: Callable[[int], Tensor] | None = None  # count → images [count, 3, S, S] in 0..1 of it, without texts
    skipped: tuple[str, ...] = ()  # files that could not be used, each with its reason
    notes: tuple[str, ...] = ()  # interpretations that may surprise, one sentence each
    found: tuple[tuple[tuple[int, int], ...], ...] = ()  # for folders: (train, test) files per class of each task

    def __post_init__(self) -> None:
        """Assign ids to images without one: tasks in order, training before test images in each."""
        numbered, start = [], 0
        for task in self.tasks:
            parts: dict[str, Any] = {}
            for name, split in (("train", task.train), ("test", task.test)):
                end = start + len(split)
                parts[name] = split if split.ids is not None else replace(split, ids=torch.arange(start, end))
                start = end
            numbered.append(replace(task, **parts))
        object.__setattr__(self, "tasks", tuple(numbered))

    def __getitem__(self, index: int) -> Task:  # type: ignore[override]
        return self.tasks[index]

    @property
    def task_is_known(self) -> bool:
        """Whether the task of a test image is known, so that only its classes compete."""
        return self.scenario == MULTI_DOMAIN

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(name for task in self.tasks for name in task.names)

    def joined(self) -> TaskStream:
        """Return a stream with one task that holds all training and test images, for the joint reference.

        The task has the index of the last task, because its accuracies belong in the last row of the matrix.
        """

        def union(name: str) -> Split:
            parts = [getattr(task, name) for task in self.tasks]
            return Split(*(torch.cat([getattr(p, of) for p in parts]) for of in ("pictures", "labels", "ids")))

        whole = Task(
            len(self) - 1,
            range(0, len(self.class_names)),
            self.class_names,
            union("train"),
            union("test"),
            self.tasks[0].preparation,
        )
        return TaskStream(self.name, self.scenario, (whole,), skipped=self.skipped, notes=self.notes)


@functools.cache
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return [3, 1, 1] on a device; cached, so that it is copied once."""
    return torch.tensor(values, device=device).view(3, 1, 1)


def unit_range(pictures: Tensor) -> Tensor:
    """Return images in 0..1, converting uint8."""
    return pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures


def mixed_seed(*parts: int | str) -> int:
    """Hash named parts to a 63-bit seed, so that independent draws never share a random stream."""
    words = [int.from_bytes(p.encode(), "little") if isinstance(p, str) else p for p in parts]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def class_order(classes: int, seed: int) -> list[int]:
    """Return class ids shuffled by NumPy's PCG64(seed), the order of the NSP² release."""
    order = np.arange(classes)
    np.random.Generator(np.random.PCG64(seed)).shuffle(order)
    return order.tolist()


def arrange(
    name: str,
    pictures: Tensor,
    labels: Tensor,
    test: Tensor,
    names: Sequence[str],
    *,
    config: StreamConfig,
    preparation: Preprocessing,
    seed: int,
    words: Words | None = None,
) -> TaskStream:
    """Assign classes to tasks by seed and images to splits.

    Args:
        pictures: [n, 3, S, S] in 0..1. labels: [n] int64, original class ids 0 … C−1. test: [n] bool, the fixed test
        split. names: C class names by original id. words: C phrases by original id; every task gets those of its
        classes, in order of arrival.

    Raises:
        ConfigError: if the classes cannot be divided into `config.tasks`.
    """
    refuse_settings_of_disk(name, config)
    sizes = task_sizes(len(names), config, name)
    order, dealt = class_order(len(names), seed), []
    for index, per_task in enumerate(sizes):
        chosen = range(sum(sizes[:index]), sum(sizes[:index]) + per_task)
        originals = [order[arrival] for arrival in chosen]
        train_rows, test_rows = [], []
        for original in originals:
            rows = torch.nonzero(labels == original).flatten()
            learned, evaluated = rows[~test[rows]], rows[test[rows]]
            if config.evaluate_on == "validation":
                held_out = validation_rows(len(learned))
                learned, evaluated = learned[~held_out], learned[held_out]
            train_rows.append(learned)
            test_rows.append(evaluated)

        def split(parts: list[Tensor], chosen: range = chosen) -> Split:
            arrivals = torch.cat(
                [torch.full((len(p),), c, dtype=torch.int64) for p, c in zip(parts, chosen, strict=True)]
            )
            return Split(pictures[torch.cat(parts)], arrivals)

        dealt.append(
            Task(
                index,
                chosen,
                tuple(names[original] for original in originals),
                split(train_rows),
                split(test_rows),
                preparation,
                words=words and Words(tuple(words.phrases[original] for original in originals), words.templates),
            )
        )
    return TaskStream(name, "class-incremental", tuple(dealt), notes=told_sizes([t.classes for t in dealt], config))


def task_sizes(classes: int, config: StreamConfig, where: str) -> list[int]:
    """Return the number of classes of each task: `first_task` for the first, equal numbers for the others, fewer for
    the last if `remainder` allows it. Raises ConfigError if that is impossible."""
    first, others = config.first_task, config.tasks - bool(config.first_task)
    rest = classes - first
    if first and (rest < others or (rest and not others)):
        raise ConfigError(
            f"{where} has {classes} classes: with stream.first_task={first} there are {max(0, rest)} left for the "
            f"other {others} tasks; each needs one"
        )
    start = [first] if first else []
    if not others:
        return start
    each = -(-rest // others)
    if rest % others == 0:
        return start + [each] * others
    also = f" (after the first {first})" if first else ""
    if config.remainder != "refuse":
        last = rest - each * (others - 1)
        if last < 1:
            fewer = -(-rest // each) + bool(first)
            raise ConfigError(
                f"{where} has {rest} classes{also} for {others} tasks of {each}: nothing is left for the last; use "
                f"stream.tasks={fewer}"
            )
        return start + [each] * (others - 1) + [last]
    fitting = ", ".join(str(n + bool(first)) for n in range(1, rest + 1) if rest % n == 0)
    raise ConfigError(
        f"{where} has {rest} classes{also}, which do not divide into {others} equal tasks; stream.tasks may be "
        f"{fitting}; stream.remainder='last task' gives the last one fewer"
    )


def told_sizes(groups: Sequence[Sequence[Any]], config: StreamConfig) -> tuple[str, ...]:
    """Return a note if settings give tasks different numbers of classes."""
    sizes = [len(group) for group in groups]
    if not (config.first_task or config.remainder != "refuse") or len(set(sizes)) == 1:
        return ()
    listed = ", ".join(map(str, sizes[:12])) + (", …" if len(sizes) > 12 else "")
    return (f"tasks have {listed} classes, in order",)


def refuse_uneven(name: str, config: StreamConfig) -> None:
    """Raise ConfigError for settings that divide classes among tasks, in a stream whose tasks are domains."""
    if config.first_task or config.remainder != "refuse":
        changed = "first_task" if config.first_task else "remainder"
        raise ConfigError(f"stream.{changed} deals classes to tasks; with {name} every domain is a task")


def refuse_settings_of_disk(name: str, config: StreamConfig) -> None:
    """Raise ConfigError for settings of classes, words or splits, which an embedded stream defines itself."""
    if changed := config.of_disk():
        raise ConfigError(
            f"{name} is embedded and has its own classes, words and split: stream.{changed[0]} is for folder: and "
            "cifar100 alone"
        )


def validation_rows(count: int) -> Tensor:
    """Return the mask [count] bool of a class's training images, in stored order, that are held out for validation:
    every fifth."""
    return torch.arange(count) % 5 == 4
