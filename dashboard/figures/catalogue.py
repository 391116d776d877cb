"""Catalogue of all figures of a run: question, required events, drawing function and section.

Pages show entries (`frame.show_figure("losses", run)`), the report iterates over all of them, and events that no entry
reads are drawn automatically on the page *All measurements* (`figures.generic`). A figure for a new event is a function
in `dashboard/figures` and an entry here.

An entry's `draw` takes only the run's snapshot and the values of its controls. It may read only the kinds of events
that the entry names (`Snapshot.only` raises an error otherwise), so a figure's dependencies are known, and a cached
figure is
never older than its events.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from cl_core.analysis import measured_later
from cl_core.analysis.ledger import (
    Stretch,
    costliest,
    loss_of,
    rows_of,
    step_of,
    task_of,
    with_later,
    worst_cell,
)
from cl_core.config import ConfigError
from cl_core.events import (
    KINDS,
    AccuracyMeasured,
    AttentionCompared,
    ConceptorMeasured,
    Event,
    FeaturesCompared,
    ForwardTransferMeasured,
    ImagesClassified,
    ImagesStored,
    InputsSurveyed,
    IntraClassMeasured,
    KeysMoved,
    KnobTurned,
    MixtureFitted,
    ModalityGapMeasured,
    OldTasksMeasured,
    ProbesChosen,
    PromptsDrifted,
    RefitMeasured,
    ResidualMeasured,
    RunForked,
    RunStarted,
    SelectionMeasured,
    SimilaritiesMeasured,
    SpectrumMeasured,
    StepEnded,
    SubspaceMeasured,
    TaskEnded,
    TaskStarted,
    TradeOffMeasured,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from cl_core.plugins import Drawing
from cl_core.registry import FIGURES as PLUGGED
from cl_core.registry import Entry, imported
from dashboard.figures import (
    accuracy,
    attention,
    conceptors,
    diagnosis,
    drift,
    forward_transfer,
    gap,
    generic,
    mixtures,
    nullity_plots,
    readouts,
    selection,
    spectra,
    subspaces,
    training,
    updates,
    weight_directions,
    weight_history,
    weights,
    zero_shot_ability,
)
from dashboard.figures import plugged as plugin_figures
from dashboard.figures.event_arrays import compared_later, spaces, zero_shot
from dashboard.figures.plot_helpers import mark_costly, mark_turned
from dashboard.run_log import Snapshot
from dashboard.theme import task_name

Controls = Mapping[str, Any]

ALWAYS_READ = (RunStarted, RunForked, KnobTurned)  # the run's plan, and marks on curves

# A curve of 100,000 steps takes up to a second to draw, and ten more steps do not move it by a pixel: during training,
# a figure is redrawn when its number of events has grown by one of this many parts.
VISIBLE = 500

SECTIONS = {  # of the report, in order
    "accuracy": "Accuracy",
    "training": "Training",
    "room": "Spectra and room to learn",
    "updates": "Effect of the projection on updates",
    "weights": "Weights",
    "attention": "Attention and prompts",
    "pools": "Prompt pools",
    "subspaces": "Subspaces of tasks",
    "gap": "Gap and zero-shot",
    "mixtures": "Keys and mixtures",
    "other": "Other measurements",
}


def _once(run: Snapshot) -> Iterable[Controls]:
    return ({},)


@dataclass(frozen=True)
class Figure:
    """One figure of a run.

    Attributes:
        id: its name in code; also its key on a page.
        title: its title in lists.
        question: the question it answers.
        section: its section in the report, a key of `SECTIONS`.
        needs: required kinds of events.
        draw: `draw(run, **controls)` returns the figure and depends only on its arguments.
        controls: names of the controls.
        also: optional kinds of events.
        when: whether a run with the required events has anything to draw.
        in_report: the values of the controls in the report, one figure each; none: not in the report.
        note: how the report chose them, one sentence.
        origin: the plug-in that registered it. It claims no event, so the events are still drawn automatically.
        choices: of a plug-in's figure: the values of each control.
    """

    id: str
    title: str
    question: str
    section: str
    needs: tuple[type[Event], ...]
    draw: Callable[..., go.Figure]
    controls: tuple[str, ...] = ()
    also: tuple[type[Event], ...] = ()
    when: Callable[[Snapshot], bool] = lambda run: True
    in_report: Callable[[Snapshot], Iterable[Controls]] = _once
    note: str = ""
    origin: str = ""
    choices: Callable[[Snapshot], Mapping[str, Sequence[Any]]] = lambda run: {}

    @property
    def reads(self) -> tuple[type[Event], ...]:
        return (*self.needs, *self.also, *ALWAYS_READ)

    def there(self, run: Snapshot) -> bool:
        """Whether the run has the data for this figure."""
        return all(run.count(kind) for kind in self.needs) and self.when(run)

    def key(self, run: Snapshot, controls: Controls) -> tuple[Any, ...]:
        """Cache key: equal only if the figures are equal, or indistinguishable for a long run in training."""
        reading, *counts = run.key(*self.reads)
        if run.status().live:
            counts = [count - count % max(1, count // VISIBLE) for count in counts]
        return self.id, reading, *counts, tuple(sorted(controls.items())), tuple(costly(run))

    def drawn(self, run: Snapshot, controls: Controls) -> go.Figure:
        """The figure, with marks at changed settings and at the steps with the largest loss increase on old tasks."""
        unknown = set(controls) - set(self.controls)
        if unknown:
            raise TypeError(f"figure {self.id} has no control {', '.join(sorted(unknown))}; it has {self.controls}")
        figure = self.draw(run.only(*self.reads), **controls)
        turned = run.events(KnobTurned)
        if turned:
            mark_turned(figure, turned)
        if stretches := costly(run):
            mark_costly(figure, stretches, run.events(TaskStarted))
        return figure

    def shown(self, run: Snapshot, controls: Controls) -> go.Figure:
        """The figure as pages and reports show it: blank with the reason where it cannot be drawn, so that events which
        no run of ours would hold cost one figure and no page."""
        try:
            return self.drawn(run, controls)
        except Exception as error:  # whatever a damaged or foreign run makes of it
            logging.getLogger(__name__).exception("figure %s of run %s", self.id, run.name)
            trouble = type(error).__name__  # not its text, which may hold anything that the run holds
            sentence = f"This figure cannot be drawn from the events of this run ({trouble})."
            return plugin_figures.undrawn(self.title, sentence, trouble)


# ---------------------------------------------------------------- queries on a run


def tasks(run: Snapshot) -> list[dict[str, Any]]:
    plan = run.started()
    return list(plan.tasks) if plan else []


def count(run: Snapshot) -> int | None:
    return len(tasks(run)) or None


def stages(run: Snapshot) -> int | None:
    plan = run.started()
    return plan.trained_tasks if plan else None


def total_steps(run: Snapshot) -> int | None:
    plan = run.started()
    return plan.total_steps if plan else None


def moment_spaces(run: Snapshot, *, prompts: bool | None = None) -> list[str]:
    """Spaces of the run's second moments: those of prompts, of features, or (None) both, prompts first."""
    found = spaces(run.events(SpectrumMeasured))
    kept = [space for space in found if space in spectra.PROMPT_SPACES]
    features = [space for space in found if space not in spectra.PROMPT_SPACES]
    return [*kept, *features] if prompts is None else kept if prompts else features


def tightest(run: Snapshot, space: str) -> int:
    """The layer with the smallest share of free directions in the newest measurement."""
    found = [event for event in run.events(SpectrumMeasured) if event.space == space]
    newest = [event for event in found if event.clock.task == found[-1].clock.task]
    return min(newest, key=lambda e: (e.nullity / len(e.eigenvalues), e.layer)).layer


def most_moved(run: Snapshot) -> int:
    """The layer whose prompts are furthest from their initial values."""
    drifted = run.events(PromptsDrifted)
    first, last = (np.asarray(event.prompts, dtype=np.float32) for event in (drifted[0], drifted[-1]))
    return int(np.argmax(np.linalg.norm((last - first).reshape(len(last), -1), axis=1)))


def most_changed(run: Snapshot) -> int:
    """The layer in which attention on old images has changed most."""
    later = compared_later(run.events(AttentionCompared))
    return int(np.argmax(np.nan_to_num(np.asarray(later[-1].total_variation, dtype=np.float32))))


def most_rewritten(run: Snapshot) -> str:
    """The matrix that the newest task moved most."""
    found = run.events(WeightSpectrumMeasured)
    newest = [event for event in found if event.clock.task == found[-1].clock.task]
    return max(newest, key=lambda event: event.movement).name


def most_used(run: Snapshot) -> int:
    """The layer with the largest conceptor capacity in the newest measurement."""
    found = run.events(ConceptorMeasured)
    return max((e for e in found if e.clock.task == found[-1].clock.task), key=lambda event: event.capacity).layer


def last_choice(run: Snapshot) -> int:
    """The last layer that selects from a pool."""
    return max(selection.layers(run.events(SelectionMeasured)))


def has_prompts(run: Snapshot) -> bool:
    """Whether prompts moved; else weights."""
    return bool(run.count(PromptsDrifted)) or run.config is None or not run.config.diagnostics.drift


def _measured(run: Snapshot) -> bool:
    return any(value is not None for event in run.events(AccuracyMeasured) for value in event.row)


def _several_stages(run: Snapshot) -> bool:
    return stages(run) != 1 and any(event.clock.task >= 0 for event in run.events(AccuracyMeasured))


def _several_readouts(run: Snapshot) -> bool:
    from dashboard.figures.event_arrays import readouts as names

    return len(names(run.events(AccuracyMeasured))) > 1


def _projected(run: Snapshot) -> bool:
    return any(event.proposed_norm for event in run.events(StepEnded))


def _lost_before_learning(run: Snapshot) -> bool:
    measured = run.events(AccuracyMeasured)
    return zero_shot(measured) is not None and bool(np.isfinite(zero_shot_ability.lost_before_learning(measured)).any())


def _placed(run: Snapshot) -> bool:
    """Whether the newest task moved a matrix."""
    newest = weights.after(run.events(WeightSpectrumMeasured), None).values()
    return any(event.leak_left is not None or event.leak_right is not None for event in newest)


def _owned(run: Snapshot) -> bool:
    return any(event.of for event in run.events(SelectionMeasured))


def _several_layers_pick(run: Snapshot) -> bool:
    return _owned(run) and len(selection.layers(run.events(SelectionMeasured))) > 1


def _prompt_mass(run: Snapshot) -> bool:
    return _compared(run) and any(share > 0 for event in run.events(AttentionCompared) for share in event.prompt_mass)


def ledger_rows(run: Snapshot) -> Any:
    """Accuracies by readout, as `cl_core.analysis.ledger` takes them."""
    return rows_of(run.events(AccuracyMeasured), run.events(RefitMeasured))


def cell_rows(run: Snapshot, task: int, after: int) -> Any:
    """The same, with measurements of one cell from checkpoints."""
    return with_later(ledger_rows(run), task, after, measured_later.read(run.folder, task, after))


def _step_sizes(run: Snapshot) -> Any:
    """Number of every step, and its squared size as proposed and as applied."""
    return tuple(run.column(StepEnded, value) for value in (diagnosis.step_of, diagnosis.asked, diagnosis.taken))


def costly(run: Snapshot) -> list[Stretch]:
    """The steps within tasks with the largest loss increase on old tasks. Every figure uses it."""
    columns = (run.column(OldTasksMeasured, value) for value in (task_of, step_of, loss_of))
    return costliest(*columns, task=-1, after=len(tasks(run)))


def _fell(run: Snapshot) -> bool:
    return _several_stages(run) and worst_cell(ledger_rows(run)) is not None


def _worst_cell(run: Snapshot) -> list[Controls]:
    found = worst_cell(ledger_rows(run))
    return [] if found is None else [{"task": found[0], "after": found[1]}]


def _worst_task(run: Snapshot) -> list[Controls]:
    return [{"task": chosen["task"]} for chosen in _worst_cell(run)]


def _newest_answers(run: Snapshot) -> list[Controls]:
    return [{"after": max(event.clock.task for event in run.events(ImagesClassified))}]


def _compared(run: Snapshot) -> bool:
    return bool(compared_later(run.events(AttentionCompared)))


# ---------------------------------------------------------------- controls of the report's figures


def _prompt_spaces(run: Snapshot) -> Iterator[Controls]:
    return ({"space": space} for space in moment_spaces(run, prompts=True))


def _tightest(run: Snapshot) -> Iterator[Controls]:
    return ({"space": space, "layer": tightest(run, space)} for space in moment_spaces(run))


def _spaces_with_several_layers(run: Snapshot) -> Iterator[Controls]:
    measured = run.events(SpectrumMeasured)
    several = lambda space: len({event.layer for event in measured if event.space == space}) > 1
    return (chosen for chosen in _tightest(run) if several(chosen["space"]))


def _spaces_told(field: str) -> Callable[[Snapshot], list[Controls]]:
    """Spaces in which updates have `field`."""
    return lambda run: [
        {"space": space}
        for space in moment_spaces(run)
        if any(getattr(event, field).get(space) is not None for event in run.events(UpdateMeasured))
    ]


def _weighed(run: Snapshot) -> Iterator[Controls]:
    weighed = run.events(TradeOffMeasured)
    for space in dict.fromkeys(event.space for event in weighed):
        here = [event for event in weighed if event.space == space]
        layer = tightest(run, space) if space in moment_spaces(run) else here[-1].layer
        layer = layer if layer in {event.layer for event in here} else here[-1].layer
        yield {"space": space, "layer": layer, "task": max(event.clock.task for event in here)}


def _oldest_images(run: Snapshot) -> list[Controls]:
    oldest = min(event.probe_task for event in compared_later(run.events(AttentionCompared)))
    return [{"probe": oldest, "layer": most_changed(run)}]


def _at(control: str, choose: Callable[[Snapshot], Any]) -> Callable[[Snapshot], list[Controls]]:
    return lambda run: [{control: choose(run)}]


_WORST = "The task that fell most is drawn."
_TIGHTEST = "One layer is drawn in full: the one with the smallest share of directions left."
_MOST_CHANGED = "Images are those of the oldest task, the layer is the one whose attention changed most."
_MOST_MOVED = "Paths are those of the layer whose prompts moved furthest."
_LAST_CHOICE = "If several layers select, the last of them is drawn."
_MOST_USED = "One layer is drawn in full: the one most in use."

# ---------------------------------------------------------------- the figures, in the report's order

# fmt: off
_ALL = (
    Figure("accuracy-matrix", "Accuracy matrix", "Which task is known after which?", "accuracy", (AccuracyMeasured,),
           lambda run: accuracy.accuracy_matrix(run.events(AccuracyMeasured), stages=stages(run), tasks=tasks(run)),
           when=_measured),
    Figure("accuracy-over-time", "Accuracy of each task over time", "When is a task forgotten?", "accuracy",
           (AccuracyMeasured,),
           lambda run: accuracy.accuracy_over_time(run.events(AccuracyMeasured), stages=stages(run), tasks=tasks(run)),
           when=_several_stages),
    Figure("learned-and-kept", "Learned and kept", "How much is still remembered?", "accuracy",
           (AccuracyMeasured,),
           lambda run: accuracy.learned_and_kept(run.events(AccuracyMeasured), stages=stages(run)),
           when=_several_stages),
    Figure("readout-comparison", "Readouts of the same features", "Are features lost, or only the head's use of them?",
           "accuracy", (AccuracyMeasured,),
           lambda run: readouts.readout_comparison(run.events(AccuracyMeasured), stages=stages(run)),
           when=_several_readouts),
    Figure("readout-bars", "Readouts after the newest task", "How far do readouts differ by now?", "accuracy",
           (AccuracyMeasured,),
           lambda run: readouts.readout_bars(run.events(AccuracyMeasured), stages=stages(run)),
           when=_several_readouts),

    Figure("forgetting-ledger", "Why a task fell", "Is it the features, the head, or the competition of classes?",
           "accuracy", (AccuracyMeasured,),
           lambda run, task, after, refit=None, recomputed=None: diagnosis.forgetting_ledger(
               with_later(ledger_rows(run), task, after, {"refit": refit, "recomputed": recomputed}), task=task,
               after=after),
           controls=("task", "after", "refit", "recomputed"), also=(RefitMeasured,), when=_fell,
           in_report=_worst_cell, note=_WORST),
    Figure("image-flow", "Images learned, lost, regained", "Which images did each task cost?", "accuracy",
           (ImagesStored, ImagesClassified),
           lambda run, task: diagnosis.image_flow(run.events(ImagesStored), run.events(ImagesClassified), task=task,
                                                  tasks=count(run) or 1),
           controls=("task",), also=(AccuracyMeasured, RefitMeasured), when=_fell, in_report=_worst_task, note=_WORST),
    Figure("confusion", "Confusion", "What is taken for what?", "accuracy", (ImagesStored, ImagesClassified),
           lambda run, after: diagnosis.confusion(run.events(ImagesStored), run.events(ImagesClassified), tasks(run),
                                                  after=after),
           controls=("after",), in_report=_newest_answers),
    Figure("class-accuracy", "Accuracy per class", "Which classes are forgotten?", "accuracy",
           (ImagesStored, ImagesClassified),
           lambda run: diagnosis.class_accuracy(run.events(ImagesStored), run.events(ImagesClassified), tasks(run))),
    Figure("old-tasks-within", "Old tasks within a new one", "Which steps cost old tasks most?", "accuracy",
           (OldTasksMeasured,),
           lambda run: diagnosis.old_tasks_within(run.events(OldTasksMeasured), _step_sizes(run),
                                                  tasks=count(run) or 1, total_steps=total_steps(run)),
           also=(StepEnded,)),
    Figure("image-margins", "Margin of images", "During which task was an image lost?", "accuracy",
           (ImagesStored, ImagesClassified),
           lambda run, traced: diagnosis.image_margins(run.events(ImagesStored), run.events(ImagesClassified),
                                                       tasks(run), traced=traced),
           controls=("traced",), in_report=lambda run: ()),

    Figure("losses", "Losses", "Is every task being fitted?", "training", (StepEnded,),
           lambda run: training.losses(run.events(StepEnded), tasks=count(run), total_steps=total_steps(run))),
    Figure("batch-accuracy", "Accuracy on training batches", "How well is the current task fitted?", "training",
           (StepEnded,),
           lambda run: training.batch_accuracy(run.events(StepEnded), tasks=count(run), total_steps=total_steps(run)),
           when=lambda run: any(event.batch_accuracy is not None for event in run.events(StepEnded))),
    Figure("update-norms", "Update size before and after projection", "How much of each step is applied?", "training",
           (StepEnded,),
           lambda run: training.update_norms(run.events(StepEnded), total_steps=total_steps(run)), when=_projected),
    Figure("kept-share", "Share of each step that is kept", "How much of each step is applied, per matrix?",
           "training", (StepEnded, SpectrumMeasured),
           lambda run: updates.kept_share(run.events(StepEnded), run.events(SpectrumMeasured),
                                          total_steps=total_steps(run)),
           when=lambda run: _projected(run) and not moment_spaces(run, prompts=True)),
    Figure("time-and-memory", "Time and memory", "What does a task cost, and what is stored?", "training", (TaskEnded,),
           lambda run: training.time_and_memory(run.events(TaskEnded), tasks=count(run)),
           when=lambda run: any(event.seconds is not None for event in run.events(TaskEnded))),

    Figure("nullity-map", "Free directions, layer by task", "Where is room left?", "room", (SpectrumMeasured,),
           lambda run, space: nullity_plots.nullity_map(run.events(SpectrumMeasured), space=space, tasks=count(run)),
           controls=("space",), in_report=_prompt_spaces),
    Figure("free-directions", "Free directions of features", "Where is room left?", "room", (SpectrumMeasured,),
           lambda run: nullity_plots.free_directions(
               [e for e in run.events(SpectrumMeasured) if e.space not in spectra.PROMPT_SPACES], tasks=count(run)),
           when=lambda run: bool(moment_spaces(run, prompts=False))),
    Figure("directions-left", "Free directions over tasks", "How fast does the room run out?", "room",
           (SpectrumMeasured,),
           lambda run, space, layer: nullity_plots.directions_left(
               run.events(SpectrumMeasured), space=space, layer=layer, tasks=count(run)),
           controls=("space", "layer"), in_report=_tightest, note=_TIGHTEST),
    Figure("spectrum-decay", "Spectrum", "Where does the cut fall?", "room", (SpectrumMeasured,),
           lambda run, space, layer, task=None: spectra.spectrum_decay(
               run.events(SpectrumMeasured), layer=layer, space=space, task=task, tasks=count(run)),
           controls=("space", "layer", "task"), in_report=_tightest, note=_TIGHTEST),
    Figure("energy-kept", "Energy protected", "How much energy does the cut protect?", "room", (SpectrumMeasured,),
           lambda run, space, layer: spectra.energy_kept(run.events(SpectrumMeasured), layer=layer, space=space,
                                                         tasks=count(run)),
           controls=("space", "layer"), in_report=_tightest, note=_TIGHTEST),
    Figure("spectrum-facets", "Spectra of all layers", "Do layers differ?", "room", (SpectrumMeasured,),
           lambda run, space, layer, task=None: spectra.spectrum_facets(
               run.events(SpectrumMeasured), space=space, layer=layer, task=task, tasks=count(run)),
           controls=("space", "layer", "task"), in_report=_spaces_with_several_layers, note=_TIGHTEST),
    Figure("trade-off", "Stability against plasticity of each cut", "What would another cut cost?", "room",
           (TradeOffMeasured,),
           lambda run, space, layer, task: conceptors.trade_off(
               run.events(TradeOffMeasured), space=space, layer=layer, task=task, tasks=count(run)),
           controls=("space", "layer", "task"), also=(SpectrumMeasured,), in_report=_weighed),
    Figure("directions-in-use", "Directions in use", "Which directions do past tasks use?", "room",
           (ConceptorMeasured,),
           lambda run, layer, task=None: conceptors.directions_in_use(
               [e for e in run.events(ConceptorMeasured) if task is None or e.clock.task <= task]
               or run.events(ConceptorMeasured), layer=layer, tasks=count(run)),
           controls=("layer", "task"), in_report=_at("layer", most_used), note=_MOST_USED),
    Figure("capacity-over-tasks", "Capacity over tasks", "How fast do layers fill?", "room", (ConceptorMeasured,),
           lambda run, layer: conceptors.capacity_over_tasks(run.events(ConceptorMeasured), layer=layer,
                                                             tasks=count(run)),
           controls=("layer",), in_report=_at("layer", most_used), note=_MOST_USED),
    Figure("shared-with-the-past", "Shared with past tasks", "How much do tasks share?", "room", (InputsSurveyed,),
           lambda run: conceptors.shared_with_the_past(run.events(InputsSurveyed), tasks=count(run))),

    Figure("movement", "How far each layer moved", "Which layers changed?", "updates", (UpdateMeasured,),
           lambda run: drift.movement(run.events(UpdateMeasured), of="prompts" if has_prompts(run) else "weights",
                                      tasks=count(run)), also=(PromptsDrifted,)),
    Figure("leak-of-updates", "Updates inside the protected space", "Did updates leave past inputs alone?", "updates",
           (UpdateMeasured, SpectrumMeasured),
           lambda run, space: updates.leak_of_updates(run.events(UpdateMeasured), run.events(SpectrumMeasured),
                                                      space=space, tasks=count(run)),
           controls=("space",), in_report=_spaces_told("leak")),
    Figure("update-residual", "What past inputs feel of updates", "Did updates leave past inputs alone?", "updates",
           (UpdateMeasured, SpectrumMeasured),
           lambda run, space: updates.update_residual(run.events(UpdateMeasured), space=space, tasks=count(run)),
           controls=("space",), in_report=_spaces_told("residual")),
    Figure("gains", "Factor on an update, free and protected", "How strict is the projection?", "updates",
           (SpectrumMeasured,),
           lambda run, space, task=None: updates.gains(run.events(SpectrumMeasured), space=space, task=task),
           controls=("space", "task"), in_report=_prompt_spaces),

    Figure("map-spectrum", "Singular values of one matrix", "Where did the newest task write?", "weights",
           (WeightSpectrumMeasured,),
           lambda run, name, task=None: weights.map_spectrum(run.events(WeightSpectrumMeasured), tasks(run), name=name,
                                                             task=task),
           controls=("name", "task"), in_report=_at("name", most_rewritten),
           note="The spectrum is that of the matrix moved most by the newest task."),
    Figure("movement-of-maps", "How far each matrix moved", "Which matrices changed?", "weights",
           (WeightSpectrumMeasured,),
           lambda run, task=None: weight_directions.movement_of_maps(run.events(WeightSpectrumMeasured), tasks(run),
                                                                     task=task), controls=("task",)),
    Figure("direction-split", "Directions of each matrix", "What may be written to?", "weights",
           (WeightSpectrumMeasured,),
           lambda run, task=None: weight_directions.direction_split(run.events(WeightSpectrumMeasured), tasks(run),
                                                                    task=task), controls=("task",)),
    Figure("change-against-principal", "Change inside the principal space", "Does a change touch what is strong?",
           "weights", (WeightSpectrumMeasured,),
           lambda run, task=None: weight_directions.change_against_principal(run.events(WeightSpectrumMeasured),
                                                                             tasks(run), task=task),
           controls=("task",), when=_placed),
    Figure("room-left", "Free directions of the weights over tasks", "How fast does the room run out?", "weights",
           (WeightSpectrumMeasured,),
           lambda run: weight_history.room_left(run.events(WeightSpectrumMeasured), tasks(run))),
    Figure("effective-rank", "Effective rank over tasks", "Do weights use more directions?", "weights",
           (WeightSpectrumMeasured,),
           lambda run: weight_history.effective_rank_over_tasks(run.events(WeightSpectrumMeasured), tasks(run))),
    Figure("drift-from-pretrained", "Distance from the pretrained weights", "How far have weights gone?", "weights",
           (WeightSpectrumMeasured,),
           lambda run: weight_history.drift_from_pretrained(run.events(WeightSpectrumMeasured), tasks(run))),

    Figure("attention-on-image", "Attention on one image", "What does the model attend to, before and after?",
           "attention", (AttentionCompared, ProbesChosen),
           lambda run, probe, image, layer, head, before, after: _attention_on_image(
               run, probe, image, layer, head, before, after),
           controls=("probe", "image", "layer", "head", "before", "after"), also=(TaskEnded,),
           in_report=lambda run: ()),
    Figure("consistency-by-layer", "Attention consistency by layer", "In which layer did attention change?",
           "attention", (AttentionCompared,),
           lambda run, probe, layer: attention.consistency_by_layer(
               run.events(AttentionCompared), probe_task=probe, tasks=count(run), layer=layer),
           controls=("probe", "layer"), when=_compared, in_report=_oldest_images, note=_MOST_CHANGED),
    Figure("consistency-over-tasks", "Attention consistency over tasks", "When did attention change?", "attention",
           (AttentionCompared,),
           lambda run, layer: attention.consistency_over_tasks(run.events(AttentionCompared), layer=layer,
                                                               tasks=count(run)),
           controls=("layer",), when=_compared, in_report=_at("layer", most_changed), note=_MOST_CHANGED),
    Figure("prompt-mass", "Attention paid to prompts", "Are prompts looked at?", "attention", (AttentionCompared,),
           lambda run, layer: attention.prompt_mass(run.events(AttentionCompared), tasks=count(run), layer=layer),
           controls=("layer",), when=_prompt_mass, in_report=_at("layer", most_changed), note=_MOST_CHANGED),
    Figure("feature-drift", "Feature drift", "How far did features of old images move?", "attention",
           (AttentionCompared,),
           lambda run: attention.feature_drift(run.events(AttentionCompared), tasks=count(run)), when=_compared),
    Figure("recorded-feature-drift", "Feature drift", "How far did features of old images move?", "attention",
           (FeaturesCompared,),
           lambda run: attention.feature_drift(run.events(FeaturesCompared), tasks=count(run))),
    Figure("prompt-paths", "Paths of the prompts", "Where did the prompts go?", "attention", (PromptsDrifted,),
           lambda run, layer, common_start=True: drift.prompt_paths(run.events(PromptsDrifted), layer=layer,
                                                                    tasks=count(run), common_start=common_start),
           controls=("layer", "common_start"), when=lambda run: run.count(PromptsDrifted) > 1,
           in_report=_at("layer", most_moved), note=_MOST_MOVED),
    Figure("prompt-statistics", "Mean and spread of the prompts", "Do prompts grow?", "attention", (PromptsDrifted,),
           lambda run, layer: drift.prompt_statistics(run.events(PromptsDrifted), layer=layer, tasks=count(run)),
           controls=("layer",), when=lambda run: run.count(PromptsDrifted) > 1, in_report=_at("layer", most_moved),
           note=_MOST_MOVED),
    Figure("statistics-drift", "Drift of the prompts, layer by task", "In which layer do prompts move?", "attention",
           (PromptsDrifted,),
           lambda run: drift.statistics_drift(run.events(PromptsDrifted), tasks=count(run)),
           when=lambda run: run.count(PromptsDrifted) > 1),

    Figure("selected-entries", "Prompts selected per class", "What do images take from the pool?", "pools",
           (SelectionMeasured,),
           lambda run, layer, task=None: selection.taken_entries(run.events(SelectionMeasured), tasks(run),
                                                                 layer=layer, task=task),
           controls=("layer", "task"), in_report=_at("layer", last_choice), note=_LAST_CHOICE),
    Figure("own-entry", "Own entries found", "Do images select their own entries?", "pools", (SelectionMeasured,),
           lambda run, layer: selection.own_entry_taken(run.events(SelectionMeasured), tasks(run), layer=layer),
           controls=("layer",), when=_owned, in_report=_at("layer", last_choice), note=_LAST_CHOICE),
    Figure("pool-use", "Use of the pool", "Are all entries used?", "pools", (SelectionMeasured,),
           lambda run, layer, task=None: selection.pool_use(run.events(SelectionMeasured), tasks(run), layer=layer,
                                                            task=task),
           controls=("layer", "task"), in_report=_at("layer", last_choice), note=_LAST_CHOICE),
    Figure("found-by-layer", "Own entries found, by layer", "In which layer is the right entry selected?", "pools",
           (SelectionMeasured,),
           lambda run: mixtures.found_by_layer(run.events(SelectionMeasured), tasks(run)), when=_several_layers_pick),

    Figure("embedding-spectra", "Spectra of the tasks' inputs", "How much space does a task take?", "subspaces",
           (SubspaceMeasured,),
           lambda run: subspaces.embedding_spectra(run.events(SubspaceMeasured), tasks(run))),
    Figure("overlap-map", "Overlap of tasks", "Which tasks share directions?", "subspaces", (SubspaceMeasured,),
           lambda run: subspaces.overlap_map(run.events(SubspaceMeasured), tasks(run))),
    Figure("space-budget", "Space used and left", "How fast does the space fill?", "subspaces", (SubspaceMeasured,),
           lambda run: subspaces.space_budget(run.events(SubspaceMeasured), tasks(run))),
    Figure("gradient-parts", "Parts of the gradient", "How much of a gradient is free?", "subspaces",
           (SubspaceMeasured,),
           lambda run: subspaces.gradient_parts(run.events(SubspaceMeasured), tasks(run))),
    Figure("leak-into-cores", "Updates inside earlier tasks' subspaces", "Do updates touch earlier tasks?",
           "subspaces", (SubspaceMeasured,),
           lambda run: subspaces.leak_into_cores(run.events(SubspaceMeasured), tasks(run))),
    Figure("forward-transfer", "Forward transfer", "Does learning help tasks to come?", "subspaces",
           (ForwardTransferMeasured,),
           lambda run: forward_transfer.forward_transfer(run.events(ForwardTransferMeasured), tasks(run))),
    Figure("transfer-against-overlap", "Forward transfer against overlap", "Do similar tasks help each other?",
           "subspaces", (SubspaceMeasured, ForwardTransferMeasured),
           lambda run: forward_transfer.transfer_against_overlap(
               run.events(SubspaceMeasured), run.events(ForwardTransferMeasured), tasks(run))),

    Figure("two-clouds", "Images and texts in the joint space", "How far apart are images and texts?", "gap",
           (ModalityGapMeasured,),
           lambda run, task=None: gap.two_clouds(run.events(ModalityGapMeasured), tasks(run), task=task),
           controls=("task",)),
    Figure("cosine-distributions", "Cosines of pairs", "Are matching pairs closer than others?", "gap",
           (ModalityGapMeasured,),
           lambda run, task=None: gap.cosine_distributions(run.events(ModalityGapMeasured), tasks(run), task=task),
           controls=("task",)),
    Figure("gap-over-tasks", "Gap over tasks", "Does the gap close or open?", "gap", (ModalityGapMeasured,),
           lambda run: gap.gap_over_tasks(run.events(ModalityGapMeasured), tasks(run))),
    Figure("retrieval", "Retrieval", "Do images still find their texts?", "gap", (ModalityGapMeasured,),
           lambda run: zero_shot_ability.retrieval(run.events(ModalityGapMeasured), tasks(run))),
    Figure("general-accuracy", "Zero-shot accuracy on general classes", "What is lost of general knowledge?", "gap",
           (ModalityGapMeasured,),
           lambda run: zero_shot_ability.general_accuracy(run.events(ModalityGapMeasured), tasks(run))),
    Figure("zero-shot-lost", "Zero-shot lost before learning", "What is lost before it is learned?", "gap",
           (AccuracyMeasured,),
           lambda run: zero_shot_ability.zero_shot_lost(run.events(AccuracyMeasured), tasks(run)),
           when=_lost_before_learning),
    Figure("domain-similarities", "Images against their class texts", "Do texts still separate classes?", "gap",
           (SimilaritiesMeasured,),
           lambda run, task=None: zero_shot_ability.domain_similarities(run.events(SimilaritiesMeasured), tasks(run),
                                                                        task=task), controls=("task",)),

    Figure("key-drift", "Keys over tasks", "Do keys stay where they were?", "mixtures", (KeysMoved,),
           lambda run: mixtures.key_drift(run.events(KeysMoved), tasks(run))),
    Figure("class-likeness", "Similarity of images of one class", "How similar are images of one class?", "mixtures",
           (IntraClassMeasured,),
           lambda run: mixtures.class_likeness(run.events(IntraClassMeasured), tasks(run))),
    Figure("residual-ratio", "What is added in each layer", "Which layers do prompts change?", "mixtures",
           (ResidualMeasured,),
           lambda run: mixtures.residual_ratio(run.events(ResidualMeasured), tasks(run))),
    Figure("mixture-fit", "Fit of the mixtures", "Does a mixture describe a class better than one Gaussian?",
           "mixtures", (MixtureFitted,),
           lambda run: mixtures.mixture_fit(run.events(MixtureFitted), tasks(run))),
    Figure("real-and-sampled", "Real and drawn features", "Do sampled features match real ones?", "mixtures",
           (MixtureFitted,),
           lambda run, label: mixtures.real_and_sampled(run.events(MixtureFitted), tasks(run), label=label),
           controls=("label",),
           in_report=_at("label", lambda run: list(mixtures.fitted_classes(run.events(MixtureFitted)))[-1]),
           note="Points are those of the newest class."),
)
# fmt: on

FIGURES = {figure.id: figure for figure in _ALL}


def _attention_on_image(
    run: Snapshot, probe: int, image: int, layer: int, head: int | None, before: int, after: int
) -> go.Figure:
    """Attention on image `image` of task `probe` after two tasks; head None = the mean of all."""
    found = next(event for event in run.events(ProbesChosen) if event.clock.task == probe)
    there = {event.clock.task: event for event in run.events(AttentionCompared) if event.probe_task == probe}
    ended = {event.clock.task for event in run.events(TaskEnded)}
    said = [f"after {task_name(t)}" if t in ended else f"in {task_name(t)}, so far" for t in (before, after)]
    plan = run.started()
    return attention.attention_on_image(
        found.images[image],
        *(attention.class_token_row(there[task], image=image, layer=layer, head=head) for task in (before, after)),
        grid=tuple(plan.backbone["patch_grid"]) if plan else (1, 1),  # type: ignore[arg-type]
        layer=layer,
        head=head,
        probe_task=probe,
        moments=(said[0], f"{said[1]}, the same" if before == after else said[1]),
        name=str(found.names[image]) if image < len(found.names) else "",
    )


# ---------------------------------------------------------------- of plug-ins


def plugged() -> dict[str, Figure]:
    """Figures registered by plug-ins, by id. Raises ConfigError if an id is already used above."""
    return {id: _plugged(id, entry) for id, entry in PLUGGED.items()}


@functools.cache
def _plugged(id: str, entry: Entry) -> Figure:
    if id in FIGURES:
        raise ConfigError(f"plug-in {entry.origin} brings a figure {id}, and there is one of that name; rename it")
    said: Drawing = imported(entry.target).drawing
    needs, also = (tuple(KINDS[name] for name in names) for names in (said.needs, said.also))

    def seen(run: Snapshot) -> Snapshot:
        return run.only(*needs, *also, *ALWAYS_READ)

    return Figure(
        id,
        said.title,
        entry.about,
        "other",
        needs,
        functools.partial(plugin_figures.draw, said, entry),
        controls=tuple(said.controls),
        also=also,
        when=lambda run: plugin_figures.has_what_it_draws(said, seen(run)),
        note=f"Drawn by the plug-in {entry.origin}.",
        origin=entry.origin,
        choices=lambda run: plugin_figures.attempt(said, lambda: plugin_figures.choices(said, seen(run)))[0] or {},
    )


# ---------------------------------------------------------------- all figures, and events without one


def unclaimed(run: Snapshot) -> list[type[Event]]:
    """Kinds of measured events that this run has and no figure reads, in the order of `KINDS`."""
    claimed = {kind for figure in FIGURES.values() for kind in figure.reads}
    return [kind for kind in run.kinds() if kind not in claimed and generic.measured(kind)]


def figures_of(run: Snapshot) -> dict[str, Figure]:
    """All figures of this run, by id: those above, plug-ins', and one for each value that none of the above reads."""
    found = {id: figure for id, figure in (FIGURES | plugged()).items() if figure.there(run)}
    for kind in unclaimed(run):
        for part in generic.parts(run.events(kind)):
            id, said = f"{kind.__name__}-{part}", generic.words(part)

            def draw(run: Snapshot, kind: type[Event] = kind, part: str = part) -> go.Figure:
                return generic.draw(run.events(kind), part, tasks=count(run))

            title = f"{generic.words(kind.__name__)}: {said}"
            found[id] = Figure(id, title, f"How does {said} develop?", "other", (kind,), draw)
    return found


def figure_of(run: Snapshot, id: str) -> Figure:
    """The entry with this id, including automatic figures of this run."""
    return FIGURES.get(id) or plugged().get(id) or figures_of(run)[id]


def contents(run: Snapshot) -> list[tuple[str, list[Figure]]]:
    """Contents of a report of this run: keys of `SECTIONS` with their figures, in order, without drawing them."""
    found = [figure for figure in figures_of(run).values() if any(True for _ in figure.in_report(run))]
    sections = [(key, [figure for figure in found if figure.section == key]) for key in SECTIONS]
    return [(key, figures) for key, figures in sections if figures]


def in_report(run: Snapshot, figure: Figure) -> Iterator[go.Figure]:
    """The report's versions of the figure, one for each choice; empty if there is nothing to draw."""
    for controls in figure.in_report(run):
        drawn = figure.shown(run, controls)
        if len(drawn.data) or plugin_figures.FAILED in drawn.layout.meta:
            yield drawn
