"""Workers: start one, fork a run, resume a run, train a question or sweep, send a command, read the end of a log.

A worker is a process in its own session. It outlives this server and writes its run folder; nothing here waits for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cl_core.analysis.measured_later import file_of, interpolation_file
from cl_core.commands import Command
from cl_core.config import RunConfig
from cl_core.store import RunFolder, StoreError, create_run, entitle, fork_run, lock_owner, send
from cl_core.store.checkpoints import starting_point
from cl_core.sweeps import conducted_by, output_of
from dashboard.changes import changes
from dashboard.method_settings import settings_of
from dashboard.run_log import log_of

WORKER: tuple[str, ...] = (sys.executable, "-m", "cl_core", "work")  # the run's folder is appended
ASKER: tuple[str, ...] = (sys.executable, "-m", "cl_core", "ask")  # the question and its options are appended
SWEEPER: tuple[str, ...] = (sys.executable, "-m", "cl_core", "sweep")  # its options are appended
LOCATOR: tuple[str, ...] = (sys.executable, "-m", "cl_core", "why")  # the run and the cell are appended
STARTING = 60.0  # seconds a worker may take to load before it counts as lost
LEAVING = 3.0  # seconds that a worker may take between its last event and its end

_CHILDREN: dict[Path, tuple[subprocess.Popen[bytes], float]] = {}  # by run folder, or by log of a question
_GUARD = threading.Lock()


def environment() -> dict[str, str]:
    """Return a worker's environment. Waiting threads sleep instead of spinning, and one core stays free for the UI."""
    threads = str(max(1, (os.cpu_count() or 2) - 1))
    return {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        "PYTHONUNBUFFERED": "1",
    }


@changes
def start(runs: Path, config: RunConfig, title: str = "") -> RunFolder:
    """Create a run below `runs` with an optional title, and start a worker. Raises StoreError with one sentence."""
    folder = entitle(create_run(runs, config), title)
    work_on(folder)
    return folder


@changes
def fork(folder: RunFolder | Path, after_task: int, settings: Mapping[str, Any], name: str = "") -> RunFolder:
    """Fork `folder` after `after_task` tasks (1 = the first) with other settings (keys as in --set), and start a worker
    that trains the remaining tasks.

    Raises:
        StoreError: if there is no checkpoint there, nothing left to train, or no worker can be started.
        ConfigError: if a setting cannot be changed; the message says why.
    """
    folder = folder if isinstance(folder, RunFolder) else RunFolder(Path(folder))
    made = fork_run(folder, after_task, settings.items(), settings_of(folder.config().method), name=name)
    entitle(made, name)
    work_on(made)
    return made


@changes
def work_on(folder: RunFolder) -> None:
    """Start a worker for a new or stopped run. Raises StoreError, also if its checkpoint is damaged or events that it
    covers are missing."""
    config = folder.config()
    if config.trained_elsewhere:
        raise StoreError(config.why_it_ends_here(folder.name))
    _let_go(folder)
    if lock_owner(folder) is not None or starting(folder):
        raise StoreError(f"run {folder.name} is being worked on already")
    starting_point(folder)  # the worker would also refuse, but only in its log
    child = _process([*WORKER, str(folder.path.resolve())], folder.log, folder.name)
    with _GUARD:
        _CHILDREN[folder.path.resolve()] = (child, time.time())
    log_of(folder).forget_status()


@changes
def ask(runs: Path, question: str, seeds: Sequence[int] = (0,)) -> None:
    """Start a worker that trains the missing runs of a question in sequence. Raises StoreError with one sentence."""
    if asking(runs, question):
        raise StoreError(f"question {question} is being worked on already")
    which = ["--seed", str(seeds[0])] if len(seeds) == 1 else ["--seeds", ",".join(map(str, seeds))]
    command = [*ASKER, question, "--runs", str(runs.resolve()), *which]
    _aside(command, question_log(runs, question), runs, question)


def asking(runs: Path, question: str) -> bool:
    """Return whether a worker started here still works on the question."""
    return _alive(question_log(runs, question).resolve())


def question_log(runs: Path, question: str) -> Path:
    """Return the log file of a question's worker, in a folder beside the runs that is not a run."""
    return Path(runs) / ".questions" / f"{question}.log"


@changes
def sweep(runs: Path, name: str, options: Sequence[str]) -> None:
    """Start a worker for a sweep; `options` as on the command line. Raises StoreError with one sentence."""
    if sweeping(runs, name):
        raise StoreError(f"sweep {name} is being worked on already")
    command = [*SWEEPER, *options, "--name", name, "--runs", str(Path(runs).resolve())]
    _aside(command, output_of(runs, name), runs, name)


def sweeping(runs: Path, name: str) -> bool:
    """Return whether any process works on the sweep, started here or elsewhere."""
    return _alive(output_of(runs, name).resolve()) or conducted_by(runs, name) is not None


def locate(folder: RunFolder, task: int, after: int) -> None:
    """Start a worker that finds the layer in which a task was lost, from checkpoints (tasks from 0). Raises
    StoreError."""
    if locating(folder, task, after):
        return
    place, log = folder.path.resolve(), _locator_log(folder, task, after)
    cell = ["--task", str(task + 1), "--after", str(after + 1), "--layers"]
    _aside([*LOCATOR, place.name, *cell, "--runs", str(place.parent)], log, place, place.name)


def interpolate(folder: RunFolder, start: int, end: int) -> None:
    """Start a worker that measures the line between two states of the weights (`start` −1 = untouched). Raises
    StoreError."""
    log = _line_log(folder, start, end)
    if _alive(log.resolve()):
        return
    place = folder.path.resolve()
    line = ["--after", str(end + 1), "--line", *(["--line-from", str(start + 1)] if start >= 0 else [])]
    _aside([*LOCATOR, place.name, *line, "--runs", str(place.parent)], log, place, place.name)


def interpolating(folder: RunFolder, start: int, end: int) -> bool:
    """Return whether a worker started here still measures it."""
    return _alive(_line_log(folder, start, end).resolve())


def interpolating_failed(folder: RunFolder, start: int, end: int) -> str:
    """The last output of a worker that ended without a result."""
    log = _line_log(folder, start, end)
    return "" if interpolating(folder, start, end) else next(reversed(last_lines(log, 1)), "")


def _line_log(folder: RunFolder, start: int, end: int) -> Path:
    return interpolation_file(folder, start, end).with_suffix(".log")


def locating(folder: RunFolder, task: int, after: int) -> bool:
    """Return whether a worker started here is still searching for it."""
    return _alive(_locator_log(folder, task, after).resolve())


def locating_failed(folder: RunFolder, task: int, after: int) -> str:
    """Return the last output of a worker that ended without a result; "" if there was none, or it is still running."""
    if locating(folder, task, after):
        return ""
    return next(reversed(last_lines(_locator_log(folder, task, after), 1)), "")


def _locator_log(folder: RunFolder, task: int, after: int) -> Path:
    return file_of(folder, task, after).with_suffix(".log")


def _aside(command: Sequence[str], log: Path, runs: Path, name: str) -> None:
    """Start a worker for several runs; its output goes to `log`, below `runs`. Raises StoreError."""
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.unlink(missing_ok=True)  # output of an earlier attempt
    except OSError as error:
        raise StoreError(
            f"cannot write runs into {runs}: {error.strerror}; choose a writable folder with --runs"
        ) from error
    child = _process(command, log, name)
    with _GUARD:
        _CHILDREN[log.resolve()] = (child, time.time())


def _process(command: Sequence[str], output: Path, name: str) -> subprocess.Popen[bytes]:
    """Start a process in its own session, with its output appended to a file. Raises StoreError."""
    package = Path(__file__).resolve().parents[1]  # so that a checkout works from any folder
    path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    try:
        with output.open("ab") as log:
            return subprocess.Popen(
                command,
                env={**environment(), "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise StoreError(f"cannot start a worker for {name}: {error.strerror or error}") from error


def starting(folder: RunFolder) -> bool:
    """Return whether a worker started here is loading: alive, without a new event yet. A worker that resumes a run or
    starts a fork may already hold the lock while the last event is still the old one."""
    with _GUARD:
        child, since = _CHILDREN.get(folder.path.resolve(), (None, 0.0))
    if child is None or child.poll() is not None or time.time() - since > STARTING:
        return False
    return log_of(folder).status(fresh=True).moved < since  # otherwise it has written events and is ending


def _let_go(folder: RunFolder) -> None:
    """Wait briefly for a worker that has written its last event and still holds the run."""
    log, end = log_of(folder), time.monotonic() + LEAVING
    while lock_owner(folder) is not None and log.status(fresh=True).state in ("stopped", "finished", "failed"):
        if time.monotonic() > end:
            return
        time.sleep(0.05)


def working(folder: RunFolder) -> bool:
    """Return whether a worker started here still exists."""
    return _alive(folder.path.resolve())


def _alive(key: Path) -> bool:
    with _GUARD:
        child, _ = _CHILDREN.get(key, (None, 0.0))
    return child is not None and child.poll() is None


@changes
def order(folder: RunFolder, command: Command) -> None:
    """Send `command` to the run's worker; the answer comes as an event. Raises StoreError."""
    send(folder, command)
    log_of(folder).forget_status()


def log_tail(folder: RunFolder, lines: int = 12) -> Sequence[str]:
    """Return the last lines of the worker's output; empty if there is none."""
    return last_lines(folder.log, lines)


def last_lines(path: Path, lines: int = 12) -> Sequence[str]:
    """Return the last lines of an output file; empty if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 20_000))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()][-lines:]
