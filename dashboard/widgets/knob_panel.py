"""Turning a knob while a run goes on: the live ones, as sliders, and what has been turned so far."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.commands import TurnKnob
from cl_core.config import ConfigError
from cl_core.store import StoreError, in_force, turned
from dashboard.frame import Frame, current, literal, sentence
from dashboard.knobs import knobs_of
from dashboard.tail import RunLog
from dashboard.theme import task_name
from dashboard.widgets.control_bar import give_order, pending
from dashboard.widgets.knob_inputs import knob_inputs


def knob_panel(frame: Frame) -> None:
    """A switch, and below it the live knobs of the running method. Draw it only while a worker listens."""
    log = frame.whole_log
    if log is not None and log.config is not None and log.config.trained_elsewhere:
        st.caption("This run is recorded from a custom training loop: its settings are changed there.")
        return
    if frame.recording or not st.toggle(
        "Turn a knob", key="turn-open", help="Change a threshold or a weight of the method while it trains"
    ):
        return
    st.fragment(_panel, run_every=1.0, key="turn-fragment")()


def _panel() -> None:
    log = current().whole_log
    if log is None:
        return
    try:
        config = in_force(log.folder)
        rows = [row for row in knobs_of(config.method) if row["live"]]
        done = turned(log.folder)
    except (StoreError, ConfigError) as error:
        st.warning(sentence(error))
        return
    with st.container(border=True, key="turn-panel"):
        if not rows:
            st.markdown(
                f"{literal(config.method)} has no knob that can be turned while it trains; a fork can change more."
            )
            return
        st.markdown("A new value acts from the next step on. The run is saved first; every curve marks the place.")
        changed = knob_inputs(rows, config.settings, f"turn-{log.name}", sliders=True)
        busy = not changed or pending(log) is not None
        if st.button("Turn", key="turn-now", type="primary", icon=":material/tune:", disabled=busy):
            _turn(log, changed)  # no callback: it would send what the panel said before the field typed last
        for event in done[-5:]:
            st.caption(
                f"Turned in {task_name(event.clock.task)}, before step {event.clock.step + 1}: "
                f"{literal(event.name)} {literal(event.old)} → {literal(event.new)}"
            )


def _turn(log: RunLog, changed: dict[str, Any]) -> None:
    for name, value in changed.items():
        give_order(log, TurnKnob(name, value), "turning…")
