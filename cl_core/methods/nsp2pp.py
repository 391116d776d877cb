"""VPT-NSP²++: null-space projection of prompts, relaxed on channels unimportant for old tasks.

Parts: `attention_covariance`, `class_gaussians`, `deep_prompts`, `prompt_projection`, `prompted`, `replay_head`.

Zhang, Lu et al. TPAMI 2026, the successor of VPT-NSP² (`nsp2`). Written from the release's behaviour; the paper's text
was not available to us.
Shapes: L blocks with prompts, M prompts, d width; C₁ [L, d, d], C₂ [L, M, M], Π as in `nsp2`; U [L, M, d] Adam's step.

    I [L, d] = mean over prompts of |Σ_batches ∂ℓ/∂P|,   ℓ: supervised contrastive loss of the features, τ = 0.07 old:
    the channels (a block's coordinate) with the largest I on the last task's images after it was learned new: the same
    on the next task's images before it is learned

    U becomes   0                        important only for old
                U                        important only for new
                B₂(a) U B₁(a)            important for both
                B₂(a − δ) U B₁(a − δ)    important for neither;     B(a) = a Π/‖Π‖_F + (1 − a) I

    loss = CE(logits/τ) + w L_LN as in `nsp2`;  after each task a copy of all heads is refined on Gaussians of the
    features of every class so far, CE(logits/τ); it is used for prediction, and the next task continues from the
    unrefined heads

Differences from the release: it trains one batch per epoch (a `break` left over from debugging), and its command line
lacks the flag that turns the projection on; neither is reproduced. Importance is computed on unmodified images, once
each (release: two AutoAugment views); `importance="cross-entropy"` uses the loss of the task's own head. The mask is a
share of all channels: the released 50 of 12 · 768 would be a twentieth of the bundled model's. With `scale="frobenius"`
δ is relative to eigenvalues of 1/√R: at nullity 625, 0.04 I is as large as the projector.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import BlockIntervention, Features, Tap
from cl_core.config import ConfigError, setting
from cl_core.events import Clock, Event, StageEnded
from cl_core.linalg import projector_gains
from cl_core.methods.method import Collector, Constraint, Loss
from cl_core.methods.parts.attention_covariance import SPACES, Cut, PromptMoments
from cl_core.methods.parts.class_gaussians import KINDS, ClassGaussians
from cl_core.methods.parts.deep_prompts import PromptConfig
from cl_core.methods.parts.prompt_projection import norm_drift, nullity_by, refuse_short_prompts, softened
from cl_core.methods.parts.prompted import PromptedMethod
from cl_core.methods.parts.replay_head import align_rows
from cl_core.streams.stream import Batch, mixed_seed

if TYPE_CHECKING:  # only the type is needed, and timm takes seconds to import
    from cl_core.backbones.vit import ViTBackbone

CONTRASTIVE = 0.07  # temperature of the supervised contrastive loss


@dataclass(frozen=True)
class NSP2ppConfig(PromptConfig):
    """Defaults are those of the release's script for CIFAR-100; the share is its 50 channels of ViT-B/16."""

    temperature: float = setting(30.0, low=0.01, high=1000.0, help="logits are divided by this, in refinement as well")
    strict: float = setting(1.0, low=0.0, high=1.0, live=True, help="a, strictness of the projection (1 strict, 0 off)")
    relax: float = setting(
        0.04, low=0.0, high=1.0, live=True, help="δ, subtracted from a on channels important for neither old nor new"
    )
    important: float = setting(
        50 / (12 * 768), low=0.0, high=1.0, live=True, help="share of all channels that counts as important (0: none)"
    )
    importance: str = setting(
        "contrastive", choices=("contrastive", "cross-entropy"), help="the loss whose gradient defines importance"
    )
    rule: str = setting("elbow", choices=("elbow", "energy"), live=True, help="where spectra are cut")
    energy: float = setting(0.95, low=0.0, high=1.0, live=True, help="energy kept for old tasks (rule energy)")
    scale: str = setting(
        "frobenius", choices=("frobenius", "plain"), live=True, help="frobenius: Π/√R as released; plain: Π as written"
    )
    norm_weight: float = setting(1.0, low=0.0, high=1e4, live=True, help="weight of L_LN, see nsp2")
    refine_epochs: int = setting(50, low=0, high=1000, help="epochs of head refinement after each task (0: none)")
    refine_rate: float = setting(1e-3, low=0.0, high=10.0, help="learning rate of head refinement")
    draws: int = setting(256, low=1, high=100_000, help="features drawn per class in one epoch of refinement")
    covariance: str = setting("class", choices=KINDS, fixed="decides what is kept", help="of the Gaussians, see slca")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt_length < 1:
            raise ConfigError("prompt_length must be at least 1, got 0; method sequential trains heads alone")
        refuse_short_prompts(self.rule, self.prompt_length)
        if self.relax > self.strict:
            raise ConfigError(f"relax must be at most strict = {self.strict:g}, got {self.relax:g}")


@final
class NSP2pp(PromptedMethod):
    """Deep prompts with projection by channel importance."""

    Config = NSP2ppConfig
    past = 0  # number of finished tasks at `refresh`
    rows: Tensor | None = None  # B₂(a) [L, M, M], None in the first task
    columns: Tensor | None = None  # B₁(a) [L, d, d]

    old: Tensor
    new: Tensor
    previous_prompts: Tensor
    weight: Tensor
    bias: Tensor
    refined: Tensor

    def __init__(self, config: NSP2ppConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        width = backbone.width
        self.moments = PromptMoments(self.prompted_blocks, config.prompt_length, width)
        self.gaussians = ClassGaussians(width, config.covariance, draws=config.draws)
        for name in ("old", "new"):  # I [L, d]
            self.register_buffer(name, torch.zeros(len(self.prompted_blocks), width))
        self.register_buffer("previous_prompts", self.tuning.prompts.detach().clone())
        self.register_buffer("weight", torch.zeros(0, width))  # refined rows
        self.register_buffer("bias", torch.zeros(0))
        self.register_buffer("refined", torch.zeros((), dtype=torch.int64))  # classes begun when they were refined
        self._relaxed: tuple[Tensor, Tensor] | None = None  # derived: B₂(a − δ), B₁(a − δ)
        self._gradient: Tensor | None = None  # Σ ∂ℓ/∂P of a pass; never saved partially

    def begin_task(self, index: int, classes: range) -> None:
        super().begin_task(index, classes)
        self.gaussians.add_classes(classes)
        self.weight = torch.cat([self.weight, self.weight.new_zeros(len(classes), self.weight.shape[1])])
        self.bias = torch.cat([self.bias, self.bias.new_zeros(len(classes))])

    def refresh(self) -> None:
        """B₁, B₂ from the moments of finished tasks, strict and relaxed; none in the first task."""
        self.past = int(self.moments.tasks)
        self.rows = self.columns = self._relaxed = None
        if self.past:
            c, dtype = self.config, self.tuning.prompts.dtype
            self.columns, self.rows = (self._projector(space, c.strict).to(dtype) for space in SPACES)
            columns, rows = (self._projector(space, c.strict - c.relax).to(dtype) for space in SPACES)
            self._relaxed = rows, columns

    def _projector(self, space: str, softness: float) -> Tensor:
        return softened(self.moments, space, self._nullity(space), eta=softness, scale=self.config.scale)

    def _nullity(self, space: str) -> Tensor:
        """R per layer [L]."""
        return nullity_by(self.config.rule, self.config.energy, self.moments, space)

    # ------------------------------------------------------------ importance

    def prepare_task(self, backbone: ViTBackbone, epoch: Callable[[int], Iterable[Batch]], clock: Clock) -> list[Event]:
        """Importance for the new task, before its first step; the first task is unprojected."""
        if self.past:
            for batch in epoch(0):
                with torch.no_grad():
                    features = self.features(backbone, batch.images, (self._entrance,), batch.ids)
                self.add_gradient(backbone, features.taps[self._entrance], batch.labels)
            self.new.copy_(self._importance())
        return []

    @property
    def _entrance(self) -> Tap:
        """Input of the first block with prompts."""
        return "input", self.prompted_blocks.start

    def add_gradient(self, backbone: ViTBackbone, tokens: Tensor, labels: Tensor) -> None:
        """Add ∂ℓ/∂P of one batch, tokens [B, N, d] entering the first block with prompts."""
        with torch.enable_grad():
            prompts = self.tuning.prompts.detach().clone().requires_grad_()
            for own, block in zip(prompts, self.prompted_blocks, strict=True):
                tokens, _ = backbone.block(block, tokens, BlockIntervention(prompts=own))
            pooled = backbone.pool(tokens)
            if self.config.importance == "contrastive":
                loss = contrastive(F.normalize(pooled, dim=1), labels)
            else:
                loss = self.tuning.loss_of(pooled, labels).parts["cross_entropy"]
            (found,) = torch.autograd.grad(loss, prompts)
        self._gradient = found if self._gradient is None else self._gradient + found

    def _importance(self) -> Tensor:
        assert self._gradient is not None, "no batch was added"
        found, self._gradient = self._gradient.abs().mean(dim=1), None
        return found

    def masks(self) -> dict[str, Tensor]:
        """Masks [L, d] of channels important for both, only old, only new and neither; they partition all channels."""
        old, new = (most_important(values, self.config.important) for values in (self.old, self.new))
        return {"both": old & new, "old": old & ~new, "new": new & ~old, "neither": ~old & ~new}

    # ------------------------------------------------------------ steps

    def constraints(self) -> dict[str, Constraint]:
        """U → by channel: zero, unchanged, or projected strictly or relaxed."""
        if self.rows is None or self.columns is None or self._relaxed is None:
            return {}
        masks = {name: mask[:, None] for name, mask in self.masks().items()}
        rows, columns, (soft_rows, soft_columns) = self.rows, self.columns, self._relaxed

        def mapped(step: Tensor) -> Tensor:
            projected = torch.where(masks["both"], rows @ step @ columns, soft_rows @ step @ soft_columns)
            return torch.where(masks["new"], step, projected).masked_fill(masks["old"], 0)

        return {"tuning.prompts": Constraint(step=mapped)}

    def loss(self, backbone: ViTBackbone, batch: Batch) -> Loss:
        loss = super().loss(backbone, batch)
        if self.past and self.config.norm_weight:
            drift = norm_drift(self.tuning.prompts, self.previous_prompts)
            loss.parts["norm_drift"] = self.config.norm_weight * drift
        return loss

    # ------------------------------------------------------------ after the steps

    def collectors(self, backbone: ViTBackbone) -> list[Collector]:
        def add(features: Features, batch: Batch) -> None:
            self.moments.add(backbone, features, self.deep_prompts)
            self.gaussians.see(features.pooled, batch.labels)
            self.add_gradient(backbone, features.taps[self._entrance], batch.labels)

        return [Collector((*self.moments.taps(), self._entrance), add)]

    def end_task(self, clock: Clock) -> list[Event]:
        started, c = time.perf_counter(), self.config
        self.moments.fold_task()
        self.old.copy_(self._importance())
        self.previous_prompts.copy_(self.deep_prompts)
        self.gaussians.learn(self.tuning.classes)
        if not c.refine_epochs:
            return []
        heads = [head for head in self.tuning.heads if isinstance(head, nn.Linear)]
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "head refinement", clock.task))
        self.weight, self.bias, losses = align_rows(
            torch.cat([head.weight for head in heads]),
            torch.cat([head.bias for head in heads]),
            self.gaussians,
            generator,
            rate=c.refine_rate,
            epochs=c.refine_epochs,
            batch=c.draws,
            momentum=0.9,
            decay=1e-4,
            scaled=lambda logits: logits / c.temperature,
        )
        self.refined.fill_(len(self.bias))
        return [StageEnded(clock, "head refinement", {"cross_entropy": losses}, time.perf_counter() - started)]

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        """By the refined heads; during training of a task, by the trained ones."""
        if int(self.refined) == len(self.bias):
            return F.linear(pooled, self.weight, self.bias)[:, classes.start : classes.stop]
        return super().classify(pooled, classes)

    def cuts(self) -> dict[str, Cut]:
        """Cuts and gains that constrain the next task on channels important for both."""
        found = {}
        for space in SPACES:
            nullity = self._nullity(space)
            free, protected = projector_gains(nullity, self.config.strict)
            if self.config.scale == "plain":
                free = torch.ones_like(free)
            rule = "elbow" if self.config.rule == "elbow" else f"energy {self.config.energy:g}"
            found[space] = Cut(nullity, rule, self.config.strict > 0, free, protected)
        return found


def most_important(values: Tensor, share: float) -> Tensor:
    """Mask of the largest `share` of entries, rounded up; ties go to the first: bool, same shape."""
    chosen = torch.zeros(values.numel(), dtype=torch.bool, device=values.device)
    count = min(-int(-share * values.numel() // 1), values.numel())
    chosen[values.flatten().argsort(descending=True, stable=True)[:count]] = True
    return chosen.view_as(values)


def contrastive(x: Tensor, labels: Tensor, temperature: float = CONTRASTIVE) -> Tensor:
    """Supervised contrastive loss of unit rows x [B, d] (Khosla et al., NeurIPS 2020), P(i) the others of i's class:

    the mean over rows with a partner of  −1/|P(i)| Σ_{p ∈ P(i)} ln( exp(x_i·x_p/τ) / Σ_{a ≠ i} exp(x_i·x_a/τ) )
    """
    itself = torch.eye(len(x), dtype=torch.bool, device=x.device)
    logs = (x @ x.mT / temperature).masked_fill(itself, -torch.inf).log_softmax(dim=1)
    partners = (labels[:, None] == labels) & ~itself
    counts = partners.sum(dim=1)
    each = -torch.where(partners, logs, 0.0).sum(dim=1) / counts.clamp(min=1)
    return (each * (counts > 0)).sum() / (counts > 0).sum().clamp(min=1)
