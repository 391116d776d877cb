"""Base class of methods with a pool of prompts queried by the frozen model's features.

Shapes: B images, d width, E entries.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_core.backbones.answer_cache import Kept
from cl_core.backbones.backbone import Backbone
from cl_core.config import check_settings, setting
from cl_core.methods.method import Loss, Method, ParameterGroup
from cl_core.methods.parts.query_features import FrozenQueries
from cl_core.methods.parts.task_heads import TaskHeads
from cl_core.streams.stream import mixed_seed


@dataclass(frozen=True)
class PoolConfig:
    """Settings of all pools."""

    rate: float = setting(1e-3, low=0.0, high=10.0, help="learning rate of prompts and keys")
    head_rate: float = setting(1e-3, low=0.0, high=10.0, help="learning rate of the heads; the authors use one for all")

    temperature: float = setting(
        1.0, low=0.01, high=1000.0, help="logits are divided by this in the training loss only; released: 1"
    )

    def __post_init__(self) -> None:
        check_settings(self)


class PoolMethod(Method[Backbone], abc.ABC):
    """Abstract: frozen queries, a head per task, Adam, and prompts that may differ by image."""

    nothing: Tensor

    def __init__(self, config: Any, backbone: Backbone, seed: int) -> None:
        super().__init__(config, seed)
        self.heads = TaskHeads(backbone.pooled_width, seed)
        self.query = FrozenQueries()
        self.register_buffer("nothing", torch.empty(0), persistent=False)  # where this method is, before it has entries

    def begin_task(self, index: int, classes: range) -> None:
        self.heads.begin_task(classes, self.nothing.device)

    @abc.abstractmethod
    def pool(self) -> dict[str, nn.Parameter]:
        """The pool's parameters trained in the current task, by name within the method."""

    def groups(self) -> list[ParameterGroup]:
        return [
            ParameterGroup("prompts", self.pool(), self.config.rate),
            ParameterGroup("head", self.heads.trained("heads"), self.config.head_rate),
        ]

    def answers_kept(self, backbone: Backbone) -> list[Kept]:
        return [self.query.kept(backbone)]

    def head_loss(self, pooled: Tensor, labels: Tensor) -> Loss:
        """CE over the current task's classes, on logits / τ."""
        return self.heads.loss(pooled, labels, self.config.temperature)

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        return self.heads(pooled)[:, classes.start : classes.stop]

    def drawn(self, *shape: int, of: str, task: int = 0) -> Tensor:
        """Random numbers from U(−1, 1), determined by (seed, name, task), on this method's device."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, of, task))
        return (2 * torch.rand(*shape, generator=generator) - 1).to(self.nothing.device)
