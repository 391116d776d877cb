"""Directions of inputs that are stored task by task, and what is held back along them. What later tasks add:
`subspaces.added_directions`.

A layer's inputs X [d, N] enter by their Gram matrix G = X Xᵀ [d, d] alone: its eigenvectors are the left singular
vectors of X and its eigenvalues their squared singular values. Stored directions are the orthonormal columns of B
[d, k].

Reference: Saha, Garg, Roy, Gradient Projection Memory, ICLR 2021; Saha, Roy, Scaled Gradient Projection, AAAI 2023,
arXiv:2302.01386; both as their released code computes it.
"""

import torch
from torch import Tensor

from cl_core.linalg.spectra import eigenbasis, energy_rank
from cl_core.linalg.validation import refuse, symmetric


def first_directions(gram: Tensor, energy: float) -> Tensor:
    """What the first task stores: the leading directions that together stay below a share of the energy, one at least.

        r = max( #{ i : λ_1 + … + λ_i < energy · Σ λ }, 1 )

    The released GPM stores none where the first direction alone reaches the share, as inputs with a large mean do; the
    one at least is InfLoRA's.

    Args:
        gram: G [d, d] symmetric positive semi-definite.
        energy: share in [0, 1].

    Returns:
        [d, r] orthonormal columns, most used first, in float64; none where there is no energy.

    Raises:
        TypeError, ValueError: as `eigenbasis` and `energy_rank`.
    """
    values, vectors = eigenbasis(symmetric(gram, "gram"))
    if not values[0] > 0:
        return vectors[:, :0]
    return vectors[:, : max(int(energy_rank(values, energy)) - 1, 1)]


def scaled_importance(sizes: Tensor, alpha: float) -> Tensor:
    """How far a direction of singular value s is held back.

        f(s) = (α + 1) s / (α s + max s),   0 at 0, 1 at the largest, concave

    Args:
        sizes: s [k] ≥ 0; k = 0 and no energy give zeros.
        alpha: α ≥ 0; 0: proportional to s, ∞: 1 for every s > 0.

    Raises:
        ValueError: if α < 0.
    """
    if not alpha >= 0:
        raise ValueError(f"alpha must be at least 0, got {alpha:g}")
    refuse((sizes < 0).any(), lambda: ValueError(f"sizes must be at least 0, got {sizes.min().item():g}"))
    if not sizes.numel() or not sizes.max() > 0:
        return torch.zeros_like(sizes)
    return ((alpha + 1) * sizes / (alpha * sizes + sizes.max())).clamp(max=1)


def held_back(basis: Tensor, held: Tensor) -> Tensor:
    """What is let through of a step on the input side, W ← W + S (I − B diag(h) Bᵀ): [d, d] symmetric, B's dtype.

    Args:
        basis: B [d, k] orthonormal. held: h [k] in [0, 1]; 1 blocks a direction, 0 leaves it free.
    """
    whole = torch.eye(len(basis), dtype=basis.dtype, device=basis.device)
    return whole - (basis * held) @ basis.mT
