"""Trying a threshold for real: the fork that is trained with it, and how far the prediction was off."""

from __future__ import annotations

import math
from dataclasses import replace

import streamlit as st

from cl_core.config import ConfigError, RunConfig
from cl_core.events import AccuracyMeasured, SpectrumMeasured, UpdateByDirection, WeightSpectrumMeasured
from cl_core.playground.recording import PRESET, playground_config
from cl_core.playground.settings import PlaygroundConfig, at_strength, slider_of
from cl_core.store import RunFolder, StoreError, fork_of
from cl_core.store import boundaries as checkpoints
from cl_core.summary import headline_readout, matrix_of, measures
from cl_core.whatif import (
    Boundary,
    Threshold,
    best,
    boundaries,
    own_threshold,
    predict,
    settings_of,
    takes,
    threshold_from,
)
from dashboard import launch
from dashboard.playground_controls import controls_of
from dashboard.run_log import Snapshot, log_of
from dashboard.runs import runs_folder, runs_index
from dashboard.theme import change, percent, points, task_name
from dashboard.view_state import ViewState, code, go_to, literal, show_plot, show_run
from dashboard.widgets.starting import begin_and_show, begin_run, can_train, say_trouble

FORKS_SHOWN = 30  # newest runs that are asked whose fork they are


def stored(log: Snapshot) -> list[Boundary]:
    """All boundaries of a run."""
    return _stored(log.key(*_BOUNDARY), log)


_BOUNDARY = (SpectrumMeasured, WeightSpectrumMeasured, UpdateByDirection)


@st.cache_resource(show_spinner=False, max_entries=16)
def _stored(key: tuple[int, ...], _log: Snapshot) -> list[Boundary]:
    return boundaries(
        _log.events(SpectrumMeasured), _log.events(WeightSpectrumMeasured), _log.events(UpdateByDirection)
    )


def why_not(frame: ViewState, boundary: Boundary, threshold: Threshold, folder: RunFolder) -> tuple[str, dict]:
    """(why there is no fork to make, or "", and the settings of one)."""
    log, after = frame.log, boundary.task + 1
    try:
        settings = settings_of(boundary, threshold)
    except ConfigError as error:
        return str(error), {}
    if own_threshold(boundary) == threshold:
        return "this is the threshold that the run had: move it first", settings
    plan = log.started() if log else None
    if plan is not None and after >= plan.trained_tasks:
        return f"no task is left to train after {task_name(boundary.task)}: choose an earlier one", settings
    if frame.recording:
        return "a recording has no checkpoints to go on from: start the same run live on the Run page", settings
    if not after:
        return "before the first task there is nothing to go on from: start a new run with this setting", settings
    if after not in _checkpoints(folder):
        return f"there is no checkpoint after {task_name(boundary.task)}", settings
    return "", settings


def _checkpoints(folder: RunFolder) -> dict:
    try:
        return checkpoints(folder)
    except StoreError:
        return {}


def try_it(frame: ViewState, boundary: Boundary, threshold: Threshold) -> None:
    """The button that makes a fork of it."""
    folder = runs_index().find(frame.run)
    if folder is None:
        return
    if (network := playground_network(folder)) is not None:
        train_in_the_playground(network, threshold)
        return
    if not can_train():
        return
    reason, settings = why_not(frame, boundary, threshold, folder)
    quick = quick_form(folder, boundary, threshold)
    said = ", ".join(f"{name}={value}" for name, value in settings.items())
    with st.container(horizontal=True, vertical_alignment="center", key="whatif-try"):
        st.button(
            "Try it for real",
            key="whatif-fork",
            type="primary",
            icon=":material/fork_right:",
            disabled=bool(reason),
            on_click=_fork,
            args=(folder, boundary.task + 1, settings),
            help="Trains the remaining tasks again from this boundary, with this threshold, as a new run",
        )
        st.caption(
            f"Not here: {literal(reason)}."
            if reason
            else f"Forks {code(folder.name)} after {task_name(boundary.task)} with {code(said)} and trains the rest."
        )
    if quick is not None:
        with st.container(horizontal=True, vertical_alignment="center", key="whatif-try-quick"):
            st.button(
                "Try it in seconds",
                key="whatif-quick",
                icon=":material/bolt:",
                on_click=begin_and_show,
                args=("whatif", lambda: launch.start(runs_folder(), quick)),
                help="Trains the whole stream anew with this threshold and prompts in the last block alone",
            )
            st.caption(
                f"A new run with {code('prompt_blocks=1')}: all below the last block is computed once an image, so it "
                "takes seconds. It shows the effect of the threshold in one block, not in all of them."
            )
    say_trouble("whatif")


def quick_form(folder: RunFolder, boundary: Boundary, threshold: Threshold) -> RunConfig | None:
    """The settings of a run of the same method that trains in seconds: prompts in the last block alone. None where the
    method has no such form, this run is one already, or its method cannot be set to the threshold."""
    try:
        config, changed = folder.config(), settings_of(boundary, threshold)
    except (StoreError, ConfigError):
        return None
    if config.trained_elsewhere or config.settings.get("prompt_blocks") != 0:
        return None
    settings = {**config.settings, **changed, "prompt_blocks": 1}
    return replace(config, settings=settings, name="", parent="", fork_task=0, preset="")


def playground_network(folder: RunFolder) -> PlaygroundConfig | None:
    """The network of a run that was kept in the Playground; None for any other run."""
    try:
        config = folder.config()
        return playground_config(config) if config.preset == PRESET else None
    except (StoreError, ConfigError):
        return None


def train_in_the_playground(network: PlaygroundConfig, threshold: Threshold) -> None:
    """A kept network is small: its whole stream is trained again, with the threshold chosen here, in a second."""
    slider = slider_of(network)
    movable = slider is not None and slider.setting == "energy" and threshold.rule == "energy"
    value = min(slider.positions, key=lambda p: abs(p - threshold.value)) if slider is not None and movable else 0.0
    sent = controls_of(at_strength(network, value) if movable else network)
    with st.container(horizontal=True, vertical_alignment="center", key="whatif-try"):
        pressed = st.button(
            "Try it for real in the Playground",
            key="whatif-playground",
            type="primary",
            icon=":material/toys:",
            help="Trains the network's whole stream again, in about a second",
        )
        st.caption(
            f"Opens the Playground with {slider.label.lower()} = {slider.text(value)}, its nearest position."
            if movable and slider is not None
            else "Opens the Playground with this run's settings: its rule has no energy threshold to take along."
        )
    if pressed:
        go_to("pages/playground.py", **sent)


def _fork(folder: RunFolder, after_task: int, settings: dict) -> None:
    made = begin_run("whatif", lambda: launch.fork(folder, after_task, settings))
    if made is not None:
        st.session_state["_whatif_made"] = made.name


def forks(name: str, after_task: int) -> list[RunFolder]:
    """Forks of a run at a boundary, newest first."""
    found = []
    for folder in list(runs_index().own.values())[:FORKS_SHOWN]:
        try:
            fork = fork_of(folder)
        except StoreError:
            continue
        if fork is not None and fork.parent == name and fork.after_task == after_task:
            found.append(folder)
    return found


def judged(frame: ViewState, boundary: Boundary) -> None:
    """For a fork at this boundary: what was predicted, and what came."""
    if frame.log is None or frame.run is None:
        return
    known = {folder.name: folder for folder in forks(frame.run, boundary.task + 1)}
    if not known:
        return
    st.markdown("### How far the prediction was off")
    names = list(known)
    made, name = st.session_state.get("_whatif_made"), names[0]
    if len(names) > 1:
        first = names.index(made) if made in names else 0
        name = st.selectbox("Fork", names, index=first, key="whatif-fork-shown", width=320)
    folder = known.get(name) or known[names[0]]
    fork, log = fork_of(folder), log_of(folder).snapshot()
    assert fork is not None  # `forks` lists runs that say whose fork they are
    changed = {key: new for key, (_, new) in fork.changed.items()}
    said = ", ".join(f"{key} {old} → {new}" for key, (old, new) in fork.changed.items()) or "nothing changed"
    with st.container(horizontal=True, vertical_alignment="center", key="whatif-fork-line"):
        st.markdown(
            f"{code(folder.name)}, forked after {task_name(boundary.task)}: {literal(said)}; {log.status().state}"
        )
        if st.button("Open the fork", key="whatif-open", type="tertiary", on_click=show_run, args=(folder.name,)):
            st.rerun()
    elsewhere = {name for other in stored(frame.log) for name in takes(other)}
    try:
        threshold = threshold_from(boundary, changed, elsewhere=elsewhere)
    except ConfigError as error:
        st.caption(f"Not compared: {literal(str(error))}.")
        return
    rows = comparison(frame.log, log, boundary, threshold, changed, elsewhere)
    from dashboard.figures.whatif import predicted_and_measured

    if rows:
        show_plot(predicted_and_measured, rows, key=f"whatif-judged-{folder.name}")
    else:
        st.caption(f"Numbers appear when {task_name(boundary.task + 1)} has been learned in the fork.")
    accuracies(frame.log, log)


def comparison(
    parent: Snapshot, fork: Snapshot, boundary: Boundary, threshold: Threshold, changed: dict, elsewhere: set[str]
) -> list[tuple[str, float, float, float]]:
    """(quantity, in the parent, predicted, measured in the fork) in percent, means over layers."""
    from dashboard.figures.whatif import in_percent

    own = own_threshold(boundary)
    rows: list[tuple[str, float, float, float]] = []
    learned = task_name(boundary.task + 1)
    there = best(stored(fork), boundary.space, boundary.task)
    if there is not None and there.energies is not None and boundary.energies is not None:
        before = predict(boundary, own, nullity=boundary.recorded) if own is not None else None
        expected, came = predict(boundary, threshold), predict(there, threshold)
        for field, said in (("passed", "Share passed in"), ("interference", "Interference in")):
            was, predicted, measured_there = (
                float(in_percent(p, boundary, field).mean()) if p is not None else math.nan
                for p in (before, expected, came)
            )
            rows.append((f"{said} {learned}", was, predicted, measured_there))
    later = {b.task: b for b in stored(parent) if b.space == boundary.space and b.task > boundary.task}
    for measured in (b for b in stored(fork) if b.space == boundary.space and b.task in later):
        here = later[measured.task]
        try:
            moved = threshold_from(here, changed, elsewhere=elsewhere)
        except ConfigError:
            continue
        was, predicted, came_free = (
            100 * float(free.mean()) / here.width
            for free in (here.recorded, predict(here, moved).nullity, measured.recorded)
        )
        rows.append((f"Left free after {task_name(measured.task)}", was, predicted, came_free))
    return rows


def accuracies(parent: Snapshot, fork: Snapshot) -> None:
    """What no spectrum predicts: accuracy and forgetting of both, as measured."""
    found = {"parent": _measures(parent), "fork": _measures(fork)}
    if not all(found.values()):
        return
    with st.container(horizontal=True, gap="large", key="whatif-accuracy"):
        for name, label in (
            ("final_average_accuracy", "Final average accuracy"),
            ("learning_accuracy", "Learning accuracy"),
            ("forgetting", "Forgetting"),
        ):
            value, before = found["fork"][name], found["parent"][name]
            if value is not None and before is not None:
                st.metric(
                    label,
                    percent(value) if name != "forgetting" else points(value).lstrip("+"),
                    change(value - before) + " against the parent",
                    delta_color="off",
                    width="content",
                    help="Measured in the fork; no prediction is made of it",
                )


def _measures(log: Snapshot) -> dict[str, float | None]:
    """Measures of a run that has measured all its tasks; empty before."""
    measured = [e for e in log.events(AccuracyMeasured) if e.clock.task >= 0]
    if not measured:
        return {}
    readout = headline_readout(measured)
    rows = {e.clock.task: e.row for e in measured if e.readout == readout}
    tasks = len(next(iter(rows.values())))
    return measures(matrix_of(rows, tasks)) if len(rows) == tasks else {}
