"""CODE-CL: each direction of a layer's inputs is damped by how much earlier tasks use it.

Parts: `key_value`.

Apolinario, Choudhary, Roy. CODE-CL: Conceptor-Based Gradient Projection for Deep Continual Learning. ICCV 2025; written
from the equations, details as in the released code.
Shapes: L blocks of width d; ΔW [L, 2, d, d]; C, R [L, d, d]; x a block's inputs; λ eigenvalues of R.

    ΔW ← ΔW + S (I − C)                   S the optimiser's step, from the second task on
    R = mean of x xᵀ over the tokens of the task,   B = R (R + a⁻² I)⁻¹,   a grows by tenths until √(Σ‖Bx‖²/Σ‖x‖²) ≥ m
    C ← C OR B at a task's end; eigenvalues below 0.2 become 0

Our adaptation: the paper trains whole convolutional networks with known tasks; here a ViT is frozen except for changes
of its key and value matrices, as in `split_lora`. Differences:

    the step is mapped, not the gradient: equivalent for plain SGD, and still exact with `optimiser="adam"`
    a is in units of 1/√(mean λ), which makes it independent of the scale of activations
    R comes from all images of the task (release: one batch of 125), and m refers to the root mean square S_t, the
    remixing of shared directions for a single task, is omitted: it needs the task at test time, which is unknown in
    class-incremental evaluation. `InputsSurveyed` records where the paper would have used it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.config import setting
from cl_core.events import Clock, Event, InputsSurveyed
from cl_core.linalg import (
    capacity,
    conceptor,
    conceptor_and,
    conceptor_not,
    conceptor_or,
    eigenbasis,
    fitted_aperture,
    significant,
)
from cl_core.methods.method import Constraint
from cl_core.methods.parts.key_value import KeyValueConfig, KeyValueMethod
from cl_core.streams.stream import Batch

NO_ENERGY = 1e-30
SURVEYED = 125  # images of a new task in the survey, as in the release
SHARED = 0.5  # share of the past's capacity above which the paper remixes


@dataclass(frozen=True)
class CodeClConfig(KeyValueConfig):
    """Aperture, m, threshold and plain SGD are the release's for Split CIFAR-100; its aperture has no unit."""

    rate: float = setting(0.01, low=0.0, high=10.0, help="learning rate of keys and values")
    optimiser: str = setting("sgd", choices=("sgd", "adam"), help="sgd: plain, as published")
    aperture: float = setting(
        6.0, low=1e-3, high=1e3, help="initial aperture of a task, in 1/√(mean λ): larger protects more"
    )
    held: float = setting(
        0.95, low=0.0, high=0.999, help="m: the aperture grows until a conceptor passes this share of its inputs"
    )
    threshold: float = setting(0.2, low=0.0, high=1.0, help="eigenvalues of C below this are set to 0 (free)")
    project: str = setting(
        "conceptor", choices=("conceptor", "none"), live=True, help="none: steps as they are (ablation)"
    )
    survey: bool = setting(True, help="measure the overlap of a new task's inputs with the past before its first step")


@final
class CodeCL(KeyValueMethod):
    """The conceptor C damps the step along each direction."""

    Config = CodeClConfig

    past: Tensor
    tasks: Tensor

    def __init__(self, config: CodeClConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        layers, width = backbone.depth, backbone.width
        self.shift = nn.Parameter(torch.zeros(layers, 2, width, width))  # ΔW
        self.register_buffer("past", torch.zeros(layers, width, width, dtype=torch.float64))  # C
        self.register_buffer("tasks", torch.zeros((), dtype=torch.int64))
        self.latest: tuple[Tensor, Tensor] | None = None  # the last task's B [L, d, d], aperture [L]
        self._free: Tensor | None = None  # derived: I − C [L, 1, d, d], None in the first task

    def refresh(self) -> None:
        protects = int(self.tasks) > 0 and self.config.project == "conceptor"
        self._free = conceptor_not(self.past)[:, None].to(self.shift) if protects else None

    def change(self) -> Tensor:
        return self.shift

    def changed(self) -> dict[str, nn.Parameter]:
        return {"shift": self.shift}

    @property
    def optimiser(self) -> str:
        return self.config.optimiser

    def constraints(self) -> dict[str, Constraint]:
        free = self._free
        return {} if free is None else {"shift": Constraint(step=lambda step: step @ free)}

    # ------------------------------------------------------------ conceptors of inputs

    def fitted(self, moment: Tensor) -> tuple[Tensor, Tensor]:
        """B of inputs with second moment R [L, d, d], and its aperture [L]."""
        basis = eigenbasis(moment)
        values = basis[0]
        unit = (
            values.mean(dim=-1).clamp(min=NO_ENERGY).rsqrt()
        )  # keeps the aperture finite if the inputs have no energy
        aperture = fitted_aperture(values, self.config.aperture * unit, self.config.held)
        return conceptor(moment, aperture, basis=basis), aperture

    @torch.no_grad()
    def prepare_task(self, backbone: Backbone, epoch: Callable[[int], Iterable[Batch]], clock: Clock) -> list[Event]:
        """Overlap of the new task's inputs with the past, under the current weights."""
        if not int(self.tasks) or not self.config.survey:
            return []
        seen = 0
        for batch in epoch(0):
            self.inputs.add(self.features(backbone, batch.images, self.inputs.taps, batch.ids))
            seen += len(batch.labels)
            if seen >= SURVEYED:
                break
        sums, rows = self.inputs.take()
        coming, _ = self.fitted(sums / rows)
        used = capacity(self.past).clamp(min=NO_ENERGY)  # no past, no overlap
        common = capacity(conceptor_and(self.past, coming)) / used
        return [
            InputsSurveyed(clock, layer, size, shared, SHARED)
            for layer, (size, shared) in enumerate(zip(capacity(coming), common, strict=True))
        ]

    @torch.no_grad()
    def end_task(self, clock: Clock) -> list[Event]:
        sums, rows = self.inputs.take()
        own, aperture = self.fitted(sums / rows)
        joined = conceptor_or(self.past, own) if int(self.tasks) else own
        self.past.copy_(significant(joined, self.config.threshold))
        self.tasks += 1
        self.latest = own, aperture
        return []
