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
    """images [B, 3, S, S] prepared for the backbone; labels [B] int64, class ids in order of arrival; ids [B] int64, on
    the CPU: the number of each image in its stream. None where images are not as the stream holds them (augmented).

    Of a training batch also: pictures [B, 3, s, s] as the stream holds them, and `shown`: pictures [n, 3, s, s], what
    for → images [n, 3, S, S], changed as this batch's were by draws of their own.
    """

    images: Tensor
    labels: Tensor
    ids: Tensor | None = None
    pictures: Tensor | None = None
    shown: Callable[[Tensor, str], Tensor] | None = None

    def first(self, count: int) -> Batch:
        """Its first `count` images alone."""
        cut = lambda rows: None if rows is None else rows[:count]
        return Batch(self.images[:count], self.labels[:count], cut(self.ids), cut(self.pictures), self.shown)


@dataclass(frozen=True)
class Split:
    """pictures [n, 3, s, s], in 0..1 or as uint8 in 0..255; labels [n] int64 in order of arrival; ids [n] int64, on the
    CPU: the images' numbers in their stream, which gives them (None: in no stream yet).

    Pictures from disk stay uint8, and small if they are: a quarter of the memory or less. `Task.prepare` makes both
    alike.
    """

    pictures: Tensor
    labels: Tensor
    ids: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def ids_of(self, rows: Tensor | slice) -> Tensor | None:
        """Numbers of the images in `rows`, which lie on the CPU."""
        return None if self.ids is None else self.ids[rows]

    @property
    def nbytes(self) -> int:
        """Bytes of the pictures as they are stored."""
        return self.pictures.nbytes

    def to(self, device: torch.device) -> Split:
        """The same on a device, as they are stored: uint8 stays uint8."""
        return Split(self.pictures.to(device), self.labels.to(device), self.ids)


@dataclass(frozen=True)
class Words:
    """How the classes of a task are said to a text tower: each phrase fills the `{}` of every template.

    The first template is the one that is trained with; all of them together (the ensemble) evaluate.
    """

    phrases: tuple[str, ...]  # one a class, article included: "a star", "the letter k"
    templates: tuple[str, ...]

    def texts(self, template: int | None = None) -> list[list[str]]:
        """Per class its sentences: in one template, or in all of them."""
        chosen = self.templates if template is None else self.templates[template : template + 1]
        return [[sentence.format(phrase) for sentence in chosen] for phrase in self.phrases]


@dataclass(frozen=True)
class Pairs:
    """pictures [n, 3, S, S] in 0..1, what is said of each, and labels [n] int64: equal where one caption fits both."""

    pictures: Tensor
    captions: tuple[str, ...]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.captions)


@dataclass(frozen=True)
class General:
    """What a model was taught before the stream, held out from training: shows what adapting costs.

    `pairs` have different captions each (retrieval, modality gap); `test` is classified zero-shot by `words`.
    """

    pairs: Pairs
    test: Split
    words: Words


@dataclass(frozen=True)
class Task:
    """One step of the stream."""

    index: int
    classes: range
    names: tuple[str, ...]  # of its classes
    train: Split
    test: Split
    preparation: Preprocessing
    domain: str = ""  # its name in a multi-domain stream
    words: Words | None = None  # None: its classes cannot be said

    @property
    def title(self) -> str:
        return self.domain or f"T{self.index + 1}"

    def steps(self, size: int, repeats: int = 1) -> int:
        """Batches in one epoch; the last, shorter one is kept."""
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
        """Shuffled training batches of one epoch, from batch number `start`."""
        prepared = self.preparing(augmentation, seed=seed, epoch=epoch)
        portions = self.portions(size, seed=seed, epoch=epoch, repeats=repeats, start=start)
        device = self.train.labels.device
        for item, rows in enumerate(portions, start):
            ids, rows = self.train.ids_of(rows) if augmentation is None else None, rows.to(device, non_blocking=True)
            pictures, shown = self.train.pictures[rows], functools.partial(prepared, item)
            yield Batch(shown(pictures), self.train.labels[rows], ids, pictures, shown)

    def preparing(self, augmentation: Augmentation | None, *, seed: int, epoch: int) -> Callable[..., Tensor]:
        """(number of a batch, pictures, what for) → images for the backbone. Same (seed, task, epoch, number) → same
        changes; "" are the batch's own pictures, for anything else changes are drawn by its name."""
        if augmentation is None:
            return lambda item, pictures, purpose="": self.prepare(pictures)

        def changed(item: int, pictures: Tensor, purpose: str = "") -> Tensor:
            drawn = mixed_seed(seed, "augmentation", self.index, epoch, item, *filter(None, [purpose]))
            return self.prepare(augmentation(pictures, self.preparation.size, drawn))

        return changed

    def portions(self, size: int, *, seed: int, epoch: int, repeats: int = 1, start: int = 0) -> Iterator[Tensor]:
        """Rows of the training images that make up each batch, on the CPU.

        The index set is repeated `repeats` times before shuffling (so one image may recur within a batch, as in the
        NSP² release). Same (seed, task, epoch) → same order, on every device.
        """
        generator = torch.Generator().manual_seed(mixed_seed(seed, "batches", self.index, epoch))
        order = torch.randperm(len(self.train) * repeats, generator=generator) % len(self.train)
        for item in range(start, self.steps(size, repeats)):
            yield order[item * size : (item + 1) * size]

    def ordered(self, split: str, size: int) -> Iterator[Batch]:
        """Batches of "train" or "test" in stored order, each image once, without augmentation."""
        part = {"train": self.train, "test": self.test}[split]
        for start in range(0, len(part), size):
            rows = slice(start, start + size)
            yield Batch(self.prepare(part.pictures[rows]), part.labels[rows], part.ids_of(rows))

    def probes(self, count: int) -> Split:
        """The first `count` test images, classes in turn: the fixed probe set."""
        by_class = [torch.nonzero(self.test.labels == c).flatten() for c in self.classes]
        turns = max(map(len, by_class))
        order = [rows[turn] for turn in range(turns) for rows in by_class if turn < len(rows)]
        chosen = torch.stack(order[:count])
        return Split(unit_range(self.test.pictures[chosen]), self.test.labels[chosen], self.test.ids_of(chosen))

    def prepare(self, pictures: Tensor) -> Tensor:
        """[n, 3, S, S] for the backbone: enlarged to S where stored smaller (bicubic), then (x − mean) / std per
        channel."""
        pictures = enlarged(unit_range(pictures), self.preparation.size)
        mean, std = (_channels(tuple(v), pictures.device) for v in (self.preparation.mean, self.preparation.std))
        return (pictures - mean) / std


def enlarged(pictures: Tensor, size: int) -> Tensor:
    """Pictures [n, 3, s, s] in 0..1 at [n, 3, size, size], by bicubic interpolation where they are smaller."""
    if pictures.shape[-1] == size:
        return pictures
    return F.interpolate(pictures, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)


@dataclass(frozen=True)
class TaskStream(Sequence[Task]):
    """Tasks in order of arrival."""

    name: str
    scenario: str  # "class-incremental" or MULTI_DOMAIN
    tasks: tuple[Task, ...]
    general: General | None = None  # held-out pairs and classes of the world the model was pre-trained on
    references: Callable[[int, int], Pairs] | None = None  # (task, count) → pairs of that world to train with
    world: Callable[[int], Tensor] | None = None  # count → pictures [count, 3, S, S] in 0..1 of that world, no words
    skipped: tuple[str, ...] = ()  # files that could not be used, each with its reason
    notes: tuple[str, ...] = ()  # what was understood and could surprise, a sentence each
    found: tuple[tuple[tuple[int, int], ...], ...] = ()  # of folders: each task's classes' files, train and test half

    def __post_init__(self) -> None:
        """Number the images that have no number yet: tasks in order, the training images of each before its test
        images."""
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
        """Whether a test picture comes with its task, so that only that task's classes compete."""
        return self.scenario == MULTI_DOMAIN

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def class_names(self) -> tuple[str, ...]:
        return tuple(name for task in self.tasks for name in task.names)

    def joined(self) -> TaskStream:
        """One task that holds all training and test images: what a joint reference is trained on.

        Its index is that of the last task, because its accuracies belong in the last row of the matrix.
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
    """[3, 1, 1] on a device, sent there once."""
    return torch.tensor(values, device=device).view(3, 1, 1)


def unit_range(pictures: Tensor) -> Tensor:
    """Pictures in 0..1, whether stored so or as uint8."""
    return pictures.float() / 255 if pictures.dtype == torch.uint8 else pictures


def mixed_seed(*parts: int | str) -> int:
    """A 63-bit seed from named parts, so that independent draws never share a stream of random numbers."""
    words = [int.from_bytes(p.encode(), "little") if isinstance(p, str) else p for p in parts]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def class_order(classes: int, seed: int) -> list[int]:
    """Class ids shuffled in place by numpy's PCG64(seed): the order of the NSP² release."""
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
    """Deal classes to tasks by seed and pictures to splits.

    Args:
        pictures: [n, 3, S, S] in 0..1. labels: [n] int64, original class ids 0 … C−1. test: [n] bool, the fixed test
        split. names: C class names by original id. words: C phrases by original id; every task gets those of its
        classes, in order of arrival.

    Raises:
        ConfigError: the classes do not divide into `config.tasks`.
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
    """How many of `classes` classes each task has: `first_task` the first, the others the same number each, the last
    one fewer where `remainder` allows it. Raises ConfigError where that cannot be."""
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
    """A sentence where tasks differ in their numbers of classes because settings say so."""
    sizes = [len(group) for group in groups]
    if not (config.first_task or config.remainder != "refuse") or len(set(sizes)) == 1:
        return ()
    listed = ", ".join(map(str, sizes[:12])) + (", …" if len(sizes) > 12 else "")
    return (f"tasks have {listed} classes, in order",)


def refuse_uneven(name: str, config: StreamConfig) -> None:
    """Where tasks are domains, classes are not dealt. Raises ConfigError where that was asked for."""
    if config.first_task or config.remainder != "refuse":
        changed = "first_task" if config.first_task else "remainder"
        raise ConfigError(f"stream.{changed} deals classes to tasks; with {name} every domain is a task")


def refuse_settings_of_disk(name: str, config: StreamConfig) -> None:
    """An embedded stream has its own classes, words and splits. Raises ConfigError where others were asked for."""
    if changed := config.of_disk():
        raise ConfigError(
            f"{name} is embedded and has its own classes, words and split: stream.{changed[0]} is for folder: and "
            "cifar100 alone"
        )


def validation_rows(count: int) -> Tensor:
    """Of a class's `count` training images in stored order, which are held out for validation: every fifth. [count]
    bool."""
    return torch.arange(count) % 5 == 4
