"""A worker of a sweep: validates settings and trains one run after another in the same process.

A worker process imports torch once for many runs; that, and no start of a process per run, is why short runs gain.
Importing this module needs no torch: a process that only hands out work stays small.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

from cl_core.config import ConfigError, RunConfig
from cl_core.store import RunFolder, create_run

LOOK = 0.3  # seconds between checks of the stop file: on a shared disk each check is a request
SAVING = 600.0  # seconds that a run may take to its next checkpoint when the scheduler has died

_ORPHANED = threading.Event()  # the scheduler's process has died
_IDLE = threading.Event()  # set while no run is being trained here
_IDLE.set()
_WARM: set[tuple[str, str]] = set()  # methods, backbones and streams whose modules are here


@dataclass(frozen=True)
class Job:
    """One run to train. Plain values, because it is sent between processes and computers."""

    key: str  # the point's fingerprint
    runs: str  # folder of runs, the same path for every worker
    folder: str  # name of a run to resume; "" = a new one
    config: dict[str, Any]
    stop_file: str
    threads: int
    sharing: int = 1  # runs that may train on one GPU at a time


@dataclass(frozen=True)
class Outcome:
    """How one run of a sweep ended: "finished", "stopped", "failed", or "queued" if it was not begun."""

    key: str
    name: str
    state: str
    reason: str = ""
    seconds: float = 0.0


def check(configs: Sequence[dict[str, Any]]) -> str:
    """The error of the first unusable settings; empty if all are usable."""
    with _uncollected():
        from cl_core.training.factory import check as check_settings

    for record in configs:
        try:
            check_settings(RunConfig.from_dict(record))
        except ConfigError as error:
            return str(error)
    return ""


def warm_up(configs: Sequence[dict[str, Any]]) -> None:
    """Import what training these needs, once a process; what fails is left to the run that names it."""
    wanted = {(kind, str(record.get(kind))) for record in configs for kind in ("method", "backbone", "stream")}
    if wanted <= _WARM:
        return
    with _uncollected():
        import cl_core.training.worker  # noqa: F401
        from cl_core.registry import BACKBONES, METHODS, STREAMS, load

        tables = {"method": METHODS, "backbone": BACKBONES, "stream": STREAMS}
        for kind, name in sorted(wanted - _WARM):
            with contextlib.suppress(Exception):  # the run will report it
                load(tables[kind], name, kind)
    _WARM.update(wanted)
    gc.freeze()  # imported objects stay: the collection after each run skips them and saves 0.2 s
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)  # otherwise libraries report unreleased objects at the end of the process


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Pause garbage collection: torch and its libraries create a million lasting objects, and scanning them repeatedly
    took a sixth of their import."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def train(work: Job) -> Outcome:
    """Train or resume one run to its end. Any error is its outcome, never an exception."""
    asked = _asked_to_stop(Path(work.stop_file))
    name = work.folder or str(work.config["name"])
    if asked():
        return Outcome(work.key, name, "queued")
    warm_up([work.config])
    import torch

    from cl_core.training.worker import drive, in_one_sentence

    torch.set_num_threads(work.threads)
    started = time.perf_counter()
    _IDLE.clear()
    try:
        folder = RunFolder(Path(work.runs) / name) if work.folder else new_run(Path(work.runs), work.config)
        name = folder.name
        ended = drive(folder, asked_to_stop=asked, sharing=work.sharing)
        state, reason = ended.state, ended.reason
    except Exception as error:
        state, reason = "failed", in_one_sentence(error)
    finally:
        _IDLE.set()
    gc.collect()  # trainers contain reference cycles: otherwise their tensors would stay until a later collection
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return Outcome(work.key, name, state, reason, time.perf_counter() - started)


def new_run(runs: Path, record: dict[str, Any]) -> RunFolder:
    """Create a run's folder; a number is appended if its name is taken. Raises StoreError."""
    config, count = RunConfig.from_dict(record), 1
    name = config.name
    while (runs / config.name).exists():
        count += 1
        config = replace(config, name=f"{name}-{count}")
    return create_run(runs, config)


def _asked_to_stop(stop_file: Path) -> Callable[[], bool]:
    """Whether the sweep was told to stop (checked on disk at intervals), or its scheduler has died."""
    answer, looked = False, -LOOK

    def asked() -> bool:
        nonlocal answer, looked
        now = time.monotonic()
        if not answer and now - looked >= LOOK:
            answer, looked = stop_file.exists(), now
        return answer or _ORPHANED.is_set()

    return asked


def follow_conductor() -> None:
    """End this worker when the process that started it has died; a run in training is saved first.

    A pool's workers hold both ends of its pipe and would wait for more work for ever.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watching() -> None:
        connection.wait([parent.sentinel])
        _ORPHANED.set()
        _IDLE.wait(SAVING)
        os._exit(1)

    threading.Thread(target=watching, daemon=True, name="follow conductor").start()
