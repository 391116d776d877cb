"""Everything a run can say: the vocabulary of events.

An event is a frozen record of something that happened, stamped with a `Clock`. Fields hold plain values (numbers,
strings, lists, dicts of these) or numpy arrays, never tensors, so a stored run opens without torch. The docstrings are
the glossary that the dashboard shows. Conventions: tasks, layers, heads and epochs count from 0 here and from 1 on the
screen; accuracies are in percent; NaN or None means *not measured*.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class Clock:
    """Where a run stands: task, epoch within the task, and step counted over the whole run (all from 0; −1 =
    before)."""

    task: int = -1
    epoch: int = -1
    step: int = -1


@dataclass(frozen=True)
class Event:
    """Something that happened at `clock`."""

    clock: Clock

    @property
    def kind(self) -> str:
        return type(self).__name__

    def body(self) -> dict[str, Any]:
        """The fields without the clock, as the store keeps them."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "clock"}


# ---------------------------------------------------------------- the course of a run


@dataclass(frozen=True)
class RunStarted(Event):
    """The run's plan, said once: what is trained on what, with which sizes."""

    tasks: list[
        dict[str, Any]
    ]  # per evaluation task: {"name": "T1", "classes": ["three", "seven"], "train": 260, "test": 100}
    scenario: str  # "class-incremental", "domain-incremental", ...
    trained_tasks: int  # how many training stages follow (1 for a joint run)
    total_steps: int  # optimiser steps over the whole run
    trainable_parameters: int  # at the first task, head included
    backbone: dict[str, Any]  # {"name", "depth", "width", "heads", "tokens", "patch_grid": [4, 4], "parameters"}
    environment: dict[str, Any]  # {"device", "device_name", "threads", "torch", "python", "plastiscope"}


@dataclass(frozen=True)
class TaskStarted(Event):
    """Training on a task begins."""

    classes: list[str]
    steps: int  # optimiser steps this task will take


@dataclass(frozen=True)
class StepEnded(Event):
    """One optimiser step."""

    losses: dict[str, float]  # named parts and their sum "total", nats (cross-entropy) or as the method defines
    learning_rates: dict[str, float]  # per parameter group
    proposed_norm: dict[str, float]  # Frobenius norm of the optimiser's own step, per projected parameter
    applied_norm: dict[str, float]  # the same after projection; equal where nothing is projected
    batch_accuracy: float  # percent, on this training batch, among the classes the loss sees
    seconds: float  # wall time of the step


@dataclass(frozen=True)
class EpochEnded(Event):
    """One pass over the task's training images."""

    losses: dict[str, float]  # means over the epoch's steps
    batch_accuracy: float  # percent, mean over the epoch's steps


@dataclass(frozen=True)
class TaskEnded(Event):
    """A task has been learned; what the method remembers of it has been stored."""

    seconds: float  # wall time of training on it
    kept_bytes: int  # what the method keeps between tasks, all of its state


# ---------------------------------------------------------------- what was measured


@dataclass(frozen=True)
class AccuracyMeasured(Event):
    """One row of an accuracy matrix: accuracy on every task so far, after training on task `clock.task`.

    `readout` says who predicts: "class-incremental" and "task-incremental" use the method's own head (over all classes
    seen, and over the task's own classes); "stored statistics" is linear discriminant analysis with class means and
    covariance stored when each task was learned; "recomputed statistics" is the same with statistics taken anew from
    all training images: its control. "zero-shot" rows are measured before training.
    """

    readout: str
    row: list[float | None]  # [T] percent; None = not measured (tasks not seen yet)


@dataclass(frozen=True)
class PredictionsMade(Event):
    """What the class-incremental head says of one task's probe images, after task `clock.task`."""

    evaluated: int  # task whose images these are
    predicted: np.ndarray  # [n] int16 class ids in order of arrival
    margin: np.ndarray  # [n] float32: logit of the true class minus the best other


@dataclass(frozen=True)
class ProbesChosen(Event):
    """A task's probe set: a few fixed test images that are looked at again after every later task."""

    images: np.ndarray  # [n, H, W, 3] uint8
    labels: np.ndarray  # [n] int16 class ids in order of arrival
    names: list[str]  # [n] class names


@dataclass(frozen=True)
class SpectrumMeasured(Event):
    """Eigenvalues of one layer's second moment accumulated over the tasks so far, and where the cut falls.

    `space` is "affinity" (side of width d: image queries pulled back through the key weights, what past tasks ask of a
    prompt) or "mixture" (side of M prompts: attention that past tasks pay to them).
    """

    layer: int
    space: str
    eigenvalues: np.ndarray  # [n] float32, descending, eigenvalues of a second moment = squared singular values
    nullity: int  # directions left free, out of n
    rule: str  # "elbow", "energy 0.95", ...
    used: bool  # whether training obeys it (False: measured for comparison only)
    protected_energy: float  # share of the spectrum's sum in the n − nullity protected directions
    effective_rank: float  # exp(entropy) of the normalised spectrum
    gain_free: float  # factor on an update along a free direction
    gain_protected: float  # factor on an update along a protected direction


@dataclass(frozen=True)
class UpdateMeasured(Event):
    """How far one layer's prompts moved in this task, and how much of it lies where past tasks look.

    residual = sqrt(tr(Δ C Δᵀ) / (‖Δ‖² λ₀(C))) on the affinity side and the same with Δᵀ on the mixture side: 0 =
    entirely in unused directions, 1 = entirely along the most used one. C is the moment of the tasks *before* this one;
    None for the first.
    """

    layer: int
    movement: float  # ‖ΔP‖_F / ‖P‖_F, net change over the task
    residual: dict[str, float | None]  # space → residual of the applied net change
    isotropic: dict[str, float | None]  # space → residual of a random direction, sqrt(tr C / (n λ₀)), the reference


@dataclass(frozen=True)
class PromptsDrifted(Event):
    """Prompt tokens at this moment (end of an epoch; epoch −1 = as initialised)."""

    prompts: np.ndarray  # [L, M, d] float16
    means: np.ndarray  # [L, M] float32, mean over channels
    deviations: np.ndarray  # [L, M] float32, population standard deviation over channels


@dataclass(frozen=True)
class AttentionCompared(Event):
    """Attention on task `probe_task`'s probe images now, against when that task had just been learned.

    "local" feeds each layer the inputs it had then (only that layer's prompts act); "end to end" lets upstream drift
    through. Total variation is ½ Σ|difference| per query, mean over images, heads and queries: 0 = same, 1 = disjoint.
    """

    probe_task: int
    total_variation_local: np.ndarray  # [L] float32
    total_variation: np.ndarray  # [L] float32, end to end
    output_drift: np.ndarray  # [L] float32, ‖F now − F then‖ / ‖F then‖ of block outputs, end to end
    prompt_mass: np.ndarray  # [L] float32, mean attention paid to prompts
    feature_drift: float  # mean of 1 − cos(feature now, feature then)
    class_attention: np.ndarray  # [n, L, H, N + M] float16: the class token's attention, prompts last


# ---------------------------------------------------------------- housekeeping


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """Everything needed to go on was saved."""

    folder: str  # below checkpoints/
    boundary: bool  # True: between two tasks


@dataclass(frozen=True)
class StateChanged(Event):
    """The run is now in `state`: running, paused, stopped, finished or failed."""

    STATES: ClassVar = ("running", "paused", "stopped", "finished", "failed")
    state: str
    reason: str = ""


@dataclass(frozen=True)
class CommandRefused(Event):
    """A command could not be obeyed."""

    command: str
    reason: str


@dataclass(frozen=True)
class RunFailed(Event):
    """The run ended with an error; what was measured before stays."""

    reason: str  # one sentence naming the thing, the value and the way out
    details: str = field(default="")  # the traceback, for the log view


KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        RunStarted,
        TaskStarted,
        StepEnded,
        EpochEnded,
        TaskEnded,
        AccuracyMeasured,
        PredictionsMade,
        ProbesChosen,
        SpectrumMeasured,
        UpdateMeasured,
        PromptsDrifted,
        AttentionCompared,
        CheckpointSaved,
        StateChanged,
        CommandRefused,
        RunFailed,
    )
}
