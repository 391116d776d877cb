"""Drift of prompt tokens: mean and deviation over channels, paths in a plane, and net change per layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cl_core.events import PromptsDrifted, UpdateMeasured
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import last_of_tasks, layer_task_table, sizes
from dashboard.figures.layer_map import layer_map, layer_maps, map_height
from dashboard.figures.plot_helpers import mark_boundaries
from dashboard.theme import INK, TEMPLATE, layer_name, number, percent, task_colour, task_name


def _ends(drifted: Sequence[PromptsDrifted]) -> tuple[PromptsDrifted | None, dict[int, PromptsDrifted]]:
    """Prompts as initialised (None if not stored), and at the end of every task (or its newest epoch)."""
    first = next((e for e in drifted if e.clock.epoch < 0), None)
    return first, last_of_tasks([e for e in drifted if e.clock.epoch >= 0])


def statistics_drift(drifted: Sequence[PromptsDrifted], *, tasks: int | None = None) -> go.Figure:
    """Layers × tasks: change of the prompts' mean and deviation over channels within each task."""
    first, ends = _ends(drifted)
    tasks = max([tasks or 1, *(t + 1 for t in ends)])
    layers = ends[max(ends)].means.shape[0] if ends else 1
    tables = {name: np.full((layers, tasks), np.nan) for name in ("means", "deviations")}
    reference = first
    for task, event in sorted(ends.items()):
        if reference is not None:
            for name, table in tables.items():
                table[:, task] = np.abs(
                    np.asarray(getattr(event, name), dtype=np.float64) - getattr(reference, name)
                ).mean(axis=1)
        reference = event
    figure = layer_maps(
        {"mean |Δμ|": tables["means"], "deviation |Δσ|": tables["deviations"]},
        [
            [["" if np.isnan(v) else _thousandths(v) for v in row] for row in table] if tasks <= 8 else None
            for table in tables.values()
        ],
        hover="%{y}, %{x}: %{z:.3g}<extra></extra>",
        bar="change",
        high=max((float(np.nanmax(t)) for t in tables.values() if np.isfinite(t).any()), default=1.0),
    )
    known = tables["means"][:, sorted(ends)[-1]] if ends else np.zeros(0)
    worst = int(np.nanargmax(known)) if np.isfinite(known).any() else None
    note = (
        f" Largest change of the mean in the last task: {layer_name(worst)}, {number(float(known[worst]))}."
        if worst is not None
        else ""
    )
    return describe(
        figure,
        title="Prompt statistics, change within each task",
        what="Layers × tasks: how far each prompt token's mean (left) and standard deviation (right) over channels "
        f"moved during a task, mean over the layer's prompts{'; cells print thousandths' if tasks <= 8 else ''}.{note}",
        look_for="Dark cells: LayerNorm sees these prompts differently, so past affinities shift although the "
        "direction of the update was harmless.",
        how="$|\\mu_m^{(t)} - \\mu_m^{(t-1)}|$ and $|\\sigma_m^{(t)} - \\sigma_m^{(t-1)}|$ per token $m$ over its "
        "channels (population standard deviation), mean over $m$; in units of the prompts. The first column compares "
        "with the initial prompts. A norm-drift penalty keeps their sum over layers small.",
        alt=f"Two heat maps of {layers} layers by {tasks} tasks.{note}",
        height=map_height(layers) + 20,
    )


def _thousandths(value: float) -> str:
    """0.0083 as 8.3, 0.00012 as 0.12."""
    return (
        f"{1000 * value:.0f}" if value >= 0.01 else f"{1000 * value:.1f}" if value >= 0.001 else f"{1000 * value:.2f}"
    )


def prompt_statistics(drifted: Sequence[PromptsDrifted], *, layer: int, tasks: int | None = None) -> go.Figure:
    """Mean and deviation of every prompt token of one layer, epoch by epoch, each task in its colour."""
    events = list(drifted)
    tasks = max([tasks or 1, *(e.clock.task + 1 for e in events)])
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.1, subplot_titles=["mean over channels μ", "standard deviation σ"]
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep", showlegend=False)
    figure.update_annotations(font_size=13, yshift=16)
    starts = _starts(events)
    for column, field in ((1, "means"), (2, "deviations")):
        values = (
            np.array([getattr(e, field)[layer] for e in events], dtype=np.float32)
            if events
            else np.zeros((0, 0), np.float32)
        )
        for low, high, task in _segments(events):
            tokens = range(values.shape[1])
            gap = np.float32(np.nan)  # separates the lines of two tokens
            figure.add_scatter(
                x=np.concatenate([np.append(np.arange(low, high + 1, dtype=np.float32), gap) for _ in tokens]),
                y=np.concatenate([np.append(values[low : high + 1, token], gap) for token in tokens]),
                customdata=np.repeat(np.arange(1, values.shape[1] + 1), high - low + 2),
                mode="lines",
                row=1,
                col=column,
                name=task_name(task),
                line={"color": task_colour(task, tasks), "width": 1.6},
                hovertemplate=f"prompt %{{customdata}}, {task_name(task)}: %{{y:.3g}}<extra></extra>",
            )
        mark_boundaries(figure, starts, axis="x" if column == 1 else "x2", most=8)
    figure.update_xaxes(title_text="epochs stored, over all tasks", showgrid=False, range=[0, max(len(events) - 1, 1)])
    figure.update_layout(margin={"t": 52})
    return describe(
        figure,
        title=f"Prompt statistics, {layer_name(layer)}",
        what="One line per prompt token, one point per epoch: mean (left) and standard deviation (right) over the "
        "token's channels; axes do not start at zero.",
        look_for="Flat lines after the first task: the statistics used by LayerNorm are constant. Lines that fan out: "
        "they drift.",
        how="$\\mu_m$ and $\\sigma_m$ of the raw prompts (before LayerNorm), population standard deviation over "
        "channels, stored after every epoch. Colour: the task being learned.",
        alt=f"Lines for the prompts of {layer_name(layer)} over {len(events)} stored epochs.",
        height=330,
    )


def _segments(events: Sequence[PromptsDrifted]) -> list[tuple[int, int, int]]:
    """(first point, last point, task): each task's part starts at the last point of the previous one."""
    stretches: list[tuple[int, int, int]] = []
    for i, event in enumerate(events):
        task = max(event.clock.task, 0)
        if stretches and stretches[-1][2] == task:
            stretches[-1] = (stretches[-1][0], i, task)
        else:
            stretches.append((max(i - 1, 0), i, task))
    return stretches


def _starts(events: Sequence[PromptsDrifted]) -> list[tuple[float, int]]:
    return [(float(low), task) for low, _, task in _segments(events)]


def plane(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`points` [k, d] in the plane of their two principal components; share of variance of each axis."""
    known = np.isfinite(points).all(axis=1)
    if not known.all():  # training diverged: the points before still have their places
        placed, shares = np.full((len(points), 2), np.nan), np.zeros(2)
        if known.any():
            placed[known], shares = plane(points[known])
        return placed, shares
    centred = points - points.mean(axis=0)
    left, sizes, components = np.linalg.svd(centred, full_matrices=False)
    count = min(2, len(sizes))
    placed, total = left[:, :count] * sizes[:count], (sizes**2).sum()
    shares = sizes[:count] ** 2 / total if total > 0 else np.zeros(count)
    if count < 2:
        placed, shares = np.pad(placed, ((0, 0), (0, 2 - count))), np.pad(shares, (0, 2 - count))
    # A component's sign is arbitrary: a positive largest loading keeps the figure from flipping between refreshes.
    for axis in range(count):
        if components[axis][np.abs(components[axis]).argmax()] < 0:
            placed[:, axis] *= -1
    return placed.astype(np.float32), shares


def prompt_paths(
    drifted: Sequence[PromptsDrifted],
    *,
    layer: int,
    tasks: int | None = None,
    common_start: bool = True,
    most: int = 12,
) -> go.Figure:
    """Paths of one layer's prompt tokens in the plane of their two principal components, each task in its colour.

    Args:
        drifted: the prompts at every stored time.
        layer: the layer of the prompts.
        tasks: tasks of the run, for the colours.
        common_start: draw every prompt relative to its first position, so that all paths start in one point. most:
        maximum number of tokens, those that moved furthest.
    """
    events = list(drifted)
    tasks = max([tasks or 1, *(e.clock.task + 1 for e in events)])
    figure, title = blank(showlegend=False), f"Paths of the prompts, {layer_name(layer)}"
    if len(events) < 2:
        return describe(
            figure,
            title=title,
            what="Prompts have been stored fewer than two times so far.",
            look_for="Paths appear after the next epoch.",
            how="Principal component analysis of all stored prompts.",
            alt="Nothing to draw yet.",
            height=440,
        )
    tokens = np.array([e.prompts[layer] for e in events], dtype=np.float64)  # [moments, M, d]
    if common_start:
        tokens = tokens - tokens[0]
    moments, count, width = tokens.shape
    placed, shares = plane(tokens.reshape(-1, width))
    placed = placed.reshape(moments, count, 2)
    if common_start:
        placed = placed - placed[0]
    travelled = np.linalg.norm(np.diff(tokens, axis=0), axis=-1).sum(axis=0)
    shown = sorted(np.argsort(-travelled)[:most].tolist())
    for low, high, task in _segments(events):
        x = [v for m in shown for v in (*placed[low : high + 1, m, 0].tolist(), None)]
        y = [v for m in shown for v in (*placed[low : high + 1, m, 1].tolist(), None)]
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            line={"color": task_colour(task, tasks), "width": 2.2},
            marker={"size": 4, "color": task_colour(task, tasks)},
            name=task_name(task),
            hovertemplate=f"while learning {task_name(task)}<extra></extra>",
        )
    figure.add_scatter(
        x=placed[0, shown, 0],
        y=placed[0, shown, 1],
        mode="markers",
        name="first stored moment",
        hoverinfo="skip",
        marker={"symbol": "circle-open", "size": 9, "color": INK, "line": {"width": 2}},
    )
    figure.add_scatter(
        x=placed[-1, shown, 0],
        y=placed[-1, shown, 1],
        mode="markers+text",
        name="newest",
        text=[str(m + 1) for m in shown],
        textposition="top center",
        textfont={"size": 13},
        marker={"symbol": "circle", "size": 8, "color": task_colour(max(events[-1].clock.task, 0), tasks)},
        customdata=[m + 1 for m in shown],
        hovertemplate="prompt %{customdata}, newest<extra></extra>",
    )
    figure.update_xaxes(
        title_text=f"first component, {percent(100 * shares[0], 0)} of the variance", zeroline=common_start
    )
    figure.update_yaxes(
        title_text=f"second, {percent(100 * shares[1], 0)}", zeroline=common_start, scaleanchor="x", scaleratio=1
    )
    seen = 100 * float(shares.sum())
    most_note = "" if len(shown) == count else f" The {len(shown)} of {count} prompts that moved furthest are drawn."
    begin = "all moved to a common start (the ring)" if common_start else "ring: first stored moment"
    return describe(
        figure,
        title=title,
        what=f"Each line follows one prompt token, {begin}, number: its current position, colour: the task being "
        f"learned. The plane shows {percent(seen, 0)} of the variance.{most_note}",
        look_for="Long segments in a later task's colour: that task moved prompts learned by earlier ones. Short, "
        "tangled ends: held in place.",
        how="Principal component analysis (scikit-learn) of all prompts of this layer at all stored times"
        + (", each minus its own first place" if common_start else "")
        + "; one plane for all of them, so that paths can be compared; both axes have the same unit. Distance "
        "outside the plane is not visible: if the share of variance is low, trust *How far the prompts moved* "
        "instead.",
        alt=f"Paths of {len(shown)} prompts over {moments} epochs; the plane shows {percent(seen, 0)} of the variance.",
        height=440,
    )


def _short(value: float) -> str:
    """66.3, 1.2, 0.46: one decimal, two below one."""
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}"


def movement(updates: Sequence[UpdateMeasured], *, of: str = "prompts", tasks: int | None = None) -> go.Figure:
    """Layers × tasks: net change of trained parameters (`of`: "prompts" or "weights") relative to their size."""
    layers, last = sizes(updates)
    tasks = max(tasks or 1, last)
    table = 100 * layer_task_table(updates, "movement", layers=layers, tasks=tasks)
    text = None
    if tasks <= 16:
        text = [["" if np.isnan(v) else f"{_short(v)} %" if tasks <= 8 else _short(v) for v in row] for row in table]
    figure = layer_map(
        table,
        text,
        across="in task",
        hover="%{y}: %{z:.2f} % of its size<extra></extra>",
        bar="moved",
        high=float(np.nanmax(table)) if np.isfinite(table).any() else 1.0,
        suffix=" %",
    )
    later = table[:, 1:][np.isfinite(table[:, 1:])]
    first = table[:, 0][np.isfinite(table[:, :1])[:, 0]] if tasks else np.zeros(0)
    note = (
        f" Mean: {percent(float(first.mean()))} in T1, {percent(float(later.mean()))} later."
        if len(first) and len(later)
        else ""
    )
    return describe(
        figure,
        title=f"How far the {of} moved",
        what=f"Net change of each layer's {of} over a task, relative to their size before it.{note}",
        look_for="Pale columns after the first: updates are small; layers that stay dark carry the new tasks.",
        how=f"$\\|\\Delta P\\|_F / \\|P\\|_F$ in percent: Frobenius norm of the difference between the {of} after "
        "and before the task. Steps that cancel do not count.",
        alt=f"Heat map of {layers} layers by {tasks} tasks.{note}",
        height=map_height(layers),
    )
