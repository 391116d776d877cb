"""What every method is to the engine: a module that holds only what is learned or kept; the backbone is handed in.

The engine's course through one task:

    begin_task → refresh → prepare_task
         → (loss → backward → optimiser step, as `constraints` say)* → collectors* → end_task → refresh

`refresh` derives projectors and the like from state and settings. It runs after begin_task and after loading, and what
it derives is never saved, so resume and fork are one path. A method does not know whether it is watched: what is only
displayed is the business of `cl_core.observers`.
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
    """Named parts, summed by the engine, and how many of the batch were classified correctly among the classes the loss
    sees."""

    parts: dict[str, Tensor]
    correct: Tensor  # scalar, share in 0..1


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters by name that share a learning rate (before the schedule's factor) and a decay. All groups of a method
    have the same optimiser: "adam" and "sgd" with coupled decay, "adamw" with decoupled decay."""

    name: str
    parameters: dict[str, nn.Parameter]
    rate: float
    decay: float = 0.0
    optimiser: str = "adam"
    momentum: float = 0.0  # of "sgd"


NO_COMPANION = "none"  # value of the setting `companion` that disables the second model

B = TypeVar("B", bound=Backbone)  # the kind of backbone that a method is made for

OPTIMISERS = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


def new_optimiser(groups: Sequence[ParameterGroup]) -> torch.optim.Optimizer:
    """A fresh optimiser for these groups. Raises ValueError if they name different ones."""
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
    """What is done to a parameter's gradient before the optimiser sees it, or to the step the optimiser proposes."""

    gradient: Callable[[Tensor], Tensor] | None = None
    step: Callable[[Tensor], Tensor] | None = None


@dataclass(frozen=True)
class Collector:
    """What a method gathers from the finished task's training images, in full precision: each image once and as it is
    stored; with `augmented` = k > 0, k passes over them as training shows them instead."""

    taps: tuple[Tap, ...]  # activations that `add` reads
    add: Callable[[Features, Batch], None]
    batch_size: int = 100  # images a batch; 100 as the NSP² release collects
    augmented: int = 0
    # A pass of the method's own, in place of the usual one, for what takes more than looking: gradients. No taps then.
    looks: Callable[[Batch], Features] | None = None


class Method(nn.Module, abc.ABC, Generic[B]):
    """Abstract; `Method[ClipBackbone]` is one for a CLIP. A subclass is final; what several share lives in a component,
    `linalg` or the backbone."""

    Config: ClassVar[type]
    trains_on_all: ClassVar[bool] = False  # True: trained once on the union of all tasks
    # Family of a second frozen model that is handed to the constructor after the seed, on the run's device; which one,
    # the setting `companion` says; with `NO_COMPANION` nothing is handed in. "": the backbone is all the method needs.
    companion: ClassVar[str] = ""
    # False: a test image that comes with its task, as in multi-domain streams, is nothing the method is made for.
    serves_known_tasks: ClassVar[bool] = True

    def __init__(self, config: Any, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed

    @abc.abstractmethod
    def begin_task(self, index: int, classes: range) -> None:
        """Grow what a new task needs. Called in order of tasks; drawing must depend on (seed, task) alone."""

    def refresh(self) -> None:
        """Recompute what follows from state and settings."""

    def prepare_task(self, backbone: B, epoch: Callable[[int], Iterable[Batch]], clock: Clock) -> list[Event]:
        """Work that needs the task's images before the first step: a rehearsal, a first stage, a pass over its inputs.
        `epoch(k)` gives its training batches in their k-th order. The first task's call comes before the run's first
        event, because it may decide how many steps follow. Not repeated on resume: what it finds is kept as state."""
        return []

    @abc.abstractmethod
    def groups(self) -> list[ParameterGroup]:
        """What is trained in the current task; empty: nothing is."""

    @abc.abstractmethod
    def edit(self, backbone: B, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        """How this method changes the frozen model for images [B, 3, S, S]. `ids` [B]: their numbers in the stream,
        used as cache keys; None if the images have no ids."""

    @final
    def features(self, backbone: B, images: Tensor, taps: Iterable[Tap] = (), ids: Tensor | None = None) -> Features:
        """What the model, changed by `edit`, makes of images [B, 3, S, S]."""
        return backbone.features(images, self.edit(backbone, images, ids), taps, ids)

    @abc.abstractmethod
    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        """Scores [B, |classes|] of features [B, d], only `classes` (ids in order of arrival) competing."""

    @abc.abstractmethod
    def loss(self, backbone: B, batch: Batch) -> Loss:
        """The training loss of one batch of the current task."""

    def constraints(self) -> Mapping[str, Constraint]:
        """Parameter name → what holds its steps back. Empty: gradients and steps are taken as they are."""
        return {}

    def collectors(self, backbone: B) -> Sequence[Collector]:
        """What the method has to see of the finished task before `end_task`. Empty: nothing."""
        return ()

    def end_task(self, clock: Clock) -> list[Event]:
        """Fold the finished task into what is kept; what was trained on the way, in a stage of its own, is said."""
        return []


@runtime_checkable
class MeetsStream(Protocol):
    """A method that needs to know something of the stream beforehand."""

    def setup(self, stream: TaskStream, backbone: Any) -> None:
        """What may be known of the stream: how its classes are said, pairs of the pre-training world; never a task's
        images. Raises ConfigError where the method needs what the stream has not."""
        ...


@runtime_checkable
class ChoosesEpochs(Protocol):
    """A method with a rule of its own for how long it trains."""

    def epochs(self, planned: int) -> int:
        """Passes over each task, of `planned` ones."""
        ...


@runtime_checkable
class EditsFrom(Protocol):
    """A method that leaves the first blocks of a ViT, or the whole of a CLIP, as they are, whatever it learns."""

    def edits_from(self, backbone: Backbone) -> int:
        """The first block that `edit` may ever change; the model's depth: it changes none."""
        ...


@runtime_checkable
class ReadsClasses(Protocol):
    """A method whose classes are embedded in the space of the image features: it scores them before any was trained."""

    @property
    def class_texts(self) -> Tensor:
        """Unit embeddings [C, e] of all classes of the stream, as the text tower is now."""
        ...

    def edit(self, backbone: Any, images: Tensor) -> ModelEdit: ...
