"""What goes wrong beside the training: events lost, checkpoints damaged, the folder deleted, the disk full, a watcher
that fails. A run goes on exactly, or it is refused with the way out; nothing is trained on what is not whole."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import shutil
import sqlite3
from contextlib import closing

import pytest
import torch

from cl_core.commands import Stop
from cl_core.events import CheckpointSaved, Clock, StateChanged
from cl_core.store import RunFolder, RunReader, RunWriter, StoreError, create_run, hold, send
from cl_core.store import run as run_module
from cl_core.store.checkpoints import boundaries, complete, lost
from cl_core.training import checkpoint, worker
from cl_core.training.worker import drive
from tests.training.test_worker import Killed, events, killed_after, measured, status

MIDDLE = 13  # moments, of 26: T3 is being trained


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config("sequential", tasks=5, settings={"prompt_rate": 0.05}, training={"epochs": 1})


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """The run, uninterrupted."""
    folder = create_run(tmp_path_factory.mktemp("runs"), config)
    drive(folder)
    return folder


@pytest.fixture(scope="module")
def killed_once(config, tmp_path_factory):
    """The run, killed within its last task."""
    folder = create_run(tmp_path_factory.mktemp("runs"), config)
    with pytest.raises(Killed):
        drive(folder, killed_after(MIDDLE))
    assert sorted(boundaries(folder)) == [1, 2]
    return folder


@pytest.fixture
def killed(killed_once, tmp_path):
    return RunFolder(shutil.copytree(killed_once.path, tmp_path / "runs" / "killed"))


def files(folder):
    return {
        file.relative_to(folder.path).as_posix(): file.read_bytes()
        for file in folder.path.rglob("*")
        if file.is_file() and not file.name.endswith(("-shm", "-wal", ".lock"))
    }


# ---------------------------------------------------------------- events


def _delete(folder, where):
    with closing(sqlite3.connect(folder.database)) as database:
        database.execute(f"DELETE FROM events WHERE {where}")
        database.commit()


def _zeros(folder):
    with closing(sqlite3.connect(folder.database)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(folder.database.read_bytes())
    content[8192:20480] = bytes(12288)
    folder.database.write_bytes(content)


LOST = {
    "removed": lambda folder: [file.unlink() for file in folder.path.glob("events.db*")],
    "emptied": lambda folder: [file.write_bytes(b"") for file in folder.path.glob("events.db*")],
    "without rows": lambda folder: _delete(folder, "seq > 0"),
    "cut before the checkpoint": lambda folder: _delete(folder, "seq > 12"),
    "one row short": lambda folder: _delete(folder, "seq = 7"),
    "overwritten": _zeros,
}


@pytest.mark.parametrize("damage", LOST.values(), ids=LOST.keys())
def test_a_run_whose_events_are_lost_is_refused_with_the_way_out_and_left_as_it_is(killed, damage):
    damage(killed)
    before = files(killed)
    with pytest.raises(StoreError) as error:
        drive(killed)
    sentence = str(error.value)
    assert "cannot go on from checkpoint" in sentence and "--after-task" in sentence and "\n" not in sentence
    assert files(killed) == before


def test_an_earlier_checkpoint_whose_events_are_there_leads_on_to_the_same_end(killed, whole):
    _delete(killed, f"seq > {boundaries(killed)[1].seq + 3}")
    with pytest.raises(StoreError, match="resume killed --after-task 1` goes on after T1"):
        drive(killed)
    assert drive(killed, after_task=1).state == "finished"
    assert measured(killed) == measured(whole)


def test_where_no_checkpoint_has_its_events_the_run_can_begin_again(killed, whole):
    LOST["removed"](killed)
    with pytest.raises(StoreError, match="--after-task 0` begins the run again"):
        drive(killed)
    assert drive(killed, after_task=0).state == "finished"
    assert measured(killed) == measured(whole) and sorted(boundaries(killed)) == [1, 2, 3, 4, 5]


def test_a_checkpoint_that_is_not_there_is_refused_by_naming_those_that_are(killed):
    with pytest.raises(StoreError, match=r"no checkpoint after T5; it can go on after: 0 \(the beginning\), T1, T2"):
        drive(killed, after_task=5)


def test_a_checkpoint_of_an_earlier_version_is_judged_by_its_last_event(killed):
    for place in boundaries(killed).values():
        text = (
            (place.path / "state.json").read_text().replace(f'"rows": {place.rows}, "tensors": "{place.tensors}", ', "")
        )
        (place.path / "state.json").write_text(text)
        (place.path / "done").write_text("")
    assert [place.rows for place in complete(killed)] == [None, None]
    assert not any(lost(killed, place) for place in complete(killed))
    _delete(killed, f"seq > {boundaries(killed)[2].seq - 2}")
    assert [bool(lost(killed, place)) for place in complete(killed)] == [False, True]


def test_a_process_that_dies_between_a_checkpoint_and_the_word_of_it_loses_nothing(
    config, whole, tmp_path, monkeypatch
):
    folder = create_run(tmp_path, config)
    say = worker.RunController._emit

    def dying(drive, event):
        if isinstance(event, CheckpointSaved):
            raise Killed
        say(drive, event)

    with monkeypatch.context() as patch:
        patch.setattr(worker.RunController, "_emit", dying)
        for _ in range(2):
            with pytest.raises(Killed):
                drive(folder)
    assert sorted(boundaries(folder)) == [1, 2]
    assert drive(folder).state == "finished" and measured(folder) == measured(whole)


# ---------------------------------------------------------------- checkpoints


def overwrite(file, start=None):
    content = bytearray(file.read_bytes())
    start = len(content) // 2 if start is None else start
    content[start : start + 64] = os.urandom(64)
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_bytes_overwritten_in_a_checkpoint_are_noticed_and_the_one_before_leads_on(killed, whole, name):
    overwrite(complete(killed)[-1].path / name)
    try:
        said = drive(killed).reason
    except StoreError as error:
        said = str(error)
    assert "is damaged" in said and "resume killed --after-task 1` goes on after T1" in said
    assert drive(killed, after_task=1).state == "finished" and measured(killed) == measured(whole)


def test_a_checkpoint_that_lost_its_sum_is_damaged(killed):
    (complete(killed)[-1].path / "done").write_bytes(b"")
    with pytest.raises(StoreError, match="is damaged"):
        complete(killed)


def test_an_old_damaged_checkpoint_is_in_nobodys_way(killed, whole):
    overwrite(complete(killed)[0].path / "state.json")
    assert drive(killed).state == "finished" and measured(killed) == measured(whole)


def test_everything_is_saved_within_a_task_and_what_is_kept_is_bounded(config, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "SAVE_EVERY", 0.0)
    folder = create_run(tmp_path, config)
    with pytest.raises(Killed):
        drive(folder, killed_after(MIDDLE))
    assert [(c.boundary, c.task) for c in complete(folder)] == [(True, 1), (True, 2), (False, 2)]
    assert len(list(folder.checkpoints.iterdir())) == 3
    with closing(RunReader(folder)) as reader:
        before = reader.latest("StepEnded").event.clock.step
    first = []
    monkeypatch.setattr(worker, "SAVE_EVERY", 600.0)
    assert drive(folder, lambda moment, trainer: first.append(moment[0].clock.step)).state == "finished"
    assert first[0] >= before, "no step is repeated"
    assert measured(folder) == measured(whole)


def test_a_trained_task_is_saved_before_its_survey(config, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "SAVE_EVERY", 0.1)
    now = iter(range(0, 10**6))
    monkeypatch.setattr(worker.time, "monotonic", lambda: next(now) * 0.005)  # a survey is due, a step is not
    folder = create_run(tmp_path, config)
    stages = []
    save = checkpoint.save

    def watched(folder, state, *arguments, **others):
        stages.append(state["cursor"]["stage"])
        return save(folder, state, *arguments, **others)

    monkeypatch.setattr(checkpoint, "save", watched)
    assert drive(folder).state == "finished"
    assert stages.count("survey") == 5 and "train" not in stages


def test_random_numbers_of_a_gpu_are_part_of_a_checkpoint(config, tmp_path, monkeypatch):
    """A stand-in for the generator of a GPU: what is asked for when saving is what is put back when going on."""
    state, put = torch.arange(16, dtype=torch.uint8), []
    gpu = torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda found, device: put.append((found, device)))
    kept = {name: getattr(checkpoint, name) for name in ("random_state", "restore_random_state")}
    monkeypatch.setattr(checkpoint, "random_state", lambda device: kept["random_state"](gpu))
    monkeypatch.setattr(
        checkpoint, "restore_random_state", lambda device, found: kept["restore_random_state"](gpu, found)
    )
    folder = create_run(tmp_path, config)

    def stop(moment, trainer):
        if trainer.cursor.step == 4:
            send(folder, Stop())

    assert drive(folder, stop).state == "stopped" and drive(folder).state == "finished"
    ((found, device),) = put
    assert torch.equal(found, state) and device == gpu
    kept["restore_random_state"](torch.device("cpu"), {"cuda": state})
    assert kept["random_state"](torch.device("cpu")) == {} and len(put) == 1


# ---------------------------------------------------------------- the folder, the disk, the watcher


@pytest.mark.parametrize("moments", [3, 9, 13])
@pytest.mark.parametrize("moved", [False, True])
def test_a_run_whose_folder_is_deleted_or_moved_stops_at_its_next_step(config, tmp_path, moments, moved):
    folder = create_run(tmp_path, config)
    seen = []

    def then(moment, trainer):
        seen.append(trainer.cursor.step)
        if len(seen) == moments:
            folder.path.rename(tmp_path / "elsewhere") if moved else shutil.rmtree(folder.path)

    ended = drive(folder, then)
    assert ended.state == "failed" and "was deleted, moved or replaced" in ended.reason
    assert len(seen) == moments and not folder.path.exists()


def test_a_checkpoint_brings_no_deleted_folder_back(config, tmp_path):
    folder = create_run(tmp_path, config)
    shutil.rmtree(folder.path)
    with pytest.raises(StoreError, match="is gone"):
        checkpoint.save(folder, {"cursor": {"task": 0}}, 3, boundary=True)
    with pytest.raises(StoreError, match="not a run"):
        RunWriter(folder)
    assert not folder.path.exists()


def test_a_watcher_that_fails_does_not_end_the_training(config, whole, tmp_path, capsys):
    folder = create_run(tmp_path, config)
    calls = []

    def watcher(moment, trainer):
        calls.append(moment)
        raise ZeroDivisionError("integer division or modulo by zero")

    assert drive(folder, watcher).state == "finished" and measured(folder) == measured(whole)
    assert len(calls) == 1 and "training goes on" in capsys.readouterr().err


@contextlib.contextmanager
def no_file_larger_than(size):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [120_000, 60_000, 20_000])
def test_a_full_disk_ends_the_run_in_one_sentence_and_the_rest_is_trained_when_there_is_room(
    config, whole, tmp_path, size
):
    folder = create_run(tmp_path, config)
    with no_file_larger_than(size):
        try:
            said = drive(folder).reason
        except StoreError as error:
            said = str(error)
    assert "cannot write" in said or "cannot append" in said
    assert not list(folder.path.rglob("*.part"))
    assert drive(folder).state == "finished" and measured(folder) == measured(whole)


def test_a_run_can_be_held_on_a_full_disk(config, tmp_path, monkeypatch):
    folder = create_run(tmp_path, config)

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_module.os, "write", full)
    with hold(folder), closing(RunWriter(folder)) as writer:
        writer.append([StateChanged(Clock(), "running")])
        assert status(folder).pid == os.getpid()
    assert [event.state for event in events(folder, "StateChanged")] == ["running"]


def test_a_folder_whose_settings_cannot_be_written_is_not_left_behind(config, tmp_path, monkeypatch):
    def full(*arguments, **others):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(run_module, "write_atomically", full)
    with pytest.raises(StoreError, match="No space left on device"):
        create_run(tmp_path / "runs", config)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.parametrize("write", ["atomic", "order", "arrays"])
def test_a_write_that_fails_leaves_nothing_behind(config, tmp_path, write):
    folder = create_run(tmp_path, config)
    before = sorted(tmp_path.rglob("*"))
    with no_file_larger_than(10), pytest.raises((OSError, StoreError)):
        if write == "atomic":
            run_module.write_atomically(folder.path / "file", bytes(1000))
        elif write == "order":
            send(folder, Stop())
        else:
            with run_module.replacing(folder.path / "array.npy") as file:
                file.write(bytes(1000))
    assert sorted(tmp_path.rglob("*")) == before
