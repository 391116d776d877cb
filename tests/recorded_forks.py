"""A recorded run that can be forked, and forks of it that go on with invented numbers: the real store makes both."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

from cl_core.events import AccuracyMeasured, CheckpointSaved, Clock, Event, RunForked, StateChanged
from cl_core.readouts import CLASS_INCREMENTAL
from cl_core.store import RunFolder, RunReader, RunWriter, fork_of, fork_run
from tests import recorded_runs
from tests.recorded_runs import Plan

SETTINGS = [
    {"name": "eta_affinity", "default": 0.97, "low": 0.0, "high": 1.0, "choices": None, "live": True, "fixed": ""},
]


def forkable(runs: Path, name: str = "whole", plan: Plan | None = None) -> RunFolder:
    """A finished run with a (hollow) checkpoint after each task."""
    folder = recorded_runs.finished(runs, name, plan)
    with closing(RunReader(folder)) as reader:
        saved = list(reader.since(kinds=(CheckpointSaved.__name__,)))
    for task, stored in enumerate(saved):
        _checkpoint(folder, stored.seq, task + 1)
    return folder


def forked(parent: RunFolder, after_task: int, name: str, accuracy: float, tasks: int = 3) -> RunFolder:
    """A finished fork whose accuracies after `after_task` are all `accuracy` percent."""
    made = fork_run(parent, after_task, [("eta_affinity", accuracy / 100)], SETTINGS, name=name)
    fork = fork_of(made)
    assert fork is not None
    with closing(RunWriter(made)) as writer:
        writer.append([RunForked(Clock(after_task - 1), parent.name, after_task, fork.changed, 99)])
        for task in range(after_task, tasks):
            row = [accuracy] * (task + 1) + [None] * (tasks - task - 1)
            saved: list[Event] = [CheckpointSaved(Clock(task), f"{task + 1:06d}", boundary=True)]
            writer.append([AccuracyMeasured(Clock(task), CLASS_INCREMENTAL, row), *saved])
            _checkpoint(made, writer.seq, task + 1)
        writer.append([StateChanged(Clock(tasks - 1), "finished")])
    made.lock.touch()
    return made


def _checkpoint(folder: RunFolder, seq: int, task: int) -> None:
    path = folder.checkpoints / f"{seq:08d}"
    path.mkdir(parents=True)
    (path / "state.json").write_text(json.dumps({"seq": seq, "boundary": True, "task": task, "state": {}}))
    (path / "done").touch()
