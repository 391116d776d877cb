"""Controls shared by pages: task, layer and probe image. Drawn in the entry file, above every page.

Streamlit keeps controls of the entry file that are bound to the URL across pages, so that URL and controls agree on
every page and after Back and Forward. A page that does not use a control hides it: without being drawn, it would
disappear from the URL.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from cl_core.events import ProbesChosen
from dashboard.menu import Entry, layers_of
from dashboard.theme import task_name
from dashboard.view_state import NEWEST, NO_IMAGE, USUAL, ViewState, choose

PROBES, TRACED = "attention", "forgetting"  # `image` counts probe images on the one, traced test images on the other
LABELS = {"task": "Task", "layer": "Layer", "probe": "Images of", "image": "Image"}
VIEWS = {"present": "Presenter mode", "plain": "Hide controls"}  # switches in the URL, set in the run's menu
_HERE = Path(__file__).parent
# The whole page is drawn, because the figures need it, but only one figure, the answer and the exit button are visible.
_PRESENTING = """
  .stApp [data-testid='stBottom'], .stApp [data-testid='stHeader'] { display: none; }
  .stMainBlockContainer :not(.presented, .presented *, .st-key-presenting, .st-key-presenting *, .st-key-answer,
    .st-key-answer *) { visibility: hidden !important; }
  .stApp :is(.presented, .st-key-presenting, .st-key-answer) { visibility: visible; }
  .st-key-presenting { position: fixed; top: 24px; right: 24px; width: auto; }
  .stApp .st-key-answer { position: fixed; top: 20px; left: 24px; right: 300px; width: auto; }
  .stApp .st-key-answer p { font-size: 1.6rem; line-height: 1.3; }
  .stApp { overflow: hidden; }
"""


def shared_controls(frame: ViewState, entry: Entry) -> None:
    """Draw them for the chosen run and the page `entry`; `frame.task`, `.layer`, `.probe` and `.image` hold the
    choices."""
    log = frame.log
    probes = {event.clock.task: len(event.labels) for event in log.events(ProbesChosen)} if log else {}
    offered = {
        "task": [NEWEST, *(task_name(t) for t in range(log.tasks() if log else 0))],
        "layer": [str(layer + 1) for layer in (layers_of(entry, log) if log else ())],
        "probe": [task_name(t) for t in sorted(probes)],
        "image": _images(probes.get(frame.probe, next(iter(probes.values()), 0))),
    }
    for key, options in offered.items():
        if options:
            usual = options[0] if NO_IMAGE in options or USUAL[key] not in options else USUAL[key]
            with st.container(key=f"shared-{key}", width="content"):
                choose(LABELS[key], key, options, usual)


def _images(probes: int) -> list[str]:
    """Return the options of `image`: on the page of probe images, their numbers. The page that traces images offers its
    own; elsewhere `image` is in the URL only after a jump from the diagnosis of a cell."""
    state = st.session_state
    if state.get("_page") == PROBES:
        return [str(i + 1) for i in range(probes)]
    if state.get("_page") == TRACED or not state.get("_image_along"):
        return []
    return list(dict.fromkeys([NO_IMAGE, state.get("image") or st.query_params.get("image") or NO_IMAGE]))


def settle_image(before: str | None, here: str) -> None:
    """Set `image` on a change of page. It counts probe images on one page and traced images on another: each page
    restores its own. The value of a jump or URL takes precedence, and pages without images omit it from the URL."""
    state, asked = st.session_state, st.query_params.get("image")
    if before is None:
        state["_image_along"] = asked is not None
    if before in (None, here):
        return
    seen, image, kept = state.get("_image_before"), state.get("image"), state.get("_images", {})
    state["_image_along"] = "_cell" in state and here not in (PROBES, TRACED)  # after a button on Forgetting
    if image == seen and asked not in (None, seen):
        image = asked
    elif image == seen and not state["_image_along"]:
        image = kept.get(here, USUAL["image"] if here == PROBES else NO_IMAGE)
    if image is not None:
        state["image"] = image  # even if unchanged: each page has its own control, which would start at its default


def keep_image(here: str) -> None:
    """Remember, once the page is drawn, the image that it showed."""
    state = st.session_state
    state["_image_before"] = state.get("image")
    if here in (PROBES, TRACED):
        state.setdefault("_images", {})[here] = state.get("image")


def hide(keys: Iterable[str]) -> None:
    """Hide the controls with these keys, which the current page does not use."""
    if rows := ", ".join(f".st-key-shared-{key}" for key in keys):
        wrapper = f"[data-testid='stLayoutWrapper']:has(> :is({rows}))"  # it would leave a gap
        st.html(f"<style>.stApp :is({rows}, {wrapper}) {{ display: none; }}</style>")


def scripts() -> None:
    """Load the browser scripts: one history entry per visit of a page, presenter mode, and the list of keys."""
    text = "\n".join((_HERE / name).read_text("utf-8") for name in ("history.js", "present.js", "keys.js"))
    st.html(f"<script>{text}</script>", unsafe_allow_javascript=True)


def view() -> None:
    """Apply the view in the URL: `present=true` for one large figure at a time, `plain=true` for no controls."""
    with st.container(key="shared-view"):
        for key, label in VIEWS.items():
            st.toggle(label, key=key, bind="query-params", persist_state="session")
    hide(["view"])
    state = st.session_state
    if state["present"]:
        with st.container(key="presenting", horizontal=True, vertical_alignment="center"):
            st.caption("← → figure · Esc to leave")
            with st.container(key="present-leave", width="content"):
                st.button("Leave", key="present-leave-button", type="tertiary", on_click=_set, args=("present", False))
        st.html(f"<style>{_PRESENTING}</style>")
    if state["plain"] or state["present"]:
        hide(USUAL)
        st.html(
            "<style>.stApp :is([data-testid='stBottom'], [class*='st-key-menu-'], .stMain .stDownloadButton,"
            " .stMain .stButton:not(.st-key-present-leave *)) { display: none; }</style>"
        )


def _set(key: str, value: bool) -> None:
    st.session_state[key] = value
