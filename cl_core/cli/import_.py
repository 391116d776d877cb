"""`plastiscope import`: results of another program as an ordinary run, shown before they are written."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from cl_core.cli.options import add_json, add_runs, named_path
from cl_core.config import ConfigError
from cl_core.interop import FORMATS, Asked, Result, read, write
from cl_core.interop.result import SCENARIOS, headline_readout_of
from cl_core.interop.writing import config_of
from cl_core.store import RunFolder, StoreError, record, unpack
from cl_core.summary import measures

EXAMPLE = """examples:
  plastiscope import csvlogs --scenario class-incremental --dry-run
  plastiscope import results.csv --scenario task-incremental --tasks cats,dogs,birds
  plastiscope import lightning_logs/version_0 --accuracy "val_acc/task{task}" --ends 100,200 --scenario task-incremental

--dry-run shows what would be written and writes nothing. A recording of another Plastiscope (a ZIP or a run's folder)
is taken as it is. docs/import.md lists the formats."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=named_path, help="a log, a table, a folder of them, or a recording")
    parser.add_argument(
        "--scenario", default="", metavar="NAME", help=", ".join(SCENARIOS) + "; where the log does not say"
    )
    parser.add_argument("--format", default="", metavar="NAME", help=f"one of {', '.join(FORMATS)}; default: detected")
    parser.add_argument("--scale", default="", help="percent or share (0 to 1), where it is not clear")
    parser.add_argument("--transposed", action="store_true", help="rows of a matrix are evaluated on, not trained on")
    parser.add_argument("--zeros", default="", help="measured or not-measured: meaning of cells that are exactly 0")
    parser.add_argument("--keep-future", action="store_true", help="keep accuracies on classes not learned yet")
    parser.add_argument("--tasks", default="", metavar="A,B,…", help="names of the tasks in order")
    parser.add_argument("--accuracy", default="", metavar="NAME", help="metric of a task, {task} for its number")
    parser.add_argument("--loss", default="", metavar="NAME", help="metric that is the training loss")
    parser.add_argument("--ends", default="", metavar="N,N,…", help="steps at which tasks ended")
    parser.add_argument("--name", default="", help="of the run; default: time and method")
    parser.add_argument("--method", default="", help="name of the method; default: as in the log")
    parser.add_argument("--stream", default="", help="name of the data; default: as in the log")
    parser.add_argument("--seed", type=int, help="of the training, where it is known")
    parser.add_argument("--dry-run", action="store_true", help="show what would be written, write nothing")
    add_runs(parser)
    add_json(parser)
    parser.epilog = EXAMPLE


def execute(arguments: argparse.Namespace) -> int:
    if _is_recording(arguments.path):
        return _recording(arguments)
    result = read(arguments.path, _asked(arguments))
    named = {key: getattr(arguments, key) for key in ("name", "method", "stream", "seed")}
    config_of(result, **named)  # invalid names are rejected before anything is shown
    if not arguments.json:
        print("\n".join(_preview(result)))
    folder = None if arguments.dry_run else write(result, arguments.runs, **named)
    if arguments.json:
        print(json.dumps(_record(result, folder)))
    elif folder is None:
        print("\nnothing was written (--dry-run)")
    else:
        print(f"\nwrote {folder.path}; `plastiscope open {folder.path.parent}` shows it")
    return 0


def _asked(arguments: argparse.Namespace) -> Asked:
    try:
        ends = tuple(int(part) for part in arguments.ends.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"--ends takes steps separated by commas, got {arguments.ends!r}") from None
    return Asked(
        arguments.scenario,
        arguments.scale,
        arguments.transposed,
        arguments.zeros,
        arguments.keep_future,
        tuple(name.strip() for name in arguments.tasks.split(",") if name.strip()),
        ends,
        arguments.accuracy,
        arguments.loss,
        arguments.format,
    )


def _preview(result: Result) -> list[str]:
    """The result: the matrix, derived measures, and notes on how it was read."""
    lines = [f"{result.program}: {result.source}", ""]
    for readout, rows in result.matrices.items():
        names = [name[:9] for name in result.tasks]
        lines.append(f"{readout}, percent; rows after training on, columns evaluated on")
        lines.append(f"{'':<10} " + "".join(f"{name:>10}" for name in names))
        if result.untrained is not None:
            lines.append(f"{'untrained':<10} " + "".join(_cell(v) for v in result.untrained))
        lines += [f"{names[i]:<10} " + "".join(_cell(v) for v in row) for i, row in enumerate(rows)]
        lines.append("")
    numbers = measures(result.matrices[headline_readout_of(result.scenario)])
    for name in ("final_average_accuracy", "learning_accuracy", "forgetting"):
        value = numbers[name]
        lines.append(f"{name.replace('_', ' '):<24} {'–' if value is None else f'{value:.1f}'}")
    lines += ["", *result.notes]
    if result.losses:
        lines.append(f"{len(result.losses)} points of a training loss.")
    if result.unread:
        lines.append(f"Not read: {', '.join(result.unread[:12])}" + (", …" if len(result.unread) > 12 else ""))
    return lines


def _cell(value: float | None) -> str:
    return f"{'' if value is None else f'{value:.1f}':>10}"


def _record(result: Result, folder: RunFolder | None) -> dict[str, Any]:
    return {
        "run": folder.name if folder else None,
        "folder": str(folder.path) if folder else None,
        "program": result.program,
        "source": result.source,
        "scenario": result.scenario,
        "tasks": result.tasks,
        "accuracy_matrix": result.matrices[headline_readout_of(result.scenario)],
        "readouts": result.matrices,
        "untrained": result.untrained,
        "losses": len(result.losses),
        **measures(result.matrices[headline_readout_of(result.scenario)]),
        "notes": result.notes,
        "not_read": result.unread,
    }


# ---------------------------------------------------------------- recordings of our own


def _is_recording(path: Path) -> bool:
    return path.suffix.lower() == ".zip" or ((path / "config.json").is_file() and (path / "events.db").is_file())


def _recording(arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        raise ConfigError(f"{arguments.path} is a recording of Plastiscope: it is copied as it is; leave out --dry-run")
    try:
        if arguments.path.is_dir():
            name = arguments.name or arguments.path.resolve().name
            folder = record(RunFolder(arguments.path), arguments.runs / name)
        else:
            folder = unpack(arguments.path, arguments.runs)
    except OSError as error:
        raise StoreError(f"cannot write runs into {arguments.runs}: {error.strerror or error}") from error
    if arguments.json:
        print(json.dumps({"run": folder.name, "folder": str(folder.path), "program": "Plastiscope"}))
    else:
        print(f"wrote {folder.path}; `plastiscope open {folder.path.parent}` shows it")
    return 0
