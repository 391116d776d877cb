"""Predictions of every readout for every test image after each task, from the evaluation pass.

margin(x) = score of the true class − best score of another competing class        correct while > 0

Shapes: n stored images of a task, r readouts, C competing classes. At most `images` of the stream's test images are
followed: each task's share of them, evenly spaced, so that classes keep their shares (a split is stored class by
class).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.events import Clock, Event, ImagesClassified, ImagesStored
from cl_core.methods.parts.event_values import array
from cl_core.observers.observer import Observer, View
from cl_core.streams.stream import TaskStream, unit_range

SIDE = 32  # maximum side of stored images in pixels
LARGEST = 60_000.0  # margins are stored as float16, at most 65,504
PORTION = 500  # images resized per batch


def margins(scores: Tensor, labels: Tensor) -> Tensor:
    """[B] margins of scores [B, C] with the true class of each row in `labels` [B], from 0."""
    true = scores.gather(1, labels[:, None])[:, 0]
    return true - scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1)


def followed(stream: TaskStream, most: int) -> dict[int, Tensor]:
    """Task → indices [n] of the followed test images; all if there are at most `most`."""
    total = sum(len(task.test) for task in stream)
    found = {}
    for task in stream:
        size = len(task.test)
        count = size if total <= most else most * size // total
        if count:
            found[task.index] = torch.arange(count) * size // count
    return found


class ImageAnswers(Observer):
    """Stores the images before training, and the predictions of each evaluation pass."""

    name = "image answers"

    def __init__(self, rows: dict[int, Tensor]) -> None:
        self.rows = rows

    def started(self, view: View) -> list[Event]:
        said: list[Event] = []
        for index, rows in self.rows.items():
            test = view.stream[index].test
            small = _small(test.pictures, rows)
            said.append(
                ImagesStored(Clock(index), array(small), array(rows.int()), array(test.labels[rows].short()), len(test))
            )
        return [*said, *self._answers(view)]

    def task_measured(self, view: View) -> list[Event]:
        return self._answers(view)

    def _answers(self, view: View) -> list[Event]:
        return [
            ImagesClassified(
                view.clock,
                index,
                list(answers.of),
                array(torch.stack([predicted for predicted, _ in answers.of.values()])),
                array(torch.stack([kept for _, kept in answers.of.values()])),
            )
            for index, answers in view.answers.items()
        ]


def _small(pictures: Tensor, rows: Tensor) -> Tensor:
    """[n, s, s, 3] uint8 of the images [·, 3, S, S] at `rows`, s = min(S, SIDE)."""
    parts = []
    for portion in rows.split(PORTION):
        shown = unit_range(pictures[portion])
        if shown.shape[-1] > SIDE:
            shown = F.interpolate(shown, size=(SIDE, SIDE), mode="area")
        parts.append((shown * 255).round().byte().permute(0, 2, 3, 1))
    return torch.cat(parts).contiguous()
