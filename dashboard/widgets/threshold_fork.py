"""Testing a threshold by training: a fork with the chosen threshold, and the error of the prediction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from cl_core.config import ConfigError, RunConfig
from cl_core.events import AccuracyMeasured, SpectrumMeasured, UpdateByDirection, WeightSpectrumMeasured
from cl_core.playground.recording import PRESET, playground_config
from cl_core.playground.settings import PlaygroundConfig, at_strength, slider_of
from cl_core.readouts import STORED
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
from dashboard.progress import progress
from dashboard.run_log import Snapshot, log_of
from dashboard.runs import runs_folder, runs_index
from dashboard.theme import change, percent, points, seconds, task_name
from dashboard.verdicts import tried_and_measured
from dashboard.view_state import ViewState, called, code, go_to, literal, show_plot, show_run
from dashboard.widgets.control_bar import STATES, state_of_run
from dashboard.widgets.pace import every
from dashboard.widgets.starting import begin_run, can_train, say_trouble

FORKS_SHOWN = 30  # newest runs that are searched for forks


def stored(log: Snapshot) -> list[Boundary]:
    """Return all boundaries of a run."""
    return _stored(log.key(*_BOUNDARY), log)


_BOUNDARY = (SpectrumMeasured, WeightSpectrumMeasured, UpdateByDirection)


@st.cache_resource(show_spinner=False, max_entries=16)
def _stored(key: tuple[int, ...], _log: Snapshot) -> list[Boundary]:
    return boundaries(
        _log.events(SpectrumMeasured), _log.events(WeightSpectrumMeasured), _log.events(UpdateByDirection)
    )


def why_not(frame: ViewState, boundary: Boundary, threshold: Threshold, folder: RunFolder) -> tuple[str, dict]:
    """Return (why no fork is possible, or "", and the fork's settings)."""
    log, after = frame.log, boundary.task + 1
    try:
        settings = settings_of(boundary, threshold)
    except ConfigError as error:
        return str(error), {}
    if own_threshold(boundary) == threshold:
        return "this is the run's own threshold: move it first", settings
    plan = log.started() if log else None
    if plan is not None and after >= plan.trained_tasks:
        return f"no task is left to train after {task_name(boundary.task)}: choose an earlier one", settings
    if frame.recording:
        return "a recording has no checkpoints: start the same run live on the Run page", settings
    if not after:
        return "before the first task there is nothing to fork: start a new run with this setting", settings
    if after not in _checkpoints(folder):
        return f"there is no checkpoint after {task_name(boundary.task)}", settings
    return "", settings


def _checkpoints(folder: RunFolder) -> dict:
    try:
        return checkpoints(folder)
    except StoreError:
        return {}


def try_it(frame: ViewState, boundary: Boundary, threshold: Threshold) -> None:
    """Draw the buttons that train the threshold, and below them the runs in training and the prediction errors."""
    folder = runs_index().find(frame.run)
    if folder is None:
        return
    if (network := playground_network(folder)) is not None:
        train_in_the_playground(network, threshold)
        return
    if can_train():
        buttons(frame, folder, boundary, threshold)
        say_trouble("whatif")
    tried(frame, boundary)


def buttons(frame: ViewState, folder: RunFolder, boundary: Boundary, threshold: Threshold) -> None:
    """Draw *Try it for real* and, if the method has a variant that trains in seconds, *Try it in seconds*."""
    reason, settings = why_not(frame, boundary, threshold, folder)
    training = any(is_live(log_of(made).snapshot()) for made in forks(folder.name, boundary.task + 1))
    if not reason and training:
        reason = "a fork from here is being trained, see below"
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
            else f"Forks {literal(called(folder.name))} after {task_name(boundary.task)} with {code(said)} and trains "
            "the rest."
        )
    pair = quick_pair(folder, boundary, threshold)
    if pair is not None:
        with st.container(horizontal=True, vertical_alignment="center", key="whatif-try-quick"):
            st.button(
                "Try it in seconds",
                key="whatif-quick",
                icon=":material/bolt:",
                on_click=_quick,
                args=(folder.name, pair, said),
                help="Trains the whole stream again with prompts only in the last block: once with this run's "
                "threshold, once with the one chosen here",
            )
            st.caption(
                f"Two new runs with {code('prompt_blocks=1')}: lower blocks are computed once per image, so "
                "they take seconds. They show the effect of the threshold in one block, not in all of them."
            )


def is_live(log: Snapshot) -> bool:
    """Return whether a worker trains the run or is about to."""
    return log.status().live or launch.starting(log.folder)


def quick_pair(folder: RunFolder, boundary: Boundary, threshold: Threshold) -> tuple[RunConfig, RunConfig] | None:
    """Return configs of the run's method with (its own, the chosen) threshold, both with prompts only in the last
    block, which train in seconds. None if the method has no such variant, this run already is one, the threshold is
    the run's own, or the method does not accept it."""
    try:
        config, changed = folder.config(), settings_of(boundary, threshold)
    except (StoreError, ConfigError):
        return None
    if config.trained_elsewhere or config.settings.get("prompt_blocks") != 0 or own_threshold(boundary) == threshold:
        return None
    usual = {**config.settings, "prompt_blocks": 1}
    quick = replace(config, settings=usual, name="", parent="", fork_task=0, preset="")
    return quick, replace(quick, settings={**usual, **changed})


def playground_network(folder: RunFolder) -> PlaygroundConfig | None:
    """Return the network of a run that was kept in the Playground; None for other runs."""
    try:
        config = folder.config()
        return playground_config(config) if config.preset == PRESET else None
    except (StoreError, ConfigError):
        return None


def train_in_the_playground(network: PlaygroundConfig, threshold: Threshold) -> None:
    """Draw the button that trains a kept network's whole stream again with the chosen threshold, in the Playground."""
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
            else "Opens the Playground with this run's settings: its rule has no energy threshold to carry over."
        )
    if pressed:
        go_to("pages/playground.py", **sent)


def _fork(folder: RunFolder, after_task: int, settings: dict) -> None:
    made = begin_run("whatif", lambda: launch.fork(folder, after_task, settings))
    if made is not None:
        st.session_state["_whatif_made"] = made.name


def _quick(parent: str, pair: tuple[RunConfig, RunConfig], said: str) -> None:
    """Start both runs; an existing run is not trained again."""
    names = []
    for config in pair:
        there = next((f for f in list(runs_index().own.values())[:FORKS_SHOWN] if _is(f, config)), None)
        made = there or begin_run("whatif", partial(launch.start, runs_folder(), config))
        if made is None:
            return
        names.append(made.name)
    st.session_state["_whatif_quick"] = (parent, *names, said)


def _is(folder: RunFolder, config: RunConfig) -> bool:
    """Return whether the folder holds a run of these settings, finished or in training."""
    try:
        same = folder.config().fingerprint() == config.fingerprint()
    except (StoreError, ConfigError):
        return False
    log = log_of(folder).snapshot()
    return same and (is_live(log) or log.status().state == "finished")


def forks(name: str, after_task: int) -> list[RunFolder]:
    """Return forks of a run at a boundary, newest first."""
    found = []
    for folder in list(runs_index().own.values())[:FORKS_SHOWN]:
        try:
            fork = fork_of(folder)
        except StoreError:
            continue
        if fork is not None and fork.parent == name and fork.after_task == after_task:
            found.append(folder)
    return found


def tried(frame: ViewState, boundary: Boundary) -> None:
    """Draw the thresholds tried at this boundary: in training, or compared with the prediction. Refreshed meanwhile."""
    if frame.log is None or frame.run is None:
        return
    shown = _shown(frame.run, boundary)
    if not shown:
        return
    with st.container(border=True, key="panel-whatif-tried"):
        name = shown[0]
        if len(shown) > 1:
            made = st.session_state.get("_whatif_made")
            first = shown.index(made) if made in shown else 0
            name = st.selectbox("Tried", shown, index=first, key="whatif-fork-shown", width=320, format_func=called)
        live = any(is_live(log_of(folder).snapshot()) for folder in _runs_of(frame.run, name))
        st.session_state["_whatif_live"] = live
        st.fragment(_tried, run_every=every(1.0) if live else None, key="whatif-tried")(
            frame.run, name, boundary.space, boundary.task
        )


QUICK = "in seconds"  # name of the pair of quick runs among the forks


def _shown(run: str, boundary: Boundary) -> list[str]:
    """Return names of the forks at the boundary, and of the pair of quick runs if they were started here."""
    quick = st.session_state.get("_whatif_quick")
    names = [folder.name for folder in forks(run, boundary.task + 1)]
    return [QUICK, *names] if quick and quick[0] == run and len(_runs_of(run, QUICK)) == 2 else names


def _runs_of(run: str, name: str) -> list[RunFolder]:
    """Return [reference run, tried run] of one of the names in `_shown`."""
    wanted = st.session_state["_whatif_quick"][1:3] if name == QUICK else (run, name)
    return [folder for one in wanted if (folder := runs_index().find(one)) is not None]


def _tried(run: str, name: str, space: str, task: int) -> None:
    """Draw one trial: its progress, then predicted and measured values."""
    found = _runs_of(run, name)
    if len(found) < 2:
        st.caption("It has been deleted.")
        return
    parent, made = (log_of(folder).snapshot() for folder in found)
    live = [log for log in (parent, made) if is_live(log)]
    if st.session_state.get("_whatif_live") and not live:
        st.session_state["_whatif_live"] = False
        st.rerun()  # nothing left to refresh
    with st.container(horizontal=True, vertical_alignment="center", key="whatif-fork-line"):
        st.markdown(_told(made, name, task))
        pressed = st.button("Open it", key="whatif-open", type="tertiary", on_click=show_run, args=(made.name,))
    if pressed:
        go_to("pages/run.py")
    for log in live:
        stand = progress(log)
        word = STATES.get(state_of_run(log), ("", "training"))[1]
        left = f", {seconds(stand.seconds_left)} left" if stand.seconds_left is not None else ""
        where = f"task {stand.task + 1} of {stand.tasks}, step {stand.step} of {stand.steps}{left}"
        st.progress(stand.share, text=f"{literal(called(log.name))}: {word}" + (f" · {where}" if stand.steps else ""))
    boundary = best(stored(parent), space, task)
    if boundary is None:
        return
    judged(parent, made, boundary, quick=name == QUICK)


def _told(made: Snapshot, name: str, task: int) -> str:
    """Describe the trial in one line."""
    title = literal(called(made.name))
    if name == QUICK:
        return f"{title}: {literal(st.session_state['_whatif_quick'][3])}, prompts only in the last block"
    said = ", ".join(f"{key} {old} → {new}" for key, (old, new) in _changes(made).items()) or "nothing changed"
    return f"{title}, forked after {task_name(task)}: {literal(said)}; {STATES[state_of_run(made)][1]}"


def _changes(made: Snapshot) -> dict[str, list[Any]]:
    """Return setting → [in the parent, in the fork]."""
    fork = fork_of(made.folder)
    return fork.changed if fork is not None else {}


def judged(parent: Snapshot, made: Snapshot, boundary: Boundary, *, quick: bool) -> None:
    """Draw predicted and measured values of a fork, or of the second run of a quick pair, and both runs' accuracies."""
    if quick:
        usual, tried_with = (log.config.settings if log.config else {} for log in (parent, made))
        changed = {key: value for key, value in tried_with.items() if usual.get(key) != value}
    else:
        changed = {key: new for key, (_, new) in _changes(made).items()}
    elsewhere = {name for other in stored(parent) for name in takes(other)}
    try:
        threshold = threshold_from(boundary, changed, elsewhere=elsewhere)
    except ConfigError as error:
        st.caption(f"Not compared: {literal(str(error))}.")
        return
    rows = comparison(parent, made, boundary, threshold, changed, elsewhere)
    by_readout = measured_by_readout(parent, made, beyond=1 if quick else boundary.task + 1)
    if said := tried_and_measured(rows, by_readout):
        st.markdown(f"**{literal(said)}**")
    from dashboard.figures.whatif import predicted_and_measured

    if rows:
        show_plot(predicted_and_measured, rows, key=f"whatif-judged-{made.name}", border=False)
    else:
        st.caption(f"Numbers appear when {task_name(boundary.task + 1)} has been learned in it.")
    for readout, (then, now) in by_readout.items():
        accuracies(readout, then, now)


def comparison(
    parent: Snapshot, fork: Snapshot, boundary: Boundary, threshold: Threshold, changed: dict, elsewhere: set[str]
) -> list[tuple[str, float, float, float]]:
    """Return rows (quantity, in the parent, predicted, measured in the fork) in percent, means over layers."""
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


def accuracies(readout: str, then: Mapping[str, float | None], now: Mapping[str, float | None]) -> None:
    """Show what no spectrum predicts, by one readout: measured accuracy and forgetting."""
    st.caption(f"By {readout}, over the tasks that both have learned:")
    with st.container(horizontal=True, gap="large", key=f"whatif-accuracy-{readout.replace(' ', '-')}"):
        for name, label in (
            ("final_average_accuracy", "Final average accuracy"),
            ("learning_accuracy", "Learning accuracy"),
            ("forgetting", "Forgetting"),
        ):
            value, before = now[name], then[name]
            if value is not None and before is not None:
                same = round(abs(value - before), 1) == 0
                st.metric(
                    label,
                    percent(value) if name != "forgetting" else points(value).lstrip("+"),
                    "the same as the other run" if same else change(value - before) + " compared with the other run",
                    delta_color="off",
                    delta_arrow="off" if same else "auto",
                    width="content",
                    help="Measured; not predicted",
                )


def measured_by_readout(
    parent: Snapshot, made: Snapshot, *, beyond: int
) -> dict[str, tuple[Mapping[str, float | None], Mapping[str, float | None]]]:
    """Return readout → (measures of one run, of the other) over the tasks that both have learned. Empty unless these
    are more than `beyond`, the number of tasks that the runs share.

    First comes the readout of the protected features by stored statistics, if both runs have it: a threshold protects
    features, whereas a head also forgets for other reasons. The headline readout follows, if it is a different one.
    """
    mine = [[e for e in log.events(AccuracyMeasured) if e.clock.task >= 0] for log in (parent, made)]
    if not all(mine):
        return {}
    found: dict[str, tuple[Mapping[str, float | None], Mapping[str, float | None]]] = {}
    for readout in dict.fromkeys((STORED, headline_readout(mine[0]))):
        rows = [{e.clock.task: e.row for e in events if e.readout == readout} for events in mine]
        done = min((1 + max(one) if one else 0) for one in rows)
        if done > beyond and all(set(range(done)) <= one.keys() for one in rows):
            then, now = ({i: list(one[i])[:done] for i in range(done)} for one in rows)
            found[readout] = measures(matrix_of(then, done)), measures(matrix_of(now, done))
    return found
