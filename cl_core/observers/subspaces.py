"""Subspace of each task's input embeddings relative to earlier tasks, and the distribution of its gradients.

Shapes: d width, M prompts; V, F, R and P as in `subspace_memory`.

    shares[part] = Σ_steps ‖g on part‖² / Σ_steps ‖g‖²,    passed = Σ_steps ‖g P‖² / Σ_steps ‖g‖²
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cl_core.events import Clock, Event, SubspaceMeasured
from cl_core.linalg import effective_rank, principal_angles, space_shares, spectrum, subspace_overlap
from cl_core.methods.parts.event_values import array, number
from cl_core.methods.parts.keyed_prompts import KeyedPrompts
from cl_core.methods.parts.subspace_memory import PARTS, EmbeddingSpaces
from cl_core.observers.observer import Observer, View

SOURCES = {"pictures": "pictures of the pre-training world", "weights": "query, key and value weights"}


@runtime_checkable
class AllocatesSpaces(Protocol):
    config: Any
    pool: KeyedPrompts
    spaces: EmbeddingSpaces


class Subspaces(Observer):
    name = "subspaces"

    def __init__(self, method: AllocatesSpaces) -> None:
        self.before = method.pool.prompts.detach().clone()
        self.shares = method.spaces.moments.new_zeros(len(PARTS))  # Σ ‖g‖² in each part, this task
        self.passed = self.shares.new_zeros(())  # Σ ‖g P‖²

    def task_begun(self, view: View) -> list[Event]:
        self.before = cast(AllocatesSpaces, view.method).pool.prompts.detach().clone()
        self.shares, self.passed = torch.zeros_like(self.shares), torch.zeros_like(self.passed)
        return []

    def step_taken(self, view: View, given: Mapping[str, Tensor]) -> list[Event]:
        method = cast(AllocatesSpaces, view.method)
        assert method.pool.prompts.grad is not None  # a step has just been taken
        spaces, gradient = method.spaces, method.pool.prompts.grad.double()
        energy = gradient.square().sum()
        if energy > 0:
            self.shares += energy * space_shares(gradient, spaces.pretrained, spaces.conflicting, spaces.occupied)
            kept = gradient if spaces.projector is None else gradient @ spaces.projector
            self.passed += kept.square().sum()
        return []

    def task_learned(self, view: View) -> list[Event]:
        method = cast(AllocatesSpaces, view.method)
        said: list[Event] = []
        if int(method.spaces.finished) == 1:
            said.append(self._pretraining(method))
        *earlier, core = method.spaces.cores
        change = method.pool.prompts.detach() - self.before
        others = [method.spaces.pretrained, *earlier]
        said.append(self._measured(view.clock, method, method.spaces.moments[-1], core, others, change))
        return said

    def _pretraining(self, method: AllocatesSpaces) -> SubspaceMeasured:
        """The pre-trained space, the reference of all tasks."""
        spaces = method.spaces
        said = self._measured(Clock(), method, spaces.pretrained_moment, spaces.pretrained, [], None)
        known = spaces.pretrained.shape[1]
        return replace(said, budget=dict(zip(PARTS, (known, 0, 0, spaces.width - known), strict=True)))

    def _measured(
        self,
        clock: Clock,
        method: AllocatesSpaces,
        moment: Tensor,
        core: Tensor,
        others: list[Tensor],
        change: Tensor | None,
    ) -> SubspaceMeasured:
        """`core` of `moment` compared with `others`; `change` [M, d]: of the prompts."""
        rule, spaces = method.config.allocation(), method.spaces
        values = spectrum(moment / moment.trace().clamp(min=torch.finfo(moment.dtype).tiny))
        angles = core.new_full((len(others), core.shape[1]), torch.nan, dtype=torch.float32)
        for place, other in enumerate(others):
            found = principal_angles(core, other)
            angles[place, : len(found)] = found
        ranks = np.array([other.shape[1] for other in others], dtype=np.float32)
        told = change is not None and float(self.shares.sum()) > 0
        moved = None if change is None else change.double()
        return SubspaceMeasured(
            clock,
            method.config.site,
            array(values.float()),
            rule.energy,
            core.shape[1],
            number(effective_rank(values.sqrt())),
            _row([subspace_overlap(core, other) for other in others]),
            np.maximum(ranks, core.shape[1]) / np.float32(spaces.width),
            array(angles),
            spaces.budget(),
            dict(zip(PARTS, map(number, self.shares / self.shares.sum()), strict=True)) if told else {},
            number(self.passed / self.shares.sum()) if told else None,
            _row([(moved @ c).norm() / moved.norm() for c in others[1:]] if moved is not None and moved.any() else []),
            np.sqrt(ranks[1:] / np.float32(spaces.width)),
            rule.projection,
            SOURCES[method.config.pretrained_space],
        )

    def state_dict(self) -> dict[str, Tensor]:
        return {"before": self.before, "shares": self.shares, "passed": self.passed}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, value in state.items():
            setattr(self, name, value.to(getattr(self, name)))


def _row(values: list[Tensor]) -> np.ndarray:
    return array(torch.stack(values).float() if values else torch.zeros(0))
