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
    # Frobenius norms per measured parameter: of the optimiser's own step, or, where a method projects the gradient
    # instead, of the gradient
    proposed_norm: dict[str, float]
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
    all training images: its control. Where a test picture comes with its task, "task-incremental" rows have all
    columns, also of tasks not learned yet, and the "zero-shot" row (task −1) is the same before any training.
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
    # space → share ‖Δ (I − P)‖ / ‖Δ‖ of the net change that lies in the protected directions; chance sqrt(k / n)
    leak: dict[str, float | None] = field(default_factory=dict)


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


@dataclass(frozen=True)
class WeightSpectrumMeasured(Event):
    """Singular values of one attention projection before and after a task, and where the task's change of it lies.

    The principal space is spanned by the first k singular directions of the weight *before* the task, the fewest whose
    squared singular values reach the share `rho`; the rest is called null. Leaks and overlaps are shares of norms.
    """

    name: str  # "image.3.q": tower, block from 0, q, k, v or o
    before: np.ndarray  # [d] float32, singular values, descending
    after: np.ndarray  # [d] float32
    rho: float
    principal: int  # k
    written: int  # directions the method may write to (the last ones); d − k where it has no rule
    bound: str  # what limits `written`: "rho", "r_max", or "none" where the rule is only measured
    used: bool  # whether training obeys the rule (False: measured for comparison only)
    effective_rank: float  # exp(entropy of σ/Σσ) after the task
    effective_rank_before: float
    leak_left: float | None  # ‖U_kᵀ ΔW‖ / ‖ΔW‖; None where the weight did not move
    leak_right: float | None  # ‖ΔW V_k‖ / ‖ΔW‖
    chance: float  # sqrt(k / d): the leak of a random change
    drift: float | None  # ‖U_k,0ᵀ (W − W_0)‖ / ‖W − W_0‖ against the pre-trained weight W_0
    overlap: float  # ‖U_k,0ᵀ U_k‖² / min(k_0, k): pre-trained and present principal space
    movement: float  # ‖ΔW‖ / ‖W‖, this task
    promoted: int  # singular values of the rewritten tail that now exceed σ_k
    seconds: float  # wall time of the decomposition


@dataclass(frozen=True)
class ModalityGapMeasured(Event):
    """Pictures and captions of the pre-training world in the joint space, after task `clock.task` (−1: before
    training).

    Unit embeddings x_i of held-out pictures and t_i of their captions; Δ = mean x − mean t is the gap vector. All on
    the same pairs, which no task trains on.
    """

    length: float  # ‖Δ‖₂, in 0 to 2
    direction: float  # cos(Δ now, Δ before training)
    image_mean: float  # ‖mean x‖
    text_mean: float  # ‖mean t‖
    paired_distance: float  # mean ‖x_i − t_i‖
    edges: np.ndarray  # [b + 1] float32, bins of the cosines
    positive: np.ndarray  # [b] float32, share of pairs' cosines x_i · t_i per bin
    negative: np.ndarray  # [b] float32, the same of x_i · t_j, i ≠ j
    positive_mean: float
    negative_mean: float
    separation: float  # (μ₊ − μ₋) / sqrt((sd₊² + sd₋²) / 2)
    auc: float  # chance that a pair's cosine exceeds a non-pair's, 0 to 1
    linear_probe: float  # percent: how often a line tells pictures from texts (cross-validated logistic regression)
    image_to_text: dict[str, float]  # percent: {"1": R@1, "5": R@5}
    text_to_image: dict[str, float]
    pairs: int  # pool size of the retrieval
    general_accuracy: float  # percent, zero-shot on the pre-training world's own classes
    # [n, 2] float16 on two fixed axes: along the gap before training, and the largest spread across it
    images: np.ndarray
    texts: np.ndarray  # [n, 2] float16: t_i on the same axes


@dataclass(frozen=True)
class SimilaritiesMeasured(Event):
    """Cosines between one task's test pictures and its class texts, after task `clock.task` (−1: before training)."""

    evaluated: int  # task whose pictures and classes these are
    positive: float  # mean x_i · t_(own class)
    negative: float  # mean x_i · t_(other classes of the task)
    gap: float  # ‖mean x − mean t‖₂


@dataclass(frozen=True)
class EpochsChosen(Event):
    """How many passes every task gets, found by a rehearsal on the first task whose weights were thrown away."""

    epochs: int
    similarity: list[float]  # mean logit of non-matching pairs: before, and after each rehearsed epoch
    positive: list[float]  # the same of matching pairs
    threshold: float  # relative change of `similarity` that ends the rehearsal


@dataclass(frozen=True)
class SelectionMeasured(Event):
    """What the test images of all tasks learned so far took from a pool of prompts, after task `clock.task`."""

    layer: int  # block whose selection this is; -1: one selection for the whole network
    of: str  # what an entry stands for: "class", "task", or "" where entries belong to nobody
    counts: np.ndarray  # [C, E] float32, share of the images of class c (in order of arrival) that took entry e; a row
    # sums to the number of entries taken per image
    owners: list[int]  # [E] the class or task an entry stands for; -1 where to nobody
    accuracy: float | None  # percent of images that took their own class's (task's) entry; None where there is none


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
        WeightSpectrumMeasured,
        ModalityGapMeasured,
        SimilaritiesMeasured,
        EpochsChosen,
        SelectionMeasured,
        CheckpointSaved,
        StateChanged,
        CommandRefused,
        RunFailed,
    )
}
