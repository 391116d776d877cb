"""The controls that pages share: task, layer, and the probe image. Drawn in the entry file, above every page.

Streamlit keeps what is bound to the URL there from page to page, so that the address and the controls say the same on
every page and after Back and Forward. A page that has no use for one hides it: an undrawn control would lose its place
in the address.
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
# The page is there, so that its figures are, but nothing of it shows except one figure, the answer, and the way out.
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
    """Draw them for the chosen run and the page `entry`; `frame.task`, `.layer`, `.probe` and `.image` say what is
    chosen."""
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
    """What `image` may be: on the page of probe images their numbers. Where images are traced the page itself offers
    them; elsewhere it is in the address only where what was diagnosed came along."""
    state = st.session_state
    if state.get("_page") == PROBES:
        return [str(i + 1) for i in range(probes)]
    if state.get("_page") == TRACED or not state.get("_image_along"):
        return []
    return list(dict.fromkeys([NO_IMAGE, state.get("image") or st.query_params.get("image") or NO_IMAGE]))


def settle_image(before: str | None, here: str) -> None:
    """On the way to another page. `image` counts probe images on one page and traced ones on another: each finds its
    own again, what a jump or an address asks for wins, and pages without images leave it out of their address."""
    state, asked = st.session_state, st.query_params.get("image")
    if before is None:
        state["_image_along"] = asked is not None
    if before in (None, here):
        return
    seen, image, kept = state.get("_image_before"), state.get("image"), state.get("_images", {})
    state["_image_along"] = "_cell" in state and here not in (PROBES, TRACED)  # by a button of Forgetting
    if image == seen and asked not in (None, seen):
        image = asked
    elif image == seen and not state["_image_along"]:
        image = kept.get(here, USUAL["image"] if here == PROBES else NO_IMAGE)
    if image is not None:
        state["image"] = image  # also where it stays: on each page the control is another one, which would begin anew


def keep_image(here: str) -> None:
    """When the page has been drawn: what it showed is found there again."""
    state = st.session_state
    state["_image_before"] = state.get("image")
    if here in (PROBES, TRACED):
        state.setdefault("_images", {})[here] = state.get("image")


def hide(keys: Iterable[str]) -> None:
    """Leave the controls with these keys out of sight: the page being drawn has no use for them."""
    if rows := ", ".join(f".st-key-shared-{key}" for key in keys):
        wrapper = f"[data-testid='stLayoutWrapper']:has(> :is({rows}))"  # it would keep a gap beside what is shown
        st.html(f"<style>.stApp :is({rows}, {wrapper}) {{ display: none; }}</style>")


def scripts() -> None:
    """What the browser does by itself: one entry of its history for each visit of a page, presenter mode, and the list
    of keys."""
    text = "\n".join((_HERE / name).read_text("utf-8") for name in ("history.js", "present.js", "keys.js"))
    st.html(f"<script>{text}</script>", unsafe_allow_javascript=True)


def view() -> None:
    """How the page is shown: `present=true` in the URL for one large figure at a time, `plain=true` for no controls."""
    with st.container(key="shared-view"):
        for key, label in VIEWS.items():
            st.toggle(label, key=key, bind="query-params", persist_state="session")
    hide(["view"])
    state = st.session_state
    if state["present"]:
        with st.container(key="presenting", horizontal=True, vertical_alignment="center"):
            st.caption("← → figure · Esc leave")
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
