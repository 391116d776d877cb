"""All runs in lines: what each is, how it ended, what its reader noted, and what tells it from others of its kind."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from cl_core.config import RunConfig
from cl_core.presets import PRESETS
from cl_core.store import Note, RunFolder, StoreError, note_of
from cl_core.sweeps.pareto import differing, said, settings_of
from dashboard.runs import RunIndex, Summary, stamp_of, summary
from dashboard.theme import MISSING, percent, points

NAMED = 3  # settings in a name, besides the seed
LISTED = 300  # newest runs that are read
KIND = ("method", "backbone", "stream")  # runs that share these are told apart by the rest
ENDED_EARLY = ("failed", "gone", "waiting", "unreadable")


@dataclass(frozen=True)
class Line:
    """A run in the library."""

    name: str
    called: str  # its reader's title, or what tells it from others of its method and stream
    about: Summary
    differs: Mapping[str, str]  # setting → value, of those that are not the same in all runs of its method and stream
    note: Note
    recording: bool

    @property
    def date(self) -> str:
        """Day and minute of its newest event, in local time; of a recording nothing."""
        if self.recording or not self.about.moved:
            return ""
        return datetime.datetime.fromtimestamp(self.about.moved).strftime("%Y-%m-%d %H:%M")

    @property
    def failed(self) -> bool:
        """Whether it ended before it could be read as a result."""
        return self.about.state in ENDED_EARLY or bool(self.about.trouble)

    def text(self) -> str:
        """All that a search looks in."""
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
    """Every run of the index: the newest own ones first, then recordings."""
    folders = [*list(index.own.values())[:LISTED], *index.recordings.values()]
    configs = {folder.name: config for folder in folders if (config := _config(str(folder.path), stamp_of(folder)))}
    own = {name: config for name, config in configs.items() if not index.is_recording(name)}
    told = told_apart(own)  # a recording is called by its preset
    found = []
    for folder in {folder.name: folder for folder in folders}.values():
        note, differs = note_of(folder), told.get(folder.name, {})
        about = summary(folder)
        found.append(
            Line(
                folder.name,
                note.title or called(about, differs, configs.get(folder.name)),
                about,
                differs,
                note,
                index.is_recording(folder.name),
            )
        )
    names = Counter(line.called for line in found)
    return [replace(line, called=f"{line.called} ({line.name})") if names[line.called] > 1 else line for line in found]


@st.cache_resource(show_spinner=False, max_entries=2000)
def _config(path: str, stamp: tuple[int, ...]) -> RunConfig | None:
    from pathlib import Path

    try:
        return RunFolder(Path(path)).config()
    except StoreError:
        return None


def told_apart(configs: Mapping[str, RunConfig]) -> dict[str, dict[str, str]]:
    """Of each run the settings, seed included, that are not the same in all runs of its method and stream."""
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


def called(about: Summary, differs: Mapping[str, str], config: RunConfig | None = None) -> str:
    """ "nsp2 on split-digits: eta 0.5, seed 1": what a run is called that nobody has named; where nothing differs, its
    preset's title."""
    if about.trouble and not about.method:
        return about.name
    if not differs and config is not None and config.preset in PRESETS:
        return PRESETS[config.preset].title
    shown = [*[name for name in differs if name != "seed"][:NAMED], *(["seed"] if "seed" in differs else [])]
    parts = ", ".join(f"{name.rpartition('.')[2]} {differs[name]}" for name in shown)
    return f"{about.method} on {about.stream}" + (f": {parts}" if parts else "")


def search(found: Iterable[Line], words: str) -> list[Line]:
    """Lines in which every one of the words stands somewhere."""
    wanted = words.lower().split()
    return [line for line in found if all(word in line.text() for word in wanted)]


COLUMNS: dict[str, Any] = {  # title → what a line says there
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
    """The chosen columns of the lines, as a page shows them."""
    return {column: [COLUMNS[column](line) for line in found] for column in columns if column in COLUMNS}
