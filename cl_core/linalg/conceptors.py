"""Conceptors: soft projectors onto what a layer's inputs use, with an algebra of their own.

A conceptor C [d, d] is symmetric with eigenvalues s in [0, 1]: 1 is a direction in full use, 0 an unused one. It comes
from a second moment R (squared activation units) and an aperture a > 0 (one over activation units). Everything is
computed in float64 and given back on the caller's device and in the caller's dtype.

Reference: Jaeger, Controlling Recurrent Neural Networks by Conceptors, 2014, arXiv:1403.3369.
"""

import torch
from torch import Tensor

from cl_core.linalg.spectra import eigenbasis
from cl_core.linalg.validation import descending, few_threads, refuse, symmetric

ZERO = 1e-12  # an eigenvalue below this is outside the range: 1/s would be noise


def conceptor(moment: Tensor, aperture: float | Tensor, *, basis: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """The conceptor of a second moment.

        C(R, a) = R (R + a⁻² I)⁻¹,   eigenvalues s_i = λ_i / (λ_i + a⁻²)

    A direction is half in use where λ_i = a⁻². a → 0 gives 0, a → ∞ the projector onto the range of R.

    Args:
        moment: R [..., d, d] symmetric positive semi-definite, squared activation units.
        aperture: a > 0, one for all or [...].
        basis: `eigenbasis` of the moment in float64, where it is known already.

    Returns:
        [..., d, d] dimensionless, symmetric, 0 ≤ s < 1.

    Raises:
        TypeError: if the moment is not a floating-point tensor.
        ValueError: if it is not square, symmetric and finite, or an aperture is not positive.
    """
    matrix = symmetric(moment)
    size = torch.as_tensor(aperture, dtype=torch.float64, device=matrix.device)
    refuse(~(size > 0).all(), lambda: ValueError(f"aperture must be positive, got {size.tolist()}"))
    values, vectors = eigenbasis(matrix) if basis is None else basis
    return _composed(values / (values + size[..., None] ** -2), vectors).to(moment.dtype)


def conceptor_not(concept: Tensor) -> Tensor:
    """What a conceptor leaves free: NOT C = I − C, for [..., d, d]."""
    return torch.eye(concept.shape[-1], dtype=concept.dtype, device=concept.device) - concept


def conceptor_and(first: Tensor, second: Tensor) -> Tensor:
    """Directions that both use.

        C AND B = (C⁻¹ + B⁻¹ − I)⁻¹       on the intersection of the two ranges, 0 elsewhere
                = Q (Qᵀ (C⁺ + B⁺ − I) Q)⁻¹ Qᵀ,   Q an orthonormal basis of that intersection

    Eigenvalues below 1e-12 count as outside the range.

    Args:
        first, second: [..., d, d] conceptors of one width.

    Returns:
        [..., d, d] dimensionless, symmetric, below either in the Loewner order.

    Raises:
        TypeError, ValueError: as `conceptor`, or if the shapes differ.
    """
    one, other = symmetric(first, "first"), symmetric(second, "second")
    if one.shape != other.shape:
        raise ValueError(f"conceptors must be of one shape, got {list(one.shape)} and {list(other.shape)}")
    width = one.shape[-1]
    pairs = zip(one.reshape(-1, width, width), other.reshape(-1, width, width), strict=True)
    found = torch.stack([_intersection(c, b) for c, b in pairs]).reshape(one.shape)
    return found.to(torch.promote_types(first.dtype, second.dtype))


def conceptor_or(first: Tensor, second: Tensor) -> Tensor:
    """Directions that either uses.

        C OR B = NOT (NOT C AND NOT B) = C(R_C + R_B, a)   where both have aperture a

    Args, raises: as `conceptor_and`.

    Returns:
        [..., d, d] dimensionless, symmetric, above either in the Loewner order.
    """
    dtype = torch.promote_types(first.dtype, second.dtype)
    neither = conceptor_and(conceptor_not(first.double()), conceptor_not(second.double()))
    return conceptor_not(neither).to(dtype)


def significant(concept: Tensor, threshold: float) -> Tensor:
    """A conceptor without its weak directions: eigenvalues below `threshold` become exactly 0.

    Args:
        concept: [..., d, d].
        threshold: in [0, 1].

    Returns:
        [..., d, d] dimensionless, symmetric, of lower rank.
    """
    values, vectors = eigenbasis(symmetric(concept, "concept"))
    return _composed(torch.where(values < threshold, 0.0, values), vectors).to(concept.dtype)


def capacity(concept: Tensor) -> Tensor:
    """Share of the space in use: tr C / d, the mean eigenvalue, [...] in [0, 1]."""
    return concept.diagonal(dim1=-2, dim2=-1).mean(dim=-1)


def fitted_aperture(spectrum: Tensor, aperture: Tensor, share: float, *, factor: float = 1.1) -> Tensor:
    """The first of the apertures a, 1.1 a, 1.1² a, … whose conceptor lets enough of its own inputs through.

        √( Σ s_i² λ_i / Σ λ_i ) ≥ share,   s_i = λ_i / (λ_i + a⁻²)          = √( Σ ‖C x‖² / Σ ‖x‖² )

    CODE-CL (ICCV 2025) asks it of Σ‖C x‖ / Σ‖x‖ over single inputs x; the root mean square needs their moment only.

    Args:
        spectrum: [..., d] eigenvalues of the inputs' second moment R, squared activation units, d ≥ 1.
        aperture: [...] where to begin, > 0.
        share: in [0, 1).
        factor: > 1, from one aperture to the next.

    Returns:
        [...] apertures, float64; where there is no energy, the first one.

    Raises:
        TypeError, ValueError: as `conceptor`; a share outside [0, 1).
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must lie in [0, 1), got {share:g}; no finite aperture lets everything through")
    values = descending(spectrum).clamp(min=0)
    size = torch.as_tensor(aperture, dtype=torch.float64, device=values.device).expand(values.shape[:-1]).clone()
    if not (size > 0).all():  # asked at once, wherever it lies: from zero the search would not end
        raise ValueError(f"aperture must be positive, got {size.tolist()}")
    energy = values.sum(dim=-1)
    while True:
        used = values / (values + size[..., None] ** -2)
        short = (used.square() * values).sum(dim=-1) < share**2 * energy
        if not short.any():
            return size
        size = torch.where(short, factor * size, size)


def _composed(values: Tensor, vectors: Tensor) -> Tensor:
    return (vectors * values[..., None, :]) @ vectors.mT


def _intersection(one: Tensor, other: Tensor) -> Tensor:
    """`conceptor_and` of two [d, d] in float64."""
    (s, u), (t, v) = eigenbasis(one), eigenbasis(other)
    inside, within = s > ZERO, t > ZERO
    if inside.all() and within.all():
        basis = torch.eye(len(one), dtype=one.dtype, device=one.device)
    else:  # the common part of two ranges: where neither complement reaches
        outside = torch.cat([u[:, ~inside], v[:, ~within]], dim=1)
        left, sizes, _ = torch.linalg.svd(outside)
        basis = left[:, int((sizes > 1e-9).sum()) :]
    inverse = _composed(torch.where(inside, 1 / s, 0.0), u) + _composed(torch.where(within, 1 / t, 0.0), v)
    middle = basis.mT @ inverse @ basis - torch.eye(basis.shape[1], dtype=one.dtype, device=one.device)
    with few_threads(one):
        found = basis @ torch.linalg.inv((middle + middle.mT) / 2) @ basis.mT
    return (found + found.mT) / 2
