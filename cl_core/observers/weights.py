"""Position of a task's weight change relative to the singular directions of the weights.

For each adapted attention projection with weight W before the task and W + ΔW after it, W = U diag(σ) Vᵀ:

    k = min { j : Σ_{i≤j} σ_i² ≥ ρ Σ σ_i² }                         principal directions
    leak = ‖U_kᵀ ΔW‖ / ‖ΔW‖  and  ‖ΔW V_k‖ / ‖ΔW‖                  chance sqrt(k / d)
    effective rank = exp(−Σ p ln p),  p = σ / Σσ                    Roy and Vetterli, EUSIPCO 2007

Measured for every method that changes such weights, with or without a rule on them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from cl_core.events import Clock, Event, UpdateByDirection, WeightSpectrumMeasured
from cl_core.linalg import effective_rank, singular_directions, weight_split
from cl_core.methods.parts.event_values import array, number
from cl_core.observers.observer import Observer, View


@dataclass(frozen=True)
class WeightRule:
    """principal: the first k singular directions of a weight, the fewest with Σσ² ≥ rho of all; written to: the last
    min(d − k, r_max) ones if `used`."""

    rho: float = 0.95
    r_max: int | None = None
    used: bool = False


@runtime_checkable
class ChangesWeights(Protocol):
    def adapted_weights(self, backbone: Any) -> Mapping[str, Tensor]:
        """Name → current weight [out, in] of adapted attention projections; empty if none is adapted."""
        ...


@runtime_checkable
class SplitsWeights(Protocol):
    """A method that updates the directions its weights use least, with settings `rho` and `r_max`."""

    config: Any

    def bases(self) -> Mapping[str, tuple[Tensor, Tensor]]: ...


class MapsWeights(Protocol):
    def map_weight(self, name: str) -> Tensor:
        """The pre-trained weight [out, in] of an attention projection."""
        ...


class WeightWatch(Observer):
    """Stores every watched weight after the previous task (state), and its pre-trained value."""

    name = "weights"

    def __init__(self) -> None:
        self._before: dict[str, Tensor] = {}
        self._pretrained: dict[tuple[str, float], Tensor] = {}  # (map, rho) → principal directions, computed once

    def task_learned(self, view: View) -> list[Event]:
        """One event per adapted projection; nothing if the method changes none."""
        return self.measure(view.method, view.backbone, view.clock)

    def measure(self, method: object, backbone: MapsWeights, clock: Clock) -> list[Event]:
        """The same for any objects that provide a method's weights and its pre-trained weights."""
        weights = method.adapted_weights(backbone) if isinstance(method, ChangesWeights) else {}
        if not weights:
            return []
        rule = WeightRule()
        said: list[Event] = []
        spread: dict[str, dict[int, Tensor]] = {}
        if isinstance(method, SplitsWeights):
            rule = WeightRule(method.config.rho, method.config.r_max, used=True)
        pretrained = {name: backbone.map_weight(name) for name in weights}
        before = {name: self._before.get(name, weight) for name, weight in pretrained.items()}
        unequal = [[(now != then[name]).any() for then in (before, pretrained)] for name, now in weights.items()]
        differs = torch.stack(
            [torch.stack(found) for found in unequal]
        ).tolist()  # read together, in one synchronisation
        for (name, now), (moved, strayed) in zip(weights.items(), differs, strict=True):
            first = self._principal(name, pretrained[name], rule.rho)
            old, then, new = (weight.double() for weight in (pretrained[name], before[name], now))
            event, energies = _compare(clock, name, old, then, new, first, rule, moved, strayed)
            said.append(event)
            tower, block, part = name.split(".")
            spread.setdefault(f"{tower}.{part}", {})[int(block)] = energies
            self._before[name] = now.detach().clone()
        for space, blocks in spread.items():
            stacked = torch.stack(list(blocks.values())).float()
            said.append(UpdateByDirection(clock, space, list(blocks), array(stacked), "net change"))
        return said

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._before)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self._before = dict(state)

    def _principal(self, name: str, weight: Tensor, rho: float) -> Tensor:
        if (name, rho) not in self._pretrained:
            directions = singular_directions(weight)
            self._pretrained[name, rho] = directions.left[:, : weight_split(directions.values, rho).principal]
        return self._pretrained[name, rho]


def _compare(
    clock: Clock,
    name: str,
    pretrained: Tensor,
    before: Tensor,
    now: Tensor,
    u_first: Tensor,
    rule: WeightRule,
    moved: bool,
    strayed: bool,
) -> tuple[Event, Tensor]:
    """`u_first` [out, k_0]: the pre-trained principal directions. `moved`: now ≠ before; `strayed`: now ≠ pretrained.
    Also [d] energies of the change by direction."""
    started = time.perf_counter()
    u, sigma, vh = singular_directions(before)
    seconds = time.perf_counter() - started
    after = torch.linalg.svdvals(now)
    d, (k, written, bound) = len(sigma), weight_split(sigma, rule.rho, rule.r_max)
    k_first = u_first.shape[1]
    change, total = now - before, now - pretrained
    size = change.norm()
    entries = (u.mT @ change @ vh.mT).square()  # [d, d]; (i, j) counts with the more used of its two directions
    energies = entries.triu().sum(dim=1) + entries.tril(-1).sum(dim=0)
    event = WeightSpectrumMeasured(
        clock,
        name,
        array(sigma.float()),
        array(after.float()),
        rule.rho,
        k,
        written,
        bound if rule.used else "none",
        rule.used,
        number(effective_rank(after)),
        number(effective_rank(sigma)),
        number((u[:, :k].mT @ change).norm() / size) if moved else None,
        number((change @ vh[:k].mT).norm() / size) if moved else None,
        (k / d) ** 0.5,
        number((u_first.mT @ total).norm() / total.norm()) if strayed else None,
        number((u_first.mT @ u[:, :k]).square().sum() / min(k_first, k)),
        number(size / before.norm()),
        # Only values of the tail can rise above σ_k; the first k values of an unchanged spectrum do not.
        (after > sigma[k - 1] * (1 + 1e-6)).sum() - (sigma > sigma[k - 1] * (1 + 1e-6)).sum(),
        seconds,
    )
    return event, energies
