"""Forgetting: the matrix, one cell of it opened, the images lost there, and who reads the features out."""

from __future__ import annotations

import numpy as np
import streamlit as st

from cl_core.events import AccuracyMeasured, PredictionsMade, ProbesChosen, RunStarted
from cl_core.metrics import (
    average_incremental_accuracy,
    backward_transfer,
    final_average_accuracy,
    forgetting,
    learning_accuracy,
)
from dashboard.figures.accuracy import (
    accuracy_matrix,
    accuracy_over_time,
    learned_and_kept,
    readout_bars,
    readout_comparison,
)
from dashboard.figures.readings import CLASS_INCREMENTAL, accuracies, readouts
from dashboard.frame import Frame, choose, current, empty, literal, not_measured, panel, sentence
from dashboard.tail import Log
from dashboard.theme import percent, points, task_name

SIDE = 96  # screen pixels of a lost image
SHOWN = 24  # lost images drawn at most


def cell_choice(matrix: np.ndarray) -> tuple[int, int]:
    """(after training on, evaluated on): the opened cell, kept in the URL as `from` and `to`."""
    rows, columns = matrix.shape
    reached = np.flatnonzero(np.isfinite(matrix).any(axis=1))
    newest = int(reached[-1])
    fallen = [matrix[j, j] - matrix[newest, j] if j < min(rows, newest + 1) else -np.inf for j in range(columns)]
    worst = int(np.argmax(np.where(np.isfinite(fallen), fallen, -np.inf)))
    after, on = [task_name(i) for i in range(rows)], [task_name(j) for j in range(columns)]
    with st.container(horizontal=True, gap="large"):
        chosen_after = choose("After training on", "from", after, task_name(newest), spell_out=True)
        chosen_on = choose("Evaluated on", "to", on, task_name(worst), spell_out=True)
    return int(chosen_after[1:]) - 1, int(chosen_on[1:]) - 1


def _open_cell(point: dict[str, object]) -> None:
    st.session_state["from"], st.session_state["to"] = (
        task_name(round(float(point["y"]))),
        task_name(round(float(point["x"]))),
    )  # type: ignore[arg-type]


def cell(log: Log, plan: RunStarted, matrix: np.ndarray, after: int, on: int) -> None:
    """What one cell says, and the probe images that were lost there."""
    value = matrix[after, on] if after < len(matrix) else np.nan
    st.markdown(f"#### {task_name(on)} after training on {task_name(after)}")
    classes = ", ".join(map(str, plan.tasks[on].get("classes", [])[:12]))
    if classes:
        st.caption(f"{task_name(on)}: {literal(classes)}")
    if not np.isfinite(value):
        st.markdown(
            "Not measured: " + (f"{task_name(on)} is learned later." if on > after else "the run has not come so far.")
        )
        return
    learned = matrix[on, on] if on < len(matrix) else np.nan
    with st.container(horizontal=True, gap="medium"):
        st.metric("Accuracy", percent(value), width="content")
        st.metric("When just learned", percent(learned), width="content")
        st.metric(
            "Change since",
            points(value - learned) if np.isfinite(learned) else "–",
            width="content",
            help="a(i, j) − a(j, j), in percentage points",
        )
    lost_images(log, plan, after, on)


def lost_images(log: Log, plan: RunStarted, after: int, on: int) -> None:
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
                st.image(_enlarged(np.asarray(probes.images[i])), width=SIDE)
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


def numbers(log: Log, live: bool) -> None:
    """The run's numbers for every readout in a table."""
    measured = log.events(AccuracyMeasured)
    table: dict[str, list[str]] = {
        "readout": [],
        "final average accuracy": [],
        "average incremental accuracy": [],
        "learning accuracy": [],
        "forgetting": [],
        "backward transfer": [],
    }
    for readout in readouts(measured):
        matrix = accuracies(measured, readout)
        table["readout"].append(readout)
        for name, measure in (
            ("final average accuracy", final_average_accuracy),
            ("average incremental accuracy", average_incremental_accuracy),
            ("learning accuracy", learning_accuracy),
        ):
            table[name].append(percent(measure(matrix)))
        table["forgetting"].append(points(forgetting(matrix)).lstrip("+"))
        table["backward transfer"].append(points(backward_transfer(matrix)))
    st.markdown("**In numbers" + (", so far" if live else "") + "**")
    st.dataframe(table, hide_index=True, width="stretch", key="forgetting-numbers", alt="Numbers of each readout")
    st.caption(
        "Forgetting: mean over earlier tasks of the best earlier accuracy minus the accuracy now, without the newest "
        "row "
        "among the "
        "earlier ones. Backward transfer: mean of a(n, j) − a(j, j), signed."
    )


def show() -> None:
    frame: Frame = current()
    log = frame.log
    st.markdown("## Forgetting")
    if log is None:
        empty(
            "Here one opens a cell of the accuracy matrix and sees which images were lost. It needs a run.",
            "To the Start page",
            page="pages/start.py",
        )
        return
    if log.trouble:
        st.error(sentence(log.trouble), icon=":material/broken_image:")
    measured, plan = log.events(AccuracyMeasured), log.started()
    matrix = accuracies(measured, rows=plan.trained_tasks if plan else None)
    if plan is None or not np.isfinite(matrix).any():
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
            after, on = cell_choice(matrix)
            cell(log, plan, matrix, after, on)
    with left:
        panel(
            accuracy_matrix,
            measured,
            stages=plan.trained_tasks,
            tasks=plan.tasks,
            key="forgetting-matrix",
            on_pick=None if joint else _open_cell,
        )
    left, right = st.columns(2)
    if not joint:
        with left:
            panel(learned_and_kept, measured, stages=plan.trained_tasks, key="forgetting-kept")
        with right:
            panel(accuracy_over_time, measured, stages=plan.trained_tasks, key="forgetting-time")
    if readouts(measured) != [CLASS_INCREMENTAL]:
        left, right = st.columns(2)
        with left:
            panel(readout_comparison, measured, stages=plan.trained_tasks, key="forgetting-readouts")
        with right:
            panel(readout_bars, measured, stages=plan.trained_tasks, key="forgetting-bars")
    else:
        not_measured(
            "Other readouts were not recorded.",
            "Switch *readout* on under *Measured besides accuracy* when starting a run.",
        )
    numbers(log, frame.live)


show()
