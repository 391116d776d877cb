"""The rules in numpy cut where the torch functions that train cut."""

from __future__ import annotations

import numpy as np
import pytest

from cl_core.config import ConfigError
from cl_core.whatif import elbow_nullity, energy_nullity, energy_rank, free_nullity, tail_energy_cut, weight_rank


def spectra(seed: int, rows: int, n: int, dtype=np.float32) -> np.ndarray:
    """Descending spectra of several shapes: steep, flat, with a zero tail."""
    rng = np.random.default_rng(seed)
    decay = np.exp(-np.arange(n) * rng.uniform(0.005, 0.4, (rows, 1))) * rng.uniform(0.5, 1.5, (rows, n))
    decay[0] = 1.0
    decay[-1, n // 2 :] = 0.0
    return np.sort(decay, axis=-1)[:, ::-1].astype(dtype)


@pytest.mark.parametrize("n", [3, 8, 48, 127, 128, 192, 300])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_cuts_as_the_algebra_that_trains(n, dtype):
    torch = pytest.importorskip("torch")
    from cl_core import linalg

    values = spectra(n, 12, n, dtype)
    same = torch.from_numpy(values.copy())
    assert (elbow_nullity(values) == linalg.elbow_nullity(same).numpy()).all()
    for share in (0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0):
        assert (energy_rank(values, share) == linalg.energy_rank(same, share).numpy()).all(), share
        assert (energy_nullity(values, share) == linalg.energy_nullity(same, share).numpy()).all(), share
        assert (tail_energy_cut(values, share) == linalg.tail_energy_cut(same, share).numpy()).all(), share


def test_a_weight_is_split_as_the_algebra_splits_it():
    torch = pytest.importorskip("torch")
    from cl_core.linalg import weight_split

    sigma = spectra(5, 6, 40, np.float32)
    for rho in (0.0, 0.3, 0.95, 1.0):
        found = weight_rank(sigma.astype(np.float64) ** 2, rho)
        assert found.tolist() == [weight_split(torch.from_numpy(row.copy()), rho).principal for row in sigma]


def test_many_values_at_once_are_each_of_them():
    values, shares = spectra(1, 4, 30), np.array([0.0, 0.4, 0.97])
    for rule in (energy_rank, tail_energy_cut, free_nullity, weight_rank):
        together = rule(values, shares)
        assert together.shape == (3, 4)
        assert (together == np.stack([rule(values, share) for share in shares])).all()


def test_known_cuts():
    values = np.array([4.0, 3.0, 2.0, 1.0])
    assert [int(energy_rank(values, e)) for e in (0.0, 0.4, 0.41, 0.7, 0.9, 1.0)] == [0, 1, 2, 2, 3, 4]
    assert [int(tail_energy_cut(values, r)) for r in (0.05, 0.1, 0.11, 0.3, 2.0)] == [4, 4, 3, 3, 0]
    assert [int(free_nullity(values, f)) for f in (0.0, 0.5, 1.0)] == [0, 2, 4]


def test_a_spectrum_without_energy_protects_all_but_one_direction():
    assert int(tail_energy_cut(np.zeros(5), 0.1)) == 4 and int(energy_rank(np.zeros(5), 0.9)) == 0


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda v: energy_rank(v, 1.2), "[0, 1], got 1.2"),
        (lambda v: tail_energy_cut(v, -0.5), "at least 0, got -0.5"),
        (lambda v: free_nullity(v, 2.0), "[0, 1], got 2"),
        (lambda v: elbow_nullity(v[:2]), "at least 3 directions, got 2"),
    ],
)
def test_a_value_out_of_bounds_is_named(ask, words):
    with pytest.raises(ConfigError, match=words.replace("[", r"\[").replace("]", r"\]")):
        ask(np.array([3.0, 2.0, 1.0]))
