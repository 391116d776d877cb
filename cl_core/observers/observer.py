"""What watches a run: observers, told at each point of a task what has just happened, reading and never changing it.

Whether there is anything to see is asked of what a method has (the small protocols beside each observer), never of its
name. What an observer remembers is its own, saved with the run. One that fails says so in an event and is left out from
then on; training goes on.
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
    """Answers for one task's followed test images: readout → (predicted [n] int16, margins [n] float16)."""

    of: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class View:
    """What an observer may look at. `learned`: tasks of the stream trained so far; `rivals(task)`: the classes that
    compete for its images; `due`: whether a look at probe images falls on this epoch's end; `answers`: task → what the
    evaluation pass just before has heard of its followed test images."""

    method: Method
    backbone: Backbone
    stream: TaskStream
    clock: Clock
    learned: Sequence[int]
    rivals: Callable[[int], range]
    due: bool = False
    answers: Mapping[int, Answers] = field(default_factory=dict)


class Observer:
    """Abstract: subclasses override the points they need."""

    name: ClassVar[str]
    taps: tuple[Tap, ...] = ()  # activations it wants of the finished task's training images
    batch_size: int | None = None  # preferred batch size of `collect`, or None

    def started(self, view: View) -> list[Event]:
        """Before the first step of the run."""
        return []

    def task_begun(self, view: View) -> list[Event]:
        """Before the first step of a task."""
        return []

    def step_taken(self, view: View, given: Mapping[str, Tensor]) -> list[Event]:
        """After each step; `given`: parameter → what its constraint was given, a gradient or a step."""
        return []

    def epoch_ended(self, view: View) -> list[Event]:
        return []

    def collect(self, view: View, features: Features, batch: Batch) -> list[Event]:
        """One batch of the finished task's training images, if it has `taps`: each once, without augmentation."""
        return []

    def task_trained(self, view: View) -> list[Event]:
        """After the last step of a task, before the method folds it into what it keeps."""
        return []

    def task_learned(self, view: View) -> list[Event]:
        """After the method has folded the task."""
        return []

    def task_measured(self, view: View) -> list[Event]:
        """After the accuracies of the task's end."""
        return []

    def state_dict(self) -> dict[str, Tensor]:
        """What it remembers, apart from `references`."""
        return {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Undo `state_dict`; tensors lie on the CPU."""

    def references(self) -> dict[str, dict[str, Tensor]]:
        """Large tables that never change once they are there, by name: saved once, not with every checkpoint."""
        return {}

    def load_references(self, references: Mapping[str, dict[str, Tensor]]) -> None:
        """Undo `references`."""


class Observers:
    """The observers of a run, in the order in which their events are said."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self.all = tuple(observers)
        self.stopped: dict[str, str] = {}  # name → why it was left out

    def __iter__(self) -> Iterator[Observer]:
        return (observer for observer in self.all if observer.name not in self.stopped)

    def find(self, kind: type[Kind]) -> Kind | None:
        return next((observer for observer in self.all if isinstance(observer, kind)), None)

    @torch.no_grad()
    def tell(self, point: str, view: View, *others: Any, only: Callable[[Observer], bool] | None = None) -> list[Event]:
        """Let every observer look (`point`: the name of one of its methods); their events in order."""
        said: list[Event] = []
        for observer in self:
            if only is not None and not only(observer):
                continue
            try:
                with asked_together():  # what fails is this observer's
                    said += getattr(observer, point)(view, *others)
            except Exception as error:
                first = (str(error).splitlines() or [""])[0]
                self.stopped[observer.name] = reason = f"{type(error).__name__}: {first}"
                said.append(MeasurementStopped(view.clock, observer.name, reason, traceback.format_exc()))
        return said

    # ------------------------------------------------------------ the pass at a task's end

    @property
    def taps(self) -> tuple[Tap, ...]:
        """Activations wanted of the finished task's training images, each once."""
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
