"""Which figures a report holds: section → parts, each drawn only where the run has what it shows.

A part names the kind of event it needs; `when` says more where events alone do not decide. Figures that choose one
layer, space or matrix out of many say which under `note`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cl_core.events import (
    AccuracyMeasured,
    AttentionCompared,
    ConceptorMeasured,
    Event,
    FeaturesCompared,
    ForwardTransferMeasured,
    InputsSurveyed,
    IntraClassMeasured,
    KeysMoved,
    MixtureFitted,
    ModalityGapMeasured,
    PromptsDrifted,
    ResidualMeasured,
    SelectionMeasured,
    SimilaritiesMeasured,
    SpectrumMeasured,
    StepEnded,
    SubspaceMeasured,
    TaskEnded,
    TradeOffMeasured,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from dashboard.tail import Log

if TYPE_CHECKING:
    import plotly.graph_objects as go

Figures = Iterable["go.Figure"]


@dataclass(frozen=True)
class Part:
    """Figures that belong together."""

    title: str  # as the list of contents of a report to come says it
    kind: type[Event]
    draw: Callable[[Log], Figures]
    when: Callable[[Log], bool] = lambda log: True
    note: str = ""  # how what is shown was chosen

    def there(self, log: Log) -> bool:
        """Whether this run has it, without drawing it."""
        return bool(log.of(self.kind)) and self.when(log)


@dataclass(frozen=True)
class Section:
    """A chapter of the report."""

    key: str
    title: str
    parts: tuple[Part, ...]


def contents(log: Log) -> list[tuple[Section, list[Part]]]:
    """What a report of this run will hold, in order."""
    found = [(section, [part for part in section.parts if part.there(log)]) for section in SECTIONS]
    return [(section, parts) for section, parts in found if parts]


# ---------------------------------------------------------------- what parts ask of a run


def _tasks(log: Log) -> list[dict[str, Any]]:
    plan = log.started()
    return list(plan.tasks) if plan else []


def _count(log: Log) -> int | None:
    return len(_tasks(log)) or None


def _stages(log: Log) -> int | None:
    plan = log.started()
    return plan.trained_tasks if plan else None


def _steps(log: Log) -> int | None:
    plan = log.started()
    return plan.total_steps if plan else None


def _measured(log: Log) -> bool:
    """Whether a row of a matrix was measured after training, or before it."""
    return any(value is not None for event in log.events(AccuracyMeasured) for value in event.row)


def _several_stages(log: Log) -> bool:
    return _stages(log) != 1 and any(event.clock.task >= 0 for event in log.events(AccuracyMeasured))


def _prompt_spaces(log: Log, *, prompts: bool) -> list[str]:
    from dashboard.figures.readings import spaces
    from dashboard.figures.spectra import PROMPT_SPACES

    return [s for s in spaces(log.events(SpectrumMeasured)) if (s in PROMPT_SPACES) == prompts]


def _spaces(log: Log) -> list[str]:
    return [*_prompt_spaces(log, prompts=True), *_prompt_spaces(log, prompts=False)]


def _layers(log: Log, space: str) -> set[int]:
    return {event.layer for event in log.events(SpectrumMeasured) if event.space == space}


def tightest(log: Log, space: str) -> int:
    """The layer with the smallest share of directions left at the newest moment."""
    found = [event for event in log.events(SpectrumMeasured) if event.space == space]
    newest = [event for event in found if event.clock.task == found[-1].clock.task]
    return min(newest, key=lambda e: (e.nullity / len(e.eigenvalues), e.layer)).layer


def most_moved(log: Log) -> int:
    """The layer whose prompts are furthest from where they began."""
    drifted = log.events(PromptsDrifted)
    first, last = (np.asarray(event.prompts, dtype=np.float32) for event in (drifted[0], drifted[-1]))
    way = np.linalg.norm((last - first).reshape(len(last), -1), axis=1)
    return int(np.argmax(way))


def most_changed(log: Log) -> int:
    """The layer in which attention on the oldest images has changed most."""
    from dashboard.figures.readings import compared_later

    later = compared_later(log.events(AttentionCompared))
    return int(np.argmax(np.nan_to_num(np.asarray(later[-1].total_variation, dtype=np.float32))))


def _compared_later(log: Log) -> bool:
    from dashboard.figures.readings import compared_later

    return bool(compared_later(log.events(AttentionCompared)))


def most_rewritten(log: Log) -> str:
    """The matrix that the newest task moved most."""
    found = log.events(WeightSpectrumMeasured)
    newest = [event for event in found if event.clock.task == found[-1].clock.task]
    return max(newest, key=lambda event: event.movement).name


def last_choice(log: Log) -> int:
    """The last layer that picks from a pool."""
    from dashboard.figures.selection import layers

    return max(layers(log.events(SelectionMeasured)))


def _owned(log: Log) -> bool:
    return any(event.of for event in log.events(SelectionMeasured))


# ---------------------------------------------------------------- figures


def _accuracy_matrix(log: Log) -> Figures:
    from dashboard.figures.accuracy import accuracy_matrix

    yield accuracy_matrix(log.events(AccuracyMeasured), stages=_stages(log), tasks=_tasks(log))


def _accuracy_over_time(log: Log) -> Figures:
    from dashboard.figures.accuracy import accuracy_over_time, learned_and_kept

    measured = log.events(AccuracyMeasured)
    yield accuracy_over_time(measured, stages=_stages(log), tasks=_tasks(log))
    yield learned_and_kept(measured, stages=_stages(log))


def _several_readouts(log: Log) -> bool:
    from dashboard.figures.readings import readouts

    return len(readouts(log.events(AccuracyMeasured))) > 1


def _readouts(log: Log) -> Figures:
    from dashboard.figures.readouts import readout_bars, readout_comparison

    yield readout_comparison(log.events(AccuracyMeasured), stages=_stages(log))
    yield readout_bars(log.events(AccuracyMeasured), stages=_stages(log))


def _losses(log: Log) -> Figures:
    from dashboard.figures.training import batch_accuracy, losses

    yield losses(log.events(StepEnded), tasks=_count(log), total_steps=_steps(log))
    if any(event.batch_accuracy is not None for event in log.events(StepEnded)):  # a recorded loop may not say it
        yield batch_accuracy(log.events(StepEnded), tasks=_count(log), total_steps=_steps(log))


def _let_through(log: Log) -> Figures:
    from dashboard.figures.training import update_norms
    from dashboard.figures.updates import kept_share

    yield update_norms(log.events(StepEnded), total_steps=_steps(log))
    if not _prompt_spaces(log, prompts=True) and log.of(SpectrumMeasured):
        yield kept_share(log.events(StepEnded), log.events(SpectrumMeasured), total_steps=_steps(log))


def _timed(log: Log) -> bool:
    """Whether the seconds of a task are known; those of imported results are not."""
    return any(event.seconds is not None for event in log.events(TaskEnded))


def _time(log: Log) -> Figures:
    from dashboard.figures.training import time_and_memory

    yield time_and_memory(log.events(TaskEnded), tasks=_count(log))


def _room(log: Log) -> Figures:
    from dashboard.figures import room

    measured = log.events(SpectrumMeasured)
    for space in _prompt_spaces(log, prompts=True):
        yield room.nullity_map(measured, space=space, tasks=_count(log))
    features = _prompt_spaces(log, prompts=False)
    if features:
        yield room.free_directions([e for e in measured if e.space in features], tasks=_count(log))
    for space in _spaces(log):
        yield room.directions_left(measured, space=space, layer=tightest(log, space), tasks=_count(log))


def _spectra(log: Log) -> Figures:
    from dashboard.figures import spectra

    measured = log.events(SpectrumMeasured)
    for space in _spaces(log):
        chosen = {"layer": tightest(log, space), "space": space, "tasks": _count(log)}
        yield spectra.spectrum_decay(measured, **chosen)
        yield spectra.energy_kept(measured, **chosen)
        if len(_layers(log, space)) > 1:
            yield spectra.spectrum_facets(measured, space=space, layer=chosen["layer"], tasks=_count(log))


def _weighed(log: Log) -> Figures:
    from dashboard.figures.conceptors import trade_off

    weighed = log.events(TradeOffMeasured)
    for space in dict.fromkeys(event.space for event in weighed):
        there = [event.layer for event in weighed if event.space == space]
        layer = tightest(log, space) if space in _spaces(log) else there[-1]
        task = max(event.clock.task for event in weighed if event.space == space)
        yield trade_off(
            weighed, space=space, layer=layer if layer in there else there[-1], task=task, tasks=_count(log)
        )


def _moved(log: Log) -> Figures:
    from dashboard.figures.drift import movement

    of = "prompts" if log.of(PromptsDrifted) or not log.config or not log.config.diagnostics.drift else "weights"
    yield movement(log.events(UpdateMeasured), of=of, tasks=_count(log))


def _where_updates_went(log: Log) -> Figures:
    from dashboard.figures.updates import leak_of_updates, update_residual

    updates, measured = log.events(UpdateMeasured), log.events(SpectrumMeasured)
    for space in _spaces(log):
        if any(event.leak.get(space) is not None for event in updates):
            yield leak_of_updates(updates, measured, space=space, tasks=_count(log))
        if any(event.residual.get(space) is not None for event in updates):
            yield update_residual(updates, space=space, tasks=_count(log))


def _updates_told(log: Log) -> bool:
    spaces = _spaces(log)
    return any(
        part.get(space) is not None
        for event in log.events(UpdateMeasured)
        for part in (event.leak, event.residual)
        for space in spaces
    )


def _gains(log: Log) -> Figures:
    from dashboard.figures.updates import gains

    for space in _prompt_spaces(log, prompts=True):
        yield gains(log.events(SpectrumMeasured), space=space)


def _weights_now(log: Log) -> Figures:
    from dashboard.figures import weight_directions, weights

    measured, tasks = log.events(WeightSpectrumMeasured), _tasks(log)
    yield weights.map_spectrum(measured, tasks, name=most_rewritten(log))
    yield weight_directions.movement_of_maps(measured, tasks)
    yield weight_directions.direction_split(measured, tasks)
    yield weight_directions.change_against_principal(measured, tasks)


def _weights_over_tasks(log: Log) -> Figures:
    from dashboard.figures import weight_history

    measured, tasks = log.events(WeightSpectrumMeasured), _tasks(log)
    yield weight_history.room_left(measured, tasks)
    yield weight_history.effective_rank_over_tasks(measured, tasks)
    yield weight_history.drift_from_pretrained(measured, tasks)


def _consistency(log: Log) -> Figures:
    from dashboard.figures import attention
    from dashboard.figures.readings import compared_later

    compared, layer = log.events(AttentionCompared), most_changed(log)
    oldest = min(event.probe_task for event in compared_later(compared))
    yield attention.consistency_by_layer(compared, probe_task=oldest, tasks=_count(log), layer=layer)
    yield attention.consistency_over_tasks(compared, layer=layer, tasks=_count(log))
    if any(share > 0 for event in compared for share in event.prompt_mass):
        yield attention.prompt_mass(compared, tasks=_count(log), layer=layer)
    yield attention.feature_drift(compared, tasks=_count(log))


def _feature_drift(log: Log) -> Figures:
    from dashboard.figures.attention import feature_drift

    yield feature_drift(log.events(FeaturesCompared), tasks=_count(log))


def _drift(log: Log) -> Figures:
    from dashboard.figures import drift

    drifted, layer = log.events(PromptsDrifted), most_moved(log)
    yield drift.prompt_paths(drifted, layer=layer, tasks=_count(log))
    yield drift.prompt_statistics(drifted, layer=layer, tasks=_count(log))
    yield drift.statistics_drift(drifted, tasks=_count(log))


def _pools(log: Log) -> Figures:
    from dashboard.figures import mixtures, selection

    measured, tasks, layer = log.events(SelectionMeasured), _tasks(log), last_choice(log)
    yield selection.taken_entries(measured, tasks, layer=layer)
    if _owned(log):
        yield selection.own_entry_taken(measured, tasks, layer=layer)
    yield selection.pool_use(measured, tasks, layer=layer)
    if _owned(log) and len(selection.layers(measured)) > 1:
        yield mixtures.found_by_layer(measured, tasks)


def _keys(log: Log) -> Figures:
    from dashboard.figures.mixtures import key_drift

    yield key_drift(log.events(KeysMoved), _tasks(log))


def _likeness(log: Log) -> Figures:
    from dashboard.figures.mixtures import class_likeness

    yield class_likeness(log.events(IntraClassMeasured), _tasks(log))


def _added(log: Log) -> Figures:
    from dashboard.figures.mixtures import residual_ratio

    yield residual_ratio(log.events(ResidualMeasured), _tasks(log))


def _mixtures(log: Log) -> Figures:
    from dashboard.figures import mixtures

    fits = log.events(MixtureFitted)
    yield mixtures.mixture_fit(fits, _tasks(log))
    yield mixtures.real_and_sampled(fits, _tasks(log), label=list(mixtures.fitted_classes(fits))[-1])


def _subspaces(log: Log) -> Figures:
    from dashboard.figures import subspaces

    measured, tasks = log.events(SubspaceMeasured), _tasks(log)
    yield subspaces.embedding_spectra(measured, tasks)
    yield subspaces.overlap_map(measured, tasks)
    yield subspaces.space_budget(measured, tasks)
    yield subspaces.gradient_parts(measured, tasks)
    yield subspaces.leak_into_cores(measured, tasks)


def _forward(log: Log) -> Figures:
    from dashboard.figures import forward_transfer

    probed, measured = log.events(ForwardTransferMeasured), log.events(SubspaceMeasured)
    yield forward_transfer.forward_transfer(probed, _tasks(log))
    if measured:
        yield forward_transfer.transfer_against_overlap(measured, probed, _tasks(log))


def _conceptors(log: Log) -> Figures:
    from dashboard.figures import conceptors

    measured = log.events(ConceptorMeasured)
    newest = [event for event in measured if event.clock.task == measured[-1].clock.task]
    layer = max(newest, key=lambda event: event.capacity).layer
    yield conceptors.directions_in_use(measured, layer=layer, tasks=_count(log))
    yield conceptors.capacity_over_tasks(measured, layer=layer, tasks=_count(log))


def _surveyed(log: Log) -> Figures:
    from dashboard.figures.conceptors import shared_with_the_past

    yield shared_with_the_past(log.events(InputsSurveyed), tasks=_count(log))


def _joint_space(log: Log) -> Figures:
    from dashboard.figures import gap, zero_shot_ability

    measured, tasks = log.events(ModalityGapMeasured), _tasks(log)
    yield gap.two_clouds(measured, tasks)
    yield gap.cosine_distributions(measured, tasks)
    yield gap.gap_over_tasks(measured, tasks)
    yield zero_shot_ability.retrieval(measured, tasks)
    yield zero_shot_ability.general_accuracy(measured, tasks)


def _asked_before_learning(log: Log) -> bool:
    from dashboard.figures.readings import zero_shot
    from dashboard.figures.zero_shot_ability import lost_before_learning

    measured = log.events(AccuracyMeasured)
    return zero_shot(measured) is not None and bool(np.isfinite(lost_before_learning(measured)).any())


def _zero_shot(log: Log) -> Figures:
    from dashboard.figures.zero_shot_ability import zero_shot_lost

    yield zero_shot_lost(log.events(AccuracyMeasured), _tasks(log))


def _domains(log: Log) -> Figures:
    from dashboard.figures.zero_shot_ability import domain_similarities

    yield domain_similarities(log.events(SimilaritiesMeasured), _tasks(log))


_TIGHTEST = "One layer is drawn in full: the one with the smallest share of directions left."

SECTIONS: tuple[Section, ...] = (
    Section(
        "accuracy",
        "Accuracy",
        (
            Part("Accuracy matrix", AccuracyMeasured, _accuracy_matrix, _measured),
            Part("Accuracy over time, learned and kept", AccuracyMeasured, _accuracy_over_time, _several_stages),
            Part("Readouts compared", AccuracyMeasured, _readouts, _several_readouts),
        ),
    ),
    Section(
        "training",
        "Training",
        (
            Part("Losses and accuracy on training batches", StepEnded, _losses),
            Part(
                "What gets through of each step",
                StepEnded,
                _let_through,
                lambda log: any(event.proposed_norm for event in log.events(StepEnded)),
            ),
            Part("Time and memory", TaskEnded, _time, _timed),
        ),
    ),
    Section(
        "room",
        "Spectra and room to learn",
        (
            Part("Directions left free", SpectrumMeasured, _room, note=_TIGHTEST),
            Part("Spectra and the energy kept", SpectrumMeasured, _spectra, note=_TIGHTEST),
            Part("Stability against plasticity of each cut", TradeOffMeasured, _weighed),
            Part(
                "Directions in use",
                ConceptorMeasured,
                _conceptors,
                note="One layer is drawn in full: the one most in use.",
            ),
            Part("What tasks share with the past", InputsSurveyed, _surveyed),
        ),
    ),
    Section(
        "updates",
        "What became of the updates",
        (
            Part("How far each layer moved", UpdateMeasured, _moved),
            Part("Where the updates went", UpdateMeasured, _where_updates_went, _updates_told),
            Part(
                "Factor on an update, free and protected",
                SpectrumMeasured,
                _gains,
                lambda log: bool(_prompt_spaces(log, prompts=True)),
            ),
        ),
    ),
    Section(
        "weights",
        "Weights",
        (
            Part(
                "Singular values and the newest task's change",
                WeightSpectrumMeasured,
                _weights_now,
                note="The spectrum is that of the matrix which the newest task moved most.",
            ),
            Part("Weights from task to task", WeightSpectrumMeasured, _weights_over_tasks),
        ),
    ),
    Section(
        "attention",
        "Attention and prompts",
        (
            Part(
                "Attention consistency and feature drift",
                AttentionCompared,
                _consistency,
                _compared_later,
                note="Images are those of the oldest task, the layer is the one whose attention changed most.",
            ),
            Part("Feature drift", FeaturesCompared, _feature_drift),
            Part(
                "Where the prompts went",
                PromptsDrifted,
                _drift,
                lambda log: len(log.of(PromptsDrifted)) > 1,
                note="Paths are those of the layer whose prompts moved furthest.",
            ),
        ),
    ),
    Section(
        "pools",
        "Prompt pools",
        (
            Part(
                "What pictures took, own entries, use of the pool",
                SelectionMeasured,
                _pools,
                note="Where several layers pick, the last of them is drawn.",
            ),
        ),
    ),
    Section(
        "subspaces",
        "Subspaces of tasks",
        (
            Part("Cores, their overlap and the space left", SubspaceMeasured, _subspaces),
            Part("Tasks still to come", ForwardTransferMeasured, _forward),
        ),
    ),
    Section(
        "gap",
        "Gap and zero-shot",
        (
            Part("Pictures and captions in the joint space", ModalityGapMeasured, _joint_space),
            Part("Zero-shot lost before learning", AccuracyMeasured, _zero_shot, _asked_before_learning),
            Part("Pictures against their class texts", SimilaritiesMeasured, _domains),
        ),
    ),
    Section(
        "mixtures",
        "Keys and mixtures",
        (
            Part("Keys of the classes", KeysMoved, _keys),
            Part("How alike images of one class look", IntraClassMeasured, _likeness),
            Part("What is added in each layer", ResidualMeasured, _added),
            Part("Mixtures and what they draw", MixtureFitted, _mixtures, note="Points are those of the newest class."),
        ),
    ),
)


def figures(log: Log, part: Part) -> Iterator[go.Figure]:
    """A part's figures, with settings that were turned on the way marked; one without anything to draw is left out."""
    from cl_core.events import KnobTurned
    from dashboard.figures.lines import mark_turned

    turned = log.events(KnobTurned)
    for figure in part.draw(log):
        if len(figure.data):
            if turned:
                mark_turned(figure, turned)
            yield figure
