"""The bar at the foot of every page: which run, how it stands, how long it takes, and what one can tell it."""

from __future__ import annotations

import time

import streamlit as st

from cl_core.commands import Command, Pause, Resume, Step, Stop
from cl_core.events import CommandRefused, KnobTurned, StateChanged, StepEnded
from cl_core.store import HELD, RunStatus, StoreError
from dashboard import launch
from dashboard.progress import Progress, progress
from dashboard.run_log import Snapshot, log_of
from dashboard.runs import runs_index
from dashboard.theme import seconds, task_name
from dashboard.view_state import ViewState, choose_run, current, sentence

STATES = {  # state → icon and word
    "starting": (":material/hourglass_top:", "starting"),
    "queued": (":material/hourglass_top:", "in line for the device"),
    "running": (":material/play_circle:", "running"),
    "paused": (":material/pause_circle:", "paused"),
    "stopped": (":material/stop_circle:", "stopped"),
    "finished": (":material/check_circle:", "finished"),
    "failed": (":material/error:", "failed"),
    "gone": (":material/person_off:", "training process died"),
    "waiting": (":material/hourglass_empty:", "not begun"),
    "unreadable": (":material/broken_image:", "unreadable"),
}
QUIET = 20.0  # seconds without an event before a running run is called busy


def control_bar(*, follow: bool) -> None:
    """Draw the bar at the foot of the page.

    Args:
        follow: the page has no fragment of its own; the bar redraws the page when a task has been measured.
    """
    with st.bottom, st.container(key="control-bar", horizontal=True, vertical_alignment="center", gap="small"):
        with st.container(width=290):
            choose_run(runs_index())
        frame = current()
        st.session_state["_drawn"] = drawn_from(frame)
        # A run that waits has no worker yet, or one that has not spoken: it may begin any moment, from anywhere.
        awaited = frame.live or (frame.whole_log is not None and state_of(frame) == "waiting")
        interval = 1.0 if awaited else None
        st.fragment(_bar, run_every=interval, key="control-bar-fragment")(follow)


def drawn_from(frame: ViewState) -> tuple[object, ...]:
    """What the page around the bar was drawn from: if it differs, the page is drawn again."""
    return (
        frame.run,
        frame.live,
        state_of(frame),
        frame.frozen,
        frame.log.milestones() if frame.log and not frame.frozen else 0,
    )


def state_of(frame: ViewState) -> str:
    """The state as the page says it: the store's, or "starting" while a worker loads."""
    log = frame.whole_log
    if log is None:
        return "waiting"
    status = log.status()
    if status.state in ("waiting", "gone", "stopped", "failed") and launch.starting(log.folder):
        return "starting"
    return "starting" if status.state == "waiting" and status.pid is not None else status.state


def _bar(follow: bool) -> None:
    frame = current()
    before, now = st.session_state.get("_drawn"), drawn_from(frame)
    if before is not None and (now[:4] != before[:4] or (follow and now != before)):
        st.rerun()
    log = frame.whole_log
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if log is None:
            st.markdown("No run is chosen.")
        else:
            _say_and_offer(frame, log)


def _say_and_offer(frame: ViewState, log: Snapshot) -> None:
    state, status = state_of(frame), log.status()
    stand = progress(log)
    icon, word = STATES.get(state, (":material/help:", state))
    told = pending(log) or word
    with st.container(width="stretch", gap=None):
        if stand.steps and state != "unreadable":
            st.progress(stand.share, text=f"{icon} **{told}** · {_place(stand, state)}{_left(stand, state, status)}")
        else:
            st.markdown(f"{icon} **{told}**")
        refused = st.session_state.get("_refused")
        if refused:
            st.markdown(f":red[{sentence(refused)}]")
    _transport(frame, log, state, status)


def _place(stand: Progress, state: str) -> str:
    if stand.task < 0:
        return "before the first task"
    stage = "all tasks at once" if stand.tasks == 1 else f"task {stand.task + 1} of {stand.tasks}"
    return f"{stage} · step {stand.step} of {stand.steps}"


def _left(stand: object, state: str, status: RunStatus) -> str:
    if state != "running":
        return ""
    quiet = time.time() - status.moved
    if quiet > QUIET:
        return f" · busy, nothing new for {seconds(quiet)}"
    left = stand.seconds_left  # type: ignore[attr-defined]
    return " · estimating time left" if left is None else f" · {seconds(max(1.0, left))} left"


def _transport(frame: ViewState, log: Snapshot, state: str, status: RunStatus) -> None:
    """Buttons that fit the state."""
    waiting = pending(log) is not None
    if state == "running":
        st.button(
            "Pause",
            key="bar-pause",
            icon=":material/pause:",
            shortcut="Space",
            on_click=give_order,
            args=(log, Pause(), "pausing…"),
            disabled=waiting,
        )
    if state == "paused":
        st.button(
            "Resume",
            key="bar-resume",
            icon=":material/play_arrow:",
            shortcut="Space",
            type="primary",
            disabled=waiting,
            on_click=give_order,
            args=(log, Resume(), "going on…"),
        )
        st.button(
            "Step",
            key="bar-step",
            icon=":material/skip_next:",
            shortcut="S",
            on_click=give_order,
            args=(log, Step(1), "stepping…"),
            help="One moment of training (a step or a measurement), then pause again",
        )
    if state in HELD:
        with st.popover("Stop", icon=":material/stop:", key="bar-stop-ask"):
            st.markdown("Stop saves everything first; *Resume* goes on from exactly there.")
            st.button(
                "Save and stop", key="bar-stop", on_click=give_order, args=(log, Stop(), "stopping…"), disabled=waiting
            )
    if status.resumable and state != "starting" and not frame.recording:
        st.button(
            "Begin" if state == "waiting" else "Resume",
            key="bar-go-on",
            icon=":material/play_arrow:",
            on_click=_go_on,
            args=(log,),
        )
    if frame.frozen:
        count = len(log.of(StepEnded)) - len(frame.log.of(StepEnded)) if frame.log else 0
        st.button(
            f"{count} new points waiting: catch up" if count else "Unfreeze",
            key="bar-freeze",
            icon=":material/mode_heat:",
            shortcut="F",
            help="Let the figures follow the training again",  # as *Freeze* has one: without, the focus is lost
            on_click=_freeze,
            args=(frame.run, None),
        )
    elif frame.live:
        st.button(
            "Freeze",
            key="bar-freeze",
            icon=":material/ac_unit:",
            shortcut="F",
            on_click=_freeze,
            args=(frame.run, log.seq),
            help="Hold the figures still while training goes on",
        )


def _answers(log: Snapshot) -> int:
    return len(log.of(StateChanged)) + len(log.of(CommandRefused)) + len(log.of(KnobTurned))


def pending(log: Snapshot) -> str | None:
    """'pausing…' from the press of the button until the worker answers."""
    asked = st.session_state.get("_asked")
    if asked and asked[0] == str(log.path) and asked[2] == _answers(log) and time.time() - asked[3] < 30:
        return str(asked[1])
    return None


def give_order(log: Snapshot, command: Command, word: str) -> None:
    """Send a command to the run's worker; the bar says `word` until it answers."""
    st.session_state.pop("_refused", None)
    try:
        launch.order(log.folder, command)
    except StoreError as error:
        st.session_state["_refused"] = str(error)
        return
    st.session_state["_asked"] = (str(log.path), word, _answers(log_of(log.folder).snapshot(force=True)), time.time())


def _go_on(log: Snapshot) -> None:
    st.session_state.pop("_refused", None)
    try:
        launch.work_on(log.folder)
    except StoreError as error:
        st.session_state["_refused"] = str(error)


def _freeze(run: str | None, seq: int | None) -> None:
    if seq is None:
        st.session_state.pop("_frozen", None)
    else:
        st.session_state["_frozen"] = (run, seq)


def resume_here(frame: ViewState) -> None:
    """A button that goes on with a run that has ended early: from its newest checkpoint."""
    log = frame.whole_log
    if log is None or frame.recording or not log.status().resumable:
        return
    done = log.tasks_ended()
    label = f"Resume from {task_name(done)}" if done else "Begin" if log.status().state == "waiting" else "Begin again"
    st.button(label, key="resume-here", type="primary", icon=":material/play_arrow:", on_click=_go_on, args=(log,))
    if st.session_state.get("_refused"):
        st.error(sentence(st.session_state["_refused"]))
