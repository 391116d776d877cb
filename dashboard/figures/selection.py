"""Selections from a pool of prompts: entries by owner, share of own entries, and use of each entry.

A run may measure one selection for the whole network (layer −1) or one per layer. Entries belong to a task, a class, or
no owner; entries of one owner are drawn as one column. Shares are percent of the images of a class, or of the mixture
if entries are mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cl_core.analysis import alerts
from cl_core.events import SelectionMeasured
from dashboard.figures.description import blank, describe, nothing
from dashboard.figures.layer_map import colour_bar
from dashboard.figures.plot_helpers import label_ends, task_ticks
from dashboard.theme import (
    INK,
    SEQUENTIAL,
    layer_name,
    number,
    percent,
    scale,
    task_colour,
    task_label,
    task_name,
)

WHOLE = -1  # the layer of a selection for the whole network
Tasks = Sequence[dict[str, Any]]
_MEASURED = "Measured on test images after every task."
_MOST_ROWS = 24  # maximum rows by class; with more classes, rows are tasks
_NUMBERED = 14  # columns beyond which cells have no numbers
_LETTERS = 52  # total over all columns for horizontal labels


def layers(measured: Sequence[SelectionMeasured]) -> list[int]:
    """Layers with their own selection; [−1] if there is one for all."""
    return sorted({e.layer for e in measured})


def of_layer(measured: Sequence[SelectionMeasured], layer: int) -> list[SelectionMeasured]:
    """The last measurement after each task, of `layer`."""
    return list({e.clock.task: e for e in measured if e.layer == layer}.values())


def at(measured: Sequence[SelectionMeasured], layer: int, task: int | None) -> SelectionMeasured | None:
    """The measurement after `task`; the newest if None or not measured."""
    found = {e.clock.task: e for e in of_layer(measured, layer)}
    return found.get(task, list(found.values())[-1]) if found else None  # type: ignore[arg-type]


def tasks_of_classes(tasks: Tasks, classes: int) -> list[int]:
    """[C] the task of each class."""
    owners = [index for index, task in enumerate(tasks) for _ in task.get("classes", ())]
    return (owners + [max(owners, default=0)] * classes)[:classes]


def by_owner(event: SelectionMeasured) -> tuple[np.ndarray, list[int]]:
    """Percent [C, n] of the entries of each owner, and the owners [n]; entries without owner stay separate (−1)."""
    counts = 100 * np.asarray(event.counts, dtype=float)
    if not event.of:
        return counts, [-1] * counts.shape[1]
    owners = sorted({owner for owner in event.owners if owner >= 0})
    owner_of = np.asarray(event.owners)
    return np.stack([counts[:, owner_of == owner].sum(axis=1) for owner in owners], axis=1), owners


def own_shares(event: SelectionMeasured, tasks: Tasks) -> dict[int, float]:
    """Task → percent of own entries in the selections of its images (mean over its classes)."""
    shares, owners = by_owner(event)
    task_of = tasks_of_classes(tasks, len(shares))
    found: dict[int, list[float]] = {}
    for c, row in enumerate(shares):
        own = c if event.of == "class" else task_of[c]
        if np.isfinite(row).all() and own in owners:
            found.setdefault(task_of[c], []).append(row[owners.index(own)] / max(row.sum(), 1e-9) * 100)
    return {task: float(np.mean(values)) for task, values in found.items()}


def entries_in_use(event: SelectionMeasured) -> float:
    """Effective number of entries in use (`cl_core.analysis.alerts.entries_in_use`)."""
    return alerts.entries_in_use(event.counts)


def mixed(event: SelectionMeasured) -> bool:
    """Whether images use a mixture of all entries rather than select some."""
    rows = np.asarray(event.counts, dtype=float)
    rows = rows[np.isfinite(rows).all(axis=1)]
    return len(set(event.owners)) < len(event.owners) and bool(len(rows)) and bool(np.allclose(rows.sum(axis=1), 1))


def _moment(task: int, tasks: Tasks) -> str:
    return f"after {task_label(task, tasks)}"


def _where(layer: int) -> str:
    return "" if layer == WHOLE else f", {layer_name(layer)}"


def _class_name(c: int, tasks: Tasks) -> str:
    names = [str(name) for task in tasks for name in task.get("classes", ())]
    return names[c] if c < len(names) else f"class {c + 1}"


def _square(task: int, tasks: int, text: str, between: str = " ") -> str:
    return f'<span style="color:{task_colour(task, tasks)}">■</span>{between}{text}'


def taken_entries(
    measured: Sequence[SelectionMeasured], tasks: Tasks = (), *, layer: int = WHOLE, task: int | None = None
) -> go.Figure:
    """True class of an image (rows) against the owner of the selected entries (columns)."""
    now = at(measured, layer, task)
    if now is None:
        return nothing("Prompts selected per class", how=_MEASURED)
    shares, owners = by_owner(now)
    task_of, count = tasks_of_classes(tasks, len(shares)), max(len(tasks), now.clock.task + 1, 1)
    seen = [c for c in range(len(shares)) if np.isfinite(shares[c]).all()]
    if len(seen) <= _MOST_ROWS:
        table = shares[seen]
        rows = [_square(task_of[c], count, _class_name(c, tasks)) for c in seen]
        names = [f"{_class_name(c, tasks)} ({task_label(task_of[c], tasks)})" for c in seen]
    else:
        found = sorted({task_of[c] for c in seen})
        table = np.stack([np.mean([shares[c] for c in seen if task_of[c] == t], axis=0) for t in found])
        rows = [_square(t, count, task_name(t)) for t in found]
        names = [task_label(t, tasks) for t in found]
    longest = max((len(_class_name(o, tasks)) for o in owners), default=0) if now.of == "class" else 0
    upright = longest * len(owners) <= _LETTERS
    if now.of == "task":
        columns = [_square(o, count, task_name(o)) for o in owners]
        entries = [f"entries of {task_label(o, tasks)}" for o in owners]
    elif now.of == "class":
        columns = [_square(task_of[o], count, _class_name(o, tasks), "<br>" if upright else " ") for o in owners]
        entries = [f"entry of {_class_name(o, tasks)}" for o in owners]
    else:
        columns = [f"P{e + 1}" for e in range(len(owners))]
        entries = [f"entry {e + 1}" for e in range(len(owners))]
    n, width = table.shape
    most = 100.0 if not mixed(now) else max(10.0, float(table.max()))
    figure = blank()
    figure.add_heatmap(
        z=table.astype(np.float32),
        zmin=0,
        zmax=most,
        colorscale=scale(SEQUENTIAL),
        xgap=2,
        ygap=2,
        text=[[f"{v:.0f}" if round(v) else "" for v in row] for row in table],
        texttemplate="%{text}" if width <= _NUMBERED else "",
        textfont={"size": 13 if width <= 8 else 11},
        customdata=[[f"{name}: {entry}" for entry in entries] for name in names],
        hovertemplate="%{customdata}, %{z:.1f} %<extra></extra>",
        colorbar=colour_bar("taken", " %"),
    )
    step = -(-width // 20)
    figure.update_xaxes(
        title_text={"task": "entries of", "class": "entry of"}.get(now.of, "entry"),
        side="top",
        showgrid=False,
        ticks="",
        tickangle=0 if upright else -60,
        tickvals=list(range(0, width, step)),
        ticktext=columns[::step],
        range=[-0.5, width - 0.5],
    )
    figure.update_yaxes(
        title_text="image of",
        showgrid=False,
        ticks="",
        tickvals=list(range(n)),
        ticktext=rows,
        range=[n - 0.5, -0.5],
    )
    figure.update_layout(margin={"l": 90, "r": 20, "t": 64, "b": 16})
    whole = (
        "share of the mixture, by absolute weight" if mixed(now) else "percent of the images that selected the entry"
    )
    each = float(np.nanmean(np.asarray(now.counts, dtype=float).sum(axis=1)))
    taken = "" if mixed(now) else f" Each image selects {number(each)} of {len(now.owners)}."
    told = f"{percent(now.accuracy)} took their own." if now.accuracy is not None else "Entries belong to nobody here."
    return describe(
        figure,
        title=f"Prompts selected per class, {_moment(now.clock.task, tasks)}{_where(layer)}",
        what=f"Rows: true class of test images of all tasks learned so far; columns: entries; cells: {whole}."
        f"{taken} {told}",
        look_for="A dark diagonal: images select their own entries. A dark column: one owner's entries are selected "
        "for others as well."
        if now.of
        else "Rows of one task that are similar and differ from other tasks': the pool is divided among tasks. "
        "Columns that are dark throughout are shared, and every task changes them.",
        how="counts$[c, e]$ = mean over the test images of class $c$ of $w[e]$, where $w[e] = 1$ for an entry that "
        "was selected and 0 else, or $|w_e| / \\sum |w|$ for mixtures; entries of one owner are summed. An "
        "image selected its own if its owner's sum is larger than every other's.",
        alt=f"Heat map of {n} rows and {width} columns. {told}",
        height=int(min(700, max(260, 120 + 28 * n))),
    )


def own_entry_taken(measured: Sequence[SelectionMeasured], tasks: Tasks = (), *, layer: int = WHOLE) -> go.Figure:
    """Share of own entries in the selections, one line per task, and over all tasks."""
    events = [e for e in of_layer(measured, layer) if e.accuracy is not None]
    title = f"Own entries found{_where(layer)}"
    if not events:
        return nothing(title, how=_MEASURED)
    count = max(len(tasks), max(e.clock.task for e in events) + 1)
    figure, ends = blank(showlegend=False), []
    shares = {e.clock.task: own_shares(e, tasks) for e in events}
    for j in range(count):
        x = [i for i, row in shares.items() if j in row]
        y = [shares[i][j] for i in x]
        if not x:
            continue
        figure.add_scatter(
            x=x,
            y=np.asarray(y, dtype=np.float32),
            mode="lines+markers",
            name=task_label(j, tasks),
            line={"color": task_colour(j, count), "width": 2},
            marker={"size": [10 if i == j else 6 for i in x], "opacity": 1, "line": {"width": 0}},
            hovertemplate=f"{task_label(j, tasks)}: %{{y:.1f}} % own after T%{{customdata}}<extra></extra>",
            customdata=[i + 1 for i in x],
        )
        ends.append((float(x[-1]), float(y[-1]), task_name(j)))
    x, y = [e.clock.task for e in events], [e.accuracy for e in events if e.accuracy is not None]
    figure.add_scatter(
        x=x,
        y=np.asarray(y, dtype=np.float32),
        mode="lines+markers",
        name="all images",
        line={"color": INK, "width": 3},
        marker={"size": 8, "symbol": "square"},
        hovertemplate="%{y:.1f} % of all images selected their own<extra></extra>",
    )
    chance = [100 / max(len({o for o in e.owners if o >= 0}), 1) for e in events]
    figure.add_scatter(
        x=x,
        y=np.asarray(chance, dtype=np.float32),
        mode="lines",
        name="chance",
        line={"color": INK, "width": 1.6, "dash": "dot"},
        hovertemplate="chance: %{y:.1f} %<extra></extra>",
    )
    ends += [(float(x[-1]), float(y[-1]), "<b>all</b>"), (float(x[-1]), chance[-1], "chance")]
    label_ends(figure, ends, span=(0, 103), pixels=300)
    figure.update_xaxes(
        title_text="after training on", showgrid=False, range=[-0.3, max(count - 1, 1) + 0.2], **task_ticks(count)
    )
    figure.update_yaxes(title_text="own entries", range=[0, 103], ticksuffix=" %")
    figure.update_layout(margin={"r": 64})
    mixture = mixed(events[-1])
    told = f"{percent(y[0])} of images {_moment(x[0], tasks)}, {percent(y[-1])} {_moment(x[-1], tasks)}; chance " + (
        f"{percent(chance[-1])}."
    )
    lines = "share of the mixture that is the task's own" if mixture else "percent that took their own entry"
    return describe(
        figure,
        title=title,
        what=f"Coloured, one line per task: {lines} (large dot: just learned). Grey: images that selected mostly "
        f"their own entries, over all tasks learned so far; dotted: chance. {told}",
        look_for="Lines that fall while other tasks are learned: their images select newer entries, and are "
        "then processed with prompts that were never trained on them.",
        how="Line of task $j$: mean over its classes of $\\sum_{e\\ \\mathrm{own}} w[e] / \\sum_e w[e]$. Grey: percent "
        "of images with $\\sum_{e\\ \\mathrm{own}} w[e]$ larger than the sum of every other owner; a tie counts "
        "against the image. Chance: 100 divided by the number of owners.",
        alt=f"Lines of own entries over tasks. {told}",
        height=400,
    )


def pool_use(
    measured: Sequence[SelectionMeasured], tasks: Tasks = (), *, layer: int = WHOLE, task: int | None = None
) -> go.Figure:
    """Use of every entry by the images of each task: stacked bars in the colours of the tasks."""
    now = at(measured, layer, task)
    if now is None:
        return nothing("Use of the pool", how=_MEASURED)
    counts = 100 * np.asarray(now.counts, dtype=float)
    task_of, count = tasks_of_classes(tasks, len(counts)), max(len(tasks), now.clock.task + 1, 1)
    seen = [c for c in range(len(counts)) if np.isfinite(counts[c]).all()]
    figure, entries = blank(barmode="stack", bargap=0.15, showlegend=False), counts.shape[1]
    for j in sorted({task_of[c] for c in seen}):
        height = np.sum([counts[c] for c in seen if task_of[c] == j], axis=0) / max(len(seen), 1)
        figure.add_bar(
            x=list(range(entries)),
            y=height.astype(np.float32),
            name=task_label(j, tasks),
            marker={"color": task_colour(j, count), "line": {"width": 0}},
            customdata=[f"entry {e + 1}{_owner(now, e, tasks)}" for e in range(entries)],
            hovertemplate=f"%{{customdata}}, images of {task_label(j, tasks)}: %{{y:.1f}} %<extra></extra>",
        )
    step = -(-entries // 20)
    figure.update_xaxes(
        title_text="entry",
        showgrid=False,
        tickangle=0,
        tickvals=list(range(0, entries, step)),
        ticktext=[str(e + 1) for e in range(0, entries, step)],
        range=[-0.6, entries - 0.4],
    )
    figure.update_yaxes(title_text="taken by", ticksuffix=" %", rangemode="tozero")
    in_use, unused = entries_in_use(now), int((np.nan_to_num(counts[seen].sum(axis=0)) == 0).sum()) if seen else 0
    told = f"Effectively {number(in_use)} of {entries} entries are in use; {unused} were never selected."
    unit = "of the mixture, mean over classes" if mixed(now) else "of the images, classes weighted equally"
    return describe(
        figure,
        title=f"Use of the pool, {_moment(now.clock.task, tasks)}{_where(layer)}",
        what=f"Bars: entries, in the order in which they were added; height: percent {unit}; colours: whose images "
        f"they are. {told}",
        look_for="Bars of one colour belong to one task in effect; bars of many colours are shared, so that training "
        "them affects all those tasks. Missing bars: entries that are never selected.",
        how="Height: counts$[c, e]$ summed over the classes $c$ of a task and divided by the number of classes seen. "
        "In use: $\\exp(-\\sum_e p_e \\ln p_e)$ with $p_e$ the share of entry $e$ in all selections.",
        alt=f"Stacked bars of {entries} entries. {told}",
        height=320,
    )


def _owner(event: SelectionMeasured, entry: int, tasks: Tasks) -> str:
    owner = event.owners[entry]
    if owner < 0 or not event.of:
        return ""
    return f" of {_class_name(owner, tasks) if event.of == 'class' else task_label(owner, tasks)}"
