"""What test images take from a pool of prompts: counted over classes, and how often it is what was kept for them.

    counts[c, e] = mean over the images of class c of w[e]
    accuracy     = percent of images with  Σ_{e of own} w[e] > Σ_{e of o} w[e]  for every other owner o

w [E] ≥ 0 is what one image takes: 1 for an entry taken whole, a share where all are mixed. "Own" is the entry's class
or the task its class came with. A tie counts against the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from cl_core.events import Clock, Event, SelectionMeasured


def own_share(weights: Tensor, owners: Sequence[int], own: Tensor) -> Tensor:
    """Which images took most of what is their own.

    Args:
        weights: [B, E]. owners: [E] integers, -1 = nobody's. own: [B] the owner each image belongs to.

    Returns:
        [B] bool; False where nothing is an image's own.
    """
    groups = sorted({owner for owner in owners if owner >= 0})
    if not groups:
        return torch.zeros(len(weights), dtype=torch.bool, device=weights.device)
    group = torch.tensor(groups)
    totals = weights @ (torch.as_tensor(owners)[:, None] == group).to(weights)  # [B, G]
    mine = own[:, None] == group.to(own.device)
    taken = totals.masked_fill(~mine, 0).sum(dim=1)
    return mine.any(dim=1) & (taken > totals.masked_fill(mine, -torch.inf).amax(dim=1))


class SelectionTally:
    """Sums over the test images of one round, kept where the images are; nothing of it outlives the round."""

    def __init__(self, task_of: Sequence[int]) -> None:
        """`task_of[c]`: the task that class c came with."""
        self.task_of = torch.as_tensor(task_of)
        self._sums: dict[int, Tensor] = {}  # layer → [C, E]
        self._own: dict[int, Tensor] = {}  # layer → how many images took their own
        self._said: dict[int, Any] = {}  # layer → a selection, for what its entries stand for
        self._images = torch.zeros(len(self.task_of), dtype=torch.float64)

    @torch.no_grad()
    def add(self, selections: Iterable[Any], labels: Tensor) -> None:
        """Take in what images with class ids `labels` [B] took (`cl_core.methods.method.Selection`, one a layer)."""
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
        """One event a layer; classes without images have NaN in their row."""
        images = self._images.sum()
        return [
            SelectionMeasured(
                clock,
                layer,
                self._said[layer].of,
                (sums / self._images[:, None]).float(),
                list(self._said[layer].owners),
                100 * self._own[layer] / images if self._said[layer].of else None,
            )
            for layer, sums in sorted(self._sums.items())
        ]
