"""One Gaussian per class of features, estimated when the class is learned and never updated.

Replay and distances of SLCA (arXiv:2303.05118), FeCAM (arXiv:2309.14062) and VPT-NSP²++.
Shapes: n features of a class, w width, C classes begun.

    μ_c = mean of x,   Σ_c = Σ (x − μ_c)(x − μ_c)ᵀ / (n − 1)        "class": as published
    Σ   = Σ_c scatter_c / Σ_c (n_c − 1)                              "shared": one for all, when n < w
    diag Σ_c                                                         "diagonal"

Samples are x = m_c μ_c + L z, L Lᵀ = Σ_c + ridge I, z ~ N(0, I), drawn on the CPU, so that they are equal on every
device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KINDS = ("class", "shared", "diagonal")
RIDGE = 1e-4  # of both releases that draw


class ClassGaussians(nn.Module):
    """Grows with the tasks; all in float64."""

    means: Tensor
    scatter: Tensor
    counts: Tensor

    def __init__(self, width: int, kind: str = "class", *, draws: int = 256, ridge: float = RIDGE) -> None:
        """`draws`: features per class in one epoch of replay; `ridge`: added to every variance before sampling."""
        super().__init__()
        self.width, self.kind, self.draws, self.ridge = width, kind, draws, ridge
        shape = {"class": (0, width, width), "shared": (width, width), "diagonal": (0, width)}[kind]
        self.register_buffer("means", torch.zeros(0, width, dtype=torch.float64))
        self.register_buffer("scatter", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(0, dtype=torch.int64))
        self._seen: list[tuple[Tensor, Tensor]] = []  # features [B, w] and ids [B] of the finished task
        self._factors: dict[int, tuple[Tensor, Tensor]] = {}  # derived: μ_c and L of sampled classes
        self.register_load_state_dict_post_hook(lambda gaussians, _: gaussians._factors.clear())

    def add_classes(self, classes: range) -> None:
        """Allocate a new task's classes."""
        new = len(classes)
        self.means = torch.cat([self.means, self.means.new_zeros(new, self.width)])
        self.counts = torch.cat([self.counts, self.counts.new_zeros(new)])
        if self.kind != "shared":
            self.scatter = torch.cat([self.scatter, self.scatter.new_zeros(new, *self.scatter.shape[1:])])

    def see(self, pooled: Tensor, labels: Tensor) -> None:
        """Add features [B, w] and class ids [B]; kept until `learn`."""
        self._seen.append((pooled.detach().double(), labels))

    def learn(self, classes: range) -> None:
        """Mean and covariance of `classes` from the added features."""
        x, labels = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen = []
        if self.kind == "shared":
            self._factors.clear()
        for label in classes:
            own = x[labels == label]
            centred = own - own.mean(dim=0)
            self.means[label], self.counts[label] = own.mean(dim=0), len(own)
            if self.kind == "shared":
                self.scatter += centred.mT @ centred
            else:
                self.scatter[label] = centred.square().sum(dim=0) if self.kind == "diagonal" else centred.mT @ centred

    def covariance(self, label: int) -> Tensor:
        """Σ_c [w, w], without the ridge."""
        if self.kind == "shared":
            return self.scatter / (self.counts - 1).clamp(min=0).sum().clamp(min=1)
        found = self.scatter[label] / (self.counts[label] - 1).clamp(min=1)
        return torch.diag(found) if self.kind == "diagonal" else found

    def draw(self, label: int, count: int, generator: torch.Generator, scale: float = 1.0) -> Tensor:
        """`count` rows [count, w] in float64 around scale · μ_c."""
        noise = torch.randn(count, self.width, generator=generator, dtype=torch.float64)
        if label not in self._factors:
            whole = torch.eye(self.width, dtype=torch.float64)
            spread = torch.linalg.cholesky(self.covariance(label).cpu() + self.ridge * whole)
            self._factors[label] = self.means[label].cpu(), spread
        centre, spread = self._factors[label]
        return (scale * centre + noise @ spread.mT).to(self.means.device)

    def epoch(self, classes: range, generator: torch.Generator, scales: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Sampled features of `classes`, shuffled: ([n, w] float32, class ids [n]). `scales` [C]: m_c."""
        of = lambda label: 1.0 if scales is None else float(scales[label])
        drawn = torch.cat([self.draw(label, self.draws, generator, of(label)) for label in classes]).float()
        labels = torch.arange(classes.start, classes.stop).repeat_interleave(self.draws)
        order = torch.randperm(len(labels), generator=generator)
        return drawn[order.to(drawn.device)], labels[order].to(drawn.device)
