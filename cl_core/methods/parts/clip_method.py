"""Base class of CLIP methods: classes are sentences, an image is assigned to the class with the nearest sentence.

Radford et al., ICML 2021, arXiv:2103.00020; the multi-domain protocol is that of ZSCL (Zheng et al., ICCV 2023).

    x = f(image)/‖·‖,  t_c = g(text_c)/‖·‖,  s = exp(logit scale), frozen
    training    Z = s x · t_c over the current task's classes, t_c in the task's first template
    evaluation  the same with t_c = the normalised mean of t_c over all templates (one rule for every method and row)

Shapes: B images, C classes, e joint width.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.io_types import AS_IT_IS, Adaptation, ModelEdit
from cl_core.config import ConfigError, check_settings, setting
from cl_core.methods.method import Loss, Method
from cl_core.streams.stream import Batch, TaskStream

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone

TEXTS = 512  # sentences per pass without gradients


@dataclass(frozen=True)
class ClipConfig:
    """Settings shared by all methods that train CLIP."""

    rate: float = setting(1e-5, low=0.0, high=10.0, help="peak learning rate")
    weight_decay: float = setting(0.0, low=0.0, high=1.0, help="decoupled weight decay (AdamW)")
    label_smoothing: float = setting(0.2, low=0.0, high=0.99, help="share of the target spread over all classes")

    def __post_init__(self) -> None:
        check_settings(self)


class ClipMethod(Method["ClipBackbone"], abc.ABC):
    """Abstract: features and classification. Subclasses define the adaptation."""

    text_is_trained: bool = True  # False: class texts are embedded once per task
    text_stands_still: ClassVar[bool] = False  # True: class texts are always those of the pre-trained model

    def __init__(self, config: Any, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, seed)
        self.classes = range(0)
        self._class_texts: tuple[object, Tensor] | None = (
            None  # derived: of all classes, and the weights they were computed with
        )
        self._task_texts: Tensor | None = None  # derived: [c, e] of the current task, if the text tower is frozen

    def setup(self, stream: TaskStream, backbone: ClipBackbone) -> None:
        unsaid = [task.title for task in stream if task.words is None]
        if unsaid:
            raise ConfigError(
                f"stream {stream.name} does not say its classes in words (tasks {', '.join(unsaid)}), which a CLIP "
                "method needs; choose micro-mtil or split-digits"
            )
        self._model = (backbone,)  # not a part of this module
        self.scale = float(backbone.logit_scale)
        said = [task.words for task in stream if task.words is not None]
        self._training_tokens = torch.cat([backbone.tokenize(s for (s,) in words.texts(0)) for words in said])
        self._ensembles = [backbone.tokenize(sentences) for words in said for sentences in words.texts()]

    def begin_task(self, index: int, classes: range) -> None:
        self.classes = classes

    def refresh(self) -> None:
        self._class_texts = self._task_texts = None

    @abc.abstractmethod
    def adaptation(self, *, training: bool = False) -> Adaptation:
        """The current changes of the pre-trained model; `training`: including those used only in the loss."""

    def edit(self, backbone: ClipBackbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        return ModelEdit(adaptation=self.adaptation())

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        """s x · t_c: [B, |classes|]."""
        return self.scale * F.normalize(pooled, dim=1) @ self.class_texts[classes.start : classes.stop].mT

    @property
    def class_texts(self) -> Tensor:
        """t_c of every class of the stream for evaluation, with the current weights: [C, e]. Cached until they
        change."""
        weights = [] if self.text_stands_still else [*self.parameters(), *self.buffers()]
        stamp = [(id(value), value._version) for value in weights]
        if self._class_texts is None or self._class_texts[0] != stamp:
            self._class_texts = stamp, self._read_classes()
        return self._class_texts[1]

    @torch.no_grad()
    def _read_classes(self) -> Tensor:
        """Embed all sentences of all classes, `TEXTS` at a time (MTIL has about ten thousand), in float32 regardless of
        the precision for images."""
        (backbone,), adaptation, portions = self._model, self.adaptation(), torch.cat(self._ensembles).split(TEXTS)
        with backbone.computing_in(torch.float32):
            sentences = torch.cat([backbone.encode_text(tokens, adaptation=adaptation) for tokens in portions])
        means = [part.mean(dim=0) for part in sentences.split([len(e) for e in self._ensembles])]
        return F.normalize(torch.stack(means), dim=1)

    def task_texts(self, backbone: ClipBackbone, adaptation: Adaptation) -> Tensor:
        """t_c of the current task's classes in the first template: [c, e]; cached if the text tower is frozen."""
        if self._task_texts is not None:
            return self._task_texts
        tokens = self._training_tokens[self.classes.start : self.classes.stop]
        if self.text_is_trained:
            return backbone.encode_text(tokens, adaptation=adaptation)
        with torch.no_grad():
            self._task_texts = backbone.encode_text(tokens, adaptation=adaptation)
        return self._task_texts

    def loss(self, backbone: ClipBackbone, batch: Batch) -> Loss:
        """Image-to-text cross-entropy over the current task's classes."""
        adaptation = self.adaptation(training=True)
        x = F.normalize(backbone(batch.images, adaptation=adaptation).pooled, dim=1)
        return self.task_loss(self.scale * x @ self.task_texts(backbone, adaptation).mT, batch.labels)

    def task_loss(self, logits: Tensor, labels: Tensor) -> Loss:
        """CE(Z, y) with label smoothing; labels are ids in order of arrival."""
        targets = labels - self.classes.start
        correct = (logits.detach().argmax(dim=1) == targets).float().mean()
        loss = F.cross_entropy(logits, targets, label_smoothing=self.config.label_smoothing)
        return Loss({"cross_entropy": loss}, correct)

    def kept_bytes(self) -> int:
        """Bytes of state besides the model: adapted weights (`clip.…`) replace its own and are not counted."""
        state = self.state_dict().items()
        return sum(v.numel() * v.element_size() for k, v in state if not k.startswith("clip."))

    def adapted_weights(self, backbone: ClipBackbone) -> dict[str, Tensor]:
        """Name → W [out, in] of every adapted attention projection; empty if unchanged."""
        adaptation = self.adaptation()
        if adaptation is AS_IT_IS:
            return {}
        return {name: backbone.map_weight(name, adaptation).detach() for name in backbone.attention_maps()}
