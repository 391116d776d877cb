"""Driving a run folder: every moment stored, every command answered, and whatever dies, what was measured stays.

The person at the inbox is played by two doors of the loop: what is called after each stored moment, and the sleep
between looks into the inbox while paused. So every order arrives at an exact place and nothing depends on time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
import torch

from cl_core.commands import Pause, Resume, Step, Stop
from cl_core.methods.sequential import Sequential
from cl_core.store import RunFolder, RunReader, StoreError, create_run, hold, lock_owner, send
from cl_core.summary import summarise
from cl_core.training import checkpoint, worker
from cl_core.training.worker import drive

QUIET = {"diagnostics": {"spectra": False, "attention": False, "drift": False, "readout": False}}


@pytest.fixture(scope="module")
def new_run(tiny_config, tmp_path_factory):
    """A folder with a run of two tasks, nineteen moments in all."""

    def make(**others) -> RunFolder:
        settings = {"prompt_rate": 0.05, "temperature": 1.0}
        config = tiny_config(
            "sequential", **{"settings": settings, "tasks": 2, "training": {"batch_size": 40}, **others}
        )
        return create_run(tmp_path_factory.mktemp("runs"), config)

    return make


@pytest.fixture(scope="module")
def whole(new_run):
    """The same run, uninterrupted."""
    folder = new_run()
    drive(folder)
    return folder


def events(folder, *kinds):
    with closing(RunReader(folder)) as reader:
        return [stored.event for stored in reader.since(kinds=kinds)]


def states(folder):
    return [event.state for event in events(folder, "StateChanged")]


def status(folder):
    with closing(RunReader(folder)) as reader:
        return reader.status()


def measured(folder):
    """All that was measured, wall seconds left out."""
    found = []
    for event in events(folder, "StepEnded", "EpochEnded", "AccuracyMeasured", "AttentionCompared", "SpectrumMeasured"):
        body = {k: getattr(v, "tolist", lambda v=v: v)() for k, v in event.body().items() if k != "seconds"}
        found.append((event.kind, event.clock, body))
    return found


class Person:
    """Gives orders after the n-th stored moment, and one after the other whenever the run waits while paused."""

    def __init__(self, folder, monkeypatch, after=None, waiting=()):
        self.folder, self.after, self.waiting = folder, after or {}, list(waiting)
        self.moments, self.waited_at = 0, []
        monkeypatch.setattr(worker.time, "sleep", self.sleep)

    def __call__(self, moment, trainer):
        self.moments += 1
        for command in self.after.get(self.moments, ()):
            send(self.folder, command)

    def sleep(self, seconds):
        assert self.waiting, "the run waits for ever"
        self.waited_at.append(self.moments)
        send(self.folder, self.waiting.pop(0))


class Killed(BaseException):
    """As abrupt as a kill, within this process: nothing is saved, nothing is said."""


def killed_after(moments):
    seen = []

    def on_moment(moment, trainer):
        seen.append(moment)
        if len(seen) == moments:
            raise Killed

    return on_moment


def test_a_run_goes_from_running_to_finished_with_a_checkpoint_at_every_boundary(new_run):
    folder = new_run()
    assert drive(folder).state == "finished"
    assert states(folder) == ["running", "finished"]
    assert [(c.boundary, c.task) for c in checkpoint.complete(folder)] == [(True, 1), (True, 2)]
    said = events(folder, "CheckpointSaved")
    assert [e.folder for e in said] == [c.path.name for c in checkpoint.complete(folder)] and all(
        e.boundary for e in said
    )
    assert status(folder).state == "finished" and lock_owner(folder) is None


def test_a_finished_run_is_refused_and_left_as_it_is(new_run):
    folder = new_run(**QUIET)
    drive(folder)
    before = len(events(folder))
    with pytest.raises(StoreError, match="is finished; there is nothing left to train"):
        drive(folder)
    assert len(events(folder)) == before


def test_every_moment_is_readable_as_soon_as_it_has_happened(new_run):
    folder = new_run(**QUIET)
    steps = []

    def look(moment, trainer):
        with closing(RunReader(folder)) as reader:
            assert reader.status().state == "running" and reader.status().pid == os.getpid()
            steps.append(len(list(reader.since(kinds=("StepEnded",)))))
            assert steps[-1] == trainer.cursor.step

    drive(folder, look)
    assert steps[-1] == 12


def test_pause_holds_step_lets_exactly_so_many_moments_through_and_resume_goes_on(new_run, monkeypatch):
    folder = new_run(**QUIET)
    person = Person(folder, monkeypatch, after={3: [Pause()]}, waiting=[Step(2), Step(), Resume()])
    assert drive(folder, person).state == "finished"
    assert person.waited_at == [3, 5, 6]
    assert states(folder) == ["running", "paused", "running", "finished"]
    assert events(folder, "CommandRefused") == []


def test_step_while_running_pauses_after_that_many_moments(new_run, monkeypatch):
    folder = new_run(**QUIET)
    person = Person(folder, monkeypatch, after={2: [Step(3)]}, waiting=[Resume()])
    assert drive(folder, person).state == "finished"
    assert person.waited_at == [5]
    assert states(folder) == ["running", "paused", "running", "finished"]


def test_orders_that_make_no_sense_now_are_refused_with_the_reason_and_the_run_goes_on(new_run, monkeypatch):
    folder = new_run(**QUIET)
    person = Person(folder, monkeypatch, after={1: [Resume()], 2: [Pause(), Pause()]}, waiting=[Resume()])
    (folder.inbox / "00000000000000000001-x.json").write_text('{"command": "dance"}')

    def at_first(moment, trainer):
        if not person.moments:
            (folder.inbox / "00000000000000000002-x.json").write_text('{"command": ["dance"]}')
        person(moment, trainer)

    assert drive(folder, at_first).state == "finished"
    refused = [(e.command, e.reason) for e in events(folder, "CommandRefused")]
    assert [command for command, _ in refused] == ["?", "resume", "pause"]
    assert "unknown command ['dance']" in refused[0][1]
    assert [reason for _, reason in refused[1:]] == ["the run is running already", "the run is paused already"]


def test_a_run_told_to_stop_while_paused_stops_at_once(new_run, monkeypatch):
    folder = new_run(**QUIET)
    person = Person(folder, monkeypatch, after={4: [Pause()]}, waiting=[Stop()])
    assert drive(folder, person).state == "stopped"
    assert person.moments == 4 and states(folder) == ["running", "paused", "stopped"]


@pytest.mark.parametrize("stop", [1, 2, 5, 9, 10, 19])
def test_a_run_stopped_anywhere_and_resumed_measures_what_an_uninterrupted_one_does(new_run, whole, monkeypatch, stop):
    cut = new_run()
    ended = drive(cut, Person(cut, monkeypatch, after={stop: [Stop()]}))
    assert ended.state == "stopped" and status(cut).state == "stopped" and status(cut).resumable
    assert drive(cut).state == "finished"
    assert measured(cut) == measured(whole)
    within = [c for c in checkpoint.complete(cut) if not c.boundary]
    assert len(within) == (stop == 19), "the checkpoint of the stop is superseded by the next one"


def test_a_run_stopped_twice_on_the_way_still_measures_the_same(new_run, whole, monkeypatch):
    cut = new_run()
    for after in (4, 7):
        assert drive(cut, Person(cut, monkeypatch, after={after: [Stop()]})).state == "stopped"
    assert drive(cut).state == "finished"
    assert measured(cut) == measured(whole)


def test_orders_given_to_an_earlier_worker_do_not_count(new_run, monkeypatch):
    folder = new_run(**QUIET)
    send(folder, Stop())
    assert drive(folder, Person(folder, monkeypatch)).state == "finished"


@pytest.mark.parametrize("moments", [3, 12])
def test_a_killed_run_is_gone_and_goes_on_from_the_last_boundary_to_the_same_end(new_run, whole, moments):
    cut = new_run()
    with pytest.raises(Killed):
        drive(cut, killed_after(moments))
    assert status(cut).state == "gone" and status(cut).resumable
    with closing(RunReader(cut)) as reader:
        before, rows = reader.generation(), len(list(reader.since()))
        assert rows > moments
        assert drive(cut).state == "finished"
        assert reader.generation() > before, "readers that kept rows must start afresh"
    assert measured(cut) == measured(whole)
    assert summarise(cut).accuracy_matrix == summarise(whole).accuracy_matrix


def test_a_second_worker_is_refused_and_the_first_not_disturbed(new_run):
    folder = new_run(**QUIET)
    with hold(folder), pytest.raises(StoreError, match="is already being worked on"):
        drive(folder)
    assert events(folder) == [] and drive(folder).state == "finished"


# ---------------------------------------------------------------- failures


def broken(monkeypatch, what, from_task):
    """The training loss of `Sequential` goes wrong from a task on, until the patch is undone."""
    intact = Sequential.loss

    def loss(self, backbone, batch):
        found = intact(self, backbone, batch)
        if len(self.tuning.heads) > from_task:
            if isinstance(what, Exception):
                raise what
            found.parts["cross_entropy"] = found.parts["cross_entropy"] * what
        return found

    monkeypatch.setattr(Sequential, "loss", loss)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_non_finite_loss_fails_the_run_naming_task_step_and_loss_and_keeps_what_was_measured(
    new_run, whole, monkeypatch, value
):
    folder = new_run()
    with monkeypatch.context() as patch:
        broken(patch, value, from_task=1)
        ended = drive(folder)
    assert ended.state == "failed"
    assert f"loss 'cross_entropy' became {value} in task T2, step 7" in ended.reason and "learning rate" in ended.reason
    (failure,) = events(folder, "RunFailed")
    assert failure.reason == ended.reason and "NonFiniteLoss" in failure.details
    assert status(folder).state == "failed" and status(folder).reason == ended.reason
    assert summarise(folder).accuracy_matrix[0][0] == summarise(whole).accuracy_matrix[0][0]
    saved = checkpoint.load(checkpoint.complete(folder)[-1])
    assert all(torch.isfinite(v).all() for v in saved["method"].values())
    assert drive(folder).state == "finished", "the cause removed, the last boundary leads on"
    assert measured(folder) == measured(whole)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            RuntimeError("shapes do not match\nsecond line"),
            "RuntimeError: shapes do not match (details in the run's log)",
        ),
        (ValueError(), "ValueError:  (details in the run's log)"),
    ],
)
def test_any_error_fails_the_run_in_one_sentence_and_the_traceback_is_kept_for_the_log(
    new_run, monkeypatch, capfd, error, sentence
):
    folder = new_run(**QUIET)
    broken(monkeypatch, error, from_task=0)
    ended = drive(folder)
    assert (ended.state, ended.reason) == ("failed", sentence)
    (failure,) = events(folder, "RunFailed")
    assert "Traceback" in failure.details and failure.details == ended.details
    assert states(folder) == ["running", "failed"]
    assert capfd.readouterr().err == "", "whoever drives decides what to print"


def test_a_damaged_checkpoint_fails_the_resume_in_one_sentence_and_takes_nothing_back(new_run):
    folder = new_run()
    with pytest.raises(Killed):
        drive(folder, killed_after(14))
    before = measured(folder)
    (newest,) = checkpoint.complete(folder)
    weights = newest.path / "state.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:100])
    ended = drive(folder)
    assert ended.state == "failed" and "is damaged" in ended.reason and "remove that folder" in ended.reason
    assert measured(folder) == before
    weights.write_bytes(kept)
    assert drive(folder).state == "finished"


def test_a_run_whose_settings_no_longer_build_fails_in_one_sentence(new_run):
    folder = new_run()
    folder.config_file.write_text(folder.config_file.read_text().replace('"random-vit"', '"gone-vit"'))
    ended = drive(folder)
    assert ended.state == "failed" and ended.reason.startswith("unknown backbone 'gone-vit'")
    assert status(folder).state == "failed"


def test_a_run_written_by_a_newer_program_is_refused_before_anything_is_touched(new_run):
    folder = new_run()
    folder.config_file.write_text(folder.config_file.read_text().replace('"format": 1', '"format": 99'))
    with pytest.raises(StoreError, match="newer Plastiscope"):
        drive(folder)
    assert not folder.database.exists() and not folder.lock.exists()


# ---------------------------------------------------------------- a real process


def wait_until(condition, process, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the worker ended early: {process.stderr.read().decode()}"
        assert time.monotonic() < deadline, "the worker did not get there"
        time.sleep(0.02)


def test_a_worker_process_obeys_its_inbox_and_survives_being_killed(new_run):
    """Orders come as files, a second worker is refused, and after `kill -9` a resumed run ends as a whole one does."""
    long = {"training": {"batch_size": 40, "epochs": 25}, **QUIET}
    undisturbed, folder = new_run(**long), new_run(**long)
    process = subprocess.Popen([sys.executable, "-m", "cl_core", "work", str(folder.path)], stderr=subprocess.PIPE)
    try:
        with closing(RunReader(folder)) as reader:
            wait_until(lambda: reader.status().state == "running" and reader.latest("StepEnded"), process)
            assert reader.status().pid == process.pid
            send(folder, Pause())
            wait_until(lambda: reader.status().state == "paused", process)
            steps = len(list(reader.since(kinds=("StepEnded",))))
            assert steps < 150, "the run must still be under way for this to say anything"
            send(folder, Step(2))
            wait_until(lambda: len(list(reader.since(kinds=("StepEnded",)))) == steps + 2, process)
            assert reader.status().state == "paused"
            send(folder, Pause())
            wait_until(lambda: reader.latest("CommandRefused") is not None, process)
            with pytest.raises(StoreError, match="is already being worked on by another process"):
                drive(folder)
            assert reader.status().pid == process.pid, "being refused must not have dropped the worker's lock"
            send(folder, Resume())
            wait_until(lambda: reader.latest("CheckpointSaved") is not None, process)
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            assert reader.status().state == "gone" and reader.status().pid is None
            before = reader.generation()
            assert drive(folder).state == "finished"
            assert reader.generation() > before
    finally:
        process.kill()
        process.wait(10)
    drive(undisturbed)
    assert measured(folder) == measured(undisturbed)
