"""One projection in the plane: its numbers against hand-made cases, and its words."""

from __future__ import annotations

import numpy as np
import pytest

from dashboard.widgets.projection_plane import example_points, html, projection_picture, says

CROSS = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # energy 90 % along x, 10 % along y


def test_fewest_axes_whose_energy_reaches_the_threshold_are_protected():
    counts = {e: projection_picture(CROSS, [1, 1], e).protected for e in (0.0, 1e-6, 0.5, 0.9, 0.9001, 1.0)}
    assert counts == {0.0: 0, 1e-6: 1, 0.5: 1, 0.9: 1, 0.9001: 2, 1.0: 2}
    line = np.outer(np.arange(1.0, 6.0), [0.6, 0.8])
    assert projection_picture(line, [1, 0], 1.0).protected == 1, "a line has one axis"


def test_what_is_left_is_orthogonal_to_the_protected_axis_and_old_outputs_change_by_the_rest():
    picture = projection_picture(CROSS, [3, 4], 0.9)
    np.testing.assert_allclose(picture.left, [0, 4], atol=1e-12)
    np.testing.assert_allclose(picture.removed, [3, 0], atol=1e-12)
    assert picture.left_share == pytest.approx(0.8)
    assert picture.change == pytest.approx(np.sqrt(np.mean((CROSS @ [0, 4]) ** 2)))
    assert picture.change_before == pytest.approx(np.sqrt(np.mean((CROSS @ [3, 4]) ** 2)))


def test_the_axes_are_those_of_the_second_moment_without_centring():
    far = CROSS + np.array([0.0, 10.0])
    picture = projection_picture(far, [1, 0], 0.9)
    np.testing.assert_allclose(picture.axes, [[0, 1], [-1, 0]], atol=1e-12)
    np.testing.assert_allclose(picture.deviations**2, [100.5, 4.5], rtol=1e-12)


def test_the_soft_form_removes_as_its_paper_says():
    points = np.diag([2.0, 1.0])  # singular values in the ratio 2 : 1
    for alpha, second in ((1, 2 / 3), (3, 0.8), (10, 11 / 12), (0, 0.5)):
        picture = projection_picture(points, [1, 1], 1.0, alpha)
        np.testing.assert_allclose(picture.strength, [1, second], rtol=1e-12)
        np.testing.assert_allclose(picture.left, [0, 1 - second], atol=1e-12)
    assert projection_picture(points, [1, 1], 0.5, 10).strength.tolist() == [1, 0]


def test_scale_moves_no_share():
    one, thousand = (projection_picture(s * example_points(), [1, 2], 0.9) for s in (1.0, 1e3))
    np.testing.assert_allclose(one.shares, thousand.shares)
    np.testing.assert_allclose(one.left, thousand.left)
    assert thousand.change == pytest.approx(1e3 * one.change)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (dict(points=np.ones((4, 3))), r"\[n, 2\], got \[4, 3\]"),
        (dict(points=np.zeros((4, 2))), "not all zero"),
        (dict(points=[[1.0, np.nan]]), "finite"),
        (dict(gradient=[0, 0]), "not both zero"),
        (dict(energy=1.5), r"\[0, 1\], got 1.5"),
        (dict(alpha=-1.0), "at least 0, got -1"),
    ],
)
def test_bad_input_is_named(given, said):
    with pytest.raises(ValueError, match=said):
        projection_picture(**{"points": CROSS, "gradient": [1, 1], "energy": 0.9, **given})


def test_the_sentence_says_what_the_numbers_say():
    def at(energy, alpha=None):
        return says(projection_picture(CROSS, [3, 4], energy, alpha), energy).replace("\u00a0", " ")

    assert at(0) == "Nothing is protected: the whole gradient is left. Old outputs change by 7."
    assert at(0.9) == (
        "One axis holds 90.0 % of the energy and is protected: 80.0 % of the gradient’s length is left. "
        "Old outputs change by 2.8 instead of 7."
    )
    assert "less than the 95 % to keep, so both are protected: the projected gradient is zero" in at(0.95)
    assert "the second by 91.7 %" not in at(0.95, 10) and "the second by 84.6 %" in at(0.95, 10)


def test_the_fragment_needs_nothing_from_elsewhere():
    fragment = html(CROSS, [3, 4])
    assert "One axis holds 90.0\u00a0% of the energy" in fragment, "without scripts a sentence is there"
    addresses = fragment.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    assert not any(sign in addresses for sign in ("http:", "https:", "url(", "import ", "export "))
