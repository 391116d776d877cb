"""Loss on old tasks during a new one, on a few fixed images, measured as often as the budget allows.

    budget  = share × 3 × steps × images per step   in forward passes of one image; a step costs about three per image n
    = budget / LOOKS, 4 to 64 images: evenly spaced test images of all earlier tasks cadence = every ⌈steps × n /
    budget⌉ steps

The cost depends only on the settings, so results are reproducible. Loss is cross-entropy among the competing classes;
loss and accuracy are of the method's own heads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.events import Event, OldTasksMeasured
from cl_core.methods.parts.event_values import number
from cl_core.observers.observer import Observer, View

LOOKS = 8  # in a task, where a larger subset would leave fewer
FEWEST, MOST = 4, 64  # images


@dataclass(frozen=True)
class Cadence:
    """Number of images, and interval in steps; 0 images: never."""

    images: int
    every: int


def cadence(share: float, steps: int, size: int) -> Cadence:
    """The budget for a task of `steps` steps of `size` images."""
    budget = int(share * 3 * steps * size)
    if budget < FEWEST or not steps:
        return Cadence(0, 1)
    images = min(max(budget // LOOKS, FEWEST), MOST)
    return Cadence(images, -(-steps * images // budget))


class OldTasks(Observer):
    """Measures after the first step and then at its interval; from the second task on."""

    name = "old tasks"

    def __init__(self, share: float, plan: Callable[[], tuple[int, int, int]]) -> None:
        """`plan()`: tasks trained before the current one, its steps, and images a step."""
        self.share, self.plan = share, plan
        self.begun = -1  # first step of the task; saved, so that a resumed run measures at the same steps

    def task_begun(self, view: View) -> list[Event]:
        self.begun = view.clock.step
        return []

    def step_taken(self, view: View, given: Mapping[str, Tensor]) -> list[Event]:
        old, steps, size = self.plan()
        chosen = cadence(self.share, steps, size)
        if not old or not chosen.images or (view.clock.step - self.begun) % chosen.every:
            return []
        scores, labels = self._look(view, old, chosen.images)
        right = (scores.argmax(dim=1) == labels).float().mean()
        loss = F.cross_entropy(scores.float(), labels)
        return [OldTasksMeasured(view.clock, len(labels), number(100 * right), number(loss), chosen.every)]

    def _look(self, view: View, old: int, count: int) -> tuple[Tensor, Tensor]:
        """Scores [n, C] of the subset and its labels among the competing classes; unused columns are −∞."""
        device = next(view.backbone.parameters()).device
        parts = [(view.stream[index], rows) for index, rows in _spread(view, old, count)]
        images = torch.cat([task.prepare(task.test.pictures[rows]) for task, rows in parts]).to(device)
        numbers = [task.test.ids_of(rows) for task, rows in parts]
        ids = torch.cat([ids for ids in numbers if ids is not None])
        pooled = view.method.features(view.backbone, images, ids=ids if len(ids) == len(images) else None).pooled
        scores, labels = [], []
        for (task, rows), features in zip(parts, pooled.split([len(rows) for _, rows in parts]), strict=True):
            rivals = view.rivals(task.index)
            scores.append(view.method.classify(features, rivals))
            labels.append(task.test.labels[rows] - rivals.start)
        widest = max(part.shape[1] for part in scores)
        padded = [F.pad(part, (0, widest - part.shape[1]), value=-torch.inf) for part in scores]
        return torch.cat(padded), torch.cat(labels).to(device)

    def state_dict(self) -> dict[str, Tensor]:
        return {"begun": torch.tensor(self.begun)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.begun = int(state["begun"]) if "begun" in state else -1


def _spread(view: View, old: int, count: int) -> list[tuple[int, Tensor]]:
    """(task, indices among its test images) of `count` images distributed over `old` tasks, the newest first."""
    found = []
    for index in range(old):
        mine = count * (index + 1) // old - count * index // old
        size = len(view.stream[index].test)
        if mine:
            found.append((index, torch.arange(min(mine, size)) * size // min(mine, size)))
    return found
