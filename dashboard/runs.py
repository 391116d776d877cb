"""Which runs there are: those of the runs folder and the recordings that travel with the program.

A name from a URL is looked up here, never joined to a folder.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_core.assets import recordings_folder
from cl_core.events import AccuracyMeasured, RunStarted
from cl_core.metrics import final_average_accuracy, forgetting, learning_accuracy
from cl_core.store import RunFolder, RunReader, StoreError, list_runs

FRESH = 1.0  # seconds an index is good for
_INDEX: dict[Path, tuple[float, RunIndex]] = {}
CLASS_INCREMENTAL = "class-incremental"


class RunIndex:
    """Run folders by name, newest first, recordings last. `trouble` is a sentence if the folder cannot be listed."""

    def __init__(self, runs: Path, recordings: Path) -> None:
        self.runs = runs
        self.trouble = ""
        self.recordings = {folder.name: folder for folder in _listed(recordings)[0]}
        own, self.trouble = _listed(runs)
        self.own = {folder.name: folder for folder in own}

    @property
    def names(self) -> list[str]:
        return [*self.own, *(name for name in self.recordings if name not in self.own)]

    def find(self, name: str | None) -> RunFolder | None:
        """The run called exactly `name`, or None."""
        return self.own.get(name) or self.recordings.get(name) if name else None

    def is_recording(self, name: str) -> bool:
        return name in self.recordings and name not in self.own


def runs_folder() -> Path:
    """Where new runs are written and old ones looked for: what the server was told, or ./runs."""
    return Path(os.environ.get("PLASTISCOPE_RUNS") or "runs").expanduser()


def runs_index(*, fresh: bool = False) -> RunIndex:
    """The index of all runs, at most a second old; `fresh` after a run was created."""
    runs, now = runs_folder(), time.monotonic()
    found = _INDEX.get(runs)
    if fresh or found is None or now - found[0] > FRESH:
        found = _INDEX[runs] = (now, RunIndex(runs, recordings_folder()))
    return found[1]


def _listed(folder: Path) -> tuple[list[RunFolder], str]:
    try:
        return list_runs(folder), ""
    except (StoreError, OSError) as error:
        return [], str(error)


@dataclass(frozen=True)
class Summary:
    """One line about a run, for lists. Numbers in percent, None = not measured; `trouble`: why it cannot be read."""

    name: str
    method: str = ""
    stream: str = ""
    seed: int | None = None
    state: str = "unreadable"
    moved: float = 0.0  # seconds UTC; 0 = nothing yet
    tasks_measured: int = 0
    tasks: int = 0
    final_average: float | None = None
    learned: float | None = None
    forgotten: float | None = None
    trouble: str = ""


_SUMMARIES: dict[Path, tuple[tuple[int, ...], Summary]] = {}


def summary(folder: RunFolder) -> Summary:
    """A run in one line, read from its accuracies alone; remembered until its files change."""
    stamp = tuple(
        _stamp(folder.database.with_name(name)) for name in ("events.db", "events.db-wal", "config.json", "worker.lock")
    )
    known = _SUMMARIES.get(folder.path)
    if known and known[0] == stamp and known[1].state not in ("running", "paused", "waiting"):
        return known[1]
    reader = RunReader(folder)
    try:
        config = folder.config()
        status = reader.status()
        plan = reader.latest("RunStarted")
        rows = {
            s.event.clock.task: s.event.row
            for s in reader.since(kinds=("AccuracyMeasured",))
            if isinstance(s.event, AccuracyMeasured)
            and s.event.readout == CLASS_INCREMENTAL
            and s.event.clock.task >= 0
        }
    except (StoreError, ValueError, TypeError, KeyError) as error:
        return Summary(folder.name, trouble=str(error))
    finally:
        reader.close()
    matrix = [rows.get(i, [None] * len(next(iter(rows.values())))) for i in range(max(rows) + 1)] if rows else []
    stages, tasks = config.stream_settings.tasks, config.stream_settings.tasks
    if plan is not None and isinstance(plan.event, RunStarted):
        stages, tasks = plan.event.trained_tasks, len(plan.event.tasks)
    found = Summary(
        folder.name,
        config.method,
        config.stream,
        config.seed,
        status.state,
        status.moved,
        len(rows),
        stages,
        *map(_known, headline(matrix, at_once=stages == 1 < tasks)),
    )
    _SUMMARIES[folder.path] = stamp, found
    return found


def headline(matrix: Any, *, at_once: bool) -> tuple[float, float, float]:
    """(final average accuracy, learning accuracy, forgetting) in percent, NaN where undefined.

    Args:
        matrix: [rows, T] accuracies, NaN or None = not measured; may be empty.
        at_once: all tasks were learned together: there is no earlier row to compare with.
    """
    if not len(matrix) or not len(matrix[0]):
        return math.nan, math.nan, math.nan
    final = float(final_average_accuracy(matrix))
    return (
        (final, math.nan, math.nan) if at_once else (final, float(learning_accuracy(matrix)), float(forgetting(matrix)))
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _stamp(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
