"""Experience replay: every step also trains on stored images of earlier tasks.

Parts: `deep_prompts`, `prompted`, `reservoir`.

Chaudhry et al. On Tiny Episodic Memories in Continual Learning. 2019, arXiv:1902.10486 (ER).
Buzzega et al. Dark Experience for General Continual Learning. NeurIPS 2020, arXiv:2004.07211 (DER++).
Shapes: B places in the buffer, b images a batch, C classes seen.

    er       L = CE(x, y) + β CE(x', y')                                x', x'' from the buffer
    der++    L = CE(x, y) + α mean (z(x'') − z'')² + β CE(x', y')       z'': logits of x'' when it was kept

x', x'' are two draws. z is divided by the training loss's temperature τ. Classes that arrived after x'' was stored have
no z'' and are excluded from the mean. Every image of every batch is offered to the buffer, in all epochs, as in the
releases: one may be stored twice, and the current task is in the buffer too. As released, images are stored before
augmentation and augmented again at every draw; `kept="changed"` stores the augmented images, as in older runs.

The model is that of `sequential`, but the buffer also trains the heads of earlier tasks. Competing classes:
`rivals="replayed"` lets all classes seen compete for images of the buffer, while the batch's cross-entropy is masked to
the task's own classes as in the other methods (Caccia et al., ICLR 2022, arXiv:2104.05025, found that this protects old
classes); `rivals="all"` is the published ER: all classes compete everywhere. B = 0 with the first equals `sequential`
bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.config import setting
from cl_core.methods.method import Loss, ParameterGroup
from cl_core.methods.parts.deep_prompts import PromptConfig
from cl_core.methods.parts.prompted import PromptedMethod
from cl_core.methods.parts.reservoir import Drawn, Reservoir
from cl_core.streams.stream import Batch, TaskStream, enlarged, unit_range

if TYPE_CHECKING:  # only the type is needed, and timm takes seconds to import
    from cl_core.backbones.vit import ViTBackbone


@dataclass(frozen=True)
class ReplayConfig(PromptConfig):
    """α and β are customary for DER++; ER as published has β = 1."""

    rule: str = setting(
        "er",
        choices=("er", "der++"),
        fixed="decides what was stored",
        help="er: labels again; der++: labels and former logits again",
    )
    buffer: int = setting(200, low=0, high=1_000_000, fixed="sets shapes", help="images kept (B); 0 = none")
    kept: str = setting(
        "plain",
        choices=("plain", "changed"),
        fixed="decides what was stored",
        help="plain: unmodified images, augmented again at every draw (released); changed: as augmented in training",
    )
    replay_batch: int = setting(64, low=1, high=4096, help="images of each draw from the buffer")
    replay_weight: float = setting(1.0, low=0.0, high=1e4, live=True, help="β, weight of the buffer's cross-entropy")
    logit_weight: float = setting(
        0.3, low=0.0, high=1e4, live=True, help="α, weight of the distance to former logits (rule der++)"
    )
    rivals: str = setting(
        "replayed",
        choices=("replayed", "all"),
        help="replayed: all classes seen compete only for images of the buffer; all: for the batch as well",
    )


@final
class Replay(PromptedMethod):
    """Trains on stored old images; nothing is protected."""

    Config = ReplayConfig

    def __init__(self, config: ReplayConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.reservoir = Reservoir(config.buffer, backbone.preparation.size, seed)

    def setup(self, stream: TaskStream, backbone: Backbone) -> None:
        """Allocate the buffer in the stream's image format (bytes, own size). If its tasks differ in format, all images
        are stored at the backbone's size in 0..1."""
        kinds = {(task.train.pictures.shape[-1], task.train.pictures.dtype) for task in stream}
        if self.config.kept == "plain" and len(kinds) == 1:
            self.reservoir.keep_as(*kinds.pop())

    def begin_task(self, index: int, classes: range) -> None:
        super().begin_task(index, classes)
        if self.config.rule == "der++":
            self.reservoir.widen(classes.stop)
        for head in self.tuning.heads if self._trains_all_heads else ():
            head.requires_grad_(True)

    @property
    def _trains_all_heads(self) -> bool:
        return self.config.buffer > 0 or self.config.rivals == "all"

    def groups(self) -> list[ParameterGroup]:
        groups = super().groups()
        if self._trains_all_heads and len(self.tuning.heads) > 1:
            earlier = {
                f"tuning.heads.{place}.{name}": parameter
                for place, head in enumerate(self.tuning.heads[:-1])
                for name, parameter in head.named_parameters()
            }
            groups.append(ParameterGroup("earlier heads", earlier, self.config.head_rate, self.config.weight_decay))
        return groups

    def loss(self, backbone: ViTBackbone, batch: Batch) -> Loss:
        """One pass over the batch and both samples; then the batch is offered to the buffer. Terms include their
        weights."""
        images, labels = batch.images, batch.labels
        again = self.reservoir.draw(self.config.replay_batch, "labels")
        former = self.reservoir.draw(self.config.replay_batch if self.config.rule == "der++" else 0, "logits")
        shown = [self._shown(batch, drawn, purpose) for drawn, purpose in ((again, "labels"), (former, "logits"))]
        pooled = self.features(backbone, torch.cat([images, *shown])).pooled
        now, then, before = pooled.split([len(images), len(again), len(former)])
        loss = self.tuning.loss_of(now, labels)
        if self.config.rivals == "all":
            loss.parts["cross_entropy"] = self._open_entropy(now, labels)
        if len(again) and self.config.replay_weight:
            loss.parts["replay"] = self.config.replay_weight * self._open_entropy(then, again.labels)
        if len(former) and self.config.logit_weight:
            loss.parts["former_logits"] = self.config.logit_weight * self._distance(before, former)
        if len(self.reservoir.labels):
            with torch.no_grad():
                logits = self._logits(now) if self.config.rule == "der++" else None
                self.reservoir.offer(self._kept(batch), labels, logits)
        return loss

    def _kept(self, batch: Batch) -> Tensor:
        """The images of a batch in the buffer's shape and type."""
        if self.config.kept == "changed":
            return batch.images
        assert batch.pictures is not None  # of a training batch
        held = self.reservoir.images
        if batch.pictures.shape[-1] == held.shape[-1] and batch.pictures.dtype == held.dtype:
            return batch.pictures
        return enlarged(unit_range(batch.pictures), held.shape[-1])

    def _shown(self, batch: Batch, drawn: Drawn, purpose: str) -> Tensor:
        """Sampled images prepared for the backbone, and augmented if this batch was."""
        if not len(drawn):
            return batch.images[:0]
        if self.config.kept == "changed":
            return drawn.images
        assert batch.shown is not None  # of a training batch
        return batch.shown(drawn.images, purpose)

    def _logits(self, pooled: Tensor) -> Tensor:
        """z over all classes seen: [b, C]."""
        return self.tuning.classify(pooled) / self.config.temperature

    def _open_entropy(self, pooled: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self._logits(pooled), labels)

    def _distance(self, pooled: Tensor, former: Drawn) -> Tensor:
        """Mean squared distance to the stored logits, over classes known then."""
        kept = torch.arange(former.logits.shape[1], device=pooled.device) < former.known[:, None]
        return (self._logits(pooled) - former.logits)[kept].square().mean()
