"""What deserves a look in a run, in words: a line each, with its number, threshold and remedy."""

from __future__ import annotations

import streamlit as st

from cl_core.analysis.alerts import alerts
from dashboard.run_log import Snapshot
from dashboard.theme import number, task_name
from dashboard.view_state import literal


def show_alerts(log: Snapshot) -> None:
    """One line an alert; nothing where there is none."""
    for alert in alerts(log.events):
        st.warning(
            f"**{literal(alert.name.capitalize())}** ({task_name(alert.task)}). {literal(alert.sentence)}  \n"
            f"{literal(alert.remedy)}",
            icon=":material/notification_important:",
        )
        st.caption(
            f"Measured {number(alert.value)}; threshold {number(alert.threshold)}; figure *{_title(alert.figure)}*."
        )


def _title(figure: str) -> str:
    from dashboard.figures.catalogue import FIGURES

    return FIGURES[figure].title
