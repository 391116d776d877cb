"""VPT-NSP²: deep prompts whose updates stay where past tasks are not looking.

Parts: `attention_covariance`, `deep_prompts`, `prompted`.

Lu et al. Visual Prompt Tuning in Null Space for Continual Learning. NeurIPS 2024, arXiv:2406.05658.
Shapes: L blocks, M prompts, d width; C₁ [L, d, d] and C₂ [L, M, M] are the moments of `attention_covariance`;
U [L, M, d] is Adam's step.

From the second task on

    P ← P + B̃₂ U B̃₁,    B̃ₖ = ηₖ Πₖ/‖Πₖ‖_F + (1 − ηₖ) I,    Πₖ = projector onto the Rₖ directions Cₖ uses least
    loss = CE(logits/τ) + w L_LN,    L_LN = Σ_layers [ mean_m |μ_m − μ_m^old| + mean_m |σ_m − σ_m^old| ]

We follow the official code where it and the paper differ (Frobenius-normalised projectors, elbow included in the free
set, smoothing of long spectra, means of batches summed, L_LN averaged over tokens); `scale="plain"` and
`weighting="images"` give the paper's forms. Because Π is divided by √R, free directions shrink too:
`projection="shrink-only"` keeps only that shrinking (ρ I with the same RMS gain) and is the control every claim should
stand beside. The paper reports no such control.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.config import ConfigError, setting
from cl_core.events import Clock, Event
from cl_core.linalg import (
    blended_projector,
    energy_nullity,
    null_projector,
    projector_gains,
    shrink_only,
)
from cl_core.methods.method import Collector, Constraint, Loss
from cl_core.methods.parts.attention_covariance import SPACES, Cut, PromptMoments, elbows
from cl_core.methods.parts.deep_prompts import PromptConfig
from cl_core.methods.parts.prompted import PromptedMethod
from cl_core.streams.stream import Batch

if TYPE_CHECKING:  # only the type is needed, and timm takes seconds to import
    from cl_core.backbones.vit import ViTBackbone


@dataclass(frozen=True)
class NSP2Config(PromptConfig):
    """Defaults are the authors' for CIFAR-100 in 10 tasks; η does not carry over to other widths (the free gain depends
    on R)."""

    eta_affinity: float = setting(
        0.97, low=0.0, high=1.0, live=True, help="η₁, softness on the channel side (1 strict, 0 off)"
    )
    eta_mixture: float = setting(
        0.97, low=0.0, high=1.0, live=True, help="η₂, softness on the prompt side (1 strict, 0 off)"
    )
    rule: str = setting(
        "elbow", choices=("elbow", "energy"), live=True, help="where the spectrum is cut: its knee, or an energy share"
    )
    energy_affinity: float = setting(
        0.95, low=0.0, high=1.0, live=True, help="energy kept for old tasks, channel side (rule energy)"
    )
    energy_mixture: float = setting(
        0.9, low=0.0, high=1.0, live=True, help="energy kept for old tasks, prompt side (rule energy)"
    )
    norm_weight: float = setting(
        1.0, low=0.0, high=1e4, live=True, help="weight of L_LN, the penalty on prompts' mean and spread"
    )
    projection: str = setting(
        "null-space",
        choices=("null-space", "shrink-only", "none"),
        live=True,
        help="shrink-only: control with the same average step size but no direction",
    )
    sides: str = setting(
        "both", choices=("both", "affinity", "mixture"), live=True, help="ablation: project on one side only (B1, B2)"
    )
    scale: str = setting(
        "frobenius", choices=("frobenius", "plain"), live=True, help="frobenius: Π/√R as released; plain: Π as written"
    )
    weighting: str = setting(
        "batches",
        choices=("batches", "images"),
        fixed="decides what was collected",
        help="what counts once in the moments",
    )
    fold_norm: bool = setting(
        False,
        fixed="decides what was collected",
        help="fold LayerNorm's gain and the prompts' spread into the moments (ours, not published)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rule == "elbow" and self.projection != "none" and self.prompt_length < 3:
            raise ConfigError(
                f"prompt_length must be ≥ 3 for the elbow rule, got {self.prompt_length}; use rule=energy for fewer"
            )


@final
class NSP2(PromptedMethod):
    """Deep prompts with null-space projected steps."""

    Config = NSP2Config
    past = 0  # finished tasks, as `refresh` found them
    rows: Tensor | None = None  # B̃₂ [L, M, M], None while nothing is to be protected
    columns: Tensor | None = None  # B̃₁ [L, d, d]

    previous_prompts: Tensor

    def __init__(self, config: NSP2Config, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.moments = PromptMoments(
            backbone.depth, config.prompt_length, backbone.width, weighting=config.weighting, fold=config.fold_norm
        )
        self.register_buffer("previous_prompts", self.tuning.prompts.detach().clone())

    def refresh(self) -> None:
        """B̃₁, B̃₂ from the moments of finished tasks; none in the first task."""
        self.past = int(self.moments.tasks)
        if not self.past or self.config.projection == "none":
            self.rows = self.columns = None
            return
        dtype = self.tuning.prompts.dtype
        self.columns, self.rows = (self._projector(space).to(dtype) for space in SPACES)

    def _projector(self, space: str) -> Tensor:
        moment, eta, basis = getattr(self.moments, space), self._eta(space), self.moments.basis(space)
        nullity = self._nullity(space)
        if self.config.scale == "frobenius":
            blended = blended_projector(moment, eta=eta, nullity=nullity, basis=basis)
        else:
            identity = torch.eye(moment.shape[-1], dtype=moment.dtype, device=moment.device)
            blended = eta * null_projector(moment, nullity, basis=basis) + (1 - eta) * identity
        return shrink_only(blended) if self.config.projection == "shrink-only" else blended

    def _eta(self, space: str) -> float:
        """η of a side; 0 makes B̃ the identity, which is how a side is switched off."""
        if self.config.sides not in ("both", space):
            return 0.0
        return {"affinity": self.config.eta_affinity, "mixture": self.config.eta_mixture}[space]

    def _nullity(self, space: str) -> Tensor:
        """R per layer [L]."""
        values = self.moments.basis(space)[0]
        if self.config.rule == "elbow":
            return elbows(values)
        energy = {"affinity": self.config.energy_affinity, "mixture": self.config.energy_mixture}[space]
        return torch.as_tensor(energy_nullity(values, energy))

    def constraints(self) -> dict[str, Constraint]:
        """U → B̃₂ U B̃₁, per layer."""
        if self.rows is None or self.columns is None:
            return {}
        rows, columns = self.rows, self.columns
        return {"tuning.prompts": Constraint(step=lambda step: rows @ step @ columns)}

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        loss = super().loss(backbone, batch)
        if self.past and self.config.norm_weight:
            loss.parts["norm_drift"] = self.config.norm_weight * self.norm_drift()
        return loss

    def norm_drift(self) -> Tensor:
        """L_LN: LayerNorm sits between prompts and attention, so a change of a prompt's mean or spread would slip past
        the projectors."""
        prompts, old = self.tuning.prompts, self.previous_prompts
        means = (prompts.mean(dim=-1) - old.mean(dim=-1)).abs()  # [L, M]
        spreads = (prompts.std(dim=-1, correction=0) - old.std(dim=-1, correction=0)).abs()
        return (means.mean(dim=-1) + spreads.mean(dim=-1)).sum()

    def collectors(self, backbone: ViTBackbone) -> list[Collector]:
        if not self.config.prompt_length:
            return []
        add = lambda features, batch: self.moments.add(backbone, features, self.deep_prompts)
        return [Collector(self.moments.taps(), add)]

    def end_task(self, clock: Clock) -> list[Event]:
        if self.config.prompt_length:
            self.moments.fold_task()
        self.previous_prompts.copy_(self.deep_prompts)
        return []

    def cuts(self) -> dict[str, Cut]:
        """What the next task is held to: the cut of the chosen rule and the gains of both kinds of direction."""
        found = {}
        shares = {"affinity": self.config.energy_affinity, "mixture": self.config.energy_mixture}
        for space in SPACES:
            nullity, eta = self._nullity(space), self._eta(space) if self.config.projection != "none" else 0.0
            free, protected = projector_gains(nullity, eta)
            if self.config.scale == "plain":
                free = torch.ones_like(free)
            if self.config.projection == "shrink-only":  # one gain for all directions: the RMS of the two
                share = nullity / getattr(self.moments, space).shape[-1]
                free = protected = (share * torch.nan_to_num(free) ** 2 + (1 - share) * protected**2).sqrt()
            rule = "elbow" if self.config.rule == "elbow" else f"energy {shares[space]:g}"
            found[space] = Cut(nullity, rule, eta > 0 and self.config.projection == "null-space", free, protected)
        return found
