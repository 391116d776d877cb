"""`plastiscope turn` and `fork`: change a setting of a running run, or of the remaining tasks of a run."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time

from cl_core.cli.options import add_json, add_runs
from cl_core.commands import ChangeSetting
from cl_core.config import ConfigError, describe, parse_pair
from cl_core.events import CommandRefused, Event, KnobTurned
from cl_core.registry import METHODS, load
from cl_core.store import (
    RunFolder,
    RunReader,
    StoreError,
    boundaries,
    entitle,
    find_run,
    fork_run,
    forked_settings,
    send,
)

PATIENCE = 30.0  # timeout in seconds for a run's answer
EXAMPLES = {
    "turn": "plastiscope turn 20260102-nsp2-1a2b eta_affinity=0.9",
    "fork": "plastiscope fork 20260102-nsp2-1a2b --after-task 3 --set eta_affinity=0.9",
}


def configure(parser: argparse.ArgumentParser) -> None:
    command = parser.prog.rsplit(" ", 1)[-1]
    parser.epilog = f"example: {EXAMPLES[command]}"
    parser.add_argument("run", help="name of the run, or an unambiguous beginning or end of it")
    if command == "turn":
        parser.add_argument("setting", metavar="SETTING=VALUE", help="a live setting of the method, and its new value")
    else:
        parser.add_argument("--after-task", type=int, required=True, metavar="K", help="keep T1 … TK as learned")
        parser.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="a setting that does not change shapes, or training.KEY; may be repeated; none: the same run again",
        )
        parser.add_argument("--name", default="", help="name of the fork's folder")
    add_runs(parser)
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    return {"turn": _turn, "fork": _fork}[arguments.command](arguments)


def _turn(arguments: argparse.Namespace) -> int:
    """Send the command and wait for the answer. 0 if the setting was changed, 1 if rejected."""
    name, value = parse_pair(arguments.setting, "turn")
    try:
        command = ChangeSetting(name, value)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    folder = find_run(arguments.runs, arguments.run)
    with contextlib.closing(RunReader(folder)) as reader:
        status = reader.status()
        if status.pid is None:
            raise StoreError(
                f"run {folder.name} is not running (it is {status.state}), so no setting of it can be changed; "
                "`plastiscope fork` trains the rest of it with another value"
            )
        before = max((stored.seq for stored in reader.since(kinds=("KnobTurned", "CommandRefused"))), default=0)
        send(folder, command)
        answer = _answer(reader, before)
    if answer is None:
        print(f"{folder.name}: turning {name}; it will answer after its current step")
        return 0
    if isinstance(answer, CommandRefused):
        raise StoreError(f"{folder.name} refused: {answer.reason}")
    if arguments.json:
        step = answer.clock.step + 1
        print(json.dumps({"run": folder.name, "name": name, "old": answer.old, "new": answer.new, "step": step}))
    else:
        print(f"{folder.name}: {turned_in_words(answer)}")
    return 0


def _answer(reader: RunReader, before: int) -> KnobTurned | CommandRefused | None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for stored in reader.since(before, ("KnobTurned", "CommandRefused")):
            event: Event = stored.event
            if isinstance(event, KnobTurned) or (
                isinstance(event, CommandRefused) and event.command == ChangeSetting.word
            ):
                return event
        if reader.status().pid is None:
            return None
        time.sleep(0.1)
    return None


def turned_in_words(event: KnobTurned) -> str:
    """'eta_affinity 0.5 → 0.9 from step 131 on (T3)'."""
    return f"{event.name} {event.old} → {event.new} from step {event.clock.step + 1} on (T{event.clock.task + 1})"


def _fork(arguments: argparse.Namespace) -> int:
    """Make the fork and train its remaining tasks in this process."""
    from cl_core.cli.run import train

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch
    folder = find_run(arguments.runs, arguments.run)
    values = [parse_pair(pair) for pair in arguments.set]
    config = folder.config()
    if config.trained_elsewhere:
        raise StoreError(config.why_it_ends_here(folder.name))
    described = describe(load(METHODS, config.method, "method").Config)
    try_settings(folder, arguments.after_task, values, described)
    made = fork_run(folder, arguments.after_task, values, described, name=arguments.name)
    entitle(made, arguments.name)
    return train(made, as_json=arguments.json)


def try_settings(folder: RunFolder, after_task: int, values: list, described: list) -> None:
    """Build the fork's trainer and load the checkpoint, so that no folder is left behind if it does not fit. Raises
    ConfigError or StoreError."""
    config, changed = forked_settings(folder, after_task, values, described)
    if not changed:
        return
    from cl_core.training import checkpoint
    from cl_core.training.factory import build
    from cl_core.training.worker import restored

    restored(build(config), checkpoint.load(boundaries(folder)[after_task]))
