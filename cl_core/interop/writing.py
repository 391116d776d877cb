"""Writing of an imported result as an ordinary run, with the same events and the store's writer."""

from __future__ import annotations

import contextlib
import math
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from cl_core import __version__
from cl_core.config import RunConfig, StreamConfig
from cl_core.events import (
    AccuracyMeasured,
    Clock,
    Event,
    RunStarted,
    StateChanged,
    StepEnded,
    TaskEnded,
    TaskStarted,
)
from cl_core.interop.result import Loss, Result
from cl_core.readouts import ZERO_SHOT
from cl_core.store import RunFolder, RunWriter, create_run, entitle, hold


def config_of(
    result: Result, *, name: str = "", method: str = "", stream: str = "", seed: int | None = None
) -> RunConfig:
    """Return the settings of the run: names, origin, and notes on how it was read."""
    how: dict[str, object] = {"read_as": list(result.notes)}
    if result.unread:
        how["not_read"] = list(result.unread)
    return RunConfig(
        method=method or result.method or result.program,
        backbone="not recorded",
        stream=stream or result.stream or "not recorded",
        seed=seed if seed is not None else result.seed,
        name=name,
        origin=f"imported from {result.source} ({result.program})",
        settings={**result.settings, **how},
        stream_settings=StreamConfig(tasks=len(result.tasks)),
    )


def write(
    result: Result, runs: Path, *, name: str = "", method: str = "", stream: str = "", seed: int | None = None
) -> RunFolder:
    """Write a finished run below `runs`; on failure nothing is left behind. Raises StoreError, ConfigError."""
    config = config_of(result, name=name, method=method, stream=stream, seed=seed)
    if not name:
        stem = re.sub(r"[^A-Za-z0-9._]+", "-", f"{config.method}-{config.stream}").strip("-.").lower()[:60]
        unique = f"{time.strftime('%Y%m%d-%H%M%S')}-{stem or 'imported'}-{secrets.token_hex(2)}"
        config = config_of(result, name=unique, method=method, stream=stream, seed=seed)
    folder = create_run(runs, config)
    try:
        entitle(folder, name)
        with hold(folder), contextlib.closing(RunWriter(folder)) as writer:
            for moment in moments(result):
                writer.append(moment)
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def moments(result: Result) -> Iterator[list[Event]]:
    """Yield the run's events in the order of a training."""
    learned = [
        max((i for i, row in enumerate(rows) if any(v is not None for v in row)), default=-1)
        for rows in result.matrices.values()
    ]
    trained = max(learned) + 1
    losses: dict[int, list[Loss]] = {}
    for loss in result.losses:
        losses.setdefault(loss.task, []).append(loss)
    tasks = [
        {"name": name, "classes": list(result.classes[i]) if i < len(result.classes) else []}
        for i, name in enumerate(result.tasks)
    ]
    last = max((loss.step for loss in result.losses), default=-1)
    started = RunStarted(
        Clock(),
        tasks,
        result.scenario,
        len(tasks),
        last + 1,
        0,
        {"name": "not recorded"},
        {"device": "not recorded", "plastiscope": __version__},
    )
    opening: list[Event] = [started, StateChanged(Clock(), "running")]
    if result.untrained is not None:
        opening.append(AccuracyMeasured(Clock(), ZERO_SHOT, result.untrained))
    yield opening
    step = -1
    for task in range(trained):
        mine = losses.get(task, [])
        yield [TaskStarted(Clock(task, -1, step), tasks[task]["classes"], len(mine))]  # type: ignore[arg-type]
        if mine:
            yield [
                StepEnded(Clock(task, loss.epoch, loss.step), {"total": loss.value}, {}, {}, {}, math.nan, 0.0)
                for loss in mine
            ]
            step = mine[-1].step
        clock = Clock(task, mine[-1].epoch if mine else 0, step)
        rows = {readout: matrix[task] for readout, matrix in result.matrices.items()}
        yield [
            TaskEnded(clock, math.nan, 0),
            *(
                AccuracyMeasured(clock, readout, row)
                for readout, row in rows.items()
                if any(value is not None for value in row)
            ),
        ]
    whole = trained == len(tasks)
    ending = "" if whole else f"{trained} of {len(tasks)} tasks were learned when the log ended"
    yield [StateChanged(Clock(trained - 1, 0, step), "finished" if whole else "stopped", ending)]
