"""Scheduler of a sweep: dispatches missing runs, collects results, and stops on request. No torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cl_core.config import ConfigError
from cl_core.store import HELD, StoreError, hold
from cl_core.sweeps.executor import Engine
from cl_core.sweeps.spec import Sweep, conducted_by, save, stop_file, sweep_folder
from cl_core.sweeps.status import Found, sweep_status
from cl_core.sweeps.worker import Job, Outcome

BEAT = 0.5  # seconds between checks of the stop file and the clock


@dataclass(frozen=True)
class Conducted:
    """How a sweep ended: "finished" (every run is), "stopped" or "failed" (some runs failed, the others are finished),
    and the outcomes of the runs trained by this call, in order of their ends."""

    state: str
    outcomes: tuple[Outcome, ...]

    @property
    def failed(self) -> tuple[Outcome, ...]:
        return tuple(outcome for outcome in self.outcomes if outcome.state == "failed")


def conduct(
    sweep: Sweep,
    runs: Path,
    engine: Engine,
    *,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
    on_beat: Callable[[], None] = lambda: None,
) -> Conducted:
    """Train every run of `sweep` that is not finished: resume unfinished runs, create missing ones.

    Args:
        sweep: the grid; its record is written below `runs`.
        runs: folder of runs, which every worker must reach.
        engine: trains the runs.
        on_outcome: called when a run has ended.
        on_beat: called about twice a second.

    Raises:
        ConfigError: if a run's settings cannot be used, or another sweep has the name; nothing is trained then.
        StoreError: if the folder cannot be written, or another process runs this sweep.
    """
    points = sweep.points  # refused before anything is written
    folder, stop = sweep_folder(runs, sweep.name), stop_file(runs, sweep.name)
    if (other := conducted_by(runs, sweep.name)) is not None:
        raise StoreError(f"sweep {sweep.name} is being worked on already, by process {other}")
    if _left(sweep, runs) and (reason := engine.check([point.config.to_dict() for point in points])):
        raise ConfigError(reason)
    save(sweep, runs)
    with hold(folder):
        stop.unlink(missing_ok=True)  # left by an earlier process
        queue = deque(_left(sweep, runs))
        outcomes: list[Outcome] = []
        while queue or engine.busy:
            if stop.exists():
                queue.clear()
            while queue and engine.free():
                engine.submit(_work(queue.popleft(), runs, stop, engine.threads, engine.sharing))
            for outcome in engine.ended(BEAT):
                outcomes.append(outcome)
                on_outcome(outcome)
            on_beat()
        stop.unlink(missing_ok=True)
    return Conducted(_state(sweep, runs, outcomes), tuple(outcomes))


def _left(sweep: Sweep, runs: Path) -> list[Found]:
    """Points that are neither finished nor held by a process."""
    held = ("finished", *HELD)  # a run may be queued for its device; a point without a run is held by no process
    return [found for found in sweep_status(sweep, runs).runs if found.folder is None or found.state not in held]


def _state(sweep: Sweep, runs: Path, outcomes: list[Outcome]) -> str:
    now = sweep_status(sweep, runs)
    if now.finished == len(now.runs):
        return "finished"
    failed = len({f.point.fingerprint for f in now.of("failed")} | {o.key for o in outcomes if o.state == "failed"})
    return "failed" if failed and failed + now.finished >= len(now.runs) else "stopped"


def _work(found: Found, runs: Path, stop: Path, threads: int, sharing: int) -> Job:
    return Job(
        found.point.fingerprint,
        str(Path(runs).resolve()),
        found.folder.name if found.folder else "",
        found.point.config.to_dict(),
        str(stop.resolve()),
        threads,
        sharing,
    )
