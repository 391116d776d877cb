"""Methods on keys and values with steps projected away from stored directions of past inputs.

Shapes: L blocks of width d; ΔW [L, 2, d, d]; B [d, k] and h [k] of a block, as in `stored_directions`.

    ΔW ← ΔW + S (I − B diag(h) Bᵀ)            S the optimiser's step, from the second task on
    G = Σ x xᵀ over the tokens of the task just learned, x the inputs of a block's attention (InfLoRA's)

The step is mapped, not the gradient: equivalent for plain SGD, also with momentum, and exact with Adam.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.config import setting
from cl_core.events import Clock, Event
from cl_core.linalg import held_back
from cl_core.methods.method import Constraint, ParameterGroup
from cl_core.methods.parts.key_value import KEYS, VALUES, KeyValueConfig, KeyValueMethod
from cl_core.methods.parts.stored_directions import Guard, StoredDirections, tokens_of


@dataclass(frozen=True)
class GradientMemoryConfig(KeyValueConfig):
    """Rates and threshold are the release's for Split CIFAR-100."""

    rate: float = setting(0.01, low=0.0, high=10.0, help="learning rate of keys and values")
    temperature: float = setting(
        1.0, low=0.01, high=1000.0, help="logits are divided by this in the training loss only"
    )
    optimiser: str = setting("sgd", choices=("sgd", "adam"), help="sgd: as published")
    momentum: float = setting(0.0, low=0.0, high=0.999, help="of sgd")
    energy: float = setting(0.97, low=0.0, high=1.0, help="share of a task's inputs that stored directions must hold")
    growth: float = setting(0.003, low=0.0, high=1.0, help="added to that share with every task (at most 1 in all)")
    shares: str = setting(
        "inputs",
        choices=("inputs", "moment"),
        help="energy of inputs (σ², GPM) or of their moment (σ⁴, InfLoRA's code, which stores fewer directions)",
    )
    project: str = setting("stored", choices=("stored", "none"), live=True, help="none: steps as they are (ablation)")


class GradientMemoryMethod(KeyValueMethod, abc.ABC):
    """Abstract. Subclasses define which directions a task adds and how much they are damped."""

    Config = GradientMemoryConfig

    tasks: Tensor

    def __init__(self, config: GradientMemoryConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        layers, width = backbone.depth, backbone.width
        self.shift = nn.Parameter(torch.zeros(layers, 2, width, width))  # ΔW
        self.places = tuple(str(layer) for layer in range(layers))
        self.stored = StoredDirections(dict.fromkeys(self.places, width))
        self.register_buffer("tasks", torch.zeros((), dtype=torch.int64))
        self._free: Tensor | None = None  # derived: I − B diag(h) Bᵀ [L, 1, d, d], None in the first task

    def refresh(self) -> None:
        self._free = None
        if int(self.tasks) and self.config.project != "none":
            maps = [held_back(self.stored.basis(place), self.stored.held(place)) for place in self.places]
            self._free = torch.stack(maps)[:, None].to(self.shift)

    def change(self) -> Tensor:
        return self.shift

    def changed(self) -> dict[str, nn.Parameter]:
        return {"shift": self.shift}

    def groups(self) -> list[ParameterGroup]:
        c = self.config
        return [replace(group, optimiser=c.optimiser, momentum=c.momentum) for group in super().groups()]

    def constraints(self) -> dict[str, Constraint]:
        free = self._free
        return {} if free is None else {"shift": Constraint(step=lambda step: step @ free)}

    @property
    def threshold(self) -> float:
        """ε of the finished task."""
        return min(1.0, self.config.energy + self.config.growth * int(self.tasks))

    @abc.abstractmethod
    def store(self, place: str, gram: Tensor) -> None:
        """Add a finished task's Gram matrix [d, d] of a block's inputs, scaled to trace 1; squared if shares are those
        of the moment."""

    @torch.no_grad()
    def end_task(self, clock: Clock) -> list[Event]:
        sums, _ = self.inputs.take()
        for place, gram in zip(self.places, sums, strict=True):
            unit = gram / gram.trace().clamp(min=torch.finfo(gram.dtype).tiny)
            self.store(place, unit @ unit if self.config.shares == "moment" else unit)
        self.tasks += 1
        return []

    def guards(self) -> list[Guard]:
        """Protected directions of the next task, by block."""
        threshold = min(1.0, self.config.energy + self.config.growth * max(int(self.tasks) - 1, 0))
        rule = f"energy {threshold:g}" + (" of the moment" if self.config.shares == "moment" else "")
        found = []
        for layer, place in enumerate(self.places):
            tap, maps = ("normed", layer), tuple(f"image.{layer}.{which}" for which in (KEYS, VALUES))
            basis, held = self.stored.basis(place), self.stored.held(place)
            used = self.config.project != "none"
            found.append(Guard(layer, "kv", (tap,), tokens_of(tap), maps, basis, held, rule, used))
        return found
