"""One optimiser step: loss, gradients and their constraints, the step and its constraints, and the reported numbers.

The backbone may use bfloat16 within the loss; everything else has the precision of the parameters.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.methods.method import Loss, Method
from cl_core.observers.updates import measured_parameters
from cl_core.streams.stream import Batch

MOST_NORMS = 8  # maximum number of parameters with individual norms


class NonFiniteLoss(ArithmeticError):
    """A loss became NaN or infinite; the message names task, step and part."""


@dataclass(frozen=True)
class StepResult:
    """Result of one optimiser step."""

    losses: dict[str, float]  # named part → value, and "total"
    proposed: dict[str, float]  # parameter → norm of what was asked for: a step, or a gradient
    applied: dict[str, float]  # the same after the map
    correct: float  # share in 0..1
    given: dict[str, Tensor]  # parameter → what its constraint was given


class Stepper:
    """Takes steps with a method; stateless."""

    def __init__(self, method: Method, backbone: Backbone, precision: torch.dtype) -> None:
        self.method, self.backbone, self.precision = method, backbone, precision

    def take(self, optimiser: torch.optim.Optimizer, batch: Batch, factor: float, where: str) -> StepResult:
        """One step from a batch on the method's device, every learning rate times `factor`.

        On a GPU its numbers are copied together, once, when all of it has been queued. Raises NonFiniteLoss, with
        `where`; the run ends there, so nothing that is saved ever holds what such a step left.
        """
        method = self.method
        groups = method.groups()
        for group, described in zip(optimiser.param_groups, groups, strict=True):
            group["lr"] = described.rate * factor
        loss = self._loss(batch)
        total = torch.stack(list(loss.parts.values())).sum()
        parts = {**loss.parts, "total": total}
        if total.device.type == "cpu":  # reading is free here; a GPU would stand still for it, and is asked at the end
            (plain,) = numbers(parts)
            self._refuse_non_finite(plain, where)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        constraints, watched = method.constraints(), measured_parameters(method)
        proposed, applied, given = {}, {}, {}
        with torch.no_grad():
            for name, constraint in constraints.items():
                if constraint.gradient is None:
                    continue
                gradient = method.get_parameter(name).grad
                assert gradient is not None  # the loss has just been differentiated by it
                given[name], proposed[name] = gradient.clone(), gradient.norm()
                gradient.copy_(constraint.gradient(gradient))
                applied[name] = gradient.norm()
        maps = {name: constraint.step for name, constraint in constraints.items() if constraint.step is not None}
        before = {
            name: p.detach().clone()
            for g in groups
            for name, p in g.parameters.items()
            if name in maps or (name in watched and name not in proposed)
        }
        optimiser.step()
        with torch.no_grad():
            for name, old in before.items():
                parameter = method.get_parameter(name)
                step = parameter - old
                proposed[name] = applied[name] = step.norm()
                if name in maps:
                    given[name], step = step, maps[name](step)
                    applied[name] = step.norm()
                    parameter.copy_(old + step)
        losses, asked, made, right = numbers(parts, proposed, applied, {"correct": loss.correct})
        self._refuse_non_finite(losses, where)
        return StepResult(losses, by_kind(asked), by_kind(made), right["correct"], given)

    def attempt(self, optimiser: torch.optim.Optimizer, batch: Batch, count: int) -> None:
        """Loss and gradients of the first `count` images of a batch, to see whether they fit; no step is taken."""
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(self._loss(batch.first(count)).parts.values())).sum().backward()
        optimiser.zero_grad(set_to_none=True)

    def _loss(self, batch: Batch) -> Loss:
        with self.backbone.computing_in(self.precision):
            return self.method.loss(self.backbone, batch)

    def _refuse_non_finite(self, losses: dict[str, float], where: str) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise NonFiniteLoss(
                    f"loss {name!r} became {value} in {where}; "
                    f"lower the learning rate ({', '.join(f'{g.name}: {g.rate:g}' for g in self.method.groups())}) and "
                    "resume from the last boundary, or start anew"
                )


def by_kind(norms: dict[str, float]) -> dict[str, float]:
    """Norms of many parameters combined by kind, the root of the sum of squares, so that a step's event stays small.

    Names that differ only in the block number are one kind, with * in its place. A few norms are left unchanged.
    """
    if len(norms) <= MOST_NORMS:
        return norms
    squares: dict[str, float] = {}
    for name, norm in norms.items():
        kind = re.sub(r"(?<=[./])\d+(?=[./])", "*", name)
        squares[kind] = squares.get(kind, 0.0) + norm**2
    return {kind: math.sqrt(square) for kind, square in squares.items()}


def numbers(*tables: dict[str, Tensor]) -> list[dict[str, float]]:
    """Tables of scalars as plain numbers, exact: one copy from the device for all of them."""
    found = [value.detach().double() for table in tables for value in table.values()]
    plain = iter(torch.stack(found).tolist() if found else ())
    return [{name: next(plain) for name in table} for table in tables]
