"""Every number against a matrix one can check by hand, finished and unfinished."""

import math
import subprocess
import sys

import numpy as np
import pytest

from cl_core import metrics

NAN = math.nan

TRIANGLE = [
    [90.0, NAN, NAN],
    [80.0, 70.0, NAN],
    [60.0, 75.0, 50.0],
]
FULL = [  # rows after training on, columns evaluated on: a published check of Transfer / Average / Last
    [90.0, 38.0, 33.0, 22.0],
    [80.0, 85.0, 31.0, 25.0],
    [75.0, 82.0, 88.0, 24.0],
    [74.0, 80.0, 86.0, 91.0],
]
ZERO_SHOT_ORDER_1 = [24.3, 88.4, 68.2, 44.6, 54.9, 71.0, 88.5, 59.4, 89.0, 64.7, 65.2]
ORDER_2 = [9, 6, 7, 8, 5, 10, 0, 1, 3, 4, 2]
OF_ONE_MATRIX = [
    metrics.final_average_accuracy,
    metrics.average_incremental_accuracy,
    metrics.learning_accuracy,
    metrics.forgetting,
    metrics.backward_transfer,
    metrics.transfer,
    metrics.average,
    metrics.last,
]


def test_a_triangle_by_hand():
    assert metrics.final_average_accuracy(TRIANGLE) == pytest.approx(185 / 3)
    assert metrics.average_incremental_accuracy(TRIANGLE) == pytest.approx((90 + 75 + 185 / 3) / 3)
    assert metrics.learning_accuracy(TRIANGLE) == pytest.approx(70)
    assert metrics.forgetting(TRIANGLE) == pytest.approx((30 - 5) / 2)
    assert metrics.forgetting(TRIANGLE, include_last=True) == pytest.approx(30 / 2)
    assert metrics.backward_transfer(TRIANGLE) == pytest.approx((-30 + 5) / 2)
    assert metrics.last(TRIANGLE) == pytest.approx(185 / 3)
    assert metrics.forgetting_per_task(TRIANGLE) == pytest.approx([30, -5, NAN], nan_ok=True)


def test_a_full_matrix_by_hand():
    assert metrics.transfer(FULL) == pytest.approx(31.222, abs=1e-3)
    assert metrics.average(FULL) == pytest.approx(62.75)
    assert metrics.last(FULL) == pytest.approx(82.75)
    assert metrics.final_average_accuracy(FULL) == pytest.approx(82.75)
    seen = [90, (80 + 85) / 2, (75 + 82 + 88) / 3, 82.75]
    assert metrics.average_incremental_accuracy(FULL) == pytest.approx(np.mean(seen))
    assert metrics.forward_transfer(FULL, [20, 30, 30, 20]) == pytest.approx((8 + 1 + 4) / 3)
    assert metrics.forward_transfer(FULL, 25.0) == pytest.approx((13 + 6 - 1) / 3)
    assert metrics.backward_transfer(FULL) == pytest.approx((-16 - 5 - 2) / 3)


def test_transfer_is_averaged_per_task_first():
    plain = np.mean([FULL[i][j] for i in range(4) for j in range(i + 1, 4)])
    assert abs(metrics.transfer(FULL) - plain) > 0.1


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ZERO_SHOT_ORDER_1, (69.39, 65.29, 65.29)),
        ([ZERO_SHOT_ORDER_1[place] for place in ORDER_2], (65.35, 65.29, 65.29)),
    ],
)
def test_the_published_zero_shot_rows(row, expected):
    matrix = [row] * 11
    numbers = (metrics.transfer(matrix), metrics.average(matrix), metrics.last(matrix))
    assert numbers == pytest.approx(expected, abs=0.01)
    assert metrics.forgetting(matrix) == 0
    assert metrics.forward_transfer(matrix, row) == 0


def test_the_two_conventions_of_forgetting_differ_where_a_task_ends_at_its_best():
    matrix = [
        [0.950, NAN, NAN, NAN],
        [0.700, 0.900, NAN, NAN],
        [0.626, 0.738, 0.500, NAN],
        [0.626, 0.738, 0.737, 0.8],
    ]
    assert metrics.forgetting(matrix) == pytest.approx((0.324 + 0.162 - 0.237) / 3)
    assert metrics.forgetting(matrix) == pytest.approx(0.083, abs=5e-4)
    assert metrics.forgetting(matrix, include_last=True) == pytest.approx(0.162, abs=5e-4)


def test_forgetting_starts_at_learning_and_ignores_what_was_known_before():
    matrix = [[50.0, 99.0], [40.0, 80.0]]
    assert metrics.forgetting(matrix) == 10
    late = [[50.0, 99.0, 1.0], [40.0, 80.0, 1.0], [40.0, 70.0, 1.0]]
    assert metrics.forgetting(late) == pytest.approx((10 + 10) / 2)


def test_forgetting_with_the_last_row_is_never_negative():
    random = np.random.default_rng(0)
    for _ in range(20):
        matrix = random.uniform(0, 100, (5, 5))
        assert metrics.forgetting(matrix, include_last=True) >= max(metrics.forgetting(matrix), 0)


def test_no_number_below_the_last_complete_row_is_waited_for():
    unfinished = [[*row, NAN, NAN] for row in TRIANGLE] + [[NAN] * 5, [NAN] * 5]
    for measure in OF_ONE_MATRIX:
        assert measure(unfinished) == pytest.approx(measure(TRIANGLE), nan_ok=True)
        assert measure(unfinished[:3]) == pytest.approx(measure(TRIANGLE), nan_ok=True)


def test_a_row_being_filled_moves_the_state_of_no_task():
    half = [*FULL[:3], [10.0, NAN, NAN, NAN]]
    for measure in (
        metrics.final_average_accuracy,
        metrics.average_incremental_accuracy,
        metrics.forgetting,
        metrics.backward_transfer,
        metrics.last,
    ):
        assert measure(half) == pytest.approx(measure(FULL[:3]))
        assert measure(half) != pytest.approx(measure(FULL))


def test_unfinished_streams_with_a_zero_shot_backbone_know_learned_from_unlearned():
    started = FULL[:2]
    assert metrics.final_average_accuracy(started) == pytest.approx((80 + 85) / 2)
    assert metrics.last(started) == pytest.approx((80 + 85 + 31 + 25) / 4)
    assert metrics.transfer(started) == pytest.approx((38 + (33 + 31) / 2 + (22 + 25) / 2) / 3)
    assert metrics.learning_accuracy(started) == pytest.approx((90 + 85) / 2)
    assert metrics.forgetting(started) == 10


def test_a_single_task_has_neither_transfer_nor_forgetting():
    one = [[80.0]]
    for measure in (metrics.forgetting, metrics.backward_transfer, metrics.transfer):
        assert math.isnan(measure(one))
    assert math.isnan(metrics.forward_transfer(one, [10.0]))
    for measure in (
        metrics.final_average_accuracy,
        metrics.average_incremental_accuracy,
        metrics.learning_accuracy,
        metrics.average,
        metrics.last,
    ):
        assert measure(one) == 80


def test_over_time_forgetting_and_forward_transfer_by_hand():
    untrained = [50, 40, 30, 20]
    assert metrics.forgetting_over_time(FULL) == pytest.approx([NAN, 10, 9, 7.667], abs=1e-3, nan_ok=True)
    assert metrics.forward_transfer_over_time(FULL, untrained) == pytest.approx([1, 3, 4, NAN], nan_ok=True)
    assert metrics.forward_transfer(FULL, untrained) == pytest.approx(1.0), "one task ahead only"
    assert metrics.forgetting_over_time(FULL)[-1] == pytest.approx(metrics.forgetting(FULL))


def test_over_time_what_was_not_measured_is_nan_and_a_single_gap_is_left_out():
    partly = [[90.0, 38.0, NAN, 22.0], [80.0, 85.0, 31.0, 25.0]]
    assert metrics.forgetting_over_time(partly) == pytest.approx([NAN, 10, NAN, NAN], nan_ok=True)
    expected = [(38 - 40 + 22 - 20) / 2, 3, NAN, NAN]
    assert metrics.forward_transfer_over_time(partly, [50, 40, 30, 20]) == pytest.approx(expected, nan_ok=True)
    assert np.isnan(metrics.forward_transfer_over_time(TRIANGLE, 0.0)).all()


@pytest.mark.parametrize(
    ("x", "y", "value"),
    [
        ([1, 2, 3], [2, 4, 9], 1),
        ([1, 2, 3, 3], [4, 3, 1, 1], -1),
        ([1, 1, 1], [1, 2, 3], NAN),
        ([1, 2], [1, 2], NAN),
        ([3, 1, 4, 1, 5], [9, 2, 6, 5, 3], 0.205),
    ],
)
def test_rank_correlation_averages_ties(x, y, value):
    assert metrics.rank_correlation(x, y) == pytest.approx(value, abs=1e-3, nan_ok=True)


def test_a_triangle_has_no_transfer_and_no_average():
    for measure in (metrics.transfer, metrics.average):
        assert math.isnan(measure(TRIANGLE))
    assert math.isnan(metrics.forward_transfer(TRIANGLE, 0.0))


def test_nothing_measured_is_nan_everywhere():
    for measure in OF_ONE_MATRIX:
        assert math.isnan(measure([[NAN, NAN], [NAN, NAN]]))


def test_none_nan_short_rows_and_arrays_mean_the_same():
    with_none = [[90, None, None], [80, 70, None], [60, 75, 50]]
    short = [[90], [80, 70], [60, 75, 50]]
    for measure in OF_ONE_MATRIX:
        value = measure(TRIANGLE)
        assert type(value) is float
        for other in (with_none, short, np.array(TRIANGLE), np.array(TRIANGLE, dtype=np.float32)):
            assert measure(other) == pytest.approx(value, nan_ok=True)


def test_the_callers_matrix_is_left_alone():
    matrix = np.array(FULL)
    before = matrix.copy()
    for measure in OF_ONE_MATRIX:
        measure(matrix)
    assert (matrix == before).all()


def test_weights_pool_the_images_of_unequal_tasks():
    assert metrics.final_average_accuracy(TRIANGLE, weights=[100, 100, 200]) == pytest.approx((60 + 75 + 2 * 50) / 4)
    expected = (90 + 75 + (60 + 75 + 100) / 4) / 3
    assert metrics.average_incremental_accuracy(TRIANGLE, weights=[1, 1, 2]) == pytest.approx(expected)


def test_errors_say_what_the_matrix_should_be():
    with pytest.raises(ValueError, match="keep the zero-shot row apart"):
        metrics.last([[1.0, 2.0]] * 3)
    with pytest.raises(ValueError, match=r"must be \[rows, tasks\]"):
        metrics.last([1.0, 2.0])
    with pytest.raises(ValueError, match="infinity"):
        metrics.last([[math.inf]])
    with pytest.raises(ValueError, match="reference must hold one number per task, 3, got shape"):
        metrics.forward_transfer(TRIANGLE, [1.0, 2.0])
    with pytest.raises(ValueError, match="weights must be at least 0"):
        metrics.final_average_accuracy(TRIANGLE, weights=[1, -1, 1])


def test_metrics_need_no_torch():
    code = "import sys, cl_core.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
