"""FeCAM: frozen features and a Mahalanobis distance with one covariance per class. Nothing is trained.

Parts: `class_gaussians`.

Goswami et al. FeCAM: Exploiting the Heterogeneity of Class Distributions in Exemplar-Free Continual Learning. NeurIPS
2023, arXiv:2309.14062; written from the equations, details as in the release's ViT script.
Shapes: C classes, d width; f a feature of unit length.

    μ_c, Σ_c        mean and covariance of f over the class, from its own task alone
    Σ_c ← Σ_c + α₁ v I + α₂ w (1 − I)          v mean variance, w mean of the covariances that are not 0
    Σ_c ← Σ_c / √(diag Σ_c diag Σ_cᵀ)          as a correlation
    score_c = −(f − μ_c)ᵀ Σ_c⁺ (f − μ_c)

A baseline for frozen features with second moments, which methods that adapt features should beat. Scores of old classes
do not change with new tasks. Ours: `covariance="shared"` for classes with fewer images than d. Omitted: the ResNet
script's Tukey transform x^½, which needs features ≥ 0, and its second shrinking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import NO_EDIT, ModelEdit
from cl_core.config import check_settings, setting
from cl_core.events import Clock, Event
from cl_core.methods.method import Collector, Loss, Method, ParameterGroup
from cl_core.methods.parts.class_gaussians import KINDS, ClassGaussians
from cl_core.streams.stream import Batch


@dataclass(frozen=True)
class FecamConfig:
    """Defaults are the release's for ViT-B/16 and CIFAR-100."""

    alpha_diagonal: float = setting(1.0, low=0.0, high=1e4, help="α₁, mean variance added to every variance")
    alpha_off_diagonal: float = setting(0.0, low=0.0, high=1e4, help="α₂, mean covariance added to every other entry")
    correlation: bool = setting(True, help="normalise covariances to correlations, so that classes are comparable")
    covariance: str = setting(
        "class",
        choices=KINDS,
        fixed="decides what is kept",
        help="class: one each (published); shared: one for all, for few images; diagonal: variances only",
    )

    def __post_init__(self) -> None:
        check_settings(self)


@final
class FeCAM(Method[Backbone]):
    """Nearest class by Mahalanobis distance."""

    Config = FecamConfig

    def __init__(self, config: FecamConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, seed)
        self.gaussians = ClassGaussians(backbone.pooled_width, config.covariance)
        self.classes = range(0)
        self._inverses: list[Tensor] = []  # derived: Σ_c⁺ of the learned classes
        self.register_load_state_dict_post_hook(lambda method, _: method._inverses.clear())

    def begin_task(self, index: int, classes: range) -> None:
        self.classes = classes
        self.gaussians.add_classes(classes)

    def refresh(self) -> None:
        learned = int((self.gaussians.counts > 0).sum())
        if self.config.covariance == "shared":  # grows with every task
            self._inverses = [self._inverse(0)] * learned if learned else []
        else:
            self._inverses += [self._inverse(label) for label in range(len(self._inverses), learned)]

    def _inverse(self, label: int) -> Tensor:
        c = self.config
        matrix = shrunk(self.gaussians.covariance(label), c.alpha_diagonal, c.alpha_off_diagonal)
        return torch.linalg.pinv(correlation(matrix) if c.correlation else matrix, hermitian=True)

    def epochs(self, planned: int) -> int:
        return 0

    def groups(self) -> list[ParameterGroup]:
        return []

    def edit(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        return NO_EDIT

    def edits_from(self, backbone: Backbone) -> int:
        return backbone.depth

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        x = F.normalize(pooled.double(), dim=1)
        distances = [self._distance(x, label) for label in classes]
        return -torch.stack(distances, dim=1).to(pooled.dtype)

    def _distance(self, x: Tensor, label: int) -> Tensor:
        if label >= len(self._inverses):
            return x.new_full((len(x),), torch.inf)
        return mahalanobis(x - self.gaussians.means[label], self._inverses[label])

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        raise RuntimeError("nothing is trained")  # `epochs` is 0

    def collectors(self, backbone: Backbone) -> list[Collector]:
        see = lambda features, batch: self.gaussians.see(F.normalize(features.pooled, dim=1), batch.labels)
        return [Collector((), see)]

    def end_task(self, clock: Clock) -> list[Event]:
        self.gaussians.learn(self.classes)
        return []


def shrunk(covariance: Tensor, diagonal: float, off_diagonal: float) -> Tensor:
    """Σ + α₁ v I + α₂ w (1 − I) of Σ [d, d]: v the mean of its diagonal, w that of the other entries that are not 0."""
    whole = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    others = covariance[(covariance != 0) & (whole == 0)]
    mean = others.mean() if len(others) else covariance.new_zeros(())
    return covariance + diagonal * covariance.diagonal().mean() * whole + off_diagonal * mean * (1 - whole)


def correlation(covariance: Tensor) -> Tensor:
    """Σ_ij / √(Σ_ii Σ_jj) of Σ [d, d]; a direction without variance stays 0."""
    deviation = covariance.diagonal().clamp(min=0).sqrt()
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    return scale[:, None] * covariance * scale


def mahalanobis(difference: Tensor, inverse: Tensor) -> Tensor:
    """xᵀ Σ⁺ x of rows x [B, d]: [B], without forming the B × B product of the release."""
    return ((difference @ inverse) * difference).sum(dim=-1)
