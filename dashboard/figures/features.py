"""Moments of what past tasks feed into matrices: the room they leave, what gets through of a step, what leaks in again.

The protected directions are those of a second moment of a matrix's inputs, per layer; see `figures.spectra` for the
spectra themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from cl_core.events import SpectrumMeasured, StepEnded, UpdateMeasured
from dashboard.figures.description import blank, describe
from dashboard.figures.layer_map import layer_maps, map_height
from dashboard.figures.lines import label_ends, layer_ticks, mark_boundaries, thinned
from dashboard.figures.readings import layer_task_table, sizes, spaces
from dashboard.figures.spectra import button, counted, of, short
from dashboard.figures.training import first_steps
from dashboard.theme import INK, PALE, layer_name, number, percent, task_colour, task_name


def protecting(measured: Sequence[SpectrumMeasured], space: str, layer: int, task: int) -> SpectrumMeasured | None:
    """The spectrum that `task` was held to: the last one measured before it."""
    found = [e for e in measured if e.space == space and e.layer == layer and e.clock.task < task]
    return max(found, key=lambda e: e.clock.task) if found else None


def chance(event: SpectrumMeasured) -> float:
    """sqrt(k / n): the leak of a random change into k protected of n directions."""
    n = len(event.eigenvalues)
    return ((n - event.nullity) / n) ** 0.5


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
        texts.append([["" if np.isnan(s) else f"{s:.0f} %" for s in row] for row in shares] if tasks <= 8 else None)
        newest = [e for e in found if e.clock.task == found[-1].clock.task]
        least = min(newest, key=lambda e: e.nullity / len(e.eigenvalues))
        scarcest.append(f"{short(space)}, {layer_name(least.layer)}: {counted(least.nullity, len(least.eigenvalues))}")
    figure = layer_maps(
        tables or {"": np.full((1, tasks), np.nan)},
        texts or [None],
        hover="%{y}, after %{x}: %{z:.1f} % left free<extra></extra>",
        bar="left free, %",
        high=100,
    )
    told = f"Scarcest now: {'; '.join(scarcest)}." if scarcest else "Nothing has been measured so far."
    rule = f" ({measured[-1].rule})" if measured else ""
    return describe(
        figure,
        title="Directions left free",
        what=f"Share of directions that the cut leaves to the next task, for every layer after every task. {told}",
        look_for="Cells that pale from left to right: the room to learn runs out, first where they are palest. Empty: "
        "not measured, or no such matrix in that layer.",
        how="Nullity $R$ = number of directions to the right of the cut, in percent of the width $n$. The rule that "
        f"places the cut is the method's own{rule}. Free is what the rule calls free: it is not the numerical null "
        "space.",
        alt=f"Heat maps of {layers} layers by {tasks} tasks. {told}",
        height=max(240, map_height(layers)),
    )


def leak_of_updates(
    updates: Sequence[UpdateMeasured],
    measured: Sequence[SpectrumMeasured],
    *,
    space: str,
    tasks: int | None = None,
) -> go.Figure:
    """Share of every task's net change that lies in the directions protected for it, against a random change.

    Args:
        updates, measured: the run's events.
        space: whose matrices.
        tasks: tasks of the run, for the colours.
    """
    layers, last = sizes(updates)
    tasks = max(tasks or 1, last)
    told_of = [e for e in updates if e.leak.get(space) is not None]
    begun = sorted({e.clock.task for e in told_of})
    width, pairs, figure = 0.62 / max(len(begun), 1), [], blank()
    for k, task in enumerate(begun):
        events = [e for e in told_of if e.clock.task == task]
        x = np.array([e.layer + (k - (len(begun) - 1) / 2) * width for e in events], dtype=np.float32)
        held = [protecting(measured, space, e.layer, task) for e in events]
        random = [None if spectrum is None else chance(spectrum) for spectrum in held]
        figure.add_scatter(
            x=[v for at in x for v in (float(at) - 0.4 * width, float(at) + 0.4 * width, None)],
            y=[v for r in random for v in (r, r, None)],
            mode="lines",
            line={"color": INK, "width": 2},
            hoverinfo="skip",
            showlegend=False,
            name=f"a random change, {task_name(task)}",
        )
        figure.add_scatter(
            x=x,
            y=np.array([e.leak[space] for e in events], dtype=np.float32),
            mode="markers",
            name=task_name(task),
            marker={"size": 10 if len(begun) * layers <= 40 else 6, "color": task_colour(task, tasks)},
            showlegend=len(begun) <= 12,
            customdata=[
                "no spectrum before it"
                if spectrum is None
                else f"random {number(r)}: {len(spectrum.eigenvalues) - spectrum.nullity} of "
                f"{len(spectrum.eigenvalues)} directions protected"
                for spectrum, r in zip(held, random, strict=True)
            ],
            hovertemplate=f"{task_name(task)}: leak %{{y:.3g}}, %{{customdata}}<extra></extra>",
        )
        pairs += [(e.leak[space], r) for e, r in zip(events, random, strict=True)]
    figure.update_xaxes(showgrid=False, ticks="", range=[-0.5, max(layers, 1) - 0.5], **layer_ticks(layers))
    highest = max([v for pair in pairs for v in pair if v is not None], default=0.85)
    figure.update_yaxes(title_text="leak, share of the change", range=[0, min(1.04, max(0.05, 1.2 * highest))])
    figure.update_layout(margin={"b": 64}, legend={"y": -0.16})
    leaks = [leak for leak, _ in pairs]
    below = [leak < r for leak, r in pairs if r is not None]
    summary = (
        f"Leak {number(min(leaks))} to {number(max(leaks))}; {sum(below)} of {len(below)} lie below a random change."
        if leaks
        else "No task with a past has been learned so far."
    )
    return describe(
        figure,
        title=f"Leak of the actual update, {short(space)}",
        what="Dots: share of a task's net change that lies in the directions protected for past tasks; grey bars: a "
        f"random change. {summary}",
        look_for="Zero: the update stayed out. A dot near its bar: protection was lost on the way. AdamW rescales "
        "every entry of a gradient, so the step leaves the free space although the gradient does not; projecting the "
        "update itself would not leave it.",
        how="$\\|\\Delta W (I - P)\\|_F / \\|\\Delta W\\|_F$ of the net change over the task, with the projector $P$ "
        "on the free directions that this task was held to, so of the spectrum measured after the task before. A "
        "random change has $\\sqrt{k/n}$, with $k$ of $n$ directions protected. A share of norm; the first task "
        "has no past, so it has no dot.",
        alt=summary,
        height=340,
    )


def kept_share(
    steps: Sequence[StepEnded], measured: Sequence[SpectrumMeasured] = (), *, total_steps: int | None = None
) -> go.Figure:
    """Applied over proposed norm per step: mean over parameters, band from the least to the most.

    Args:
        steps: the run's steps.
        measured: its spectra, for what a random direction would keep.
        total_steps: of the whole run, for the axis.
    """
    figure = blank()
    rows: list[tuple[int, int, float, float, float]] = []  # step, task, least, mean, most
    for event in steps:
        shares = [
            event.applied_norm[name] / size
            for name, size in event.proposed_norm.items()
            if size and event.applied_norm.get(name) is not None
        ]
        if shares:
            rows.append((event.clock.step, event.clock.task, min(shares), sum(shares) / len(shares), max(shares)))
    ends: list[tuple[float, float, str]] = []
    places, values = np.array([r[0] for r in rows], dtype=np.float32), np.array([r[2:] for r in rows], dtype=np.float32)
    if rows:
        edges = [(values[:, 2], None), (values[:, 0], "tonexty")]
        for y, fill in edges:
            at, y = thinned(places, 100 * y, 400)
            figure.add_scatter(
                x=at,
                y=y,
                mode="lines",
                line={"width": 0.6, "color": PALE},
                fill=fill,
                fillcolor="rgba(128,134,144,0.16)",
                hoverinfo="skip",
                showlegend=False,
                name="least" if fill else "most",
            )
        at, y = thinned(places, 100 * values[:, 1], 400)
        figure.add_scatter(
            x=at,
            y=y,
            mode="lines" if len(at) > 1 else "markers",
            line={"color": INK, "width": 2.2},
            marker={"color": INK, "size": 6},
            showlegend=False,
            name="mean",
            hovertemplate="step %{x:.0f}: %{y:.1f} % kept, mean over parameters<extra></extra>",
        )
        ends.append((float(at[-1]), float(np.median(y[-20:])), "kept"))
    starts = [start for start in first_steps(steps) if start[1] > 0]
    told = []
    for task in sorted({r[1] for r in rows}):
        own = np.array([r[1] == task for r in rows])
        held = [e for key in {(e.space, e.layer) for e in measured} if (e := protecting(measured, *key, task))]
        text = f"{task_name(task)} {percent(100 * float(np.median(values[own, 1])))}"
        if held and task > 0:
            random = 100 * float(np.mean([(e.nullity / len(e.eigenvalues)) ** 0.5 for e in held]))
            mine = places[own]
            figure.add_scatter(
                x=[int(mine[0]), int(mine[-1])],
                y=[random, random],
                mode="lines",
                line={"color": INK, "width": 1.4, "dash": "dash"},
                showlegend=False,
                name=f"a random direction, {task_name(task)}",
                hovertemplate=f"{task_name(task)}: a random direction keeps {percent(random)}<extra></extra>",
            )
            text += f" (random {percent(random)})"
            last = (float(mine[-1]), random, "random")
            ends = [e for e in ends if e[2] != "random"] + [last]
        told.append(text)
    label_ends(figure, [(ends[0][0], y, text) for _, y, text in ends] if ends else [], span=(0, 104), pixels=240)
    mark_boundaries(figure, starts)
    most = max([total_steps or 1, *(e.clock.step + 1 for e in steps)])
    figure.update_xaxes(title_text="optimiser step", range=[0, most], showgrid=False)
    figure.update_yaxes(title_text="kept by the projection", range=[0, 104], ticksuffix=" %", dtick=20)
    figure.update_layout(margin={"r": 64})
    summary = f"Median: {', '.join(told)}." if told else "No step has been projected so far."
    return describe(
        figure,
        title="What the projection keeps of each step",
        what="Size after the projection over size before it: mean over the projected matrices (line) and least to most "
        f"(band); dashed: what a random direction would keep. {summary}",
        look_for="A line far below the dashed one: the new task asks for what past tasks use, and little of it gets "
        "through. Falling from task to task: the room to learn runs out.",
        how="$\\|g P\\|_F / \\|g\\|_F$ per matrix and step, in percent; $g$ is the gradient where the gradient is "
        "projected, and the optimiser's own step where that is. A random direction keeps $\\sqrt{R/n}$ with $R$ of $n$ "
        "directions free; drawn is the mean over the matrices.",
        alt=summary,
        height=340,
    )
