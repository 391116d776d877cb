"""How every page that inspects one run begins: its title, what is missing, and the controls that pages share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from cl_core.events import Event
from dashboard.run_log import Log
from dashboard.runs import holding, runs_index
from dashboard.theme import task_name
from dashboard.view_state import (
    ViewState,
    current,
    empty,
    learned_at_once,
    literal,
    select_layer,
    select_task,
    sentence,
    show_run,
)

Choice = TypeVar("Choice")


def open_run_page(title: str, promise: str, *, key: str) -> tuple[ViewState, Log] | None:
    """Draw the title; the frame and its log, or None after saying why there is nothing to inspect.

    Args:
        title: the page's.
        promise: one sentence, what appears here as soon as there is a run.
        key: prefix of the page's keys.
    """
    frame = current()
    st.markdown(f"## {title}")
    if frame.log is None:
        empty(promise, "Start one", page="pages/start.py", key=f"{key}-empty")
        return None
    if frame.log.trouble:
        st.error(sentence(frame.log.trouble), icon=":material/broken_image:")
        if frame.log.started() is None:
            return None
    return frame, frame.log


def task_and_layer(log: Log, *more: Callable[[], Choice], key: str) -> tuple[int | None, int, list[Choice]]:
    """The shared controls in a row, then those of the page: (task, layer, what `more` gave)."""
    with st.container(horizontal=True, gap="large", key=f"{key}-shared"):
        task, layer, others = select_task(log), select_layer(log), [control() for control in more]
    learned_at_once(log)
    return task, layer, others


def offer_runs(kind: type[Event], *, key: str) -> None:
    """Where a run lacks what a page shows: up to three that have it, a button each. Below the sentence that says so."""
    names = holding(runs_index(), kind.__name__)
    if names:
        with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-others"):
            st.markdown("Runs that have it:", width="content")
            for name in names:
                st.button(literal(name), key=f"{key}-show-{name}", on_click=show_run, args=(name,))


def shown_instead(task: int, instead: str) -> None:
    """One sentence: nothing was measured after the chosen `task`, so `instead` is what is shown."""
    st.info(f"Nothing was measured after {task_name(task)}; shown instead: {instead}.", icon=":material/info:")
