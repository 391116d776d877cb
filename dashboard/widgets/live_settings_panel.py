"""Changing settings while a run trains: the live settings as sliders, and the changes so far."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.commands import ChangeSetting
from cl_core.config import ConfigError
from cl_core.store import StoreError
from dashboard.method_settings import settings_of
from dashboard.run_log import Snapshot
from dashboard.theme import task_name
from dashboard.view_state import ViewState, current, literal, sentence
from dashboard.widgets.control_bar import give_order, pending
from dashboard.widgets.pace import every
from dashboard.widgets.setting_inputs import setting_inputs


def live_settings_panel(frame: ViewState) -> None:
    """Draw a switch and below it the live settings of the running method. Call it only while a worker is running."""
    log = frame.whole_log
    if log is not None and log.config is not None and log.config.trained_elsewhere:
        st.caption("This run is recorded from a custom training loop; change its settings in that loop.")
        return
    if frame.recording or not st.toggle(
        "Change settings while training",
        key="turn-open",
        help="Change a threshold or a weight of the method while it trains",
    ):
        return
    st.fragment(_panel, run_every=every(1.0), key="turn-fragment")()


def _panel() -> None:
    log = current().whole_log
    if log is None or log.config is None:
        return
    config, done = log.config, log.turned()
    settings = {**config.settings, **{event.name: event.new for event in done}}
    try:
        rows = [row for row in settings_of(log.config.method) if row["live"]]
    except (StoreError, ConfigError) as error:
        st.warning(sentence(error))
        return
    with st.container(border=True, key="turn-panel"):
        if not rows:
            st.markdown(f"{literal(config.method)} has no live settings; a fork can change more.")
            return
        st.markdown("A new value applies from the next step on. The run is saved first; every curve marks the change.")
        changed = setting_inputs(rows, settings, f"turn-{log.name}", sliders=True)
        busy = not changed or pending(log) is not None
        if st.button("Turn", key="turn-now", type="primary", icon=":material/tune:", disabled=busy):
            _turn(log, changed)  # no callback, which would miss the value of the field typed last
        for event in done[-5:]:
            st.caption(
                f"Changed in {task_name(event.clock.task)}, before step {event.clock.step + 1}: "
                f"{literal(event.name)} {literal(event.old)} → {literal(event.new)}"
            )


def _turn(log: Snapshot, changed: dict[str, Any]) -> None:
    for name, value in changed.items():
        give_order(log, ChangeSetting(name, value), "turning…")
