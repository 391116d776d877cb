"""Where a stored spectrum is cut: the rules of `cl_core.linalg` in numpy, for readers without torch.

Spectra are energies λ (eigenvalues of a second moment, or squared singular values of a weight), descending along the
last axis, n of them; every rule takes [..., n] and gives counts [...], or [P, ...] at P values at once. On the same
numbers they give the same counts as
the torch functions of the same name, which train; tests hold that.
"""

from __future__ import annotations

import numpy as np

from cl_core.config import ConfigError

SMOOTHING_SIGMA = 10.0  # positions
SMOOTHED_FROM = 128  # spectra shorter than this are read raw and untrimmed
TRIMMED_SHARE = 0.03  # of a smoothed spectrum's positions, half at each end


def energy_rank(spectrum: np.ndarray, energy: float | np.ndarray) -> np.ndarray:
    """Smallest number of leading directions that hold at least the share `energy`.

        k = min { k ≥ 0 : λ_0 + … + λ_{k−1} ≥ energy · Σ λ }

    Raises ConfigError if the share lies outside [0, 1].
    """
    shares = _within(energy, 1, "energy", spectrum)
    held = np.clip(np.asarray(spectrum, np.float64), 0, None).cumsum(axis=-1)
    goal = shares * held[..., -1:] * (1 - _rounding(spectrum))
    before = np.concatenate([np.zeros_like(held[..., :1]), held[..., :-1]], axis=-1)
    return (before < goal).sum(axis=-1)


def energy_nullity(spectrum: np.ndarray, energy: float | np.ndarray) -> np.ndarray:
    """n − `energy_rank`."""
    return np.shape(spectrum)[-1] - energy_rank(spectrum, energy)


def tail_energy_cut(spectrum: np.ndarray, rho: float | np.ndarray) -> np.ndarray:
    """How many leading directions are protected so that what follows holds less than the share `rho`, strictly.

        k = min { k : (λ_k + … + λ_{n−1}) / Σ λ < rho }

    A spectrum without energy protects all but one. Raises ConfigError for a negative share.
    """
    shares = _within(rho, np.inf, "rho", spectrum)
    energies = np.clip(np.asarray(spectrum, np.float64), 0, None)
    tail = energies[..., ::-1].cumsum(axis=-1)[..., ::-1]
    total = tail[..., :1]
    cut = (tail >= shares * total * (1 - _rounding(spectrum))).sum(axis=-1)
    return np.where(total[..., 0] == 0, energies.shape[-1] - 1, cut)


def elbow_nullity(spectrum: np.ndarray) -> np.ndarray:
    """Directions from the knee of the spectrum on, the knee included: the maximum of the second difference, of the
    smoothed spectrum from 128 values on, without 1.5 % at either end there.

    Raises ConfigError if there are fewer than three values.
    """
    values = np.asarray(spectrum, np.float64)
    n = values.shape[-1]
    if n < 3:
        raise ConfigError(f"a knee needs at least 3 directions, got {n}; choose the rule energy or free")
    trimmed = 0 if n < SMOOTHED_FROM else int(TRIMMED_SHARE * n / 2)
    heights = values if n < SMOOTHED_FROM else _smoothed(values)
    curvature = np.full_like(values, -np.inf)
    curvature[..., 1:-1] = heights[..., :-2] - 2 * heights[..., 1:-1] + heights[..., 2:]
    curvature[..., : 1 + trimmed] = -np.inf
    curvature[..., n - 1 - trimmed :] = -np.inf
    cut = curvature.argmax(axis=-1)[..., None]
    return (values < np.take_along_axis(values, cut, axis=-1)).sum(axis=-1) + 1


def weight_rank(spectrum: np.ndarray, rho: float | np.ndarray) -> np.ndarray:
    """Principal directions of a weight: `energy_rank` of its squared singular values, at least one."""
    return np.maximum(energy_rank(spectrum, rho), 1)


def free_nullity(spectrum: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """Directions left free where that is set itself: the whole number nearest to share · n, alike in every layer.

    Raises ConfigError if the share lies outside [0, 1].
    """
    shares, n = _within(share, 1, "the share of directions left free", spectrum)[..., 0], np.shape(spectrum)[-1]
    leading = np.broadcast_shapes(shares.shape, np.shape(spectrum)[:-1])
    return np.broadcast_to((shares * n + 0.5).astype(int), leading)


def _within(value: float | np.ndarray, high: float, name: str, spectrum: np.ndarray) -> np.ndarray:
    """A share, or P of them, checked and shaped to meet spectra [..., n]: [...,1] or [P, ..., 1]."""
    shares = np.asarray(value, np.float64)
    outside = ~((shares >= 0) & (shares <= high))
    if outside.any():
        met = shares[outside].flat[0] if shares.ndim else float(shares)
        bound = f"lie in [0, {high:g}]" if np.isfinite(high) else "be at least 0"
        raise ConfigError(f"{name} must {bound}, got {met:g}")
    return shares.reshape(shares.shape + (1,) * np.ndim(spectrum))


def _smoothed(values: np.ndarray) -> np.ndarray:
    """Gaussian smoothing along the last axis with half-sample reflection, added in the order of the torch function."""
    n, radius = values.shape[-1], int(4.0 * SMOOTHING_SIGMA + 0.5)
    kernel = np.exp(-0.5 / SMOOTHING_SIGMA**2 * np.arange(-radius, radius + 1, dtype=np.float64) ** 2)
    kernel /= kernel.sum()
    place = np.arange(-radius, n + radius) % (2 * n)
    padded = values[..., np.minimum(place, 2 * n - 1 - place)]
    total = padded[..., radius : radius + n] * kernel[radius]
    for reach in range(radius, 0, -1):
        left = padded[..., radius - reach : radius - reach + n]
        right = padded[..., radius + reach : radius + reach + n]
        total = total + (left + right) * kernel[radius - reach]
    return total


def _rounding(spectrum: np.ndarray) -> float:
    """Relative error of a sum: the stored numbers' own rounding plus that of adding them in float64."""
    kind = np.asarray(spectrum).dtype
    own = np.finfo(kind).eps if kind.kind == "f" else np.finfo(np.float64).eps
    return 4 * float(own) + np.shape(spectrum)[-1] * float(np.finfo(np.float64).eps)
