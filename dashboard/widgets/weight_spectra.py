"""The Spectra page of a CLIP model's attention matrices: one of them in full, then all of them."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.events import WeightSpectrumMeasured
from dashboard.frame import panel
from dashboard.tail import Log
from dashboard.theme import directions, number, percent, task_name
from dashboard.widgets.inspection import shown_instead


def pick_map(point: dict[str, Any]) -> None:
    """A click on a bar, dot or cell of a weight chooses it."""
    if point.get("custom"):
        st.session_state["map"] = point["custom"][0]


def headline(shown: WeightSpectrumMeasured) -> None:
    """The chosen map in five numbers."""
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
            help="exp of the entropy of σ/Σσ after the task, and before it: how many directions are in use",
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
            help="Share of the task's change inside the principal space it found, ‖UₖᵀΔW‖/‖ΔW‖; a random change has "
            f"{number(shown.chance)}. A dash: the map did not move",
        )


def weights(log: Log, task: int | None, name: str) -> None:
    """Everything this page draws of the weights' own singular values."""
    from dashboard.figures import weight_directions, weight_history, weights

    measured, plan = log.events(WeightSpectrumMeasured), log.started()
    tasks = list(plan.tasks) if plan else []
    chosen = weights.newest_task(measured, task)
    if task is not None and chosen != task:
        shown_instead(task, f"after {task_name(chosen)}")
    shown = weights.after(measured, chosen).get(name)
    st.caption(f"*{weights.option(name).capitalize()}*: {weights.words(name)}.")
    if shown is not None:
        headline(shown)
    left, right = st.columns(2)
    with left:
        panel(weights.map_spectrum, measured, tasks, name=name, task=chosen, key="weights-map")
    with right:
        panel(
            weight_directions.movement_of_maps,
            measured,
            tasks,
            task=chosen,
            key="weights-movement",
            height=400,
            on_pick=pick_map,
        )
    panel(weight_directions.direction_split, measured, tasks, task=chosen, key="weights-split", on_pick=pick_map)
    panel(
        weight_directions.change_against_principal, measured, tasks, task=chosen, key="weights-change", on_pick=pick_map
    )
    st.markdown("### From task to task")
    panel(weight_history.room_left, measured, tasks, key="weights-room")
    panel(weight_history.effective_rank_over_tasks, measured, tasks, key="weights-rank")
    panel(weight_history.drift_from_pretrained, measured, tasks, key="weights-drift")
