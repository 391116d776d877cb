"""Figures of a frontier: networks that differ in one threshold. They take points of `cl_core.playground.frontier`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from dashboard.figures.description import blank, describe
from dashboard.figures.plot_helpers import label_ends
from dashboard.theme import INK, PALE, percent, points, task_name

Point = Mapping[str, Any]
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")


def ends(found: Sequence[Point], measure: str) -> np.ndarray:
    """[P] a measure after the last task, mean over seeds."""
    return np.array([point["after"][-1][measure] for point in found], float)


def threshold_profile(found: Sequence[Point], *, label: str = "ε, energy kept for old tasks") -> go.Figure:
    """Learning accuracy, forgetting and final accuracy over the positions of the slider, with their spread over
    seeds."""
    figure, places = blank(), np.arange(len(found), dtype=np.float32)
    lines = (
        ("final", "final", INK, "solid", 3.0),
        ("learning", "learned", INK, "dash", 1.6),
        ("forgetting", "forgotten", INK, "dot", 1.6),
    )
    labels = []
    for measure, name, colour, dash, width in lines:
        values = ends(found, measure)
        spreads = [point["spread"].get(measure) or 0.0 for point in found]
        figure.add_scatter(
            x=places,
            y=values.astype(np.float32),
            mode="lines+markers",
            name=name,
            showlegend=False,
            line={"color": colour, "width": width, "dash": dash},
            marker={"size": 6},
            error_y={"type": "data", "array": spreads, "color": PALE, "thickness": 1.2, "width": 3},
            customdata=[point["text"] for point in found],
            hovertemplate=f"%{{customdata}}: {name} %{{y:.1f}}<extra></extra>",
        )
        if len(values):
            labels.append((float(places[-1]), float(values[-1]), name))
    label_ends(figure, labels, span=(0, 100))
    top = int(np.argmax(ends(found, "final"))) if len(found) else 0
    told = ""
    if found:
        best = found[top]
        figure.layout.shapes = [
            go.layout.Shape(
                type="line", x0=top, x1=top, y0=0, y1=1, yref="y domain", line={"dash": "dot", "color": INK, "width": 1}
            )
        ]
        told = (
            f"Final accuracy is {percent(best['after'][-1]['final'])} at {best['text']}, the best; "
            f"{percent(found[0]['after'][-1]['final'])} at {found[0]['text']} and "
            f"{percent(found[-1]['after'][-1]['final'])} at {found[-1]['text']}."
        )
    seeds = len(found[0]["seeds"]) if found else 0
    every = max(1, len(found) // 9)
    ticks = sorted({*range(0, len(found), every), len(found) - 1}) if found else []
    figure.update_xaxes(title=label, tickvals=ticks, ticktext=[found[i]["text"] for i in ticks], tickangle=0)
    figure.update_yaxes(title="percent", range=[0, 102])
    return describe(
        figure,
        title="What the threshold trades",
        what=f"Learning accuracy, forgetting (points) and final average accuracy over the threshold, mean of "
        f"{seeds} seeds with sample standard deviations. {told}",
        look_for="The highest point of the solid line: to its left the network forgets, to its right it cannot learn.",
        how="Learned: mean over tasks of a(j, j). Forgotten: mean over tasks before the last of best earlier a(i, j) − "
        "a(n, j). Final: mean of the last row. Every mark is a trained network. Positions are evenly spaced, "
        "not to scale.",
        alt=f"Three curves over {len(found)} thresholds. {told}",
        height=360,
    )


def room_of_similar_tasks(found: Sequence[tuple[str, Point]], *, layers: Sequence[str], layer: int = 0) -> go.Figure:
    """Free directions of one layer after every task, one line per stream, named by the similarity of its tasks."""
    figure, labels = blank(), []
    for place, (name, point) in enumerate(found):
        shares = 100 * np.array([1.0, *(row[layer] for row in point["free"])])
        figure.add_scatter(
            x=np.arange(len(shares), dtype=np.float32),
            y=shares.astype(np.float32),
            mode="lines+markers",
            name=name,
            showlegend=False,
            line={"color": INK, "width": 2, "dash": DASHES[place % len(DASHES)]},
            hovertemplate=f"{name}, after T%{{x:.0f}}: %{{y:.1f}} % free<extra></extra>",
        )
        labels.append((float(len(shares) - 1), float(shares[-1]), name))
    label_ends(figure, labels, span=(0, 100))
    tasks = max((len(point["free"]) for _, point in found), default=1)
    figure.update_xaxes(
        title="after task", tickvals=list(range(tasks + 1)), ticktext=["start", *map(task_name, range(tasks))]
    )
    figure.update_yaxes(title="directions left free, %", range=[0, 102])
    told = "; ".join(
        f"{name}: {percent(100 * point['free'][-1][layer])} free at the end, "
        f"forgotten {points(point['after'][-1]['forgetting']).lstrip('+')}"
        for name, point in found
    )
    return describe(
        figure,
        title=f"Room left in {layers[layer]}",
        what=f"Share of the input directions of {layers[layer]} not used by old tasks. {told}.",
        look_for="Lines that stay high: similar tasks use the same directions, so free directions last longer.",
        how="A direction is used if it belongs to the basis of gradient projection memory; free = 1 − k / d, mean "
        "over seeds.",
        alt=f"Falling lines, one per stream. {told}.",
        height=330,
    )
