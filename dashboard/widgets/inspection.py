"""How a page begins: its question or title, the answer for the chosen run, and what is missing."""

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
_PLACE = "_answer_place"  # where the answer stands: below the question, whatever it is computed from


def opening_place() -> None:
    """Where the page's question will stand. Called in the entry file, before the shared controls are drawn."""
    st.session_state[_OPENING] = st.container(key="opening")


@contextmanager
def opening() -> Iterator[None]:
    """What is drawn within stands at the very top of the page; below it a place is kept for the answer."""
    with st.session_state[_OPENING]:
        yield
        st.session_state[_PLACE] = st.container(key="answer-place")


def ask(question: str) -> None:
    """Draw the page's question, or its title, at the top of the page."""
    with opening():
        st.markdown(f"## {question}")


def open_run_page(title: str, promise: str, *, key: str) -> tuple[ViewState, Snapshot] | None:
    """Draw the title or the question that the page answers; the frame and its log, or None after saying why there is
    nothing to inspect.

    Args:
        title: the page's, or its question.
        promise: one sentence, what appears here as soon as there is a run.
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
    """Where `answer` draws: a fragment that draws it must be called within."""
    return st.session_state[_PLACE]


def answer(sentence: str) -> None:
    """The page's question answered for this run, large and below it; nothing where it cannot be answered yet."""
    if sentence:
        with answer_place(), st.container(key="answer"):
            st.markdown(literal(sentence))


@contextmanager
def more(label: str, *, key: str) -> Iterator[bool]:
    """A part of the page that is drawn when it is opened, which the address then says; gives whether it is open."""
    part = st.expander(label, key=key, bind="query-params")
    with part:
        yield bool(part.open)


def offer_runs(kind: type[Event], *, key: str, start: str = "") -> None:
    """Where a run lacks what a page shows: up to three that have it, a button each. Below the sentence that says so.

    Args:
        kind: what the page shows.
        key: prefix of the keys.
        start: preset whose run has it, offered where no run does; "" = none.
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
    """One sentence: nothing was measured after the chosen `task`, so `instead` is what is shown."""
    st.info(f"Nothing was measured after {task_name(task)}; shown instead: {instead}.", icon=":material/info:")
