"""Stored-statistics readout: is it the features that drifted, or only the head that is badly calibrated?

Linear discriminant analysis needs no training: class means μ_c and one covariance Σ shared by all classes decide by

    score_c(x) = μ_cᵀ Σ⁻¹ x − ½ μ_cᵀ Σ⁻¹ μ_c
    Σ = (1 − s) W/n + s · tr(W/n)/d · I,    W = Σ_c Σ_{x∈c} (x − μ_c)(x − μ_c)ᵀ

*Stored*: means and scatter as they were when each task had just been learned, never refreshed; if it fails, old
features moved. *Recomputed*: the same from all training images with the features as they are now (the control): if it
succeeds, the classes are still separable and only the stored statistics went stale. The shrinkage s is small and fixed,
so both readouts share it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHRINKAGE = 1e-2  # share of the mean variance added on the diagonal; d = 192 from ~260 images a task


class ClassStatistics(nn.Module):
    """Sums per class, in float64 and constant memory: counts n_c, means μ_c [C, d], scatter within classes W [d, d]."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.register_buffer("counts", torch.zeros(classes, dtype=torch.float64))
        self.register_buffer("means", torch.zeros(classes, width, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(width, width, dtype=torch.float64))

    @torch.no_grad()
    def add(self, features: Tensor, labels: Tensor) -> None:
        """Take in features [B, d] with class ids [B] (Chan's update of mean and scatter, exact for any order of
        batches)."""
        features = features.to(self.means)
        for label in labels.unique():
            rows = features[labels == label]
            count, mean = len(rows), rows.mean(dim=0)
            before, shift = self.counts[label], mean - self.means[label]
            total = before + count
            centred = rows - mean
            self.scatter += centred.mT @ centred + (before * count / total) * torch.outer(shift, shift)
            self.means[label] += shift * (count / total)
            self.counts[label] = total

    def classify(self, features: Tensor, classes: range | None = None) -> Tensor:
        """Scores [B, C] of features [B, d], of `classes` or of all; classes without images score −∞. Raises ValueError
        before anything was added."""
        if not self.counts.any():
            raise ValueError("no class statistics yet; add features of at least one class first")
        width = self.means.shape[1]
        within = self.scatter / self.counts.sum()
        covariance = (1 - SHRINKAGE) * within
        covariance.diagonal().add_(SHRINKAGE * within.trace() / width + 1e-12)
        weights = torch.linalg.solve(covariance, self.means.mT)  # [d, C]
        scores = features.to(self.means) @ weights - 0.5 * (self.means.mT * weights).sum(dim=0)
        scores = scores.masked_fill(self.counts == 0, -torch.inf)
        return scores if classes is None else scores[:, classes.start : classes.stop]
