"""Starting a run from a page: whether it can be done here, doing it, and saying why it failed."""

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
    """Whether runs can be started here; says what is missing where they cannot."""
    if viewing():
        st.info("This dashboard is for viewing: runs are started where it was opened.", icon=":material/visibility:")
        return False
    if importlib.util.find_spec("torch") is not None:
        return True
    st.info("Only the viewer is installed: recordings and copied runs open, training needs `pip install .`.")
    return False


def start_run(record: dict[str, Any], place: str) -> RunFolder | None:
    """A new run of `record`, settings as `cl_core.presets.resolve` takes them; see `begin_run`."""
    return begin_run(place, lambda: launch.start(runs_folder(), resolve(record), record.get("name", "")))


def start_and_show(record: dict[str, Any], place: str) -> None:
    """`start_run` from a widget's callback, and go over to the new run."""
    _show(start_run(record, place))


def begin_and_show(place: str, make: Callable[[], RunFolder]) -> None:
    """`begin_run` from a widget's callback, and go over to the new run."""
    _show(begin_run(place, make))


def _show(folder: RunFolder | None) -> None:
    if folder is not None:
        show_run(folder.name)


def begin_run(place: str, make: Callable[[], RunFolder]) -> RunFolder | None:
    """Make a run folder with a worker on it. None: it failed. The page stays; `frame.show_next` follows the run.

    Args:
        place: where a failure is said (`say_trouble`).
        make: makes it; raises StoreError or ConfigError in one sentence.
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
    """Why the last start from `place` failed, if it did."""
    trouble = st.session_state.get(f"_trouble-{place}")
    if trouble:
        st.error(sentence(trouble))
    return bool(trouble)
