"""Weights: how each attention matrix uses its directions, where a task wrote, and how much room is left to write in.

A map is one matrix W of a tower's attention: "image.3.q" is the query matrix of the image tower's fourth layer. Its
singular values σ are drawn as they are; shares of energy are shares of σ². Hue is the chosen task, the two towers are
told apart by dash and label.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cl_core.events import WeightSpectrumMeasured
from dashboard.figures.description import blank, describe
from dashboard.figures.layer_map import colour_bar, layer_rows, map_height
from dashboard.figures.lines import band, decade_ticks, label_ends, layer_ticks, task_ticks, thinned
from dashboard.theme import (
    INK,
    PALE,
    SEQUENTIAL,
    TEMPLATE,
    faded,
    layer_name,
    number,
    percent,
    scale,
    task_colour,
    task_label,
)

Tasks = Sequence[dict[str, Any]]
Measured = Sequence[WeightSpectrumMeasured]

TOWERS = {"image": "image tower", "text": "text tower"}
PARTS = {"q": "queries", "k": "keys", "v": "values", "o": "output"}
_DASH = {"image": "solid", "text": "dash"}
_FLOOR = 1e-8  # leaks below this are rounding and drawn here
_SIGMA_FLOOR = 1e-5  # relative singular values below this are drawn here
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SOURCE = "Rule: NuSA-CL, arXiv:2510.21175."
_SPLIT = (
    "$k = \\min\\{j : \\sum_{i \\le j} \\sigma_i^2 \\ge \\rho \\sum_i \\sigma_i^2\\}$ of the weight *before* the task; "
    "null: the other $d - k$"
)


class Place(NamedTuple):
    """Where a map lies."""

    tower: str
    block: int  # from 0
    part: str


def place(name: str) -> Place:
    """Of the map `name` ("image.3.q")."""
    tower, block, part = name.split(".")
    return Place(tower, int(block), part)


def option(name: str) -> str:
    """'image 4 q' for "image.3.q": short, and counted as the screen counts."""
    tower, block, part = place(name)
    return f"{tower} {block + 1} {part}"


def words(name: str) -> str:
    """'image tower, layer 4, queries' for "image.3.q"."""
    tower, block, part = place(name)
    return f"{_tower(tower)}, {layer_name(block)}, {_part(part)}"


def maps(measured: Iterable[WeightSpectrumMeasured]) -> list[str]:
    """Names of the maps, image tower first, layer by layer."""
    return sorted({e.name for e in measured}, key=_order)


def newest_task(measured: Measured, task: int | None) -> int:
    """`task`, or the newest that was measured where it is None or was not."""
    found = {e.clock.task for e in measured}
    return task if task in found else max(found, default=0)  # type: ignore[return-value]


def after(measured: Measured, task: int | None) -> dict[str, WeightSpectrumMeasured]:
    """Map → what was measured after `task` (or the newest), in order of the maps."""
    chosen = newest_task(measured, task)
    found = {e.name: e for e in measured if e.clock.task == chosen}
    return {name: found[name] for name in sorted(found, key=_order)}


def limit(event: WeightSpectrumMeasured) -> str:
    """Which bound decides how many directions are written to, as a clause."""
    return {
        "rho": f"all null directions are written to, limited by ρ = {event.rho:g}",
        "r_max": f"limited by r_max = {event.written}, so moving ρ a little changes nothing",
    }.get(event.bound, f"only measured at ρ = {event.rho:g}: training in this run does not obey the split")


def tiny(value: float | None) -> str:
    """1.2·10⁻⁷ for 1.2e-7; three digits as everywhere else from a thousandth on."""
    if not value or not 0 < value < 1e-3:
        return number(value)
    exponent = math.floor(math.log10(value))
    return f"{value / 10**exponent:.1f}·10{str(exponent).translate(_RAISED)}"


def _more(count: int) -> str:
    if not count:
        return "no more values than before"
    return f"{abs(count)} {'more' if count > 0 else 'fewer'} value{'s' if abs(count) > 1 else ''} than before"


def _tower(tower: str) -> str:
    return TOWERS.get(tower, tower)


def _part(part: str) -> str:
    return PARTS.get(part, part)


def _order(name: str) -> tuple[int, str, int, int, str]:
    tower, block, part = place(name)
    return _rank(TOWERS, tower), tower, block, _rank(PARTS, part), part


def _rank(known: dict[str, str], item: str) -> int:
    return list(known).index(item) if item in known else len(known)


def _towers(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(place(n).tower for n in sorted(names, key=_order)))


def _parts(names: Iterable[str]) -> list[str]:
    return sorted({place(n).part for n in names}, key=lambda p: (_rank(PARTS, p), p))


def _count(measured: Measured, tasks: Tasks) -> int:
    return max([len(tasks), 1, *(e.clock.task + 1 for e in measured)])


def _nothing(figure: go.Figure, title: str, height: int = 340) -> go.Figure:
    return describe(
        figure,
        title=title,
        what="Nothing has been measured so far.",
        look_for="The first values appear when the first task has been learned.",
        how=_SOURCE,
        alt="Nothing to draw yet.",
        height=height,
    )


# ---------------------------------------------------------------- one map


def map_spectrum(measured: Measured, tasks: Tasks = (), *, name: str, task: int | None = None) -> go.Figure:
    """Singular values of one map before and after a task, with the cut and the directions the task may write to.

    Args:
        measured: all measurements of the run.
        tasks: RunStarted.tasks, for colours and names.
        name: which map.
        task: after which task; None = the newest.
    """
    figure, event = blank(), after(measured, task).get(name)
    title = f"Singular values, {words(name)}"
    if event is None:
        return _nothing(figure, title, 400)
    colour, d = task_colour(event.clock.task, _count(measured, tasks)), len(event.before)
    label, highest = task_label(event.clock.task, tasks), float(max(event.before[0], event.after[0]))
    floor, ends = max(highest, 1e-30) * _SIGMA_FLOOR, []
    index = np.arange(1, d + 1, dtype=np.float32)
    for said, values, look in (
        ("before", event.before, {"color": INK, "width": 2, "dash": "dot"}),
        ("after", event.after, {"color": colour, "width": 2.6}),
    ):
        x, y = thinned(index, np.maximum(values, floor), 500)
        figure.add_scatter(
            x=x,
            y=y.astype(np.float32),
            mode="lines",
            name=said,
            showlegend=False,
            line=look,
            hovertemplate=f"{said} {label}, direction %{{x:.0f}} of {d}: σ = %{{y:.3g}}<extra></extra>",
        )
        ends.append((float(x[-1]), float(y[-1]), said))
    span = (max(min(e[1] for e in ends), floor) / 1.6, 1.6 * highest)
    label_ends(figure, ends, span=span, log=True, pixels=300)
    if event.written:
        figure.layout.shapes += (band(d - event.written + 0.5, d + 0.5, colour=faded(colour, 0.12)),)
    figure.layout.shapes += (
        go.layout.Shape(
            type="line",
            x0=event.principal + 0.5,
            x1=event.principal + 0.5,
            xref="x",
            y0=0,
            y1=1,
            yref="y domain",
            line={"width": 1.5, "dash": "dash", "color": INK},
        ),
    )
    for side, shift, text in (
        ("right", -5, f"principal {event.principal}"),
        ("left", 5, f"null {d - event.principal}"),
    ):
        figure.layout.annotations += (
            go.layout.Annotation(
                x=event.principal + 0.5,
                xref="x",
                xanchor=side,
                xshift=shift,
                y=1,
                yref="y domain",
                yanchor="bottom",
                showarrow=False,
                font={"size": 12},
                text=text,
            ),
        )
    figure.update_xaxes(title_text="direction, largest σ first", range=[0.5, d + 0.5], showgrid=False)
    figure.update_yaxes(title_text="singular value σ", **decade_ticks(*span))
    figure.update_layout(margin={"r": 60})
    moved = (
        f" After it {_more(event.promoted)} exceed the smallest principal one."
        if event.movement
        else f" The map did not move in {label}."
    )
    told = (
        f"{event.principal} of {d} directions ({100 * event.principal / d:.0f} %) are principal; shaded: the last "
        f"{event.written}, {limit(event)}."
    )
    return describe(
        figure,
        title=title,
        what=f"Dotted: before {label}; solid: after it, log axis; dashed: the cut between principal and null. {told}"
        + moved,
        look_for="A tail that lifts while the left part stays: the task was written into directions that the weight "
        "hardly used. Lines that part left of the cut: the old principal directions themselves were changed.",
        how=f"{_SPLIT}. Written are the last min(d − k, r_max) directions. A change confined to them leaves every "
        "other singular value exactly where it was; a rewritten one may rise past $\\sigma_k$ and count as principal "
        f"next time. Values below 10⁻⁵ of the largest are drawn there. {_SOURCE}",
        alt=f"Spectrum of {words(name)} before and after {label}. {told}",
        height=400,
    )


# ---------------------------------------------------------------- all maps of one task


def _grid(found: dict[str, WeightSpectrumMeasured], *, log: bool = False) -> tuple[go.Figure, list[str], list[str]]:
    """One small plot for every tower (row) and part (column), layers across; (figure, towers, parts)."""
    towers, parts = _towers(found) or ["image"], _parts(found) or ["q"]
    titles = [f"{t}: {_part(p)}" if len(towers) > 1 else _part(p) for t in towers for p in parts]
    figure = make_subplots(
        rows=len(towers),
        cols=len(parts),
        shared_yaxes="rows" if not log else "all",
        subplot_titles=titles,
        horizontal_spacing=0.025,
        vertical_spacing=0.2,
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep")
    figure.update_annotations(font_size=13, yshift=2)
    for row, tower in enumerate(towers, start=1):
        depth = max((place(n).block for n in found if place(n).tower == tower), default=0) + 1
        ticks = layer_ticks(depth)
        ticks["title_text"] = "layer" if row == len(towers) else None
        figure.update_xaxes(showgrid=False, ticks="", range=[-0.6, depth - 0.4], row=row, **ticks)
    return figure, towers, parts


def _cell(
    found: dict[str, WeightSpectrumMeasured], tower: str, part: str
) -> list[tuple[int, str, WeightSpectrumMeasured]]:
    """(block, name, event) of one small plot."""
    return [(place(n).block, n, e) for n, e in found.items() if (place(n).tower, place(n).part) == (tower, part)]


_BOUNDS = {  # bound → (words in the legend, pattern)
    "rho": ("written to, all that ρ leaves", ""),
    "r_max": ("written to, as many as r_max allows", "/"),
    "none": ("null, only measured", ""),
}


def direction_split(measured: Measured, tasks: Tasks = (), *, task: int | None = None) -> go.Figure:
    """Principal, idle and written directions of every map for one task, hatched by which bound is active.

    Args:
        measured, tasks: as `map_spectrum`.
        task: whose split; None = the newest.
    """
    found = after(measured, task)
    figure, towers, parts = _grid(found)
    title = "How the directions are divided"
    if not found:
        return _nothing(figure, title)
    chosen = newest_task(measured, task)
    colour, label = task_colour(chosen, _count(measured, tasks)), task_label(chosen, tasks)
    named: set[str] = set()
    for row, tower in enumerate(towers, start=1):
        for col, part in enumerate(parts, start=1):
            cell = _cell(found, tower, part)
            stacks = [
                ("principal", INK, "", [(b, n, e, e.principal) for b, n, e in cell]),
                ("null, idle", PALE, "", [(b, n, e, len(e.before) - e.principal - e.written) for b, n, e in cell]),
                *(
                    (
                        text,
                        faded(colour, 0.45) if bound == "none" else colour,
                        shape,
                        [(b, n, e, e.written) for b, n, e in cell if e.bound == bound],
                    )
                    for bound, (text, shape) in _BOUNDS.items()
                ),
            ]
            for text, fill, shape, bars in stacks:
                if not any(count for *_, count in bars):
                    continue
                figure.add_bar(
                    x=[b for b, *_ in bars],
                    y=[count for *_, count in bars],
                    name=text,
                    legendgroup=text,
                    showlegend=text not in named,
                    marker={
                        "color": fill,
                        "line": {"width": 0},
                        # Both colours given: left to itself, a pattern is drawn on the ground of a light page.
                        "pattern": {
                            "shape": shape,
                            "size": 7,
                            "solidity": 0.35,
                            "bgcolor": faded(colour, 0.35),
                            "fgcolor": colour,
                        }
                        if shape
                        else {},
                    },
                    customdata=[[option(n), f"{words(n)}, {limit(e)}"] for _, n, e, _ in bars],
                    hovertemplate=f"%{{y}} {text}<br>%{{customdata[1]}}<extra></extra>",
                    row=row,
                    col=col,
                )
                named.add(text)
    figure.update_yaxes(title_text="directions", col=1)
    figure.update_layout(
        barmode="stack", bargap=0.25, margin={"t": 34, "b": 76}, legend={"y": -0.16 if len(towers) > 1 else -0.3}
    )
    bounds = [e.bound for e in found.values()]
    ruled = any(bound != "none" for bound in bounds)
    said = [
        f"{bounds.count(bound)} of {len(bounds)} maps {text}"
        for bound, text in (
            ("rho", "write to every null direction"),
            ("r_max", "write to as many as r_max allows and leave the rest idle"),
            ("none", "are only measured: training in this run does not obey the split"),
        )
        if bound in bounds
    ]
    told = "; ".join(said) + "."
    return describe(
        figure,
        title=f"{title}, {label}",
        what="One bar per map: principal directions"
        + (
            f", null ones left idle, and null ones that {label} may write to (top). "
            if ruled
            else ", null ones on top. "
        )
        + told,
        look_for="Bars that are nearly all principal: this map has little room to learn."
        + (
            " Hatched tops: r_max decides, and moving ρ changes nothing as long as a pale part is in reserve."
            if "r_max" in bounds
            else ""
        ),
        how=f"{_SPLIT}. Written: $q = \\min(d - k, r_{{max}})$; the active bound is ρ where $d - k \\le r_{{max}}$. "
        + _SOURCE,
        alt=f"{len(found)} maps, {label}: {told}",
        height=270 if len(towers) == 1 else 480,
    )


def change_against_principal(measured: Measured, tasks: Tasks = (), *, task: int | None = None) -> go.Figure:
    """Share of one task's change that lies in the principal space, on either side, against chance."""
    found = {n: e for n, e in after(measured, task).items() if e.leak_left is not None or e.leak_right is not None}
    figure, towers, parts = _grid(found, log=True)
    title = "Where the change lies"
    if not found:
        figure = _nothing(figure, title, 270)
        if measured:
            what = f"No map moved in {task_label(newest_task(measured, task), tasks)}, so there is no change to place."
            figure.layout.meta |= {"caption": f"{what} Choose another task.", "alt": what}
        return figure
    chosen = newest_task(measured, task)
    colour, label = task_colour(chosen, _count(measured, tasks)), task_label(chosen, tasks)
    values = [v for e in found.values() for v in (e.leak_left, e.leak_right, e.chance) if v is not None]
    span = (max(_FLOOR, min(values)) / 3, 2.0)
    for row, tower in enumerate(towers, start=1):
        for col, part in enumerate(parts, start=1):
            cell, first = _cell(found, tower, part), (row, col) == (1, 1)
            if not cell:
                continue
            figure.add_scatter(
                x=[v for b, *_ in cell for v in (b - 0.4, b + 0.4, None)],
                y=[v for *_, e in cell for v in (e.chance, e.chance, None)],
                mode="lines",
                name="a random change",
                legendgroup="chance",
                showlegend=first,
                line={"color": INK, "width": 2},
                hoverinfo="skip",
                row=row,
                col=col,
            )
            for text, field, symbol, shift in (
                ("what it reads from (right)", "leak_right", "diamond-open", 0.13),
                ("what it writes to (left)", "leak_left", "circle", -0.13),
            ):
                dots = [(b, n, e, getattr(e, field)) for b, n, e in cell if getattr(e, field) is not None]
                figure.add_scatter(
                    x=np.array([b + shift for b, *_ in dots], dtype=np.float32),
                    y=np.array([max(v, _FLOOR) for *_, v in dots], dtype=np.float32),
                    mode="markers",
                    name=text,
                    legendgroup=field,
                    showlegend=first,
                    marker={
                        "symbol": symbol,
                        "size": 9 if len(cell) <= 6 else 6,
                        "color": colour,
                        "line": {"width": 2, "color": colour},
                    },
                    customdata=[[option(n), f"{words(n)}, random {number(e.chance)}"] for _, n, e, _ in dots],
                    hovertemplate=f"{text}: %{{y:.2g}}<br>%{{customdata[1]}}<extra></extra>",
                    row=row,
                    col=col,
                )
    figure.update_yaxes(**decade_ticks(*span))
    figure.update_yaxes(title_text="share of the change", col=1)
    figure.update_layout(margin={"t": 34, "b": 76}, legend={"y": -0.16 if len(towers) > 1 else -0.3})
    leaks = [v for e in found.values() for v in (e.leak_left, e.leak_right) if v is not None]
    told = (
        f"Shares lie between {tiny(min(leaks))} and {tiny(max(leaks))}; chance "
        f"{number(min(e.chance for e in found.values()))} to {number(max(e.chance for e in found.values()))}."
    )
    return describe(
        figure,
        title=f"{title}, {label}",
        what=f"Share of the change in {label} inside the principal space of the weight before it, log axis; bars: a "
        f"random change. {told}",
        look_for="Dots below 10⁻⁵: rounding, the change stays out by construction. On the bar: no better than "
        "chance. Above it: the task was learned where the weight is strongest.",
        how="Left $\\|U_k^\\top \\Delta W\\|_F / \\|\\Delta W\\|_F$, right $\\|\\Delta W V_k\\|_F / \\|\\Delta W\\|_F$ "
        "with the first $k$ singular directions of the weight before the task; a share of norm, not of energy. A "
        "random change has $\\sqrt{k/d}$ on average. It says where the *weight* is strong: whether old inputs lie "
        f"there is another question. Shares below 10⁻⁸ are drawn there. {_SOURCE}",
        alt=f"{len(found)} maps, {label}. {told}",
        height=290 if len(towers) == 1 else 480,
    )


def movement_of_maps(measured: Measured, tasks: Tasks = (), *, task: int | None = None) -> go.Figure:
    """How far every map moved in one task, layers by parts, one map a tower."""
    found = after(measured, task)
    towers, parts = _towers(found) or ["image"], _parts(found) or ["q"]
    figure = make_subplots(
        rows=1,
        cols=len(towers),
        shared_yaxes=True,
        horizontal_spacing=0.05,
        subplot_titles=[_tower(t) for t in towers],
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep")
    figure.update_annotations(font_size=13, yshift=22)
    title = "How far each matrix moved"
    if not found:
        return _nothing(figure, title)
    label = task_label(newest_task(measured, task), tasks)
    highest = max(max(100 * e.movement for e in found.values()), 1e-6)
    deepest = max(place(n).block for n in found) + 1
    for col, tower in enumerate(towers, start=1):
        table = np.full((deepest, len(parts)), np.nan, dtype=np.float32)
        custom = [[["", ""] for _ in parts] for _ in range(deepest)]
        for name, event in found.items():
            at = place(name)
            if at.tower == tower:
                table[at.block, parts.index(at.part)] = 100 * event.movement
                custom[at.block][parts.index(at.part)] = [option(name), words(name)]
        figure.add_heatmap(
            z=table,
            zmin=0,
            zmax=highest,
            colorscale=scale(SEQUENTIAL),
            xgap=2,
            ygap=2,
            hoverongaps=False,
            text=[["" if np.isnan(v) else f"{v:.2g}" for v in row] for row in table],
            texttemplate="%{text}",
            textfont={"size": 12 if deepest <= 8 else 10},
            customdata=custom,
            hovertemplate="%{customdata[1]}: moved by %{z:.3g} % of its size<extra></extra>",
            name=_tower(tower),
            showscale=col == len(towers),
            colorbar=colour_bar("moved", " %"),
            row=1,
            col=col,
        )
        figure.update_xaxes(
            side="top",
            showgrid=False,
            ticks="",
            tickangle=0,
            tickvals=list(range(len(parts))),
            ticktext=[_part(p) for p in parts],
            range=[-0.5, len(parts) - 0.5],
            col=col,
        )
        figure.update_yaxes(**layer_rows(deepest), col=col)
    figure.update_layout(margin={"l": 70, "r": 20, "t": 66, "b": 16})
    most = max(found.values(), key=lambda e: e.movement)
    told = (
        f"Furthest: {words(most.name)}, {number(100 * most.movement)} %."
        if most.movement
        else "None of them moved: this task was learned elsewhere."
    )
    return describe(
        figure,
        title=f"{title}, {label}",
        what=f"Size of the change in {label} relative to the weight before it, in percent. {told}",
        look_for="One dark column or row: learning is done in one kind of matrix, or at one depth. Pale everywhere: "
        "the task was learned with small changes, or not at all; see the accuracy matrix.",
        how="$\\|\\Delta W\\|_F / \\|W\\|_F$ of the net change over the task. A step may be small and still matter: "
        "size says nothing about direction.",
        alt=f"Heat map of {len(found)} maps, {label}. {told}",
        height=map_height(deepest),
    )


# ---------------------------------------------------------------- over tasks


def _series(measured: Measured, tower: str) -> dict[int, list[WeightSpectrumMeasured]]:
    """Task → the events of all maps of one tower."""
    found: dict[int, dict[str, WeightSpectrumMeasured]] = {}
    for event in measured:
        if place(event.name).tower == tower:
            found.setdefault(event.clock.task, {})[event.name] = event
    return {task: list(found[task].values()) for task in sorted(found)}


def _spread(
    figure: go.Figure,
    values: dict[int, list[float]],
    tasks: Tasks,
    *,
    tower: str,
    hover: str,
    col: int,
    count: int,
    found: bool = False,
) -> tuple[float, float] | None:
    """A line of means with a band from the smallest to the largest map; its end, if there is any.

    `found`: values are what the task found when it began, not what it left behind.
    """
    known = {task: v for task, v in values.items() if v}
    if not known:
        return None
    x = list(known)
    low, mean, high = (np.array([f(v) for v in known.values()], dtype=np.float32) for f in (min, np.mean, max))
    for edge, fill in ((high, None), (low, "tonexty")):
        figure.add_scatter(
            x=x,
            y=edge,
            mode="lines",
            line={"width": 0.6, "color": PALE},
            fill=fill,
            fillcolor="rgba(128,134,144,0.16)",
            hoverinfo="skip",
            showlegend=False,
            name=f"{tower}, {'least' if fill else 'most'}",
            row=1,
            col=col,
        )
    figure.add_scatter(
        x=x,
        y=mean,
        mode="lines+markers",
        name=f"{tower}, mean",
        showlegend=False,
        line={"color": INK, "width": 2.4, "dash": _DASH.get(tower, "dot")},
        marker={"size": 9, "color": [INK if t < 0 else task_colour(t, count) for t in x]},
        customdata=[
            f"{'before training' if t < 0 else ('found by ' if found else 'after ') + task_label(t, tasks)}: "
            f"mean {tiny(float(m))}, {tiny(float(lo))} to {tiny(float(hi))}"
            for t, lo, m, hi in zip(x, low, mean, high, strict=True)
        ],
        hovertemplate=f"{_tower(tower)}, {hover}, %{{customdata}}<extra></extra>",
        row=1,
        col=col,
    )
    return float(x[-1]), float(mean[-1])


def _axis(count: int, *, before: bool, title: str = "after training on") -> dict[str, Any]:
    ticks = task_ticks(count, 9)
    if before:
        ticks |= {"tickvals": [-1, *ticks["tickvals"]], "ticktext": ["before", *ticks["ticktext"]]}  # type: ignore[misc]
    return {
        "title_text": title,
        "showgrid": False,
        "range": [-1.2 if before else -0.2, max(count - 1, 1) + 0.2],
        **ticks,
    }


def _columns(titles: Sequence[str]) -> go.Figure:
    figure = make_subplots(rows=1, cols=len(titles), horizontal_spacing=0.17, subplot_titles=list(titles))
    figure.update_layout(template=TEMPLATE, uirevision="keep", showlegend=False, margin={"r": 84, "t": 40})
    figure.update_annotations(font_size=13, yshift=6)
    return figure


def _axes_of(col: int) -> tuple[str, str]:
    return ("x", "y") if col == 1 else (f"x{col}", f"y{col}")


def effective_rank_over_tasks(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """Effective rank of the maps, one small plot a tower, from before training on."""
    towers, count = _towers(e.name for e in measured) or ["image"], _count(measured, tasks)
    figure, title, told = _columns([_tower(t) for t in towers]), "Effective rank", []
    for col, tower in enumerate(towers, start=1):
        by_task = _series(measured, tower)
        if not by_task:
            continue
        first = next(iter(by_task))
        values = {first - 1: [e.effective_rank_before for e in by_task[first]]} | {
            task: [e.effective_rank for e in events] for task, events in by_task.items()
        }
        _spread(figure, values, tasks, tower=tower, hover="effective rank", col=col, count=count)
        every = [v for vs in values.values() for v in vs]
        room = 0.12 * (max(every) - min(every)) or 0.05 * max(every) or 1.0
        figure.update_yaxes(range=[max(0.0, min(every) - room), max(every) + room], row=1, col=col)
        means = [float(np.mean(v)) for v in values.values()]
        width = len(by_task[first][0].before)
        told.append(f"{_tower(tower)} {number(means[0])} → {number(means[-1])} of {width}")
    figure.update_xaxes(**_axis(count, before=True))
    figure.update_yaxes(title_text="directions", col=1)
    figure.update_layout(margin={"r": 24})
    if not measured:
        return _nothing(figure, title)
    summary = "Mean at the beginning and now: " + "; ".join(told) + "."
    return describe(
        figure,
        title=title,
        what="How many directions the maps use, whatever the cut: mean (line) and smallest to largest map (band) of "
        f"each tower, before training and after every task; axes do not start at zero. {summary}",
        look_for="A line that rises: knowledge is added in directions that were empty. A flat or falling one: tasks "
        "overwrite directions that were in use.",
        how="$\\exp(-\\sum_i p_i \\ln p_i)$ with $p_i = \\sigma_i / \\sum_j \\sigma_j$ (σ, not σ²); Roy and Vetterli, "
        "EUSIPCO 2007. Between 1 and $d$.",
        alt=summary,
        height=320,
    )


def room_left(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """How fast room runs out: share of null directions, and how many of them a task may write to."""
    towers, count = _towers(e.name for e in measured) or ["image"], _count(measured, tasks)
    ruled = any(e.bound != "none" for e in measured)
    most = max((e.written for e in measured if e.bound == "r_max"), default=0)
    right = "written to, share of r_max" if most else "written to, share of all directions"
    figure = _columns(["null directions, share of all", *([right] if ruled else [])])
    panels = [("null directions", lambda e: 100 * (1 - e.principal / len(e.before)))]
    if ruled:
        panels.append(("written to", lambda e: 100 * e.written / (most or len(e.before))))
    title, told = "How fast the room runs out", []
    for col, (said, value) in enumerate(panels, start=1):
        ends, top = [], 100.0
        for tower in towers:
            by_task = _series(measured, tower)
            values = {task: [value(e) for e in events] for task, events in by_task.items()}
            end = _spread(figure, values, tasks, tower=tower, hover=f"{said} in %", col=col, count=count, found=True)
            if end is not None:
                ends.append((*end, f"{tower} {end[1]:.0f} %"))
                start = float(np.mean(next(iter(values.values()))))
                told.append(f"{said}, {_tower(tower)}: {percent(start, 0)} → {percent(end[1], 0)}")
        label_ends(figure, ends, span=(0, top * 1.03), pixels=230, axes=_axes_of(col))
        figure.update_yaxes(range=[0, top * 1.03], ticksuffix=" %", dtick=20, row=1, col=col)
    figure.update_xaxes(**_axis(count, before=False, title="when training began on"))
    if not measured:
        return _nothing(figure, title)
    summary = "Mean at the first task and now: " + "; ".join(told) + "."
    side = (
        f"; right: those a task may write to{f' (r_max: {most} directions)' if most else ''}. "
        if ruled
        else (". Nothing in this run keeps to them. ")
    )
    return describe(
        figure,
        title=title,
        what=f"{'Left: null' if ruled else 'Null'} directions, as each task found them: mean over maps, band from the "
        "scarcest to the richest" + side + summary,
        look_for="Lines that fall: each merge makes directions principal that were free, and the next task finds less "
        "room. Right line below 100 %: in some maps ρ, no longer r_max, is what limits."
        if most
        else "Lines that fall: directions become principal that were free, and the next task finds less room.",
        how=f"{_SPLIT}. Left $(d - k)/d$"
        + (f", right $q / {'r_{max}' if most else 'd'}$ with $q = \\min(d - k, r_{{max}})$. " if ruled else ". ")
        + _SOURCE,
        alt=summary,
        height=320,
    )


def drift_from_pretrained(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """Share of the change since pre-training that lies in the pre-trained principal space, and what is left of it."""
    towers, count = _towers(e.name for e in measured) or ["image"], _count(measured, tasks)
    figure = _columns(["change inside it, log axis", "overlap with the one that the task found"])
    title, told, every = "The pre-trained principal space", [], []
    ends: tuple[list[tuple[float, float, str]], ...] = ([], [])
    for tower in towers:
        by_task = _series(measured, tower)
        drifts = {t: [max(e.drift, _FLOOR) for e in es if e.drift is not None] for t, es in by_task.items()}
        overlaps = {t: [e.overlap for e in es] for t, es in by_task.items()}
        for col, (values, said) in enumerate(((drifts, "share of the change"), (overlaps, "overlap")), start=1):
            end = _spread(figure, values, tasks, tower=tower, hover=said, col=col, count=count, found=col == 2)
            if end is not None:
                ends[col - 1].append((*end, tower))
                if col == 1:
                    told.append(f"{_tower(tower)} {tiny(end[1])}")
        if not any(drifts.values()):
            continue
        # Before the first task the weight is the pre-trained one, so its chance is that of the pre-trained space.
        chance = float(np.mean([e.chance for e in next(iter(by_task.values()))]))
        every += [chance, *(v for vs in drifts.values() for v in vs)]
        figure.add_scatter(
            x=[-0.2, max(count - 1, 1) + 0.2],
            y=[chance, chance],
            mode="lines",
            name=f"{tower}, a random change",
            line={"color": INK, "width": 1, "dash": _DASH.get(tower, "dot")},
            hovertemplate=f"{_tower(tower)}: a random change has {number(chance)}<extra></extra>",
            row=1,
            col=1,
        )
        told[-1] += f" (chance {number(chance)})"
    span = (min(every, default=0.1) / 2, 1.6)
    label_ends(figure, ends[0], span=span, log=True, pixels=230)
    label_ends(figure, ends[1], span=(0, 1.04), pixels=230, axes=_axes_of(2))
    figure.update_xaxes(**_axis(count, before=False), col=1)
    figure.update_xaxes(**_axis(count, before=False, title="when training began on"), col=2)
    figure.update_yaxes(**decade_ticks(*span), row=1, col=1)
    figure.update_yaxes(title_text="share of the change", row=1, col=1)
    figure.update_yaxes(range=[0, 1.04], row=1, col=2)
    if not measured:
        return _nothing(figure, title)
    summary = f"Share now: {'; '.join(told)}." if told else "No map has moved so far."
    return describe(
        figure,
        title=title,
        what="Left: share of everything learned so far that lies in the principal space of the untouched model; thin "
        "line: a random change. Right: how much of that space is principal still (1 = all). Mean over maps, band from "
        f"least to most. {summary}",
        look_for="A left line that climbs towards the thin one although each task kept out of the principal space it "
        "found: the cut is placed anew for every task, and what was principal once is given free.",
        how="$\\|U_{k,0}^\\top (W_t - W_0)\\|_F / \\|W_t - W_0\\|_F$ with the pre-trained weight $W_0$; chance "
        "$\\sqrt{k_0/d}$. Overlap $\\|U_{k,0}^\\top U_k\\|_F^2 / \\min(k_0, k)$, with $U_k$ as the task found it. "
        + _SOURCE,
        alt=summary,
        height=320,
    )
