"""`plastiscope export` and `plastiscope report`: export a run as tables or as one HTML page."""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from cl_core.assets import recordings_folder
from cl_core.cli.options import add_json, add_runs, named_path
from cl_core.config import ConfigError
from cl_core.export import data_files, guard, leaf, manifest
from cl_core.interop.trackers import TRACKERS
from cl_core.store import RunFolder, StoreError, find_run, pack, write_atomically
from cl_core.store.run import replacing

EXAMPLES = {
    "export": "plastiscope export 20260102-nsp2-1a2b --out nsp2-export --figures svg",
    "report": "plastiscope report 20260102-nsp2-1a2b --out nsp2.html",
}


def configure(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.rsplit(" ", 1)[-1]
    parser.add_argument("run", help="name of the run, or an unambiguous beginning or end of it, or its folder")
    if command == "report":
        parser.add_argument("--out", type=named_path, metavar="FILE.html", help="default: the run's name, here")
    else:
        parser.add_argument("--out", type=named_path, metavar="DIR", help="default: the run's name and -export, here")
        parser.add_argument(
            "--figures",
            choices=("svg", "png", "none"),
            default="none",
            help="the report's figures as files as well; needs kaleido and Chrome or Chromium (default: none)",
        )
        parser.add_argument(
            "--tracker",
            choices=tuple(TRACKERS),
            help="instead: the run's curves in a file of this tool, into the folder of --out",
        )
        parser.add_argument(
            "--recording",
            action="store_true",
            help="instead: the run without its checkpoints as one ZIP, for `plastiscope open`; --out names a file",
        )
    add_runs(parser)
    add_json(parser)
    parser.epilog = f"example: {EXAMPLES[command]}"


def execute(arguments: argparse.Namespace) -> int:
    folder = find_run(arguments.runs, arguments.run, recordings_folder())
    folder.config()  # damaged or newer runs are rejected before anything is written
    gc.set_threshold(200_000, 20, 100)  # events are kept to the end: looking for garbage among them takes a fifth
    if arguments.command == "report":
        return _report(folder, arguments)
    if arguments.tracker:
        return _tracker(folder, arguments)
    return _recording(folder, arguments) if arguments.recording else _export(folder, arguments)


def _report(folder: RunFolder, arguments: argparse.Namespace) -> int:
    room = _reports()
    target = arguments.out or Path(f"{leaf(folder)}.html")
    if target.is_dir():
        raise ConfigError(f"{target} is a folder; name a file with --out")
    if target.exists() and not room.ours(target):
        raise ConfigError(f"{target} exists and is no report of Plastiscope; name another file with --out")
    _write(target, room.report(_log(folder)).encode())
    return _told(arguments, leaf(folder), {"file": str(target), "bytes": target.stat().st_size}, f"wrote {target}")


def _recording(folder: RunFolder, arguments: argparse.Namespace) -> int:
    target = arguments.out or Path(f"{leaf(folder)}.zip")
    if target.exists():
        raise ConfigError(f"{target} exists already; name another file with --out")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            pack(folder, file)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error
    told = f"wrote {target}; `plastiscope open {target}` shows it elsewhere"
    return _told(arguments, leaf(folder), {"file": str(target), "bytes": target.stat().st_size}, told)


def _tracker(folder: RunFolder, arguments: argparse.Namespace) -> int:
    run = leaf(folder)
    target: Path = arguments.out or Path(f"{run}-{arguments.tracker}")
    contents = dict(TRACKERS[arguments.tracker](folder))
    guard(target, run, contents)
    for name, content in contents.items():
        _write(target / name, content)
    manifest(target, run, contents)
    record = {"folder": str(target), "files": sorted(contents)}
    wrote = next(iter(contents)) if len(contents) == 1 else f"{len(contents)} files"
    return _told(arguments, run, record, f"wrote {wrote} to {target}")


def _export(folder: RunFolder, arguments: argparse.Namespace) -> int:
    run = leaf(folder)
    target: Path = arguments.out or Path(f"{run}-export")
    log = _log(folder)
    events = None if log.trouble else {kind: log.events(kind) for kind in log.kinds()}  # damaged: it says where
    contents = dict(data_files(folder, events))
    guard(target, run, [*contents, "report.html"])
    contents["report.html"] = _reports().report(log).encode()
    for name, content in contents.items():
        _write(target / name, content)
    manifest(target, run, contents)
    drawn, missing = ([], "") if arguments.figures == "none" else _figures(log, target, run, arguments.figures)
    written = [*contents, *drawn]
    sentence = f"wrote {len(written)} files to {target}; README.txt describes them"
    _told(arguments, run, {"folder": str(target), "files": sorted(written), "missing": missing or None}, sentence)
    if missing:
        print(f"plastiscope: {missing}; the report and the tables were written", file=sys.stderr)
    return 1 if missing else 0


def _figures(log: Any, target: Path, run: str, form: str) -> tuple[list[str], str]:
    """Names of the figures written to the folder `figures`, and why there are none."""
    images = import_module("dashboard.report.images")
    why = images.unavailable()
    if why:
        return [], why
    made = images.named(log)
    names = [f"figures/{name}.{form}" for name in made]
    guard(target, run, names)
    try:
        (target / "figures").mkdir(parents=True, exist_ok=True)
        images.write(list(made.values()), [target / name for name in names])
    except OSError as error:
        raise StoreError(f"cannot write {target / 'figures'}: {error.strerror or error}") from error
    except images.Undrawn as error:
        return [], str(error)
    manifest(target, run, names)
    return names, ""


def _reports() -> Any:
    """The report module, imported by name because cl_core never depends on the dashboard."""
    if importlib.util.find_spec("dashboard") is None or importlib.util.find_spec("plotly") is None:
        raise ConfigError("the dashboard is not installed; install Plastiscope with `pip install .` from its folder")
    return import_module("dashboard.report")


def _log(folder: RunFolder) -> Any:
    _reports()
    return import_module("dashboard.run_log").RunLog(folder).snapshot(force=True)


def _write(target: Path, content: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}") from error


def _told(arguments: argparse.Namespace, run: str, record: dict[str, Any], sentence: str) -> int:
    print(json.dumps({"run": run, **record}) if arguments.json else f"{run}: {sentence}")
    return 0
