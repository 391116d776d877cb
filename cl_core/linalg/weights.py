"""Weight matrices by their singular directions: which carry the energy, which are free to be written to.

Shapes: W [out, in] with y = W x, d = min(out, in) singular values.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from cl_core.linalg.spectra import energy_rank
from cl_core.linalg.validation import few_threads, refuse


class SingularDirections(NamedTuple):
    """W = left · diag(values) · right, thin, descending: left [out, d], values [d], right [d, in] (rows are v_iᵀ)."""

    left: Tensor
    values: Tensor
    right: Tensor


class WeightSplit(NamedTuple):
    """k principal directions; of the d − k null ones, `written` may be changed. `bound` says what limits them."""

    principal: int
    written: int
    bound: str  # "rho": every null direction is written to; "r_max": there are more null directions than that


def singular_directions(weight: Tensor) -> SingularDirections:
    """Thin SVD, computed in float64 whatever comes in and returned in it.

    Not from the eigenvectors of WᵀW: squaring loses the small singular directions, which are the ones wanted here.

    Args:
        weight: [out, in].

    Raises:
        ValueError: if it is not a matrix or not finite.
    """
    wrong = f"a weight must be a finite matrix [out, in], got shape {list(weight.shape)}"
    if weight.dim() != 2:
        raise ValueError(wrong)
    refuse(~torch.isfinite(weight).all(), lambda: ValueError(wrong))
    with few_threads(weight):
        return SingularDirections(*torch.linalg.svd(weight.detach().double(), full_matrices=False))


def weight_split(values: Tensor, rho: float, r_max: int | None = None) -> WeightSplit:
    """How a weight's directions are divided.

        k = min { j ≥ 1 : Σ_{i≤j} σ_i² ≥ ρ Σ σ_i² },   written = min(d − k, r_max)

    Energy is on the squared singular values. With r_max smaller than d − k the threshold ρ is inert: moving it changes
    nothing until d − k(ρ) < r_max.

    Args:
        values: [d] singular values σ, descending.
        rho: share in [0, 1].
        r_max: at most so many directions; None: all null ones.

    Source: NuSA-CL, arXiv:2510.21175.
    """
    k = max(1, int(energy_rank(values.double().square(), rho)))
    null = len(values) - k
    if r_max is None or null <= r_max:
        return WeightSplit(k, null, "rho")
    return WeightSplit(k, r_max, "r_max")
