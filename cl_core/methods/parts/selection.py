"""What each image of a batch takes from a pool of prompts."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Selection:
    """What each image of a batch took from a pool of E entries."""

    layer: int  # block whose selection this is; -1: one selection for the whole network
    of: str  # what an entry stands for: "class", "task", or "" where entries belong to nobody
    owners: list[int]  # [E] the class (id in order of arrival) or task an entry stands for; -1 where to nobody
    weights: Tensor  # [B, E] ≥ 0: 1 for an entry that was taken whole; shares that sum to 1 where all are mixed
