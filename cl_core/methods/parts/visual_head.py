"""A classifier in image space: one vector per class, compared with features by its direction alone.

The compensation of MG-CLIP (arXiv:2507.09118): text embeddings lie apart from image embeddings, this head does not.
Shapes: n images, B of a batch, C classes begun, e width of the features; x unit rows; W [C, e].

    q_c = x · w_c/‖w_c‖                                   in −1..1, no temperature
    w_c = mean of x over the class, then Adam on CE(q) over the task's own classes (local), cosine per step to 1 %
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class VisualHead(nn.Module):
    """Grows with the tasks; rows of earlier tasks stay bit for bit.

    W is a buffer, not a parameter: it is learned between tasks from stored features, never by the engine's steps.
    """

    rows: Tensor
    filled: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(0, width))  # W
        self.register_buffer("filled", torch.zeros(0, dtype=torch.bool))  # [C] which rows have been learned
        self._seen: list[tuple[Tensor, Tensor]] = []  # (x [B, e], labels [B]) of the task that ends

    def add_classes(self, count: int) -> None:
        """Room for `count` classes in all."""
        new = count - len(self.filled)
        self.rows = torch.cat([self.rows, self.rows.new_zeros(new, self.rows.shape[1])])
        self.filled = torch.cat([self.filled, self.filled.new_zeros(new)])

    def see(self, pooled: Tensor, labels: Tensor) -> None:
        """Features [B, e], not normalised, and class ids [B]; held until `learn`."""
        self._seen.append((F.normalize(pooled, dim=1), labels))

    def learn(self, classes: range, *, rate: float, epochs: int, batch: int, seed: int) -> None:
        """Rows of `classes` from what was seen.

        A local loss has gradient 0 in all other rows and Adam without decay leaves those where they are: so they are
        not even computed.
        """
        x, labels = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen, targets = [], labels - classes.start
        rows = class_means(x, targets, len(classes)).requires_grad_()
        optimiser = torch.optim.Adam([rows], lr=rate)
        generator = torch.Generator().manual_seed(seed)
        steps = [c for _ in range(epochs) for c in torch.randperm(len(x), generator=generator).split(batch)]
        for number, chosen in enumerate(steps):
            chosen = chosen.to(x.device)
            optimiser.param_groups[0]["lr"] = rate * floored_cosine(number / len(steps))
            optimiser.zero_grad()
            F.cross_entropy(visual_logits(x[chosen], rows), targets[chosen]).backward()
            optimiser.step()
        own = slice(classes.start, classes.stop)
        self.rows[own], self.filled[own] = rows.detach(), True

    def knows(self, classes: range) -> bool:
        """Whether every one of them has a row."""
        return classes.stop <= len(self.filled) and bool(self.filled[classes.start : classes.stop].all())

    def forward(self, pooled: Tensor, classes: range) -> Tensor:
        """q of features [B, e], not normalised: [B, |classes|]."""
        return visual_logits(F.normalize(pooled, dim=1), self.rows[classes.start : classes.stop])


def class_means(x: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Mean of the rows of x [n, e] per class: [classes, e]."""
    members = F.one_hot(targets, classes).to(x)
    return members.mT @ x / members.sum(dim=0)[:, None]


def visual_logits(x: Tensor, rows: Tensor) -> Tensor:
    """x · w_c/‖w_c‖ of unit x [B, e] and rows [C, e]: [B, C]."""
    return x @ F.normalize(rows, dim=1).mT


def floored_cosine(share: float) -> float:
    """From 1 at share 0 to 0.01 at share 1."""
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share))


def fused_score(text: Tensor, visual: Tensor, weight: float, *, double: bool) -> Tensor:
    """( p + weight softmax(q) ) / (1 + weight), p = softmax(Z) or, double, softmax(softmax(Z)): rows sum to 1."""
    probabilities = text.softmax(dim=1)
    if double:
        probabilities = probabilities.softmax(dim=1)
    return (probabilities + weight * visual.softmax(dim=1)) / (1 + weight)
