"""The part of the Spectra page on a CLIP model's attention matrices: one in full, then all of them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.events import WeightSpectrumMeasured
from dashboard.run_log import Snapshot
from dashboard.theme import directions, number, percent, task_name
from dashboard.verdicts import weight_room_left
from dashboard.view_state import literal, show_figure
from dashboard.widgets.inspection import answer, more, shown_instead


def pick_map(point: dict[str, Any]) -> None:
    """Choose the weight whose bar, dot or cell was clicked."""
    if point.get("custom"):
        st.session_state["map"] = point["custom"][0]


def headline(shown: WeightSpectrumMeasured) -> None:
    """Show the chosen weight matrix in five numbers."""
    from dashboard.figures.weights import limit, tiny

    d, ruled = len(shown.before), shown.bound != "none"
    with st.container(horizontal=True, gap="large", key="weights-numbers"):
        st.metric(
            "Principal",
            directions(shown.principal, d),
            width="content",
            help=f"The fewest directions that hold {100 * shown.rho:g} % of the energy Σσ² of the weight before the "
            "task",
        )
        st.metric(
            "Written to" if ruled else "Null",
            directions(shown.written, d),
            width="content",
            help=limit(shown)[:1].upper() + limit(shown)[1:],
        )
        st.metric(
            "Effective rank",
            f"{number(shown.effective_rank)}, was {number(shown.effective_rank_before)}",
            width="content",
            help="exp of the entropy of σ/Σσ after the task, and before it: number of directions in use",
        )
        st.metric(
            "Moved by",
            percent(100 * shown.movement),
            width="content",
            help="Size of the task's change relative to the weight, ‖ΔW‖/‖W‖",
        )
        st.metric(
            "Inside the principal space",
            tiny(shown.leak_left),
            width="content",
            help="Share of the task's change inside the principal space at its start, ‖UₖᵀΔW‖/‖ΔW‖; a random change "
            f"has {number(shown.chance)}. A dash: the weight did not change",
        )


def weights(log: Snapshot, task: int | None, name: str) -> None:
    """Draw all figures of the weights' singular values."""
    from dashboard.figures import weights

    measured = log.events(WeightSpectrumMeasured)
    chosen = weights.newest_task(measured, task)
    if task is not None and chosen != task:
        shown_instead(task, f"after {task_name(chosen)}")
    shown = weights.after(measured, chosen).get(name)
    answer(weight_room_left(measured, chosen))
    show_figure("room-left", log)
    st.caption(f"*{literal(weights.option(name).capitalize())}*: {literal(weights.words(name))}.")
    if shown is not None:
        headline(shown)
    left, right = st.columns(2)
    with left:
        show_figure("map-spectrum", log, name=name, task=chosen)
    with right:
        show_figure("movement-of-maps", log, task=chosen, height=400, on_pick=pick_map)
    with more("Where the change of each weight lies", key="weights-change") as opened:
        if opened:
            show_figure("direction-split", log, task=chosen, on_pick=pick_map)
            show_figure("change-against-principal", log, task=chosen, on_pick=pick_map)
    with more("From task to task", key="weights-tasks") as opened:
        if opened:
            for figure in ("effective-rank", "drift-from-pretrained"):
                show_figure(figure, log)
