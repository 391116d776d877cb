"""The bar at the foot of every page: the chosen run, its state, the time left, and its commands."""

from __future__ import annotations

import time
from urllib.parse import urlparse

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from cl_core.commands import Command, Pause, Resume, Step, Stop
from cl_core.events import CommandRefused, KnobTurned, StateChanged, StepEnded
from cl_core.store import HELD, RunStatus, StoreError
from dashboard import guard, launch
from dashboard.changes import viewing
from dashboard.progress import Progress, progress
from dashboard.run_log import Snapshot, log_of
from dashboard.runs import runs_index
from dashboard.theme import seconds, task_name
from dashboard.view_state import NO_IMAGE, SHARED, ViewState, choose_run, current, go_to, sentence
from dashboard.widgets.pace import every

STATES = {  # state → icon and word
    "starting": (":material/hourglass_top:", "starting"),
    "queued": (":material/hourglass_top:", "queued for the device"),
    "running": (":material/play_circle:", "running"),
    "paused": (":material/pause_circle:", "paused"),
    "stopped": (":material/stop_circle:", "stopped"),
    "finished": (":material/check_circle:", "finished"),
    "failed": (":material/error:", "failed"),
    "gone": (":material/person_off:", "training process died"),
    "waiting": (":material/hourglass_empty:", "not begun"),
    "unreadable": (":material/broken_image:", "unreadable"),
}
STEPPING = "stepping…"
QUIET = 20.0  # seconds without an event before a running run is called busy


def run_picker() -> DeltaGenerator:
    """Draw the choice of a run at the foot of the page; return the container for the rest of the bar."""
    with st.bottom:
        bar = st.container(key="control-bar", horizontal=True, vertical_alignment="center", gap="small")
    with bar, st.container(width=360):
        choose_run(runs_index())
    return bar


def control_bar(bar: DeltaGenerator, *, follow: bool, shown: bool = True) -> None:
    """Draw the rest of the bar at the foot of the page.

    Args:
        bar: its container.
        follow: whether the bar redraws the page when a task has been measured; for pages without their own fragment.
        shown: whether the page is about the chosen run; otherwise the bar is hidden and only keeps the choice.
    """
    if not shown:
        st.html("<style>.stApp [data-testid='stBottom'] { display: none; }</style>")
        return
    with bar:
        frame = current()
        st.session_state["_drawn"] = drawn_from(frame)
        # A waiting run has no worker yet, or a silent one. Any process may start it at any moment.
        awaited = frame.live or (frame.whole_log is not None and state_of(frame) == "waiting")
        interval = every(1.0) if awaited else None
        st.fragment(_bar, run_every=interval, key="control-bar-fragment")(follow)
        if frame.run is not None:
            run_menu()


def run_menu() -> None:
    """Draw the menu of the chosen run: export, measurements, views."""
    with st.popover(
        "This run",
        icon=":material/more_vert:",
        type="tertiary",
        key="run-menu",
        help="This run: export, all measurements",
    ):
        for label, icon, page in (
            ("Export", "ios_share", "pages/export.py"),
            ("All measurements", "dataset", "pages/measurements.py"),
        ):
            if st.button(label, key=f"run-menu-{label}", icon=f":material/{icon}:", type="tertiary", width="stretch"):
                go_to(page)
        st.button(
            "Presenter mode",
            key="run-menu-present",
            icon=":material/slideshow:",
            type="tertiary",
            width="stretch",
            help="One figure at a time, large; arrow keys or Page up and down, Esc leaves",
            on_click=st.session_state.update,
            kwargs={"present": True},
        )
        st.caption("Keys: press ?")
        if guard.invitation("", {}) and st.button(
            "Classroom link", key="run-menu-link", icon=":material/qr_code_2:", type="tertiary", width="stretch"
        ):
            class_room_link()


@st.dialog("Classroom link", width="large")
def class_room_link() -> None:
    """Show the address of this view as a QR code for projection."""
    asked = {
        **st.query_params.to_dict(),
        **{key: str(v) for key in SHARED if (v := st.session_state.get(key)) and v != NO_IMAGE},
    }
    path = urlparse(st.context.url or "").path.lstrip("/")
    address = guard.invitation(path, asked)
    try:
        import segno
    except ImportError:
        st.info("The QR code needs `pip install segno`.", icon=":material/qr_code_2:")
    else:
        # An image, because Streamlit removes inline SVG from HTML.
        drawn = segno.make(address, micro=False).png_data_uri(scale=8, border=4, light="#ffffff", dark="#000000")
        st.html(f'<p style="text-align: center"><img src="{drawn}" alt="QR code of the address below"></p>')
    st.code(address, language=None, wrap_lines=True)
    st.caption(
        "Anyone who opens it "
        + ("sees this view and cannot change anything here." if viewing() else "may start, stop and delete runs here.")
    )


def drawn_from(frame: ViewState) -> tuple[object, ...]:
    """Return the state that the page around the bar was drawn from; if it changes, the page is redrawn."""
    return (
        frame.run,
        frame.live,
        state_of(frame),
        frame.frozen,
        frame.log.milestones() if frame.log and not frame.frozen else 0,
    )


def state_of(frame: ViewState) -> str:
    """Return the state of the chosen run, as shown on the page."""
    return "waiting" if frame.whole_log is None else state_of_run(frame.whole_log)


def state_of_run(log: Snapshot) -> str:
    """Return the stored state of a run, or "starting" while a worker loads."""
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
    """Draw the buttons that fit the state."""
    waiting = pending(log) is not None
    if viewing():
        _freezing(frame, log)
        return
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
            args=(log, Step(1), STEPPING),
            help="One training step or measurement, then pause again",
        )
    if state in HELD:
        with st.popover("Stop", icon=":material/stop:", key="bar-stop-ask"):
            st.markdown("Stop saves everything first; *Resume* continues from exactly there.")
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
    _freezing(frame, log)


def _freezing(frame: ViewState, log: Snapshot) -> None:
    """Draw the button that freezes or unfreezes the figures of this tab."""
    if frame.frozen:
        count = len(log.of(StepEnded)) - len(frame.log.of(StepEnded)) if frame.log else 0
        st.button(
            f"{count} new points waiting: catch up" if count else "Unfreeze",
            key="bar-freeze",
            icon=":material/mode_heat:",
            shortcut="F",
            help="Update the figures during training again",  # *Freeze* has one; without, the focus is lost
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
            help="Freeze the figures while training continues",
        )


def _answers(log: Snapshot, word: str) -> int:
    """Return a count that rises when the worker has answered; a step of a paused run is answered by its events."""
    if word == STEPPING:
        return log.seq
    return len(log.of(StateChanged)) + len(log.of(CommandRefused)) + len(log.of(KnobTurned))


def pending(log: Snapshot) -> str | None:
    """Return the pending command's text, as in 'pausing…', until the worker answers."""
    asked = st.session_state.get("_asked")
    if asked and asked[0] == str(log.path) and asked[2] == _answers(log, asked[1]) and time.time() - asked[3] < 30:
        return str(asked[1])
    return None


def give_order(log: Snapshot, command: Command, word: str) -> None:
    """Send a command to the run's worker; the bar shows `word` until it answers."""
    st.session_state.pop("_refused", None)
    try:
        launch.order(log.folder, command)
    except StoreError as error:
        st.session_state["_refused"] = str(error)
        return
    st.session_state["_asked"] = (
        str(log.path),
        word,
        _answers(log_of(log.folder).snapshot(force=True), word),
        time.time(),
    )


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
    """Draw a button that resumes a run that ended early, from its newest checkpoint."""
    log = frame.whole_log
    if log is None or frame.recording or viewing() or not log.status().resumable:
        return
    done = log.tasks_ended()
    label = f"Resume from {task_name(done)}" if done else "Begin" if log.status().state == "waiting" else "Begin again"
    st.button(label, key="resume-here", type="primary", icon=":material/play_arrow:", on_click=_go_on, args=(log,))
    if st.session_state.get("_refused"):
        st.error(sentence(st.session_state["_refused"]))
