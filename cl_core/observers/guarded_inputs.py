"""Inputs of protected weights on past tasks, the number of protected directions, and directions of changes.

M is the mean of x xᵀ over the tokens of all tasks so far, collected here: methods that store directions have no moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from cl_core.backbones.io_types import Features
from cl_core.events import Event, SpectrumMeasured, UpdateMeasured
from cl_core.linalg import condition_residual, effective_rank, gram, isotropic_residual, spectrum
from cl_core.methods.parts.event_values import array, number
from cl_core.methods.parts.stored_directions import Guard, taps_of
from cl_core.observers.observer import Observer, View
from cl_core.observers.weights import ChangesWeights
from cl_core.streams.stream import Batch


@runtime_checkable
class GuardsInputs(Protocol):
    """A method that damps changes of its `adapted_weights` along stored directions of their inputs."""

    def guards(self) -> Sequence[Guard]: ...


class GuardedInputs(Observer):
    name = "guarded inputs"

    def __init__(self, method: GuardsInputs) -> None:
        self.taps = taps_of(method.guards())
        self.before: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}  # Σ x xᵀ by position, over finished tasks
        self.rows: dict[str, Tensor] = {}
        self._task: dict[str, Tensor] = {}  # of the current task; never saved partially
        self._seen: dict[str, int] = {}

    def task_begun(self, view: View) -> list[Event]:
        weights = cast(ChangesWeights, view.method).adapted_weights(view.backbone)
        self.before = {name: weight.detach().clone() for name, weight in weights.items()}
        return []

    def collect(self, view: View, features: Features, batch: Batch) -> list[Event]:
        for guard in cast(GuardsInputs, view.method).guards():
            inputs, place = guard.inputs(features.taps), _place(guard)
            found = gram(inputs).double()
            self._task[place] = self._task[place] + found if place in self._task else found
            self._seen[place] = self._seen.get(place, 0) + len(inputs)
        return []

    def task_trained(self, view: View) -> list[Event]:
        """Compare with the directions and inputs so far; one event per block."""
        said: list[Event] = []
        weights = cast(ChangesWeights, view.method).adapted_weights(view.backbone)
        blocks: dict[int, list[Guard]] = {}
        changes: dict[str, Tensor] = {}
        for guard in cast(GuardsInputs, view.method).guards():
            blocks.setdefault(guard.layer, []).append(guard)
            changes[_place(guard)] = torch.cat([(weights[n] - self.before[n]).double() for n in guard.maps])
        flags = torch.stack(
            [change.any() for change in changes.values()]
        ).tolist()  # read together, in one synchronisation
        moved_at = dict(zip(changes, flags, strict=True))
        for layer, guards in blocks.items():
            moved: Tensor | float = 0.0
            size: Tensor | float = 0.0
            residual: dict[str, float | None] = {guard.space: None for guard in guards}
            isotropic, leak = dict(residual), dict(residual)
            for guard in guards:
                change = changes[_place(guard)]
                moved = moved + change.square().sum()
                size = size + sum(self.before[name].double().square().sum() for name in guard.maps)
                if _place(guard) not in self.sums:
                    continue
                moment = self._moment(guard)
                isotropic[guard.space] = number(isotropic_residual(moment))
                if moved_at[_place(guard)]:
                    residual[guard.space] = number(condition_residual(change, moment))
                    leak[guard.space] = number((change @ guard.basis.to(change)).norm() / change.norm())
            movement = number(torch.as_tensor(moved / size) ** 0.5)
            said.append(UpdateMeasured(view.clock, layer, movement, residual, isotropic, leak))
        return said

    def task_learned(self, view: View) -> list[Event]:
        """The protected directions of the next task."""
        said: list[Event] = []
        for guard in cast(GuardsInputs, view.method).guards():
            place = _place(guard)
            found, seen = self._task.pop(place), self._seen.pop(place)
            self.sums[place] = self.sums[place] + found if place in self.sums else found
            self.rows[place] = self.rows.get(place, torch.zeros((), dtype=torch.float64)) + seen
            moment, basis = self._moment(guard), guard.basis.to(found)
            values = spectrum(moment)
            held = ((moment @ basis) * basis).sum() / moment.trace()
            gain = 1 - guard.held.mean() if guard.used and len(guard.held) else torch.ones(())
            said.append(
                SpectrumMeasured(
                    view.clock,
                    guard.layer,
                    guard.space,
                    array(values.float()),
                    basis.shape[0] - basis.shape[1],
                    guard.rule,
                    guard.used,
                    number(held),
                    number(effective_rank(values)),
                    1.0,
                    number(gain),
                )
            )
        return said

    def _moment(self, guard: Guard) -> Tensor:
        place = _place(guard)
        return self.sums[place] / float(self.rows[place])

    def state_dict(self) -> dict[str, Tensor]:
        parts = {"before": self.before, "sums": self.sums, "rows": self.rows}
        return {f"{part}/{name}": value for part, held in parts.items() for name, value in held.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        of = lambda start: {name.removeprefix(start): v for name, v in state.items() if name.startswith(start)}
        self.before, self.sums, self.rows = of("before/"), of("sums/"), of("rows/")


def _place(guard: Guard) -> str:
    return f"{guard.space}.{guard.layer}"
