"""Formulas shared by the projection rules. NumPy, float64 decompositions, no state.

Shapes: X [n, d] inputs of one layer as rows; B [d, k] an orthonormal basis; M [d, d] a second moment; s [k] singular
values, descending. Energy is squared singular values = eigenvalues of XᵀX.
"""

from __future__ import annotations

import numpy as np


def energy_rank(energies: np.ndarray, share: float, *, total: float | None = None, start: float = 0.0) -> int:
    """The fewest leading directions that together hold `share` of the energy.

        k = min { k : start + e_1 + … + e_k ≥ share · total }

    Args:
        energies: [d] descending, squared singular values.
        share: ε, 0 to 1. 0 needs none.
        total: what the share is of; default: start + Σ e.
        start: energy that is covered already.

    Returns:
        k, 0 ≤ k ≤ d. (The release of GPM keeps one fewer after the first task; this is its rule for all later ones.)
    """
    total = start + float(energies.sum()) if total is None else total
    if total <= 0 or start >= share * total:
        return 0
    reached = start + np.cumsum(energies)
    return min(int(np.searchsorted(reached, share * total * (1 - 1e-12))) + 1, len(energies))


def gram(inputs: np.ndarray) -> np.ndarray:
    """XᵀX [..., d, d] of rows X [..., n, d], float64."""
    rows = inputs.astype(np.float64)
    return rows.swapaxes(-1, -2) @ rows


def leading_directions(inputs: np.ndarray, basis: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Directions that a basis lacks to hold the share ε of the energy of new inputs (Saha et al. 2021, section 3).

        X' = X − X B Bᵀ,   k = min { k : ‖X B‖² + s_1² + … + s_k² ≥ ε ‖X‖² },   s and V from X' = U S Vᵀ

    All of it follows from G = XᵀX: X'ᵀX' = P G P with P = I − B Bᵀ, and ‖X‖² = tr G.

    Args:
        inputs: G [d, d] (`gram`).
        basis: B [d, k0], orthonormal columns; k0 may be 0.
        share: ε, 0 to 1.

    Returns:
        V [d, k], orthonormal and orthogonal to B, and s [k], both descending in s. Never more than d − k0.
    """
    outside = complement(basis)
    rest = outside @ inputs @ outside
    total, left = float(np.trace(inputs)), float(np.trace(rest))
    energies, vectors = eigen_descending(rest)
    rank = energy_rank(energies, share, total=total, start=total - left)
    rank = min(rank, len(inputs) - basis.shape[-1])
    return vectors[:, :rank], np.sqrt(np.maximum(energies[:rank], 0))


def extended(basis: np.ndarray, new: np.ndarray) -> np.ndarray:
    """[B, V], orthonormal again to rounding."""
    joined, _ = np.linalg.qr(np.concatenate([basis, new], axis=1))
    return joined * np.where((joined * np.concatenate([basis, new], axis=1)).sum(0) < 0, -1.0, 1.0)


def complement(basis: np.ndarray, importance: np.ndarray | None = None) -> np.ndarray:
    """I − B diag(λ) Bᵀ [d, d]; λ = 1 where none is given (the orthogonal projector off B)."""
    scaled = basis if importance is None else basis * importance
    return np.eye(len(basis)) - scaled @ basis.T


def importance(values: np.ndarray, alpha: float) -> np.ndarray:
    """SGP's importance of directions with singular values s (Saha & Roy 2023, equation 6).

        λ_i = (α + 1) s_i / (α s_i + max s)         1 for the largest, 0 for 0; α = 0: s/max s; α → ∞: 1

    Args:
        values: s [k] ≥ 0.
        alpha: α ≥ 0.
    """
    largest = values.max(initial=0.0)
    return np.zeros_like(values) if largest <= 0 else (alpha + 1) * values / (alpha * values + largest)


def null_directions(moment: np.ndarray, multiple: float) -> np.ndarray:
    """Eigenvectors of M whose eigenvalues are at most a · λ_min (Wang et al. 2021): the approximate null space [d, r].

    λ_min is taken to be at least 1e-10 λ_max: below that it is rounding.
    """
    energies, vectors = eigen_descending(moment)
    floor = max(float(energies[-1]), 1e-10 * float(energies[0]))
    return vectors[:, energies <= multiple * floor]


def tail_directions(moment: np.ndarray, share: float) -> np.ndarray:
    """Eigenvectors of M beyond the fewest leading ones that hold the share ε of its trace: [d, d − k]."""
    energies, vectors = eigen_descending(moment)
    return vectors[:, energy_rank(energies, share) :]


def eigen_descending(moment: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues [..., d], descending and at least 0, and eigenvectors in the columns of [..., d, d]."""
    values, vectors = np.linalg.eigh(moment.astype(np.float64))
    return np.maximum(values[..., ::-1], 0), vectors[..., ::-1]


def effective_rank(energies: np.ndarray) -> float:
    """exp(entropy) of a normalised spectrum; 0 for an empty one."""
    total = energies.sum()
    if total <= 0:
        return 0.0
    shares = energies[energies > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))


def discriminant(features: np.ndarray, labels: np.ndarray, shrinkage: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Linear discriminant analysis with one covariance for all classes, as `cl_core.observers.lda_readout` has it.

        score_c(x) = x w_c − b_c,   w_c = Σ⁻¹ μ_c,   b_c = ½ μ_cᵀ w_c,   Σ = (1 − s) W/n + s tr(W/n)/d I

    Args:
        features: [n, d]. labels: [n] ids from 0. shrinkage: s.

    Returns:
        W [d, C] and b [C], float64, C = the largest label + 1; ids without images score −∞ (b = ∞).
    """
    rows, classes = features.astype(np.float64), int(labels.max()) + 1
    counts = np.bincount(labels, minlength=classes)
    sums = np.zeros((classes, rows.shape[1]))
    np.add.at(sums, labels, rows)
    means = sums / np.maximum(counts, 1)[:, None]
    within = gram(rows - means[labels]) / len(rows)
    covariance = (1 - shrinkage) * within
    covariance[np.diag_indices_from(covariance)] += shrinkage * np.trace(within) / len(within) + 1e-12
    weights = np.linalg.solve(covariance, means.T)
    return weights, np.where(counts, 0.5 * (means.T * weights).sum(0), np.inf)
