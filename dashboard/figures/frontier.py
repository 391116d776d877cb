"""The stability-plasticity plane: learning against forgetting, settings as points, a sweep as a path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from cl_core.sweeps import ParetoPoint, best_within, frontier
from cl_core.sweeps.pareto import spread
from dashboard.figures.description import blank, describe
from dashboard.figures.labels import Box, place_labels
from dashboard.theme import INK, PALE, faded, percent, points

_MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "star")
_DASHES = ("solid", "dash", "dashdot", "dot", "longdash", "longdashdot")
_FADED = 0.35
LABELLED = 14  # maximum number of labelled points; more are named on hover


def plane(
    spots: Sequence[ParetoPoint],
    *,
    budget: float | None = None,
    readout: str = "",
    names: Mapping[str, str] | None = None,
) -> go.Figure:
    """Learning accuracy against forgetting: a large mark is the mean over seeds of one setting, small ones its runs.

    Points of one line are joined in the order of the swept setting. Dominated ones are faded.

    Args:
        spots: from `cl_core.sweeps.spots`, line by line.
        budget: maximum forgetting, percentage points: drawn, and the best setting within it is ringed.
        readout: whose accuracies, for the caption; "" = the runs' default.
        names: run → display name; None = its folder.
    """
    spots = list(spots)
    best, chosen = frontier(spots), None if budget is None else best_within(spots, budget)
    figure = blank(showlegend=False)
    lines = list(dict.fromkeys(spot.line for spot in spots))
    for place, line in enumerate(lines):
        _line(figure, [s for s in spots if s.line == line], best, place, names or {})
    if budget is not None:
        _budget(figure, budget, chosen)
    low, high = _range([v for s in spots for v in s.learning])
    high = min(high, 100 + 0.08 * (100 - low))  # space for a mark at 100 %
    left, right = _range([v for s in spots for v in s.forgetting] + ([budget] if budget is not None else []))
    figure.update_xaxes(title_text="forgetting, percentage points (less = more stable)", range=[left, right])
    figure.update_yaxes(title_text="learning accuracy (plasticity)", ticksuffix=" %", range=[low, high])
    figure.update_layout(margin={"r": 60, "t": 36})
    unnamed = _name(figure, spots, lines, (left, right), (low, high))
    seeds = sorted({seed for spot in spots for seed in spot.seeds if seed is not None})
    many = any(len(spot.seeds) > 1 for spot in spots)
    beside = (
        f" (beside it {escape(spots[0].setting)})" if any(spot.value and spots[0].setting for spot in spots) else ""
    )
    return describe(
        figure,
        title="Stability and plasticity",
        what=(
            (
                f"Large marks: one setting each{beside}, mean ± sd over seeds {', '.join(map(str, seeds))}; small "
                "marks: its runs. "
                if many
                else f"One mark for each setting{beside}, {'one seed' if len(seeds) < 2 else 'seeds'} "
                f"({', '.join(map(str, seeds)) or 'unknown'}). "
            )
            + ("Marks without a label show it on hover. " if unnamed else "")
            + (f"Readout: {readout}. " if readout else "")
            + "Faded: another setting learns as much and forgets as little. Axes do not start at zero."
            if spots
            else "No run with two tasks learned in sequence is chosen yet."
        ),
        look_for="Up and left is better: more learned, less forgotten. Along a line, the swept setting trades one for "
        "the other; where the line folds back, both get worse." + _best_told(budget, chosen),
        how="Learning accuracy = mean over tasks of a(j, j), the accuracy on a task right after it was learned. "
        "Forgetting = mean over tasks before the last of (best earlier a(i, j) − a(n, j)). A setting is *dominated* if "
        "another's mean learning accuracy is at least as high and its mean forgetting at most as high, and one of the "
        "two is strict. Bars are sample standard deviations over seeds; means are compared, so a lead smaller than "
        "the bars may change with other seeds. Best within a budget: the highest mean learning accuracy among "
        "settings whose mean forgetting is at most the budget.",
        alt=_alt(spots, best),
        height=460,
    )


def _line(
    figure: go.Figure, line: list[ParetoPoint], best: list[ParetoPoint], place: int, names: Mapping[str, str]
) -> None:
    """One line of points: the path, the runs, and a mark for every mean."""
    x, y = ([getattr(s, axis).mean for s in line] for axis in ("instability", "plasticity"))
    if len(line) > 1:
        figure.add_scatter(
            x=np.array(x, np.float32),
            y=np.array(y, np.float32),
            mode="lines",
            name=line[0].line or "path",
            line={"color": INK, "width": 1.5, "dash": _DASHES[place % len(_DASHES)]},
            hoverinfo="skip",
        )
    symbol = _MARKERS[place % len(_MARKERS)]
    runs = [(run, f, a, spot) for spot in line for run, f, a in zip(spot.runs, spot.forgetting, spot.learning)]
    if len(runs) > len(line):
        figure.add_scatter(
            x=np.array([f for _, f, _, _ in runs], np.float32),
            y=np.array([a for _, _, a, _ in runs], np.float32),
            mode="markers",
            name="runs",
            marker={"symbol": symbol, "size": 5, "color": PALE},
            customdata=[[run, spot.label, escape(names.get(run, run))] for run, _, _, spot in runs],
            hovertemplate="%{customdata[1]}<br>%{customdata[2]}<br>learning %{y:.1f} %, forgetting %{x:.1f} pp"
            "<extra></extra>",
        )
    for spot in line:
        shown = INK if spot in best else faded(INK, _FADED)
        bars = {
            f"error_{axis}": {"type": "data", "array": [sd], "color": shown, "thickness": 1, "width": 3}
            for axis, sd in (("x", spot.instability.sd), ("y", spot.plasticity.sd))
            if sd is not None
        }
        figure.add_scatter(
            x=np.array([spot.instability.mean], np.float32),
            y=np.array([spot.plasticity.mean], np.float32),
            mode="markers",
            name=spot.label,
            marker={"symbol": symbol, "size": 12, "color": shown},
            customdata=[[spot.runs[0] if len(spot.runs) == 1 else "", spot.label]],
            hovertemplate=f"<b>{escape(spot.label)}</b>{'' if spot in best else ', dominated'}<br>"
            f"learning {spot.plasticity} %, forgetting {spot.instability} pp<br>final average accuracy "
            f"{spread(spot.final)} %<br>{len(spot.runs)} run{'s' if len(spot.runs) > 1 else ''}<extra></extra>",
            **bars,
        )


def _budget(figure: go.Figure, budget: float, chosen: ParetoPoint | None) -> None:
    figure.layout.shapes += (
        go.layout.Shape(
            type="line", x0=budget, x1=budget, y0=0, y1=1, yref="y domain", line={"dash": "dot", "color": INK}
        ),
    )
    figure.layout.annotations += (
        go.layout.Annotation(
            x=budget, y=1, yref="y domain", yanchor="bottom", text=f"budget {budget:g} pp", showarrow=False
        ),
    )
    if chosen is not None:
        figure.add_scatter(
            x=np.array([chosen.instability.mean], np.float32),
            y=np.array([chosen.plasticity.mean], np.float32),
            mode="markers",
            name="best within the budget",
            marker={"symbol": "circle-open", "size": 24, "color": INK, "line": {"width": 2.5}},
            hoverinfo="skip",
        )


def _name(
    figure: go.Figure, spots: list[ParetoPoint], lines: list[str], x: tuple[float, float], y: tuple[float, float]
) -> bool:
    """Label marks with their values and, if there are several lines, the last mark of each with its name in bold;
    returns whether a mark has no label."""
    places = [(spot.instability.mean, spot.plasticity.mean) for spot in spots]
    known = [all(map(np.isfinite, place)) for place in places]
    values = [
        (spot.value or ("" if len(lines) > 1 else spot.label)) if len(spots) <= LABELLED else "" for spot in spots
    ]
    last = {spot.line: spot for spot in spots}
    names = [spot.line if len(lines) > 1 and last[spot.line] is spot else "" for spot in spots]
    paths = [
        [place for spot, place, there in zip(spots, places, known, strict=True) if there and spot.line == line]
        for line in lines
    ]
    taken: list[Box] = []
    unnamed = len(spots) > LABELLED
    for texts, weight in ((values, 400), (names, 650)):
        marks = [(*place, text) for place, text, there in zip(places, texts, known, strict=True) if there]
        labels, left_out = place_labels(marks, x=x, y=y, taken=taken, paths=paths)
        figure.layout.annotations += tuple(
            go.layout.Annotation(
                x=label.x,
                y=label.y,
                text=escape(label.text),
                showarrow=False,
                xanchor=label.xanchor,
                yanchor="middle",
                xshift=label.right,
                yshift=label.up,
                font={"size": 12, "weight": weight},
            )
            for label in labels
        )
        unnamed = unnamed or bool(left_out)
    return unnamed


def _range(values: Sequence[float]) -> tuple[float, float]:
    known = [v for v in values if np.isfinite(v)]
    low, high = (min(known), max(known)) if known else (0.0, 100.0)
    room = max(0.3, 0.1 * (high - low))
    return low - room, high + room


def _best_told(budget: float | None, chosen: ParetoPoint | None) -> str:
    if budget is None:
        return ""
    if chosen is None:
        return f" No setting forgets at most {budget:g} pp."
    return (
        f" Ringed: {escape(chosen.label)} learns most ({chosen.plasticity} %) of those that forget at most {budget:g} "
        f"pp ({chosen.instability} pp)."
    )


def _alt(spots: list[ParetoPoint], best: list[ParetoPoint]) -> str:
    if not spots:
        return "No runs to draw."
    told = [
        f"{s.label}: learning {percent(s.plasticity.mean)}, forgetting {points(s.instability.mean).lstrip('+')}"
        + ("" if s in best else " (dominated)")
        for s in spots[:20]
    ]
    return f"{len(spots)} settings; " + "; ".join(told) + "."
