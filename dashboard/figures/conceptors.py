"""Conceptors (soft cuts) and trade-off cuts over the directions of a layer's inputs.

A conceptor has an eigenvalue s in 0..1 for every direction: a step along it is multiplied by 1 − s.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from cl_core.events import ConceptorMeasured, InputsSurveyed, TradeOffMeasured
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import layer_task_table, sizes
from dashboard.figures.layer_map import layer_map, map_height
from dashboard.figures.plot_helpers import label_ends, task_ticks, thinned
from dashboard.theme import INK, PALE, layer_name, number, percent, task_colour, task_name


def directions_in_use(measured: Sequence[ConceptorMeasured], *, layer: int, tasks: int | None = None) -> go.Figure:
    """Eigenvalues of one layer's conceptor, one line per task; the area under a line is the used capacity."""
    found = [e for e in measured if e.layer == layer]
    tasks = max([tasks or 1, *(e.clock.task + 1 for e in found)])
    figure, ends, width = blank(), [], 1
    for event in found:
        width = len(event.eigenvalues)
        x, y = thinned(np.arange(1, width + 1, dtype=np.float32), event.eigenvalues, 400)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": task_colour(event.clock.task, tasks), "width": 3 if event is found[-1] else 1.6},
            showlegend=False,
            name=task_name(event.clock.task),
            hovertemplate=f"{task_name(event.clock.task)}, direction %{{x:.0f}} of {width}: %{{y:.3f}} "
            "taken<extra></extra>",
        )
        ends.append((float(width), float(event.eigenvalues[-1]), task_name(event.clock.task)))
    label_ends(figure, ends, span=(0, 1.04), pixels=280)
    figure.update_xaxes(title_text="direction", range=[0.5, width + 0.5], showgrid=False)
    figure.update_yaxes(title_text="taken by past tasks", range=[0, 1.04])
    figure.update_layout(margin={"r": 56})
    told = "Nothing has been measured so far."
    if found:
        last = found[-1]
        told = (
            f"After {task_name(last.clock.task)} {int((last.eigenvalues > 0.5).sum())} of {width} directions are more "
            f"than half used, {int((last.eigenvalues == 0).sum())} not at all."
        )
    floor = f"Below {found[-1].threshold:g} they are set to 0." if found else ""
    return describe(
        figure,
        title=f"Directions in use, {layer_name(layer)}",
        what=f"Eigenvalues of the conceptor of all tasks so far, one line per task. {told}",
        look_for="A line that moves right and up with every task: free directions run out. A steep line is nearly a "
        "hard cut, a sloping one damps many directions a little.",
        how="$s_i$ of $C$, combined over tasks by OR; one task has $s_i = \\lambda_i / (\\lambda_i + a^{-2})$, with "
        "$\\lambda$ the eigenvalues of the second moment of the inputs of the key and value matrices and $a$ the "
        f"aperture. A step along direction $i$ is multiplied by $1 - s_i$. {floor} Source: CODE-CL, ICCV 2025.",
        alt=f"Eigenvalues of the conceptor of {layer_name(layer)}. {told}",
        height=360,
    )


def capacity_over_tasks(
    measured: Sequence[ConceptorMeasured], *, layer: int | None = None, tasks: int | None = None
) -> go.Figure:
    """Mean eigenvalue of every layer's conceptor over the tasks, the chosen layer highlighted."""
    layers, last = sizes(measured)
    tasks, figure, ends = max(tasks or 1, last), blank(), []
    for place in sorted(range(layers), key=lambda i: i == layer):
        found = [e for e in measured if e.layer == place]
        chosen = place == layer
        figure.add_scatter(
            x=[e.clock.task for e in found],
            y=np.array([100 * e.capacity for e in found], dtype=np.float32),
            mode="lines+markers",
            line={"color": INK if chosen else PALE, "width": 3 if chosen else 1.6},
            marker={"size": 8 if chosen else 5},
            showlegend=False,
            name=layer_name(place),
            customdata=[[task_name(e.clock.task), f"{100 * e.own:.0f} %"] for e in found],
            hovertemplate=f"{layer_name(place)}, after %{{customdata[0]}}: %{{y:.1f}} % taken, %{{customdata[1]}} by "
            "this task alone<extra></extra>",
        )
        if found and (chosen or layer is None):
            ends.append((found[-1].clock.task, 100 * found[-1].capacity, layer_name(place)))
    label_ends(figure, ends, span=(0, 104), pixels=280)
    figure.update_xaxes(title_text="after training on", range=[-0.5, tasks - 0.5], showgrid=False, **task_ticks(tasks))
    figure.update_yaxes(title_text="capacity taken", range=[0, 104], ticksuffix=" %", dtick=20)
    figure.update_layout(margin={"r": 64})
    newest = [e for e in measured if e.clock.task == last - 1]
    told = "Nothing has been measured so far."
    if newest:
        fullest = max(newest, key=lambda e: e.capacity)
        told = f"Fullest after {task_name(last - 1)}: {layer_name(fullest.layer)}, {percent(100 * fullest.capacity)}."
    return describe(
        figure,
        title="Capacity taken",
        what=f"Mean eigenvalue of each layer's conceptor, one line per layer. {told}",
        look_for="Lines near 100 %: every direction is used and steps vanish. Lines that flatten early: "
        "later tasks use the same directions as earlier ones.",
        how="$\\mathrm{tr}\\,C / d$ in percent; $1$ minus it is what a random step keeps on average, direction by "
        "direction.",
        alt=told,
        height=360,
    )


def shared_with_the_past(surveyed: Sequence[InputsSurveyed], *, tasks: int | None = None) -> go.Figure:
    """Layers × tasks: how much of the used capacity a new task's inputs use as well."""
    layers, last = sizes(surveyed)
    tasks = max(tasks or 1, last)
    table = 100 * layer_task_table(surveyed, "shared", layers=max(layers, 1), tasks=tasks)
    text = [["" if np.isnan(v) else f"{v:.0f} %" for v in row] for row in table] if tasks <= 12 else None
    figure = layer_map(
        table,
        text,
        across="before training on",
        hover="%{y}, before %{x}: %{z:.1f} % of the used capacity<extra></extra>",
        bar="shared",
        high=100,
        suffix=" %",
    )
    told, threshold = "No task has been surveyed so far: the first has no past.", 0.5
    if surveyed:
        threshold = surveyed[-1].threshold
        above = sum(e.shared > threshold for e in surveyed)
        told = f"{above} of {len(surveyed)} cells lie above {100 * threshold:g} %."
    return describe(
        figure,
        title="Shared with the past",
        what=f"Share of the past's capacity that a new task's inputs use as well, before its first step. {told}",
        look_for="Dark cells: the task needs protected directions. Above "
        f"{100 * threshold:g} % the published method remixes them for the task, which must then be known at "
        "test time and is not done here.",
        how="$\\mathrm{tr}(C \\wedge B) / \\mathrm{tr}\\,C$ in percent, $C$ the past's conceptor, $B$ that of the "
        "new task's inputs under the current weights, $C \\wedge B = (C^{-1} + B^{-1} - I)^{-1}$ where both "
        "have a part.",
        alt=told,
        height=map_height(layers),
    )


def trade_off(
    measured: Sequence[TradeOffMeasured], *, space: str, layer: int, tasks: int | None = None, task: int | None = None
) -> go.Figure:
    """J and its two terms over the cut, after one task; the other tasks' J behind."""
    found = [e for e in measured if e.space == space and e.layer == layer]
    shown = next((e for e in found if e.clock.task == task), found[-1] if found else None)
    tasks = max([tasks or 1, *(e.clock.task + 1 for e in found)])
    figure, told, width = blank(), "Nothing has been measured so far.", 1
    for event in [*(e for e in found if e is not shown), *([shown] if shown else [])]:
        colour, chosen, width = task_colour(event.clock.task, tasks), event is shown, len(event.stability_loss)
        cut = event.protected - 1
        place = np.arange(1, width + 1, dtype=np.float32)
        lines = [("J", event.stability_loss - event.plasticity_gain, "solid")]
        if chosen:
            lines += [
                ("stability loss", event.stability_loss, "dash"),
                ("plasticity gain", event.plasticity_gain, "dot"),
            ]
        for name, values, dash in lines:
            x, y = thinned(place, values, 300)
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": colour, "width": 3 if chosen else 1.4, "dash": dash},
                opacity=1 if chosen else 0.6,
                name=name if chosen else f"J, {task_name(event.clock.task)}",
                showlegend=chosen,
                hovertemplate=f"{task_name(event.clock.task)}, {name} with %{{x:.0f}} protected: %{{y:.3g}}"
                "<extra></extra>",
            )
        figure.add_scatter(
            x=[event.protected],
            y=[float(event.stability_loss[cut] - event.plasticity_gain[cut])],
            mode="markers",
            marker={"size": 11 if chosen else 8, "color": colour},
            showlegend=False,
            name=f"cut of {task_name(event.clock.task)}",
            hovertemplate=f"{task_name(event.clock.task)}: {event.protected} of {width} protected<extra></extra>",
        )
    if shown is not None:
        held, left = shown.protected, float(shown.stability_loss[shown.protected - 1])
        told = (
            f"After {task_name(shown.clock.task)} {held} of {width} directions are protected; the loss left is "
            f"{number(left)}."
        )
    figure.update_xaxes(title_text="directions protected", range=[0.5, width + 0.5], showgrid=False)
    figure.update_yaxes(title_text="trade-off")
    figure.update_layout(legend={"y": -0.22}, margin={"b": 72})
    return describe(
        figure,
        title=f"Where the trade-off cuts, {layer_name(layer)}",
        what=f"Benefit (dashed) and cost (dotted) of protecting more directions, and their difference J; dots mark "
        f"the cut, thin lines are J of the other tasks. {told}",
        look_for="J without a clear minimum: the cut is arbitrary and depends on α. Dots that move right: each task "
        "weighs the past more.",
        how="$J(i) = t\\,(1 - \\sum_{j \\le i} \\lambda_j / \\sum_j \\lambda_j) - \\alpha\\,(d - i)/d$ with $i$ from "
        "0, $t$ tasks learned; $\\max(i^*, 1) + 1$ directions are protected. Source: SplitLoRA, arXiv:2505.22370.",
        alt=told,
        height=400,
    )
