"""A run's events as tables: one row per measurement, or one row per index of one of its axes (layer, class, …).

Tasks, epochs, steps, layers, classes and images count from 1, as in the dashboard. 0 in `task` is before training, in
`layer` the whole network. Values that were not measured are empty.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from cl_core.events import (
    AccuracyMeasured,
    AttentionCompared,
    ConceptorMeasured,
    EpochEnded,
    EpochsChosen,
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
    PredictionsMade,
    ProbesChosen,
    PromptsDrifted,
    RefitMeasured,
    ResidualMeasured,
    RunStarted,
    SelectionMeasured,
    SimilaritiesMeasured,
    SpectrumMeasured,
    StageEnded,
    StepEnded,
    SubspaceMeasured,
    TaskEnded,
    TradeOffMeasured,
    UpdateMeasured,
    WeightSpectrumMeasured,
)
from cl_core.readouts import REFITTED
from cl_core.store import RunFolder, RunReader

Events = Mapping[type[Event], Sequence[Any]]
Row = dict[str, Any]

COUNTED = {"layer", "probe_task", "evaluated", "label"}  # fields that count from 0 in events
SHORT = {"losses": "loss", "learning_rates": "learning_rate", "label": "class", "evaluated": "evaluated_task"}


@dataclass(frozen=True)
class Table:
    """Columns of an exported table."""

    file: str
    about: str
    kind: type[Event]  # whose glossary explains the columns
    columns: dict[str, list[Any]]  # name → values of all rows

    def text(self) -> str:
        """Return the table as CSV (RFC 4180, UTF-8, decimal points)."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(zip(*map(_cells, self.columns.values()), strict=True))
        return out.getvalue()


@dataclass(frozen=True)
class Listing:
    """Conversion of events of one kind to a table."""

    file: str
    kind: type[Event]
    about: str
    fields: tuple[str, ...] = ()  # one column each; a dict becomes one column per key: loss_total
    lengths: tuple[tuple[str, str], ...] = ()  # (field, column with the field's length)
    along: str = ""  # axis of `each`: one row per index
    each: tuple[str, ...] = ()  # one-dimensional fields along the axis
    clock: tuple[str, ...] = ("task",)
    rows: Callable[[Events], Iterable[Row]] | None = None  # custom rows, if they are not a plain list of fields


def tables(events: Events) -> list[Table]:
    """Return the tables of all measured events."""
    found = []
    for listing in LISTINGS:
        if events.get(listing.kind):
            plain = not (listing.rows or listing.along)
            columns = _columns(listing, events[listing.kind]) if plain else _turned(_rows(listing, events))
            if columns:
                found.append(Table(listing.file, listing.about, listing.kind, columns))
    return found


def events_of(folder: RunFolder) -> dict[type[Event], list[Any]]:
    """Return all events of a run by kind, oldest first. Raises StoreError."""
    found: dict[type[Event], list[Any]] = {}
    with closing(RunReader(folder)) as reader:
        for stored in reader.since():
            found.setdefault(type(stored.event), []).append(stored.event)
    return found


def class_names(events: Events) -> list[str]:
    """Return names of all classes in order of arrival."""
    plans = events.get(RunStarted, ())
    return [str(name) for task in (plans[-1].tasks if plans else ()) for name in task.get("classes", ())]


# ---------------------------------------------------------------- rows


def _columns(listing: Listing, events: Sequence[Any]) -> dict[str, list[Any]]:
    """Build one row per event, column by column, which is fast for runs with events at every step."""
    found = {part: [getattr(event.clock, part) + 1 for event in events] for part in listing.clock}
    places: dict[str, tuple[int, int, int]] = {}  # column → (first row that has it, its field, its key)
    for field, name in enumerate(listing.fields):
        label, values = SHORT.get(name, name), [getattr(event, name) for event in events]
        tables = [value for value in values if isinstance(value, dict)]
        if len(tables) < len(values):
            found[label] = [None if isinstance(value, dict) else value for value in values]
            if name in COUNTED:
                found[label] = [value if value is None else value + 1 for value in found[label]]
            places[label] = (0, field, 0)
        if tables:
            if len(tables) < len(values):
                values = [value if isinstance(value, dict) else {} for value in values]
            firsts: dict[tuple[str, ...], int] = {}
            for row, value in enumerate(values):
                firsts.setdefault(tuple(value), row)
            for keys, row in firsts.items():
                for place, key in enumerate(keys):
                    if (column := f"{label}_{key}") not in places:
                        places[column] = (row, field, place)
                        found[column] = [value.get(key) for value in values]
    ordered = {name: found[name] for name in (*listing.clock, *sorted(places, key=lambda name: places[name]))}
    return ordered | {column: [len(getattr(e, name)) for e in events] for name, column in listing.lengths}


def _rows(listing: Listing, events: Events) -> Iterable[Row]:
    """Return custom rows, or one row per index of an axis."""
    if listing.rows:
        yield from listing.rows(events)
        return
    for event in events[listing.kind]:
        head = _clock(event, listing.clock)
        for name in listing.fields:
            value = getattr(event, name)
            head[SHORT.get(name, name)] = value + 1 if name in COUNTED and value is not None else value
        each = {name: getattr(event, name) for name in listing.each}
        for place in range(max(map(len, each.values()))):
            found = {name: values[place] if place < len(values) else None for name, values in each.items()}
            yield {**head, listing.along: place + 1, **found}


def _turned(rows: Iterable[Row]) -> dict[str, list[Any]]:
    """Convert rows to columns, in order of first appearance; None for missing values."""
    kept = list(rows)
    names: dict[str, None] = {}
    for row in kept:
        if not row.keys() <= names.keys():
            names.update(dict.fromkeys(row))
    return {name: [row.get(name) for row in kept] for name in names}


def _clock(event: Event, parts: Iterable[str]) -> Row:
    return {part: getattr(event.clock, part) + 1 for part in parts}


def _accuracy(events: Events) -> Iterable[Row]:
    plans = events.get(RunStarted, ())
    tasks = plans[-1].tasks if plans else []
    rows = [(event.readout, event) for event in events[AccuracyMeasured]]
    rows += [(REFITTED, event) for event in events.get(RefitMeasured, ())]
    for readout, event in rows:
        for j, percent in enumerate(event.row):
            if percent is not None:
                told = tasks[j] if j < len(tasks) else {}
                yield {
                    "readout": readout,
                    "after_task": event.clock.task + 1,
                    "evaluated_task": j + 1,
                    "evaluated_name": told.get("name", ""),
                    "evaluated_classes": "; ".join(map(str, told.get("classes", ()))),
                    "percent": percent,
                }


def _forward(events: Events) -> Iterable[Row]:
    for event in events[ForwardTransferMeasured]:
        for j, percent in enumerate(event.row):
            yield {"after_task": event.clock.task + 1, "evaluated_task": j + 1, "percent": percent}


def _predictions(events: Events) -> Iterable[Row]:
    names, probes = class_names(events), {event.clock.task: event for event in events.get(ProbesChosen, ())}

    def name(k: int) -> str:
        return names[k] if 0 <= k < len(names) else ""

    for event in events[PredictionsMade]:
        labels = probes[event.evaluated].labels if event.evaluated in probes else None
        for i, (predicted, margin) in enumerate(zip(event.predicted, event.margin, strict=True)):
            true = int(labels[i]) if labels is not None and i < len(labels) else None
            yield {
                "task": event.clock.task + 1,
                "evaluated_task": event.evaluated + 1,
                "image": i + 1,
                "true_class": None if true is None else true + 1,
                "true_name": "" if true is None else name(true),
                "predicted_class": int(predicted) + 1,
                "predicted_name": name(int(predicted)),
                "margin": margin,
            }


def _answers(events: Events) -> Iterable[Row]:
    """Yield one row per image, task and readout; images are numbered among the task's test images."""
    names, stored = class_names(events), {event.clock.task: event for event in events.get(ImagesStored, ())}

    def name(k: int) -> str:
        return names[k] if 0 <= k < len(names) else ""

    for event in events[ImagesClassified]:
        images = stored.get(event.evaluated)
        if images is None:
            continue
        head = {"task": event.clock.task + 1, "evaluated_task": event.evaluated + 1}
        for readout, predicted, margins in zip(event.readouts, event.predicted, event.margins, strict=True):
            for row, true, said, margin in zip(images.rows, images.labels, predicted, margins, strict=False):
                yield {
                    **head,
                    "image": int(row) + 1,
                    "readout": readout,
                    "true_class": int(true) + 1,
                    "true_name": name(int(true)),
                    "predicted_class": int(said) + 1,
                    "predicted_name": name(int(said)),
                    "margin": margin,
                }


def _prompts(events: Events) -> Iterable[Row]:
    """Yield one row per prompt and time, with its distance from its position at the start of the task, ‖p − p_then‖."""
    then, task, newest = None, None, None
    for event in events[PromptsDrifted]:
        if event.clock.task != task:
            task, then = event.clock.task, newest
        newest = np.asarray(event.prompts, dtype=np.float32)
        moved = None
        if then is not None and then.shape == newest.shape:
            moved = np.linalg.norm(newest - then, axis=-1)
        for layer, means in enumerate(event.means):
            for m, mean in enumerate(means):
                yield {
                    **_clock(event, ("task", "epoch")),
                    "layer": layer + 1,
                    "prompt": m + 1,
                    "mean": mean,
                    "standard_deviation": event.deviations[layer][m],
                    "moved_this_task": None if moved is None else moved[layer][m],
                }


def _subspaces(events: Events) -> Iterable[Row]:
    for event in events[SubspaceMeasured]:
        head = {**_clock(event, ("task",)), "layer": event.layer + 1}
        for other, (overlap, chance) in enumerate(zip(event.overlap, event.chance, strict=True)):
            row = {**head, "other_task": other, "overlap": overlap, "chance": chance}
            if other and len(event.leak) == len(event.overlap) - 1:
                row |= {"leak": event.leak[other - 1], "leak_chance": event.leak_chance[other - 1]}
            yield row


def _stages(events: Events) -> Iterable[Row]:
    for event in events[StageEnded]:
        for part, values in event.losses.items():
            for epoch, value in enumerate(values):
                head = {**_clock(event, ("task",)), "stage": event.stage, "epoch": epoch + 1, "part": part}
                yield {**head, "loss": value, "stage_seconds": event.seconds}


def _rehearsal(events: Events) -> Iterable[Row]:
    for event in events[EpochsChosen]:
        for epoch, (similarity, positive) in enumerate(zip(event.similarity, event.positive, strict=True)):
            head = {"chosen_epochs": event.epochs, "threshold": event.threshold, "rehearsed_epochs": epoch}
            yield {**head, "similarity": similarity, "positive": positive}


def _classes(events: Events) -> Iterable[Row]:
    number = 0
    if not events.get(AccuracyMeasured):  # the plan alone is not a measurement
        return
    for index, task in enumerate(events[RunStarted][-1].tasks):
        for name in task.get("classes", ()):
            number += 1
            yield {"class": number, "name": name, "task": index + 1, "task_name": task.get("name", "")}


LISTINGS: tuple[Listing, ...] = (
    Listing(
        "classes.csv",
        RunStarted,
        "every class with its number in the other files, in order of arrival, and its task",
        rows=_classes,
    ),
    Listing(
        "accuracy.csv",
        AccuracyMeasured,
        "every measured cell of every accuracy matrix, in percent; after_task 0 = before training",
        rows=_accuracy,
    ),
    Listing(
        "forward_transfer.csv",
        ForwardTransferMeasured,
        "accuracy of an untrained probe on every task, including future ones, in percent",
        rows=_forward,
    ),
    Listing(
        "predictions.csv",
        PredictionsMade,
        "prediction and margin for each probe image after each task",
        rows=_predictions,
    ),
    Listing(
        "image_answers.csv",
        ImagesClassified,
        "prediction and margin of every readout for each stored test image after each task (0: before training)",
        rows=_answers,
    ),
    Listing(
        "steps.csv",
        StepEnded,
        "every optimiser step: losses, learning rates, size of the step before and after projection",
        ("losses", "learning_rates", "proposed_norm", "applied_norm", "batch_accuracy", "seconds"),
        clock=("task", "epoch", "step"),
    ),
    Listing(
        "epochs.csv", EpochEnded, "means over each epoch", ("losses", "batch_accuracy"), clock=("task", "epoch", "step")
    ),
    Listing(
        "old_tasks.csv",
        OldTasksMeasured,
        "a few images of earlier tasks directly after steps of new tasks",
        ("images", "accuracy", "loss", "every"),
        clock=("task", "epoch", "step"),
    ),
    Listing("tasks.csv", TaskEnded, "time and memory of each task", ("seconds", "kept_bytes")),
    Listing("stages.csv", StageEnded, "losses of stages outside the optimiser steps", rows=_stages),
    Listing("rehearsal.csv", EpochsChosen, "how the number of epochs was chosen", rows=_rehearsal),
    Listing(
        "spectra.csv",
        SpectrumMeasured,
        "one row per spectrum of a second moment; its eigenvalues are in spectra.npz",
        (
            "layer",
            "space",
            "nullity",
            "rule",
            "used",
            "protected_energy",
            "effective_rank",
            "gain_free",
            "gain_protected",
        ),
        lengths=(("eigenvalues", "directions"),),
    ),
    Listing(
        "updates.csv",
        UpdateMeasured,
        "how far each layer moved in a task, and how much of that is in directions of past tasks",
        ("layer", "movement", "residual", "isotropic", "leak"),
    ),
    Listing(
        "weights.csv",
        WeightSpectrumMeasured,
        "one row per weight matrix; its singular values are in spectra.npz",
        tuple(f.name for f in fields(WeightSpectrumMeasured) if f.name not in ("clock", "before", "after")),
        lengths=(("before", "directions"),),
    ),
    Listing(
        "subspaces.csv",
        SubspaceMeasured,
        "one row per task's core of input embeddings (task 0: pre-training); its eigenvalues are in spectra.npz",
        ("layer", "energy", "rank", "effective_rank", "budget", "gradient", "kept", "projection", "source"),
        lengths=(("eigenvalues", "directions"),),
    ),
    Listing(
        "subspace_overlaps.csv",
        SubspaceMeasured,
        "overlap of a task's core with each earlier one (other_task 0: pre-training), and the change along it",
        rows=_subspaces,
    ),
    Listing(
        "conceptors.csv",
        ConceptorMeasured,
        "one row per conceptor; its eigenvalues are in spectra.npz",
        ("layer", "capacity", "own", "aperture", "threshold"),
    ),
    Listing(
        "trade_offs.csv",
        TradeOffMeasured,
        "trade-off between stability and plasticity",
        ("layer", "space", "protected"),
    ),
    Listing(
        "inputs_surveyed.csv",
        InputsSurveyed,
        "overlap of a future task's inputs with past tasks",
        ("layer", "capacity", "shared", "threshold"),
    ),
    Listing(
        "attention_consistency.csv",
        AttentionCompared,
        "how far attention on old tasks' probe images has changed, layer by layer",
        ("probe_task", "feature_drift"),
        along="layer",
        each=("total_variation_local", "total_variation", "output_drift", "prompt_mass"),
        clock=("task", "epoch", "step"),
    ),
    Listing(
        "feature_drift.csv",
        FeaturesCompared,
        "how far the features of old tasks' probe images have moved",
        ("probe_task", "feature_drift", "output_drift"),
    ),
    Listing(
        "prompt_drift.csv",
        PromptsDrifted,
        "mean, spread and distance moved of every prompt token, epoch by epoch",
        rows=_prompts,
    ),
    Listing(
        "selection.csv",
        SelectionMeasured,
        "how often images selected their own entries; the shares of all entries are in selection.npz",
        ("layer", "of", "accuracy"),
    ),
    Listing(
        "keys.csv",
        KeysMoved,
        "how far each class's key has moved",
        along="class",
        each=("kept", "learned", "nearest"),
    ),
    Listing(
        "class_likeness.csv",
        IntraClassMeasured,
        "similarity of images of one class; class counts within the task",
        ("space", "nearest_mean"),
        along="class",
        each=("concentration", "within", "between"),
    ),
    Listing(
        "residuals.csv", ResidualMeasured, "how much is added in each layer", along="layer", each=("ratio", "stream")
    ),
    Listing(
        "mixtures.csv",
        MixtureFitted,
        "how well stored mixtures represent the features of a class",
        ("label", "components", "mixture", "gaussian", "shown"),
    ),
    Listing(
        "gap.csv",
        ModalityGapMeasured,
        "images and captions in the joint space after every task (0: before training)",
        (
            "length",
            "direction",
            "image_mean",
            "text_mean",
            "paired_distance",
            "positive_mean",
            "negative_mean",
            "separation",
            "auc",
            "linear_probe",
            "image_to_text",
            "text_to_image",
            "pairs",
            "general_accuracy",
        ),
    ),
    Listing(
        "similarities.csv",
        SimilaritiesMeasured,
        "images of each task compared with the texts of its classes",
        ("evaluated", "positive", "negative", "gap"),
    ),
    Listing(
        "settings_turned.csv",
        KnobTurned,
        "settings changed during the run",
        ("name", "old", "new"),
        clock=("task", "epoch", "step"),
    ),
)
"""All tables that a run can export, one entry per file. Files of kinds that a run did not measure are not written."""


# ---------------------------------------------------------------- arrays


def spectra(events: Events) -> dict[str, np.ndarray]:
    """Return eigenvalues, singular values and values along them, with names such as moments/T1/layer3/affinity."""
    found: dict[str, np.ndarray] = {}
    for kind, family, parts in _SPECTRA:
        for event in events.get(kind, ()):
            place = [family, f"T{event.clock.task + 1}"]
            place += [f"layer{event.layer + 1}"] if hasattr(event, "layer") else []
            place += [str(getattr(event, name)).replace("/", "_") for name in ("space", "name") if hasattr(event, name)]
            for part in parts:
                found["/".join([*place, part])] = np.asarray(getattr(event, part))
    return found


_SPECTRA: tuple[tuple[type[Event], str, tuple[str, ...]], ...] = (
    (SpectrumMeasured, "moments", ("eigenvalues",)),
    (WeightSpectrumMeasured, "weights", ("before", "after")),
    (SubspaceMeasured, "subspaces", ("eigenvalues", "angles")),
    (ConceptorMeasured, "conceptors", ("eigenvalues",)),
    (TradeOffMeasured, "trade-offs", ("stability_loss", "plasticity_gain")),
)


def selection(events: Events) -> dict[str, np.ndarray]:
    """Return [C, E] shares of entries selected by classes, and the entries' owners: names such as T1/layer3/counts."""
    found: dict[str, np.ndarray] = {}
    for event in events.get(SelectionMeasured, ()):
        place = f"T{event.clock.task + 1}/layer{event.layer + 1}"
        found[f"{place}/counts"] = np.asarray(event.counts)
        found[f"{place}/owners"] = np.asarray(event.owners, dtype=np.int64) + 1
    return found


def prompts(events: Events) -> dict[str, np.ndarray]:
    """Return [L, M, d] prompt tokens at every stored time, with names such as T1/epoch2 (T0: before training)."""
    return {
        f"T{event.clock.task + 1}/epoch{event.clock.epoch + 1}": np.asarray(event.prompts)
        for event in events.get(PromptsDrifted, ())
    }


ARRAYS: dict[str, tuple[str, Callable[[Events], dict[str, np.ndarray]]]] = {
    "spectra.npz": (
        "eigenvalues (= squared singular values) of moments and conceptors, singular values of weights, and what "
        "belongs to each of them; keys FAMILY/TASK/LAYER/SPACE/PART",
        spectra,
    ),
    "selection.npz": (
        "[class, entry] shares of entries selected by images; owners: class or task, 0 = none",
        selection,
    ),
    "prompts.npz": ("[layer, prompt, channel] prompt tokens, float16, as stored after every epoch", prompts),
}


_WRITTEN = {int, str, type(None), float}  # written by csv as required: repr, and an empty cell for None


def _cells(values: list[Any]) -> list[Any]:
    """Convert a column's values to cells; most columns, by a quick check, need no change."""
    kinds = set(map(type, values))
    if kinds <= _WRITTEN and (float not in kinds or math.isfinite(sum(v for v in values if type(v) is float))):
        return values
    return [_cell(value) for value in values]


def _cell(value: Any) -> Any:
    """Convert a value to a cell: empty if not measured, else the shortest text that reproduces the number."""
    kind = value.__class__
    if kind is float:
        return value if -math.inf < value < math.inf else ""
    if kind is str or kind is int:
        return value
    if value is None or (isinstance(value, np.floating) and not math.isfinite(value)):
        return ""
    return str(value)
