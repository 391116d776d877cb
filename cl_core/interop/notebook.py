"""A run in a script or notebook: what is stored, as pandas data frames. Neither the app nor torch is needed.

    import cl_core

    run = cl_core.open_run("runs/mine")
    run.matrix()                         accuracy in percent, rows after training on, columns evaluated on
    run.events("SpectrumMeasured")       one row an event, one column a field
    run.latex()                          the matrix as a LaTeX table

Tasks, epochs, steps, layers, classes and images count from 1, as on the pages and in exported CSV files; 0 in `task` is
before training. Units are those of `cl_core.events`: accuracies in percent, losses in nats (cross-entropy), times in
seconds, eigenvalues in squared activation units. What was not measured is NaN.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cl_core.assets import recordings_folder
from cl_core.config import ConfigError, RunConfig, nearest
from cl_core.events import KINDS, Event, RunStarted
from cl_core.export.tables import COUNTED
from cl_core.store import RunFolder, RunReader, find_run
from cl_core.summary import MEASURES, Summary, headline_readout, summarise


class Run:
    """One run as it is stored now. Reads anew at every call, so a run that is still in training can be followed."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        folder.config()  # what is damaged or newer is refused at once

    def __repr__(self) -> str:
        config = self.config
        return f"<run {self.name}: {config.method} on {config.stream}, {self.state}>"

    @property
    def name(self) -> str:
        return self.folder.path.resolve().name

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def config(self) -> RunConfig:
        """Its settings."""
        return self.folder.config()

    @property
    def state(self) -> str:
        """ "finished", "running", "stopped", …: `cl_core.store.RunStatus`."""
        with closing(RunReader(self.folder)) as reader:
            return reader.status().state

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in order."""
        plan = self._plan()
        return [str(task.get("name") or f"T{i + 1}") for i, task in enumerate(plan.tasks)] if plan else []

    def summary(self) -> Summary:
        """State, matrices and measures, as `plastiscope show --json` gives them."""
        return summarise(self.folder)

    def measures(self) -> pd.Series:
        """The numbers that the headline matrix is judged by, percent or percentage points; NaN where undefined."""
        summary = self.summary()
        return pd.Series({name: getattr(summary, name) for name in MEASURES}, dtype=float, name=self.name)

    def readouts(self) -> list[str]:
        """Whose accuracies were measured after training, the one that the run is judged by first."""
        measured = [e for e in self._of("AccuracyMeasured") if e.clock.task >= 0]
        found, headline = list(dict.fromkeys(e.readout for e in measured)), headline_readout(measured)
        return sorted(found, key=lambda name: name != headline)

    def matrix(self, readout: str | None = None) -> pd.DataFrame:
        """Accuracies in percent: [T, T], rows after training on, columns evaluated on; NaN = not measured.

        Args:
            readout: one of `readouts()`; None: the one that the run is judged by.

        Raises:
            ConfigError: if it has no such readout.
        """
        known = self.readouts()
        if readout is not None and readout not in known:
            raise ConfigError(f"run {self.name} has no readout {readout!r}; it has {', '.join(known) or 'none'}")
        summary, names = self.summary(), _labels(self.tasks)
        rows = summary.matrix(readout or "")
        table = pd.DataFrame(np.array(rows, dtype=float).reshape(len(rows), len(names)), names, names)
        return table.rename_axis(index="after training on", columns="evaluated on")

    def events(self, kind: str | type[Event]) -> pd.DataFrame:
        """All events of one kind, a row each: `task`, `epoch`, `step`, then the fields.

        A field that holds named values becomes a column a name (`losses` → `losses_total`); arrays and lists stay whole
        in their cell: `frame.explode("eigenvalues")` gives a row an eigenvalue.

        Raises:
            ConfigError: if there is no such kind.
        """
        name = kind if isinstance(kind, str) else kind.__name__
        if name not in KINDS:
            raise ConfigError(nearest(name, KINDS, "kind of event"))
        rows = [_row(event) for event in self._of(name)]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        if not rows:
            columns = ["task", "epoch", "step", *(f.name for f in dataclasses.fields(KINDS[name]) if f.name != "clock")]
        return pd.DataFrame(rows, columns=columns)

    def kinds(self) -> pd.Series:
        """How many events of each kind there are."""
        with closing(RunReader(self.folder)) as reader:
            found = [stored.event.kind for stored in reader.since()]
        return pd.Series(found, dtype=object).value_counts().rename("events")

    def latex(self, readout: str | None = None, *, digits: int = 1, caption: str = "", label: str = "") -> str:
        """The matrix as a LaTeX table for the packages booktabs; empty cells were not measured.

        Args:
            readout: as in `matrix`.
            digits: after the point.
            caption, label: with one of them the table floats.
        """
        table = self.matrix(readout)
        heads = " & ".join(["after training on", *map(escaped, table.columns)])
        lines = [
            f"\\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
            "\\toprule",
            rf"{heads} \\",
            "\\midrule",
        ]
        for name, row in table.iterrows():
            cells = ["" if not np.isfinite(value) else f"{value:.{digits}f}" for value in row]
            lines.append(rf"{' & '.join([escaped(str(name)), *cells])} \\")
        lines += ["\\bottomrule", "\\end{tabular}"]
        if caption or label:
            head = ["\\begin{table}", "\\centering", *([f"\\caption{{{caption}}}"] if caption else [])]
            lines = [*head, *([f"\\label{{{label}}}"] if label else []), *lines, "\\end{table}"]
        return "\n".join(lines) + "\n"

    def _of(self, kind: str) -> list[Any]:
        with closing(RunReader(self.folder)) as reader:
            return [stored.event for stored in reader.since(kinds=(kind,))]

    def _plan(self) -> RunStarted | None:
        found = self._of("RunStarted")
        return found[-1] if found else None


def open_run(name: str | Path, runs: str | Path | None = None) -> Run:
    """The run in a folder, or called `name` below `runs` (default: PLASTISCOPE_RUNS, else ./runs), or bundled.

    Raises:
        StoreError: if there is none, or it cannot be read; the sentence says which there are.
    """
    folder = Path(runs or os.environ.get("PLASTISCOPE_RUNS") or "runs")
    return Run(find_run(folder, str(name), recordings_folder()))


def compare_runs(runs: Iterable[Run | str | Path] | Mapping[str, Run | str | Path]) -> pd.DataFrame:
    """A row a run: method, stream, seed, state, and the measures in percent. A mapping names the rows."""
    named = runs.items() if isinstance(runs, Mapping) else ((None, run) for run in runs)
    rows: dict[str, dict[Any, Any]] = {}
    for label, run in named:
        opened = run if isinstance(run, Run) else open_run(run)
        summary = opened.summary()
        row: dict[Any, Any] = {name: getattr(summary, name) for name in ("method", "stream", "seed", "state")}
        row.update(opened.measures().to_dict())
        rows[label or opened.name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("run")


def escaped(text: str) -> str:
    """Text as LaTeX takes it."""
    signs = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    signs |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(signs.get(sign, sign) for sign in text)


def _labels(tasks: list[str]) -> list[str]:
    """T1, or T1 name where the task has one."""
    return [name if name == f"T{i + 1}" else f"T{i + 1} {name}" for i, name in enumerate(tasks)]


def _row(event: Event) -> dict[str, Any]:
    clock = event.clock
    row: dict[str, Any] = {"task": clock.task + 1, "epoch": clock.epoch + 1, "step": clock.step + 1}
    for name, value in event.body().items():
        if isinstance(value, dict):
            row |= {f"{name}_{key}": part for key, part in value.items()}
        elif name in COUNTED:
            row[name] = value + 1
        else:
            row[name] = value
    return row
