"""A figure as a small SVG without words, for the shelf: cells, lines, dots or bars of its first axes."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from dashboard.theme import SEQUENTIAL, TASK_COLOURS

if TYPE_CHECKING:
    import plotly.graph_objects as go

WIDTH, HEIGHT, EDGE = 240, 110, 4


def thumbnail(figure: go.Figure) -> str:
    """SVG markup."""
    traces = [t for t in figure.data if (t.xaxis or "x") == "x" and (t.yaxis or "y") == "y" and t.visible is not False]
    maps = [trace for trace in traces if trace.type == "heatmap"]
    inside = "".join(_cells(np.array(trace.z, dtype=float)) for trace in maps) or _curves(figure, traces)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}">{inside}</svg>'
    )


def _cells(z: np.ndarray) -> str:
    """Rows from the top, paler for less."""
    known = z[np.isfinite(z)]
    if not known.size:
        return ""
    low, high = float(known.min()), float(known.max())
    wide, tall = (WIDTH - 2 * EDGE) / z.shape[1], (HEIGHT - 2 * EDGE) / z.shape[0]
    found = []
    for i, j in np.argwhere(np.isfinite(z)):
        share = (z[i, j] - low) / (high - low) if high > low else 0.5
        colour = SEQUENTIAL[round(share * (len(SEQUENTIAL) - 1))]
        found.append(_box(EDGE + j * wide, EDGE + i * tall, wide - 1, tall - 1, colour))
    return "".join(found)


def _curves(figure: go.Figure, traces: list[Any]) -> str:
    drawn = [(trace, *_points(figure, trace)) for trace in traces if trace.x is not None and trace.y is not None]
    drawn = [(trace, x, y) for trace, x, y in drawn if np.isfinite(x * y).any()]
    if not drawn:
        return ""
    every = [np.concatenate(values) for values in zip(*((x, y) for _, x, y in drawn), strict=True)]
    (left, right), (low, high) = ((np.nanmin(values), np.nanmax(values)) for values in every)
    low = min(low, 0.0) if any(trace.type == "bar" for trace, _, _ in drawn) else low
    across = lambda x: EDGE + (x - left) / ((right - left) or 1) * (WIDTH - 2 * EDGE)
    up = lambda y: HEIGHT - EDGE - (y - low) / ((high - low) or 1) * (HEIGHT - 2 * EDGE)
    found = []
    for number, (trace, x, y) in enumerate(drawn):
        colour = _colour(trace, number)
        places = [(across(a), up(b)) for a, b in zip(x, y, strict=True) if np.isfinite(a * b)]
        if trace.type == "bar":
            wide = 0.6 * (WIDTH - 2 * EDGE) / max(len(x), 1)
            found += [_box(a - wide / 2, b, wide, up(max(low, 0.0)) - b, colour) for a, b in places]
        elif "lines" in (trace.mode or "lines"):
            found.append(f'<path d="{_path(across(x), up(y))}" fill="none" stroke="{colour}" stroke-width="2"/>')
        else:
            found += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5" fill="{colour}"/>' for a, b in places]
    return "".join(found)


def _points(figure: go.Figure, trace: Any) -> tuple[np.ndarray, np.ndarray]:
    """x and y as numbers; categories by their place."""
    found = []
    for values, axis in ((trace.x, figure.layout.xaxis), (trace.y, figure.layout.yaxis)):
        try:
            numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
        except (TypeError, ValueError):
            numbers = np.arange(len(values), dtype=float)
        found.append(np.log10(np.where(numbers > 0, numbers, np.nan)) if axis.type == "log" else numbers)
    count = min(map(len, found))
    return found[0][:count], found[1][:count]


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """A line with gaps where there is no point."""
    steps, begun = [], False
    for a, b in zip(x, y, strict=True):
        known = bool(np.isfinite(a * b))
        steps += [f"{'L' if begun else 'M'}{a:.1f} {b:.1f}"] if known else []
        begun = known
    return "".join(steps)


def _colour(trace: Any, number: int) -> str:
    for part in (trace.line if trace.type == "scatter" else None, trace.marker):
        if part is not None and isinstance(part.color, str):
            return escape(part.color)
    return TASK_COLOURS[number % len(TASK_COLOURS)]


def _box(x: float, y: float, wide: float, tall: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{max(tall, 0):.1f}" fill="{colour}"/>'
