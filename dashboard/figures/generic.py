"""Automatic figures of events without a catalogue entry: numbers over steps or tasks, layer × task maps.

An event has parts: one for each numeric field, separately for each value of its text fields (a space, a matrix's name).
The type of the field determines the drawing:

    a number, in an event with a field `layer`     a map, layer × task
    a number, or a dictionary of numbers           lines over steps, or over tasks if there is one event per task a list
    or array of numbers of one length       a map, index × time
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cl_core.events import Event
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import sizes
from dashboard.figures.layer_map import cells, colour_bar, layer_rows, map_height
from dashboard.figures.plot_helpers import label_ends, mark_boundaries, task_ticks, thinned
from dashboard.theme import DIVERGING, INK, number, scale

# Not measurements: progress of the run, means over steps, and data that pages show without a figure.
COURSE = {
    "RunStarted", "PicturesSkipped", "AnswersKept", "TaskStarted", "EpochEnded", "ProbesChosen", "PredictionsMade",
    "UpdateByDirection", "CheckpointSaved", "KnobTurned", "RunForked", "StateChanged", "CommandRefused", "RunFailed",
}  # fmt: skip
MOST_GROUPS, MOST_LINES, MOST_ROWS = 12, 8, 64
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def measured(kind: type[Event]) -> bool:
    """Whether events of this kind hold measurements."""
    return kind.__name__ not in COURSE


def words(name: str) -> str:
    """`EpochEnded` or `batch_accuracy` as words."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name).lower().capitalize()


def parts(events: Sequence[Event]) -> list[str]:
    """Names of the parts of these events: "gain", or "gain (affinity)" if a text field distinguishes them."""
    groups = list(dict.fromkeys(map(_group, events)))[:MOST_GROUPS]
    names = [f.name for f in dataclasses.fields(events[0]) if f.name not in ("clock", "layer")]
    found = [name for name in names if any(_known(getattr(event, name)) for event in events)]
    return [f"{name} ({group})" if group else name for name in found for group in groups]


def draw(events: Sequence[Event], part: str, *, tasks: int | None = None) -> go.Figure:
    """One part of these events.

    Args:
        events: all of one kind, in order.
        part: one of `parts(events)`.
        tasks: tasks of the run; None = as many as the events reach.
    """
    name, _, group = part.removesuffix(")").partition(" (")
    mine = [event for event in events if _group(event) == group]
    values = [_numbers(getattr(event, name)) for event in mine]
    tasks = max([tasks or 1, *(event.clock.task + 1 for event in mine)])
    title = f"{words(type(events[0]).__name__)}: {words(part)}"
    known = [value for value in values if value is not None]
    if hasattr(mine[0], "layer") and all(len(value) == 1 for value in known):
        table = np.full((sizes(mine)[0], tasks), np.nan)
        for event, value in zip(mine, values, strict=True):
            layer = getattr(event, "layer", -1)
            if value is not None and layer >= 0 and event.clock.task >= 0:
                table[layer, event.clock.task] = next(iter(value.values()))
        figure, height = _map(table, name), map_height(len(table))
        figure.update_yaxes(**layer_rows(len(table)))
        figure.update_xaxes(title_text="after training on", side="top", range=[-0.5, tasks - 0.5], **task_ticks(tasks))
    elif isinstance(getattr(mine[-1], name), (list, tuple, np.ndarray)):
        table = np.full((min(max(map(len, known)), MOST_ROWS), len(mine)), np.nan)
        for column, value in enumerate(values):
            row = list((value or {}).values())[:MOST_ROWS]
            table[: len(row), column] = row
        figure, height = _map(table, name), map_height(min(len(table), 16))
        figure.update_yaxes(title_text="place in the list", autorange="reversed")
        figure.update_xaxes(title_text="moment, in order")
    else:
        figure, height = _lines(mine, values, tasks), 320
        figure.update_yaxes(title_text=words(name).lower())
    flat = [v for value in known for v in value.values() if np.isfinite(v)]
    span = f"from {number(min(flat))} to {number(max(flat))}" if flat else "no finite value"
    return describe(
        figure,
        title=title,
        what=f"The field {name} of {len(mine)} events {type(events[0]).__name__}, as the run stored it: {span}.",
        look_for="There is no dedicated figure for it yet.",
        how="Stored values without further computation. Description of the event: "
        + _about(type(events[0])),
        alt=f"{title}, {span}.",
        height=height,
    )  # fmt: skip


def _about(kind: type[Event]) -> str:
    text = " ".join((kind.__doc__ or "").split())
    return text if text and not text.startswith(f"{kind.__name__}(") else "nothing."


def _group(event: Event) -> str:
    """The event's text fields, which distinguish its parts."""
    fields = (getattr(event, f.name) for f in dataclasses.fields(event) if f.name != "clock")
    return ", ".join(value for value in fields if isinstance(value, str) and value)


def _numbers(value: Any) -> dict[str, float] | None:
    """The numbers in a field by name; None if it holds none."""
    if isinstance(value, dict):
        pairs: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, np.ndarray) and value.ndim > 1:
        return None
    elif isinstance(value, (list, tuple, np.ndarray)):
        pairs = enumerate(value)
    else:
        pairs = (("", value),)
    found = {str(key): _number(item) for key, item in pairs}
    return found if found and None not in found.values() else None  # type: ignore[return-value]


def _known(value: Any) -> bool:
    return any(map(np.isfinite, (_numbers(value) or {}).values()))


def _number(value: Any) -> float | None:
    if value is None:
        return float("nan")
    return float(value) if isinstance(value, (int, float, np.number)) and not isinstance(value, bool) else None


def _map(table: np.ndarray, name: str) -> go.Figure:
    figure, known = blank(), table[np.isfinite(table)]
    high = float(np.abs(known).max()) if known.size else 1.0
    text = [[number(v) if np.isfinite(v) else "" for v in row] for row in table] if table.size <= 200 else None
    shown = cells(table, text, high or 1.0, hover="%{z:.3g}<extra></extra>", colorbar=colour_bar(words(name).lower()))
    if known.size and known.min() < 0:
        shown.update(zmin=-high, colorscale=scale(DIVERGING))
    figure.add_trace(shown)
    figure.update_layout(margin={"l": 70, "r": 20, "t": 60, "b": 40})
    return figure


def _lines(events: Sequence[Event], values: list[dict[str, float] | None], tasks: int) -> go.Figure:
    """A line for each name; over tasks if every task has one event, else over steps."""
    figure, ends = blank(), []
    moments = [event.clock.task for event in events]
    over_tasks = len(set(moments)) == len(moments)
    places = np.array(moments if over_tasks else [event.clock.step for event in events], dtype=np.float32)
    names = list(dict.fromkeys(key for value in values if value for key in value))[:MOST_LINES]
    for k, key in enumerate(names):
        y = np.array([(value or {}).get(key, np.nan) for value in values], dtype=np.float32)
        x, y = thinned(places, y)
        few = len(x) < 30
        figure.add_scatter(
            x=x, y=y, mode="lines+markers" if few else "lines", name=words(key), showlegend=False,
            line={"color": INK, "dash": _DASHES[k % len(_DASHES)], "width": 2}, marker={"color": INK, "size": 5},
            hovertemplate=f"{words(key)} %{{y:.3g}}<extra></extra>",
        )  # fmt: skip
        known = np.flatnonzero(np.isfinite(y))
        if len(known):
            ends.append((float(x[known[-1]]), float(y[known[-1]]), words(key)))
    if over_tasks:
        ticks = task_ticks(tasks, before="start" if min(moments) < 0 else "")
        figure.update_xaxes(title_text="after training on", **ticks)
    else:
        figure.update_xaxes(title_text="optimiser step", showgrid=False)
        first = {event.clock.task: float(event.clock.step) for event in reversed(events) if event.clock.task >= 0}
        mark_boundaries(figure, sorted((step, task) for task, step in first.items()))
    drawn = np.concatenate([t.y for t in figure.data]) if figure.data else np.zeros(1)
    drawn = drawn[np.isfinite(drawn)]
    if len(ends) > 1 and drawn.size and drawn.max() > drawn.min():
        label_ends(figure, ends, span=(float(drawn.min()), float(drawn.max())), pixels=220)
        figure.update_layout(margin={"r": 130})
    return figure
