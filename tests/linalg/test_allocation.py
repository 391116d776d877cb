"""Division of a space among tasks: what a task takes, what is left, and what a step may keep."""

from itertools import pairwise

import pytest
import torch

from cl_core.linalg import (
    absorb,
    added_directions,
    allocation_projector,
    core_space,
    principal_angles,
    random_projector,
    second_moment,
    space_shares,
)

WIDTH = 24


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def basis(rank, seed, width=WIDTH):
    return torch.linalg.qr(torch.randn(width, rank, generator=seeded(seed), dtype=torch.float64)).Q


def none_yet(width=WIDTH):
    return torch.zeros(width, 0, dtype=torch.float64)


def after(cores, pre, *, cosine=0.7, length=0.1):
    f = r = none_yet()
    for core in cores:
        f, r = absorb(pre, f, r, core, cosine=cosine, length=length)
    return f, r


PRE = basis(8, 0)
CORES = [basis(5, 1), basis(3, 2), basis(4, 3)]


@pytest.mark.parametrize(
    ("values", "energy", "rank"),
    [
        ([4, 3, 2, 1], 0.7, 2),
        ([4, 3, 2, 1], 0.71, 3),
        ([9, 0.5, 0.5], 0.9, 1),
        ([1, 1, 1, 1], 1.0, 4),
        ([5, 0, 0], 1.0, 1),
    ],
)
def test_the_core_is_the_fewest_directions_that_hold_the_energy(values, energy, rank):
    turned = torch.linalg.qr(torch.randn(len(values), len(values), generator=seeded(4), dtype=torch.float64)).Q
    moment = turned @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turned.mT
    core = core_space(moment, energy)
    assert core.shape == (len(values), rank)
    torch.testing.assert_close(core.mT @ core, torch.eye(rank, dtype=torch.float64), atol=1e-10, rtol=0)
    assert float(principal_angles(core, turned[:, :1])[0]) < 1e-7 or values[0] == values[1]


def test_singular_values_from_the_gram_are_those_of_the_rows():
    rows = torch.randn(300, WIDTH, generator=seeded(5), dtype=torch.float64) @ torch.diag(
        torch.logspace(0, -3, WIDTH).double()
    )
    values = torch.linalg.eigvalsh(second_moment(rows) * len(rows)).flip(0).sqrt()
    torch.testing.assert_close(values, torch.linalg.svdvals(rows), rtol=1e-10, atol=0)


@pytest.mark.parametrize("cosine", [0.0, 0.3, 0.7, 1.01])
def test_the_projector_is_one_of_the_rank_that_is_left_and_keeps_inside_and_outside_apart(cosine):
    f, r = after(CORES, PRE, cosine=cosine)
    p = allocation_projector(PRE, f, r)
    torch.testing.assert_close(p, p.mT, atol=1e-10, rtol=0)
    torch.testing.assert_close(p @ p, p, atol=1e-10, rtol=0)
    assert float(p.trace()) == pytest.approx(WIDTH - f.shape[1] - r.shape[1], abs=1e-10)
    inside = allocation_projector(PRE, f, r, outside=0.0)
    outside = allocation_projector(PRE, f, r, pretrained_weight=0.0)
    assert float((inside @ outside).abs().max()) < 1e-10
    torch.testing.assert_close(inside + outside, p, atol=1e-10, rtol=0)


def test_without_tolerances_no_step_reaches_any_old_core():
    f, r = after(CORES, PRE, cosine=0.0, length=1e-9)
    p = allocation_projector(PRE, f, r)
    assert all(float((p @ core).norm() / core.norm()) < 1e-10 for core in CORES)


def test_full_reuse_leaves_the_pretrained_space_writable():
    f, r = after(CORES, PRE, cosine=1.01)
    assert f.shape[1] == 0
    torch.testing.assert_close(allocation_projector(PRE, f, r) @ PRE, PRE, atol=1e-10, rtol=0)


def test_the_leak_into_one_task_rises_with_the_cosine():
    leaks = []
    for cosine in (0.0, 0.2, 0.4, 0.6, 0.8, 1.01):
        f, r = after(CORES[:1], PRE, cosine=cosine, length=1e-9)
        leaks.append(float((allocation_projector(PRE, f, r) @ CORES[0]).norm()))
    assert all(b >= a - 1e-12 for a, b in pairwise(leaks)) and leaks[0] < 1e-10 < 0.1 < leaks[-1]


def test_the_same_task_twice_takes_nothing_more():
    f, r = after(CORES, PRE)
    again = absorb(PRE, f, r, CORES[1], cosine=0.7, length=0.1)
    assert (again[0].shape, again[1].shape) == (f.shape, r.shape)


def test_a_space_that_is_used_up_lets_nothing_through():
    whole = torch.eye(WIDTH, dtype=torch.float64)
    f, r = absorb(PRE, none_yet(), none_yet(), whole, cosine=0.0, length=0.0)
    assert f.shape[1] + r.shape[1] == WIDTH
    assert float(allocation_projector(PRE, f, r).abs().max()) < 1e-10


def test_what_is_inside_stays_inside_and_what_is_outside_outside():
    f, r = after(CORES, PRE)
    torch.testing.assert_close(PRE @ (PRE.mT @ f), f, atol=1e-10, rtol=0)
    assert float((PRE.mT @ r).abs().max()) < 1e-10
    for taken in (f, r):
        torch.testing.assert_close(taken.mT @ taken, torch.eye(taken.shape[1], dtype=torch.float64), atol=1e-10, rtol=0)


def moment_of(values, turned):
    return turned @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turned.mT


def test_a_task_adds_the_fewest_directions_with_which_all_hold_its_energy():
    """By hand: energies 6, 3, 1 of which the first is held: 0.6, then 0.9, then all."""
    turned = basis(3, 5)
    moment, held = moment_of([6, 3, 1], turned), turned[:, :1]
    for energy, count in ((0.6, 0), (0.61, 1), (0.9, 1), (0.91, 2), (1.0, 2)):
        added = added_directions(moment, held, energy)
        assert added.shape == (WIDTH, count)
        assert float((added.mT @ turned[:, :1]).abs().max() if count else 0) < 1e-10
        if count:
            assert float(principal_angles(added, turned[:, 1 : 1 + count]).max()) < 1e-6
    first = added_directions(moment, none_yet(), 0.9)
    assert float(principal_angles(first, core_space(moment, 0.9)).max()) < 1e-6


def test_a_small_remainder_of_a_task_is_no_new_direction():
    """Two tasks of five directions, each 3 degrees apart: ε of the second's energy is held already."""
    turned = basis(10, 6)
    tilted = 0.99863 * turned[:, :5] + 0.05234 * turned[:, 5:]
    moment = moment_of([5, 4, 3, 2, 1], tilted)
    assert added_directions(moment, turned[:, :5], 0.99).shape[1] == 0
    f, r = absorb(PRE, none_yet(), none_yet(), turned[:, :5], cosine=0.0, length=0.0)
    again = absorb(PRE, f, r, core_space(moment, 0.99), cosine=0.0, length=0.0)
    assert again[0].shape[1] + again[1].shape[1] > f.shape[1] + r.shape[1]  # the rule of every direction


def test_held_directions_that_are_everything_leave_nothing_to_add():
    moment = moment_of([3, 2, 1], basis(3, 7))
    assert added_directions(moment, torch.eye(WIDTH, dtype=torch.float64), 1.0).shape[1] == 0
    assert added_directions(torch.zeros(WIDTH, WIDTH, dtype=torch.float64), none_yet(), 0.99).shape[1] == 0


def test_shares_of_a_gradient_sum_to_one_and_name_its_place():
    f, r = after(CORES[:1], PRE, cosine=0.5)
    shares = space_shares(torch.randn(7, WIDTH, generator=seeded(6)), *(b.float() for b in (PRE, f, r)))
    assert float(shares.sum()) == pytest.approx(1, abs=1e-6) and (shares > 0).all()
    for place, direction in ((1, f[:, :1].mT), (2, r[:, :1].mT)):
        assert float(space_shares(direction, PRE, f, r)[place]) == pytest.approx(1, abs=1e-10)
    assert space_shares(torch.zeros(2, WIDTH), PRE, f, r).isnan().all()


def test_float32_is_projected_within_its_precision():
    f, r = (b.float() for b in after(CORES, PRE, cosine=0.0, length=1e-9))
    p = allocation_projector(PRE.float(), f, r)
    assert p.dtype == torch.float32
    assert all(float((p @ core.float()).norm() / core.norm()) < 1e-5 for core in CORES)


@pytest.mark.parametrize("rank", [0, 3, WIDTH])
def test_a_random_projector_has_its_rank_and_comes_from_its_generator(rank):
    p = random_projector(WIDTH, rank, seeded(7))
    torch.testing.assert_close(p @ p, p, atol=1e-12, rtol=0)
    assert float(p.trace()) == pytest.approx(rank, abs=1e-10)
    assert torch.equal(p, random_projector(WIDTH, rank, seeded(7)))
    with pytest.raises(ValueError, match=r"rank must lie in \[0, 24\], got 25"):
        random_projector(WIDTH, WIDTH + 1, seeded(7))


def test_chance_of_a_random_projector_is_its_share_of_the_space():
    kept = [float((random_projector(WIDTH, 6, seeded(s)) @ CORES[1]).square().sum()) / 3 for s in range(200)]
    assert sum(kept) / len(kept) == pytest.approx(6 / WIDTH, abs=0.02)
