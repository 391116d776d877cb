"""Stored directions by small cases: what a task adds, how far a direction is held back, what is let through."""

import numpy as np
import pytest
import torch

from cl_core.linalg import added_directions, first_directions, held_back, scaled_importance


def double(rows):
    return torch.tensor(rows, dtype=torch.float64)


X = double([[1, 0], [0, 0], [0, 2], [0, 1]])  # [d, N]
G = double([1, 2, 3, 4])


def test_a_task_adds_what_its_rest_needs_and_steps_keep_out_of_all_of_it():
    basis = torch.eye(4, dtype=torch.float64)[:, :2]
    new = added_directions(X @ X.mT, basis, 0.99)
    assert new.shape == (4, 1)
    np.testing.assert_allclose(new[:, 0].abs().numpy(), np.array([0, 0, 2, 1]) / 5**0.5, atol=1e-12)
    stored = torch.cat([basis, new], dim=1)
    step = G @ held_back(stored, torch.ones(3, dtype=torch.float64))
    np.testing.assert_allclose(step.numpy(), [0, 0, -1, 2], atol=1e-12)
    assert added_directions(X @ X.mT, stored, 0.99).shape == (4, 0)


def test_nothing_is_added_where_the_basis_reaches_the_share_already():
    basis = torch.eye(4, dtype=torch.float64)[:, :2]
    assert added_directions(X @ X.mT, basis, 1 / 6).shape == (4, 0)
    assert added_directions(X @ X.mT, basis, 1 / 6 + 1e-6).shape == (4, 1)


def test_the_first_task_stores_one_direction_fewer_than_reach_the_share_and_one_at_least():
    sizes = double([3, 2, 1, 0.5, 0.1])
    gram = torch.diag(sizes.square())
    assert [first_directions(gram, e).shape[1] for e in (0.5, 0.8, 0.95, 0.99, 1.0)] == [1, 1, 2, 3, 4]
    assert first_directions(gram @ gram, 0.95).shape[1] == 1  # shares of the moment
    assert first_directions(torch.zeros(3, 3, dtype=torch.float64), 0.9).shape == (3, 0)


def test_raw_inputs_with_a_large_mean_still_leave_a_direction_to_store(seeded):
    rows = 5 + 0.5 * torch.randn(500, 6, generator=seeded(0), dtype=torch.float64)
    values = torch.linalg.eigvalsh(rows.mT @ rows).flip(0)
    assert values[0] / values.sum() > 0.95
    assert first_directions(rows.mT @ rows, 0.95).shape == (6, 1)


def test_directions_stay_orthonormal_and_never_outnumber_the_width(seeded):
    basis = torch.zeros(5, 0, dtype=torch.float64)
    for seed in range(8):
        rows = torch.randn(20, 5, generator=seeded(seed), dtype=torch.float64)
        new = added_directions(rows.mT @ rows, basis, 0.97)
        basis = torch.cat([basis, new], dim=1)
        torch.testing.assert_close(basis.mT @ basis, torch.eye(basis.shape[1], dtype=torch.float64))
    assert basis.shape[1] == 5


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [(10.0, (1, 0.956522, 0.846154)), (3.0, (1, 0.888889, 0.666667)), (1.0, (1, 0.8, 0.5)), (0.0, (1, 2 / 3, 1 / 3))],
)
def test_importance_is_concave_in_the_singular_value(alpha, expected):
    np.testing.assert_allclose(scaled_importance(double([3, 2, 1]), alpha).numpy(), expected, atol=1e-6)


def test_importance_at_the_ends():
    assert scaled_importance(double([2, 1e-3, 0]), 1e12).tolist() == pytest.approx([1, 1, 0], abs=1e-6)
    assert scaled_importance(double([]), 3.0).shape == (0,)
    assert scaled_importance(double([0, 0]), 3.0).tolist() == [0, 0]
    with pytest.raises(ValueError, match="alpha must be at least 0, got -1"):
        scaled_importance(double([1]), -1.0)
    with pytest.raises(ValueError, match="sizes must be at least 0, got -1"):
        scaled_importance(double([-1]), 1.0)


def test_what_is_let_through_shrinks_each_direction_by_its_share(seeded):
    basis = torch.linalg.qr(torch.randn(6, 3, generator=seeded(1), dtype=torch.float64)).Q
    held = double([1, 0.25, 0])
    through = held_back(basis, held)
    torch.testing.assert_close(through, through.mT)
    torch.testing.assert_close(through @ basis, basis * (1 - held))
    assert torch.equal(held_back(basis, torch.zeros(3, dtype=torch.float64)), torch.eye(6, dtype=torch.float64))
