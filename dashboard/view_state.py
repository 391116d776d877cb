"""What all pages share: which run, task and layer are chosen, and how a figure and an empty place look.

frame = current()                          run, log, task, layer, live
select_task(frame.log); select_layer(frame.log)        controls whose value follows the reader from page to page
show_figure("losses", frame.log)         figure, caption, *How is this computed?*, saving as SVG, PNG, CSV
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from dashboard import launch
from dashboard.markdown import code, literal, sentence, without_links  # noqa: F401  (pages take them from here)
from dashboard.run_log import Log, Snapshot, log_of
from dashboard.runs import RunIndex, runs_folder, runs_index
from dashboard.theme import task_name

NEWEST = "newest"  # the task control's first choice: follow the run
HEAD_START = 0.3  # seconds in which a browser can draw the first picture before it is told of the rest
FEW = 11  # choices that still fit into one row of buttons


@dataclass(frozen=True)
class ViewState:
    """What is being looked at. Tasks and layers count from 0; `task` None = the newest."""

    runs: Path
    run: str | None
    log: Snapshot | None  # as it was at the freeze, while the view is frozen
    whole_log: Snapshot | None  # including what a frozen view holds back
    task: int | None
    layer: int
    live: bool  # new events may still come
    frozen: bool
    recording: bool  # travels with the program; cannot be continued


def current() -> ViewState:
    """What is looked at: while a page is drawn the same run at the same moment, in a fragment the newest."""
    held = st.session_state.get("_held")
    return held if held is not None and held.run == st.session_state.get("run") else _look()


@contextmanager
def one_moment() -> Iterator[None]:
    """Within, everything is drawn from one snapshot of the run: the bar, the page and its figures agree."""
    st.session_state["_held"] = _look()
    try:
        yield
    finally:
        st.session_state.pop("_held", None)


def _look() -> ViewState:
    state, index = st.session_state, runs_index()
    run = state.get("run")
    folder = index.find(run)
    if folder is None:
        return ViewState(runs_folder(), None, None, None, None, 0, False, False, False)
    whole = log_of(folder).snapshot()
    frozen = state.get("_frozen") if (state.get("_frozen") or ("",))[0] == run else None
    shown = whole.until(frozen[1]) if frozen else whole
    return ViewState(
        runs_folder(),
        run,
        shown,
        whole,
        _task(state.get("task")),
        _layer(state.get("layer"), shown),
        whole.status().live or launch.starting(folder),
        frozen is not None,
        index.is_recording(folder.name),
    )


def _task(chosen: Any) -> int | None:
    text = str(chosen or "")
    return int(text[1:]) - 1 if text[:1] == "T" and text[1:].isdigit() else None


def _layer(chosen: Any, log: Log) -> int:
    depth = _depth(log)
    return min(max(int(chosen), 1), depth or 10_000) - 1 if str(chosen or "").isdigit() else 0


def _depth(log: Log) -> int:
    plan = log.started()
    return int(plan.backbone.get("depth", 0)) if plan else 0


# ---------------------------------------------------------------- the shared choices


def settle_run(index: RunIndex) -> None:
    """Decide which run is shown before anything is drawn; a name that is not there is kept for `say_unknown_run`."""
    state, asked = st.session_state, st.query_params.get("run")
    if wanted := state.pop("_next", None):
        state.update(wanted)
        _another_run()
    if asked is not None and index.find(asked) is None:
        index = runs_index(fresh=True)
    if asked is not None and index.find(asked) is None:
        state["_unknown_run"] = asked
    elif asked is not None and asked != state.get("_unknown_run"):
        state.pop("_unknown_run", None)
    if index.find(state.get("run")) is None and (index.find(asked) is None or "run" in state):
        begin_with("run", default_run(index))
    elif "run" not in state:
        begin_with("run", asked)


def choose_run(index: RunIndex) -> None:
    """The run picker. Keeps `run` in the URL."""
    # Options are shown as they are: a control bound to the URL reads and writes the shown text, not the option.
    st.selectbox(
        "Run",
        index.names,
        index=None,
        key="run",
        bind="query-params",
        persist_state="session",
        label_visibility="collapsed",
        placeholder="No runs yet",
        on_change=_another_run,
    )


def begin_with(key: str, value: str | None, *, write: bool = True) -> None:
    """Give a control that is bound to the URL a value before it is drawn, and write it there.

    Streamlit writes what a reader chooses, but takes a first value set in code for a default and leaves it out; the
    link to a page would then mean another run or cell tomorrow. Once a control has been drawn, its URL follows.
    """
    st.session_state[key] = value
    if write and value is not None:
        with suppress(StreamlitAPIException):  # bound already
            st.query_params[key] = value


def _another_run() -> None:
    for key in ("_frozen", "_unknown_run", "_refused", "_asked"):
        st.session_state.pop(key, None)


def show_run(name: str) -> None:
    """Make `name` the chosen run. Call from a widget's callback."""
    st.session_state["run"] = name
    _another_run()


def carry(choices: Mapping[str, str | Sequence[str]]) -> None:
    """Shared choices that the next page begins with, as if its URL named them. Call from a widget's callback.

    A link with these in its query does not do: a run that is chosen already stays in the URL beside the new one.
    """
    for key, value in choices.items():
        if key == "run":
            show_run(str(value))
        else:
            st.session_state[f"_kept-{key}"] = value if isinstance(value, str) else list(value)


def show_next(name: str, *, closed: str) -> None:
    """Draw the page anew with `name` as the chosen run and the switch `closed` off.

    For a button that is asked while the page is drawn. A callback runs before that, with the arguments that the page
    had before the field typed last was sent: what is typed and at once confirmed would be lost.
    """
    st.session_state["_next"] = {"run": name, closed: False}
    st.rerun()


def default_run(index: RunIndex) -> str | None:
    """The newest run with a living worker, else the first recording, else the newest run."""
    for name, folder in list(index.own.items())[:5]:
        if log_of(folder).status(fresh=True).live or launch.starting(folder):
            return name
    return next(iter(index.recordings), None) or next(iter(index.own), None)


def say_unknown_run() -> None:
    """One sentence if the URL named a run that is not there."""
    unknown = st.session_state.get("_unknown_run")
    if unknown:
        st.warning(
            f"There is no run {code(unknown)} in {code(runs_folder())}. "
            + (
                f"Shown instead: {code(st.session_state['run'])}."
                if st.session_state.get("run")
                else "Start one below."
            ),
            icon=":material/search_off:",
        )


def run_title(log: Log) -> str:
    """What a run is called above a page; Markdown-safe."""
    return literal(log.title)


def select_task(log: Log | None) -> int | None:
    """The shared task control; None = the newest task. Bound to the URL as `task=T2`."""
    tasks = log.tasks() if log else 0
    options = [NEWEST, *(task_name(t) for t in range(tasks))]
    return _task(choose("Task", "task", options, NEWEST))


def select_layer(log: Log | None) -> int:
    """The shared layer control, from 0. Bound to the URL as `layer=3`, which counts from 1."""
    options = [str(layer + 1) for layer in range(_depth(log) if log else 0)] or ["1"]
    return int(choose("Layer", "layer", options, "1")) - 1


def choose(
    label: str, key: str, options: list[str], default: str, *, spell_out: bool = False, slider: bool = False
) -> str:
    """One of `options`, kept from page to page and in the URL under `key`.

    Args:
        label: what is chosen.
        key: name in the URL; the same on every page that shares the choice.
        options: texts, as the URL spells them.
        default: chosen where nothing else is.
        spell_out: write the default into the URL as well, because it may be another one tomorrow.
        slider: options are positions in an order.
    """
    state, kept = st.session_state, f"_kept-{key}"
    if st.query_params.get(key) not in options and (state.get("_arrived") or state.get(key) not in options):
        # The way to a page cuts the URL, and with it the control, back to its default: hand over what was chosen.
        before = state.get(kept)
        begin_with(key, before if before in options else default, write=spell_out or before not in (None, default))
    elif key in state and state[key] not in options:
        state[key] = default
    shared: dict[str, Any] = {"key": key, "bind": "query-params", "persist_state": "session"}
    if slider:
        chosen = st.select_slider(label, options, value=default, **shared)
    elif len(options) <= FEW:
        chosen = st.segmented_control(label, options, default=default, required=True, **shared)
    else:
        chosen = st.selectbox(label, options, index=options.index(default), width=180, **shared)
    state[kept] = chosen or default
    return chosen or default


def arrive(page: str) -> None:
    """Say which page is drawn: shared choices are handed over when it is another than before."""
    state = st.session_state
    state["_arrived"] = state.get("_page") not in (None, page)
    state["_page"] = page


def head_start() -> None:
    """Wait a moment when a tab draws its first picture.

    A browser shows parts that it learns of together only when it has loaded what all of them need, and the list of runs
    needs forty files more than the matrix.
    """
    if "_first_picture" not in st.session_state:
        st.session_state["_first_picture"] = True
        time.sleep(HEAD_START)


# ---------------------------------------------------------------- figures and empty places


@st.cache_resource(show_spinner=False, max_entries=128)
def _drawn(key: tuple[Any, ...], _draw: Callable[[], tuple[bytes, dict[str, Any]]]) -> tuple[bytes, dict[str, Any]]:
    """A figure as bytes and its words, made once for all viewers; `key` says all that it is drawn from."""
    return _draw()


def show_figure(
    figure_id: str,
    run: Snapshot,
    *,
    key: str | None = None,
    height: int | None = None,
    on_pick: Callable[[dict[str, Any]], None] | None = None,
    **controls: Any,
) -> dict[str, Any] | None:
    """A figure of the catalogue with its words: title, figure, caption, *How is this computed?*, saving.

    Args:
        figure_id: an entry of `dashboard.figures.catalogue`.
        run: what it is drawn from.
        key: the place's name, one per place (None = the figure's id); the reader's zoom belongs to it.
        height: pixels; None = what the figure wants.
        on_pick: called with a clicked point.
        controls: what the reader has chosen, as the entry names it.

    Returns:
        The last clicked point (trace, i, x, y, z, custom), or None.
    """
    import pandas  # noqa: F401  (whole before Plotly looks for it: another thread may be importing it now)

    from dashboard.figures.catalogue import figure_of

    figure, key = figure_of(run, figure_id), key or figure_id
    drawn, words = _drawn(
        (key, height, figure.key(run, controls)),
        lambda: _ready(figure.drawn(run, controls), f"{run.name}-{key}", height),
    )
    return _place(drawn, words, key=key, on_pick=on_pick)


def show_plot(
    figure_function: Callable[..., Any],
    *args: Any,
    key: str,
    height: int | None = None,
    on_pick: Callable[[dict[str, Any]], None] | None = None,
    border: bool = True,
    **named: Any,
) -> dict[str, Any] | None:
    """A figure of more than one run's events (a comparison, a prediction); otherwise as `show_figure`.

    Args:
        figure_function: gives a Plotly figure whose `layout.meta` holds its words (`figures.description`).
        args, named: what it is called with.
        border: draw a frame around the panel.
    """
    import pandas  # noqa: F401  (as above)

    run = st.session_state.get("run") or "run"
    drawn, words = _ready(figure_function(*args, **named), f"{run}-{key}", height)
    return _place(drawn, words, key=key, on_pick=on_pick, border=border)


def _ready(figure: Any, file: str, height: int | None) -> tuple[bytes, dict[str, Any]]:
    from dashboard.widgets.liveplot import to_bytes

    words = dict(figure.layout.meta or {})
    words["height"] = height or words.get("height") or figure.layout.height or 340
    return to_bytes(figure, file=file, height=words["height"]), words


def _place(
    drawn: bytes,
    words: dict[str, Any],
    *,
    key: str,
    on_pick: Callable[[dict[str, Any]], None] | None,
    border: bool = True,
) -> dict[str, Any] | None:
    from dashboard.widgets.liveplot import liveplot

    with st.container(border=border, key=f"panel-{key}", gap="xsmall"):
        if words.get("title"):
            st.markdown(f"**{literal(words['title'])}**")
        point = liveplot(drawn, key=key, height=words["height"], on_pick=on_pick)
        describe_panel(words, key=key)
    return point


def describe_panel(words: dict[str, Any], *, key: str) -> None:
    """The caption and *How is this computed?* of a figure."""
    if words.get("caption"):
        st.caption(literal(words["caption"]))
    if words.get("how"):
        with st.popover("How is this computed?", type="tertiary", icon=":material/function:", key=f"how-{key}"):
            st.markdown(without_links(words["how"]))


def learned_at_once(log: Log) -> None:
    """One sentence if the run has a single stage for several tasks: its numbers stand under the last of them."""
    plan = log.started()
    if plan is not None and plan.trained_tasks == 1 < len(plan.tasks):
        last = task_name(len(plan.tasks) - 1)
        st.caption(f"This run learns all tasks at once; what is measured afterwards stands under {last}.")


def not_measured(what: str, how_to_record: str) -> None:
    """A place whose figure was not recorded: what is missing, and how to record it."""
    st.info(f"{what} {how_to_record}", icon=":material/visibility_off:")


def empty(
    text: str,
    button: str | None = None,
    *,
    on_click: Callable[[], None] | None = None,
    page: str | None = None,
    key: str = "empty",
) -> bool:
    """A place with nothing in it yet: what will appear here, and one button that makes it appear.

    The button calls `on_click` or leads to `page` (a file below `dashboard/`); without both, the press is returned.
    """
    with st.container(border=True, key=f"panel-{key}", horizontal_alignment="center"):
        st.markdown(text)
        if button and page:
            if st.button(button, key=f"{key}-button", type="primary"):
                go_to(page)
            return False
        return bool(button) and st.button(button, key=f"{key}-button", type="primary", on_click=on_click)


def page_file(page: str) -> Path:
    """The file of `page` ("pages/run.py")."""
    return Path(__file__).resolve().parent / page


def go_to(page: str) -> None:
    """Switch to `page`. The empty mapping matters: without it Streamlit refuses while a widget is bound to the URL."""
    st.switch_page(page_file(page), query_params={})
