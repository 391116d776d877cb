"""Eigenvalues of second moments: where the used directions end, how many there are, how much they hold.

Everywhere a spectrum holds *eigenvalues of a second moment*, that is squared singular values of the activations, in
squared activation units and descending. They are energies already and are never squared again. n eigenvalues, from 0.
"""

import math

import torch
from torch import Tensor

from cl_core.linalg.validation import as_count, descending, few_threads, floating, refuse, share, symmetric

SMOOTHING_SIGMA = 10.0  # positions
SMOOTHED_FROM = 128  # spectra shorter than this are read raw and untrimmed
TRIMMED_SHARE = 0.03  # of a smoothed spectrum's positions, half at each end


def eigenbasis(moment: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors, most used direction first, computed in float64.

        C = V diag(λ) Vᵀ,   λ_0 ≥ … ≥ λ_{n−1} ≥ 0

    Rounding may leave a positive semi-definite moment with eigenvalues of −1e-17; like an SVD we give absolute values.

    Args:
        moment: [..., n, n] symmetric positive semi-definite, squared activation units.

    Returns:
        λ [..., n] in squared activation units and V [..., n, n], eigenvectors in columns, both in the moment's dtype.

    Raises:
        TypeError: if the moment is not a floating-point tensor.
        ValueError: if it is not square, not symmetric or not finite.
    """
    matrix = symmetric(moment)
    with few_threads(matrix):
        values, vectors = torch.linalg.eigh(matrix)
    values, order = values.abs().sort(dim=-1, descending=True, stable=True)
    vectors = torch.take_along_dim(vectors, order[..., None, :], dim=-1)
    return values.to(moment.dtype), vectors.to(moment.dtype)


def spectrum(moment: Tensor) -> Tensor:
    """Eigenvalues of a moment, descending: `eigenbasis` without the vectors.

    Args:
        moment: [..., n, n] symmetric positive semi-definite, squared activation units.

    Returns:
        [..., n] ≥ 0, in the moment's units and dtype.

    Raises:
        TypeError, ValueError: as `eigenbasis`.
    """
    matrix = symmetric(moment)
    with few_threads(matrix):
        values = torch.linalg.eigvalsh(matrix).abs()
    return values.sort(dim=-1, descending=True).values.to(moment.dtype)


def smoothed(values: Tensor, *, sigma: float = SMOOTHING_SIGMA, truncate: float = 4.0) -> Tensor:
    """Gaussian smoothing along the last axis, half-sample reflection at the ends.

        s_i = Σ_{|k| ≤ r} g_k x_{i+k},   g_k ∝ exp(−k²/2σ²),  Σ g = 1,  r = ⌊truncate·σ + ½⌋

    The same numbers as `scipy.ndimage.gaussian_filter1d(x, sigma)` with its defaults.

    Args:
        values: [..., n].
        sigma: width of the kernel in positions, > 0.
        truncate: radius of the kernel in sigmas.

    Returns:
        [..., n] in the units and dtype of `values`.

    Raises:
        TypeError: if `values` is not a floating-point tensor.
        ValueError: if sigma is not positive or `values` is empty or not finite.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma:g}")
    signal = floating(values, "values").double()
    length = signal.shape[-1] if signal.ndim else 0
    if length == 0:
        raise ValueError(f"values need at least one entry on the last axis, got shape {list(values.shape)}")
    radius = int(truncate * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64, device=signal.device)
    kernel = torch.exp(-0.5 / sigma**2 * offsets**2)
    weights: list[float] = (kernel / kernel.sum()).tolist()
    place = torch.arange(-radius, length + radius, device=signal.device) % (2 * length)
    padded = signal[..., torch.minimum(place, 2 * length - 1 - place)]  # d c b a | a b c d | d c b a
    total = padded[..., radius : radius + length] * weights[radius]
    for reach in range(radius, 0, -1):  # far to near, both neighbours before their weight: rounds as scipy does
        left = padded[..., radius - reach : radius - reach + length]
        right = padded[..., radius + reach : radius + reach + length]
        total = total + (left + right) * weights[radius - reach]
    return total.to(values.dtype)


def elbow_nullity(spectrum: Tensor) -> int | Tensor:
    """How many directions the adaptive rule calls free: those from the elbow of the spectrum on, the elbow included.

        s = λ                       if n < 128,   e = 0
        s = λ smoothed, σ = 10      otherwise,    e = ⌊0.03·n/2⌋
        c* = first maximiser of s_{c−1} − 2 s_c + s_{c+1},     1+e ≤ c ≤ n−2−e
        c* = largest i with λ_i ≥ λ_{c*}          only moves if raw eigenvalues tie exactly
        R  = n − c*

    Args:
        spectrum: [..., n] descending eigenvalues of a second moment, squared activation units, n ≥ 3.

    Returns:
        R, a count: a Python int for one spectrum, int64 [...] for a batch. Without ties 2 ≤ R ≤ n−1 for n < 128 and
        e+2 ≤ R ≤ n−e−1 from there on; exact ties in the tail can bring it down to 1.

    Raises:
        TypeError: if the spectrum is not a floating-point tensor.
        ValueError: if n < 3, or the spectrum rises or is not finite.

    Reference: official code of Lu et al., NeurIPS 2024, arXiv:2406.05658 (the paper neither smooths nor trims).
    """
    values = descending(spectrum)
    cut = torch.nan_to_num(_curvature(values), nan=-math.inf).argmax(dim=-1, keepdim=True)
    level = torch.take_along_dim(values, cut, dim=-1)
    return as_count((values < level).sum(dim=-1) + 1)


def energy_rank(spectrum: Tensor, energy: float) -> int | Tensor:
    """Smallest number of leading directions that hold at least the share `energy`.

        k = min { k ≥ 0 : λ_0 + … + λ_{k−1} ≥ energy · Σ λ }

    A share reached to within rounding counts as reached. Eigenvalues are energies: of singular values give the squares.

    Args:
        spectrum: [..., n] descending eigenvalues of a second moment, squared activation units.
        energy: share in [0, 1].

    Returns:
        k, a count in [0, n]: a Python int for one spectrum, int64 [...] for a batch; 0 for energy 0 or a zero spectrum.

    Raises:
        TypeError: if the spectrum is not a floating-point tensor.
        ValueError: if energy lies outside [0, 1], or the spectrum rises or is not finite.
    """
    energies = descending(spectrum).clamp(min=0)
    held = energies.cumsum(dim=-1)
    goal = share(energy, "energy") * held[..., -1:] * (1 - _rounding(spectrum))
    held = torch.cat([torch.zeros_like(held[..., :1]), held[..., :-1]], dim=-1)  # held by the first 0, 1, …, n−1
    return as_count((held < goal).sum(dim=-1))


def energy_nullity(spectrum: Tensor, energy: float) -> int | Tensor:
    """Directions left free when the leading ones must hold the share `energy`: n − `energy_rank`.

    Args, raises: as `energy_rank`.

    Returns:
        A count in [0, n]: a Python int for one spectrum, int64 [...] for a batch.
    """
    rank = energy_rank(spectrum, energy)
    return spectrum.shape[-1] - rank


def tail_energy_cut(spectrum: Tensor, rho: float) -> int | Tensor:
    """How many leading directions are protected so that what follows holds less than the share `rho`.

        k = min { k : (λ_k + … + λ_{d−1}) / Σ λ < rho },   strictly
          = number of positions whose suffix sum is ≥ rho · Σ λ

    A spectrum without energy protects all but one direction (the official code then uses the last eigenvector only); a
    flat spectrum of fewer than about 1/rho directions gives k = d, rho > 1 gives k = 0. A tail equal to rho within
    rounding is not less.

    Args:
        spectrum: [..., d] descending eigenvalues of a second moment, squared activation units.
        rho: share ≥ 0.

    Returns:
        k, a count in [0, d]: a Python int for one spectrum, int64 [...] for a batch. The nullity is d − k.

    Raises:
        TypeError: if the spectrum is not a floating-point tensor.
        ValueError: if rho is negative, or the spectrum rises or is not finite.

    Reference: official code of arXiv:2507.19839.
    """
    if not rho >= 0:
        raise ValueError(f"rho must be at least 0, got {rho:g}")
    energies = descending(spectrum).clamp(min=0)
    tail = energies.flip(-1).cumsum(dim=-1).flip(-1)  # energy from each position on
    total = tail[..., :1]
    cut = (tail >= rho * total * (1 - _rounding(spectrum))).sum(dim=-1)
    return as_count(torch.where(total[..., 0] == 0, energies.shape[-1] - 1, cut))


def protected_energy(spectrum: Tensor, nullity: int | Tensor) -> Tensor:
    """Share of the energy in the protected directions; the leaked share is one minus it.

        p = Σ_{j < n − nullity} λ_j / Σ_j λ_j

    Args:
        spectrum: [..., n] descending eigenvalues.
        nullity: free directions, [...] or one number.

    Returns:
        [...] dimensionless in [0, 1]; NaN where there is no energy.

    Raises:
        TypeError, ValueError: as `energy_rank`; nullity outside [0, n].
    """
    energies = descending(spectrum).clamp(min=0)
    kept = torch.arange(energies.shape[-1], device=energies.device) < (
        energies.shape[-1] - _nullity_of(energies, nullity)
    ).unsqueeze(-1)
    return ((energies * kept).sum(dim=-1) / energies.sum(dim=-1)).to(spectrum.dtype)


def effective_rank(spectrum: Tensor) -> Tensor:
    """Number of directions in use, by entropy.

        erank = exp(−Σ p_i ln p_i),   p = λ / Σ λ,   0 ln 0 = 0

    `p` is taken from the values as given: eigenvalues for second moments (NSP², GNSP). For a weight matrix or a set of
    features Roy and Vetterli use singular values (NuSA-CL, Fwd-Prompt): pass those.

    Args:
        spectrum: [..., n] values ≥ 0; their order does not matter.

    Returns:
        [...] dimensionless in [1, n], the spectrum's dtype; NaN where all values are 0.

    Raises:
        TypeError: if the spectrum is not a floating-point tensor.
        ValueError: if it is empty or not finite.

    Reference: Roy and Vetterli, The effective rank, EUSIPCO 2007.
    """
    part = _parts(spectrum)
    return torch.exp(-torch.special.xlogy(part, part).sum(dim=-1)).to(spectrum.dtype)


def _parts(spectrum: Tensor) -> Tensor:
    energies = descending(floating(spectrum, "spectrum").sort(dim=-1, descending=True).values).clamp(min=0)
    return energies / energies.sum(dim=-1, keepdim=True)


def _curvature(values: Tensor) -> Tensor:
    length = values.shape[-1]
    if length < 3:
        raise ValueError(f"an elbow needs at least 3 eigenvalues, got {length}; give the nullity yourself")
    trimmed = 0 if length < SMOOTHED_FROM else int(TRIMMED_SHARE * length / 2)
    heights = values if length < SMOOTHED_FROM else smoothed(values)
    curvature = torch.full_like(values, math.nan)
    curvature[..., 1:-1] = heights[..., :-2] - 2 * heights[..., 1:-1] + heights[..., 2:]
    curvature[..., : 1 + trimmed] = math.nan
    curvature[..., length - 1 - trimmed :] = math.nan
    return curvature


def _nullity_of(values: Tensor, nullity: int | Tensor) -> Tensor:
    numbers, bound = torch.as_tensor(nullity), f"nullity must lie in [0, {values.shape[-1]}], got"
    wrong = ((numbers < 0) | (numbers > values.shape[-1])).any()
    refuse(wrong, lambda: ValueError(f"{bound} {numbers.tolist()}"))
    return numbers.to(values.device).expand(values.shape[:-1])


def _rounding(spectrum: Tensor) -> float:
    """Relative error of a sum of the caller's eigenvalues: their own rounding plus that of adding them in float64."""
    return 4 * torch.finfo(spectrum.dtype).eps + spectrum.shape[-1] * torch.finfo(torch.float64).eps
