"""Subspaces of tasks: the angles between two, the share they have in common, and how a space is divided among many.

A subspace of dimension p in d dimensions is given by a basis [..., d, p] whose columns span it, orthonormal or not.

Division of a space between what was learned before all tasks and what tasks took since, all bases orthonormal:

    V [d, K₀]  pre-trained space, fixed           F [d, f] ⊂ V  conflicting: in V, used by tasks
    R [d, r] ⊥ V  occupied by tasks outside V     d = (K₀ − f) free in V + f + r + (d − K₀ − r) free outside V
"""

import torch
from torch import Tensor

from cl_core.linalg.spectra import eigenbasis, energy_rank
from cl_core.linalg.validation import floating, refuse, share, symmetric

_FLOOR = 1e-8  # cosines and lengths at rounding level are no directions
_ROUNDING = 1e-12  # of the whole energy: sums of eigenvalues are not exact
_KNOWN = 1e-11  # what is left of a direction after a basis was taken out, where the basis holds it already


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


def core_space(moment: Tensor, energy: float) -> Tensor:
    """Leading directions of a moment, the fewest that hold a share of its energy.

        K = min { k : Σ_{i≤k} σ_i² ≥ energy · Σ σ_i² },   σ_i² eigenvalues of the moment

    Args:
        moment: [d, d] symmetric positive semi-definite, squared activation units; not centred.
        energy: share in [0, 1].

    Returns:
        [d, K] orthonormal columns, most used first, the moment's dtype.

    Raises:
        TypeError, ValueError: as `eigenbasis` and `energy_rank`.

    Reference: core space of Zheng et al., arXiv:2401.09181; energy of squares as in Saha et al., ICLR 2021 (GPM).
    """
    values, vectors = eigenbasis(moment)
    return vectors[..., : int(energy_rank(values.clamp(min=0), energy))]


def added_directions(moment: Tensor, basis: Tensor, energy: float) -> Tensor:
    """What a task adds to directions that are held already, so that all of them together hold a share of its energy.

        Ĉ = (I − B Bᵀ) C (I − B Bᵀ) = U diag(λ̂) Uᵀ,   k = min { k ≥ 0 : tr Bᵀ C B + Σ_{i≤k} λ̂_i ≥ energy · tr C }

    Args:
        moment: C [d, d] symmetric positive semi-definite, squared activation units; not centred.
        basis: B [d, b] orthonormal columns, b ≥ 0; without any the result is `core_space`.
        energy: share in [0, 1].

    Returns:
        [d, k] orthonormal columns outside the span of B, most used first, the moment's dtype.

    Raises:
        TypeError, ValueError: as `core_space`.

    Reference: Saha et al., Gradient Projection Memory, ICLR 2021, eq. 8 and 9. Minimal k; its release keeps one fewer.
    """
    matrix, held = symmetric(moment), basis.double()
    rest = matrix - held @ (held.mT @ matrix)
    rest = rest - (rest @ held) @ held.mT
    values, vectors = eigenbasis((rest + rest.mT) / 2)  # what is left may be small enough for rounding to skew it
    total = matrix.trace()
    reached = (total - rest.trace()).clamp(min=0) + torch.cat([values.new_zeros(1), values.cumsum(dim=0)])
    short = reached < share(energy, "energy") * total * (1 - _ROUNDING)
    count = min(int(short.sum()), moment.shape[-1] - held.shape[1])
    return torch.linalg.qr(vectors[:, :count] - held @ (held.mT @ vectors[:, :count])).Q.to(moment.dtype)


def absorb(
    pretrained: Tensor, conflicting: Tensor, occupied: Tensor, core: Tensor, *, cosine: float, length: float
) -> tuple[Tensor, Tensor]:
    """What a finished task takes of the space, inside and outside the pre-trained space.

        A diag(c) Bᵀ = svd(Vᵀ C),           F ← orth[ F, V A[:, c_i > max(cosine, 1e-8)] ]
        S diag(l) Qᵀ = svd(C − V Vᵀ C),     R ← orth[ R, S[:, l_i > max(length, 1e-8)] ]

    Args:
        pretrained: V [d, K₀]. conflicting: F [d, f]. occupied: R [d, r].
        core: C [d, K] orthonormal, the task's core space.
        cosine: a direction of V counts as used from this cosine with C on; > 1: none does.
        length: a direction outside V is taken if more than this length of a unit vector of C lies along it.

    Returns:
        (F, R) with the task's directions: [d, f'], [d, r'], in the core's dtype.

    Reference: our reading of arXiv:2401.09181, which leaves open how spaces of several tasks are combined.
    """
    v, c = pretrained.double(), core.double()
    turned, cosines, _ = torch.linalg.svd(v.mT @ c, full_matrices=False)
    outside, lengths, _ = torch.linalg.svd(c - v @ (v.mT @ c), full_matrices=False)
    inside, outside = v @ turned[:, cosines > max(cosine, _FLOOR)], outside[:, lengths > max(length, _FLOOR)]
    outside = outside - v @ (v.mT @ outside)
    return _extended(conflicting.double(), inside).to(core), _extended(occupied.double(), outside).to(core)


def allocation_projector(
    pretrained: Tensor, conflicting: Tensor, occupied: Tensor, *, pretrained_weight: float = 1.0, outside: float = 1.0
) -> Tensor:
    """Map onto what no task has taken yet.

        P = w (V Vᵀ − F Fᵀ) + u (I − V Vᵀ − R Rᵀ)

    Args:
        pretrained, conflicting, occupied: V, F, R as `absorb`.
        pretrained_weight: w in [0, 1], how much of a step is let through inside the pre-trained space.
        outside: u in [0, 1], the same outside it; 0 keeps every step inside the pre-trained space.

    Returns:
        [d, d] symmetric; a projector of rank d − f − r for w = u = 1.

    Raises:
        ValueError: if a weight lies outside [0, 1].

    Reference: our reading of arXiv:2401.09181.
    """
    v, f, r = (basis.double() @ basis.double().mT for basis in (pretrained, conflicting, occupied))
    inner, outer = share(pretrained_weight, "pretrained_weight"), share(outside, "outside")
    whole = torch.eye(v.shape[-1], dtype=v.dtype, device=v.device)
    return symmetric(inner * (v - f) + outer * (whole - v - r)).to(pretrained.dtype)


def space_shares(rows: Tensor, pretrained: Tensor, conflicting: Tensor, occupied: Tensor) -> Tensor:
    """How the energy of some rows is divided among the four parts of the space.

        ‖g F‖² , ‖g R‖² , ‖g V‖² − ‖g F‖² , ‖g‖² − ‖g V‖² − ‖g R‖²    each over ‖g‖²

    Args:
        rows: g [n, d], a gradient or a step. pretrained, conflicting, occupied: V, F, R as `absorb`.

    Returns:
        [4] dimensionless, sum 1: free inside the pre-trained space, conflicting, occupied, free outside it; NaN where
        the rows are zero.
    """
    g = rows.double()
    v, f, r = ((g @ basis.double()).square().sum() for basis in (pretrained, conflicting, occupied))
    whole = g.square().sum()
    return (torch.stack([v - f, f, r, whole - v - r]).clamp(min=0) / whole).to(rows.dtype)


def random_projector(width: int, rank: int, generator: torch.Generator) -> Tensor:
    """Orthogonal projector onto a random subspace, every subspace equally likely: the control of a chosen one.

    Args:
        width: d ≥ 1.
        rank: dimension of the subspace, in [0, d].
        generator: the only source of chance.

    Returns:
        [d, d] float64.

    Raises:
        ValueError: if the rank lies outside [0, d].
    """
    if not 0 <= rank <= width:
        raise ValueError(f"rank must lie in [0, {width}], got {rank}")
    basis = torch.linalg.qr(torch.randn(width, rank, generator=generator, dtype=torch.float64)).Q
    return symmetric(basis @ basis.mT)


def _extended(basis: Tensor, more: Tensor) -> Tensor:
    """An orthonormal basis and the part of further unit directions that it does not hold yet: [d, p']."""
    rest = more - basis @ (basis.mT @ more)
    left, sizes, _ = torch.linalg.svd(rest, full_matrices=False)
    new = left[:, sizes > _KNOWN]
    new = torch.linalg.qr(new - basis @ (basis.mT @ new)).Q  # short remainders are tilted by rounding
    return torch.cat([basis, new], dim=1)


def _orthonormal(basis: Tensor, name: str) -> Tensor:
    if basis.ndim < 2 or basis.shape[-1] > basis.shape[-2]:
        raise ValueError(f"{name} must be [..., d, p] with p ≤ d, directions in columns, got shape {list(basis.shape)}")
    left, sizes, _ = torch.linalg.svd(basis.double(), full_matrices=False)
    limit = basis.shape[-2] * torch.finfo(basis.dtype).eps * sizes[..., :1]
    complaint = lambda: ValueError(f"the columns of {name} must be independent; drop the ones that repeat others")
    refuse((sizes <= limit).any(), complaint)
    return left
