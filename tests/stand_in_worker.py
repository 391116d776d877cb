"""A stand-in for a worker: plays an invented run slowly and obeys its inbox, so that pages can be tried without torch.

python -m tests.stand_in_worker work FOLDER      plays a run into FOLDER
python -m tests.stand_in_worker hold FOLDER      holds it until its standard input ends
python -m tests.stand_in_worker write FOLDER     writes a run in every state below FOLDER
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from cl_core.commands import Command, Pause, Resume, Step, Stop
from cl_core.events import Clock, CommandRefused, Event, StateChanged
from cl_core.store import RunFolder, RunWriter, hold, take
from tests.invented_run import LIFELIKE, Plan, moments
from tests.recorded_runs import STATES, finished

HURRY = "hurry"  # a file of this name in a run's folder: play the rest quickly


def work(folder: RunFolder, plan: Plan, delay: float) -> None:
    """Play `plan` into `folder`, one moment each `delay` seconds, obeying the inbox between moments."""
    with hold(folder):
        writer = RunWriter(folder)
        left, allowed, clock = moments(plan), None, Clock()  # allowed: moments before the next pause; None = no pause
        stored, written = writer.seq, 0
        if stored:  # a resume: go on behind what is there
            writer.append((StateChanged(clock, "running"),))
            while written < stored and (moment := next(left, None)):
                written += len(moment)
        for moment in left:
            writer.append(moment)
            clock = moment[-1].clock
            allowed = None if allowed is None else allowed - 1
            if isinstance(moment[-1], StateChanged) and moment[-1].state == "finished":
                break
            if allowed == 0:
                writer.append((StateChanged(clock, "paused"),))
            time.sleep(min(delay, 0.1) if (folder.path / HURRY).exists() else delay)
            while True:
                for command in take(folder):
                    allowed, state = _obey(command, allowed)
                    if state:
                        writer.append((state if isinstance(state, Event) else StateChanged(clock, state),))
                    if state == "stopped":
                        writer.close()
                        return
                if allowed != 0:
                    break
                time.sleep(0.05)
        writer.close()


def _obey(command: Command | str, allowed: int | None) -> tuple[int | None, str | Event | None]:
    match command:
        case Pause():
            return 0, None if allowed == 0 else "paused"
        case Resume():
            return None, "running"
        case Step(moments=count):
            return count, "running"
        case Stop():
            return allowed, "stopped"
    return allowed, CommandRefused(Clock(), "?", str(command))


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("what", choices=("work", "hold", "write"))
    cli.add_argument(
        "folder", type=Path, help="work, hold: a run's folder; write: a folder to write a run in every state into"
    )
    cli.add_argument("--delay", type=float, default=0.05, help="seconds between moments")
    cli.add_argument("--lifelike", action="store_true", help="sizes of the micro backbone")
    arguments = cli.parse_args()
    plan = LIFELIKE if arguments.lifelike else Plan()
    if arguments.what == "work":
        work(RunFolder(arguments.folder), plan, arguments.delay)
    elif arguments.what == "write":
        for name, write in STATES.items():
            write(arguments.folder, name, plan) if arguments.lifelike and name in (
                "finished",
                "paused",
                "stopped",
                "failed",
                "gone",
                "half-written",
            ) else write(arguments.folder, name)
        finished(arguments.folder, "sequential", replace(plan, method="sequential"))
    else:
        with hold(RunFolder(arguments.folder)):
            print("held", flush=True)
            sys.stdin.read()


if __name__ == "__main__":
    main()
