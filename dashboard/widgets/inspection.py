"""The top of a page: its question or title, the answer for the chosen run, and what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cl_core.events import Event
from cl_core.presets import PRESETS
from dashboard.changes import viewing
from dashboard.run_log import Snapshot
from dashboard.runs import holding, runs_index
from dashboard.theme import seconds, task_name
from dashboard.view_state import (
    ViewState,
    called,
    current,
    empty,
    go_to,
    literal,
    sentence,
    show_run,
)
from dashboard.widgets.starting import say_trouble, start_and_show

_OPENING = "_opening_place"  # above the shared controls: the page's question and its answer
_PLACE = "_answer_place"  # container of the answer below the question, whenever it is computed


def opening_place() -> None:
    """Reserve the place of the page's question. Called in the entry file, before the shared controls are drawn."""
    st.session_state[_OPENING] = st.container(key="opening")


@contextmanager
def opening() -> Iterator[None]:
    """Draw the block's content at the very top of the page and reserve a place for the answer below it."""
    with st.session_state[_OPENING]:
        yield
        st.session_state[_PLACE] = st.container(key="answer-place")


def ask(question: str) -> None:
    """Draw the page's question, or its title, at the top of the page."""
    with opening():
        st.markdown(f"## {question}")


def open_run_page(title: str, promise: str, *, key: str) -> tuple[ViewState, Snapshot] | None:
    """Draw the page's title or question. Return the view state and its snapshot, or None after saying why there is
    nothing to show.

    Args:
        title: title or question of the page.
        promise: a sentence that says what appears here as soon as there is a run.
        key: prefix of the page's keys.
    """
    frame = current()
    ask(title)
    if frame.log is None:
        empty(promise, "Start one", page="pages/start.py", key=f"{key}-empty")
        return None
    if frame.log.trouble:
        st.error(sentence(frame.log.trouble), icon=":material/broken_image:")
        if frame.log.started() is None:
            return None
    return frame, frame.log


def answer_place() -> DeltaGenerator:
    """Return the container that `answer` draws in; a fragment that calls `answer` must be called within it."""
    return st.session_state[_PLACE]


def answer(sentence: str) -> None:
    """Draw the answer for this run in large type below the question; nothing if `sentence` is empty."""
    if sentence:
        with answer_place(), st.container(key="answer"):
            st.markdown(literal(sentence))


@contextmanager
def more(label: str, *, key: str) -> Iterator[bool]:
    """Draw an expander whose content is drawn only when open, which the URL records; yields whether it is open."""
    part = st.expander(label, key=key, bind="query-params")
    with part:
        yield bool(part.open)


def offer_runs(kind: type[Event], *, key: str, start: str = "") -> None:
    """Draw buttons for up to three runs that have the event `kind`, below the sentence that this run lacks it.

    Args:
        kind: the event that the page shows.
        key: prefix of the keys.
        start: preset whose run has it, offered if no run does; "" = none.
    """
    names = holding(runs_index(), kind.__name__)
    if not names and start and not viewing() and find_spec("torch") is not None:
        preset = PRESETS[start]
        pressed = st.button(
            f"Start {preset.title}" + (f", about {seconds(preset.seconds)}" if preset.seconds else ""),
            key=f"{key}-start",
            icon=":material/play_arrow:",
            help="A run that has what this page shows",
            on_click=start_and_show,
            args=({"preset": start}, key),
        )
        if not say_trouble(key) and pressed:
            go_to("pages/run.py")
    if names:
        with st.container(horizontal=True, vertical_alignment="center", key=f"{key}-others"):
            st.markdown("Runs that have it:", width="content")
            for name in names:
                st.button(literal(called(name)), key=f"{key}-show-{name}", on_click=show_run, args=(name,))


def shown_instead(task: int, instead: str) -> None:
    """Say that nothing was measured after the chosen `task` and that `instead` is shown."""
    st.info(f"Nothing was measured after {task_name(task)}; shown instead: {instead}.", icon=":material/info:")
