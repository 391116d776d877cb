"""Shared state of pages (the chosen run, task, layer and image), and display of figures and placeholders.

frame = current()                          run, log, task, layer, probe, image, live
show_figure("losses", frame.log)           figure, a sentence, and a menu: saving, what to look for, how it is computed
go_to("pages/run.py", layer="3")         another page, with choices for it

Shared controls are drawn in the entry file (`widgets.shared_controls`), those of a single page by `choose`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

from dashboard import launch
from dashboard.library import run_names
from dashboard.markdown import FIRST, code, literal, sentence, without_links  # noqa: F401  (pages take them from here)
from dashboard.run_log import Log, Snapshot, log_of
from dashboard.runs import RunIndex, runs_folder, runs_index
from dashboard.theme import task_name

NEWEST = "newest"  # the task control's first choice: follow the run
NO_IMAGE = "none"
USUAL = {"task": NEWEST, "layer": "1", "probe": task_name(0), "image": "1"}  # defaults if the URL has no value
SHARED = ("run", *USUAL)  # in the URL of every page
CELL = ("from", "to")  # URL keys of Forgetting
HEAD_START = 0.3  # seconds for the browser to draw the first figure before it receives the rest
FEW = 11  # most choices that fit into one row of buttons


@dataclass(frozen=True)
class ViewState:
    """What is shown. Tasks, layers and images count from 0; `task` None = the newest."""

    runs: Path
    run: str | None
    log: Snapshot | None  # while the view is frozen, as of the freeze
    whole_log: Snapshot | None  # including events that a frozen view hides
    live: bool  # new events may still arrive
    frozen: bool
    recording: bool  # a bundled recording, which cannot be resumed
    task: int | None = None
    layer: int = 0
    probe: int = 0  # task whose probe images are shown
    image: int = 0  # index of the probe image


def current() -> ViewState:
    """Return the view state: while a page is drawn, always of the same moment; in a fragment, the newest."""
    state = st.session_state
    held = state.get("_held")
    if held is None or held.run != state.get("run"):
        held = _look()
        if "_held" in state:
            state["_held"] = held
    if held.log is None:
        return held
    probe, image = _task(state.get("probe")), str(state.get("image") or "1")
    return replace(
        held,
        task=_task(state.get("task")),
        layer=_layer(state.get("layer"), held.log),
        probe=probe or 0,
        image=int(image) - 1 if image.isdecimal() else 0,
    )


@contextmanager
def one_moment() -> Iterator[None]:
    """Draw everything within the block from one snapshot of the run, so that bar, page and figures agree."""
    st.session_state["_held"] = None
    try:
        yield
    finally:
        st.session_state.pop("_held", None)


def _look() -> ViewState:
    """Return the current state of the chosen run, with default task, layer and image."""
    state, index = st.session_state, runs_index()
    run = state.get("run")
    folder = index.find(run)
    if folder is None:
        return ViewState(runs_folder(), None, None, None, False, False, False)
    whole = log_of(folder).snapshot()
    frozen = state.get("_frozen") if (state.get("_frozen") or ("",))[0] == run else None
    return ViewState(
        runs_folder(),
        run,
        whole.until(frozen[1]) if frozen else whole,
        whole,
        whole.status().live or launch.starting(folder),
        frozen is not None,
        index.is_recording(folder.name),
    )


def _task(chosen: Any) -> int | None:
    text = str(chosen or "")
    return int(text[1:]) - 1 if text[:1] == "T" and text[1:].isdigit() else None


def _layer(chosen: Any, log: Log) -> int:
    depth = depth_of(log)
    return min(max(int(chosen), 1), depth or 10_000) - 1 if str(chosen or "").isdigit() else 0


def depth_of(log: Log) -> int:
    """Return the number of layers of the run's backbone; 0 while unknown."""
    plan = log.started()
    return int(plan.backbone.get("depth", 0)) if plan else 0


# ---------------------------------------------------------------- the shared choices


def settle_run(index: RunIndex) -> None:
    """Determine the run to show before anything is drawn; an unknown name is kept for `say_unknown_run`."""
    state, asked = st.session_state, st.query_params.get("run")
    if wanted := state.pop("_next", None):
        if wanted.get("run", state.get("run")) != state.get("run"):
            _another_run()
        state.update(wanted)
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
    """Draw the run picker, which keeps `run` in the URL."""
    choose_named_run(
        "Run",
        "run",
        index.names,
        index=None,
        label_visibility="collapsed",
        placeholder="No runs yet",
        on_change=_another_run,
    )


def called(name: str) -> str:
    """Return the display name of the run in the folder `name`, plain text; the folder's name if it is unknown."""
    return run_names(runs_index()).get(name, name)


def choose_named_run(label: str, key: str, options: Sequence[str], **shown: Any) -> Any:
    """Draw a choice of one or several runs by display name, kept in the URL under `key` by folder name.

    Args:
        label: label of the control.
        key: name in the URL.
        options: folder names; other options are shown as they are.
        shown: further arguments of `choose_as`.

    Returns:
        The chosen folder name, or None; a list of them with `max_selections`.
    """
    names = run_names(runs_index())
    return choose_as(label, key, options, lambda name: names.get(name, name), **shown)


def choose_as(
    label: str,
    key: str,
    options: Sequence[str],
    shown_as: Callable[[str], str],
    *,
    on_change: Callable[[], None] | None = None,
    buttons: bool = False,
    **shown: Any,
) -> Any:
    """Draw a choice of one or several `options`, kept unchanged in the URL under `key`, shown as `shown_as` returns.

    A control bound to the URL writes its visible text there, but a title or count may change later. So there are two
    controls: a hidden one that is bound, and a visible one that follows it.

    Args:
        label: what is chosen.
        key: name in the URL.
        options: texts, as the URL spells them.
        shown_as: returns the visible plain text of an option.
        on_change: called after a choice.
        buttons: use a row of buttons instead of a list.
        shown: further arguments of the control; with `max_selections` several can be chosen.
    """
    state, seen = st.session_state, f"{key}-named"
    several: Any = st.multiselect if "max_selections" in shown else st.selectbox
    plain = {name: value for name, value in shown.items() if name in ("index", "max_selections")}

    def chosen_by_name() -> None:
        state[key] = state[seen]
        if on_change is not None:
            on_change()

    with st.container(key=f"linked-{key}"):  # hidden by the entry file's CSS
        chosen = several(
            label, options, key=key, bind="query-params", persist_state="session", on_change=on_change, **plain
        )
    state[seen] = chosen
    if shown.get("index") is not None:
        del shown["index"]  # its value is already set
    control: Any = st.segmented_control if buttons else several
    # Buttons render Markdown, lists do not.
    written = (lambda option: literal(shown_as(option))) if buttons else shown_as
    control(label, options, key=seen, format_func=written, on_change=chosen_by_name, **shown)
    return chosen


def begin_with(key: str, value: Any) -> None:
    """Set the initial value of a control that is bound to the URL, and write it to the URL.

    Streamlit writes the user's choices, but treats an initial value set in code as a default and omits it; a link to
    the page could then later mean another run or cell. Once a control has been drawn, its URL follows.
    """
    if value is not None:
        with suppress(StreamlitAPIException):  # already bound
            st.query_params[key] = value
    st.session_state[key] = value


def _another_run() -> None:
    state = st.session_state
    for key in ("_frozen", "_unknown_run", "_refused", "_asked", "_images"):
        state.pop(key, None)
    if "image" in state:  # an index of an image of the previous run
        state["image"] = USUAL["image"] if state.get("_page") == "attention" else NO_IMAGE


def show_run(name: str) -> None:
    """Make `name` the chosen run. Call from a widget's callback."""
    st.session_state["run"] = name
    _another_run()


def show_next(name: str, *, closed: str) -> None:
    """Redraw the page with `name` as the chosen run and the switch `closed` off.

    For buttons that are read while the page is drawn. A callback would run earlier, with arguments from before the
    last typed field was sent, and so lose a value that is typed and confirmed at once.
    """
    st.session_state["_next"] = {"run": name, closed: False}
    st.rerun()


def default_run(index: RunIndex) -> str | None:
    """Return the newest run with a live worker, else the first recording, else the newest run."""
    for name, folder in list(index.own.items())[:5]:
        if log_of(folder).status(fresh=True).live or launch.starting(folder):
            return name
    return next(iter(index.recordings), None) or next(iter(index.own), None)


def say_unknown_run() -> None:
    """Say that the run in the URL does not exist, if so."""
    unknown = st.session_state.get("_unknown_run")
    if unknown:
        st.warning(
            f"There is no run {code(unknown)} in {code(runs_folder())}. "
            + (
                f"Shown instead: {literal(called(st.session_state['run']))}."
                if st.session_state.get("run")
                else "Start one below."
            ),
            icon=":material/search_off:",
        )


def run_title(log: Log) -> str:
    """Return a run's name for use in Markdown."""
    return literal(run_names(runs_index()).get(log.name, log.title))


def choose(
    label: str, key: str, options: list[str], default: str, *, spell_out: bool = False, slider: bool = False
) -> str:
    """Draw a choice of one of `options`, kept in the URL under `key` and when the page is left and opened again.

    Args:
        label: what is chosen.
        key: name in the URL.
        options: texts, as the URL spells them.
        default: initial choice.
        spell_out: also write the default to the URL, because it may change later.
        slider: draw a slider, for ordered options.
    """
    state = st.session_state
    if key in state and state[key] not in options:  # an option of another run
        state[key] = default
    if spell_out and state.get(key) is None and st.query_params.get(key) not in options:
        begin_with(key, default)
    first = None if spell_out else default  # Streamlit keeps a default out of the URL
    shared: dict[str, Any] = {"key": key, "bind": "query-params", "persist_state": "session"}
    if slider:
        chosen: str | None = st.select_slider(label, options, value=default, **shared)
    elif len(options) <= FEW:
        chosen = st.segmented_control(label, options, default=first, required=True, **shared)
    else:
        chosen = st.selectbox(
            label, options, index=None if first is None else options.index(first), width=180, **shared
        )
    return chosen or default


def head_start() -> None:
    """Wait briefly when a tab draws its first figure.

    A browser shows parts that arrive together only when the files of all of them are loaded, and the list of runs needs
    forty files more than the matrix.
    """
    if "_first_picture" not in st.session_state:
        st.session_state["_first_picture"] = True
        time.sleep(HEAD_START)


# ---------------------------------------------------------------- figures and placeholders


@st.cache_resource(show_spinner=False, max_entries=128)
def _drawn(key: tuple[Any, ...], _draw: Callable[[], tuple[bytes, dict[str, Any]]]) -> tuple[bytes, dict[str, Any]]:
    """Return a figure as bytes and its texts, cached for all viewers; `key` identifies everything it is drawn from."""
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
    """Draw a figure of the catalogue with its texts: title, figure, a sentence, and its menu.

    Args:
        figure_id: an entry of `dashboard.figures.catalogue`.
        run: the snapshot it is drawn from.
        key: unique on the page (None = the figure's id); the reader's zoom belongs to it.
        height: pixels; None = the figure's own height.
        on_pick: called with a clicked point.
        controls: values of the entry's controls.

    Returns:
        The last clicked point (trace, i, x, y, z, custom), or None.
    """
    import pandas  # noqa: F401  (fully imported before Plotly looks for it; another thread may be importing it now)

    from dashboard.figures.catalogue import figure_of

    figure, key = figure_of(run, figure_id), key or figure_id
    drawn, words = _drawn(
        (key, height, figure.key(run, controls)),
        lambda: _ready(figure.shown(run, controls), f"{run.name}-{key}", height),
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
    """Draw a figure that is not in the catalogue (a comparison, a prediction); otherwise as `show_figure`.

    Args:
        figure_function: returns a Plotly figure whose `layout.meta` holds its texts (`figures.description`).
        args, named: its arguments.
        border: whether to draw a border around the panel.
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
    """Draw the first sentence of a figure's caption, and a menu with the rest, the computation, and saving."""
    from dashboard.widgets.figure_save import figure_save

    caption = str(words.get("caption") or "")
    first, _, rest = FIRST.sub(r"\1\n", caption, count=1).partition("\n")
    with st.container(horizontal=True, vertical_alignment="top", key=f"words-{key}", gap="small"):
        with st.container(width="stretch"):
            st.caption(literal(first))
        with st.popover("More", type="tertiary", icon=":material/more_horiz:", key=f"menu-{key}"):
            figure_save(key)
            if rest:
                st.markdown(literal(rest))
            if words.get("how"):
                st.markdown("**How is this computed?**")
                st.markdown(without_links(words["how"]))


def learned_at_once(log: Log) -> None:
    """Say, if the run has a single stage for several tasks, that its numbers are listed under the last of them."""
    plan = log.started()
    if plan is not None and plan.trained_tasks == 1 < len(plan.tasks):
        last = task_name(len(plan.tasks) - 1)
        st.caption(f"This run learns all tasks at once; later measurements are listed under {last}.")


def not_measured(what: str, how_to_record: str) -> None:
    """Say what was not measured, and how to record it, in this program or in the user's own."""
    log = current().log
    if log is not None and log.config is not None and log.config.trained_elsewhere:
        how_to_record = "*Your own pictures or run* shows how to record this in your own training loop."
    st.info(f"{what} {how_to_record}", icon=":material/visibility_off:")


def empty(
    text: str,
    button: str | None = None,
    *,
    on_click: Callable[[], None] | None = None,
    page: str | None = None,
    key: str = "empty",
) -> bool:
    """Draw a placeholder: what will appear here, and a button that makes it appear.

    The button calls `on_click` or opens `page` (a file below `dashboard/`); without either, the click is returned.
    """
    with st.container(border=True, key=f"panel-{key}", horizontal_alignment="center"):
        st.markdown(text)
        if button and page:
            if st.button(button, key=f"{key}-button", type="primary"):
                go_to(page)
            return False
        return button is not None and st.button(button, key=f"{key}-button", type="primary", on_click=on_click)


def keep_cell() -> None:
    """Write the cell to the URL of a page that was reached by a jump from Forgetting. Streamlit does not allow writing
    a URL key while the previous page still has a control for it."""
    for key, value in st.session_state.pop("_cell", {}).items():
        with suppress(StreamlitAPIException):
            st.query_params[key] = value


def page_file(page: str) -> Path:
    """Return the file of `page` ("pages/run.py")."""
    return Path(__file__).resolve().parent / page


def go_to(page: str, **choices: str | Sequence[str]) -> None:
    """Switch to `page`.

    Args:
        page: its file, as "pages/run.py".
        choices: values for its controls, by URL key; run, task and layer otherwise stay unchanged.
    """
    # A drawn control overrides its key in the URL, so shared choices are passed through the session state, and choices
    # of the next page only through its URL. Streamlit clears and writes the shared keys itself.
    shared = {key: value for key, value in choices.items() if key in SHARED}
    shared |= {key: value for key, value in choices.items() if key in st.session_state}  # chosen before
    if shared:
        st.session_state["_next"] = shared
    if st.session_state.get("_page") == "forgetting":  # the diagnosed cell stays in the URL
        st.session_state["_cell"] = {key: value for key in CELL if (value := st.session_state.get(key))}
        choices = {key: value for key, value in choices.items() if key not in CELL}
    st.switch_page(page_file(page), query_params={k: v for k, v in choices.items() if k not in SHARED})
