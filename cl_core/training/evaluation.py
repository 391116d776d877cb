"""Evaluation of the current model on test images: rows of the accuracy matrices, and selections from pools.

Counts and sums stay on the device during an evaluation: one copy per evaluation, not per batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import Features, Tap
from cl_core.config import DiagnosticsConfig
from cl_core.events import AccuracyMeasured, Clock, Event, RefitMeasured
from cl_core.methods.method import Method, ReadsClasses
from cl_core.observers.image_answers import LARGEST, followed, margins
from cl_core.observers.lda_readout import REFIT_SHRINKAGE, ClassStatistics
from cl_core.observers.observer import Answers
from cl_core.readouts import CLASS_INCREMENTAL, READOUTS, RECOMPUTED, REFITTED, STORED, TASK_INCREMENTAL, ZERO_SHOT
from cl_core.streams.stream import Batch, Task, TaskStream
from cl_core.training.data_loader import Feed
from cl_core.training.device import OUT_OF_MEMORY, free_memory

BATCH = 250

Classifier = Callable[[Tensor, range], Tensor]  # scores [B, |classes|] of features [B, d]
Readouts = dict[str, Classifier]


class Evaluation:
    """Holds no state of the run. `seen` is the range of classes trained so far, `learned` the tasks they came with."""

    def __init__(
        self,
        stream: TaskStream,
        backbone: Backbone,
        method: Method,
        feed: Feed,
        diagnostics: DiagnosticsConfig,
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.stream, self.backbone, self.method, self.feed = stream, backbone, method, feed
        self.diagnostics, self.precision = diagnostics, precision
        self.statistics = self.fresh_statistics()  # of features when each task was learned; saved by the trainer
        self.batch = BATCH
        self.followed = followed(stream, diagnostics.images)  # task → places of test images whose answers are stored
        self.answers: dict[int, Answers] = {}  # of the newest pass over the test images
        self._own: ClassStatistics | None = None  # of the finished task alone, from its survey to its measurement

    @property
    def reads_statistics(self) -> bool:
        """Stored statistics isolate drift from a badly calibrated head; where class texts are the head and tasks are
        known, nothing is to be isolated."""
        return self.diagnostics.readout and not self.stream.task_is_known

    @property
    def looks_again(self) -> bool:
        """Whether training images of all tasks so far are looked at after every task, not only after the last."""
        return self.diagnostics.readout and self.diagnostics.readout_control == "every"

    @property
    def refits_always(self) -> bool:
        """Whether a finished task's training images are looked at even where neither method nor observers ask."""
        return self.reads_statistics or self.looks_again

    def fresh_statistics(self) -> ClassStatistics:
        return ClassStatistics(len(self.stream.class_names), self.backbone.pooled_width).to(self.feed.device)

    def begin_refit(self, task: Task) -> ClassStatistics | None:
        """Empty statistics for the finished task's classes, filled by its survey; None if no readout needs them."""
        self._own = self._statistics_of(task) if self.refits_always else None
        return self._own

    def refit_state(self) -> dict[str, Tensor]:
        return {} if self._own is None else self._own.state_dict()

    def _statistics_of(self, task: Task) -> ClassStatistics:
        return ClassStatistics(len(task.classes), self.backbone.pooled_width).to(self.feed.device)

    @torch.no_grad()
    def features(self, batch: Batch, taps: Iterable[Tap] = ()) -> Features:
        return self.method.features(self.backbone, batch.images, taps, batch.ids)

    @torch.no_grad()
    def before_training(self, clock: Clock) -> list[Event]:
        """What the pre-trained model can do already, on every task, where tasks are known and classes are read: the
        model without a method's edit, which may draw something at random before it is trained (prompts)."""
        if not (self.stream.task_is_known and isinstance(self.method, ReadsClasses)):
            return []
        rows = self._rows({ZERO_SHOT: self.method.classify}, {}, [], range(0))
        return [AccuracyMeasured(clock, name, row) for name, row in rows.items()]

    @torch.no_grad()
    def accuracies(self, clock: Clock, learned: list[int], seen: range, *, last: bool) -> list[Event]:
        """One row of each accuracy matrix from one pass over the test images: of all tasks learned so far, or of all
        tasks where an image comes with its task and the method can score classes that it has not trained. `last`: no
        task follows."""
        refits, recomputed = self._just_learned(learned[-1]), None
        if self.looks_again or (self.reads_statistics and last):
            refits, recomputed = self.portioned(lambda: self._recomputed(learned))
        if self.stream.task_is_known:
            readouts: Readouts = {TASK_INCREMENTAL: self.method.classify}
        else:
            readouts = {CLASS_INCREMENTAL: self.method.classify}
            if self.reads_statistics:
                readouts[STORED] = self.statistics.classifier()
                if recomputed is not None:
                    readouts[RECOMPUTED] = recomputed.classifier()
            readouts[TASK_INCREMENTAL] = self.method.classify
        rows = self._rows(readouts, refits, learned, seen)
        refitted = rows.pop(REFITTED, None)
        headline = self.diagnostics.headline
        said: list[Event] = [
            AccuracyMeasured(clock, name, row, headline=name == headline) for name, row in rows.items()
        ]
        return said if refitted is None else [*said, RefitMeasured(clock, refitted)]

    def _just_learned(self, index: int) -> dict[int, Classifier]:
        """The readout fitted to the newest task's training images, if these were seen and were its own alone."""
        own, self._own = self._own, None
        if own is None or not own.counts.any() or len(own.counts) != len(self.stream[index].classes):
            return {}
        return {index: _for_one_task(own)}

    def rivals(self, index: int, seen: range) -> range:
        """The classes that compete for the pictures of a task."""
        return self.stream[index].classes if self.stream.task_is_known else seen

    def _rows(
        self, readouts: Readouts, refits: dict[int, Classifier], learned: list[int], seen: range
    ) -> dict[str, list[float | None]]:
        """Percent right per readout and task; what was answered for each followed image is left in `answers`. A
        readout that is told the task lets only its classes compete, any other all that `rivals` names. `refits`: task
        → a readout for its images alone."""
        names = [*readouts, *([REFITTED] if refits else [])]
        rows: dict[str, list[float | None]] = {name: [None] * len(self.stream) for name in names}
        untrained = self.stream.task_is_known and isinstance(self.method, ReadsClasses)
        asked = list(range(len(self.stream))) if untrained else learned
        counts, self.answers = [], {}
        for index in asked:
            own = {**readouts, REFITTED: refits[index]} if index in refits else readouts
            right, answers = self.portioned(partial(self._right, index, own, seen))
            counts.append(F.pad(right, (0, len(names) - len(right)), value=-1))
            if answers is not None:
                self.answers[index] = answers
        for index, right in zip(asked, torch.stack(counts).tolist(), strict=True):
            for name, count in zip(names, right, strict=True):
                rows[name][index] = None if count < 0 else 100 * count / len(self.stream[index].test)
        return rows

    def portioned(self, work: Callable[[], Any]) -> Any:
        """Run `work` on images in batches of `self.batch`. On out-of-memory, halve the batch and retry; the smaller
        size is kept. Counts and sums do not depend on the batch size."""
        while True:
            try:
                return work()
            except OUT_OF_MEMORY:
                if self.batch == 1:
                    raise
            self.batch = max(1, self.batch // 2)
            free_memory(self.feed.device)

    def _right(self, index: int, readouts: Readouts, seen: range) -> tuple[Tensor, Answers | None]:
        """Test images of a task that each readout gets right, [readouts] int64 on the device, and what it answers for
        those that are followed."""
        task, right = self.stream[index], torch.zeros(len(readouts), dtype=torch.int64, device=self.feed.device)
        rows, guesses, kept = self.followed.get(index), [], []
        untouched = lambda batch: self.backbone.features(batch.images, ids=batch.ids)
        look = untouched if ZERO_SHOT in readouts else self.features
        for batch in self.feed.ordered(task, "test", self.batch):
            with self.backbone.computing_in(self.precision):
                pooled = exact = look(batch).pooled
            if self.precision != torch.float32 and any(READOUTS[name].fitted for name in readouts):
                exact = self.features(batch).pooled  # float32, like the features the statistics were fitted on
            for place, (name, classify) in enumerate(readouts.items()):
                rivals = task.classes if READOUTS[name].task_known else self.rivals(index, seen)
                scores = classify(exact if READOUTS[name].fitted else pooled, rivals)
                guess = scores.argmax(dim=1) + rivals.start
                right[place] += (guess == batch.labels).sum()
                if rows is not None:
                    guesses.append(guess.short())
                    kept.append(margins(scores, batch.labels - rivals.start).clamp(-LARGEST, LARGEST).half())
        if rows is None:
            return right, None
        rows, count = rows.to(self.feed.device), len(readouts)
        whole = {
            name: (torch.cat(guesses[place::count])[rows], torch.cat(kept[place::count])[rows])
            for place, name in enumerate(readouts)
        }
        return right, Answers(whole)

    @torch.no_grad()
    def fitted_anew(self, index: int, learned: list[int], seen: range) -> tuple[dict[str, float], Answers | None]:
        """Percent of a task's test images that readouts fitted to the features as they are now get right, and what they
        answer for those that are followed: "refitted head", and where statistics are stored "recomputed statistics",
        which takes a look at the training images of all tasks in `learned`."""
        told = self.reads_statistics
        refits, recomputed = self.portioned(lambda: self._recomputed(learned if told else [index]))
        readouts = {REFITTED: refits[index]} | ({RECOMPUTED: recomputed.classifier()} if told else {})
        right, answers = self.portioned(partial(self._right, index, readouts, seen))
        total = len(self.stream[index].test)
        return {name: 100 * count / total for name, count in zip(readouts, right.tolist(), strict=True)}, answers

    def _recomputed(self, learned: list[int]) -> tuple[dict[int, Classifier], ClassStatistics]:
        """With the features as they are now: a readout fitted to each task learned so far, and the class statistics of
        all of them together."""
        refits, statistics = {}, self.fresh_statistics()
        for index in learned:
            task = self.stream[index]
            own = self._statistics_of(task)
            for batch in self.feed.ordered(task, "train", self.batch):
                own.add(self.features(batch).pooled, batch.labels - task.classes.start)
            refits[index] = _for_one_task(own)
            statistics.include(own, task.classes.start)
        return refits, statistics


def _for_one_task(own: ClassStatistics) -> Classifier:
    """The readout of a task's own classes from their statistics."""
    scores = own.classifier(REFIT_SHRINKAGE)
    return lambda features, classes: scores(features)
