"""The form that forks a run after a task with other settings; only the remaining tasks are trained."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.config import ConfigError
from cl_core.config_changes import changeable
from cl_core.store import Checkpoint, StoreError, boundaries, effective_config
from dashboard import launch
from dashboard.method_settings import settings_of
from dashboard.run_log import Snapshot
from dashboard.theme import task_name
from dashboard.view_state import ViewState, literal, sentence, show_next
from dashboard.widgets.setting_inputs import setting_inputs
from dashboard.widgets.starting import begin_run, can_train, say_trouble


def fork_form(frame: ViewState) -> None:
    """Draw a switch and below it the form; nothing if there is no task boundary to continue from."""
    log = frame.whole_log
    plan = log.started() if log else None
    if log is None or plan is None or plan.trained_tasks < 2:
        return
    if log.config is not None and log.config.trained_elsewhere:
        st.caption("This run was trained by another program: there is no checkpoint to fork from.")
        return
    if frame.recording:
        st.caption("A recording has no checkpoints; your own runs can be forked at task boundaries.")
        return
    try:
        places = {task: c for task, c in boundaries(log.folder).items() if task < plan.trained_tasks}
    except StoreError as error:
        st.caption(sentence(error))
        return
    if places and st.toggle(
        "Fork this run", key="fork-open", help="Train the remaining tasks again with other settings, as a new run"
    ):
        with st.container(border=True, key="fork-form"):
            if can_train():
                _form(log, places, plan.trained_tasks)


def _form(log: Snapshot, places: dict[int, Checkpoint], tasks: int) -> None:
    where, name = st.columns([2, 2])
    after = where.segmented_control(
        "Fork from after", list(places), default=max(places), required=True, key=f"fork-after-{log.name}",
        format_func=lambda task: task_name(task - 1),
    )  # fmt: skip
    called = name.text_input("Name", key="fork-name", placeholder="time and method", help="Name of the fork's folder")
    after = int(after or max(places))
    left = ", ".join(task_name(task) for task in range(after, tasks))
    st.markdown(f"Everything up to {task_name(after - 1)} is kept; {left} will be trained again.")
    try:
        config = effective_config(log.folder, places[after].seq)
        described, training = changeable(settings_of(config.method))
    except (StoreError, ConfigError) as error:
        st.warning(sentence(error))
        return
    settings: dict[str, Any] = {}
    st.markdown("Settings of the method")
    settings |= setting_inputs(described, config.settings, f"fork-{log.name}-{after}")
    st.markdown("Training")
    changed = setting_inputs(training, vars(config.training), f"fork-training-{log.name}-{after}")
    settings |= {f"training.{key}": value for key, value in changed.items()}
    said = ", ".join(f"{key.removeprefix('training.')} = {value}" for key, value in settings.items())
    st.caption(  # always one line, so that the button below does not move while it is pressed
        f"Changed: {literal(said)}."
        if settings
        else "Without changes the fork repeats its parent exactly, on the same CPU."
    )
    if st.button(
        f"Fork from after {task_name(after - 1)}", key="fork-now", type="primary", icon=":material/fork_right:"
    ):
        made = begin_run("fork", lambda: launch.fork(log.folder, after, settings, called.strip()))
        if made:
            show_next(made.name, closed="fork-open")
    say_trouble("fork")
