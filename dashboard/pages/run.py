"""Run: start a run, follow it while it trains, and find the cause if it failed."""

from __future__ import annotations

import streamlit as st

from cl_core.events import (
    AccuracyMeasured,
    CheckpointSaved,
    CommandRefused,
    PicturesSkipped,
    RunFailed,
    RunStarted,
    StepEnded,
    TaskEnded,
)
from cl_core.registry import METHODS
from cl_core.store import Fork, StoreError, fork_of
from dashboard import launch
from dashboard.changes import viewing
from dashboard.figures.event_arrays import accuracies
from dashboard.progress import progress
from dashboard.run_log import Log, Snapshot, log_of
from dashboard.runs import family, runs_index
from dashboard.theme import MISSING, megabytes, seconds, task_colour, task_label, task_name
from dashboard.verdicts import LEARNED, learned_and_kept
from dashboard.view_state import (
    ViewState,
    called,
    code,
    current,
    go_to,
    literal,
    run_title,
    sentence,
    show_figure,
    show_plot,
)
from dashboard.widgets.alerts import show_alerts
from dashboard.widgets.control_bar import resume_here, state_of
from dashboard.widgets.fork_form import fork_form
from dashboard.widgets.inspection import answer_place, ask, more
from dashboard.widgets.launch_form import launch_form
from dashboard.widgets.live_settings_panel import live_settings_panel
from dashboard.widgets.pace import counted, every
from dashboard.widgets.preview import data_notes, skipped_files
from dashboard.widgets.smaller_batch import smaller_batch
from dashboard.widgets.summary_numbers import headline_numbers
from dashboard.widgets.task_timeline import Chip, task_timeline

TALL = 360  # pixels of the leading figures


def timeline(log: Snapshot, state: str) -> None:
    """Draw one chip per task in its colour: learned, in training, to come."""
    plan, stand = log.started(), progress(log)
    if plan is None:
        return
    ended = dict(enumerate(log.events(TaskEnded)))  # by stage: a joint run has one, with its clock at the last task
    joint = plan.trained_tasks == 1 < len(plan.tasks)
    chips = []
    for task in range(plan.trained_tasks):
        mark, note, now = "○", "to come", False
        if task in ended:
            mark, note = "●", seconds(ended[task].seconds)
        elif task == stand.task:
            mark, now = "◐", state in ("running", "paused")
            note = {"running": "in training", "paused": "paused"}.get(state, "unfinished")
        classes = [
            str(name)
            for part in (plan.tasks if joint else plan.tasks[task : task + 1])
            for name in part.get("classes", [])
        ]
        chips.append(
            Chip(
                mark,
                f"{task_name(0)} to {task_name(len(plan.tasks) - 1)} at once"
                if joint
                else task_label(task, plan.tasks),
                note,
                ", ".join(classes[:20]),
                task_colour(task, len(plan.tasks)),
                now,
            )
        )
    task_timeline(chips, key="run-timeline")


def banner(frame: ViewState, log: Snapshot, state: str) -> None:
    """Draw one sentence on the run's state and the possible actions; nothing while it trains normally."""
    status = log.status()
    refused = log.events(CommandRefused)
    if refused and frame.live:
        st.warning(f"Refused: {sentence(refused[-1].reason)}", icon=":material/block:")
    if frame.frozen:
        st.info(
            "The figures are frozen; training continues. *Catch up* in the bar below shows the new points.",
            icon=":material/ac_unit:",
        )
    match state:
        case "starting":
            st.info("The worker is loading; the first point appears in a few seconds.", icon=":material/hourglass_top:")
        case "queued":
            st.info(
                f"Queued: this run {literal(status.reason)}. It starts automatically, even if you close this page.",
                icon=":material/hourglass_top:",
            )
        case "paused":
            st.info(
                "Paused. *Resume* or *Step* in the bar below; nothing is lost if you close this page.",
                icon=":material/pause_circle:",
            )
        case "stopped":
            st.info(f"Stopped{_because(status.reason)}. Everything was saved.", icon=":material/stop_circle:")
            resume_here(frame)
        case "gone":
            st.error(
                "The training process died (it was killed, or the machine stopped). All measurements are kept.",
                icon=":material/person_off:",
            )
            _kept(log)
            resume_here(frame)
        case "finished":
            next_steps()
        case "failed":
            failure(frame, log)
        case "waiting":
            lines = launch.log_tail(log.folder)
            if lines:
                st.error("The training process ended before the run started. Its last output:", icon=":material/error:")
                st.code("\n".join(lines), language=None, wrap_lines=True)
            else:
                st.info("This run has been prepared, but no worker has started it.", icon=":material/hourglass_empty:")
            resume_here(frame)
        case "unreadable":
            st.error(sentence(status.reason), icon=":material/broken_image:")


def next_steps() -> None:
    """Draw links to the pages that analyse a finished run."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="run-next-steps"):
        st.markdown("Finished. Next:", width="content")
        for label, page in (
            ("What was forgotten", "forgetting"),
            ("Room left to learn", "spectra"),
            ("Another threshold", "whatif"),
            ("Compare with other runs", "compare"),
        ):
            if st.button(label, key=f"run-next-{page}", type="tertiary", icon=":material/arrow_outward:"):
                go_to(f"pages/{page}.py")


def _because(reason: str) -> str:
    return f" ({literal(reason)})" if reason else ""


def failure(frame: ViewState, log: Snapshot) -> None:
    """Draw the cause of a failure, the last lines of the log, what was kept, and what to do."""
    failed, status, stand = log.latest(RunFailed), log.status(), progress(log)
    reason = failed.reason if failed else status.reason or "the worker ended with an error"
    where = f" at {task_name(stand.task)}, step {stand.step}" if stand.task >= 0 else " before the first task"
    st.error(f"**Failed{where}.** {sentence(reason)}", icon=":material/error:")
    _kept(log)
    with st.container(horizontal=True, key="run-ways-on"):
        resume_here(frame)
        if failed and failed.fits and log.config is not None and not frame.recording:
            smaller_batch(log, log.config, failed.fits)
    with st.expander("Last lines of the log", key="run-log"):
        lines = launch.log_tail(log.folder)
        st.code("\n".join(lines) or "The worker wrote nothing.", language=None, wrap_lines=True)
        if failed and failed.details:
            st.code(failed.details, language=None, wrap_lines=True)


def _kept(log: Log) -> None:
    done, saved = log.tasks_ended(), log.events(CheckpointSaved)
    if not done and not log.events(StepEnded):
        st.markdown("Nothing was trained.")
        return
    learned = f"{task_name(0)} to {task_name(done - 1)}" if done > 1 else task_name(0) if done else "no task"
    st.markdown(
        f"Kept: everything measured so far ({learned} learned, {len(log.of(StepEnded))} steps"
        + (f", {len(saved)} checkpoints" if len(saved) != 1 else ", 1 checkpoint")
        + ")."
    )


def results(log: Log, state: str) -> None:
    """Draw the run's summary numbers."""
    ended = log.events(TaskEnded)
    kept = "The method's whole state after the newest task"
    headline_numbers(
        accuracies(log.events(AccuracyMeasured)),
        so_far=state != "finished",
        more=[("Kept between tasks", megabytes(ended[-1].kept_bytes), kept)] if ended and ended[-1].kept_bytes else [],
    )


def say_answer() -> None:
    """Draw the page's answer so far. Refreshed while new events arrive."""
    log = current().log
    if log is not None:
        plan = log.started()
        said = learned_and_kept(accuracies(log.events(AccuracyMeasured), rows=plan.trained_tasks if plan else None))
        if said:
            with st.container(key="answer"):
                st.markdown(literal(said))


def figures() -> None:
    """Draw the live figures. Refreshed every second while new events arrive."""
    frame = current()
    if frame.log is not None:
        with counted():
            _figures(frame, frame.log)


def _figures(frame: ViewState, log: Snapshot) -> None:
    """Draw the figures of the events so far."""
    state, plan = state_of(frame), log.started()
    # Every part has its own container from the start. A part that appeared between others would move them, and a moved
    # figure is created anew and loses the reader's zoom.
    with st.container(key="run-timeline-place"):
        timeline(log, state)
    with st.container(key="run-results-place"):
        if plan is not None:
            results(log, state)
    with st.container(key="run-alerts-place"):
        show_alerts(log)
    if plan is None:
        if not log.trouble:
            st.markdown("Losses, the accuracy matrix and update sizes appear here when training starts.")
        return
    steps, measured = log.events(StepEnded), log.events(AccuracyMeasured)
    first = task_name(0)
    left, right = st.columns([3, 2])
    with left, st.container(key="run-matrix-place"):
        if measured:
            show_figure("accuracy-matrix", log, key="run-matrix", height=TALL)
        else:
            _later("Accuracy matrix", f"Its first row appears when {first} has been learned.")
    with right, st.container(key="run-losses-place"):
        if steps:
            show_figure("losses", log, key="run-losses", height=TALL)
        else:
            ended = state in ("finished", "stopped", "failed", "gone")
            _later("Losses", "This run has no losses." if ended else "The first point appears with the first step.")
    with more("Each task over time, and update sizes", key="run-more") as opened:
        if opened:
            details(log, plan.trained_tasks)
    with st.container(key="run-forks-place"):
        if plan.trained_tasks > 1:
            relatives(frame, plan.trained_tasks)


def details(log: Snapshot, stages: int) -> None:
    """Draw the secondary figures, each in its own container."""
    steps, measured = log.events(StepEnded), log.events(AccuracyMeasured)
    left, right = st.columns(2)
    with left, st.container(key="run-tasks-place"):
        if stages > 1 and measured:
            show_figure("accuracy-over-time", log, key="run-tasks", height=300)
        elif stages > 1:
            _later("Accuracy of each task over time", f"The first point appears when {task_name(0)} has been learned.")
    with right, st.container(key="run-norms-place"):
        if any(event.proposed_norm for event in steps):
            show_figure("update-norms", log, key="run-norms", height=300)
        elif steps:
            st.markdown("This run did not store the size of its updates.")
        else:
            _later("Update size before and after projection", "It appears with the first step.")


def relatives(frame: ViewState, stages: int) -> None:
    """Draw the run with its parent and its forks; their shared past is drawn once."""
    from dashboard.figures.event_arrays import mean_so_far
    from dashboard.figures.forks import Branch, average_over_forks

    branches = []
    for folder, fork in family(runs_index(), frame.run):
        log = log_of(folder).snapshot()
        means = mean_so_far(accuracies(log.events(AccuracyMeasured)))
        branches.append(
            Branch(called(folder.name), means, fork.after_task, _changes(fork))
            if fork
            else Branch(called(folder.name), means)
        )
    if len(branches) > 1:
        show_plot(average_over_forks, tuple(branches), tasks=stages, key="run-forks")


def _changes(fork: Fork) -> str:
    return ", ".join(f"{name} {old} → {new}" for name, (old, new) in fork.changed.items()) or "nothing changed"


def _later(title: str, sentence: str) -> None:
    """Draw a placeholder for a figure without data, as high as the figure will be."""
    with st.container(border=True, height=430):
        st.markdown(f"**{title}**")
        st.markdown(sentence)


def say_parent(log: Log) -> None:
    """Say after which task a fork left its parent, and what was changed."""
    try:
        fork = fork_of(log.folder)
    except StoreError as error:
        st.caption(sentence(error))
        return
    if fork is not None:
        st.caption(
            f"Forked from {literal(called(fork.parent))} after {task_name(fork.after_task - 1)}: "
            f"{literal(_changes(fork))}. Earlier measurements come from the parent."
        )


def about(log: Log) -> None:
    """Draw the run's settings and environment."""
    config, plan = log.config, log.latest(RunStarted)
    with st.expander("Settings of this run", key="run-settings"):
        if config is not None:
            st.json(config.to_dict(), expanded=1)
        if plan is not None:
            st.json(
                {
                    "backbone": plan.backbone,
                    "environment": plan.environment,
                    "scenario": plan.scenario,
                    "trainable parameters": plan.trainable_parameters,
                },
                expanded=1,
            )


def describe_run(frame: ViewState, log: Snapshot) -> None:
    """Draw name, method, seed, preset and folder in one line."""
    if log.config is not None:
        st.caption(
            f"{code(log.name)}{' (recording)' if frame.recording else ''}, method {code(log.config.method)}, "
            f"seed {MISSING if log.config.seed is None else log.config.seed}"
            + (f", preset {code(log.config.preset)}" if log.config.preset else "")
            + ("" if frame.recording else f", in {code(log.folder.path.parent)}")
        )


def show() -> None:
    frame = current()
    log = frame.log
    ask(LEARNED)
    title, button = st.columns([4, 1], vertical_alignment="center")
    with title:
        if log is not None:
            st.markdown(f"**{run_title(log)}**")
            describe_run(frame, log)
    with button, st.container(horizontal_alignment="right"):
        new = st.toggle("New run", key="new-run", value=log is None)
    with st.container(key="run-form-place"):
        if (new or log is None) and not viewing():
            launch_form()
    if log is None:
        st.markdown("Its losses, accuracy matrix and update sizes appear here while it trains.")
        return
    state = state_of(frame)
    with st.container(key="run-banner-place"):
        if log.config is not None and log.config.origin:
            st.caption(f"Not trained by Plastiscope: {literal(log.config.origin)}.")
        if log.config is not None and log.config.plugins and log.config.method not in METHODS:
            st.caption(
                f"Method {code(log.config.method)} comes from the plug-in {literal(', '.join(log.config.plugins))}, "
                "which is not loaded here: `plastiscope open --plugin FILE.py` resumes and forks it."
            )
        say_parent(log)
        if log.trouble:
            st.error(sentence(log.trouble), icon=":material/broken_image:")
        if state != "unreadable" or not log.trouble:
            banner(frame, log, state)
    with st.container(key="run-change-place"):
        if viewing():
            pass
        elif state in ("running", "paused"):
            live_settings_panel(frame)
        elif state in ("finished", "stopped", "failed", "gone"):
            fork_form(frame)
    if skipped := log.latest(PicturesSkipped):
        data_notes(skipped.notes)
        skipped_files(skipped.count, skipped.files)
    follow = frame.live and not frame.frozen
    with answer_place():
        st.fragment(say_answer, run_every=every(2.0) if follow else None, key="run-answer-fragment")()
    st.fragment(figures, run_every=every(1.0) if follow else None, key="run-figures")()
    about(log)


show()
