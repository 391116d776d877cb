"""Base class of methods with deep prompts and a head per task; subclasses add protection of past tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import ModelEdit
from cl_core.methods.method import Loss, Method, ParameterGroup
from cl_core.methods.parts.deep_prompts import DeepPrompts, PromptConfig
from cl_core.streams.stream import Batch

if TYPE_CHECKING:  # only the type is needed, and timm takes seconds to import
    from cl_core.backbones.vit import ViTBackbone


class PromptedMethod(Method["ViTBackbone"]):
    """Abstract: deep prompts and heads."""

    Config = PromptConfig

    def __init__(self, config: PromptConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, seed)
        self.tuning = DeepPrompts(config, backbone.depth, backbone.width, seed)

    def begin_task(self, index: int, classes: range) -> None:
        self.tuning.begin_task(index, classes)

    def groups(self) -> list[ParameterGroup]:
        return self.tuning.groups("tuning")

    @property
    def deep_prompts(self) -> Tensor:
        """The current prompts [K, M, d]."""
        return self.tuning.prompts.detach()

    @property
    def prompted_blocks(self) -> range:
        """The K blocks with prompts."""
        return self.tuning.blocks

    def edits_from(self, backbone: Backbone) -> int:
        """Blocks below the first with prompts are never changed; without prompts none is."""
        return self.tuning.blocks.start if self.tuning.prompts.numel() else backbone.depth

    def edit(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        return self.tuning.edit()

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        return self.tuning.classify(pooled)[:, classes.start : classes.stop]

    def loss(self, backbone: ViTBackbone, batch: Batch) -> Loss:
        return self.tuning.loss_of(self.features(backbone, batch.images, ids=batch.ids).pooled, batch.labels)
