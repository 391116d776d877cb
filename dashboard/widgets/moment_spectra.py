"""The part of the Spectra page on second moments: constraints of past tasks on prompts, or inputs of weights."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.events import SpectrumMeasured, StepEnded, TradeOffMeasured, UpdateMeasured
from dashboard.run_log import Snapshot
from dashboard.theme import directions, layer_name, number, percent, task_name
from dashboard.verdicts import room_left
from dashboard.view_state import choose, not_measured, show_figure
from dashboard.widgets.inspection import answer, more, shown_instead


def choose_space(measured: list[SpectrumMeasured], label: str) -> str:
    """Draw the choice of the matrix whose spectrum is shown; a single one is not offered."""
    from dashboard.figures.event_arrays import spaces
    from dashboard.figures.spectra import button

    found = {button(space): space for space in spaces(measured)}
    first = next(iter(found))
    return found[choose(label, "space", list(found), first) if len(found) > 1 else first]


def pick_cell(point: dict[str, Any]) -> None:
    """Choose the layer and task of a clicked cell on all pages."""
    st.session_state["task"], st.session_state["layer"] = task_name(int(point["x"])), str(int(point["y"]) + 1)


def headline(shown: SpectrumMeasured) -> None:
    """Show the chosen spectrum in four numbers."""
    n = len(shown.eigenvalues)
    with st.container(horizontal=True, gap="large", key="spectra-numbers"):
        st.metric(
            "Left free",
            directions(shown.nullity, n),
            width="content",
            help="Nullity: directions left free by the cut",
        )
        st.metric(
            "Protected rank", directions(n - shown.nullity, n), width="content", help="Directions kept for past tasks"
        )
        st.metric(
            "Energy protected",
            percent(100 * shown.protected_energy),
            width="content",
            help="Share of the energy (squared singular values) in the protected directions",
        )
        st.metric(
            "Effective rank",
            number(shown.effective_rank),
            width="content",
            help="exp of the entropy of the normalised spectrum: number of directions in use, independent of the cut",
        )


def updates_part(log: Snapshot, space: str, *, prompts: bool) -> None:
    """Draw updates inside the protected space, and their size before and after projection."""
    updates, plan = log.events(UpdateMeasured), log.started()
    if any(event.leak.get(space) is not None for event in updates):
        show_figure("leak-of-updates", log, key=f"leak-of-updates-{space}", space=space)
    left, right = st.columns(2)
    with left:
        if any(event.residual.get(space) is not None for event in updates):
            show_figure("update-residual", log, key=f"update-residual-{space}", space=space)
        else:
            with st.container(border=True, key="panel-residual-empty"):
                st.markdown("**Updates inside the protected space**")
                st.markdown(
                    "This run has a single stage of training: there is no past task to interfere with."
                    if plan is not None and plan.trained_tasks == 1
                    else f"The first task has no past tasks to protect: dots appear when {task_name(1)} has been "
                    "learned, in runs whose method stores a moment of past tasks."
                )
    with right:
        if not any(event.proposed_norm for event in log.events(StepEnded)):
            not_measured(
                "This run did not store the size of its updates.", "Runs whose method projects its updates do."
            )
        else:
            show_figure("update-norms" if prompts else "kept-share", log, height=340)


def moments(log: Snapshot, task: int | None, layer: int, space: str, *, prompts: bool) -> None:
    """Draw all figures of the spectra of second moments."""
    from dashboard.figures import spectra
    from dashboard.figures.event_arrays import sizes, spaces
    from dashboard.figures.layer_map import map_height

    measured = log.events(SpectrumMeasured)
    shown_as = spectra.button(space)
    st.caption(f"*{shown_as[:1].upper() + shown_as[1:]}*: {spectra.meaning(space)}.")
    there = {event.layer for event in measured if event.space == space}
    if len(there) == 1 and layer not in there:  # a single matrix: there is nothing to choose
        layer = there.pop()
        st.caption(f"There is one such matrix, after {layer_name(layer)}; the chosen layer does not matter here.")
    here = spectra.of(measured, space=space, layer=layer)
    if not here:
        not_measured(
            f"{layer_name(layer).capitalize()} has no {'prompts' if prompts else 'such matrix'}, so it has "
            "no spectrum.",
            "Choose another layer.",
        )
        return
    shown = next((event for event in here if event.clock.task == task), here[-1])
    if task is not None and shown.clock.task != task:
        shown_instead(task, f"after {task_name(shown.clock.task)}")

    def show(figure: str, **chosen: Any) -> None:
        show_figure(figure, log, key=f"{figure}-{space}", space=space, **chosen)

    mine = [event for event in measured if event.space not in spectra.PROMPT_SPACES]
    found = spaces(mine)

    def pick(point: dict[str, Any]) -> None:
        pick_cell(point)
        if 0 <= (trace := int(point.get("trace", -1))) < len(found):
            st.session_state["space"] = spectra.button(found[trace])

    answer(room_left(spectra.of(measured, space=space), shown.clock.task))
    if not prompts:
        show_figure("free-directions", log, on_pick=pick)
    else:
        show("nullity-map", on_pick=pick_cell)
    st.markdown(f"### {layer_name(layer).capitalize()}, after {task_name(shown.clock.task)}")
    headline(shown)
    left, right = st.columns([3, 2])
    with left:
        show("spectrum-decay", layer=layer, task=shown.clock.task)
    with right:
        show("energy-kept", layer=layer)
    with more("Directions left over tasks, and all layers", key="spectra-more") as opened:
        if opened:
            show("directions-left", layer=layer, height=map_height(sizes(spectra.of(measured, space=space))[0]))
            if len(there) != 1:
                show("spectrum-facets", layer=layer, task=shown.clock.task)
    if any(event.space == space for event in log.events(TradeOffMeasured)):
        show("trade-off", layer=layer, task=shown.clock.task)
    with more("Effect of the projection on updates", key="spectra-updates") as opened:
        if opened:
            updates_part(log, space, prompts=prompts)
            if prompts:
                show("gains", task=shown.clock.task)
