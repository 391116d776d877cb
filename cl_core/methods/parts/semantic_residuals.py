"""Per class and block a vector that is added in a ViT's attention branch; which one, the image's embedding by another
model decides block by block.

Second level of STAR-Prompt (arXiv:2403.06870).
Shapes: L blocks, B images, o old, c current and n = o + c classes begun; d width of the queries, D width of the ViT,
P vectors per class and block (1, or 10 as prefixes).

    f = softmax(a)                        over d, per block and class
    s = 5 cos(z ⊙ f, k)                   [L, B, n]; k: the class's key
    w = onehot(argmax_n s) s              one class a block; 1 instead of s without modulation
    ρ = Σ_n w r                           [L, B, P, D], what enters the block

Backwards w counts as s: the choice lets gradient through to the filters of all current classes, chosen or not (a
straight-through estimator); r of a class gets gradient only where it was chosen. `strict`: filters as well.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cl_core.backbones.io_types import BlockIntervention
from cl_core.streams.stream import mixed_seed

SCALE = 5.0
PREFIXES = 5  # keys, and as many values
DRAWN = {"heads": 3, "stream": 3, "prefix": 2 * PREFIXES}  # vectors drawn per class together, orthogonal to all others
SITES = tuple(DRAWN)


class SemanticResiduals(nn.Module):
    """Grows with the tasks; rows of earlier tasks are frozen parameters of their own."""

    def __init__(
        self, layers: int, width: int, query_width: int, site: str, seed: int, *, strict: bool, modulated: bool
    ) -> None:
        super().__init__()
        self.layers, self.width, self.query_width = layers, width, query_width
        self.site, self.seed, self.strict, self.modulated = site, seed, strict, modulated
        self.filters, self.residuals = nn.ParameterList(), nn.ParameterList()  # a, r of a task: [L, c, d], [L, c, P, D]

    def add_classes(self, classes: range, total: int, device: torch.device) -> None:
        """Rows of a new task's classes, out of one orthogonal draw for all `total` classes of the stream.

        Of the three vectors a class has in the draw the first is kept (as released), so rows have norm 0.58 or so.
        """
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        own, kept = slice(classes.start, classes.stop), 2 * PREFIXES if self.site == "prefix" else 1
        filters = self._orthogonal("filters", total, self.query_width)[:, own]
        drawn = self._orthogonal("residuals", total, DRAWN[self.site] * self.width)[:, own]
        vectors = drawn.unflatten(-1, (-1, self.width))[:, :, :kept]
        self.filters.append(nn.Parameter(filters.contiguous().to(device)))
        self.residuals.append(nn.Parameter(vectors.contiguous().to(device)))

    def scores(self, z: Tensor, keys: Tensor) -> Tensor:
        """s [L, B, n] of queries z [B, d] and keys [n, d], unit rows.

        The product of every query with every filter is never formed: with F = softmax(a) and G = F ⊙ k,
        s = 5 (z Gᵀ) / sqrt(z² (F²)ᵀ).
        """
        filters = torch.cat([*(a.detach() for a in self.filters[:-1]), self.filters[-1]], dim=1).softmax(dim=-1)
        along = z @ (filters * keys).mT  # [L, B, n]
        return SCALE * along / (z.square() @ filters.square().mT).sqrt().clamp_min(1e-12)

    def weights(self, scores: Tensor) -> Tensor:
        """w [L, B, n]: one class a block and image."""
        chosen = F.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(scores)
        if not self.modulated:
            return chosen
        return scores * chosen if self.strict else scores + (scores * chosen - scores).detach()

    def edits(self, weights: Tensor) -> dict[int, BlockIntervention]:
        """What enters each block, for weights w [L, B, n]."""
        rows = torch.cat([*(r.detach() for r in self.residuals[:-1]), self.residuals[-1]], dim=1)  # [L, n, P, D]
        added = torch.einsum("lbn,lnpd->lbpd", weights, rows)
        if self.site == "prefix":
            return {at: BlockIntervention(prefix=(x[:, :PREFIXES], x[:, PREFIXES:])) for at, x in enumerate(added)}
        shift = "head_shift" if self.site == "heads" else "stream_shift"
        return {at: BlockIntervention(**{shift: x[:, 0]}) for at, x in enumerate(added)}

    def penalty(self) -> Tensor:
        """How far current vectors are from unit norm and from being orthogonal to old ones; 0 in the first task.

        mean_L [ mean_c (‖r‖² − 1)² + mean_{c, o} (r · stop r')² ]; of prefixes, keys and values each as one vector.
        """
        if len(self.residuals) == 1:
            return self.residuals[0].new_zeros(())
        current, old = self.residuals[-1], torch.cat(list(self.residuals[:-1]), dim=1).detach()
        parts = 2 if self.site == "prefix" else 1
        pairs = zip(current.chunk(parts, dim=2), old.chunk(parts, dim=2), strict=True)
        return cast(Tensor, sum(crowding(new.flatten(2), before.flatten(2)) for new, before in pairs))

    def _orthogonal(self, what: str, total: int, width: int) -> Tensor:
        """[L, total, width], orthonormal rows in each block where total ≤ width."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, what))
        return torch.stack(
            [nn.init.orthogonal_(torch.empty(total, width), generator=generator) for _ in range(self.layers)]
        )


def crowding(current: Tensor, old: Tensor) -> Tensor:
    """mean (‖r‖² − 1)² + mean (r · r')² over current [L, c, x] and old [L, o, x] vectors."""
    norms = (current.square().sum(dim=-1) - 1).square().mean()
    return norms + (current @ old.mT).square().mean()
