"""The joint space of images and texts: distance of the two clouds, and cosines of pairs and non-pairs.

Times are "before" (task −1) and after every task. Images are filled circles, texts open diamonds; hue encodes the task
just learned, grey is before training. Cosines and lengths are dimensionless. Retrieval and accuracy are in
`figures.zero_shot_ability`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cl_core.events import ModalityGapMeasured
from dashboard.figures.description import blank, describe, nothing
from dashboard.figures.event_arrays import last_of_tasks, task_count
from dashboard.figures.plot_helpers import label_ends, task_ticks
from dashboard.theme import INK, PALE, TEMPLATE, faded, number, task_colour, task_label

TIES = 12  # pairs joined by a line
Tasks = Sequence[dict[str, Any]]

FIRST = "before training begins"  # when values arrive
SOURCE = "Modality gap: Liang et al., NeurIPS 2022, arXiv:2203.02053."
DIAMOND = "diamond-open"


def moment(task: int, tasks: Tasks = ()) -> str:
    """'before training', or 'after T2 Letters'."""
    return "before training" if task < 0 else f"after {task_label(task, tasks)}"


def at(measured: Sequence[ModalityGapMeasured], task: int | None) -> ModalityGapMeasured | None:
    """The measurement after `task` (the newest if None or not measured)."""
    found = last_of_tasks(measured)
    return found.get(task, list(found.values())[-1]) if found else None  # type: ignore[arg-type]


def _colour(task: int, tasks: int) -> str:
    return INK if task < 0 else task_colour(task, tasks)


def moment_axis(tasks: int, most: int = 20) -> dict[str, Any]:
    """A horizontal axis from before training through all tasks."""
    return {
        "title_text": "after training on",
        "showgrid": False,
        "range": [-1.2, max(tasks - 1, 1) + 0.2],
        **task_ticks(tasks, most - 1, before="before"),
    }


def moment_line(
    events: Sequence[Any],
    values: Sequence[float],
    tasks: Tasks,
    *,
    name: str,
    hover: str,
    dash: str = "solid",
    width: float = 2.4,
    pale: bool = False,
    coloured: bool = True,
    symbol: str = "circle",
) -> go.Scatter:
    """A grey line over time whose dots have the colour of the task just learned."""
    count = task_count(events, tasks)
    plain = PALE if pale else INK
    return go.Scatter(
        x=[e.clock.task for e in events],
        y=np.asarray(values, dtype=np.float32),
        mode="lines+markers",
        name=name,
        showlegend=False,
        line={"color": plain, "width": width, "dash": dash},
        marker={
            "size": 9 if coloured else 6,
            "symbol": symbol,
            "color": [_colour(e.clock.task, count) for e in events] if coloured else plain,
        },
        customdata=[moment(e.clock.task, tasks) for e in events],
        hovertemplate=f"{hover}, %{{customdata}}: %{{y:.3g}}<extra></extra>",
    )


def line_end(events: Sequence[Any], values: Sequence[float], text: str) -> list[tuple[float, float, str]]:
    """The end label of such a line for `label_ends`; empty without points, and where the last one is not finite."""
    last = np.asarray(values, dtype=np.float32)[-1:]
    return [(float(events[-1].clock.task), float(v), text) for v in last if np.isfinite(v)]


def gap_over_tasks(measured: Sequence[ModalityGapMeasured], tasks: Tasks = ()) -> go.Figure:
    """Length of the gap vector and its direction relative to the first, over time."""
    events = list(last_of_tasks(measured).values())
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.17, subplot_titles=["length ‖Δ‖", "direction cos(Δ, Δ before)"]
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep", showlegend=False)
    figure.update_annotations(font_size=13, yshift=10)
    title = "Length and direction of the gap"
    lengths, turned = [e.length for e in events], [e.direction for e in events]
    own: list[tuple[str, list[float], dict[str, Any]]] = [
        ("gap", lengths, {}),
        ("images", [e.image_mean for e in events], {"dash": "dash", "symbol": "circle"}),
        ("texts", [e.text_mean for e in events], {"dash": "dot", "symbol": DIAMOND}),
    ]
    reached = np.asarray([values for _, values, _ in own], dtype=np.float32)  # None, of a diverged run, is NaN
    top = 1.15 * float(np.max(reached[np.isfinite(reached)], initial=0.1))
    ends: list[tuple[float, float, str]] = []
    for name, values, look in own:
        said = "length of the gap" if name == "gap" else f"length of the mean of {name}"
        more: dict[str, Any] = {} if name == "gap" else {"pale": True, "coloured": False, "width": 1.8}
        figure.add_trace(moment_line(events, values, tasks, name=name, hover=said, **look, **more), row=1, col=1)
        ends += line_end(events, values, f"<b>{name}</b>" if name == "gap" else name)
    turning = moment_line(events, turned, tasks, name="direction", hover="cosine with the first gap")
    figure.add_trace(turning, row=1, col=2)
    label_ends(figure, ends, span=(0, top), pixels=220)
    known = [v for v in turned if np.isfinite(v)]
    low = min(0.0, *known) if known else 0.0
    figure.update_xaxes(**moment_axis(task_count(events, tasks), most=9))
    figure.update_yaxes(range=[0, top], row=1, col=1)
    figure.update_yaxes(range=[low - 0.04 * (low < 0), 1.04], row=1, col=2)
    figure.update_layout(margin={"r": 40, "t": 44})
    if not events:
        return nothing(title, how=SOURCE, first=FIRST, figure=figure)
    now = events[-1]
    told = f"Length {number(events[0].length)} {moment(events[0].clock.task)}, {number(now.length)} " + (
        f"{moment(now.clock.task, tasks)}; cosine with the first direction {number(now.direction)}."
    )
    return describe(
        figure,
        title=title,
        what="Left: distance between the centre of the images and the centre of their captions (thick), and the "
        f"distance of either centre from the origin (thin). Right: cosine between the gap now and before training. "
        f"{told}",
        look_for="A growing length, or a direction cosine below 1: the towers move apart, and texts that no "
        "task trained no longer match their images. A short mean indicates a cloud spread over the sphere.",
        how="$\\Delta = \\frac1n \\sum_i x_i - \\frac1n \\sum_i t_i$ over unit embeddings of held-out images and "
        "their captions; length $\\|\\Delta\\|_2$ (0 to 2), direction $\\cos(\\Delta_{now}, \\Delta_{before})$. With "
        "$\\mu_+, \\mu_-$ the mean cosines of pairs and non-pairs: "
        "$\\|\\Delta\\|^2 = \\|\\bar x\\|^2 + \\|\\bar t\\|^2 - 2(\\mu_+ + (n-1)\\mu_-)/n$. " + SOURCE,
        alt=told,
    )


def _cloud(
    figure: go.Figure, rows: np.ndarray, *, name: str, symbol: str, colour: str, size: float, **more: Any
) -> None:
    figure.add_scatter(
        x=rows[:, 0].astype(np.float32),
        y=rows[:, 1].astype(np.float32),
        mode="markers",
        name=name,
        marker={"symbol": symbol, "size": size, "color": colour, "line": {"width": 1 if symbol == DIAMOND else 0}},
        **more,
    )


def _outwards(places: np.ndarray) -> list[str]:
    """Label positions of two points [2, 2], pointing away from each other."""
    across, up = places[1] - places[0]
    if abs(up) >= abs(across):
        return ["bottom center", "top center"] if up >= 0 else ["top center", "bottom center"]
    return ["middle left", "middle right"] if across >= 0 else ["middle right", "middle left"]


def two_clouds(
    measured: Sequence[ModalityGapMeasured], tasks: Tasks = (), *, task: int | None = None, ties: int = TIES
) -> go.Figure:
    """Images and captions on the two fixed axes: at the chosen time in front, before training behind.

    Args:
        measured: the run's measurements.
        tasks: RunStarted.tasks, for colours and names.
        task: after which task; None = the newest.
        ties: number of pairs joined by a line (evenly spaced, always the same).
    """
    now = at(measured, task)
    figure, title = blank(showlegend=True), "The two clouds"
    if now is None:
        return nothing(title, how=SOURCE, first=FIRST, height=460, figure=figure)
    title, first = f"The two clouds, {moment(now.clock.task, tasks)}", measured[0]
    colour, x, t = (
        _colour(now.clock.task, task_count(measured, tasks)),
        *(np.asarray(rows, dtype=np.float32) for rows in (now.images, now.texts)),
    )
    if first is not now:
        for rows, name, symbol in ((first.images, "images", "circle"), (first.texts, "texts", DIAMOND)):
            _cloud(
                figure, np.asarray(rows), name=f"{name} before", symbol=symbol, colour=PALE, size=5, hoverinfo="skip"
            )
    joined = np.unique(np.linspace(0, len(x) - 1, min(ties, len(x))).astype(int)) if len(x) else np.zeros(0, int)
    for rows, name, symbol, size in ((x, "images", "circle", 5.5), (t, "texts", DIAMOND, 7)):
        _cloud(
            figure,
            rows,
            name=name,
            symbol=symbol,
            colour=faded(colour, 0.45),
            size=size,
            customdata=list(range(1, len(rows) + 1)),
            hovertemplate=f"pair %{{customdata}}, {name}<extra></extra>",
        )
    figure.add_scatter(
        x=[v for i in joined for v in (float(x[i, 0]), float(t[i, 0]), None)],
        y=[v for i in joined for v in (float(x[i, 1]), float(t[i, 1]), None)],
        mode="lines",
        name=f"{len(joined)} pairs",
        line={"color": faded(colour, 0.9), "width": 1.4},
        hoverinfo="skip",
    )
    centres = np.stack([t.mean(axis=0), x.mean(axis=0)])
    figure.add_scatter(
        x=centres[:, 0],
        y=centres[:, 1],
        mode="lines+markers+text",
        name="gap, texts to images",
        line={"color": INK, "width": 3.5},
        marker={
            "size": [15, 15],
            "symbol": ["diamond", "circle"],
            "color": colour,
            "line": {"color": INK, "width": 2.5},
        },
        hovertemplate="centre of the %{text}<extra></extra>",
        text=["<b>texts</b>", "<b>images</b>"],
        textposition=_outwards(centres),
        textfont={"size": 13},
    )
    # The same axis ranges at all times, so that movement is visible.
    every = np.concatenate([np.asarray(rows, dtype=np.float32) for e in measured for rows in (e.images, e.texts)])
    low, high = every.min(axis=0), every.max(axis=0)
    margin = 0.05 * float((high - low).max() or 1)
    figure.update_xaxes(
        title_text="along the gap before training", range=[low[0] - margin, high[0] + margin], zeroline=False
    )
    figure.update_yaxes(
        title_text="largest spread across it", range=[low[1] - margin, high[1] + margin], scaleanchor="x", scaleratio=1
    )
    drawn = float(np.linalg.norm(centres[1] - centres[0]))
    behind = "" if first is now else f" Pale: {moment(first.clock.task)}."
    return describe(
        figure,
        title=title,
        what=f"{len(x)} held-out images (filled) and their captions (open) on two axes that stay the same for the "
        f"whole run; the bar joins the centres, thin lines {len(joined)} pairs.{behind} Of the gap's length "
        f"{number(now.length)} these two axes show {number(drawn)}.",
        look_for="Clouds that separate or collapse, thin lines that get longer: pairs no longer match.",
        how="$((x_i - c) \\cdot u_1,\\ (x_i - c) \\cdot u_2)$ and the same of $t_i$, with $c$ the mean of "
        "both clouds, $u_1$ the direction of the gap and $u_2$ the first principal component of the rest, all "
        "computed *before* training and then fixed. "
        "Embeddings have unit length; distance outside the plane is not visible. " + SOURCE,
        alt=f"Scatter of {len(x)} images and {len(t)} captions {moment(now.clock.task, tasks)}; the gap is "
        f"{number(now.length)} long.",
        height=480,
    )


def cosine_distributions(
    measured: Sequence[ModalityGapMeasured], tasks: Tasks = (), *, task: int | None = None
) -> go.Figure:
    """Distributions of the cosines of pairs and non-pairs: before training above, the chosen time below."""
    now = at(measured, task)
    title = "Cosines of pairs and of non-pairs"
    if now is None:
        return nothing(title, how=SOURCE, first=FIRST, height=420)
    shown = [measured[0]] if measured[0] is now else [measured[0], now]
    figure = make_subplots(
        rows=len(shown),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.13,
        subplot_titles=[moment(e.clock.task, tasks) for e in shown],
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep", showlegend=False)
    figure.update_annotations(font_size=13, x=0, xanchor="left", yshift=2)
    count = task_count(measured, tasks)
    used = np.flatnonzero(np.sum([np.asarray(e.positive) + np.asarray(e.negative) for e in measured], axis=0) > 1e-4)
    edges = np.asarray(now.edges, dtype=np.float32)
    low, high = (used[0], used[-1] + 1) if len(used) else (0, len(edges) - 1)
    top = 1.12 * 100 * max(float(np.max(values)) for e in shown for values in (e.positive, e.negative))
    for row, event in enumerate(shown, start=1):
        colour = _colour(event.clock.task, count)
        for name, values, mean, dash, fill in (
            ("non-pairs", event.negative, event.negative_mean, "dot", None),
            ("pairs", event.positive, event.positive_mean, "solid", faded(colour, 0.25)),
        ):
            y = 100 * np.asarray(values, dtype=np.float32)
            figure.add_scatter(
                x=edges,
                y=np.append(y, y[-1]),
                mode="lines",
                line={"color": colour, "width": 2.2, "dash": dash, "shape": "hv"},
                fill="tozeroy" if fill else None,
                fillcolor=fill,
                name=f"{name}, {moment(event.clock.task, tasks)}",
                hovertemplate=f"{name}: %{{y:.1f}} % from cosine %{{x:.2f}}<extra></extra>",
                row=row,
                col=1,
            )
            peak = int(y.argmax())
            figure.add_annotation(
                x=float(edges[peak : peak + 2].mean()),
                y=float(y[peak]),
                text=f"{name}, mean {mean:.2f}".replace("-0", "−0"),
                showarrow=False,
                yanchor="bottom",
                xanchor="left" if (name == "pairs") == (event.positive_mean >= event.negative_mean) else "right",
                font={"size": 12},
                row=row,
                col=1,
            )
    figure.update_xaxes(range=[float(edges[low]) - 0.02, float(edges[high]) + 0.02], showgrid=False)
    figure.update_xaxes(title_text="cosine of an image and a text", row=len(shown), col=1)
    figure.update_yaxes(range=[0, top], ticksuffix=" %", nticks=4)
    figure.update_layout(margin={"t": 34})
    first = measured[0]
    told = f"Separation {number(first.separation)} before training" + (
        f", {number(now.separation)} {moment(now.clock.task, tasks)}" if now is not first else ""
    )
    told += f"; area under the ROC curve {first.auc:.3f}" + (f", then {now.auc:.3f}." if now is not first else ".")
    return describe(
        figure,
        title=title,
        what=f"Share of cosines per bin: images with their own caption (filled) and with others' (dotted). {told}",
        look_for="Distributions that overlap more: captions no longer identify their images. Both distributions "
        "moving the same way is harmless for ranking, but changes what a fixed threshold means.",
        how="$x_i \\cdot t_i$ for pairs, $x_i \\cdot t_j,\\ i \\ne j$ for non-pairs, in bins of width "
        f"{float(edges[1] - edges[0]):.2g}. Separation $(\\mu_+ - \\mu_-) / \\sqrt{{(sd_+^2 + sd_-^2)/2}}$; area under "
        "the ROC curve: the chance that a pair's cosine exceeds a non-pair's, counted exactly.",
        alt=told,
        height=420 if len(shown) > 1 else 300,
    )
