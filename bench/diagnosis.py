"""What diagnosing forgetting costs a run: answers for every test image, heads fitted anew, old tasks within new ones.

    python -m bench.diagnosis [--preset nsp2-micro] [--pairs 5] [--tasks N]

Each pair is two whole runs of the preset, in turn and in either order: as by default, and with all three left out
(nothing else differs: the survey of a finished task and the statistics of the readout stay). Processor time of one
process on one thread. On a machine that others use as well pairs still differ by several percent, so the time within
the functions that do the extra work is counted besides: `parts`, a share of the run's whole time, without writing.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch

from cl_core.config import RunConfig
from cl_core.observers.image_answers import ImageAnswers
from cl_core.observers.old_tasks import OldTasks
from cl_core.presets import resolve
from cl_core.store import create_run
from cl_core.training import evaluation
from cl_core.training.worker import drive

NOTHING: dict[int, evaluation.Classifier] = {}
PARTS = (  # that do the extra work, and nothing else
    (ImageAnswers, "started"),
    (ImageAnswers, "task_measured"),
    (OldTasks, "step_taken"),
    (evaluation, "margins"),
    (evaluation, "_for_one_task"),
)
spent_in: Counter[str] = Counter()


def counted(name: str, work: Callable[..., object]) -> Callable[..., object]:
    def timed(*arguments: object, **named: object) -> object:
        began = time.process_time()
        try:
            return work(*arguments, **named)
        finally:
            spent_in[name] += time.process_time() - began

    return timed


def without(config: RunConfig) -> RunConfig:
    return replace(config, diagnostics=replace(config.diagnostics, images=0, within=0.0))


def no_refits(self: evaluation.Evaluation, learned: list[int]) -> tuple[object, object]:
    """`_recomputed` without its heads."""
    told = self.fresh_statistics()
    for index in learned:
        task, own = self.stream[index], self._statistics_of(self.stream[index])
        for batch in self.feed.ordered(task, "train", self.batch):
            own.add(self.features(batch).pooled, batch.labels - task.classes.start)
        told.include(own, task.classes.start)
    return NOTHING, told


def seconds(config: RunConfig, *, bare: bool) -> tuple[float, float]:
    """Processor time of a whole run, and megabytes of what it stored."""
    patches = [
        mock.patch.object(evaluation.Evaluation, "_recomputed", no_refits),
        mock.patch.object(evaluation.Evaluation, "_just_learned", lambda self, index: NOTHING),
    ]
    watched = [mock.patch.object(owner, name, counted(name, getattr(owner, name))) for owner, name in PARTS]
    spent_in.clear()
    with tempfile.TemporaryDirectory() as place:
        folder = create_run(Path(place), replace(without(config) if bare else config, name="run"))
        for patch in patches if bare else watched:
            patch.start()
        try:
            began = time.process_time()
            ended = drive(folder)
            spent = time.process_time() - began
        finally:
            mock.patch.stopall()
        if ended.state != "finished":
            sys.exit(f"the run ended as {ended.state}: {ended.reason}")
        stored = [folder.database, *(folder.path / "arrays").rglob("*.npy")]
        return spent, sum(file.stat().st_size for file in stored) / 1e6


def main() -> None:
    cli = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--preset", default="nsp2-micro")
    cli.add_argument("--pairs", type=int, default=5)
    cli.add_argument("--tasks", type=int, help="default: the preset's")
    arguments = cli.parse_args()
    torch.set_num_threads(1)
    record = {"preset": arguments.preset}
    config = resolve(record | ({"stream_settings": {"tasks": arguments.tasks}} if arguments.tasks else {}))
    seconds(replace(config, stream_settings=replace(config.stream_settings, tasks=2)), bare=False)  # warm
    ratios, shares = [], []
    for pair in range(arguments.pairs):
        found, parts = {}, {}
        for bare in (False, True) if pair % 2 else (True, False):
            found[bare] = seconds(config, bare=bare)
            parts[bare] = sum(spent_in.values())
        (full, stored), (bare, less) = found[False], found[True]
        ratios.append(full / bare)
        shares.append(parts[False] / full)
        print(
            f"{full:.1f} s ÷ {bare:.1f} s = {full / bare:.4f}; parts {100 * shares[-1]:.2f} %; {stored:.2f} MB, "
            f"without {less:.2f} MB",
            flush=True,
        )
    print(f"median of {len(ratios)} pairs: {statistics.median(ratios):.4f} ({min(ratios):.4f} … {max(ratios):.4f})")
    print(f"median of the parts: {100 * statistics.median(shares):.2f} % of the run")


if __name__ == "__main__":
    main()
