"""Spectra: singular values per layer and task, the cut, and how fast free directions run out.

A run may have five families of spectra, distinguished by its events: second moments that past tasks impose on prompts,
second moments of the inputs of weight matrices (features), the weights themselves, the subspaces of tasks' input
embeddings, and conceptors of the inputs of weight matrices.
"""

from __future__ import annotations

import streamlit as st

from cl_core.events import (
    ConceptorMeasured,
    ForwardTransferMeasured,
    InputsSurveyed,
    SpectrumMeasured,
    StepEnded,
    SubspaceMeasured,
    WeightSpectrumMeasured,
)
from cl_core.registry import METHODS
from dashboard.run_log import Snapshot
from dashboard.theme import task_name
from dashboard.verdicts import ROOM, capacity_left, subspace_room_left
from dashboard.view_state import USUAL, ViewState, choose, empty, learned_at_once, not_measured, show_figure
from dashboard.widgets.inspection import answer, offer_runs, open_run_page
from dashboard.widgets.moment_spectra import choose_space, moments
from dashboard.widgets.shared_controls import hide
from dashboard.widgets.weight_spectra import weights

PROMPTS, FEATURES, WEIGHTS, SUBSPACES = "prompts", "features", "weights", "task subspaces"
CONCEPTORS = "conceptors"


def families(log: Snapshot) -> list[str]:
    """Return the families of spectra that this run has."""
    from dashboard.figures.event_arrays import spaces
    from dashboard.figures.spectra import PROMPT_SPACES

    found = set(spaces(log.events(SpectrumMeasured)))
    return [
        name
        for name, there in (
            (PROMPTS, found & set(PROMPT_SPACES)),
            (FEATURES, found - set(PROMPT_SPACES)),
            (WEIGHTS, log.events(WeightSpectrumMeasured)),
            (SUBSPACES, log.count(SubspaceMeasured) or log.count(ForwardTransferMeasured)),
            (CONCEPTORS, log.events(ConceptorMeasured)),
        )
        if there
    ]


def works_on_prompts(method: str) -> bool:
    """Return whether `method` belongs to the prompt methods; True for names that are not registered here."""
    return method not in METHODS or METHODS[method].needs == "vit"


def nothing_yet(frame: ViewState, log: Snapshot) -> None:
    """Explain in one sentence why there is no spectrum."""
    config = log.config
    asked = config is None or config.diagnostics.spectra or config.diagnostics.weights
    if config is not None and works_on_prompts(config.method):
        asked = config.diagnostics.spectra
    if not asked:
        not_measured(
            "Spectra were not recorded in this run.",
            "Start one with `--set diagnostics.spectra=true` (moments of past tasks) or "
            "`--set diagnostics.weights=true` (the weights themselves) to see them here.",
        )
    elif frame.live:
        empty(
            f"Singular values, the cut and free directions appear here when {task_name(0)} has been learned.",
            "Follow the run",
            page="pages/run.py",
            key="spectra-empty",
        )
    else:
        not_measured(
            "This run has no spectra.",
            "It ended before its first task was measured, or its method has none: prompt methods and methods that "
            "protect features have them with `diagnostics.spectra` on, methods that change a CLIP model's weights with "
            "`diagnostics.weights` on.",
        )
        offer_runs(SpectrumMeasured, key="spectra")


def subspaces(log: Snapshot) -> None:
    """Draw the subspaces of input embeddings that tasks occupy, and the effect of learning on future tasks."""
    measured, probed = log.count(SubspaceMeasured), log.count(ForwardTransferMeasured)
    if measured:
        answer(subspace_room_left(log.events(SubspaceMeasured)))
        show_figure("space-budget", log)
        left, right = st.columns([3, 2])
        with left:
            show_figure("embedding-spectra", log)
        with right:
            show_figure("overlap-map", log)
        left, right = st.columns(2)
        with left:
            show_figure("gradient-parts", log)
        with right:
            show_figure("leak-into-cores", log)
    st.markdown("### Tasks still to come")
    if not probed:
        not_measured(
            "The effect of learning on future tasks was not measured in this run.",
            "Start one with `--set diagnostics.forward=true`.",
        )
        return
    places = st.columns(2) if measured else [st.container()]
    with places[0]:
        show_figure("forward-transfer", log)
    if measured:
        with places[1]:
            show_figure("transfer-against-overlap", log)


def conceptors(log: Snapshot, task: int | None, layer: int) -> None:
    """Draw the conceptors: how far past tasks occupy the directions of a layer's inputs."""
    answer(capacity_left(log.events(ConceptorMeasured)))
    show_figure("capacity-over-tasks", log, layer=layer)
    show_figure("directions-in-use", log, layer=layer, task=task)
    if log.count(InputsSurveyed):
        show_figure("shared-with-the-past", log)
    if any(event.proposed_norm for event in log.events(StepEnded)):
        show_figure("update-norms", log, height=340)


def show() -> None:
    opened = open_run_page(
        ROOM, "Singular values per layer and task appear here as soon as there is a run.", key="spectra"
    )
    if opened is None:
        return
    frame, log = opened
    found = families(log)
    if not found:
        if not log.trouble:
            hide(USUAL)
            nothing_yet(frame, log)
        return
    task, layer = frame.task, frame.layer
    family = choose("Spectra of", "family", found, found[0]) if len(found) > 1 else found[0]
    if family == WEIGHTS:
        from dashboard.figures.weights import maps, option

        names = {option(name): name for name in maps(log.events(WeightSpectrumMeasured))}
        hide(["layer"])
        chosen = choose("Matrix", "map", list(names), next(iter(names)))
        learned_at_once(log)
        weights(log, task, names[chosen])
        return
    if family == SUBSPACES:
        hide(["task", "layer"])
        subspaces(log)
        return
    learned_at_once(log)
    if family == CONCEPTORS:
        conceptors(log, task, layer)
        return
    from dashboard.figures.spectra import PROMPT_SPACES, WATCHED

    measured = [e for e in log.events(SpectrumMeasured) if (e.space in PROMPT_SPACES) == (family == PROMPTS)]
    if all(event.space.startswith(WATCHED) for event in measured):  # one module per layer, so the layer identifies it
        space = next((event.space for event in measured if event.layer == layer), measured[0].space)
        moments(log, task, layer, space, prompts=False)
        return
    label = "Spectrum of" if family == PROMPTS else "Inputs of"
    space = choose_space(measured, label)
    moments(log, task, layer, space, prompts=family == PROMPTS)


show()
