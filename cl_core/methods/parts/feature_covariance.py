"""Inputs of layers on past tasks: one uncentred second moment per layer, in constant memory.

GNSP (arXiv:2507.19839), as in its released code. Shapes: X [n, d], the n inputs of a layer in one mini-batch; G, C, M
[d, d].

    G_b = Xᵀ X,   G = Σ_b G_b / ‖G_b‖_F,   C_t = G / ‖G‖_F          one task; a short last batch counts like a full one
    M_t = M_{t−1} + C_t                    equal weight of all tasks, ‖M_t‖_F ≤ t
    M_t = M_{t−1} / ‖M_{t−1}‖_F + C_t      "fading": the past decays by about half per task, ‖M_t‖_F ≤ 2

Norms are equalised, not traces: a task with a flatter spectrum adds more energy to the sum.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from cl_core.backbones.io_types import Features, Tap
from cl_core.events import Clock, SpectrumMeasured, UpdateByDirection, UpdateMeasured
from cl_core.linalg import (
    condition_residual,
    effective_rank,
    eigenbasis,
    gram,
    isotropic_residual,
    protected_energy,
    tail_energy_cut,
    unit_norm,
)
from cl_core.methods.parts.clip_weights import key
from cl_core.methods.parts.event_values import array, number

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class Layer:
    """A matrix of the image tower, and the tap of its input."""

    parameter: str
    block: int
    space: str  # "c_fc", "c_proj" or "proj"
    tap: Tap

    def input_last(self, matrix: Tensor) -> Tensor:
        """[out, in], however the matrix is stored; its own inverse."""
        return matrix.mT if self.space == "proj" else matrix

    def on_input(self, matrix: Tensor, projector: Tensor) -> Tensor:
        """W P for y = W x, P A for y = x A (P is symmetric)."""
        return self.input_last(self.input_last(matrix) @ projector)


def projected_layers(backbone: ClipBackbone) -> list[Layer]:
    """The 2L + 1 matrices of the image tower, in order."""
    mlp = [
        Layer(backbone.linear_map(f"image.{block}.{space}").parameter, block, space, (tap, block))
        for block in range(backbone.depth)
        for space, tap in (("c_fc", "mlp_input"), ("c_proj", "mlp_hidden"))
    ]
    last = backbone.depth - 1
    return [*mlp, Layer("visual.proj", last, "proj", ("final", last))]


class InputMoments(nn.Module):
    """M of every layer over all finished tasks, by parameter name."""

    tasks: Tensor

    def __init__(self, backbone: ClipBackbone, layers: Sequence[Layer], fading: Collection[str]) -> None:
        super().__init__()
        self.layers, self.names, self.fading = layers, tuple(x.parameter for x in layers), frozenset(fading)
        for layer in layers:
            width = layer.input_last(backbone.parameter(layer.parameter)).shape[1]
            self.register_buffer(key(layer.parameter), torch.zeros(width, width))
        self.register_buffer("tasks", torch.zeros((), dtype=torch.int64))
        self._sums: dict[str, Tensor] = {}  # G of the current pass; never saved partially
        self._bases: dict[str, tuple[Tensor, Tensor]] = {}  # derived: cached decompositions of `basis`
        self.register_load_state_dict_post_hook(lambda *_: self._bases.clear())

    def __getitem__(self, name: str) -> Tensor:
        return cast(Tensor, self._buffers[key(name)])  # none is None

    def basis(self, name: str) -> tuple[Tensor, Tensor]:
        """λ [d] and V [d, d] of a layer's M in float64, cached until M changes."""
        if name not in self._bases:
            self._bases[name] = eigenbasis(self[name].double())
        return self._bases[name]

    def see(self, features: Features) -> None:
        """Add one mini-batch's inputs of all layers."""
        for layer in self.layers:
            self.add(layer.parameter, features.taps[layer.tap])

    @torch.no_grad()
    def add(self, name: str, inputs: Tensor) -> None:
        """Add one mini-batch's inputs [..., d] of a layer."""
        batch = unit_norm(gram(inputs.flatten(0, -2)))
        self._sums[name] = self._sums[name] + batch if name in self._sums else batch

    @torch.no_grad()
    def fold_task(self) -> None:
        """M_{t−1} → M_t for every layer."""
        for name in self.names:
            past = unit_norm(self[name]) if name in self.fading else self[name]
            self[name].copy_(past + unit_norm(self._sums.pop(name)))
        self._bases.clear()
        self.tasks += 1

    def updates(
        self, clock: Clock, before: Mapping[str, Tensor], after: Mapping[str, Tensor], projectors: Mapping[str, Tensor]
    ) -> Iterator[UpdateMeasured]:
        """How far each block's matrices moved in a task, and the share in directions used by earlier tasks.

        Called before `fold_task`, so that the moments are only those of earlier tasks. `projectors`: P by parameter;
        none for the first task. The image projection counts with the last block.
        """
        for block, group in itertools.groupby(self.layers, lambda layer: layer.block):
            layers = list(group)
            moved: Tensor | float = 0.0
            size: Tensor | float = 0.0
            residual, isotropic, leak = (dict.fromkeys(layer.space for layer in layers) for _ in range(3))
            for layer in layers:
                name, space = layer.parameter, layer.space
                change = layer.input_last(after[name].double() - before[name].double())
                moved += change.square().sum()
                size += before[name].double().square().sum()
                if name not in projectors:
                    continue
                top = self.basis(name)[0][0]
                isotropic[space] = isotropic_residual(self[name], top=top)
                if change.any():
                    residual[space] = condition_residual(change, self[name], top=top)
                    leak[space] = (change - change @ projectors[name].double()).norm() / change.norm()
            yield UpdateMeasured(clock, block, number((moved / size) ** 0.5), residual, isotropic, leak)

    def directions(
        self,
        clock: Clock,
        before: Mapping[str, Tensor],
        after: Mapping[str, Tensor],
        raw_update_sums: Mapping[str, Tensor],
        source: str,
    ) -> Iterator[UpdateByDirection]:
        """A task's update by directions of earlier tasks' inputs: ‖Δ v_i‖², v_i the eigenvectors of M. Δ is the update
        before projection (`raw_update_sums`, a sum of `source`), or the net change if nothing was projected. Called
        before `fold_task`, like `updates`; nothing in the first task."""
        if not int(self.tasks):
            return
        asked = {name: raw_update_sums.get(f"clip.{name.replace('.', '/')}") for name in self.names}
        wanted = {name: value for name, value in asked.items() if value is not None}
        if len(wanted) < len(asked):
            wanted, source = {name: after[name] - before[name] for name in self.names}, "net change"
        for space in dict.fromkeys(layer.space for layer in self.layers):
            layers, energies = [layer for layer in self.layers if layer.space == space], []
            for layer in layers:
                update = layer.input_last(wanted[layer.parameter].double())
                energies.append((update @ self.basis(layer.parameter)[1]).square().sum(dim=0))
            stacked = torch.stack(energies).float()
            yield UpdateByDirection(clock, space, [layer.block for layer in layers], array(stacked), source)

    def spectra(self, clock: Clock, rho: float, project: str) -> Iterator[SpectrumMeasured]:
        """Spectra that constrain the next task: one event per layer, with the gains of `project`."""
        for layer in self.layers:
            values = self.basis(layer.parameter)[0].to(self[layer.parameter].dtype)
            nullity = len(values) - cast(int, tail_energy_cut(values, rho))  # of one spectrum: one number
            even = (nullity / len(values)) ** 0.5
            free, protected = {"shrink": (even, even), "none": (1.0, 1.0)}.get(project, (1.0, 0.0))
            yield SpectrumMeasured(
                clock,
                layer.block,
                layer.space,
                array(values),
                nullity,
                f"tail {rho:g}",
                project in ("gradient", "update"),
                number(protected_energy(values, nullity)),
                number(effective_rank(values)),
                free,
                protected,
            )
