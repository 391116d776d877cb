"""Watched modules of a model: second moments of their inputs, and projection of steps away from these.

Shapes: x [n, d] rows that a module multiplies with its weight W [out, d] (for a convolution: unfolded patches, d =
channels · kernel area). Memory per module: three times [d, d] and two copies of W, independent of training length.

    C_t = Σ x xᵀ / n        over the rows seen in task t, float32
    M_t = Σ_{s ≤ t} C_s     all tasks have equal weight; λ, V = eigenvalues and eigenvectors of M_t
    k   = fewest leading directions with Σ_{i<k} λ_i ≥ energy · Σ λ;  the other d − k are free

`project` removes the first k directions: ΔW ← ΔW (I − V_k V_kᵀ). It acts on the optimiser's step, not on the gradient,
because Adam rescales a projected gradient, which then leaves the free space.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from cl_core.events import Clock, Event, SpectrumMeasured, UpdateByDirection, UpdateMeasured
from cl_core.linalg import (
    condition_residual,
    effective_rank,
    eigenbasis,
    energy_nullity,
    isotropic_residual,
    protected_energy,
)

WIDEST = 1024  # inputs; wider modules are watched only if named
MOST = 16  # most modules watched if none are named


class Inputs:
    """One watched module: its hook, its moment, and its weight before the task."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.module = name, module
        self.layer, self.space = 0, ""  # set when all modules are known
        self.seen = 0  # rows seen in this task
        self.sum: Tensor | None = None  # Σ x xᵀ of this task
        self.past: Tensor | None = None  # M
        self.values: Tensor | None = None  # λ of M
        self.vectors: Tensor | None = None  # V
        self.protected = 0  # k
        self.before = self.matrix().clone()  # weight at the beginning of the task
        self.proposed: Tensor | None = None  # Σ of this task's steps before projection; None without projection
        self.start: Tensor | None = None  # weight before the current step

    @property
    def parameter(self) -> nn.Parameter:
        if isinstance(self.module, nn.MultiheadAttention):
            return self.module.in_proj_weight
        return self.module.weight  # type: ignore[return-value]

    @property
    def width(self) -> int:
        return self.before.shape[1]

    @torch.no_grad()
    def matrix(self) -> Tensor:
        """W [out, d], a view of the parameter."""
        return self.parameter.detach().flatten(1)

    def bytes(self) -> int:
        kept = (self.sum, self.past, self.values, self.vectors, self.before, self.proposed, self.start)
        return sum(t.numel() * t.element_size() for t in kept if t is not None)

    # ------------------------------------------------------------ inputs

    @torch.no_grad()
    def take(self, inputs: Sequence[Any], named: dict[str, Any], limit: int) -> None:
        """Add up to about `limit` evenly spaced rows of one forward pass."""
        x = inputs[0] if inputs else next((v for v in named.values() if isinstance(v, Tensor)), None)
        if not isinstance(x, Tensor) or not x.is_floating_point() or x.numel() == 0:
            return
        if isinstance(self.module, nn.MultiheadAttention):
            key = inputs[1] if len(inputs) > 1 else named.get("key", x)
            if key is not x:  # cross-attention: keys and values have another input space
                return
        rows = self._rows(x.detach(), limit).float()
        if self.sum is None:
            self.sum = rows.new_zeros(self.width, self.width)
        with torch.autocast(rows.device.type, enabled=False):
            self.sum.addmm_(rows.mT, rows)
        self.seen += len(rows)

    def _rows(self, x: Tensor, limit: int) -> Tensor:
        if isinstance(self.module, nn.Conv2d):
            conv: Any = self.module
            images = x if x.ndim == 4 else x[None]
            places = max(1, images.shape[-2] // conv.stride[0] * (images.shape[-1] // conv.stride[1]))
            images = images[:: max(1, -(-len(images) * places // max(limit, places)))]
            patches = nn.functional.unfold(images, conv.kernel_size, conv.dilation, conv.padding, conv.stride)
            rows = patches.transpose(1, 2).flatten(0, 1)
        else:
            rows = x.flatten(0, -2)
        return rows[:: max(1, -(-len(rows) // limit))]

    # ------------------------------------------------------------ changes by a task

    def update(self, clock: Clock) -> UpdateMeasured:
        """Return the net change by the task, relative to earlier tasks. Called before `fold`."""
        change = (self.matrix() - self.before).double()
        size, whole = change.norm(), self.before.double().norm()
        movement = float(size / whole) if whole > 0 else 0.0
        residual: dict[str, float | None] = {self.space: None}
        isotropic, leak = dict(residual), dict(residual)
        if self.past is not None and self.values is not None and self.vectors is not None and self.values[0] > 0:
            top = self.values[0].double()
            isotropic[self.space] = float(isotropic_residual(self.past, top=top))
            if size > 0:
                residual[self.space] = float(condition_residual(change, self.past, top=top))
                inside = change @ self.vectors[:, : self.protected].double()
                leak[self.space] = float(inside.norm() / size)
        return UpdateMeasured(clock, self.layer, movement, residual, isotropic, leak)

    def spread(self) -> tuple[Tensor, str] | None:
        """Return ‖Δ v_i‖² [d] along the directions of earlier tasks, and a name for Δ; None without earlier tasks."""
        if self.vectors is None:
            return None
        if self.proposed is not None:
            return (self.proposed @ self.vectors).square().sum(dim=0), "steps"
        return ((self.matrix() - self.before) @ self.vectors).square().sum(dim=0), "net change"

    def fold(self, energy: float) -> None:
        """Update M_{t−1} to M_t, its directions, and the cut. A task without inputs changes nothing."""
        if self.sum is not None and not bool(torch.isfinite(self.sum).all()):
            warnings.warn(f"inputs of {self.name} were not finite; its moment of this task is left out", stacklevel=2)
            self.sum = None
        if self.sum is not None:
            moment = self.sum / self.seen
            self.past = moment if self.past is None else self.past.add_(moment)
            symmetric = (self.past + self.past.mT) / 2
            self.values, self.vectors = eigenbasis(symmetric)
            self.cut(energy)
        self.sum, self.seen = None, 0
        self.before = self.matrix().clone()
        self.proposed = None

    def cut(self, energy: float) -> None:
        """Apply another threshold to the inputs so far."""
        if self.values is not None:
            self.protected = self.width - int(energy_nullity(self.values, energy))

    def spectrum(self, clock: Clock, energy: float, used: bool) -> SpectrumMeasured | None:
        if self.values is None:
            return None
        free = self.width - self.protected
        return SpectrumMeasured(
            clock,
            self.layer,
            self.space,
            cast(np.ndarray, self.values),
            free,
            f"energy {energy:g}",
            used,
            float(protected_energy(self.values, free)),
            float(effective_rank(self.values)),
            1.0,
            0.0 if used else 1.0,
        )

    # ------------------------------------------------------------ projection of steps

    @torch.no_grad()
    def remember(self) -> None:
        """Store the weight before the optimiser's step."""
        if self.vectors is None:
            return
        if self.start is None:
            self.start = self.matrix().clone()
        else:
            self.start.copy_(self.matrix())

    @torch.no_grad()
    def project(self) -> tuple[Tensor, Tensor] | None:
        """Remove protected directions from the optimiser's step. Return ‖ΔW‖ before and after, still on the device;
        None before the first task has ended."""
        if self.vectors is None or self.start is None:
            return None
        step = self.matrix() - self.start
        self.proposed = step.clone() if self.proposed is None else self.proposed.add_(step)
        proposed = step.norm()
        basis = self.vectors[:, : self.protected].to(step.dtype)
        step = step - (step @ basis) @ basis.mT
        self.parameter.copy_((self.start + step).view_as(self.parameter))
        return proposed, step.norm()


class Watch:
    """All watched modules of a model and their hooks."""

    def __init__(self, model: nn.Module, chosen: Sequence[str] | None, rows: int) -> None:
        self.rows = rows
        self.sampling = False  # sample training passes, which have gradients enabled
        self.observing = False  # sample every pass
        self.modules = [Inputs(name, module) for name, module in _choose(model, chosen)]
        for layer, watched in enumerate(self.modules):
            watched.layer, watched.space = layer, f"inputs {watched.width}"
        self._hooks = [
            watched.module.register_forward_pre_hook(self._hook(watched), with_kwargs=True) for watched in self.modules
        ]

    def _hook(self, watched: Inputs) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            if self.observing or (self.sampling and torch.is_grad_enabled()):
                watched.take(inputs, named, self.rows)

        return hook

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def bytes(self) -> int:
        return sum(watched.bytes() for watched in self.modules)

    def thin(self) -> list[Inputs]:
        """Return modules whose moment of this task has fewer rows than directions."""
        return [watched for watched in self.modules if 0 < watched.seen < watched.width]

    def end_task(self, clock: Clock, energy: float, used: bool) -> Iterable[Event]:
        """Yield the changes by the task, then the spectra for the next task."""
        yield from (watched.update(clock) for watched in self.modules)
        yield from self._directions(clock)
        for watched in self.modules:
            watched.fold(energy)
        yield from filter(None, (watched.spectrum(clock, energy, used) for watched in self.modules))

    def _directions(self, clock: Clock) -> Iterable[UpdateByDirection]:
        found: dict[str, tuple[list[int], list[Tensor], set[str]]] = {}
        for watched in self.modules:
            if (spread := watched.spread()) is not None:
                layers, energies, sources = found.setdefault(watched.space, ([], [], set()))
                layers.append(watched.layer)
                energies.append(spread[0])
                sources.add(spread[1])
        for space, (layers, energies, sources) in found.items():
            source = sources.pop() if len(sources) == 1 else "net change"
            yield UpdateByDirection(clock, space, layers, cast(np.ndarray, torch.stack(energies)), source)


def _choose(model: nn.Module, chosen: Sequence[str] | None) -> list[tuple[str, nn.Module]]:
    """Return the modules to watch, in the model's order. Raises ValueError for unknown or unsupported modules."""
    known = dict(model.named_modules())
    if chosen is not None:
        for name in chosen:
            if name not in known:
                fitting = [n for n, m in known.items() if _why_not(m) is None]
                listed = ", ".join(fitting[:12]) or "none to watch"
                raise ValueError(f"the model has no module {name!r}; it has {listed}")
            if why := _why_not(known[name]):
                raise ValueError(f"module {name!r} cannot be watched: {why}")
        return [(name, known[name]) for name in chosen]
    inside = {
        id(m.out_proj) for m in known.values() if isinstance(m, nn.MultiheadAttention)
    }  # its forward is not called
    fitting = [
        (name, module)
        for name, module in known.items()
        if _why_not(module) is None and id(module) not in inside and 3 <= _width(module) <= WIDEST
    ]
    if len(fitting) <= MOST:
        return fitting
    return [fitting[round(i * (len(fitting) - 1) / (MOST - 1))] for i in range(MOST)]  # evenly spaced in depth


def _why_not(module: nn.Module) -> str | None:
    if isinstance(module, nn.MultiheadAttention):
        return None if module.in_proj_weight is not None else "its queries and keys have different widths"
    if isinstance(module, nn.Conv2d):
        if module.groups != 1:
            return "it is a grouped convolution; only whole ones have one matrix of inputs"
        plain = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return None if plain else "its padding is not a number of zeros"
    if not isinstance(module, nn.Linear):
        return "only Linear, Conv2d and MultiheadAttention multiply their input with one matrix"
    return "its size is not known before the first batch" if isinstance(module, nn.LazyLinear) else None


def _width(module: nn.Module) -> int:
    weight = module.in_proj_weight if isinstance(module, nn.MultiheadAttention) else module.weight
    return int(weight.flatten(1).shape[1])  # type: ignore[union-attr,operator]
