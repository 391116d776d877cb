"""A method on CLIP: classes are sentences, a picture belongs to the class whose sentence it is nearest to.

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

TEXTS = 512  # sentences a pass where nothing is trained


@dataclass(frozen=True)
class ClipConfig:
    """What all methods that train a CLIP share."""

    rate: float = setting(1e-5, low=0.0, high=10.0, help="learning rate at the schedule's height")
    weight_decay: float = setting(0.0, low=0.0, high=1.0, help="decoupled decay of what is trained (AdamW)")
    label_smoothing: float = setting(0.2, low=0.0, high=0.99, help="share of the target spread over all classes")

    def __post_init__(self) -> None:
        check_settings(self)


class ClipMethod(Method["ClipBackbone"], abc.ABC):
    """Abstract: what reads and classifies. A subclass says how the model is adapted."""

    text_is_trained: bool = True  # False: class texts are embedded once a task
    text_stands_still: ClassVar[bool] = False  # True: whatever is learned, class texts are those of the untouched model

    def __init__(self, config: Any, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, seed)
        self.classes = range(0)
        self._class_texts: tuple[object, Tensor] | None = None  # derived: of all classes, and of which weights
        self._task_texts: Tensor | None = None  # derived: [c, e] of the current task, where the text tower stands still

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
        """How the model differs from the pre-trained one now; `training`: with what acts in the loss only."""

    def edit(self, backbone: ClipBackbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        return ModelEdit(adaptation=self.adaptation())

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        """s x · t_c: [B, |classes|]."""
        return self.scale * F.normalize(pooled, dim=1) @ self.class_texts[classes.start : classes.stop].mT

    @property
    def class_texts(self) -> Tensor:
        """t_c of every class of the stream as evaluation reads them, with the weights as they are: [C, e]. Read once as
        long as these stay as they are."""
        weights = [] if self.text_stands_still else [*self.parameters(), *self.buffers()]
        stamp = [(id(value), value._version) for value in weights]
        if self._class_texts is None or self._class_texts[0] != stamp:
            self._class_texts = stamp, self._read_classes()
        return self._class_texts[1]

    @torch.no_grad()
    def _read_classes(self) -> Tensor:
        """The text tower once over all sentences of all classes, `TEXTS` at a time (MTIL has some ten thousand), in
        float32 whatever images are classified in."""
        (backbone,), adaptation, portions = self._model, self.adaptation(), torch.cat(self._ensembles).split(TEXTS)
        with backbone.computing_in(torch.float32):
            sentences = torch.cat([backbone.encode_text(tokens, adaptation=adaptation) for tokens in portions])
        means = [part.mean(dim=0) for part in sentences.split([len(e) for e in self._ensembles])]
        return F.normalize(torch.stack(means), dim=1)

    def task_texts(self, backbone: ClipBackbone, adaptation: Adaptation) -> Tensor:
        """t_c of the current task's classes in the first template: [c, e]; computed once where the text tower stands
        still."""
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
        """Bytes kept beside the model: adapted weights (`clip.…`) take the place of its own and are not counted."""
        state = self.state_dict().items()
        return sum(v.numel() * v.element_size() for k, v in state if not k.startswith("clip."))

    def adapted_weights(self, backbone: ClipBackbone) -> dict[str, Tensor]:
        """Name → W [out, in] of every attention projection as adapted; none if the model is as it was."""
        adaptation = self.adaptation()
        if adaptation is AS_IT_IS:
            return {}
        return {name: backbone.map_weight(name, adaptation).detach() for name in backbone.attention_maps()}
