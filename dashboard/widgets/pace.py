"""How often a tab is redrawn while a run trains: a tab that nobody sees not at all, a slow one more seldom.

The browser counts for how long drawing keeps it busy: above 15 % of the time the interval doubles (up to 8 s), below
4 % it is halved again (down to 1 s). The server counts what its part of a redraw costs and allows it 5 % of a core. The
training runs on the same cores. An interval changes by drawing the page once anew, so it changes seldom.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

SHARE = 0.05  # of a core, for one tab's redraws on the server
MOST = 8.0  # seconds

_mount = st.components.v2.component("pace", html="<i></i>", js=Path(__file__).with_suffix(".js").read_text("utf-8"))


def _told() -> float:
    """What the browser has said last: seconds for a fragment of one second, 0 for a hidden tab."""
    said = (st.session_state.get("pace") or {}).get("pace", 1.0)
    return float(said) if isinstance(said, int | float) else 1.0


def watch_tab() -> None:
    """Let the browser say whether the tab is seen, and how busy it is, where something on the page is redrawn by
    itself. Once a page, after all that calls `every`."""
    follows = bool(st.session_state.pop("_follows", False))
    with st.container(key="pace-place"):
        _mount(
            data={"pace": _told(), "follows": follows}, key="pace", default={"pace": 1.0}, on_pace_change=lambda: None
        )


def every(seconds: float) -> float | None:
    """The interval of a fragment that would be redrawn after so many seconds in a tab that is seen and quick; None =
    the tab is hidden."""
    st.session_state["_follows"] = True
    pace = _told()
    if pace <= 0:
        return None
    return min(MOST, max(seconds * pace, st.session_state.get("_redraw", 0.0) / SHARE))


@contextmanager
def counted() -> Iterator[None]:
    """What is drawn within is redrawn time and again: its processor time on the server counts."""
    began = time.thread_time()
    yield
    st.session_state["_redraw"] = time.thread_time() - began
