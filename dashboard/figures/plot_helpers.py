"""Helpers for curves: downsampling, labels at line ends, dotted task boundaries, bands, reference bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cl_core.analysis.ledger import Stretch
from cl_core.events import KnobTurned, TaskStarted
from dashboard.markdown import FIRST
from dashboard.theme import INK, PALE, layer_name, task_name

LIMIT = 600  # points a line keeps
TOOLBAR = 46  # pixels above a plot that its toolbar and a line of names need


def thinned(x: np.ndarray, y: np.ndarray, limit: int = LIMIT) -> tuple[np.ndarray, np.ndarray]:
    """At most `limit` points: the smallest and the largest of every bucket, so that no peak disappears."""
    x, y = np.asarray(x), np.asarray(y, dtype=np.float32)
    if len(x) <= limit:
        return x, y
    edges = np.linspace(0, len(x), limit // 2 + 1).astype(int)
    bucket = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
    finite = np.isfinite(y)
    ends = [np.array([0, len(x) - 1])]
    for extreme, otherwise in ((np.minimum, np.inf), (np.maximum, -np.inf)):
        values = np.where(finite, y, np.float32(otherwise))
        there = np.flatnonzero(finite & (values == extreme.reduceat(values, edges[:-1])[bucket]))
        ends.append(there[np.unique(bucket[there], return_index=True)[1]])  # the first of each bucket
    chosen = np.unique(np.concatenate(ends))[:limit]
    return x[chosen], y[chosen]


def smoothed(y: np.ndarray, width: int) -> np.ndarray:
    """Running mean over the last `width` values (fewer at the beginning)."""
    y = np.asarray(y, dtype=np.float64)
    sums = np.concatenate([[0.0], np.cumsum(y)])
    ends = np.arange(1, len(y) + 1)
    starts = np.maximum(0, ends - width)
    return ((sums[ends] - sums[starts]) / (ends - starts)).astype(np.float32)


def spread_out(places: Sequence[float], gap: float) -> list[float]:
    """Positions moved as little as needed so that neighbours are `gap` apart, in the given order of items."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    groups: list[list[float]] = []  # [sum of preferred centres, size]; a group is a set of touching items
    for i in order:
        groups.append([places[i], 1])
        while len(groups) > 1:
            (low, m), (high, n) = groups[-2], groups[-1]
            if high / n - low / m >= gap * (m + n) / 2:
                break
            groups[-2:] = [[low + high, m + n]]
    moved, k = [0.0] * len(places), 0
    for total, size in groups:
        for j in range(int(size)):
            moved[order[k]] = total / size + (j - (size - 1) / 2) * gap
            k += 1
    return moved


def within(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions pushed above `low` and then, if there is space, below `high`, still `gap` apart."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = list(places)
    for rank, i in enumerate(order):
        moved[i] = max(moved[i], low if rank == 0 else moved[order[rank - 1]] + gap)
    for rank, i in enumerate(reversed(order)):
        ceiling = high if rank == 0 else moved[order[len(order) - rank]] - gap
        moved[i] = max(min(moved[i], ceiling), low + (len(order) - 1 - rank) * gap)
    return moved


def label_ends(
    figure: go.Figure,
    ends: Sequence[tuple[float, float, str]],
    *,
    span: tuple[float, float],
    log: bool = False,
    pixels: float = 250,
    gap: float = 16,
    axes: tuple[str, str] = ("x", "y"),
) -> None:
    """Draw a label to the right of each line end (x, y, text); overlapping labels are moved apart.

    `span` is the drawn range of y (data units), `pixels` its height on the screen; for a log axis both are in decades.
    """
    known = [(x, y, text) for x, y, text in ends if y is not None and math.isfinite(y) and (not log or y > 0)]
    if not known:
        return
    low, high = (math.log10(v) for v in span) if log else span
    scale = pixels / max(high - low, 1e-12)
    raw = [((math.log10(y) if log else y) - low) * scale for _, y, _ in known]
    moved = within(spread_out(raw, gap), gap, 0, pixels)
    figure.layout.annotations += tuple(
        go.layout.Annotation(
            x=x,
            y=math.log10(y) if log else y,
            xref=axes[0],
            yref=axes[1],
            text=text,
            showarrow=False,
            xanchor="left",
            xshift=7,
            yshift=new - old,
            font={"size": 12},
        )
        for (x, y, text), old, new in zip(known, raw, moved, strict=True)
    )


def mark_boundaries(figure: go.Figure, starts: Sequence[tuple[float, int]], *, axis: str = "x", most: int = 20) -> None:
    """A dotted vertical at each (x, task) of `starts`, labelled with the task's name; at most about `most` labels."""
    drawn = "y domain" if axis == "x" else f"y{axis[1:]} domain"
    figure.layout.shapes += tuple(
        go.layout.Shape(
            type="line",
            x0=x,
            x1=x,
            xref=axis,
            y0=0,
            y1=1,
            yref=drawn,
            layer="below",
            line={"dash": "dot", "width": 1, "color": INK},
        )
        for x, _ in starts
    )
    stride = max(1, math.ceil(len(starts) / most))
    figure.layout.annotations += tuple(
        go.layout.Annotation(
            x=x,
            xref=axis,
            y=1,
            yref=drawn,
            text=task_name(task),
            showarrow=False,
            xanchor="left",
            yanchor="bottom",
            xshift=-2,
            font={"size": 12},
        )
        for x, task in starts[::stride]
    )
    if starts:  # the toolbar stands above the names, not on the last of them
        figure.update_layout(margin={"t": max(figure.layout.margin.t or 0, TOOLBAR)})


def shaded_layer(layer: int | None, layers: int) -> str:
    """What `mark_layer` draws, as the end of a caption's first sentence."""
    return f"; shaded: {layer_name(layer)}, which is chosen" if layer is not None and layer < layers else ""


def mark_turned(figure: go.Figure, turned: Sequence[KnobTurned], *, most: int = 4) -> None:
    """A dash-dotted vertical at each changed setting, on every horizontal axis of steps or tasks; the caption names the
    settings. On a task axis it is drawn before the first task measured under the new value."""
    places = {"optimiser step": lambda e: float(e.clock.step), "after training on": lambda e: e.clock.task - 0.5}
    marked = False
    for axis in figure.select_xaxes():
        place = places.get(axis.title.text or "")
        if place is None:
            continue
        marked, name = True, axis.plotly_name.replace("axis", "")
        drawn = f"{axis.anchor if str(axis.anchor or '').startswith('y') else 'y'} domain"
        line = {"dash": "dashdot", "width": 1.5, "color": INK}
        figure.layout.shapes += tuple(
            go.layout.Shape(type="line", x0=x, x1=x, xref=name, y0=0, y1=1, yref=drawn, line=line)
            for x in sorted({place(event) for event in turned})
        )
    if marked and turned and isinstance(figure.layout.meta, dict):
        told = [f"{e.name} {_short(e.old)} → {_short(e.new)} in {task_name(e.clock.task)}" for e in turned[-most:]]
        more = f", and {len(turned) - most} before" if len(turned) > most else ""
        said = f" Dash-dotted: a setting was changed ({'; '.join(told)}{more})."
        _add_to_caption(figure, said)


def _add_to_caption(figure: go.Figure, said: str, *, first: bool = False) -> None:
    """`first`: into the first sentence, which is the one that stands below the figure."""
    caption = figure.layout.meta.get("caption", "")
    end = FIRST.search(caption) if first else None
    place = end.start() if end else len(caption.rstrip(".")) if first else len(caption)
    figure.update_layout(meta={**figure.layout.meta, "caption": caption[:place] + said + caption[place:]})


def mark_costly(figure: go.Figure, stretches: Sequence[Stretch], begun: Sequence[TaskStarted]) -> None:
    """Mark the steps with the largest loss increase on old tasks, on every horizontal time axis: shaded on axes of
    steps, a bar between the previous task (T3) and their own (T4) below axes of tasks. The caption names them."""
    if not isinstance(figure.layout.meta, dict):
        return
    of_task = {event.clock.task: (event.clock.step, max(event.steps, 1)) for event in begun}
    on_steps = on_tasks = False
    shapes: list[go.layout.Shape] = []
    for axis in figure.select_xaxes():
        name, kind = axis.plotly_name.replace("axis", ""), axis.title.text or ""
        drawn = f"{axis.anchor if str(axis.anchor or '').startswith('y') else 'y'} domain"
        for part in stretches:
            if kind == "optimiser step":
                on_steps, x0, x1, y0, y1 = True, float(part.first), float(part.last), 0.0, 1.0
            elif kind == "after training on" and part.task in of_task:
                first, steps = of_task[part.task]
                x0, x1 = (part.task - 1 + (step + 1 - first) / steps for step in (part.first, part.last))
                on_tasks, y0, y1 = True, -0.025, 0.0
            else:
                continue
            shapes.append(
                go.layout.Shape(
                    type="rect",
                    x0=x0,
                    x1=x1,
                    xref=name,
                    y0=y0,
                    y1=y1,
                    yref=drawn,
                    layer="below",
                    line={"width": 0},
                    fillcolor=INK,
                    opacity=0.18 if y1 else 0.8,
                )
            )
    if shapes:
        figure.layout.shapes += tuple(shapes)  # at once: every assignment validates all of them
    if on_steps or on_tasks:
        how = "shaded" if on_steps else "bars below the axis"
        named = ", ".join(f"{part.first + 1}–{part.last + 1} in {task_name(part.task)}" for part in stretches)
        _add_to_caption(figure, f" Steps that cost most: {named}.")
        _add_to_caption(figure, f"; {how}: the steps that cost old tasks most", first=True)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def band(x0: float, x1: float, *, axis: str = "x", colour: str = PALE, opacity: float | None = None) -> go.layout.Shape:
    """A filled band behind the lines, from `x0` to `x1`, as high as the plot."""
    return go.layout.Shape(
        type="rect",
        x0=x0,
        x1=x1,
        xref=axis,
        y0=0,
        y1=1,
        yref=f"y{axis[1:]} domain",
        layer="below",
        line={"width": 0},
        fillcolor=colour,
        opacity=opacity,
    )


Curve = tuple[Sequence[float] | np.ndarray, np.ndarray]  # x, y


def spread(figure: go.Figure, low: Curve, high: Curve, *, of: str = "", **place: Any) -> None:
    """A pale band from `low` to `high`; `of` is the prefix of its edges' names, `place` a subplot's row and column."""
    for (x, y), name, fill in ((high, "most", None), (low, "least", "tonexty")):
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"width": 0.6, "color": PALE},
            fill=fill,
            fillcolor="rgba(128,134,144,0.16)",
            hoverinfo="skip",
            showlegend=False,
            name=of + name,
            **place,
        )


def reference_bars(
    x: Sequence[float], values: Sequence[float | None], *, half: float, name: str, **more: Any
) -> go.Scatter:
    """A short horizontal bar at every (x, value), extending `half` to either side; None draws none."""
    return go.Scatter(
        x=[v for at in x for v in (float(at) - half, float(at) + half, None)],
        y=[v for value in values for v in (value, value, None)],
        mode="lines",
        name=name,
        line={"color": INK, "width": 2},
        hoverinfo="skip",
        **more,
    )


def mark_layer(figure: go.Figure, layer: int | None, layers: int, *, axes: Sequence[str] = ("x",)) -> None:
    """A band behind the chosen layer; `axes` count layers from 0."""
    if layer is not None and layer < layers:
        figure.layout.shapes += tuple(band(layer - 0.4, layer + 0.4, axis=axis, opacity=0.45) for axis in axes)


def decade_ticks(low: float, high: float) -> dict[str, object]:
    """Range and one tick per decade for a log axis from `low` to `high` (data units), in plain digits near one."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    exponents = list(range(first, last + 1, max(1, math.ceil((last - first) / 6))))
    if len(exponents) < 2:  # less than a decade: 1, 2, 5 as well
        values = [m * 10.0**e for e in range(first - 1, last + 2) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
    else:
        values = [10.0**e for e in exponents]
    return {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": values,
        "ticktext": [
            f"{v:g}" if 0.0009 < v < 1e5 else f"10{str(round(math.log10(v))).translate(_RAISED)}" for v in values
        ],
    }


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def layer_ticks(layers: int) -> dict[str, object]:
    """Ticks 1 … L and the title *layer* for a horizontal axis that counts layers from 0."""
    stride = max(1, math.ceil(layers / 12))
    return {
        "title_text": "layer",
        "tickangle": 0,
        "tickvals": list(range(0, layers, stride)),
        "ticktext": [str(i + 1) for i in range(0, layers, stride)],
    }


def task_ticks(tasks: int, most: int = 20, *, before: str = "") -> dict[str, object]:
    """Ticks T1 … Tn for an axis that counts tasks from 0, thinned to about `most` when there are more.

    `before` is the label of an additional tick at −1, before any training; none if empty. It replaces T1 if ticks are
    thinned.
    """
    stride = max(1, math.ceil(tasks / most))
    shown = range(stride - 1 if before else 0, tasks, stride)
    return {
        "tickangle": 0,
        "tickvals": [*([-1] if before else []), *shown],
        "ticktext": [*([before] if before else []), *(task_name(t) for t in shown)],
    }
