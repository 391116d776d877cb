"""The dashboard's figures and reports in scripts and notebooks, without its server.

from dashboard.figures import figure
figure(run, "spectrum-decay", layer=3)     the Plotly figure of the page
report(run, "mine.html")                   the one-file report
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cl_core.config import ConfigError
from cl_core.plugins import load_named
from cl_core.store import RunFolder, find_run
from dashboard.figures.catalogue import figure_of, figures_of
from dashboard.figures.plugged import FAILED, PLACES
from dashboard.report import ours
from dashboard.report import report as report_of
from dashboard.run_log import RunLog, Snapshot
from dashboard.runs import run_folders

if TYPE_CHECKING:
    import plotly.graph_objects as go

ALIASES = {"nullity": "directions-left", "spectrum": "spectrum-decay"}


def figure(run: Any, id: str, **controls: Any) -> go.Figure:
    """Return a figure of a run, as on the dashboard's pages.

    Args:
        run: `cl_core.open_run(…)`, a folder, or a name below ./runs.
        id: its name in the catalogue, "accuracy-matrix"; `figures(run)` lists those of a run.
        controls: the page's controls. Tasks, layers, heads and images count from 1 ("T3" and 3 are the same task).
            Controls that are left out have the report's values.

    Raises:
        ConfigError: for an unknown id or control, or a value that this run does not have.
        StoreError: if the run cannot be read.
    """
    return draw_entry(_snapshot(run), id, controls)


def figures(run: Any) -> dict[str, str]:
    """Return the figures that this run has: id → the question it answers."""
    return {id: entry.question for id, entry in figures_of(_snapshot(run)).items()}


def draw_entry(run: Snapshot, id: str, controls: Mapping[str, Any]) -> go.Figure:
    """Return a figure of the catalogue, with controls counted from 1."""
    known, id = figures_of(run), ALIASES.get(id, id)
    try:
        entry = figure_of(run, id)
    except KeyError:
        near = [name for name in known if id in name] or difflib.get_close_matches(id, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"this run has {', '.join(known)}"
        raise ConfigError(f"there is no figure '{id}'; {hint}") from None
    if id not in known:
        needed = ", ".join(kind.__name__ for kind in entry.needs)
        raise ConfigError(f"the run {run.name} has nothing for '{id}', which is drawn from {needed}")
    unknown = sorted(set(controls) - set(entry.controls))
    if unknown:
        taken = ", ".join(entry.controls) or "none"
        raise ConfigError(f"figure '{id}' has no control {', '.join(unknown)}; its controls: {taken}")
    chosen = {**next(iter(entry.in_report(run)), {}), **{name: _counted(name, v) for name, v in controls.items()}}
    said = ", ".join(f"{name}={value}" for name, value in controls.items())
    try:
        drawn = entry.drawn(run, chosen)
    except (LookupError, ValueError, TypeError, StopIteration) as error:
        missing = "" if said else f"; its controls: {', '.join(entry.controls)}"
        raise ConfigError(f"the run {run.name} has no '{id}' with {said or 'these controls'}{missing}") from error
    if FAILED in (drawn.layout.meta or {}):
        raise ConfigError(f"figure '{id}' of the plug-in {entry.origin} failed: {drawn.layout.meta[FAILED]}")
    if not drawn.data:
        raise ConfigError(f"the run {run.name} has nothing to draw for '{id}'{f' with {said}' if said else ''}")
    return drawn


def _counted(control: str, value: Any) -> Any:
    """Convert an index that counts from 1 to one from 0, as figures expect."""
    if control not in PLACES or value is None:
        return value
    found = re.fullmatch(r"T?([1-9]\d{0,8})", str(value))
    if not found or isinstance(value, bool):
        raise ConfigError(f"{control} counts from 1 (or 'T3' for a task), got {value!r}")
    return int(found[1]) - 1


def report(run: Any, file: str | Path) -> Path:
    """Write the one-file HTML report of a run (`cl_core.open_run(…)`, a folder, or a name) and return where it is.

    Raises:
        ConfigError: if the file is there and is no report of Plastiscope.
        StoreError: if the run cannot be read.
    """
    target = Path(file)
    if target.exists() and (target.is_dir() or not ours(target)):
        raise ConfigError(f"{target} exists and is no report of Plastiscope; name another file")
    log = _snapshot(run)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(report_of(log), "utf-8")
    return target


def _snapshot(run: Any) -> Snapshot:
    """Return the run's snapshot, after loading the plug-ins configured for this process."""
    load_named()
    if isinstance(run, Snapshot):
        return run
    folder = getattr(run, "folder", run)
    if not isinstance(folder, RunFolder):
        folder = find_run(run_folders()[0], str(folder), run_folders()[1])
    folder.config()
    return RunLog(folder).snapshot(force=True)
