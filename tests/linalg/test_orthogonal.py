"""Fresh orthonormal directions: properties, and Gram-Schmidt by hand."""

import pytest
import torch

from cl_core.linalg import orthonormal_beside, orthonormality_loss


def test_rows_are_orthonormal_and_beside_the_whole_span_of_what_is_given(seeded):
    given = torch.randn(3, 5, 20, generator=seeded(0), dtype=torch.float64)  # neither orthogonal nor unit
    given[:, 4] = given[:, 0] + 1e-6 * given[:, 1]  # nor well conditioned
    fresh = orthonormal_beside(torch.randn(3, 7, 20, generator=seeded(1)), given.float())
    assert fresh.dtype == torch.float32 and fresh.shape == (3, 7, 20)
    torch.testing.assert_close(fresh @ fresh.mT, torch.eye(7).expand(3, 7, 7), atol=1e-5, rtol=0)
    torch.testing.assert_close(fresh @ given.float().mT, torch.zeros(3, 7, 5), atol=1e-5, rtol=0)


def test_it_is_gram_schmidt_in_the_order_of_the_rows(seeded):
    drawn = torch.randn(4, 6, generator=seeded(2), dtype=torch.float64)
    expected: list[torch.Tensor] = []
    for row in drawn:
        left = row - sum(((row @ z) * z for z in expected), torch.zeros(6, dtype=torch.float64))
        expected.append(left / left.norm())
    torch.testing.assert_close(orthonormal_beside(drawn, drawn[:0]), torch.stack(expected))


def test_the_last_room_can_be_taken_but_no_more(seeded):
    given = torch.randn(3, 5, generator=seeded(3))
    assert orthonormal_beside(torch.randn(2, 5, generator=seeded(4)), given).shape == (2, 5)
    with pytest.raises(ValueError, match="3 directions beside 3 need a width of at least 6, got 5"):
        orthonormal_beside(torch.randn(3, 5, generator=seeded(4)), given)


def test_the_loss_is_zero_for_orthonormal_rows_and_known_for_scaled_ones():
    assert float(orthonormality_loss(torch.eye(4)[:3])) == 0
    assert float(orthonormality_loss(2 * torch.eye(4)[:2])) == pytest.approx((9 + 9) / 4)
