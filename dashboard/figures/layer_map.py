"""Heat maps with one row per layer and one column per task."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from dashboard.figures.description import blank
from dashboard.figures.plot_helpers import task_ticks
from dashboard.theme import SEQUENTIAL, TEMPLATE, layer_name, scale


def map_height(layers: int) -> int:
    """Height in pixels of a map with one row per layer."""
    return int(min(680, max(220, 96 + (40 if layers <= 8 else 30) * layers)))


def layer_rows(layers: int) -> dict[str, object]:
    """A vertical axis of layers, the first at the top."""
    stride = max(1, math.ceil(layers / 24))
    return {
        "showgrid": False,
        "ticks": "",
        "range": [max(layers, 1) - 0.5, -0.5],
        "tickvals": list(range(0, layers, stride)),
        "ticktext": [layer_name(i) for i in range(0, layers, stride)],
    }


def colour_bar(title: str, suffix: str = "") -> dict[str, object]:
    """A slim colour bar with its title along it."""
    return {
        "title": {"text": title, "side": "right", "font": {"size": 12}},
        "thickness": 12,
        "outlinewidth": 0,
        "ticksuffix": suffix,
    }


def layer_map(
    table: np.ndarray,
    text: list[list[str]] | None,
    *,
    across: str,
    hover: str,
    custom: list[list[str]] | None = None,
    bar: str,
    high: float,
    suffix: str = "",
) -> go.Figure:
    """The map; a cell that was not measured (NaN) is empty.

    Args:
        table: [layers, tasks].
        text: labels of the cells, if any.
        across: title of the task axis.
        hover: Plotly's hover template.
        custom: a text for each cell that `hover` may use.
        bar, suffix: title of the colour bar and unit of its ticks.
        high: end of the colour scale, which starts at zero.
    """
    figure = blank()
    figure.add_trace(cells(table, text, high, hover=hover, customdata=custom, colorbar=colour_bar(bar, suffix)))
    _axes(figure, *table.shape, across=across)
    return figure


def layer_maps(
    tables: dict[str, np.ndarray], texts: list[list[list[str]] | None], *, hover: str, bar: str, high: float
) -> go.Figure:
    """Several maps side by side on one colour scale, each under its title; otherwise as `layer_map`."""
    figure = make_subplots(
        rows=1, cols=len(tables), shared_yaxes=True, horizontal_spacing=0.05, subplot_titles=list(tables)
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep")
    figure.update_annotations(font_size=13, yshift=26)
    for column, ((title, table), text) in enumerate(zip(tables.items(), texts, strict=True), start=1):
        shown = {"colorbar": colour_bar(bar), "showscale": column == len(tables)}
        figure.add_trace(cells(table, text, high, hover=hover, size=11, name=title, **shown), row=1, col=column)
        _axes(figure, *table.shape, most=8, col=column)
    figure.update_layout(margin={"t": 76})
    return figure


def cells(
    table: np.ndarray, text: list[list[str]] | None, high: float, *, hover: str, size: int = 12, **named: Any
) -> go.Heatmap:
    return go.Heatmap(
        z=table.astype(np.float32),
        zmin=0,
        zmax=high,
        colorscale=scale(SEQUENTIAL),
        xgap=2,
        ygap=2,
        hoverongaps=False,
        text=text,
        texttemplate="%{text}" if text else "",
        textfont={"size": size},
        hovertemplate=hover,
        **named,
    )


def _axes(
    figure: go.Figure, layers: int, tasks: int, *, across: str | None = None, most: int = 20, col: int | None = None
) -> None:
    """Tasks across the top, layers downwards."""
    figure.update_xaxes(
        title_text=across,
        side="top",
        showgrid=False,
        ticks="",
        range=[-0.5, max(tasks, 1) - 0.5],
        col=col,
        **task_ticks(tasks, most=most),
    )
    figure.update_yaxes(**layer_rows(layers), col=col)
    figure.update_layout(margin={"l": 70, "r": 20, "t": 60, "b": 16})
