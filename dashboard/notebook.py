"""What the dashboard draws, without its server: a run's report as a file, from a script or a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cl_core.config import ConfigError
from cl_core.store import RunFolder, find_run
from dashboard.report import ours
from dashboard.report import report as report_of
from dashboard.run_log import RunLog, Snapshot
from dashboard.runs import run_folders


def report(run: Any, file: str | Path) -> Path:
    """Write the one-file HTML report of a run (`cl_core.open_run(…)`, a folder, or a name) and return where it is.

    Raises:
        ConfigError: if the file is there and is no report of Plastiscope.
        StoreError: if the run cannot be read.
    """
    target = Path(file)
    if target.exists() and (target.is_dir() or not ours(target)):
        raise ConfigError(f"{target} exists and is no report of Plastiscope; name another file")
    log = _log(run)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(report_of(log), "utf-8")
    return target


def _log(run: Any) -> Snapshot:
    folder = getattr(run, "folder", run)
    if not isinstance(folder, RunFolder):
        folder = find_run(run_folders()[0], str(folder), run_folders()[1])
    folder.config()
    return RunLog(folder).snapshot(force=True)
