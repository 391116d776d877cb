"""Selection of a run's observers, by its settings and the capabilities of its method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.config import DiagnosticsConfig
from cl_core.methods.method import Method
from cl_core.observers.class_features import AddsResiduals, ClassFeatures
from cl_core.observers.forward_transfer import ForwardProbe
from cl_core.observers.gap import ModalityGap
from cl_core.observers.guarded_inputs import GuardedInputs, GuardsInputs
from cl_core.observers.image_answers import ImageAnswers
from cl_core.observers.input_spectra import InputSpectra, ProjectsInputs
from cl_core.observers.key_value_spectra import Conceptors, KeepsConceptors, SplitsInputs, SplitSpectra
from cl_core.observers.observer import Observer, Observers
from cl_core.observers.old_tasks import OldTasks
from cl_core.observers.probe import Probe
from cl_core.observers.prompt_spectra import HasDeepPrompts, PromptDrift, PromptSpectra
from cl_core.observers.selection import PoolSelection
from cl_core.observers.subspaces import AllocatesSpaces, Subspaces
from cl_core.observers.weights import WeightWatch
from cl_core.streams.stream import Batch, Split, TaskStream


def chosen_observers(
    settings: DiagnosticsConfig,
    stream: TaskStream,
    method: Method,
    backbone: Backbone,
    device: torch.device,
    probes: dict[int, Split],
    portioned: Callable[[Callable[[], Any]], Any],
    test_batches: Callable[[int], Iterable[Batch]],
    followed: dict[int, Tensor],
    plan: Callable[[], tuple[int, int, int]],
    others: Iterable[Observer] = (),
) -> Observers:
    """Observers, in the order in which they emit events. `probes`: task → its probe images; `followed`: task → indices
    of the test images whose predictions are stored; `plan()`: tasks trained before the current one, its steps, images
    per step; `others`: those of plug-ins."""
    found: list[Observer] = []
    if followed:
        found.append(ImageAnswers(followed))
    if settings.within:
        found.append(OldTasks(settings.within, plan))
    if settings.drift:
        found.append(PromptDrift())
    if settings.attention:
        images = {task.index: task.prepare(probes[task.index].pictures).to(device) for task in stream}
        labels = {j: p.labels.to(device) for j, p in probes.items()}
        ids = {j: cast(Tensor, p.ids) for j, p in probes.items()}  # streams assign ids to their images
        found.append(Probe(backbone, images, labels, ids))
    if settings.gap:
        found.append(ModalityGap(stream))
    if settings.selection:
        found.append(PoolSelection(portioned, test_batches))
    if settings.forward:
        found.append(ForwardProbe(stream))
    if settings.spectra:
        found += _spectra(method, backbone)
    if settings.weights:
        found.append(WeightWatch())
    return Observers([*found, *others])


def _spectra(method: Method, backbone: Backbone) -> list[Observer]:
    """The observer of the directions used by earlier tasks, for the method's kind of space."""
    if isinstance(method, HasDeepPrompts) and method.deep_prompts.numel():
        return [PromptSpectra(method)]
    if isinstance(method, ProjectsInputs):
        return [InputSpectra(method, backbone)]
    if isinstance(method, SplitsInputs):
        return [SplitSpectra()]
    if isinstance(method, KeepsConceptors):
        return [Conceptors()]
    if isinstance(method, GuardsInputs):
        return [GuardedInputs(method)]
    if isinstance(method, AllocatesSpaces):
        return [Subspaces(method)]
    if isinstance(method, AddsResiduals):
        return [ClassFeatures(backbone.depth)]
    return []
