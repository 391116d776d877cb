"""What a lesson is made of: plain data, and the recordings that its figures and numbers are read from.

A text holds no measured number: it names facts in braces, and `Lesson.facts` computes these from the recordings' events
when the page is drawn. Where a sentence depends on how a run came out, its words are a fact as well.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import plotly.graph_objects as go

from cl_core.config import RunConfig
from cl_core.events import AccuracyMeasured, Event, ModalityGapMeasured
from dashboard.figures.accuracy import accuracy_matrix
from dashboard.figures.comparison import matrix_difference
from dashboard.figures.event_arrays import accuracies
from dashboard.figures.plot_helpers import decade_ticks
from dashboard.figures.readouts import readout_comparison
from dashboard.run_log import Snapshot, log_of
from dashboard.runs import runs_index
from dashboard.theme import percent, task_name, task_title

Kind = TypeVar("Kind", bound=Event)

PLAIN, PROTECTED = "sequential-split-digits", "nsp2-split-digits"
FINE_TUNED, GRADIENTS, WEIGHTS = "finetune-micro-mtil", "gnsp-micro-mtil", "nusa-cl-micro-mtil"
ALIKE = 1.0  # percentage points: two accuracies that differ by less are called alike


class RecordingMissing(Exception):
    """A recording that a lesson reads is not there or cannot be read; one sentence."""


class Recordings:
    """The runs that travel with the program, by name. Read once for all viewers (`dashboard.run_log`)."""

    def log(self, name: str) -> Snapshot:
        """The whole recording; raises RecordingMissing."""
        folder = runs_index().recordings.get(name)
        if folder is None:
            raise RecordingMissing(f"this lesson reads the recording {name}, which did not come with this copy")
        log = log_of(folder).snapshot()
        if log.trouble:
            raise RecordingMissing(f"this lesson reads the recording {name}, which cannot be read: {log.trouble}")
        return log

    def events(self, name: str, kind: type[Kind]) -> list[Kind]:
        """Its events of one kind, oldest first."""
        return self.log(name).events(kind)

    def accuracies(self, name: str, readout: str | None = None) -> np.ndarray:
        """a[i, j] in percent; NaN = not measured. Without a readout the one the run is judged by."""
        return accuracies(self.events(name, AccuracyMeasured), readout)

    def tasks(self, name: str) -> list[dict[str, Any]]:
        """The plan's tasks, with titles and classes."""
        plan = self.log(name).started()
        return plan.tasks if plan else []

    def stages(self, name: str) -> int | None:
        """Training stages of the run."""
        plan = self.log(name).started()
        return plan.trained_tasks if plan else None

    def config(self, name: str) -> RunConfig:
        """The settings it was trained with."""
        config = self.log(name).config
        if config is None:
            raise RecordingMissing(f"this lesson reads the settings of the recording {name}, which are not there")
        return config


@dataclass(frozen=True)
class Link:
    """Try it yourself: a page of the dashboard with the choices that its URL then names."""

    says: str
    page: str  # a file below dashboard/, "pages/spectra.py"
    choices: tuple[tuple[str, str | tuple[str, ...]], ...]  # as that page's URL spells them


@dataclass(frozen=True)
class Drawing:
    """A figure of a step. `draw` calls functions of dashboard/figures on what the recordings hold."""

    draw: Callable[[Recordings], go.Figure]
    runs: tuple[str, ...]  # the recordings it is drawn from, named above it
    of: str = ""  # what the run is, written above the figure where a step shows two


@dataclass(frozen=True)
class Guess:
    """A number in percent to be guessed before the answer is shown."""

    says: str
    value: Callable[[Recordings], float]


@dataclass(frozen=True)
class Step:
    """One screen of a lesson. `text`, `question` and `answer` are Markdown with {facts}."""

    title: str
    text: str
    drawings: tuple[Drawing, ...]
    question: str
    answer: str
    links: tuple[Link, ...] = ()
    preset: str = ""  # may be started from here
    terms: tuple[str, ...] = ()  # keys of the glossary
    guess: Guess | None = None


@dataclass(frozen=True)
class Lesson:
    """Three to six steps about one thing. `name` is what the URL says."""

    name: str
    title: str
    about: str  # one sentence for the shelf
    minutes: int
    runs: tuple[str, ...]  # recordings that it reads
    facts: Callable[[Recordings], dict[str, str]]
    steps: tuple[Step, ...]


# ---------------------------------------------------------------- figures that several lessons show


def matrix_of(run: str, readout: str | None = None) -> Callable[[Recordings], go.Figure]:
    """The accuracy matrix of `run` by a readout; None: the one that it is judged by."""
    return lambda runs: accuracy_matrix(
        runs.events(run, AccuracyMeasured), readout=readout, stages=runs.stages(run), tasks=runs.tasks(run)
    )


def protection_minus_none(runs: Recordings) -> go.Figure:
    """The matrix of the protected run minus that of the plain one."""
    return matrix_difference(
        runs.accuracies(PROTECTED), runs.accuracies(PLAIN), names=("protected", "plain"), tasks=runs.tasks(PLAIN)
    )


def readouts_of(run: str) -> Callable[[Recordings], go.Figure]:
    """All readouts of `run` over its tasks."""
    return lambda runs: readout_comparison(runs.events(run, AccuracyMeasured), stages=runs.stages(run))


def of_gap(figure: Callable[..., go.Figure], run: str) -> Callable[[Recordings], go.Figure]:
    """A figure of the joint space of pictures and texts, of `run`."""
    return lambda runs: figure(runs.events(run, ModalityGapMeasured), runs.tasks(run))


def beside(draw: Callable[[Recordings, str], go.Figure], run: str, other: str) -> Callable[[Recordings], go.Figure]:
    """The figure of `run`, with vertical axes that reach as far as those of the same figure of `other`."""

    def drawn(runs: Recordings) -> go.Figure:
        figure = draw(runs, run)
        axes = [axis for each in (figure, draw(runs, other)) for axis in each.select_yaxes()]
        low, high = min(axis.range[0] for axis in axes), max(axis.range[1] for axis in axes)
        logarithmic = axes[0].type == "log"
        return figure.update_yaxes(**(decade_ticks(10**low, 10**high) if logarithmic else {"range": [low, high]}))

    return drawn


# ---------------------------------------------------------------- words chosen by numbers


def filled(text: str, facts: dict[str, str]) -> str:
    """`text` with its facts; a number stays on one line with its unit."""
    return re.sub(r"(?<=\d) (?=%|pp\b)", "\N{NO-BREAK SPACE}", text.format_map(facts))


def course(before: float, after: float) -> str:
    """ "falls from 99.0 % to 58.0 %", "rises …", or "stays at 99.0 %, give or take a point"."""
    if not (math.isfinite(before) and math.isfinite(after)):
        return "was not measured at both ends"
    if abs(after - before) < ALIKE:
        return f"stays where it was, at {percent(after)}"
    return f"{'falls' if after < before else 'rises'} from {percent(before)} to {percent(after)}"


def against(first: float, second: float) -> str:
    """ "12.3 points more", "4.0 points less" or "as much, within a point": the first against the second."""
    if abs(first - second) < ALIKE:
        return "as much, within a point"
    return f"{abs(first - second):.1f} points {'more' if first > second else 'less'}"


def listed(words: list[str]) -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def called(task: int, tasks: list[dict[str, Any]]) -> str:
    """T2 (two and seven), or the title a stream gives its tasks."""
    title = task_title(task, tasks)
    if title != task_name(task):
        return title
    return f"{task_name(task)} ({listed([str(c) for c in tasks[task]['classes']])})"
