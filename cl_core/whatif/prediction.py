"""What a threshold would have left of a stored update, and what that would have touched.

Per layer, with λ_i the energies past tasks give direction i, u_i the energy of the task's update along it, R directions
left free, g the factor on free directions and p = 1 − η on protected ones:

    r_i = 1 on free directions, p/g on protected ones
    passed        Σ r_i² u_i / Σ u_i                       share of the update's energy that gets through
    interference  Σ r_i² λ_i u_i / Σ λ_i u_i               what old tasks feel of it; 1 = nothing protected
    residual      √( Σ r_i² λ_i u_i / (λ_0 Σ r_i² u_i) )   direction alone: 0 unused, 1 the most used direction

r is relative to a free direction, so that a rule which shortens *every* step does not look like protection; by how much
it shortens is `gain`. A weight's update has two sides: its entry (i, j) between singular directions i and j counts with
the more used of the two.

What is assumed: the task would have wanted the same update. It would not quite: every step moves the point at which the
next gradient is taken. And later tasks would meet other spectra.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cl_core.whatif import rules
from cl_core.whatif.task_boundary import Boundary
from cl_core.whatif.threshold import WEIGHTS, Threshold


@dataclass(frozen=True)
class Prediction:
    """Per layer [L] (or [P, L] at P thresholds). Shares lie in 0..1; NaN where no update is stored, or it was zero."""

    nullity: np.ndarray  # directions left free (of a weight: those that may be written to)
    protected_energy: np.ndarray  # share of Σ λ in the other directions
    gain: np.ndarray  # factor on a free direction; NaN where none is free
    passed: np.ndarray
    interference: np.ndarray
    residual: np.ndarray

    def mean(self, field: str) -> float:
        """Mean over layers; NaN where nothing is known."""
        known = getattr(self, field)
        known = known[np.isfinite(known)]
        return float(known.mean()) if known.size else float("nan")


def nullities(boundary: Boundary, threshold: Threshold, values: list[float] | None = None) -> np.ndarray:
    """[L] directions that the threshold leaves free; [P, L] with its rule at each of P `values`."""
    spectra = boundary.spectra
    value = threshold.value if values is None else np.asarray(values, np.float64)
    if threshold.rule == "elbow":
        free = np.broadcast_to(rules.elbow_nullity(spectra), (*np.shape(value), len(spectra)))
    elif threshold.rule == "energy":
        rank = rules.weight_rank if boundary.kind == WEIGHTS else rules.energy_rank
        free = boundary.width - rank(spectra, value)
    elif threshold.rule == "tail":
        free = boundary.width - rules.tail_energy_cut(spectra, value)
    else:
        return rules.free_nullity(spectra, value)  # the common axis: nothing else limits it
    return free if threshold.most is None else np.minimum(free, threshold.most)


def predict(
    boundary: Boundary, threshold: Threshold, *, nullity: np.ndarray | None = None, values: list[float] | None = None
) -> Prediction:
    """What `threshold` does to the stored update of the task after `boundary`.

    Args:
        boundary: spectra and update.
        threshold: rule, value and softness.
        nullity: [L] or [P, L] cuts to use instead of the rule's.
        values: the rule at each of these P values instead of its own: fields become [P, L].
    """
    free = np.asarray(nullities(boundary, threshold, values) if nullity is None else nullity)
    spectra, n = np.clip(boundary.spectra.astype(np.float64), 0, None), boundary.width
    kept = 1 - threshold.eta
    gain = np.ones(free.shape)
    if threshold.scale == "frobenius":
        gain = threshold.eta / np.sqrt(np.maximum(free, 1)) + kept
    ratio = np.where(free > 0, kept / gain, kept)
    gain = np.where(free > 0, gain, np.nan)
    cut = n - free
    total = spectra.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        protected = _head(spectra, cut) / total
        if boundary.energies is None:
            unknown = np.full(free.shape, np.nan)
            return Prediction(free, protected, gain, unknown, unknown, unknown)
        update = boundary.energies
        seen = spectra * update
        through = _through(update, cut, ratio)
        felt = _through(seen, cut, ratio)
        residual = np.sqrt(felt / (spectra[:, 0] * through))
        return Prediction(free, protected, gain, through / update.sum(axis=1), felt / seen.sum(axis=1), residual)


def _head(energies: np.ndarray, cut: np.ndarray) -> np.ndarray:
    """Σ_{i < cut} of [L, n] at cuts [..., L]."""
    sums = np.concatenate([np.zeros((len(energies), 1)), energies.cumsum(axis=1)], axis=1)
    return sums[np.arange(len(energies)), cut]


def _through(energies: np.ndarray, cut: np.ndarray, ratio: np.ndarray) -> np.ndarray:
    """Σ_{i ≥ cut} e_i + ratio² Σ_{i < cut} e_i; the first is summed from the small end, where it may be tiny."""
    sums = np.concatenate([energies[:, ::-1].cumsum(axis=1)[:, ::-1], np.zeros((len(energies), 1))], axis=1)
    return sums[np.arange(len(energies)), cut] + ratio**2 * _head(energies, cut)
