"""Where the input embeddings of tasks lie, what they take of the space, and what a step may still use.

Follows arXiv:2401.09181 as read in `fwd_prompt`; the algebra is `cl_core.linalg.subspaces`.
Shapes: T tasks begun, d width, n rows (tokens of all images). All in float64.

    G_t = Σ EᵀE  [d, d]  streamed over the site's tokens without prompts: no image is kept
    V = core(G_pre),  (F, R) ← absorb(N_t) for every finished task,  P from V, F, R     (all derived, never saved)
    N_t = what G_t adds to S = [N_1 … N_{t−1}] (`added_directions`, as in gradient projection memory), or its whole core
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from cl_core.backbones.backbone import Backbone
from cl_core.linalg import (
    absorb,
    added_directions,
    allocation_projector,
    core_space,
    gram,
    random_projector,
)
from cl_core.streams.stream import mixed_seed

PARTS = ("free pre-trained", "conflicting", "occupied", "free residual")  # as `space_shares` orders them
EXACT = 1e-9  # length from which a direction counts where nothing of an old core may be touched


@dataclass(frozen=True)
class Allocation:
    """How spaces are cut and combined."""

    projection: str  # "none", "residual-only", "pretrained-only", "both" or "random"
    energy: float  # ε
    reuse: float  # τ_c
    tolerance: float  # τ_r
    pretrained_weight: float  # λ_pre
    accumulation: str = "energy"  # what a task adds to taken directions: "energy" or "every direction"


def site_tokens(backbone: Any, block: int, images: Tensor, ids: Tensor | None = None) -> Tensor:
    """Tokens entering a block without prompts, of all images [B, 3, S, S], whose numbers are `ids`: [B · N, d]."""
    return backbone.tokens_entering(block, images, ids).flatten(0, 1)


class EmbeddingSpaces(nn.Module):
    """A component: moments are its state, everything else follows from them in `refresh`."""

    pretrained_moment: Tensor
    moments: Tensor
    rows: Tensor
    finished: Tensor

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        self.width, self.seed = width, seed
        empty = torch.zeros(0, width, width, dtype=torch.float64)
        self.register_buffer("pretrained_moment", torch.zeros(width, width, dtype=torch.float64))
        self.register_buffer("moments", empty)  # G_t of every task begun
        self.register_buffer("rows", torch.zeros(0, dtype=torch.int64))  # n of each
        self.register_buffer("finished", torch.tensor(0))
        self.pretrained = self.conflicting = self.occupied = empty.new_zeros(width, 0)  # V, F, R
        self.cores: list[Tensor] = []  # C_t of finished tasks
        self.projector: Tensor | None = None  # P [d, d] float64; None: steps are taken as they are

    def begin_task(self) -> None:
        self.moments = torch.cat([self.moments, self.moments.new_zeros(1, self.width, self.width)])
        self.rows = torch.cat([self.rows, self.rows.new_zeros(1)])

    def see_pretraining(self, backbone: Any, block: int, batches: Iterable[Tensor]) -> None:
        """Pictures [B, 3, S, S], prepared, stand for pre-training."""
        for images in batches:
            rows = site_tokens(backbone, block, images.to(self.moments.device))
            self.pretrained_moment += gram(rows.double())

    def see_weights(self, backbone: Backbone, block: int) -> None:
        """The rows of the block's query, key and value weights stand for it: the directions that it reads."""
        for part in "qkv":
            self.pretrained_moment += gram(backbone.map_weight(f"image.{block}.{part}").double())

    def see(self, rows: Tensor) -> None:
        """Take in tokens [n, d] of the current task."""
        self.moments[-1] += gram(rows.double())
        self.rows[-1] += len(rows)

    def end_task(self) -> None:
        self.finished += 1

    def refresh(self, rule: Allocation) -> None:
        """V, F, R and P from the moments of the tasks that are finished; nothing is projected before the second."""
        self.pretrained = core_space(self.pretrained_moment, rule.energy)
        self.cores = [core_space(moment, rule.energy) for moment in self.moments[: int(self.finished)]]
        exact = rule.projection == "residual-only"
        self.conflicting, self.occupied = self._taken(rule, *((0.0, EXACT) if exact else (rule.reuse, rule.tolerance)))
        self.projector = None
        if not self.cores or rule.projection == "none":
            return
        if rule.projection == "random":
            seed = mixed_seed(self.seed, "random subspace", len(self.cores))
            drawn = random_projector(self.width, self.free, torch.Generator().manual_seed(seed))
            self.projector = drawn.to(self.moments.device)
            return
        self.projector = allocation_projector(
            self.pretrained,
            self.conflicting,
            self.occupied,
            pretrained_weight=rule.pretrained_weight if rule.projection == "both" else 1.0,
            outside=0.0 if rule.projection == "pretrained-only" else 1.0,
        )

    @property
    def free(self) -> int:
        """Directions that no task has taken: d − f − r."""
        return self.width - self.conflicting.shape[1] - self.occupied.shape[1]

    def budget(self) -> dict[str, int]:
        """Directions in each part of the space; they add up to d."""
        v, f, r = (basis.shape[1] for basis in (self.pretrained, self.conflicting, self.occupied))
        return dict(zip(PARTS, (v - f, f, r, self.width - v - r), strict=True))

    def _taken(self, rule: Allocation, cosine: float, length: float) -> tuple[Tensor, Tensor]:
        """F and R after all finished tasks, in their order. What `absorb` leaves writable on purpose is not offered to
        it again: energy counts as held by S, all directions that tasks have added so far."""
        inside = outside = seen = self.pretrained.new_zeros(self.width, 0)
        for moment, core in zip(self.moments, self.cores, strict=False):  # the task under way has no core yet
            if rule.accumulation == "energy":
                core = added_directions(moment, seen, rule.energy)
                seen = torch.cat([seen, core], dim=1)
            inside, outside = absorb(self.pretrained, inside, outside, core, cosine=cosine, length=length)
        return inside, outside
