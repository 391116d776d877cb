"""Weights by singular directions: the cut on crafted spectra, bounds, and what a change in the tail leaves alone."""

import itertools

import pytest
import torch

from cl_core.linalg import singular_directions, weight_split


def values(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize(
    ("spectrum", "rho", "principal"),
    [
        (torch.ones(100), 0.95, 95),
        (values(5, 0, 0, 0), 0.95, 1),
        (values(3, 1), 0.9, 1),  # 9 of 10
        (values(3, 1), 0.95, 2),
        (values(2, 1, 1), 0.0, 1),  # at least one direction is principal
        (values(2, 1, 1), 1.0, 3),
    ],
)
def test_the_cut_is_on_squared_singular_values(spectrum, rho, principal):
    assert weight_split(spectrum, rho).principal == principal


def test_a_power_law_gives_the_published_counts():
    spectrum = torch.arange(1, 769, dtype=torch.float64) ** -0.5
    assert weight_split(spectrum, 0.95).principal == 536
    assert weight_split(spectrum, 0.99).principal == 715


def test_what_binds_is_named():
    spectrum = torch.ones(100)
    assert weight_split(spectrum, 0.95, 3) == (95, 3, "r_max")
    assert weight_split(spectrum, 0.95, 5) == (95, 5, "rho")
    assert weight_split(spectrum, 0.95, 60) == (95, 5, "rho")
    assert weight_split(spectrum, 1.0, 60) == (100, 0, "rho")


def test_more_energy_means_more_principal_and_fewer_written_directions():
    spectrum = torch.rand(50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).sort(descending=True)[0]
    splits = [weight_split(spectrum, rho, 20) for rho in torch.linspace(0, 1, 21).tolist()]
    assert all(a.principal <= b.principal and a.written >= b.written for a, b in itertools.pairwise(splits))


def test_directions_rebuild_the_weight_and_keep_the_small_ones():
    generator = torch.Generator().manual_seed(1)
    left, right = (torch.linalg.qr(torch.randn(n, 24, generator=generator, dtype=torch.float64)).Q for n in (40, 24))
    spectrum = torch.logspace(0, -6, 24, dtype=torch.float64)
    weight = left * spectrum @ right.mT
    found = singular_directions(weight.float())
    assert found.left.dtype == torch.float64
    torch.testing.assert_close(found.left * found.values @ found.right, weight.float().double())
    torch.testing.assert_close(found.values, spectrum, atol=1e-7, rtol=0)


def test_a_change_in_the_tail_leaves_the_other_singular_values_alone():
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(32, 32, generator=generator, dtype=torch.float64)
    directions = singular_directions(weight)
    middle = 0.1 * torch.randn(8, 8, generator=generator, dtype=torch.float64)
    changed = weight + directions.left[:, 24:] @ middle @ directions.right[24:]
    tail = torch.linalg.svdvals(directions.values[24:].diag() + middle)
    expected = torch.cat([directions.values[:24], tail]).sort(descending=True)[0]
    torch.testing.assert_close(torch.linalg.svdvals(changed), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("weight", [torch.ones(3), torch.full((2, 2), torch.nan)])
def test_what_is_no_finite_matrix_is_refused(weight):
    with pytest.raises(ValueError, match="finite matrix"):
        singular_directions(weight)
