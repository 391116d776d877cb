"""The summary measures of a run in a row."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from dashboard.summary_metrics import Number, numbers_of
from dashboard.summary_metrics import so_far as named_so_far
from dashboard.theme import MISSING


def headline_numbers(matrix: np.ndarray, *, so_far: bool, more: Sequence[Number] = ()) -> None:
    """Draw them, followed by `more`; `so_far` marks numbers that will still change."""
    with st.container(horizontal=True, gap="medium"):
        for name, value, meaning in numbers_of(matrix):
            st.metric(named_so_far(name) if so_far and value != MISSING else name, value, help=meaning, width="content")
        for name, value, meaning in more:
            st.metric(name, value, help=meaning, width="content")
