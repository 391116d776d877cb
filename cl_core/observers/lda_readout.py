"""Stored-statistics readout: did the features drift, or is only the head badly calibrated?

Linear discriminant analysis needs no training: class means μ_c and one covariance Σ shared by all classes decide by

    score_c(x) = μ_cᵀ Σ⁻¹ x − ½ μ_cᵀ Σ⁻¹ μ_c
    Σ = (1 − s) W/n + s · tr(W/n)/d · I,    W = Σ_c Σ_{x∈c} (x − μ_c)(x − μ_c)ᵀ

*Stored*: means and scatter from when each task had just been learned, never updated; if it fails, old features moved.
*Recomputed*: the same from all training images with the current features (the control): if it succeeds, the classes are
still separable and only the stored statistics are outdated. The shrinkage s is small and fixed, the same for both.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SHRINKAGE = 1e-2  # share of the mean variance added on the diagonal; d = 192 from ~260 images a task
REFIT_SHRINKAGE = 0.1  # of a readout fitted to a single task, which has few more images than dimensions


class ClassStatistics(nn.Module):
    """Sums per class, in float64 and constant memory: counts n_c, means μ_c [C, d], scatter within classes W [d, d]."""

    counts: Tensor
    means: Tensor
    scatter: Tensor

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(classes, width, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(width, width, dtype=torch.float64))

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add features [B, d] with class ids [B] (Chan's update of mean and scatter, exact for any order of
        batches)."""
        found = labels.cpu()  # one GPU synchronisation per batch, not per class
        classes, sizes = found.unique(return_counts=True)
        ordered = features.to(self.means)[found.argsort(stable=True).to(features.device)]
        for label, rows in zip(classes.tolist(), ordered.split(sizes.tolist()), strict=True):
            count, mean = len(rows), rows.mean(dim=0)
            before, shift = self.counts[label], mean - self.means[label]
            total = before + count
            centred = rows - mean
            self.scatter += centred.mT @ centred + (before * count / total) * torch.outer(shift, shift)
            self.means[label] += shift * (count / total)
            self.counts[label] = total

    @torch.no_grad()
    def include(self, part: ClassStatistics, start: int) -> None:
        """Add the statistics of new classes: those of `part`, whose first class is `start`."""
        stop = start + len(part.counts)
        self.counts[start:stop], self.means[start:stop] = part.counts, part.means
        self.scatter += part.scatter

    def classifier(self, shrinkage: float = SHRINKAGE) -> Callable[..., Tensor]:
        """A classifier from features [B, d] to scores [B, C] of `classes` or all; classes without images score −∞.
        Solved once, for the current statistics. Raises ValueError without statistics."""
        if not self.counts.any():
            raise ValueError("no class statistics yet; add features of at least one class first")
        width = self.means.shape[1]
        within = self.scatter / self.counts.sum()
        covariance = (1 - shrinkage) * within
        covariance.diagonal().add_(shrinkage * within.trace() / width + 1e-12)
        weights = torch.linalg.solve(covariance, self.means.mT)  # [d, C]
        offsets, unseen = 0.5 * (self.means.mT * weights).sum(dim=0), self.counts == 0

        def scores(features: Tensor, classes: range | None = None) -> Tensor:
            found = (features.to(weights) @ weights - offsets).masked_fill(unseen, -torch.inf)
            return found if classes is None else found[:, classes.start : classes.stop]

        return scores

    def classify(self, features: Tensor, classes: range | None = None) -> Tensor:
        """`classifier` for a single batch."""
        return self.classifier()(features, classes)
