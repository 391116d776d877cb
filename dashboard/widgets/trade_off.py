"""The trade-off of a threshold, shown on a recorded frontier. Its slider does not train anything."""

from __future__ import annotations

import streamlit as st

from cl_core.playground.frontier import best
from cl_core.playground.settings import PlaygroundConfig, at_strength
from dashboard.theme import percent
from dashboard.view_state import go_to
from dashboard.widgets.playground_board import board_record, playground_board, recorded_points

PLACE = "_trade_off"  # session key of the slider's position, at which the Playground opens
KEY = "threshold"  # its key in the URL


def playground_choice() -> dict[str, str]:
    """Return the URL parameters that open the Playground at the slider's position."""
    found = recorded_points(PlaygroundConfig())
    top = best(found)
    stands = _stands([str(point["text"]) for point in found], str(top["text"]) if top else "")
    return {"epsilon": stands} if top is not None and stands != top["text"] else {}


def _stands(texts: list[str], usual: str) -> str:
    asked = st.query_params.get(KEY) or ""
    return asked if asked in texts else str(st.session_state.get(PLACE, usual))


def trade_off() -> bool:
    """Draw the trade-off; return False if the recording is missing."""
    base = PlaygroundConfig()
    found = recorded_points(base)
    top = best(found)
    if top is None:
        return False
    stands = _stands([str(point["text"]) for point in found], str(top["text"]))
    config = at_strength(base, float(stands))
    lowest, highest = found[0], found[-1]
    with st.container(border=True, key="panel-trade-off"):
        st.markdown(
            f"**A small network learns ten tasks, one after another.** Protect nothing, and it forgets: it ends at "
            f"{percent(lowest['after'][-1]['final'])}. Protect everything, and it cannot learn: "
            f"{percent(highest['after'][-1]['final'])}. In between it reaches {percent(top['after'][-1]['final'])}. "
            "Move the slider and watch what it costs."
        )
        playground_board(
            board_record(
                config, stored=found, trains=False, beside={"title": "Unprotected (ε = 0)", "point": found[0]}
            ),
            key="trade-off",
            on_choose=_stand,
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            pressed = st.button(
                "Train it yourself",
                key="trade-off-open",
                type="primary",
                icon=":material/toys:",
                help="The Playground trains the whole stream in about a second: other thresholds, rules and tasks",
            )
            st.caption(
                f"Gradient projection memory on permuted handwritten digits; every mark is the mean of "
                f"{len(top['seeds'])} networks, bars are their standard deviation."
            )
    if pressed:
        go_to("pages/playground.py", **playground_choice())
    return True


def _stand(text: str) -> None:
    st.session_state[PLACE] = st.query_params[KEY] = text
