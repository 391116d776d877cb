"""Interface of sweep engines: they accept jobs and yield results as they finish. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from cl_core.sweeps.worker import Job, Outcome

DIED = "its worker process died (killed, or out of memory); the same command goes on from its last checkpoint"


class Engine(ABC):
    """Workers, local or remote. A context manager: leaving it ends them."""

    workers: int  # runs that are trained at once
    threads: int  # processor threads a run
    sharing: int = 1  # runs that may train on one GPU at a time; the others wait

    @abstractmethod
    def check(self, configs: Sequence[dict[str, Any]]) -> str:
        """Let a worker check settings before anything is written; returns the first error, or an empty text."""

    @abstractmethod
    def free(self) -> bool:
        """Whether a worker is free."""

    @abstractmethod
    def submit(self, work: Job) -> None:
        """Start one run. Call only if `free`."""

    @abstractmethod
    def ended(self, timeout: float) -> list[Outcome]:
        """Runs that have ended since the last call; waits up to `timeout` seconds for one."""

    @property
    @abstractmethod
    def busy(self) -> int:
        """Number of runs started that have not ended."""

    @abstractmethod
    def close(self, *, at_once: bool = False) -> None:
        """End the workers; `at_once`: without waiting for their runs."""

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(at_once=kind is not None)
