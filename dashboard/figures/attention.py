"""Attention on old tasks' probe images: one image before and after a task, and how consistent the layers stay.

Shapes: n probe images, L layers, H heads, N image tokens (class token first, then patches by row), M prompts (last).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cl_core.events import AttentionCompared, FeaturesCompared
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import compared_later, last_of_tasks
from dashboard.figures.plot_helpers import label_ends, layer_ticks, mark_layer, shaded_layer, task_ticks
from dashboard.theme import (
    DIVERGING,
    SEQUENTIAL,
    TEMPLATE,
    layer_name,
    percent,
    points,
    scale,
    task_colour,
    task_name,
)


def picture(image: np.ndarray) -> str:
    """A PNG of `image` ([H, W, 3] uint8) as a data URL."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(image, dtype=np.uint8)).save(buffer, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def class_token_row(compared: AttentionCompared, *, image: int, layer: int, head: int | None) -> np.ndarray:
    """[N + M] float32: the class token's attention on one image, mean over heads if `head` is None; sums to one."""
    row = np.asarray(compared.class_attention[image, layer], dtype=np.float32)
    return row.mean(axis=0) if head is None else row[head]


def attention_on_image(
    image: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    *,
    grid: tuple[int, int],
    layer: int,
    head: int | None,
    probe_task: int,
    moments: tuple[str, str],
    name: str = "",
) -> go.Figure:
    """Attention of the class token on one image, before and after, and the difference; prompts as separate strips
    below.

    Args:
        image: [H, W, 3] uint8.
        before, after: [N + M] the class token's attention (`class_token_row`).
        grid: patch rows and columns; N = rows · columns + 1.
        layer, head: from 0; head None = mean over heads.
        probe_task: the task the image belongs to.
        moments: two short texts for the times of `before` and `after`.
        name: the image's class.
    """
    rows, columns = grid
    tokens = rows * columns + 1
    prompts = len(after) - tokens
    high, width = image.shape[0], image.shape[1]
    maps = [100 * np.asarray(r, dtype=np.float32) for r in (before, after)]
    difference = maps[1] - maps[0]
    top = max(float(max(m[1:tokens].max() for m in maps)), 1e-3)
    bound = max(float(np.abs(difference[1:tokens]).max()), 0.5)
    strip_top = max(float(max(np.append(m[tokens:], m[0]).max() for m in maps)), 1e-3)
    strip_bound = max(float(np.abs(np.append(difference[tokens:], difference[0])).max()), 0.5)
    titles = [f"{name or 'image'} ({task_name(probe_task)})", *moments, "difference"]
    figure = make_subplots(
        rows=2,
        cols=5,
        row_heights=[0.72, 0.28],
        column_widths=[1, 1, 1, 0.34, 1],
        vertical_spacing=0.05,
        horizontal_spacing=0.02,
        subplot_titles=[*titles, ""],
        specs=[[{}, {}, {}, None, {}], [{"colspan": 5}, None, None, None, None]],
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep")
    figure.update_annotations(font_size=13)
    step = (width / columns, high / rows)
    washed = (255 - 0.4 * (255 - np.asarray(image, dtype=np.float32))).astype(np.uint8)
    for column in (1, 2, 3, 5):
        figure.add_image(
            source=picture(image if column == 1 else washed),
            x0=0,
            y0=0,
            dx=1,
            dy=1,
            row=1,
            col=column,
            hoverinfo="skip",
        )
    label = [f"prompt {m + 1}" for m in range(prompts)]
    for column, values, colours, low, limit in (
        (2, maps[0], SEQUENTIAL, 0.0, top),
        (3, maps[1], SEQUENTIAL, 0.0, top),
        (5, difference, DIVERGING, -bound, bound),
    ):
        signed = column == 5
        unit = "%{z:+.2f} pp" if signed else "%{z:.2f} %"
        figure.add_heatmap(
            z=values[1:tokens].reshape(rows, columns),
            x0=step[0] / 2 - 0.5,
            dx=step[0],
            y0=step[1] / 2 - 0.5,
            dy=step[1],
            zmin=low,
            zmax=limit,
            colorscale=scale(colours),
            opacity=0.72,
            showscale=column >= 3,
            row=1,
            col=column,
            name=titles[min(column, 4) - 1],
            hovertemplate=f"{unit} of the attention<extra>patch</extra>",
            colorbar={
                "x": 1.0 if signed else figure.layout.xaxis3.domain[1] + 0.004,
                "len": figure.layout.yaxis.domain[1] - figure.layout.yaxis.domain[0],
                "y": sum(figure.layout.yaxis.domain) / 2,
                "thickness": 10,
                "outlinewidth": 0,
                "nticks": 6,
                "ticksuffix": " pp" if signed else " %",
                "tickfont": {"size": 11},
            },
        )
        cells = np.concatenate([[values[0]], values[tokens:]]).astype(np.float32)
        figure.add_heatmap(
            z=[cells],
            x=["itself", *label],
            y0=min(column, 4) - 2,
            dy=1,
            zmin=-strip_bound if signed else 0,
            zmax=strip_bound if signed else strip_top,
            colorscale=scale(colours),
            showscale=False,
            xgap=2,
            ygap=2,
            row=2,
            col=1,
            name=f"{titles[min(column, 4) - 1]}, prompts",
            text=[_printed(cells, signed, strip_top)] if prompts <= 12 else None,
            texttemplate="%{text}" if prompts <= 12 else "",
            textfont={"size": 11},
            hovertemplate=f"%{{x}}: {unit}<extra></extra>",
        )
    figure.update_xaxes(
        showticklabels=False, showgrid=False, ticks="", range=[-0.5, width - 0.5], row=1, constrain="domain"
    )
    figure.update_yaxes(
        showticklabels=False, showgrid=False, ticks="", range=[high - 0.5, -0.5], row=1, constrain="domain"
    )
    for number, column in enumerate((1, 2, 3, 5), start=1):
        figure.update_yaxes(scaleanchor=f"x{number if number > 1 else ''}", scaleratio=1, row=1, col=column)
    figure.update_xaxes(
        showgrid=False,
        ticks="",
        row=2,
        tickangle=0,
        tickfont={"size": 11},
        tickvals=["itself", *label],
        ticktext=[
            "self" if prompts else "",
            *(
                [str(m + 1) for m in range(prompts)]
                if prompts <= 16
                else [str(m + 1) if m % 5 == 4 else "" for m in range(prompts)]
            ),
        ],
    )
    figure.update_xaxes(title_text="itself, then prompts" if prompts else "itself", title_standoff=4, row=2)
    figure.update_yaxes(showgrid=False, ticks="", row=2, range=[2.5, -0.5], tickvals=[0, 1, 2], ticktext=titles[1:])
    figure.update_layout(margin={"l": 8, "r": 72, "t": 34, "b": 48})
    moved = 0.5 * float(np.abs(difference).sum())
    paid = [float(m[tokens:].sum()) for m in maps]
    which = "mean over heads" if head is None else f"head {head + 1}"
    facts = f"Moved: {percent(moved)} of the attention."
    if prompts:
        change = points(paid[1] - paid[0])
        facts += f" To prompts: {percent(paid[0])} before, {percent(paid[1])} after ({change})."
    return describe(
        figure,
        title=f"Where the class token looks, {layer_name(layer)}, {which}",
        what=f"One probe image of {task_name(probe_task)}: the class token's attention per patch {moments[0]} and "
        f"{moments[1]}, and the difference; the strips below show attention to the token itself"
        f"{' and to each prompt' if prompts else ''}, in percent, on separate colour scales. {facts}",
        look_for="Orange: patches with less attention; blue: patches with more attention. An old image whose map "
        "stays the same is protected in this layer.",
        how="One row of the attention matrix, that of the class token: softmax over all image tokens and prompts, "
        + which
        + ". Patches, the token itself and prompts sum to 100 %. Both maps share one colour scale; the "
        "difference has its zero at the neutral middle. *Moved* is the total variation, ½ Σ |after − before|. "
        "Attention shows where a token attends, not why an answer changes.",
        alt=f"Image of {name or 'a class'} with attention maps {moments[0]} and {moments[1]}, {layer_name(layer)}. "
        f"{facts}",
        height=500,
    )


def _printed(values: np.ndarray, signed: bool, top: float) -> list[str]:
    """Labels for the cells of the strip."""
    if signed:
        return [f"{v:+.1f}".replace("-", "−") if abs(v) >= 0.05 else "0" for v in values]
    return [f"{v:.0f}" if top >= 10 else f"{v:.1f}" for v in values]


def consistency_by_layer(
    compared: Sequence[AttentionCompared], *, probe_task: int, tasks: int | None = None, layer: int | None = None
) -> go.Figure:
    """How much attention has moved on one task's images, per layer: with the layer's old inputs, and end to end."""
    newest = last_of_tasks(compared_later(compared, probe_task))
    tasks = max([tasks or 0, probe_task + 1, *(t + 1 for t in newest)])
    layers = len(next(iter(newest.values())).total_variation) if newest else 1
    figure = make_subplots(
        rows=1,
        cols=2,
        shared_yaxes=True,
        horizontal_spacing=0.09,
        subplot_titles=["this layer alone", "end to end"],
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep")
    figure.update_annotations(font_size=13)
    highest, alt = 1.0, []
    panels = ((1, "total_variation_local"), (2, "total_variation"))
    for column, field in panels:
        ends = []
        for task, event in sorted(newest.items()):
            values = 100 * np.asarray(getattr(event, field), dtype=np.float32)
            colour = task_colour(task, tasks)
            figure.add_scatter(
                x=np.arange(layers),
                y=values,
                mode="lines+markers",
                line={"color": colour, "width": 2},
                marker={"size": 6, "color": colour},
                showlegend=False,
                name=f"after {task_name(task)}",
                row=1,
                col=column,
                hovertemplate=f"after {task_name(task)}, %{{x}}: %{{y:.1f}} % moved<extra></extra>",
            )
            highest = max(highest, float(np.nanmax(values)))
            ends.append((float(layers - 1), float(values[-1]), f"after {task_name(task)}"))
            if field == "total_variation":
                alt.append(f"after {task_name(task)} mean {percent(float(np.nanmean(values)))}")
        top = 1.12 * highest
        label_ends(
            figure,
            ends if len(ends) <= 10 else [ends[0], ends[-1]],
            span=(0, top),
            pixels=230,
            axes=("x" if column == 1 else "x2", "y" if column == 1 else "y2"),
        )
    mark_layer(figure, layer, layers, axes=("x", "x2"))
    figure.update_xaxes(showgrid=False, range=[-0.5, layers - 0.5], **layer_ticks(layers))
    figure.update_yaxes(range=[0, 1.12 * highest], ticksuffix=" %")
    figure.update_yaxes(title_text="attention moved", row=1, col=1)
    figure.update_layout(margin={"r": 76, "t": 34})
    return describe(
        figure,
        title=f"Attention consistency, images of {task_name(probe_task)}",
        what=f"Share of the attention that has moved since {task_name(probe_task)} was learned, per layer (total "
        "variation; 0 % = consistent), one line per later task; left: each layer gets its earlier inputs, right: "
        f"end to end{shaded_layer(layer, layers)}.",
        look_for="Left near zero and right large: the layer itself is protected, the change comes from layers "
        "before it. The axis does not reach 100 %.",
        how="$\\mathrm{TV} = \\frac12 \\sum_j |S^{now}_{nj} - S^{then}_{nj}|$ for each query $n$ over all keys $j$ "
        "(image tokens and prompts), mean over probe images, heads and queries, in percent: 0 = same, 100 = "
        "disjoint. *This layer alone* feeds the layer its inputs stored when the task had been learned, so that only "
        "changes in this layer matter; *end to end* runs the whole model.",
        alt=f"Attention moved on images of {task_name(probe_task)}, end to end: "
        f"{', '.join(alt) or 'nothing measured yet'}.",
        height=340,
    )


def _over_tasks(
    compared: Sequence[Any], tasks: int | None, value: Callable[[Any], float], least: float
) -> tuple[go.Figure, list[str]]:
    """Lines over training stages, one per probe task in its colour; `value` is the height, `least` the axis's end."""
    probes = sorted({e.probe_task for e in compared})
    tasks = max([tasks or 1, *(p + 1 for p in probes), *(e.clock.task + 1 for e in compared)])
    figure, ends, highest, alt = blank(), [], 0.0, []
    for probe in probes:
        newest = last_of_tasks([e for e in compared if e.probe_task == probe])
        x = sorted(newest)
        y = np.array([value(newest[t]) for t in x], dtype=np.float32)
        colour = task_colour(probe, tasks)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 7, "color": colour},
            name=f"images of {task_name(probe)}",
            showlegend=False,
            cliponaxis=False,
        )
        highest = max(highest, float(np.nanmax(y)) if len(y) else 0.0)
        ends.append((float(x[-1]), float(y[-1]), task_name(probe)))
        alt.append(f"{task_name(probe)} {y[-1]:.3g}")
    top = max(1.12 * highest, least)
    label_ends(figure, ends if len(ends) <= 12 else [ends[0], ends[-1]], span=(0, top), gap=14)
    figure.update_xaxes(
        title_text="after training on", showgrid=False, range=[-0.15, max(tasks - 1, 1) + 0.15], **task_ticks(tasks)
    )
    figure.update_yaxes(range=[0, top])
    figure.update_layout(margin={"r": 46})
    return figure, alt


def consistency_over_tasks(compared: Sequence[AttentionCompared], *, layer: int, tasks: int | None = None) -> go.Figure:
    """How much attention has moved in one layer, over tasks, one line per old task's images."""
    figure, alt = _over_tasks(compared, tasks, lambda e: 100 * float(e.total_variation[layer]), 1.0)
    for trace in figure.data:
        trace.hovertemplate = f"{trace.name}: %{{y:.1f}} % moved<extra></extra>"
    figure.update_yaxes(title_text="attention moved", ticksuffix=" %")
    return describe(
        figure,
        title=f"Attention moved over time, {layer_name(layer)}",
        what="Total variation since each task was learned (end to end), one line per task of the probe images.",
        look_for="Lines that jump at one task: that task changed this layer's attention. The axis does not reach "
        "100 %.",
        how="$\\mathrm{TV}$ as above, end to end, in this layer, measured at the end of every task. A line starts at "
        "zero, when its task has just been learned.",
        alt=f"Attention moved at the end, in percent: {', '.join(alt) or 'nothing measured yet'}.",
    )


def feature_drift(compared: Sequence[AttentionCompared | FeaturesCompared], *, tasks: int | None = None) -> go.Figure:
    """How far the features of old images have turned, over tasks."""
    figure, alt = _over_tasks(compared, tasks, lambda e: float(e.feature_drift), 0.01)
    for trace in figure.data:
        trace.hovertemplate = f"{trace.name}: %{{y:.3f}}<extra></extra>"
    figure.update_yaxes(title_text="feature drift, 1 − cos")
    return describe(
        figure,
        title="Feature drift",
        what="Mean of 1 − cosine between an old image's feature now and when its task had just been learned, one "
        "line per task.",
        look_for="Drift far above that of other tasks: old heads and stored statistics no longer fit these images.",
        how="$1 - \\cos(f^{now}, f^{then})$ of the feature before the head (of a transformer: the class token's), mean "
        "over the task's probe images: 0 = same direction, 1 = orthogonal. These are the inputs of a linear head, "
        "whatever happens inside.",
        alt=f"Feature drift at the end: {', '.join(alt) or 'nothing measured yet'}.",
    )


def prompt_mass(
    compared: Sequence[AttentionCompared], *, tasks: int | None = None, layer: int | None = None
) -> go.Figure:
    """Share of attention paid to prompts, per layer, on the probe images of all tasks seen so far."""
    newest: dict[int, list[AttentionCompared]] = {}
    for (task, _), event in {(e.clock.task, e.probe_task): e for e in compared}.items():
        newest.setdefault(task, []).append(event)
    tasks = max([tasks or 1, *(t + 1 for t in newest)])
    layers = len(compared[-1].prompt_mass) if compared else 1
    figure, ends, highest = blank(), [], 0.0
    for task, events in sorted(newest.items()):
        values = 100 * np.mean([np.asarray(e.prompt_mass, dtype=np.float32) for e in events], axis=0)
        colour = task_colour(task, tasks)
        figure.add_scatter(
            x=np.arange(layers),
            y=values,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            showlegend=False,
            marker={"size": 6, "color": colour},
            name=f"after {task_name(task)}",
            hovertemplate=f"after {task_name(task)}: %{{y:.1f}} % to prompts<extra></extra>",
        )
        highest = max(highest, float(values.max()))
        ends.append((float(layers - 1), float(values[-1]), f"after {task_name(task)}"))
    top = min(103.0, 1.15 * highest or 1.0)
    label_ends(figure, ends if len(ends) <= 10 else [ends[0], ends[-1]], span=(0, top), gap=14)
    mark_layer(figure, layer, layers)
    figure.update_xaxes(showgrid=False, range=[-0.5, layers - 0.5], **layer_ticks(layers))
    figure.update_yaxes(title_text="attention to prompts", range=[0, top], ticksuffix=" %")
    figure.update_layout(margin={"r": 76})
    return describe(
        figure,
        title="Attention paid to prompts",
        what="Mean share of all image tokens' attention that goes to the prompts, per layer, over all probe images "
        f"seen by then{shaded_layer(layer, layers)}.",
        look_for="A share near zero: prompts of this layer have little effect. A rising share: prompts dominate the "
        "image.",
        how="$\\sum_{j \\in prompts} S_{nj}$, mean over image tokens $n$, heads and probe images, then over the "
        "tasks' probe sets; in percent.",
        alt="Attention to prompts in the last layer: "
        + (", ".join(f"{text} {percent(y)}" for _, y, text in ends) or "not measured")
        + ".",
        height=320,
    )
