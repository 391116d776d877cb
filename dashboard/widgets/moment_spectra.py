"""The Spectra page of second moments: what past tasks ask of prompts, or what they feed into matrices."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.events import RunStarted, SpectrumMeasured, StepEnded, TradeOffMeasured, UpdateMeasured
from dashboard.frame import not_measured, panel
from dashboard.tail import Log
from dashboard.theme import directions, layer_name, number, percent, task_name
from dashboard.widgets.inspection import shown_instead


def choose_space(measured: list[SpectrumMeasured], label: str) -> str:
    """The shared control of what the spectrum is taken of; a single one is not offered."""
    from dashboard.figures.readings import spaces
    from dashboard.figures.spectra import button

    found = {button(space): space for space in spaces(measured)}
    first = next(iter(found))
    if st.session_state.get("space") not in found:
        st.session_state["space"] = first
    if len(found) < 2:
        return found[first]
    chosen = st.segmented_control(
        label, list(found), key="space", required=True, bind="query-params", persist_state="session"
    )
    return found[chosen or first]


def pick_cell(point: dict[str, Any]) -> None:
    """A click on the map chooses its layer and task everywhere."""
    st.session_state["task"], st.session_state["layer"] = task_name(int(point["x"])), str(int(point["y"]) + 1)


def headline(shown: SpectrumMeasured) -> None:
    """The chosen spectrum in four numbers."""
    n = len(shown.eigenvalues)
    with st.container(horizontal=True, gap="large", key="spectra-numbers"):
        st.metric(
            "Left free",
            directions(shown.nullity, n),
            width="content",
            help="Nullity: directions the cut leaves to the next task",
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
            help="exp of the entropy of the normalised spectrum: how many directions are in use, whatever the cut",
        )


def updates_part(log: Log, plan: RunStarted | None, space: str, tasks: int | None, *, prompts: bool) -> None:
    """Where the updates went, and how much of each step got through."""
    from dashboard.figures.training import update_norms
    from dashboard.figures.updates import kept_share, leak_of_updates, update_residual

    updates, steps, measured = log.events(UpdateMeasured), log.events(StepEnded), log.events(SpectrumMeasured)
    total = plan.total_steps if plan else None
    if any(event.leak.get(space) is not None for event in updates):
        panel(leak_of_updates, updates, measured, space=space, tasks=tasks, key=f"spectra-leak-{space}")
    left, right = st.columns(2)
    with left:
        if any(event.residual.get(space) is not None for event in updates):
            panel(update_residual, updates, space=space, tasks=tasks, key=f"spectra-residual-{space}")
        else:
            with st.container(border=True, key="panel-residual-empty"):
                st.markdown("**Where the updates went**")
                st.markdown(
                    "This run has a single stage of training: there is no past task that an update could touch."
                    if plan is not None and plan.trained_tasks == 1
                    else f"The first task has no past to avoid: dots appear when {task_name(1)} has been learned, in "
                    "runs whose method keeps a moment of past tasks."
                )
    with right:
        if not any(event.proposed_norm for event in steps):
            not_measured(
                "This run did not store the size of its updates.", "Runs whose method projects its updates do."
            )
        elif not prompts:
            panel(kept_share, steps, measured, total_steps=total, key="spectra-kept", height=340)
        else:
            panel(update_norms, steps, total_steps=total, key="spectra-norms", height=340)


def moments(log: Log, task: int | None, layer: int, space: str, *, prompts: bool) -> None:
    """Everything this page draws of a second moment's spectra."""
    from dashboard.figures import room, spectra, updates
    from dashboard.figures.layer_map import map_height
    from dashboard.figures.readings import sizes, spaces

    measured, plan = log.events(SpectrumMeasured), log.started()
    tasks = len(plan.tasks) if plan else None
    shown_as = spectra.button(space)
    st.caption(f"*{shown_as[:1].upper() + shown_as[1:]}*: {spectra.meaning(space)}.")
    there = {event.layer for event in measured if event.space == space}
    if len(there) == 1 and layer not in there:  # a matrix that exists once: there is nothing to choose
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
    headline(shown)
    left, right = st.columns([3, 2])
    with left:
        panel(
            spectra.spectrum_decay,
            measured,
            layer=layer,
            space=space,
            task=shown.clock.task,
            tasks=tasks,
            key=f"spectra-decay-{space}",
        )
    with right:
        panel(spectra.energy_kept, measured, layer=layer, space=space, tasks=tasks, key=f"spectra-energy-{space}")
    mine = [event for event in measured if event.space not in spectra.PROMPT_SPACES]
    found = spaces(mine)

    def pick(point: dict[str, Any]) -> None:
        pick_cell(point)
        if 0 <= (trace := int(point.get("trace", -1))) < len(found):
            st.session_state["space"] = spectra.button(found[trace])

    left, right = st.columns(2)
    with left:
        if not prompts:
            panel(room.free_directions, mine, tasks=tasks, key="spectra-free", on_pick=pick)
        else:
            panel(
                room.nullity_map,
                measured,
                space=space,
                tasks=tasks,
                key=f"spectra-nullity-{space}",
                on_pick=pick_cell,
            )
    with right:
        panel(
            room.directions_left,
            measured,
            space=space,
            layer=layer,
            tasks=tasks,
            key=f"spectra-left-{space}",
            height=map_height(sizes(spectra.of(measured, space=space))[0]),
        )
    if len(there) != 1:
        panel(
            spectra.spectrum_facets,
            measured,
            space=space,
            task=shown.clock.task,
            tasks=tasks,
            layer=layer,
            key=f"spectra-all-{space}",
        )
    weighed = log.events(TradeOffMeasured)
    if any(event.space == space for event in weighed):
        from dashboard.figures.conceptors import trade_off

        chosen = {"space": space, "layer": layer, "task": shown.clock.task}
        panel(trade_off, weighed, tasks=tasks, key=f"spectra-weigh-{space}", **chosen)
    st.markdown("### What became of the updates")
    updates_part(log, plan, space, tasks, prompts=prompts)
    if prompts:
        panel(updates.gains, measured, space=space, task=shown.clock.task, key=f"spectra-gains-{space}")
