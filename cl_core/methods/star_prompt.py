"""STAR-Prompt: a frozen CLIP selects the class of an image; that class's vectors are added inside a frozen ViT.

Parts: `class_prompts`, `clip_queries`, `feature_stats`, `gaussian_mixtures`, `replay_head`,
`selection`, `semantic_residuals`.

Menabue et al. Semantic Residual Prompts for Continual Learning. ECCV 2024, arXiv:2403.06870. Written from the equations
and the release's behaviour; where the two differ we follow the release, with a setting for the other.
Shapes: B images, n classes begun, c of the current task; L blocks of width D; d joint width of CLIP.

    before a task  words u_c → keys k_c (`class_prompts`), then balanced against all classes on samples from mixtures of
                   CLIP embeddings (`gaussian_mixtures`); then the keys are fixed
    its steps      z = CLIP's embedding of the same images → ρ_l per block (`semantic_residuals`) → class token
                   L = CE over current classes + λ₂ (crowding of the new vectors)          Adam, no decay
    after it       mixtures of the class tokens, and a balanced copy of the head (`replay_head`), used for prediction

CLIP is the method's companion: frozen, not part of its state. Its image tower runs once per image (`clip_queries`).

Our choices: a class's name is the stream's phrase, "X the digit one."; the ViT's images are renormalised for CLIP and
resized if CLIP's input size differs; stage 1 shuffles its own batches; 1 component is one Gaussian in both stages
(released: in the second only); prefixes are our reading of an ablation that we know only by its description.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.answer_cache import Kept
from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import NO_EDIT, ModelEdit
from cl_core.config import ConfigError, setting
from cl_core.events import Clock, Event, StageEnded
from cl_core.methods.method import Collector, Loss, Method, ParameterGroup
from cl_core.methods.parts.class_prompts import PLACEHOLDER, ClassKeys, KeyConfig
from cl_core.methods.parts.clip_queries import ImageQueries
from cl_core.methods.parts.feature_stats import intra_class
from cl_core.methods.parts.gaussian_mixtures import GaussianMixtures
from cl_core.methods.parts.replay_head import AlignedHead
from cl_core.methods.parts.selection import Selection
from cl_core.methods.parts.semantic_residuals import SITES, SemanticResiduals
from cl_core.streams.stream import Batch, TaskStream, mixed_seed


@dataclass(frozen=True)
class StarPromptConfig(KeyConfig):
    """Defaults are the release's documented values for CIFAR-100 in ten tasks."""

    companion: str = setting(
        "micro-clip",
        help="the CLIP whose image embeddings are queries and whose texts are keys; none: no CLIP, no keys and no "
        "residuals, only the frozen ViT with its mixtures and the balanced head (control)",
    )
    rate: float = setting(1e-3, low=0.0, high=10.0, help="learning rate of filters, residuals and head")
    crowding: float = setting(2.0, low=0.0, high=1e4, help="weight of norm and orthogonality of new residuals (λ2)")
    site: str = setting(
        "heads",
        choices=SITES,
        help="where residuals enter: heads, before the output projection (released); stream, after attention (paper); "
        "prefix: keys and values instead of a residual (ablation)",
    )
    modulation: bool = setting(True, help="scale the selected vector by its score; false: unscaled")
    strict_mask: bool = setting(False, help="only the selected class's filter gets a gradient (ablation)")
    replay_rate: float = setting(0.001, low=0.0, high=100.0, help="learning rate of replay into the head (η2)")
    replay_epochs: int = setting(
        10, low=0, high=1000, help="epochs of replay into the head, from the second task on (E2)"
    )
    replay_growth: int = setting(5, low=0, high=100, help="additional epochs with every task (released: 5)")
    mixture_passes: int = setting(
        0,
        low=0,
        high=100,
        help="passes over augmented training images that the head's mixtures are fitted on, as released; 0: the images "
        "as they are, once",
    )
    kept_queries: int = setting(
        16384, low=0, high=10_000_000, help="maximum number of cached CLIP embeddings of images"
    )


@final
class StarPrompt(Method[Backbone]):
    """Two levels: keys and residual vectors, both frozen after their task."""

    Config = StarPromptConfig
    companion: ClassVar[str] = "clip"
    serves_known_tasks: ClassVar[bool] = False  # selects among all classes by name, so it needs an unknown task

    def __init__(self, config: StarPromptConfig, backbone: Backbone, seed: int, companion: Any = None) -> None:
        super().__init__(config, seed)
        self.head = AlignedHead(backbone.pooled_width, seed)
        self.embeddings: GaussianMixtures | None = None
        self.tokens: GaussianMixtures | None = None
        if config.components:
            self.tokens = GaussianMixtures(config.components, backbone.pooled_width, config.draws)
        self.guided = companion is not None  # False: the control without level 1 and residuals
        if self.guided:
            self.queries = ImageQueries(companion, backbone.preparation, config.kept_queries)
            self.semantic = SemanticResiduals(
                backbone.depth, backbone.width, companion.joint_width, config.site, seed,
                strict=config.strict_mask, modulated=config.modulation,
            )  # fmt: skip
            if config.components:
                self.embeddings = GaussianMixtures(config.components, companion.joint_width, config.draws)
        self.classes = range(0)
        self._seen: list[tuple[Tensor, Tensor]] = []  # features [B, D] and class ids [B] of the finished task

    def setup(self, stream: TaskStream, backbone: Backbone) -> None:
        if not self.guided:
            return
        unsaid = [task.title for task in stream if task.words is None]
        if unsaid:
            raise ConfigError(
                f"stream {stream.name} does not say its classes in words (tasks {', '.join(unsaid)}), but star_prompt "
                "looks for an image's class by name; choose split-digits, or set companion=none"
            )
        said = [task.words for task in stream if task.words is not None]
        phrases = [phrase for words in said for phrase in words.phrases]
        plain = [texts for words in said for texts in words.texts()]
        model, device = self.queries.model, next(backbone.parameters()).device
        self.total = len(phrases)
        with torch.no_grad():
            sentences = [f"{PLACEHOLDER} {phrase}." for phrase in phrases]
            self.keys = ClassKeys(self.config, sentences, plain, model, self.seed).to(device)

    def answers_kept(self, backbone: Backbone) -> list[Kept]:
        return [self.queries.kept()] if self.guided and self.config.kept_queries else []

    def begin_task(self, index: int, classes: range) -> None:
        self.classes = classes
        if self.guided:
            self.keys.add_classes(index, classes)
            self.semantic.add_classes(classes, self.total, self.keys.keys.device)
        self.head.add_classes(index, classes)
        for mixtures in (self.embeddings, self.tokens):
            if mixtures is not None:
                mixtures.add_classes(classes)

    # ------------------------------------------------------------ level 1: keys, before the steps

    def prepare_task(self, backbone: Backbone, epoch: Callable[[int], Iterable[Batch]], clock: Clock) -> list[Event]:
        """Stage 1: one pass of the image tower over the task's images, then the text tower only."""
        if not self.guided:
            return []
        pairs = [(self.queries(batch.images, batch.ids), batch.labels) for batch in epoch(0)]
        z, labels = (torch.cat(parts) for parts in zip(*pairs, strict=True))
        mixtures = self.embeddings if self.config.components else None
        said = self.keys.begin(self.queries.model, mixtures, z, labels, self.classes, clock)
        return [intra_class(clock, "query", z, labels, self.classes), *said]

    # ------------------------------------------------------------ level 2: residuals, step by step

    def groups(self) -> list[ParameterGroup]:
        last, rate, head = len(self.head.weights) - 1, self.config.rate, self.head
        rows = {f"head.weights.{last}": head.weights[last], f"head.biases.{last}": head.biases[last]}
        parts = {name: getattr(self.semantic, name) for name in ("filters", "residuals")} if self.guided else {}
        own = [ParameterGroup(name, {f"semantic.{name}.{last}": rows[last]}, rate) for name, rows in parts.items()]
        return [*own, ParameterGroup("head", rows, rate)]

    def edit(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        if not self.guided:
            return NO_EDIT
        scores = self.semantic.scores(self.queries(images, ids), self.keys.keys)
        return ModelEdit(self.semantic.edits(self.semantic.weights(scores)))

    def edits_from(self, backbone: Backbone) -> int:
        return 0 if self.guided else backbone.depth

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        logits = self.head.current(self.features(backbone, batch.images, ids=batch.ids).pooled)
        targets = batch.labels - self.classes.start
        correct = (logits.detach().argmax(dim=1) == targets).float().mean()
        loss = Loss({"cross_entropy": F.cross_entropy(logits, targets)}, correct)
        if self.guided:
            loss.parts["crowding"] = self.config.crowding * self.semantic.penalty()
        return loss

    # ------------------------------------------------------------ after the steps: mixtures and the balanced head

    def collectors(self, backbone: Backbone) -> list[Collector]:
        if not self.config.components:
            return []
        keep = lambda features, batch: self._seen.append((features.pooled, batch.labels))
        return [Collector((), keep, augmented=self.config.mixture_passes)]

    def end_task(self, clock: Clock) -> list[Event]:
        c, first, started = self.config, not self.classes.start, time.perf_counter()
        if self.tokens is not None:
            pooled, labels = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
            for label in self.classes:
                self.tokens.fit(label, pooled[labels == label], self.token_seed + label)
        replays = bool(c.components) and not first
        epochs = c.replay_epochs + c.replay_growth * clock.task
        mixtures = self.tokens if replays else None
        losses = self.head.align(mixtures, rate=c.replay_rate, epochs=epochs, batch=c.stage_batch)
        self._seen = []
        if not replays:
            return []
        return [StageEnded(clock, "replay into the head", losses, time.perf_counter() - started)]

    @property
    def token_seed(self) -> int:
        """Seeds for fitting the mixtures of the current task's class tokens, by class."""
        return mixed_seed(self.seed, "tokens", self.classes.start)

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        return self.head.classify(pooled)[:, classes.start : classes.stop]

    def selection(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> list[Selection]:
        """The class selected by each block; layer −1 is the selection by keys only (level 1 as a classifier)."""
        if not self.guided:
            return []
        z, owners = self.queries(images, ids), list(range(self.classes.stop))
        scores = torch.cat([(z @ self.keys.keys.mT)[None], self.semantic.scores(z, self.keys.keys)])
        taken = F.one_hot(scores.argmax(dim=-1), len(owners)).float()  # [1 + L, B, n]
        return [Selection(layer, "class", owners, weights) for layer, weights in enumerate(taken, start=-1)]

    def kept_bytes(self) -> int:
        """Initial keys are only for comparison."""
        return sum(v.numel() * v.element_size() for k, v in self.state_dict().items() if k != "keys.first")
