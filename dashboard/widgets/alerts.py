"""Alerts of a run, one line each, with value, threshold and remedy."""

from __future__ import annotations

import streamlit as st

from cl_core.analysis.alerts import Alert, alerts
from dashboard.run_log import Snapshot
from dashboard.theme import number, task_name
from dashboard.view_state import go_to, literal

PAGES = {  # section of the catalogue → the page that shows its figures
    "accuracy": "forgetting",
    "training": "run",
    "room": "spectra",
    "updates": "spectra",
    "attention": "attention",
    "pools": "pools",
    "gap": "gap",
}


def show_alerts(log: Snapshot) -> None:
    """Draw one line per alert; nothing if there are none."""
    for alert in alerts(log.events):
        st.warning(
            f"**{literal(alert.name.capitalize())}** ({task_name(alert.task)}). {literal(alert.sentence)}  \n"
            f"{literal(alert.remedy)}",
            icon=":material/notification_important:",
        )
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"alert-{alert.figure}"):
            st.caption(f"Measured {number(alert.value)}; threshold {number(alert.threshold)}.", width="content")
            _way(alert)


def _way(alert: Alert) -> None:
    """Draw a link to the alert's figure with its task and layer; only the figure's name if it is on this page."""
    from dashboard.figures.catalogue import FIGURES

    figure = FIGURES[alert.figure]
    page = PAGES[figure.section]
    if page == st.session_state.get("_page"):
        st.caption(f"Figure *{figure.title}*.", width="content")
    elif st.button(figure.title, key=f"alert-to-{alert.figure}", type="tertiary", icon=":material/arrow_outward:"):
        layer = {} if alert.layer is None else {"layer": str(alert.layer + 1)}
        cell = {} if alert.fallen is None else {"from": task_name(alert.task), "to": task_name(alert.fallen)}
        go_to(f"pages/{page}.py", **{"task": task_name(alert.task), **layer, **cell})
