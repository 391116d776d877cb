"""Interpolation between two states of the weights: new accuracy against retained accuracy along the line.

Wortsman et al. Robust fine-tuning of zero-shot models (WiSE-FT). CVPR 2022, arXiv:2109.01903.

    θ(α) = (1 − α) θ_from + α θ_to,    α in 0 … 1

for methods that change a CLIP's own weights. θ_from is the model before training or after an earlier task. At each α
all test images of the stream are classified among their task's classes, and the general set if there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from cl_core.analysis.measured_later import UNTOUCHED, interpolation_file, save_at
from cl_core.analysis.patching import at, shared
from cl_core.config import ConfigError, DiagnosticsConfig
from cl_core.events import AccuracyMeasured, Clock, ModalityGapMeasured
from cl_core.methods.method import ReadsClasses
from cl_core.observers.gap import ModalityGap
from cl_core.store import RunFolder, effective_config
from cl_core.training.factory import build
from cl_core.training.trainer import Trainer

POINTS = 11


class Weights(Protocol):
    """Named parameters of the model that a method changes (`cl_core.methods.parts.clip_weights`)."""

    names: tuple[str, ...]

    def __getitem__(self, name: str) -> Tensor: ...


@runtime_checkable
class KeepsWeights(Protocol):
    """A method that trains copies of a CLIP's parameters and, between tasks, has no other change of the model."""

    clip: Weights


@torch.no_grad()
def interpolate(
    folder: RunFolder, start: int, end: int, say: Callable[[str], None] = lambda text: None, points: int = POINTS
) -> dict[str, Any]:
    """Measure a line between two states and store it with the run.

    Args:
        start: task after which the line starts, from 0; −1: the model before training.
        end: task after which it ends.

    Returns:
        "alphas" [points]; "learned": mean percent on tasks up to `end`; "kept": mean percent on later tasks (null where
        there are none); "general": percent on the general set (null where there is none); "tasks": percent per task.

    Raises:
        StoreError: a checkpoint is missing or damaged. ConfigError: the method does not change a CLIP's weights.
    """
    started = time.perf_counter()
    backbone_of, stream_of = shared()
    say(f"loading the model after T{end + 1}")
    last = at(folder, end, backbone_of, stream_of)
    method = last.method
    if not (isinstance(method, KeepsWeights) and isinstance(method, ReadsClasses)):
        raise ConfigError(
            f"run {folder.name} ({last.config.method}) does not change the weights of a CLIP, so there is no line "
            "between two states of them; finetune, lora_sequential, nusa_cl and gnsp do"
        )
    target = _copied(method.clip)
    if start == UNTOUCHED:
        config = replace(effective_config(folder), diagnostics=DiagnosticsConfig.off())
        first = build(config, backbone_of, stream_of).method
    else:
        say(f"loading the model after T{start + 1}")
        first = at(folder, start, backbone_of, stream_of).method
    assert isinstance(first, KeepsWeights)  # of the same class
    origin = _copied(first.clip)
    alphas = np.linspace(0, 1, points).tolist()
    gap = ModalityGap(last.stream) if last.stream.general is not None else None
    rows: list[list[float]] = []
    general: list[float] = []
    for number, alpha in enumerate(alphas):
        _blend(method.clip, origin, target, alpha)
        rows.append(_row(last, end))
        if gap is not None:
            said = gap.measure(method, last.backbone, Clock(end))
            general += [event.general_accuracy for event in said if isinstance(event, ModalityGapMeasured)]
        say(f"{number + 1} of {points}")
    table = np.array(rows)
    later = table[:, end + 1 :]
    result = {
        "from": start + 1,
        "to": end + 1,
        "alphas": alphas,
        "learned": table[:, : end + 1].mean(axis=1).tolist(),
        "kept": later.mean(axis=1).tolist() if later.size else None,
        "general": general or None,
        "tasks": rows,
        "seconds": time.perf_counter() - started,
    }
    save_at(interpolation_file(folder, start, end), result)
    return result


def _copied(weights: Weights) -> dict[str, Tensor]:
    return {name: weights[name].detach().clone() for name in weights.names}


def _blend(weights: Weights, origin: Mapping[str, Tensor], target: Mapping[str, Tensor], alpha: float) -> None:
    for name in weights.names:
        weights[name].copy_(torch.lerp(origin[name], target[name], alpha))


def _row(trainer: Trainer, end: int) -> list[float]:
    """Accuracy in percent on every task among its own classes."""
    evaluation = trainer.evaluation
    learned = list(range(end + 1))
    seen = range(trainer.stream[end].classes.stop)
    said = evaluation.accuracies(Clock(end), learned, seen, last=False)
    (row,) = [e.row for e in said if isinstance(e, AccuracyMeasured) and e.readout == "task-incremental"]
    return [float("nan") if value is None else value for value in row]
