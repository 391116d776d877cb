"""What if: predicted free directions, share passed and interference of another threshold, from stored data.

Numbers are those of `cl_core.whatif.predict`, the same on the page, in the browser and on the command line.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from cl_core.whatif import RULES, Boundary, Prediction, Threshold, nullities, own_threshold, positions, predict
from dashboard.figures.description import blank, describe
from dashboard.figures.plot_helpers import label_ends
from dashboard.theme import INK, PALE, TEMPLATE, layer_name, percent, task_name

LABEL = "Computed from stored spectra, not retrained."
FIELDS = (
    ("nullity", "left free"),
    ("passed", "share passed"),
    ("interference", "predicted interference"),
)
SOURCES = {
    "steps": "sum of the optimiser's proposed steps, before projection",
    "gradients": "sum of the gradients before projection; the optimiser rescales each entry afterwards, so "
    "its steps leak more than these numbers show",
    "net change": "net change of the parameters over the task",
}
HOW = (
    "Along direction $i$ of the past tasks' spectrum with energy $\\lambda_i$ the recorded update has energy $u_i$. A "
    "threshold leaves the last $R$ of $n$ directions free; of a protected direction the share $r$ remains "
    "(0 when strict, $1-\\eta$ otherwise, relative to a free one), $r_i=1$ on free ones. Passed: "
    "$\\sum r_i^2 u_i / \\sum u_i$. Interference: $\\sum r_i^2 \\lambda_i u_i / \\sum \\lambda_i u_i$, 100 % = nothing "
    "protected. Assumption: the updates would have been the same. This is approximate, because every step moves the "
    "point at which the next gradient is computed."
)


def when(boundary: Boundary) -> str:
    """after T3; before T1."""
    return f"after {task_name(boundary.task)}" if boundary.task >= 0 else f"before {task_name(0)}"


def said_of(boundary: Boundary) -> str:
    """Description of the update in one sentence, or why there is none."""
    if boundary.energies is None:
        return "No update is stored for this boundary: shares and interference are unknown."
    said = f"Update: {SOURCES.get(boundary.source, boundary.source)}, in {task_name(boundary.task + 1)}."
    if boundary.confined:
        said += (
            " It was confined to the free directions at that time: other directions were never used and count as zero."
        )
    return said


def tick(value: float) -> str:
    """A threshold in controls, URLs and axes."""
    return f"{value:.4f}".rstrip("0").rstrip(".") if math.isfinite(value) else ""


def in_percent(predicted: Prediction, boundary: Boundary, field: str) -> np.ndarray:
    """One of FIELDS in percent, [..., L]; nullity as a share of all directions."""
    values = np.asarray(getattr(predicted, field), np.float64)
    return 100 * values / (boundary.width if field == "nullity" else 1)


def against_threshold(boundary: Boundary, threshold: Threshold, *, layer: int | None = None) -> go.Figure:
    """Free directions, share passed and interference at every position of the slider; the chosen and the run's own
    marked.

    Args:
        boundary: spectra and the following update.
        threshold: the chosen one; its rule is varied along the axis.
        layer: the highlighted layer.
    """
    rule, own = RULES[threshold.rule], own_threshold(boundary)
    mine = own.value if own is not None and own.rule == threshold.rule else None
    steps = _with(positions(threshold.rule, mine), threshold.value)
    many = predict(boundary, threshold, values=steps)
    place = np.arange(len(steps), dtype=np.float32)
    labels = [tick(v) for v in steps]
    here = steps.index(threshold.value)
    front = boundary.layers.index(layer) if layer in boundary.layers else None
    traces: list[dict[str, object]] = []
    for field, said in FIELDS:
        values = in_percent(many, boundary, field)
        axis = FIELDS.index((field, said))
        behind = [row for row in range(len(boundary.layers)) if row != front]
        traces.append(_lines(place, values[:, behind], axis, f"all layers, {said}"))
        if front is not None:
            name = layer_name(boundary.layers[front])
            traces.append(
                {
                    "x": place,
                    "y": values[:, front].astype(np.float32),
                    "mode": "lines",
                    "name": name,
                    "line": {"color": INK, "width": 3},
                    "customdata": labels,
                    "hovertemplate": f"{name}, {rule.says} %{{customdata}}: %{{y:.1f}} % {said}<extra></extra>",
                    **_axes(axis),
                }
            )
        mean = _mean(values[here])
        if math.isfinite(mean):
            traces.append(
                {
                    "x": [here],
                    "y": [round(mean, 3)],
                    "mode": "markers",
                    "name": "chosen, mean of layers",
                    "marker": {"size": 11, "color": INK, "symbol": "diamond"},
                    "hovertemplate": f"chosen, {labels[here]}: mean of layers %{{y:.1f}} %<extra></extra>",
                    **_axes(axis),
                }
            )
    marks = [(here, "solid")]
    if mine is not None:
        marks.append((min(range(len(steps)), key=lambda i: abs(steps[i] - mine)), "dot"))
    shown = round_ticks(steps)
    figure = _side_by_side(
        traces,
        [said for _, said in FIELDS],
        {"tickvals": shown, "ticktext": [labels[i] for i in shown], "title": {"text": rule.says}},
        marks,
    )
    chosen = predict(boundary, threshold)
    summary = numbers(boundary, chosen)
    return describe(
        figure,
        title="Against the threshold",
        what=f"{LABEL[:-1]}: every position of the slider; diamond and line: the chosen value, mean of layers; dotted: "
        f"the run's own where its rule is this one. A line a layer, {when(boundary)}; the axis is spaced like the "
        f"slider, finer where little remains. {said_of(boundary)}",
        look_for="Where the last curve falls and the middle one does not, protection costs little; where only the "
        "middle one falls, it harms the new task with little benefit for old ones.",
        how=HOW,
        alt=f"At {threshold.text()}: {summary}.",
        height=330,
    )


def numbers(boundary: Boundary, predicted: Prediction) -> str:
    """mean left free 88.0 %, share passed 61.2 %, interference 3.1 %."""
    found = [(said, _mean(in_percent(predicted, boundary, field))) for field, said in FIELDS]
    return ", ".join(f"{said} {percent(value)}" if math.isfinite(value) else f"{said} unknown" for said, value in found)


def at_equal_freedom(
    boundary: Boundary, threshold: Threshold, beside: Sequence[tuple[str, Boundary]] = ()
) -> go.Figure:
    """Share passed and interference against the fraction of free directions, for any rule: mean of layers.

    Args:
        boundary: the run's.
        threshold: the chosen one: its strictness is used, and its mean share of free directions is marked. beside:
        (name, boundary) of other runs, drawn dashed with their own strictness.
    """
    shares = np.arange(101) / 100
    traces: list[dict[str, object]] = []
    told: list[str] = []
    ends: tuple[list[tuple[float, float, str]], ...] = ([], [])
    for index, (name, there) in enumerate([("this run", boundary), *beside]):
        own = own_threshold(there)
        soft = threshold if index == 0 else (own or Threshold("elbow"))
        common = Threshold("free", 0.0, soft.eta, soft.scale)
        many = predict(there, common, values=shares.tolist())
        marked = predict(there, soft) if index == 0 else predict(there, soft, nullity=there.recorded)
        free = _mean(in_percent(marked, there, "nullity"))
        for place, (field, said) in enumerate(FIELDS[1:]):
            mean = np.array([_mean(row) for row in in_percent(many, there, field)], dtype=np.float32)
            if not np.isfinite(mean).any():
                continue
            traces.append(
                {
                    "x": (100 * shares).astype(np.float32),
                    "y": mean,
                    "mode": "lines",
                    "name": name,
                    "line": {"color": INK, "width": 2.6 if index == 0 else 1.8, "dash": "dash" if index else "solid"},
                    "hovertemplate": f"{name}: %{{x:.0f}} % left free, %{{y:.1f}} % {said}<extra></extra>",
                    **_axes(place),
                }
            )
            ends[place].append((62.0, float(mean[62]), name))
            y = _mean(in_percent(marked, there, field))
            if math.isfinite(y):
                traces.append(
                    {
                        "x": [round(free, 3)],
                        "y": [round(y, 3)],
                        "mode": "markers",
                        "name": f"{name}, marked",
                        "marker": {"size": 11, "color": INK, "symbol": "circle-open" if index else "diamond"},
                        "hovertemplate": f"{name}, as marked: %{{x:.1f}} % left free, %{{y:.1f}} % {said}"
                        "<extra></extra>",
                        **_axes(place),
                    }
                )
                told.append(f"{name} at {percent(free)} left free: {said} {percent(y)}")
    axis: dict[str, object] = {"range": [0, 101], "ticksuffix": " %"}
    axis["title"] = {"text": "fraction of directions left free"}
    figure = _side_by_side(traces, [said for _, said in FIELDS[1:]], axis)
    if beside:
        for index, found in enumerate(ends):
            label_ends(figure, found, span=(0, 103), axes=("x", "y") if index == 0 else ("x2", "y2"))
    return describe(
        figure,
        title="At equal freedom",
        what=f"{LABEL[:-1]}: the same two numbers against the fraction of directions left free; diamond: the chosen "
        "threshold"
        + ("; dashed: other runs, circle: their own thresholds." if beside else ".")
        + " Alike in every layer, mean of layers: on this axis methods with different rules can be compared."
        + " The diamond need not lie on the line, because a rule leaves each layer a different share.",
        look_for="A share passed above the diagonal: the update lies mostly in unused directions, and protection "
        "costs it little. Interference that stays low until most is free: old tasks use few directions.",
        how=HOW,
        alt=("; ".join(told) + ".") if told else "No update is stored for this boundary.",
        height=330,
    )


def predicted_and_measured(rows: Sequence[tuple[str, float, float, float]]) -> go.Figure:
    """Error of the prediction: before, predicted and measured value of each quantity.

    Args:
        rows: (name, recorded in the parent, predicted, measured in the fork), in percent; NaN = unknown.
    """
    names = [row[0] for row in rows]
    figure = blank(barmode="group", bargap=0.35)
    for said, place, colour, pattern in (
        ("in the parent", 1, PALE, ""),
        ("predicted", 2, PALE, "/"),
        ("measured in the fork", 3, INK, ""),
    ):
        values = [np.float32(v) if math.isfinite(v) else None for v in (float(row[place]) for row in rows)]
        figure.add_bar(
            y=names,
            x=values,
            name=said,
            orientation="h",
            marker={"color": colour, "pattern": {"shape": pattern, "fgcolor": INK}},
            hovertemplate=f"%{{y}}, {said}: %{{x:.1f}} %<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(range=[0, 103], ticksuffix=" %")
    figure.update_layout(legend={"orientation": "h", "y": 1.12, "x": 0, "traceorder": "normal"}, margin={"t": 40})
    off = [abs(row[3] - row[2]) for row in rows if math.isfinite(row[2]) and math.isfinite(row[3])]
    worst = f"Largest miss {max(off):.1f} pp." if off else "Nothing measured yet."
    told = "; ".join(f"{name}: predicted {percent(p)}, measured {percent(m)}" for name, _, p, m in rows)
    return describe(
        figure,
        title="Predicted and measured",
        what="Means over layers: in the parent, as predicted from the parent's stored spectra, and as the "
        f"fork was measured. {worst}",
        look_for="Differences between prediction and measurement: the new threshold changed not only the share "
        "passed but what the task's updates, or the effect of later tasks.",
        how="Predictions use the parent's spectra and updates at the fork's setting, measurements the fork's own. "
        "Directions left free right after the boundary are the same by construction; later ones are not.",
        alt=f"{worst} {told}.",
        height=120 + 74 * max(len(rows), 1),
    )


def _axes(place: int) -> dict[str, object]:
    """Index of a trace's small plot, from 0."""
    return {"type": "scatter", "showlegend": False} | (
        {"xaxis": f"x{place + 1}", "yaxis": f"y{place + 1}"} if place else {}
    )


def _lines(x: np.ndarray, values: np.ndarray, place: int, name: str) -> dict[str, object]:
    """All columns of `values` [P, L] in one pale trace, with gaps between them; one trace per layer would take ten
    times as long to build."""
    gap = np.full((1, values.shape[1]), np.nan)
    return {
        "x": np.tile(np.append(x, np.float32(np.nan)), values.shape[1]),
        "y": np.concatenate([values, gap]).T.ravel().astype(np.float32),
        "mode": "lines",
        "name": name,
        "line": {"color": PALE, "width": 1.4},
        "hoverinfo": "skip",
        **_axes(place),
    }


def _side_by_side(
    traces: list[dict[str, object]],
    titles: Sequence[str],
    axis: dict[str, object],
    marks: Sequence[tuple[int, str]] = (),
) -> go.Figure:
    """Small plots in a row with percent on their vertical axes, and vertical lines (x, dash) through each."""
    width = (1 + 0.08) / len(titles)
    layout: dict[str, object] = {}
    notes: list[dict[str, object]] = []
    lines: list[dict[str, object]] = []
    for place, title in enumerate(titles):
        name, start = str(place + 1) if place else "", place * width
        layout[f"xaxis{name}"] = {
            **(axis if len(titles) < 3 or place == len(titles) // 2 else _untitled(axis)),
            "domain": [start, start + width - 0.08],
            "anchor": f"y{name}",
            "showgrid": False,
        }
        layout[f"yaxis{name}"] = {"range": [-2, 103], "ticksuffix": " %", "dtick": 25, "anchor": f"x{name}"}
        middle = start + (width - 0.08) / 2
        notes.append(
            {
                "text": title,
                "x": middle,
                "y": 1,
                "xref": "paper",
                "yref": "paper",
                "yanchor": "bottom",
                "showarrow": False,
            }
        )
        lines += [
            {
                "type": "line",
                "x0": x,
                "x1": x,
                "y0": 0,
                "y1": 1,
                "xref": f"x{name}",
                "yref": f"y{name} domain",
                "line": {"color": INK, "width": 1.5, "dash": dash},
            }
            for x, dash in marks
        ]
    layout |= {"annotations": notes, "shapes": lines, "margin": {"t": 40, "r": 16}}
    return go.Figure(traces, {"template": TEMPLATE, "uirevision": "keep", **layout})


def round_ticks(steps: Sequence[float], most: int = 6) -> list[int]:
    """Positions of the slider to label below an axis: both ends, and between them the shortest numbers that are
    furthest from existing labels."""
    shown = [0, len(steps) - 1] if len(steps) > 1 else list(range(len(steps)))
    apart = max(1, (len(steps) - 1) // most)
    for _, place in sorted((len(tick(value)), place) for place, value in enumerate(steps)):
        if all(abs(place - other) >= apart for other in shown):
            shown.append(place)
    return sorted(shown)


def _untitled(axis: dict[str, object]) -> dict[str, object]:
    """Label only the middle of three small plots, because labels would overlap on a narrow page."""
    return {key: value for key, value in axis.items() if key != "title"}


def _with(steps: list[float], value: float) -> list[float]:
    return sorted({*steps, value}) if math.isfinite(value) else steps


def _mean(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan


def slider_table(boundary: Boundary, threshold: Threshold, steps: Sequence[float]) -> dict[str, list]:
    """Data for dragging bars in the browser: at each of P steps, counts left free [P][L], and shares in percent [P][L]
    with one decimal (None = unknown); `means`: of each field over the layers, [P]."""
    many = predict(boundary, threshold, values=list(steps))
    values = {field: in_percent(many, boundary, field) for field, _ in FIELDS}
    return {
        "nullity": many.nullity.tolist(),
        **{field: [[_rounded(value) for value in row] for row in values[field]] for field, _ in FIELDS[1:]},
        "means": {field: [_rounded(_mean(row)) for row in rows] for field, rows in values.items()},
    }


def now(boundary: Boundary, threshold: Threshold) -> list[dict[str, object]]:
    """The chosen threshold as a table, one row per layer, also for screen readers."""
    predicted, free = predict(boundary, threshold), nullities(boundary, threshold)
    return [
        {
            "Layer": layer + 1,
            "Left free": int(free[row]),
            "Left free in the run": int(boundary.recorded[row]),
            "Protected rank": boundary.width - int(free[row]),
            "Energy protected %": _rounded(100 * predicted.protected_energy[row]),
            "Share passed %": _rounded(100 * predicted.passed[row]),
            "Interference %": _rounded(100 * predicted.interference[row]),
        }
        for row, layer in enumerate(boundary.layers)
    ]


def _rounded(value: float) -> float | None:
    return round(float(value), 1) if math.isfinite(value) else None
