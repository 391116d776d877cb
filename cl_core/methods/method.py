"""What every method is to the engine: a module that holds only what is learned or kept; the backbone is handed in.

The engine's course through one task:

    begin_task → refresh → (loss → backward → optimiser step → projections)* → survey* → end_task

`refresh` derives projectors and the like from state and settings. It runs after begin_task and after loading, and what
it derives is never saved, so resume and fork are one path.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from cl_core.backbones.features import Features, Tap
from cl_core.events import Clock, Event


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


class Method(nn.Module, abc.ABC):
    """Abstract. A subclass is final; what several share lives in a component, `linalg` or the backbone."""

    Config: ClassVar[type]
    trains_on_all: ClassVar[bool] = False  # True: trained once on the union of all tasks

    def __init__(self, config: Any, seed: int) -> None:
        super().__init__()
        self.config, self.seed = config, seed

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
    def features(self, backbone: Any, images: Tensor, taps: Iterable[Tap] = ()) -> Features:
        """How this method looks at images [B, 3, S, S]."""

    @abc.abstractmethod
    def classify(self, pooled: Tensor) -> Tensor:
        """Logits [B, classes seen] of features [B, d]; column = class id in order of arrival."""

    @abc.abstractmethod
    def loss(self, backbone: Any, images: Tensor, labels: Tensor) -> Loss:
        """The training loss of one batch of the current task."""

    def projections(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Parameter name → map on the step the optimiser proposes. Empty: steps are taken as they are."""
        return {}

    def survey_taps(self, measure: bool) -> tuple[Tap, ...] | None:
        """Activations `survey` wants of the finished task's training images; None: no survey. `measure`: also for
        display."""
        return None

    def survey(self, backbone: Any, features: Features, labels: Tensor) -> None:
        """Take in one batch of the finished task's training images (no augmentation, full precision, each image
        once)."""

    def end_task(self, clock: Clock, measure: bool) -> list[Event]:
        """Fold the survey into what is kept; with `measure`, say what can be seen in it."""
        return []

    def probe_prompts(self) -> Tensor | None:
        """The prompts [L, M, d] as they stand, for drift and layer-local comparisons; None if the method has none."""
        return None

    def kept_bytes(self) -> int:
        """Bytes kept between tasks: all state except what is only measured for display."""
        return sum(v.numel() * v.element_size() for k, v in self.state_dict().items() if k not in self.display_only())

    def display_only(self) -> set[str]:
        """Names of state that training never reads."""
        return set()
