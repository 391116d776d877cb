"""Directions of all maps in one task: their partition, the position of the change, and the size of each change.

Maps are those of `figures.weights`; hue encodes the chosen task.
"""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cl_core.events import WeightSpectrumMeasured
from dashboard.figures.description import describe, nothing
from dashboard.figures.event_arrays import task_count
from dashboard.figures.layer_map import cells, colour_bar, layer_rows, map_height
from dashboard.figures.plot_helpers import decade_ticks, layer_ticks, reference_bars
from dashboard.figures.weights import (
    LEAK_FLOOR,
    SOURCE,
    SPLIT,
    Measured,
    Tasks,
    after,
    limit,
    newest_task,
    option,
    part_name,
    parts_of,
    place,
    tiny,
    tower_name,
    towers_of,
    words,
)
from dashboard.theme import (
    INK,
    PALE,
    TEMPLATE,
    faded,
    number,
    task_colour,
    task_label,
)


def _grid(found: dict[str, WeightSpectrumMeasured], *, log: bool = False) -> tuple[go.Figure, list[str], list[str]]:
    """One small plot for every tower (row) and part (column), layers across; (figure, towers, parts)."""
    towers, parts = towers_of(found) or ["image"], parts_of(found) or ["q"]
    titles = [f"{t}: {part_name(p)}" if len(towers) > 1 else part_name(p) for t in towers for p in parts]
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
        return nothing(title, how=SOURCE, figure=figure)
    chosen = newest_task(measured, task)
    colour, label = task_colour(chosen, task_count(measured, tasks)), task_label(chosen, tasks)
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
                        # Both colours set explicitly: the default draws a pattern on a light background.
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
            ("r_max", "update as many as r_max allows and leave the rest idle"),
            ("none", "are only measured: training in this run does not use this partition"),
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
        look_for="Bars that are nearly all principal: this map has few free directions."
        + (
            " Hatched tops: r_max is the active bound, and moving ρ changes nothing as long as there is a pale part."
            if "r_max" in bounds
            else ""
        ),
        how=f"{SPLIT}. Written: $q = \\min(d - k, r_{{max}})$; the active bound is ρ if $d - k \\le r_{{max}}$. "
        + SOURCE,
        alt=f"{len(found)} maps, {label}: {told}",
        height=270 if len(towers) == 1 else 480,
    )


def change_against_principal(measured: Measured, tasks: Tasks = (), *, task: int | None = None) -> go.Figure:
    """Share of one task's change that lies in the principal space, on either side, against chance."""
    found = {n: e for n, e in after(measured, task).items() if e.leak_left is not None or e.leak_right is not None}
    figure, towers, parts = _grid(found, log=True)
    title = "Where the change lies"
    if not found:
        figure = nothing(title, how=SOURCE, height=270, figure=figure)
        if measured:
            what = f"No map moved in {task_label(newest_task(measured, task), tasks)}, so there is no change to place."
            figure.layout.meta |= {"caption": f"{what} Choose another task.", "alt": what}
        return figure
    chosen = newest_task(measured, task)
    colour, label = task_colour(chosen, task_count(measured, tasks)), task_label(chosen, tasks)
    values = [v for e in found.values() for v in (e.leak_left, e.leak_right, e.chance) if v is not None]
    span = (max(LEAK_FLOOR, min(values)) / 3, 2.0)
    for row, tower in enumerate(towers, start=1):
        for col, part in enumerate(parts, start=1):
            cell, first = _cell(found, tower, part), (row, col) == (1, 1)
            if not cell:
                continue
            bars = reference_bars(
                [b for b, *_ in cell],
                [e.chance for *_, e in cell],
                half=0.4,
                name="a random change",
                legendgroup="chance",
                showlegend=first,
            )
            figure.add_trace(bars, row=row, col=col)
            for text, field, symbol, shift in (
                ("what it reads from (right)", "leak_right", "diamond-open", 0.13),
                ("what it writes to (left)", "leak_left", "circle", -0.13),
            ):
                dots = [(b, n, e, getattr(e, field)) for b, n, e in cell if getattr(e, field) is not None]
                figure.add_scatter(
                    x=np.array([b + shift for b, *_ in dots], dtype=np.float32),
                    y=np.array([max(v, LEAK_FLOOR) for *_, v in dots], dtype=np.float32),
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
        look_for="Dots below 10⁻⁵: rounding, the change avoids the space by construction. On the bar: no better than "
        "chance. Above it: the task was learned where the weight is strongest.",
        how="Left $\\|U_k^\\top \\Delta W\\|_F / \\|\\Delta W\\|_F$, right $\\|\\Delta W V_k\\|_F / \\|\\Delta W\\|_F$ "
        "with the first $k$ singular directions of the weight before the task; a share of norm, not of energy. A "
        "random change has $\\sqrt{k/d}$ on average. It shows where the *weight* is strong: whether old inputs lie "
        f"there is another question. Shares below 10⁻⁸ are drawn there. {SOURCE}",
        alt=f"{len(found)} maps, {label}. {told}",
        height=290 if len(towers) == 1 else 480,
    )


def movement_of_maps(measured: Measured, tasks: Tasks = (), *, task: int | None = None) -> go.Figure:
    """How far every map moved in one task, layers by parts, one heat map per tower."""
    found = after(measured, task)
    towers, parts = towers_of(found) or ["image"], parts_of(found) or ["q"]
    figure = make_subplots(
        rows=1,
        cols=len(towers),
        shared_yaxes=True,
        horizontal_spacing=0.05,
        subplot_titles=[tower_name(t) for t in towers],
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep")
    figure.update_annotations(font_size=13, yshift=22)
    title = "How far each matrix moved"
    if not found:
        return nothing(title, how=SOURCE, figure=figure)
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
        shown = cells(
            table,
            [["" if np.isnan(v) else f"{v:.2g}" for v in row] for row in table],
            highest,
            hover="%{customdata[1]}: moved by %{z:.3g} % of its size<extra></extra>",
            size=12 if deepest <= 8 else 10,
            customdata=custom,
            name=tower_name(tower),
            showscale=col == len(towers),
            colorbar=colour_bar("moved", " %"),
        )
        figure.add_trace(shown, row=1, col=col)
        figure.update_xaxes(
            side="top",
            showgrid=False,
            ticks="",
            tickangle=0,
            tickvals=list(range(len(parts))),
            ticktext=[part_name(p) for p in parts],
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
        look_for="One dark column or row: learning happens in one kind of matrix, or at one depth. Pale everywhere: "
        "the task was learned with small changes, or not at all; see the accuracy matrix.",
        how="$\\|\\Delta W\\|_F / \\|W\\|_F$ of the net change over the task. A step may be small and still matter: "
        "size says nothing about direction.",
        alt=f"Heat map of {len(found)} maps, {label}. {told}",
        height=map_height(deepest),
    )
