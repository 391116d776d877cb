"""Class features after a task, for methods with class vectors: similarity, norms of additions, fit of mixtures.

Shapes: n images, B of a batch, D width of the features, L blocks, N tokens, c classes of the task.

    ratio_l  = mean_{x, tokens} ‖branch_l − bare_l‖ / mean_{x, tokens} ‖bare_l‖
"""

from __future__ import annotations

from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.io_types import Features
from cl_core.events import Clock, Event, MixtureFitted, ResidualMeasured
from cl_core.methods.parts.event_values import array, number
from cl_core.methods.parts.feature_stats import intra_class
from cl_core.methods.parts.gaussian_mixtures import GaussianMixtures, fitted
from cl_core.methods.parts.semantic_residuals import SemanticResiduals
from cl_core.observers.observer import Observer, View
from cl_core.streams.stream import Batch

SHOWN = 200  # maximum number of points per class stored for display
HELD_OUT = 5  # every fifth image, for densities


@runtime_checkable
class AddsResiduals(Protocol):
    """A method that adds vectors in the attention branch of every block and stores mixtures of its `classes`."""

    classes: range
    tokens: GaussianMixtures | None
    semantic: SemanticResiduals

    @property
    def token_seed(self) -> int: ...


class ClassFeatures(Observer):
    """Filled batch by batch, read once, cleared."""

    name = "class features"

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.taps = tuple((kind, layer) for layer in range(layers) for kind in ("input", "bare", "branch"))
        self.clear()

    def clear(self) -> None:
        self._pooled: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._norms: list[Tensor] = []  # a batch's sums over images and tokens: [3, L] added, bare, entering
        self._tokens = 0

    def collect(self, view: View, features: Features, batch: Batch) -> list[Event]:
        self._pooled.append(features.pooled)
        self._labels.append(batch.labels)
        entering, bare, branch = (
            torch.stack([features.taps[kind, layer] for layer in range(self.layers)])  # [L, B, N, D]
            for kind in ("input", "bare", "branch")
        )
        norms = torch.stack([x.norm(dim=-1).flatten(1).sum(dim=1) for x in (branch - bare, bare, entering)])
        self._norms.append(norms.double())
        self._tokens += bare.shape[1] * bare.shape[2]
        return []

    def of(self, label: int) -> Tensor:
        """Features [n, D] of one class."""
        return torch.cat(self._pooled)[torch.cat(self._labels) == label]

    def task_learned(self, view: View) -> list[Event]:
        """Within-class similarity, norms of additions in each block, and the fit of mixtures."""
        method, clock = cast(AddsResiduals, view.method), view.clock
        pooled, labels = torch.cat(self._pooled), torch.cat(self._labels)
        said: list[Event] = [intra_class(clock, "features", pooled, labels, method.classes)]
        added, bare, entering = (torch.stack(self._norms).sum(dim=0) / self._tokens).float()
        said.append(ResidualMeasured(clock, array(added / bare), array(added / entering)))
        if method.tokens is not None:
            said += [
                mixture_fit(clock, label, self.of(label), method.tokens, method.token_seed + label)
                for label in method.classes
            ]
        self.clear()
        return said


def mixture_fit(clock: Clock, label: int, x: Tensor, mixtures: GaussianMixtures, seed: int) -> MixtureFitted:
    """The stored mixture of class `label` compared with its features x [n, D] and with a single Gaussian."""
    held = torch.arange(len(x), device=x.device) % HELD_OUT == HELD_OUT - 1
    if not held.any():  # too few images for a held-out part: densities of the fitted images
        held[:] = True
    learned = x[~held] if (~held).any() else x
    mixture, gaussian = (
        number(fitted(learned, count, seed).log_density(x[held]).mean() / x.shape[1])
        for count in (mixtures.components, 1)
    )
    generator, count = torch.Generator().manual_seed(seed), min(len(x), SHOWN)
    centre = x.double().mean(dim=0)
    _, sizes, axes = torch.linalg.svd(x.double() - centre, full_matrices=False)
    axes = axes[:2] * torch.where(axes[:2].sum(dim=1) < 0, -1.0, 1.0)[:, None]  # a deterministic sign

    def seen(rows: Tensor) -> np.ndarray:
        flat = (rows.double() - centre) @ axes.mT
        return array(F.pad(flat, (0, 2 - flat.shape[1])).half())

    share = sizes[:2].square().sum() / sizes.square().sum().clamp_min(1e-30)
    kept = mixtures[label]
    return MixtureFitted(
        clock, label, len(kept.weights), mixture, gaussian, seen(x[:count]), seen(kept.draw(count, generator)),
        seen(fitted(x, 1, seed).draw(count, generator)), number(share),
    )  # fmt: skip
