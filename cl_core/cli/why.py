"""`plastiscope why RUN --task J --after I`: how far a task fell, and why, in ten lines."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import numpy as np

from cl_core.analysis import measured_later as later
from cl_core.analysis.ledger import Images, Ledger, Rows, Stretch, ledger, statistics_ledger, with_later, worst_cell
from cl_core.analysis.reading import Measured
from cl_core.analysis.verdict import HOW_TO_REFIT, MEANING, near_means, verdict, why_image
from cl_core.assets import recordings_folder
from cl_core.cli.options import add_json, add_runs
from cl_core.config import ConfigError
from cl_core.store import RunFolder, find_run
from cl_core.summary import own_head

EXAMPLE = """example: plastiscope why nsp2-split-digits --task 3 --after 5

Without --task: the task that fell most. Without --after: the newest one. Percent and percentage points; the parts of a
fall add up to it, and a negative part is something that got better."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="name of the run, or an unambiguous beginning or end of it")
    add_runs(parser)
    parser.add_argument("--task", type=int, metavar="J", help="the task that was forgotten (from 1)")
    parser.add_argument("--after", type=int, metavar="I", help="task after which accuracy is compared (from 1)")
    parser.add_argument(
        "--layers",
        action="store_true",
        help="also the layer of the loss, and accuracy of a refitted head: measured once, from checkpoints",
    )
    parser.add_argument(
        "--line",
        action="store_true",
        help="weight-changing CLIP methods: accuracy between the untouched weights and those after --after (WiSE-FT), "
        "measured from checkpoints, once",
    )
    parser.add_argument(
        "--line-from", type=int, metavar="J", help="with --line: start with the weights after this task (from 1)"
    )
    parser.add_argument("--image", type=int, metavar="K", help="one of its stored test images (from 1)")
    add_json(parser)
    parser.epilog = EXAMPLE


def execute(arguments: argparse.Namespace) -> int:
    folder = find_run(arguments.runs, arguments.run, recordings_folder())
    measured = Measured.of(folder)
    rows, tasks = measured.rows, len(measured.tasks)
    if not any(task >= 0 for row in rows.values() for task in row):
        raise ConfigError(f"run {folder.name} has no accuracies yet; they come when its first task has been learned")
    task, after = _cell(arguments, rows, tasks)
    if arguments.line:
        return _line(folder, _line_start(arguments, after), after, arguments.json)
    if arguments.line_from is not None:
        raise ConfigError("--line-from says where the line of --line begins; give both")
    if arguments.layers and later.read(folder, task, after) is None:
        from cl_core.analysis.patching import locate  # imports torch

        if task == after:
            raise ConfigError(f"--layers compares T{task + 1} with a later task; give one with --after")
        locate(folder, task, after, lambda text: print(text, file=sys.stderr))
    found_later = later.read(folder, task, after)
    rows = with_later(rows, task, after, found_later)
    cell, statistics = ledger(rows, task, after), statistics_ledger(rows, task, after)
    found = measured.images(task, after, found_later)
    image = _image(arguments.image, measured, found, task)
    if arguments.json:
        print(json.dumps(_record(cell, found_later, measured.steps(task, after))))
        return 0
    print(f"{folder.name}: {verdict(cell, rows, found, measured.names)}")
    for line in [*_lines(cell, statistics, found), *_layers(found_later), *_steps(measured, cell)]:
        print(line)
    stored = measured.stored(task)
    if found is not None and image is not None and stored is not None:
        told = why_image(found, image, measured.names, int(stored.labels[image]))
        print(f"image {image + 1} of T{task + 1}: {told}")
        for line in near_means(found_later, int(stored.rows[image]), measured.names):
            print(f"  {line}")
    return 0


def _line_start(arguments: argparse.Namespace, after: int) -> int:
    """The task whose weights the line starts with, from 0; −1: before training."""
    if arguments.line_from is None:
        return later.UNTOUCHED
    if not 1 <= arguments.line_from <= after:
        raise ConfigError(f"--line-from must be a task before T{after + 1}, got {arguments.line_from}")
    return arguments.line_from - 1


def _line(folder: RunFolder, start: int, end: int, as_json: bool) -> int:
    """The line between two states of the weights."""
    from cl_core.analysis.interpolation import interpolate  # imports torch

    say = lambda text: print(text, file=sys.stderr)
    found = later.read_line(folder, start, end) or interpolate(folder, start, end, say)
    if as_json:
        print(json.dumps(found))
        return 0
    first = "the untouched weights" if start < 0 else f"the weights after T{start + 1}"
    print(f"{folder.name}: between {first} (0) and those after T{end + 1} (1)")
    print(f"{'alpha':>6} {'learned tasks':>14} {'later tasks':>12} {'general set':>12}")
    for place, alpha in enumerate(found["alphas"]):
        values = [None if found[name] is None else found[name][place] for name in ("learned", "kept", "general")]
        learned, kept, general = ("–" if value is None else f"{value:.1f} %" for value in values)
        print(f"{alpha:>6.1f} {learned:>14} {kept:>12} {general:>12}")
    return 0


def _cell(arguments: argparse.Namespace, rows: Rows, tasks: int) -> tuple[int, int]:
    """(task, after), from 0. Raises ConfigError that lists the measured ones."""
    known = sorted(task for task in rows.get(own_head(rows), {}) if task >= 0)
    after = known[-1] if arguments.after is None else arguments.after - 1
    if after not in known:
        there = ", ".join(f"T{task + 1}" for task in known)
        raise ConfigError(f"nothing was measured after T{after + 1}; --after may be one of {there}")
    if arguments.task is not None:
        task = arguments.task - 1
        if not 0 <= task < tasks:
            raise ConfigError(f"--task must lie in 1 to {tasks}, got {arguments.task}")
        if task > after:
            raise ConfigError(f"T{task + 1} is learned later than T{after + 1}: nothing of it can be forgotten yet")
        return task, after
    return worst_cell(rows, after) or (after, after)


def _image(asked: int | None, measured: Measured, found: Images | None, task: int) -> int | None:
    if asked is None:
        return None
    stored = measured.stored(task)
    if stored is None or found is None:
        raise ConfigError(
            f"this run does not hold what became of the test images of T{task + 1}; runs started with "
            "diagnostics.images above 0 do"
        )
    if not 1 <= asked <= len(stored.labels):
        raise ConfigError(f"--image must lie in 1 to {len(stored.labels)}, got {asked}")
    return asked - 1


def _record(cell: Ledger, found: dict[str, Any] | None, steps: list[Stretch] | None) -> dict[str, Any]:
    """Output for programs; keys are fixed."""
    return {
        "task": cell.task + 1,
        "after": cell.after + 1,
        "readout": cell.readout,
        "then": cell.then,
        "now": cell.now,
        "drop": cell.drop,
        "parts": dict(cell.parts),
        "cause": cell.cause,
        "layers": found and [{"layer": row["layer"], "recovered": row["alone"]} for row in found["layers"]],
        "steps": steps
        and [{"task": part.task + 1, "from": part.first + 1, "to": part.last + 1, "loss": part.rise} for part in steps],
    }


def _lines(cell: Ledger, statistics: Ledger, found: Images | None) -> list[str]:
    lines = [f"{cell.readout}: {_percent(cell.then)} when learned, {_percent(cell.now)} now, fall {_points(cell.drop)}"]
    lines += [f"  {name:<24}{_points(value):>8}  {MEANING[name]}" for name, value in cell.parts.items()]
    if cell.levels["R"][0] is None or cell.levels["R"][1] is None:
        lines.append(f"  no head was refitted here: {HOW_TO_REFIT}")
    if statistics.drop is not None:
        parts = ", ".join(f"{name} {_points(value)}" for name, value in statistics.parts.items())
        lines.append(f"{statistics.readout}: fall {_points(statistics.drop)} = {parts}")
    if found is not None and cell.after > cell.task:
        won = int((~found.right[found.own][0] & found.right[found.own][1]).sum())
        lost = np.flatnonzero(found.lost)
        worst = lost[np.argsort((found.margins[1] - found.margins[0])[lost])][:8]
        most = f"; most margin lost by images {', '.join(str(i + 1) for i in worst)}" if len(worst) else ""
        lines.append(f"of {len(found.lost)} test images {len(lost)} were lost and {won} became right{most}")
    return lines


def _layers(found: dict[str, Any] | None) -> list[str]:
    """Accuracy recovered when a part is restored."""
    if found is None:
        return ["which layer: not measured; --layers does, from the run's checkpoints"]
    rows = ", ".join(f"{row['layer']} {_points(row['alone'])}" for row in found["layers"])
    rest = f"old head {_points(found['head'])}, all but the head {_points(found['body'])}"
    return [f"comes back with one block as it was: {rows}; {rest}"]


def _steps(measured: Measured, cell: Ledger) -> list[str]:
    """The steps with the largest loss increase on old tasks."""
    steps = measured.steps(cell.task, cell.after)
    if steps is None:
        return ["which step: not measured; runs with diagnostics.within above 0 look at old tasks within new ones"]
    if not steps:
        return ["which step: the loss on old tasks rose between no two looks"]
    said = [f"{part.first + 1}–{part.last + 1} (T{part.task + 1}, {part.rise:+.2f} nats)" for part in steps]
    return ["costliest steps for old tasks: " + ", ".join(said)]


def _percent(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} %"


def _points(value: float | None) -> str:
    return "–" if value is None else f"{value:+.1f}".replace("-", "−")
