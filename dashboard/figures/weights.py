"""Weights: names of attention matrices, and the singular values of one of them before and after a task.

A map is one matrix W of a tower's attention: "image.3.q" is the query matrix of the image tower's fourth layer. Figures
draw singular values σ; shares of energy are shares of σ². Hue encodes the chosen task. Partitions of all maps in one
task are in `figures.weight_directions`, their history in `figures.weight_history`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from cl_core.events import WeightSpectrumMeasured
from dashboard.figures.description import blank, describe, nothing
from dashboard.figures.event_arrays import task_count
from dashboard.figures.plot_helpers import band, decade_ticks, label_ends, thinned
from dashboard.theme import INK, faded, layer_name, number, task_colour, task_label

Tasks = Sequence[dict[str, Any]]
Measured = Sequence[WeightSpectrumMeasured]

TOWERS = {"image": "image tower", "text": "text tower"}
PARTS = {"q": "queries", "k": "keys", "v": "values", "o": "output"}
LEAK_FLOOR = 1e-8  # lower limit for drawing leaks; smaller ones are rounding errors
SOURCE = "Rule: NuSA-CL, arXiv:2510.21175."
SPLIT = (  # definition of k, for *How is this computed?*
    "$k = \\min\\{j : \\sum_{i \\le j} \\sigma_i^2 \\ge \\rho \\sum_i \\sigma_i^2\\}$ of the weight *before* the task; "
    "null: the other $d - k$"
)
_SIGMA_FLOOR = 1e-5  # lower limit for drawing relative singular values
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


class Place(NamedTuple):
    """Position of a map."""

    tower: str
    block: int  # from 0
    part: str


def place(name: str) -> Place:
    """Of the map `name` ("image.3.q")."""
    tower, block, part = name.split(".")
    return Place(tower, int(block), part)


def option(name: str) -> str:
    """'image 4 q' for "image.3.q": short, with layers counted from 1."""
    tower, block, part = place(name)
    return f"{tower} {block + 1} {part}"


def words(name: str) -> str:
    """'image tower, layer 4, queries' for "image.3.q"."""
    tower, block, part = place(name)
    return f"{tower_name(tower)}, {layer_name(block)}, {part_name(part)}"


def maps(measured: Iterable[WeightSpectrumMeasured]) -> list[str]:
    """Names of the maps, image tower first, layer by layer."""
    return sorted({e.name for e in measured}, key=_order)


def newest_task(measured: Measured, task: int | None) -> int:
    """`task`, or the newest measured one if None or not measured."""
    found = {e.clock.task for e in measured}
    return task if task in found else max(found, default=0)  # type: ignore[return-value]


def after(measured: Measured, task: int | None) -> dict[str, WeightSpectrumMeasured]:
    """Map → measurement after `task` (or the newest), in order of the maps."""
    chosen = newest_task(measured, task)
    found = {e.name: e for e in measured if e.clock.task == chosen}
    return {name: found[name] for name in sorted(found, key=_order)}


def limit(event: WeightSpectrumMeasured) -> str:
    """The bound on the number of updated directions, as a clause."""
    return {
        "rho": f"all null directions may change, limited by ρ = {event.rho:g}",
        "r_max": f"limited by r_max = {event.written}, so moving ρ a little changes nothing",
    }.get(event.bound, f"only measured at ρ = {event.rho:g}: training in this run does not use this partition")


def tiny(value: float | None) -> str:
    """1.2·10⁻⁷ for 1.2e-7; three digits as everywhere else from a thousandth on."""
    if not value or not 0 < value < 1e-3:
        return number(value)
    exponent = math.floor(math.log10(value))
    return f"{value / 10**exponent:.1f}·10{str(exponent).translate(_RAISED)}"


def tower_name(tower: str) -> str:
    """'image tower' for "image"."""
    return TOWERS.get(tower, tower)


def part_name(part: str) -> str:
    """'queries' for "q", 'weight (256 values)' for the "w256" of a recorded module."""
    if part[:1] == "w" and part[1:].isdigit():
        return f"weight ({part[1:]} values)"
    return PARTS.get(part, part)


def towers_of(names: Iterable[str]) -> list[str]:
    """Towers of these maps, the image tower first."""
    return list(dict.fromkeys(place(n).tower for n in sorted(names, key=_order)))


def parts_of(names: Iterable[str]) -> list[str]:
    """Parts of these maps, in the order of `PARTS`."""
    return sorted({place(n).part for n in names}, key=lambda p: (_rank(PARTS, p), p))


def _order(name: str) -> tuple[int, str, int, int, str]:
    tower, block, part = place(name)
    return _rank(TOWERS, tower), tower, block, _rank(PARTS, part), part


def _rank(known: dict[str, str], item: str) -> int:
    return list(known).index(item) if item in known else len(known)


def _more(count: int) -> str:
    if not count:
        return "no more values than before"
    return f"{abs(count)} {'more' if count > 0 else 'fewer'} value{'s' if abs(count) > 1 else ''} than before"


def map_spectrum(measured: Measured, tasks: Tasks = (), *, name: str, task: int | None = None) -> go.Figure:
    """Singular values of one map before and after a task, with the cut and the directions the task may update.

    Args:
        measured: all measurements of the run.
        tasks: RunStarted.tasks, for colours and names.
        name: which map.
        task: after which task; None = the newest.
    """
    figure, event = blank(), after(measured, task).get(name)
    title = f"Singular values, {words(name)}"
    if event is None:
        return nothing(title, how=SOURCE, height=400, figure=figure)
    colour, d = task_colour(event.clock.task, task_count(measured, tasks)), len(event.before)
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
    told = f"{event.principal} of {d} directions ({100 * event.principal / d:.0f} %) are principal."
    return describe(
        figure,
        title=title,
        what=f"Dotted: before {label}; solid: after it, log axis; dashed: the cut between principal and null; shaded: "
        f"the last {event.written}, {limit(event)}. {told}" + moved,
        look_for="A tail that rises while the left part stays: the task changed only directions that the weight "
        "hardly used. Lines that differ left of the cut: the old principal directions were changed.",
        how=f"{SPLIT}. The last min(d − k, r_max) directions are updated. A change confined to them leaves every "
        "other singular value unchanged; an updated one may rise above $\\sigma_k$ and count as principal "
        f"next time. Values below 10⁻⁵ of the largest are drawn there. {SOURCE}",
        alt=f"Spectrum of {words(name)} before and after {label}. {told}",
        height=400,
    )
