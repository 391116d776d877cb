"""Reference pairs of images and captions, and two losses that preserve CLIP's joint space on them.

GNSP (arXiv:2507.19839), as released; the distillation goes back to ZSCL (Zheng et al., ICCV 2023). Shapes: B pairs per
batch, e joint width; U, V [B, B], rows images, columns captions.

    U = s X Tᵀ (the model now),   V = s X₀ T₀ᵀ (the pre-trained model)
    KD(V, U) = −τ² mean_rows Σ_columns softmax(V/τ) ln softmax(U/τ);          L_KD  = KD(V, U) + KD(Vᵀ, Uᵀ)
    Y[a][b] = [same caption fits a and b] / (how many fit a);                 L_MAP = CE_ε(U, Y) + CE_ε(Uᵀ, Y)

KD has a lower bound, KD(V, V) = τ² · entropy. The returned loss is KD(V, U) − KD(V, V) = τ² KL: the same gradient, and
0 if the model equals the teacher. L_MAP keeps the lower bound from its label smoothing ε. Neither is averaged over the
two directions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from cl_core.backbones.io_types import AS_IT_IS, Adaptation
from cl_core.streams.stream import Pairs

if TYPE_CHECKING:  # only the type is needed, and open_clip takes seconds to import
    from cl_core.backbones.clip import ClipBackbone


class ReferencePairs:
    """One task's pairs in a fixed order, in batches that are cycled."""

    def __init__(
        self, backbone: ClipBackbone, pairs: Pairs, prepare: Callable[[Tensor], Tensor], size: int, scale: float
    ) -> None:
        self.pairs, self.prepare, self.size, self.scale = pairs, prepare, size, scale
        self.tokens = backbone.tokenize(pairs.captions)
        self.labels = pairs.labels.to(self.tokens.device)
        self.teacher: list[Tensor] = []  # V of every batch, once computed
        self._texts: Tensor | None = None  # t of all captions [n, e], once computed

    @property
    def batches(self) -> int:
        """Includes the last, shorter batch."""
        return -(-len(self.pairs) // self.size)

    def rows(self, batch: int) -> slice:
        return slice(batch * self.size, (batch + 1) * self.size)

    def logits(self, backbone: ClipBackbone, batch: int, adaptation: Adaptation = AS_IT_IS) -> Tensor:
        """U = s X Tᵀ: [B, B]."""
        rows = self.rows(batch)
        pictures = self.prepare(self.pairs.pictures[rows]).to(self.tokens.device)
        x = F.normalize(backbone(pictures, adaptation=adaptation).pooled, dim=1)
        if self._texts is not None:
            return self.scale * x @ self._texts[rows].mT
        return self.scale * x @ backbone.encode_text(self.tokens[rows], adaptation=adaptation).mT

    @torch.no_grad()
    def ask_teacher(self, backbone: ClipBackbone) -> None:
        """V of every batch, computed once by the pre-trained model."""
        self.teacher = [self.logits(backbone, batch) for batch in range(self.batches)]

    @torch.no_grad()
    def keep_texts(self, backbone: ClipBackbone, adaptation: Adaptation) -> None:
        """Embed captions once with `adaptation`, for a frozen text tower."""
        batches = [self.tokens[self.rows(batch)] for batch in range(self.batches)]
        self._texts = torch.cat([backbone.encode_text(tokens, adaptation=adaptation) for tokens in batches])


def distillation(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """KD(V, U) − KD(V, V), both directions: 0 if V = U up to constants per row and column."""

    def one_way(v: Tensor, u: Tensor) -> Tensor:
        said, wanted = (F.log_softmax(z / temperature, dim=1) for z in (u, v))
        return temperature**2 * F.kl_div(said, wanted, reduction="batchmean", log_target=True)

    return one_way(teacher, student) + one_way(teacher.mT, student.mT)


def alignment(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """L_MAP of U [B, B]: CLIP's contrastive loss with all captions of the same kind correct."""
    targets = same_caption(labels).to(logits)
    return cast(Tensor, sum(F.cross_entropy(z, targets, label_smoothing=smoothing) for z in (logits, logits.mT)))


def same_caption(labels: Tensor) -> Tensor:
    """Y [B, B] of labels [B]: symmetric, rows sum to 1."""
    same = (labels[:, None] == labels).double()
    return same / same.sum(dim=1, keepdim=True)
