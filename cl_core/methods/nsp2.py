"""VPT-NSP²: deep prompts with updates projected to the null space of past tasks.

Parts: `attention_covariance`, `deep_prompts`, `prompt_projection`, `prompted`.

Lu et al. Visual Prompt Tuning in Null Space for Continual Learning. NeurIPS 2024, arXiv:2406.05658.
Shapes: L blocks with prompts, M prompts, d width; C₁ [L, d, d] and C₂ [L, M, M] are the moments of
`attention_covariance`; U [L, M, d] is Adam's step.

From the second task on

    P ← P + B̃₂ U B̃₁,    B̃ₖ = ηₖ Πₖ/‖Πₖ‖_F + (1 − ηₖ) I,    Πₖ = projector onto the Rₖ directions Cₖ uses least
    loss = CE(logits/τ) + w L_LN,    L_LN = Σ_layers [ mean_m |μ_m − μ_m^old| + mean_m |σ_m − σ_m^old| ]

We follow the official code where it and the paper differ (Frobenius-normalised projectors, elbow included in the free
set, smoothing of long spectra, means of batches summed, L_LN averaged over tokens); `scale="plain"` and
`weighting="images"` give the paper's forms. Because Π is divided by √R, free directions shrink too:
`projection="shrink-only"` keeps only that shrinking (ρ I with the same RMS gain): the control for every claim, which
the paper does not report.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.methods.method import Collector, Constraint, Loss
from cl_core.methods.parts.attention_covariance import Cut, PromptMoments
from cl_core.methods.parts.deep_prompts import PromptConfig
from cl_core.methods.parts.prompt_projection import NullSpaceConfig, cuts, norm_drift, projectors
from cl_core.methods.parts.prompted import PromptedMethod
from cl_core.streams.stream import Batch

if TYPE_CHECKING:  # only the type is needed, and timm takes seconds to import
    from cl_core.backbones.vit import ViTBackbone


@dataclass(frozen=True)
class NSP2Config(NullSpaceConfig, PromptConfig):
    """Defaults are the authors' for CIFAR-100 in 10 tasks; η does not carry over to other widths (the free gain depends
    on R)."""

    fold_norm: bool = setting(
        False,
        fixed="decides what was collected",
        help="fold LayerNorm's gain and the prompts' standard deviation into the moments (ours, not published)",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.refuse_short_prompts(self.prompt_length)


@final
class NSP2(PromptedMethod):
    """Deep prompts with null-space projected steps."""

    Config = NSP2Config
    past = 0  # number of finished tasks at `refresh`
    rows: Tensor | None = None  # B̃₂ [L, M, M], None in the first task
    columns: Tensor | None = None  # B̃₁ [L, d, d]

    previous_prompts: Tensor

    def __init__(self, config: NSP2Config, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.moments = PromptMoments(
            self.prompted_blocks, config.prompt_length, backbone.width,
            weighting=config.weighting, fold=config.fold_norm,
        )  # fmt: skip
        self.register_buffer("previous_prompts", self.tuning.prompts.detach().clone())

    def refresh(self) -> None:
        """B̃₁, B̃₂ from the moments of finished tasks; none in the first task."""
        self.past = int(self.moments.tasks)
        found = projectors(self.config, self.moments, self.tuning.prompts.dtype)
        self.columns, self.rows = (None, None) if found is None else found

    def constraints(self) -> dict[str, Constraint]:
        """U → B̃₂ U B̃₁, per layer."""
        if self.rows is None or self.columns is None:
            return {}
        rows, columns = self.rows, self.columns
        return {"tuning.prompts": Constraint(step=lambda step: rows @ step @ columns)}

    def loss(self, backbone: ViTBackbone, batch: Batch) -> Loss:
        loss = super().loss(backbone, batch)
        if self.past and self.config.norm_weight:
            loss.parts["norm_drift"] = self.config.norm_weight * self.norm_drift()
        return loss

    def norm_drift(self) -> Tensor:
        """L_LN against the prompts after the previous task."""
        return norm_drift(self.tuning.prompts, self.previous_prompts)

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
        """Spectra and cuts that constrain the next task."""
        return cuts(self.config, self.moments)
