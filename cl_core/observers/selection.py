"""Selections from a pool of prompts by test images: counts by class, and share of own entries.

    counts[c, e] = mean over the images of class c of w[e]
    accuracy     = percent of images with  Σ_{e of own} w[e] > Σ_{e of o} w[e]  for every other owner o

w [E] ≥ 0 are one image's weights: 1 for a selected entry, shares for mixtures. "Own" refers to the image's class or the
task of its class. A tie counts against the image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from cl_core.events import Clock, Event, SelectionMeasured
from cl_core.methods.parts.event_values import array, number
from cl_core.methods.parts.selection import Selection
from cl_core.observers.observer import Observer, View
from cl_core.streams.stream import Batch


def own_share(weights: Tensor, owners: Sequence[int], own: Tensor) -> Tensor:
    """Mask of images that selected mostly their own entries.

    Args:
        weights: [B, E]. owners: [E] integers, -1 = none. own: [B] the owner of each image.

    Returns:
        [B] bool; False for images without own entries.
    """
    groups = sorted({owner for owner in owners if owner >= 0})
    if not groups:
        return torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    group = torch.tensor(groups)
    totals = weights @ (torch.as_tensor(owners)[:, None] == group).to(weights)  # [B, G]
    mine = own[:, None] == group.to(own.device)
    taken = totals.masked_fill(~mine, 0).sum(dim=1)
    return mine.any(dim=1) & (taken > totals.masked_fill(mine, -torch.inf).amax(dim=1))


@runtime_checkable
class HasPool(Protocol):
    def selection(self, backbone: Any, images: Tensor, ids: Tensor | None = None) -> list[Selection]:
        """Selections of images [B, 3, S, S] from the method's current pools, one item per layer (or one for all)."""
        ...


class PoolSelection(Observer):
    """Measures the selections of the test images of all tasks learned so far."""

    name = "selection"

    def __init__(
        self, portioned: Callable[[Callable[[], Any]], Any], batches: Callable[[int], Iterable[Batch]]
    ) -> None:
        """`portioned` runs a pass with smaller batches if memory is short; `batches(task)`: a task's test images."""
        self.portioned, self.batches = portioned, batches

    def task_measured(self, view: View) -> list[Event]:
        if not isinstance(view.method, HasPool):
            return []
        return self.portioned(lambda: self._tallied(view)).events(view.clock)

    def _tallied(self, view: View) -> SelectionTally:
        method = cast(HasPool, view.method)
        tally = SelectionTally([task.index for task in view.stream for _ in task.classes])
        for index in view.learned:
            for batch in self.batches(index):
                tally.add(method.selection(view.backbone, batch.images, batch.ids), batch.labels)
        return tally


class SelectionTally:
    """Sums over the test images of one evaluation, on the device of the images; temporary."""

    def __init__(self, task_of: Sequence[int]) -> None:
        """`task_of[c]`: the task of class c."""
        self.task_of = torch.as_tensor(task_of)
        self._sums: dict[int, Tensor] = {}  # layer → [C, E]
        self._own: dict[int, Tensor] = {}  # layer → number of images that selected their own
        self._said: dict[int, Any] = {}  # layer → a selection, for the owners of its entries
        self._images = torch.zeros(len(self.task_of), dtype=torch.float64)

    @torch.no_grad()
    def add(self, selections: Iterable[Any], labels: Tensor) -> None:
        """Add selections of images with class ids `labels` [B] (one `Selection` per layer)."""
        self.task_of, self._images = self.task_of.to(labels.device), self._images.to(labels.device)
        self._images.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))
        for chosen in selections:
            weights = chosen.weights.detach().double()
            empty = weights.new_zeros(len(self.task_of), weights.shape[1])
            self._sums.setdefault(chosen.layer, empty).index_add_(0, labels, weights)
            own = labels if chosen.of == "class" else self.task_of[labels]
            if chosen.of:
                took = own_share(weights, chosen.owners, own).sum()
                self._own[chosen.layer] = self._own.get(chosen.layer, 0) + took
            self._said[chosen.layer] = chosen

    def events(self, clock: Clock) -> list[Event]:
        """One event per layer; classes without images have NaN in their row."""
        images = self._images.sum()
        return [
            SelectionMeasured(
                clock,
                layer,
                self._said[layer].of,
                array((sums / self._images[:, None]).float()),
                list(self._said[layer].owners),
                number(100 * self._own[layer] / images) if self._said[layer].of else None,
            )
            for layer, sums in sorted(self._sums.items())
        ]
