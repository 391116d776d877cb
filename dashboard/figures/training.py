"""Training curves: losses, batch accuracy, step sizes before and after projection, time and memory per task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from cl_core.events import StepEnded, TaskEnded
from dashboard.figures.description import blank, describe
from dashboard.figures.plot_helpers import LIMIT, decade_ticks, label_ends, mark_boundaries, smoothed, thinned
from dashboard.theme import INK, megabytes, number, percent, seconds, task_colour, task_name

_DASHES = ("dot", "dash", "dashdot", "longdash", "longdashdot")


def first_steps(steps: Sequence[StepEnded]) -> list[tuple[float, int]]:
    """(step, task) at which each task's training started so far."""
    starts: dict[int, float] = {}
    for event in steps:
        starts.setdefault(event.clock.task, float(event.clock.step))
    return [(step, task) for task, step in starts.items()]


def _step_axis(figure: go.Figure, steps: Sequence[StepEnded], total_steps: int | None) -> None:
    last = max(total_steps or 1, steps[-1].clock.step + 1 if steps else 1)
    figure.update_xaxes(title_text="optimiser step", showgrid=False, range=[0, last])
    mark_boundaries(figure, first_steps(steps))


def _by_task(steps: Sequence[StepEnded]) -> dict[int, list[StepEnded]]:
    groups: dict[int, list[StepEnded]] = {}
    for event in steps:
        groups.setdefault(event.clock.task, []).append(event)
    return groups


def _places(events: Sequence[StepEnded]) -> np.ndarray:
    return np.array([e.clock.step for e in events], dtype=np.float32)


def losses(steps: Sequence[StepEnded], *, tasks: int | None = None, total_steps: int | None = None) -> go.Figure:
    """Every named part of the loss and their sum over the whole run, each task in its colour.

    Args:
        steps: the run's steps so far.
        tasks: tasks of the run, for the colours; None = as many as have started.
        total_steps: steps the run will have: the axis does not move while it runs.
    """
    figure = blank(hovermode="x")
    groups = _by_task(steps)
    tasks = max([tasks or 1, *(t + 1 for t in groups)])
    names = list(dict.fromkeys(name for event in steps for name in event.losses))
    parts = [name for name in names if name != "total"]
    alone = len(parts) < 2  # with one term the sum equals it
    highest, ends = 0.0, {}
    for task, events in groups.items():
        places, colour = _places(events), task_colour(task, tasks)
        for k, name in enumerate(
            ["total"] if alone and "total" in names else ["total", *parts] if "total" in names else parts
        ):
            values = np.array(
                [e.losses.get(name) if e.losses.get(name) is not None else np.nan for e in events], dtype=np.float32
            )
            if not np.isfinite(values).any():
                continue
            whole = name == "total" or len(names) == 1
            x, y = thinned(places, values, max(60, LIMIT // max(len(groups), 1)))
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines" if len(x) > 1 else "markers",
                name=_words(name),
                legendgroup=name,
                showlegend=False,
                opacity=1 if whole else 0.75,
                line={
                    "color": colour,
                    "width": 2 if whole else 1.5,
                    "dash": "solid" if whole else _DASHES[(k - 1) % 5],
                },
                marker={"color": colour, "size": 5},
                hovertemplate=f"{_words(name)} %{{y:.3g}}<extra>{task_name(task)}, step %{{x:.0f}}</extra>",
            )
            highest = max(highest, float(np.nanquantile(values, 0.995)))
            ends[name] = (float(x[-1]), float(smoothed(values[np.isfinite(values)], 10)[-1]), _words(name))
    top = 1.08 * highest or 1.0
    label_ends(figure, list(ends.values()), span=(0, top), pixels=220)
    figure.update_yaxes(title_text="loss", range=[0, top])
    _step_axis(figure, steps, total_steps)
    figure.update_layout(margin={"r": 96})
    newest = ", ".join(f"{text} {number(y)}" for _, y, text in ends.values())
    return describe(
        figure,
        title="Losses",
        what="Training loss at every optimiser step, one colour per task"
        + ("" if alone else "; solid: the sum, dashed: its parts")
        + "; long runs are thinned, peaks kept.",
        look_for="Each task should start high and fall; a curve that stays high has no free directions for learning.",
        how="Loss of the training batch at each step, before the step is taken. Cross-entropy is in nats; other "
        "parts as the method defines them. *Total* is the sum that is differentiated. The axis starts at zero; the "
        "highest 0.5 % of values may lie above it.",
        alt=f"Loss over {len(steps)} steps; newest: {newest or 'none yet'}.",
        height=320,
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def batch_accuracy(
    steps: Sequence[StepEnded], *, tasks: int | None = None, total_steps: int | None = None
) -> go.Figure:
    """Accuracy on the training batches, smoothed, each task in its colour."""
    figure = blank()
    groups = _by_task(steps)
    tasks = max([tasks or 1, *(t + 1 for t in groups)])
    for task, events in groups.items():
        colour, places = task_colour(task, tasks), _places(events)
        raw = np.array([e.batch_accuracy for e in events], dtype=np.float32)
        width = max(1, min(20, len(events) // 8))
        budget = max(60, LIMIT // max(len(groups), 1))
        x, y = thinned(places, raw, budget)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": colour, "width": 1},
            opacity=0.3,
            hoverinfo="skip",
            showlegend=False,
            name="each batch",
        )
        x, y = thinned(places, smoothed(raw, width), budget)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines" if len(x) > 1 else "markers",
            line={"color": colour, "width": 2},
            marker={"color": colour, "size": 5},
            showlegend=False,
            name=task_name(task),
            hovertemplate=f"{task_name(task)}, step %{{x:.0f}}: %{{y:.1f}} %<extra></extra>",
        )
    figure.update_yaxes(title_text="accuracy", range=[0, 103], dtick=20, ticksuffix=" %")
    _step_axis(figure, steps, total_steps)
    newest = percent(steps[-1].batch_accuracy) if steps else "none yet"
    return describe(
        figure,
        title="Accuracy on training batches",
        what="Pale: every batch; solid: mean of the last few batches of the same task; among the classes in the loss.",
        look_for="It shows how well the current task is fitted, nothing about older tasks: for these see the matrix.",
        how="Share of a training batch that is classified correctly before the step, in percent, among the classes "
        "in the loss (with a loss over the current task's classes only, chance is high: 50 % for two classes).",
        alt=f"Batch accuracy over {len(steps)} steps; newest {newest}.",
        height=320,
    )


def update_norms(steps: Sequence[StepEnded], *, total_steps: int | None = None) -> go.Figure:
    """Size of the optimiser's step and of the applied step after projection, over the run, on a log axis."""
    figure = blank()
    names = sorted({name for event in steps for name in event.proposed_norm})
    places = _places(steps)
    drawn: list[tuple[str, np.ndarray]] = []
    for field, label in (("proposed_norm", "proposed"), ("applied_norm", "applied")):
        values = np.full((len(names), len(steps)), np.nan)
        for column, event in enumerate(steps):
            for row, name in enumerate(names):
                value = getattr(event, field).get(name)
                values[row, column] = np.nan if value is None else value
        total = np.sqrt(np.nansum(values**2, axis=0))
        total[~np.isfinite(values).any(axis=0) | (total <= 0)] = np.nan
        drawn.append((label, total))
    ends, low, high = [], np.inf, 0.0
    for label, values in drawn:
        known = np.isfinite(values)
        if not known.any():
            continue
        x, y = thinned(places[known], values[known])
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines" if len(x) > 1 else "markers",
            name=label,
            showlegend=False,
            line={
                "color": INK,
                "width": 2.2 if label == "applied" else 1.6,
                "dash": "solid" if label == "applied" else "dot",
            },
            marker={"color": INK, "size": 5},
            hovertemplate=f"{label}: %{{y:.3g}} at step %{{x:.0f}}<extra></extra>",
        )
        low, high = min(low, float(np.nanmin(values))), max(high, float(np.nanmax(values)))
        ends.append((float(x[-1]), float(np.nanmedian(values[known][-20:])), label))
    if ends:
        span = (low / 1.4, high * 1.4)
        same = len(ends) == 2 and abs(np.log(ends[0][1] / ends[1][1])) < 1e-6
        label_ends(figure, [(*ends[0][:2], "proposed = applied")] if same else ends, span=span, log=True, pixels=220)
        figure.update_yaxes(**decade_ticks(*span))
    figure.update_yaxes(title_text="size of a step ‖ΔP‖")
    _step_axis(figure, steps, total_steps)
    figure.update_layout(margin={"r": 130 if ends else 24})
    shares = _shares(drawn, _task_of(steps))
    later = [share for task, share in shares.items() if task > 0]
    parts = [f"{task_name(0)} {percent(100 * shares[0])}"] if 0 in shares else []
    if later:
        parts.append(f"later {percent(100 * float(np.median(later)))}")
    passed = ", ".join(parts)
    return describe(
        figure,
        title="Update size before and after projection",
        what="Size of the step the optimiser proposes (dotted) and of the step that is applied (solid), all "
        f"projected parameters together, log axis. Applied over proposed, median: {passed or 'not measured'}.",
        look_for="A gap that opens at a task boundary is the price of protection; at the same size nothing is "
        "projected.",
        how="Frobenius norm of the optimiser's own step ΔP and of the step after projection B₂ ΔP B₁ (or whatever "
        f"map the method uses), over {', '.join(names) or 'no parameter'}; several parameters are combined as the root "
        "of the sum of squares. A smaller step is not a safer one: compare with the direction of the update, below.",
        alt=f"Median share of the proposed step that is applied: {passed or 'not measured'}.",
        height=320,
    )


def _task_of(steps: Sequence[StepEnded]) -> np.ndarray:
    return np.array([e.clock.task for e in steps], dtype=int)


def _shares(drawn: list[tuple[str, np.ndarray]], task_of: np.ndarray) -> dict[int, float]:
    """Median applied over proposed, per task."""
    proposed, applied = drawn[0][1], drawn[1][1]
    shares = {}
    for task in np.unique(task_of):
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = applied[task_of == task] / proposed[task_of == task]
        if np.isfinite(ratio).any():
            shares[int(task)] = float(np.nanmedian(ratio))
    return shares


def time_and_memory(ended: Sequence[TaskEnded], *, tasks: int | None = None) -> go.Figure:
    """Seconds of training per task, and bytes of the method's state between tasks."""
    n = max([tasks or 1, *(e.clock.task + 1 for e in ended)])
    figure = blank(bargap=0.4, showlegend=False)
    figure.add_bar(
        x=[e.clock.task for e in ended],
        y=np.array([e.seconds for e in ended], dtype=np.float32),
        marker={"color": [task_colour(e.clock.task, n) for e in ended]},
        textposition="outside",
        cliponaxis=False,
        constraintext="none",
        textfont={"size": 12},
        customdata=[f"{seconds(e.seconds)}, keeps {megabytes(e.kept_bytes)}" for e in ended],
        text=[f"{seconds(e.seconds)}<br>keeps {megabytes(e.kept_bytes)}" for e in ended] if n <= 6 else None,
        hovertemplate="%{customdata}<extra></extra>",
    )
    figure.update_xaxes(
        showgrid=False,
        ticks="",
        range=[-0.6, max(n, 1) - 0.4],
        tickvals=list(range(n)),
        ticktext=[task_name(t) for t in range(n)],
    )
    figure.update_yaxes(
        title_text="seconds", rangemode="tozero", range=[0, 1.35 * max((e.seconds for e in ended), default=1)]
    )
    return describe(
        figure,
        title="Time and memory",
        what="Bars: wall time of training on a task; numbers above: the method's state for later tasks, in MB.",
        look_for="Memory that grows with every task, or time that does.",
        how="Wall time from the task's first step until its state is stored. Kept: bytes of the method's "
        "own state between tasks (parameters, moments, statistics), without the frozen backbone.",
        alt=(
            "; ".join(f"{task_name(e.clock.task)} {seconds(e.seconds)}, keeps {megabytes(e.kept_bytes)}" for e in ended)
            or "Nothing yet"
        )
        + ".",
        height=280,
    )
