"""How every page that inspects one run begins: its title, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from cl_core.events import Event
from dashboard.run_log import Snapshot
from dashboard.runs import holding, runs_index
from dashboard.theme import task_name
from dashboard.view_state import (
    ViewState,
    current,
    empty,
    literal,
    sentence,
    show_run,
)

_PLACE = "_answer_place"  # where the page's answer stands: below its title, whatever it is computed from


def open_run_page(title: str, promise: str, *, key: str) -> tuple[ViewState, Snapshot] | None:
    """Draw the title or the question that the page answers; the frame and its log, or None after saying why there is
    nothing to inspect.

    Args:
        title: the page's, or its question.
        promise: one sentence, what appears here as soon as there is a run.
        key: prefix of the page's keys.
    """
    frame = current()
    st.markdown(f"## {title}")
    st.session_state[_PLACE] = st.container(key="answer-place")
    if frame.log is None:
        empty(promise, "Start one", page="pages/start.py", key=f"{key}-empty")
        return None
    if frame.log.trouble:
        st.error(sentence(frame.log.trouble), icon=":material/broken_image:")
        if frame.log.started() is None:
            return None
    return frame, frame.log


def answer(sentence: str) -> None:
    """The page's question answered for this run, large and below it; nothing where it cannot be answered yet."""
    if sentence:
        with st.session_state[_PLACE], st.container(key="answer"):
            st.markdown(literal(sentence))


@contextmanager
def more(label: str, *, key: str) -> Iterator[bool]:
    """A part of the page that is drawn when it is opened, which the address then says; gives whether it is open."""
    part = st.expander(label, key=key, bind="query-params")
    with part:
        yield bool(part.open)


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
