"""Workers: start one, go on with a stopped run, send it a command, read the end of its log.

A worker is a process of its own session. It outlives this server and writes its run folder; nothing here waits for it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from cl_core.commands import Command
from cl_core.config import RunConfig
from cl_core.store import RunFolder, StoreError, create_run, holder, send
from dashboard.tail import log_of

WORKER: tuple[str, ...] = (sys.executable, "-m", "cl_core", "work")  # the run's folder is appended
STARTING = 60.0  # seconds a worker may take to load before it counts as lost
LEAVING = 3.0  # seconds granted to a worker between its last event and its end

_CHILDREN: dict[Path, tuple[subprocess.Popen[bytes], float]] = {}
_GUARD = threading.Lock()


def environment() -> dict[str, str]:
    """What a worker inherits. Waiting threads sleep instead of spinning, and one core stays free for who watches."""
    threads = str(max(1, (os.cpu_count() or 2) - 1))
    return {
        **os.environ,
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
        "PYTHONUNBUFFERED": "1",
    }


def start(runs: Path, config: RunConfig) -> RunFolder:
    """A new run below `runs` and a worker on it. Raises StoreError in one sentence."""
    folder = create_run(runs, config)
    work_on(folder)
    return folder


def work_on(folder: RunFolder) -> None:
    """A worker for a run that has none: the beginning of a new one, or the rest of a stopped one. Raises StoreError."""
    _let_go(folder)
    if holder(folder) is not None or starting(folder):
        raise StoreError(f"run {folder.name} is being worked on already")
    package = Path(__file__).resolve().parents[1]  # so that a checkout works from any folder
    path = os.pathsep.join(filter(None, (str(package), os.environ.get("PYTHONPATH"))))
    try:
        with folder.log.open("ab") as log:
            child = subprocess.Popen(
                [*WORKER, str(folder.path.resolve())],
                env={**environment(), "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise StoreError(f"cannot start a worker for {folder.name}: {error.strerror or error}") from error
    with _GUARD:
        _CHILDREN[folder.path.resolve()] = (child, time.time())
    log_of(folder).forget_status()


def starting(folder: RunFolder) -> bool:
    """Whether a worker started here is loading: alive, and not holding the run yet."""
    with _GUARD:
        child, since = _CHILDREN.get(folder.path.resolve(), (None, 0.0))
    if child is None or child.poll() is not None or time.time() - since > STARTING or holder(folder) is not None:
        return False
    return log_of(folder).status().moved < since  # else it has spoken, and is on its way out


def _let_go(folder: RunFolder) -> None:
    """Wait a moment for a worker that has said its last word and still holds the run."""
    log, end = log_of(folder), time.monotonic() + LEAVING
    while holder(folder) is not None and log.status().state in ("stopped", "finished", "failed"):
        if time.monotonic() > end:
            return
        time.sleep(0.05)


def working(folder: RunFolder) -> bool:
    """Whether a worker started here still exists."""
    with _GUARD:
        child, _ = _CHILDREN.get(folder.path.resolve(), (None, 0.0))
    return child is not None and child.poll() is None


def order(folder: RunFolder, command: Command) -> None:
    """Send `command` to the run's worker; the answer comes as an event. Raises StoreError."""
    send(folder, command)
    log_of(folder).forget_status()


def log_tail(folder: RunFolder, lines: int = 12) -> Sequence[str]:
    """The last lines of the worker's output; empty if there is none."""
    try:
        with folder.log.open("rb") as file:
            file.seek(max(0, folder.log.stat().st_size - 20_000))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return [line.rstrip() for line in text.replace("\r", "\n").splitlines() if line.strip()][-lines:]
