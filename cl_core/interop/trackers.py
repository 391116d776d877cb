"""Export of a run's curves to files of other tools: TensorBoard, W&B offline, MLflow, and a CSV for trackio.

Names: loss/PART, learning_rate/GROUP at every optimiser step; accuracy/READOUT/taskJ and the measures so far after each
task. Steps count from 1 over the whole run; a run without steps (imported results) counts tasks; 0 is before training.
Accuracies are in percent.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

from cl_core.events import AccuracyMeasured, StepEnded
from cl_core.interop.records import event_record, field, wandb_file
from cl_core.store import RunFolder, RunReader
from cl_core.summary import headline_readout, matrix_of, measures

MLFLOW_MOST = 6000  # most characters of a parameter
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
    """Return all curves of a run, in the order of measurement. Raises StoreError if it cannot be read."""
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
            step = event.clock.step + 1 if counted and event.clock.task >= 0 else event.clock.task + 1
        else:
            continue
        found += [
            Scalar(name, step, float(value), place.time)
            for name, value in named.items()
            if value is not None and math.isfinite(value)
        ]
    return found


def tensorboard(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """Yield an event file; pass its folder to `tensorboard --logdir`."""
    values = scalars(folder)
    start = values[0].time if values else 0.0
    out = [event_record(field(1, start) + field(3, "brain.Event:2"))]
    for value in values:
        summary = field(1, field(1, value.name) + b"\x15" + struct.pack("<f", value.value))
        out.append(event_record(field(1, value.time) + field(2, value.step) + field(5, summary)))
    yield f"events.out.tfevents.{int(start)}.plastiscope", b"".join(out)


def wandb(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """Yield an offline run; pass its folder to `wandb sync`."""
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
    """Yield a CSV with one column per curve, for `trackio.import_csv(file, project=…, name=…)`."""
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


def mlflow(folder: RunFolder) -> Iterator[tuple[str, bytes]]:
    """Yield MLflow's file layout: EXPERIMENT/RUN/metrics/NAME, one line `milliseconds value step` per point.

    Pass the folder to MLflow as `file:///…` (newer versions need MLFLOW_ALLOW_FILE_STORE=true, or `mlflow
    migrate-filestore` to a database). Identifiers are derived from the run's name, so that repeated exports agree.
    """
    name, config, values = folder.path.resolve().name, folder.config(), scalars(folder)
    experiment = str(int.from_bytes(hashlib.sha256(b"plastiscope").digest()[:7], "big")).zfill(18)[:18]
    run = hashlib.sha256(name.encode()).hexdigest()[:32]
    first, last = (int(1000 * (values[place].time if values else 0.0)) for place in (0, -1))
    place = f"{experiment}/{run}"
    yield f"{experiment}/meta.yaml", _yaml(
        artifact_location=f"mlflow-artifacts:/{experiment}", creation_time=first, experiment_id=experiment,
        last_update_time=last, lifecycle_stage="active", name="plastiscope",
    )  # fmt: skip
    yield f"{place}/meta.yaml", _yaml(
        artifact_uri=f"mlflow-artifacts:/{place}/artifacts", end_time=last, entry_point_name="",
        experiment_id=experiment,
        lifecycle_stage="active", run_id=run, run_name=name, source_name="", source_type=4, source_version="",
        start_time=first, status=3, tags=[], user_id="plastiscope",
    )  # fmt: skip
    yield f"{place}/tags/mlflow.runName", name.encode()
    # MLflow does not accept a folder without artifacts as a run.
    yield f"{place}/artifacts/config.json", (json.dumps(config.to_dict(), indent=1) + "\n").encode()
    settings = {**config.settings, "method": config.method, "backbone": config.backbone, "stream": config.stream}
    for key, told in settings.items():
        text = told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
        yield f"{place}/params/{_plain(key)}", text[:MLFLOW_MOST].encode()
    lines: dict[str, list[str]] = {}
    for value in values:
        lines.setdefault(_plain(value.name), []).append(f"{int(1000 * value.time)} {value.value!r} {value.step}")
    for metric, points in lines.items():
        yield f"{place}/metrics/{metric}", ("\n".join(points) + "\n").encode()


def _yaml(**values: object) -> bytes:
    """Encode a flat table; JSON strings, numbers and lists are also valid YAML."""
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in sorted(values.items()))
    return "".join(lines).encode()


def _plain(name: str) -> str:
    """Convert a name to MLflow's rules: letters, digits, _ - . / and space, and no path outside its folder."""
    kept = re.sub(r"[^\w\-. /]", "_", name, flags=re.ASCII)
    return "/".join(part for part in kept.split("/") if part.strip(". ")) or "_"


TRACKERS: dict[str, Callable[[RunFolder], Iterator[tuple[str, bytes]]]] = {
    "mlflow": mlflow,
    "tensorboard": tensorboard,
    "trackio": trackio,
    "wandb": wandb,
}
