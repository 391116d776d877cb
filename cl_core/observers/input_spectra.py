"""Spectra of past tasks' inputs to CLIP's image MLPs, and directions of GNSP's updates.

Formulas are those of `feature_covariance`. With projection the method already has the moments; otherwise they are
collected here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, cast, runtime_checkable

from torch import Tensor

from cl_core.backbones.io_types import Features
from cl_core.events import Event
from cl_core.linalg import tail_projector
from cl_core.methods.parts.clip_weights import ClipWeights
from cl_core.methods.parts.feature_covariance import InputMoments, Layer
from cl_core.observers.observer import View
from cl_core.observers.updates import Asked
from cl_core.streams.stream import Batch


@runtime_checkable
class ProjectsInputs(Protocol):
    """A method with matrices whose inputs are, or could be, protected. `projectors`: P by parameter, none if nothing is
    protected; its settings have `rho`, `project` and `collect_batch`."""

    config: Any
    layers: list[Layer]
    clip: ClipWeights
    projectors: Mapping[str, Tensor]
    fading: list[str]


class ProjectsByMoments(ProjectsInputs, Protocol):
    """A method with projection, which stores the moments itself."""

    moments: InputMoments


class InputSpectra(Asked):
    name = "input spectra"

    def __init__(self, method: ProjectsInputs, backbone: Any) -> None:
        super().__init__()
        self.own: InputMoments | None = None
        if not hasattr(method, "moments"):
            self.own = InputMoments(backbone, method.layers, method.fading).to(method.clip.device)
            self.taps, self.batch_size = tuple(layer.tap for layer in method.layers), method.config.collect_batch

    def watched(self, view: View) -> Mapping[str, Tensor]:
        method = cast(ProjectsInputs, view.method)
        return {layer.parameter: method.clip[layer.parameter] for layer in method.layers}

    def collect(self, view: View, features: Features, batch: Batch) -> list[Event]:
        assert self.own is not None
        self.own.see(features)
        return []

    def protecting(self, method: ProjectsInputs) -> Mapping[str, Tensor]:
        """Actual or hypothetical P by parameter; none in the first task."""
        if self.own is None or not int(self.own.tasks):
            return method.projectors
        own, rho = self.own, method.config.rho
        return {name: tail_projector(own[name], rho, basis=own.basis(name)) for name in own.names}

    def task_trained(self, view: View) -> list[Event]:
        """Compare with the directions protected so far."""
        method, moments, clock = cast(ProjectsInputs, view.method), self._moments(view), view.clock
        now = {name: value.detach() for name, value in self.watched(view).items()}
        source = "gradients" if method.config.project == "gradient" else "steps"
        return [
            *moments.updates(clock, self.before, now, self.protecting(method)),
            *moments.directions(clock, self.before, now, self.asked, source),
        ]

    def task_learned(self, view: View) -> list[Event]:
        if self.own is not None:
            self.own.fold_task()
        config = cast(ProjectsInputs, view.method).config
        return [*self._moments(view).spectra(view.clock, config.rho, config.project)]

    def _moments(self, view: View) -> InputMoments:
        return self.own or cast(ProjectsByMoments, view.method).moments

    def state_dict(self) -> dict[str, Tensor]:
        own = {} if self.own is None else {f"moments/{k}": v for k, v in self.own.state_dict().items()}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        super().load_state_dict(state)
        own = {k.removeprefix("moments/"): v for k, v in state.items() if k.startswith("moments/")}
        if self.own is not None and own:
            self.own.load_state_dict(own)
