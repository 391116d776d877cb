"""List of all runs: what each is, its state, the user's note, and the settings that distinguish it."""

from __future__ import annotations

import datetime
import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cl_core.config import RunConfig
from cl_core.store import Note, RunFolder, StoreError, note_of
from cl_core.sweeps.pareto import FORK, differing, said, settings_of
from dashboard.run_log import title_of
from dashboard.runs import RunIndex, Summary, modified, summary
from dashboard.theme import MISSING, percent, points

NAMED = 3  # settings in a name, besides the seed
LISTED = 300  # most runs that are read, newest first
KIND = ("method", "backbone", "stream")  # runs that share these are distinguished by other settings
ENDED_EARLY = ("failed", "gone", "waiting", "unreadable")


@dataclass(frozen=True)
class Line:
    """A run in the library."""

    name: str
    called: str  # as in `run_names`
    about: Summary
    differs: Mapping[str, str]  # setting → value, for settings that differ among runs of its method and stream
    note: Note
    recording: bool

    @property
    def date(self) -> str:
        """Day and minute of its newest event, in local time; empty for a recording."""
        if self.recording or not self.about.moved:
            return ""
        return datetime.datetime.fromtimestamp(self.about.moved).strftime("%Y-%m-%d %H:%M")

    @property
    def failed(self) -> bool:
        """Whether it ended without results."""
        return self.about.state in ENDED_EARLY or bool(self.about.trouble)

    def text(self) -> str:
        """Text that a search looks in."""
        about = self.about
        settings = (f"{name}={value}" for name, value in self.differs.items())
        return " ".join(
            (
                self.name,
                self.called,
                about.method,
                about.stream,
                about.state,
                self.note.text,
                *self.note.tags,
                *settings,
            )
        ).lower()


def lines(index: RunIndex) -> list[Line]:
    """Return every run of the index: own runs first, newest first, then recordings."""
    folders = _listed(index)
    configs = {name: config for name, folder in folders.items() if (config := _config_of(folder)) is not None}
    told = told_apart({name: config for name, config in configs.items() if not index.is_recording(name)})
    names = run_names(index)
    return [
        Line(name, names[name], summary(folder), told.get(name, {}), note_of(folder), index.is_recording(name))
        for name, folder in folders.items()
    ]


def run_names(index: RunIndex) -> Mapping[str, str]:
    """Return display names by folder name: the user's title, else a description (`run_log.title_of`) with the settings
    that distinguish the run; the folder name is added if two names would be equal.

    This name is used for the run in all pickers, tables, legends and sentences. URLs, commands and files use the folder
    name.
    """
    if index.called is None:
        listed = _listed(index)
        known = tuple(
            (name, str(folder.path), modified(folder.path / "config.json"), modified(folder.path / "note.json"))
            for name, folder in listed.items()
        )
        called = _called(known, frozenset(name for name in listed if index.is_recording(name)))
        index.called = {name: called.get(name, name) for name in index.names}
    return index.called


def _listed(index: RunIndex) -> dict[str, RunFolder]:
    own = list(index.own.items())[:LISTED]
    return dict(own) | {name: folder for name, folder in index.recordings.items() if index.is_recording(name)}


@functools.lru_cache(maxsize=8)
def _called(known: tuple[tuple[str, str, int, int], ...], recordings: frozenset[str]) -> dict[str, str]:
    """Return names of runs, from (folder, path, modification time of settings, modification time of note) of each."""
    titles, alike = {}, dict[str, dict[str, RunConfig]]()
    for name, path, stamp, _ in known:
        config = _config(path, stamp)
        titles[name] = note_of(RunFolder(Path(path))).title
        if not titles[name]:
            titles[name] = title_of(name, config)
            if config is not None:
                alike.setdefault(titles[name], {})[name] = config
    for title, configs in alike.items():
        for name, differs in told_apart(configs).items():
            if name not in recordings:  # these keep their names
                titles[name] = called(title, differs)
    twice = {title for title, times in Counter(titles.values()).items() if times > 1}
    return {name: f"{title} ({name})" if title in twice - {name} else title for name, title in titles.items()}


def _config_of(folder: RunFolder) -> RunConfig | None:
    return _config(str(folder.path), modified(folder.path / "config.json"))


@functools.lru_cache(maxsize=4096)
def _config(path: str, stamp: int) -> RunConfig | None:
    """Return a run's settings, read once for each `stamp`."""
    try:
        return RunFolder(Path(path)).config()
    except StoreError:
        return None


def told_apart(configs: Mapping[str, RunConfig]) -> dict[str, dict[str, str]]:
    """Return for each run the settings, including the seed, that differ among runs of its method and stream."""
    kinds: dict[tuple[Any, ...], dict[str, dict[str, Any]]] = {}
    for name, config in configs.items():
        settings = settings_of(config) | {"seed": config.seed}
        kinds.setdefault(tuple(settings[key] for key in KIND), {})[name] = settings
    found = {}
    for runs in kinds.values():
        names = differing(list(runs.values()))
        for run, settings in runs.items():
            found[run] = {name: said(settings[name]) for name in names if name in settings}
    return found


def called(title: str, differs: Mapping[str, str]) -> str:
    """Add distinguishing settings to a title, as in "NSP² on handwritten digits: eta 0.5, seed 1"."""
    shown = [*[name for name in differs if name != "seed"][:NAMED], *(["seed"] if "seed" in differs else [])]
    parts = []
    for name in shown:
        _, _, after = differs[name].rpartition(" after ")  # for a fork: the task after which it was forked
        parts.append(f"fork after {after}" if name == FORK else f"{name.rpartition('.')[2]} {differs[name]}")
    return f"{title}{',' if ': ' in title else ':'} {', '.join(parts)}" if parts else title


def search(found: Iterable[Line], words: str) -> list[Line]:
    """Return the lines that contain all of the words."""
    wanted = words.lower().split()
    return [line for line in found if all(word in line.text() for word in wanted)]


COLUMNS: dict[str, Any] = {  # title → function from a line to its text
    "run": lambda line: line.called,
    "folder": lambda line: line.name,
    "method": lambda line: line.about.method or MISSING,
    "stream": lambda line: line.about.stream or MISSING,
    "date": lambda line: line.date or ("recording" if line.recording else MISSING),
    "state": lambda line: "recording" if line.recording else line.about.state,
    "tasks measured": lambda line: f"{line.about.tasks_measured} of {line.about.tasks}",
    "final average accuracy": lambda line: percent(line.about.final_average),
    "learning accuracy": lambda line: percent(line.about.learned),
    "forgetting": lambda line: points(line.about.forgotten).lstrip("+"),
    "transfer": lambda line: percent(line.about.transfer),
    "settings that differ": lambda line: ", ".join(f"{n} {v}" for n, v in line.differs.items()) or MISSING,
    "seed": lambda line: MISSING if line.about.seed is None else str(line.about.seed),
    "tags": lambda line: ", ".join(line.note.tags),
    "note": lambda line: line.note.text,
}
USUAL = ("run", "date", "final average accuracy", "forgetting", "settings that differ", "tags", "note")


def table(found: Sequence[Line], columns: Sequence[str]) -> dict[str, list[str]]:
    """Return the chosen columns of the lines, as a page shows them."""
    return {column: [COLUMNS[column](line) for line in found] for column in columns if column in COLUMNS}
