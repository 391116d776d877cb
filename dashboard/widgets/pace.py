"""Refresh intervals while a run trains: hidden tabs are not redrawn, slow ones less often.

The browser measures the share of time that it is busy drawing: above 15 % the interval doubles (up to 8 s), below 4 %
it is halved again (down to 1 s). The server measures its own CPU time per redraw and limits it to 5 % of a core,
because training uses the same cores. A new interval requires a rerun of the page, so it changes rarely.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

SHARE = 0.05  # most of a core that the server spends on redraws of one tab
MOST = 8.0  # seconds

_mount = st.components.v2.component("pace", html="<i></i>", js=Path(__file__).with_suffix(".js").read_text("utf-8"))


def _told() -> float:
    """Return the browser's last message: the interval for a fragment of one second, 0 for a hidden tab."""
    said = (st.session_state.get("pace") or {}).get("pace", 1.0)
    return float(said) if isinstance(said, int | float) else 1.0


def watch_tab() -> None:
    """Let the browser report whether the tab is visible and how busy it is, if the page has refreshing parts. Call it
    once per page, after all calls of `every`."""
    follows = bool(st.session_state.pop("_follows", False))
    with st.container(key="pace-place"):
        _mount(
            data={"pace": _told(), "follows": follows}, key="pace", default={"pace": 1.0}, on_pace_change=lambda: None
        )


def every(seconds: float) -> float | None:
    """Return the interval of a fragment that a visible and fast tab redraws every `seconds`; None = the tab is
    hidden."""
    st.session_state["_follows"] = True
    pace = _told()
    if pace <= 0:
        return None
    return min(MOST, max(seconds * pace, st.session_state.get("_redraw", 0.0) / SHARE))


@contextmanager
def counted() -> Iterator[None]:
    """Count the block's CPU time on the server; for content that is redrawn repeatedly."""
    began = time.thread_time()
    yield
    st.session_state["_redraw"] = time.thread_time() - began
