"""What a second worker of a sweep gains: the same short runs with one worker and with two, in turns.

    python -m bench.sweep [--count 20] [--repeats 1] [--epochs 1] [--runs DIR]

Each turn trains the whole sweep into a fresh folder, start and end of the workers included. `one, one thread` against
`two, one thread` is the gain of the second worker; `one, all cores` is what a person has who takes one worker alone.
Measure on an idle machine: other work on the cores falls on two workers harder than on one.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

from cl_core.sweeps import Sweep
from cl_core.sweeps.local import LocalEngine, cores
from cl_core.sweeps.scheduler import conduct


def turn(count: int, epochs: int, workers: int, threads: int, runs: Path) -> float:
    """Seconds for `count` runs, one a seed."""
    off = ("spectra", "attention", "drift", "readout")  # training and accuracies alone: short runs
    settings = (f"epochs={epochs}", *(f"diagnostics.{name}=false" for name in off))
    sweep = Sweep("bench", ({"method": "sequential", "device": "cpu"},), settings, (), tuple(range(count)))
    started = time.perf_counter()
    with LocalEngine(workers, threads) as engine:
        ended = conduct(sweep, runs, engine)
    spent = time.perf_counter() - started
    if ended.state != "finished":
        raise SystemExit(f"the sweep {ended.state}: {'; '.join(outcome.reason for outcome in ended.failed)}")
    return spent


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--count", type=int, default=20, help="runs in the sweep")
    cli.add_argument("--epochs", type=int, default=1, help="a task")
    cli.add_argument("--repeats", type=int, default=1, help="pairs")
    cli.add_argument("--runs", type=Path, help="where the runs go (default: a folder that is removed afterwards)")
    arguments = cli.parse_args()
    base = arguments.runs or Path(tempfile.mkdtemp(prefix="sweep-"))
    turns = {"one, one thread": (1, 1), "two, one thread": (2, 1), f"one, all {cores()} cores": (1, cores())}
    print(f"{arguments.count} runs of {arguments.epochs} epochs a task, {cores()} cores, load {os.getloadavg()[0]:.1f}")
    try:
        for pair in range(arguments.repeats):
            took = {}
            for place, (label, (workers, threads)) in enumerate(turns.items()):
                runs = base / f"{pair}-{place}"
                took[label] = turn(arguments.count, arguments.epochs, workers, threads, runs)
                shutil.rmtree(runs)
                print(f"{label:<18} {took[label]:7.1f} s   (load {os.getloadavg()[0]:.1f})", flush=True)
            alone, both, cored = took.values()
            print(f"two workers: {alone / both:.2f} × one with one thread, {cored / both:.2f} × one with all cores")
    finally:
        if arguments.runs is None:
            shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
