"""The algebra of conceptors, by its laws, in double precision."""

import pytest
import torch

from cl_core.linalg import (
    capacity,
    conceptor,
    conceptor_and,
    conceptor_not,
    conceptor_or,
    fitted_aperture,
    second_moment,
    significant,
    spectrum,
)

WIDTH = 24


@pytest.fixture
def moment(seeded):
    """`moment(1, rank=8)`: of rows of different lengths per direction."""

    def make(seed, rank=WIDTH):
        rows = torch.randn(200, rank, generator=seeded(seed), dtype=torch.float64) * torch.linspace(2, 0.2, rank)
        turn = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=seeded(seed + 100), dtype=torch.float64)).Q
        return second_moment(rows @ turn[:, :rank].mT)

    return make


def close(first, second, tolerance=1e-10):
    torch.testing.assert_close(first, second, atol=tolerance, rtol=0)


def lowest(matrix):
    return float(torch.linalg.eigvalsh(matrix).min())


def test_eigenvalues_follow_the_formula_and_stay_below_one(moment):
    r = moment(1)
    c, values = conceptor(r, 3.0), spectrum(r)
    close(spectrum(c), values / (values + 1 / 9))
    close(c, c.mT)
    assert lowest(c) >= 0 and float(spectrum(c)[0]) < 1


def test_no_aperture_leaves_nothing_and_an_infinite_one_the_projector_onto_the_range(moment):
    r = moment(2, rank=8)
    close(conceptor(r, 1e-9), torch.zeros_like(r))
    values, vectors = torch.linalg.eigh(r)
    used = vectors[:, values > 1e-9]
    close(conceptor(r, 1e4), used @ used.mT, 1e-6)


def test_capacity_grows_with_the_aperture(moment):
    r = moment(3)
    c = conceptor(r, 2.0)
    sizes = [float(capacity(conceptor(r, a))) for a in (0.1, 0.5, 2.0, 10.0)]
    assert sizes == sorted(sizes) and 0 < sizes[0] < sizes[-1] < 1
    close(capacity(c), spectrum(c).mean())


def test_the_laws_of_logic_hold(moment):
    c, b = conceptor(moment(4), 2.0), conceptor(moment(5, rank=10), 3.0)
    close(conceptor_not(conceptor_not(c)), c)
    close(conceptor_or(c, b), conceptor_or(b, c))
    close(conceptor_and(c, b), conceptor_and(b, c))
    close(conceptor_not(conceptor_or(c, b)), conceptor_and(conceptor_not(c), conceptor_not(b)))
    close(conceptor_not(conceptor_and(c, b)), conceptor_or(conceptor_not(c), conceptor_not(b)))


def test_or_of_equal_apertures_is_the_conceptor_of_the_summed_moments(moment):
    for ranks in ((WIDTH, WIDTH), (6, 9), (WIDTH, 5)):
        r, q = moment(6, ranks[0]), moment(7, ranks[1])
        close(conceptor_or(conceptor(r, 2.0), conceptor(q, 2.0)), conceptor(r + q, 2.0))


def test_and_lies_below_and_or_above_both(moment):
    c, b = conceptor(moment(8), 2.0), conceptor(moment(9), 2.0)
    both, either = conceptor_and(c, b), conceptor_or(c, b)
    for one in (c, b):
        assert lowest(one - both) > -1e-10 and lowest(either - one) > -1e-10
    assert capacity(either) >= max(capacity(c), capacity(b)) and capacity(both) <= min(capacity(c), capacity(b))


def test_and_of_invertible_conceptors_is_the_inverse_formula(moment):
    c, b = conceptor(moment(10), 2.0), conceptor(moment(11), 1.0)
    identity = torch.eye(WIDTH, dtype=torch.float64)
    close(conceptor_and(c, b), torch.linalg.inv(torch.linalg.inv(c) + torch.linalg.inv(b) - identity))


def test_of_projectors_and_and_or_are_intersection_and_union():
    axes = torch.eye(6, dtype=torch.float64)
    c, b = torch.diag(axes[:4].sum(0)), torch.diag(axes[2:5].sum(0))
    close(conceptor_and(c, b), torch.diag(axes[2:4].sum(0)))
    close(conceptor_or(c, b), torch.diag(axes[:5].sum(0)))
    close(conceptor_and(c, conceptor_not(c)), torch.zeros(6, 6, dtype=torch.float64))


def test_batches_of_matrices_are_taken_one_by_one(moment):
    rs, qs = torch.stack([moment(12), moment(13, 7)]), torch.stack([moment(14), moment(15)])
    apertures = torch.tensor([1.0, 4.0])
    c, b = conceptor(rs, apertures), conceptor(qs, 2.0)
    for i in range(2):
        close(c[i], conceptor(rs[i], float(apertures[i])))
        close(conceptor_and(c, b)[i], conceptor_and(c[i], b[i]))
        close(conceptor_or(c, b)[i], conceptor_or(c[i], b[i]))


def test_weak_directions_become_exactly_free(moment):
    c = conceptor(moment(16), 1.0)
    kept = significant(c, 0.5)
    strong = int((spectrum(c) >= 0.5).sum())
    assert 0 < strong < WIDTH
    close(spectrum(kept)[:strong], spectrum(c)[:strong])
    close(spectrum(kept)[strong:], torch.zeros(WIDTH - strong, dtype=torch.float64))


def test_the_aperture_grows_by_tenths_just_until_enough_gets_through(moment):
    r, start = moment(17), 0.1
    found = float(fitted_aperture(spectrum(r), torch.tensor(start), 0.9))

    def through(aperture):
        c = conceptor(r, aperture)
        return float(((c @ r @ c).trace() / r.trace()).sqrt())

    assert through(found) >= 0.9 > through(found / 1.1)
    steps = torch.log(torch.tensor(found / start)) / torch.log(torch.tensor(1.1))
    close(steps, steps.round(), 1e-3)
    assert float(fitted_aperture(spectrum(r), torch.tensor(start), 0.0)) == pytest.approx(start)
    assert float(fitted_aperture(torch.zeros(4), torch.tensor(start), 0.9)) == pytest.approx(start)


def test_what_cannot_be_meant_is_refused_with_the_value(moment):
    r = moment(18)
    with pytest.raises(ValueError, match="aperture must be positive, got 0"):
        conceptor(r, 0.0)
    with pytest.raises(ValueError, match="of one shape"):
        conceptor_and(r, r[:3, :3])
    with pytest.raises(ValueError, match=r"share must lie in \[0, 1\), got 1"):
        fitted_aperture(spectrum(r), torch.tensor(1.0), 1.0)
