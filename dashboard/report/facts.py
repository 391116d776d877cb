"""Texts and numbers of a report: model, data, final state, settings and warnings.

Absolute paths in a run's texts are reduced to names here (`cl_core.export.redact_paths`); the template escapes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from cl_core.config import DiagnosticsConfig, RunConfig, StreamConfig, TrainingConfig, describe
from cl_core.events import (
    AccuracyMeasured,
    KnobTurned,
    PicturesSkipped,
    RunForked,
    RunStarted,
    TaskEnded,
)
from cl_core.export import known_paths, redact_paths
from cl_core.presets import PRESETS
from cl_core.readouts import MEANING, ZERO_SHOT
from cl_core.registry import METHODS
from cl_core.store import RunReader, StoreError
from cl_core.summary import definition, headline_readout, measures
from dashboard.figures.event_arrays import accuracies, readouts, zero_shot
from dashboard.run_log import Snapshot
from dashboard.summary_metrics import FROM_THE_START, LEARNED, MORE
from dashboard.theme import seconds, task_label, task_name

Pairs = list[tuple[str, str]]
LISTED = 20  # most skipped images that are listed


def private(log: Snapshot, value: Any) -> Any:
    """Return `value` without folder names of the training machine."""
    return redact_paths(value, known_paths(log.config, log.path.resolve(), Path(log.path)))


def unfinished(log: Snapshot) -> bool:
    """Return whether numbers may still change: the run continues, or can be resumed."""
    return log.status().state != "finished"


# ---------------------------------------------------------------- head


def about(log: Snapshot) -> Pairs:
    """Return names and values that identify the run."""
    config, plan, status = log.config, log.started(), log.status()
    told: Pairs = [("Run", log.path.resolve().name)]
    if config is not None:
        entry = METHODS.get(config.method)
        told.append(("Method", config.method + (f": {entry.about}" if entry else "")))
        if config.origin:
            told.append(("Origin", f"{private(log, config.origin)}; not trained by Plastiscope"))
        told.append(("Backbone", private(log, config.backbone) + _sizes(plan)))
        told.append(("Stream", private(log, config.stream) + _length(plan)))
        if not config.trained_elsewhere:
            told.append(("Seed", f"{config.seed} (class order, initial values, draws, batches)"))
            told.append(("Preset", config.preset or "none"))
        elif config.seed is not None:
            told.append(("Seed", str(config.seed)))
    told.append(("State", _state(log)))
    told += [("Parent", sentence) for sentence in [_parent(log)] if sentence]
    if plan is not None:
        told.append(("Trained on", _machine(plan)))
    started = log.of(RunStarted)
    if started:
        worked = ""
        with suppress(StoreError, ValueError, TypeError), closing(RunReader(log.folder)) as reader:
            worked = f", {seconds(reader.worked_seconds())} at work"
        told.append(("Started", moment(started[0].time) + worked))
    if status.moved:
        told.append(("Last event", moment(status.moved)))
    return told


def moment(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(when))


def _state(log: Snapshot) -> str:
    status = log.status()
    reason = f" ({private(log, status.reason)})" if status.reason else ""
    return status.state + reason


def _parent(log: Snapshot) -> str:
    forked = log.latest(RunForked)
    if forked is not None:
        parent, after, changed = forked.parent, forked.after_task, forked.changed
    elif log.config is not None and log.config.parent:
        parent, after, changed = log.config.parent, log.config.fork_task, {}
    else:
        return ""
    told = ", ".join(f"{name} {old} → {new}" for name, (old, new) in private(log, changed).items())
    return f"fork of {parent} after T{after}: {told or 'nothing changed'}. Earlier events come from the parent."


def _sizes(plan: RunStarted | None) -> str:
    if plan is None:
        return ""
    said = [f"{plan.backbone[k]} {name}" for k, name in (("depth", "blocks"), ("width", "wide")) if k in plan.backbone]
    if plan.backbone.get("parameters"):
        said.append(f"{plan.backbone['parameters'] / 1e6:.1f} M parameters")
    return f" ({', '.join([*said, f'{plan.trainable_parameters:,} trained'.replace(',', ' ')])})"


def _length(plan: RunStarted | None) -> str:
    if plan is None:
        return ""
    stages = "all at once" if plan.trained_tasks == 1 < len(plan.tasks) else "one after the other"
    steps = f", {plan.total_steps} steps" if plan.total_steps else ""  # unknown for custom training loops
    return f", {plan.scenario}, {_counted(len(plan.tasks), 'task')} {stages}{steps}"


def _machine(plan: RunStarted) -> str:
    told = plan.environment
    names = [str(told[k]) for k in ("device", "device_name", "precision") if told.get(k)]
    versions = [f"{k} {told[k]}" for k in ("python", "torch", "plastiscope") if told.get(k)]
    threads = [_counted(int(told["threads"]), "thread")] if str(told.get("threads") or "").isdigit() else []
    return ", ".join([*dict.fromkeys(names), *threads, *versions])


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def classes(log: Snapshot) -> list[tuple[str, str, str]]:
    """Return (task, its classes, training and test images) of every task."""
    plan = log.started()
    if plan is None:
        return []
    return [
        (
            task_label(i, plan.tasks),
            ", ".join(map(str, task.get("classes", ()))),
            f"{task.get('train', '?')} / {task.get('test', '?')}",
        )
        for i, task in enumerate(plan.tasks)
    ]


# ---------------------------------------------------------------- numbers


@dataclass(frozen=True)
class Measure:
    """A measure of the headline accuracy matrix."""

    name: str
    value: str
    formula: str  # its definition, from the docstring of the code that computes it


def matrix_of(log: Snapshot) -> np.ndarray:
    """Return the matrix as drawn: one row per stage of training, measured or not."""
    plan = log.started()
    return accuracies(log.events(AccuracyMeasured), rows=plan.trained_tasks if plan else None)


def numbers(log: Snapshot) -> list[Measure]:
    """Return all measures defined for this run, summary measures first."""
    matrix = accuracies(log.events(AccuracyMeasured))
    found = measures(matrix.tolist()) if matrix.size else {}
    order = (*FROM_THE_START, *LEARNED) if found.get("transfer") is not None else (*LEARNED, *FROM_THE_START)
    return [
        Measure(name, text(found[key]), definition(key))
        for name, key, text, _ in (*order, *MORE)
        if found.get(key) is not None and not (key == "last" and found.get("transfer") is None)
    ]


def readout_table(log: Snapshot) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of all readouts with meaning and measures; empty if there is only one readout."""
    measured = log.events(AccuracyMeasured)
    found = {readout: measures(accuracies(measured, readout).tolist()) for readout in readouts(measured)}
    if len(found) < 2:
        return [], []
    columns = [
        (name, key, text)
        for name, key, text, _ in (*LEARNED, *MORE)
        if any(numbers[key] is not None for numbers in found.values())
    ]
    rows = [
        [readout, MEANING.get(readout, ""), *(text(numbers[key]) for _, key, text in columns)]
        for readout, numbers in found.items()
    ]
    return ["Readout", "Meaning", *(name for name, *_ in columns)], rows


def judged_by(log: Snapshot) -> str:
    readout = headline_readout(log.events(AccuracyMeasured))
    return f"{readout}: {MEANING.get(readout, 'as the run measured it')}"


def matrix_rows(log: Snapshot) -> tuple[list[str], list[tuple[str, list[float]]]]:
    """Return column heads and (row head, percent) of all rows; the row before training comes first if measured."""
    matrix, before, plan = matrix_of(log), zero_shot(log.events(AccuracyMeasured)), log.started()
    tasks = plan.tasks if plan else []
    width = matrix.shape[1] or (len(before) if before is not None else 0)
    rows = [(ZERO_SHOT, list(before))] if before is not None else []
    joint = plan is not None and plan.trained_tasks == 1 < len(plan.tasks)
    for i, row in enumerate(matrix if matrix.shape[1] else []):
        rows.append(("all tasks" if joint else task_name(i), list(row)))
    return [task_label(j, tasks) for j in range(width)], rows


# ---------------------------------------------------------------- settings


@dataclass(frozen=True)
class Setting:
    """A setting, with its default or preset value."""

    name: str
    value: str
    usual: str  # value of the preset, else the default
    source: str  # "preset" or "default": source of `usual`
    about: str

    @property
    def differs(self) -> bool:
        return self.value != self.usual and self.usual != ""


def settings(log: Snapshot, described: Sequence[Mapping[str, Any]] = ()) -> list[tuple[str, list[Setting]]]:
    """Return (group, settings) of the run, each with the preset's value or else the default.

    Args:
        described: the method's settings from `config.describe`; if empty, only named settings are listed.
    """
    config = log.config
    if config is None:
        return []
    named = PRESETS.get(config.preset)
    base = RunConfig.from_dict(dict(named.config)) if named else None
    chosen = base.settings if base is not None and base.method == config.method else {}  # by the preset
    own = [
        _setting(
            log,
            row["name"],
            config.settings.get(row["name"], row.get("default")),
            chosen.get(row["name"], row.get("default")),
            "preset" if row["name"] in chosen else "default",
            row.get("help", ""),
        )
        for row in (described or [{"name": name} for name in config.settings])
    ]
    groups = [("Method", own)] if own else []
    if config.trained_elsewhere:  # Plastiscope's training settings do not apply
        return groups
    for title, key, kind in (
        ("Training", "training", TrainingConfig),
        ("Stream", "stream_settings", StreamConfig),
        ("Measured besides accuracy", "diagnostics", DiagnosticsConfig),
    ):
        named_there = dict(named.config).get(key, {}) if named else {}
        usual, help_of = getattr(base, key) if base else kind(), {row["name"]: row["help"] for row in describe(kind)}
        rows = [
            _setting(
                log,
                f.name,
                getattr(getattr(config, key), f.name),
                getattr(usual, f.name),
                "preset" if f.name in named_there else "default",
                help_of[f.name],
            )
            for f in fields(kind)
        ]
        if key == "stream_settings":  # settings for images from disk do not apply to other streams
            disk = set(config.stream_settings.of_disk())
            from_disk = config.stream.partition(":")[0] in ("folder", "cifar100")
            always = {"tasks", "order", "evaluate_on"}
            rows = [row for row in rows if from_disk or row.name in always or row.name in disk]
        groups.append((title, rows))
    return groups


def _setting(log: Snapshot, name: str, value: Any, usual: Any, source: str, about: str) -> Setting:
    return Setting(name, private(log, spelled(value)), private(log, spelled(usual)), source, about)


def spelled(value: Any) -> str:
    """Format a setting as a user writes it; "" if unknown."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ", ".join(spelled(part) for part in value) or "none"
    if isinstance(value, (int, float)):
        return f"{value:g}" if abs(value) < 1e6 else str(value)
    return str(value) or "none"


# ---------------------------------------------------------------- warnings


def warnings(log: Snapshot) -> list[str]:
    """Return sentences on limits of this run's numbers."""
    return [sentence for part in (_ended, _cells, _at_once, _turned, _skipped, _unreadable) for sentence in part(log)]


def _ended(log: Snapshot) -> Iterable[str]:
    status, plan, learned = log.status(), log.started(), log.tasks_ended()
    if status.state == "finished":
        return
    of = f"{learned} of {_counted(plan.trained_tasks, 'task')} learned" if plan else "no task begun"
    words = {
        "running": "This run is still in training",
        "queued": "This run waits for its device",
        "paused": "This run is paused",
        "stopped": "This run was stopped early",
        "failed": "This run failed",
        "gone": "The training process of this run died",
        "waiting": "This run has not begun",
    }.get(status.state, "This run cannot be read in full")
    why = f", {private(log, status.reason)}" if status.state == "failed" and status.reason else ""
    yield f"{words}: {of}{why}. Numbers and figures are those so far."


def _cells(log: Snapshot) -> Iterable[str]:
    plan, matrix = log.started(), matrix_of(log)
    if plan is None or not matrix.shape[1]:
        if plan is not None and log.tasks_ended() == 0:
            return
        yield "No accuracy was measured in this run."
        return
    joint = plan.trained_tasks == 1 < len(plan.tasks)
    seen = [len(row) if joint else i + 1 for i, row in enumerate(matrix)]
    missing = sum(int(np.isnan(row[:n]).sum()) for row, n in zip(matrix, seen, strict=True))
    if missing:
        yield (
            f"{missing} of {sum(seen)} cells of the accuracy matrix (tasks learned so far) were not measured; they "
            "are empty, and no number counts them as zero."
        )


def _at_once(log: Snapshot) -> Iterable[str]:
    plan = log.started()
    if plan is not None and plan.trained_tasks == 1 < len(plan.tasks):
        yield "All tasks were learned at once, so forgetting is undefined."


def _turned(log: Snapshot) -> Iterable[str]:
    for event in log.events(KnobTurned):
        when = f"from step {event.clock.step + 1} on (in {task_name(max(event.clock.task, 0))})"
        yield f"The setting {event.name} was changed from {spelled(event.old)} to {spelled(event.new)} {when}."


def _skipped(log: Snapshot) -> Iterable[str]:
    skipped = log.latest(PicturesSkipped)
    if skipped is None:
        return
    yield from (f"{private(log, note)}." for note in skipped.notes[:LISTED])
    if not skipped.count:
        return
    named = [str(private(log, file)) for file in skipped.files[:LISTED]]
    more = f" and {skipped.count - len(named)} more" if skipped.count > len(named) else ""
    count = _counted(skipped.count, "file")
    yield f"{count} of the stream could not be used and were skipped: {'; '.join(named)}{more}."


def _unreadable(log: Snapshot) -> Iterable[str]:
    if log.trouble:
        yield str(private(log, log.trouble))


def not_recorded(log: Snapshot) -> list[str]:
    """Return measurements that this run's settings switched off."""
    config = log.config
    if config is None or config.trained_elsewhere or not log.of(TaskEnded):
        return []
    return [row["name"] for row in describe(DiagnosticsConfig) if getattr(config.diagnostics, row["name"]) is False]
