"""Sequential fine-tuning of all of CLIP, nothing protected: the forgetting reference of the CLIP methods.

Parts: `clip_method`, `clip_weights`.

The baseline of ZSCL (Zheng et al., ICCV 2023) and of the NuSA-CL release: every parameter but the logit scale, AdamW,
image-to-text cross-entropy over the current task's classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from cl_core.backbones.io_types import Adaptation
from cl_core.config import setting
from cl_core.methods.method import ParameterGroup
from cl_core.methods.parts.clip_method import ClipConfig, ClipMethod
from cl_core.methods.parts.clip_weights import ClipWeights

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class FinetuneConfig(ClipConfig):
    """Defaults are those of the NuSA-CL release's baseline."""

    weight_decay: float = setting(0.01, low=0.0, high=1.0, help="decoupled weight decay (AdamW)")
    towers: str = setting("both", choices=("both", "image", "text"), help="which tower is trained")


@final
class Finetune(ClipMethod):
    """Trains all weights on the current task's loss."""

    Config = FinetuneConfig

    def __init__(self, config: FinetuneConfig, backbone: ClipBackbone, seed: int) -> None:
        super().__init__(config, backbone, seed)
        chosen = {"both": lambda n: True, "image": is_visual, "text": lambda n: not is_visual(n)}[config.towers]
        self.text_is_trained = config.towers != "image"
        self.clip = ClipWeights(backbone, filter(chosen, backbone.parameter_names()))

    def groups(self) -> list[ParameterGroup]:
        trained = self.clip.train_only(self.clip.names, "clip")
        return [ParameterGroup("weights", trained, self.config.rate, self.config.weight_decay, "adamw")]

    def adaptation(self, *, training: bool = False) -> Adaptation:
        return Adaptation(weights=self.clip.weights())


def is_visual(parameter: str) -> bool:
    return parameter.startswith("visual.")
