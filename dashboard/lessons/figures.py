"""Figures of lessons: every figure of the catalogue, and here those that show several runs or a part of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go

from cl_core.events import AccuracyMeasured, ImagesClassified, ImagesStored, SpectrumMeasured
from cl_core.playground.settings import PlaygroundConfig
from cl_core.whatif import Threshold
from dashboard.figures import accuracy, catalogue, comparison, diagnosis, playground, readouts, spectra, whatif
from dashboard.figures.event_arrays import accuracies
from dashboard.figures.plot_helpers import decade_ticks
from dashboard.lessons import facts
from dashboard.notebook import draw_entry
from dashboard.run_log import Snapshot

Runs = Mapping[str, Snapshot]  # by the name that the lesson gives them


def accuracy_matrix(
    runs: Runs, *, until: int | None = None, readout: str | None = None, before_training: bool = False
) -> go.Figure:
    """The matrix of a run: its first rows, another readout, or only the row before training."""
    (run,) = runs.values()
    measured = run.events(AccuracyMeasured)
    if until is not None:
        measured = [event for event in measured if event.clock.task < until]
    if before_training:
        measured = [e if e.clock.task < 0 else replace(e, row=[None] * len(e.row)) for e in measured]
    return accuracy.accuracy_matrix(measured, readout=readout, stages=catalogue.stages(run), tasks=catalogue.tasks(run))


def readout_bars(runs: Runs, *, first: str, second: str) -> go.Figure:
    """Two readouts after the newest task."""
    (run,) = runs.values()
    measured = [event for event in run.events(AccuracyMeasured) if event.readout in (first, second)]
    return readouts.readout_bars(measured, stages=catalogue.stages(run))


def energy_kept(runs: Runs, *, layer: int, space: str, task: int) -> go.Figure:
    """The energy that directions hold, after one task."""
    (run,) = runs.values()
    measured = spectra.of(run.events(SpectrumMeasured), task=task - 1)
    return spectra.energy_kept(measured, layer=layer - 1, space=space, tasks=catalogue.count(run))


def matrix_difference(runs: Runs) -> go.Figure:
    """The matrix of the first run minus that of the second."""
    (name, first), (other, second) = runs.items()
    matrices = (accuracies(run.events(AccuracyMeasured)) for run in (first, second))
    return comparison.matrix_difference(*matrices, names=(name, other), tasks=catalogue.tasks(second))


def accuracy_overlay(runs: Runs) -> go.Figure:
    """Average accuracy so far of several runs."""
    return comparison.accuracy_overlay({name: accuracies(run.events(AccuracyMeasured)) for name, run in runs.items()})


def forgetting_overlay(runs: Runs) -> go.Figure:
    """Forgetting so far of several runs."""
    return comparison.forgetting_overlay({name: accuracies(run.events(AccuracyMeasured)) for name, run in runs.items()})


def against_threshold(runs: Runs, *, energy: float, strict: bool = False) -> go.Figure:
    """Directions free, share passed and interference over the energy kept, with one value marked."""
    (run,) = runs.values()
    eta = 1.0 if strict else float(facts.own_eta(run))
    return whatif.against_threshold(facts.boundary_of(run), Threshold("energy", energy, eta=eta), layer=0)


def at_equal_freedom(runs: Runs, *, free: float) -> go.Figure:
    """Share passed and interference over the share of directions left free."""
    (run,) = runs.values()
    return whatif.at_equal_freedom(facts.boundary_of(run), Threshold("free", free))


def threshold_profile(runs: Runs) -> go.Figure:
    """The playground's recorded frontier."""
    return playground.threshold_profile(facts.frontier())


def similar_tasks(runs: Runs, *, similarity: float) -> go.Figure:
    """Free directions over tasks for unlike and for similar tasks, at the threshold that is best for unlike ones."""
    from dashboard.widgets.playground_board import layer_names

    best = facts.best_threshold()
    streams = [
        ("unlike tasks", facts.point_at(best)),
        ("similar tasks", facts.point_at(best, similarity)),
    ]
    return playground.room_of_similar_tasks(streams, layers=layer_names(PlaygroundConfig()))


def ledger_of_cell(runs: Runs, *, task: int, after: int) -> go.Figure:
    """Why a task fell, with what was measured of the cell from checkpoints."""
    (run,) = runs.values()
    rows = catalogue.cell_rows(run, task - 1, after - 1)
    return diagnosis.forgetting_ledger(rows, task=task - 1, after=after - 1)


def layers_recovered(runs: Runs, *, task: int, after: int) -> go.Figure:
    """In which layer a task was lost, as it was measured from checkpoints."""
    (run,) = runs.values()
    return diagnosis.layers_recovered(facts.layers_of(run, task, after), task=task - 1, after=after - 1)


def interpolation(runs: Runs, *, after: int, alpha: float) -> go.Figure:
    """Accuracy of averages of the untouched weights and those after a task, one of them marked."""
    (run,) = runs.values()
    return diagnosis.interpolation(facts.line_of(run, after), alpha=alpha)


def worst_image(runs: Runs, *, task: int) -> go.Figure:
    """The margin, after every task, of the lost image of a task that lost most of it."""
    (run,) = runs.values()
    known = (run.events(ImagesStored), run.events(ImagesClassified), catalogue.tasks(run))
    return diagnosis.image_margins(*known, traced=((task - 1, facts.worst_image(run, task) - 1),))


def _of_catalogue(id: str) -> Callable[..., go.Figure]:
    def draw(runs: Runs, **controls: Any) -> go.Figure:
        (run,) = runs.values()
        return draw_entry(run, id, controls)

    return draw


FIGURES: dict[str, Callable[..., go.Figure]] = {
    **{id.replace("-", "_"): _of_catalogue(id) for id in catalogue.FIGURES},
    **{
        draw.__name__: draw
        for draw in (
            accuracy_matrix,
            readout_bars,
            energy_kept,
            matrix_difference,
            accuracy_overlay,
            forgetting_overlay,
            against_threshold,
            at_equal_freedom,
            threshold_profile,
            similar_tasks,
            worst_image,
            ledger_of_cell,
            layers_recovered,
            interpolation,
        )
    },
}
"""By the name that a lesson calls them."""


def with_axes_of(figure: go.Figure, other: go.Figure) -> go.Figure:
    """`figure`, with vertical axes that reach as far as its own and those of `other`."""
    axes = [axis for each in (figure, other) for axis in each.select_yaxes()]
    low, high = min(axis.range[0] for axis in axes), max(axis.range[1] for axis in axes)
    logarithmic = axes[0].type == "log"
    return figure.update_yaxes(**(decade_ticks(10**low, 10**high) if logarithmic else {"range": [low, high]}))
