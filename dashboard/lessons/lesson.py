"""What a lesson is made of, and the runs that it reads. `loader.py` reads lessons from Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go

from cl_core.config import ConfigError
from cl_core.events import AccuracyMeasured
from dashboard.lessons.expressions import Expression, Text
from dashboard.lessons.figures import FIGURES, with_axes_of
from dashboard.markdown import without_links
from dashboard.run_log import Snapshot, log_of
from dashboard.runs import runs_index


class RunMissing(Exception):
    """A run that a lesson reads is not there or cannot be read; one sentence."""


class LessonError(ConfigError):
    """A lesson that cannot be read, or says what its runs do not have: file, line, what is wrong."""

    def __init__(self, file: Path, line: int, what: object) -> None:
        super().__init__(f"{file.name}, line {line}: {what}")


Runs = Mapping[str, Snapshot]  # by the name that the lesson gives them


@dataclass(frozen=True)
class Link:
    """Try it yourself: a page of the dashboard with the choices that its URL then names."""

    says: str
    page: str  # a file below dashboard/, "pages/spectra.py"
    choices: tuple[tuple[str, str | tuple[str, ...]], ...]  # as that page's URL spells them


@dataclass(frozen=True)
class Drawing:
    """A figure of a step: one of `figures.FIGURES` with its runs and controls."""

    name: str
    names: tuple[str, ...]  # of the runs it is drawn from
    controls: tuple[tuple[str, Any], ...]
    axes: str = ""  # the run whose figure has the same axes
    label: str = ""  # written above it
    line: int = 1

    def draw(self, runs: Runs) -> go.Figure:
        """Raises ConfigError or LookupError where the runs do not have it."""
        draw, controls = FIGURES[self.name], dict(self.controls)
        figure = draw({name: runs[name] for name in self.names}, **controls)
        return with_axes_of(figure, draw({self.axes: runs[self.axes]}, **controls)) if self.axes else figure


@dataclass(frozen=True)
class Choice:
    """An answer to choose; right where its condition holds."""

    says: Text
    right: Expression


@dataclass(frozen=True)
class Step:
    """One screen of a lesson."""

    title: str
    text: Text
    question: Text
    answer: Text
    drawings: tuple[Drawing, ...]
    choices: tuple[Choice, ...] = ()
    guess: Expression | None = None  # a number in percent to be guessed
    claims: tuple[Expression, ...] = ()  # what the text says of its runs, as conditions
    links: tuple[Link, ...] = ()
    preset: str = ""  # may be started from here
    terms: tuple[str, ...] = ()  # keys of the glossary


@dataclass(frozen=True)
class Told:
    """A step with its facts filled in."""

    text: str
    question: str
    answer: str
    choices: tuple[tuple[str, bool], ...]
    guess: float | None
    broken: tuple[str, ...]  # claims that do not hold


@dataclass(frozen=True)
class Lesson:
    """Steps about one thing. `name`, the file's without its ending, is what the URL says."""

    name: str
    title: str
    about: str  # one sentence for the shelf
    minutes: int
    place: int  # on the shelf
    thumbnail: int  # the step whose first figure stands for it there, from 1; 0 = there is none
    runs: tuple[tuple[str, str], ...]  # the lesson's own name of a run → the run
    steps: tuple[Step, ...]
    file: Path

    def open(self) -> dict[str, Snapshot]:
        """The runs it reads, judged by their own heads. Raises RunMissing."""
        return {alias: by_own_head(open_run(run)) for alias, run in self.runs}

    def say(self, text: Text, runs: Runs) -> str:
        """A text with its facts; a number stays on one line with its unit. Raises LessonError."""
        try:
            said = text.filled(runs)
        except LookupError as error:
            raise LessonError(self.file, text.line, error) from error
        return re.sub(r"(?<=\d) (?=%|pp\b)", "\N{NO-BREAK SPACE}", said)

    def value(self, expression: Expression, runs: Runs) -> Any:
        """The value of a condition or a guess. Raises LessonError."""
        try:
            return expression.value(runs)
        except LookupError as error:
            raise LessonError(self.file, expression.line, error) from error

    def figure(self, drawing: Drawing, runs: Runs) -> go.Figure:
        """Raises LessonError."""
        try:
            return drawing.draw(runs)
        except (ConfigError, LookupError, TypeError, ValueError) as error:
            raise LessonError(self.file, drawing.line, error) from error

    def told(self, step: Step, runs: Runs) -> Told:
        """All that a step says of these runs, without links, images or HTML. Raises LessonError."""
        say = lambda text: without_links(self.say(text, runs))
        return Told(
            say(step.text),
            say(step.question),
            say(step.answer),
            tuple((say(choice.says), bool(self.value(choice.right, runs))) for choice in step.choices),
            float(self.value(step.guess, runs)) if step.guess else None,
            tuple(self.broken(step, runs)),
        )

    def broken(self, step: Step, runs: Runs) -> list[str]:
        """Claims of a step that do not hold for these runs."""
        return [claim.source for claim in step.claims if not self.value(claim, runs)]


def by_own_head(run: Snapshot) -> Snapshot:
    """`run` as if it named no headline readout: sentences are about one readout, whatever the run shows first."""
    if not any(event.headline for event in run.events(AccuracyMeasured)):
        return run
    plain = lambda event: replace(event, headline=False) if isinstance(event, AccuracyMeasured) else event
    stored = sorted((stored for kind in run.kinds() for stored in run.of(kind)), key=lambda stored: stored.seq)
    found = Snapshot.holding(run.folder, [replace(one, event=plain(one.event)) for one in stored], run.config)
    found.reading = run.reading  # it is the same reading of the same file: caches may go by it
    return found


def open_run(name: str) -> Snapshot:
    """A bundled recording or a run of the folder in use. Raises RunMissing."""
    index = runs_index()
    folder = index.recordings.get(name) or index.find(name)
    if folder is None:
        raise RunMissing(f"this lesson reads the run {name}, which is neither a recording nor in the folder of runs")
    log = log_of(folder).snapshot()
    if log.trouble:
        raise RunMissing(f"this lesson reads the run {name}, which cannot be read: {log.trouble}")
    return log
