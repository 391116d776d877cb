"""GNSP: gradients of CLIP's image MLPs are projected to low-energy directions of past tasks' features.

Parts: `clip_method`, `clip_weights`, `feature_covariance`, `reference_pairs`.

Gradient Null Space Projection, arXiv:2507.19839; released code Ppp-Ttt/GNSP. Where the two differ we follow the code.
Shapes: L image blocks of width d; c_fc W [4d, d], c_proj W [d, 4d], image projection A [d, e]; P, M square on a layer's
input side.

    task 1      every parameter but the logit scale is trained, nothing is projected
    task t ≥ 2  2L + 1 matrices are trained: c_fc and c_proj of every image block, and the image projection

    P = N Nᵀ,   N = [v_{k+1} … v_d] of M_{t−1},   k = min { k : Σ_{j>k} λ_j < ρ Σ λ }    (M: see `feature_covariance`)
    ∇W ← ∇W P   for y = W x + b,      ∇A ← P ∇A   for y = x A                              before AdamW sees it
    L = CE_ε + w_KD L_KD + w_MAP L_MAP                                                     (see `reference_pairs`)

"Null space" is a low-energy space: up to the share ρ of past features' energy remains. AdamW rescales every entry of a
projected gradient, so the step leaves the space by `UpdateMeasured.leak`. `project="update"` (ours) maps the final step
instead, which stays inside; `"shrink"` and `"none"` are controls. Reference pairs come from the stream's pre-training
distribution instead of ImageNet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

import torch
from torch import Tensor

from cl_core.backbones.io_types import Adaptation
from cl_core.config import ConfigError, setting
from cl_core.events import Clock, Event
from cl_core.linalg import rms_gain, tail_projector
from cl_core.methods.method import Collector, Constraint, Loss, ParameterGroup
from cl_core.methods.parts.clip_method import ClipConfig, ClipMethod
from cl_core.methods.parts.clip_weights import ClipWeights
from cl_core.methods.parts.feature_covariance import InputMoments, Layer, projected_layers
from cl_core.methods.parts.reference_pairs import ReferencePairs, alignment, distillation
from cl_core.streams.stream import Batch, TaskStream

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class GnspConfig(ClipConfig):
    """Defaults are the release's for eleven data sets and ViT-B/16."""

    rho: float = setting(
        0.15, low=0.0, high=1.0, live=True, help="upper bound on the share of past features' energy in the free space"
    )
    project: str = setting(
        "gradient",
        choices=("gradient", "update", "shrink", "none"),
        help="project the gradient (published) or the step (update: no leak); shrink: undirected control",
    )
    accumulation: str = setting(
        "released",
        choices=("released", "equal", "fading"),
        fixed="decides what was collected",
        help="released: tasks have equal weight in MLP layers and decay in the image projection; or one rule for all",
    )
    first_task: str = setting(
        "everything",
        choices=("everything", "projected layers"),
        fixed="decides which weights are kept",
        help="what the unprotected first task trains: all of CLIP (published), or only what later tasks train too",
    )
    distillation: float = setting(
        1.0, low=0.0, high=1e4, help="weight of the distillation from the pre-trained model (0: none)"
    )
    alignment: float = setting(0.75, low=0.0, high=1e4, help="weight of the contrastive loss on reference pairs (MAP)")
    temperature: float = setting(2.0, low=0.01, high=100.0, help="τ of the distillation")
    reference_images: int = setting(1000, low=2, high=100_000, help="reference pairs, drawn again for every task")
    reference_batch: int = setting(64, low=2, high=4096, help="reference pairs per step, in a fixed order, cycled")
    collect_batch: int = setting(
        16, low=1, high=4096, help="batch size for collecting moments; each batch has equal weight"
    )


@final
class GNSP(ClipMethod):
    """Projects gradients after an unprotected first task; two losses preserve the pre-trained joint space."""

    Config = GnspConfig

    steps: Tensor

    def __init__(self, config: GnspConfig, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.layers = projected_layers(backbone)
        names = [layer.parameter for layer in self.layers]
        self.clip = ClipWeights(backbone, backbone.parameter_names() if config.first_task == "everything" else names)
        fading = {"released": ["visual.proj"], "equal": [], "fading": names}[config.accumulation]
        self.fading = fading
        if config.project != "none":
            self.moments = InputMoments(backbone, self.layers, fading)
        self.register_buffer(
            "steps", torch.zeros((), dtype=torch.int64)
        )  # of this task: position in the cycle of reference pairs
        self._task = -1
        self.projectors: dict[str, Tensor] = {}  # derived: P by parameter, from the second task on
        self._maps: dict[str, Callable[[Tensor], Tensor]] = {}  # derived: the maps on a step or gradient
        self._references: ReferencePairs | None = None  # derived: the current task's

    def setup(self, stream: TaskStream, backbone: ClipBackbone) -> None:
        super().setup(stream, backbone)
        if self.config.distillation + self.config.alignment > 0 and stream.references is None:
            lacks = f"stream {stream.name} has no pairs of the pre-training world"
            raise ConfigError(f"{lacks}; choose micro-mtil, or set distillation=0 and alignment=0")
        self._stream = stream

    def begin_task(self, index: int, classes: range) -> None:
        super().begin_task(index, classes)
        self._task = index
        self.text_is_trained = index == 0 and self.config.first_task == "everything"
        self.steps.zero_()
        self.zero_grad(set_to_none=True)  # clears gradients of parameters that are frozen after the first task

    def refresh(self) -> None:
        """P of every layer from M, from the second task on; references are drawn when first needed."""
        super().refresh()
        self._references, self.projectors, self._maps = None, {}, {}
        if self.config.project == "none" or not 0 < int(self.moments.tasks) == self._task:
            return
        for layer in self.layers:
            name = layer.parameter
            projector = tail_projector(self.moments[name], self.config.rho, basis=self.moments.basis(name))
            self.projectors[name] = projector
            self._maps[f"clip.{name.replace('.', '/')}"] = self._map(layer, projector)

    def _map(self, layer: Layer, projector: Tensor) -> Callable[[Tensor], Tensor]:
        if self.config.project == "shrink":
            gain = rms_gain(projector)  # sqrt(ν / d)
            return lambda step: gain * step
        return lambda step: layer.on_input(step, projector)

    def constraints(self) -> dict[str, Constraint]:
        on = "gradient" if self.config.project == "gradient" else "step"
        return {name: Constraint(**{on: change}) for name, change in self._maps.items()}

    def groups(self) -> list[ParameterGroup]:
        names = self.clip.names if self.text_is_trained else [layer.parameter for layer in self.layers]
        trained = self.clip.train_only(names, "clip")
        return [ParameterGroup("weights", trained, self.config.rate, self.config.weight_decay, "adamw")]

    def adaptation(self, *, training: bool = False) -> Adaptation:
        return Adaptation(self.clip.weights())

    def loss(self, backbone: ClipBackbone, batch: Batch) -> Loss:
        """The task's cross-entropy and the losses on reference pairs, weights included."""
        loss = super().loss(backbone, batch)
        if self.config.distillation or self.config.alignment:
            loss.parts.update(self.reference_losses(backbone, self.adaptation(training=True)))
        self.steps += 1
        return loss

    def reference_losses(self, backbone: ClipBackbone, adaptation: Adaptation) -> dict[str, Tensor]:
        """w_KD (KD(V, U) − KD(V, V)) and w_MAP L_MAP on the current reference batch; terms of weight 0 are omitted."""
        pairs, parts = self.references(backbone, adaptation), {}
        turn = int(self.steps) % pairs.batches
        now = pairs.logits(backbone, turn, adaptation)
        if weight := self.config.distillation:
            parts["distillation"] = weight * distillation(pairs.teacher[turn], now, self.config.temperature)
        if weight := self.config.alignment:
            labels = pairs.labels[pairs.rows(turn)]
            parts["alignment"] = weight * alignment(now, labels, self.config.label_smoothing)
        return parts

    def references(self, backbone: ClipBackbone, adaptation: Adaptation) -> ReferencePairs:
        """This task's pairs with the teacher's outputs and, if the text tower is frozen, their text embeddings."""
        if self._references is None:
            assert self._stream.references is not None  # `setup` refuses such a stream
            drawn = self._stream.references(self._task, self.config.reference_images)
            prepare, size = self._stream[self._task].prepare, self.config.reference_batch
            pairs = ReferencePairs(backbone, drawn, prepare, size, self.scale)
            if self.config.distillation:
                pairs.ask_teacher(backbone)
            if not self.text_is_trained:
                pairs.keep_texts(backbone, adaptation)
            self._references = pairs
        return self._references

    def collectors(self, backbone: ClipBackbone) -> list[Collector]:
        if self.config.project == "none":
            return []
        taps = tuple(layer.tap for layer in self.layers)
        return [Collector(taps, lambda features, batch: self.moments.see(features), self.config.collect_batch)]

    def end_task(self, clock: Clock) -> list[Event]:
        if self.config.project != "none":
            self.moments.fold_task()
        return []
