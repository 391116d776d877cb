"""Weights over tasks: effective rank, free directions, and overlap with the pre-trained principal space.

Maps are those of `figures.weights`: a line is the mean over the maps of a tower, the two towers differ by dash and
label; dots have the hue of the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cl_core.events import WeightSpectrumMeasured
from dashboard.figures.description import describe, nothing
from dashboard.figures.event_arrays import task_count
from dashboard.figures.plot_helpers import decade_ticks, label_ends, spread, task_ticks
from dashboard.figures.weights import LEAK_FLOOR, SOURCE, SPLIT, Measured, Tasks, place, tiny, tower_name, towers_of
from dashboard.theme import INK, TEMPLATE, number, percent, task_colour, task_label

_DASH = {"image": "solid", "text": "dash"}


def _series(measured: Measured, tower: str) -> dict[int, list[WeightSpectrumMeasured]]:
    """Task → the events of all maps of one tower."""
    found: dict[int, dict[str, WeightSpectrumMeasured]] = {}
    for event in measured:
        if place(event.name).tower == tower:
            found.setdefault(event.clock.task, {})[event.name] = event
    return {task: list(found[task].values()) for task in sorted(found)}


def _mean_line(
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
    """A line of means with a band from the smallest to the largest map; returns its end, if any.

    `found`: values are those at the start of the task, not at its end.
    """
    known = {task: v for task, v in values.items() if v}
    if not known:
        return None
    x = list(known)
    low, mean, high = (np.array([f(v) for v in known.values()], dtype=np.float32) for f in (min, np.mean, max))
    spread(figure, (x, low), (x, high), of=f"{tower}, ", row=1, col=col)
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
        hovertemplate=f"{tower_name(tower)}, {hover}, %{{customdata}}<extra></extra>",
        row=1,
        col=col,
    )
    return float(x[-1]), float(mean[-1])


def _axis(count: int, *, before: bool, title: str = "after training on") -> dict[str, Any]:
    return {
        "title_text": title,
        "showgrid": False,
        "range": [-1.2 if before else -0.2, max(count - 1, 1) + 0.2],
        **task_ticks(count, 9, before="before" if before else ""),
    }


def _columns(titles: Sequence[str]) -> go.Figure:
    figure = make_subplots(rows=1, cols=len(titles), horizontal_spacing=0.17, subplot_titles=list(titles))
    figure.update_layout(template=TEMPLATE, uirevision="keep", showlegend=False, margin={"r": 84, "t": 40})
    figure.update_annotations(font_size=13, yshift=6)
    return figure


def _axes_of(col: int) -> tuple[str, str]:
    return ("x", "y") if col == 1 else (f"x{col}", f"y{col}")


def effective_rank_over_tasks(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """Effective rank of the maps, one small plot per tower, from before training on."""
    towers, count = towers_of(e.name for e in measured) or ["image"], task_count(measured, tasks)
    figure, title, told = _columns([tower_name(t) for t in towers]), "Effective rank", []
    for col, tower in enumerate(towers, start=1):
        by_task = _series(measured, tower)
        if not by_task:
            continue
        first = next(iter(by_task))
        values = {first - 1: [e.effective_rank_before for e in by_task[first]]} | {
            task: [e.effective_rank for e in events] for task, events in by_task.items()
        }
        _mean_line(figure, values, tasks, tower=tower, hover="effective rank", col=col, count=count)
        every = [v for vs in values.values() for v in vs]
        room = 0.12 * (max(every) - min(every)) or 0.05 * max(every) or 1.0
        figure.update_yaxes(range=[max(0.0, min(every) - room), max(every) + room], row=1, col=col)
        means = [float(np.mean(v)) for v in values.values()]
        width = len(by_task[first][0].before)
        told.append(f"{tower_name(tower)} {number(means[0])} → {number(means[-1])} of {width}")
    figure.update_xaxes(**_axis(count, before=True))
    figure.update_yaxes(title_text="directions", col=1)
    figure.update_layout(margin={"r": 24})
    if not measured:
        return nothing(title, how=SOURCE, figure=figure)
    summary = "Mean at the beginning and now: " + "; ".join(told) + "."
    return describe(
        figure,
        title=title,
        what="Number of directions used by the maps, independent of the cut: mean (line) and smallest to largest map "
        f"(band) of each tower, before training and after every task; axes do not start at zero. {summary}",
        look_for="A rising line: tasks add directions that were empty. A flat or falling one: tasks "
        "change directions that were in use.",
        how="$\\exp(-\\sum_i p_i \\ln p_i)$ with $p_i = \\sigma_i / \\sum_j \\sigma_j$ (σ, not σ²); Roy and Vetterli, "
        "EUSIPCO 2007. Between 1 and $d$.",
        alt=summary,
        height=320,
    )


def room_left(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """How fast free directions run out: share of null directions, and how many of them a task may update."""
    towers, count = towers_of(e.name for e in measured) or ["image"], task_count(measured, tasks)
    ruled = any(e.bound != "none" for e in measured)
    most = max((e.written for e in measured if e.bound == "r_max"), default=0)
    right = "written to, share of r_max" if most else "written to, share of all directions"
    figure = _columns(["null directions, share of all", *([right] if ruled else [])])
    panels = [("null directions", lambda e: 100 * (1 - e.principal / len(e.before)))]
    if ruled:
        panels.append(("written to", lambda e: 100 * e.written / (most or len(e.before))))
    title, told = "Free directions over tasks", []
    for col, (said, value) in enumerate(panels, start=1):
        ends, top = [], 100.0
        for tower in towers:
            by_task = _series(measured, tower)
            values = {task: [value(e) for e in events] for task, events in by_task.items()}
            end = _mean_line(figure, values, tasks, tower=tower, hover=f"{said} in %", col=col, count=count, found=True)
            if end is not None:
                ends.append((*end, f"{tower} {end[1]:.0f} %"))
                start = float(np.mean(next(iter(values.values()))))
                told.append(f"{said}, {tower_name(tower)}: {percent(start, 0)} → {percent(end[1], 0)}")
        label_ends(figure, ends, span=(0, top * 1.03), pixels=230, axes=_axes_of(col))
        figure.update_yaxes(range=[0, top * 1.03], ticksuffix=" %", dtick=20, row=1, col=col)
    figure.update_xaxes(**_axis(count, before=False, title="when training began on"))
    if not measured:
        return nothing(title, how=SOURCE, figure=figure)
    summary = "Mean at the first task and now: " + "; ".join(told) + "."
    side = (
        f"; right: those a task may update{f' (r_max: {most} directions)' if most else ''}. "
        if ruled
        else (". Training in this run does not use them. ")
    )
    return describe(
        figure,
        title=title,
        what=f"{'Left: null' if ruled else 'Null'} directions at the start of each task: mean over maps, band from the "
        "scarcest to the richest" + side + summary,
        look_for="Falling lines: each merge makes free directions principal, and the next task has fewer "
        "free ones. Right line below 100 %: in some maps ρ instead of r_max is the active bound."
        if most
        else "Falling lines: free directions become principal, and the next task has fewer free ones.",
        how=f"{SPLIT}. Left $(d - k)/d$"
        + (f", right $q / {'r_{max}' if most else 'd'}$ with $q = \\min(d - k, r_{{max}})$. " if ruled else ". ")
        + SOURCE,
        alt=summary,
        height=320,
    )


def drift_from_pretrained(measured: Measured, tasks: Tasks = ()) -> go.Figure:
    """Share of the change since pre-training that lies in the pre-trained principal space, and its remaining
    overlap."""
    towers, count = towers_of(e.name for e in measured) or ["image"], task_count(measured, tasks)
    figure = _columns(["change inside it, log axis", "overlap with the one that the task found"])
    title, told, every = "The pre-trained principal space", [], []
    ends: tuple[list[tuple[float, float, str]], ...] = ([], [])
    for tower in towers:
        by_task = _series(measured, tower)
        drifts = {t: [max(e.drift, LEAK_FLOOR) for e in es if e.drift is not None] for t, es in by_task.items()}
        overlaps = {t: [e.overlap for e in es] for t, es in by_task.items()}
        for col, (values, said) in enumerate(((drifts, "share of the change"), (overlaps, "overlap")), start=1):
            end = _mean_line(figure, values, tasks, tower=tower, hover=said, col=col, count=count, found=col == 2)
            if end is not None:
                ends[col - 1].append((*end, tower))
                if col == 1:
                    told.append(f"{tower_name(tower)} {tiny(end[1])}")
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
            hovertemplate=f"{tower_name(tower)}: a random change has {number(chance)}<extra></extra>",
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
        return nothing(title, how=SOURCE, figure=figure)
    summary = f"Share now: {'; '.join(told)}." if told else "No map has moved so far."
    return describe(
        figure,
        title=title,
        what="Share of everything learned so far that lies in the principal space of the untouched model (left; thin "
        "line: a random change) and how much of that space is principal still (right; 1 = all): mean over maps, band "
        f"from least to most. {summary}",
        look_for="A left line that rises towards the thin one although each task avoided the principal space at its "
        "start: the cut is recomputed for every task, and formerly principal directions become free.",
        how="$\\|U_{k,0}^\\top (W_t - W_0)\\|_F / \\|W_t - W_0\\|_F$ with the pre-trained weight $W_0$; chance "
        "$\\sqrt{k_0/d}$. Overlap $\\|U_{k,0}^\\top U_k\\|_F^2 / \\min(k_0, k)$, with $U_k$ at the start of the task. "
        + SOURCE,
        alt=summary,
        height=320,
    )
