"""SLCA: a slow learner with fast heads, which are aligned afterwards on Gaussians of the features.

Parts: `class_gaussians`, `key_value`, `replay_head`.

Zhang et al. SLCA: Slow Learner with Classifier Alignment for Continual Learning on a Pre-trained Model. ICCV 2023,
arXiv:2303.05118; SLCA++: arXiv:2408.08295. Written from the equations, details as in the release.
Shapes: C classes begun in T tasks, d width; z [B, C] scores; t the current task from 0, t_c that of class c.

    steps    CE over the current task's classes; the rate of the backbone is a hundredth of the head's
    after    μ_c, Σ_c of the new classes' features, never updated again
    from the second task on a copy of all heads is trained on sampled features
             x ~ N(m_c μ_c, Σ_c + 1e-4 I),   m_c = 0.9 + 0.1 (t_c + 1)/(t + 1)
             loss  CE( z / (0.1 n) ),   n = mean over tasks of ‖scores of that task's classes‖ + 1e-7
    the copy is used for prediction; the next task continues from the unaligned heads

A baseline with an almost frozen backbone and second moments. `drift="norms"` and `reverse` are the sampling and the
loss of SLCA++ (x / (1 + u (t − t_c)), u ~ U(0.01, 0.03); at test features are multiplied by 1 + 0.02 (t − t_c) for the
classes of task t_c; a CE + b RCE).

Ours: the slow learner is the key and value matrices of every block, as in our other weight-based methods (release: the
whole backbone; SLCA++: norms, biases, class token and one LoRA). t_c is the task in which a class arrived; the release
divides the class index by the current task's size, which is wrong for tasks of different size. Covariances may be
shared or diagonal for classes with fewer images than d.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.config import setting
from cl_core.events import Clock, Event, StageEnded
from cl_core.methods.method import Collector, Loss, ParameterGroup
from cl_core.methods.parts.class_gaussians import KINDS, ClassGaussians
from cl_core.methods.parts.key_value import KeyValueConfig, KeyValueMethod
from cl_core.methods.parts.replay_head import TEMPERATURE, AlignedHead
from cl_core.streams.stream import Batch

DRIFT, LOWEST, HIGHEST = (
    0.02,
    0.01,
    0.03,
)  # shrinking of norms per task: at test time, and the bounds of its random value
LOG_ZERO = 1e-4  # replaces 0 inside the logarithm of the reverse cross-entropy


@dataclass(frozen=True)
class SlcaConfig(KeyValueConfig):
    """Defaults are the release's for CIFAR-100; the rates are its 0.01 and a hundredth of that."""

    rate: float = setting(1e-4, low=0.0, high=10.0, help="learning rate of the slow learner (0: frozen)")
    temperature: float = setting(
        1.0, low=0.01, high=1000.0, help="logits are divided by this in the training loss only"
    )
    weight_decay: float = setting(5e-4, low=0.0, high=1.0, help="coupled weight decay, also in alignment")
    optimiser: str = setting("sgd", choices=("sgd", "adam"), help="sgd: as published, with momentum")
    momentum: float = setting(0.9, low=0.0, high=0.999, help="of the steps (sgd) and of alignment")
    align_rate: float = setting(0.01, low=0.0, high=10.0, help="learning rate of alignment")
    align_epochs: int = setting(5, low=0, high=1000, help="epochs of alignment after each task but the first (0: none)")
    draws: int = setting(256, low=1, high=100_000, help="features drawn per class in one epoch of alignment")
    covariance: str = setting(
        "class",
        choices=KINDS,
        fixed="decides what is kept",
        help="class: one each (published); shared: one for all; diagonal: variances only",
    )
    drift: str = setting(
        "means", choices=("means", "norms", "none"), help="means: m_c of SLCA; norms: SLCA++'s scaling"
    )
    reverse: float = setting(0.0, low=0.0, high=100.0, help="weight of the reverse cross-entropy (SLCA++: 0.1)")


@final
class SLCA(KeyValueMethod):
    """Slow training of keys and values, then alignment of all heads on stored Gaussians."""

    Config = SlcaConfig

    def __init__(self, config: SlcaConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        layers, width = backbone.depth, backbone.width
        self.shift = nn.Parameter(torch.zeros(layers, 2, width, width))  # ΔW
        self.head = AlignedHead(width, seed)
        self.gaussians = ClassGaussians(width, config.covariance, draws=config.draws)
        self.tasks: list[range] = []

    def change(self) -> Tensor:
        return self.shift

    def changed(self) -> dict[str, nn.Parameter]:
        return {"shift": self.shift}

    def begin_task(self, index: int, classes: range) -> None:
        self.tasks = [*self.tasks[:index], classes]
        self.head.add_classes(index, classes)
        self.gaussians.add_classes(classes)

    def groups(self) -> list[ParameterGroup]:
        c, last = self.config, len(self.head.weights) - 1
        head = {f"head.weights.{last}": self.head.weights[last], f"head.biases.{last}": self.head.biases[last]}
        changed = ParameterGroup("keys and values", self.changed(), c.rate, c.weight_decay)
        both = (changed, ParameterGroup("head", head, c.head_rate, c.weight_decay))
        return [replace(group, optimiser=c.optimiser, momentum=c.momentum) for group in both]

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        logits = self.head.current(self.features(backbone, batch.images).pooled)
        targets = batch.labels - self.tasks[-1].start
        correct = (logits.detach().argmax(dim=1) == targets).float().mean()
        scaled = logits / self.config.temperature
        parts = {"cross_entropy": F.cross_entropy(scaled, targets)}
        if self.config.reverse:
            parts["reverse"] = self.config.reverse * reverse_cross_entropy(scaled, targets)
        return Loss(parts, correct)

    def collectors(self, backbone: Backbone) -> list[Collector]:
        return [Collector((), lambda features, batch: self.gaussians.see(features.pooled, batch.labels))]

    def end_task(self, clock: Clock) -> list[Event]:
        started, c, epochs = time.perf_counter(), self.config, self.config.align_epochs
        self.gaussians.learn(self.tasks[-1])
        if len(self.tasks) == 1 or not epochs:
            self.head.align(None)
            return []
        losses = self.head.align(
            _Drawn(self.gaussians, self.tasks, c.drift),
            rate=c.align_rate,
            epochs=epochs,
            batch=c.draws,
            momentum=c.momentum,
            decay=c.weight_decay,
            cosine=True,
            scaled=lambda logits: logits / (TEMPERATURE * task_norms(logits, self.tasks)),
        )
        return [StageEnded(clock, "classifier alignment", losses, time.perf_counter() - started)]

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        if self.config.drift != "norms":
            return self.head.classify(pooled)[:, classes.start : classes.stop]
        grown = pooled.new_tensor([1 + DRIFT * age for age in ages(self.tasks)])  # [C]
        bias = self.head.classify(torch.zeros_like(pooled[:1]))
        scores = (self.head.classify(pooled) - bias) * grown + bias
        return scores[:, classes.start : classes.stop]


def ages(tasks: Sequence[range]) -> list[int]:
    """t − t_c of every class c."""
    return [len(tasks) - 1 - index for index, classes in enumerate(tasks) for _ in classes]


def mean_scales(tasks: Sequence[range]) -> Tensor:
    """m_c = 0.9 + 0.1 (t_c + 1)/(t + 1) of every class: [C]."""
    count = len(tasks)
    return torch.tensor([0.9 + 0.1 * (count - age) / count for age in ages(tasks)], dtype=torch.float64)


@dataclass(frozen=True)
class _Drawn:
    """Sampled features of all classes, with the assumed drift of older ones."""

    gaussians: ClassGaussians
    tasks: Sequence[range]
    drift: str

    def epoch(self, classes: range, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        scales = mean_scales(self.tasks) if self.drift == "means" else None
        drawn, labels = self.gaussians.epoch(classes, generator, scales)
        if self.drift == "norms":
            share = LOWEST + (HIGHEST - LOWEST) * torch.rand(len(drawn), generator=generator)
            drawn = drawn * shrunk_norms(share.to(drawn), torch.tensor(ages(self.tasks)).to(labels)[labels])[:, None]
        return drawn, labels


def shrunk_norms(share: Tensor, age: Tensor) -> Tensor:
    """1 / (1 + u (t − t_c))."""
    return 1 / (1 + share * age)


def task_norms(logits: Tensor, tasks: Sequence[range]) -> Tensor:
    """n [B, 1] of scores [B, C]: the mean over tasks of the norm of that task's scores, differentiable."""
    norms = [logits[:, classes.start : classes.stop].norm(dim=1, keepdim=True) + 1e-7 for classes in tasks]
    return torch.stack(norms).mean(dim=0)


def reverse_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """−Σ p log(one-hot), with 1e-4 for its zeros and p at least 1e-7: mean over the batch."""
    p = logits.softmax(dim=1).clamp(1e-7, 1)
    hot = F.one_hot(targets, logits.shape[1]).to(p).clamp(min=LOG_ZERO)
    return -(p * hot.log()).sum(dim=1).mean()
