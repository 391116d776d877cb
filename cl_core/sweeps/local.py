"""The engine `local`: worker processes on this computer, kept for the whole sweep. No torch in this process.

Each worker is a pool of one (`concurrent.futures`, spawned): if a worker is killed only its own run ends, and a new
worker replaces it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from cl_core.config import ConfigError
from cl_core.sweeps.executor import DIED, Engine
from cl_core.sweeps.worker import Job, Outcome, check, follow_conductor, train, warm_up


def cores() -> int:
    """Number of cores that this process may use."""
    available = getattr(os, "sched_getaffinity", None)
    return len(available(0)) if available else os.cpu_count() or 1


class LocalEngine(Engine):
    """`workers` processes with `threads` processor threads each (None: the cores divided evenly)."""

    def __init__(self, workers: int | None = None, threads: int | None = None) -> None:
        self.workers = cores() if workers is None else workers
        self.threads = max(1, cores() // max(1, self.workers)) if threads is None else threads
        for name, value in (("workers", self.workers), ("threads", self.threads)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        self._idle: list[ProcessPoolExecutor] = []
        self._working: dict[Future[Outcome], tuple[ProcessPoolExecutor, Job]] = {}

    def check(self, configs: Sequence[dict[str, Any]]) -> str:
        first, *others = [self._worker() for _ in range(min(self.workers, max(1, len(configs))))]
        with _environment(self.threads):  # a process is started when it gets its first work, and inherits this
            answer = first.submit(check, list(configs))
            for other in others:
                other.submit(warm_up, list(configs))  # imports torch meanwhile
            first.submit(warm_up, list(configs))  # after the check, before the first run
        self._idle += [first, *others]
        try:
            return answer.result()
        except BrokenProcessPool:
            return "no worker process could be started (killed, or out of memory); try fewer --workers"

    def free(self) -> bool:
        return len(self._working) < self.workers

    def submit(self, work: Job) -> None:
        worker = self._idle.pop() if self._idle else self._worker()
        with _environment(self.threads):
            try:
                future = worker.submit(train, work)
            except BrokenProcessPool:  # it died while it was idle
                worker = self._worker()
                future = worker.submit(train, work)
        self._working[future] = worker, work

    def ended(self, timeout: float) -> list[Outcome]:
        done, _ = wait(self._working, timeout, FIRST_COMPLETED)
        found = []
        for future in done:
            worker, work = self._working.pop(future)
            try:
                found.append(future.result())
                self._idle.append(worker)
            except BrokenProcessPool:
                found.append(Outcome(work.key, work.folder or str(work.config["name"]), "failed", DIED))
                worker.shutdown(wait=False)
        return found

    @property
    def busy(self) -> int:
        return len(self._working)

    def close(self, *, at_once: bool = False) -> None:
        pools = [*self._idle, *(pool for pool, _ in self._working.values())]
        for pool in pools:
            processes = list((pool._processes or {}).values()) if at_once else []
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.terminate()
        for pool in pools:
            pool.shutdown(wait=True)
        self._idle, self._working = [], {}

    def _worker(self) -> ProcessPoolExecutor:
        # spawned: a fork would copy this process's threads and locks in whatever state they are
        return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    """Prepare a worker. Ctrl-C reaches all processes of the terminal: the scheduler handles it for all."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    follow_conductor()


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """Set the thread counts that a worker's libraries read when they are loaded; restored afterwards."""
    wanted = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    wanted["OMP_WAIT_POLICY"] = "PASSIVE"  # spinning threads are very slow on shared cores
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
