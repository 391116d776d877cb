"""LwF: distillation of the old heads on new images.

Parts: `deep_prompts`, `prompted`, `teacher_table`.

Li, Hoiem. Learning without Forgetting. ECCV 2016, arXiv:1606.09282. Shapes: B images, c classes of the task, o classes
learned before it, M prompts in each of L blocks.

    L = CE(z_new) + α KL( softmax(ẑ_old / T) ‖ softmax(z_old / T) )         from the second task on
    z    logits as the training loss sees them: divided by its temperature τ
    ẑ    those of the model at the start of the task, on the same images

The model is that of `sequential`: only prompts are shared and trained by all tasks, so the distillation constrains only
them. Differences: heads of earlier tasks are frozen (the paper trains them), and the new head is not warmed up, so that
α = 0 equals `sequential` bit for bit. All old classes share one softmax, as at test time; there is no factor T². The
teacher's outputs are computed when a task first uses an image, and each time for augmented images, which have no id to
cache them under.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.methods.method import Loss
from cl_core.methods.parts.deep_prompts import PromptConfig
from cl_core.methods.parts.prompted import PromptedMethod
from cl_core.methods.parts.teacher_table import TeacherTable
from cl_core.streams.stream import Batch

if TYPE_CHECKING:  # only the type is needed, and timm takes seconds to import
    from cl_core.backbones.vit import ViTBackbone


@dataclass(frozen=True)
class LwfConfig(PromptConfig):
    """α and T are those of class-incremental toolboxes; the paper's α is 1."""

    distillation: float = setting(0.5, low=0.0, high=1e4, live=True, help="α, weight of the distillation (0: none)")
    softness: float = setting(2.0, low=0.01, high=100.0, live=True, help="T, temperature of the distillation")


@final
class LwF(PromptedMethod):
    """The teacher is the model at the start of the task: its prompts; heads do not change."""

    Config = LwfConfig

    previous_prompts: Tensor

    def __init__(self, config: LwfConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.register_buffer("previous_prompts", self.tuning.prompts.detach().clone())
        self.teacher = TeacherTable()

    @property
    def distils(self) -> bool:
        """Whether there are earlier tasks and prompts to constrain."""
        return self.config.distillation > 0 and self.config.prompt_length > 0 and len(self.tuning.heads) > 1

    @torch.no_grad()
    def teacher_logits(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> Tensor:
        """ẑ of images, with the prompts at the start of the task, in float32: [B, o]."""
        with backbone.computing_in(torch.float32):
            before = self.tuning.with_prompts(self.previous_prompts)
            return self.old_logits(backbone.features(images, before, ids=ids).pooled)

    def old_logits(self, pooled: Tensor) -> Tensor:
        """z of features [B, d] over all classes learned before this task: [B, o]."""
        logits = torch.cat([head(pooled) for head in self.tuning.heads[:-1]], dim=1)
        return logits / self.config.temperature

    def loss(self, backbone: ViTBackbone, batch: Batch) -> Loss:
        """The masked cross-entropy and the weighted distillation."""
        if not self.distils:
            return super().loss(backbone, batch)
        pooled = self.features(backbone, batch.images, ids=batch.ids).pooled
        loss = self.tuning.loss_of(pooled, batch.labels)
        told = self.teacher.find(batch.ids)
        if told is None:  # not seen in this task before, or augmented
            told = self.teacher_logits(backbone, batch.images, batch.ids)
            self.teacher.keep(batch.ids, told)
        softness = self.config.softness
        now, then = (F.log_softmax(z / softness, dim=1) for z in (self.old_logits(pooled), told))
        divergence = F.kl_div(now, then, reduction="batchmean", log_target=True)
        loss.parts["distillation"] = self.config.distillation * divergence
        return loss

    def end_task(self, clock: Clock) -> list[Event]:
        self.teacher.clear()
        self.previous_prompts.copy_(self.deep_prompts)
        return []
