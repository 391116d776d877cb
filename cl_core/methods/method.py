"""Base class of methods: a module with the learned and stored state; the backbone is passed in.

The engine's calls for one task:

    begin_task → refresh → prepare_task
    → (loss → backward → optimiser step under `constraints`)* → collectors* → end_task → refresh

`refresh` derives projectors and the like from state and settings. It runs after begin_task and after loading, and
derived state is never saved, so resume and fork use the same path. Methods do not depend on observers: measurements for
display are in `cl_core.observers`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar, final, runtime_checkable

import torch
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import Features, ModelEdit, Tap
from cl_core.events import Clock, Event
from cl_core.streams.stream import Batch, TaskStream


@dataclass(frozen=True)
class Loss:
    """Named terms, summed by the engine, and the share of the batch classified correctly among the classes in the
    loss."""

    parts: dict[str, Tensor]
    correct: Tensor  # scalar, share in 0..1


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters by name with one learning rate (before the schedule's factor) and weight decay. All groups of a method
    share an optimiser: "adam" and "sgd" with coupled decay, "adamw" with decoupled decay."""

    name: str
    parameters: dict[str, nn.Parameter]
    rate: float
    decay: float = 0.0
    optimiser: str = "adam"
    momentum: float = 0.0  # of "sgd"


NO_COMPANION = "none"  # value of the setting `companion` that disables the second model

B = TypeVar("B", bound=Backbone)  # the backbone type of a method

OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def new_optimiser(groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
    """A new optimiser for these groups. Raises ValueError if they name different ones."""
    kinds = {group.optimiser for group in groups}
    if len(kinds) != 1:
        raise ValueError(f"parameter groups must share one optimiser, got {sorted(kinds)}")
    options = [{"params": list(g.parameters.values()), "lr": g.rate, "weight_decay": g.decay} for g in groups]
    kind = kinds.pop()
    if kind == "sgd":
        for option, group in zip(options, groups, strict=True):
            option["momentum"] = group.momentum
    return OPTIMISERS[kind](options)


@dataclass(frozen=True)
class Constraint:
    """A map on a parameter's gradient before the optimiser, or on the optimiser's proposed step."""

    gradient: Callable[[Tensor], Tensor] | None = None
    step: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Collector:
    """Statistics collected over the finished task's training images, in full precision: each unmodified image once, or
    with `augmented` = k > 0, k passes over augmented images."""

    taps: tuple[Tap, ...]  # activations that `add` reads
    add: Callable[[Features, Batch], None]
    batch_size: int = 100  # images per batch; 100 as in the NSP² release
    augmented: int = 0
    # A pass of the method's own, in place of the usual one, for what takes more than looking: gradients. No taps then.
    looks: Callable[[Batch], Features] | None = None


class Method(nn.Module, abc.ABC, Generic[B]):
    """Abstract base class; `Method[ClipBackbone]` is one for CLIP. Subclasses are final; shared code is in components,
    `linalg` or the backbone."""

    Config: ClassVar[type]
    trains_on_all: ClassVar[bool] = False  # True: trained once on the union of all tasks
    # Family of a second frozen model, passed to the constructor after the seed, on the run's device. The setting
    # `companion` names it; with `NO_COMPANION` none is passed. "": the method needs only the backbone.
    companion: ClassVar[str] = ""
    # False: the method does not support streams where the task is known at test time (multi-domain streams).
    serves_known_tasks: ClassVar[bool] = True

    def __init__(self, config: Any, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed

    @abc.abstractmethod
    def begin_task(self, index: int, classes: range) -> None:
        """Add parameters for a new task. Called in order of tasks; random draws must depend only on (seed, task)."""

    def refresh(self) -> None:
        """Recompute derived state from state and settings."""

    def prepare_task(self, backbone: B, epoch: Callable[[int], Iterable[Batch]], clock: Clock) -> list[Event]:
        """Work on the task's images before the first step: a trial run, a first stage, a pass over its inputs.
        `epoch(k)` returns its training batches in their k-th order. The first task's call precedes the run's first
        event, because it may determine the number of steps. Not repeated on resume: results are stored as state."""
        return []

    @abc.abstractmethod
    def groups(self) -> list[ParameterGroup]:
        """The trained parameters of the current task; may be empty."""

    @abc.abstractmethod
    def edit(self, backbone: B, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        """The changes of the frozen model for images [B, 3, S, S]. `ids` [B]: their ids in the stream, used as cache
        keys; None if the images have no ids."""

    @final
    def features(self, backbone: B, images: Tensor, taps: Iterable[Tap] = (), ids: Tensor | None = None) -> Features:
        """Features of images [B, 3, S, S] by the model with `edit` applied."""
        return backbone.features(images, self.edit(backbone, images, ids), taps, ids)

    @abc.abstractmethod
    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        """Scores [B, |classes|] of features [B, d] for `classes` (ids in order of arrival)."""

    @abc.abstractmethod
    def loss(self, backbone: B, batch: Batch) -> Loss:
        """The training loss of one batch of the current task."""

    def constraints(self) -> Mapping[str, Constraint]:
        """Parameter name → constraint on its gradients or steps. Empty: unconstrained."""
        return {}

    def collectors(self, backbone: B) -> Sequence[Collector]:
        """Statistics to collect over the finished task's images before `end_task`; may be empty."""
        return ()

    def end_task(self, clock: Clock) -> list[Event]:
        """Merge the finished task into the stored state; returns events of additional training stages."""
        return []


@runtime_checkable
class MeetsStream(Protocol):
    """A method that needs information about the stream before training."""

    def setup(self, stream: TaskStream, backbone: Any) -> None:
        """Read class texts or reference pairs of the stream, never a task's images. Raises ConfigError if the stream
        lacks something the method needs."""
        ...


@runtime_checkable
class ChoosesEpochs(Protocol):
    """A method that chooses its number of epochs."""

    def epochs(self, planned: int) -> int:
        """Epochs for each task, given the `planned` number."""
        ...


@runtime_checkable
class EditsFrom(Protocol):
    """A method that never changes the first blocks of a ViT, or never changes a CLIP at all."""

    def edits_from(self, backbone: Backbone) -> int:
        """The first block that `edit` may change; the model's depth if none."""
        ...


@runtime_checkable
class ReadsClasses(Protocol):
    """A method with class embeddings in the space of image features: it can score untrained classes."""

    @property
    def class_texts(self) -> Tensor:
        """Unit embeddings [C, e] of all classes of the stream, by the current text tower."""
        ...

    def edit(self, backbone: Any, images: Tensor) -> ModelEdit: ...
