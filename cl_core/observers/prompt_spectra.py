"""Drift of deep prompts, spectra of earlier tasks, and directions of updates.

Formulas are those of `attention_covariance`. Methods that protect prompts by these moments (NSP²) already have them;
for others they are collected here for display, with the cut of the elbow rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.io_types import Features
from cl_core.events import Event, PromptsDrifted
from cl_core.methods.parts.attention_covariance import SPACES, Cut, PromptMoments, ReadsKeys, elbows
from cl_core.methods.parts.event_values import array
from cl_core.observers.observer import Observer, View
from cl_core.observers.updates import Asked
from cl_core.streams.stream import Batch


@runtime_checkable
class HasDeepPrompts(Protocol):
    @property
    def deep_prompts(self) -> Tensor:
        """The current prompts [K, M, d]; M may be 0."""
        ...


def prompted_blocks(method: HasDeepPrompts) -> range:
    """The K blocks with prompts: from the first on, unless the method defines `prompted_blocks`."""
    return getattr(method, "prompted_blocks", range(len(method.deep_prompts)))


@runtime_checkable
class ProtectsPrompts(HasDeepPrompts, Protocol):
    """B̃₂ [L, M, M] and B̃₁ [L, d, d] map a step from both sides; None: unprojected."""

    moments: PromptMoments
    rows: Tensor | None
    columns: Tensor | None

    def cuts(self) -> Mapping[str, Cut]:
        """Cuts that constrain the next task, in each space."""
        ...


class PromptDrift(Observer):
    name = "prompt drift"

    def started(self, view: View) -> list[Event]:
        return self.epoch_ended(view)

    def epoch_ended(self, view: View) -> list[Event]:
        if not isinstance(view.method, HasDeepPrompts) or not view.method.deep_prompts.numel():
            return []
        prompts, blocks = view.method.deep_prompts, prompted_blocks(view.method)
        around = (0, 0, blocks.start, view.backbone.depth - blocks.stop)  # blocks without prompts before and after
        means, spreads = (
            F.pad(values, around, value=torch.nan)
            for values in (prompts.mean(dim=-1), prompts.std(dim=-1, correction=0))
        )
        prompts = F.pad(prompts.half(), (0, 0, *around))
        return [PromptsDrifted(view.clock, array(prompts), array(means), array(spreads))]


class PromptSpectra(Asked):
    name = "prompt spectra"

    def __init__(self, method: HasDeepPrompts) -> None:
        super().__init__()
        self.own: PromptMoments | None = None
        if not isinstance(method, ProtectsPrompts):
            _, count, width = method.deep_prompts.shape
            self.own = PromptMoments(prompted_blocks(method), count, width).to(method.deep_prompts.device)
            self.taps = self.own.taps()

    def watched(self, view: View) -> Mapping[str, Tensor]:
        return {"deep_prompts": cast(HasDeepPrompts, view.method).deep_prompts}

    def collect(self, view: View, features: Features, batch: Batch) -> list[Event]:
        assert self.own is not None
        backbone = cast(ReadsKeys, view.backbone)  # deep prompts exist only in a ViT
        self.own.add(backbone, features, cast(HasDeepPrompts, view.method).deep_prompts)
        return []

    def task_trained(self, view: View) -> list[Event]:
        """Compare with the spectra and cuts so far."""
        before, now = self.before["deep_prompts"], cast(HasDeepPrompts, view.method).deep_prompts
        moments, rows, columns = self.own, None, None
        if moments is None:
            method = cast(ProtectsPrompts, view.method)
            moments, rows, columns = method.moments, method.rows, method.columns
        wanted, source = now - before, "net change"
        if rows is not None:
            asked = self.asked.get(getattr(method, "prompt_parameter", "tuning.prompts"))
            wanted, source = wanted if asked is None else asked, "steps"
        updates = moments.updates(view.clock, before, now)
        return [*updates, *moments.directions(view.clock, wanted, source, rows, columns)]

    def task_learned(self, view: View) -> list[Event]:
        if self.own is None:
            method = cast(ProtectsPrompts, view.method)
            return [*method.moments.spectra(view.clock, method.cuts())]
        self.own.fold_task()
        one = torch.ones(self.own.layers)
        cuts = {space: Cut(elbows(self.own.basis(space)[0]), "elbow", False, one, one) for space in SPACES}
        return [*self.own.spectra(view.clock, cuts)]

    def state_dict(self) -> dict[str, Tensor]:
        own = {} if self.own is None else {f"moments/{k}": v for k, v in self.own.state_dict().items()}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        device = None if self.own is None else self.own.affinity.device
        super().load_state_dict(state)
        own = {k.removeprefix("moments/"): v for k, v in state.items() if k.startswith("moments/")}
        if self.own is not None and own:
            self.own.load_state_dict({name: value.to(device) for name, value in own.items()})
