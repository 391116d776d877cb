"""The accuracy matrix as an Altair chart: the first page draws it before plotly is loaded."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np

from dashboard.theme import FONT, INK, SEQUENTIAL, task_colour, task_name


def matrix_chart(
    matrix: np.ndarray, *, through: int | None = None, names: Sequence[str] = (), height: int = 340
) -> alt.LayerChart:
    """Cells of a(i, j) with their numbers; rows beyond `through` are left out (playing); unmeasured cells stay empty.

    Args:
        matrix: [rows, T] percent, NaN = not measured (`readings.accuracies`).
        through: last row to draw, from 0; None = all.
        names: per task, its classes, for the pointer.
        height: pixels.
    """
    rows, columns = matrix.shape
    joint = rows == 1 and columns > 1
    last = rows - 1 if through is None else through
    cells = [
        {
            "after": "all tasks" if joint else task_name(i),
            "on": task_name(j),
            "accuracy": round(float(matrix[i, j]), 2),
            "classes": names[j] if j < len(names) else "",
        }
        for i in range(min(rows, last + 1))
        for j in range(columns)
        if np.isfinite(matrix[i, j])
    ]
    across, down = (
        [task_name(j) for j in range(columns)],
        ["all tasks"] if joint else [task_name(i) for i in range(rows)],
    )
    base = alt.Chart(alt.Data(values=cells)).encode(
        x=alt.X(
            "on:N",
            sort=across,
            scale=alt.Scale(domain=across),
            title="evaluated on",
            axis=alt.Axis(
                orient="top",
                labelAngle=0,
                ticks=False,
                domain=False,
                labelFontWeight="bold",
                labelOverlap=True,
                labelColor=_by_task(columns),
            ),
        ),
        y=alt.Y(
            "after:N",
            sort=down,
            scale=alt.Scale(domain=down),
            title="after training on",
            axis=alt.Axis(
                ticks=False,
                domain=False,
                labelFontWeight="bold",
                labelOverlap=True,
                **({} if joint else {"labelColor": _by_task(rows)}),
            ),
        ),
    )
    tooltip = [
        alt.Tooltip("on:N", title="evaluated on"),
        alt.Tooltip("after:N", title="after training on"),
        alt.Tooltip("accuracy:Q", format=".1f", title="accuracy, %"),
    ]
    if names:
        tooltip.insert(1, alt.Tooltip("classes:N"))
    squares = base.mark_rect(cornerRadius=3, stroke=None, opacity=1).encode(
        color=alt.Color(
            "accuracy:Q",
            title="accuracy, %",
            scale=alt.Scale(domain=[0, 100], range=list(SEQUENTIAL)),
            legend=alt.Legend(gradientLength=max(80, height - 120)),
        ),
        tooltip=tooltip,
    )
    parts = [squares]
    if columns <= 20:
        parts.append(
            base.mark_text(fontSize=15 if columns <= 6 else 12 if columns <= 10 else 9, font=FONT).encode(
                text=alt.Text("accuracy:Q", format=".1f" if columns <= 10 else ".0f"),
                color=alt.condition("datum.accuracy > 48", alt.value("#ffffff"), alt.value("#08264f")),
            )
        )
    return (
        alt.layer(*parts).properties(height=height).configure_scale(bandPaddingInner=0.04).configure_view(stroke=None)
    )


def _by_task(tasks: int) -> dict[str, object]:
    """A colour expression for axis labels: each task's own."""
    colours = [task_colour(t, tasks) for t in range(tasks)]
    return {"expr": f"{colours!r}[toNumber(slice(datum.label, 1)) - 1] || '{INK}'"}
