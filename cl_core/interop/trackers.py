"""A run's curves in the files of other tools: TensorBoard, W&B offline, a CSV as trackio imports it.

Names: loss/PART, learning_rate/GROUP at every optimiser step; accuracy/READOUT/taskJ and the measures so far after each
task. Steps count from 1 over the whole run; a run without steps (imported results) counts tasks. Accuracies are in
percent.
"""

from __future__ import annotations

import csv
import io
import json
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from cl_core.events import AccuracyMeasured, StepEnded
from cl_core.interop.records import event_record, field, wandb_file
from cl_core.store import RunFolder, RunReader
from cl_core.summary import headline_readout, matrix_of, measures

SHOWN = (
    "final_average_accuracy",
    "average_incremental_accuracy",
    "learning_accuracy",
    "forgetting",
    "backward_transfer",
)


@dataclass(frozen=True)
class Scalar:
    """One value of one curve."""

    name: str
    step: int
    value: float
    time: float  # seconds since 1970, UTC


def scalars(folder: RunFolder) -> list[Scalar]:
    """All curves of a run, in the order in which they were measured. Raises StoreError if it cannot be read."""
    with closing(RunReader(folder)) as reader:
        stored = list(reader.since(kinds=("StepEnded", "AccuracyMeasured")))
    rows = [s.event for s in stored if isinstance(s.event, AccuracyMeasured) and s.event.clock.task >= 0]
    headline = headline_readout(rows)
    counted = any(isinstance(s.event, StepEnded) for s in stored)
    seen: dict[int, list[float | None]] = {}
    found: list[Scalar] = []
    for place in stored:
        event = place.event
        if isinstance(event, StepEnded):
            named: dict[str, float | None] = {f"loss/{name}": value for name, value in event.losses.items()}
            named |= {f"learning_rate/{name}": value for name, value in event.learning_rates.items()}
            step = event.clock.step + 1
        elif isinstance(event, AccuracyMeasured):
            named = {f"accuracy/{event.readout}/task{j + 1}": value for j, value in enumerate(event.row)}
            if event.readout == headline and event.clock.task >= 0:
                seen[event.clock.task] = event.row
                numbers = measures(matrix_of(seen, len(event.row)))
                named |= {name: numbers[name] for name in SHOWN}
            step = event.clock.step + 1 if counted else event.clock.task + 1
        else:
            continue
        found += [
            Scalar(name, step, float(value), place.time)
            for name, value in named.items()
            if value is not None and math.isfinite(value)
        ]
    return found


def tensorboard(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """One event file; name it to `tensorboard --logdir` with its folder."""
    values = scalars(folder)
    start = values[0].time if values else 0.0
    out = [event_record(field(1, start) + field(3, "brain.Event:2"))]
    for value in values:
        summary = field(1, field(1, value.name) + b"\x15" + struct.pack("<f", value.value))
        out.append(event_record(field(1, value.time) + field(2, value.step) + field(5, summary)))
    yield f"events.out.tfevents.{int(start)}.plastiscope", b"".join(out)


def wandb(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """An offline run; `wandb sync` takes the folder."""
    name = folder.path.resolve().name
    config = folder.config()
    settings = {**config.settings, "method": config.method, "backbone": config.backbone, "stream": config.stream}
    told = b"".join(field(1, field(1, key) + field(16, json.dumps(value))) for key, value in settings.items())
    run = field(1, _identifier(name)) + field(3, "plastiscope") + field(4, told) + field(8, name)
    records = [field(1, 1) + field(17, run)]
    steps: dict[int, dict[str, float]] = {}
    for value in scalars(folder):
        steps.setdefault(value.step, {})[value.name] = value.value
    for step, values in sorted(steps.items()):
        items = {**values, "_step": step}
        history = b"".join(field(1, field(2, key) + field(16, json.dumps(item))) for key, item in items.items())
        records.append(field(1, len(records) + 1) + field(2, history + field(2, field(1, step))))
    records.append(field(1, len(records) + 1) + field(18, field(1, 0)))  # ended with status 0
    yield f"run-{_identifier(name)}.wandb", wandb_file(records)


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:64]


def trackio(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """A CSV with a column a curve: `trackio.import_csv(file, project=…, name=…)`."""
    steps: dict[int, dict[str, float]] = {}
    names: dict[str, None] = {}
    for value in scalars(folder):
        steps.setdefault(value.step, {})[value.name] = value.value
        names[value.name] = None
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["step", *names])
    for step, values in sorted(steps.items()):
        writer.writerow([step, *(values.get(name, "") for name in names)])
    yield "trackio.csv", out.getvalue().encode()


TRACKERS: dict[str, Callable[[RunFolder], Iterator[tuple[str, bytes]]]] = {
    "tensorboard": tensorboard,
    "trackio": trackio,
    "wandb": wandb,
}
