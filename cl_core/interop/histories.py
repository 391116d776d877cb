"""Import of metric curves over steps: TensorBoard, W&B offline, Lightning's CSV, Hugging Face's trainer_state.json.

These logs do not contain tasks. The task of evaluation is read from a metric's name: `--accuracy
"val_acc/task{task}"`, a known name (Avalanche's), or one with acc and a number in it. The trained task follows from the
step: `--ends` lists the steps at which tasks ended. If every task was a separate training (Lightning's version_0,
version_1, …; one folder of event files or of a Trainer's checkpoints per task), the parent folder is read, and its
trainings in order are the tasks.
"""

from __future__ import annotations

import csv
import io
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path

from cl_core.config import ConfigError
from cl_core.interop import avalanche
from cl_core.interop.records import event_records, fields, wandb_records
from cl_core.interop.result import (
    LARGEST,
    Asked,
    Loss,
    Result,
    headline_readout_of,
    in_percent,
    matrix,
    names_of,
    scenario_of,
    text_of,
)
from cl_core.readouts import ZERO_SHOT
from cl_core.summary import own_head
from cl_core.untrusted import parse_json

Curves = dict[str, list[tuple[int, float]]]  # name → (step, value), in order of steps
Trainings = list[tuple[str, Curves]]  # by name, in order

LOSSES = (
    "loss",
    "train_loss",
    "train/loss",
    "training_loss",
    "train_loss_step",
    "train_loss_epoch",
    "Loss/train",
    "loss/total",
)
ACCURACY = re.compile(r"acc", re.IGNORECASE)
OWN = re.compile(r"accuracy/(?P<readout>.+)/task\d+")  # as written by `trackers`


def result_of(trainings: Trainings, program: str, path: Path, asked: Asked, notes: list[str]) -> Result:
    """Convert one training over all tasks, or one per task, to a result. Raises ConfigError if names or steps do not
    determine the tasks."""
    if not (asked.accuracy or asked.ends):
        trainings = [(name, _zero_shot_first(curves)) for name, curves in trainings]
    whole: Curves = {}
    for _, curves in trainings:
        for name, curve in curves.items():
            whole.setdefault(name, []).extend(curve)
    if not whole:
        raise ConfigError(f"{path} holds no curves as {program} writes them; is another format meant?")
    found, told = _columns(whole, asked)
    if not found:
        named = ", ".join(sorted(whole)[:12]) or "none"
        raise ConfigError(
            f"no accuracy of a task was found among the metrics of {path.name} ({named}); name one with --accuracy, "
            'with {task} for the number: --accuracy "val_acc/task{task}"'
        )
    labels = _labels(found)
    scenario = scenario_of(asked, told, notes, path.name)
    numbers = sorted(labels)
    trainings = [(name, curves) for name, curves in trainings if set(curves) & set(found)]
    if len(trainings) > 1:
        cells, losses = _one_a_task(trainings, [labels[n] for n in numbers], asked, notes)
    else:
        cells, losses = _one_for_all(trainings[0][1], [labels[n] for n in numbers], asked, path, notes)
    notes.append(f"Accuracy of a task: {labels[numbers[0]]} to {labels[numbers[-1]]}.")
    cells = in_percent(cells, asked, notes, "percent" if all(OWN.fullmatch(name) for name in found) else "")
    rows, before = matrix(cells, len(numbers), scenario, asked, notes)
    named = _loss_name(whole, asked)
    if losses:
        notes.append(f"Training loss: {named}.")
    return Result(
        program,
        path.name,
        scenario,
        names_of(asked, len(numbers), notes),
        {headline_readout_of(scenario): rows},
        before,
        losses,
        notes=notes,
        unread=sorted(set(whole) - set(found) - {named})[:50],
    )


def _zero_shot_first(curves: Curves) -> Curves:
    """In Plastiscope's own exports, insert accuracies before training as step 0 of the headline readout's curves."""
    own = {name: found for name in curves if (found := OWN.fullmatch(name))}
    headline = own_head(found["readout"] for found in own.values())
    joined = {name: curve for name, curve in curves.items() if name not in own or own[name]["readout"] != ZERO_SHOT}
    for name in curves.keys() - joined.keys():
        later = f"accuracy/{headline}/{name.rpartition('/')[2]}"
        joined[later] = [(0, value) for _, value in curves[name][-1:]] + joined.get(later, [])
    return joined


def _one_for_all(
    curves: Curves, metrics: list[str], asked: Asked, path: Path, notes: list[str]
) -> tuple[dict[tuple[int, int], float], list[Loss]]:
    """Return cells and losses of one training: a row has the last values up to the end of its task."""
    found = {name: curves.get(name, []) for name in metrics}
    ends, first = _ends(found, len(metrics), asked, path, notes)
    cells: dict[tuple[int, int], float] = {}
    for on, name in enumerate(metrics):
        for step, value in found[name]:
            if (row := _row_of(step, ends, first)) is not None and math.isfinite(value):
                cells[row, on] = value
    losses = []
    for step, value in curves.get(_loss_name(curves, asked), []):
        if (row := _row_of(step, ends, first)) is not None and math.isfinite(value):
            losses.append(Loss(step, max(row, 0), value))
    return cells, losses


def _one_a_task(
    trainings: Trainings, metrics: list[str], asked: Asked, notes: list[str]
) -> tuple[dict[tuple[int, int], float], list[Loss]]:
    """Return cells and losses of one training per task, in order: a row has the last values of its training."""
    names = [name for name, _ in trainings]
    if len(names) > len(metrics):
        raise ConfigError(
            f"{len(names)} trainings were found ({', '.join(names[:6])}{', …' if len(names) > 6 else ''}) for "
            f"{len(metrics)} tasks; name the folder of one of them, with --ends, or one that holds a training a task"
        )
    if asked.ends:
        raise ConfigError(f"--ends is for one training; {', '.join(names[:6])} are {len(names)}: name one of them")
    notes.append(f"A training a task, in order: {', '.join(names)}; the last value of each counts.")
    cells: dict[tuple[int, int], float] = {}
    losses: list[Loss] = []
    for row, (_, curves) in enumerate(trainings):
        for on, metric in enumerate(metrics):
            values = [value for _, value in curves.get(metric, []) if math.isfinite(value)]
            if values:
                cells[row, on] = values[-1]
        start = losses[-1].step + 1 if losses else 0
        curve = curves.get(_loss_name(curves, asked), [])
        losses += [Loss(start + step, row, value) for step, value in curve if math.isfinite(value)]
    return cells, losses


def _columns(curves: Curves, asked: Asked) -> tuple[Curves, str]:
    """Return the metrics that are accuracies of single tasks, and the scenario implied by their names."""
    if asked.accuracy:
        before, _, after = asked.accuracy.partition("{task}")
        wanted = re.compile(re.escape(before) + r"\d+" + re.escape(after))
        return {name: curve for name, curve in curves.items() if wanted.fullmatch(name)}, ""
    own = {name: found["readout"] for name in curves if (found := OWN.fullmatch(name))}
    headline = own_head(own.values())
    if headline in own.values():
        return {name: curves[name] for name, readout in own.items() if readout == headline}, headline
    known = {name: found for name in curves if (found := avalanche.NAME.fullmatch(name)) and found["stream"] == "test"}
    if known:
        labels = {found["task"] for found in known.values()}
        return {name: curves[name] for name in known}, "task-incremental" if len(labels) > 1 else ""
    likely = [
        name for name in curves if ACCURACY.search(name) and re.search(r"\d", name) and "train" not in name.lower()
    ]
    shapes: dict[str, list[str]] = {}
    for name in likely:
        shapes.setdefault(re.sub(r"\d+", "#", name), []).append(name)
    shapes = {shape: names for shape, names in shapes.items() if len(names) > 1}
    if len(shapes) > 1:
        raise ConfigError(
            f"several metrics could be the accuracies of tasks ({', '.join(sorted(shapes)[:6])}); choose one with "
            "--accuracy, with {task} for the number"
        )
    return {name: curves[name] for names in shapes.values() for name in names}, ""


def _labels(found: Mapping[str, object]) -> dict[int, str]:
    """Return task number → metric; the task number is the number in which the names differ."""
    names = list(found)
    parts = [re.split(r"(\d+)", name) for name in names]
    differing = [i for i in range(1, len(parts[0]), 2) if len({p[i] for p in parts}) > 1]
    place = differing[-1] if differing else len(parts[0]) - 2
    labels = {int(p[place]): name for p, name in zip(parts, names, strict=True)}
    if len(labels) < len(names):
        raise ConfigError(
            f"{names[0]} and others name a task twice; choose one of them with --accuracy, with {{task}} for the number"
        )
    return labels


def _ends(found: Curves, tasks: int, asked: Asked, path: Path, notes: list[str]) -> tuple[list[int], int]:
    """Return the steps at which rows were evaluated, and the row of the first one (−1 = before training)."""
    if asked.ends:
        if len(asked.ends) > tasks:
            raise ConfigError(f"--ends names {len(asked.ends)} steps, {tasks} tasks were evaluated")
        listed = ", ".join(map(str, asked.ends))
        notes.append(f"Tasks ended at steps {listed}, as asked for; the last value up to there counts.")
        return list(asked.ends), 0
    steps = sorted({step for curve in found.values() for step, _ in curve})
    if all(OWN.fullmatch(name) for name in found) and len(steps) <= tasks + (steps[0] == 0):
        first = -1 if steps[0] == 0 else 0
        notes.append(
            f"An evaluation after each task{' and one before training' * (first < 0)}, as Plastiscope does it."
        )
        return steps, first
    if all(avalanche.NAME.fullmatch(name) for name in found):  # Avalanche evaluates between experiences
        if len(steps) <= tasks:
            notes.append("An evaluation after each experience, as Avalanche does it.")
            return steps, 0
        if len(steps) == tasks + 1 and steps[0] == 0:
            notes.append("The evaluation at step 0 is before training; the others follow the experiences.")
            return steps, -1
    raise ConfigError(
        f"{path.name} holds {len(steps)} evaluations of {tasks} tasks (at steps {', '.join(map(str, steps[:12]))}"
        f"{', …' if len(steps) > 12 else ''}) and does not say which of them ended a task: name their steps with "
        "--ends (where every task was a training of its own, name the folder that holds them)"
    )


def _row_of(step: int, ends: list[int], first: int) -> int | None:
    """Return the row of a value at `step`: that of the first end at or after it."""
    return next((i + first for i, end in enumerate(ends) if step <= end), None)


def _loss_name(curves: Curves, asked: Asked) -> str:
    if asked.loss and asked.loss not in curves:
        raise ConfigError(f"there is no metric {asked.loss!r}; there are {', '.join(sorted(curves)[:12])}")
    return asked.loss or next((name for name in LOSSES if name in curves), "")


# ---------------------------------------------------------------- sources of curves


def bytes_of(path: Path) -> bytes:
    if not path.is_file():
        raise ConfigError(f"{path} is no file")
    try:
        if path.stat().st_size > LARGEST:
            raise ConfigError(
                f"{path.name} has {path.stat().st_size / 1e6:.0f} MB; at most {LARGEST / 1e6:.0f} are read"
            )
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}") from error


def tensorboard_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if "tfevents" in path.name else []
    return sorted(file for file in path.rglob("*tfevents*") if file.is_file())


def tensorboard(path: Path, asked: Asked) -> Result:
    """Read one event file, a folder of them (one training), or a folder of such folders (one training each)."""
    groups: dict[Path, list[Path]] = {}
    for file in tensorboard_files(path):
        groups.setdefault(file.parent, []).append(file)
    trainings: Trainings = []
    for folder in sorted(groups, key=natural):
        curves: Curves = {}
        for file in groups[folder]:
            for record in event_records(bytes_of(file), file.name):
                try:
                    _scalars(record, curves)
                except (ValueError, struct.error, UnicodeDecodeError):
                    continue  # a record of another kind
        trainings.append((folder.name, _sorted(curves)))
    return result_of(trainings, "TensorBoard", path, asked, ["Read as TensorBoard's event files: scalars only."])


def _scalars(record: bytes, curves: Curves) -> None:
    event = dict(fields(record))
    step = event.get(2, 0)
    summary = event.get(5)
    for number, value in fields(summary) if isinstance(summary, bytes) else ():
        if number != 1 or not isinstance(value, bytes):
            continue
        parts = dict(fields(value))
        name, plain, tensor = parts.get(1, b""), parts.get(2), parts.get(8)
        scalar: float | None = None
        if isinstance(plain, bytes):
            (scalar,) = struct.unpack("<f", plain)
        elif isinstance(tensor, bytes):
            scalar = _tensor(tensor)
        if scalar is not None and isinstance(name, bytes) and isinstance(step, int):
            curves.setdefault(name.decode(), []).append((step, float(scalar)))


def _tensor(data: bytes) -> float | None:
    """Return the value of a TensorProto with one float (dtype 1) or double (dtype 2)."""
    parts = dict(fields(data))
    form = {1: "<f", 2: "<d"}.get(parts.get(1, 0))  # type: ignore[arg-type]
    held = next((part for k in (4, 5, 6) if isinstance(part := parts.get(k), bytes)), None)  # content, floats, doubles
    if form is None or held is None or len(held) != struct.calcsize(form):
        return None
    return struct.unpack(form, held)[0]


def wandb_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix == ".wandb" else []
    return sorted(file for file in path.glob("*.wandb") if file.is_file())


def wandb(path: Path, asked: Asked) -> Result:
    """Read a run-ID.wandb file, or the folder of one offline run."""
    files = wandb_files(path)
    if not files:
        raise ConfigError(f"{path} holds no offline run of W&B: name a file run-ID.wandb, or its folder")
    if len(files) > 1:
        raise ConfigError(f"{path} holds {len(files)} offline runs; name one of them: {files[0].name}")
    curves: Curves = {}
    for number, record in enumerate(wandb_records(bytes_of(files[0]), files[0].name)):
        try:
            for kind, value in fields(record):
                if kind == 2 and isinstance(value, bytes):
                    _history(value, number, curves)
        except (ValueError, UnicodeDecodeError):
            continue
    notes = ["Read as an offline file of W&B: the history of numbers."]
    return result_of([(files[0].name, _sorted(curves))], "Weights & Biases", files[0], asked, notes)


def _history(data: bytes, number: int, curves: Curves) -> None:
    items: dict[str, object] = {}
    step = number
    for kind, value in fields(data):
        if not isinstance(value, bytes):
            continue
        if kind == 2:
            step = next((v for k, v in fields(value) if k == 1 and isinstance(v, int)), 0)
        if kind == 1:
            parts = fields(value)
            nested = [v.decode() for k, v in parts if k == 2 and isinstance(v, bytes)]
            key = next((v.decode() for k, v in parts if k == 1 and isinstance(v, bytes)), "") or ".".join(nested)
            text = next((v.decode() for k, v in parts if k == 16 and isinstance(v, bytes)), "null")
            items[key] = parse_json(text)
    if isinstance(told := items.get("_step"), int):
        step = told
    for key, item in items.items():
        if isinstance(item, (int, float)) and not isinstance(item, bool) and not key.startswith("_"):
            curves.setdefault(key, []).append((step, float(item)))


def lightning_files(path: Path) -> list[Path]:
    """Return metrics.csv: the given file, that of a version_N folder, or those of all version_N folders in order."""
    if path.is_file():
        found = [path] if path.name == "metrics.csv" else []
    elif (path / "metrics.csv").is_file():
        found = [path / "metrics.csv"]
    else:
        found = sorted(path.glob("version_*/metrics.csv"), key=natural)
    return [file for file in found if "step" in _first_line(file).split(",")]


def _first_line(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.readline(10_000).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def lightning(path: Path, asked: Asked) -> Result:
    """Read lightning_logs/version_N/metrics.csv (one line per logging call, empty cells for other metrics), or the
    folder of several versions."""
    trainings: Trainings = []
    for file in lightning_files(path):
        curves: Curves = {}
        for line in csv.DictReader(io.StringIO(text_of(file))):
            try:
                step = int(float(line["step"] or 0))
            except (TypeError, ValueError):
                continue
            for name, cell in line.items():
                if name in ("step", "epoch", None) or not isinstance(cell, str) or not cell.strip():
                    continue
                try:
                    curves.setdefault(name, []).append((step, float(cell)))
                except ValueError:
                    continue
        trainings.append((file.parent.name, _sorted(curves)))
    return result_of(trainings, "Lightning", path, asked, ["Read as Lightning's CSVLogger writes it."])


def hugging_face_files(path: Path) -> list[Path]:
    """Return trainer_state.json files: the given one, that of a folder or its newest checkpoint, or of subfolders."""
    if path.is_file():
        return [path] if path.name == "trainer_state.json" else []
    if own := _newest_state(path):
        return [own]
    within = sorted((folder for folder in path.glob("*") if folder.is_dir()), key=natural)
    return [state for folder in within if (state := _newest_state(folder))]


def _newest_state(folder: Path) -> Path | None:
    own = folder / "trainer_state.json"
    if own.is_file():
        return own
    found = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=natural)
    return found[-1] if found else None


def hugging_face(path: Path, asked: Asked) -> Result:
    """Read the log_history of a Trainer, or of a folder's trainings, one per task."""
    files = hugging_face_files(path)
    trainings: Trainings = []
    for file in files:
        try:
            curves: Curves = {}
            for entry in parse_json(text_of(file))["log_history"]:
                for name, value in entry.items():
                    if (
                        name not in ("step", "epoch")
                        and isinstance(value, (int, float))
                        and not isinstance(value, bool)
                    ):
                        curves.setdefault(name, []).append((int(entry.get("step", 0)), float(value)))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ConfigError(f"{file.name} is no state of a Hugging Face Trainer ({error!r})") from error
        within = file.relative_to(path).parts if len(files) > 1 else (file.name,)
        trainings.append((within[0], _sorted(curves)))
    notes = ["Read as the log_history of a Hugging Face Trainer."]
    return result_of(trainings, "Hugging Face Trainer", path, asked, notes)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that puts version_10 after version_9."""
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", str(path)) if p]


def _sorted(curves: Curves) -> Curves:
    return {name: sorted(curve, key=lambda point: point[0]) for name, curve in curves.items()}
