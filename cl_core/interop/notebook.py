"""A run in a script or notebook, as pandas data frames. Needs neither the app nor torch.

    import cl_core

    run = cl_core.open_run("runs/mine")
    run.matrix()                         accuracy in percent, rows after training on, columns evaluated on
    run.events("SpectrumMeasured")       one row per event, one column per field
    run.latex()                          the matrix as a LaTeX table

Tasks, epochs, steps, layers, classes and images count from 1, as on the pages and in exported CSV files; 0 in `task` is
before training. Units are those of `cl_core.events`: accuracies in percent, losses in nats (cross-entropy), times in
seconds, eigenvalues in squared activation units. Values that were not measured are NaN.
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
    """A stored run. Reads the files at every call, so that a run in training can be followed."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        folder.config()  # raises at once for damaged settings or a newer format

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
        """Return the names of the tasks, in order."""
        plan = self._plan()
        return [str(task.get("name") or f"T{i + 1}") for i, task in enumerate(plan.tasks)] if plan else []

    def summary(self) -> Summary:
        """Return state, matrices and measures, as in `plastiscope show --json`."""
        return summarise(self.folder)

    def measures(self) -> pd.Series:
        """Return the measures of the headline matrix in percent or percentage points; NaN if undefined."""
        summary = self.summary()
        return pd.Series({name: getattr(summary, name) for name in MEASURES}, dtype=float, name=self.name)

    def readouts(self) -> list[str]:
        """Return the measured readouts, the headline readout first."""
        measured = [e for e in self._of("AccuracyMeasured") if e.clock.task >= 0]
        found, headline = list(dict.fromkeys(e.readout for e in measured)), headline_readout(measured)
        return sorted(found, key=lambda name: name != headline)

    def matrix(self, readout: str | None = None) -> pd.DataFrame:
        """Return accuracies in percent: [T, T], rows after training on, columns evaluated on; NaN = not measured.

        Args:
            readout: one of `readouts()`; None = the headline readout.

        Raises:
            ConfigError: if the run has no such readout.
        """
        known = self.readouts()
        if readout is not None and readout not in known:
            raise ConfigError(f"run {self.name} has no readout {readout!r}; it has {', '.join(known) or 'none'}")
        summary, names = self.summary(), _labels(self.tasks)
        rows = summary.matrix(readout or "")
        table = pd.DataFrame(np.array(rows, dtype=float).reshape(len(rows), len(names)), names, names)
        return table.rename_axis(index="after training on", columns="evaluated on")

    def events(self, kind: str | type[Event]) -> pd.DataFrame:
        """Return all events of one kind, one row each: `task`, `epoch`, `step`, then the fields.

        A field with named values becomes one column per name (`losses` → `losses_total`). Arrays and lists stay in one
        cell: `frame.explode("eigenvalues")` gives one row per eigenvalue.

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
        """Return the number of events of each kind."""
        with closing(RunReader(self.folder)) as reader:
            found = [stored.event.kind for stored in reader.since()]
        return pd.Series(found, dtype=object).value_counts().rename("events")

    def latex(self, readout: str | None = None, *, digits: int = 1, caption: str = "", label: str = "") -> str:
        """Return the matrix as a LaTeX table for the package booktabs; empty cells were not measured.

        Args:
            readout: as in `matrix`.
            digits: decimal places.
            caption, label: either one makes the table a float.
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
    """Open a run: a folder, a name below `runs` (default: PLASTISCOPE_RUNS, else ./runs), or a bundled recording.

    Raises:
        StoreError: if there is none, or it cannot be read; the message lists existing runs.
    """
    folder = Path(runs or os.environ.get("PLASTISCOPE_RUNS") or "runs")
    return Run(find_run(folder, str(name), recordings_folder()))


def compare_runs(runs: Iterable[Run | str | Path] | Mapping[str, Run | str | Path]) -> pd.DataFrame:
    """Return one row per run: method, stream, seed, state, and measures in percent. A mapping names the rows."""
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
    """Escape text for LaTeX."""
    signs = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    signs |= {sign: f"\\{sign}" for sign in "&%$#_{}"}
    return "".join(signs.get(sign, sign) for sign in text)


def _labels(tasks: list[str]) -> list[str]:
    """Return T1, or T1 and the name if the task has one."""
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
