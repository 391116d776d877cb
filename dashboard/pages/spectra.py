"""Spectra: singular values per layer and task, where the cut falls, and how fast the room to learn runs out."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.events import RunStarted, SpectrumMeasured, StepEnded, UpdateMeasured
from dashboard.frame import (
    Frame,
    current,
    empty,
    learned_at_once,
    literal,
    not_measured,
    panel,
    select_layer,
    select_task,
)
from dashboard.tail import Log
from dashboard.theme import directions, layer_name, number, percent, task_name


def choose_space(measured: list[SpectrumMeasured]) -> str:
    """The shared control of what the spectrum is taken of; a single one is not offered."""
    from dashboard.figures.readings import spaces

    found = spaces(measured)
    if st.session_state.get("space") not in found:
        st.session_state["space"] = found[0]
    if len(found) < 2:
        return found[0]
    chosen = st.segmented_control(
        "Spectrum of", found, key="space", required=True, bind="query-params", persist_state="session"
    )
    return chosen or found[0]


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


def nothing_yet(frame: Frame, log: Log) -> None:
    """Why there is no spectrum, in one sentence."""
    config = log.config
    if config is not None and not config.diagnostics.spectra:
        not_measured(
            "Spectra were not recorded in this run.",
            "Start one with `--set diagnostics.spectra=true` to see them here.",
        )
    elif frame.live:
        empty(
            f"Singular values, the cut and the room left appear here when {task_name(0)} has been learned.",
            "Follow the run",
            page="pages/run.py",
            key="spectra-empty",
        )
    else:
        not_measured(
            "This run holds no spectra: it ended before its first task was measured, or its method has no prompts to "
            "take them from.",
            "Runs of a prompt method with `diagnostics.spectra` on have them.",
        )


def updates_part(log: Log, plan: RunStarted | None, space: str, tasks: int | None) -> None:
    """Where the updates went, and how much of each step got through."""
    from dashboard.figures.spectra import update_residual
    from dashboard.figures.training import update_norms

    updates, steps = log.events(UpdateMeasured), log.events(StepEnded)
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
        if any(event.proposed_norm for event in steps):
            panel(update_norms, steps, total_steps=plan.total_steps if plan else None, key="spectra-norms", height=340)
        else:
            not_measured(
                "This run did not store the size of its updates.", "Runs whose method projects its updates do."
            )


def figures(log: Log, task: int | None, layer: int, space: str) -> None:
    """Everything this page draws for a run with spectra."""
    from dashboard.figures import spectra
    from dashboard.figures.layer_map import map_height
    from dashboard.figures.readings import sizes

    measured, plan = log.events(SpectrumMeasured), log.started()
    tasks = len(plan.tasks) if plan else None
    st.caption(f"*{space.capitalize()}*: {spectra.meaning(space)}.")
    here = spectra.of(measured, space=space, layer=layer)
    if not here:
        not_measured(
            f"{layer_name(layer).capitalize()} has no prompts, so it has no spectrum.", "Choose another layer."
        )
        return
    shown = next((event for event in here if event.clock.task == task), here[-1])
    if task is not None and shown.clock.task != task:
        st.info(
            f"Nothing was measured after {task_name(task)}; shown instead: after {task_name(shown.clock.task)}.",
            icon=":material/info:",
        )
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
    left, right = st.columns(2)
    with left:
        panel(
            spectra.nullity_map, measured, space=space, tasks=tasks, key=f"spectra-nullity-{space}", on_pick=pick_cell
        )
    with right:
        panel(
            spectra.directions_left,
            measured,
            space=space,
            layer=layer,
            tasks=tasks,
            key=f"spectra-left-{space}",
            height=map_height(sizes(measured)[0]),
        )
    panel(
        spectra.spectrum_facets,
        measured,
        space=space,
        task=shown.clock.task,
        tasks=tasks,
        layer=layer,
        key=f"spectra-all-{space}",
    )
    st.markdown("#### What became of the updates")
    updates_part(log, plan, space, tasks)
    panel(spectra.gains, measured, space=space, task=shown.clock.task, key=f"spectra-gains-{space}")


def show() -> None:
    frame = current()
    log = frame.log
    st.markdown("## Spectra")
    if log is None:
        empty(
            "Singular values per layer and task appear here as soon as there is a run.",
            "Start one",
            page="pages/start.py",
            key="spectra-empty",
        )
        return
    if log.trouble:
        st.error(literal(log.trouble), icon=":material/broken_image:")
    if not log.events(SpectrumMeasured):
        if not log.trouble:
            nothing_yet(frame, log)
        return
    with st.container(horizontal=True, gap="large", key="spectra-controls"):
        task, layer, space = select_task(log), select_layer(log), choose_space(log.events(SpectrumMeasured))
    learned_at_once(log)
    figures(log, task, layer, space)


show()
