"""Accuracy by readout: the method's head and additional classifiers on the same features.

Accuracies are in percent as in `figures.accuracy`; readouts differ by dash, marker and pattern.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from cl_core.events import AccuracyMeasured
from cl_core.readouts import MEANING
from dashboard.figures.accuracy import PERCENT_AXIS, header
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import accuracies, mean_so_far, readouts
from dashboard.figures.plot_helpers import label_ends, task_ticks
from dashboard.theme import INK, faded, percent, task_colour, task_name

_DASHES = ("solid", "dash", "dashdot", "dot", "longdash")
_MARKERS = ("circle", "square", "diamond", "triangle-up", "x")


def readout_comparison(measured: Sequence[AccuracyMeasured], *, stages: int | None = None) -> go.Figure:
    """Mean accuracy over the tasks seen, one line per readout: separates losses of features and of the head."""
    found = readouts(measured)
    figure, ends, rows = blank(), [], 1
    for k, readout in enumerate(found):
        means = mean_so_far(accuracies(measured, readout, rows=stages))
        rows = max(rows, len(means))
        known = np.flatnonzero(np.isfinite(means))
        if not len(known):
            continue
        own = k == 0
        figure.add_scatter(
            x=known,
            y=means[known].astype(np.float32),
            mode="lines+markers",
            name=readout,
            showlegend=False,
            line={"color": INK, "width": 3 if own else 1.8, "dash": _DASHES[k % len(_DASHES)]},
            marker={"symbol": _MARKERS[k % len(_MARKERS)], "size": 8, "color": INK},
            hovertemplate=f"{readout}: %{{y:.1f}} %<extra></extra>",
        )
        ends.append((float(known[-1]), float(means[known[-1]]), f"{readout} {means[known[-1]]:.1f}"))
    label_ends(figure, ends, span=(0, 103))
    figure.update_xaxes(
        title_text="after training on", showgrid=False, range=[-0.15, max(rows - 1, 1) + 0.15], **task_ticks(rows)
    )
    figure.update_yaxes(title_text="mean of tasks seen", **PERCENT_AXIS)
    figure.update_layout(margin={"r": 190})
    return describe(
        figure,
        title="Readouts of the same features",
        what="Mean accuracy over the tasks seen so far, by readout; all use the same features.",
        look_for="Distance between class- and task-incremental: competing heads. Distance between stored and "
        "recomputed statistics: features that moved away from the stored ones.",
        how="A_i = mean of a(i, j) over j ≤ i, for each readout. "
        + " ".join(f"*{r.capitalize()}*: {MEANING[r]}." for r in found if r in MEANING)
        + " Recomputed statistics use old tasks' training images, which the method may not: it is a "
        "diagnosis, not a result.",
        alt="; ".join(f"{text} %" for _, _, text in ends) + "." if ends else "No accuracy measured yet.",
    )


def readout_bars(measured: Sequence[AccuracyMeasured], *, stages: int | None = None) -> go.Figure:
    """Accuracy on every task now, side by side for each readout."""
    found = readouts(measured)
    patterns = ("", "/", ".", "x", "+")
    figure = blank(barmode="group", bargap=0.25, bargroupgap=0.08)
    alt, columns, last = [], 0, -1
    for k, readout in enumerate(found):
        matrix = accuracies(measured, readout, rows=stages)
        reached = np.flatnonzero(np.isfinite(matrix).any(axis=1))
        columns = max(columns, matrix.shape[1])
        if not len(reached):
            continue
        last = max(last, int(reached[-1]))
        row = matrix[reached[-1]].astype(np.float32)
        colours = [task_colour(j, len(row)) for j in range(len(row))]
        figure.add_bar(
            x=list(range(len(row))),
            y=row,
            name=readout,
            showlegend=True,
            marker={
                "color": colours if k == 0 else [faded(c, 0.18) for c in colours],
                "line": {"color": colours, "width": 1},
                "pattern": {"shape": patterns[k % len(patterns)], "fgcolor": colours, "size": 6, "fillmode": "overlay"},
            },
            hovertemplate=f"{readout}: %{{y:.1f}} %<extra></extra>",
        )
        alt.append(f"{readout} {percent(float(np.nanmean(row)))}")
    figure.update_xaxes(
        showgrid=False, ticks="", tickvals=list(range(columns)), ticktext=[header(j, columns) for j in range(columns)]
    )
    figure.update_yaxes(title_text="accuracy", **PERCENT_AXIS)
    figure.update_layout(margin={"b": 70}, legend={"y": -0.14})
    after = (
        (" after training on all tasks" if stages == 1 < columns else f" after training on {task_name(last)}")
        if last >= 0
        else ""
    )
    return describe(
        figure,
        title="Each task, by readout",
        what=f"Accuracy on each task{after}; from left to right: {', '.join(found) or 'nothing measured yet'}.",
        look_for="A task whose first bar is low and whose last is high is still in the features, but no longer "
        "reachable by the head.",
        how="The last measured row a(n, j) of each readout's accuracy matrix, in percent. "
        + " ".join(f"*{r.capitalize()}*: {MEANING[r]}." for r in found if r in MEANING),
        alt=f"Mean over tasks{after}: {', '.join(alt) or 'nothing measured yet'}.",
    )
