"""Forward transfer: the effect of learning a task on future tasks, and its dependence on their overlap.

A nearest-class-mean probe on the features measures it; cores are those of `figures.subspaces`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from cl_core.events import ForwardTransferMeasured
from cl_core.metrics import forward_transfer_over_time, rank_correlation
from dashboard.figures.description import blank, describe, nothing
from dashboard.figures.event_arrays import task_count
from dashboard.figures.subspaces import SOURCE, Measured, Tasks, learned, over_tasks
from dashboard.theme import INK, number, points, task_colour, task_label, task_name

Probed = Sequence[ForwardTransferMeasured]


def probe_rows(probed: Probed) -> dict[int, np.ndarray]:
    """Task (−1 = before any) → [T] percent of the probe on every task."""
    return {e.clock.task: np.array(e.row, dtype=float) for e in probed}


def forward_transfer(probed: Probed, tasks: Tasks = ()) -> go.Figure:
    """Probe FWD after each task: the effect of learning on future tasks."""
    title, rows = "Probe forward transfer", probe_rows(probed)
    if -1 not in rows or len(rows) < 2:
        return nothing(title, how=SOURCE)
    untrained = rows.pop(-1)
    count = len(untrained)
    matrix = np.full((count, count), np.nan)
    for task, row in rows.items():
        matrix[task] = row
    values = forward_transfer_over_time(matrix, untrained)
    known = np.flatnonzero(np.isfinite(values))
    figure = blank()
    for task in map(int, known):
        for to_come in range(task + 1, count):
            change = float(matrix[task, to_come] - untrained[to_come])
            figure.add_scatter(
                x=np.array([task], dtype=np.float32),
                y=np.array([change], dtype=np.float32),
                mode="markers",
                showlegend=False,
                name=task_label(to_come, tasks),
                marker={"size": 7, "color": task_colour(to_come, count), "opacity": 0.75},
                hovertemplate=f"{task_label(to_come, tasks)}, not learned yet: %{{y:+.1f}} pp<extra></extra>",
            )
    figure.add_scatter(
        x=known.astype(np.float32),
        y=values[known].astype(np.float32),
        mode="lines+markers",
        showlegend=False,
        name="FWD",
        line={"color": INK, "width": 2.6},
        marker={"size": 9, "color": INK},
        hovertemplate="mean over future tasks: %{y:+.1f} pp<extra></extra>",
    )
    figure.add_hline(y=0, line={"width": 1, "color": INK})
    over_tasks(figure, count)
    figure.update_yaxes(title_text="change since before training, pp")
    told = ", ".join(f"{task_name(int(t))} {points(float(values[t]))}" for t in known) or "none measured"
    return describe(
        figure,
        title=title,
        what="Accuracy of a nearest-class-mean probe on tasks not learned yet, minus the same before training; dots: "
        f"single tasks, line: their mean FWD. {told}.",
        look_for="Below zero: negative transfer, learning made features worse for future tasks. Above: it helped. "
        "Higher is better; forgetting is the other way round.",
        how=f"Class means from {probed[-1].images_per_class} labelled images per class, with the current features; "
        "all classes of the stream compete. $FWD_t = \\mathrm{mean}_{i>t}(a_{t,i} - a_{0,i})$; the pre-trained model "
        "as reference and the range of i are our reading. With few test images per task one image is several points.",
        alt=f"Probe forward transfer: {told}.",
    )


def transfer_against_overlap(measured: Measured, probed: Probed, tasks: Tasks = ()) -> go.Figure:
    """Does a task help or hurt similar future tasks?"""
    title, rows = "Transfer against overlap", probe_rows(probed)
    cores = {e.clock.task: e for e in learned(measured)}
    pairs = [
        (t, i, float(cores[i].overlap[t + 1]), float(rows[t][i] - rows[t - 1][i]))
        for t in rows
        if t >= 0 and t - 1 in rows
        for i in range(t + 1, len(rows[t]))
        if i in cores and len(cores[i].overlap) > t + 1
    ]
    if not pairs:
        return nothing(title, how=SOURCE, first="when the second task has been learned")
    figure, count = blank(), task_count(measured, tasks)
    for task in sorted({t for t, *_ in pairs}):
        mine = [pair for pair in pairs if pair[0] == task]
        figure.add_scatter(
            x=np.array([p[2] for p in mine], dtype=np.float32),
            y=np.array([p[3] for p in mine], dtype=np.float32),
            mode="markers",
            name=f"while learning {task_label(task, tasks)}",
            marker={"size": 10, "color": task_colour(task, count)},
            customdata=[task_label(i, tasks) for _, i, *_ in mine],
            hovertemplate="%{customdata}, not learned yet: %{y:+.1f} pp at overlap %{x:.2f}<extra></extra>",
        )
    figure.add_hline(y=0, line={"width": 1, "color": INK})
    figure.update_xaxes(title_text="overlap O of the two cores")
    figure.update_yaxes(title_text="change of the probe, pp")
    figure.update_layout(legend={"orientation": "h", "y": -0.25})
    correlation = rank_correlation([p[2] for p in pairs], [p[3] for p in pairs])
    told = f"{len(pairs)} pairs of tasks, rank correlation {number(correlation)}."
    return describe(
        figure,
        title=title,
        what=f"Each dot: a task being learned and a future one; the change of the probe on the second. {told}",
        look_for="Dots that fall to the right: similar tasks are hurt more; rising: they are helped. With few pairs, "
        "no pattern is the usual result.",
        how="Horizontal: $O$ of the two cores, known once both have been learned; vertical: "
        "$a_{t,i} - a_{t-1,i}$ of the nearest-class-mean probe. Spearman's rank correlation; pairs of one run are not "
        "independent.",
        alt=f"Scatter of probe changes against overlap. {told}",
        height=380,
    )
