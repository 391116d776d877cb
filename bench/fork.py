"""What a fork costs: the wall time of one after task K against the whole run's, and against the same tasks in the run.

    python -m bench.fork [--method nsp2] [--after 4] [--epochs N] [--threads N]

Trains the method's embedded preset once, forks it after task K with nothing changed, trains the rest, and checks that
what the fork measured is what its parent had measured. Runs one after the other in this process, in a folder that is
removed. Times include building the model, copying the past and loading the checkpoint.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from cl_core.config import describe
from cl_core.presets import resolve
from cl_core.registry import METHODS, load
from cl_core.store import RunFolder, RunReader, create_run, fork_run
from cl_core.training.worker import drive


def task_seconds(folder: RunFolder) -> list[float]:
    """Wall time from each task's first event to the next task's, the last one's to the end."""
    with contextlib.closing(RunReader(folder)) as reader:
        starts = [stored.time for stored in reader.since(kinds=("TaskStarted",))]
        ended = reader.status().moved
    return [b - a for a, b in zip(starts, [*starts[1:], ended], strict=True)]


def rows(folder: RunFolder) -> list[tuple[int, str, list[float | None]]]:
    with contextlib.closing(RunReader(folder)) as reader:
        found = [s.event for s in reader.since(kinds=("AccuracyMeasured",))]
    return [(e.clock.task, e.readout, e.row) for e in found]


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--method", default="nsp2")
    cli.add_argument("--after", type=int, default=4, help="tasks that are kept")
    cli.add_argument("--epochs", type=int, help="default: the preset's")
    cli.add_argument("--threads", type=int, help="default: torch's own choice")
    arguments = cli.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    config = resolve({"method": arguments.method, "device": "cpu"})
    if arguments.epochs:
        config = replace(config, training=replace(config.training, epochs=arguments.epochs))
    described = describe(load(METHODS, config.method, "method").Config)
    with tempfile.TemporaryDirectory() as place:
        folder = create_run(Path(place), replace(config, name="parent"))
        started = time.perf_counter()
        drive(folder)
        whole = time.perf_counter() - started
        started = time.perf_counter()
        fork = fork_run(folder, arguments.after, [], described, name="fork")
        copied = time.perf_counter() - started
        drive(fork)
        forked = time.perf_counter() - started
        tasks = task_seconds(folder)
        same = rows(fork) == rows(folder)
    left = sum(tasks[arguments.after :])
    print(
        f"{config.method}, {len(tasks)} tasks, {torch.get_num_threads()} threads: whole run {whole:.1f} s, fork after "
        f"T{arguments.after} {forked:.1f} s ({copied:.2f} s of it copying)"
    )
    print(
        f"fork ÷ whole run {forked / whole:.2f} (share of tasks left {1 - arguments.after / len(tasks):.2f}); "
        f"fork ÷ the same tasks in the run {forked / left:.2f}; accuracies equal: {same}"
    )


if __name__ == "__main__":
    main()
