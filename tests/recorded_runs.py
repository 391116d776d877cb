"""Tiny recorded runs, written by the real writer: every state a page can meet. Invented numbers, real shapes.

finished(runs)            a run that ended well             stopped(runs), failed(runs), gone(runs), waiting(runs)
running(runs)             ends in mid-task; wrap in `with held(folder):` and a living process holds it
unmeasured(runs)          no spectra, attention, drift or readouts: accuracies and losses alone
half_written(runs)        cut between two rows of a moment, as a copied folder may be
newer(runs), damaged_config(runs), damaged_events(runs)     files a page has to explain
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from cl_core.analysis import measured_later
from cl_core.config import FORMAT
from cl_core.events import CheckpointSaved, Clock, Event, RunFailed, StateChanged
from cl_core.store import RunFolder, create_run
from tests.invented_run import Plan, moments
from tests.recording import recorded

ROOT = Path(__file__).resolve().parents[1]


def record(
    runs: Path, name: str, plan: Plan | None = None, *, until: int | None = None, then: tuple[Event, ...] = ()
) -> RunFolder:
    """A run `name` below `runs` holding the first `until` moments of `plan` (all if None), and `then` after them."""
    plan = plan or Plan()
    folder = recorded(runs, replace(plan.config, name=name), [*islice(moments(plan), until), *([then] if then else [])])
    folder.log.write_text("loading micro-vit\ntraining on T1\n", "utf-8")
    return folder


def moments_a_task(plan: Plan) -> int:
    """Moments that one task takes: its opening, each step and epoch end, measurements, accuracies, checkpoint."""
    return 1 + plan.epochs * (plan.steps + 1) + 3


def finished(runs: Path, name: str = "finished", plan: Plan | None = None) -> RunFolder:
    return record(runs, name, plan)


def located(path: Path) -> RunFolder:
    """What patching would have found of T1 after T3 in the run at `path`: mostly layer 2."""
    rows = [{"layer": 1, "alone": 1.0, "up_to": 1.0}, {"layer": 2, "alone": 19.0, "up_to": 20.0}]
    sizes = {"then": 95.0, "now": 75.0, "head": 0.0, "body": 20.0, "seconds": 1.0}
    measured_later.save(
        RunFolder(path), {"task": 1, "after": 3, **sizes, "layers": rows, "refit": [100.0, 99.0], "answers": {}}
    )
    return RunFolder(path)


def unmeasured(runs: Path, name: str = "unmeasured") -> RunFolder:
    return record(runs, name, Plan(measured=False))


def running(runs: Path, name: str = "running", plan: Plan | None = None) -> RunFolder:
    """In the middle of task 2. Without `held` around it the run reads as gone: nobody holds it."""
    plan = plan or Plan()
    return record(runs, name, plan, until=1 + moments_a_task(plan) + 3)


def paused(runs: Path, name: str = "paused", plan: Plan | None = None) -> RunFolder:
    plan = plan or Plan()
    return record(runs, name, plan, until=1 + moments_a_task(plan) + 3, then=(StateChanged(Clock(1, 0, 7), "paused"),))


def stopped(runs: Path, name: str = "stopped", plan: Plan | None = None) -> RunFolder:
    plan = plan or Plan()
    return record(
        runs,
        name,
        plan,
        until=1 + moments_a_task(plan) + 3,
        then=(
            CheckpointSaved(Clock(1, 0, 7), "000002", boundary=False),
            StateChanged(Clock(1, 0, 7), "stopped", "asked to stop"),
        ),
    )


def failed(runs: Path, name: str = "failed", plan: Plan | None = None) -> RunFolder:
    plan = plan or Plan()
    reason = "loss norm_drift became NaN; lower prompt_rate (now 0.05) and resume"
    folder = record(
        runs,
        name,
        plan,
        until=1 + moments_a_task(plan) + 3,
        then=(
            RunFailed(
                Clock(1, 0, 7), reason, "Traceback (most recent call last):\n  …\nFloatingPointError: norm_drift"
            ),
            StateChanged(Clock(1, 0, 7), "failed", reason),
        ),
    )
    folder.log.write_text("loading micro-vit\ntraining on T1\ntraining on T2\nloss norm_drift became NaN\n", "utf-8")
    return folder


def gone(runs: Path, name: str = "gone", plan: Plan | None = None) -> RunFolder:
    return running(runs, name, plan)


def waiting(runs: Path, name: str = "waiting", plan: Plan | None = None) -> RunFolder:
    return create_run(runs, replace((plan or Plan()).config, name=name))


def half_written(runs: Path, name: str = "half-written", plan: Plan | None = None) -> RunFolder:
    """Copied while the worker wrote: the last moment has lost its later rows."""
    import sqlite3

    plan = plan or Plan()
    folder = record(runs, name, plan, until=1 + moments_a_task(plan) - 1)
    connection = sqlite3.connect(folder.database)
    connection.execute("DELETE FROM events WHERE seq > (SELECT max(seq) - 2 FROM events)")
    connection.commit()
    connection.close()
    return folder


def newer(runs: Path, name: str = "newer") -> RunFolder:
    folder = record(runs, name)
    written = json.loads(folder.config_file.read_text("utf-8"))
    folder.config_file.write_text(json.dumps({**written, "format": FORMAT + 8, "weather": "fine"}), "utf-8")
    return folder


def damaged_config(runs: Path, name: str = "damaged-config") -> RunFolder:
    folder = record(runs, name)
    folder.config_file.write_text(folder.config_file.read_text("utf-8")[:60], "utf-8")
    return folder


def damaged_events(runs: Path, name: str = "damaged-events") -> RunFolder:
    folder = record(runs, name)
    folder.database.write_bytes(b"not a database, and long enough to be read as one " * 200)
    for leftover in folder.path.glob("events.db-*"):
        leftover.unlink()
    return folder


STATES = {
    "finished": finished,
    "unmeasured": unmeasured,
    "paused": paused,
    "stopped": stopped,
    "failed": failed,
    "gone": gone,
    "waiting": waiting,
    "half-written": half_written,
    "newer": newer,
    "damaged-config": damaged_config,
    "damaged-events": damaged_events,
}


@contextlib.contextmanager
def held(folder: RunFolder) -> Iterator[int]:
    """A living process holds `folder` until the block ends; gives its pid."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.stand_in_worker", "hold", str(folder.path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"held\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
