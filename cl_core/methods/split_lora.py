"""SplitLoRA: new tasks are written where past inputs are weak, and a trade-off says where weak begins.

Qiu et al. SplitLoRA: Balancing Stability and Plasticity in Continual Learning Through Gradient Space Splitting. 2025,
arXiv:2505.22370; written from the equations, details as in the released code.
Shapes: L blocks of width d, rank r; A [L, 2, r, d] frozen, B [L, 2, d, r] trained; C [L, d, d]; x a block's inputs.

    ΔW = Σ_s B_s A_s, merged after each task; only B_t and the new head are trained, B_t from 0
    C = mean of x xᵀ over the tokens of all tasks so far = U diag(λ) Uᵀ, λ descending
    J(i) = t (1 − Σ_{j≤i} λ_j / Σ λ) − α (d − i)/d,   i* = argmin J,   N = the columns of U from max(i*, 1) + 1 on
    A_t = (N z)ᵀ,  z ~ N(0, 1),  as long as a Kaiming-uniform draw; A_1 is such a draw

A is fixed, so B_t A_t u = 0 for every protected direction u at every step, whatever the optimiser: nothing leaks as far
as inputs stay where C saw them. Ours: C is taken once from the images of a task as they are (release: the augmented,
repeated training batches).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from cl_core.config import knob
from cl_core.events import Clock, Event, SpectrumMeasured, TradeOffMeasured, UpdateMeasured
from cl_core.linalg import (
    condition_residual,
    effective_rank,
    eigenbasis,
    isotropic_residual,
    protected_energy,
    spectrum,
    splitting_costs,
    splitting_cut,
)
from cl_core.methods.key_value import KEYS, VALUES, KeyValueConfig, KeyValueMethod
from cl_core.streams.stream import mixed_seed

SPACE = "kv"


@dataclass(frozen=True)
class SplitLoraConfig(KeyValueConfig):
    """Defaults are the release's for ViT-B/16."""

    temperature: float = knob(30.0, low=0.01, high=1000.0, help="logits are divided by this in the training loss only")
    weight_decay: float = knob(5e-5, low=0.0, high=1.0, help="decoupled decay (AdamW)")
    rank: int = knob(10, low=1, high=1024, fixed="sets shapes", help="rank r of the branches, at most the width")
    alpha: float = knob(20.0, low=0.0, high=1e6, help="α, what a granted direction is worth: larger protects less")


@final
class SplitLora(KeyValueMethod):
    """Rows of A are mixtures of all minor directions; B learns what to write there."""

    Config = SplitLoraConfig

    def __init__(self, config: SplitLoraConfig, backbone: Any, seed: int) -> None:
        super().__init__(config, backbone, seed)
        layers, width, rank = backbone.depth, backbone.width, min(config.rank, backbone.width)
        self.up = nn.Parameter(torch.zeros(layers, 2, width, rank))  # B
        self._pretrained = [  # W_k and W_v one above the other, [2d, d]
            torch.cat([backbone.map_weight(f"image.{layer}.{which}") for which in (KEYS, VALUES)])
            for layer in range(layers)
        ]
        self.register_buffer("down", torch.zeros(layers, 2, rank, width))  # A
        self.register_buffer("merged", torch.zeros(layers, 2, width, width))
        self.register_buffer("moment", torch.zeros(layers, width, width, dtype=torch.float64))  # C
        self.register_buffer("rows", torch.zeros((), dtype=torch.int64))  # tokens C is the mean over
        self.register_buffer("tasks", torch.zeros((), dtype=torch.int64))

    def change(self) -> Tensor:
        return self.merged + self.up @ self.down

    def changed(self) -> dict[str, nn.Parameter]:
        return {"up": self.up}

    def optimiser(self) -> torch.optim.Optimizer:
        groups = [{"params": list(g.parameters.values()), "lr": g.rate} for g in self.groups()]
        return torch.optim.AdamW(groups, weight_decay=self.config.weight_decay)

    @torch.no_grad()
    def begin_task(self, index: int, classes: range) -> None:
        """A from (seed, task) and C; B = 0."""
        super().begin_task(index, classes)
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "branches", index))
        bound = self.down.shape[-1] ** -0.5  # Kaiming-uniform with a = √5
        drawn = (torch.rand(self.down.shape, generator=generator) * 2 - 1) * bound
        if int(self.tasks):
            mixtures = torch.randn(drawn.mT.shape, generator=generator, dtype=torch.float64)  # z [L, 2, d, r]
            vectors, cuts = eigenbasis(self.moment)[1].cpu(), self.cuts()
            for layer, cut in enumerate(cuts):
                minor = vectors[layer][:, cut:]  # N [d, d − k]
                found = (minor @ mixtures[layer, :, cut:]).mT  # [2, r, d]
                length = drawn[layer].flatten(1).norm(dim=1) / found.flatten(1).norm(dim=1).clamp(min=1e-30)
                drawn[layer] = length[:, None, None] * found
        self.down.copy_(drawn)
        self.up.zero_()

    def cuts(self) -> list[int]:
        """Directions protected in every block."""
        return torch.as_tensor(
            splitting_cut(spectrum(self.moment), tasks=int(self.tasks), alpha=self.config.alpha)
        ).tolist()

    @torch.no_grad()
    def end_task(self, clock: Clock, measure: bool) -> list[Event]:
        said: list[Event] = []
        update = self.up @ self.down
        if measure:
            said += self._updates(clock, update)
        self.merged += update
        self.up.zero_()
        sums, rows = self.inputs.take()
        self.rows += rows
        self.moment += (sums - rows * self.moment) / self.rows  # the mean over all tokens so far
        self.tasks += 1
        return [*said, *self._spectra(clock)] if measure else said

    def _updates(self, clock: Clock, update: Tensor) -> list[Event]:
        """Against what was protected until now; nothing was before the second task."""
        said: list[Event] = []
        if int(self.tasks):
            (values, vectors), cuts = eigenbasis(self.moment), self.cuts()
        for layer, change in enumerate(update.double().flatten(1, 2)):  # [2d, d]
            residual: dict[str, Tensor | None] = {SPACE: None}
            isotropic, leak = dict(residual), dict(residual)
            if int(self.tasks):
                moment, top = self.moment[layer], values[layer, 0]
                major = vectors[layer][:, : cuts[layer]]
                isotropic[SPACE] = isotropic_residual(moment, top=top)
                if change.any():
                    residual[SPACE] = condition_residual(change, moment, top=top)
                    leak[SPACE] = (change @ major).norm() / change.norm()
            found = self.merged[layer].flatten(0, 1) + self._pretrained[layer].to(change.device)
            movement = change.norm() / found.double().norm()
            said.append(UpdateMeasured(clock, layer, movement, residual, isotropic, leak))
        return said

    def _spectra(self, clock: Clock) -> list[Event]:
        """What the next task will be held to."""
        values, said, alpha = spectrum(self.moment), [], self.config.alpha
        loss, gain = splitting_costs(values, tasks=int(self.tasks), alpha=alpha)
        for layer, cut in enumerate(self.cuts()):
            eigenvalues, nullity = values[layer], values.shape[1] - cut
            said.append(
                SpectrumMeasured(
                    clock,
                    layer,
                    SPACE,
                    eigenvalues.float(),
                    nullity,
                    f"trade-off α = {alpha:g}",
                    True,
                    protected_energy(eigenvalues, nullity),
                    effective_rank(eigenvalues),
                    1.0,
                    0.0,
                )
            )
            said.append(TradeOffMeasured(clock, layer, SPACE, loss[layer].float(), gain[layer].float(), cut))
        return said

    def kept_bytes(self) -> int:
        """A and B start anew with every task."""
        anew = self.up.numel() * self.up.element_size() + self.down.numel() * self.down.element_size()
        return super().kept_bytes() - anew
