"""Nullities, ranks and cuts: the rules' known values, their bounds, and what they must not depend on."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from cl_core.linalg import (
    effective_rank,
    eigenbasis,
    elbow_nullity,
    energy_nullity,
    energy_rank,
    protected_energy,
    smoothed,
    spectrum,
    tail_energy_cut,
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def descending_numbers(*shape, seed=0, dtype=torch.float64):
    """Positive numbers over several decades, sorted downwards along the last axis."""
    return torch.exp(3 * torch.randn(*shape, generator=seeded(seed), dtype=dtype)).sort(-1, descending=True).values


def moment_of_rank(rank, width, seed=0, dtype=torch.float64):
    rows = torch.randn(4 * width, rank, generator=seeded(seed), dtype=dtype)
    mixing = torch.randn(rank, width, generator=seeded(seed + 1), dtype=dtype)
    return (rows @ mixing).mT @ (rows @ mixing) / len(rows)


def elbow_by_the_card(values):
    """The rule as a card would be read out, with scipy doing the smoothing."""
    n = len(values)
    heights = values if n < 128 else gaussian_filter1d(values, sigma=10)
    trim = 0 if n < 128 else math.floor(0.03 * n / 2)
    best, cut = -math.inf, None
    for c in range(1 + trim, n - 2 - trim + 1):
        bend = heights[c - 1] - 2 * heights[c] + heights[c + 1]
        if bend > best:
            best, cut = bend, c
    return n - max(i for i in range(n) if values[i] >= values[cut])


@pytest.mark.parametrize("length", [1, 2, 5, 39, 40, 41, 127, 128, 300, 768])
def test_smoothing_equals_scipys(length):
    values = np.random.default_rng(length).lognormal(sigma=3, size=(2, length))
    ours = smoothed(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(ours, gaussian_filter1d(values, sigma=10), rtol=1e-13)


@pytest.mark.parametrize("length", [3, 4, 10, 127, 128, 192, 384, 768])
@pytest.mark.parametrize("seed", range(5))
def test_the_elbow_is_where_the_card_says(length, seed):
    values = descending_numbers(length, seed=seed)
    assert elbow_nullity(values) == elbow_by_the_card(values.numpy())


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("length", [16, 200, 768])
def test_the_elbow_is_where_the_card_says_on_smooth_decays(decay, length):
    geometric = decay ** torch.arange(length, dtype=torch.float64)
    power = (1 + torch.arange(length, dtype=torch.float64)) ** (-2 * decay)
    for values in (geometric, power):
        assert elbow_nullity(values) == elbow_by_the_card(values.numpy())


@pytest.mark.parametrize("length", [128, 192, 384, 768])
def test_a_lone_spike_cuts_at_17_whatever_the_width(length):
    values = 1e-6 * torch.linspace(1, 0.5, length, dtype=torch.float64)
    values[0] = 1.0
    assert length - elbow_nullity(values) == 17


def test_a_plateau_wider_than_the_kernel_moves_the_cut_to_137():
    plateau = torch.linspace(1, 0.999, 120, dtype=torch.float64)
    decay = 0.9 ** torch.arange(1, 768 - 120 + 1, dtype=torch.float64)
    assert 768 - elbow_nullity(torch.cat([plateau, decay])) == 137


@pytest.mark.parametrize("seed", range(3))
def test_the_cut_is_not_the_numerical_rank(seed):
    values = spectrum(moment_of_rank(40, 192, seed=seed))
    assert elbow_nullity(values) == elbow_by_the_card(values.numpy())
    assert (values > 1e-10 * values[0]).sum() == 40
    assert abs(elbow_nullity(values) - (192 - 40)) > 1


def test_below_128_nothing_is_smoothed_and_a_geometric_decay_protects_one_direction():
    values = 0.8 ** torch.arange(127, dtype=torch.float64)
    assert elbow_nullity(values) == 126
    assert elbow_nullity(0.8 ** torch.arange(128, dtype=torch.float64)) < 120


def test_exact_ties_in_the_tail_collapse_the_free_set():
    assert elbow_nullity(torch.tensor([1.0, 0, 0, 0])) == 1
    assert elbow_nullity(torch.tensor([1.0, 3e-9, 2e-9, 1e-9])) == 3
    assert elbow_nullity(torch.ones(5)) == 1


@pytest.mark.parametrize("seed", range(20))
def test_four_prompts_leave_two_or_three_directions_by_the_third_difference(seed):
    values = descending_numbers(4, seed=seed)
    bend = values[0] - 3 * values[1] + 3 * values[2] - values[3]
    assert elbow_nullity(values) == (3 if bend >= 0 else 2)


def test_both_answers_for_four_prompts_occur():
    assert elbow_nullity(torch.tensor([8.0, 4.0, 2.0, 1.0])) == 3
    assert elbow_nullity(torch.tensor([8.0, 7.5, 7.0, 1.0])) == 3  # 8 − 22.5 + 21 − 1 = 5.5 ≥ 0
    assert elbow_nullity(torch.tensor([8.0, 7.9, 1.0, 0.9])) == 2


@pytest.mark.parametrize(("length", "trim"), [(3, 0), (50, 0), (127, 0), (128, 1), (192, 2), (384, 5), (768, 11)])
def test_nullity_stays_within_its_bounds_and_reaches_the_upper_one(length, trim):
    nullities = elbow_nullity(descending_numbers(40, length, seed=length))
    assert nullities.amin() >= trim + 2
    assert nullities.amax() <= length - trim - 1


def test_a_batch_gives_what_its_spectra_give_one_by_one():
    values = descending_numbers(2, 3, 150, seed=5)
    for rule in (elbow_nullity, lambda s: energy_rank(s, 0.9), lambda s: tail_energy_cut(s, 0.15)):
        together = rule(values)
        assert together.tolist() == [[rule(values[i, j]) for j in range(3)] for i in range(2)]
        assert together.dtype == torch.int64


def test_counts_of_one_spectrum_are_python_ints():
    values = descending_numbers(9)
    counts = [elbow_nullity(values), *(rule(values, 0.9) for rule in (energy_rank, energy_nullity, tail_energy_cut))]
    assert [type(count) for count in counts] == [int] * 4


@pytest.mark.parametrize("scale", [1e-8, 3.0, 1e6])
def test_scale_does_not_matter(scale):
    values = descending_numbers(200, seed=2)
    assert elbow_nullity(scale * values) == elbow_nullity(values)
    assert energy_rank(scale * values, 0.95) == energy_rank(values, 0.95)
    assert tail_energy_cut(scale * values, 0.15) == tail_energy_cut(values, 0.15)
    torch.testing.assert_close(effective_rank(scale * values), effective_rank(values))


@pytest.mark.parametrize("width", [4, 40, 200])
def test_float32_and_float64_agree(width):
    moment = moment_of_rank(width, width, seed=width)
    exact, narrow = spectrum(moment), spectrum(moment.float())
    assert narrow.dtype == torch.float32
    assert ((narrow.double() - exact).abs() <= 1e-5 * exact[0]).all()
    assert elbow_nullity(narrow) == elbow_nullity(exact)
    assert energy_rank(narrow, 0.9) == energy_rank(exact, 0.9)


def test_a_spectrum_is_descending_never_negative_and_rebuilds_its_moment():
    moment = moment_of_rank(5, 12)
    values, vectors = eigenbasis(moment)
    assert (values >= 0).all()
    assert (values[1:] <= values[:-1]).all()
    torch.testing.assert_close(vectors @ values.diag() @ vectors.mT, moment)
    torch.testing.assert_close(values, spectrum(moment))
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(12, dtype=torch.float64))


@pytest.mark.parametrize(
    ("values", "energy", "rank"),
    [
        ([1.0] * 100, 0.95, 95),
        ([0.1] * 100, 0.95, 95),
        ([1.0, 0, 0, 0], 0.99, 1),
        ([9.0, 1.0], 0.9, 1),
        ([9.0, 1.0], 0.95, 2),
        ([4.0, 2.0, 1.0, 1.0], 1.0, 4),
        ([4.0, 2.0, 1.0, 0.0], 1.0, 3),
        ([4.0, 2.0], 0.0, 0),
        ([0.0, 0.0], 0.9, 0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_energy_ranks(values, energy, rank, dtype):
    assert energy_rank(torch.tensor(values, dtype=dtype), energy) == rank
    assert energy_nullity(torch.tensor(values, dtype=dtype), energy) == len(values) - rank


@pytest.mark.parametrize("energy", [0.05, 0.5, 0.9, 0.99])
def test_an_energy_rank_is_enough_and_one_less_is_not(energy):
    values = descending_numbers(60, seed=8)
    rank = energy_rank(values, energy)
    assert values[:rank].sum() >= energy * values.sum()
    assert values[: rank - 1].sum() < energy * values.sum()


@pytest.mark.parametrize(
    ("values", "rho", "cut"),
    [
        ([1.0] * 4, 0.15, 4),
        ([1.0] * 8, 0.15, 7),
        ([1.0] * 16, 0.15, 14),
        ([1.0] * 20, 0.15, 18),
        ([1.0, 0, 0, 0], 0.15, 1),
        ([4.0, 2.0, 1.0, 1.0], 0.25, 3),
        ([4.0, 2.0, 1.0, 1.0], 0.2500001, 2),
        ([4.0, 2.0, 1.0, 1.0], 1.5, 0),
        ([4.0, 2.0, 1.0, 1.0], 1.0, 1),
        ([4.0, 2.0, 1.0, 1.0], 0.0, 4),
        ([0.0, 0.0, 0.0], 0.15, 2),
    ],
)
def test_known_tail_cuts(values, rho, cut):
    assert tail_energy_cut(torch.tensor(values, dtype=torch.float64), rho) == cut


@pytest.mark.parametrize("rho", [0.01, 0.15, 0.6])
def test_the_tail_holds_less_than_rho_and_one_more_direction_would_not(rho):
    values = descending_numbers(50, seed=4)
    cut = tail_energy_cut(values, rho)
    assert values[cut:].sum() / values.sum() < rho
    assert values[cut - 1 :].sum() / values.sum() >= rho


def test_a_larger_rho_never_protects_more():
    values = descending_numbers(50, seed=6)
    cuts = [tail_energy_cut(values, rho) for rho in (0.01, 0.05, 0.15, 0.3, 0.9)]
    assert cuts == sorted(cuts, reverse=True)
    assert cuts[0] > cuts[-1]


def test_effective_ranks_count_equal_directions_and_order_correctly():
    flat = torch.cat([torch.full((7,), 0.3), torch.zeros(5)]).double()
    assert float(effective_rank(flat)) == pytest.approx(7)
    two = torch.tensor([3.0, 1.0], dtype=torch.float64)
    assert float(effective_rank(two)) == pytest.approx(math.exp(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)))
    assert torch.isnan(effective_rank(torch.zeros(3)))


def test_shares_by_hand():
    values = torch.tensor([8.0, 4.0, 3.0, 1.0], dtype=torch.float64)
    assert float(protected_energy(values, 3)) == 0.5
    assert protected_energy(values, torch.tensor(4)) == 0


def test_errors_name_the_bound_and_the_way_out():
    with pytest.raises(ValueError, match="at least 3 eigenvalues, got 2; give the nullity yourself"):
        elbow_nullity(torch.tensor([2.0, 1.0]))
    with pytest.raises(ValueError, match="spectrum must descend"):
        energy_rank(torch.tensor([1.0, 2.0]), 0.9)
    with pytest.raises(ValueError, match=r"energy must lie in \[0, 1\], got 1.2"):
        energy_rank(torch.tensor([2.0, 1.0]), 1.2)
    with pytest.raises(ValueError, match="rho must be at least 0"):
        tail_energy_cut(torch.tensor([2.0, 1.0]), -0.1)
    with pytest.raises(TypeError, match="must be a torch tensor, got ndarray"):
        elbow_nullity(np.ones(4))
    with pytest.raises(ValueError, match="finite"):
        elbow_nullity(torch.tensor([2.0, math.nan, 1.0]))
    with pytest.raises(ValueError, match="symmetric"):
        spectrum(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
    with pytest.raises(ValueError, match="square"):
        spectrum(torch.ones(3, 2))
