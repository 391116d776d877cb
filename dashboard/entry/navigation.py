"""The frame that is drawn around every page at every interaction: navigation above, the control bar below.

In a folder of its own: beside a folder called `pages`, Streamlit would take each page for a whole app.
"""

from __future__ import annotations

import sys
from pathlib import Path

import streamlit as st

if str(Path(__file__).resolve().parents[2]) not in sys.path:  # started by path from a checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from dashboard.runs import runs_index
from dashboard.view_state import arrive, one_moment, page_file, say_unknown_run, settle_run
from dashboard.widgets.control_bar import control_bar

st.set_page_config(page_title="Plastiscope", page_icon=str(Path(__file__).parents[1] / "icon.png"), layout="wide")
st.html("""<style>
  .stMainBlockContainer { padding-top: 4.2rem; padding-bottom: 2rem; }
  [data-testid="stBottomBlockContainer"] { padding-top: .6rem; padding-bottom: .9rem; }
  [data-testid="stCaptionContainer"] { color: inherit; opacity: .8; }
  .stApp button[data-variant="segmented_control"][data-selected] { color: inherit; }
  @media (max-width: 900px) { [data-testid="stColumn"]:has([class*="st-key-panel-"]) { min-width: 100%; } }
  .stMainBlockContainer h2 { padding-top: 0; }
  .stMainBlockContainer h3 { font-size: 1.5rem; line-height: 1.2; letter-spacing: normal; padding: .5rem 0 1rem; }
  .stApp [data-testid="stTopNavLink"]:focus-visible { outline: 2px solid; outline-offset: -1px; }
  .stApp [data-testid="stSliderThumbValue"], .stApp [data-testid="stSliderThumbValue"] p { color: inherit; }
  .stApp :is(.stSelectbox, .stMultiSelect) button[aria-label^="Clear"] { min-width: 24px; min-height: 24px; }
  .stApp .stHorizontalBlock { row-gap: .9rem; }
</style>""")
chosen = st.navigation(
    [
        st.Page(page_file("pages/start.py"), title="Start", icon=":material/home:", default=True),
        st.Page(page_file("pages/playground.py"), title="Playground", icon=":material/toys:"),
        st.Page(page_file("pages/learn.py"), title="Learn", icon=":material/school:"),
        st.Page(page_file("pages/run.py"), title="Run", icon=":material/monitoring:"),
        st.Page(page_file("pages/questions.py"), title="Questions", icon=":material/help_center:"),
        st.Page(page_file("pages/spectra.py"), title="Spectra", icon=":material/stacked_line_chart:"),
        st.Page(page_file("pages/attention.py"), title="Attention and prompts", icon=":material/center_focus_strong:"),
        st.Page(page_file("pages/pools.py"), title="Prompt pools", icon=":material/grain:"),
        st.Page(page_file("pages/gap.py"), title="Gap", icon=":material/join_inner:"),
        st.Page(page_file("pages/forgetting.py"), title="Forgetting", icon=":material/grid_on:"),
        st.Page(page_file("pages/whatif.py"), title="What if", icon=":material/tune:"),
        st.Page(page_file("pages/compare.py"), title="Compare", icon=":material/compare_arrows:"),
        st.Page(page_file("pages/export.py"), title="Export", icon=":material/ios_share:"),
        # Reached from Start and from Export: the bar is full.
        st.Page(page_file("pages/own.py"), title="Your own", icon=":material/upload:", visibility="hidden"),
        st.Page(
            page_file("pages/measurements.py"),
            title="All measurements",
            icon=":material/dataset:",
            visibility="hidden",
        ),
    ],
    position="top",
)
arrive(chosen.title)
settle_run(runs_index())
# In a new tab the bar waits for the matrix.
picture_first = chosen.title == "Start" and "_drawn" not in st.session_state
own_runs = chosen.title != "Playground"  # that page trains networks of its own
with one_moment():
    if own_runs and not picture_first:
        control_bar(follow=chosen.title != "Run")
    with st.container(key="unknown-run-place"):  # always there: what appears must not move the page below it
        say_unknown_run()
    chosen.run()
    if picture_first:
        control_bar(follow=True)
