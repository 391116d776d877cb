"""Start: the results of a finished run, a button that starts a live run, and a list of all runs."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cl_core.events import AccuracyMeasured
from cl_core.presets import PRESETS
from cl_core.readouts import MEANING, TASK_INCREMENTAL
from cl_core.recordings import RECORDINGS
from cl_core.summary import headline_readout
from dashboard import launch
from dashboard.figures.event_arrays import accuracies, zero_shot
from dashboard.figures.matrix_table import matrix_table
from dashboard.run_log import Log
from dashboard.runs import runs_folder, runs_index, summary
from dashboard.theme import MISSING, percent, points, seconds
from dashboard.view_state import (
    ViewState,
    called,
    code,
    current,
    describe_panel,
    go_to,
    head_start,
    literal,
    run_title,
    sentence,
    show_run,
)
from dashboard.widgets.control_bar import STATES, state_of
from dashboard.widgets.inspection import opening
from dashboard.widgets.starting import can_train, say_trouble, start_and_show
from dashboard.widgets.summary_numbers import headline_numbers
from dashboard.widgets.trade_off import playground_choice, trade_off

LISTED = 30  # runs in the list, newest first
BEAT = 0.9  # seconds between rows during playback
LIVE = "nsp2-micro"  # what *Start live run* starts
BESIDE = "sequential-micro"  # the comparison offered with it
LESSON = "forgetting"  # offered to newcomers; by name, because importing the lessons would import all figures


def matrix_panel(frame: ViewState, log: Log) -> None:
    """Draw the accuracy matrix, with playback row by row."""
    measured, plan = log.events(AccuracyMeasured), log.started()
    matrix, untrained = accuracies(measured, rows=plan.trained_tasks if plan else None), zero_shot(measured)
    tasks = plan.tasks if plan else []
    state = st.session_state
    playing = state.get("_playing")
    if playing is not None and (playing[0] != frame.run or playing[1] >= len(matrix)):
        playing = state["_playing"] = None
    if not matrix.size:  # only the row before training
        matrix = np.full((plan.trained_tasks if plan else 1, len(tasks)), np.nan)

    def draw() -> None:
        now = state.get("_playing")
        if now is not None:
            if now[1] >= len(matrix) - 1:
                state["_playing"] = None
                st.rerun()
            state["_playing"] = (now[0], now[1] + 1)
        row = state["_playing"][1] if now is not None else None
        st.html(matrix_table(matrix, tasks=tasks, untrained=untrained, through=row))

    with st.container(border=True, key="panel-start-matrix"):
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            st.markdown("**Accuracy matrix**" + (" so far" if frame.live else ""))
            if playing is None:
                st.button(
                    "Play",
                    key="start-play",
                    icon=":material/play_arrow:",
                    help="Watch the rows arrive in order",
                    on_click=lambda: state.update(_playing=(frame.run, -1)),
                )
            else:
                st.button(
                    "Stop playing",
                    key="start-play",
                    icon=":material/stop:",
                    # A help text in both states: without one, this would be a new button and lose the focus.
                    help="Show the whole matrix at once",
                    on_click=lambda: state.update(_playing=None),
                )
        st.fragment(draw, run_every=BEAT if playing is not None else None, key="start-matrix-fragment")()
        readout = headline_readout(measured)
        named = readout == TASK_INCREMENTAL
        describe_panel(
            {
                "caption": "Accuracy in percent. Rows: after training on; columns: evaluated on; an empty cell was not "
                "measured"
                + ("; light type: not learned yet" if named else "")
                + ". Look down a column: where it fades, that task is being forgotten.",
                "how": "a(i, j) = share of task j's test images that are classified correctly after training on "
                f"task i. Readout {readout}: {MEANING.get(readout, 'as the run measured it')}."
                + (" *zero-shot*: the same before any training." if untrained is not None else "")
                + " Colours always run from 0 to 100 %.",
            },
            key="start-matrix",
        )


def about_run(frame: ViewState, log: Log) -> None:
    """Draw a description of the run and its three summary numbers."""
    config = log.config
    matrix = accuracies(log.events(AccuracyMeasured))
    about = PRESETS[config.preset].about if config and config.preset in PRESETS else ""
    if frame.recording and log.name in RECORDINGS:
        about = RECORDINGS[log.name].shows
    kind = "a bundled recording" if frame.recording else "a run of yours"
    st.markdown(f"### {run_title(log)}")
    st.markdown(
        f"{literal(about) + ' ' if about else ''}This is {kind}: {code(log.name)}"
        + (f", seed {config.seed}" if config and config.seed is not None else "")
        + (f", {literal(config.origin)}." if config and config.origin else ".")
    )
    if matrix.size:
        headline_numbers(matrix, so_far=frame.live)


def start_panel() -> None:
    """Draw the buttons that start a live run with and without protection."""
    st.markdown("### Train one here")
    if not can_train():
        return
    took = PRESETS[LIVE].seconds
    st.markdown(
        "Five tasks, two handwritten digits each, on this computer's CPU"
        + (f", about {seconds(took)} on two idle cores." if took else ".")
    )
    with st.container(horizontal=True):
        first = st.button(
            "Start live run",
            key="start-live",
            type="primary",
            icon=":material/play_arrow:",
            on_click=start_and_show,
            args=({"preset": LIVE}, "start"),
        )
        second = st.button(
            "Start the unprotected baseline",
            key="start-beside",
            on_click=start_and_show,
            args=({"preset": BESIDE}, "start"),
        )
    if any(launch.working(folder) for folder in list(runs_index().own.values())[:5]):
        st.caption("A run is training now; a second one shares the CPU with it, and both take longer.")
    if not say_trouble("start") and (first or second):
        go_to("pages/run.py")


def doors() -> None:
    """Draw the title and beside it the three links, visible without scrolling."""
    with (
        opening(),
        st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute", key="doors"),
    ):
        st.markdown("## Watch a model learn one task after another", width="content")
        with st.container(horizontal=True, gap="small", width="content"):
            threshold = st.button(
                "Try the threshold",
                key="start-threshold",
                icon=":material/toys:",
                help="The Playground: small networks trained in about a second",
            )
            lesson = st.button(
                "Begin with a lesson",
                key="start-lesson",
                icon=":material/school:",
                help="New to this? What forgetting is, on a matrix like the one below; about ten minutes",
                on_click=lambda: st.session_state.update(_lesson=(LESSON, 1)),
            )
            own = st.button(
                "Your own pictures or run",
                key="start-own",
                icon=":material/upload:",
                help="Train on your own folder or ZIP, or open results of another program",
            )
    if threshold:
        go_to("pages/playground.py", **playground_choice())
    for pressed, page in ((lesson, "learn"), (own, "own")):
        if pressed:
            go_to(f"pages/{page}.py")


def run_list() -> None:
    """List all runs, newest first; choosing one makes it the run that every page shows."""
    index = runs_index()
    st.markdown("### Runs")
    if index.trouble:
        st.error(sentence(index.trouble))
    lines = [summary(folder) for folder in list(index.own.values())[:LISTED]]
    lines += [summary(folder) for folder in index.recordings.values()]
    if not lines:
        st.markdown(f"No runs in {code(runs_folder())} yet. The first one appears here when you start it above.")
        return
    names = [line.name for line in lines]  # folder names

    def chosen() -> None:
        rows = st.session_state["start-runs"]["selection"]["rows"]
        if rows:
            show_run(names[rows[0]])

    columns = {
        "run": [called(name) for name in names],
        "method": [line.method or MISSING for line in lines],
        "seed": [MISSING if line.seed is None else str(line.seed) for line in lines],
        "state": [
            "recording" if index.is_recording(line.name) else STATES.get(line.state, ("", line.state))[1]
            for line in lines
        ],
        "tasks measured": [MISSING if line.trouble else f"{line.tasks_measured} of {line.tasks}" for line in lines],
        "final average accuracy": [percent(line.final_average) for line in lines],
        "learning accuracy": [percent(line.learned) for line in lines],
        "forgetting": [points(line.forgotten).lstrip("+") for line in lines],
    }
    if any(line.transfer is not None for line in lines):
        columns["transfer"] = [percent(line.transfer) for line in lines]
    if index.recordings:
        columns["what it shows"] = [
            RECORDINGS[line.name].shows if index.is_recording(line.name) and line.name in RECORDINGS else ""
            for line in lines
        ]
    columns["folder"] = names
    if any(line.trouble for line in lines):
        columns["cannot be opened because"] = [line.trouble for line in lines]
    st.dataframe(
        columns,
        key="start-runs",
        hide_index=True,
        width="stretch",
        on_select=chosen,
        selection_mode="single-row",
        alt=f"List of {len(lines)} runs",
    )
    if len(index.own) > LISTED:
        st.caption(f"The newest {LISTED} of {len(index.own)} runs; the picker below lists all.")


def show() -> None:
    frame = current()
    doors()
    trade_off()
    left, right = st.columns([3, 2], gap="large")
    with left:
        if frame.log is not None and frame.log.trouble:
            st.error(sentence(frame.log.trouble))
        if frame.log is not None and frame.log.events(AccuracyMeasured):
            matrix_panel(frame, frame.log)
        elif frame.log is not None and not frame.log.trouble:
            with st.container(border=True, key="panel-start-matrix"):
                word = STATES.get(state_of(frame), ("", ""))[1]
                st.markdown(
                    f"The accuracy matrix of {run_title(frame.log)} appears here when its first task has been learned "
                    f"(now: {word})."
                )
                if st.button("Follow it on the Run page", key="start-follow"):
                    go_to("pages/run.py")
        elif frame.log is None:
            with st.container(border=True, key="panel-start-matrix"):
                st.markdown("An accuracy matrix appears here as soon as there is a run: start one on the right.")
    head_start()
    with right:
        if frame.log is not None and not frame.log.trouble:
            about_run(frame, frame.log)
        start_panel()
    run_list()


show()
