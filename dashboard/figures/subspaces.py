"""Subspaces of tasks: directions used by their inputs, partition of the space, and free directions.

The core of a task is spanned by the fewest directions that hold a share of its input embeddings' energy; the core of
pre-training is the reference. Hue encodes the task, grey and dotted is pre-training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cl_core.events import SubspaceMeasured
from dashboard.figures.description import blank, describe, nothing
from dashboard.figures.event_arrays import task_count
from dashboard.figures.layer_map import colour_bar, map_height
from dashboard.figures.plot_helpers import decade_ticks, label_ends, task_ticks, thinned
from dashboard.theme import (
    INK,
    PALE,
    SEQUENTIAL,
    layer_name,
    number,
    percent,
    scale,
    task_colour,
    task_label,
    task_name,
)

Tasks = Sequence[dict[str, Any]]
Measured = Sequence[SubspaceMeasured]

PARTS = {  # part → (words, colour, pattern)
    "free pre-trained": ("free, pre-trained", "rgba(47,114,187,0.45)", ""),
    "conflicting": ("conflicting: pre-trained and used", "#2f72bb", "/"),
    "occupied": ("occupied outside", "#c2651a", "/"),
    "free residual": ("free outside", "rgba(194,101,26,0.35)", ""),
}
_FLOOR = 1e-5  # lower limit for drawing relative singular values
SOURCE = "Rule: Fwd-Prompt (vision adaptation), after arXiv:2401.09181; the combination of spaces is our reading."


def learned(measured: Measured) -> list[SubspaceMeasured]:
    """Events of the tasks in order, the newest of each."""
    found = {e.clock.task: e for e in measured if e.clock.task >= 0}
    return [found[task] for task in sorted(found)]


def reference(measured: Measured) -> SubspaceMeasured | None:
    """The pre-trained space."""
    return next((e for e in reversed(measured) if e.clock.task < 0), None)


def over_tasks(figure: go.Figure, tasks: int, *, before: bool = False) -> None:
    """A horizontal axis of tasks, from before training if `before`."""
    low, ticks = (-1.5, task_ticks(tasks, before="before")) if before else (-0.5, task_ticks(tasks))
    figure.update_xaxes(title_text="after training on", showgrid=False, range=[low, tasks - 0.5], **ticks)


def embedding_spectra(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """Singular values of every task's input embeddings, and the end of the core; pre-training as reference."""
    title, found, known = "Input embeddings of the tasks", learned(measured), reference(measured)
    if not found:
        return nothing(title, how=SOURCE)
    figure, count, ends = blank(), task_count(measured, tasks), []
    for event in [*([known] if known else []), *found]:
        first = event is known
        colour = INK if first else task_colour(event.clock.task, count)
        label = "pre-training" if first else task_label(event.clock.task, tasks)
        sigma = np.sqrt(np.maximum(event.eigenvalues, 0))
        relative = np.maximum(sigma / max(float(sigma[0]), 1e-30), _FLOOR).astype(np.float32)
        x, y = thinned(np.arange(1, len(relative) + 1, dtype=np.float32), relative, 300)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            name=label,
            showlegend=False,
            line={"color": colour, "width": 2, "dash": "dot" if first else "solid"},
            hovertemplate=f"{label}, direction %{{x:.0f}}: σ/σ₁ = %{{y:.3g}}<extra></extra>",
        )
        figure.add_scatter(
            x=np.array([event.rank], dtype=np.float32),
            y=relative[event.rank - 1 : event.rank],
            mode="markers",
            name=f"{label}, end of the core",
            showlegend=False,
            marker={"size": 10, "color": colour, "symbol": "circle-open", "line": {"width": 2.4}},
            hovertemplate=f"{label}: K = {event.rank} directions hold {100 * event.energy:g} % of Σσ²<extra></extra>",
        )
        ends.append((float(x[-1]), float(y[-1]), task_name(event.clock.task) if not first else "pre-training"))
    span = (max(min(y for _, y, _ in ends), _FLOOR) / 1.5, 1.5)
    label_ends(figure, ends, span=span, log=True, pixels=300)
    width = len(found[0].eigenvalues)
    figure.update_xaxes(title_text="direction, most used first", range=[0.5, width + 0.5], showgrid=False)
    figure.update_yaxes(title_text="σ / largest σ", **decade_ticks(*span))
    figure.update_layout(margin={"r": 96})
    ranks = ", ".join(f"{task_name(e.clock.task)} {e.rank} (effective rank {number(e.effective_rank)})" for e in found)
    told = f"Directions of the core, of {width}: {ranks}" + (f"; pre-training {known.rank}." if known else ".")
    return describe(
        figure,
        title=title,
        what=f"Tokens entering {layer_name(found[0].layer)} without prompts, relative singular values, log axis; "
        f"circles: the core ends, {100 * found[0].energy:g} % of Σσ². {told}",
        look_for="Separate lines: tasks use the space differently. Overlapping lines: the input hardly depends "
        "on the task, as with patch tokens of similar images; then every task protects the same few directions.",
        how="Eigenvalues $\\sigma_i^2$ of $E^\\top E$, not centred, in float64; "
        "$K = \\min\\{k : \\sum_{i \\le k} \\sigma_i^2 \\ge \\epsilon \\sum_i \\sigma_i^2\\}$; effective rank "
        f"$\\exp(-\\sum p \\ln p)$ with $p = \\sigma/\\sum\\sigma$. Pre-training: {found[0].source}. {SOURCE}",
        alt=f"Spectra of {len(found)} tasks' input embeddings. {told}",
        height=400,
    )


def overlap_matrix(measured: Measured) -> np.ndarray:
    """O [n + 1, n + 1] of pre-training (place 0) and the tasks; lower triangle, the rest NaN."""
    found = learned(measured)
    side = 1 + max((e.clock.task + 1 for e in found), default=0)
    table = np.full((side, side), np.nan, dtype=np.float32)
    for event in found:
        table[event.clock.task + 1, : len(event.overlap)] = event.overlap
    return table


def overlap_map(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """Overlap of every two cores, pre-training included."""
    title, found = "Overlap of the tasks' cores", learned(measured)
    if not found:
        return nothing(title, how=SOURCE)
    table = overlap_matrix(measured)[1:, :-1]
    names = ["pre-training", *(task_name(t) for t in range(len(table)))]
    custom = np.full((*table.shape, 2), "", dtype=object)
    for event in found:
        for place, (chance, angles) in enumerate(zip(event.chance, event.angles, strict=True)):
            degrees = np.degrees(angles[np.isfinite(angles)])
            smallest = f"{degrees.min():.0f}° to {degrees.max():.0f}°" if len(degrees) else "none"
            custom[event.clock.task, place] = [f"{chance:.2f}", smallest]
    figure = blank()
    figure.add_heatmap(
        z=table,
        zmin=0,
        zmax=1,
        colorscale=scale(SEQUENTIAL),
        xgap=2,
        ygap=2,
        hoverongaps=False,
        x=names[:-1],
        y=names[1:],
        text=[["" if np.isnan(v) else f"{v:.2f}" for v in row] for row in table],
        texttemplate="%{text}" if len(table) <= 12 else "",
        customdata=custom,
        hovertemplate="%{y} and %{x}: O = %{z:.3f}, two random spaces %{customdata[0]}; principal angles "
        "%{customdata[1]}<extra></extra>",
        colorbar=colour_bar("overlap O"),
    )
    figure.update_xaxes(side="top", showgrid=False, ticks="", tickangle=0, type="category")
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="", type="category")
    figure.update_layout(margin={"l": 70, "r": 20, "t": 40, "b": 16})
    last, among = found[-1], table[:, 1:][np.isfinite(table[:, 1:])]
    told = f"With pre-training: {', '.join(f'{task_name(e.clock.task)} {float(e.overlap[0]):.2f}' for e in found)}"
    told += f" (random spaces {float(last.chance[0]):.2f})."
    if len(among):
        told += f" Tasks among themselves: mean {float(among.mean()):.2f}"
        told += f" (random spaces {float(last.chance[1:].mean()):.2f})."
    return describe(
        figure,
        title=title,
        what=f"Share of the smaller core that lies in the other, 0 to 1. {told}",
        look_for="Values near 1 everywhere: tasks use the same directions, so protecting one protects all. Values at "
        "chance level: cores have nothing in common. A pale first column: the task's input differs from pre-training.",
        how="$O = \\|C_s^\\top C_t\\|_F^2 / \\min(K_s, K_t) = $ mean of $\\cos^2\\theta_i$ over the principal angles "
        f"$\\theta_i$; chance $\\max(K_s, K_t)/d$. {SOURCE}",
        alt=f"Overlap of {len(found)} tasks' cores and pre-training. {told}",
        height=map_height(len(table)),
    )


def hatched(pattern: str) -> dict[str, str]:
    """Pale hatching over the bar's colour."""
    return {"shape": pattern, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.6)"}


def space_budget(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """How the directions are divided after each task."""
    title, found, known = "How the space is divided", learned(measured), reference(measured)
    if not found:
        return nothing(title, how=SOURCE)
    figure, count = blank(), task_count(measured, tasks)
    drawn = [*([known] if known else []), *found]
    for part, (words, colour, pattern) in PARTS.items():
        figure.add_bar(
            x=np.array([e.clock.task for e in drawn], dtype=np.float32),
            y=np.array([e.budget[part] for e in drawn], dtype=np.float32),
            name=words,
            marker={"color": colour, "pattern": hatched(pattern)},
            hovertemplate=f"{words}: %{{y:.0f}} directions<extra></extra>",
        )
    over_tasks(figure, count, before=known is not None)
    figure.update_yaxes(title_text="directions", rangemode="tozero")
    figure.update_layout(barmode="stack", bargap=0.3, legend={"orientation": "h", "y": -0.25, "traceorder": "normal"})
    last, width = found[-1], sum(found[-1].budget.values())
    left = last.budget["free pre-trained"] + last.budget["free residual"]
    told = f"After {task_label(last.clock.task, tasks)}, {left} of {width} directions are free."
    if not left:
        told += " The space is exhausted: projected steps are zero."
    unused = (
        ""
        if last.projection in ("both", "residual-only", "pretrained-only")
        else (
            f" Training in this run does not use these parts (projection {last.projection}); they are shown for "
            "comparison."
        )
    )
    return describe(
        figure,
        title=title,
        what=f"Directions of the width {width}, hatched: used by tasks. {told}{unused}",
        look_for="Hatched parts that grow until nothing is free: later tasks cannot move their prompts. Parts that "
        "stop growing: new tasks use the same directions.",
        how="Inside the pre-trained space a direction counts as used (conflicting) from a cosine τ_c with a task's "
        f"core on, outside it if a core extends there (occupied). {SOURCE}",
        alt=f"Stacked bars of four parts. {told}",
        height=380,
    )


def gradient_parts(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """Distribution of each task's gradients over the parts, and the share that passed the projection."""
    title = "Where the gradients lie"
    found = [e for e in learned(measured) if e.gradient]
    if not found:
        return nothing(title, how=SOURCE)
    figure, count = blank(), task_count(measured, tasks)
    x = np.array([e.clock.task for e in found], dtype=np.float32)
    for part, (words, colour, pattern) in PARTS.items():
        figure.add_bar(
            x=x,
            y=np.array([100 * e.gradient[part] for e in found], dtype=np.float32),
            name=words,
            marker={"color": colour, "pattern": hatched(pattern)},
            hovertemplate=f"{words}: %{{y:.1f}} % of ‖g‖²<extra></extra>",
        )
    figure.add_scatter(
        x=x,
        y=np.array([100 * (e.kept or 0.0) for e in found], dtype=np.float32),
        mode="markers",
        name="let through",
        marker={"symbol": "diamond-wide", "size": 13, "color": INK, "line": {"width": 2, "color": "#ffffff"}},
        hovertemplate="let through: %{y:.1f} % of ‖g‖²<extra></extra>",
    )
    over_tasks(figure, count)
    figure.update_xaxes(title_text="while training on")
    figure.update_yaxes(title_text="share of ‖g‖²", ticksuffix=" %", range=[0, 104])
    figure.update_layout(barmode="stack", bargap=0.3, legend={"orientation": "h", "y": -0.25, "traceorder": "normal"})
    told = "; ".join(f"{task_name(e.clock.task)} {percent(100 * (e.kept or 0.0))}" for e in found)
    return describe(
        figure,
        title=title,
        what="Energy of the prompts' gradients over a task's steps, divided among the parts as they were while it was "
        f"learned; diamonds: share that passes the projection: {told}.",
        look_for="Large hatched parts: the task needs directions that earlier tasks use, and most of its gradient "
        "is removed.",
        how="$\\sum \\|g\\,B\\|^2 / \\sum \\|g\\|^2$ for a basis B of each part, summed over steps; let through: "
        f"$\\sum\\|g P\\|^2/\\sum\\|g\\|^2$. Steps are projected; gradients are only measured. {SOURCE}",
        alt=f"Stacked bars of gradient shares. Let through: {told}.",
        height=380,
    )


def leak_into_cores(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """Share of each task's net change of the prompts that lies in the cores of earlier tasks."""
    title = "Change along earlier tasks' cores"
    found = [e for e in learned(measured) if len(e.leak)]
    if not found:
        return nothing(title, how=SOURCE, first="when the second task has been learned")
    figure, count = blank(), task_count(measured, tasks)
    for old in range(max(len(e.leak) for e in found)):
        events = [e for e in found if len(e.leak) > old]
        colour, label = task_colour(old, count), task_label(old, tasks)
        x = np.array([e.clock.task for e in events], dtype=np.float32)
        figure.add_scatter(
            x=x,
            y=np.array([e.leak[old] for e in events], dtype=np.float32),
            mode="lines+markers",
            name=label,
            line={"color": colour, "width": 2},
            marker={"size": 8, "color": colour},
            hovertemplate=f"along the core of {label}: %{{y:.3g}}<extra></extra>",
        )
    chance = [float(np.mean(e.leak_chance)) for e in found]
    figure.add_scatter(
        x=np.array([e.clock.task for e in found], dtype=np.float32),
        y=np.array(chance, dtype=np.float32),
        mode="lines+markers",  # the mark is needed for a single point
        name="a random change",
        line={"color": PALE, "width": 2, "dash": "dash"},
        marker={"symbol": "line-ew", "size": 22, "line": {"width": 2, "color": INK}},
        hovertemplate="a random change: %{y:.3g}<extra></extra>",
    )
    over_tasks(figure, count)
    figure.update_yaxes(title_text="‖Δ C‖ / ‖Δ‖", range=[0, 1.02])
    figure.update_layout(legend={"orientation": "h", "y": -0.25})
    mean = float(np.mean(np.concatenate([e.leak for e in found])))
    told = f"Mean {number(mean)}, of a random change {number(float(np.mean(chance)))}."
    return describe(
        figure,
        title=title,
        what=f"Share of the prompts' net change in a task that lies in the core of an earlier one. {told}",
        look_for="Points far below the dashed line: the projection keeps prompts out of directions of earlier "
        "inputs. Above it: prompts move along them more than by chance.",
        how="$\\|\\Delta C_s\\|_F/\\|\\Delta\\|_F$ with Δ the change of all prompts over the task; chance "
        f"$\\sqrt{{K_s/d}}$. Small leaks do not guarantee unchanged old outputs: attention is not an inner "
        f"product with x. {SOURCE}",
        alt=f"Leak into earlier cores. {told}",
    )
