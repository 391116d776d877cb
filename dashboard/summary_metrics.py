"""Summary measures of a run as texts, for pages and the report. No streamlit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cl_core.summary import measures
from dashboard.theme import percent, points

Number = tuple[str, str, str]  # name, formatted value, meaning
_Column = tuple[str, str, Callable[[float | None], str], str]


def _fall(value: float | None) -> str:
    return points(value).lstrip("+")


LEARNED: tuple[_Column, ...] = (
    ("Final average accuracy", "final_average_accuracy", percent, "Mean of the newest row of the matrix"),
    (
        "Learning accuracy",
        "learning_accuracy",
        percent,
        "Mean of the diagonal: each task when just learned (plasticity)",
    ),
    (
        "Forgetting",
        "forgetting",
        _fall,
        "Mean drop of earlier tasks from their best, in percentage points (low = stable); defined from the "
        "second task on",
    ),
)
FROM_THE_START: tuple[_Column, ...] = (
    (
        "Transfer",
        "transfer",
        percent,
        "Accuracy on tasks before they are learned, above the diagonal: mean of each column, then over columns",
    ),
    ("Average", "average", percent, "Mean of all cells measured after training: all tasks, all times"),
    ("Last", "last", percent, "Mean of the newest row, over all tasks"),
)
MORE: tuple[_Column, ...] = (
    ("Average incremental accuracy", "average_incremental_accuracy", percent, "Mean over rows of the row means"),
    (
        "Backward transfer",
        "backward_transfer",
        points,
        "Mean of a(n, j) − a(j, j): below zero if later tasks harm earlier ones",
    ),
)


def so_far(name: str) -> str:
    """Return a measure's name while the run continues, without "final"."""
    return f"{name.removeprefix('Final ').capitalize()} so far"


def numbers_of(matrix: np.ndarray) -> list[Number]:
    """Return name, value and meaning of the measures of `matrix` ([rows, T] percent, NaN = not measured).

    Transfer, Average, Last if tasks are also evaluated before they are learned; else final average accuracy, learning
    accuracy and forgetting.
    """
    found = measures(matrix.tolist()) if matrix.size else {}
    columns = LEARNED if found.get("transfer") is None else FROM_THE_START
    return [(name, text(found.get(key)), meaning) for name, key, text, meaning in columns]
