"""Projectors: what they are, what they leave, and that past rows do not see what passes them."""

import math

import pytest
import torch

from cl_core.linalg import (
    blended_projector,
    condition_residual,
    elbow_nullity,
    isotropic_residual,
    null_projector,
    projector_gains,
    rms_gain,
    second_moment,
    shrink_only,
    spectrum,
    tail_energy_cut,
    tail_projector,
)

DTYPES = [torch.float32, torch.float64]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def rows_of_rank(rank, width, seed=0, dtype=torch.float64, count=500):
    mixing = torch.randn(rank, width, generator=seeded(seed + 100), dtype=dtype)
    return torch.randn(count, rank, generator=seeded(seed), dtype=dtype) @ mixing


def decaying_moment(width, seed=0, dtype=torch.float64):
    """Full rank, distinct eigenvalues that halve every few directions, in a random frame."""
    frame = rotation(width, seed)
    return (frame @ torch.diag(torch.exp(-torch.arange(width, dtype=torch.float64) / 5)) @ frame.mT).to(dtype)


def rotation(width, seed):
    return torch.linalg.qr(torch.randn(width, width, generator=seeded(seed), dtype=torch.float64)).Q


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("nullity", [0, 1, 7, 24])
def test_a_null_projector_is_symmetric_idempotent_and_of_its_rank(dtype, nullity):
    projector = null_projector(decaying_moment(24, dtype=dtype), nullity)
    assert projector.dtype == dtype
    assert (projector - projector.mT).abs().max() <= 1e-6
    assert torch.linalg.matrix_norm(projector @ projector - projector) <= 1e-5 * max(nullity, 1) ** 0.5
    assert float(projector.trace()) == pytest.approx(nullity, abs=1e-3)


def test_a_batch_with_different_nullities_is_projected_one_by_one():
    moments = torch.stack([decaying_moment(10, seed) for seed in range(3)])
    together = null_projector(moments, torch.tensor([2, 5, 9]))
    for place, nullity in enumerate((2, 5, 9)):
        torch.testing.assert_close(together[place], null_projector(moments[place], nullity))
    torch.testing.assert_close(blended_projector(moments, eta=0.9)[1], blended_projector(moments[1], eta=0.9))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("width", "eta"), [(4, 0.97), (24, 0.94), (192, 0.97)])
def test_a_blended_projector_has_two_eigenvalues_with_the_right_multiplicities(dtype, width, eta):
    moment = decaying_moment(width, dtype=dtype)
    nullity = elbow_nullity(spectrum(moment))
    values = torch.linalg.eigvalsh(blended_projector(moment, eta=eta).double())
    free, protected = projector_gains(nullity, eta)
    assert free > protected
    expected = torch.cat([protected.expand(width - nullity), free.expand(nullity)])
    assert (values - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
def test_eta_one_has_unit_norm_and_eta_zero_is_the_identity_exactly(dtype):
    moment = decaying_moment(30, dtype=dtype)
    strict = blended_projector(moment, eta=1)
    assert float(torch.linalg.matrix_norm(strict)) == pytest.approx(1, abs=1e-5)
    nullity = elbow_nullity(spectrum(moment))
    torch.testing.assert_close(strict * math.sqrt(nullity), null_projector(moment, nullity), atol=1e-6, rtol=0)
    assert torch.equal(blended_projector(moment, eta=0), torch.eye(30, dtype=dtype))


@pytest.mark.parametrize("nullity", [None, 5])
def test_a_blended_projector_does_not_depend_on_the_scale_of_the_moment(nullity):
    moment = decaying_moment(24)
    plain = blended_projector(moment, eta=0.97, nullity=nullity)
    torch.testing.assert_close(blended_projector(37.0 * moment, eta=0.97, nullity=nullity), plain, atol=1e-6, rtol=0)


def test_a_rotated_moment_gives_the_rotated_projector():
    moment, turn = decaying_moment(24), rotation(24, seed=9)
    turned = turn @ moment @ turn.mT
    assert elbow_nullity(spectrum(turned)) == elbow_nullity(spectrum(moment))
    expected = turn @ blended_projector(moment, eta=0.9) @ turn.mT
    torch.testing.assert_close(blended_projector(turned, eta=0.9), expected, atol=1e-5, rtol=0)


def test_float32_gives_the_float64_projector():
    for width in (4, 48, 200):
        moment = decaying_moment(width).double()
        keep = min(width // 2, 30)  # above it the eigenvalues fall below float32's resolution of the largest
        exact = blended_projector(moment, eta=0.97, nullity=width - keep)
        narrow = blended_projector(moment.float(), eta=0.97, nullity=width - keep)
        assert (narrow.double() - exact).abs().max() <= 1e-5


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_past_rows_cannot_see_a_projected_update(dtype, limit):
    features, attention = rows_of_rank(6, 16, dtype=dtype), rows_of_rank(2, 5, seed=1, dtype=dtype)
    right, left = null_projector(second_moment(features), 10), null_projector(second_moment(attention), 3)
    step = torch.randn(5, 16, generator=seeded(2), dtype=dtype)
    projected = left @ step @ right
    norm = torch.linalg.matrix_norm
    assert norm(features @ projected.mT) / (norm(features) * norm(projected)) <= limit
    assert norm(attention @ projected) / (norm(attention) * norm(projected)) <= limit
    assert norm(features @ step.mT) / (norm(features) * norm(step)) > 0.1


def drift(gain, spread):
    """Change of affinity and attention output, projected step over unprojected, LayerNorm statistics held fixed."""
    features, attention = rows_of_rank(6, 16), rows_of_rank(2, 5, seed=1)
    values = torch.randn(16, 16, generator=seeded(5), dtype=torch.float64)
    step = torch.randn(5, 16, generator=seeded(2), dtype=torch.float64)
    projected = null_projector(second_moment(attention), 3) @ step @ null_projector(second_moment(features), 10)
    sizes = []
    for update in (projected, step):
        seen = update / torch.linalg.matrix_norm(update) / spread[:, None] * gain  # diag(1/σ) ΔP diag(γ)
        products = (features @ seen.mT, attention @ seen @ values.mT)
        sizes.append(torch.stack([torch.linalg.matrix_norm(product) for product in products]))
    return sizes[0] / sizes[1]


def test_the_two_conditions_hold_with_unit_gain_and_fail_with_a_generic_one():
    flat, even = torch.ones(16, dtype=torch.float64), torch.ones(5, dtype=torch.float64)
    generic = torch.linspace(0.3, 2.0, 16, dtype=torch.float64)
    uneven = torch.linspace(0.5, 1.5, 5, dtype=torch.float64)
    assert (drift(flat, even) <= 1e-10).all()
    assert (drift(generic, uneven) > 0.05).all()
    assert drift(flat, uneven)[0] <= 1e-10  # unequal σ alone spoils only the second condition
    assert drift(flat, uneven)[1] > 0.05


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rho", [0.01, 0.15, 0.5])
def test_a_tail_projector_keeps_exactly_the_tail(dtype, rho):
    moment = decaying_moment(30, dtype=dtype)
    projector, cut = tail_projector(moment, rho), tail_energy_cut(spectrum(moment), rho)
    assert 0 < cut < 30
    vectors = torch.linalg.eigh(moment.double()).eigenvectors.flip(-1).to(dtype)
    assert (projector @ vectors[:, :cut]).abs().max() <= 1e-5
    assert (projector @ vectors[:, cut:] - vectors[:, cut:]).abs().max() <= 1e-5
    assert float(projector.trace()) == pytest.approx(30 - cut, abs=1e-3)
    assert (projector @ projector - projector).abs().max() <= 1e-5
    assert float((projector @ moment).trace() / moment.trace()) < rho


def test_corner_cases_of_the_tail_projector():
    assert (tail_projector(torch.eye(4), 0.15) == 0).all()
    torch.testing.assert_close(tail_projector(decaying_moment(6), 1.5), torch.eye(6, dtype=torch.float64))
    assert float(tail_projector(torch.zeros(5, 5), 0.15).trace()) == pytest.approx(1)
    batch = torch.stack([torch.eye(8), torch.diag(torch.tensor([1.0, 0, 0, 0, 0, 0, 0, 0]))])
    assert [round(float(p.trace())) for p in tail_projector(batch, 0.15)] == [1, 7]


def test_exactly_low_rank_features_are_left_alone_by_a_projected_gradient():
    rows = rows_of_rank(5, 20)
    projector = tail_projector(second_moment(rows), 1e-9)
    assert float(projector.trace()) == pytest.approx(15, abs=1e-3)
    gradient = torch.randn(7, 20, generator=seeded(3), dtype=torch.float64)
    assert (gradient @ projector @ rows.mT).abs().max() <= 1e-5 * (gradient @ rows.mT).abs().max()


def test_the_published_gains_at_full_width():
    free, protected = projector_gains(torch.tensor([750, 3]), 0.97)
    assert [round(float(gain), 3) for gain in free] == [0.065, 0.590]
    assert protected.tolist() == pytest.approx([0.03, 0.03])
    assert torch.isnan(projector_gains(0, 0.5)[0])


@pytest.mark.parametrize(("eta", "gain"), [(0.97, 0.033), (0.95, 0.044), (0.94, 0.049), (0.98, 0.028), (1.0, 0.018)])
def test_the_published_shrinkage_of_an_isotropic_step(eta, gain):
    both = 1.0
    for width, nullity in ((768, 750), (4, 3)):
        free, protected = projector_gains(nullity, eta)
        both *= float(((nullity * free**2 + (width - nullity) * protected**2) / width).sqrt())
    assert both == pytest.approx(gain, abs=6e-4)


def test_the_rms_gain_follows_from_the_two_eigenvalues():
    free, protected = projector_gains(17, 0.94)
    expected = ((17 * free**2 + 7 * protected**2) / 24).sqrt()
    torch.testing.assert_close(rms_gain(blended_projector(decaying_moment(24), eta=0.94, nullity=17)), expected)


def test_shrink_only_has_the_same_norm_and_no_direction():
    projector = blended_projector(decaying_moment(24), eta=0.9)
    control = shrink_only(projector)
    torch.testing.assert_close(torch.linalg.matrix_norm(control), torch.linalg.matrix_norm(projector))
    torch.testing.assert_close(control, control[0, 0] * torch.eye(24, dtype=torch.float64))
    steps = torch.randn(4000, 1, 24, generator=seeded(4), dtype=torch.float64)
    sizes = [(steps @ side).square().sum().sqrt() for side in (projector, control)]
    assert float(sizes[0] / sizes[1]) == pytest.approx(1, abs=0.03)


def test_residuals_lie_between_nothing_and_the_top_direction():
    moment = decaying_moment(12)
    vectors = torch.linalg.eigh(moment).eigenvectors
    values = torch.linalg.eigvalsh(moment)
    assert float(condition_residual(vectors[:, -1:].mT, moment)) == pytest.approx(1)
    least = math.sqrt(values[0] / values[-1])
    assert float(condition_residual(5 * vectors[:, :1].mT, 3 * moment)) == pytest.approx(least)
    strict = blended_projector(moment, eta=1, nullity=6)
    step = torch.randn(4, 12, generator=seeded(1), dtype=torch.float64)
    within = condition_residual(step @ strict, moment)
    assert within <= math.sqrt(values[5] / values[-1])  # the six smallest eigenvalues come first
    assert within < condition_residual(step, moment)
    steps = torch.randn(3000, 12, generator=seeded(6), dtype=torch.float64)
    assert float(condition_residual(steps, moment)) == pytest.approx(float(isotropic_residual(moment)), rel=0.05)
    assert torch.isnan(condition_residual(torch.zeros(2, 12), moment))


def test_errors_name_the_bound_and_the_way_out():
    with pytest.raises(ValueError, match=r"nullity must lie in \[0, 4\] for a 4×4 moment, got 5"):
        null_projector(torch.eye(4), 5)
    with pytest.raises(ValueError, match=r"eta must lie in \[0, 1\], got 97"):
        blended_projector(torch.eye(4), eta=97)
    with pytest.raises(ValueError, match="give the nullity yourself"):
        blended_projector(torch.eye(2), eta=0.9)
    with pytest.raises(TypeError, match="whole numbers"):
        null_projector(torch.eye(4), 0.5)
    with pytest.raises(ValueError, match="transpose it"):
        condition_residual(torch.zeros(16, 4), torch.eye(16))
