"""Index of runs: those of the runs folder and the bundled recordings.

Names from URLs are looked up here and never used to build a path.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from cl_core.assets import recordings_folder
from cl_core.events import AccuracyMeasured, RunStarted
from cl_core.playground.recording import PRESET as KEPT_PRESET
from cl_core.presets import PRESETS
from cl_core.store import Fork, RunFolder, RunReader, StoreError, fork_of, list_runs, lock_owner
from cl_core.summary import headline_readout, matrix_of, measures

FRESH = 1.0  # seconds for which an index is valid
MOST_SUMMARIES = 20_000  # most cached summaries; with more runs than that, every refresh would read all again
_INDEX: dict[Path, tuple[float, RunIndex]] = {}


class RunIndex:
    """Run folders by name, newest first, recordings last. `trouble` is a sentence if the folder cannot be listed."""

    def __init__(self, runs: Path, recordings: Path) -> None:
        self.runs = runs
        self.trouble = ""
        self.recordings = {folder.name: folder for folder in sorted(_listed(recordings)[0], key=_place)}
        own, self.trouble = _listed(runs)
        self.own = {folder.name: folder for folder in own}
        self.called: Mapping[str, str] | None = None  # display names, cached by `library.run_names`

    @property
    def names(self) -> list[str]:
        return [*self.own, *(name for name in self.recordings if name not in self.own)]

    def find(self, name: str | None) -> RunFolder | None:
        """Return the run called exactly `name`, or None."""
        return self.own.get(name) or self.recordings.get(name) if name else None

    def is_recording(self, name: str) -> bool:
        return name in self.recordings and name not in self.own


def _place(recording: RunFolder) -> tuple[int, str]:
    """Return the sort key of a recording: the order of presets, because file times depend on the installation."""
    return _preset_place(recording.path), recording.name


@functools.cache
def _preset_place(recording: Path) -> int:
    """Return the place of a recording's preset; cached, because bundled recordings never change."""
    try:
        preset = RunFolder(recording).config().preset
        return -1 if preset == KEPT_PRESET else list(PRESETS).index(preset)
    except (StoreError, ValueError):  # a damaged file, or an unknown preset
        return len(PRESETS)


def holding(index: RunIndex, kind: str, *, most: int = 3, looked_at: int = 30) -> list[str]:
    """Return names of at most `most` runs with an event of this kind: own runs, newest first, then recordings."""
    found: list[str] = []
    for folder in [*list(index.own.values())[:looked_at], *index.recordings.values()]:
        if len(found) == most:
            break
        reader = RunReader(folder)
        try:
            if folder.name not in found and reader.latest(kind) is not None:
                found.append(folder.name)
        except (StoreError, ValueError, TypeError, KeyError):
            continue
        finally:
            reader.close()
    return found


MOST_RELATED = 6  # a run and five forks fit into one figure


def family(index: RunIndex, name: str | None) -> list[tuple[RunFolder, Fork | None]]:
    """Return a run, its parent and the forks of both, the oldest first, each with its fork note (None for the oldest).
    Empty if it has no relatives here."""
    chosen = index.find(name)
    if chosen is None:
        return []
    forks = {folder.name: fork for folder in index.own.values() if (fork := _fork(folder))}
    mine = forks.get(chosen.name)
    eldest = (index.own.get(mine.parent) if mine else None) or chosen
    related = [folder for folder in index.own.values() if folder.name in forks and folder.name != eldest.name]
    others = [f for f in related if forks[f.name].parent in (eldest.name, chosen.name)]
    if chosen in others:  # never cut off the chosen run
        others = [chosen, *(folder for folder in others if folder != chosen)]
    return [(eldest, None), *((f, forks[f.name]) for f in others[: MOST_RELATED - 1])] if others else []


def _fork(folder: RunFolder) -> Fork | None:
    """Return a run's fork note, which never changes; None if it is not a fork."""
    stamp = modified(folder.fork_file)
    return _read_fork(folder.path, stamp) if stamp else None


@functools.lru_cache(maxsize=4096)
def _read_fork(path: Path, stamp: int) -> Fork | None:
    try:
        return fork_of(RunFolder(path))
    except StoreError:
        return None


def runs_folder() -> Path:
    """Return the runs folder: the one that the server was started with, or ./runs."""
    return Path(os.environ.get("PLASTISCOPE_RUNS") or "runs").expanduser()


def run_folders() -> tuple[Path, Path]:
    """Return the runs folder and the folder of bundled recordings."""
    return runs_folder(), recordings_folder()


def runs_index(*, fresh: bool = False) -> RunIndex:
    """Return the index of all runs, at most a second old; use `fresh` after a run was created."""
    runs, now = runs_folder(), time.monotonic()
    found = _INDEX.get(runs)
    if fresh or found is None or now - found[0] > FRESH:
        found = _INDEX[runs] = (now, RunIndex(*run_folders()))
    return found[1]


def _listed(folder: Path) -> tuple[list[RunFolder], str]:
    try:
        return list_runs(folder), ""
    except (StoreError, OSError) as error:
        return [], str(error)


@dataclass(frozen=True)
class Summary:
    """Summary of a run, for lists. Numbers in percent, None = not measured; `trouble`: why it cannot be read."""

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
    transfer: float | None = None
    trouble: str = ""


def summary(folder: RunFolder) -> Summary:
    """Return the summary of a run, read only from its accuracies; cached until its files change."""
    return _summary(str(folder.path), stamp_of(folder, "worker.lock"), lock_owner(folder))


@st.cache_resource(show_spinner=False, max_entries=MOST_SUMMARIES)
def _summary(path: str, stamp: tuple[int, ...], pid: int | None) -> Summary:
    folder = RunFolder(Path(path))
    reader = RunReader(folder)
    try:
        config = folder.config()
        status = reader.status()
        plan = reader.latest("RunStarted")
        found = (stored.event for stored in reader.since(kinds=("AccuracyMeasured",)))
        measured = [event for event in found if isinstance(event, AccuracyMeasured) and event.clock.task >= 0]
    except (StoreError, ValueError, TypeError, KeyError) as error:
        return Summary(folder.name, trouble=str(error))
    finally:
        reader.close()
    judged = headline_readout(measured)
    rows = {event.clock.task: event.row for event in measured if event.readout == judged}
    numbers = measures(matrix_of(rows, len(next(iter(rows.values()))))) if rows else {}
    return Summary(
        folder.name,
        config.method,
        config.stream,
        config.seed,
        status.state,
        status.moved,
        len(rows),
        plan.event.trained_tasks if plan and isinstance(plan.event, RunStarted) else config.stream_settings.tasks,
        numbers.get("final_average_accuracy"),
        numbers.get("learning_accuracy"),
        numbers.get("forgetting"),
        numbers.get("transfer"),
    )


def stamp_of(folder: RunFolder, *more: str) -> tuple[int, ...]:
    """Return a stamp that changes with the run's events or settings; `more`: further files below its folder."""
    files = ("events.db", "events.db-wal", "config.json", *more)
    return tuple(modified(folder.database.with_name(name)) for name in files)


def modified(path: Path) -> int:
    """Return a file's modification time in nanoseconds; 0 if it does not exist."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
