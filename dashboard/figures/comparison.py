"""Several runs on the same axes: accuracy and forgetting over tasks, and the difference of two matrices.

Runs differ by dash, marker and a label at the line's end, never by colour, which encodes the task. The common part of
forks is drawn once: one line carries it, the others start on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cl_core.metrics import forgetting_over_time
from dashboard.figures.accuracy import header
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import mean_so_far
from dashboard.figures.forks import mark_forks
from dashboard.figures.labels import shortened
from dashboard.figures.layer_map import colour_bar
from dashboard.figures.plot_helpers import label_ends, task_ticks
from dashboard.lineage import Parting
from dashboard.theme import DIVERGING, INK, percent, points, scale, signed, task_label, task_name

DASHES = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star")


def accuracy_overlay(matrices: Mapping[str, np.ndarray], forks: Mapping[str, Parting] | None = None) -> go.Figure:
    """Average accuracy over the tasks seen so far, one line per run.

    Args:
        matrices: run label → [rows, T] percent, NaN = not measured (`event_arrays.accuracies`). forks: label of a run
        that shares its beginning with another → where its line starts (`lineage.partings`).
    """
    values = {label: mean_so_far(matrix) for label, matrix in matrices.items()}
    figure, ends = _lines(values, "%", forks or {}, low=0.0, high=103.0)
    figure.update_yaxes(title_text="average accuracy so far", range=[0, 103], dtick=20, ticksuffix=" %")
    return describe(
        figure,
        title="Average accuracy over tasks",
        what=f"One line per run: mean accuracy over the tasks seen so far.{_parted(forks or {})}",
        look_for="A line that falls less retains more; lines that start apart learned the first task differently.",
        how="A_i = mean of a(i, j) over j ≤ i. The last point is the final average accuracy, the mean of all points "
        "the average incremental accuracy. A run that learns all tasks at once has one point.",
        alt=_alt(ends, percent, forks or {}),
    )


def forgetting_overlay(matrices: Mapping[str, np.ndarray], forks: Mapping[str, Parting] | None = None) -> go.Figure:
    """Forgetting after each task, one line per run, up to the last measured row. `forks` as above."""
    values = {label: forgetting_over_time(matrix) for label, matrix in matrices.items()}
    known = np.concatenate([v[np.isfinite(v)] for v in values.values()] or [np.zeros(0)])
    low, high = min(0.0, float(known.min(initial=0.0))), max(5.0, float(known.max(initial=0.0)) * 1.08)
    figure, ends = _lines(values, "pp", forks or {}, low=low, high=high)
    figure.update_yaxes(title_text="forgetting, pp", range=[low, high])
    return describe(
        figure,
        title="Forgetting over tasks",
        what="One line per run: mean fall of earlier tasks from their best accuracy, after each task."
        + _parted(forks or {}),
        look_for="A line that keeps rising: every new task harms the old ones. Below zero: old tasks improved.",
        how="F_i = mean over j < i of (max of a(k, j) over j ≤ k < i, minus a(i, j)), in percentage points. Undefined "
        "after the first task and for runs that learn all tasks at once.",
        alt=_alt(ends, lambda v: points(v).lstrip("+"), forks or {}),
    )


def _lines(
    values: Mapping[str, np.ndarray], unit: str, forks: Mapping[str, Parting], *, low: float, high: float
) -> tuple[go.Figure, list[tuple[float, float, str]]]:
    figure, ends, shorter = blank(showlegend=False), [], shortened(list(values))
    rows = max((len(v) for v in values.values()), default=1)
    for place, (label, series) in enumerate(values.items()):
        start = forks[label].after_task - 1 if label in forks else 0  # a fork starts on its parent's line
        known = np.flatnonzero(np.isfinite(series))
        known = known[known >= start]
        if not len(known):
            continue
        begins = label in forks and int(known[0]) == start  # on a mark of the other line
        figure.add_scatter(
            x=known,
            y=series[known].astype(np.float32),
            mode="lines+markers",
            name=label,
            line={"color": INK, "width": 2, "dash": DASHES[place % len(DASHES)]},
            marker={
                "symbol": MARKERS[place % len(MARKERS)],
                "size": [0 if begins else 8, *[8] * (len(known) - 1)],
                "color": INK,
            },
            hovertemplate=f"{escape(label)} after T%{{customdata}}: %{{y:.1f}} {unit}<extra></extra>",
            customdata=known + 1,
        )
        ends.append((float(known[-1]), float(series[known[-1]]), escape(shorter[label])))
    _ring(figure, values, forks)
    mark_forks(figure, (fork.after_task - 1 for fork in forks.values()), tasks=rows)
    label_ends(figure, ends, span=(low, high))
    figure.update_xaxes(
        title_text="after training on", showgrid=False, range=[-0.15, max(rows - 1, 1) + 0.15], **task_ticks(rows)
    )
    figure.update_layout(margin={"r": max(60, 20 + 7 * max((len(text) for *_, text in ends), default=0))})
    return figure, ends


def _ring(figure: go.Figure, values: Mapping[str, np.ndarray], forks: Mapping[str, Parting]) -> None:
    """A ring around every mark on which a fork's line starts, if it has a value."""
    leaving: dict[tuple[int, float], list[str]] = {}
    for label, fork in forks.items():
        place = fork.after_task - 1
        if label in values and place < len(values[label]) and np.isfinite(values[label][place]):
            leaving.setdefault((place, float(values[label][place])), []).append(
                f"{escape(label)} leaves {escape(fork.carrier)} after {task_name(place)}"
            )
    if leaving:
        figure.add_scatter(
            x=np.array([x for x, _ in leaving], dtype=np.int32),
            y=np.array([y for _, y in leaving], dtype=np.float32),
            mode="markers",
            name="forks",
            marker={"symbol": "circle-open", "size": 16, "color": INK, "line": {"width": 2}},
            cliponaxis=False,  # whole if there is no forgetting yet
            customdata=["<br>".join(said) for said in leaving.values()],
            hovertemplate="%{customdata}<extra></extra>",
        )


def _parted(forks: Mapping[str, Parting]) -> str:
    """ " What forks share is drawn once: b leaves a after T2." """
    told = []
    for label, fork in forks.items():
        why = (
            ""
            if fork.parent == fork.carrier
            else f", which carries the common part from {escape(fork.parent)} for both"
        )
        told.append(f"{escape(label)} leaves {escape(fork.carrier)} after {task_name(fork.after_task - 1)}{why}")
    return f" The common part of forks is drawn once: {'; '.join(told)}." if told else ""


def _alt(ends: Sequence[tuple[float, float, str]], said: Any, forks: Mapping[str, Parting]) -> str:
    if not ends:
        return "Nothing measured."
    return "Last values: " + ", ".join(f"{text} {said(y)}" for _, y, text in ends) + "." + _parted(forks)


def matrix_difference(
    first: np.ndarray, second: np.ndarray, *, names: tuple[str, str], tasks: Sequence[dict[str, Any]] = ()
) -> go.Figure:
    """The first matrix minus the second, cell by cell, in percentage points; the neutral colour is fixed at zero.

    Args:
        first, second: [rows, T] percent, NaN = not measured; rows or columns that one lacks stay empty.
        names: the names of the two runs.
        tasks: RunStarted.tasks, for titles; none if the two runs' tasks have different classes.
    """
    rows, columns = (max(a, b) for a, b in zip(first.shape, second.shape, strict=True))
    difference = _padded(first, rows, columns) - _padded(second, rows, columns)
    known = difference[np.isfinite(difference)]
    limit = float(max(5.0, np.abs(known).max(initial=0.0)))
    figure = blank()
    told = [[[task_label(j, tasks), task_label(i, tasks)] for j in range(columns)] for i in range(rows)]
    figure.add_heatmap(
        z=difference.astype(np.float32),
        zmin=-limit,
        zmax=limit,
        zmid=0,
        colorscale=scale(DIVERGING),
        hoverongaps=False,
        xgap=2,
        ygap=2,
        text=[[signed(v, 1 if columns <= 10 else 0) for v in row] for row in difference],
        texttemplate="%{text}" if columns <= 20 else "",
        customdata=told,
        hovertemplate="%{customdata[0]} after training on %{customdata[1]}: %{z:+.1f} pp<extra></extra>",
        colorbar=colour_bar("difference", " pp"),
    )
    stride = max(1, max(rows, columns) // 20)
    figure.update_xaxes(
        title_text="evaluated on",
        side="top",
        showgrid=False,
        ticks="",
        tickvals=list(range(0, columns, stride)),
        ticktext=[header(j, columns, tasks, between="<br>") for j in range(0, columns, stride)],
        range=[-0.5, max(columns, 1) - 0.5],
    )
    figure.update_yaxes(
        title_text="after training on",
        showgrid=False,
        ticks="",
        range=[max(rows, 1) - 0.5, -0.5],
        tickvals=list(range(0, rows, stride)),
        ticktext=[header(i, rows, tasks) for i in range(0, rows, stride)],
    )
    figure.update_layout(margin={"l": 70, "r": 20, "t": 64, "b": 16})
    more, less = int((known > 0).sum()), int((known < 0).sum())
    last = difference[-1][np.isfinite(difference[-1])] if rows else np.zeros(0)
    return describe(
        figure,
        title="Difference of the two matrices",
        what=f"{escape(names[0])} minus {escape(names[1])}, percentage points. Rows: after training on; columns: "
        "evaluated on. Neutral is zero; an empty cell was not measured in both.",
        look_for="Blue: the first run is better on that task at that time; orange: the second. A diagonal of "
        "one colour is a difference in learning, a last row of one colour a difference in retention.",
        how="a(i, j) of the first run − a(i, j) of the second. The scale reaches the largest absolute difference, at "
        "least 5 pp, and is the same on both sides of zero. With different seeds the classes of a task may differ.",
        alt=f"{names[0]} is higher in {more} cells and lower in {less}"
        + (f"; last row {', '.join(points(float(v)) for v in last[:10])}" if last.size else "")
        + ".",
        height=int(min(620, max(300, 96 + 58 * min(rows, 9)))),
    )


def _padded(matrix: np.ndarray, rows: int, columns: int) -> np.ndarray:
    whole = np.full((rows, columns), np.nan)
    whole[: matrix.shape[0], : matrix.shape[1]] = matrix
    return whole
