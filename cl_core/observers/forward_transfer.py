"""Probe FWD: do features get better or worse for future tasks?

Future tasks have no classifier and thus no accuracy. A nearest-class-mean probe needs no training and can be evaluated
on any task at any time, including before the first one:

    guess(x) = argmax_c cos(x, μ_c),   μ_c = mean of current unit features of the first n training images of class c;
    all classes of the stream compete

Its accuracies a_t,i replace the accuracy matrix in FWD_t (`metrics.forward_transfer_over_time`), which gives probe FWD.
Training is not affected: the labels of future tasks are used only here.
"""

from __future__ import annotations

import time
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.events import Clock, Event, ForwardTransferMeasured
from cl_core.observers.landing import copied
from cl_core.observers.observer import Observer, View
from cl_core.streams.stream import Split, TaskStream

IMAGES_PER_CLASS = {"train": 10, "test": 20}  # for the means, and for evaluation
BATCH = 250


class ForwardProbe(Observer):
    """The first few training and test images of every class; no state."""

    name = "forward probe"

    def started(self, view: View) -> list[Event]:
        return self.measure(view.method, view.backbone, view.clock)

    def task_measured(self, view: View) -> list[Event]:
        return self.measure(view.method, view.backbone, view.clock)

    def __init__(self, stream: TaskStream) -> None:
        self.tasks, self.classes = len(stream), len(stream.class_names)
        self._prepare = stream[0].prepare
        self._known, self._asked = (
            _first_of_each([getattr(task, part) for task in stream], self.classes, count)
            for part, count in IMAGES_PER_CLASS.items()
        )
        self._task_of = torch.tensor([task.index for task in stream for _ in task.classes])

    @torch.no_grad()
    def measure(self, method: Any, backbone: Any, clock: Clock) -> list[Event]:
        started, device = time.perf_counter(), next(backbone.parameters()).device
        known, asked = copied([self._features(method, backbone, part, device) for part in (self._known, self._asked)])
        means = torch.stack([known[self._known.labels == c].mean(dim=0) for c in range(self.classes)])
        right = (asked @ F.normalize(means, dim=1).mT).argmax(dim=1) == self._asked.labels
        tasks = self._task_of[self._asked.labels]
        row = [100 * float(right[tasks == task].float().mean()) for task in range(self.tasks)]
        return [ForwardTransferMeasured(clock, row, IMAGES_PER_CLASS["train"], time.perf_counter() - started)]

    def _features(self, method: Any, backbone: Any, part: Split, device: torch.device) -> Tensor:
        """Unit features [n, d]."""
        found = [
            method.features(backbone, self._prepare(pictures).to(device), ids=ids).pooled
            for pictures, ids in zip(part.pictures.split(BATCH), cast(Tensor, part.ids).split(BATCH), strict=True)
        ]
        return F.normalize(torch.cat(found), dim=1)


def _first_of_each(splits: list[Split], classes: int, count: int) -> Split:
    """The first `count` images of every class, class by class."""
    labels = torch.cat([split.labels for split in splits])
    rows = torch.cat([torch.nonzero(labels == c)[:count, 0] for c in range(classes)])
    starts = torch.tensor([0, *(len(split) for split in splits)]).cumsum(0)
    pictures = [
        split.pictures[rows[(rows >= low) & (rows < high)] - low]
        for split, low, high in zip(splits, starts[:-1].tolist(), starts[1:].tolist(), strict=True)
    ]
    ids = torch.cat([cast(Tensor, split.ids) for split in splits])  # streams assign ids to their images
    return Split(torch.cat(pictures), labels[rows], ids[rows])
