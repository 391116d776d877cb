"""Gap: images and texts in the joint space over tasks, and the zero-shot accuracy that is lost before learning."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cl_core.events import AccuracyMeasured, ModalityGapMeasured, SimilaritiesMeasured
from cl_core.registry import METHODS
from dashboard.run_log import Snapshot
from dashboard.theme import number, percent, points, task_label, task_name
from dashboard.verdicts import JOINT, joint_space_kept
from dashboard.view_state import (
    USUAL,
    ViewState,
    code,
    empty,
    learned_at_once,
    literal,
    not_measured,
    show_figure,
)
from dashboard.widgets.inspection import answer, more, offer_runs, open_run_page, shown_instead
from dashboard.widgets.shared_controls import hide


def reads_texts(method: str) -> bool:
    """Return whether `method` uses a model with a text tower; True for names that are not registered here."""
    return method not in METHODS or METHODS[method].needs != "vit"


def nothing_yet(frame: ViewState, log: Snapshot) -> None:
    """Explain in one sentence why nothing was measured."""
    config = log.config
    if config is not None and not reads_texts(config.method):
        having = ", ".join(code(name) for name, entry in METHODS.items() if entry.needs == "clip")
        not_measured(
            "This method has no text tower, so there is no gap to measure.", f"Methods that have one: {having}."
        )
        offer_runs(ModalityGapMeasured, key="gap")
    elif config is not None and not config.diagnostics.gap:
        not_measured(
            "The joint space was not measured in this run.",
            "Start one with `--set diagnostics.gap=true` to see it here.",
        )
    elif log.tasks_ended():
        not_measured(
            "Images and texts in one space were not measured in this run.",
            "Methods that change a CLIP model have them.",
        )
        offer_runs(ModalityGapMeasured, key="gap")
    elif frame.live:
        empty(
            "The two clouds, their gap and retrieval appear here before the first step and are updated after every "
            "task.",
            "Follow the run",
            page="pages/run.py",
            key="gap-empty",
        )
    else:
        not_measured(
            "This run ended before anything was measured.",
            "Runs with `diagnostics.gap` on measure before training and after every task.",
        )


def headline(log: Snapshot, shown: ModalityGapMeasured) -> None:
    """Show five numbers: the chosen task compared with before training."""
    from dashboard.figures.gap import moment

    first = log.events(ModalityGapMeasured)[0]
    plan = log.started()
    when = moment(shown.clock.task, plan.tasks if plan else ())
    st.caption(f"{literal(when[:1].upper() + when[1:])}, compared with before training.")

    def recall(event: ModalityGapMeasured) -> float:
        return (event.image_to_text.get("1", np.nan) + event.text_to_image.get("1", np.nan)) / 2

    with st.container(horizontal=True, gap="large", key="gap-numbers"):
        st.metric(
            "Gap",
            f"{number(shown.length)}, was {number(first.length)}",
            width="content",
            help="Length of the vector from the centre of the texts to the centre of the images, ‖mean x − mean t‖ "
            "over unit embeddings of held-out pairs: 0 = same centre, 2 = opposite",
        )
        st.metric(
            "Direction kept",
            number(shown.direction),
            width="content",
            help="Cosine between the gap vector at this moment and before training: 1 = same direction",
        )
        st.metric(
            "R@1 lost",
            points(recall(first) - recall(shown)).lstrip("+"),
            width="content",
            help=f"Retrieval among {shown.pairs} held-out pairs, mean of image → text and text → image: "
            f"{percent(recall(first))} before, {percent(recall(shown))} at this moment; below zero = gained",
        )
        st.metric(
            "General accuracy lost",
            points(first.general_accuracy - shown.general_accuracy).lstrip("+"),
            width="content",
            help="Zero-shot accuracy on the classes of pre-training: "
            f"{percent(first.general_accuracy)} before, {percent(shown.general_accuracy)} at this moment",
        )
        st.metric(
            "Linear separability of images and texts",
            percent(shown.linear_probe),
            width="content",
            help="Accuracy of a logistic regression that separates held-out images from texts (5-fold "
            f"cross-validation): 100 % = two separate cones, 50 % = one cloud; {percent(first.linear_probe)} before "
            "training",
        )


def joint_space(log: Snapshot, task: int | None, tasks: list[dict]) -> None:
    """Draw the general evaluation set: point clouds, cosines, retrieval, zero-shot accuracy."""
    from dashboard.figures import gap

    shown = gap.at(log.events(ModalityGapMeasured), task)
    if shown is None:
        st.info(
            "This run's stream has no images and captions from the pre-training distribution; a stream with them is "
            "`micro-mtil`. Its own tasks are measured below.",
            icon=":material/visibility_off:",
        )
        return
    if task is not None and shown.clock.task != task:
        shown_instead(task, literal(gap.moment(shown.clock.task, tasks)))
    answer(joint_space_kept(log.events(ModalityGapMeasured), task))
    show_figure("gap-over-tasks", log)
    headline(log, shown)
    with more("Retrieval and general accuracy over tasks", key="gap-general") as opened:
        if opened:
            left, right = st.columns(2)
            with left:
                show_figure("retrieval", log)
            with right:
                show_figure("general-accuracy", log)
    with more("The two clouds and their cosines", key="gap-clouds") as opened:
        if opened:
            left, right = st.columns(2)
            with left:
                show_figure("two-clouds", log, task=shown.clock.task)
            with right:
                show_figure("cosine-distributions", log, task=shown.clock.task, height=480)


def own_tasks(log: Snapshot, task: int | None, tasks: list[dict]) -> None:
    """Draw the run's tasks: accuracy lost before they are learned, and images compared with class texts."""
    from dashboard.figures import zero_shot_ability
    from dashboard.figures.event_arrays import zero_shot

    accuracies, similar = log.events(AccuracyMeasured), log.events(SimilaritiesMeasured)
    st.markdown("### The tasks of this run")
    if zero_shot(accuracies) is None:
        not_measured(
            "Accuracy before learning is measured only if the task is known at test time, which is not the case in "
            "this run's stream.",
            "`micro-mtil` is such a stream.",
        )
    elif np.isfinite(zero_shot_ability.lost_before_learning(accuracies)).any():
        show_figure("zero-shot-lost", log)
    else:
        waiting = task_label(1, tasks) if len(tasks) > 1 else task_name(1)
        with st.container(border=True, key="panel-gap-lost-empty"):
            st.markdown("**Zero-shot lost before learning**")
            st.markdown(
                f"Appears when {literal(task_label(0, tasks))} has been learned and {literal(waiting)} has not."
                if (plan := log.started()) is None or plan.trained_tasks > 1
                else "This run has a single stage of training: no task is learned before another."
            )
    if similar:
        show_figure("domain-similarities", log, task=task)


def show() -> None:
    opened = open_run_page(
        JOINT, "The two clouds of images and texts appear here as soon as there is a run.", key="gap"
    )
    if opened is None:
        return
    frame, log = opened
    if not log.events(ModalityGapMeasured) and not log.events(SimilaritiesMeasured):
        if not log.trouble:
            hide(USUAL)
            nothing_yet(frame, log)
        return
    plan = log.started()
    tasks = list(plan.tasks) if plan else []
    learned_at_once(log)
    joint_space(log, frame.task, tasks)
    own_tasks(log, frame.task, tasks)


show()
