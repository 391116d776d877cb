"""Why a task was forgotten: the parts of a fall, and the history of every stored test image.

Percent and percentage points; tasks count from 0. The arithmetic is `cl_core.analysis.ledger`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cl_core.analysis.ledger import FORMULAS, Rows, costly_steps, flow, ledger, statistics_ledger
from cl_core.events import ImagesClassified, ImagesStored, OldTasksMeasured, StepEnded
from cl_core.readouts import CLASS_INCREMENTAL, TASK_INCREMENTAL
from dashboard.figures.description import blank, describe, nothing
from dashboard.figures.layer_map import colour_bar
from dashboard.figures.plot_helpers import task_ticks, thinned
from dashboard.theme import INK, PALE, SEQUENTIAL, faded, percent, points, scale, signed, task_colour, task_name

Tasks = Sequence[dict[str, Any]]
MOST_CLASSES = 60  # maximum rows and columns of a confusion matrix; with more classes it is summed by task
_SYMBOLS = (
    "C: accuracy of the method's own heads among all classes seen; K: with the task known; R: with the task known, of "
    "a linear readout refitted to the current features of the task's training images; S, Q: linear discriminant "
    "analysis among all classes seen, on stored and on recomputed statistics. j: just after the task was learned, i: "
    "now."
)


def class_names(tasks: Tasks) -> list[str]:
    return [str(name) for task in tasks for name in task.get("classes", ())]


def shared_classes(tasks: Tasks) -> int:
    """Number of classes shared by all tasks, by name and order; 0 if tasks have their own classes. Class ids still
    continue from task to task."""
    first = list(tasks[0].get("classes", ())) if len(tasks) > 1 else []
    return len(first) if all(list(task.get("classes", ())) == first for task in tasks) else 0


def _label(name: str, task: int | None, tasks: Tasks) -> str:
    """A class or task on an axis, with the colour of its task; None: shared by all tasks."""
    square = "" if task is None else f'<span style="color:{task_colour(task, len(tasks))}">■</span> '
    return square + escape(name[:14])


def forgetting_ledger(rows: Rows, *, task: int, after: int) -> go.Figure:
    """The fall of one cell as signed bars with exactly this sum, and below it that of the stored-statistics readout."""
    own, statistics = ledger(rows, task, after), statistics_ledger(rows, task, after)
    shown = [cell for cell in (own, statistics) if cell.drop is not None]
    title = f"Why {task_name(task)} fell"
    how = "  \n".join(
        [
            *(f"*{name.capitalize()}*: {formula}." for name, formula in FORMULAS.items()),
            _SYMBOLS,
            "The parts are differences of the same accuracies, so their sum is exactly the fall; a negative one is "
            "something that got better.",
        ]
    )
    if not shown:
        return nothing(title, how=how, height=260)
    figure = blank(bargap=0.3)
    labels: list[str] = []
    missing: list[str] = []
    for cell in shown:
        first = len(labels)
        labels += [f"<b>{cell.readout}: fall</b>", *(f"{name}{' ' * first}" for name in cell.parts)]
        values = [cell.drop, *cell.parts.values()]
        known = [value is not None for value in values]
        missing += [name for name, value in cell.parts.items() if value is None]
        figure.add_bar(
            y=[label for label, ok in zip(labels[first:], known, strict=True) if ok],
            x=np.array([value for value in values if value is not None], dtype=np.float32),
            orientation="h",
            customdata=[[name] for name, ok in zip(["", *cell.parts], known, strict=True) if ok],
            text=[signed(value) for value in values if value is not None],
            textposition="outside",
            cliponaxis=False,
            marker={"color": [INK, *[PALE] * len(cell.parts)][: sum(known)], "line": {"color": INK, "width": 1}},
            showlegend=False,
            hovertemplate="%{y}: %{x:.1f} points<extra></extra>",
        )
    figure.add_vline(x=0, line={"color": INK, "width": 1})
    figure.update_yaxes(
        categoryorder="array", categoryarray=labels[::-1], showgrid=False, ticks="", range=[-0.6, len(labels) - 0.4]
    )
    figure.update_xaxes(title_text="points of accuracy lost")
    figure.update_layout(margin={"l": 190, "r": 60})
    told = {name: value for name, value in own.parts.items() if value is not None}
    return describe(
        figure,
        title=title,
        what=f"Points that {task_name(task)} lost between {task_name(task)} and {task_name(after)}, split into parts "
        "that add up to the fall.",
        look_for="The longest bar below a bold one is its cause."
        + (f" Not measured here: {', '.join(dict.fromkeys(missing))}." if missing else ""),
        how=how,
        alt=f"Fall {points(own.drop)}: "
        + (", ".join(f"{name} {points(value)}" for name, value in told.items()) or "no part was measured")
        + ".",
        height=110 + 34 * len(labels),
    )


def _labels(stored: Sequence[ImagesStored]) -> dict[int, np.ndarray]:
    return {event.clock.task: np.asarray(event.labels) for event in stored}


def _headline(event: ImagesClassified) -> np.ndarray | None:
    """[n] predictions of the run's default readout."""
    name = next((name for name in (CLASS_INCREMENTAL, TASK_INCREMENTAL) if name in event.readouts), None)
    place = len(event.predicted) if name is None else event.readouts.index(name)
    return np.asarray(event.predicted)[place] if place < len(event.predicted) else None


def _answered(labels: Mapping[int, np.ndarray], event: ImagesClassified) -> tuple[np.ndarray, np.ndarray] | None:
    """([n] true classes, [n] predictions) of an event; None where no images are stored to which they belong."""
    true, predicted = labels.get(event.evaluated), _headline(event)
    return None if true is None or predicted is None or len(true) != len(predicted) else (true, predicted)


def image_flow(
    stored: Sequence[ImagesStored], classified: Sequence[ImagesClassified], *, task: int, tasks: int
) -> go.Figure:
    """One task's images from boundary to boundary: retained, regained, lost."""
    labels = _labels(stored)
    answers = dict(sorted({e.clock.task: e for e in classified if e.evaluated == task and e.clock.task >= 0}.items()))
    found = flow(answers, labels[task], task) if task in labels else []
    title = f"Images of {task_name(task)}: learned, lost, regained"
    how = (
        "Each stored test image counts once at every boundary: correct or wrong now, correct or wrong at the previous "
        "boundary. Lost ones are drawn below zero."
    )
    if not found:
        return nothing(title, how=how)
    figure, colour = blank(barmode="relative", bargap=0.35), task_colour(task, max(tasks, 1))
    x = [after for after, _ in found]
    kinds = (
        ("right, as before", lambda c: c.get("kept", c.get("learned", 0)), faded(colour, 0.35), ""),
        ("regained", lambda c: c.get("regained", 0), colour, ""),
        ("lost since the task before", lambda c: -c.get("lost", 0), faded(colour, 0.15), "/"),
    )
    for name, count, fill, pattern in kinds:
        y = np.array([count(counts) for _, counts in found], dtype=np.float32)
        figure.add_bar(
            x=x,
            y=y,
            name=name,
            marker={
                "color": fill,
                "line": {"color": colour, "width": 1},
                "pattern": {"shape": pattern, "fgcolor": colour, "size": 6, "fillmode": "overlay"},
            },
            customdata=np.abs(y),
            hovertemplate=f"{name}: %{{customdata:.0f}}<extra></extra>",
        )
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    figure.update_xaxes(title_text="after training on", showgrid=False, **task_ticks(max(tasks, x[-1] + 1)))
    figure.update_yaxes(title_text="test images")
    lost = {after: counts.get("lost", 0) for after, counts in found}
    worst = max(lost, key=lambda after: lost[after])
    total = len(labels[task])
    return describe(
        figure,
        title=title,
        what=f"Of {total} test images of {task_name(task)}, how many each later task retained, regained, or lost.",
        look_for=f"Most were lost during {task_name(worst)}: {lost[worst]}." if lost[worst] else "None was lost.",
        how=how,
        alt="; ".join(f"{task_name(after)}: {', '.join(f'{n} {k}' for k, n in c.items())}" for after, c in found) + ".",
    )


def confusion(
    stored: Sequence[ImagesStored], classified: Sequence[ImagesClassified], tasks: Tasks, *, after: int
) -> go.Figure:
    """True class (rows) against predicted class (columns) over all stored test images, after one task."""
    labels, names = _labels(stored), class_names(tasks)
    how = "Counts of stored test images per true and predicted class, each row divided by its sum."
    pairs = [pair for e in classified if e.clock.task == after and (pair := _answered(labels, e)) is not None]
    if not pairs:
        return nothing("Confusion", how=how)
    true, said = (np.concatenate(part).astype(int) for part in zip(*pairs, strict=True))
    task_of = [index for index, task in enumerate(tasks) for _ in task.get("classes", ())]
    planned = (np.minimum(true, said) >= 0) & (np.maximum(true, said) < len(names))
    if not planned.any():  # events of another plan, or of none
        return nothing("Confusion", how=how)
    true, said = true[planned], said[planned]
    shared = shared_classes(tasks)
    if shared:
        true, said, names = true % shared, said % shared, names[:shared]
    whole = len(names) > MOST_CLASSES
    if whole:
        true, said = (np.array(task_of)[part] for part in (true, said))
        names, task_of = [task_name(t) for t in range(len(tasks))], list(range(len(tasks)))
    seen = sorted({*true.tolist(), *said.tolist()})
    place = {k: i for i, k in enumerate(seen)}
    table = np.zeros((len(seen), len(seen)), dtype=np.int64)
    np.add.at(table, ([place[k] for k in true.tolist()], [place[k] for k in said.tolist()]), 1)
    sums = np.maximum(table.sum(axis=1, keepdims=True), 1)
    shares = 100 * table / sums
    named = [_label(names[k], None if shared else task_of[k], tasks) for k in seen]
    figure = blank()
    figure.add_heatmap(
        z=shares.astype(np.float32),
        zmin=0,
        zmax=100,
        colorscale=scale(SEQUENTIAL),
        text=[[str(n) if n else "" for n in row] for row in table.tolist()] if len(seen) <= 24 else None,
        texttemplate="%{text}" if len(seen) <= 24 else None,
        customdata=[[[names[a], names[b], int(table[place[a], place[b]]), a, b] for b in seen] for a in seen],
        hovertemplate="%{customdata[0]} taken for %{customdata[1]}: %{customdata[2]} images (%{z:.0f} %)"
        "<extra></extra>",
        colorbar=colour_bar("of the class's images", " %"),
        xgap=1,
        ygap=1,
    )
    ticks = {"tickvals": list(range(len(seen))), "ticktext": named, "showgrid": False, "ticks": ""}
    figure.update_xaxes(title_text="answer", tickangle=-45 if len(seen) > 6 else 0, **ticks)
    figure.update_yaxes(title_text="true " + ("task" if whole else "class"), autorange="reversed", **ticks)
    wrong = table - np.diag(np.diag(table))
    a, b = np.unravel_index(int(wrong.argmax()), wrong.shape)
    most = f"{wrong[a, b]} times {names[seen[a]]} is taken for {names[seen[b]]}" if wrong.any() else "nothing is wrong"
    total, right = int(table.sum()), int(np.trace(table))
    return describe(
        figure,
        title=f"Confusion after {task_name(after)}",
        what=f"{total} stored test images of the tasks learned so far: true {'task' if whole else 'class'} against "
        "the answer.",
        look_for=f"Off the diagonal: {most}.",
        how=how
        + (" Because of the number of classes, tasks are shown instead." if whole else "")
        + (" All tasks have the same classes; their images are counted together." if shared else ""),
        alt=f"{right} of {total} on the diagonal; {most}.",
        height=int(min(640, 180 + 26 * len(seen))),
    )


def class_accuracy(stored: Sequence[ImagesStored], classified: Sequence[ImagesClassified], tasks: Tasks) -> go.Figure:
    """Accuracy on every class after every task."""
    labels, names = _labels(stored), class_names(tasks)
    task_of = [index for index, task in enumerate(tasks) for _ in task.get("classes", ())]
    shared = shared_classes(tasks)
    how = "Percent of each class's stored test images that are correct, after every task." + (
        " All tasks have the same classes; images of the tasks learned so far are counted together." if shared else ""
    )
    last = max((e.clock.task for e in classified), default=-1)
    right, count = (np.zeros((shared or len(names), last + 1)) for _ in range(2))
    for event in classified:
        pair = _answered(labels, event)
        if event.clock.task < 0 or pair is None:
            continue
        true, predicted = pair
        for k in np.unique(true).tolist():
            if k < len(names):
                place = (k % shared if shared else k), event.clock.task
                right[place] += (predicted[true == k] == k).sum()
                count[place] += (true == k).sum()
    table = np.where(count, 100 * right / np.maximum(count, 1), np.nan)
    known = np.flatnonzero(np.isfinite(table).any(axis=1))
    if not len(known):
        return nothing("Accuracy per class", how=how)
    figure = blank()
    figure.add_heatmap(
        z=table[known].astype(np.float32),
        zmin=0,
        zmax=100,
        colorscale=scale(SEQUENTIAL),
        texttemplate="%{z:.0f}" if table[known].size <= 300 else None,
        customdata=[[names[k]] * (last + 1) for k in known],
        hovertemplate="%{customdata}: %{z:.1f} %<extra></extra>",
        colorbar=colour_bar("accuracy", " %"),
        xgap=1,
        ygap=1,
        hoverongaps=False,
    )
    stride = max(1, len(known) // 30)
    figure.update_yaxes(
        autorange="reversed",
        showgrid=False,
        ticks="",
        tickvals=list(range(0, len(known), stride)),
        ticktext=[_label(names[k], None if shared else task_of[k], tasks) for k in known[::stride]],
    )
    figure.update_xaxes(title_text="after training on", showgrid=False, **task_ticks(max(last + 1, 1)))
    newest = {names[k]: table[k, last] for k in known if np.isfinite(table[k, last])}
    ranked = sorted(newest, key=lambda name: newest[name])[:5]
    return describe(
        figure,
        title="Accuracy per class",
        what="Accuracy on each class's stored test images in percent, after every task.",
        look_for=f"Rows that fade are forgotten; most of all {ranked[0]} ({percent(newest[ranked[0]], 0)} left)."
        if ranked
        else "Rows that fade are forgotten.",
        how=how,
        alt=f"Least after {task_name(last)}: "
        + ", ".join(f"{name} {percent(newest[name], 0)}" for name in ranked)
        + ".",
        height=int(min(640, 150 + 22 * len(known))),
    )


def image_margins(
    stored: Sequence[ImagesStored],
    classified: Sequence[ImagesClassified],
    tasks: Tasks,
    *,
    traced: Sequence[tuple[int, int]],
) -> go.Figure:
    """The margin of a few images after every task, from when their own task was learned.

    Args:
        traced: (task, index among its stored images) of each.
    """
    labels, names = _labels(stored), class_names(tasks)
    how = (
        "Margin: score of the true class minus the best other competing class, of the readout that the run is "
        "judged by. Right above zero."
    )
    figure, told, last = blank(), [], 1
    for place, (task, image) in enumerate(traced):
        if task not in labels or not 0 <= image < len(labels[task]):
            continue
        mine = sorted((e for e in classified if e.evaluated == task and e.clock.task >= task), key=_moment)
        shown = [(e.clock.task, _margin(e, image), _headline(e)) for e in mine]
        x = [after for after, margin, _ in shown if margin is not None]
        y = [margin for _, margin, _ in shown if margin is not None]
        said = [
            names[int(guess[image])] if guess is not None and int(guess[image]) < len(names) else ""
            for _, margin, guess in shown
            if margin is not None
        ]
        if not x:
            continue
        last = max(last, *x)
        name = f"{task_name(task)} image {image + 1}, {names[int(labels[task][image])]}"
        figure.add_scatter(
            x=x,
            y=np.array(y, dtype=np.float32),
            mode="lines+markers",
            name=name,
            line={
                "color": task_colour(task, max(len(tasks), 1)),
                "width": 2.4,
                "dash": ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")[place % 6],
            },
            marker={"size": 8},
            customdata=said,
            hovertemplate=f"{escape(name)}: said %{{customdata}}, margin %{{y:.1f}}<extra></extra>",
        )
        told.append(f"{name}: " + ", ".join(f"{task_name(a)} {signed(m)}" for a, m in zip(x, y, strict=True)))
    if not told:
        return nothing("Margin of an image", how=how)
    figure.add_hline(y=0, line={"color": INK, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="after training on", showgrid=False, **task_ticks(last + 1))
    figure.update_yaxes(title_text="margin")
    figure.update_layout(showlegend=len(told) > 1)
    return describe(
        figure,
        title="Margin of " + ("one image" if len(told) == 1 else f"{len(told)} images"),
        what="Score of the true class minus the best other, after every task; right above zero.",
        look_for="A line crosses zero at the task during which the image was lost.",
        how=how,
        alt="; ".join(told) + ".",
        height=300,
    )


def image_path(mine: Mapping[str, Any], *, true: int, names: Sequence[str], tasks: Tasks) -> go.Figure:
    """One image's features after every task, in the plane of its class and the nearest wrong class.

    Args:
        mine: as returned by `measured_later.path_of`. true: the image's class.
    """
    path, after = np.array(mine["path"], dtype=np.float64), [task - 1 for task in mine["after"]]
    name = lambda k: names[k] if 0 <= k < len(names) else f"class {k + 1}"
    own, other = name(true), name(mine["rival"])
    figure = blank()
    figure.add_vline(x=0.5, line={"color": INK, "width": 1, "dash": "dot"})
    figure.add_scatter(
        x=path[:, 0],
        y=path[:, 1],
        mode="lines",
        line={"color": INK, "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=path[:, 0],
        y=path[:, 1],
        mode="markers+text",
        text=_where_it_stood(path, after),
        textposition="top center",
        marker={
            "size": 11,
            "color": [task_colour(task, max(len(tasks), 1)) for task in after],
            "line": {"color": INK, "width": 1},
        },
        customdata=[[task_name(task), off] for task, off in zip(after, path[:, 2].tolist(), strict=True)],
        hovertemplate="after %{customdata[0]}: %{x:.2f} of the way, %{y:.2f} beside the line, %{customdata[1]:.2f} off "
        "the plane<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 0],
        mode="markers+text",
        text=[escape(own), escape(other)],
        textposition="bottom center",
        marker={"symbol": "x", "size": 11, "color": INK},
        hovertemplate="stored mean of %{text}<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )
    low, high = min(0.0, float(path[:, 1].min())), max(0.0, float(path[:, 1].max()))
    room = 0.25 * max(high - low, 0.2)
    wide = max(float(path[:, 0].max()), 1.0) - min(float(path[:, 0].min()), 0.0)
    span = [min(float(path[:, 0].min()), 0.0) - 0.08 * wide, max(float(path[:, 0].max()), 1.0) + 0.08 * wide]
    figure.update_xaxes(
        title_text=f"from the stored mean of {escape(own)} (0) to that of {escape(other)} (1)", range=span
    )
    figure.update_yaxes(title_text="beside the line", range=[low - room, high + room])
    begun, ended = float(path[0, 0]), float(path[-1, 0])
    crossed = [task_name(task) for task, x in zip(after, path[:, 0], strict=True) if x > 0.5]
    return describe(
        figure,
        title=f"Path between {own} and {other}",
        what=f"Features of the image after every task, between the class means of {own} and {other} as they were "
        "stored; beyond the dotted line it is nearer to the wrong one.",
        look_for=(f"Nearer to {other} after {crossed[0]}." if crossed else f"It stays nearer to {own}.")
        + f" From {begun:.2f} to {ended:.2f} of the way, {path[-1, 2]:.2f} off the plane now.",
        how="The plane contains both class means, as stored when each class had just been learned, and the image's "
        "features then. Lengths are in units of the distance between the two means. Distance off the plane: "
        "change of the features in other directions. The model after each task comes from its checkpoint.",
        alt=", ".join(
            f"{task_name(task)} {x:.2f} of the way, {off:.2f} off the plane"
            for task, (x, _, off) in zip(after, path, strict=True)
        )
        + ".",
        height=300,
    )


def _moment(event: ImagesClassified) -> int:
    return event.clock.task


def _margin(event: ImagesClassified, image: int) -> float | None:
    name = next((name for name in (CLASS_INCREMENTAL, TASK_INCREMENTAL) if name in event.readouts), None)
    return None if name is None else float(np.asarray(event.margins)[event.readouts.index(name)][image])


def layers_recovered(found: Mapping[str, Any], *, task: int, after: int) -> go.Figure:
    """Accuracy recovered when parts of the model are restored to their state when the task was learned."""
    layers = found["layers"]
    x = [row["layer"] for row in layers]
    figure = blank(barmode="group", bargap=0.3)
    figure.add_bar(
        x=x,
        y=np.array([row["alone"] for row in layers], dtype=np.float32),
        name="this block alone",
        marker={"color": PALE, "line": {"color": INK, "width": 1}},
        hovertemplate="block %{x} alone: %{y:+.1f} points<extra></extra>",
    )
    figure.add_scatter(
        x=x,
        y=np.array([row["up_to"] for row in layers], dtype=np.float32),
        name="activations leaving this block",
        mode="lines+markers",
        line={"color": INK, "dash": "dash"},
        hovertemplate="activations after block %{x}: %{y:+.1f} points<extra></extra>",
    )
    figure.add_hline(y=0, line={"color": INK, "width": 1})
    figure.update_xaxes(title_text="block", dtick=1, showgrid=False)
    figure.update_yaxes(title_text="points that come back")
    best = max(layers, key=lambda row: row["alone"])
    return describe(
        figure,
        title=f"Which layer lost {task_name(task)}",
        what=f"Accuracy on {task_name(task)} recovered in the model after {task_name(after)} when one block "
        f"(bars) or everything up to it (dashed) is restored to its state after {task_name(task)}.",
        look_for=f"The largest bar: block {best['layer']}, {points(best['alone'])}. The old head alone recovers "
        f"{points(found['head'])}, everything but the head {points(found['body'])}.",
        how="Two checkpoints of the run are loaded. *This block alone*: the current model with this block's old "
        "prompts or weights. *Activations leaving this block*: tokens of the old model are inserted into the current "
        "one after this block. The current head classifies among all classes seen. *Head*: the scores of the task's "
        "own classes come from the old head.",
        alt=", ".join(f"block {row['layer']} {points(row['alone'])}" for row in layers) + ".",
        height=300,
    )


def interpolation(found: Mapping[str, Any], *, alpha: float) -> go.Figure:
    """Accuracy along the line between two states of the weights, with one point marked."""
    x = np.array(found["alphas"], dtype=np.float32)
    start = "untouched" if found["from"] == 0 else f"after {task_name(found['from'] - 1)}"
    end = task_name(found["to"] - 1)
    curves = (
        ("learned", f"tasks up to {end}", "solid"),
        ("kept", "tasks to come, zero-shot", "dash"),
        ("general", "general classes, zero-shot", "dot"),
    )
    place, figure, said = int(np.argmin(np.abs(x - alpha))), blank(), []
    for name, label, dash in curves:
        if found.get(name) is None:
            continue
        y = np.array(found[name], dtype=np.float32)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines+markers",
            name=label,
            line={"color": INK, "dash": dash, "width": 2.4},
            marker={"size": [12 if i == place else 6 for i in range(len(x))]},
            hovertemplate=f"{label}: %{{y:.1f}} %<extra></extra>",
        )
        said.append(f"{label} {percent(float(y[place]))}")
    figure.add_vline(x=float(x[place]), line={"color": INK, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text=f"share of the way from {start} (0) to after {end} (1)", range=[-0.04, 1.04])
    figure.update_yaxes(title_text="accuracy", ticksuffix=" %", rangemode="tozero")
    learned = np.array(found["learned"])
    other = np.array(found["kept"] or found["general"] or found["learned"])
    best = int(np.argmax(learned + other))
    return describe(
        figure,
        title="Between two states of the weights",
        what=f"Accuracy of averaged weights, from {start} to after {end}. Marked, at {x[place]:.1f}: "
        + ", ".join(said)
        + ".",
        look_for=f"The sum of new and old accuracy is largest at {x[best]:.1f}.",
        how="θ(α) = (1 − α) θ_from + α θ_to for all weights that the method changes, image and text tower (WiSE-FT, "
        "arXiv:2109.01903). At each point all test images are classified among their task's classes.",
        alt=f"{len(x)} points; at {x[place]:.1f}: {', '.join(said)}.",
    )


def _where_it_stood(path: np.ndarray, after: Sequence[int]) -> list[str]:
    """Labels of the points of a path, one per position."""
    places: dict[tuple[float, ...], list[int]] = {}
    for point, task in zip(path[:, :2].round(2).tolist(), after, strict=True):
        places.setdefault(tuple(point), []).append(task)
    names = {found[0]: ", ".join(map(task_name, found)) for found in places.values()}
    return [names.get(task, "") for task in after]


def asked(event: StepEnded) -> float:
    """Squared size of a step as the optimiser proposed it."""
    return sum(value * value for value in event.proposed_norm.values())


def taken(event: StepEnded) -> float:
    """Squared size of a step as it was applied."""
    return sum(value * value for value in event.applied_norm.values())


def step_of(event: StepEnded) -> float:
    return event.clock.step


def old_tasks_within(
    looked: Sequence[OldTasksMeasured],
    steps: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
    *,
    tasks: int,
    total_steps: int | None = None,
) -> go.Figure:
    """Loss on a few images of old tasks by step, with the intervals of largest increase marked.

    Args:
        steps: number and squared sizes (proposed, applied) of every step.
    """
    title = "Old tasks within a new one"
    how = (
        "Mean cross-entropy, among the competing classes, of the method's own heads on a few fixed test images of "
        "all earlier tasks, evenly spaced; how many and how often follows from `diagnostics.within`, the share of "
        "training's computation that it may cost. Shaded, here and on all axes of steps: the intervals between two "
        "measurements in which it rose most. *Inside the protected space*: √(1 − Σ‖applied‖² / Σ‖proposed‖²) over "
        "the steps between two measurements, the share of the proposed steps that the projection removed."
    )
    if not looked:
        return nothing(title, how=how, first="within the second task")
    figure, by_task = blank(), dict[int, list[OldTasksMeasured]]()
    for event in looked:
        by_task.setdefault(event.clock.task, []).append(event)
    for task, events in sorted(by_task.items()):
        kept, losses = thinned(np.arange(len(events)), np.array([event.loss for event in events], dtype=np.float32))
        mine = [events[place] for place in kept.tolist()]
        figure.add_scatter(
            x=[event.clock.step for event in mine],
            y=losses,
            mode="lines+markers" if len(mine) < 60 else "lines",
            name=f"while {task_name(task)} is learned",
            line={"color": task_colour(task, max(tasks, 1)), "width": 2},
            marker={"size": 5},
            showlegend=False,
            customdata=[[event.accuracy, event.images] for event in mine],
            hovertemplate=f"{task_name(task)}, step %{{x}}: loss %{{y:.2f}}, %{{customdata[0]:.0f}} % of "
            "%{customdata[1]} images right<extra></extra>",
        )
    worst = costly_steps(looked, -1, tasks)
    inside = _inside(looked, steps)
    if inside is not None:
        figure.add_scatter(
            x=inside[0],
            y=inside[1],
            yaxis="y2",
            mode="lines",
            line={"color": INK, "width": 1.2, "dash": "dot", "shape": "vh"},
            name="of steps, inside the protected space",
            hovertemplate="steps up to %{x}: %{y:.0f} % of the proposed step lay inside the protected space"
            "<extra></extra>",
        )
    figure.update_xaxes(title_text="optimiser step", range=None if total_steps is None else [0, total_steps])
    figure.update_yaxes(title_text="loss on old tasks", rangemode="tozero")
    if inside is not None:
        right = {"overlaying": "y", "side": "right", "range": [0, 100], "dtick": 25, "ticksuffix": " %"}
        figure.update_layout(
            yaxis2={**right, "showgrid": False, "title_text": "of steps, taken out (dotted)"}, showlegend=False
        )
    newest = looked[-1]
    return describe(
        figure,
        title=title,
        what=f"Loss on {newest.images} test images of earlier tasks, every {newest.every} steps.",
        look_for=f"Its largest rise between two measurements: {signed(worst[0].rise, 2)}, in "
        f"{task_name(worst[0].task)}."
        if worst
        else "It has not risen between any two measurements.",
        how=how,
        alt=f"{len(looked)} measurements; the last has loss {newest.loss:.2f} and accuracy {newest.accuracy:.0f} %.",
        height=300,
    )


def _inside(
    looked: Sequence[OldTasksMeasured], steps: tuple[np.ndarray, np.ndarray, np.ndarray] | None
) -> tuple[list[float | None], list[float | None]] | None:
    """(step, percent of the proposed steps removed by the projection since the previous measurement); None without
    projection."""
    if steps is None or not len(steps[0]) or np.allclose(steps[1], steps[2]):
        return None
    number, proposed, applied = (np.asarray(column, dtype=np.float64) for column in steps)
    sums = [np.concatenate([[0.0], np.cumsum(column)]) for column in (proposed, applied)]
    x: list[float | None] = []
    y: list[float | None] = []
    for before, now in pairwise(looked):
        if before.clock.task != now.clock.task:
            x.append(None)
            y.append(None)
            continue
        ends = np.searchsorted(number, [before.clock.step, now.clock.step], side="right")
        wanted, done = (float(total[ends[1]] - total[ends[0]]) for total in sums)
        x.append(float(now.clock.step))
        y.append(100 * float(np.sqrt(max(0.0, 1 - done / wanted))) if wanted > 0 else None)
    return x, y


def probe_place(labels: np.ndarray, image: int, count: int, total: int) -> int | None:
    """Index of a stored test image among the probe images (the first test images, classes in turn), or None."""
    if len(labels) < total:
        return None
    rows = [np.flatnonzero(labels == k) for k in sorted(set(labels.tolist()))]
    order = [int(of[turn]) for turn in range(max(map(len, rows))) for of in rows if turn < len(of)][:count]
    return order.index(image) if image in order else None
