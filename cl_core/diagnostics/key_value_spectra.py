"""What past inputs leave free of key and value matrices: SplitLoRA's cut with its trade-off, CODE-CL's conceptors."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from cl_core.diagnostics.observer import Observer, View
from cl_core.events import ConceptorMeasured, Event, SpectrumMeasured, TradeOffMeasured, UpdateMeasured
from cl_core.linalg import (
    capacity,
    condition_residual,
    effective_rank,
    isotropic_residual,
    protected_energy,
    spectrum,
    splitting_costs,
)

SPACE = "kv"


@runtime_checkable
class SplitsInputs(Protocol):
    """C [L, d, d] is the mean of x xᵀ over past tokens; `basis` its eigenvalues and -vectors, `cuts` the directions
    protected in every block, `update` [L, 2, d, d] the change of the task under way."""

    config: Any
    moment: Tensor
    merged: Tensor
    tasks: Tensor

    @property
    def basis(self) -> tuple[Tensor, Tensor]: ...

    @property
    def update(self) -> Tensor: ...

    def cuts(self) -> list[int]: ...

    def pretrained(self, layer: int) -> Tensor: ...


@runtime_checkable
class KeepsConceptors(Protocol):
    """C of all tasks [L, d, d]; `latest`: that of the task which ended last, and its aperture [L]."""

    config: Any
    past: Tensor
    latest: tuple[Tensor, Tensor] | None


class SplitSpectra(Observer):
    name = "split spectra"

    def task_trained(self, view: View) -> list[Event]:
        """Against what was protected until now; nothing was before the second task."""
        method, said = view.method, []
        began = bool(int(method.tasks))
        if began:
            (values, vectors), cuts = method.basis, method.cuts()
        for layer, change in enumerate(method.update.double().flatten(1, 2)):  # [2d, d]
            residual: dict[str, Tensor | None] = {SPACE: None}
            isotropic, leak = dict(residual), dict(residual)
            if began:
                moment, top = method.moment[layer], values[layer, 0]
                major = vectors[layer][:, : cuts[layer]]
                isotropic[SPACE] = isotropic_residual(moment, top=top)
                if change.any():
                    residual[SPACE] = condition_residual(change, moment, top=top)
                    leak[SPACE] = (change @ major).norm() / change.norm()
            found = method.merged[layer].flatten(0, 1) + method.pretrained(layer).to(change.device)
            movement = change.norm() / found.double().norm()
            said.append(UpdateMeasured(view.clock, layer, movement, residual, isotropic, leak))
        return said

    def task_learned(self, view: View) -> list[Event]:
        """What the next task will be held to."""
        method, said = view.method, []
        values, alpha = method.basis[0], method.config.alpha
        loss, gain = splitting_costs(values, tasks=int(method.tasks), alpha=alpha)
        for layer, cut in enumerate(method.cuts()):
            eigenvalues, nullity = values[layer], values.shape[1] - cut
            said.append(
                SpectrumMeasured(
                    view.clock,
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
            said.append(TradeOffMeasured(view.clock, layer, SPACE, loss[layer].float(), gain[layer].float(), cut))
        return said


class Conceptors(Observer):
    name = "conceptors"

    def task_learned(self, view: View) -> list[Event]:
        method = view.method
        own, aperture = method.latest
        return [
            ConceptorMeasured(
                view.clock,
                layer,
                spectrum(method.past[layer]).float(),
                capacity(method.past[layer]),
                capacity(own[layer]),
                aperture[layer],
                method.config.threshold,
            )
            for layer in range(len(own))
        ]
