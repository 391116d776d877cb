"""Which runs there are: those of the runs folder and the recordings that travel with the program.

A name from a URL is looked up here, never joined to a folder.
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

FRESH = 1.0  # seconds an index is good for
MOST_SUMMARIES = 20_000  # kept; fewer than there are runs, and each look would read all of them anew
_INDEX: dict[Path, tuple[float, RunIndex]] = {}


class RunIndex:
    """Run folders by name, newest first, recordings last. `trouble` is a sentence if the folder cannot be listed."""

    def __init__(self, runs: Path, recordings: Path) -> None:
        self.runs = runs
        self.trouble = ""
        self.recordings = {folder.name: folder for folder in sorted(_listed(recordings)[0], key=_place)}
        own, self.trouble = _listed(runs)
        self.own = {folder.name: folder for folder in own}
        self.called: Mapping[str, str] | None = None  # what runs are called, when `library.run_names` has looked

    @property
    def names(self) -> list[str]:
        return [*self.own, *(name for name in self.recordings if name not in self.own)]

    def find(self, name: str | None) -> RunFolder | None:
        """The run called exactly `name`, or None."""
        return self.own.get(name) or self.recordings.get(name) if name else None

    def is_recording(self, name: str) -> bool:
        return name in self.recordings and name not in self.own


def _place(recording: RunFolder) -> tuple[int, str]:
    """Recordings stand in the order of their presets: when their files were written depends on how they came here."""
    return _preset_place(recording.path), recording.name


@functools.cache
def _preset_place(recording: Path) -> int:
    """Read once: what travels with the program stays as it is, and the index is made anew every second."""
    try:
        preset = RunFolder(recording).config().preset
        return -1 if preset == KEPT_PRESET else list(PRESETS).index(preset)
    except (StoreError, ValueError):  # a damaged file; no preset of ours
        return len(PRESETS)


def holding(index: RunIndex, kind: str, *, most: int = 3, looked_at: int = 30) -> list[str]:
    """Names of at most `most` runs that have an event of this kind: the newest own ones, then recordings."""
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


MOST_RELATED = 6  # a run and five forks fit one figure


def family(index: RunIndex, name: str | None) -> list[tuple[RunFolder, Fork | None]]:
    """A run, the run it was forked from and the forks of both: the eldest first, with where each left its parent
    (None for the eldest). Empty if it has no relatives here."""
    chosen = index.find(name)
    if chosen is None:
        return []
    forks = {folder.name: fork for folder in index.own.values() if (fork := _fork(folder))}
    mine = forks.get(chosen.name)
    eldest = (index.own.get(mine.parent) if mine else None) or chosen
    related = [folder for folder in index.own.values() if folder.name in forks and folder.name != eldest.name]
    others = [f for f in related if forks[f.name].parent in (eldest.name, chosen.name)]
    if chosen in others:  # never the one that is cut off
        others = [chosen, *(folder for folder in others if folder != chosen)]
    return [(eldest, None), *((f, forks[f.name]) for f in others[: MOST_RELATED - 1])] if others else []


def _fork(folder: RunFolder) -> Fork | None:
    """A fork says once and for all where it came from; a run that says nothing is no fork."""
    stamp = modified(folder.fork_file)
    return _read_fork(folder.path, stamp) if stamp else None


@functools.lru_cache(maxsize=4096)
def _read_fork(path: Path, stamp: int) -> Fork | None:
    try:
        return fork_of(RunFolder(path))
    except StoreError:
        return None


def runs_folder() -> Path:
    """Where new runs are written and old ones looked for: what the server was told, or ./runs."""
    return Path(os.environ.get("PLASTISCOPE_RUNS") or "runs").expanduser()


def run_folders() -> tuple[Path, Path]:
    """Where runs are found: the runs folder, and the recordings that travel with the program."""
    return runs_folder(), recordings_folder()


def runs_index(*, fresh: bool = False) -> RunIndex:
    """The index of all runs, at most a second old; `fresh` after a run was created."""
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
    transfer: float | None = None
    trouble: str = ""


def summary(folder: RunFolder) -> Summary:
    """A run in one line, read from its accuracies alone; remembered until its files change."""
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
    """Differs whenever the run's events or settings do; `more`: files below its folder that count as well."""
    files = ("events.db", "events.db-wal", "config.json", *more)
    return tuple(modified(folder.database.with_name(name)) for name in files)


def modified(path: Path) -> int:
    """When a file was changed, nanoseconds; 0 without it."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
