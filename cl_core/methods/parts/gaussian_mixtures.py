"""A mixture of Gaussians per class, fitted once to the class's features and then sampled instead of stored images.

Replay of STAR-Prompt (arXiv:2403.06870). Shapes: n features of a class, K components, w width, C classes begun.

    p(x) = Σ_k π_k N(x; μ_k, diag σ²_k)       EM from a k-means start, in float64, 1e-6 added to every variance

EM is scikit-learn's. The official code's E step divides by σ instead of σ², which makes responsibilities too soft and
its stopping score not a likelihood; ours does not. A class with fewer distinct images than K gets as many components as
images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

FLOOR = 1e-6  # added to every variance
ITERATIONS = 500


@dataclass(frozen=True)
class Mixture:
    """weights [K] sum to 1; means, variances [K, w]; float64."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def log_density(self, x: Tensor) -> Tensor:
        """log p(x) of rows [n, w], nats: [n]."""
        x = x.double()[:, None]
        quadratic = ((x - self.means).square() / self.variances).sum(dim=-1)  # [n, K]
        logs = -0.5 * (quadratic + self.variances.log().sum(dim=-1) + x.shape[-1] * math.log(2 * math.pi))
        return (logs + self.weights.log()).logsumexp(dim=1)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` rows [count, w] float64; drawn on the CPU, so that they are equal on every device."""
        weights, means, variances = (x.cpu() for x in (self.weights, self.means, self.variances))
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, means.shape[1], generator=generator, dtype=torch.float64)
        return (means[chosen] + variances[chosen].sqrt() * noise).to(self.means.device)


def fitted(x: Tensor, components: int, seed: int) -> Mixture:
    """The mixture of rows [n, w], n ≥ 1."""
    rows = x.detach().double().cpu().numpy()
    components = min(components, len(np.unique(rows, axis=0)))
    if components == 1:
        found = np.ones(1), rows.mean(axis=0)[None], rows.var(axis=0)[None] + FLOOR
    else:
        from sklearn.mixture import GaussianMixture  # with SciPy and pandas it takes as long to import as torch

        model = GaussianMixture(
            components, covariance_type="diag", reg_covar=FLOOR, max_iter=ITERATIONS, random_state=seed % 2**32
        ).fit(rows)
        found = model.weights_, model.means_, model.covariances_
    return Mixture(*(torch.from_numpy(np.ascontiguousarray(part)).to(x.device) for part in found))


class GaussianMixtures(nn.Module):
    """One mixture per class; grows with the tasks. Unused components have weight 0."""

    weights: Tensor
    means: Tensor
    variances: Tensor

    def __init__(self, components: int, width: int, draws: int) -> None:
        """`draws`: features per class in one epoch of replay."""
        super().__init__()
        self.components, self.draws = components, draws
        self.register_buffer("weights", torch.zeros(0, components, dtype=torch.float64))  # π
        self.register_buffer("means", torch.zeros(0, components, width, dtype=torch.float64))  # μ
        self.register_buffer("variances", torch.ones(0, components, width, dtype=torch.float64))  # σ²

    def add_classes(self, classes: range) -> None:
        """Allocate a new task's classes."""
        for name, value in (("weights", 0.0), ("means", 0.0), ("variances", 1.0)):
            kept = getattr(self, name)
            new = torch.full((len(classes), *kept.shape[1:]), value, dtype=kept.dtype, device=kept.device)
            setattr(self, name, torch.cat([kept, new]))

    def fit(self, label: int, x: Tensor, seed: int) -> None:
        """The mixture of class `label` from its features [n, w]."""
        mixture = fitted(x, self.components, seed)
        count = len(mixture.weights)
        self.weights[label] = 0
        self.weights[label, :count], self.means[label, :count] = mixture.weights, mixture.means
        self.variances[label, :count] = mixture.variances

    def __getitem__(self, label: int) -> Mixture:
        there = self.weights[label] > 0
        return Mixture(self.weights[label, there], self.means[label, there], self.variances[label, there])

    def epoch(self, classes: range, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sampled features of `classes`, shuffled: ([n, w] float32, class ids [n])."""
        drawn = torch.cat([self[label].draw(self.draws, generator) for label in classes]).float()
        labels = torch.arange(classes.start, classes.stop).repeat_interleave(self.draws)
        order = torch.randperm(len(labels), generator=generator)
        return drawn[order.to(drawn.device)], labels[order].to(drawn.device)
