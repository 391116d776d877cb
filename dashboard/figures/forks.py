"""A run and its forks on the same axes, with their common part drawn once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import plotly.graph_objects as go

from dashboard.figures.description import blank, describe
from dashboard.figures.labels import shortened
from dashboard.figures.plot_helpers import label_ends, task_ticks
from dashboard.theme import INK, percent, task_name

_DASHES = ("dash", "dot", "longdash", "longdashdot", "dashdot")


@dataclass(frozen=True)
class Branch:
    """One run of a family."""

    name: str
    means: np.ndarray  # [T] percent, mean accuracy over the tasks seen so far; NaN = not measured
    after_task: int = 0  # tasks trained in its parent; 0: no parent here
    changed: str = ""  # description of the difference from its parent


def average_over_forks(branches: Sequence[Branch], *, tasks: int) -> go.Figure:
    """Average accuracy after every task: the run solid, each fork dashed from where it starts.

    Args:
        branches: the run first, then its forks.
        tasks: training stages of the run.
    """
    figure = blank()
    ends, told, marks, shorter = [], [], set(), shortened([branch.name for branch in branches])
    for place, branch in enumerate(branches):
        start = max(branch.after_task - 1, 0)
        known = np.flatnonzero(np.isfinite(branch.means))
        known = known[known >= start]
        if branch.after_task:
            marks.add(start)
        if not len(known):
            continue
        last, whole = int(known[-1]), not branch.after_task
        figure.add_scatter(
            x=known.astype(np.int32),
            y=branch.means[known].astype(np.float32),
            mode="lines+markers",
            name=branch.name,
            showlegend=False,
            line={"color": INK, "width": 2.5, "dash": "solid" if whole else _DASHES[(place - 1) % len(_DASHES)]},
            marker={"color": INK, "size": 6, "symbol": "circle" if whole else "diamond-open"},
            hovertemplate=f"{escape(branch.name)}: %{{y:.1f}} %<extra>{escape(branch.changed)}</extra>",
        )
        ends.append((float(last), float(branch.means[last]), escape(shorter[branch.name])))
        told.append(f"{branch.name} {percent(float(branch.means[last]))} after {task_name(last)}")
    mark_forks(figure, marks, tasks=tasks)
    label_ends(figure, ends, span=(0, 103), gap=14)
    figure.update_xaxes(
        title_text="after training on", showgrid=False, range=[-0.15, max(tasks - 1, 1) + 0.15], **task_ticks(tasks)
    )
    figure.update_yaxes(title_text="average accuracy", range=[0, 103], dtick=20, ticksuffix=" %")
    figure.update_layout(margin={"r": 190})
    differ = "; ".join(f"{b.name}: {b.changed}" for b in branches if b.changed)
    return describe(
        figure,
        title="This run and its forks",
        what="Average accuracy over the tasks seen so far; solid: the run, dashed: each fork, from the task after "
        f"which it starts.{f' Changed: {differ}.' if differ else ''}",
        look_for="Lines that diverge show the effect of the changed setting; up to the mark they are one "
        "and the same training.",
        how="A_i = mean of a(i, j) over j ≤ i, of each run's default readout. A fork starts with its parent's "
        "saved state after that task; only the remaining tasks are trained, with its own settings. One seed each: "
        "a small distance may be chance.",
        alt="; ".join(told) + "." if told else "No accuracy measured yet.",
        height=320,
    )


def mark_forks(figure: go.Figure, places: Iterable[int], *, tasks: int) -> None:
    """A dotted vertical at each task after which a fork starts, counted from 0; overlapping names are placed higher."""
    level, before = 0, None
    for place in sorted(set(places)):
        level = level + 1 if before is not None and place - before < 0.3 * max(tasks - 1, 1) else 0
        before = place
        figure.add_vline(x=place, line={"dash": "dot", "width": 1, "color": INK}, layer="below")
        figure.add_annotation(
            x=place, y=1, yref="y domain", yshift=14 * level, text=f"fork after {task_name(place)}", showarrow=False,
            xanchor="left", yanchor="bottom", font={"size": 12},
        )  # fmt: skip
