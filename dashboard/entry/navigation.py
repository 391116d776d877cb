"""The frame of every page, run at every interaction: navigation and shared controls above, the control bar below.

In a separate folder, because beside a folder called `pages` Streamlit would treat each page as a whole app.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

if str(Path(__file__).resolve().parents[2]) not in sys.path:  # started by path from a checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dashboard.menu import ELSEWHERE, PAGES, lacking
from dashboard.runs import runs_index
from dashboard.view_state import USUAL, current, keep_cell, one_moment, page_file, say_unknown_run, settle_run
from dashboard.widgets.control_bar import control_bar, run_picker
from dashboard.widgets.inspection import opening_place
from dashboard.widgets.pace import watch_tab
from dashboard.widgets.shared_controls import hide, keep_image, scripts, settle_image, shared_controls, view

NAME = "Plastiscope"
st.set_page_config(page_title=NAME, page_icon=str(Path(__file__).parents[1] / "icon.png"), layout="wide")
st.html("""<style>
  .stMainBlockContainer { padding-top: 4.2rem; padding-bottom: 2rem; }
  [data-testid="stBottomBlockContainer"] { padding-top: .6rem; padding-bottom: .9rem; }
  [data-testid="stCaptionContainer"] { color: inherit; opacity: .8; }
  .stApp button[data-variant="segmented_control"][data-selected] { color: inherit; }
  @media (max-width: 900px) { [data-testid="stColumn"]:has([class*="st-key-panel-"]) { min-width: 100%; } }
  .stMainBlockContainer h2 { padding-top: 0; }
  .st-key-answer p { font-size: 1.2rem; line-height: 1.45; max-width: 62rem; }
  .st-key-shared { min-height: 0; }
  .stApp :is(.st-key-traced, .st-key-its-images) { scroll-margin-top: 4.2rem; }
  .stApp :is([class*="st-key-linked-"], [data-testid="stLayoutWrapper"]:has(> [class*="st-key-linked-"])) {
    display: none; }
  .st-key-question-shelf button { justify-content: flex-start; text-align: left; }
  [class*="st-key-menu-"] button { opacity: .75; min-height: 24px; padding-top: 0; padding-bottom: 0; }
  .stMainBlockContainer h3 { font-size: 1.5rem; line-height: 1.2; letter-spacing: normal; padding: .5rem 0 1rem; }
  .stApp [data-testid="stTopNavLink"]:focus-visible { outline: 2px solid; outline-offset: -1px; }
  .stApp [data-testid="stSliderThumbValue"], .stApp [data-testid="stSliderThumbValue"] p { color: inherit; }
  .stApp :is(.stSelectbox, .stMultiSelect) button[aria-label^="Clear"] { min-width: 24px; min-height: 24px; }
  .stApp .stHorizontalBlock { row-gap: .9rem; }
  dialog.plastiscope-keys { border: 1px solid; border-radius: 8px; padding: 1rem 1.5rem; max-width: 40rem; }
  dialog.plastiscope-keys h2 { font-size: 1.5rem; padding: 0; margin: 0 0 .75rem; }
  dialog.plastiscope-keys dl { display: grid; grid-template-columns: max-content 1fr; gap: .4rem 1.25rem; }
  dialog.plastiscope-keys :is(dt, dd) { margin: 0; } dialog.plastiscope-keys dt { font-weight: 600; }
  dialog.plastiscope-keys button { font: inherit; color: inherit; background: none; border: 1px solid;
    border-radius: 6px; padding: .25rem 1rem; }
  .stApp .st-key-pace-place { position: absolute; height: 0; overflow: hidden; }
</style>""")
state = st.session_state
scripts()
settle_run(runs_index())
with one_moment():
    # In a new tab the bar waits for the first figure, because the list of runs needs forty more files.
    later = "_drawn" not in state
    bar = None if later else run_picker()
    frame, groups = current(), dict[str, list]()
    for entry in PAGES:
        missing = lacking(entry, frame.log, live=frame.live)
        page = st.Page(
            page_file(f"pages/{entry.page}.py"),
            title=f"{entry.title} ({missing})" if missing else entry.title,
            icon=f":material/{entry.icon}:",
            default=entry.page == "start",
            visibility="hidden" if entry.group == ELSEWHERE else "visible",
        )
        groups.setdefault("" if entry.group == ELSEWHERE else entry.group, []).append(page)
    chosen = st.navigation(groups, position="top")
    here = next(entry for entry in PAGES if entry.page == (chosen.url_path or "start"))
    later = later and here.page == "start"
    if here.page != "start":
        st.set_page_config(page_title=f"{here.title} · {NAME}")  # tabs and the browser's history say which page
    state["_arrived"] = state.get("_page") not in (None, here.page)  # from another page
    settle_image(state.get("_page"), here.page)
    state["_page"] = here.page
    opening_place()
    # Always drawn, so that the page below it does not move.
    top = st.container(key="shared", horizontal=True, gap="large")
    hide(key for key in USUAL if key not in here.shares)

    def around() -> None:
        control_bar(bar or run_picker(), follow=here.page != "run", shown=here.page not in ("playground", "learn"))
        with top:
            shared_controls(current(), here)
            view()

    if not later:
        around()
    with st.container(key="unknown-run-place"):
        say_unknown_run()
    chosen.run()
    if later:
        around()
    keep_image(here.page)
    keep_cell()
watch_tab()
