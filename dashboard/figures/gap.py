"""The joint space of pictures and texts: how far apart the two clouds lie, whether pairs still find each other, and
what becomes of tasks that have not been learned yet.

Moments are "before" (task −1) and after every task. Pictures are filled circles, texts open diamonds; the hue is that
of the task just learned, grey is before training. Cosines and lengths have no unit; accuracies and recalls are percent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cl_core.events import AccuracyMeasured, ModalityGapMeasured, SimilaritiesMeasured
from dashboard.figures.description import blank, describe
from dashboard.figures.layer_map import colour_bar
from dashboard.figures.lines import label_ends, task_ticks
from dashboard.figures.readings import TASK_INCREMENTAL, accuracies, last_of_tasks, zero_shot
from dashboard.theme import (
    DIVERGING,
    INK,
    PALE,
    TEMPLATE,
    faded,
    number,
    percent,
    points,
    scale,
    task_colour,
    task_label,
    task_name,
)

BEFORE = -1
TIES = 12  # pairs joined by a line
Tasks = Sequence[dict[str, Any]]

_SOURCE = "Modality gap: Liang et al., NeurIPS 2022, arXiv:2203.02053."
_DIAMOND = "diamond-open"


def moment(task: int, tasks: Tasks = ()) -> str:
    """'before training', or 'after T2 Letters'."""
    return "before training" if task < 0 else f"after {task_label(task, tasks)}"


def at(measured: Sequence[ModalityGapMeasured], task: int | None) -> ModalityGapMeasured | None:
    """What was measured after `task` (the newest where it is None or was not measured)."""
    found = last_of_tasks(measured)
    return found.get(task, list(found.values())[-1]) if found else None  # type: ignore[arg-type]


def _colour(task: int, tasks: int) -> str:
    return INK if task < 0 else task_colour(task, tasks)


def _count(events: Sequence[Any], tasks: Tasks) -> int:
    return max([len(tasks), 1, *(e.clock.task + 1 for e in events)])


def _moment_axis(tasks: int, most: int = 20) -> dict[str, Any]:
    """A horizontal axis that begins before training and goes on task by task."""
    ticks = task_ticks(tasks, most - 1)
    return {
        "title_text": "after training on",
        "showgrid": False,
        "range": [-1.2, max(tasks - 1, 1) + 0.2],
        "tickangle": 0,
        "tickvals": [BEFORE, *ticks["tickvals"]],  # type: ignore[misc]
        "ticktext": ["before", *ticks["ticktext"]],  # type: ignore[misc]
    }


def _line(
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
    """A grey line over moments whose dots have the colour of the task just learned."""
    count = _count(events, tasks)
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


def _ends(events: Sequence[Any], values: Sequence[float], text: str) -> list[tuple[float, float, str]]:
    return [(float(events[-1].clock.task), float(values[-1]), text)] if len(events) else []


def _nothing(figure: go.Figure, title: str, height: int = 340) -> go.Figure:
    return describe(
        figure,
        title=title,
        what="Nothing has been measured so far.",
        look_for="The first values appear before training begins.",
        how=_SOURCE,
        alt="Nothing to draw yet.",
        height=height,
    )


def gap_over_tasks(measured: Sequence[ModalityGapMeasured], tasks: Tasks = ()) -> go.Figure:
    """Length of the gap vector and its direction against the first, over moments."""
    events = list(last_of_tasks(measured).values())
    figure = make_subplots(
        rows=1, cols=2, horizontal_spacing=0.17, subplot_titles=["length ‖Δ‖", "direction cos(Δ, Δ before)"]
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep", showlegend=False)
    figure.update_annotations(font_size=13, yshift=10)
    title = "Length and direction of the gap"
    lengths, turned = [e.length for e in events], [e.direction for e in events]
    own = [
        ("gap", lengths, {}),
        ("pictures", [e.image_mean for e in events], {"dash": "dash", "symbol": "circle"}),
        ("texts", [e.text_mean for e in events], {"dash": "dot", "symbol": _DIAMOND}),
    ]
    top = 1.15 * max([0.1, *(v for _, values, _ in own for v in values)])
    ends: list[tuple[float, float, str]] = []
    for name, values, look in own:
        said = "length of the gap" if name == "gap" else f"length of the mean of {name}"
        more = {} if name == "gap" else {"pale": True, "coloured": False, "width": 1.8}
        figure.add_trace(_line(events, values, tasks, name=name, hover=said, **look, **more), row=1, col=1)
        ends += _ends(events, values, f"<b>{name}</b>" if name == "gap" else name)
    figure.add_trace(_line(events, turned, tasks, name="direction", hover="cosine with the first gap"), row=1, col=2)
    label_ends(figure, ends, span=(0, top), pixels=220)
    known = [v for v in turned if np.isfinite(v)]
    low = min(0.0, *known) if known else 0.0
    figure.update_xaxes(**_moment_axis(_count(events, tasks), most=9))
    figure.update_yaxes(range=[0, top], row=1, col=1)
    figure.update_yaxes(range=[low - 0.04 * (low < 0), 1.04], row=1, col=2)
    figure.update_layout(margin={"r": 40, "t": 44})
    if not events:
        return _nothing(figure, title)
    now = events[-1]
    told = f"Length {number(events[0].length)} {moment(events[0].clock.task)}, {number(now.length)} " + (
        f"{moment(now.clock.task, tasks)}; cosine with the first direction {number(now.direction)}."
    )
    return describe(
        figure,
        title=title,
        what="Left: distance between the centre of the pictures and the centre of their captions (thick), and how far "
        f"either centre lies from the origin (thin). Right: cosine between the gap now and before training. {told}",
        look_for="A length that grows, or a direction that turns away from 1: the towers move apart, and texts that no "
        "task trained no longer point at their pictures. A short mean says that its cloud is spread over the sphere.",
        how="$\\Delta = \\frac1n \\sum_i x_i - \\frac1n \\sum_i t_i$ over unit embeddings of held-out pictures and "
        "their captions; length $\\|\\Delta\\|_2$ (0 to 2), direction $\\cos(\\Delta_{now}, \\Delta_{before})$. With "
        "$\\mu_+, \\mu_-$ the mean cosines of pairs and non-pairs: "
        "$\\|\\Delta\\|^2 = \\|\\bar x\\|^2 + \\|\\bar t\\|^2 - 2(\\mu_+ + (n-1)\\mu_-)/n$. " + _SOURCE,
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
        marker={"symbol": symbol, "size": size, "color": colour, "line": {"width": 1 if symbol == _DIAMOND else 0}},
        **more,
    )


def _outwards(places: np.ndarray) -> list[str]:
    """Where the labels of two points [2, 2] go so that they point away from each other."""
    across, up = places[1] - places[0]
    if abs(up) >= abs(across):
        return ["bottom center", "top center"] if up >= 0 else ["top center", "bottom center"]
    return ["middle left", "middle right"] if across >= 0 else ["middle right", "middle left"]


def two_clouds(
    measured: Sequence[ModalityGapMeasured], tasks: Tasks = (), *, task: int | None = None, ties: int = TIES
) -> go.Figure:
    """Pictures and captions on the two fixed axes: at the chosen moment in front, before training behind.

    Args:
        measured: the run's measurements.
        tasks: RunStarted.tasks, for colours and names.
        task: after which task; None = the newest.
        ties: how many pairs are joined by a line (evenly chosen, the same at every moment).
    """
    now = at(measured, task)
    figure, title = blank(showlegend=True), "The two clouds"
    if now is None:
        return _nothing(figure, title, 460)
    title, first = f"The two clouds, {moment(now.clock.task, tasks)}", measured[0]
    colour, x, t = (
        _colour(now.clock.task, _count(measured, tasks)),
        *(np.asarray(rows, dtype=np.float32) for rows in (now.images, now.texts)),
    )
    if first is not now:
        for rows, name, symbol in ((first.images, "pictures", "circle"), (first.texts, "texts", _DIAMOND)):
            _cloud(
                figure, np.asarray(rows), name=f"{name} before", symbol=symbol, colour=PALE, size=5, hoverinfo="skip"
            )
    joined = np.unique(np.linspace(0, len(x) - 1, min(ties, len(x))).astype(int)) if len(x) else np.zeros(0, int)
    for rows, name, symbol, size in ((x, "pictures", "circle", 5.5), (t, "texts", _DIAMOND, 7)):
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
        name="gap, texts to pictures",
        line={"color": INK, "width": 3.5},
        marker={
            "size": [15, 15],
            "symbol": ["diamond", "circle"],
            "color": colour,
            "line": {"color": INK, "width": 2.5},
        },
        hovertemplate="centre of the %{text}<extra></extra>",
        text=["<b>texts</b>", "<b>pictures</b>"],
        textposition=_outwards(centres),
        textfont={"size": 13},
    )
    # One frame for all moments: only then does a cloud that moves look as if it moved.
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
        what=f"{len(x)} held-out pictures (filled) and their captions (open) on two axes that stay the same for the "
        f"whole run; the bar joins the centres, thin lines {len(joined)} pairs.{behind} Of the gap's length "
        f"{number(now.length)} these two axes show {number(drawn)}.",
        look_for="Clouds that part or shrink to a spot, thin lines that get longer: pairs lose each other.",
        how="$((x_i - c) \\cdot u_1,\\ (x_i - c) \\cdot u_2)$ and the same of $t_i$, with $c$ the mean of "
        "both clouds, $u_1$ the direction of the gap and $u_2$ the first principal component of what is left, all "
        "taken *before* training and kept for all later moments. "
        "Embeddings have unit length; distance outside the plane is not seen. " + _SOURCE,
        alt=f"Scatter of {len(x)} pictures and {len(t)} captions {moment(now.clock.task, tasks)}; the gap is "
        f"{number(now.length)} long.",
        height=480,
    )


def cosine_distributions(
    measured: Sequence[ModalityGapMeasured], tasks: Tasks = (), *, task: int | None = None
) -> go.Figure:
    """How often each cosine occurs among pairs and among non-pairs: before training above, the chosen moment below."""
    now = at(measured, task)
    title = "Cosines of pairs and of non-pairs"
    if now is None:
        return _nothing(blank(), title, 420)
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
    count = _count(measured, tasks)
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
    figure.update_xaxes(title_text="cosine of a picture and a text", row=len(shown), col=1)
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
        what=f"Share of cosines per bin: pictures with their own caption (filled) and with others' (dotted). {told}",
        look_for="Hills that slide over each other: a caption no longer says which picture it belongs to. Both hills "
        "moving the same way is harmless for ranking, but changes what a fixed threshold means.",
        how="$x_i \\cdot t_i$ for pairs, $x_i \\cdot t_j,\\ i \\ne j$ for non-pairs, in bins of width "
        f"{float(edges[1] - edges[0]):.2g}. Separation $(\\mu_+ - \\mu_-) / \\sqrt{{(sd_+^2 + sd_-^2)/2}}$; area under "
        "the ROC curve: the chance that a pair's cosine exceeds a non-pair's, counted exactly.",
        alt=told,
        height=420 if len(shown) > 1 else 300,
    )


def retrieval(measured: Sequence[ModalityGapMeasured], tasks: Tasks = ()) -> go.Figure:
    """R@1 and R@5 over moments, pictures asking for captions and captions asking for pictures."""
    events = list(last_of_tasks(measured).values())
    figure, ends = blank(showlegend=False), []
    for rank in ("5", "1"):
        for field, way, dash in (
            ("image_to_text", "picture → text", "solid"),
            ("text_to_image", "text → picture", "dash"),
        ):
            values = [getattr(e, field).get(rank, np.nan) for e in events]
            figure.add_trace(
                _line(
                    events,
                    values,
                    tasks,
                    name=f"{way} R@{rank}",
                    hover=f"{way} R@{rank}",
                    dash=dash,
                    width=2.8 if rank == "1" else 1.6,
                    pale=rank == "5",
                    coloured=rank == "1",
                    symbol="circle" if field == "image_to_text" else _DIAMOND,
                )
            )
            ends += _ends(events, values, f"R@{rank} {way[way.index('→') :]}")
    label_ends(figure, ends, span=(0, 103))
    figure.update_xaxes(**_moment_axis(_count(events, tasks), most=12))
    figure.update_yaxes(title_text="recall", range=[0, 103], dtick=20, ticksuffix=" %")
    figure.update_layout(margin={"r": 96})
    if not events:
        return _nothing(figure, "Retrieval")
    first, now = events[0], events[-1]
    told = "; ".join(
        f"R@1 {way} {percent(getattr(first, field).get('1'))} → {percent(getattr(now, field).get('1'))}"
        for field, way in (("image_to_text", "picture → text"), ("text_to_image", "text → picture"))
    )
    return describe(
        figure,
        title="Retrieval",
        what=f"How often the right one of {now.pairs} captions is the nearest (R@1, thick) or among the five nearest "
        f"(R@5, thin) to a picture (solid), and the other way round (dashed). {told}.",
        look_for="Lines that fall: the joint space of the pre-training world is being used up by the tasks. One way "
        "falling alone: only one tower lost its order.",
        how="$R@k = \\frac{100}{n}\\,\\#\\{i : x_i \\cdot t_i$ among the $k$ largest of $x_i \\cdot t_j\\}$ over the "
        f"{now.pairs} held-out pairs, none with the same caption; ties count against the pair. Chance: "
        f"{percent(100 / max(now.pairs, 1), 2)} for R@1.",
        alt=f"{told}.",
    )


def general_accuracy(measured: Sequence[ModalityGapMeasured], tasks: Tasks = ()) -> go.Figure:
    """Zero-shot accuracy on the pre-training world's own classes, over moments."""
    events = list(last_of_tasks(measured).values())
    values = [e.general_accuracy for e in events]
    figure = blank(showlegend=False)
    figure.add_trace(_line(events, values, tasks, name="general", hover="general zero-shot accuracy"))
    if events:
        figure.add_hline(y=values[0], line={"dash": "dot", "width": 1, "color": INK})
        label_ends(figure, _ends(events, values, f"{values[-1]:.1f} %"), span=(0, 103))
    figure.update_xaxes(**_moment_axis(_count(events, tasks), most=12))
    figure.update_yaxes(title_text="zero-shot accuracy", range=[0, 103], dtick=20, ticksuffix=" %")
    figure.update_layout(margin={"r": 70})
    if not events:
        return _nothing(figure, "General zero-shot accuracy")
    told = f"{percent(values[0])} {moment(events[0].clock.task)}"
    if len(events) > 1:
        told += f", {percent(values[-1])} {moment(events[-1].clock.task, tasks)} ({points(values[-1] - values[0])})"
    return describe(
        figure,
        title="General zero-shot accuracy",
        what=f"Held-out pictures of the world the model was pre-trained on, told apart by words alone; dotted: where "
        f"it began. {told}.",
        look_for="A line that falls below the dotted one: what the tasks cost the model's general ability. No task "
        "trains on these pictures.",
        how="$\\arg\\max_c\\ x \\cdot t_c$, with $t_c$ the normalised mean of the class's embedded sentences (one per "
        "template); percent of the general set's test pictures. Accuracy axes always run from 0 to 100 %.",
        alt=f"{told}.",
    )


def lost_before_learning(measured: Sequence[AccuracyMeasured]) -> np.ndarray:
    """[rows, T] pp: a(i, j) − zero-shot(j) for tasks j not learned yet after task i; NaN elsewhere."""
    matrix, untrained = accuracies(measured, TASK_INCREMENTAL), zero_shot(measured)
    if untrained is None or not matrix.size:
        return np.zeros((0, 0))
    rows, columns = np.indices(matrix.shape)
    return np.where(columns > rows, matrix - untrained[: matrix.shape[1]], np.nan)


def zero_shot_lost(measured: Sequence[AccuracyMeasured], tasks: Tasks = ()) -> go.Figure:
    """What training did to tasks before they were learned: a heat map of differences to the zero-shot row."""
    table = lost_before_learning(measured)
    table = table[np.isfinite(table).any(axis=1)] if table.size else table  # the last row has no later task
    columns = max(table.shape[1], len(tasks), 1)
    figure, n = blank(), len(table)
    known = table[np.isfinite(table)]
    most = max(5.0, float(np.abs(known).max())) if len(known) else 5.0
    figure.add_heatmap(
        z=table.astype(np.float32),
        zmin=-most,
        zmax=most,
        zmid=0,
        colorscale=scale(DIVERGING),
        xgap=2,
        ygap=2,
        hoverongaps=False,
        text=[["" if np.isnan(v) else f"{v:+.1f}".replace("-", "−") for v in row] for row in table],
        texttemplate="%{text}" if columns <= 12 else "",
        textfont={"size": 13 if columns <= 8 else 11},
        customdata=[[f"{task_label(j, tasks)}<br>{moment(i, tasks)}" for j in range(table.shape[1])] for i in range(n)],
        hovertemplate="%{customdata}: %{z:+.1f} pp against zero-shot<extra></extra>",
        colorbar=colour_bar("change", " pp"),
    )

    def header(task: int) -> str:
        return f'<span style="color:{task_colour(task, columns)}">■</span> {task_name(task)}'

    figure.update_xaxes(
        title_text="evaluated on",
        side="top",
        showgrid=False,
        ticks="",
        tickvals=list(range(columns)),
        ticktext=[header(j) for j in range(columns)],
        tickangle=0,
        range=[0.5, max(columns, 2) - 0.5],  # the first task is never waited for
    )
    figure.update_yaxes(
        title_text="after training on",
        showgrid=False,
        ticks="",
        tickvals=list(range(n)),
        ticktext=[header(i) for i in range(n)],
        range=[max(n, 1) - 0.5, -0.5],
    )
    figure.update_layout(margin={"l": 70, "r": 20, "t": 64, "b": 16})
    if len(known):
        i, j = np.unravel_index(np.nanargmin(table), table.shape)
        told = (
            f"Mean {points(float(known.mean()))}; worst: {task_label(int(j), tasks)} {points(float(table[i, j]))} "
            + (f"{moment(int(i), tasks)}.")
        )
    else:
        told = "Nothing measured yet: a task has to be learned while another one waits."
    return describe(
        figure,
        title="Zero-shot lost before learning",
        what="Rows: after training on; columns: evaluated on; percentage points against the model before any training, "
        f"tasks not learned yet only. {told}",
        look_for="Brown cells: training on other tasks damages what the model could do unasked; they darken down a "
        "column where damage adds up. Blue: an earlier task helped.",
        how="$a(i, j) - a_0(j)$ for $j > i$, with $a(i, j)$ the task-incremental accuracy on task $j$ after training "
        "on task $i$ and $a_0(j)$ the same before any training (zero-shot). Zero is always the neutral middle.",
        alt=f"Heat map of changes in zero-shot accuracy. {told}",
        height=int(min(560, max(260, 110 + 52 * max(n, 1)))),
    )


_PARTS = (
    ("positive", "own class", "cosine with the own class's text"),
    ("negative", "other classes of the task", "mean cosine with the other classes' texts"),
    ("gap", "gap ‖Δ‖ within the task", "distance of the centres"),
)


def domain_similarities(
    similar: Sequence[SimilaritiesMeasured], tasks: Tasks = (), *, task: int | None = None
) -> go.Figure:
    """Each task's pictures against its class texts over moments, one line per task in its colour.

    Args:
        similar: the run's measurements.
        tasks: RunStarted.tasks, for colours and names.
        task: drawn in front; None = all alike.
    """
    figure = make_subplots(rows=1, cols=3, horizontal_spacing=0.085, subplot_titles=[title for _, title, _ in _PARTS])
    figure.update_layout(template=TEMPLATE, uirevision="keep", showlegend=False)
    figure.update_annotations(font_size=13, yshift=10)
    count = max(_count(similar, tasks), *(e.evaluated + 1 for e in similar)) if similar else _count(similar, tasks)
    by_task = {j: list(last_of_tasks(e for e in similar if e.evaluated == j).values()) for j in range(count)}
    for column, (field, _, said) in enumerate(_PARTS, start=1):
        values = [v for e in similar if np.isfinite(v := getattr(e, field))]
        low, high = (min(0.0, *values), max(0.0, *values)) if values else (0.0, 1.0)
        span = (low - 0.05 * (high - low) * (low < 0), high + 0.08 * (high - low or 1))
        ends = []
        for j, events in by_task.items():
            if not events:
                continue
            front, colour = task in (None, j), task_colour(j, count)
            y = np.array([getattr(e, field) for e in events], dtype=np.float32)
            learned = [e.clock.task == j for e in events]
            figure.add_scatter(
                x=[e.clock.task for e in events],
                y=y,
                mode="lines+markers",
                name=task_label(j, tasks),
                line={"color": colour if front else faded(colour, 0.4), "width": 2.6 if front else 1.5},
                marker={
                    "size": [11 if just else 5 for just in learned],
                    "color": colour if front else faded(colour, 0.5),
                },
                customdata=[moment(e.clock.task, tasks) for e in events],
                hovertemplate=f"{task_label(j, tasks)}, {said}, %{{customdata}}: %{{y:.3f}}<extra></extra>",
                row=1,
                col=column,
            )
            ends.append((float(events[-1].clock.task), float(y[-1]), task_name(j)))
        axes = ("x", "y") if column == 1 else (f"x{column}", f"y{column}")
        label_ends(figure, ends, span=span, pixels=240, axes=axes)
        figure.update_yaxes(range=span, row=1, col=column)
    figure.update_xaxes(**_moment_axis(count, most=8))
    figure.update_layout(margin={"r": 40, "t": 44})
    latest = [events[-1] for events in by_task.values() if events]
    told = (
        "Own minus other classes now: "
        + ", ".join(f"{task_name(e.evaluated)} {number(e.positive - e.negative)}" for e in latest[:8])
        + "."
        if latest
        else "Nothing has been measured so far."
    )
    return describe(
        figure,
        title="Pictures against class texts, task by task",
        what="One line per task: mean cosine of its test pictures with their own class's text (left), with the other "
        "classes' texts (middle), and the distance of the two centres (right); large dot: the task has just been "
        f"learned. {told}",
        look_for="After its large dot a line that falls on the left, or rises in the middle: the margin of that task "
        "shrinks. Before its large dot: other tasks move it.",
        how="$\\frac1n \\sum_i x_i \\cdot t_{y_i}$, the mean of $x_i \\cdot t_c$ over $c \\ne y_i$, and "
        "$\\|\\bar x - \\bar t\\|_2$, over up to 60 test pictures of the task (classes in turn) and the class texts "
        "that evaluation uses.",
        alt=told,
        height=350,
    )
