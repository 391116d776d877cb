"""Recovery from out-of-memory errors: the same run with a smaller batch."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from cl_core.config import RunConfig
from cl_core.store import boundaries
from dashboard import launch
from dashboard.run_log import Log
from dashboard.runs import runs_folder
from dashboard.theme import task_name
from dashboard.widgets.starting import begin_and_show, can_train, say_trouble

PLACE = "smaller-batch"


def smaller_batch(log: Log, config: RunConfig, fits: int) -> None:
    """Draw a button that forks the run after its last finished task with `fits` images per batch, or restarts it if no
    task was finished: the batch size is fixed within a run."""
    done = max(boundaries(log.folder), default=0)
    start = f"Fork from after {task_name(done - 1)}" if done else "Start again"
    if can_train():
        st.button(
            f"{start} with batches of {fits}",
            key="smaller-batch",
            icon=":material/compress:",
            on_click=_go_on,
            args=(log, config, fits, done),
        )
        say_trouble(PLACE)


def _go_on(log: Log, config: RunConfig, fits: int, done: int) -> None:
    setting = {"training.batch_size": fits}
    if done:
        begin_and_show(PLACE, lambda: launch.fork(log.folder, done, setting))
    else:
        begin_and_show(
            PLACE, lambda: launch.start(runs_folder(), replace(config.with_values(setting.items()), name=""))
        )
