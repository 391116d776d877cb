"""A fork is a whole run of its own: its parent's past up to a boundary, its own settings from there on."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from cl_core.config import ConfigError, RunConfig
from cl_core.events import (
    CheckpointSaved,
    Clock,
    EpochsChosen,
    KnobTurned,
    PromptsDrifted,
    RunStarted,
    StateChanged,
    StepEnded,
)
from cl_core.store import (
    RunFolder,
    RunReader,
    RunWriter,
    StoreError,
    boundaries,
    create_run,
    effective_config,
    fork_of,
    fork_run,
    record,
    turned,
)

SETTINGS = [
    {"name": "share", "default": 0.5, "low": 0.0, "high": 1.0, "choices": None, "live": True, "fixed": ""},
    {"name": "rate", "default": 0.1, "low": 0.0, "high": None, "choices": None, "live": False, "fixed": ""},
    {"name": "length", "default": 4, "low": 0, "high": 64, "choices": None, "live": False, "fixed": "sets shapes"},
]
TASKS = 3


def step(task, number):
    return StepEnded(Clock(task, 0, number), {"total": 1.0 / (1 + number)}, {}, {}, {}, 50.0, 0.1)


def checkpoint(folder, seq, task, boundary):
    path = folder.checkpoints / f"{seq:08d}"
    path.mkdir()
    (path / "state.safetensors").write_bytes(bytes([task]) * 100)
    (path / "state.json").write_text(json.dumps({"seq": seq, "boundary": boundary, "task": task, "state": {}}))
    (path / "done").touch()


@pytest.fixture
def parent(tmp_path):
    """Three tasks of two steps, a large array in each, `share` turned in the second, and a checkpoint after each."""
    folder = create_run(tmp_path / "runs", RunConfig("nsp2", name="parent", settings={"rate": 0.2}))
    described = [{"name": f"T{t + 1}", "classes": ["a", "b"], "train": 10, "test": 4} for t in range(TASKS)]
    with closing(RunWriter(folder)) as writer:
        writer.append([StateChanged(Clock(), "running")])
        writer.append([RunStarted(Clock(), described, "class-incremental", TASKS, 2 * TASKS, 9, {}, {"device": "cpu"})])
        for task in range(TASKS):
            prompts = np.full((4, 8, 1024), task, dtype=np.float16)  # 64 KB: a file of its own
            writer.append(
                [step(task, 2 * task), PromptsDrifted(Clock(task), prompts, prompts[..., 0], prompts[..., 0])]
            )
            if task == 1:
                writer.append([KnobTurned(Clock(task, 0, 3), "share", 0.5, 0.7)])
            writer.append([step(task, 2 * task + 1)])
            checkpoint(folder, writer.seq + 1, task + 1, True)
            writer.append([CheckpointSaved(Clock(task), f"{writer.seq + 1:08d}", True)])
        writer.append([StateChanged(Clock(2), "finished")])
    return folder


def rows(folder, *kinds):
    with closing(RunReader(folder)) as reader:
        return [(s.seq, s.time, s.event) for s in reader.since(kinds=kinds)]


def same(first, second):
    return len(first) == len(second) and all(
        (a[:2], a[2].kind, a[2].clock) == (b[:2], b[2].kind, b[2].clock)
        and all(np.array_equal(v, b[2].body()[k]) for k, v in a[2].body().items())
        for a, b in zip(first, second, strict=True)
    )


def test_a_fork_holds_its_parents_events_arrays_and_boundaries_up_to_there_and_nothing_later(parent):
    made = fork_run(parent, 2, [("share", 0.9)], SETTINGS, name="child")
    seq = boundaries(parent)[2].seq
    past = [row for row in rows(parent) if row[0] <= seq]
    assert same(rows(made)[:-1], past), "with their places and times"
    last = rows(made)[-1][2]
    assert (last.kind, last.state) == ("StateChanged", "stopped") and "forked from parent after T2" in last.reason
    assert sorted(f.name for f in made.arrays.iterdir()) == sorted(
        f.name for f in parent.arrays.iterdir() if int(f.name[:8]) <= seq
    )
    assert list(boundaries(made)) == [1, 2]
    assert (boundaries(made)[2].path / "state.safetensors").read_bytes() == bytes([2]) * 100


def own(folder):
    """Settings that are not at their defaults."""
    return folder.config().own_settings()


def test_parent_task_and_changes_are_recorded_with_the_settings_in_force(parent):
    made = fork_run(parent, 2, [("rate", 0.3), ("training.epochs", 9), ("share", 0.7)], SETTINGS, name="child")
    fork, config = fork_of(made), made.config()
    assert (fork.parent, fork.after_task, fork.seq) == ("parent", 2, boundaries(parent)[2].seq)
    assert fork.changed == {"rate": [0.2, 0.3], "epochs": [5, 9]}, "share had been turned to 0.7 already"
    assert (config.parent, config.fork_task, config.name) == ("parent", 2, "child")
    assert own(made) == {"rate": 0.3, "share": 0.7} and config.training.epochs == 9
    assert config.fingerprint() != replace(config, parent="", fork_task=0).fingerprint(), "no ordinary run of these"
    assert turned(made) == [] and effective_config(made) == config, "what was turned in the parent is in the settings"


def test_a_fork_from_before_a_turn_does_not_have_it(parent):
    assert own(fork_run(parent, 1, [], SETTINGS)) == {"rate": 0.2}
    assert effective_config(parent).own_settings() == {"rate": 0.2, "share": 0.7} and fork_of(parent) is None


def test_a_fork_stays_whole_when_its_parent_is_removed_or_goes_on(parent):
    made = fork_run(parent, 2, [], SETTINGS)
    before = rows(made)
    with closing(RunWriter(parent)) as writer:
        writer.rewind(3)
        writer.append([EpochsChosen(Clock(), 3, [], [], 0.1)])
    assert same(rows(made), before)
    shutil.rmtree(parent.path)
    assert same(rows(made), before) and len(boundaries(made)) == 2


def test_a_fork_can_be_forked_and_its_own_turns_count(parent):
    first = fork_run(parent, 1, [("rate", 0.4)], SETTINGS, name="first")
    with closing(RunWriter(first)) as writer:
        writer.append([KnobTurned(Clock(1, 0, 2), "share", 0.5, 0.1)])
        checkpoint(first, writer.seq + 1, 2, True)
        writer.append([CheckpointSaved(Clock(1), f"{writer.seq + 1:08d}", True)])
    second = fork_run(first, 2, [], SETTINGS, name="second")
    assert own(second) == {"rate": 0.4, "share": 0.1}
    assert (fork_of(second).parent, second.config().parent) == ("first", "first")


def test_without_hard_links_files_are_copied(parent, monkeypatch):
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError("not here")))
    made = fork_run(parent, 2, [], SETTINGS)
    assert boundaries(made)[2].path.joinpath("state.json").stat().st_nlink == 1 and len(boundaries(made)) == 2


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("length", 8, "length sets shapes; start a new run for another"),
        ("seed", 3, "seed decides the order of classes and what was drawn; start a new run"),
        ("backbone", "x", "backbone decides the features"),
        ("stream.tasks", 3, "stream.tasks decides the data"),
        ("diagnostics.drift", False, "diagnostics.drift decides what is measured"),
        ("share", 1.5, r"share must lie in \[0, 1\], got 1.5"),
        ("shard", 0.5, "unknown setting of nsp2 'shard'; .*Did you mean share"),
        ("epochs", 0, r"epochs must lie in \[1, 1000\], got 0"),
        ("training.epoch", 2, "unknown setting of training 'epoch'"),
    ],
)
def test_what_a_fork_cannot_change_is_refused_with_the_reason_and_leaves_no_folder(parent, key, value, reason):
    with pytest.raises(ConfigError, match=reason):
        fork_run(parent, 2, [(key, value)], SETTINGS, name="child")
    assert not (parent.path.parent / "child").exists()


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (3, "a fork after T3 would have nothing left to train: parent has 3 tasks"),
        (0, "parent has no checkpoint after T0; there is one after: T1, T2"),
        (-1, "no checkpoint after T-1"),
    ],
)
def test_where_no_fork_can_begin_the_places_are_named(parent, task, reason):
    with pytest.raises(StoreError, match=reason):
        fork_run(parent, task, [], SETTINGS)


def test_a_recording_cannot_be_forked_and_says_why(parent, tmp_path):
    with pytest.raises(StoreError, match=r"tape keeps no checkpoint between tasks: it is a recording.*the run itself"):
        fork_run(record(parent, tmp_path / "tape"), 2, [], SETTINGS)


def test_a_name_that_is_taken_is_refused_and_what_is_there_stays(parent):
    with pytest.raises(StoreError, match="is taken"):
        fork_run(parent, 2, [], SETTINGS, name="parent")
    assert len(boundaries(parent)) == TASKS


def test_a_fork_that_cannot_be_copied_leaves_no_folder(parent, monkeypatch):
    monkeypatch.setattr(RunWriter, "adopt", lambda *_: (_ for _ in ()).throw(StoreError("the disk is full")))
    with pytest.raises(StoreError, match="cannot fork parent: the disk is full"):
        fork_run(parent, 2, [], SETTINGS, name="child")
    assert not (parent.path.parent / "child").exists()


def test_a_damaged_note_is_named(parent):
    parent.fork_file.write_text("{")
    with pytest.raises(StoreError, match=r"fork.json is damaged"):
        fork_of(RunFolder(parent.path))
