"""CLIP-NSP²: prompts in the first blocks of CLIP's image tower, their steps projected to the null space of past tasks.

Parts: `attention_covariance`, `clip_method`, `deep_prompts`, `prompt_projection`.

Lu et al. Visual Prompt Tuning in Null Space for Continual Learning. NeurIPS 2024, arXiv:2406.05658, the CLIP variant.
The rule is that of `cl_core.methods.nsp2`. Shapes: K blocks with prompts, M prompts, d width, B images, C classes.

    x = f(image; P)/‖·‖,  t_c the classes' texts, frozen        Z = exp(s) x · t_c,  s from ln(CLIP's scale), trained
    loss = CE(Z over the task's classes) + w L_LN                Adam; from the second task on P ← P + B̃₂ U B̃₁

Only the prompts and s are trained, both shared by all tasks; s is unconstrained. K = 4 blocks from the first on, as
released; the paper says three. Both towers are frozen, so class texts are embedded once.

Omitted: the release's refinement of the image projection after each task on features drawn from a Gaussian per class,
which is a head trained on stored statistics, separate from the projection rule. Classes of the current task compete in
training and all classes seen in a class-incremental test, as published; on domains, where the task is known, that
task's classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.io_types import AS_IT_IS, Adaptation, ModelEdit
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.methods.method import Collector, Constraint, Loss, ParameterGroup
from cl_core.methods.parts.attention_covariance import Cut, PromptMoments
from cl_core.methods.parts.clip_method import ClipConfig, ClipMethod
from cl_core.methods.parts.deep_prompts import with_prompts
from cl_core.methods.parts.prompt_projection import NullSpaceConfig, cuts, norm_drift, projectors
from cl_core.streams.stream import Batch, mixed_seed

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class ClipNsp2Config(NullSpaceConfig, ClipConfig):
    """Defaults are the authors' for CLIP ViT-B/16."""

    rate: float = setting(1e-3, low=0.0, high=10.0, help="learning rate of prompts and logit scale")
    weight_decay: float = setting(5e-5, low=0.0, high=1.0, help="coupled L2 decay inside Adam")
    label_smoothing: float = setting(0.0, low=0.0, high=0.99, help="share of the target spread over all classes")
    eta_affinity: float = setting(
        0.98, low=0.0, high=1.0, live=True, help="η₁, strictness on the channel side (1 strict, 0 off)"
    )
    eta_mixture: float = setting(
        0.98, low=0.0, high=1.0, live=True, help="η₂, strictness on the prompt side (1 strict, 0 off)"
    )
    prompt_length: int = setting(4, low=1, high=64, fixed="sets shapes", help="prompts per block (M)")
    prompt_blocks: int = setting(
        4,
        low=1,
        high=1000,
        fixed="sets shapes",
        help="number of blocks with prompts, from the first on (K), at most all; the paper says 3",
    )
    train_scale: bool = setting(True, help="also train the logit scale (published); false: keep CLIP's")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_short_prompts(self.prompt_length)


@final
class ClipNSP2(ClipMethod):
    """Trains prompts in the image tower; texts and both towers are frozen."""

    Config = ClipNsp2Config
    text_is_trained = False
    text_stands_still: ClassVar[bool] = True
    prompt_parameter = "prompts"
    past = 0  # number of finished tasks at `refresh`
    rows: Tensor | None = None  # B̃₂ [K, M, M], None in the first task
    columns: Tensor | None = None  # B̃₁ [K, d, d]

    previous_prompts: Tensor

    def __init__(self, config: ClipNsp2Config, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        blocks = min(config.prompt_blocks, backbone.depth)
        self.prompted_blocks = range(blocks)
        generator = torch.Generator().manual_seed(mixed_seed(seed, "prompts"))
        drawn = torch.rand(blocks, config.prompt_length, backbone.width, generator=generator)
        self.prompts = nn.Parameter(2 * drawn - 1)
        self.log_scale = nn.Parameter(backbone.logit_scale.detach().log().clone(), requires_grad=config.train_scale)
        self.moments = PromptMoments(
            self.prompted_blocks, config.prompt_length, backbone.width, weighting=config.weighting
        )
        self.register_buffer("previous_prompts", self.prompts.detach().clone())

    @property
    def deep_prompts(self) -> Tensor:
        """The current prompts [K, M, d]."""
        return self.prompts.detach()

    def refresh(self) -> None:
        """B̃₁, B̃₂ from the moments of finished tasks; none in the first task."""
        super().refresh()
        self.past = int(self.moments.tasks)
        found = projectors(self.config, self.moments, self.prompts.dtype)
        self.columns, self.rows = (None, None) if found is None else found

    def groups(self) -> list[ParameterGroup]:
        rate, decay = self.config.rate, self.config.weight_decay
        groups = [ParameterGroup("prompts", {"prompts": self.prompts}, rate, decay)]
        if self.config.train_scale:
            groups.append(ParameterGroup("logit scale", {"log_scale": self.log_scale}, rate, decay))
        return groups

    def adaptation(self, *, training: bool = False) -> Adaptation:
        return AS_IT_IS

    def edit(self, backbone: ClipBackbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        return with_prompts(self.prompts)

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        """exp(s) x · t_c: [B, |classes|]."""
        return self.log_scale.exp() * F.normalize(pooled, dim=1) @ self.class_texts[classes.start : classes.stop].mT

    def loss(self, backbone: ClipBackbone, batch: Batch) -> Loss:
        x = F.normalize(self.features(backbone, batch.images, ids=batch.ids).pooled, dim=1)
        logits = self.log_scale.exp() * x @ self.task_texts(backbone, AS_IT_IS).mT
        loss = self.task_loss(logits, batch.labels)
        if self.past and self.config.norm_weight:
            loss.parts["norm_drift"] = self.config.norm_weight * norm_drift(self.prompts, self.previous_prompts)
        return loss

    def constraints(self) -> dict[str, Constraint]:
        """U → B̃₂ U B̃₁, per block."""
        if self.rows is None or self.columns is None:
            return {}
        rows, columns = self.rows, self.columns
        return {"prompts": Constraint(step=lambda step: rows @ step @ columns)}

    def collectors(self, backbone: ClipBackbone) -> list[Collector]:
        add = lambda features, batch: self.moments.add(backbone, features, self.deep_prompts)
        return [Collector(self.moments.taps(), add)]

    def end_task(self, clock: Clock) -> list[Event]:
        self.moments.fold_task()
        self.previous_prompts.copy_(self.deep_prompts)
        return []

    def cuts(self) -> dict[str, Cut]:
        """Spectra and cuts that constrain the next task."""
        return cuts(self.config, self.moments)
