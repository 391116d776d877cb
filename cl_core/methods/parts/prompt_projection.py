"""Projection of prompt steps in NSP²: projectors from two moments, and the penalty on prompt statistics.

Lu et al. Visual Prompt Tuning in Null Space for Continual Learning. NeurIPS 2024, arXiv:2406.05658; formulas are those
of `cl_core.methods.nsp2`. Used there and by its CLIP variant.
Shapes: L blocks with prompts, M prompts, d width; B̃₁ [L, d, d], B̃₂ [L, M, M].
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from cl_core.config import ConfigError, setting
from cl_core.linalg import blended_projector, energy_nullity, null_projector, projector_gains, shrink_only
from cl_core.methods.parts.attention_covariance import SPACES, Cut, PromptMoments, elbows


@dataclass(frozen=True)
class NullSpaceConfig:
    """Settings of the rule."""

    eta_affinity: float = setting(
        0.97, low=0.0, high=1.0, live=True, help="η₁, strictness on the channel side (1 strict, 0 off)"
    )
    eta_mixture: float = setting(
        0.97, low=0.0, high=1.0, live=True, help="η₂, strictness on the prompt side (1 strict, 0 off)"
    )
    rule: str = setting(
        "elbow",
        choices=("elbow", "energy"),
        live=True,
        help="rule for the cut of the spectrum: its knee, or an energy share; at widths ≥ 128 the released knee hardly "
        "depends on the data, because smoothing determines its position",
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
        help="shrink-only: control with the same average step size but no preferred direction",
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

    def refuse_short_prompts(self, length: int) -> None:
        """Raises ConfigError if a spectrum is too short for the elbow rule."""
        if self.projection != "none":
            refuse_short_prompts(self.rule, length)

    def eta(self, space: str) -> float:
        """η of a side; 0 makes B̃ the identity, which disables the side."""
        if self.sides not in ("both", space):
            return 0.0
        return {"affinity": self.eta_affinity, "mixture": self.eta_mixture}[space]

    def energy(self, space: str) -> float:
        """Share of a side's energy that the energy rule keeps for old tasks."""
        return {"affinity": self.energy_affinity, "mixture": self.energy_mixture}[space]


def refuse_short_prompts(rule: str, length: int) -> None:
    """Raises ConfigError if a spectrum is too short for the elbow rule."""
    if rule == "elbow" and length < 3:
        raise ConfigError(f"prompt_length must be ≥ 3 for the elbow rule, got {length}; use rule=energy for fewer")


def nullity_by(rule: str, energy: float, moments: PromptMoments, space: str) -> Tensor:
    """R per layer [L], by the elbow or by the share of energy."""
    values = moments.basis(space)[0]
    return elbows(values) if rule == "elbow" else torch.as_tensor(energy_nullity(values, energy))


def softened(moments: PromptMoments, space: str, nullity: Tensor, *, eta: float, scale: str) -> Tensor:
    """B̃ = η Π + (1 − η) I of a side, Π divided by √R where `scale` is "frobenius"."""
    moment, basis = getattr(moments, space), moments.basis(space)
    if scale == "frobenius":
        return blended_projector(moment, eta=eta, nullity=nullity, basis=basis)
    identity = torch.eye(moment.shape[-1], dtype=moment.dtype, device=moment.device)
    return eta * null_projector(moment, nullity, basis=basis) + (1 - eta) * identity


def projectors(config: NullSpaceConfig, moments: PromptMoments, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
    """B̃₁ and B̃₂ from the moments of finished tasks; None in the first task."""
    if not int(moments.tasks) or config.projection == "none":
        return None
    columns, rows = (_projector(config, moments, space).to(dtype) for space in SPACES)
    return columns, rows


def _projector(config: NullSpaceConfig, moments: PromptMoments, space: str) -> Tensor:
    nullity = nullity_by(config.rule, config.energy(space), moments, space)
    blended = softened(moments, space, nullity, eta=config.eta(space), scale=config.scale)
    return shrink_only(blended) if config.projection == "shrink-only" else blended


def cuts(config: NullSpaceConfig, moments: PromptMoments) -> dict[str, Cut]:
    """Cut of the chosen rule and gains of free and protected directions for the next task."""
    found = {}
    for space in SPACES:
        nullity = nullity_by(config.rule, config.energy(space), moments, space)
        eta = config.eta(space) if config.projection != "none" else 0.0
        free, protected = projector_gains(nullity, eta)
        if config.scale == "plain":
            free = torch.ones_like(free)
        if config.projection == "shrink-only":  # one gain for all directions: the RMS of the two
            share = nullity / getattr(moments, space).shape[-1]
            free = protected = (share * torch.nan_to_num(free) ** 2 + (1 - share) * protected**2).sqrt()
        rule = "elbow" if config.rule == "elbow" else f"energy {config.energy(space):g}"
        found[space] = Cut(nullity, rule, eta > 0 and config.projection == "null-space", free, protected)
    return found


def norm_drift(prompts: Tensor, old: Tensor) -> Tensor:
    """L_LN of prompts [L, M, d]: LayerNorm lies between prompts and attention, so changes of a prompt's mean or
    standard deviation are not covered by the projectors."""
    means = (prompts.mean(dim=-1) - old.mean(dim=-1)).abs()  # [L, M]
    spreads = (prompts.std(dim=-1, correction=0) - old.std(dim=-1, correction=0)).abs()
    return (means.mean(dim=-1) + spreads.mean(dim=-1)).sum()
