"""What a model as it stands makes of test images: rows of the accuracy matrices, and what images take from pools.

Counts and sums stay on the device until a round is over: one copy a round, not one a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import Features, Tap
from cl_core.config import DiagnosticsConfig
from cl_core.events import AccuracyMeasured, Clock, Event
from cl_core.methods.method import Method, ReadsClasses
from cl_core.observers.lda_readout import ClassStatistics
from cl_core.streams.stream import Batch, TaskStream
from cl_core.training.data_loader import Feed
from cl_core.training.device import OUT_OF_MEMORY, free_memory

BATCH = 250
UNTOUCHED = "zero-shot"  # the readout of the model before a method has changed anything

Readouts = dict[str, Callable[[Tensor, range], Tensor]]  # name → scores [B, |classes|] of features [B, d]


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

    @property
    def reads_statistics(self) -> bool:
        """Stored statistics isolate drift from a badly calibrated head; where class texts are the head and tasks are
        known, nothing is to be isolated."""
        return self.diagnostics.readout and not self.stream.task_is_known

    def fresh_statistics(self) -> ClassStatistics:
        return ClassStatistics(len(self.stream.class_names), self.backbone.pooled_width).to(self.feed.device)

    @torch.no_grad()
    def features(self, batch: Batch, taps: Iterable[Tap] = ()) -> Features:
        return self.method.features(self.backbone, batch.images, taps, batch.ids)

    @torch.no_grad()
    def before_training(self, clock: Clock) -> list[Event]:
        """What the pre-trained model can do already, on every task, where tasks are known and classes are read: the
        model without a method's edit, which may draw something at random before it is trained (prompts)."""
        if not (self.stream.task_is_known and isinstance(self.method, ReadsClasses)):
            return []
        rows = self._rows({UNTOUCHED: self.method.classify}, [], range(0))
        return [AccuracyMeasured(clock, name, row) for name, row in rows.items()]

    @torch.no_grad()
    def accuracies(self, clock: Clock, learned: list[int], seen: range, *, last: bool) -> list[Event]:
        """One row of each accuracy matrix from one pass over the test images: of all tasks learned so far, or of all
        tasks where an image comes with its task and the method can score classes that it has not trained. `last`: no
        task follows."""
        if self.stream.task_is_known:
            readouts: Readouts = {"task-incremental": self.method.classify}
        else:
            readouts = {"class-incremental": self.method.classify}
            if self.reads_statistics:
                readouts["stored statistics"] = self.statistics.classifier()
                if self.diagnostics.readout_control == "every" or last:
                    recomputed = self.portioned(lambda: self._recomputed(learned))
                    readouts["recomputed statistics"] = recomputed.classifier()
            readouts["task-incremental"] = self.method.classify
        headline = self.diagnostics.headline
        return [
            AccuracyMeasured(clock, name, row, headline=name == headline)
            for name, row in self._rows(readouts, learned, seen).items()
        ]

    def rivals(self, index: int, seen: range) -> range:
        """The classes that compete for the pictures of a task."""
        return self.stream[index].classes if self.stream.task_is_known else seen

    def _rows(self, readouts: Readouts, learned: list[int], seen: range) -> dict[str, list[float | None]]:
        """Percent right per readout and task. A "task-incremental" readout lets the task's own classes compete, any
        other all that `rivals` names."""
        rows: dict[str, list[float | None]] = {name: [None] * len(self.stream) for name in readouts}
        untrained = self.stream.task_is_known and isinstance(self.method, ReadsClasses)
        asked = list(range(len(self.stream))) if untrained else learned
        counts = [self.portioned(partial(self._right, index, readouts, seen)) for index in asked]
        for index, right in zip(asked, torch.stack(counts).tolist(), strict=True):
            for name, count in zip(readouts, right, strict=True):
                rows[name][index] = 100 * count / len(self.stream[index].test)
        return rows

    def portioned(self, work: Callable[[], Any]) -> Any:
        """What `work` makes of images in batches of `self.batch`. Where memory does not do, once more in batches half
        as large, and so from here on: what is counted and added up does not depend on how images are portioned."""
        while True:
            try:
                return work()
            except OUT_OF_MEMORY:
                if self.batch == 1:
                    raise
            self.batch = max(1, self.batch // 2)
            free_memory(self.feed.device)

    def _right(self, index: int, readouts: Readouts, seen: range) -> Tensor:
        """Test images of a task that each readout gets right: [readouts] int64, on the device."""
        task, right = self.stream[index], torch.zeros(len(readouts), dtype=torch.int64, device=self.feed.device)
        for batch in self.feed.ordered(task, "test", self.batch):
            with self.backbone.computing_in(self.precision):
                seen_now = self.backbone.features(batch.images) if UNTOUCHED in readouts else self.features(batch)
                pooled = exact = seen_now.pooled
            if self.precision != torch.float32 and any(map(_of_statistics, readouts)):
                exact = self.features(batch).pooled  # as the features are that the statistics were taken of
            for place, (name, classify) in enumerate(readouts.items()):
                rivals = task.classes if name == "task-incremental" else self.rivals(index, seen)
                guess = classify(exact if _of_statistics(name) else pooled, rivals).argmax(dim=1) + rivals.start
                right[place] += (guess == batch.labels).sum()
        return right

    def _recomputed(self, learned: list[int]) -> ClassStatistics:
        """Class statistics of all tasks learned so far, with the features as they are now."""
        statistics = self.fresh_statistics()
        for index in learned:
            for batch in self.feed.ordered(self.stream[index], "train", self.batch):
                statistics.add(self.features(batch).pooled, batch.labels)
        return statistics


def _of_statistics(readout: str) -> bool:
    return readout.endswith("statistics")
