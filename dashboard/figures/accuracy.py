"""Accuracies: the matrix, its columns over time, learning and final accuracy.

Everywhere a(i, j) is the accuracy in percent on task j after training on task i; axes are 0 to 100 in every figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cl_core.events import AccuracyMeasured
from cl_core.readouts import MEANING
from cl_core.summary import headline_readout
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import accuracies, mean_so_far, zero_shot
from dashboard.figures.plot_helpers import label_ends, task_ticks
from dashboard.theme import (
    INK,
    SEQUENTIAL,
    faded,
    percent,
    points,
    scale,
    task_colour,
    task_label,
    task_name,
    task_title,
)

CONVENTION = "Rows: after training on; columns: evaluated on."
NAMED = 8  # columns labelled with the task's name; with more columns only rows are labelled
PERCENT_AXIS = {"range": [0, 103], "dtick": 20, "ticksuffix": " %"}


def header(task: int, count: int, tasks: Sequence[dict[str, Any]] = (), *, between: str = " ") -> str:
    """A task's tick label: a square of its colour, its name, and its title in the stream."""
    title = task_title(task, tasks)
    square = f'<span style="color:{task_colour(task, max(count, len(tasks)))}">■</span> {task_name(task)}'
    return square + (f"{between}{escape(title)}" if title != task_name(task) else "")


def classes_of(tasks: Sequence[dict[str, Any]], task: int) -> str:
    """'three, seven': the classes of a task if known, at most six by name."""
    names = [str(name) for name in tasks[task].get("classes", [])] if task < len(tasks) else []
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def accuracy_matrix(
    measured: Sequence[AccuracyMeasured],
    *,
    readout: str | None = None,
    stages: int | None = None,
    tasks: Sequence[dict[str, Any]] = (),
) -> go.Figure:
    """The accuracy matrix as a heat map with its numbers; a cell that was not measured is empty.

    Cells evaluated before their task was learned are in lighter type, and the row before any training (zero-shot) is on
    top, at y = −1.

    Args:
        measured: the run's accuracy events.
        readout: the readout; None = the run's default.
        stages: training stages the run will have (RunStarted.trained_tasks): rows not reached yet stay empty. tasks:
        RunStarted.tasks, for titles, and class names on hover.
    """
    readout = readout or headline_readout(measured)
    matrix = accuracies(measured, readout, rows=stages)
    untrained = zero_shot(measured) if readout == headline_readout(measured) else None
    if untrained is not None and not matrix.size:
        matrix = np.full((stages or 1, len(untrained)), np.nan)
    rows, columns = matrix.shape
    joint = rows == 1 and columns > 1
    n, top = max(rows, columns), -1 if untrained is not None else 0
    cells = matrix if untrained is None else np.vstack([untrained, matrix])
    before = np.arange(columns) > np.arange(top, rows)[:, None]  # not learned yet
    if joint:
        before[-1] = False
    figure = blank()
    moments = ["before training"] * (top < 0) + [
        f"after training on {'all tasks' if joint else task_label(i, tasks)}" for i in range(rows)
    ]
    told = [
        [[task_label(j, tasks) + (f" ({c})" if (c := classes_of(tasks, j)) else ""), when] for j in range(columns)]
        for when in moments
    ]
    _cells(figure, np.where(before, np.nan, cells), top, told, n)
    if np.isfinite(cells[before]).any():
        _cells(figure, np.where(before, cells, np.nan), top, told, n, light=True)
    stride = max(1, n // 20)
    figure.update_xaxes(
        title_text="evaluated on",
        side="top",
        showgrid=False,
        ticks="",
        constrain="domain",
        tickvals=list(range(0, columns, stride)),
        ticktext=[
            header(j, columns, tasks if columns <= NAMED else (), between="<br>") for j in range(0, columns, stride)
        ],
        tickangle=0,
        range=[-0.5, max(columns, 1) - 0.5],
    )
    figure.update_yaxes(
        title_text="after training on",
        showgrid=False,
        ticks="",
        range=[max(rows, 1) - 0.5, top - 0.5],
        tickvals=[*([-1] if top < 0 else []), *range(0, rows, stride)],
        ticktext=[
            *(["zero-shot"] if top < 0 else []),
            *(["all tasks"] if joint else [header(i, rows, tasks) for i in range(0, rows, stride)]),
        ],
    )
    figure.update_layout(margin={"l": 70, "r": 20, "t": 64, "b": 16})
    done = int(np.isfinite(matrix).any(axis=1).sum())
    light = " Light type: before that task was learned" if len(figure.data) > 1 else ""
    return describe(
        figure,
        title="Accuracy matrix",
        what=f"Accuracy in percent, {readout} ({MEANING.get(readout, 'another readout')}). {CONVENTION} "
        f"{done} of {rows} rows measured{'' if done >= rows else ' so far'}; an empty cell was not measured."
        + (light + ("; top row: before any training." if top < 0 else ".") if light else ""),
        look_for="Read down a column: a task that fades below its diagonal cell is being forgotten"
        + ("; one that fades above it is being lost before it is learned." if light else "."),
        how="a(i, j) = share of task j's evaluation images that are classified correctly after training on task i, "
        f"in percent. Readout *{readout}*: {MEANING.get(readout, 'as the method defines it')}. The "
        "evaluation images are never trained on. Colours always run from 0 to 100 %."
        + (" *zero-shot*: the same before any training." if top < 0 else ""),
        alt=_matrix_alt(matrix, readout),
        height=200 + 58 * (top < 0) if joint else int(min(620, max(300, 96 + 58 * min(rows - top, 9)))),
    )


def _cells(
    figure: go.Figure, cells: np.ndarray, top: int, told: list[list[list[str]]], n: int, *, light: bool = False
) -> None:
    """Cells of the matrix with their numbers; `light`: those before a task was learned, in lighter type."""
    size = 14 if n <= 6 else 12 if n <= 10 else 10
    figure.add_heatmap(
        z=cells.astype(np.float32),
        y0=top,
        dy=1,
        zmin=0,
        zmax=100,
        name="before learning" if light else "accuracy",
        colorscale=scale(SEQUENTIAL),
        hoverongaps=False,
        xgap=2,
        ygap=2,
        texttemplate="" if n > 20 else "%{z:.1f}" if n <= 10 else "%{z:.0f}",
        textfont={"size": size - 1, "weight": 300} if light else {"size": size},
        customdata=told,
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}: %{z:.1f} %"
        + (", not learned yet<extra></extra>" if light else "<extra></extra>"),
        showscale=not light,
        colorbar={
            "title": {"text": "accuracy", "side": "right", "font": {"size": 12}},
            "ticksuffix": " %",
            "thickness": 12,
            "outlinewidth": 0,
            "tickvals": [0, 20, 40, 60, 80, 100],
        },
    )


def _matrix_alt(matrix: np.ndarray, readout: str) -> str:
    measured = [i for i, row in enumerate(matrix) if np.isfinite(row).any()]
    if not measured:
        return "Accuracy matrix, nothing measured yet."
    last = measured[-1]
    cells = ", ".join(f"{task_name(j)} {percent(v)}" for j, v in enumerate(matrix[last]) if np.isfinite(v))
    return f"Accuracy matrix ({readout}). After training on {task_name(last)}: {cells}."


def accuracy_over_time(
    measured: Sequence[AccuracyMeasured],
    *,
    readout: str | None = None,
    stages: int | None = None,
    tasks: Sequence[dict[str, Any]] = (),
) -> go.Figure:
    """The matrix column by column: each task's accuracy after every later task, and the mean over tasks seen.

    The part of a line before its task was learned is thin and dotted.
    """
    readout = readout or headline_readout(measured)
    matrix = accuracies(measured, readout, rows=stages)
    rows, columns = matrix.shape
    untrained = zero_shot(measured) if readout == headline_readout(measured) and rows > 1 else None
    figure, ends, early = blank(), [], False
    for j in range(columns):
        known = np.flatnonzero(np.isfinite(matrix[:, j]))
        colour, title = task_colour(j, columns), task_title(j, tasks)
        if rows > 1:
            early |= _before_learning(
                figure, matrix[:, j], j, None if untrained is None else untrained[j], colour, title
            )
            known = known[known >= j]
        if not len(known):
            continue
        figure.add_scatter(
            x=known,
            y=matrix[known, j].astype(np.float32),
            mode="lines+markers",
            name=title,
            line={"color": colour, "width": 2},
            marker={"size": 7, "color": colour},
            showlegend=False,
            hovertemplate=f"{escape(title)} after T%{{customdata}}: %{{y:.1f}} %<extra></extra>",
            customdata=known + 1,
        )
        ends.append((float(known[-1]), float(matrix[known[-1], j]), escape(title)))
    means = mean_so_far(matrix)
    known = np.flatnonzero(np.isfinite(means))
    if len(known):
        figure.add_scatter(
            x=known,
            y=means[known].astype(np.float32),
            mode="lines",
            name="mean of tasks seen",
            showlegend=False,
            line={"color": INK, "width": 3, "dash": "dash"},
            hovertemplate="mean of tasks seen: %{y:.1f} %<extra></extra>",
        )
        ends.append((float(known[-1]), float(means[known[-1]]), f"<b>mean {means[known[-1]]:.1f}</b>"))
    label_ends(figure, ends if columns <= 12 else ends[:1] + ends[-2:], span=(0, 103), gap=14)
    before = "" if untrained is None else "zero-shot"
    ticks = task_ticks(rows, most=NAMED if before and rows > NAMED else 20, before=before)
    start = -0.15 if untrained is None else -1.15
    figure.update_xaxes(title_text="after training on", showgrid=False, range=[start, max(rows - 1, 1) + 0.15], **ticks)
    figure.update_yaxes(title_text="accuracy", **PERCENT_AXIS)
    figure.update_layout(
        margin={"r": max(78, 20 + 7 * max((len(task_title(j, tasks)) for j in range(columns)), default=0))}
    )
    shown = ", ".join(f"{text} {percent(y)}" for _, y, text in ends[:10])
    return describe(
        figure,
        title="Accuracy of each task over time",
        what=f"Each line is one task, from the moment it was learned ({readout}); dashed grey: mean over the tasks "
        "seen by then." + (" Dotted and thin: before the task was learned." if early else ""),
        look_for="A line that falls after its first point shows forgetting; one that starts low was never learned "
        "well." + (" A falling dotted part: zero-shot ability is being lost." if early else ""),
        how="The columns of the accuracy matrix, a(i, j) for i ≥ j. The dashed line is A_i = mean of a(i, j) over j "
        "≤ i; its last point is the final average accuracy, the mean of its points the average incremental accuracy.",
        alt=f"Lines over {rows} training stages, last values: {shown}.",
    )


def _before_learning(
    figure: go.Figure, column: np.ndarray, task: int, untrained: float | None, colour: str, title: str
) -> bool:
    """Draw the part of a task's line before it is learned; returns whether there is any."""
    x = [*range(task), *([task] if np.isfinite(column[task : task + 1]).any() else [])]
    y = [float(column[i]) for i in x]
    if untrained is not None:
        x, y = [-1, *x], [float(untrained), *y]
    if not np.isfinite([v for i, v in zip(x, y, strict=True) if i < task]).any():
        return False
    figure.add_scatter(
        x=x,
        y=np.array(y, dtype=np.float32),
        mode="lines+markers",
        name=f"{title}, before learning",
        line={"color": colour, "width": 1.2, "dash": "dot"},
        marker={"size": 4, "color": colour},
        showlegend=False,
        hovertemplate=f"{escape(title)}, not learned yet: %{{y:.1f}} %<extra></extra>",
    )
    return True


def learned_and_kept(
    measured: Sequence[AccuracyMeasured], *, readout: str | None = None, stages: int | None = None
) -> go.Figure:
    """For each task: accuracy when it had just been learned (pale) and now (solid), with the difference."""
    readout = readout or headline_readout(measured)
    matrix = accuracies(measured, readout, rows=stages)
    rows, columns = matrix.shape
    reached = np.flatnonzero(np.isfinite(matrix).any(axis=1))
    figure = blank(barmode="overlay", bargap=0.35)
    changes: list[tuple[int, float]] = []
    if len(reached) and rows > 1:
        last = int(reached[-1])
        tasks = [j for j in range(min(columns, last + 1)) if np.isfinite(matrix[j, j]) and np.isfinite(matrix[last, j])]
        learned, kept = (
            np.array([matrix[i, j] for i, j in pairs], dtype=np.float32)
            for pairs in ([(j, j) for j in tasks], [(last, j) for j in tasks])
        )
        colours = [task_colour(j, columns) for j in tasks]
        figure.add_bar(
            x=tasks,
            y=learned,
            name="when just learned",
            width=0.62,
            showlegend=False,
            marker={"color": [faded(c, 0.25) for c in colours], "line": {"color": colours, "width": 1}},
            hovertemplate="%{y:.1f} % when just learned<extra></extra>",
        )
        figure.add_bar(
            x=tasks,
            y=kept,
            name="now",
            width=0.38,
            marker={"color": colours},
            showlegend=False,
            hovertemplate="%{y:.1f} % now<extra></extra>",
        )
        changes = [(j, float(b - a)) for j, a, b in zip(tasks, learned, kept, strict=True)]
        figure.layout.annotations = [
            go.layout.Annotation(
                x=j,
                y=float(max(a, b)),
                text=points(float(b - a)) if columns <= 6 else f"{b - a:+.0f}".replace("-", "−"),
                showarrow=False,
                yanchor="bottom",
                font={"size": 12},
            )
            for j, a, b in zip(tasks, learned, kept, strict=True)
            if j != last and columns <= 20
        ]
    figure.update_xaxes(
        showgrid=False,
        ticks="",
        range=[-0.6, max(columns, 1) - 0.4],
        tickvals=list(range(columns)),
        ticktext=[task_name(j) for j in range(columns)],
    )
    figure.update_yaxes(title_text="accuracy", range=[0, 110], tickvals=[0, 20, 40, 60, 80, 100], ticksuffix=" %")
    return describe(
        figure,
        title="Learned, and kept",
        what=f"Wide pale bar: accuracy on a task when it had just been learned; narrow solid bar: now ({readout}).",
        look_for="The gap between the two is what has been lost, in percentage points; low pale bars mean too little "
        "room to learn (plasticity).",
        how="Wide: a(j, j), the learning accuracy of task j. Narrow: a(n, j) with n the last row measured. Number: "
        "a(n, j) − a(j, j), the backward transfer of one task, in percentage points. Forgetting in tables takes the "
        "best earlier accuracy instead of a(j, j).",
        alt="Change since learned: "
        + (", ".join(f"{task_name(j)} {points(d)}" for j, d in changes) or "nothing measured yet")
        + ".",
    )
