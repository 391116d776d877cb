"""Spectra: singular values of past tasks' inputs in descending order, and the cut.

A stored spectrum holds eigenvalues λ of a second moment, which are squared singular values σ of the activations (up to
their number). Figures draw σ = √λ on a log axis and energy, which is λ itself, on a linear one; nothing is squared
twice. Free directions are in `figures.nullity_plots`, updates in `figures.updates`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from cl_core.events import SpectrumMeasured
from dashboard.figures.description import blank, describe
from dashboard.figures.event_arrays import sizes
from dashboard.figures.plot_helpers import band, decade_ticks, label_ends, thinned
from dashboard.theme import (
    TEMPLATE,
    directions,
    faded,
    layer_name,
    number,
    percent,
    task_colour,
    task_name,
)

SPACES = {
    "affinity": "image queries pulled back through the key weights",
    "mixture": "attention of image tokens to each prompt",
    "c_fc": "inputs of the first MLP matrix of a layer",
    "c_proj": "inputs of the second MLP matrix of a layer",
    "proj": "class token before the image projection, after the last layer",
    "kv": "inputs of the key and value matrices of a layer (after its first LayerNorm)",
    "inputs": "what a layer is fed",
    "q": "inputs of the query matrix of a layer (after its first LayerNorm)",
    "k": "inputs of the key matrix of a layer (after its first LayerNorm)",
    "v": "inputs of the value matrix of a layer (after its first LayerNorm)",
    "o": "inputs of the output matrix of a layer's attention (its concatenated heads)",
}
PARTS = {"q": "queries", "k": "keys", "v": "values", "o": "output of attention"}
WATCHED = "inputs "  # and their width: modules of a model that `cl_core.recorder` watched
PROMPT_SPACES = ("affinity", "mixture")
_SHORT = {
    "c_fc": "inputs of the first MLP matrix",
    "c_proj": "inputs of the second MLP matrix",
    "proj": "class token before the image projection",
    "kv": "inputs of keys and values",
    **{part: f"inputs of {said}" for part, said in PARTS.items()},
}
SMOOTHED_FROM = 128  # width from which the elbow rule smooths a spectrum (`cl_core.linalg.spectra`)
_FLOOR = 1e-6  # lower limit for drawing relative singular values


def meaning(space: str) -> str:
    """A clause that describes a space."""
    if space.startswith(WATCHED):
        return f"inputs of the watched modules that are {space.removeprefix(WATCHED)} wide (named in the settings)"
    return SPACES.get(space, "a space this page has no words for")


def short(space: str) -> str:
    """A space's name in titles."""
    return _SHORT.get(space, space)


def button(space: str) -> str:
    """A space's name in controls and URLs: two or three words."""
    names = {
        "c_fc": "first MLP matrix",
        "c_proj": "second MLP matrix",
        "proj": "image projection",
        "kv": "keys and values",
        **PARTS,
    }
    return names.get(space, space)


def _moment(space: str) -> str:
    """Definition of the second moment of a space, for *How is this computed?*."""
    if space in PROMPT_SPACES:
        return "$C = \\mathrm{mean}(a\\,a^\\top)$ over the rows $a$ of this space, summed over the tasks so far"
    if space == "inputs":
        return "$C = \\mathrm{mean}(x\\,x^\\top)$ over the layer's inputs $x$, training images of all tasks so far"
    if space.startswith(WATCHED):
        return "$M = \\sum_t C_t$, $C_t = \\mathrm{mean}(a\\,a^\\top)$ over the rows $a$ seen in task $t$"
    if space == "kv" or space in PARTS:
        return "$C = \\mathrm{mean}(a\\,a^\\top)$ over the rows $a$ of this space, all tokens of all tasks so far"
    return (
        "$M$ of the rows $a$ of this space: $\\sum a\\,a^\\top$ of every batch, batches and tasks each scaled to the "
        "same Frobenius norm and added up"
    )


def counted(nullity: int, width: int) -> str:
    """160 of 192 directions (83 %), inside a sentence."""
    return f"{nullity} of {width} directions ({100 * nullity / width:.0f} %)"


def of(
    measured: Sequence[SpectrumMeasured], *, space: str | None = None, layer: int | None = None, task: int | None = None
) -> list[SpectrumMeasured]:
    """The spectra of one space, layer and task (each None = all)."""
    return [
        e
        for e in measured
        if (space is None or e.space == space)
        and (layer is None or e.layer == layer)
        and (task is None or e.clock.task == task)
    ]


def _singular(event: SpectrumMeasured) -> np.ndarray:
    """σ_j / σ_0, floored."""
    values = np.sqrt(np.clip(np.asarray(event.eigenvalues, dtype=np.float64), 0, None))
    top = values[0] if len(values) and values[0] > 0 else 1.0
    return np.maximum(values / top, _FLOOR).astype(np.float32)


def _decay(figure: go.Figure, event: SpectrumMeasured, tasks: int, *, chosen: bool) -> tuple[float, float]:
    """Draw one spectrum as a line with its cut; returns the line's end."""
    values, colour = _singular(event), task_colour(event.clock.task, tasks)
    n, cut = len(values), len(values) - event.nullity
    index = np.arange(1, n + 1, dtype=np.float32)
    x, y = thinned(index, values, 400)
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers" if n <= 16 else "lines",
        name=task_name(event.clock.task),
        showlegend=False,
        line={"color": colour, "width": 3 if chosen else 1.6},
        opacity=1 if chosen else 0.7,
        marker={"size": 5, "color": colour},
        hovertemplate=f"{task_name(event.clock.task)}, direction %{{x:.0f}} of {n}: %{{y:.3g}} of the "
        "largest<extra></extra>",
    )
    if 0 <= cut < n:
        figure.add_scatter(
            x=[cut + 1],
            y=values[cut : cut + 1],
            mode="markers",
            showlegend=False,
            name=f"cut of {task_name(event.clock.task)}",
            marker={
                "symbol": "circle" if chosen else "circle-open",
                "size": 11 if chosen else 9,
                "color": colour,
                "line": {"width": 2, "color": colour},
            },
            hovertemplate=f"{task_name(event.clock.task)}: free from direction %{{x}} on, "
            f"{directions(event.nullity, n)}<extra></extra>",
        )
    return float(x[-1]), float(y[-1])


def spectrum_decay(
    measured: Sequence[SpectrumMeasured], *, layer: int, space: str, task: int | None = None, tasks: int | None = None
) -> go.Figure:
    """Singular values of one layer after every task, largest first, on a log axis, each with its cut.

    Args:
        measured: all spectra of the run.
        layer, space: the spectrum to draw.
        task: the task whose cut is shaded; None = the last measured.
        tasks: tasks of the run, for the colours.
    """
    found = of(measured, space=space, layer=layer)
    tasks = max([tasks or 1, *(e.clock.task + 1 for e in found)])
    chosen = next((e for e in found if e.clock.task == task), found[-1] if found else None)
    figure, ends = blank(), []
    for event in found:
        x, y = _decay(figure, event, tasks, chosen=event is chosen)
        ends.append((x, y, task_name(event.clock.task)))
    n = len(chosen.eigenvalues) if chosen else 1
    lowest = min((float(_singular(e)[-1]) for e in found), default=1e-3)
    span = (lowest / 2, 1.6)
    label_ends(figure, ends if len(ends) <= 12 else [ends[0], ends[-1]], span=span, log=True)
    caption = ""
    if chosen:
        start = n - chosen.nullity + 0.5
        figure.layout.shapes = [
            band(start, n + 0.5, colour=faded(task_colour(chosen.clock.task, tasks), 0.10)),
            go.layout.Shape(
                type="line",
                x0=start,
                x1=start,
                xref="x",
                y0=0,
                y1=1,
                yref="y domain",
                line={"width": 1.5, "dash": "dash", "color": task_colour(chosen.clock.task, tasks)},
            ),
        ]
        figure.layout.annotations += (
            go.layout.Annotation(
                x=n + 0.5,
                xref="x",
                xanchor="right",
                xshift=-6,
                y=1,
                yref="y domain",
                yanchor="top",
                yshift=-4,
                showarrow=False,
                font={"size": 12},
                text=f"left free: {directions(chosen.nullity, n)}",
            ),
        )
        caption = (
            f"After {task_name(chosen.clock.task)} the rule ({chosen.rule}) leaves {counted(chosen.nullity, n)} free "
            f"and protects {percent(100 * chosen.protected_energy)} of the energy; effective rank "
            f"{number(chosen.effective_rank)}."
        )
        if chosen.rule == "elbow" and n >= SMOOTHED_FROM:
            caption += (
                f" At {n} directions the released elbow hardly depends on the data: the spectrum is smoothed first, "
                "and the smoothing determines the position of the knee."
            )
    figure.update_xaxes(title_text="direction, most used first", range=[0.5, n + 0.5], showgrid=False)
    figure.update_yaxes(title_text="singular value ÷ largest", **decade_ticks(*span))
    figure.update_layout(margin={"r": 48})
    free = f"; shaded: what the cut of {task_name(chosen.clock.task)} leaves free" if chosen else ""
    unused = (
        "" if not chosen or chosen.used else " Measured for comparison only: this run's training does not use the cut."
    )
    return describe(
        figure,
        title=f"Singular values, {layer_name(layer)}, {short(space)}",
        what=f"One line per task: singular values of {meaning(space)}, accumulated over the tasks so far, relative "
        f"to the largest, log axis; circles mark the cut{free}. {caption}{unused}",
        look_for="A cut that moves right with every task: free directions are running out. A line without an elbow: "
        "any cut is arbitrary.",
        how="$\\sigma_j = \\sqrt{\\lambda_j}$, with $\\lambda$ the eigenvalues of the uncentred second moment "
        f"{_moment(space)}. Drawn is "
        "$\\sigma_j / \\sigma_0$; values below 10⁻⁶ of the largest are drawn there. The cut is where the method's "
        "own rule places it: directions to its right count as unused by past tasks and are free for updates. Energy is "
        "$\\lambda$, the squared singular value: it is not squared again.",
        alt=f"Spectrum of {layer_name(layer)}, {short(space)}. {caption or 'Nothing measured yet.'}",
        height=400,
    )


def _some(tasks: list[int], chosen: int, most: int = 5) -> list[int]:
    """At most `most` of these tasks: the first, the last, the chosen and some in between."""
    if len(tasks) <= most:
        return tasks
    picked = {tasks[round(i * (len(tasks) - 1) / (most - 2))] for i in range(most - 1)}
    return sorted(picked | ({chosen} & set(tasks)))


def _small(event: SpectrumMeasured, tasks: int, *, chosen: bool, place: str) -> go.Scatter:
    """One spectrum as a single trace in subplot `place`, with a dot at its cut."""
    values, colour = _singular(event), task_colour(event.clock.task, tasks)
    n, cut = len(values), len(values) - event.nullity
    kept = np.unique(np.concatenate([np.linspace(0, n - 1, min(n, 100)).astype(int), [min(cut, n - 1)]]))
    return go.Scatter(
        x=(kept + 1).astype(np.float32),
        y=values[kept],
        mode="lines+markers",
        xaxis=f"x{place}",
        yaxis=f"y{place}",
        name=f"{layer_name(event.layer)}, {task_name(event.clock.task)}",
        showlegend=False,
        line={"color": colour, "width": 3 if chosen else 1.6},
        opacity=1 if chosen else 0.7,
        marker={"size": np.where(kept == cut, 10 if chosen else 7, 0).astype(np.uint8), "color": colour},
        hovertemplate=f"{task_name(event.clock.task)}, direction %{{x:.0f}} of {n}: %{{y:.3g}}<extra></extra>",
    )


def spectrum_facets(
    measured: Sequence[SpectrumMeasured],
    *,
    space: str,
    task: int | None = None,
    tasks: int | None = None,
    layer: int | None = None,
) -> go.Figure:
    """The same for all layers at once, small, on common axes; the chosen layer's name is bold."""
    found = of(measured, space=space)
    layers, last = sizes(found)
    tasks = max(tasks or 1, last)
    columns = min(layers, 6 if layers > 8 else 3 if layers > 4 else max(layers, 1)) or 1
    rows = max(1, -(-layers // columns))
    titles = [f"<b>{layer_name(i)}</b>" if i == layer else layer_name(i) for i in range(layers)]
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes=True,
        shared_yaxes=True,
        subplot_titles=titles,
        horizontal_spacing=0.02,
        vertical_spacing=min(0.12, 0.3 / rows),
    )
    figure.update_layout(template=TEMPLATE, uirevision="keep")
    figure.update_annotations(font_size=12)
    n, lowest = 1, 1.0
    chosen = last - 1 if task is None else task
    shown = _some(sorted({e.clock.task for e in found}), chosen)
    lines = []
    for event in found:
        if event.clock.task in shown:
            place = (event.layer // columns) * columns + event.layer % columns + 1
            lines.append(_small(event, tasks, chosen=event.clock.task == chosen, place=str(place) if place > 1 else ""))
            n, lowest = max(n, len(event.eigenvalues)), min(lowest, float(_singular(event)[-1]))
    figure.add_traces(lines)
    figure.update_xaxes(range=[0.5, n + 0.5], showgrid=False, nticks=4 if columns > 3 else 6, tickangle=0)
    figure.update_yaxes(**decade_ticks(lowest / 2, 1.6))
    figure.update_xaxes(title_text="direction", row=rows)
    figure.update_yaxes(title_text="singular value", col=1)
    figure.update_layout(margin={"l": 64, "r": 12, "t": 30, "b": 44})
    return describe(
        figure,
        title=f"All layers, {short(space)}",
        what="Singular values relative to each layer's largest, one colour per task, dots mark the cut; axes are "
        "common to all layers." + ("" if len(shown) == last else f" Drawn: {', '.join(map(task_name, shown))}."),
        look_for="Layers with dots far to the right have few free directions; there the next task will be "
        "hard to learn.",
        how="As the large figure, for every layer. Thick: the chosen task.",
        alt=f"{layers} small spectra, {short(space)}, up to {task_name(last - 1) if last else 'no task'}.",
        height=70 + 175 * rows,
    )


def energy_kept(measured: Sequence[SpectrumMeasured], *, layer: int, space: str, tasks: int | None = None) -> go.Figure:
    """Share of the energy in the first directions, on a linear axis, with each task's cut."""
    found = of(measured, space=space, layer=layer)
    tasks = max([tasks or 1, *(e.clock.task + 1 for e in found)])
    figure, alt, n = blank(), [], 1
    for event in found:
        values = np.asarray(event.eigenvalues, dtype=np.float64)
        n, colour = len(values), task_colour(event.clock.task, tasks)
        shares = 100 * np.concatenate([[0], np.cumsum(values)]) / max(values.sum(), 1e-30)
        x, y = thinned(np.arange(n + 1, dtype=np.float32), shares, 400)
        figure.add_scatter(
            x=x,
            y=y,
            mode="lines",
            line={"color": colour, "width": 2},
            showlegend=False,
            name=task_name(event.clock.task),
            hovertemplate=f"{task_name(event.clock.task)}: the first %{{x:.0f}} directions hold %{{y:.2f}} "
            "%<extra></extra>",
        )
        cut = n - event.nullity
        figure.add_scatter(
            x=[cut],
            y=[float(shares[cut])],
            mode="markers",
            showlegend=False,
            name=f"cut of {task_name(event.clock.task)}",
            marker={"size": 10, "color": colour},
            hovertemplate=f"{task_name(event.clock.task)}: %{{x}} protected directions hold %{{y:.2f}} "
            "%<extra></extra>",
        )
        alt.append(f"{task_name(event.clock.task)} {percent(float(shares[cut]))} in {cut}")
    figure.update_xaxes(title_text="directions counted, most used first", range=[0, n], showgrid=False)
    figure.update_yaxes(title_text="share of the energy", range=[0, 103], ticksuffix=" %", dtick=20)
    return describe(
        figure,
        title=f"Energy, {layer_name(layer)}, {short(space)}",
        what="Share of the energy held by the first directions, one line per task; the dot is the cut: what lies "
        "left of it is protected.",
        look_for="A dot well below 100 %: the free directions still carry energy of past tasks, so moving along them "
        "is felt.",
        how="$\\sum_{i<k} \\lambda_i \\,/\\, \\sum_i \\lambda_i$ in percent; $\\lambda$ are eigenvalues of the "
        "second moment, which are energies already. The part above the dot is the leaked energy.",
        alt="Energy protected: " + (", ".join(alt) or "nothing measured") + ".",
        height=400,
    )
