"""EWC: a quadratic penalty on changes of parameters, weighted by their importance for earlier tasks.

Parts: `deep_prompts`, `prompted`.

Kirkpatrick et al. Overcoming catastrophic forgetting in neural networks. PNAS 2017, arXiv:1612.00796; online form:
Schwarz et al. Progress & Compress. ICML 2018, arXiv:1805.06370.
Shapes: θ the prompts [L, M, d], B images.

    F_t = mean_x ( ∂ log p(y | x) / ∂θ )²        at the end of task t, one gradient per image, y its true label
    L = CE + (λ/2) Σ_i F_i (θ_i − θ*_i)²

    separate   one penalty per task: Σ_t F_t (θ − θ_t)². They add up to (Σ F_t) θ² − 2 (Σ F_t θ_t) θ + Σ F_t θ_t², so
               memory does not grow
    online     one penalty in total: F ← γ F + F_t, θ* ← θ_t

The model is that of `sequential`: only prompts are shared by tasks, so only they are penalised; heads of earlier tasks
do not change. p is the trained softmax, over the task's own classes and with logits / τ. Using the true labels gives
the customary "empirical" Fisher; squares are of single gradients, because the square of a mini-batch's mean is too
small by about the batch size. λ = 0 equals `sequential` bit for bit. Adam divides by the size of a gradient: for any λ
its first steps have full length, and only a falling learning rate lets it converge to θ*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import BlockIntervention, Features, ModelEdit
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.methods.method import Collector, Loss
from cl_core.methods.parts.deep_prompts import PromptConfig
from cl_core.methods.parts.prompted import PromptedMethod
from cl_core.streams.stream import Batch

if TYPE_CHECKING:  # only the type is needed, and timm takes seconds to import
    from cl_core.backbones.vit import ViTBackbone

TOGETHER = 25  # images per batch of per-image gradients


@dataclass(frozen=True)
class EwcConfig(PromptConfig):
    """λ has no published value for prompts: its scale is that of the loss, the temperature and the prompts."""

    stiffness: float = setting(1e4, low=0.0, high=1e12, live=True, help="λ, weight of the penalty (0: none)")
    memory: str = setting(
        "separate",
        choices=("separate", "online"),
        help="separate: one penalty per task; online: centred at the last task's prompts, with accumulated weights",
    )
    fading: float = setting(1.0, low=0.0, high=1.0, help="γ, decay of earlier weights per task (memory online)")


@final
class EWC(PromptedMethod):
    """Prompts with a penalty weighted by the Fisher information of earlier tasks."""

    Config = EwcConfig

    fisher: Tensor
    pull: Tensor
    rest: Tensor

    def __init__(self, config: EwcConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        for name in ("fisher", "pull", "rest"):  # Σ F, Σ F θ*, Σ F θ*²
            self.register_buffer(name, torch.zeros(self.tuning.prompts.shape, dtype=torch.float64))
        self._squares: Tensor | None = None  # Σ of squared gradients of the finished task; never saved partially
        self._images = 0

    def loss(self, backbone: ViTBackbone, batch: Batch) -> Loss:
        loss = super().loss(backbone, batch)
        if self.config.stiffness and len(self.tuning.heads) > 1 and self.config.prompt_length:
            loss.parts["penalty"] = self.penalty().to(loss.parts["cross_entropy"])
        return loss

    def penalty(self) -> Tensor:
        """(λ/2) Σ F (θ − θ*)², in float64 because the three sums cancel at θ*."""
        prompts = self.tuning.prompts.double()
        squares = self.fisher * prompts.square() - 2 * self.pull * prompts + self.rest
        return 0.5 * self.config.stiffness * squares.sum()

    def collectors(self, backbone: ViTBackbone) -> list[Collector]:
        if not self.config.prompt_length:
            return []
        return [Collector((), lambda features, batch: None, looks=lambda batch: self.look(backbone, batch))]

    def look(self, backbone: ViTBackbone, batch: Batch) -> Features:
        """Add a batch's squared gradients, even for λ = 0, which may be raised later. The same pass gives its
        features."""
        targets, pooled = batch.labels - self.tuning.classes.start, []
        for start in range(0, len(targets), TOGETHER):
            rows = slice(start, start + TOGETHER)
            ids = None if batch.ids is None else batch.ids[rows]
            gradients, features = self.gradients(backbone, batch.images[rows], targets[rows], ids)
            squares = gradients.double().square().sum(dim=0)
            self._squares = squares if self._squares is None else self._squares + squares
            self._images += len(features)
            pooled.append(features)
        return Features(torch.cat(pooled))

    def gradients(
        self, backbone: ViTBackbone, images: Tensor, targets: Tensor, ids: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """∂ log p(y | x) / ∂θ per image [B, L, M, d], and features [B, d]. Each image has its own copy of the prompts,
        as keys and values next to its tokens, so that one backward pass gives all gradients.

        images: [B, 3, S, S]; ids [B]: their numbers. targets: [B], indices among the task's classes.
        """
        with torch.enable_grad():
            own = self.tuning.prompts.detach().expand(len(images), -1, -1, -1).clone().requires_grad_()
            edits = {
                block: BlockIntervention(prefix=backbone.keys_values(block, own[:, place]))
                for place, block in enumerate(self.prompted_blocks)
            }
            pooled = backbone.features(images, ModelEdit(edits), ids=ids).pooled
            logits = self.tuning.heads[-1](pooled) / self.config.temperature
            gradients = torch.autograd.grad(-F.cross_entropy(logits, targets, reduction="sum"), own)[0]
        return gradients, pooled.detach()

    @torch.no_grad()
    def end_task(self, clock: Clock) -> list[Event]:
        if self._squares is not None:
            fisher, prompts = self._squares / self._images, self.tuning.prompts.detach().double()
            if self.config.memory == "online":
                fisher = self.config.fading * self.fisher + fisher
                self.pull.zero_()
                self.rest.zero_()
                self.fisher.zero_()
            self.fisher += fisher
            self.pull += fisher * prompts
            self.rest += fisher * prompts.square()
            self._squares, self._images = None, 0
        return []
