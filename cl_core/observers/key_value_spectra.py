"""Free directions of key and value matrices: SplitLoRA's cut with its trade-off, CODE-CL's conceptors."""

from __future__ import annotations

from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor

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
from cl_core.methods.parts.event_values import array, number
from cl_core.observers.observer import Observer, View

SPACE = "kv"


@runtime_checkable
class SplitsInputs(Protocol):
    """C [L, d, d] is the mean of x xᵀ over past tokens; `basis` its eigenvalues and -vectors, `cuts` the directions
    protected in every block, `update` [L, 2, d, d] the change of the current task."""

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
        """Compare with the directions protected so far; none before the second task."""
        method = cast(SplitsInputs, view.method)
        said: list[Event] = []
        began = bool(int(method.tasks))
        if began:
            (values, vectors), cuts = method.basis, method.cuts()
        for layer, change in enumerate(method.update.double().flatten(1, 2)):  # [2d, d]
            residual: dict[str, float | None] = {SPACE: None}
            isotropic, leak = dict(residual), dict(residual)
            if began:
                moment, top = method.moment[layer], values[layer, 0]
                major = vectors[layer][:, : cuts[layer]]
                isotropic[SPACE] = number(isotropic_residual(moment, top=top))
                if change.any():
                    residual[SPACE] = number(condition_residual(change, moment, top=top))
                    leak[SPACE] = number((change @ major).norm() / change.norm())
            found = method.merged[layer].flatten(0, 1) + method.pretrained(layer).to(change.device)
            movement = number(change.norm() / found.double().norm())
            said.append(UpdateMeasured(view.clock, layer, movement, residual, isotropic, leak))
        return said

    def task_learned(self, view: View) -> list[Event]:
        """The protected directions of the next task."""
        method = cast(SplitsInputs, view.method)
        said: list[Event] = []
        values, alpha = method.basis[0], method.config.alpha
        loss, gain = splitting_costs(values, tasks=int(method.tasks), alpha=alpha)
        for layer, cut in enumerate(method.cuts()):
            eigenvalues, nullity = values[layer], values.shape[1] - cut
            said.append(
                SpectrumMeasured(
                    view.clock,
                    layer,
                    SPACE,
                    array(eigenvalues.float()),
                    nullity,
                    f"trade-off α = {alpha:g}",
                    True,
                    number(protected_energy(eigenvalues, nullity)),
                    number(effective_rank(eigenvalues)),
                    1.0,
                    0.0,
                )
            )
            costs = array(loss[layer].float()), array(gain[layer].float())
            said.append(TradeOffMeasured(view.clock, layer, SPACE, *costs, cut))
        return said


class Conceptors(Observer):
    name = "conceptors"

    def task_learned(self, view: View) -> list[Event]:
        method = cast(KeepsConceptors, view.method)
        assert method.latest is not None  # a task has just been learned
        own, aperture = method.latest
        return [
            ConceptorMeasured(
                view.clock,
                layer,
                array(spectrum(method.past[layer]).float()),
                number(capacity(method.past[layer])),
                number(capacity(own[layer])),
                number(aperture[layer]),
                method.config.threshold,
            )
            for layer in range(len(own))
        ]
