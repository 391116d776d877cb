"""Forks: a new run that starts from another run's task boundary and continues with other settings.

Its folder holds the parent's events and boundary checkpoints up to that boundary, so that readers see a complete run,
even if the parent is removed. Rows are copied. Arrays and checkpoints are hard links if the file system supports them
(existing files are never modified), else copies.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from cl_core.config import RunConfig
from cl_core.config_changes import Rows, forked
from cl_core.events import Clock, KnobTurned, StateChanged
from cl_core.store.checkpoints import Checkpoint, boundaries, lost
from cl_core.store.fork_note import Fork, fork_of
from cl_core.store.reader import RunReader
from cl_core.store.run import RunFolder, StoreError, create_run, write_atomically
from cl_core.store.writer import RunWriter


def turned(folder: RunFolder, until: int | None = None) -> list[KnobTurned]:
    """Return settings changed in this run itself (not in its parent), in order; `until`: only up to that seq."""
    fork = fork_of(folder)
    with contextlib.closing(RunReader(folder)) as reader:
        found = list(reader.since(fork.seq if fork else 0, (KnobTurned.__name__,)))
    return [s.event for s in found if until is None or s.seq <= until]  # type: ignore[misc]


def effective_config(folder: RunFolder, until: int | None = None) -> RunConfig:
    """Return the settings now (or at seq `until`): those of config.json with later changes of live settings."""
    config = folder.config()
    values = {event.name: event.new for event in turned(folder, until)}
    return replace(config, settings={**config.settings, **values}) if values else config


def forked_settings(
    folder: RunFolder, after_task: int, values: Iterable[tuple[str, Any]], described: Rows
) -> tuple[RunConfig, dict[str, Any]]:
    """Return the settings of a fork of `folder`, and how they differ from the parent's settings at that point.

    Raises StoreError if there is no checkpoint to start from, ConfigError if a setting cannot be changed.
    """
    start = _boundary(folder, after_task)
    config, changed = forked(effective_config(folder, start.seq), values, described)
    return replace(config, parent=folder.name, fork_task=after_task, name=""), changed


def fork_run(
    folder: RunFolder,
    after_task: int,
    values: Iterable[tuple[str, Any]],
    described: Rows,
    *,
    name: str = "",
    runs: Path | None = None,
) -> RunFolder:
    """Create a run that continues from `folder` after `after_task` trained tasks, with other settings.

    The new run is stopped; a resume trains the remaining tasks.

    Args:
        values: (key, value) pairs, keys as in --set; empty = the same settings.
        settings: the method's settings as `config.describe` gives them.
        name: name of the folder; time and method if empty.
        runs: folder for the new run; None = that of the parent.

    Raises:
        StoreError: if there is no checkpoint to start from, or the folder cannot be written.
        ConfigError: if a setting cannot be changed.
    """
    config, changed = forked_settings(folder, after_task, values, described)
    start = _boundary(folder, after_task)
    made = create_run(runs or folder.path.parent, replace(config, name=name))
    try:
        note = Fork(folder.name, after_task, start.seq, changed)
        write_atomically(made.fork_file, json.dumps(asdict(note), indent=1).encode())
        _copy_past(folder, made, start.seq)
        with contextlib.closing(RunWriter(made)) as writer, contextlib.closing(RunReader(folder)) as reader:
            writer.adopt(reader.rows(start.seq))
            reason = f"forked from {folder.name} after T{after_task}; resume trains the rest"
            writer.append([StateChanged(Clock(after_task - 1), "stopped", reason)])
    except (OSError, StoreError) as error:
        shutil.rmtree(made.path, ignore_errors=True)
        raise StoreError(f"cannot fork {folder.name}: {error}") from error
    return made


def _copy_past(folder: RunFolder, made: RunFolder, seq: int) -> None:
    """Copy or link arrays and boundary checkpoints up to `seq`."""
    for file in folder.arrays.glob("*.npy"):
        if int(file.name.split("-", 1)[0]) <= seq:
            _link(file, made.arrays / file.name)
    for checkpoint in boundaries(folder).values():
        if checkpoint.seq <= seq:
            for file in sorted(checkpoint.path.iterdir(), key=lambda f: f.name == "done"):
                _link(file, made.checkpoints / checkpoint.path.name / file.name)


def _link(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def _boundary(folder: RunFolder, after_task: int) -> Checkpoint:
    """Return the checkpoint after `after_task` tasks. The StoreError otherwise names the existing ones."""
    config = folder.config()  # first, to raise for a damaged or newer run
    if config.trained_elsewhere:
        raise StoreError(config.why_it_ends_here(folder.name))
    known = boundaries(folder)
    with contextlib.closing(RunReader(folder)) as reader:
        started = reader.latest("RunStarted")
    tasks = started.event.trained_tasks if started else 0  # type: ignore[attr-defined]
    if not known:
        raise StoreError(
            f"{folder.name} keeps no checkpoint between tasks: it is a recording, or no task has been finished; a fork "
            "needs the run itself"
        )
    if tasks and after_task >= tasks:
        raise StoreError(f"a fork after T{after_task} would have nothing left to train: {folder.name} has {_of(tasks)}")
    if after_task not in known:
        there = ", ".join(f"T{task}" for task in known if task < tasks) or "none yet"
        raise StoreError(f"{folder.name} has no checkpoint after T{after_task}; there is one after: {there}")
    if missing := lost(folder, known[after_task]):
        raise StoreError(f"{folder.name} cannot be forked after T{after_task}: {missing}")
    return known[after_task]


def _of(tasks: int) -> str:
    return "one task" if tasks == 1 else f"{tasks} tasks"
