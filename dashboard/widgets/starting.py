"""Starting a run from a page: check whether it is possible, start it, report failures."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import streamlit as st

from cl_core.config import ConfigError
from cl_core.presets import resolve
from cl_core.store import RunFolder, StoreError
from dashboard import launch
from dashboard.changes import viewing
from dashboard.runs import runs_folder, runs_index
from dashboard.view_state import sentence, show_run


def can_train() -> bool:
    """Return whether runs can be started here; if not, say what is missing."""
    if viewing():
        st.info("This dashboard is for viewing: runs are started where it was opened.", icon=":material/visibility:")
        return False
    if importlib.util.find_spec("torch") is not None:
        return True
    st.info("Only the viewer is installed: recordings and copied runs open, training needs `pip install .`.")
    return False


def start_run(record: dict[str, Any], place: str) -> RunFolder | None:
    """Start a run of `record`, settings as `cl_core.presets.resolve` takes them; see `begin_run`."""
    return begin_run(place, lambda: launch.start(runs_folder(), resolve(record), record.get("name", "")))


def start_and_show(record: dict[str, Any], place: str) -> None:
    """Call `start_run` from a widget's callback and show the new run."""
    _show(start_run(record, place))


def begin_and_show(place: str, make: Callable[[], RunFolder]) -> None:
    """Call `begin_run` from a widget's callback and show the new run."""
    _show(begin_run(place, make))


def _show(folder: RunFolder | None) -> None:
    if folder is not None:
        show_run(folder.name)


def begin_run(place: str, make: Callable[[], RunFolder]) -> RunFolder | None:
    """Create a run folder and start a worker; return None on failure. Does not change the page; `frame.show_next` does.

    Args:
        place: where a failure is reported (`say_trouble`).
        make: creates the folder; raises StoreError or ConfigError with one sentence.
    """
    st.session_state.pop(f"_trouble-{place}", None)
    try:
        folder = make()
    except (StoreError, ConfigError) as error:
        st.session_state[f"_trouble-{place}"] = str(error)
        return None
    runs_index(fresh=True)
    return folder


def say_trouble(place: str) -> bool:
    """Say why the last start from `place` failed; return whether it did."""
    trouble = st.session_state.get(f"_trouble-{place}")
    if trouble:
        st.error(sentence(trouble))
    return bool(trouble)
