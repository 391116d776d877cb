"""`plastiscope backbones NAME` and `streams NAME`: describe one of them before starting a run.

A backbone: its sizes, an estimate of the memory of a step (with `--method`, of that method), and the location of its
weights or what is missing, without loading it. A stream: its tasks and skipped files; with `--samples`, only that many
images per task are read.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
from dataclasses import replace
from typing import Any

from cl_core.cli.options import add_download, let_download
from cl_core.config import ConfigError, Preprocessing, RunConfig, StreamConfig, TrainingConfig
from cl_core.estimate import USUAL_TEXTS, in_words, memory_needed
from cl_core.presets import starting_point
from cl_core.registry import BACKBONES, METHODS, STREAMS, Scheme, imported, load, lookup

SAMPLE_SIDE = 64  # pixels; also where a stream is looked at without a backbone
SAMPLED_TASKS = 24  # more are not shown


def configure(parser: argparse.ArgumentParser, command: str) -> None:
    parser.add_argument("name", nargs="?", help="describe this one, and whether it is available locally")
    add_download(parser)
    if command == "backbones":
        parser.add_argument("--batch-size", type=int, default=64, help="for the estimate of memory (default: 64)")
        parser.add_argument("--method", help="for the estimate: include this method's own memory")
        parser.add_argument("--texts", type=int, default=USUAL_TEXTS, help="for the estimate: classes a task")
        parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the method")
        return
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="stream.KEY, or training.KEY for augmented samples; may be repeated",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--samples", type=int, default=0, metavar="N", help="with --json: N images of each task, without reading others"
    )


def execute(arguments: argparse.Namespace) -> int:
    let_download(arguments)
    if arguments.command == "backbones":
        record = _backbone(arguments)
        lines = _backbone_lines(record)
    else:
        record = _stream(arguments)
        lines = _stream_lines(record)
    print(json.dumps(record) if arguments.json else "\n".join(lines))
    return 0


def _backbone(arguments: argparse.Namespace) -> dict[str, Any]:
    name, _ = lookup(BACKBONES, arguments.name, "backbone")
    if arguments.set and not arguments.method:
        raise ConfigError("--set changes settings of a method here: name it with --method")
    told = _of_method(name, arguments) if arguments.method else {}
    sizes = _sizes(name, arguments.download)
    if "@" in name and sizes["missing"]:  # a named file, which cannot be downloaded
        raise ConfigError(sizes["missing"])
    parts = memory_needed(sizes, max(1, arguments.batch_size), texts=max(1, arguments.texts), **told)
    known = told.get("facts") is not None
    return {**sizes, "name": name, "memory": sum(parts.values()), "parts": parts, "method_counted": known}


def _sizes(name: str, download: bool = False) -> dict[str, Any]:
    """A backbone's description, the location of its weights, and what is missing; downloaded if allowed."""
    name, entry = lookup(BACKBONES, name, "backbone")
    if not isinstance(entry, Scheme):
        return {**load(BACKBONES, name, "backbone")().describe(), "missing": ""}
    sizes = imported(entry.plan)(name.partition(":")[2])
    if sizes["missing"] and download:
        load(BACKBONES, name, "backbone")()  # fetches them
        sizes = imported(entry.plan)(name.partition(":")[2])
    return sizes


def _of_method(backbone: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """A method's input to the estimate. Raises ConfigError if it does not support the backbone."""
    from cl_core.training.factory import check, companion_of  # brings torch, which listings do without

    method, entry = lookup(METHODS, arguments.method, "method")
    config = replace(starting_point(method, backbone), backbone=backbone).with_overrides(arguments.set)
    kind, settings = check(config)
    return {
        "facts": imported(entry.holds) if entry.holds else None,
        "settings": vars(settings),
        "companion": _sizes(beside) if (beside := companion_of(kind, settings)) else None,
    }


def _backbone_lines(record: dict[str, Any]) -> list[str]:
    return [
        f"{record['name']}: {record['parameters'] / 1e6:.1f} M parameters, {record['depth']} blocks of width "
        f"{record['width']}, {record['tokens']} tokens, images of {record['image_size']}×{record['image_size']}",
        in_words(record["parts"], record["method_counted"], _size),
        record["missing"]
        or (
            f"weights: {record['file']} ({record['bytes'] / 1e6:.0f} MB)" if record.get("file") else "nothing to fetch"
        ),
        *(f"note: {line}" for line in record.get("notes", ())),
    ]


def _size(count: int) -> str:
    size, unit = (count / 1e9, "GB") if count >= 1e9 else (count / 1e6, "MB")
    return f"{size:.0f} {unit}" if size >= 10 else f"{size:.1f} {unit}"


def _stream(arguments: argparse.Namespace) -> dict[str, Any]:
    name, entry = lookup(STREAMS, arguments.name, "stream")
    whole = RunConfig("sequential").with_overrides(arguments.set)
    config = whole.stream_settings
    samples = max(0, arguments.samples)
    if samples and isinstance(entry, Scheme):
        config = _sampled(config, samples)
    preparation = Preprocessing(SAMPLE_SIDE, (0.0,) * 3, (1.0,) * 3)
    stream = load(STREAMS, name, "stream")(config, preparation, arguments.seed)
    tasks = [
        {"name": t.title, "classes": list(t.names), "train": len(t.train), "test": len(t.test)}
        | ({"found": [list(counts) for counts in stream.found[t.index]]} if stream.found else {})
        | ({"pictures": _samples(t, samples, whole.training)} if samples and t.index < SAMPLED_TASKS else {})
        for t in stream
    ]
    return {
        "name": name,
        "scenario": stream.scenario,
        "tasks": tasks,
        "notes": list(stream.notes),
        "skipped": list(stream.skipped),
    }


def _sampled(config: StreamConfig, samples: int) -> StreamConfig:
    """Limit the images per class to the number shown."""
    few = min(samples, config.per_class or samples)
    return replace(config, per_class=few, per_class_test=1, evaluate_on="test")


def _samples(task: Any, count: int, training: TrainingConfig) -> list[dict[str, str]]:
    """The first training images, classes in turn, as base64 PNG with their class names; with augmentation also
    "changed", a random augmentation."""
    import numpy as np

    from cl_core.streams.augmentation import Augmentation

    augmentation, size = Augmentation.of(training), task.preparation.size
    labels = task.train.labels.numpy()
    starts = np.searchsorted(labels, labels)  # pictures lie class by class
    shown = []
    for row in np.lexsort((labels, np.arange(len(labels)) - starts))[:count]:
        stored = task.train.pictures[row : row + 1]
        sample = {"class": task.names[int(labels[row]) - task.classes.start], "png": _png(task.prepare(stored))}
        if augmentation is not None:
            sample["changed"] = _png(task.prepare(augmentation(stored, size, int(row))))
        shown.append(sample)
    return shown


def _png(images: Any) -> str:
    """The first of images [n, 3, S, S] in 0..1, in base64."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((images[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _stream_lines(record: dict[str, Any]) -> list[str]:
    lines = [f"{record['name']}: {record['scenario']}, {len(record['tasks'])} tasks"]
    for task in record["tasks"]:
        classes = ", ".join(task["classes"][:8]) + (", …" if len(task["classes"]) > 8 else "")
        lines.append(f"{task['name']}: {task['train']} training and {task['test']} test pictures; {classes}")
    lines += [f"note: {line}" for line in record["notes"]]
    lines += [f"left out: {line}" for line in record["skipped"][:20]]
    if len(record["skipped"]) > 20:
        lines.append(f"and {len(record['skipped']) - 20} more left out")
    return lines
