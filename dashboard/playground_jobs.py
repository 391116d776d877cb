"""Training for the Playground page: separate processes, shared queues for all viewers, equal settings trained once.

    lab = laboratory()
    job = lab.train((config,))        the same object for all requests with the same settings
    job.wait(1.5)                     True when it is done; job.outcomes grows task by task
    lab.ahead(job)                    number of jobs before it

Training is deterministic, so a finished job is its own cache entry; the last `KEPT` are kept. Single networks and whole
frontiers have separate queues and processes, so that a frontier, which takes ten seconds, does not block the slider.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cl_core.playground.settings import PlaygroundConfig
from cl_core.playground.training import Outcome, TaskOutcome
from dashboard.changes import REFUSED, viewing

WORKER: tuple[str, ...] = (sys.executable, "-m", "cl_core.playground")
KEPT = 512  # finished jobs; a network of ten tasks takes about 40 KB
WAITING = 64  # most jobs in one queue; further ones are refused
SHORT, LONG = "short", "long"


class Busy(Exception):
    """Too many jobs are waiting; the message is a sentence for the page."""


class Job:
    """Networks that are trained together, or one network that is stored as a run."""

    def __init__(self, configs: Sequence[PlaygroundConfig], keep: dict[str, str] | None = None) -> None:
        self.configs, self.keep = tuple(configs), keep
        self.outcomes = [Outcome(config) for config in configs]
        self.trouble, self.run, self.seconds = "", "", 0.0
        self.started = False
        self._done = threading.Event()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, seconds: float) -> bool:
        return self._done.wait(seconds)

    def finish(self, trouble: str = "") -> None:
        self.trouble = trouble
        self._done.set()

    @property
    def request(self) -> dict[str, Any]:
        if self.keep is not None:
            return {"config": self.configs[0].settings(), "keep": self.keep}
        return {"configs": [config.settings() for config in self.configs]}

    def take(self, answer: dict[str, Any]) -> bool:
        """Process one line of output; return True if it was the last one."""
        if "place" in answer:
            spectra = [np.array(values) for values in answer["spectra"]]
            outcome = TaskOutcome(answer["task"], answer["rows"], answer["free"], spectra)
            self.outcomes[answer["place"]].tasks.append(outcome)
            return False
        self.seconds, self.run = answer.get("done", 0.0), answer.get("run", "")
        self.finish(answer.get("error", ""))
        return True


class Line:
    """A queue of jobs and the process that serves them, which starts with the first job."""

    def __init__(self, name: str) -> None:
        self.name, self.jobs = name, list[Job]()
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        threading.Thread(target=self._serve, name=f"playground-{name}", daemon=True).start()

    def add(self, job: Job) -> None:
        with self._changed:
            if len(self.jobs) >= WAITING:
                raise Busy(f"{len(self.jobs)} networks are already waiting; try again in a few seconds")
            self.jobs.append(job)
            self._changed.notify()

    def ahead(self, job: Job) -> int:
        with self._changed:
            return self.jobs.index(job) if job in self.jobs else 0

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.jobs)
                job = self.jobs[0]
            job.started = True
            try:
                self._run(job)
            except (OSError, ValueError, KeyError, IndexError) as error:
                self._end()
                job.finish(f"the training process failed ({type(error).__name__}: {error}); try again")
            with self._changed:
                self.jobs.remove(job)

    def _run(self, job: Job) -> None:
        process = self._alive()
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"id": id(job), **job.request}) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            answer = json.loads(line)
            if answer.get("id") == id(job) and job.take(answer):
                return
        self._end()
        job.finish("the training process ended before it answered; try again")

    def _alive(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                WORKER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            )
        return self._process

    def warm(self) -> None:
        """Start the process before the first job."""
        self._alive()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Laboratory:
    """Both queues and the finished jobs. Shared by all threads of the server."""

    def __init__(self) -> None:
        self._lines = {name: Line(name) for name in (SHORT, LONG)}
        self._known: OrderedDict[tuple[PlaygroundConfig, ...], Job] = OrderedDict()
        self._guard = threading.Lock()

    def train(self, configs: Sequence[PlaygroundConfig]) -> Job:
        """Return the job of these settings, waiting, running or done. Raises Busy."""
        asked = tuple(configs)
        with self._guard:
            job = self._known.get(asked)
            if job is not None and not job.trouble:
                self._known.move_to_end(asked)
                return job
            if viewing():
                raise Busy("this dashboard is for viewing: recorded positions are shown, nothing is trained")
            job = Job(asked)
            self._line(job).add(job)
            self._known[asked] = job
            finished = [key for key, other in self._known.items() if other.done]
            for key in finished[: max(0, len(self._known) - KEPT)]:
                del self._known[key]
            return job

    def known(self, configs: Sequence[PlaygroundConfig]) -> Job | None:
        """Return the job of these settings if it was requested."""
        with self._guard:
            return self._known.get(tuple(configs))

    def keep(self, config: PlaygroundConfig, runs: Path, name: str = "") -> Job:
        """Train again and write a run. Raises Busy."""
        if viewing():
            raise Busy(REFUSED)
        job = Job((config,), {"runs": str(runs), "name": name})
        self._line(job).add(job)
        return job

    def trained(self, like: PlaygroundConfig, others: Sequence[PlaygroundConfig]) -> list[Outcome]:
        """Return finished single networks among `others`."""
        with self._guard:
            jobs = [self._known.get((config,)) for config in others if config != like]
        return [job.outcomes[0] for job in jobs if job is not None and job.done and not job.trouble]

    def ahead(self, job: Job) -> int:
        """Return the number of jobs before this one; 0 if it is running."""
        return self._line(job).ahead(job)

    def waiting(self) -> int:
        """Return the number of unfinished jobs in both queues."""
        return sum(len(line.jobs) for line in self._lines.values())

    def warm(self) -> None:
        self._lines[SHORT].warm()

    def _line(self, job: Job) -> Line:
        return self._lines[SHORT if len(job.configs) == 1 else LONG]


_LABORATORY: list[Laboratory] = []
_GUARD = threading.Lock()


def laboratory() -> Laboratory:
    """Return the server's single laboratory."""
    with _GUARD:
        if not _LABORATORY:
            _LABORATORY.append(Laboratory())
        return _LABORATORY[0]
