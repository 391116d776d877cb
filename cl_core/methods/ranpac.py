"""RanPAC: ridge regression on frozen features through a frozen random layer, from accumulated second moments.

Parts: `deep_prompts`.

McDonnell et al. RanPAC: Random Projections and Pre-trained Models for Continual Learning. NeurIPS 2023,
arXiv:2307.02251; written from the equations, details as in the release.
Shapes: L width of the features f, M random units, N images of a task, C classes begun.

    h = relu(f R),   R [L, M] ~ N(0, 1), drawn once;   M = 0: h = f
    G ← G + Σ h hᵀ,   Q ← Q + Σ h yᵀ              y one-hot; never normalised, no bias, no mean removed
    W = (G + λ I)⁻¹ Q,   score = hᵀ W
    λ: the power of ten from 10⁻⁸ to 10⁸ with the least error on 20 % of the current task, fitted to the other 80 %

G and Q are sums, independent of the order of tasks and batches, so the sequential solution equals the joint one. The
first session may tune the features: prompts in every block with a cosine head on task 1, then frozen (the release's
"vpt"; its adapters and SSF are not implemented). λ depends only on the last task, as released.

Ours: Q grows with the classes, so their number need not be known; R is regenerated from the seed and not stored; the 80
: 20 split is of a seeded shuffle; sums and solution are in float64, 8 M² bytes. In the release's float32 the rounding
of G exceeds a λ of 10⁻⁸, and with fewer images than units accuracy sometimes falls to chance.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import ModelEdit
from cl_core.config import check_settings, setting
from cl_core.events import Clock, Event, StageEnded
from cl_core.linalg import gram
from cl_core.methods.method import Collector, Loss, Method, ParameterGroup
from cl_core.methods.parts.deep_prompts import with_prompts
from cl_core.methods.parts.event_values import mean
from cl_core.streams.stream import Batch, mixed_seed

PENALTIES = [10.0**power for power in range(-8, 9)]
FITTED = 0.8  # share of a task's images that λ is fitted to


@dataclass(frozen=True)
class RanpacConfig:
    """Defaults are the release's for CIFAR-100, with its prompts in place of its adapters."""

    units: int = setting(10_000, low=0, high=100_000, fixed="sets shapes", help="M, random units (0: plain features)")
    penalty: float = setting(0.0, low=0.0, high=1e12, help="λ of the ridge; 0: chosen on a fifth of each task")
    first_session: str = setting(
        "prompts",
        choices=("prompts", "none"),
        fixed="decides the features",
        help="prompts: tuned on the first task, then frozen (published); none: features as pre-trained",
    )
    prompt_length: int = setting(5, low=1, high=64, fixed="sets shapes", help="prompts per block of the first session")
    tuning_rate: float = setting(0.01, low=0.0, high=10.0, help="learning rate of the first session")
    tuning_decay: float = setting(5e-4, low=0.0, high=1.0, help="coupled decay of the first session")
    tuning_epochs: int = setting(20, low=1, high=1000, help="passes of the first session over the first task")

    def __post_init__(self) -> None:
        check_settings(self)


@final
class RanPAC(Method[Backbone]):
    """A linear map from random features to classes, in closed form."""

    Config = RanpacConfig

    prompts: Tensor
    random: Tensor
    second: Tensor
    cross: Tensor
    chosen: Tensor

    def __init__(self, config: RanpacConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, seed)
        width, units = backbone.pooled_width, config.units or backbone.pooled_width
        generator = torch.Generator().manual_seed(mixed_seed(seed, "random layer"))
        length = config.prompt_length if config.first_session == "prompts" else 0
        drawn = torch.rand(backbone.depth, length, backbone.width, generator=generator) * 2 - 1
        self.register_buffer("prompts", drawn)  # [L, M, d] of the first session
        random = torch.randn(width, config.units, generator=generator)
        self.register_buffer("random", random, persistent=False)  # R: regenerated from the seed
        self.register_buffer("second", torch.zeros(units, units, dtype=torch.float64))  # G
        self.register_buffer("cross", torch.zeros(units, 0, dtype=torch.float64))  # Q [M, C]
        self.register_buffer("chosen", torch.zeros((), dtype=torch.float64))  # λ
        self.classes = range(0)
        self._seen: list[tuple[Tensor, Tensor]] = []  # f [B, L] and class ids [B] of the finished task
        self._weight: Tensor | None = None  # derived: W [M, C]
        self.register_load_state_dict_post_hook(lambda method, _: setattr(method, "_weight", None))

    def begin_task(self, index: int, classes: range) -> None:
        self.classes = classes
        self.cross = torch.cat([self.cross, self.cross.new_zeros(len(self.cross), len(classes))], dim=1)
        self._weight = None

    def refresh(self) -> None:
        """W from G, Q and λ."""
        if self._weight is None:
            learned = float(self.chosen) > 0
            found = ridge(self.second, self.cross, float(self.chosen)) if learned else self.cross
            self._weight = found.float()

    # ------------------------------------------------------------ the first session

    def prepare_task(self, backbone: Backbone, epoch: Callable[[int], Iterable[Batch]], clock: Clock) -> list[Event]:
        """Prompts and a cosine head on the first task; the head is discarded."""
        if self.classes.start or not self.prompts.numel():
            return []
        started, c = time.perf_counter(), self.config
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "first session"))
        prompts = self.prompts.clone().requires_grad_()
        rows = torch.randn(len(self.classes), backbone.pooled_width, generator=generator) * backbone.pooled_width**-0.5
        rows = rows.to(prompts.device).requires_grad_()
        scale = prompts.new_ones(()).requires_grad_()
        trained = [prompts, rows, scale]
        optimiser = torch.optim.SGD(trained, lr=c.tuning_rate, momentum=0.9, weight_decay=c.tuning_decay)
        losses: list[float] = []
        for turn in range(c.tuning_epochs):
            optimiser.param_groups[0]["lr"] = c.tuning_rate * 0.5 * (1 + math.cos(math.pi * turn / c.tuning_epochs))
            parts = []
            for batch in epoch(turn):
                pooled = backbone.features(batch.images, with_prompts(prompts)).pooled
                logits = scale * F.normalize(pooled, dim=1) @ F.normalize(rows, dim=1).mT
                loss = F.cross_entropy(logits, batch.labels - self.classes.start)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                parts.append(loss.detach().double())
            losses.append(mean(parts))
        self.prompts = prompts.detach()
        return [StageEnded(clock, "first session", {"cross_entropy": losses}, time.perf_counter() - started)]

    # ------------------------------------------------------------ sums and the ridge solution

    def epochs(self, planned: int) -> int:
        return 0

    def groups(self) -> list[ParameterGroup]:
        return []

    def edit(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        return with_prompts(self.prompts)

    def edits_from(self, backbone: Backbone) -> int:
        """Prompts of the first session in every block; no change without it."""
        return 0 if self.prompts.numel() else backbone.depth

    def units(self, pooled: Tensor) -> Tensor:
        """h [B, M] of features f [B, L]."""
        return torch.relu(pooled @ self.random) if self.config.units else pooled

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        assert self._weight is not None  # set by `refresh`
        return self.units(pooled) @ self._weight[:, classes.start : classes.stop]

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        raise RuntimeError("nothing is trained by steps")  # `epochs` is 0

    def collectors(self, backbone: Backbone) -> list[Collector]:
        return [Collector((), lambda features, batch: self._seen.append((features.pooled, batch.labels)))]

    @torch.no_grad()
    def end_task(self, clock: Clock) -> list[Event]:
        for pooled, labels in self._seen:
            h = self.units(pooled).double()
            self.second += gram(h)
            self.cross += h.mT @ self._one_hot(labels)
        pooled, labels = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen, self._weight = [], None
        self.chosen.fill_(self.config.penalty or self._held_out(pooled, labels))
        return []

    def _held_out(self, pooled: Tensor, labels: Tensor) -> float:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "held out", self.classes.start))
        order = torch.randperm(len(pooled), generator=generator).to(pooled.device)
        return chosen_penalty(self.units(pooled[order]).double(), self._one_hot(labels[order]))

    def _one_hot(self, labels: Tensor) -> Tensor:
        return F.one_hot(labels, self.cross.shape[1]).to(self.cross)


def ridge(second: Tensor, cross: Tensor, penalty: float) -> Tensor:
    """W = (G + λ I)⁻¹ Q: [M, C]."""
    whole = torch.eye(len(second), dtype=second.dtype, device=second.device)
    return torch.linalg.solve(second + penalty * whole, cross)


def penalty_errors(h: Tensor, y: Tensor) -> Tensor:
    """Mean squared error on the last fifth of rows h [N, M] for targets y [N, C], fitted to the first four: one number
    for each of `PENALTIES`, from one decomposition. Fewer than two rows: zeros."""
    split = int(FITTED * len(h))
    if split < 1 or split == len(h):
        return h.new_zeros(len(PENALTIES))
    left, sizes, right = torch.linalg.svd(h[:split], full_matrices=False)
    turned, shown = left.mT @ y[:split], h[split:] @ right.mT
    fits = [shown @ ((sizes / (sizes.square() + penalty))[:, None] * turned) for penalty in PENALTIES]
    return torch.stack([(fit - y[split:]).square().mean() for fit in fits])


def chosen_penalty(h: Tensor, y: Tensor) -> float:
    """λ with the smallest held-out error; ties go to the smallest λ."""
    return PENALTIES[int(penalty_errors(h, y).argmin())]
