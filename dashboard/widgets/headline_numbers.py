"""The numbers a run is judged by, in a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import streamlit as st

from cl_core.summary import measures
from dashboard.theme import MISSING, percent, points

Number = tuple[str, str, str]  # name, value as read, what it is
_Column = tuple[str, str, Callable[[float | None], str], str]

_LEARNED: tuple[_Column, ...] = (
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
        lambda value: points(value).lstrip("+"),
        "Mean fall of earlier tasks from their best, in percentage points (stability = little of it); defined from the "
        "second task on",
    ),
)
_FROM_THE_START: tuple[_Column, ...] = (
    (
        "Transfer",
        "transfer",
        percent,
        "Accuracy on tasks before they are learned, above the diagonal: mean of each column, then over columns",
    ),
    ("Average", "average", percent, "Mean of all cells measured after training: all tasks, all times"),
    ("Last", "last", percent, "Mean of the newest row, over all tasks"),
)


def numbers_of(matrix: np.ndarray) -> list[Number]:
    """Name, value and meaning of the numbers for `matrix` ([rows, T] percent, NaN = not measured).

    Transfer, Average, Last where tasks are also evaluated before they are learned; else final average accuracy,
    learning accuracy and forgetting.
    """
    found = measures(matrix.tolist()) if matrix.size else {}
    columns = _LEARNED if found.get("transfer") is None else _FROM_THE_START
    return [(name, text(found.get(key)), meaning) for name, key, text, meaning in columns]


def headline_numbers(matrix: np.ndarray, *, so_far: bool, more: Sequence[Number] = ()) -> None:
    """Draw them, and `more` behind; `so_far` marks numbers that will still change."""
    with st.container(horizontal=True, gap="medium"):
        for name, value, meaning in numbers_of(matrix):
            st.metric(name + " so far" * (so_far and value != MISSING), value, help=meaning, width="content")
        for name, value, meaning in more:
            st.metric(name, value, help=meaning, width="content")
