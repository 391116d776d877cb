"""Zero-shot ability of a joint space of images and texts: retrieval, accuracy, and tasks not learned yet.

Times, axes and marks are those of `figures.gap`; accuracies and recalls are in percent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cl_core.events import AccuracyMeasured, ModalityGapMeasured, SimilaritiesMeasured
from cl_core.readouts import TASK_INCREMENTAL
from dashboard.figures.accuracy import header
from dashboard.figures.description import blank, describe, nothing
from dashboard.figures.event_arrays import accuracies, last_of_tasks, task_count, zero_shot
from dashboard.figures.gap import DIAMOND, FIRST, SOURCE, Tasks, line_end, moment, moment_axis, moment_line
from dashboard.figures.layer_map import colour_bar
from dashboard.figures.plot_helpers import label_ends
from dashboard.theme import (
    DIVERGING,
    INK,
    TEMPLATE,
    faded,
    number,
    percent,
    points,
    scale,
    signed,
    task_colour,
    task_label,
    task_name,
)


def retrieval(measured: Sequence[ModalityGapMeasured], tasks: Tasks = ()) -> go.Figure:
    """R@1 and R@5 over time, image-to-text and text-to-image."""
    events = list(last_of_tasks(measured).values())
    figure, ends = blank(showlegend=False), []
    for rank in ("5", "1"):
        for field, way, dash in (
            ("image_to_text", "image → text", "solid"),
            ("text_to_image", "text → image", "dash"),
        ):
            values = [getattr(e, field).get(rank, np.nan) for e in events]
            figure.add_trace(
                moment_line(
                    events,
                    values,
                    tasks,
                    name=f"{way} R@{rank}",
                    hover=f"{way} R@{rank}",
                    dash=dash,
                    width=2.8 if rank == "1" else 1.6,
                    pale=rank == "5",
                    coloured=rank == "1",
                    symbol="circle" if field == "image_to_text" else DIAMOND,
                )
            )
            ends += line_end(events, values, f"R@{rank} {way[way.index('→') :]}")
    label_ends(figure, ends, span=(0, 103))
    figure.update_xaxes(**moment_axis(task_count(events, tasks), most=12))
    figure.update_yaxes(title_text="recall", range=[0, 103], dtick=20, ticksuffix=" %")
    figure.update_layout(margin={"r": 96})
    if not events:
        return nothing("Retrieval", how=SOURCE, first=FIRST, figure=figure)
    first, now = events[0], events[-1]
    told = "; ".join(
        f"R@1 {way} {percent(getattr(first, field).get('1'))} → {percent(getattr(now, field).get('1'))}"
        for field, way in (("image_to_text", "image → text"), ("text_to_image", "text → image"))
    )
    return describe(
        figure,
        title="Retrieval",
        what=f"How often the correct one of {now.pairs} captions is the nearest (R@1, thick) or among the five nearest "
        f"(R@5, thin) to an image (solid), and vice versa (dashed). {told}.",
        look_for="Falling lines: training on the tasks damages the pre-trained joint space. One direction "
        "falling alone: only one tower lost its ordering.",
        how="$R@k = \\frac{100}{n}\\,\\#\\{i : x_i \\cdot t_i$ among the $k$ largest of $x_i \\cdot t_j\\}$ over the "
        f"{now.pairs} held-out pairs, none with the same caption; ties count against the pair. Chance: "
        f"{percent(100 / max(now.pairs, 1), 2)} for R@1.",
        alt=f"{told}.",
    )


def general_accuracy(measured: Sequence[ModalityGapMeasured], tasks: Tasks = ()) -> go.Figure:
    """Zero-shot accuracy on the classes of pre-training, over time."""
    events = list(last_of_tasks(measured).values())
    values = [e.general_accuracy for e in events]
    figure = blank(showlegend=False)
    figure.add_trace(moment_line(events, values, tasks, name="general", hover="general zero-shot accuracy"))
    if events:
        figure.add_hline(y=values[0], line={"dash": "dot", "width": 1, "color": INK})
        label_ends(figure, line_end(events, values, f"{values[-1]:.1f} %"), span=(0, 103))
    figure.update_xaxes(**moment_axis(task_count(events, tasks), most=12))
    figure.update_yaxes(title_text="zero-shot accuracy", range=[0, 103], dtick=20, ticksuffix=" %")
    figure.update_layout(margin={"r": 70})
    if not events:
        return nothing("General zero-shot accuracy", how=SOURCE, first=FIRST, figure=figure)
    told = f"{percent(values[0])} {moment(events[0].clock.task)}"
    if len(events) > 1:
        told += f", {percent(values[-1])} {moment(events[-1].clock.task, tasks)} ({points(values[-1] - values[0])})"
    return describe(
        figure,
        title="General zero-shot accuracy",
        what=f"Zero-shot classification of held-out images from the pre-training distribution; dotted: where "
        f"it began. {told}.",
        look_for="A line below the dotted one: loss of general zero-shot ability. No task trains on these images.",
        how="$\\operatorname{argmax}_c\\ x \\cdot t_c$, with $t_c$ the normalised mean of the class's embedded "
        "sentences (one per template); percent of the general set's test images. Accuracy axes always run from 0 to "
        "100 %.",
        alt=f"{told}.",
    )


def lost_before_learning(measured: Sequence[AccuracyMeasured]) -> np.ndarray:
    """[rows, T] pp: a(i, j) − zero-shot(j) for tasks j not learned yet after task i; NaN elsewhere."""
    matrix, untrained = accuracies(measured, TASK_INCREMENTAL), zero_shot(measured)
    if untrained is None or not matrix.size:
        return np.zeros((0, 0))
    rows, columns = np.indices(matrix.shape)
    return np.where(columns > rows, matrix - untrained[: matrix.shape[1]], np.nan)


def zero_shot_lost(measured: Sequence[AccuracyMeasured], tasks: Tasks = ()) -> go.Figure:
    """Effect of training on tasks before they were learned: a heat map of differences to the zero-shot row."""
    table = lost_before_learning(measured)
    table = table[np.isfinite(table).any(axis=1)] if table.size else table  # the last row has no later task
    columns = max(table.shape[1], len(tasks), 1)
    figure, n = blank(), len(table)
    known = table[np.isfinite(table)]
    most = max(5.0, float(np.abs(known).max())) if len(known) else 5.0
    figure.add_heatmap(
        z=table.astype(np.float32),
        zmin=-most,
        zmax=most,
        zmid=0,
        colorscale=scale(DIVERGING),
        xgap=2,
        ygap=2,
        hoverongaps=False,
        text=[[signed(v) for v in row] for row in table],
        texttemplate="%{text}" if columns <= 12 else "",
        textfont={"size": 13 if columns <= 8 else 11},
        customdata=[[f"{task_label(j, tasks)}<br>{moment(i, tasks)}" for j in range(table.shape[1])] for i in range(n)],
        hovertemplate="%{customdata}: %{z:+.1f} pp against zero-shot<extra></extra>",
        colorbar=colour_bar("change", " pp"),
    )
    figure.update_xaxes(
        title_text="evaluated on",
        side="top",
        showgrid=False,
        ticks="",
        tickvals=list(range(columns)),
        ticktext=[header(j, columns) for j in range(columns)],
        tickangle=0,
        range=[0.5, max(columns, 2) - 0.5],  # the first task is learned immediately
    )
    figure.update_yaxes(
        title_text="after training on",
        showgrid=False,
        ticks="",
        tickvals=list(range(n)),
        ticktext=[header(i, columns) for i in range(n)],
        range=[max(n, 1) - 0.5, -0.5],
    )
    figure.update_layout(margin={"l": 70, "r": 20, "t": 64, "b": 16})
    if len(known):
        i, j = np.unravel_index(np.nanargmin(table), table.shape)
        worst = f"{task_label(int(j), tasks)} {points(float(table[i, j]))} {moment(int(i), tasks)}"
        told = f"Mean {points(float(known.mean()))}; " + (
            f"worst: {worst}." if table[i, j] <= -0.05 else "nothing lost."
        )
    else:
        told = "Nothing measured yet: a task must be learned before another one."
    return describe(
        figure,
        title="Zero-shot lost before learning",
        what="Rows: after training on; columns: evaluated on; percentage points against the model before any training, "
        f"tasks not learned yet only. {told}",
        look_for="Orange cells: training on other tasks damages zero-shot ability; they get darker "
        "down a column if damage accumulates. Blue: an earlier task helped.",
        how="$a(i, j) - a_0(j)$ for $j > i$, with $a(i, j)$ the task-incremental accuracy on task $j$ after training "
        "on task $i$ and $a_0(j)$ the same before any training (zero-shot). Zero is always the neutral middle.",
        alt=f"Heat map of changes in zero-shot accuracy. {told}",
        height=int(min(560, max(260, 110 + 52 * max(n, 1)))),
    )


_PARTS = (
    ("positive", "own class", "cosine with the own class's text"),
    ("negative", "other classes of the task", "mean cosine with the other classes' texts"),
    ("gap", "gap ‖Δ‖ within the task", "distance of the centres"),
)


def domain_similarities(
    similar: Sequence[SimilaritiesMeasured], tasks: Tasks = (), *, task: int | None = None
) -> go.Figure:
    """Each task's images against its class texts over time, one line per task in its colour.

    Args:
        similar: the run's measurements.
        tasks: RunStarted.tasks, for colours and names.
        task: the highlighted task; None = none.
    """
    figure = make_subplots(rows=1, cols=3, horizontal_spacing=0.085, subplot_titles=[title for _, title, _ in _PARTS])
    figure.update_layout(template=TEMPLATE, uirevision="keep", showlegend=False)
    figure.update_annotations(font_size=13, yshift=10)
    count = max([task_count(similar, tasks), *(e.evaluated + 1 for e in similar)])
    by_task = {j: list(last_of_tasks(e for e in similar if e.evaluated == j).values()) for j in range(count)}
    for column, (field, _, said) in enumerate(_PARTS, start=1):
        values = [v for e in similar if np.isfinite(v := getattr(e, field))]
        low, high = (min(0.0, *values), max(0.0, *values)) if values else (0.0, 1.0)
        span = (low - 0.05 * (high - low) * (low < 0), high + 0.08 * (high - low or 1))
        ends = []
        for j, events in by_task.items():
            if not events:
                continue
            front, colour = task in (None, j), task_colour(j, count)
            y = np.array([getattr(e, field) for e in events], dtype=np.float32)
            learned = [e.clock.task == j for e in events]
            figure.add_scatter(
                x=[e.clock.task for e in events],
                y=y,
                mode="lines+markers",
                name=task_label(j, tasks),
                line={"color": colour if front else faded(colour, 0.4), "width": 2.6 if front else 1.5},
                marker={
                    "size": [11 if just else 5 for just in learned],
                    "color": colour if front else faded(colour, 0.5),
                },
                customdata=[moment(e.clock.task, tasks) for e in events],
                hovertemplate=f"{task_label(j, tasks)}, {said}, %{{customdata}}: %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
            ends.append((float(events[-1].clock.task), float(y[-1]), task_name(j)))
        axes = ("x", "y") if column == 1 else (f"x{column}", f"y{column}")
        label_ends(figure, ends, span=span, pixels=240, axes=axes)
        figure.update_yaxes(range=span, row=1, col=column)
    figure.update_xaxes(**moment_axis(count, most=8))
    figure.update_layout(margin={"r": 40, "t": 44})
    latest = [events[-1] for events in by_task.values() if events]
    told = (
        "Own minus other classes now: "
        + ", ".join(f"{task_name(e.evaluated)} {number(e.positive - e.negative)}" for e in latest[:8])
        + "."
        if latest
        else "Nothing has been measured so far."
    )
    return describe(
        figure,
        title="Images against class texts, task by task",
        what="One line per task: mean cosine of its test images with their own class's text (left), with the other "
        "classes' texts (middle), and the distance of the two centres (right); large dot: the task has just been "
        f"learned. {told}",
        look_for="After its large dot, a falling line on the left or a rising one in the middle: the margin of that "
        "task shrinks. Before its large dot: the effect of other tasks.",
        how="$\\frac1n \\sum_i x_i \\cdot t_{y_i}$, the mean of $x_i \\cdot t_c$ over $c \\ne y_i$, and "
        "$\\|\\bar x - \\bar t\\|_2$, over up to 60 test images of the task (classes in turn) and the class texts "
        "that evaluation uses.",
        alt=told,
        height=350,
    )
