"""`plastiscope list`, `show`, `resume`, `stop`, `pause`, and `work`, the worker process that the dashboard starts."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import asdict

from cl_core.assets import recordings_folder
from cl_core.cli.changes import turned_in_words
from cl_core.cli.options import accuracy_table, add_json, add_runs, headline, named_path
from cl_core.commands import Command, Pause, Stop
from cl_core.store import RunFolder, RunReader, StoreError, find_run, fork_of, list_runs, send, turned
from cl_core.summary import summarise

STARTED = time.time()  # approximate start of the process; commands sent while torch loads still apply
EXAMPLES = {
    "list": "plastiscope list --runs runs",
    "show": "plastiscope show 20260102-nsp2-1a2b --json",
    "resume": "plastiscope resume 20260102-nsp2-1a2b",
    "stop": "plastiscope stop 20260102-nsp2-1a2b",
    "pause": "plastiscope pause 20260102-nsp2-1a2b",
    "work": "plastiscope work runs/20260102-nsp2-1a2b",
}


def configure(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.rsplit(" ", 1)[-1]
    parser.epilog = f"example: {EXAMPLES[command]}"
    if command == "work":
        parser.add_argument("folder", type=named_path)
        return
    if command != "list":
        parser.add_argument("run", help="name of the run, or an unambiguous beginning or end of it")
    if command == "resume":
        parser.add_argument(
            "--after-task",
            type=int,
            metavar="N",
            help="continue from the checkpoint after task N instead of the newest, 0: from the beginning; later data "
            "of the run is discarded (for a run whose newest checkpoint or events are damaged)",
        )
    add_runs(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    return {"list": _list, "show": _show, "resume": _resume, "stop": _stop, "pause": _pause, "work": _work}[
        arguments.command
    ](arguments)


def _list(arguments: argparse.Namespace) -> int:
    rows, unreadable = [], []
    for folder in list_runs(arguments.runs):
        try:
            rows.append(summarise(folder))
        except StoreError as error:
            unreadable.append(str(error))
    if arguments.json:
        print(json.dumps([row.to_dict() for row in rows]))
    elif not rows and not unreadable:
        print(f"no runs in {arguments.runs} yet; `plastiscope run --method nsp2` makes one")
    else:
        print(f"{'run':<34} {'state':<9} {'method':<12} {'stream':<14} {'seed':>4} {'final':>6} {'forgot':>6}")
        for row in rows:
            final, forgot = (f"{v:.1f}" if v is not None else "–" for v in (row.final_average_accuracy, row.forgetting))
            named = f"{row.run:<34} {row.state:<9} {row.method:<12} {row.stream:<14} {_seed(row.seed):>4}"
            print(f"{named} {final:>6} {forgot:>6}")
    for sentence in unreadable:
        print(f"plastiscope: {sentence}", file=sys.stderr)
    return 0


def _seed(seed: int | None) -> str:
    return "–" if seed is None else str(seed)


def _show(arguments: argparse.Namespace) -> int:
    folder = find_run(arguments.runs, arguments.run, recordings_folder())
    summary, fork, turns = summarise(folder), fork_of(folder), turned(folder)
    if arguments.json:
        own = {
            "config": folder.config().to_dict(),
            "fork": asdict(fork) if fork else None,
            "turned": [{**asdict(event.clock), **event.body()} for event in turns],
        }
        print(json.dumps({**summary.to_dict(), **own}))
        return 0
    print(f"{summary.run}: {summary.state}" + (f" ({summary.reason})" if summary.reason else ""))
    print(f"{summary.method} on {summary.stream} with {summary.backbone}, seed {_seed(summary.seed)}")
    if origin := folder.config().origin:
        print(origin)
    if fork:
        changes = ", ".join(f"{name} {old} → {new}" for name, (old, new) in fork.changed.items()) or "nothing changed"
        print(f"fork of {fork.parent} after T{fork.after_task}: {changes}")
    for event in turns:
        print(f"turned: {turned_in_words(event)}")
    print(f"{summary.device}, {summary.seconds:.0f} s\n\n{accuracy_table(summary)}\n\n{headline(summary)}")
    return 0


def _resume(arguments: argparse.Namespace) -> int:
    from cl_core.cli.run import train

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    folder = find_run(arguments.runs, arguments.run)
    return train(folder, as_json=arguments.json, after_task=arguments.after_task)


def _stop(arguments: argparse.Namespace) -> int:
    return _order(arguments, Stop(), ("stopped", "finished", "failed"), "saving and stopping")


def _pause(arguments: argparse.Namespace) -> int:
    return _order(arguments, Pause(), ("paused", "finished", "failed", "stopped"), "pausing")


def _order(arguments: argparse.Namespace, command: Command, until: tuple[str, ...], doing: str) -> int:
    """Send a command and wait up to 30 s for the resulting state."""
    folder = find_run(arguments.runs, arguments.run)
    with contextlib.closing(RunReader(folder)) as reader:
        status = reader.status()
        if status.pid is None:
            raise StoreError(f"run {folder.name} is not running (it is {status.state}); nothing to {command.word}")
        send(folder, command)
        deadline = time.monotonic() + 30
        while (status := reader.status()).state not in until and status.pid and time.monotonic() < deadline:
            time.sleep(0.1)
    reached = status.state in until
    if arguments.json:
        print(json.dumps({"run": folder.name, "state": status.state}))
    else:
        print(
            f"{folder.name}: {status.state}"
            if reached
            else f"{folder.name}: {doing}; it will answer after its current step"
        )
    return 0


def _work(arguments: argparse.Namespace) -> int:
    """Train a run folder; SIGTERM saves and stops. The parent process redirects output to the run's log."""
    from cl_core.training.worker import drive

    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _frame: asked.append(n))
    ended = drive(RunFolder(arguments.folder), asked_to_stop=lambda: bool(asked), orders_since=STARTED)
    if ended.state == "failed":
        print(f"plastiscope: {ended.reason}", file=sys.stderr)
        return 1
    return 0
