"""Projectors onto what past tasks do not use, strict and relaxed, and how much an update still reaches what they do.

A moment C [..., n, n] is symmetric positive semi-definite, in squared activation units; projectors are dimensionless.
Of a prompt matrix P [M, D], the feature side (n = D) is projected from the right, the token side (n = M) from the left.
"""

import math

import torch
from torch import Tensor

from cl_core.linalg.spectra import eigenbasis, elbow_nullity, spectrum, tail_energy_cut
from cl_core.linalg.validation import counts, floating, refuse, share, symmetric


def null_projector(moment: Tensor, nullity: int | Tensor, *, basis: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Orthogonal projector onto the `nullity` directions that `moment` uses least.

        Π = U₀ U₀ᵀ,   U₀ = eigenvectors of the `nullity` smallest eigenvalues

    Args:
        moment: [..., n, n] symmetric positive semi-definite, squared activation units.
        nullity: whole numbers in [0, n], one for all or [...].
        basis: `eigenbasis` of the moment in float64, where it is known already.

    Returns:
        [..., n, n] dimensionless, symmetric, Π² = Π, rank `nullity`; the moment's dtype and device.

    Raises:
        TypeError: if the moment is not floating point or the nullity not whole.
        ValueError: if the moment is not square, symmetric and finite, or a nullity lies outside [0, n].

    Reference: Lu et al., NeurIPS 2024, arXiv:2406.05658.
    """
    _, vectors = eigenbasis(symmetric(moment)) if basis is None else basis
    return _projector(vectors, _counted(nullity, moment)).to(moment.dtype)


def blended_projector(
    moment: Tensor,
    *,
    eta: float,
    nullity: int | Tensor | None = None,
    basis: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Relaxed projector of NSP²: the null projector at unit Frobenius norm, blended with the identity.

        B̃ = η Π / √R + (1 − η) I,   R = nullity,   Π = `null_projector`(C, R)

    It has two eigenvalues: η/√R + 1−η on the R free directions, 1−η on the protected ones. As Π is divided by √R, the
    free directions shrink as well: compare with `shrink_only`. R = 0 leaves (1−η) I.

    Args:
        moment: [..., n, n] symmetric positive semi-definite, squared activation units.
        eta: η in [0, 1]; 0 gives the identity, 1 the strict projector.
        nullity: whole numbers in [0, n], one for all or [...]; None takes `elbow_nullity` of each spectrum (n ≥ 3).
        basis: `eigenbasis` of the moment in float64, where it is known already.

    Returns:
        [..., n, n] dimensionless, symmetric; the moment's dtype and device.

    Raises:
        TypeError: if the moment is not floating point or the nullity not whole.
        ValueError: if η lies outside [0, 1], the moment is not square, symmetric and finite, or a nullity lies outside
            [0, n].

    Reference: official code of Lu et al., NeurIPS 2024, arXiv:2406.05658; scale and elbow differ from the paper's
    main text.
    """
    eta = share(eta, "eta")
    values, vectors = eigenbasis(symmetric(moment)) if basis is None else basis
    free = _counted(elbow_nullity(values) if nullity is None else nullity, moment)
    unit = _projector(vectors, free) / free.clamp(min=1).double().sqrt()[..., None, None]
    identity = torch.eye(moment.shape[-1], dtype=unit.dtype, device=unit.device)
    return (eta * unit + (1 - eta) * identity).to(moment.dtype)


def tail_projector(moment: Tensor, rho: float, *, basis: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """Orthogonal projector of GNSP onto the tail of the spectrum: less than the share `rho` of the energy is left open.

        P = N Nᵀ,   N = [v_{k+1} … v_d],   k = `tail_energy_cut`(λ, rho)

    Acts on the input side: grad(W) P for y = W x + b, P grad(A) for y = x A. k = d gives P = 0, rho > 1 gives P = I.

    Args:
        moment: [..., d, d] symmetric positive semi-definite, squared activation units (any scale).
        rho: share ≥ 0 of the energy that may stay unprotected (strictly less does).
        basis: `eigenbasis` of the moment in float64, where it is known already.

    Returns:
        [..., d, d] dimensionless, symmetric, P² = P, trace d − k; the moment's dtype and device.

    Raises:
        TypeError: if the moment is not a floating-point tensor.
        ValueError: if it is not square, symmetric and finite, or rho is negative.

    Reference: official code of arXiv:2507.19839.
    """
    values, vectors = eigenbasis(symmetric(moment)) if basis is None else basis
    width = moment.shape[-1]
    return _projector(vectors, _counted(width - tail_energy_cut(values, rho), moment)).to(moment.dtype)


def shrink_only(projector: Tensor) -> Tensor:
    """Control without a direction: shrinks an isotropic update as much as `projector` does, but all directions alike.

        ρ I,   ρ = ‖B‖_F / √n

    Args:
        projector: [..., n, n] dimensionless.

    Returns:
        [..., n, n] dimensionless, the projector's dtype and device.

    Raises:
        TypeError: if it is not a floating-point tensor.
        ValueError: if it is not square, symmetric and finite.
    """
    gain = rms_gain(projector)
    return gain[..., None, None] * torch.eye(projector.shape[-1], dtype=gain.dtype, device=gain.device)


def rms_gain(projector: Tensor) -> Tensor:
    """Factor by which a projector shrinks an isotropic update, in the root mean square.

        ρ = ‖B‖_F / √n

    Args:
        projector: [..., n, n] dimensionless. With one on each side of an update the two factors multiply.

    Returns:
        [...] dimensionless, the projector's dtype.

    Raises:
        TypeError, ValueError: as `shrink_only`.
    """
    norm = torch.linalg.matrix_norm(symmetric(projector, "projector"))
    return (norm / math.sqrt(projector.shape[-1])).to(projector.dtype)


def projector_gains(nullity: int | Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """The two eigenvalues of `blended_projector`: what it leaves of a free and of a protected direction.

        free = η/√R + 1 − η,   protected = 1 − η

    Args:
        nullity: R, whole numbers ≥ 0, any shape.
        eta: η in [0, 1].

    Returns:
        Two dimensionless float64 tensors of the nullity's shape; `free` is NaN where R = 0.

    Raises:
        ValueError: if η lies outside [0, 1] or a nullity is negative.
    """
    eta, free = share(eta, "eta"), torch.as_tensor(nullity).double()
    negative = lambda: ValueError(f"nullity must be at least 0, got {torch.as_tensor(nullity).tolist()}")
    refuse((free < 0).any(), negative)
    protected = torch.full_like(free, 1 - eta)
    return torch.where(free > 0, eta / free.clamp(min=1).sqrt() + protected, torch.nan), protected


def condition_residual(update: Tensor, moment: Tensor, *, top: Tensor | None = None) -> Tensor:
    """How far an update's direction still lies in what past tasks look at: 0 not at all, 1 as much as it can.

        r(Δ) = √( tr(Δ C Δᵀ) / (‖Δ‖_F² λ_0(C)) )

    r1 of NSP² is `condition_residual(Δ, C1)`, r2 is `condition_residual(Δᵀ, C2)`. Neither scale matters: a shrunken
    step does not look better.

    Args:
        update: Δ [..., m, n], the moment acting on its last axis.
        moment: C [..., n, n] symmetric positive semi-definite, squared activation units.
        top: λ_0(C) [...], where it is known already.

    Returns:
        [...] dimensionless in [0, 1], the update's dtype; NaN where the update or the moment is zero.

    Raises:
        TypeError: if either is not a floating-point tensor.
        ValueError: if the widths differ, or the moment is not square, symmetric and finite.
    """
    seen = _seen_energy(update, moment)
    size = update.double().square().sum(dim=(-2, -1))
    top = spectrum(moment.double())[..., 0] if top is None else top.double()
    return (seen / (size * top)).clamp(max=1).sqrt().to(update.dtype)


def isotropic_residual(moment: Tensor, *, top: Tensor | None = None) -> Tensor:
    """Residual of an update without preferred direction: the reference line of `condition_residual`.

        √( tr(C) / (n λ_0) )

    Args:
        moment: [..., n, n] symmetric positive semi-definite.
        top: λ_0 [...], where it is known already.

    Returns:
        [...] dimensionless in [1/√n, 1], the moment's dtype; NaN for a zero moment.

    Raises:
        TypeError, ValueError: as `spectrum`.
    """
    matrix = symmetric(moment)
    mean = matrix.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
    return (mean / (spectrum(matrix)[..., 0] if top is None else top.double())).sqrt().to(moment.dtype)


def _seen_energy(update: Tensor, moment: Tensor) -> Tensor:
    delta, matrix = floating(update, "update").double(), symmetric(moment)
    if delta.ndim < 2 or delta.shape[-1] != matrix.shape[-1]:
        raise ValueError(
            f"update must be [..., m, {matrix.shape[-1]}] for a moment of that width, got {list(update.shape)}; "
            "transpose it if the moment belongs to the other side"
        )
    return ((delta @ matrix) * delta).sum(dim=(-2, -1)).clamp(min=0)


def _counted(nullity: int | Tensor, moment: Tensor) -> Tensor:
    return counts(nullity, width=moment.shape[-1], leading=moment.shape[:-2], device=moment.device, name="nullity")


def _projector(vectors: Tensor, free: Tensor) -> Tensor:
    width = vectors.shape[-1]
    unused = torch.arange(width, device=vectors.device) >= (width - free)[..., None]  # most used directions come first
    basis = vectors * unused[..., None, :]
    return basis @ basis.mT
