"""A method that trains deep prompts and a head per task; subclasses add what protects the past."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cl_core.backbones.features import Features, ModelEdit, Tap
from cl_core.events import Clock, Event
from cl_core.linalg import elbow_nullity, spectrum
from cl_core.methods.deep_prompts import DeepPrompts, PromptConfig
from cl_core.methods.method import Loss, Method, ParameterGroup
from cl_core.methods.prompt_moments import SPACES, PromptMoments
from cl_core.streams.stream import Batch


class PromptedMethod(Method):
    """Abstract: deep prompts, heads and the moments that show (or decide) where earlier tasks look.

    `moments_used` says whether training reads the moments; if not, they are collected only to be looked at.
    """

    Config = PromptConfig
    moments_used = False
    rows: Tensor | None = None  # [L, M, M] and [L, d, d]: what maps a step from both sides; None: taken as it is
    columns: Tensor | None = None

    def __init__(self, config: PromptConfig, backbone: Any, seed: int) -> None:
        super().__init__(config, seed)
        self.tuning = DeepPrompts(config, backbone.depth, backbone.width, seed)
        self.moments = PromptMoments(backbone.depth, config.prompt_length, backbone.width, **self.moment_options())
        self.register_buffer("previous_prompts", self.tuning.prompts.detach().clone())

    def moment_options(self) -> dict[str, Any]:
        return {}

    def begin_task(self, index: int, classes: range) -> None:
        self.tuning.begin_task(index, classes)

    def groups(self) -> list[ParameterGroup]:
        return self.tuning.groups("tuning")

    def optimiser(self) -> torch.optim.Optimizer:
        return self.tuning.optimiser(self.groups())

    def edit(self, backbone: Any, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        return self.tuning.edit()

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        return self.tuning.classify(pooled)[:, classes.start : classes.stop]

    def measured_parameters(self) -> set[str]:
        return {"tuning.prompts"} if self.config.prompt_length else set()

    def loss(self, backbone: Any, batch: Batch) -> Loss:
        return self.tuning.loss_of(self.features(backbone, batch.images).pooled, batch.labels)

    def collects(self, measure: bool) -> bool:
        """Whether the moments are taken at a task's end."""
        return self.config.prompt_length > 0 and (self.moments_used or measure)

    def survey_taps(self, measure: bool) -> tuple[Tap, ...] | None:
        return self.moments.taps() if self.collects(measure) else None

    def survey(self, backbone: Any, features: Features, batch: Batch) -> None:
        self.moments.add(backbone, features, self.tuning.prompts.detach())

    def end_task(self, clock: Clock, measure: bool) -> list[Event]:
        prompts = self.tuning.prompts.detach()
        said: list[Event] = []
        if self.collects(measure):
            if measure:
                said.extend(self.moments.updates(clock, self.previous_prompts, prompts))
                wanted, source = prompts - self.previous_prompts, "net change"
                if self.rows is not None:
                    wanted, source = self.proposals.get("tuning.prompts", wanted), "steps"
                said.extend(self.moments.directions(clock, wanted, source, self.rows, self.columns))
            self.moments.fold_task()
            if measure:
                said.extend(self.spectra(clock))
        self.previous_prompts.copy_(prompts)
        return said

    def spectra(self, clock: Clock) -> Iterable[Event]:
        """Spectra with the cut the elbow rule would make; nothing is projected (gain 1 everywhere)."""
        one = torch.ones(self.moments.layers)
        nullities = {s: elbows(getattr(self.moments, s)) for s in SPACES}
        return self.moments.spectra(
            clock,
            nullities,
            dict.fromkeys(SPACES, "elbow"),
            dict.fromkeys(SPACES, False),
            dict.fromkeys(SPACES, (one, one)),
        )

    def probe_prompts(self) -> Tensor | None:
        return self.tuning.prompts.detach() if self.config.prompt_length else None

    def display_only(self) -> set[str]:
        names = {k for k in self.state_dict() if k.startswith("moments.task_")}
        return (
            names
            if self.moments_used
            else {k for k in self.state_dict() if k.startswith("moments.")} | {"previous_prompts"}
        )


def elbows(moment: Tensor) -> Tensor:
    """Elbow nullity per layer [L]; sides shorter than 3 have no elbow and are left free."""
    if moment.shape[-1] < 3:
        return torch.full(moment.shape[:1], moment.shape[-1])
    return torch.as_tensor(elbow_nullity(spectrum(moment)))
