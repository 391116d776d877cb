"""Methods that change the key and value matrices of every block and train a head per task.

Shapes: L blocks of width d, N tokens, B images; x the inputs of a block's attention, after its first LayerNorm.

    k = (W_k + ΔW_k) x,  v = (W_v + ΔW_v) x           ΔW [L, 2, d, d], keys first

Heads are those of `deep_prompts`, without prompts: one per task, trained by cross-entropy masked to its classes,
concatenated at test time.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.backbones.io_types import BlockIntervention, Features, ModelEdit, Tap
from cl_core.config import check_settings, setting
from cl_core.linalg import gram
from cl_core.methods.method import Collector, Loss, Method, ParameterGroup
from cl_core.methods.parts.deep_prompts import DeepPrompts, PromptConfig
from cl_core.streams.stream import Batch

KEYS, VALUES = "k", "v"


@dataclass(frozen=True)
class KeyValueConfig:
    """Settings of all methods on keys and values."""

    rate: float = setting(1e-3, low=0.0, high=10.0, help="learning rate of keys and values")
    head_rate: float = setting(0.01, low=0.0, high=10.0, help="learning rate of the heads")
    temperature: float = setting(
        28.0, low=0.01, high=1000.0, help="logits are divided by this in the training loss only"
    )
    weight_decay: float = setting(0.0, low=0.0, high=1.0, help="decay of what is trained")

    def __post_init__(self) -> None:
        check_settings(self)


class InputGram(nn.Module):
    """Σ x xᵀ over the tokens x of one pass, per block, and their number. Never saved partially."""

    _sums: Tensor | None
    _rows: int

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = layers
        self.clear()

    def clear(self) -> None:
        self._sums, self._rows = None, 0

    @property
    def taps(self) -> tuple[Tap, ...]:
        return tuple(("normed", layer) for layer in range(self.layers))

    @torch.no_grad()
    def add(self, features: Features) -> None:
        inputs = torch.stack([features.taps[tap].flatten(0, 1) for tap in self.taps])  # [L, B·N, d]
        sums = gram(inputs).double()
        self._sums = sums if self._sums is None else self._sums + sums
        self._rows += inputs.shape[1]

    def take(self) -> tuple[Tensor, int]:
        """(Σ x xᵀ [L, d, d] in float64, tokens), and reset."""
        assert self._sums is not None, "no batch was added"
        taken = self._sums, self._rows
        self.clear()
        return taken


class KeyValueMethod(Method[Backbone]):
    """Abstract. Subclasses define ΔW and the protection of past tasks."""

    Config = KeyValueConfig

    def __init__(self, config: KeyValueConfig, backbone: Backbone, seed: int) -> None:
        super().__init__(config, seed)
        heads = PromptConfig(
            prompt_length=0,
            head_rate=config.head_rate,
            temperature=config.temperature,
            weight_decay=config.weight_decay,
            head_init="fresh",
        )
        self.tuning = DeepPrompts(heads, backbone.depth, backbone.width, seed)
        self.inputs = InputGram(backbone.depth)

    @property
    def optimiser(self) -> str:
        """Optimiser of all groups, as in `ParameterGroup`."""
        return "adam"

    @abc.abstractmethod
    def change(self) -> Tensor:
        """The current ΔW: [L, 2, d, d]."""

    @abc.abstractmethod
    def changed(self) -> dict[str, nn.Parameter]:
        """The trained parameters of ΔW, by name."""

    def begin_task(self, index: int, classes: range) -> None:
        self.tuning.begin_task(index, classes)

    def groups(self) -> list[ParameterGroup]:
        changed = ParameterGroup("keys and values", self.changed(), self.config.rate, self.config.weight_decay)
        return [replace(group, optimiser=self.optimiser) for group in (changed, *self.tuning.groups("tuning"))]

    def edit(self, backbone: Backbone, images: Tensor, ids: Tensor | None = None) -> ModelEdit:
        changes = enumerate(self.change())
        branches = {layer: dict(zip((KEYS, VALUES), change, strict=True)) for layer, change in changes}
        return ModelEdit({layer: BlockIntervention(branches=own) for layer, own in branches.items()})

    def classify(self, pooled: Tensor, classes: range) -> Tensor:
        return self.tuning.classify(pooled)[:, classes.start : classes.stop]

    def loss(self, backbone: Backbone, batch: Batch) -> Loss:
        return self.tuning.loss_of(self.features(backbone, batch.images).pooled, batch.labels)

    def collectors(self, backbone: Backbone) -> list[Collector]:
        return [Collector(self.inputs.taps, lambda features, batch: self.inputs.add(features))]

    def adapted_weights(self, backbone: Backbone) -> dict[str, Tensor]:
        """Name → current W + ΔW [d, d] of every key and value map."""
        change = self.change().detach()
        return {
            f"image.{layer}.{which}": backbone.map_weight(f"image.{layer}.{which}") + change[layer, place]
            for layer in range(len(change))
            for place, which in enumerate((KEYS, VALUES))
        }
