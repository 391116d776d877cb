"""Fresh orthonormal directions beside given ones, and how far rows are from orthonormal."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_core.linalg.validation import floating


def orthonormal_beside(drawn: Tensor, given: Tensor) -> Tensor:
    """Gram-Schmidt: rows of `drawn` made unit and orthogonal to each other and to every row of `given`.

        z_i = u_i / ‖u_i‖,   u_i = x_i − (its part in the span of `given` and z_1 … z_{i−1})

    The rows of `given` need be neither orthogonal nor unit: their whole span is avoided.

    Args:
        drawn: [..., n, d] rows x.
        given: [..., m, d], m ≥ 0.

    Returns:
        [..., n, d] unit rows.

    Raises:
        ValueError: if n + m > d: there is no room for so many directions.
    """
    floating(drawn, "drawn")
    n, m, d = drawn.shape[-2], given.shape[-2], drawn.shape[-1]
    if n + m > d:
        raise ValueError(f"{n} directions beside {m} need a width of at least {n + m}, got {d}")
    rows = drawn.double()
    if m:
        basis = torch.linalg.qr(given.double().mT).Q  # [..., d, m]
        for _ in range(2):  # once more: what rounding left
            rows = rows - rows @ basis @ basis.mT
    q, r = torch.linalg.qr(rows.mT)
    signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(q)
    return (q * signs[..., None, :]).mT.to(drawn)


def orthonormality_loss(rows: Tensor) -> Tensor:
    """mean((Z Zᵀ − I)²) over all entries of rows Z [..., n, d]: 0 where the rows are orthonormal. Scalar."""
    identity = torch.eye(rows.shape[-2], dtype=rows.dtype, device=rows.device)
    return (rows @ rows.mT - identity).square().mean()
