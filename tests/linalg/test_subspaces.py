"""Principal angles: known angles, small ones too, whatever bases describe the two subspaces."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from cl_core.linalg import principal_angles, subspace_overlap


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_angles_of_planes_tilted_by_hand():
    first = torch.eye(5, dtype=torch.float64)[:, :2]
    tilts = (0.2, 1.1)
    second = torch.zeros(5, 2, dtype=torch.float64)
    for place, tilt in enumerate(tilts):
        second[place, place], second[place + 2, place] = math.cos(tilt), math.sin(tilt)
    assert principal_angles(first, second).tolist() == pytest.approx(tilts)
    assert float(subspace_overlap(first, second)) == pytest.approx(np.mean(np.cos(tilts) ** 2))


@pytest.mark.parametrize(("p", "q"), [(1, 1), (3, 5), (5, 3), (7, 7)])
def test_angles_equal_scipys_in_ascending_order(p, q):
    first = torch.randn(12, p, generator=seeded(p), dtype=torch.float64)
    second = torch.randn(12, q, generator=seeded(q + 20), dtype=torch.float64)
    expected = np.sort(scipy.linalg.subspace_angles(first.numpy(), second.numpy()))
    np.testing.assert_allclose(principal_angles(first, second).numpy(), expected, atol=1e-12)
    torch.testing.assert_close(principal_angles(second, first), principal_angles(first, second))


@pytest.mark.parametrize("angle", [1e-9, 1e-6, 1e-3])
def test_tiny_angles_are_not_lost_in_the_cosine(angle):
    first = torch.tensor([[1.0], [0.0], [0.0]], dtype=torch.float64)
    second = torch.tensor([[math.cos(angle)], [math.sin(angle)], [0.0]], dtype=torch.float64)
    assert float(principal_angles(first, second)[0]) == pytest.approx(angle, rel=1e-6)


def test_another_basis_of_the_same_subspace_changes_nothing():
    first, second = torch.randn(2, 10, 4, generator=seeded(0), dtype=torch.float64)
    mixed = second @ torch.randn(4, 4, generator=seeded(1), dtype=torch.float64)
    torch.testing.assert_close(principal_angles(first, mixed), principal_angles(first, second))
    assert principal_angles(second, mixed).abs().max() < 1e-10


def test_contained_and_orthogonal_subspaces_are_the_two_ends():
    space = torch.eye(6)
    assert float(subspace_overlap(space[:, :2], space[:, :4])) == pytest.approx(1)
    assert float(subspace_overlap(space[:, :2], space[:, 2:])) == pytest.approx(0, abs=1e-12)
    assert principal_angles(space[:, :2], space[:, 2:]).tolist() == pytest.approx([math.pi / 2] * 2)
    assert principal_angles(space[:, :2], space[:, 2:]).dtype == torch.float32


def test_a_batch_is_measured_pair_by_pair():
    first, second = torch.randn(2, 3, 8, 2, generator=seeded(4), dtype=torch.float64)
    together = principal_angles(first, second)
    assert together.shape == (3, 2)
    for place in range(3):
        torch.testing.assert_close(together[place], principal_angles(first[place], second[place]))


def test_errors_say_which_side_is_wrong():
    with pytest.raises(ValueError, match="columns of second must be independent"):
        principal_angles(torch.eye(3), torch.ones(3, 2))
    with pytest.raises(ValueError, match="one space, got widths 3 and 4"):
        principal_angles(torch.eye(3)[:, :1], torch.eye(4)[:, :1])
    with pytest.raises(ValueError, match="directions in columns"):
        principal_angles(torch.ones(2, 3), torch.eye(3))
