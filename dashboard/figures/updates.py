"""Updates: effect of the projection on steps, and share of a task's net change in directions used by past tasks.

Every share is compared with that of a random direction or change. The first task has no past, so it has no dot.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go

from cl_core.events import SpectrumMeasured, StepEnded, UpdateMeasured
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import sizes
from dashboard.figures.plot_helpers import label_ends, layer_ticks, mark_boundaries, reference_bars, spread, thinned
from dashboard.figures.spectra import PROMPT_SPACES, of, short
from dashboard.figures.training import first_steps
from dashboard.theme import INK, PALE, number, percent, task_colour, task_name


def protecting(measured: Sequence[SpectrumMeasured], space: str, layer: int, task: int) -> SpectrumMeasured | None:
    """The spectrum that constrained `task`: the last one measured before it."""
    found = [e for e in measured if e.space == space and e.layer == layer and e.clock.task < task]
    return max(found, key=lambda e: e.clock.task) if found else None


def chance(event: SpectrumMeasured) -> float:
    """sqrt(k / n): the leak of a random change into k protected of n directions."""
    n = len(event.eigenvalues)
    return ((n - event.nullity) / n) ** 0.5


class Dot(NamedTuple):
    """A task's share in one layer."""

    layer: int
    share: float
    random: float | None  # the share of a random direction or change, if known
    said: str  # of the reference, on hover


def _dots_beside_bars(told: Mapping[int, Sequence[Dot]], *, layers: int, tasks: int, bar: str, hover: str) -> go.Figure:
    """Shares over layers, the tasks side by side within a layer, each with a short bar at its reference.

    Args:
        told: task → its dots.
        layers: of the axis.
        tasks: of the run, for the colours.
        bar: name of a reference.
        hover: Plotly's template of a dot, after the task's name; %{customdata} is `said`.
    """
    figure, width = blank(), 0.62 / max(len(told), 1)
    for k, (task, dots) in enumerate(told.items()):
        x = np.array([d.layer + (k - (len(told) - 1) / 2) * width for d in dots], dtype=np.float32)
        random = [d.random for d in dots]
        figure.add_trace(
            reference_bars(x.tolist(), random, half=0.4 * width, name=f"{bar}, {task_name(task)}", showlegend=False)
        )
        figure.add_scatter(
            x=x,
            y=np.array([d.share for d in dots], dtype=np.float32),
            mode="markers",
            name=task_name(task),
            marker={"size": 10 if len(told) * layers <= 40 else 6, "color": task_colour(task, tasks)},
            showlegend=len(told) <= 12,
            customdata=[d.said for d in dots],
            hovertemplate=f"{task_name(task)}: {hover}<extra></extra>",
        )
    figure.update_xaxes(showgrid=False, ticks="", range=[-0.5, max(layers, 1) - 0.5], **layer_ticks(layers))
    figure.update_layout(margin={"b": 64}, legend={"y": -0.16})
    return figure


def update_residual(updates: Sequence[UpdateMeasured], *, space: str, tasks: int | None = None) -> go.Figure:
    """Share of each task's net update in directions used by past tasks, against a random direction."""
    layers, last = sizes(updates)
    told: dict[int, list[Dot]] = {}
    pairs: list[tuple[float, float | None]] = []
    for e in sorted(updates, key=lambda e: e.clock.task):
        share, random = e.residual.get(space), e.isotropic.get(space)
        if share is not None:
            told.setdefault(e.clock.task, []).append(Dot(e.layer, share, random, number(random)))
            pairs.append((share, random))
    figure = _dots_beside_bars(
        told, layers=layers, tasks=max(tasks or 1, last), bar="random direction", hover="%{y:.3f}, random %{customdata}"
    )
    known = [v for e in updates for v in (e.residual.get(space), e.isotropic.get(space)) if v is not None]
    figure.update_yaxes(title_text="residual", range=[0, min(1.02, 1.2 * max(known, default=0.85))])
    below = [r < i for r, i in pairs if i is not None]
    prompts = space in PROMPT_SPACES
    whose = "layer's prompts" if prompts else "matrix, its inputs as columns,"
    summary = (
        f"{sum(below)} of {len(below)} updates lie below their reference"
        if below
        else "no update after the first task yet"
    )
    return describe(
        figure,
        title=f"Updates inside the protected space, {short(space)}",
        what=f"Dots: share (root mean square) of a task's net {'prompt ' if prompts else ''}update along directions "
        f"past tasks use; grey bars: a random direction. {summary[0].upper() + summary[1:]}.",
        look_for="Dots well below their bar: the update avoided what past tasks use. On the bar: no better than "
        "chance.",
        how=("Affinity side " if prompts else "")
        + "$r = \\sqrt{\\mathrm{tr}(\\Delta C \\Delta^\\top) / (\\|\\Delta\\|_F^2\\,\\lambda_0)}$, "
        + ("mixture side the same with $\\Delta^\\top$; " if prompts else "")
        + f"$\\Delta$ is the net change of the {whose} over "
        "the task, $C$ the moment of the tasks before it, $\\lambda_0$ its largest eigenvalue. 0 = entirely in unused "
        "directions, 1 = entirely along the most used one. Reference: $\\sqrt{\\mathrm{tr}\\,C / (n \\lambda_0)}$. "
        "It measures direction only: a smaller step does not lower it. The first task has no past, so it has no "
        "dot.",
        alt=f"Residuals in {layers} layers, {short(space)}: {summary}.",
        height=340,
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
        space: space of the matrices.
        tasks: tasks of the run, for the colours.
    """
    layers, last = sizes(updates)
    told: dict[int, list[Dot]] = {}
    for e in sorted(updates, key=lambda e: e.clock.task):
        share = e.leak.get(space)
        if share is None:
            continue
        held = protecting(measured, space, e.layer, e.clock.task)
        said, random = "no spectrum before it", None
        if held is not None:
            random, n = chance(held), len(held.eigenvalues)
            said = f"random {number(random)}: {n - held.nullity} of {n} directions protected"
        told.setdefault(e.clock.task, []).append(Dot(e.layer, share, random, said))
    figure = _dots_beside_bars(
        told,
        layers=layers,
        tasks=max(tasks or 1, last),
        bar="a random change",
        hover="leak %{y:.3g}, %{customdata}",
    )
    pairs = [(dot.share, dot.random) for dots in told.values() for dot in dots]
    highest = max([v for pair in pairs for v in pair if v is not None], default=0.85)
    figure.update_yaxes(title_text="leak, share of the change", range=[0, min(1.04, max(0.05, 1.2 * highest))])
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
        look_for="Zero: no leak. A dot near its bar: protection had no effect. AdamW rescales "
        "every entry of a gradient, so the step leaves the free space although the gradient does not; projecting the "
        "update itself would not leave it.",
        how="$\\|\\Delta W (I - P)\\|_F / \\|\\Delta W\\|_F$ of the net change over the task, with the projector $P$ "
        "onto the free directions during this task, from the spectrum measured after the previous task. A "
        "random change has $\\sqrt{k/n}$, with $k$ of $n$ directions protected. A share of norm; the first task "
        "has no past, so it has no dot.",
        alt=summary,
        height=340,
    )


def gains(measured: Sequence[SpectrumMeasured], *, space: str, task: int | None = None) -> go.Figure:
    """Factor on an update along a free and along a protected direction, per layer, after one task."""
    found = of(measured, space=space)
    _, last = sizes(found)
    task = last - 1 if task is None or not of(found, task=task) else task
    events = sorted(of(found, task=task), key=lambda e: e.layer)
    layers = [e.layer for e in events]
    figure = blank(barmode="group", bargap=0.3)
    highest = max((max(e.gain_free, e.gain_protected) for e in events), default=1.0)
    for name, field, colour in (
        ("along free directions", "gain_free", INK),
        ("along protected directions", "gain_protected", PALE),
    ):
        values = np.array([getattr(e, field) for e in events], dtype=np.float32)
        figure.add_bar(
            x=layers,
            y=values,
            name=name,
            showlegend=True,
            marker={"color": colour, "line": {"color": INK, "width": 1}},
            text=[number(float(v)) for v in values] if len(layers) <= 8 else None,
            textposition="outside",
            cliponaxis=False,
            constraintext="none",
            textfont={"size": 11},
            hovertemplate=f"{name}: × %{{y:.3g}}<extra></extra>",
        )
    figure.update_xaxes(showgrid=False, ticks="", **layer_ticks(max(layers, default=0) + 1))
    figure.update_yaxes(title_text="factor on an update", range=[0, 1.18 * highest])
    figure.update_layout(margin={"b": 64}, legend={"y": -0.16})
    ratio = [e.gain_protected / e.gain_free for e in events if e.gain_free > 0]
    obeyed = not events or all(e.used for e in events)
    summary = f"protected ÷ free lies between {min(ratio):.2f} and {max(ratio):.2f}" if ratio else "no gain stored"
    return describe(
        figure,
        title=f"What the projection does to an update, {short(space)}",
        what=f"Factor by which an update is multiplied after {task_name(task)}, along free and along protected "
        f"directions; {summary}."
        + ("" if obeyed else " This run's training projects nothing in this space: both factors are 1."),
        look_for="Both bars far below 1: updates are mainly made smaller; a run with equally shrunk steps is the fair "
        "comparison. Protected at zero: strict protection.",
        how="The projector acts as a symmetric matrix with two eigenvalues; the method stores both. For projectors "
        "$\\eta\\,\\Pi/\\sqrt{R} + (1-\\eta) I$: free $= \\eta/\\sqrt{R} + 1 - \\eta$, protected $= 1 - \\eta$, so "
        "free directions are scaled down too. Where an update is projected on both sides, the factors of both sides "
        "multiply.",
        alt=f"Gains after {task_name(task)}: {summary}.",
        height=320,
    )


def kept_share(
    steps: Sequence[StepEnded], measured: Sequence[SpectrumMeasured] = (), *, total_steps: int | None = None
) -> go.Figure:
    """Applied over proposed norm per step: mean over parameters, band from the least to the most.

    Args:
        steps: the run's steps.
        measured: its spectra, for the share kept of a random direction.
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
        least, mean, most = (thinned(places, 100 * values[:, k], 400) for k in range(3))
        spread(figure, least, most)
        at, y = mean
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
        held = [
            e for key in dict.fromkeys((e.space, e.layer) for e in measured) if (e := protecting(measured, *key, task))
        ]
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
    reach = max([total_steps or 1, *(e.clock.step + 1 for e in steps)])
    figure.update_xaxes(title_text="optimiser step", range=[0, reach], showgrid=False)
    figure.update_yaxes(title_text="kept by the projection", range=[0, 104], ticksuffix=" %", dtick=20)
    figure.update_layout(margin={"r": 64})
    summary = f"Median: {', '.join(told)}." if told else "No step has been projected so far."
    return describe(
        figure,
        title="What the projection keeps of each step",
        what="Size after the projection over size before it: mean over the projected matrices (line) and minimum to "
        f"maximum (band); dashed: share kept of a random direction. {summary}",
        look_for="A line far below the dashed one: the new task needs directions that past tasks use, and little of "
        "it passes the projection. Falling from task to task: free directions run out.",
        how="$\\|g P\\|_F / \\|g\\|_F$ per matrix and step, in percent; $g$ is the gradient if the gradient is "
        "projected, otherwise the optimiser's step. A random direction keeps $\\sqrt{R/n}$ with $R$ of $n$ "
        "directions free; drawn is the mean over the matrices.",
        alt=summary,
        height=340,
    )
