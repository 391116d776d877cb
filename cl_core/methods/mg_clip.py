"""MG-CLIP: stops training before the modality gap moves far, and adds a classifier in image space.

Parts: `clip_method`, `clip_weights`, `visual_head`.

Huang et al. Mind the Gap: Preserving and Compensating for the Modality Gap in CLIP-Based Continual Learning. ICCV 2025,
arXiv:2507.09118. Written from the equations; where paper and release leave room we follow the release.
Shapes: B images, C classes, e joint width, w width of a tower; A [r, w], B [w, r]; W [C, e].

    k = W_k h + (alpha/r) B_k A_k h,  v alike, in every block of both towers; A Xavier-uniform, B = 0 at the start of
    the run; the same A and B are trained on through all tasks:
    L = CE(s x · t_c)  over the current task's classes only (local); no replay, teacher or other term
    MGP  neg = mean over batches of mean_i 1/(C−1) Σ_{c≠y_i} s x_i · t_c      on the first task's training images
         E = max(1, epochs completed before the first with |neg_0 − neg_e| / |neg_0| > 0.1), 10 if there is none; found
         in a trial run whose weights are discarded, then every task gets E epochs
    MGC  q_c = x · w_c/‖w_c‖ (no temperature), w_c = mean of x over the class, tuned 3 epochs by local CE, towers frozen
         score = ( softmax(softmax(Z)) + 4 softmax(q) ) / 5        the second softmax is the release's (`fusion`)

Our choices: the learning rate within a task is the engine's schedule (release: a cosine per epoch that ends at 1 %,
used here in the trial, over 10 epochs); neg is always measured on the same batches, so only the weights differ.

The paper is class-incremental. Multi-domain streams are our adaptation: only the classes of the image's domain compete,
in text and visual head alike; domains not yet learned have no visual head and are scored by text only; E is determined
on the first domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, cast, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.io_types import Adaptation, LowRank
from cl_core.config import ConfigError, setting
from cl_core.events import Clock, EpochsChosen, Event
from cl_core.methods.method import Collector, ParameterGroup, new_optimiser
from cl_core.methods.parts.clip_method import ClipConfig, ClipMethod
from cl_core.methods.parts.clip_weights import key
from cl_core.methods.parts.visual_head import VisualHead, floored_cosine, fused_score
from cl_core.streams.stream import Batch, TaskStream, mixed_seed

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class MgClipConfig(ClipConfig):
    """Defaults are the release's for CIFAR-100 in ten tasks and ViT-B/16."""

    rate: float = setting(1e-3, low=0.0, high=10.0, help="peak learning rate of A and B")
    label_smoothing: float = setting(0.0, low=0.0, high=0.99, help="share of the target spread over all classes")
    rank: int = setting(8, low=1, high=1024, fixed="sets shapes", help="rank r of a branch, at most a tower's width")
    alpha: float = setting(1.0, low=0.0, high=1000.0, help="branches are scaled by alpha / r")
    epoch_rule: str = setting(
        "measured",
        choices=("measured", "fixed"),
        help="measured: a trial run on the first task sets the epochs of every task, training.epochs is only what is "
        "planned before; fixed: training.epochs",
    )
    gap_threshold: float = setting(
        0.1, low=0.0, high=10.0, help="the trial ends when the mean non-matching logit has moved by this share"
    )
    max_epochs: int = setting(
        10, low=1, high=1000, help="the trial's maximum length, and the epochs if the threshold is not reached"
    )
    head_rate: float = setting(5e-4, low=0.0, high=10.0, help="initial learning rate of the visual head")
    head_epochs: int = setting(3, low=0, high=1000, help="epochs of the visual head per task; 0: plain class means")
    head_batch: int = setting(64, low=1, high=4096, help="images per step of the visual head")
    fusion: str = setting(
        "double",
        choices=("double", "single", "text", "visual"),
        live=True,
        help="double: softmax applied again to text probabilities (released); single: once; or one classifier only",
    )
    visual_weight: float = setting(4.0, low=0.0, high=1e4, live=True, help="weight of the visual head; the text's is 1")


@final
class MgClip(ClipMethod):
    """Chooses the number of epochs from the modality gap; a visual head compensates for shorter training."""

    Config = MgClipConfig

    found_epochs: Tensor

    def __init__(self, config: MgClipConfig, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        self.maps = backbone.attention_maps(parts="kv")
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        generator = torch.Generator().manual_seed(mixed_seed(seed, "branches"))
        for name in self.maps:
            width = backbone.map_weight(name).shape[0]
            rank = min(config.rank, width)
            down = nn.init.xavier_uniform_(torch.empty(rank, width), generator=generator)
            self.down[key(name)], self.up[key(name)] = nn.Parameter(down), nn.Parameter(torch.zeros(width, rank))
        self.visual = VisualHead(backbone.joint_width)
        self.register_buffer("found_epochs", torch.tensor(0))  # E; 0: not determined yet

    def setup(self, stream: TaskStream, backbone: ClipBackbone) -> None:
        super().setup(stream, backbone)
        if self.config.epoch_rule == "measured" and len(stream[0].classes) < 2:
            raise ConfigError(
                "epoch_rule=measured needs two classes in the first task, because with one there are no non-matching "
                "pairs; choose fewer tasks or epoch_rule=fixed"
            )

    def begin_task(self, index: int, classes: range) -> None:
        """Add rows for the new classes; A and B continue from their values."""
        super().begin_task(index, classes)
        self.visual.add_classes(classes.stop)

    def groups(self) -> list[ParameterGroup]:
        trained = {f"{side}.{key(n)}": getattr(self, side)[key(n)] for n in self.maps for side in ("down", "up")}
        return [ParameterGroup("branches", trained, self.config.rate, self.config.weight_decay, "adamw")]

    def adaptation(self, *, training: bool = False) -> Adaptation:
        pairs = {name: (self.down[key(name)], self.up[key(name)]) for name in self.maps}
        return Adaptation(branches={n: LowRank(a, b, self.config.alpha / len(a)) for n, (a, b) in pairs.items()})

    # ------------------------------------------------------------ MGP: how many epochs

    def epochs(self, planned: int) -> int:
        """E once determined, else the planned number."""
        return planned if self.config.epoch_rule == "fixed" else int(self.found_epochs) or planned

    def prepare_task(
        self, backbone: ClipBackbone, epoch: Callable[[int], Iterable[Batch]], clock: Clock
    ) -> list[Event]:
        """MGP on the first task; only E is kept."""
        if self.config.epoch_rule == "fixed" or self.found_epochs:
            return []
        before = [p.detach().clone() for p in self.parameters()]
        measured, changes = [self.pair_means(backbone, epoch(0))], []
        try:
            optimiser = new_optimiser(self.groups())
            for number in range(self.config.max_epochs):
                for group in optimiser.param_groups:
                    group["lr"] = self.config.rate * floored_cosine(number / self.config.max_epochs)
                for batch in epoch(number):
                    optimiser.zero_grad(set_to_none=True)
                    cast(Tensor, sum(self.loss(backbone, batch).parts.values())).backward()
                    optimiser.step()
                measured.append(self.pair_means(backbone, epoch(0)))
                changes.append(relative_change(measured[0][1], measured[-1][1]))
                if not changes[-1] <= self.config.gap_threshold:  # NaN as well: training has diverged
                    break
        finally:
            with torch.no_grad():
                for parameter, value in zip(self.parameters(), before, strict=True):
                    parameter.copy_(value)
                    parameter.grad = None
        self.found_epochs.fill_(epochs_before(changes, self.config.gap_threshold))
        positive, negative = (list(means) for means in zip(*measured, strict=True))
        return [EpochsChosen(clock, int(self.found_epochs), negative, positive, self.config.gap_threshold)]

    @torch.no_grad()
    def pair_means(self, backbone: ClipBackbone, batches: Iterable[Batch]) -> tuple[float, float]:
        """(pos, neg) of the current task: means of batch means; a short last batch has full weight."""
        adaptation, found = self.adaptation(), []
        texts = self.task_texts(backbone, adaptation)
        for batch in batches:
            x = F.normalize(backbone(batch.images, adaptation=adaptation).pooled, dim=1)
            found.append(pair_logits(self.scale * x @ texts.mT, batch.labels - self.classes.start))
        positive, negative = torch.stack(found).mean(dim=0).tolist()
        return positive, negative

    # ------------------------------------------------------------ MGC: a head in image space

    def collectors(self, backbone: ClipBackbone) -> list[Collector]:
        """A pass over the images for their pooled features, the head's data; no inner activations."""
        return [Collector((), lambda features, batch: self.visual.see(features.pooled, batch.labels))]

    def end_task(self, clock: Clock) -> list[Event]:
        c, seed = self.config, mixed_seed(self.seed, "visual head", clock.task)
        self.visual.learn(self.classes, rate=c.head_rate, epochs=c.head_epochs, batch=c.head_batch, seed=seed)
        return []

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        """The fused score [B, |classes|]; only Z = s x · t_c if a class has no row in the visual head yet."""
        text, fusion = super().classify(pooled, classes), self.config.fusion
        if fusion == "text" or not self.visual.knows(classes):
            return text
        visual = self.visual(pooled, classes)
        if fusion == "visual":
            return visual
        return fused_score(text, visual, self.config.visual_weight, double=fusion == "double")


def pair_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean logit of matching pairs, and of non-matching ones: [2], of Z [B, C]."""
    matching = logits.gather(1, targets[:, None]).squeeze(1)
    others = (logits.sum(dim=1) - matching) / (logits.shape[1] - 1)
    return torch.stack([matching.mean(), others.mean()])


def relative_change(first: float, now: float) -> float:
    """|first − now| / |first|; absolute value in the denominator because small towers may start with a negative
    mean."""
    return abs(first - now) / max(abs(first), 1e-12)


def epochs_before(changes: Sequence[float], threshold: float) -> int:
    """E of the relative changes after epochs 1, 2, …: those completed before the first violation, at least 1."""
    return max(1, sum(1 for _ in takewhile(lambda change: change <= threshold, changes)))
