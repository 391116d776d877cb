"""Second moments of past tasks' attention to prompts, two per block, accumulated over tasks in constant memory.

Lu et al. Visual Prompt Tuning in Null Space for Continual Learning. NeurIPS 2024, arXiv:2406.05658, sections 4-5 of the
method.
Shapes: L blocks with prompts, M prompts, d width, H heads, N image tokens, B images of a batch.

    affinity  C₁ = Σ_batches  J₁ᵀJ₁ / (B·H·N),   J₁ rows  q_h[n] W_kʰ          [L, d, d]   what queries see of a prompt
    mixture   C₂ = Σ_batches  J₂ᵀJ₂ / (B·H·N),   J₂ rows  S_Pʰ[n, :]           [L, M, M]   attention paid to prompts

Queries include their bias but not 1/√(d/H); heads are stacked as rows; there are no prompt queries. C₁ is formed from
per-head Gram matrices, Σ_h W_kʰᵀ G_h W_kʰ, without the rows. As in the official release each batch's *mean* is summed,
so a short last batch counts as much as a full one; weighting "images" counts images (the paper's sum of raw Gram
matrices, up to a factor).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from cl_core.backbones.io_types import Features, Tap
from cl_core.events import Clock, SpectrumMeasured, UpdateByDirection, UpdateMeasured
from cl_core.linalg import (
    condition_residual,
    effective_rank,
    eigenbasis,
    elbow_nullity,
    gram_per_head,
    isotropic_residual,
    protected_energy,
    pulled_back_moment,
    second_moment,
)
from cl_core.methods.parts.event_values import array, number

SPACES = ("affinity", "mixture")


class ReadsKeys(Protocol):
    """A ViT that exposes the key weights of its blocks."""

    def key_weight(self, layer: int) -> Tensor:
        """W_k of a block, per head: [H, d/H, d]."""
        ...

    def norm_gain(self, layer: int) -> Tensor:
        """Gain γ of its first LayerNorm: [d]."""
        ...


@dataclass(frozen=True)
class Cut:
    """Cuts of the spectra of a space by layer, and the gains of the projection."""

    nullity: Tensor  # [L] directions left free
    rule: str  # rule: "elbow", "energy 0.95"
    used: bool  # whether steps are projected
    free: Tensor  # [L] gain of a free direction
    protected: Tensor  # [L] of a protected one


def elbows(values: Tensor) -> Tensor:
    """Elbow nullity per layer [L] of spectra [L, n]; sides shorter than 3 have no elbow and are left free."""
    if values.shape[-1] < 3:
        return torch.full(values.shape[:1], values.shape[-1])
    return torch.as_tensor(elbow_nullity(values))


class PromptMoments(nn.Module):
    """The two moments over all finished tasks, and those of the current one."""

    affinity: Tensor
    mixture: Tensor
    tasks: Tensor

    def __init__(
        self, blocks: range, prompts: int, width: int, *, weighting: str = "batches", fold: bool = False
    ) -> None:
        """`blocks`: the L consecutive blocks that have prompts. `fold`: collect J₁·diag(γ) and S_P·diag(1/σ) instead,
        which makes the two conditions exact for frozen LayerNorm statistics (our variant, not the published method)."""
        super().__init__()
        self.blocks, self.weighting, self.fold = blocks, weighting, fold
        for space, side in zip(SPACES, (width, prompts), strict=True):
            self.register_buffer(space, torch.zeros(len(blocks), side, side, dtype=torch.float64))
        self.register_buffer("tasks", torch.zeros((), dtype=torch.int64))
        self._task: dict[str, Tensor] = {}  # sums of the current task; never saved partially
        self._bases: dict[str, tuple[Tensor, Tensor]] = {}  # derived: cached decompositions of the moments
        self.register_load_state_dict_post_hook(lambda *_: self._bases.clear())

    @property
    def layers(self) -> int:
        return self.affinity.shape[0]

    def taps(self) -> tuple[Tap, ...]:
        return tuple((kind, block) for block in self.blocks for kind in ("q", "attention"))

    @torch.no_grad()
    def add(self, backbone: ReadsKeys, features: Features, prompts: Tensor) -> None:
        """Add one batch of the finished task's images, processed with the current prompts."""
        for layer, block in enumerate(self.blocks):
            q, attention = features.taps["q", block], features.taps["attention", block]  # [B,H,N,d/H], [B,H,N,N+M]
            images, heads, tokens = q.shape[:3]
            share = float(images) if self.weighting == "images" else 1.0
            affinity = pulled_back_moment(gram_per_head(q), backbone.key_weight(block)).double() / (
                images * heads * tokens
            )
            mixture = second_moment(attention[..., tokens:].flatten(0, 2)).double()
            if self.fold:
                gain = backbone.norm_gain(block).double()
                inverse = 1 / prompts[layer].std(dim=-1, correction=0).double()
                affinity = gain[:, None] * affinity * gain
                mixture = inverse[:, None] * mixture * inverse
            for space, found in zip(SPACES, (affinity, mixture), strict=True):
                if space not in self._task:
                    self._task[space] = torch.zeros_like(getattr(self, space))
                self._task[space][layer] += share * found

    def fold_task(self) -> None:
        """C ← C + C_task."""
        for space in SPACES:
            getattr(self, space).add_(self._task.pop(space))
        self._bases.clear()
        self.tasks += 1

    def basis(self, space: str) -> tuple[Tensor, Tensor]:
        """λ [L, n] and V [L, n, n] of a moment, cached until the moment changes."""
        if space not in self._bases:
            self._bases[space] = eigenbasis(getattr(self, space))
        return self._bases[space]

    def spectra(self, clock: Clock, cuts: Mapping[str, Cut]) -> Iterator[SpectrumMeasured]:
        """One event per layer and space."""
        for space in SPACES:
            values, cut = self.basis(space)[0], cuts[space]  # values [L, n]
            for layer, nullity in enumerate(cut.nullity.tolist()):
                yield SpectrumMeasured(
                    clock,
                    self.blocks[layer],
                    space,
                    array(values[layer].float()),
                    nullity,
                    cut.rule,
                    cut.used,
                    number(protected_energy(values[layer], nullity)),
                    number(effective_rank(values[layer])),
                    number(cut.free[layer]),
                    number(cut.protected[layer]),
                )

    def updates(self, clock: Clock, before: Tensor, after: Tensor) -> Iterator[UpdateMeasured]:
        """How far prompts moved from `before` to `after` [L, M, d], and the share visible to earlier tasks.

        Called before `fold_task`, so that the moments are only those of earlier tasks.
        """
        change = (after - before).double()
        movement = change.flatten(1).norm(dim=1) / before.double().flatten(1).norm(dim=1)
        residual: dict[str, list[float | None]] = {space: [None] * self.layers for space in SPACES}
        isotropic = dict(residual)
        if int(self.tasks):
            for space, update in (("affinity", change), ("mixture", change.mT)):
                moment = getattr(self, space)
                top = self.basis(space)[0][..., 0]
                residual[space] = [number(share) for share in condition_residual(update, moment, top=top)]
                isotropic[space] = [number(share) for share in isotropic_residual(moment, top=top)]
        for layer in range(self.layers):
            yield UpdateMeasured(
                clock,
                self.blocks[layer],
                number(movement[layer]),
                {s: residual[s][layer] for s in SPACES},
                {s: isotropic[s][layer] for s in SPACES},
            )

    def directions(
        self, clock: Clock, wanted: Tensor, source: str, rows: Tensor | None, columns: Tensor | None
    ) -> Iterator[UpdateByDirection]:
        """A task's proposed change `wanted` [L, M, d] by directions of earlier tasks: ‖B̃₂ Δ v_i‖² on the affinity side
        and ‖B̃₁ Δᵀ w_j‖² on the mixture side. `rows` B̃₂, `columns` B̃₁: the projectors of the task.

        Called before `fold_task`, like `updates`. Nothing in the first task.
        """
        if not int(self.tasks):
            return
        change = wanted.double()
        sides = {
            "affinity": change if rows is None else rows.double() @ change,
            "mixture": (change if columns is None else change @ columns.double()).mT,
        }
        for space, update in sides.items():
            _, vectors = self.basis(space)
            energies = (update @ vectors).square().sum(dim=-2)  # [L, n]
            yield UpdateByDirection(clock, space, list(self.blocks), array(energies.float()), source)
