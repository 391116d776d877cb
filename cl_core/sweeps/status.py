"""Progress of a sweep: each point with its run, and the time left. Read from the runs only, so a page, a terminal and
another computer that shares the folder see the same. No torch.
"""

from __future__ import annotations

import functools
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cl_core.events import RunStarted
from cl_core.store import RunFolder, RunReader, StoreError, list_runs, turned
from cl_core.sweeps.spec import Point, Sweep


@dataclass(frozen=True)
class Found:
    """A point and its run: "queued" without one, else the run's state."""

    point: Point
    folder: RunFolder | None = None
    state: str = "queued"
    reason: str = ""
    share: float = 0.0  # of its steps, 0 to 1
    seconds: float | None = None  # of training, of finished runs


@dataclass(frozen=True)
class SweepStatus:
    """Progress of a sweep, from its runs' events."""

    runs: tuple[Found, ...]

    def of(self, *states: str) -> tuple[Found, ...]:
        return tuple(found for found in self.runs if found.state in states)

    @property
    def finished(self) -> int:
        return len(self.of("finished"))

    @property
    def share(self) -> float:
        """Share of the sweep that is done, 0 to 1; runs in training count by their steps."""
        return sum(1.0 if f.state == "finished" else f.share for f in self.runs) / max(1, len(self.runs))

    def seconds_left(self, workers: int) -> float | None:
        """Mean time of a finished run × what is left of the others, shared by the workers; None before the first is
        finished. Failed runs count as left: the sweep tries them again only when it is started again."""
        took = [f.seconds for f in self.runs if f.seconds is not None]
        left = [1 - f.share for f in self.runs if f.state not in ("finished", "failed")]
        if not took:
            return None
        return sum(took) / len(took) * max(sum(left) / max(1, workers), max(left, default=0.0))


def sweep_status(sweep: Sweep, runs: Path) -> SweepStatus:
    """Every point with its run. Of several runs with a point's settings a finished one is taken, else the newest; what
    cannot be read is passed over, and so are forks and runs with a setting that was changed live: a part of their
    training had other settings."""
    wanted = {point.fingerprint: point for point in sweep.points}
    found: dict[str, Found] = {}
    for folder in list_runs(runs):
        try:
            stamp = folder.config_file.stat()
            group, key = _identity(folder.path, stamp.st_mtime_ns, stamp.st_size)
            if group != sweep.group:
                continue
            if key not in wanted or (key in found and found[key].state == "finished") or turned(folder):
                continue
            seen = _look(wanted[key], folder)
        except (StoreError, OSError):
            continue
        if key not in found or seen.state == "finished":
            found[key] = seen
    return SweepStatus(tuple(found.get(key, Found(point)) for key, point in wanted.items()))


@functools.lru_cache(maxsize=20_000)
def _identity(path: Path, _modified: int, _size: int) -> tuple[str, str]:
    """(group, fingerprint) of a run; read once, as a conductor looks at all runs whenever one ends. A fork's
    fingerprint names its parent, so it is no point's."""
    config = RunFolder(path).config()
    return config.group, config.fingerprint()


def _look(point: Point, folder: RunFolder) -> Found:
    with closing(RunReader(folder)) as reader:
        status = reader.status()
        if status.state == "finished":
            return Found(point, folder, status.state, seconds=reader.worked_seconds())
        plan, step = reader.latest("RunStarted"), reader.latest("StepEnded")
    share = 0.0
    if plan is not None and step is not None and isinstance(plan.event, RunStarted) and plan.event.total_steps:
        share = min(1.0, (step.event.clock.step + 1) / plan.event.total_steps)
    return Found(point, folder, status.state, status.reason, share)
