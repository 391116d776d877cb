"""What every method is to the engine: a module that holds only what is learned or kept; the backbone is handed in.

The engine's course through one task:

    meet → begin_task → refresh → prepare_task
         → (loss → backward → gradient maps → optimiser step → projections)* → survey* → end_task

`refresh` derives projectors and the like from state and settings. It runs after begin_task and after loading, and what
it derives is never saved, so resume and fork are one path.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor, nn

from cl_core.backbones.features import Features, ModelEdit, Tap
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
    """Parameters by name that share a learning rate (before the schedule's factor)."""

    name: str
    parameters: dict[str, nn.Parameter]
    rate: float


@dataclass(frozen=True)
class Selection:
    """What each image of a batch took from a pool of E entries."""

    layer: int  # block whose selection this is; -1: one selection for the whole network
    of: str  # what an entry stands for: "class", "task", or "" where entries belong to nobody
    owners: list[int]  # [E] the class (id in order of arrival) or task an entry stands for; -1 where to nobody
    weights: Tensor  # [B, E] ≥ 0: 1 for an entry that was taken whole; shares that sum to 1 where all are mixed


@dataclass(frozen=True)
class Kept:
    """Answers of a frozen model that are kept per image, so that it is asked once."""

    model: str
    images: int  # at most so many
    bytes: int  # that they take then


@dataclass(frozen=True)
class WeightRule:
    """principal: the first k singular directions of a weight, the fewest with Σσ² ≥ rho of all; written to: the last
    min(d − k, r_max) ones where `used`."""

    rho: float = 0.95
    r_max: int | None = None
    used: bool = False


class Method(nn.Module, abc.ABC):
    """Abstract. A subclass is final; what several share lives in a component, `linalg` or the backbone."""

    Config: ClassVar[type]
    trains_on_all: ClassVar[bool] = False  # True: trained once on the union of all tasks
    # Family of a second frozen model that is handed to the constructor after the seed, on the run's device; which one,
    # the setting `companion` says. "": the backbone is all the method needs.
    companion: ClassVar[str] = ""

    def __init__(self, config: Any, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed
        # Parameter name → sum over this task's steps of what its map was given (a step, or a gradient). Kept by the
        # engine while spectra are measured, for `end_task` to describe; training never reads it.
        self.proposals: dict[str, Tensor] = {}

    def meet(self, stream: TaskStream, backbone: Any) -> None:
        """What may be known of the stream beforehand: how its classes are said, and pairs of the pre-training world.
        Never a task's pictures. Raises ConfigError where the method needs what the stream has not."""

    @abc.abstractmethod
    def begin_task(self, index: int, classes: range) -> None:
        """Grow what a new task needs. Called in order of tasks; drawing must depend on (seed, task) alone."""

    def refresh(self) -> None:
        """Recompute what follows from state and settings."""

    @abc.abstractmethod
    def groups(self) -> list[ParameterGroup]:
        """What is trained in the current task."""

    def optimiser(self) -> torch.optim.Optimizer:
        """A new optimiser for the current task."""
        return torch.optim.Adam([{"params": list(g.parameters.values()), "lr": g.rate} for g in self.groups()])

    @abc.abstractmethod
    def edit(self, backbone: Any, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        """How this method changes the frozen model for images [B, 3, S, S]. `ids` [B]: their numbers in the stream,
        under which answers about them may be kept; None: they have none."""

    @final
    def features(self, backbone: Any, images: Tensor, taps: Iterable[Tap] = (), ids: Tensor | None = None) -> Features:
        """What the model, changed by `edit`, makes of images [B, 3, S, S]."""
        return backbone.features(images, self.edit(backbone, images, ids), taps)

    @abc.abstractmethod
    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        """Scores [B, |classes|] of features [B, d], only `classes` (ids in order of arrival) competing."""

    @abc.abstractmethod
    def loss(self, backbone: Any, batch: Batch) -> Loss:
        """The training loss of one batch of the current task."""

    def projections(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Parameter name → map on the step the optimiser proposes. Empty: steps are taken as they are."""
        return {}

    def gradient_maps(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Parameter name → map on its gradient, before the optimiser sees it. Empty: gradients are taken as they
        are."""
        return {}

    def measured_parameters(self) -> set[str]:
        """Names of the parameters whose steps are measured: before and after what is mapped."""
        return {*self.projections(), *self.gradient_maps()}

    def epochs(self, planned: int) -> int:
        """Passes over each task; `planned` unless the method has a rule of its own."""
        return planned

    def prepare_task(self, backbone: Any, epoch: Callable[[int], Iterable[Batch]], clock: Clock) -> list[Event]:
        """Whatever needs the task's pictures before its steps: a rehearsal, a first stage, a survey of its inputs.
        `epoch(k)` gives its training batches in their k-th order. The first task's call comes before the run's first
        event, because it may decide how many steps follow. Not repeated on resume: what it finds is kept as state."""
        return []

    def survey_batch(self) -> int:
        """Images a batch in the end-of-task pass; 100 as the NSP² release collects."""
        return 100

    def survey_taps(self, measure: bool) -> tuple[Tap, ...] | None:
        """Activations `survey` wants of the finished task's training images; None: no survey. `measure`: also for
        display."""
        return None

    def survey(self, backbone: Any, features: Features, batch: Batch) -> None:
        """Take in one batch of the finished task's training images (no augmentation, full precision, each image
        once)."""

    def end_task(self, clock: Clock, measure: bool) -> list[Event]:
        """Fold the survey into what is kept; with `measure`, say what can be seen in it. Where an event wants an array
        or a number, a tensor does: what a moment's events hold is copied from a GPU together."""
        return []

    def adapted_weights(self, backbone: Any) -> dict[str, Tensor] | None:
        """Name → weight [out, in] of the attention projections as adapted so far; None if the method changes none."""
        return None

    def weight_rule(self) -> WeightRule:
        """How the directions of a weight are divided; the default only measures, for comparison."""
        return WeightRule()

    def probe_prompts(self) -> Tensor | None:
        """The prompts [L, M, d] as they stand, for drift and layer-local comparisons; None if the method has none."""
        return None

    def selection(self, backbone: Any, images: Tensor, ids: Tensor | None = None) -> list[Selection]:
        """What images [B, 3, S, S] take from the method's pools as they stand, one entry a layer (or one for all);
        empty if the method has none."""
        return []

    def answers_kept(self, backbone: Any) -> list[Kept]:
        """Frozen models that are asked once an image, and how much of their answers is held in memory."""
        return []

    def kept_bytes(self) -> int:
        """Bytes kept between tasks: all state except what is only measured for display."""
        return sum(v.numel() * v.element_size() for k, v in self.state_dict().items() if k not in self.display_only())

    def display_only(self) -> set[str]:
        """Names of state that training never reads."""
        return set()
