"""The training loop as a generator of event groups (moments).

A moment is the tuple of events of one indivisible piece of work: a step with its probes, a survey, one row of
accuracies. The state is consistent at each `yield`. The cursor names the *next* piece of work and moves before each
yield, so a trainer stopped after any moment, saved with `state()` and restored into new objects continues exactly where
it stopped.

One task:  begin → train (steps, epochs) → survey → measure
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch.optim import Optimizer

from cl_core.config import DiagnosticsConfig, RunConfig
from cl_core.events import (
    AnswersKept,
    Clock,
    EpochEnded,
    Event,
    PicturesSkipped,
    ProbesChosen,
    RunStarted,
    StepEnded,
    TaskEnded,
    TaskStarted,
)
from cl_core.linalg.validation import asked_together
from cl_core.methods.method import ChoosesEpochs, Collector, MeetsStream, Method, new_optimiser
from cl_core.observers.chosen import chosen_observers
from cl_core.observers.kept import KeepsAnswers, kept_bytes
from cl_core.observers.landing import landed
from cl_core.observers.observer import View
from cl_core.observers.older_states import with_observers
from cl_core.streams.augmentation import Augmentation
from cl_core.streams.stream import Batch, Task, TaskStream, mixed_seed
from cl_core.training.data_loader import Feed
from cl_core.training.device import OUT_OF_MEMORY, memory
from cl_core.training.environment import environment
from cl_core.training.evaluation import Evaluation
from cl_core.training.frozen_prefix import with_frozen_prefix
from cl_core.training.oom import OutOfMemory, fitting
from cl_core.training.plugged import plugged_observers
from cl_core.training.train_step import Stepper, StepResult

Moment = tuple[Event, ...]
_DOING = {  # stage → what is being done, before a task's name
    "start": "while preparing the run, before",
    "begin": "while preparing task",
    "train": "while gathering batches of task",
    "survey": "while looking over the training images of task",
    "measure": "while measuring after task",
}


@dataclass(frozen=True)
class Cursor:
    """The next piece of work: `stage` of training task `task`; in "train", batch `item` of `epoch`; `step` counts all
    steps."""

    task: int = 0
    stage: str = "start"  # start → begin → train → survey → measure → begin of the next task → end
    epoch: int = 0
    item: int = 0
    step: int = 0


class Trainer:
    """Trains one method on one stream and yields events. Independent of specific methods."""

    def __init__(
        self,
        config: RunConfig,
        stream: TaskStream,
        backbone: Any,
        method: Method,
        device: torch.device,
        precision: torch.dtype = torch.float32,
    ) -> None:
        """`precision`: what the backbone multiplies in while steps are trained and test images classified."""
        self.config, self.stream, self.device, self.precision = config, stream, device, precision
        self.method = method.to(device)
        self.backbone, self.prefix = with_frozen_prefix(backbone.to(device), self.method)
        self.curriculum = stream.joined() if method.trains_on_all else stream
        self.diagnostics: DiagnosticsConfig = config.diagnostics
        if isinstance(method, MeetsStream):
            method.setup(stream, self.backbone)
        self.feed, self.augmentation = Feed((stream, self.curriculum), device), Augmentation.of(config.training)
        self.stepper = Stepper(method, self.backbone, precision)
        self.evaluation = Evaluation(stream, self.backbone, method, self.feed, self.diagnostics, precision)
        self._probes = {task.index: task.probes(self.diagnostics.probe_images) for task in stream}
        self.observers = chosen_observers(
            self.diagnostics,
            stream,
            method,
            self.backbone,
            device,
            self._probes,
            self.evaluation.portioned,
            lambda task: self.feed.ordered(stream[task], "test", self.evaluation.batch),
            self.evaluation.followed,
            lambda: (self.cursor.task, self._steps(self._task) * self._epochs, config.training.batch_size),
            plugged_observers(),
        )
        assert config.seed is not None  # only a run trained elsewhere may lack one
        self._seed = config.seed
        self.cursor = Cursor()
        self.optimiser: Optimizer | None = None
        self._epoch_losses: dict[str, float] = {}  # sums over the epoch's steps so far, saved with the rest
        self._task_seconds = 0.0

    # ------------------------------------------------------------ stages of a run

    def run(self) -> Iterator[Moment]:
        """Moments from the cursor on, until the last task has been measured."""
        while self.cursor.stage != "end":
            try:
                yield from _on_the_processor(getattr(self, f"_{self.cursor.stage}")())
            except OUT_OF_MEMORY:  # raised below, once the tensors that the traceback refers to are freed
                details, left = traceback.format_exc(), memory(self.device)
            else:
                continue
            raise OutOfMemory(f"{_DOING[self.cursor.stage]} {self._task.title}", self.device, left, details, None)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run: those done, under whatever settings, and those left."""
        at, epochs = self.cursor, self._epochs
        left = sum(self._steps(self.curriculum[i]) * epochs for i in range(at.task, len(self.curriculum)))
        if at.stage == "train":
            left -= at.epoch * self._steps(self._task) + at.item
        elif at.stage in ("survey", "measure"):
            left -= epochs * self._steps(self._task)
        return at.step + left

    @property
    def _epochs(self) -> int:
        planned = self.config.training.epochs
        return self.method.epochs(planned) if isinstance(self.method, ChoosesEpochs) else planned

    def _start(self) -> Iterator[Moment]:
        self.method.begin_task(0, self.curriculum[0].classes)
        self.method.refresh()
        prepared = self._prepared(0)  # may decide how many steps follow
        trainable = sum(p.numel() for g in self.method.groups() for p in g.parameters.values())
        clock = Clock()
        moment: list[Event] = [
            RunStarted(
                clock,
                [
                    {"name": t.title, "classes": list(t.names), "train": len(t.train), "test": len(t.test)}
                    for t in self.stream
                ],
                self.stream.scenario,
                len(self.curriculum),
                self.total_steps,
                trainable,
                self.backbone.describe(),
                environment(self.device, self.precision),
            )
        ]
        for index, split in self._probes.items():
            pictures = (split.pictures * 255).round().byte().permute(0, 2, 3, 1).numpy()
            names = [self.stream.class_names[c] for c in split.labels.tolist()]
            moment.append(ProbesChosen(Clock(index), pictures, split.labels.numpy().astype(np.int16), names))
        skipped, notes = self.stream.skipped, self.stream.notes
        if skipped or notes:
            moment.append(PicturesSkipped(clock, len(skipped), list(skipped[:100]), list(notes[:100])))
        kept = self.method.answers_kept(self.backbone) if isinstance(self.method, KeepsAnswers) else []
        kept = [*kept, self.prefix.kept()] if self.prefix is not None else kept
        moment += [AnswersKept(clock, k.model, k.images, k.bytes) for k in kept]
        moment += [*prepared, *self.evaluation.before_training(clock), *self._tell("started", clock)]
        self.cursor = Cursor(stage="begin")
        yield tuple(moment)

    def _begin(self) -> Iterator[Moment]:
        task = self._task
        started, prepared = time.perf_counter(), []
        if self.prefix is not None:
            self.prefix.new_task()
        if self.cursor.task:  # the first was begun with the run, to count its parameters
            self.method.begin_task(self.cursor.task, task.classes)
            self.method.refresh()
            prepared = self._prepared(self.cursor.task)
        else:
            self.method.refresh()
        torch.manual_seed(mixed_seed(self._seed, "training", self.cursor.task))  # for dropout and the like
        trains = self._epochs > 0
        self.optimiser = new_optimiser(self.method.groups()) if trains else None
        begun = self._tell("task_begun", self._clock(-1))
        self._task_seconds = time.perf_counter() - started
        self.cursor = replace(self.cursor, stage="train" if trains else "survey", epoch=0, item=0)
        yield (TaskStarted(self._clock(-1), list(task.names), self._steps(task) * self._epochs), *prepared, *begun)

    def _train(self) -> Iterator[Moment]:
        task, training = self._task, self.config.training
        steps = self._steps(task)
        while self.cursor.epoch < self._epochs:
            epoch = self.cursor.epoch
            batches = self.feed.batches(
                task,
                training.batch_size,
                seed=self._seed,
                epoch=epoch,
                repeats=training.repeats,
                start=self.cursor.item,
                augmentation=self.augmentation,
            )
            for batch in batches:
                moment = self._step(batch)
                last = self.cursor.item + 1 == steps
                if last:
                    moment += self._epoch_ended(steps)
                self.cursor = (
                    replace(self.cursor, epoch=epoch + 1, item=0, step=self.cursor.step + 1)
                    if last
                    else replace(self.cursor, item=self.cursor.item + 1, step=self.cursor.step + 1)
                )
                if self.cursor.epoch == self._epochs:
                    self.cursor = replace(self.cursor, stage="survey", epoch=0)
                yield tuple(moment)
            if self.cursor.stage == "survey":
                return

    def _survey(self) -> Iterator[Moment]:
        """One pass over the finished task's training images serves the method, its observers and the stored
        statistics."""
        clock = self._clock(self._epochs - 1)
        started = time.perf_counter()
        said = self._collect(clock)
        said += self._tell("task_trained", clock)
        said += self.method.end_task(clock)
        said += self._tell("task_learned", clock)
        self.method.refresh()
        self._task_seconds += time.perf_counter() - started
        self.cursor = replace(self.cursor, stage="measure")
        yield (*said, TaskEnded(clock, self._task_seconds, kept_bytes(self.method)))

    def _collect(self, clock: Clock) -> list[Event]:
        """Images pass through the model once for the method and, where observers want activations that it does not,
        once more for these: what a method sees never depends on who else looks."""
        said: list[Event] = []
        asked, view = self.method.collectors(self.backbone), self._view(clock)
        self._collect_augmented([collector for collector in asked if collector.augmented])
        collectors = [collector for collector in asked if not collector.augmented]
        wanted = tuple(dict.fromkeys(tap for collector in collectors for tap in collector.taps))
        own = self.evaluation.begin_refit(self._task)
        if not collectors and not self.observers.taps and not self.evaluation.refits_always:
            return said
        size = next((collector.batch_size for collector in collectors), self.observers.batch_size or 100)
        for batch in self.feed.ordered(self._task, "train", size):
            shown, features = self.observers.taps, None
            if collectors:
                looks = next((collector.looks for collector in collectors if collector.looks is not None), None)
                features = self.evaluation.features(batch, wanted) if looks is None else looks(batch)
                for collector in collectors:
                    collector.add(features, batch)
            if features is None or not set(shown) <= set(wanted):
                features = self.evaluation.features(batch, shown)
            if shown:
                said += self.observers.collect(view, features, batch)
            if own is not None:
                own.add(features.pooled, batch.labels - self._task.classes.start)
        if own is not None and self.evaluation.reads_statistics:
            self.evaluation.statistics.include(own, self._task.classes.start)
        return said

    def _collect_augmented(self, collectors: Sequence[Collector]) -> None:
        """Further passes over the training images, augmented as in training but with independent random numbers."""
        for collector in collectors:
            for number in range(collector.augmented):
                batches = self.feed.batches(
                    self._task,
                    collector.batch_size,
                    seed=self._seed,
                    epoch=self._epochs + number,
                    augmentation=self.augmentation,
                )
                for batch in batches:
                    collector.add(self.evaluation.features(batch, collector.taps), batch)

    def _measure(self) -> Iterator[Moment]:
        clock, done = self._clock(self._epochs - 1), self._last_task()
        moment = [
            *self.evaluation.accuracies(clock, self._learned(), self._seen, last=done),
            *self._tell("task_measured", clock),
        ]
        self.cursor = Cursor(self.cursor.task + 1, "end" if done else "begin", 0, 0, self.cursor.step)
        yield tuple(moment)

    # ------------------------------------------------------------ pieces of a moment

    def _step(self, batch: Batch) -> list[Event]:
        started = time.perf_counter()
        training, steps, epoch = self.config.training, self._steps(self._task), self.cursor.epoch
        done = epoch * steps + self.cursor.item
        factor = training.learning_rate_factor(epoch, done, self._epochs * steps, self._epochs)
        taken = self._taken(batch, factor)
        ended = StepEnded(
            self._clock(epoch),
            taken.losses,
            {g.name: g.rate * factor for g in self.method.groups()},
            taken.proposed,
            taken.applied,
            100 * self._tally(taken.losses, taken.correct),
            time.perf_counter() - started,
        )
        self._task_seconds += ended.seconds
        return [ended, *self._tell("step_taken", ended.clock, taken.given)]

    def _taken(self, batch: Batch, factor: float) -> StepResult:
        """The step; where memory does not do, what batch would fit is found out before the run ends with it."""
        optimiser = self.optimiser
        assert optimiser is not None
        where = f"task {self._task.title}, step {self.cursor.step + 1}"
        try:
            return self.stepper.take(optimiser, batch, factor, where)
        except OUT_OF_MEMORY:
            details, left = traceback.format_exc(), memory(self.device)
        size = len(batch.labels)
        fits = fitting(lambda count: self.stepper.attempt(optimiser, batch, count), size, self.device)
        raise OutOfMemory(f"with {size} images in {where}", self.device, left, details, fits)

    def _tally(self, losses: dict[str, float], correct: float) -> float:
        for name, value in {**losses, "correct": correct}.items():
            self._epoch_losses[name] = self._epoch_losses.get(name, 0.0) + value
        return correct

    def _epoch_ended(self, steps: int) -> list[Event]:
        means = {name: value / steps for name, value in self._epoch_losses.items()}
        self._epoch_losses = {}
        clock = self._clock(self.cursor.epoch)
        ended = EpochEnded(clock, {k: v for k, v in means.items() if k != "correct"}, 100 * means["correct"])
        done = self.cursor.epoch + 1
        due = done % self.diagnostics.probe_epochs == 0 and done < self._epochs  # then comes measure
        return [ended, *self._tell("epoch_ended", clock, due=due)]

    def _tell(self, point: str, clock: Clock, *others: Any, due: bool = False) -> list[Event]:
        return self.observers.tell(point, self._view(clock, due=due), *others)

    def _view(self, clock: Clock, *, due: bool = False) -> View:
        rivals = lambda task: self.evaluation.rivals(task, self._seen)
        answers = self.evaluation.answers
        return View(self.method, self.backbone, self.stream, clock, self._learned(), rivals, due, answers)

    def _prepared(self, index: int) -> list[Event]:
        """The method's own preparation for task number `index`, with that task's batches in the order of any epoch."""
        task, training = self.curriculum[index], self.config.training

        def epoch(number: int) -> Iterator[Batch]:
            yield from self.feed.batches(task, training.batch_size, seed=self._seed, epoch=number)

        return self.method.prepare_task(self.backbone, epoch, Clock(task.index, 0, self.cursor.step))

    # ------------------------------------------------------------ progress

    @property
    def _task(self) -> Task:
        return self.curriculum[self.cursor.task]

    def _last_task(self) -> bool:
        return self.cursor.task + 1 == len(self.curriculum)

    @property
    def _seen(self) -> range:
        """Classes trained so far, the current task's included."""
        return range(self._task.classes.stop)

    def _learned(self) -> list[int]:
        """Evaluation tasks whose classes have been trained, the current one included."""
        return list(range(self._task.index + 1))

    def _steps(self, task: Task) -> int:
        return task.steps(self.config.training.batch_size, self.config.training.repeats)

    def _clock(self, epoch: int) -> Clock:
        return Clock(self._task.index, epoch, self.cursor.step)

    # ------------------------------------------------------------ state

    def state(self) -> dict[str, Any]:
        """The complete state for resuming, as nested dicts of plain values and tensors."""
        return {
            "cursor": asdict(self.cursor),
            "epoch_losses": dict(self._epoch_losses),
            "task_seconds": self._task_seconds,
            "method": self.method.state_dict(),
            "optimiser": cast(Optimizer, self.optimiser).state_dict() if self.cursor.stage == "train" else {},
            "statistics": self.evaluation.statistics.state_dict(),
            "refit": self.evaluation.refit_state() if self.cursor.stage == "measure" else {},
            "observers": self.observers.state(),
            "references": self.observers.references(),
            "random": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Restore a newly built trainer from `state()`."""
        self.cursor = Cursor(**state["cursor"])
        begun = self.cursor.task + (self.cursor.stage not in ("start", "begin", "end"))
        begun = max(begun, int(self.cursor.stage != "start"))  # the first task is begun with the run
        for index in range(begun):
            self.method.begin_task(index, self.curriculum[index].classes)
        state = with_observers(state, self.method)
        self.method.load_state_dict(state["method"])
        self.method.refresh()
        self._epoch_losses, self._task_seconds = dict(state["epoch_losses"]), state["task_seconds"]
        self.evaluation.statistics.load_state_dict(state["statistics"])
        if refit := state.get("refit"):
            own = self.evaluation.begin_refit(self._task)
            if own is not None:
                own.load_state_dict(refit)
        there = lambda table: {name: value.to(self.device) for name, value in table.items()}
        observers = {name: there(own) if name != "stopped" else own for name, own in state["observers"].items()}
        self.observers.restore(observers, state.get("references", {}))
        if self.cursor.stage == "train":  # elsewhere a new one follows at the next task
            self.optimiser = new_optimiser(self.method.groups())
            self.optimiser.load_state_dict(state["optimiser"])
        torch.set_rng_state(state["random"].cpu())


def _on_the_processor(moments: Iterator[Moment]) -> Iterator[Moment]:
    """Moments with nothing in them that lies on a device: what their events hold, and what was asked of values on the
    way, is read once a moment, when all of it has been queued."""
    while True:
        with asked_together():
            moment = next(moments, None)
        if moment is None:
            return
        yield landed(moment)
