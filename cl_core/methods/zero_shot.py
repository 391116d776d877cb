"""Zero-shot CLIP: nothing is trained. The lower reference of every CLIP table, and row 0 of its matrices.

Parts: `clip_method`.

Radford et al., ICML 2021, arXiv:2103.00020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from cl_core.backbones.io_types import AS_IT_IS, Adaptation
from cl_core.methods.method import ParameterGroup
from cl_core.methods.parts.clip_method import ClipMethod

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


@dataclass(frozen=True)
class ZeroShotConfig:
    """No settings."""


@final
class ZeroShot(ClipMethod):
    """argmax_c cos(f(x), t_c) with the pre-trained towers; every row of the accuracy matrix is the same."""

    Config = ZeroShotConfig
    text_is_trained = False

    def adaptation(self, *, training: bool = False) -> Adaptation:
        return AS_IT_IS

    def edits_from(self, backbone: ClipBackbone) -> int:
        return backbone.depth  # none is changed: what its image tower makes of an image is computed once

    def epochs(self, planned: int) -> int:
        return 0

    def groups(self) -> list[ParameterGroup]:
        return []
