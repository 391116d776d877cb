"""Observers: called at each stage of a task, they read the run's state and never change it.

Whether an observer applies depends on a method's capabilities (small protocols defined next to each observer), never on
its name. Observers have their own state, saved with the run. One that fails emits an event and is disabled; training
continues.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import Features, Tap
from cl_core.events import Clock, Event, MeasurementStopped
from cl_core.linalg.validation import asked_together
from cl_core.methods.method import Method
from cl_core.streams.stream import Batch, TaskStream

Kind = TypeVar("Kind", bound="Observer")


@dataclass(frozen=True)
class Answers:
    """Predictions for one task's followed test images: readout → (predicted [n] int16, margins [n] float16)."""

    of: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class View:
    """Read-only state for observers. `learned`: tasks of the stream trained so far; `rivals(task)`: the classes
    competing for its images; `due`: whether probe images are measured at the end of this epoch; `answers`: task →
    predictions of the preceding evaluation pass for its followed test images."""

    method: Method
    backbone: Backbone
    stream: TaskStream
    clock: Clock
    learned: Sequence[int]
    rivals: Callable[[int], range]
    due: bool = False
    answers: Mapping[int, Answers] = field(default_factory=dict)


class Observer:
    """Abstract: subclasses override the hooks they need."""

    name: ClassVar[str]
    taps: tuple[Tap, ...] = ()  # required activations of the finished task's training images
    batch_size: int | None = None  # preferred batch size of `collect`, or None

    def started(self, view: View) -> list[Event]:
        """Before the first step of the run."""
        return []

    def task_begun(self, view: View) -> list[Event]:
        """Before the first step of a task."""
        return []

    def step_taken(self, view: View, given: Mapping[str, Tensor]) -> list[Event]:
        """After each step; `given`: parameter → the input of its constraint, a gradient or a step."""
        return []

    def epoch_ended(self, view: View) -> list[Event]:
        return []

    def collect(self, view: View, features: Features, batch: Batch) -> list[Event]:
        """One batch of the finished task's training images, if it has `taps`: each once, without augmentation."""
        return []

    def task_trained(self, view: View) -> list[Event]:
        """After the last step of a task, before the method's `end_task`."""
        return []

    def task_learned(self, view: View) -> list[Event]:
        """After the method's `end_task`."""
        return []

    def task_measured(self, view: View) -> list[Event]:
        """After the accuracies at the end of the task."""
        return []

    def state_dict(self) -> dict[str, Tensor]:
        """Its state, without `references`."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore from `state_dict`; tensors are on the CPU."""

    def references(self) -> dict[str, dict[str, Tensor]]:
        """Large constant tables by name: saved once, not with every checkpoint."""
        return {}

    def load_references(self, references: Mapping[str, dict[str, Tensor]]) -> None:
        """Restore `references`."""


class Observers:
    """The observers of a run, in the order of their events."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.all = tuple(observers)
        self.stopped: dict[str, str] = {}  # name → why it was disabled

    def __iter__(self) -> Iterator[Observer]:
        return (observer for observer in self.all if observer.name not in self.stopped)

    def find(self, kind: type[Kind]) -> Kind | None:
        return next((observer for observer in self.all if isinstance(observer, kind)), None)

    @torch.no_grad()
    def tell(self, point: str, view: View, *others: Any, only: Callable[[Observer], bool] | None = None) -> list[Event]:
        """Call the hook `point` of every observer; returns their events in order."""
        said: list[Event] = []
        for observer in self:
            if only is not None and not only(observer):
                continue
            try:
                with asked_together():  # the failure is this observer's
                    said += getattr(observer, point)(view, *others)
            except Exception as error:
                first = (str(error).splitlines() or [""])[0]
                self.stopped[observer.name] = reason = f"{type(error).__name__}: {first}"
                said.append(MeasurementStopped(view.clock, observer.name, reason, traceback.format_exc()))
        return said

    # ------------------------------------------------------------ the pass at the end of a task

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Required activations of the finished task's training images, each once."""
        return tuple(dict.fromkeys(tap for observer in self for tap in observer.taps))

    @property
    def batch_size(self) -> int | None:
        return next((observer.batch_size for observer in self if observer.batch_size), None)

    def collect(self, view: View, features: Features, batch: Batch) -> list[Event]:
        return self.tell("collect", view, features, batch, only=lambda observer: bool(observer.taps))

    # ------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        return {"stopped": dict(self.stopped), **{observer.name: observer.state_dict() for observer in self}}

    def restore(self, state: Mapping[str, Any], references: Mapping[str, dict[str, Tensor]]) -> None:
        self.stopped = dict(state.get("stopped", {}))
        for observer in self:
            observer.load_state_dict(state.get(observer.name, {}))
            start = f"{observer.name}-"
            own = {name.removeprefix(start): table for name, table in references.items() if name.startswith(start)}
            observer.load_references(own)

    def references(self) -> dict[str, dict[str, Tensor]]:
        return {f"{observer.name}-{name}": table for observer in self for name, table in observer.references().items()}
