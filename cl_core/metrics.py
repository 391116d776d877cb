"""Numbers read off an accuracy matrix R[i, j]: percent on task j after training through task i.

Rows are 'after training on', columns 'evaluated on', tasks counted from 0 here and from 1 on screen. NaN (or None in a
list) means not measured. Every result is a Python float in percent or percentage points, NaN where it is undefined.

Unfinished matrices. The state *now* is the last complete row, in which every task learned so far, j ≤ i, is measured;
if no row is complete, the last row with any value. Rows may be missing at the end (fewer rows than columns, or NaN);
single gaps are excluded from means.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike


def final_average_accuracy(R: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Final average accuracy A_n: mean current accuracy on the tasks learned so far.

        A_n = mean_{j ≤ n} R[n, j],   n = last complete row

    Args:
        R: accuracy matrix, percent.
        weights: one non-negative number per task, e.g. its test images: the pooled accuracy. Default: equal weights.
    """
    matrix = accuracy_matrix(R)
    now = _now(matrix)
    return np.nan if now is None else _row_accuracy(matrix, now, _weights(weights, matrix))


def average_incremental_accuracy(R: ArrayLike, *, weights: ArrayLike | None = None) -> float:
    """Average incremental accuracy Ā: the mean over time of the average accuracy on the tasks learned so far.

        Ā = mean_{i ≤ n} A_i,   A_i = mean_{j ≤ i} R[i, j],   n = last complete row

    Excludes accuracies before learning (j > i), which exist for zero-shot backbones; see `average`. NaN if only the
    last of several rows was measured.

    Args:
        R: accuracy matrix, percent.
        weights: as `final_average_accuracy`.
    """
    matrix = accuracy_matrix(R)
    now, sizes = _now(matrix), _weights(weights, matrix)
    if now is None or _has_no_past(matrix, now):
        return np.nan
    return _mean([_row_accuracy(matrix, row, sizes) for row in range(now + 1)])


def learning_accuracy(R: ArrayLike) -> float:
    """Learning accuracy, our measure of plasticity: each task right after it was learned.

        mean_j R[j, j]

    NaN if only the last of several rows was measured (joint training).
    """
    matrix = accuracy_matrix(R)
    now = _now(matrix)
    return np.nan if now is None or _has_no_past(matrix, now) else _mean(np.diagonal(matrix))


def forgetting(R: ArrayLike, *, include_last: bool = False) -> float:
    """Forgetting: how far the tasks before the last have fallen from their best, in percentage points.

        F = mean_{j < n} ( max_{j ≤ i < n} R[i, j] − R[n, j] ),   n = last complete row

    Negative if a task is better now than ever before. NaN for a single task.

    Args:
        R: accuracy matrix, percent.
        include_last: let the maximum run to i ≤ n, as the code of several papers does; then no task counts below zero.
    """
    return _mean(forgetting_per_task(R, include_last=include_last))


def forgetting_per_task(R: ArrayLike, *, include_last: bool = False) -> np.ndarray:
    """The terms of `forgetting`: [tasks], percentage points, NaN for the task learned last and future tasks."""
    matrix = accuracy_matrix(R)
    fallen, now = np.full(matrix.shape[1], np.nan), _now(matrix)
    if now is None:
        return fallen
    for task in range(now):
        before = matrix[task : now + 1 if include_last else now, task]
        if np.isfinite(before).any():
            fallen[task] = np.nanmax(before) - matrix[now, task]
    return fallen


def backward_transfer(R: ArrayLike) -> float:
    """Backward transfer: effect of later learning on earlier tasks, in percentage points; negative means harm.

        mean_{j < n} ( R[n, j] − R[j, j] ),   n = last complete row

    NaN for a single task.
    """
    matrix = accuracy_matrix(R)
    now = _now(matrix) or 0
    return _mean(matrix[now, :now] - np.diagonal(matrix)[:now]) if now else np.nan


def forward_transfer(R: ArrayLike, reference: ArrayLike) -> float:
    """Forward transfer: effect of earlier learning on tasks not yet learned, in percentage points.

        mean_{j ≥ 1} ( R[j−1, j] − reference[j] )

    Needs accuracies before learning; NaN without them, and for a single task.

    Args:
        R: accuracy matrix, percent.
        reference: accuracy of an untrained model on each task, percent (the zero-shot row); one number applies to all.

    Raises:
        ValueError: if there is not one reference per task.
    """
    matrix = accuracy_matrix(R)
    untrained = _per_task(reference, matrix, "reference")
    return _mean(np.diagonal(matrix, offset=1) - untrained[1 : 1 + len(np.diagonal(matrix, offset=1))])


def transfer(R: ArrayLike) -> float:
    """Transfer: accuracy on tasks before they are learned, averaged per task first.

        Transfer = mean_{j ≥ 1} mean_{i < j} R[i, j]

    The mean of column means of the strict upper triangle, not the plain mean of its entries; the untrained model adds
    no row. In an unfinished matrix a column averages the available rows. NaN if no task was evaluated before it was
    learned.
    """
    matrix = accuracy_matrix(R)
    return _mean([_mean(matrix[:task, task]) for task in range(1, matrix.shape[1])])


def average(R: ArrayLike) -> float:
    """Average: accuracy over all tasks and all times, those before learning included.

        Average = mean_{i, j} R[i, j]

    NaN if there are several tasks and none was evaluated before it was learned: the mean over a triangle is a different
    quantity.
    """
    matrix = accuracy_matrix(R)
    above = matrix[np.triu_indices(n=matrix.shape[0], k=1, m=matrix.shape[1])]
    return np.nan if matrix.shape[1] > 1 and not np.isfinite(above).any() else _mean(matrix)


def last(R: ArrayLike) -> float:
    """Last: accuracy at the end, over every task of the row.

        Last = mean_j R[n, j],   n = last complete row

    Equals `final_average_accuracy` once the stream is finished; before that it includes future tasks.
    """
    matrix = accuracy_matrix(R)
    now = _now(matrix)
    return np.nan if now is None else _mean(matrix[now])


def forgetting_over_time(R: ArrayLike) -> np.ndarray:
    """FGT_t: forgetting after each task, percentage points; lower is better.

        FGT_t = mean_{j < t} ( max_{j ≤ i < t} R[i, j] − R[t, j] )

    Returns:
        [tasks]; NaN for the first task and where a row was not measured. The last value is `forgetting` of a finished
        matrix.
    """
    matrix = accuracy_matrix(R)

    def fallen(row: int) -> np.ndarray:
        best = [np.fmax.reduce(matrix[task:row, task]) for task in range(row)]
        return np.array(best) - matrix[row, :row]

    return _per_row(matrix, fallen)


def forward_transfer_over_time(R: ArrayLike, untrained: ArrayLike) -> np.ndarray:
    """FWD_t: effect of learning so far on future tasks, percentage points; higher is better, below zero is negative
    transfer.

        FWD_t = mean_{j > t} ( R[t, j] − untrained[j] )

    Differs from `forward_transfer`, which looks one task ahead only. Names and which direction is better follow
    accounts of arXiv:2401.09181; the untrained model as reference and the range of j are our reading.

    Args:
        R: accuracy matrix, percent, with accuracies before learning.
        untrained: accuracy of the untrained model on each task, percent; one number applies to all.

    Returns:
        [tasks]; NaN for the last task, and where no future task was measured.

    Raises:
        ValueError: if there is not one untrained accuracy per task.
    """
    matrix = accuracy_matrix(R)
    reference = _per_task(untrained, matrix, "untrained")
    return _per_row(matrix, lambda row: matrix[row, row + 1 :] - reference[row + 1 :])


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's rank correlation of paired numbers, ties averaged: in −1 to 1.

    NaN for fewer than three pairs, or if either side is constant.
    """
    first, second = (_ranks(np.asarray(values, dtype=float)) for values in (x, y))
    if len(first) < 3 or not first.std() or not second.std():
        return np.nan
    return float(np.corrcoef(first, second)[0, 1])


def accuracy_matrix(R: ArrayLike) -> np.ndarray:
    """R as float64 [rows, tasks]: None becomes NaN, rows of a list may be short (a triangle), the last ones missing.

    Raises:
        ValueError: if it is not two-dimensional, has more rows than tasks, or holds an infinity.
    """
    rows: ArrayLike | list[list[Any]] = R
    if isinstance(R, Sequence) and R and _are_sequences(R):
        lengths = {len(row) for row in R}
        width = max(lengths) if len(lengths) == 1 else max(len(R), *lengths)
        rows = [[*row, *[None] * (width - len(row))] for row in R]
    matrix = np.array(rows, dtype=float)
    if matrix.ndim != 2 or matrix.size == 0 or matrix.shape[0] > matrix.shape[1]:
        raise ValueError(
            f"the accuracy matrix must be [rows, tasks] with one row per task at most, got shape {list(matrix.shape)}; "
            "keep the zero-shot row apart"
        )
    if np.isinf(matrix).any():
        raise ValueError("the accuracy matrix must hold percentages or NaN, got an infinity")
    return matrix


def _are_sequences(rows: Sequence[Any]) -> TypeGuard[Sequence[Sequence[Any]]]:
    return all(isinstance(row, Sequence) for row in rows)


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def _per_row(matrix: np.ndarray, values: Callable[[int], np.ndarray]) -> np.ndarray:
    """Mean of the measured values of each row: [tasks], NaN for missing rows."""
    means = [_mean(values(row)) for row in range(len(matrix))]
    return np.array([*means, *[np.nan] * (matrix.shape[1] - len(means))])


def _now(matrix: np.ndarray) -> int | None:
    finite = np.isfinite(matrix)
    complete = np.flatnonzero((finite | (np.tri(*finite.shape) == 0)).all(axis=1))
    found = complete if len(complete) else np.flatnonzero(finite.any(axis=1))
    return int(found[-1]) if len(found) else None


def _has_no_past(matrix: np.ndarray, now: int) -> bool:
    return now > 0 and not np.isfinite(matrix[:now]).any()


def _row_accuracy(matrix: np.ndarray, row: int, weights: np.ndarray) -> float:
    seen, sizes = matrix[row, : row + 1], weights[: row + 1]
    measured = np.isfinite(seen)
    total = sizes[measured].sum()
    return float(sizes[measured] @ seen[measured] / total) if total > 0 else np.nan


def _weights(weights: ArrayLike | None, matrix: np.ndarray) -> np.ndarray:
    sizes = _per_task(1.0 if weights is None else weights, matrix, "weights")
    if not (sizes >= 0).all():
        raise ValueError(f"weights must be at least 0, got {sizes.tolist()}")
    return sizes


def _per_task(values: ArrayLike, matrix: np.ndarray, name: str) -> np.ndarray:
    numbers = np.array(values, dtype=float)
    if numbers.ndim and numbers.shape != (matrix.shape[1],):
        raise ValueError(f"{name} must hold one number per task, {matrix.shape[1]}, got shape {list(numbers.shape)}")
    return np.broadcast_to(numbers, matrix.shape[1])


def _mean(values: ArrayLike) -> float:
    numbers = np.asarray(values, dtype=float)
    measured = numbers[np.isfinite(numbers)]
    return float(measured.mean()) if measured.size else np.nan
