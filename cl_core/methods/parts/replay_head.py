"""A linear head trained task by task, and a copy of it balanced with features sampled from mixtures.

Second-level replay of STAR-Prompt (arXiv:2403.06870). Shapes: B images, D width of the features, C classes begun.

    trained:  the rows of a task learn by cross-entropy among its own classes and are never trained again
    aligned:  a copy of all rows, SGD on  CE( ℓ / (0.1 (‖ℓ‖ + 1e-7)) )  of sampled features over all classes begun

The copy is used for prediction; the next task continues from the trained rows, not from the copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.methods.parts.event_values import mean
from cl_core.streams.stream import mixed_seed

TEMPERATURE = 0.1


class Draws(Protocol):
    def epoch(self, classes: range, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sampled features of `classes`, shuffled: ([n, w] float32, class ids [n])."""
        ...


def rescaled(logits: Tensor) -> Tensor:
    """Rows of norm 1 / TEMPERATURE, which removes the effect of the norms of the head's rows."""
    return logits / (TEMPERATURE * (logits.norm(dim=1, keepdim=True) + 1e-7))


class AlignedHead(nn.Module):
    """Grows with the tasks. The aligned rows are buffers, not trained by the engine's steps."""

    weight: Tensor
    bias: Tensor
    aligned: Tensor

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()  # a task's [c, D] and [c]
        self.register_buffer("weight", torch.zeros(0, width))  # aligned
        self.register_buffer("bias", torch.zeros(0))
        self.register_buffer("aligned", torch.tensor(0))  # classes begun when the copy was made

    def add_classes(self, index: int, classes: range) -> None:
        """Rows for a task's classes: normal with deviation 0.02, cut at ±2, and bias 0."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "head", index))
        drawn = nn.init.trunc_normal_(torch.empty(len(classes), self.weight.shape[1]), std=0.02, generator=generator)
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        self.weights.append(nn.Parameter(drawn.to(self.weight)))
        self.biases.append(nn.Parameter(self.bias.new_zeros(len(classes))))
        self.weight = torch.cat([self.weight, torch.zeros_like(self.weights[-1])]).detach()
        self.bias = torch.cat([self.bias, torch.zeros_like(self.biases[-1])]).detach()

    def current(self, pooled: Tensor) -> Tensor:
        """Scores [B, c] of features [B, D] for the current task's classes, as trained."""
        return F.linear(pooled, self.weights[-1], self.biases[-1])

    def classify(self, pooled: Tensor) -> Tensor:
        """Scores [B, C] by the copy; while a task is being learned, by the trained rows."""
        if int(self.aligned) == len(self.bias):
            return F.linear(pooled, self.weight, self.bias)
        return F.linear(pooled, torch.cat(list(self.weights)), torch.cat(list(self.biases)))

    def align(
        self,
        mixtures: Draws | None,
        *,
        rate: float = 0.0,
        epochs: int = 0,
        batch: int = 1,
        momentum: float = 0.0,
        decay: float = 0.0,
        cosine: bool = False,
        scaled: Callable[[Tensor], Tensor] = rescaled,
    ) -> dict[str, list[float]]:
        """A new copy, balanced by draws from the mixtures; None: as it was trained. Mean loss per epoch.

        `cosine`: the rate falls to 0 over the epochs. `scaled`: what becomes of scores [B, C] before the loss.
        """
        weight, bias = torch.cat(list(self.weights)).detach(), torch.cat(list(self.biases)).detach()
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "replay into head", len(bias)))
        means: list[float] = []
        if mixtures is not None:
            weight, bias, means = align_rows(
                weight, bias, mixtures, generator, rate=rate, epochs=epochs, batch=batch,
                momentum=momentum, decay=decay, cosine=cosine, scaled=scaled,
            )  # fmt: skip
        self.weight, self.bias = weight, bias
        self.aligned.fill_(len(bias))
        return {"cross_entropy": means}


def align_rows(
    weight: Tensor,
    bias: Tensor,
    draws: Draws,
    generator: torch.Generator,
    *,
    rate: float,
    epochs: int,
    batch: int,
    momentum: float = 0.0,
    decay: float = 0.0,
    cosine: bool = False,
    scaled: Callable[[Tensor], Tensor] = rescaled,
) -> tuple[Tensor, Tensor, list[float]]:
    """Rows [C, D] and biases [C] trained by SGD on drawn features of all C classes, and the mean loss of each epoch;
    what was handed in stays as it is. Arguments as `AlignedHead.align`."""
    weight, bias = weight.detach().clone().requires_grad_(), bias.detach().clone().requires_grad_()
    optimiser = torch.optim.SGD([weight, bias], lr=rate, momentum=momentum, weight_decay=decay)
    means: list[float] = []
    for turn in range(epochs):
        parts = []
        if cosine:
            optimiser.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * turn / epochs))
        drawn, labels = draws.epoch(range(len(bias)), generator)
        for x, targets in zip(drawn.split(batch), labels.split(batch), strict=True):
            loss = F.cross_entropy(scaled(F.linear(x, weight, bias)), targets)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            parts.append(loss.detach().double())
        means.append(mean(parts))
    return weight.detach(), bias.detach(), means
