"""Starting workers: a process of its own session that is found again, obeys, and is not doubled."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from contextlib import closing

import pytest

from cl_core.commands import Pause, Resume, Step, Stop
from cl_core.config import RunConfig
from cl_core.events import Clock, StateChanged, StepEnded
from cl_core.store import RunWriter, StoreError, lock_owner
from dashboard import launch
from dashboard.run_log import log_of
from tests import recorded_runs
from tests.dashboard.reading import words
from tests.recorded_forks import forkable
from tests.recorded_runs import ROOT, Plan, moments


@pytest.fixture
def stub(monkeypatch):
    """Workers play a recorded run, one moment every 30 ms; those still alive at the end are ended."""
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-m", "tests.stand_in_worker", "work", "--delay", "0.03"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    yield
    for child, _ in launch._CHILDREN.values():
        child.kill()
        child.wait()


def until(truth, seconds=20.0):
    end = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.03)


def state(folder):
    return log_of(folder).snapshot(force=True).status().state


def test_a_started_run_trains_to_its_end(stub, runs_folder):
    folder = launch.start(runs_folder, RunConfig(method="nsp2", name="one"))
    assert launch.working(folder)
    until(lambda: lock_owner(folder) is not None)
    assert os.getsid(lock_owner(folder)) != os.getsid(0), "a worker has a session of its own"
    until(lambda: state(folder) == "finished")
    assert sum(len(m) for m in moments(Plan())) == log_of(folder).seq
    until(lambda: not launch.working(folder))


def test_a_resume_that_lacks_events_is_refused_on_the_page_and_starts_nothing(monkeypatch, runs_folder, open_page):
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", "raise SystemExit('a worker was started')"))
    folder = forkable(runs_folder, "cut")
    with closing(sqlite3.connect(folder.database)) as database:
        database.execute("DELETE FROM events WHERE seq > 20")
        database.commit()
    with closing(RunWriter(folder)) as writer:
        writer.append([StateChanged(Clock(0, 0, 3), "stopped", "asked to stop")])
    app = open_page("run", run="cut")
    app.button(key="resume-here").click().run()
    assert not app.exception and not launch._CHILDREN and not folder.log.read_text("utf-8").count("was started")
    said = words(app)
    assert "cannot go on from checkpoint" in said and "events end at" in said
    assert "plastiscope resume cut --after-task" in said, "the way out"


def test_pause_step_go_on_and_stop_are_obeyed(stub, runs_folder):
    folder = launch.start(runs_folder, RunConfig(method="nsp2", name="two"))
    until(lambda: state(folder) == "running" and len(log_of(folder).of(StepEnded)) > 1)
    launch.order(folder, Pause())
    until(lambda: state(folder) == "paused")
    seen = log_of(folder).seq
    launch.order(folder, Step(1))
    until(lambda: state(folder) == "paused" and log_of(folder).seq > seen + 1)
    launch.order(folder, Resume())
    until(lambda: state(folder) == "running")
    launch.order(folder, Stop())
    until(lambda: state(folder) == "stopped")
    launch.work_on(folder)
    until(lambda: state(folder) == "finished")


def test_a_second_worker_on_a_run_is_refused(stub, runs_folder):
    folder = launch.start(runs_folder, RunConfig(method="nsp2", name="three"))
    with pytest.raises(StoreError, match="being worked on already"):
        launch.work_on(folder)
    until(lambda: lock_owner(folder) is not None)
    with pytest.raises(StoreError, match="being worked on already"):
        launch.work_on(folder)


def test_a_worker_that_dies_at_once_leaves_its_words(monkeypatch, runs_folder):
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", "import sys; sys.exit('no such backbone')"))
    folder = launch.start(runs_folder, RunConfig(method="nsp2", name="four"))
    until(lambda: not launch.working(folder))
    assert launch.log_tail(folder) == ["no such backbone"]
    assert not launch.starting(folder)


def test_an_unwritable_runs_folder_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot write runs into"):
        launch.start(tmp_path / "file", RunConfig(method="nsp2"))


def test_waiting_threads_sleep_and_one_core_stays_free(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert launch.environment()["OMP_WAIT_POLICY"] == "PASSIVE"
    assert launch.environment()["OMP_NUM_THREADS"] == "7"


def test_a_worker_that_holds_a_stopped_run_and_has_not_spoken_is_starting(stub, monkeypatch, runs_folder):
    """Else the page of a fresh fork would read its last word, *stopped*, and look no more."""
    silent = (
        "import sys, time; from pathlib import Path; from cl_core.store import RunFolder, hold\n"
        "with hold(RunFolder(Path(sys.argv[1]))): time.sleep(60)"
    )
    monkeypatch.setattr(launch, "WORKER", (sys.executable, "-c", silent))
    folder = recorded_runs.stopped(runs_folder)
    launch.work_on(folder)
    until(lambda: lock_owner(folder) is not None)
    assert state(folder) == "stopped" and launch.starting(folder)
    with closing(RunWriter(folder)) as writer:
        writer.append([StateChanged(Clock(1), "running")])
    assert state(folder) == "running" and not launch.starting(folder)
