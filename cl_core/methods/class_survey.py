"""A task's training images as they look after it: kept for one moment to fit mixtures, and told about.

Shapes: n images, B of a batch, D width of the features, L blocks, N tokens, c classes of the task.

    ratio_l  = mean_{x, tokens} ‖branch_l − bare_l‖ / mean_{x, tokens} ‖bare_l‖
    R        = ‖mean of unit features‖;  mean cosine of two images of a class = (n R² − 1) / (n − 1)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.features import Features, Tap
from cl_core.events import Clock, Event, IntraClassMeasured, MixtureFitted, ResidualMeasured
from cl_core.methods.gaussian_mixtures import GaussianMixtures, fitted

SHOWN = 200  # points of a class that are stored for display
HELD_OUT = 5  # every fifth image, for densities


class ClassSurvey:
    """Filled batch by batch, read once, cleared."""

    def __init__(self, layers: int) -> None:
        self.layers = layers
        self.clear()

    def clear(self) -> None:
        self._pooled: list[Tensor] = []
        self._labels: list[Tensor] = []
        self._norms: list[Tensor] = []  # a batch's sums over images and tokens: [3, L] added, bare, entering
        self._tokens = 0

    def taps(self) -> tuple[Tap, ...]:
        return tuple((kind, layer) for layer in range(self.layers) for kind in ("input", "bare", "branch"))

    def add(self, features: Features, labels: Tensor) -> None:
        """A batch; norms where the taps were asked for."""
        self._pooled.append(features.pooled)
        self._labels.append(labels)
        if not features.taps:
            return
        entering, bare, branch = (
            torch.stack([features.taps[kind, layer] for layer in range(self.layers)])  # [L, B, N, D]
            for kind in ("input", "bare", "branch")
        )
        norms = torch.stack([x.norm(dim=-1).flatten(1).sum(dim=1) for x in (branch - bare, bare, entering)])
        self._norms.append(norms.double())
        self._tokens += bare.shape[1] * bare.shape[2]

    def of(self, label: int) -> Tensor:
        """Features [n, D] of one class."""
        return torch.cat(self._pooled)[torch.cat(self._labels) == label]

    def events(self, clock: Clock, classes: range, mixtures: GaussianMixtures | None, seed: int) -> list[Event]:
        """What can be seen: intra-class likeness, what the method adds in each block, and how well mixtures fit."""
        said: list[Event] = [intra_class(clock, "features", torch.cat(self._pooled), torch.cat(self._labels), classes)]
        if self._norms:
            added, bare, entering = (torch.stack(self._norms).sum(dim=0) / self._tokens).float()
            said.append(ResidualMeasured(clock, added / bare, added / entering))
        if mixtures is not None:
            said += [mixture_fit(clock, label, self.of(label), mixtures, seed + label) for label in classes]
        return said


def intra_class(clock: Clock, space: str, x: Tensor, labels: Tensor, classes: range) -> IntraClassMeasured:
    """Likeness within each class of features x [n, w], all with labels in `classes`."""
    x, targets = F.normalize(x.double(), dim=1), labels - classes.start
    members = F.one_hot(targets, len(classes)).to(x)
    counts = members.sum(dim=0)
    means = members.mT @ x / counts[:, None]
    length = means.norm(dim=1)
    within = (counts * length.square() - 1) / (counts - 1)  # NaN for a single image
    cosines = means @ means.mT
    between = (cosines.sum(dim=1) - cosines.diagonal()) / (len(classes) - 1)  # NaN for a single class
    nearest = (x @ F.normalize(means, dim=1).mT).argmax(dim=1) == targets
    return IntraClassMeasured(
        clock, space, length.float(), within.float(), between.float(), 100 * nearest.double().mean()
    )


def mixture_fit(clock: Clock, label: int, x: Tensor, mixtures: GaussianMixtures, seed: int) -> MixtureFitted:
    """The mixture kept of class `label` beside its features x [n, D] and beside a single Gaussian."""
    held = torch.arange(len(x), device=x.device) % HELD_OUT == HELD_OUT - 1
    if not held.any():  # too few images to hold any out: densities of what was fitted
        held[:] = True
    learned = x[~held] if (~held).any() else x
    densities = [
        fitted(learned, count, seed).log_density(x[held]).mean() / x.shape[1] for count in (mixtures.components, 1)
    ]
    generator, count = torch.Generator().manual_seed(seed), min(len(x), SHOWN)
    centre = x.double().mean(dim=0)
    _, sizes, axes = torch.linalg.svd(x.double() - centre, full_matrices=False)
    axes = axes[:2] * torch.where(axes[:2].sum(dim=1) < 0, -1.0, 1.0)[:, None]  # a sign that does not depend on luck

    def seen(rows: Tensor) -> Tensor:
        flat = (rows.double() - centre) @ axes.mT
        return F.pad(flat, (0, 2 - flat.shape[1])).half()

    share = sizes[:2].square().sum() / sizes.square().sum().clamp_min(1e-30)
    kept = mixtures[label]
    return MixtureFitted(
        clock, label, len(kept.weights), *densities, seen(x[:count]), seen(kept.draw(count, generator)),
        seen(fitted(x, 1, seed).draw(count, generator)), share,
    )  # fmt: skip
