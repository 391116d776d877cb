"""Spectra: singular values per layer and task, where the cut falls, and how fast the room to learn runs out.

A run may have spectra of five families, told apart by its events: moments of what past tasks ask of prompts, moments
of what they feed into matrices (features), the weights themselves, the subspaces of tasks' input embeddings, and
conceptors of what is fed into matrices.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from cl_core.events import (
    ConceptorMeasured,
    ForwardTransferMeasured,
    InputsSurveyed,
    RunStarted,
    SpectrumMeasured,
    StepEnded,
    SubspaceMeasured,
    TradeOffMeasured,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from cl_core.registry import METHODS
from dashboard.frame import Frame, choose, empty, learned_at_once, not_measured, panel, select_task
from dashboard.tail import Log
from dashboard.theme import directions, layer_name, number, percent, task_name
from dashboard.widgets.inspection import inspected, task_and_layer

PROMPTS, FEATURES, WEIGHTS, SUBSPACES = "prompts", "features", "weights", "task subspaces"
CONCEPTORS = "conceptors"


def families(log: Log) -> list[str]:
    """What this run has spectra of."""
    from dashboard.figures.readings import spaces
    from dashboard.figures.spectra import PROMPT_SPACES

    found = set(spaces(log.events(SpectrumMeasured)))
    return [
        name
        for name, there in (
            (PROMPTS, found & set(PROMPT_SPACES)),
            (FEATURES, found - set(PROMPT_SPACES)),
            (WEIGHTS, log.events(WeightSpectrumMeasured)),
            (SUBSPACES, log.events(SubspaceMeasured) or log.events(ForwardTransferMeasured)),
            (CONCEPTORS, log.events(ConceptorMeasured)),
        )
        if there
    ]


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


def pick_map(point: dict[str, Any]) -> None:
    """A click on a bar, dot or cell of a weight chooses it."""
    if point.get("custom"):
        st.session_state["map"] = point["custom"][0]


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


def weight_headline(shown: WeightSpectrumMeasured) -> None:
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


def works_on_prompts(method: str) -> bool:
    """Whether `method` is of the family that adds prompts; a name that is not known here is given the benefit."""
    return method not in METHODS or METHODS[method].needs == "vit"


def nothing_yet(frame: Frame, log: Log) -> None:
    """Why there is no spectrum, in one sentence."""
    config = log.config
    asked = config is None or config.diagnostics.spectra or config.diagnostics.weights
    if config is not None and works_on_prompts(config.method):
        asked = config.diagnostics.spectra
    if not asked:
        not_measured(
            "Spectra were not recorded in this run.",
            "Start one with `--set diagnostics.spectra=true` (what past tasks ask) or "
            "`--set diagnostics.weights=true` (the weights themselves) to see them here.",
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
            "This run holds no spectra: it ended before its first task was measured, or its method has nothing to take "
            "them from.",
            "Prompt methods and methods that protect features have them with `diagnostics.spectra` on, methods that "
            "change a CLIP model's weights with `diagnostics.weights` on.",
        )


def updates_part(log: Log, plan: RunStarted | None, space: str, tasks: int | None, family: str) -> None:
    """Where the updates went, and how much of each step got through."""
    from dashboard.figures.features import kept_share, leak_of_updates
    from dashboard.figures.spectra import update_residual
    from dashboard.figures.training import update_norms

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
        elif family == FEATURES:
            panel(kept_share, steps, measured, total_steps=total, key="spectra-kept", height=340)
        else:
            panel(update_norms, steps, total_steps=total, key="spectra-norms", height=340)


def moments(log: Log, task: int | None, layer: int, space: str, family: str) -> None:
    """Everything this page draws of a second moment's spectra."""
    from dashboard.figures import features, spectra
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
            f"{layer_name(layer).capitalize()} has no {'prompts' if family == PROMPTS else 'such matrix'}, so it has "
            "no spectrum.",
            "Choose another layer.",
        )
        return
    shown = next((event for event in here if event.clock.task == task), here[-1])
    instead(task, shown.clock.task)
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
        if family == FEATURES:
            panel(features.free_directions, mine, tasks=tasks, key="spectra-free", on_pick=pick)
        else:
            panel(
                spectra.nullity_map,
                measured,
                space=space,
                tasks=tasks,
                key=f"spectra-nullity-{space}",
                on_pick=pick_cell,
            )
    with right:
        panel(
            spectra.directions_left,
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
    st.markdown("#### What became of the updates")
    updates_part(log, plan, space, tasks, family)
    if family == PROMPTS:
        panel(spectra.gains, measured, space=space, task=shown.clock.task, key=f"spectra-gains-{space}")


def weights(log: Log, task: int | None, name: str) -> None:
    """Everything this page draws of the weights' own singular values."""
    from dashboard.figures import weights

    measured, plan = log.events(WeightSpectrumMeasured), log.started()
    tasks = list(plan.tasks) if plan else []
    chosen = weights.newest_task(measured, task)
    instead(task, chosen)
    shown = weights.after(measured, chosen).get(name)
    st.caption(f"*{weights.option(name).capitalize()}*: {weights.words(name)}.")
    if shown is not None:
        weight_headline(shown)
    left, right = st.columns(2)
    with left:
        panel(weights.map_spectrum, measured, tasks, name=name, task=chosen, key="weights-map")
    with right:
        panel(
            weights.movement_of_maps,
            measured,
            tasks,
            task=chosen,
            key="weights-movement",
            height=400,
            on_pick=pick_map,
        )
    panel(weights.direction_split, measured, tasks, task=chosen, key="weights-split", on_pick=pick_map)
    panel(weights.change_against_principal, measured, tasks, task=chosen, key="weights-change", on_pick=pick_map)
    st.markdown("#### From task to task")
    panel(weights.room_left, measured, tasks, key="weights-room")
    panel(weights.effective_rank_over_tasks, measured, tasks, key="weights-rank")
    panel(weights.drift_from_pretrained, measured, tasks, key="weights-drift")


def subspaces(log: Log) -> None:
    """What tasks take of the space of input embeddings, and what learning did for tasks to come."""
    from dashboard.figures import subspaces

    measured, probed, plan = log.events(SubspaceMeasured), log.events(ForwardTransferMeasured), log.started()
    tasks = list(plan.tasks) if plan else []
    if measured:
        left, right = st.columns([3, 2])
        with left:
            panel(subspaces.embedding_spectra, measured, tasks, key="subspaces-spectra")
        with right:
            panel(subspaces.overlap_map, measured, tasks, key="subspaces-overlap")
        left, right = st.columns(2)
        with left:
            panel(subspaces.space_budget, measured, tasks, key="subspaces-budget")
        with right:
            panel(subspaces.gradient_parts, measured, tasks, key="subspaces-gradient")
        panel(subspaces.leak_into_cores, measured, tasks, key="subspaces-leak")
    st.markdown("#### Tasks still to come")
    if not probed:
        not_measured(
            "What learning did for tasks to come was not measured in this run.",
            "Start one with `--set diagnostics.forward=true`.",
        )
        return
    if not measured:
        panel(subspaces.forward_transfer, probed, tasks, key="subspaces-forward")
        return
    left, right = st.columns(2)
    with left:
        panel(subspaces.forward_transfer, probed, tasks, key="subspaces-forward")
    with right:
        panel(subspaces.transfer_against_overlap, measured, probed, tasks, key="subspaces-transfer")


def conceptors(log: Log, task: int | None, layer: int) -> None:
    """How far past tasks have taken the directions of a layer's inputs."""
    from dashboard.figures import conceptors

    measured, surveyed, plan = log.events(ConceptorMeasured), log.events(InputsSurveyed), log.started()
    tasks = len(plan.tasks) if plan else None
    left, right = st.columns([3, 2])
    with left:
        until = [e for e in measured if task is None or e.clock.task <= task]
        panel(conceptors.directions_in_use, until or measured, layer=layer, tasks=tasks, key="conceptors-use")
    with right:
        panel(conceptors.capacity_over_tasks, measured, layer=layer, tasks=tasks, key="conceptors-capacity")
    if surveyed:
        panel(conceptors.shared_with_the_past, surveyed, tasks=tasks, key="conceptors-shared")
    steps = log.events(StepEnded)
    if any(event.proposed_norm for event in steps):
        from dashboard.figures.training import update_norms

        total = plan.total_steps if plan else None
        panel(update_norms, steps, total_steps=total, key="conceptors-norms", height=340)


def instead(task: int | None, shown: int) -> None:
    """One sentence if another task is shown than the chosen one."""
    if task is not None and shown != task:
        st.info(
            f"Nothing was measured after {task_name(task)}; shown instead: after {task_name(shown)}.",
            icon=":material/info:",
        )


def show() -> None:
    opened = inspected(
        "Spectra", "Singular values per layer and task appear here as soon as there is a run.", key="spectra"
    )
    if opened is None:
        return
    frame, log = opened
    found = families(log)
    if not found:
        if not log.trouble:
            nothing_yet(frame, log)
        return
    family = choose("Spectra of", "family", found, found[0]) if len(found) > 1 else found[0]
    if family == WEIGHTS:
        from dashboard.figures.weights import maps, option

        names = {option(name): name for name in maps(log.events(WeightSpectrumMeasured))}
        with st.container(horizontal=True, gap="large", key="spectra-shared"):
            task, chosen = select_task(log), choose("Matrix", "map", list(names), next(iter(names)))
        learned_at_once(log)
        weights(log, task, names[chosen])
        return
    if family == SUBSPACES:
        subspaces(log)
        return
    if family == CONCEPTORS:
        task, layer, _ = task_and_layer(log, key="spectra")
        conceptors(log, task, layer)
        return
    from dashboard.figures.spectra import PROMPT_SPACES

    measured = [e for e in log.events(SpectrumMeasured) if (e.space in PROMPT_SPACES) == (family == PROMPTS)]
    label = "Spectrum of" if family == PROMPTS else "Inputs of"
    task, layer, (space,) = task_and_layer(log, lambda: choose_space(measured, label), key="spectra")
    moments(log, task, layer, space, family)


show()
