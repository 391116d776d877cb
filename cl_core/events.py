"""The events of a run.

An event is a frozen record with a `Clock` time stamp. Fields hold plain values (numbers,
strings, lists, dicts of these) or numpy arrays, never tensors, so a stored run opens without torch. The docstrings are
the glossary that the dashboard shows. Conventions: tasks, layers, heads and epochs count from 0 here and from 1 on the
screen; accuracies are in percent; NaN or None means *not measured*.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np

# Arrays by number of axes; stored arrays with another number are rejected (`cl_core.store.validation`).
Vector = Annotated[np.ndarray, 1]
Matrix = Annotated[np.ndarray, 2]
Array3D = Annotated[np.ndarray, 3]
Array4D = Annotated[np.ndarray, 4]


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


# ---------------------------------------------------------------- progress of a run


@dataclass(frozen=True)
class RunStarted(Event):
    """The run's plan, emitted once: method, stream, model and sizes."""

    tasks: list[
        dict[str, Any]
    ]  # per evaluation task: {"name": "T1", "classes": ["three", "seven"], "train": 260, "test": 100}
    scenario: str  # "class-incremental", "domain-incremental", ...
    trained_tasks: int  # how many training stages follow (1 for a joint run)
    total_steps: int  # optimiser steps over the whole run
    trainable_parameters: int  # at the first task, head included
    backbone: dict[str, Any]  # {"name", "depth", "width", "heads", "tokens", "patch_grid": [4, 4], "parameters"}
    environment: dict[str, Any]  # {"device", "device_name", "precision", "threads", "torch", "python", "plastiscope"}


@dataclass(frozen=True)
class PicturesSkipped(Event):
    """Skipped files of the stream and notes on how the rest was read. Emitted at most once, before training."""

    count: int
    files: list[str]  # the first hundred, each with its reason: "cat/7.jpg: not a picture, whatever it is called"
    notes: list[str] = field(default_factory=list)  # "test is the test half; not used: val"


@dataclass(frozen=True)
class AnswersKept(Event):
    """A frozen model's outputs are cached in memory by image (least recently used first out). Emitted once, before
    training."""

    model: str  # its name
    images: int  # maximum number of cached images
    bytes: int  # memory used at that maximum


@dataclass(frozen=True)
class TaskStarted(Event):
    """Training on a task starts."""

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
    applied_norm: dict[
        str, float
    ]  # the same after projection; equal where nothing is projected. Of many parameters one
    # norm a kind, all blocks together, named with * in place of the block
    batch_accuracy: float  # percent, on this training batch, among the classes the loss sees
    seconds: float  # wall time of the step


@dataclass(frozen=True)
class EpochEnded(Event):
    """One pass over the task's training images."""

    losses: dict[str, float]  # means over the epoch's steps
    batch_accuracy: float  # percent, mean over the epoch's steps


@dataclass(frozen=True)
class TaskEnded(Event):
    """A task has been learned and the method's state for it stored."""

    seconds: float  # wall time of training on it
    kept_bytes: int  # the method's whole state between tasks


# ---------------------------------------------------------------- measurements


@dataclass(frozen=True)
class AccuracyMeasured(Event):
    """One row of an accuracy matrix: accuracy on every task so far, after training on task `clock.task`.

    `readout` names the classifier: "class-incremental" and "task-incremental" use the method's own head (over all
    classes seen, and over the task's own classes); "stored statistics" is linear discriminant analysis with class means
    and
    covariance stored when each task was learned; "recomputed statistics" is the same with statistics recomputed from
    all training images: its control. If the task is known at test time, "task-incremental" rows have all columns,
    including tasks not learned yet, and the "zero-shot" row (task −1) is the same before any training.
    """

    readout: str
    row: list[float | None]  # [T] percent; None = not measured (tasks not seen yet)
    headline: bool = False  # whether this is the run's default readout (`diagnostics.headline`)


@dataclass(frozen=True)
class PredictionsMade(Event):
    """Predictions of the class-incremental head on one task's probe images, after task `clock.task`."""

    evaluated: int  # task whose images these are
    predicted: Vector  # [n] int16 class ids in order of arrival
    margin: Vector  # [n] float32: logit of the true class minus the best other


@dataclass(frozen=True)
class ProbesChosen(Event):
    """A task's probe set: a few fixed test images that are evaluated again after every later task."""

    images: Array4D  # [n, H, W, 3] uint8
    labels: Vector  # [n] int16 class ids in order of arrival
    names: list[str]  # [n] class names


@dataclass(frozen=True)
class ImagesStored(Event):
    """One task's test images as thumbnails: all, or evenly spaced ones. `ImagesClassified` has their predictions.
    Emitted once per task, before training."""

    images: Array4D  # [n, s, s, 3] uint8, at most 32 pixels a side
    rows: Vector  # [n] int32 indices among the task's test images, from 0
    labels: Vector  # [n] int16 class ids in order of arrival
    total: int  # test images that the task has


@dataclass(frozen=True)
class ImagesClassified(Event):
    """Predictions of each readout for one task's stored test images, after task `clock.task` (−1: before training).

    Readouts as in `AccuracyMeasured`; "refitted head" is that of `RefitMeasured`. A prediction is correct if it equals
    the label.
    """

    evaluated: int  # task whose images these are, in the order of its `ImagesStored`
    readouts: list[str]  # [r]
    predicted: Matrix  # [r, n] int16 class ids in order of arrival
    margins: Matrix  # [r, n] float16: score of the true class minus the best other competing class


@dataclass(frozen=True)
class RefitMeasured(Event):
    """Accuracy of a refitted readout with the task known, after task `clock.task`: measures the features alone.

    Linear discriminant analysis on the current features of the training images of one task, only its own classes
    competing (`cl_core.observers.lda_readout`). Measured for the task just learned at every boundary, and for earlier
    ones if their training images are processed again (`diagnostics.readout_control`).
    """

    row: list[float | None]  # [T] percent; None = not measured


@dataclass(frozen=True)
class OldTasksMeasured(Event):
    """A few fixed test images of all earlier tasks, right after a step of a new one (`cl_core.observers.old_tasks`)."""

    images: int
    accuracy: float  # percent correct, the method's own heads
    loss: float  # mean cross-entropy among the competing classes, nats
    every: int  # steps between two measurements


@dataclass(frozen=True)
class SpectrumMeasured(Event):
    """Eigenvalues of one layer's second moment accumulated over the tasks so far, and the position of the cut.

    `space` is "affinity" (side of width d: image queries of past tasks pulled back through the key weights) or
    "mixture" (side of M prompts: attention that past tasks pay to them).
    """

    layer: int
    space: str
    eigenvalues: Vector  # [n] float32, descending, eigenvalues of a second moment = squared singular values
    nullity: int  # directions left free, out of n
    rule: str  # "elbow", "energy 0.95", ...
    used: bool  # whether training uses it (False: measured for comparison only)
    protected_energy: float  # share of the spectrum's sum in the n − nullity protected directions
    effective_rank: float  # exp(entropy) of the normalised spectrum
    gain_free: float  # factor on an update along a free direction
    gain_protected: float  # factor on an update along a protected direction


@dataclass(frozen=True)
class UpdateMeasured(Event):
    """How far one layer's prompts moved in this task, and how much of that lies in directions used by past tasks.

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
class UpdateByDirection(Event):
    """A task's update decomposed along the directions of the spectrum before that task.

    Pages use it to predict how much another threshold would have let through. For moments: u_i = ‖Δ v_i‖², v_i the
    eigenvectors of the *previous* tasks; if a method projects both sides of a step, the other side is projected as in
    training. For weights (space "image.q"): entries of UᵀΔV, each squared and assigned to the more used of its two
    directions, so that the sum over indices ≥ k is the part within the last directions from k on.

    `source`: "steps", Σ of the optimiser's steps before projection; "gradients", Σ of gradients before projection, if
    gradients are projected; "net change", the net change over the task, if nothing is projected.
    """

    space: str  # as in SpectrumMeasured; for weights tower and part
    layers: list[int]  # [L]
    energies: Matrix  # [L, n] float32, squared parameter (or gradient) units, in the order of the spectrum
    source: str


@dataclass(frozen=True)
class PromptsDrifted(Event):
    """Prompt tokens at the end of an epoch (epoch −1: as initialised). Blocks without prompts have zeros, and NaN for
    the statistics."""

    prompts: Array3D  # [L, M, d] float16
    means: Matrix  # [L, M] float32, mean over channels
    deviations: Matrix  # [L, M] float32, population standard deviation over channels


@dataclass(frozen=True)
class AttentionCompared(Event):
    """Attention on task `probe_task`'s probe images now, against when that task had just been learned.

    "local" feeds each layer its inputs from then (only that layer's prompts act); "end to end" includes upstream drift.
    Total variation is ½ Σ|difference| per query, mean over images, heads and queries: 0 = same, 1 = disjoint.
    """

    probe_task: int
    total_variation_local: Vector  # [L] float32
    total_variation: Vector  # [L] float32, end to end
    output_drift: Vector  # [L] float32, ‖F now − F then‖ / ‖F then‖ of block outputs, end to end
    prompt_mass: Vector  # [L] float32, mean attention paid to prompts
    feature_drift: float  # mean of 1 − cos(feature now, feature then)
    class_attention: Array4D  # [n, L, H, N + M] float16: the class token's attention, prompts last


@dataclass(frozen=True)
class FeaturesCompared(Event):
    """Features of task `probe_task`'s probe images now, against when that task had just been learned. Also for models
    without attention."""

    probe_task: int
    feature_drift: float  # mean of 1 − cos(feature now, feature then)
    output_drift: float  # ‖F now − F then‖ / ‖F then‖ over all probe images


@dataclass(frozen=True)
class WeightSpectrumMeasured(Event):
    """Singular values of one attention projection before and after a task, and the directions of the task's change.

    The principal space is spanned by the first k singular directions of the weight *before* the task, the fewest whose
    squared singular values reach the share `rho`; the rest is called null. Leaks and overlaps are shares of norms.
    """

    name: str  # "image.3.q": tower, block from 0, q, k, v or o
    before: Vector  # [d] float32, singular values, descending
    after: Vector  # [d] float32
    rho: float
    principal: int  # k
    written: int  # directions the method may write to (the last ones); d − k where it has no rule
    bound: str  # the bound that limits `written`: "rho", "r_max", or "none" if the rule is only measured
    used: bool  # whether training uses the rule (False: measured for comparison only)
    effective_rank: float  # exp(entropy of σ/Σσ) after the task
    effective_rank_before: float
    leak_left: float | None  # ‖U_kᵀ ΔW‖ / ‖ΔW‖; None if the weight did not move
    leak_right: float | None  # ‖ΔW V_k‖ / ‖ΔW‖
    chance: float  # sqrt(k / d): the leak of a random change
    drift: float | None  # ‖U_k,0ᵀ (W − W_0)‖ / ‖W − W_0‖ against the pre-trained weight W_0
    overlap: float  # ‖U_k,0ᵀ U_k‖² / min(k_0, k): pre-trained and present principal space
    movement: float  # ‖ΔW‖ / ‖W‖, this task
    promoted: int  # singular values of the rewritten tail that now exceed σ_k
    seconds: float  # wall time of the decomposition


@dataclass(frozen=True)
class SubspaceMeasured(Event):
    """Directions used by a task's input embeddings, compared with those of pre-training and of earlier tasks.

    Embeddings are the tokens entering block `layer`, without prompts. A core is spanned by the fewest leading
    directions that hold the share `energy` of Σσ². At task −1: the pre-trained space itself, the reference. The width d
    is divided into four parts: "free pre-trained" and "conflicting" inside the pre-trained space, "occupied" and "free
    residual" outside it; finished tasks use the conflicting and occupied directions.
    """

    layer: int
    eigenvalues: Vector  # [d] float32, descending, of the embeddings' moment; sum 1
    energy: float  # ε
    rank: int  # K, directions of the core
    effective_rank: float  # exp(entropy of σ/Σσ)
    # [t + 1] float32, ‖Cᵀ C'‖² / min(K, K'): with the pre-trained space, then with every earlier task
    overlap: Vector
    chance: Vector  # [t + 1] float32, max(K, K') / d: the same of random spaces
    angles: Matrix  # [t + 1, K] float32, principal angles in radians, ascending; NaN beyond the smaller space
    budget: dict[str, int]  # directions in each of the four parts after this task; they add up to d
    gradient: dict[str, float]  # share of ‖g‖² in each part while this task was learned; empty: no gradient
    kept: float | None  # ‖g P‖² / ‖g‖²: share of the gradients that passed the projection
    leak: Vector  # [t] float32, ‖Δ C_s‖ / ‖Δ‖ of the prompts' net change in every earlier core
    leak_chance: Vector  # [t] float32, sqrt(K_s / d)
    projection: str  # the projection used in training: "none", "both", ...
    source: str  # the source of the pre-trained space


@dataclass(frozen=True)
class ForwardTransferMeasured(Event):
    """Accuracy of a probe on every task of the stream, learned or not, after task `clock.task` (−1: before training).

    The probe needs no training: an image is assigned to the class with the nearest mean feature, means computed from a
    few labelled training images per class with the current features. All classes of the stream compete.
    """

    row: list[float]  # [T] percent
    images_per_class: int  # maximum number of labelled images per mean
    seconds: float


@dataclass(frozen=True)
class ModalityGapMeasured(Event):
    """Images and captions from the pre-training distribution in the joint space, after task `clock.task` (−1: before
    training).

    Unit embeddings x_i of held-out images and t_i of their captions; Δ = mean x − mean t is the gap vector. Always
    the same pairs, which no task trains on.
    """

    length: float  # ‖Δ‖₂, in 0 to 2
    direction: float  # cos(Δ now, Δ before training)
    image_mean: float  # ‖mean x‖
    text_mean: float  # ‖mean t‖
    paired_distance: float  # mean ‖x_i − t_i‖
    edges: Vector  # [b + 1] float32, bins of the cosines
    positive: Vector  # [b] float32, share of pairs' cosines x_i · t_i per bin
    negative: Vector  # [b] float32, the same of x_i · t_j, i ≠ j
    positive_mean: float
    negative_mean: float
    separation: float  # (μ₊ − μ₋) / sqrt((sd₊² + sd₋²) / 2)
    auc: float  # chance that a pair's cosine exceeds a non-pair's, 0 to 1
    linear_probe: float  # percent: linear separability of images and texts (cross-validated logistic regression)
    image_to_text: dict[str, float]  # percent: {"1": R@1, "5": R@5}
    text_to_image: dict[str, float]
    pairs: int  # pool size of the retrieval
    general_accuracy: float  # percent, zero-shot on the classes of pre-training
    # [n, 2] float16 on two fixed axes: along the gap before training, and the largest spread across it
    images: Matrix
    texts: Matrix  # [n, 2] float16: t_i on the same axes


@dataclass(frozen=True)
class SimilaritiesMeasured(Event):
    """Cosines between one task's test images and its class texts, after task `clock.task` (−1: before training)."""

    evaluated: int  # task of these images and classes
    positive: float  # mean x_i · t_(own class)
    negative: float  # mean x_i · t_(other classes of the task)
    gap: float  # ‖mean x − mean t‖₂


@dataclass(frozen=True)
class EpochsChosen(Event):
    """Number of epochs for every task, determined in a trial run on the first task, whose weights are discarded."""

    epochs: int
    similarity: list[float]  # mean logit of non-matching pairs: before, and after each trial epoch
    positive: list[float]  # the same of matching pairs
    threshold: float  # relative change of `similarity` that ends the trial


@dataclass(frozen=True)
class SelectionMeasured(Event):
    """Selections from a pool of prompts by the test images of all tasks learned so far, after task `clock.task`.

    An image selects a few entries, or a mixture of all. It selected its own class's (task's) entry if the entries of
    that class (task) together have more weight than those of any other.
    """

    layer: int  # block whose selection this is; -1: one selection for the whole network
    of: str  # the owner of an entry: "class", "task", or "" if entries have no owner
    # [C, E] float32, share of the images of class c (in order of arrival) that selected entry e: a row sums to the
    # number of entries per image. For mixtures: mean share of entry e in the mixture; a row sums to 1
    counts: Matrix
    owners: list[int]  # [E] the class or task that owns the entry; -1: none
    accuracy: float | None  # percent of images that selected their own class's (task's) entry; None without owners


@dataclass(frozen=True)
class StageEnded(Event):
    """A stage of training that a method runs outside the engine's steps, before or after them."""

    stage: str  # "class keys", "replay into the head", "first session", "classifier alignment", "refinement", …
    losses: dict[str, list[float]]  # named part → mean over the steps of each epoch, nats or as the method defines
    seconds: float  # wall time of the stage


@dataclass(frozen=True)
class KeysMoved(Event):
    """Class keys in a joint space of images and texts, after those of task `clock.task` were learned."""

    kept: Vector  # [C] float32: cos(key now, key when its own task had been learned)
    learned: Vector  # [C] float32: cos(key now, embedding of the class's sentence without learned words)
    nearest: Vector  # [C] float32: largest cosine with the key of another class


@dataclass(frozen=True)
class IntraClassMeasured(Event):
    """Similarity of images within and between classes, on a task's training images, one value per class.

    `space`: "query" is the frozen query model, "features" are the inputs of the head after the task.
    """

    space: str
    concentration: Vector  # [c] float32: ‖mean of unit embeddings‖, 1 = all point the same way
    within: Vector  # [c] float32: mean cosine of two images of the class
    between: Vector  # [c] float32: mean cosine with images of the task's other classes; NaN for a single class
    nearest_mean: float  # percent of images that are nearest to the mean of their own class


@dataclass(frozen=True)
class ResidualMeasured(Event):
    """Size of a method's additions to the attention branches of a frozen ViT, on a task's training images after the
    task.

    The branch without the addition is computed on the same inputs, so additions in earlier blocks count as input.
    """

    ratio: Vector  # [L] float32: mean ‖branch with − branch without‖ over mean ‖branch without‖, per token
    stream: Vector  # [L] float32: the same over the mean norm of the tokens that enter the block


@dataclass(frozen=True)
class MixtureFitted(Event):
    """How well a stored mixture of Gaussians models the features of one class.

    Densities are those of mixtures fitted to four fifths of the class's images, on the last fifth; the points are drawn
    from the stored mixture, which was fitted to all images. The axes are the first two principal ones of the real
    features.
    """

    label: int  # class id in order of arrival
    components: int  # of the stored mixture
    mixture: float  # mean log density of a held-out image per dimension, nats
    gaussian: float  # the same of a single Gaussian with diagonal covariance
    real: Matrix  # [n, 2] float16, at most 200 images
    sampled: Matrix  # [n, 2] float16, as many draws from the mixture
    single: Matrix  # [n, 2] float16, as many draws from the single Gaussian
    shown: float  # share of the variance of the real features on the two axes


@dataclass(frozen=True)
class TradeOffMeasured(Event):
    """Benefit and cost of protecting more directions of a layer's inputs, after this task.

    The cut minimises the difference of the two, both dimensionless: energy left unprotected times tasks learned, and
    the share of directions granted times the method's weight for it.
    """

    layer: int
    space: str  # as in SpectrumMeasured
    stability_loss: Vector  # [d] float32: with the first i + 1 directions protected
    plasticity_gain: Vector  # [d] float32
    protected: int  # directions the method protects: the minimiser and all before it, two at least


@dataclass(frozen=True)
class ConceptorMeasured(Event):
    """How much the tasks so far use each direction of a layer's inputs, from 0 (free) to 1 (fully used)."""

    layer: int
    eigenvalues: Vector  # [d] float32, descending, of the conceptor of all tasks so far
    capacity: float  # their mean, 0 to 1
    own: float  # the same of the conceptor of this task's inputs alone
    aperture: float  # of that one: a direction is half used if the inputs' eigenvalue is 1/aperture²
    threshold: float  # eigenvalues below this were set to 0


@dataclass(frozen=True)
class InputsSurveyed(Event):
    """Overlap of a new task's inputs with the past in one layer, before the first step on it."""

    layer: int
    capacity: float  # of the conceptor of the new task's inputs, 0 to 1
    shared: float  # capacity of (past AND coming) / capacity of the past, 0 to 1
    threshold: float  # above this the published method remixes the shared directions


# ---------------------------------------------------------------- state of the run


@dataclass(frozen=True)
class CheckpointSaved(Event):
    """A checkpoint was saved."""

    folder: str  # below checkpoints/
    boundary: bool  # True: between two tasks


@dataclass(frozen=True)
class KnobTurned(Event):
    """A setting of the method was changed during training; `clock.step` is the first step under the new value."""

    name: str
    old: Any  # a number, switch or word
    new: Any


@dataclass(frozen=True)
class RunForked(Event):
    """Start of a fork: everything before was trained and measured by the parent run."""

    parent: str  # the parent run's name
    after_task: int  # tasks that were trained there
    changed: dict[str, Any]  # setting → [its value in the parent, its value here]
    total_steps: int  # optimiser steps of this whole run, those of the parent included


@dataclass(frozen=True)
class StateChanged(Event):
    """The run is now in `state`: queued (its device is used by another run), running, paused, stopped, finished or
    failed."""

    STATES: ClassVar = ("queued", "running", "paused", "stopped", "finished", "failed")
    state: str
    reason: str = ""


@dataclass(frozen=True)
class CommandRefused(Event):
    """A command was rejected."""

    command: str
    reason: str


@dataclass(frozen=True)
class MeasurementStopped(Event):
    """A measurement failed and is disabled from here on; training continues without it."""

    measurement: str  # "probe", "prompt spectra", …
    reason: str  # one sentence
    details: str = ""  # the traceback


@dataclass(frozen=True)
class PluginMeasured(Event):
    """A measurement by an observer from a plug-in. Drawn automatically: lines over tasks, or over steps if a task has
    several of one name."""

    name: str  # what was measured: "dead units", in percent
    values: dict[str, float]  # by part: {"layer 1": 3.5, "layer 2": 0.0}


@dataclass(frozen=True)
class RunFailed(Event):
    """The run ended with an error; earlier measurements are kept."""

    reason: str  # one sentence with the problem, the value and a fix
    details: str = field(default="")  # the traceback, for the log view
    fits: int = field(default=0)  # if out of memory: the batch size that succeeded when tried afterwards


KINDS: dict[str, type[Event]] = {
    kind.__name__: kind
    for kind in (
        RunStarted,
        PicturesSkipped,
        AnswersKept,
        TaskStarted,
        StepEnded,
        EpochEnded,
        TaskEnded,
        AccuracyMeasured,
        PredictionsMade,
        ProbesChosen,
        ImagesStored,
        ImagesClassified,
        RefitMeasured,
        OldTasksMeasured,
        SpectrumMeasured,
        UpdateMeasured,
        UpdateByDirection,
        PromptsDrifted,
        AttentionCompared,
        FeaturesCompared,
        WeightSpectrumMeasured,
        SubspaceMeasured,
        ForwardTransferMeasured,
        ModalityGapMeasured,
        SimilaritiesMeasured,
        EpochsChosen,
        SelectionMeasured,
        StageEnded,
        KeysMoved,
        IntraClassMeasured,
        ResidualMeasured,
        MixtureFitted,
        TradeOffMeasured,
        ConceptorMeasured,
        InputsSurveyed,
        CheckpointSaved,
        KnobTurned,
        RunForked,
        StateChanged,
        CommandRefused,
        MeasurementStopped,
        PluginMeasured,
        RunFailed,
    )
}
