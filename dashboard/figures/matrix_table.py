"""The accuracy matrix as an HTML table, so that the first figure needs no chart library."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from dashboard.theme import SEQUENTIAL, ground_of, task_colour, task_name, task_title

NUMBERED = 20  # columns beyond which cells are too narrow for numbers

STYLE = f"""
.accuracy-matrix table {{ width: 100%; margin: 0; table-layout: fixed; border-collapse: separate;
  border-spacing: 3px; }}
.accuracy-matrix th, .accuracy-matrix td {{ padding: 0 2px; border: 0; text-align: center; vertical-align: middle; }}
.accuracy-matrix th {{ font-weight: 650; overflow-wrap: anywhere; line-height: 1.2; }}
.accuracy-matrix th small {{ display: block; font-weight: 400; opacity: .85; }}
.accuracy-matrix th i {{ font-style: normal; }}
.accuracy-matrix .axis {{ font-weight: 400; font-size: .87em; opacity: .8; }}
.accuracy-matrix tbody th, .accuracy-matrix .down {{ width: 5.6em; text-align: right; padding-right: 8px; }}
.accuracy-matrix td[data-measured] {{ border-radius: 4px; font-variant-numeric: tabular-nums; }}
.accuracy-matrix td.before {{ font-weight: 300; font-size: .93em; }}
.accuracy-matrix .gap td {{ height: 5px; line-height: 0; }}
.accuracy-matrix .key {{ display: flex; gap: 8px; align-items: center; justify-content: flex-end; margin-top: 6px;
  font-size: .87em; opacity: .9; }}
.accuracy-matrix .key span {{ width: 140px; height: 9px; border-radius: 3px;
  background: linear-gradient(to right, {", ".join(SEQUENTIAL)}); }}
"""


def matrix_table(
    matrix: np.ndarray,
    *,
    tasks: Sequence[dict[str, Any]] = (),
    untrained: np.ndarray | None = None,
    through: int | None = None,
    height: int = 340,
) -> str:
    """HTML of the cells a(i, j) with their numbers; unmeasured cells are empty, cells before learning light.

    Args:
        matrix: [rows, T] percent, NaN = not measured (`event_arrays.accuracies`).
        tasks: RunStarted.tasks, for titles and, on hover, classes.
        untrained: [T] accuracies before any training: an additional row on top.
        through: last row to fill, from 0 (playing); None = all.
        height: total height of the cells in pixels.
    """
    rows, columns = matrix.shape
    joint = rows == 1 and columns > 1
    last = rows - 1 if through is None else through
    tall = min(64, max(14, height // max(rows + (untrained is not None), 1)))
    lines = []
    if untrained is not None:
        cells = [_cell(v, j, "before training", tasks, columns, light=True) for j, v in enumerate(untrained)]
        lines.append(f'<tr style="height:{tall}px"><th scope="row">zero-shot</th>{"".join(cells)}</tr>')
        lines.append('<tr class="gap"><td></td></tr>')
    for i, row in enumerate(matrix):
        after = "all tasks" if joint else task_name(i)
        cells = [
            _cell(
                v if i <= last else np.nan, j, f"after training on {after}", tasks, columns, light=not joint and j > i
            )
            for j, v in enumerate(row)
        ]
        head = "all tasks" if joint else _head(i, rows, tasks)
        lines.append(f'<tr style="height:{tall}px"><th scope="row">{head}</th>{"".join(cells)}</tr>')
    heads = "".join(f'<th scope="col">{_head(j, columns, tasks)}</th>' for j in range(columns))
    return (
        f'<div class="accuracy-matrix"><style>{STYLE}</style><table aria-label="{escape(spoken(matrix, last))}">'
        f'<thead><tr><td class="down"></td><td class="axis" colspan="{max(columns, 1)}">evaluated on</td></tr>'
        f'<tr><th class="axis down">after training on</th>{heads}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
        '<div class="key">accuracy 0 % <span></span> 100 %</div></div>'
    )


def spoken(matrix: np.ndarray, row: int) -> str:
    """The matrix in a sentence: its newest row up to `row`."""
    cells = [f"{task_name(j)} {v:.1f} %" for j, v in enumerate(matrix[row]) if np.isfinite(v)] if row >= 0 else []
    return f"Accuracy matrix up to {task_name(max(row, 0))}: " + (", ".join(cells) or "nothing measured yet")


def _head(task: int, of: int, tasks: Sequence[dict[str, Any]]) -> str:
    if of > NUMBERED and task % (-(-of // NUMBERED)):
        return ""
    title = task_title(task, tasks)
    name = f'<i style="color:{task_colour(task, max(of, len(tasks)))}">■</i> {task_name(task)}'
    return name + (f"<small>{escape(title)}</small>" if title != task_name(task) else "")


def _cell(value: float, task: int, when: str, tasks: Sequence[dict[str, Any]], columns: int, *, light: bool) -> str:
    if not np.isfinite(value):
        return "<td></td>"
    classes = ", ".join(map(str, tasks[task].get("classes", [])[:12])) if task < len(tasks) else ""
    told = f"{task_title(task, tasks)}{f' ({classes})' if classes else ''} {when}: {value:.1f} %"
    ground, ink = ground_of(float(value) / 100)
    size = 17 if columns <= 6 else 14 if columns <= 10 else 11
    number = "" if columns > NUMBERED else f"{value:.1f}" if columns <= 10 else f"{value:.0f}"
    return (
        f'<td data-measured="{value:.1f}" title="{escape(told)}"{" class=before" if light else ""} '
        f'style="background:{ground};color:{ink};font-size:{size - light}px">{number}</td>'
    )
