"""Two tasks' subspaces: the angles between them and the share they have in common.

A subspace of dimension p in d dimensions is given by a basis [..., d, p] whose columns span it, orthonormal or not.
"""

import torch
from torch import Tensor

from cl_core.linalg.checks import floating
from cl_core.linalg.spectra import eigenbasis


def leading_directions(moment: Tensor, rank: int) -> Tensor:
    """Orthonormal basis of the `rank` directions that a moment uses most.

    Args:
        moment: [..., d, d] symmetric positive semi-definite, squared activation units.
        rank: how many, in [0, d].

    Returns:
        [..., d, rank] orthonormal columns, most used first, the moment's dtype.

    Raises:
        TypeError, ValueError: as `eigenbasis`, or if the rank lies outside [0, d].
    """
    _, vectors = eigenbasis(moment)
    if not 0 <= rank <= moment.shape[-1]:
        raise ValueError(f"rank must lie in [0, {moment.shape[-1]}], got {rank}")
    return vectors[..., :rank]


def principal_angles(first: Tensor, second: Tensor) -> Tensor:
    """Angles between two subspaces, smallest first.

        cos θ_i = i-th singular value of Qᵀ Q',   Q, Q' orthonormal bases
        sin θ_i from the part of Q' outside Q, used below 45°, where the cosine cannot tell small angles apart

    Args:
        first: [..., d, p] independent columns.
        second: [..., d, q] independent columns.

    Returns:
        [..., min(p, q)] radians in [0, π/2], ascending, in the wider dtype of the two.

    Raises:
        TypeError: if either is not a floating-point tensor.
        ValueError: if d differs, or the columns of either are not independent.

    Reference: Björck and Golub, Numerical methods for computing angles between linear subspaces, 1973.
    """
    dtype = torch.promote_types(floating(first, "first").dtype, floating(second, "second").dtype)
    one, other = _orthonormal(first, "first"), _orthonormal(second, "second")
    if one.shape[-2] != other.shape[-2]:
        raise ValueError(f"both subspaces must lie in one space, got widths {one.shape[-2]} and {other.shape[-2]}")
    if one.shape[-1] < other.shape[-1]:
        one, other = other, one
    common = one.mT @ other
    cosines = torch.linalg.svdvals(common).clamp(max=1)  # descending: angles ascend
    sines = torch.linalg.svdvals(other - one @ common).clamp(max=1).flip(-1)
    return torch.where(cosines.square() >= 0.5, sines.asin(), cosines.acos()).to(dtype)


def subspace_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Share of the smaller subspace that lies in the other.

        O = ‖Qᵀ Q'‖_F² / min(p, q) = mean of cos² θ_i;   chance level max(p, q)/d

    Args, raises: as `principal_angles`.

    Returns:
        [...] dimensionless in [0, 1]; NaN where a subspace has dimension 0.
    """
    return principal_angles(first, second).cos().square().mean(dim=-1)


def _orthonormal(basis: Tensor, name: str) -> Tensor:
    if basis.ndim < 2 or basis.shape[-1] > basis.shape[-2]:
        raise ValueError(f"{name} must be [..., d, p] with p ≤ d, directions in columns, got shape {list(basis.shape)}")
    left, sizes, _ = torch.linalg.svd(basis.double(), full_matrices=False)
    limit = basis.shape[-2] * torch.finfo(basis.dtype).eps * sizes[..., :1]
    if (sizes <= limit).any():
        raise ValueError(f"the columns of {name} must be independent; drop the ones that repeat others")
    return left
