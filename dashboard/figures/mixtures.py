"""Figures of frozen class keys, additions to a frozen model, and mixtures that replace stored images.

Measured once per task. Cosines and ratios are dimensionless; log densities are in nats per dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cl_core.events import IntraClassMeasured, KeysMoved, MixtureFitted, ResidualMeasured, SelectionMeasured
from dashboard.figures.description import blank, describe, nothing
from dashboard.figures.event_arrays import last_of_tasks
from dashboard.figures.layer_map import layer_map, map_height
from dashboard.figures.plot_helpers import label_ends, task_ticks
from dashboard.theme import INK, PALE, layer_name, number, percent, task_colour, task_label

Tasks = Sequence[dict[str, Any]]
WHOLE = -1  # stands for the selection by keys only
_SOURCE = "STAR-Prompt: Menabue et al., ECCV 2024, arXiv:2403.06870."


def class_name(label: int, tasks: Tasks = ()) -> str:
    """The stream's name of a class."""
    names = [str(name) for task in tasks for name in task.get("classes", ())]
    return names[label] if label < len(names) else f"class {label + 1}"


def _task_of(label: int, tasks: Tasks) -> int:
    owners = [index for index, task in enumerate(tasks) for _ in task.get("classes", ())]
    return owners[label] if label < len(owners) else max(owners, default=0)


def fitted_classes(measured: Sequence[MixtureFitted]) -> dict[int, MixtureFitted]:
    """Class → its mixture, in order of arrival."""
    return dict(sorted({e.label: e for e in measured}.items()))


def _over_tasks(tasks: int) -> dict[str, Any]:
    return {
        "title_text": "after training on",
        "showgrid": False,
        "range": [-0.2, max(tasks - 1, 1) + 0.2],
    } | task_ticks(tasks)


def _line(figure: go.Figure, x: Sequence[int], y: Sequence[float], name: str, **look: Any) -> tuple[float, float, str]:
    """Add a line with its dots; returns its end label for `label_ends`."""
    figure.add_scatter(
        x=list(x),
        y=np.asarray(y, dtype=np.float32),
        mode="lines+markers",
        name=name,
        marker={"size": 7},
        hovertemplate=f"{name}: %{{y:.3g}}<extra></extra>",
        **{"line": {"color": INK, "width": 2.2, **look}},
    )
    return float(x[-1]), float(y[-1]), name


def mixture_fit(measured: Sequence[MixtureFitted], tasks: Tasks = ()) -> go.Figure:
    """Held-out density of every class under its mixture and under one Gaussian."""
    title, found = "Held-out density: mixture and one Gaussian", fitted_classes(measured)
    if not found:
        return nothing(title, how=_SOURCE)
    count, figure = max(len(tasks), 1), blank(showlegend=False)
    events, x = list(found.values()), list(range(len(found)))
    for name, values, symbol in (
        ("one Gaussian", [e.gaussian for e in events], "diamond-open"),
        ("mixture", [e.mixture for e in events], "circle"),
    ):
        figure.add_scatter(
            x=x,
            y=np.asarray(values, dtype=np.float32),
            mode="markers",
            name=name,
            marker={
                "size": 11,
                "symbol": symbol,
                "color": [task_colour(_task_of(e.label, tasks), count) for e in events],
                "line": {"width": 2},
            },
            customdata=[class_name(e.label, tasks) for e in events],
            hovertemplate=f"%{{customdata}}, {name}: %{{y:.3f}} nats per dimension<extra></extra>",
        )
    step = -(-len(x) // 20)
    figure.update_xaxes(
        showgrid=False,
        tickangle=0,
        range=[-0.6, len(x) - 0.4],
        tickvals=x[::step],
        ticktext=[class_name(e.label, tasks) for e in events][::step],
    )
    figure.update_yaxes(title_text="nats per dimension")
    gain = float(np.mean([e.mixture - e.gaussian for e in events]))
    better = sum(e.mixture > e.gaussian for e in events)
    told = f"The mixture is denser for {better} of {len(events)} classes, by {number(gain)} on average."
    return describe(
        figure,
        title=title,
        what="Mean log density of held-out features of each class under a mixture (filled) and under a single Gaussian "
        f"(open), both fitted to the other four fifths of its images; hue: the class's task. {told}",
        look_for="Filled above open: the class has clusters that one Gaussian cannot model. Filled below open: the "
        "mixture overfits its few images, and replay samples from clouds narrower than the class.",
        how="$\\frac{1}{D}\\, \\frac1n \\sum_i \\log \\sum_k \\pi_k N(x_i; \\mu_k, \\mathrm{diag}\\, \\sigma_k^2)$ "
        "over every fifth image. Features are the class token that the head reads, taken when the task had been "
        "learned. " + _SOURCE,
        alt=f"Two densities for each of {len(events)} classes. {told}",
    )


def real_and_sampled(measured: Sequence[MixtureFitted], tasks: Tasks = (), *, label: int | None = None) -> go.Figure:
    """Features of one class and samples from its stored mixture, on the first two principal axes of the real ones."""
    found = fitted_classes(measured)
    if not found:
        return nothing("Real and drawn features", how=_SOURCE)
    event = found.get(label, list(found.values())[-1])  # type: ignore[arg-type]
    colour = task_colour(_task_of(event.label, tasks), max(len(tasks), 1))
    name, figure = class_name(event.label, tasks), blank(legend={"orientation": "h", "y": 1.08})
    for said, points, marker in (
        ("one Gaussian", event.single, {"symbol": "diamond-open", "color": PALE, "size": 7}),
        ("mixture", event.sampled, {"symbol": "x-thin", "size": 8, "line": {"width": 1.6, "color": INK}}),
        ("real", event.real, {"symbol": "circle", "color": colour, "size": 7}),
    ):
        rows = np.asarray(points, dtype=np.float32)
        figure.add_scatter(
            x=rows[:, 0],
            y=rows[:, 1],
            mode="markers",
            name=said,
            marker=marker,
            hovertemplate=f"{said}<extra></extra>",
        )
    figure.update_xaxes(title_text="first principal axis", zeroline=False)
    figure.update_yaxes(title_text="second", zeroline=False, scaleanchor="x", scaleratio=1)
    told = f"These axes show {percent(100 * event.shown)} of the variance."
    return describe(
        figure,
        title=f"Real and drawn features, {name}",
        what=f"{len(event.real)} training images of the class (filled), as many samples from the stored mixture of "
        f"{event.components} Gaussians (crosses) and from a single one (open). {told}",
        look_for="Crosses should cover the images and nothing else. Open diamonds in empty regions: samples by "
        "one Gaussian that resemble no image.",
        how="Axes: principal components of the real features only; the samples are projected on them. Directions "
        "beyond these two are not seen. " + _SOURCE,
        alt=f"Scatter of {len(event.real)} real and as many sampled features of {name}. {told}",
        height=420,
    )


def key_drift(measured: Sequence[KeysMoved], tasks: Tasks = ()) -> go.Figure:
    """Drift of earlier classes' keys, their distance from plain names, and the largest similarity of two keys, over
    tasks."""
    title, events = "Keys over tasks", list(last_of_tasks(measured).values())
    if not events:
        return nothing(title, how=_SOURCE)
    x = [e.clock.task for e in events]
    lines = (
        ("kept, least", [float(np.min(e.kept)) for e in events], {"width": 3}),
        ("with the plain name", [float(np.mean(e.learned)) for e in events], {"dash": "dash"}),
        ("with the nearest other", [float(np.max(e.nearest)) for e in events], {"dash": "dot"}),
    )
    figure = blank(showlegend=False)
    ends = [_line(figure, x, y, name, **look) for name, y, look in lines]
    low = min(0.0, *(min(y) for _, y, _ in lines))
    figure.update_xaxes(**_over_tasks(max(len(tasks), x[-1] + 1)))
    figure.update_yaxes(title_text="cosine", range=[low, 1.06])
    figure.update_layout(margin={"r": 150})
    label_ends(figure, ends, span=(low, 1.06), pixels=250)
    least = float(np.min(events[-1].kept))
    told = f"Least cosine of a key with its value when its task had been learned: {least:.4f}."
    return describe(
        figure,
        title=title,
        what="Thick: the least cosine of any class's key with its value when its own task had been learned. Dashed: "
        "mean cosine of keys with the embedding of the class's plain name. Dotted: the largest cosine of two "
        f"classes' keys. {told}",
        look_for="A thick line at 1: keys do not move, so only new classes can cause selection errors. A dotted line "
        "that rises: two classes become hard to distinguish by their keys.",
        how="$k_c$ is the unit embedding of a sentence with a learned word in it, recomputed from the word after "
        "every task; cosines are $k_c \\cdot k_{c}'$. " + _SOURCE,
        alt=f"Three lines over {len(events)} tasks. {told}",
    )


def residual_ratio(measured: Sequence[ResidualMeasured], tasks: Tasks = ()) -> go.Figure:
    """Norm of the method's addition in each layer relative to the attention output, layers × tasks."""
    title, events = "Added against attention's own output", list(last_of_tasks(measured).values())
    if not events:
        return nothing(title, how=_SOURCE)
    layers, count = len(events[0].ratio), max(len(tasks), events[-1].clock.task + 1)
    table = np.full((layers, count), np.nan)
    for event in events:
        table[:, event.clock.task] = event.ratio
    text = [[f"{v:.2f}" if np.isfinite(v) else "" for v in row] for row in table]
    names = [[f"{layer_name(i)}, after {task_label(j, tasks)}" for j in range(count)] for i in range(layers)]
    figure = layer_map(
        table,
        text if count <= 14 else None,
        across="after training on",
        hover="%{customdata}: %{z:.3f}<extra></extra>",
        custom=names,
        bar="ratio",
        high=float(max(np.nanmax(table), 0.1)),
    )
    strongest = int(np.argmax(events[-1].ratio))
    told = (
        f"After {task_label(events[-1].clock.task, tasks)} from {number(float(events[-1].ratio.min()))} to "
        f"{number(float(events[-1].ratio.max()))}, most in {layer_name(strongest)}."
    )
    return describe(
        figure,
        title=title,
        what="Mean norm of the method's addition to a token in each layer, as a multiple of the mean norm of the "
        f"attention output there; training images of the task just learned. {told}",
        look_for="Far above 1: the addition dominates the image. Below 0.01: the layer is practically unchanged.",
        how="$\\overline{\\|b - b_0\\|} / \\overline{\\|b_0\\|}$ over images and tokens, $b$ the output of the "
        "changed attention branch, $b_0$ the same without the change in this layer. " + _SOURCE,
        alt=f"Heat map of {layers} layers and {count} tasks. {told}",
        height=map_height(layers),
    )


def class_likeness(measured: Sequence[IntraClassMeasured], tasks: Tasks = ()) -> go.Figure:
    """Similarity of images of a class, for the query model and for the classifier's features, over tasks."""
    title, figure = "Alike within a class", blank(showlegend=False)
    said, ends, x = {"query": "asked model", "features": "after the task"}, [], [0]
    told: list[str] = []
    for space, look in (("query", {"width": 3}), ("features", {})):
        events = list(last_of_tasks([e for e in measured if e.space == space]).values())
        if not events:
            continue
        x = [e.clock.task for e in events]
        within = [float(np.nanmean(e.within)) for e in events]
        between = [float(np.nanmean(e.between)) if np.isfinite(e.between).any() else np.nan for e in events]
        ends.append(_line(figure, x, within, f"{said[space]}, same class", **look))
        ends.append(_line(figure, x, between, f"{said[space]}, other class", **look, dash="dot"))
        nearest = float(np.mean([e.nearest_mean for e in events]))
        told.append(f"{said[space]} {percent(nearest)}")
    if not ends:
        return nothing(title, how=_SOURCE)
    low = min(0.0, *(y for _, y, _ in ends if np.isfinite(y)))
    figure.update_xaxes(**_over_tasks(max(len(tasks), x[-1] + 1)))
    figure.update_yaxes(title_text="mean cosine of two images", range=[low, 1.06])
    figure.update_layout(margin={"r": 180})
    label_ends(figure, ends, span=(low, 1.06), pixels=250)
    return describe(
        figure,
        title=title,
        what="Mean cosine of two images of one class (solid) and of two classes of the task (dotted), for the frozen "
        f"query model (thick) and for the features of the head. Images nearest to "
        f"their own class's mean: {'; '.join(told)}.",
        look_for="A wide gap between solid and dotted: one key can represent the whole class. Lines close together: "
        "images of other classes are as near as those of the same class.",
        how="$(n R^2 - 1) / (n - 1)$ with $R = \\|\\overline{z}\\|$ over a class's $n$ unit embeddings is the mean "
        "cosine of two of its images; between classes $\\overline{z}_c \\cdot \\overline{z}_{c'}$. Training images of "
        "the task, its own classes only. " + _SOURCE,
        alt=f"Lines over tasks. Images nearest to their own class's mean: {'; '.join(told)}.",
    )


def found_by_layer(measured: Sequence[SelectionMeasured], tasks: Tasks = ()) -> go.Figure:
    """Own class selected by each layer and by the keys alone, over tasks."""
    title = "Own class found, by the keys alone and by the layers"
    by_layer: dict[int, dict[int, float]] = {}
    for event in measured:
        if event.accuracy is not None:
            by_layer.setdefault(event.layer, {})[event.clock.task] = event.accuracy
    alone = by_layer.pop(WHOLE, None)
    if alone is None or not by_layer:
        return nothing(title, how=_SOURCE)
    figure, x = blank(showlegend=False), list(alone)
    for layer, row in sorted(by_layer.items()):
        _line(figure, list(row), list(row.values()), layer_name(layer), color=PALE, width=1.4)
    rows = np.array([[row[task] for task in x] for row in by_layer.values()])
    ends = [_line(figure, x, rows.mean(axis=0).tolist(), "mean of layers", width=2.4)]
    ends.append(_line(figure, x, list(alone.values()), "keys alone", width=3, dash="dash"))
    low = max(0.0, min(float(rows.min()), *alone.values()) - 5)
    figure.update_xaxes(**_over_tasks(max(len(tasks), x[-1] + 1)))
    figure.update_yaxes(title_text="own class found", ticksuffix=" %", range=[low, 101])
    figure.update_layout(margin={"r": 120})
    label_ends(figure, ends, span=(low, 101), pixels=250)
    last, mean = list(alone.values())[-1], float(rows[:, -1].mean())
    told = f"At the end {percent(last)} by the keys alone, {percent(mean)} by a layer."
    return describe(
        figure,
        title=title,
        what="Test images of all tasks learned so far whose own class was selected: by each layer (thin), on average "
        f"over layers, and by the keys alone (dashed), which is the first level used as a classifier. {told}",
        look_for="Layers above the dashed line: their filters improve on the plain embedding. What the "
        "final accuracy adds to the dashed line comes from the second level.",
        how="A layer chooses $\\operatorname{argmax}_c \\cos(z \\odot f_{l,c},\\, k_c)$, the keys alone "
        "$\\operatorname{argmax}_c \\cos(z, k_c)$, over all classes learned so far. " + _SOURCE,
        alt=f"Lines over {len(x)} tasks. {told}",
    )
