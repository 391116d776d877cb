"""The engine `ray`: the same work on a Ray cluster, or on this computer alone. Needs the extra `ray`.

Every node must have Plastiscope installed and reach the runs folder under the same path. Ray opens ports on all
interfaces, so nothing starts it but an explicit `--engine ray`.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Sequence
from typing import Any

from cl_core.config import ConfigError
from cl_core.sweeps.executor import DIED, Engine
from cl_core.sweeps.local import cores
from cl_core.sweeps.worker import Job, Outcome, check, train

STORE = 80 << 20  # bytes of Ray's object store if started here: only settings and outcomes pass through it


class RayEngine(Engine):
    """Runs as Ray tasks. Without `address` a one-node cluster is started, and ended with this engine.

    Args:
        address: of a running cluster ("auto", "ray://head:10001", "10.0.0.5:6379"); None = start one here.
        workers: runs at once; None = as many as the cluster has room for, which Ray decides.
        threads: processor threads, and Ray CPUs, a run.
        gpus: Ray GPUs a run, a fraction lets several runs share one.
    """

    def __init__(
        self, address: str | None = None, workers: int | None = None, threads: int | None = None, gpus: float = 0.0
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(
                "the engine ray needs the package ray, which is not installed; `pip install '.[ray]'` brings it, and "
                "--engine local works without it"
            )
        self.threads = 1 if threads is None else threads
        if self.threads < 1 or gpus < 0 or (workers is not None and workers < 1):
            raise ConfigError(
                f"workers and threads must be at least 1 and GPUs a run at least 0, got {workers}, {threads} and {gpus}"
            )
        self.sharing = max(1, int(1 / gpus)) if gpus else 1  # Ray accounts for the shares itself
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing phones home
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # inherited by workers that are started here
        import ray

        self._ray, self._limit = ray, workers
        try:
            if address is None:
                ray.init(
                    num_cpus=max(1, workers or cores() // self.threads) * self.threads,
                    include_dashboard=False,
                    log_to_driver=False,
                    object_store_memory=STORE,
                    logging_level=logging.ERROR,
                )
            else:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"cannot reach a Ray cluster at {address or 'this computer'}: {first}") from error
        room = ray.cluster_resources()
        self.workers = workers or max(1, int(room.get("CPU", 1) // self.threads))
        remote = ray.remote(num_cpus=self.threads, num_gpus=gpus, max_retries=0)
        self._check, self._train = remote(check), remote(train)
        self._working: dict[Any, Job] = {}

    def check(self, configs: Sequence[dict[str, Any]]) -> str:
        try:
            return self._ray.get(self._check.remote(list(configs)))
        except self._ray.exceptions.RayError as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            return f"a Ray worker could not load Plastiscope, which every node needs: {first}"

    def free(self) -> bool:
        return self._limit is None or len(self._working) < self._limit

    def submit(self, work: Job) -> None:
        self._working[self._train.remote(work)] = work

    def ended(self, timeout: float) -> list[Outcome]:
        if not self._working:
            return []
        done, _ = self._ray.wait(list(self._working), num_returns=1, timeout=timeout)
        found = []
        for reference in done:
            work = self._working.pop(reference)
            try:
                found.append(self._ray.get(reference))
            except self._ray.exceptions.RayError:
                found.append(Outcome(work.key, work.folder or str(work.config["name"]), "failed", DIED))
        return found

    @property
    def busy(self) -> int:
        return len(self._working)

    def close(self, *, at_once: bool = False) -> None:
        if at_once:
            for reference in self._working:
                self._ray.cancel(reference, force=True)
        self._working = {}
        self._ray.shutdown()
