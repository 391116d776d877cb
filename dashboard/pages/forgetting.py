"""Forgetting: the matrix, one cell of it opened, the images lost there, and who reads the features out."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cl_core.events import AccuracyMeasured, PredictionsMade, ProbesChosen, RunStarted
from cl_core.summary import ZERO_SHOT, headline_readout, measures
from dashboard.figures.event_arrays import TASK_INCREMENTAL, accuracies, readouts, zero_shot
from dashboard.run_log import Snapshot
from dashboard.theme import percent, points, task_label, task_name
from dashboard.view_state import choose, empty, literal, not_measured, show_figure
from dashboard.widgets.inspection import open_run_page

SIDE = 96  # screen pixels of a lost image
SHOWN = 24  # lost images drawn at most
MEASURES = (
    "final_average_accuracy",
    "average_incremental_accuracy",
    "learning_accuracy",
    "forgetting",
    "backward_transfer",
)
MEASURES_FROM_THE_START = ("transfer", "average", "last")  # where tasks are also evaluated before they are learned


def cell_choice(matrix: np.ndarray, untrained: np.ndarray | None) -> tuple[int, int]:
    """(after training on, evaluated on): the opened cell, kept in the URL as `from` and `to`; −1 = before training."""
    rows, columns = matrix.shape
    newest = int(max(np.flatnonzero(np.isfinite(matrix).any(axis=1)), default=-1 if untrained is not None else 0))
    fallen = [matrix[j, j] - matrix[newest, j] if j <= newest < rows else -np.inf for j in range(columns)]
    worst = int(np.argmax(np.where(np.isfinite(fallen), fallen, -np.inf)))
    after, on = [task_name(i) for i in range(rows)], [task_name(j) for j in range(columns)]
    if untrained is not None:
        after.insert(0, ZERO_SHOT)
    with st.container(horizontal=True, gap="large"):
        chosen_after = choose("After training on", "from", after, _row_name(newest), spell_out=True)
        chosen_on = choose("Evaluated on", "to", on, task_name(worst), spell_out=True)
    return -1 if chosen_after == ZERO_SHOT else int(chosen_after[1:]) - 1, int(chosen_on[1:]) - 1


def _row_name(row: int) -> str:
    return ZERO_SHOT if row < 0 else task_name(row)


def _open_cell(point: dict[str, object]) -> None:
    st.session_state["from"], st.session_state["to"] = (
        _row_name(round(float(point["y"]))),
        task_name(round(float(point["x"]))),
    )  # type: ignore[arg-type]


def cell(
    log: Snapshot, plan: RunStarted, matrix: np.ndarray, untrained: np.ndarray | None, after: int, on: int
) -> None:
    """What one cell says, and the probe images that were lost there."""
    if after < 0:
        value = untrained[on] if untrained is not None else np.nan
    else:
        value = matrix[after, on] if after < len(matrix) else np.nan
    title = literal(task_label(on, plan.tasks))
    when = "before training" if after < 0 else f"after training on {literal(task_label(after, plan.tasks))}"
    st.markdown(f"### {title} {when}")
    classes = ", ".join(map(str, plan.tasks[on].get("classes", [])[:12]))
    if classes:
        st.caption(f"{title}: {literal(classes)}")
    if not np.isfinite(value):
        st.markdown(
            "Not measured: " + (f"{task_name(on)} is learned later." if on > after else "the run has not come so far.")
        )
        return
    learned = matrix[on, on] if on < len(matrix) else np.nan
    early = after < on
    with st.container(horizontal=True, gap="medium"):
        st.metric("Accuracy", percent(value), width="content")
        st.metric("When just learned", percent(learned), width="content")
        if early and after >= 0 and untrained is not None:
            st.metric(
                "Change since zero-shot",
                points(value - untrained[on]),
                width="content",
                help="a(i, j) minus the accuracy before any training, in percentage points: what learning other tasks "
                "did to one not learned yet",
            )
        elif not early:
            st.metric(
                "Change since",
                points(value - learned),
                width="content",
                help="a(i, j) − a(j, j), in percentage points",
            )
    if early:
        st.markdown(f"{title} had not been learned yet: this is what the model could do unasked.")
        return
    lost_images(log, plan, after, on)


def lost_images(log: Snapshot, plan: RunStarted, after: int, on: int) -> None:
    """Probe images of a task that were right when it had been learned and are wrong now."""
    probes = next((e for e in log.events(ProbesChosen) if e.clock.task == on), None)
    said = {e.clock.task: e for e in log.events(PredictionsMade) if e.evaluated == on}
    if probes is None or after not in said or on not in said:
        not_measured(
            "Which images were lost was not recorded.",
            "Predictions on probe images come with *attention* or *readout* "
            "switched on under *Measured besides accuracy*.",
        )
        return
    labels = np.asarray(probes.labels)
    then, now = (np.asarray(said[task].predicted) == labels for task in (on, after))
    names = [str(name) for task in plan.tasks for name in task.get("classes", [])]
    if after == on:
        st.markdown(f"{int(now.sum())} of {len(labels)} probe images right, just learned.")
        chosen, word = np.flatnonzero(~now), "Wrong from the start"
    else:
        chosen, word = np.flatnonzero(then & ~now), "Lost since"
        won = int((~then & now).sum())
        st.markdown(
            f"Of {len(labels)} probe images {int(then.sum())} were right when {task_name(on)} had just been learned; "
            f"{len(chosen)} of these {'is' if len(chosen) == 1 else 'are'} wrong now"
            + (f", {won} other{'s' if won > 1 else ''} became right." if won else ".")
        )
    if not len(chosen):
        return
    st.markdown(f"**{word}**")
    margins = {task: np.asarray(event.margin) for task, event in said.items()}
    with st.container(horizontal=True, gap="small"):
        for i in chosen[:SHOWN]:
            path = [f"{float(margins[t][i]):+.1f}".replace("-", "−") for t in sorted(margins) if on <= t <= after]
            with st.container(width=SIDE + 8, gap=None):
                picture = _enlarged(np.asarray(probes.images[i]))
                st.image(picture, width=SIDE, alt=f"Probe image {i + 1} of {task_name(on)}")
                st.caption(
                    f"{literal(probes.names[i])}, taken for {literal(_class(names, said[after].predicted[i]))}  \n"
                    + " → ".join(path if len(path) < 3 else [path[0], path[-1]])
                )
    st.caption(
        "Below each image its margin when just learned and now: score of the true class minus the best other. "
        "Below zero the image is lost; a margin that shrinks warns earlier than the accuracy."
    )


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Small images with square pixels, so that the browser does not blur them."""
    factor = max(1, 2 * SIDE // image.shape[0])
    return np.kron(image, np.ones((factor, factor, 1), dtype=np.uint8)) if factor > 1 else image


def _class(names: list[str], identity: int) -> str:
    return names[int(identity)] if 0 <= int(identity) < len(names) else f"class {int(identity) + 1}"


def numbers(log: Snapshot, live: bool) -> None:
    """The run's numbers for every readout in a table."""
    measured = log.events(AccuracyMeasured)
    found = {readout: measures(accuracies(measured, readout).tolist()) for readout in readouts(measured)}
    columns = [*MEASURES, *(MEASURES_FROM_THE_START if any(f["transfer"] is not None for f in found.values()) else ())]
    table: dict[str, list[str]] = {"readout": list(found)}
    for name in columns:
        say = {"forgetting": lambda v: points(v).lstrip("+"), "backward_transfer": points}.get(name, percent)
        table[name.replace("_", " ")] = [say(numbers[name]) for numbers in found.values()]
    st.markdown("**In numbers" + (", so far" if live else "") + "**")
    st.dataframe(table, hide_index=True, width="stretch", key="forgetting-numbers", alt="Numbers of each readout")
    st.caption(
        "Forgetting: mean over earlier tasks of the best earlier accuracy minus the accuracy now, without the newest "
        "row among the earlier ones. Backward transfer: mean of a(n, j) − a(j, j), signed."
        + (
            " Transfer: accuracy before learning, per task first; average: all cells; last: the newest row, all tasks."
            if len(columns) > len(MEASURES)
            else ""
        )
    )


def show() -> None:
    opened = open_run_page(
        "Forgetting",
        "Here one opens a cell of the accuracy matrix and sees which images were lost. It needs a run.",
        key="forgetting",
    )
    if opened is None:
        return
    frame, log = opened
    measured, plan = log.events(AccuracyMeasured), log.started()
    matrix, untrained = accuracies(measured, rows=plan.trained_tasks if plan else None), zero_shot(measured)
    if plan is not None and untrained is not None and not matrix.size:
        matrix = np.full((plan.trained_tasks, len(untrained)), np.nan)
    if plan is None or not (np.isfinite(matrix).any() or (untrained is not None and matrix.size)):
        if not log.trouble:
            empty(
                "The accuracy matrix appears here when the first task has been learned.",
                "Follow it on the Run page",
                page="pages/run.py",
            )
        return
    joint = plan.trained_tasks == 1 < len(plan.tasks)
    left, right = st.columns([5, 4], gap="medium")
    with right:
        if joint:
            st.markdown(
                "All tasks were learned at once: there is nothing earlier to forget. "
                "This run is the upper reference for the others."
            )
        else:
            after, on = cell_choice(matrix, untrained)
            cell(log, plan, matrix, untrained, after, on)
    with left:
        show_figure("accuracy-matrix", log, on_pick=None if joint else _open_cell)
    left, right = st.columns(2)
    if not joint:
        with left:
            show_figure("learned-and-kept", log)
        with right:
            show_figure("accuracy-over-time", log)
    if len(readouts(measured)) > 1:
        left, right = st.columns(2)
        with left:
            show_figure("readout-comparison", log)
        with right:
            show_figure("readout-bars", log)
    elif headline_readout(measured) != TASK_INCREMENTAL:  # with tasks named there is only one
        not_measured(
            "Other readouts were not recorded.",
            "Switch *readout* on under *Measured besides accuracy* when starting a run.",
        )
    if readouts(measured):
        numbers(log, frame.live)


show()
