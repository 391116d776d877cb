"""Free directions after the cut, by layer and task.

*Free* means free by the method's own rule; spaces are named as in `figures.spectra`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from cl_core.events import SpectrumMeasured
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import layer_task_table, sizes, spaces
from dashboard.figures.layer_map import layer_map, layer_maps, map_height
from dashboard.figures.plot_helpers import label_ends, task_ticks
from dashboard.figures.spectra import button, counted, meaning, of, short
from dashboard.theme import INK, PALE, directions, layer_name, task_name


def nullity_map(measured: Sequence[SpectrumMeasured], *, space: str, tasks: int | None = None) -> go.Figure:
    """Layers × tasks: share of free directions, with the counts."""
    found = of(measured, space=space)
    layers, last = sizes(found)
    tasks = max(tasks or 1, last)
    widths = np.full((layers, tasks), np.nan)
    for event in found:
        widths[event.layer, event.clock.task] = len(event.eigenvalues)
    counts = layer_task_table(found, "nullity", layers=layers, tasks=tasks)
    shares = 100 * counts / widths
    text = None
    if tasks <= 12:
        text = [
            [
                "" if np.isnan(c) else f"{c:.0f} · {s:.0f} %" if tasks <= 8 else f"{s:.0f} %"
                for c, s in zip(cs, ss, strict=True)
            ]
            for cs, ss in zip(counts, shares, strict=True)
        ]
    custom = [
        ["" if np.isnan(c) else directions(int(c), int(w)) for c, w in zip(cs, ws, strict=True)]
        for cs, ws in zip(counts, widths, strict=True)
    ]
    figure = layer_map(
        shares,
        text,
        across="after training on",
        hover="%{customdata} directions left free<extra>%{y}</extra>",
        custom=custom,
        bar="left free",
        high=100,
        suffix=" %",
    )
    known = found[-1] if found else None
    width = len(known.eigenvalues) if known else 0
    scarce = int(np.nanargmin(shares[:, last - 1])) if found and np.isfinite(shares[:, last - 1]).any() else None
    note = ""
    if scarce is not None:
        alike = np.ptp(shares[np.isfinite(shares[:, last - 1]), last - 1]) == 0 and len(shares) > 1
        left = f"{counted(int(counts[scarce, last - 1]), width)} left"
        where = f"the same in all layers, {left}" if alike else f"least in {layer_name(scarce)}, {left}"
        note = f" After {task_name(last - 1)}: {where}."
    return describe(
        figure,
        title=f"Directions left free, {short(space)}",
        what=f"Nullity of every layer after every task: count and share of {width} directions "
        f"({short(space)}: {meaning(space)}).{note}",
        look_for="Cells that fade from left to right: free directions run out, first in the palest cells. "
        "Empty: not measured.",
        how="Nullity $R$ = number of directions to the right of the cut, rank $= n - R$. The rule that places the "
        f"cut is the method's own{f' ({known.rule})' if known else ''}. Free means free by this rule: it is not "
        "the numerical null space.",
        alt=f"Heat map of {layers} layers by {tasks} tasks.{note}",
        height=map_height(layers),
    )


def free_directions(measured: Sequence[SpectrumMeasured], *, tasks: int | None = None) -> go.Figure:
    """Layers × tasks for every space side by side: share of directions left free, with the counts on hover."""
    layers, last = sizes(measured)
    tasks = max(tasks or 1, last)
    tables, texts, scarcest = {}, [], []
    for space in spaces(measured):
        found = of(measured, space=space)
        counts = layer_task_table(found, "nullity", layers=layers, tasks=tasks)
        widths = np.full_like(counts, np.nan)
        for event in found:
            widths[event.layer, event.clock.task] = len(event.eigenvalues)
        shares = tables[button(space)] = 100 * counts / widths
        texts.append([["" if np.isnan(s) else f"{s:.0f}" for s in row] for row in shares] if tasks <= 8 else None)
        newest = [e for e in found if e.clock.task == found[-1].clock.task]
        least = min(newest, key=lambda e: e.nullity / len(e.eigenvalues))
        alike = len(newest) > 1 and len({e.nullity / len(e.eigenvalues) for e in newest}) == 1
        where = "all layers" if alike else layer_name(least.layer)
        scarcest.append(f"{short(space)}, {where}: {counted(least.nullity, len(least.eigenvalues))}")
    figure = layer_maps(
        tables or {"": np.full((1, tasks), np.nan)},
        texts or [None],
        hover="%{y}, after %{x}: %{z:.1f} % left free<extra></extra>",
        bar="left free, %",
        high=100,
    )
    told = f"Fewest left now: {'; '.join(scarcest)}." if scarcest else "Nothing has been measured so far."
    rule = f" ({measured[-1].rule})" if measured else ""
    return describe(
        figure,
        title="Directions left free",
        what=f"Share of directions left free by the cut, in percent, for every layer after every task. {told}",
        look_for="Cells that fade from left to right: free directions run out, first in the palest cells. Empty: "
        "not measured, or no such matrix in that layer.",
        how="Nullity $R$ = number of directions to the right of the cut, in percent of the width $n$. The rule that "
        f"places the cut is the method's own{rule}. Free means free by this rule: it is not the numerical null "
        "space.",
        alt=f"Heat maps of {layers} layers by {tasks} tasks. {told}",
        height=max(240, map_height(layers)),
    )


def directions_left(
    measured: Sequence[SpectrumMeasured], *, space: str, layer: int | None = None, tasks: int | None = None
) -> go.Figure:
    """Share of free directions over tasks: the chosen layer, with all others in the background."""
    found = of(measured, space=space)
    layers, last = sizes(found)
    tasks = max(tasks or 1, last)
    figure, ends = blank(), []
    order = [i for i in range(layers) if i != layer] + ([layer] if layer is not None and layer < layers else [])
    for i in order:
        events = of(found, layer=i)
        x = [e.clock.task for e in events]
        y = np.array([100 * e.nullity / len(e.eigenvalues) for e in events], dtype=np.float32)
        chosen = i == layer
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            name=layer_name(i),
            showlegend=False,
            line={"color": INK if chosen else PALE, "width": 3.5 if chosen else 1.4},
            marker={"size": 9 if chosen else 4, "color": INK if chosen else PALE},
            customdata=[directions(e.nullity, len(e.eigenvalues)) for e in events],
            hovertemplate=f"{layer_name(i)}: %{{customdata}} left free<extra></extra>",
        )
        if len(x):
            ends.append((float(x[-1]), float(y[-1]), layer_name(i)))
    if ends:
        own = [(x, y, f"<b>{text} {y:.0f} %</b>") for x, y, text in ends[-1:]]
        others = sorted((e for e in ends[:-1] if abs(e[1] - own[0][1]) >= 1), key=lambda e: e[1])
        outer = ([others[0]] if others and others[0][1] < own[0][1] else []) + (
            [others[-1]] if others and others[-1][1] > own[0][1] else []
        )
        ends = own + [(x, y, f"{text} {y:.0f} %") for x, y, text in outer]
        label_ends(figure, ends, span=(0, 103))
    figure.update_xaxes(
        title_text="after training on", showgrid=False, range=[-0.15, max(tasks - 1, 1) + 0.15], **task_ticks(tasks)
    )
    figure.update_yaxes(title_text="left free", range=[0, 103], ticksuffix=" %", dtick=20)
    figure.update_layout(margin={"r": 110})
    return describe(
        figure,
        title=f"Free directions over tasks, {short(space)}",
        what="Share of directions still free after each task; thick: the chosen layer, thin: the others; labelled are "
        "the chosen, the lowest and the highest.",
        look_for="Lines that reach zero: this layer has no free direction left, so the next task can only be learned "
        "elsewhere.",
        how="Nullity over the number of directions, in percent, after every task in which spectra were measured.",
        alt="Left free at the end: "
        + (", ".join(text.replace("<b>", "").replace("</b>", "") for _, _, text in ends) or "nothing measured")
        + ".",
    )
